/*
 * The images of every document, for a replay (replay_chains.h).
 *
 *     documents: a hash table by namespace and _id     links: one array, each document's chained
 *
 * Units come in any order; a document's links are sorted by the LSN of their WRITE records at the
 * end. That is the order in which they happened: a document is locked from its first write in a
 * unit until that has ended.
 *
 * Threads: several may add units; all else is one thread's, or reads only.
 */

#include "recover/replay_chains.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "recover/document_key.h"

#define BLOCK_BYTES ((size_t)1 << 20)
#define DOCUMENT_OVERHEAD_BYTES 32u /* its place in the hash table and in the array */

struct block {
    struct block *next;
    size_t used;
    size_t size;
    uint8_t bytes[];
};

struct namespace
{
    char *name;
    struct namespace *next;
};

struct replay_chains {
    uint64_t portion;
    uint64_t portions;
    struct replay_document *table; /* uthash head */
    struct replay_document **documents;
    size_t document_count;
    struct replay_link *links;
    size_t link_count;
    size_t link_capacity;
    struct namespace *namespaces;
    struct block *blocks;
    size_t bytes;
    pthread_mutex_t lock; /* while units are added, for all but the first two */
};

/* ------------------------------------------------------------------ memory */

static void *take(struct replay_chains *chains, size_t size)
{
    struct block *block = chains->blocks;
    size = (size + 15) & ~(size_t)15;
    if (block == NULL || block->size - block->used < size) {
        size_t wanted = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        block = malloc(sizeof(*block) + wanted);
        if (block == NULL) {
            return NULL;
        }
        *block = (struct block){.next = chains->blocks, .size = wanted};
        chains->blocks = block;
        chains->bytes += wanted;
    }
    void *taken = block->bytes + block->used;
    block->used += size;
    return taken;
}

struct replay_chains *replay_chains_new(uint64_t portion, uint64_t portions)
{
    struct replay_chains *chains = calloc(1, sizeof(*chains));
    if (chains != NULL) {
        chains->portion = portion;
        chains->portions = portions;
        (void)pthread_mutex_init(&chains->lock, NULL);
    }
    return chains;
}

struct replay_chains *replay_chains_free(struct replay_chains *chains)
{
    if (chains == NULL) {
        return NULL;
    }
    HASH_CLEAR(hh, chains->table);
    while (chains->blocks != NULL) {
        struct block *next = chains->blocks->next;
        free(chains->blocks);
        chains->blocks = next;
    }
    while (chains->namespaces != NULL) {
        struct namespace *next = chains->namespaces->next;
        free(chains->namespaces->name);
        free(chains->namespaces);
        chains->namespaces = next;
    }
    free(chains->documents);
    free(chains->links);
    (void)pthread_mutex_destroy(&chains->lock);
    free(chains);
    return NULL;
}

size_t replay_chains_bytes(struct replay_chains *chains)
{
    pthread_mutex_lock(&chains->lock);
    size_t bytes = chains->bytes + chains->link_capacity * sizeof(*chains->links) +
                   HASH_COUNT(chains->table) * DOCUMENT_OVERHEAD_BYTES;
    pthread_mutex_unlock(&chains->lock);
    return bytes;
}

/* ------------------------------------------------------------------ keys */

/*
 * Namespace, NUL, and what the server tells documents by: 'n' and a whole number, or 'k' and the
 * bytes of {_id: value}. In `scratch`.
 */
static bool make_key(struct replay_scratch *scratch, const char *namespace, struct slice key,
                     struct slice *ret_key)
{
    struct document_key made = document_key_make(namespace, key);
    size_t name_size = strlen(namespace) + 1;
    size_t value_size = made.whole ? sizeof(made.number) : key.size;
    size_t size = name_size + 1 + value_size;
    if (size > scratch->size) {
        uint8_t *more = realloc(scratch->bytes, size);
        if (more == NULL) {
            return false;
        }
        *scratch = (struct replay_scratch){.bytes = more, .size = size};
    }
    memcpy(scratch->bytes, namespace, name_size);
    scratch->bytes[name_size] = made.whole ? 'n' : 'k';
    if (made.whole) {
        memcpy(scratch->bytes + name_size + 1, &made.number, value_size);
    } else {
        memcpy(scratch->bytes + name_size + 1, key.data, value_size);
    }
    *ret_key = slice_make(scratch->bytes, size);
    return true;
}

