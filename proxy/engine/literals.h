#ifndef HOLDFAST_ENGINE_LITERALS_H
#define HOLDFAST_ENGINE_LITERALS_H

/*
 * Time and random values in updates become literals, so that an update repeats exactly: when it is
 * sent after it was searched for, and when a recovery asks what it would have made.
 *
 *   $currentDate         becomes $set
 *   $$NOW                becomes a Date, in pipelines, in let, and in a filter's $expr
 *   $rand                becomes a Double: each one another, and another for each document
 *
 * All input is checked BSON, so its depth is bounded, or of size 0: nothing is there. Pure but for
 * clock and random numbers. Any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/slice.h"

/* What was found, or what is to be replaced; a set. */
enum literals {
    LITERALS_NOW = 1,          /* $$NOW */
    LITERALS_RANDOM = 2,       /* $rand; in a filter $sampleRate too, which cannot be replaced */
    LITERALS_UNREPEATABLE = 4, /* what has no literal: $$CLUSTER_TIME, $function, $accumulator */
};

/* `expressions`: a pipeline, or a document whose values are expressions. A set of enum literals. */
unsigned literals_find(struct slice expressions);
unsigned literals_find_in_filter(struct slice filter);

/*
 * A copy with every `which` replaced; the caller destroys it. `now_ms`: for $$NOW, in milliseconds
 * since 1970-01-01 UTC. Never NULL.
 */
bson_t *literals_replace(struct slice expressions, unsigned which, uint64_t now_ms);
bson_t *literals_replace_in_filter(struct slice filter, unsigned which, uint64_t now_ms);

/*
 * A copy of an update of operators whose $currentDate has become part of $set, in the place of the
 * first of the two; the caller destroys it. NULL: what $currentDate says is not valid, as a mongod
 * would answer with BadValue.
 */
bson_t *literals_replace_current_date(struct slice update, uint64_t now_ms);

#endif
