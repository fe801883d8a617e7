/*
 * What is known of unique indexes (unique_cache.h).
 *
 *    get --> remembered --> answer
 *       `--> queue --> the thread asks listCollections, listIndexes --> remember --> answered
 *
 * Table and queue belong to the mutex, the connection to the thread.
 */
#include "engine/unique_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "engine/asker.h"
#include "holdfast/clock.h"
#include "unit/gate.h"
#include "wire/reply.h"

struct entry {
    char *namespace;
    uint32_t gate;
    uint64_t learned_ms;
    enum namespace_kind kind;
    bool listed;
    bool collated;
    bool validated;
    struct unique_indexes *indexes;
    UT_hash_handle hh;
};

struct unique_cache {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct entry *entries; /* uthash head */
    struct unique_lookup *first;
    struct unique_lookup **last;
    uint64_t forgotten; /* counts unique_cache_forget(): what was asked before is not remembered */
    bool stopping;
    struct asker asker; /* the thread's */
    pthread_t thread;
};

/* ------------------------------------------------------------------ remembering */

static void drop(struct unique_cache *cache, struct entry *entry)
{
    HASH_DEL(cache->entries, entry);
    unique_indexes_release(entry->indexes);
    bson_free(entry->namespace);
    free(entry);
}

static void drop_of_gate(struct unique_cache *cache, uint32_t gate)
{
    struct entry *entry;
    struct entry *next;
    HASH_ITER(hh, cache->entries, entry, next)
    {
        if (gate == GATE_SERVER || entry->gate == gate) {
            drop(cache, entry);
        }
    }
}

static struct entry *find(struct unique_cache *cache, const struct unique_lookup *lookup)
{
    struct entry *entry;
    char *namespace = bson_strdup_printf("%s.%s", lookup->database, lookup->collection);
    HASH_FIND_STR(cache->entries, namespace, entry);
    bson_free(namespace);
    return entry;
}

/* Whether what is remembered answers it. */
static bool answer(struct unique_cache *cache, struct unique_lookup *lookup)
{
    struct entry *entry = find(cache, lookup);
    if (entry == NULL || clock_monotonic_ms() - entry->learned_ms > UNIQUE_CACHE_MS) {
        return false;
    }
    lookup->status = STATUS_OK;
    lookup->kind = entry->kind;
    lookup->listed = entry->listed;
    lookup->collated = entry->collated;
    lookup->validated = entry->validated;
    lookup->indexes = unique_indexes_hold(entry->indexes);
    return true;
}

/* Where there is no memory for it, it is asked again. */
static void remember(struct unique_cache *cache, const struct unique_lookup *lookup,
                     uint64_t asked_ms)
{
    struct entry *entry = find(cache, lookup);
    if (entry != NULL) {
        drop(cache, entry);
    }
    if (HASH_COUNT(cache->entries) >= UNIQUE_CACHE_COUNT_MAX) {
        drop_of_gate(cache, GATE_SERVER);
    }
    entry = calloc(1, sizeof *entry);
    if (entry == NULL) {
        return;
    }
    entry->namespace = bson_strdup_printf("%s.%s", lookup->database, lookup->collection);
    entry->gate = gate_of(lookup->database, lookup->collection);
    entry->learned_ms = asked_ms;
    entry->kind = lookup->kind;
    entry->listed = lookup->listed;
    entry->collated = lookup->collated;
    entry->validated = lookup->validated;
    entry->indexes = unique_indexes_hold(lookup->indexes);
    HASH_ADD_KEYPTR(hh, cache->entries, entry->namespace, strlen(entry->namespace), entry);
}

void unique_cache_forget(struct unique_cache *cache, uint32_t gate)
{
    pthread_mutex_lock(&cache->mutex);
    cache->forgotten++;
    drop_of_gate(cache, gate);
    pthread_mutex_unlock(&cache->mutex);
}

/* ------------------------------------------------------------------ asking */

static void take_reply(struct unique_lookup *lookup, const bson_t *reply)
{
    char *namespace = bson_strdup_printf("%s.%s", lookup->database, lookup->collection);
    lookup->indexes = unique_indexes_parse(namespace, reply, lookup->collated);
    bson_free(namespace);
    if (lookup->indexes == NULL) {
        lookup->status = error_set(&lookup->error, STATUS_PROTOCOL,
                                   "the server's answer to listIndexes makes no sense");
    }
}

static void take_none(struct unique_lookup *lookup)
{
    lookup->indexes = unique_indexes_none();
    lookup->status = lookup->indexes == NULL ? STATUS_MEMORY : STATUS_OK;
}

