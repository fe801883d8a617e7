/*
 * What is known of namespaces (namespace_cache.h).
 *
 *    find --> a set of hashes (collections), a table (views) --> known
 *      `--> nothing: ask --> queue --> the thread asks listCollections --> remember --> answered
 *
 * Invariants: the set is written with the mutex held and read without; an entry is one word, the
 * hash of the name under a key of this process, with what is known of it in its lowest bits. It is
 * never 0. What was asked before something changed is not remembered. All of it is forgotten every
 * NAMESPACE_CACHE_MS.
 */
#include "engine/namespace_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <uthash.h>

#include "base/condition.h"
#include "engine/asker.h"
#include "engine/namespace_kind.h"
#include "holdfast/clock.h"

#define SETS 4096u
#define WAYS 4u
#define KNOWN_BITS 3u

struct entry {
    uint64_t hash;
    struct view_definition *view;
    UT_hash_handle hh;
};

struct namespace_cache {
    uint64_t key; /* of the hashes */
    _Atomic uint64_t generation;
    _Atomic uint32_t changing; /* commands on their way */
    _Atomic uint64_t known[SETS][WAYS];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct entry *views; /* uthash head */
    uint32_t next_way;
    struct namespace_lookup *first;
    struct namespace_lookup **last;
    uint64_t empty_since_ms; /* the last time that all was forgotten */
    bool stopping;
    struct asker asker; /* the thread's */
    pthread_t thread;
};

struct view_definition *view_definition_release(struct view_definition *view)
{
    if (view != NULL && atomic_fetch_sub(&view->references, 1) == 1) {
        free(view->view_on);
        bson_destroy(view->pipeline);
        bson_destroy(view->collation);
        free(view);
    }
    return NULL;
}

static struct view_definition *hold(struct view_definition *view)
{
    (void)atomic_fetch_add(&view->references, 1);
    return view;
}

/* ------------------------------------------------------------------ names */

static uint64_t add_text(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return hash;
}

uint64_t namespace_cache_hash(const struct namespace_cache *cache, const char *database,
                              const char *collection)
{
    uint64_t hash = add_text(cache->key, database);
    hash = add_text((hash ^ '.') * 0x9e3779b97f4a7c15u, collection);
    return (hash ^ hash >> 32) | (KNOWN_BITS + 1); /* its lowest bits are left out, but never 0 */
}

static uint64_t word_of(uint64_t hash, enum namespace_known known)
{
    return (hash & ~(uint64_t)KNOWN_BITS) | (uint64_t)known;
}

static _Atomic uint64_t *set_of(struct namespace_cache *cache, uint64_t hash)
{
    return cache->known[(hash >> 16) % SETS];
}

static enum namespace_known look(struct namespace_cache *cache, uint64_t hash)
{
    const _Atomic uint64_t *set = set_of(cache, hash);
    for (uint32_t way = 0; way < WAYS; way++) {
        uint64_t word = atomic_load(&set[way]);
        if ((word & ~(uint64_t)KNOWN_BITS) == (hash & ~(uint64_t)KNOWN_BITS)) {
            return (enum namespace_known)(word & KNOWN_BITS);
        }
    }
    return NAMESPACE_KNOWN_NOTHING;
}

/* ------------------------------------------------------------------ remembering: with the mutex */

static void drop_view(struct namespace_cache *cache, struct entry *entry)
{
    HASH_DEL(cache->views, entry);
    (void)view_definition_release(entry->view);
    free(entry);
}

static void forget(struct namespace_cache *cache, uint64_t hash)
{
    _Atomic uint64_t *set = set_of(cache, hash);
    struct entry *entry;
    for (uint32_t way = 0; way < WAYS; way++) {
        uint64_t word = atomic_load(&set[way]);
        if ((word & ~(uint64_t)KNOWN_BITS) == (hash & ~(uint64_t)KNOWN_BITS)) {
            atomic_store(&set[way], 0);
        }
    }
    HASH_FIND(hh, cache->views, &hash, sizeof hash, entry);
    if (entry != NULL) {
        drop_view(cache, entry);
    }
}

static void forget_all(struct namespace_cache *cache)
{
    struct entry *entry;
    struct entry *next;
    for (uint32_t set = 0; set < SETS; set++) {
        for (uint32_t way = 0; way < WAYS; way++) {
            atomic_store(&cache->known[set][way], 0);
        }
    }
    HASH_ITER(hh, cache->views, entry, next)
    {
        drop_view(cache, entry);
    }
    cache->empty_since_ms = clock_monotonic_ms();
}