/* FNV-1a, over words: what it finds is compared byte for byte. */
static uint64_t hash_bytes(struct slice bytes)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    struct slice word;
    while (slice_take(&bytes, 8, &word)) {
        hash = (hash ^ slice_load_u64be(word.data)) * UINT64_C(1099511628211);
        hash ^= hash >> 29;
    }
    for (size_t i = 0; i < bytes.size; i++) {
        hash = (hash ^ bytes.data[i]) * UINT64_C(1099511628211);
    }
    return hash ^ hash >> 32;
}

static const char *keep_namespace(struct replay_chains *chains, const char *name)
{
    for (struct namespace *each = chains->namespaces; each != NULL; each = each->next) {
        if (strcmp(each->name, name) == 0) {
            return each->name;
        }
    }
    struct namespace *kept = calloc(1, sizeof(*kept));
    if (kept == NULL || (kept->name = strdup(name)) == NULL) {
        free(kept);
        return NULL;
    }
    kept->next = chains->namespaces;
    chains->namespaces = kept;
    chains->bytes += sizeof(*kept) + strlen(name) + 1;
    return kept->name;
}

static struct replay_document *add_document(struct replay_chains *chains, const char *namespace,
                                            struct slice key, struct slice table_key)
{
    struct replay_document *document = take(chains, sizeof(*document));
    uint8_t *bytes = take(chains, key.size + table_key.size);
    const char *kept = keep_namespace(chains, namespace);
    if (document == NULL || bytes == NULL || kept == NULL) {
        return NULL;
    }
    memcpy(bytes, key.data, key.size);
    memcpy(bytes + key.size, table_key.data, table_key.size);
    *document = (struct replay_document){
        .namespace = kept,
        .key = slice_make(bytes, key.size),
        .first_link = REPLAY_NONE,
        .last_link = REPLAY_NONE,
    };
    HASH_ADD_KEYPTR(hh, chains->table, bytes + key.size, table_key.size, document);
    return document;
}

struct replay_document *replay_chains_find(const struct replay_chains *chains,
                                           const char *namespace, struct slice document,
                                           struct replay_scratch *scratch)
{
    struct replay_document *found = NULL;
    struct slice table_key;
    bson_t key = BSON_INITIALIZER;
    bson_t view;
    bson_iter_t id;
    if (bson_init_static(&view, document.data, document.size) &&
        bson_iter_init_find(&id, &view, "_id") && bson_append_iter(&key, "_id", 3, &id) &&
        make_key(scratch, namespace, slice_make(bson_get_data(&key), key.len), &table_key)) {
        HASH_FIND(hh, chains->table, table_key.data, table_key.size, found);
    }
    bson_destroy(&key);
    return found;
}

/* ------------------------------------------------------------------ building */