static void ask_indexes(struct unique_cache *cache, struct unique_lookup *lookup)
{
    bson_t command = BSON_INITIALIZER;
    bson_t cursor;
    bson_t reply;
    int32_t code = 0;
    bson_append_utf8(&command, "listIndexes", -1, lookup->collection, -1);
    bson_append_document_begin(&command, "cursor", -1, &cursor);
    bson_append_document_end(&command, &cursor);
    lookup->status =
        asker_command(&cache->asker, lookup->database, &command, &reply, &code, &lookup->error);
    bson_destroy(&command);
    if (lookup->status == STATUS_OK) {
        take_reply(lookup, &reply);
        bson_destroy(&reply);
    } else if (lookup->status == STATUS_REFUSED && (code == REPLY_CODE_NamespaceNotFound ||
                                                    code == REPLY_CODE_CommandNotSupportedOnView)) {
        take_none(lookup);
    }
}

static void ask_kind(struct unique_cache *cache, struct unique_lookup *lookup)
{
    bson_t reply;
    lookup->status = asker_list_collection(&cache->asker, lookup->database, lookup->collection,
                                           &reply, &lookup->error);
    lookup->kind = NAMESPACE_COLLECTION;
    lookup->listed = lookup->status == STATUS_OK;
    lookup->collated = lookup->validated = false;
    if (lookup->status == STATUS_OK) {
        lookup->kind = namespace_kind_parse(&reply);
        lookup->collated = namespace_is_collated(&reply);
        lookup->validated = namespace_is_validated(&reply);
        bson_destroy(&reply);
    } else if (lookup->status == STATUS_REFUSED) {
        lookup->status = STATUS_OK;
    }
}

static void ask(struct unique_cache *cache, struct unique_lookup *lookup)
{
    ask_kind(cache, lookup);
    if (lookup->status == STATUS_OK) {
        ask_indexes(cache, lookup);
    }
}

/* The first in the queue; NULL: the end. */
static struct unique_lookup *next_lookup(struct unique_cache *cache)
{
    while (cache->first == NULL && !cache->stopping) {
        (void)pthread_cond_wait(&cache->changed, &cache->mutex);
    }
    struct unique_lookup *lookup = cache->first;
    if (lookup != NULL) {
        cache->first = lookup->next;
        if (cache->first == NULL) {
            cache->last = &cache->first;
        }
    }
    return lookup;
}

static void *cache_main(void *context)
{
    struct unique_cache *cache = context;
    struct unique_lookup *lookup;
    pthread_mutex_lock(&cache->mutex);
    while ((lookup = next_lookup(cache)) != NULL) {
        if (!answer(cache, lookup)) {
            uint64_t forgotten = cache->forgotten;
            uint64_t asked_ms = clock_monotonic_ms();
            pthread_mutex_unlock(&cache->mutex);
            ask(cache, lookup);
            pthread_mutex_lock(&cache->mutex);
            if (lookup->status == STATUS_OK && cache->forgotten == forgotten) {
                remember(cache, lookup, asked_ms);
            }
        }
        pthread_mutex_unlock(&cache->mutex);
        lookup->answered(lookup);
        pthread_mutex_lock(&cache->mutex);
    }
    pthread_mutex_unlock(&cache->mutex);
    asker_close(&cache->asker);
    return NULL;
}

bool unique_cache_get(struct unique_cache *cache, struct unique_lookup *lookup)
{
    lookup->indexes = NULL;
    lookup->next = NULL;
    pthread_mutex_lock(&cache->mutex);
    bool known = answer(cache, lookup);
    if (!known) {
        *cache->last = lookup;
        cache->last = &lookup->next;
        (void)pthread_cond_signal(&cache->changed);
    }
    pthread_mutex_unlock(&cache->mutex);
    return known;
}

/* ------------------------------------------------------------------ beginning and end */

static struct unique_cache *cache_free(struct unique_cache *cache)
{
    drop_of_gate(cache, GATE_SERVER);
    (void)pthread_cond_destroy(&cache->changed);
    (void)pthread_mutex_destroy(&cache->mutex);
    asker_free(&cache->asker);
    free(cache);
    return NULL;
}

enum status unique_cache_start(const char *uri, uint64_t connect_ms,
                               struct unique_cache **ret_cache, struct error *ret_error)
{
    struct unique_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL || !asker_init(&cache->asker, uri, connect_ms)) {
        free(cache);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    cache->last = &cache->first;
    (void)pthread_mutex_init(&cache->mutex, NULL);
    (void)pthread_cond_init(&cache->changed, NULL);
    if (pthread_create(&cache->thread, NULL, cache_main, cache) != 0) {
        cache_free(cache);
        return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
    }
    *ret_cache = cache;
    return STATUS_OK;
}

struct unique_cache *unique_cache_stop(struct unique_cache *cache)
{
    if (cache == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&cache->mutex);
    cache->stopping = true;
    (void)pthread_cond_signal(&cache->changed);
    pthread_mutex_unlock(&cache->mutex);
    (void)pthread_join(cache->thread, NULL);
    return cache_free(cache);
}
