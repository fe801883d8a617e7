#ifndef HOLDFAST_OBSERVE_FINDINGS_H
#define HOLDFAST_OBSERVE_FINDINGS_H

/*
 * What was found: calls that wrote several times, by (service, route, sequence), and writes outside
 * any call, by (writer, shape); the most frequent of each (top_k.h).
 *
 * Threads: any; one mutex for each of several shards.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "observe/people.h"
#include "observe/sequence.h"
#include "observe/top_k.h"

enum observed_by {
    OBSERVED_BY_HTTP,
    OBSERVED_BY_TRACE,
};

/* One call, at its end, or the sum of many. Texts and lists are held. */
struct observed_call {
    enum observed_by by;
    struct text *service;
    struct text *route; /* NULL: by a trace, whose route nobody knows */
    struct sequence sequence;
    struct people people;
    uint64_t writes;
    uint64_t bytes;
    bool several; /* one of its commands may write several documents */
};

struct finding {
    struct top_k_item item; /* count: calls */
    struct observed_call sum;
    uint64_t counted; /* calls that all below is of: count - error */
    uint64_t torn;
    uint64_t writes_min;
    uint64_t writes_max;
    unsigned int applications_max; /* distinct ones in one call */
};

struct outside {
    struct top_k_item item; /* count: writes */
    uint64_t writer_hash;
    struct text *shape;
    struct text *names[PEOPLE_KINDS]; /* NULL: none */
    uint64_t bytes;
    bool several;
};

struct findings;

/* NULL: out of memory. `texts` outlives it. */
struct findings *findings_new(struct text_table *texts, uint64_t seed);
/* NULL is harmless; returns NULL. */
struct findings *findings_free(struct findings *findings);

/* Counts a call that has ended. Nothing of it is taken over. */
void findings_count(struct findings *findings, const struct observed_call *call, bool torn);

/* Counts a write outside any call. */
void findings_count_outside(struct findings *findings, const struct shape *shape,
                            uint64_t shape_hash, const struct people_writer *writer, size_t bytes);

/* Of all writes outside any call. */
void findings_outside_figures(struct findings *findings, uint64_t *ret_writes, uint64_t *ret_bytes);

/*
 * Copies, the most frequent first, in one array to be given to findings_list_free() or
 * outside_list_free(). NULL: none, or out of memory.
 */
struct finding *findings_list(struct findings *findings, size_t *ret_count);
void findings_list_free(struct findings *findings, struct finding *list, size_t count);
struct outside *outside_list(struct findings *findings, size_t *ret_count);
void outside_list_free(struct findings *findings, struct outside *list, size_t count);

#endif
