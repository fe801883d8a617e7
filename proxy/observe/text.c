/*
 * Texts of strangers (text.h).
 *
 *   bytes -> hash -> shard (mutex) -> bucket -> chain of texts, each with its holders
 *
 * Invariants: a text is in its chain as long as it has a holder; the count falls, and rises from a
 * look-up, only under the shard's mutex; a holder may raise it without.
 */
#include "observe/text.h"

#include <bson/bson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS 16u
#define BUCKETS 512u /* of a shard: two texts each when the table is full */

struct text {
    struct text *next;
    uint64_t hash;
    atomic_size_t holders;
    size_t size;
    char string[];
};

struct text_shard {
    pthread_mutex_t mutex;
    struct text *buckets[BUCKETS];
    size_t kept;
    uint64_t refused;
};

struct text_table {
    uint64_t seed;
    struct text *others; /* held by the table */
    struct text_shard shards[SHARDS];
};

/* ------------------------------------------------------------------ making harmless */

static bool is_allowed(enum text_class class, uint8_t byte)
{
    switch (byte) {
    case ' ':
    case '"':
    case '\\':
    case '(':
    case ')':
    case '{':
    case '}':
    case '[':
    case ']':
    case ',':
    case ';':
        return class == TEXT_PLAIN;
    default:
        return byte >= 0x20 && byte < 0x7f;
    }
}

bool text_is_clean(enum text_class class, struct slice in)
{
    for (size_t i = 0; i < in.size; i++) {
        if (!is_allowed(class, in.data[i])) {
            return false;
        }
    }
    return true;
}

/* Bytes of the UTF-8 character that `rest` begins with; 0 if it begins with none to be printed. */
static size_t character_size(struct slice rest)
{
    uint8_t first = rest.data[0];
    size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || size > rest.size) {
        return 0;
    }
    if (first == 0xc2 && rest.data[1] < 0xa0) {
        return 0; /* U+0080 to U+009F: some terminals obey them */
    }
    return bson_utf8_validate((const char *)rest.data, size, false) ? size : 0;
}

size_t text_clean(enum text_class class, struct slice in, char *out, size_t capacity)
{
    if (in.size > 0 && in.size <= capacity && text_is_clean(class, in)) {
        memcpy(out, in.data, in.size);
        return in.size;
    }
    size_t size = 0;
    size_t room_for_more = 0; /* where TEXT_MORE would go: the last character before it fits */
    while (in.size > 0) {
        size_t step = 1;
        char replaced = '?';
        const void *from = &replaced;
        if (is_allowed(class, in.data[0])) {
            from = in.data;
        } else if (in.data[0] >= 0x80 && character_size(in) > 0) {
            step = character_size(in);
            from = in.data;
        }
        if (size + TEXT_MORE_BYTES <= capacity) {
            room_for_more = size;
        }
        if (size + step > capacity) {
            /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): it needs none */
            memcpy(out + room_for_more, TEXT_MORE, TEXT_MORE_BYTES);
            return room_for_more + TEXT_MORE_BYTES;
        }
        memcpy(out + size, from, step);
        size += step;
        in = slice_make(in.data + step, in.size - step);
    }
    return size;
}

/* ------------------------------------------------------------------ hashing */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

uint64_t text_hash(uint64_t seed, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    uint64_t hash = mix(seed, size);
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        hash = mix(hash, word);
    }
    if (size > 0) {
        uint64_t word = 0;
        memcpy(&word, at, size);
        hash = mix(hash, word);
    }
    return mix(hash, seed);
}

/* ------------------------------------------------------------------ the table */

static struct text *text_new(struct slice bytes, uint64_t hash)
{
    struct text *text = malloc(sizeof *text + bytes.size + 1);
    if (text != NULL) {
        text->next = NULL;
        text->hash = hash;
        atomic_init(&text->holders, 1);
        text->size = bytes.size;
        if (bytes.size > 0) {
            memcpy(text->string, bytes.data, bytes.size);
        }
        text->string[bytes.size] = '\0';
    }
    return text;
}

struct text_table *text_table_new(uint64_t seed)
{
    struct text_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    table->seed = seed;
    table->others = text_new(slice_text("(others)"), 0);
    if (table->others == NULL) {
        free(table);
        return NULL;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        (void)pthread_mutex_init(&table->shards[i].mutex, NULL);
    }
    return table;
}

struct text_table *text_table_free(struct text_table *table)
{
    if (table == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
            struct text *text = table->shards[i].buckets[bucket];
            while (text != NULL) {
                struct text *next = text->next;
                free(text);
                text = next;
            }
        }
        (void)pthread_mutex_destroy(&table->shards[i].mutex);
    }
    free(table->others);
    free(table);
    return NULL;
}

static struct text_shard *shard_of(struct text_table *table, uint64_t hash)
{
    return &table->shards[hash % SHARDS];
}

static struct text **bucket_of(struct text_shard *shard, uint64_t hash)
{
    return &shard->buckets[hash / SHARDS % BUCKETS];
}

struct text *text_keep_hashed(struct text_table *table, struct slice bytes, uint64_t hash)
{
    struct text_shard *shard = shard_of(table, hash);
    struct text **bucket = bucket_of(shard, hash);
    pthread_mutex_lock(&shard->mutex);
    struct text *text = *bucket;
    while (text != NULL && !text_is(text, bytes, hash)) {
        text = text->next;
    }
    if (text != NULL) {
        atomic_fetch_add(&text->holders, 1);
    } else if (shard->kept < TEXTS_MAX / SHARDS && (text = text_new(bytes, hash)) != NULL) {
        text->next = *bucket;
        *bucket = text;
        shard->kept++;
    } else {
        shard->refused++;
        text = text_hold(table->others);
    }
    pthread_mutex_unlock(&shard->mutex);
    return text;
}

struct text *text_keep(struct text_table *table, struct slice bytes)
{
    return text_keep_hashed(table, bytes, text_hash(table->seed, bytes.data, bytes.size));
}

struct text *text_hold(struct text *text)
{
    atomic_fetch_add(&text->holders, 1);
    return text;
}

void text_release(struct text_table *table, struct text *text)
{
    if (text == NULL) {
        return;
    }
    struct text_shard *shard = shard_of(table, text->hash);
    pthread_mutex_lock(&shard->mutex);
    bool last = atomic_fetch_sub(&text->holders, 1) == 1;
    if (last) {
        struct text **at = bucket_of(shard, text->hash);
        while (*at != text) {
            at = &(*at)->next;
        }
        *at = text->next;
        shard->kept--;
    }
    pthread_mutex_unlock(&shard->mutex);
    if (last) {
        free(text);
    }
}

const char *text_string(const struct text *text)
{
    return text->string;
}

bool text_is(const struct text *text, struct slice bytes, uint64_t hash)
{
    return text->hash == hash && text->size == bytes.size &&
           (bytes.size == 0 || memcmp(text->string, bytes.data, bytes.size) == 0);
}

void text_table_figures(struct text_table *table, size_t *ret_kept, uint64_t *ret_refused)
{
    *ret_kept = 0;
    *ret_refused = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&table->shards[i].mutex);
        *ret_kept += table->shards[i].kept;
        *ret_refused += table->shards[i].refused;
        pthread_mutex_unlock(&table->shards[i].mutex);
    }
}
