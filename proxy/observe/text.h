#ifndef HOLDFAST_OBSERVE_TEXT_H
#define HOLDFAST_OBSERVE_TEXT_H

/*
 * Texts of strangers: made harmless, hashed, and kept once.
 *
 * A table keeps each text once, with a count of its holders; who holds a text may compare it by its
 * address. The table is bounded: when it is full, new texts become one and the same "(others)".
 *
 * Threads: any; one mutex for each of several shards, held for one look-up. Texts are a leaf: any
 * other mutex of this layer may be held while one is looked up or released.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/slice.h"

/* Texts kept at a time: 1024 findings with half a dozen own texts each, and what is open. */
#define TEXTS_MAX 16384u

/* Appended where something was cut off, or never looked at. */
#define TEXT_MORE "\xe2\x80\xa6"
#define TEXT_MORE_BYTES 3u

enum text_class {
    TEXT_NAME,  /* of a field, operator, collection: what shapes are punctuated with is no part */
    TEXT_PLAIN, /* all that can be printed */
};

/*
 * Copies `in` to `out`, at most `capacity` bytes (at least TEXT_MORE_BYTES) and no NUL: valid UTF-8
 * without control characters, each byte that is not allowed a "?", and TEXT_MORE at the end of what
 * was too long. Returns the size.
 */
size_t text_clean(enum text_class class, struct slice in, char *out, size_t capacity);

/* Nothing but ASCII that may stay: text_clean() would at most cut it. False for other UTF-8. */
bool text_is_clean(enum text_class class, struct slice in);

/* Not for secrets; `seed` is there so that nobody can choose texts that collide. */
uint64_t text_hash(uint64_t seed, const void *bytes, size_t size);

struct text;
struct text_table;

/* NULL: out of memory. */
struct text_table *text_table_new(uint64_t seed);
/* All texts are given back. NULL is harmless; returns NULL. */
struct text_table *text_table_free(struct text_table *table);

/* The kept copy, held once more; give it to text_release(). Never NULL. */
struct text *text_keep(struct text_table *table, struct slice bytes);
/* The same if the caller has text_hash() of it with the table's seed already. */
struct text *text_keep_hashed(struct text_table *table, struct slice bytes, uint64_t hash);

/* Holds a held text once more. */
struct text *text_hold(struct text *text);
/* NULL is harmless. */
void text_release(struct text_table *table, struct text *text);

const char *text_string(const struct text *text);
bool text_is(const struct text *text, struct slice bytes, uint64_t hash);

/* How many are kept, and how often the table was full. */
void text_table_figures(struct text_table *table, size_t *ret_kept, uint64_t *ret_refused);

#endif