static void remember(struct namespace_cache *cache, const struct namespace_lookup *lookup)
{
    uint64_t hash = namespace_cache_hash(cache, lookup->database, lookup->collection);
    forget(cache, hash);
    if (lookup->known == NAMESPACE_KNOWN_VIEW) {
        struct entry *entry = calloc(1, sizeof *entry);
        if (HASH_COUNT(cache->views) >= NAMESPACE_CACHE_VIEWS_MAX) {
            forget_all(cache);
        }
        if (entry == NULL) {
            return; /* it is asked again */
        }
        entry->hash = hash;
        entry->view = hold(lookup->view);
        HASH_ADD(hh, cache->views, hash, sizeof hash, entry);
    }
    _Atomic uint64_t *set = set_of(cache, hash);
    uint32_t way = 0;
    while (way < WAYS && atomic_load(&set[way]) != 0) {
        way++;
    }
    way = way == WAYS ? cache->next_way++ % WAYS : way;
    atomic_store(&set[way], word_of(hash, lookup->known));
}

enum namespace_known namespace_cache_find(struct namespace_cache *cache, const char *database,
                                          const char *collection, struct view_definition **ret_view)
{
    uint64_t hash = namespace_cache_hash(cache, database, collection);
    enum namespace_known known = look(cache, hash);
    if (known != NAMESPACE_KNOWN_VIEW) {
        return known;
    }
    struct entry *entry;
    pthread_mutex_lock(&cache->mutex);
    HASH_FIND(hh, cache->views, &hash, sizeof hash, entry);
    if (entry != NULL) {
        *ret_view = hold(entry->view);
    }
    pthread_mutex_unlock(&cache->mutex);
    return entry == NULL ? NAMESPACE_KNOWN_NOTHING : known;
}

/* ------------------------------------------------------------------ changes */

static void forget_one_or_all(struct namespace_cache *cache, uint64_t name_hash)
{
    (void)atomic_fetch_add(&cache->generation, 1);
    pthread_mutex_lock(&cache->mutex);
    if (name_hash == 0) {
        forget_all(cache);
    } else {
        forget(cache, name_hash);
    }
    pthread_mutex_unlock(&cache->mutex);
}

void namespace_cache_changing(struct namespace_cache *cache, uint64_t name_hash)
{
    (void)atomic_fetch_add(&cache->changing, 1);
    forget_one_or_all(cache, name_hash);
}

void namespace_cache_changed(struct namespace_cache *cache, uint64_t name_hash)
{
    forget_one_or_all(cache, name_hash);
    (void)atomic_fetch_sub(&cache->changing, 1);
}

uint64_t namespace_cache_generation(const struct namespace_cache *cache)
{
    return atomic_load(&cache->generation);
}

bool namespace_cache_is_changing(const struct namespace_cache *cache)
{
    return atomic_load(&cache->changing) != 0;
}

/* ------------------------------------------------------------------ asking */

/* A copy of this part of the options; empty: there is none, or of another type. */
static bson_t *copy_part(const bson_iter_t *options, const char *name, bson_type_t type)
{
    bson_iter_t at = *options;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    bson_t view;
    if (!bson_iter_find(&at, name) || bson_iter_type(&at) != type) {
        return bson_new();
    }
    if (type == BSON_TYPE_ARRAY) {
        bson_iter_array(&at, &size, &data);
    } else {
        bson_iter_document(&at, &size, &data);
    }
    return bson_init_static(&view, data, size) ? bson_copy(&view) : bson_new();
}

/* Of { options: { viewOn, pipeline, collation } }; NULL: it makes no sense, or out of memory. */
static struct view_definition *parse_view(const bson_iter_t *entry)
{
    bson_iter_t options;
    bson_iter_t at;
    if (!bson_iter_recurse(entry, &at) || !bson_iter_find(&at, "options") ||
        !BSON_ITER_HOLDS_DOCUMENT(&at) || !bson_iter_recurse(&at, &options)) {
        return NULL;
    }
    at = options;
    if (!bson_iter_find(&at, "viewOn") || !BSON_ITER_HOLDS_UTF8(&at)) {
        return NULL;
    }
    struct view_definition *view = calloc(1, sizeof *view);
    if (view == NULL) {
        return NULL;
    }
    atomic_init(&view->references, 1);
    view->view_on = strdup(bson_iter_utf8(&at, NULL));
    view->pipeline = copy_part(&options, "pipeline", BSON_TYPE_ARRAY);
    view->collation = copy_part(&options, "collation", BSON_TYPE_DOCUMENT);
    return view->view_on == NULL ? view_definition_release(view) : view;
}

static void take_reply(struct namespace_lookup *lookup, const bson_t *reply)
{
    bson_iter_t at;
    bson_iter_t entry;
    lookup->known = NAMESPACE_KNOWN_COLLECTION;
    if (namespace_kind_parse(reply) == NAMESPACE_VIEW && bson_iter_init(&at, reply) &&
        bson_iter_find_descendant(&at, "cursor.firstBatch.0", &entry)) {
        lookup->view = parse_view(&entry);
        lookup->known = lookup->view == NULL ? NAMESPACE_KNOWN_NOTHING : NAMESPACE_KNOWN_VIEW;
    }
}