static enum status note_image(struct wal_reader *reader, const struct history_image *place,
                              struct replay_image *ret_image, uint8_t *ret_presence,
                              struct error *ret_error)
{
    struct image view;
    enum status status = history_image_view(reader, place, &view, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    *ret_presence = (uint8_t)view.presence;
    if (view.presence == IMAGE_PRESENT) {
        *ret_image = (struct replay_image){
            .lsn = place->lsn,
            .hash = hash_bytes(view.document),
            .offset = place->offset,
            .size = place->size,
        };
    }
    return STATUS_OK;
}

static struct replay_link *add_link(struct replay_chains *chains)
{
    if (chains->link_count == chains->link_capacity) {
        size_t capacity = chains->link_capacity == 0 ? 1024 : chains->link_capacity * 2;
        struct replay_link *more =
            capacity > REPLAY_NONE ? NULL : reallocarray(chains->links, capacity, sizeof(*more));
        if (more == NULL) {
            return NULL;
        }
        chains->links = more;
        chains->link_capacity = capacity;
    }
    chains->links[chains->link_count] = (struct replay_link){.next = REPLAY_NONE};
    return &chains->links[chains->link_count++];
}

/* Under the lock. */
static bool insert_link(struct replay_chains *chains, const struct history_write *write,
                        struct slice table_key, const struct replay_link *made)
{
    struct replay_document *document = NULL;
    HASH_FIND(hh, chains->table, table_key.data, table_key.size, document);
    if (document == NULL) {
        document = add_document(chains, write->namespace, write->key, table_key);
    }
    struct replay_link *link = document == NULL ? NULL : add_link(chains);
    if (link == NULL) {
        return false;
    }
    *link = *made;
    uint32_t index = (uint32_t)(chains->link_count - 1);
    if (document->last_link == REPLAY_NONE) {
        document->first_link = index;
    } else {
        chains->links[document->last_link].next = index;
    }
    document->last_link = index;
    document->link_count++;
    return true;
}

static enum status add_write(struct replay_chains *chains, struct wal_reader *reader,
                             const struct unit_history *history, const struct history_write *write,
                             enum replay_outcome outcome, struct replay_scratch *scratch,
                             bool *ret_added, struct error *ret_error)
{
    struct slice table_key;
    struct replay_link link = {
        .lsn = write->lsn, .unit = history->unit, .outcome = (uint8_t)outcome, .next = REPLAY_NONE};
    if (!make_key(scratch, write->namespace, write->key, &table_key)) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    if (hash_bytes(table_key) % chains->portions != chains->portion) {
        return STATUS_OK;
    }
    enum status status =
        note_image(reader, &write->before, &link.before, &link.before_presence, ret_error);
    if (status == STATUS_OK) {
        status = note_image(reader, &write->after, &link.after, &link.after_presence, ret_error);
    }
    if (status == STATUS_OK) {
        pthread_mutex_lock(&chains->lock);
        *ret_added = insert_link(chains, write, table_key, &link);
        pthread_mutex_unlock(&chains->lock);
        status = *ret_added ? STATUS_OK : error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    return status;
}

enum status replay_chains_add(struct replay_chains *chains, const struct unit_history *history,
                              uint64_t until_lsn, enum replay_outcome outcome,
                              struct replay_scratch *scratch, uint64_t *ret_added,
                              struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    enum status status = history_reader_begin(history, &reader, ret_error);
    *ret_added = 0;
    for (size_t i = 0; i < history->write_count && status == STATUS_OK; i++) {
        const struct history_write *write = &history->writes[i];
        bool added = false;
        if (!write->refused && write->lsn <= until_lsn) {
            status = add_write(chains, reader, history, write, outcome, scratch, &added, ret_error);
        }
        *ret_added += added ? 1 : 0;
    }
    wal_reader_end(reader);
    return status;
}

static int compare_links(const void *a_void, const void *b_void)
{
    const struct replay_link *a = a_void;
    const struct replay_link *b = b_void;
    return a->lsn == b->lsn ? 0 : a->lsn < b->lsn ? -1 : 1;
}

static int compare_documents(const void *a_void, const void *b_void)
{
    const struct replay_document *a = *(struct replay_document *const *)a_void;
    const struct replay_document *b = *(struct replay_document *const *)b_void;
    int order = a->namespace == b->namespace ? 0 : strcmp(a->namespace, b->namespace);
    /* Documents in the order of their last writes: about that of the collection. */
    return order != 0 ? order : a->first_link < b->first_link ? -1 : 1;
}

enum status replay_chains_finish(struct replay_chains *chains, struct error *ret_error)
{
    struct replay_link *sorted = calloc(chains->link_count + 1, sizeof(*sorted));
    size_t count = HASH_COUNT(chains->table);
    chains->documents = calloc(count + 1, sizeof(struct replay_document *));
    if (sorted == NULL || chains->documents == NULL) {
        free(sorted);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    size_t used = 0;
    for (struct replay_document *document = chains->table; document != NULL;
         document = document->hh.next) {
        uint32_t first = (uint32_t)used;
        for (uint32_t at = document->first_link; at != REPLAY_NONE; at = chains->links[at].next) {
            sorted[used++] = chains->links[at];
        }
        document->first_link = first;
        qsort(&sorted[first], document->link_count, sizeof(*sorted), compare_links);
        chains->documents[chains->document_count++] = document;
    }
    free(chains->links);
    chains->links = sorted;
    chains->link_capacity = chains->link_count;
    if (count > 0) {
        qsort(chains->documents, count, sizeof(struct replay_document *), compare_documents);
    }
    return STATUS_OK;
}

struct replay_document **replay_chains_documents(struct replay_chains *chains, size_t *ret_count)
{
    *ret_count = chains->document_count;
    return chains->documents;
}

const struct replay_link *replay_chains_link(const struct replay_chains *chains,
                                             const struct replay_document *document, uint32_t index)
{
    return &chains->links[document->first_link + index];
}

/* ------------------------------------------------------------------ judging */

struct history_image replay_image_place(const struct replay_image *image, uint8_t presence)
{
    struct history_image place = {.presence = (enum image_presence)presence};
    if (place.presence == IMAGE_PRESENT) {
        place.lsn = image->lsn;
        place.offset = image->offset;
        place.size = image->size;
    }
    return place;
}

struct history_image replay_chains_wanted(const struct replay_chains *chains,
                                          const struct replay_document *document,
                                          uint32_t *ret_left)
{
    uint32_t last = document->link_count - 1;
    uint32_t first = last;
    const struct replay_link *end = replay_chains_link(chains, document, last);
    /* Where the last unit's writes to it begin. */
    while (first > 0 && replay_chains_link(chains, document, first - 1)->unit == end->unit) {
        first--;
    }
    *ret_left = end->outcome == REPLAY_SET_ASIDE ? first : document->link_count;
    if (end->outcome == REPLAY_COMMITTED) {
        return replay_image_place(&end->after, end->after_presence);
    }
    const struct replay_link *begin = replay_chains_link(chains, document, first);
    return replay_image_place(&begin->before, begin->before_presence);
}

static enum status image_matches(struct wal_reader *reader, const struct replay_image *image,
                                 uint8_t presence, struct image found, uint64_t hash,
                                 bool *ret_matches, struct error *ret_error)
{
    struct history_image place = replay_image_place(image, presence);
    struct image view;
    *ret_matches = false;
    if (place.presence != found.presence) {
        return STATUS_OK;
    }
    if (found.presence == IMAGE_ABSENT) {
        *ret_matches = true;
        return STATUS_OK;
    }
    if (image->size != found.document.size || image->hash != hash) {
        return STATUS_OK;
    }
    enum status status = history_image_view(reader, &place, &view, ret_error);
    *ret_matches = status == STATUS_OK && image_equal(view, found);
    return status;
}

enum status replay_chains_match(const struct replay_chains *chains, struct wal *wal,
                                struct replay_document *document, struct image image,
                                bool *ret_matches, struct error *ret_error)
{
    uint64_t hash = image.presence == IMAGE_PRESENT ? hash_bytes(image.document) : 0;
    struct wal_reader *reader = NULL;
    bool matches = false;
    enum status status = wal_reader_begin(wal, &reader, ret_error);
    for (uint32_t i = document->link_count; i-- > 0 && status == STATUS_OK && !matches;) {
        const struct replay_link *link = replay_chains_link(chains, document, i);
        document->position = i;
        document->position_before = false;
        status = image_matches(reader, &link->after, link->after_presence, image, hash, &matches,
                               ret_error);
        if (status == STATUS_OK && !matches) {
            document->position_before = true;
            status = image_matches(reader, &link->before, link->before_presence, image, hash,
                                   &matches, ret_error);
        }
    }
    wal_reader_end(reader);
    *ret_matches = matches;
    return status;
}
