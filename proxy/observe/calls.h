#ifndef HOLDFAST_OBSERVE_CALLS_H
#define HOLDFAST_OBSERVE_CALLS_H

/*
 * The calls that are open: of the HTTP boundary, by number, and traces, by trace-id.
 *
 *     calls_begin()                          calls_end()
 *        (number) --> open --------------------------------------> counted in findings, if it
 *                      ^   `-- calls_write() ...                    wrote several times
 *     a trace's first  |
 *     write -----------'   ends when it has been idle, or has become too old
 *
 * Time is what calls_tick() was last told: a write asks no clock.
 *
 * Threads: any; one mutex for each of several shards.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "observe/findings.h"

/* One write, for any of the functions below. */
struct calls_write {
    const struct shape *shape;
    uint64_t shape_hash;
    const struct people_writer *writer;
    size_t bytes;
};

/* Since the start. */
struct calls_figures {
    uint64_t calls[2]; /* ended, by enum observed_by */
    uint64_t calls_several[2];
    uint64_t torn;
    uint64_t missed;
    uint64_t writes[2];
    uint64_t bytes[2];
    size_t open[2];
};

struct calls;

/* NULL: out of memory. `texts` and `findings` outlive it. */
struct calls *calls_new(struct text_table *texts, struct findings *findings, uint64_t seed,
                        uint64_t now_ms);
/* What is open is forgotten. NULL is harmless; returns NULL. */
struct calls *calls_free(struct calls *calls);

/* Takes the two held texts over. 0: too many are open. */
uint64_t calls_begin(struct calls *calls, struct text *service, struct text *route);

/* False: no such call is open. */
bool calls_write(struct calls *calls, uint64_t number, const struct calls_write *write);

/* False: it is not followed, because too many are open. */
bool calls_write_traced(struct calls *calls, const struct trace_id *trace,
                        const struct calls_write *write);

/* Harmless for a call that is not open. `torn`: if it wrote at all. */
void calls_end(struct calls *calls, uint64_t number, bool torn);

void calls_tick(struct calls *calls, uint64_t now_ms);

void calls_figures_get(struct calls *calls, struct calls_figures *ret_figures);

#endif