static void ask(struct namespace_cache *cache, struct namespace_lookup *lookup)
{
    bson_t reply;
    struct error error = {0};
    enum status status =
        asker_list_collection(&cache->asker, lookup->database, lookup->collection, &reply, &error);
    if (status == STATUS_OK) {
        take_reply(lookup, &reply);
        bson_destroy(&reply);
    } else {
        lookup->known =
            status == STATUS_REFUSED ? NAMESPACE_KNOWN_REFUSED : NAMESPACE_KNOWN_NOTHING;
    }
}

/* Until somebody asks, or all of it is too old. */
static void wait_for_work(struct namespace_cache *cache)
{
    condition_wait_until(&cache->changed, &cache->mutex,
                         cache->empty_since_ms + NAMESPACE_CACHE_MS);
}

/* The first in the queue; NULL: the end. */
static struct namespace_lookup *next_lookup(struct namespace_cache *cache)
{
    while (cache->first == NULL && !cache->stopping) {
        if (clock_monotonic_ms() >= cache->empty_since_ms + NAMESPACE_CACHE_MS) {
            forget_all(cache);
        }
        wait_for_work(cache);
    }
    struct namespace_lookup *lookup = cache->first;
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
    struct namespace_cache *cache = context;
    struct namespace_lookup *lookup;
    pthread_mutex_lock(&cache->mutex);
    while ((lookup = next_lookup(cache)) != NULL) {
        uint64_t generation = atomic_load(&cache->generation);
        pthread_mutex_unlock(&cache->mutex);
        lookup->known =
            namespace_cache_find(cache, lookup->database, lookup->collection, &lookup->view);
        bool asked = lookup->known == NAMESPACE_KNOWN_NOTHING;
        if (asked) {
            ask(cache, lookup);
        }
        pthread_mutex_lock(&cache->mutex);
        if (asked && lookup->known != NAMESPACE_KNOWN_NOTHING &&
            atomic_load(&cache->generation) == generation) {
            remember(cache, lookup);
        }
        pthread_mutex_unlock(&cache->mutex);
        lookup->answered(lookup);
        pthread_mutex_lock(&cache->mutex);
    }
    pthread_mutex_unlock(&cache->mutex);
    asker_close(&cache->asker);
    return NULL;
}

void namespace_cache_ask(struct namespace_cache *cache, struct namespace_lookup *lookup)
{
    lookup->known = NAMESPACE_KNOWN_NOTHING;
    lookup->view = NULL;
    lookup->next = NULL;
    pthread_mutex_lock(&cache->mutex);
    bool stopping = cache->stopping;
    if (!stopping) {
        *cache->last = lookup;
        cache->last = &lookup->next;
        (void)pthread_cond_signal(&cache->changed);
    }
    pthread_mutex_unlock(&cache->mutex);
    if (stopping) {
        lookup->answered(lookup);
    }
}

/* ------------------------------------------------------------------ beginning and end */

static void destroy(struct namespace_cache *cache)
{
    forget_all(cache);
    (void)pthread_cond_destroy(&cache->changed);
    (void)pthread_mutex_destroy(&cache->mutex);
    asker_free(&cache->asker);
    free(cache);
}

static void init(struct namespace_cache *cache)
{
    condition_init(&cache->changed);
    (void)pthread_mutex_init(&cache->mutex, NULL);
    cache->last = &cache->first;
    cache->empty_since_ms = clock_monotonic_ms();
}

enum status namespace_cache_start(const char *uri, uint64_t connect_ms,
                                  struct namespace_cache **ret_cache, struct error *ret_error)
{
    struct namespace_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL || !asker_init(&cache->asker, uri, connect_ms) ||
        getrandom(&cache->key, sizeof cache->key, 0) != (ssize_t)sizeof cache->key) {
        if (cache != NULL) {
            asker_free(&cache->asker);
        }
        free(cache);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    init(cache);
    if (pthread_create(&cache->thread, NULL, cache_main, cache) != 0) {
        destroy(cache);
        return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
    }
    *ret_cache = cache;
    return STATUS_OK;
}

void namespace_cache_stop(struct namespace_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    pthread_mutex_lock(&cache->mutex);
    cache->stopping = true;
    (void)pthread_cond_signal(&cache->changed);
    pthread_mutex_unlock(&cache->mutex);
    (void)pthread_join(cache->thread, NULL);
}

struct namespace_cache *namespace_cache_free(struct namespace_cache *cache)
{
    if (cache != NULL) {
        destroy(cache);
    }
    return NULL;
}
