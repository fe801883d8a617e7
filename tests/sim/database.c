/*
 * The documents of the simulated server.
 *
 * Each change is noted with what was there before, until it is synced: a crash takes the newest of
 * them back, as a server does that acknowledges before its own journal is on the disk.
 */
#include "database.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define COLLECTIONS_MAX 64
#define NAMESPACE_BYTES 96

struct document {
    uint8_t *data;
    size_t size;
};

struct collection {
    char namespace[NAMESPACE_BYTES];
    struct document *documents;
    size_t count;
    size_t capacity;
};

/* A change that a crash may take back. */
struct change {
    char namespace[NAMESPACE_BYTES];
    struct document key;
    struct document before; /* no data: there was none */
};

static struct collection collections[COLLECTIONS_MAX];
static struct change *changes;
static size_t change_count;
static size_t change_capacity;
static database_watch *watch;
static database_watch_lost *watch_lost;

void database_watch_with(database_watch *new_watch, database_watch_lost *new_watch_lost)
{
    watch = new_watch;
    watch_lost = new_watch_lost;
}

static struct document document_copy(const bson_t *from)
{
    struct document document = {.data = sim_malloc(from->len), .size = from->len};
    memcpy(document.data, bson_get_data(from), from->len);
    return document;
}

static struct collection *collection_find(const char *namespace, bool make)
{
    struct collection *vacant = NULL;
    for (size_t i = 0; i < COLLECTIONS_MAX; i++) {
        if (strcmp(collections[i].namespace, namespace) == 0) {
            return &collections[i];
        }
        if (collections[i].namespace[0] == '\0' && vacant == NULL) {
            vacant = &collections[i];
        }
    }
    if (make) {
        assert(vacant != NULL && strlen(namespace) < NAMESPACE_BYTES);
        (void)strcpy(vacant->namespace, namespace);
        return vacant;
    }
    return NULL;
}

static struct document *document_find(const struct collection *collection, const bson_iter_t *id)
{
    for (size_t i = 0; collection != NULL && i < collection->count; i++) {
        bson_t view;
        bson_iter_t at;
        (void)bson_init_static(&view, collection->documents[i].data, collection->documents[i].size);
        if (operators_id(&view, &at) && operators_same_value(&at, id)) {
            return &collection->documents[i];
        }
    }
    return NULL;
}

bool database_find(const char *namespace, const bson_iter_t *id, bson_t *ret_document)
{
    const struct document *found = document_find(collection_find(namespace, false), id);
    return found != NULL && bson_init_static(ret_document, found->data, found->size);
}

size_t database_count(const char *namespace)
{
    const struct collection *collection = collection_find(namespace, false);
    return collection == NULL ? 0 : collection->count;
}

void database_get(const char *namespace, size_t index, bson_t *ret_document)
{
    const struct collection *collection = collection_find(namespace, false);
    assert(collection != NULL && index < collection->count);
    (void)bson_init_static(ret_document, collection->documents[index].data,
                           collection->documents[index].size);
}

static void set(struct collection *collection, const bson_iter_t *id, const bson_t *after)
{
    struct document *document = document_find(collection, id);
    if (document == NULL && after != NULL) {
        if (collection->count == collection->capacity) {
            collection->capacity = collection->capacity * 2 + 8;
            collection->documents = sim_realloc(
                collection->documents, collection->capacity * sizeof *collection->documents);
        }
        collection->documents[collection->count++] = document_copy(after);
    } else if (document != NULL) {
        struct document old = *document;
        if (after != NULL) {
            *document = document_copy(after);
        } else {
            *document = collection->documents[--collection->count];
        }
        sim_free(old.data);
    }
}

void database_put(const char *namespace, const bson_iter_t *id, const bson_t *after, uint64_t tag)
{
    struct collection *collection = collection_find(namespace, true);
    struct document *found = document_find(collection, id);
    bson_t before;
    bson_t key = BSON_INITIALIZER;
    if (found != NULL) {
        (void)bson_init_static(&before, found->data, found->size);
    }
    if ((found == NULL && after == NULL) ||
        (found != NULL && after != NULL && bson_equal(&before, after))) {
        bson_destroy(&key);
        return;
    }
    bson_append_iter(&key, "_id", 3, id);
    if (change_count == change_capacity) {
        change_capacity = change_capacity * 2 + 64;
        changes = sim_realloc(changes, change_capacity * sizeof *changes);
    }
    struct change *change = &changes[change_count++];
    *change = (struct change){.key = document_copy(&key)};
    (void)strcpy(change->namespace, collection->namespace);
    if (found != NULL) {
        change->before = document_copy(&before);
    }
    if (watch != NULL) {
        watch(namespace, &key, found == NULL ? NULL : &before, after, tag);
    }
    set(collection, id, after);
    bson_destroy(&key);
}

static void collection_clear(struct collection *collection)
{
    for (size_t i = 0; i < collection->count; i++) {
        sim_free(collection->documents[i].data);
    }
    sim_free(collection->documents);
    *collection = (struct collection){.count = 0};
}

void database_drop(const char *namespace)
{
    struct collection *collection = collection_find(namespace, false);
    if (collection != NULL) {
        collection_clear(collection);
    }
}

const char *database_namespace(size_t index)
{
    for (size_t i = 0; i < COLLECTIONS_MAX; i++) {
        if (collections[i].namespace[0] != '\0' && index-- == 0) {
            return collections[i].namespace;
        }
    }
    return NULL;
}

static void change_free(struct change *change)
{
    sim_free(change->key.data);
    sim_free(change->before.data);
}

void database_sync(void)
{
    for (size_t i = 0; i < change_count; i++) {
        change_free(&changes[i]);
    }
    change_count = 0;
}

void database_crash(void)
{
    size_t kept = random_below(change_count + 1);
    sim_note("the server loses %zu changes", change_count - kept);
    while (change_count > kept) {
        struct change *change = &changes[--change_count];
        bson_t key;
        bson_t before;
        bson_iter_t id;
        (void)bson_init_static(&key, change->key.data, change->key.size);
        bool has_id = operators_id(&key, &id);
        assert(has_id);
        (void)has_id;
        bool was = change->before.data != NULL &&
                   bson_init_static(&before, change->before.data, change->before.size);
        set(collection_find(change->namespace, true), &id, was ? &before : NULL);
        if (watch_lost != NULL) {
            watch_lost(change->namespace, &key);
        }
        change_free(change);
    }
    database_sync();
}

void database_reset(void)
{
    database_sync();
    for (size_t i = 0; i < COLLECTIONS_MAX; i++) {
        collection_clear(&collections[i]);
    }
}
