#ifndef HOLDFAST_CLI_TOP_H
#define HOLDFAST_CLI_TOP_H

/* The parts of `holdfast top`: what the living holdfastd tells, and how it is shown. Main thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/cli.h"
#include "holdfast/error.h"

/* ---- top_sample.c */

/* Units that are asked for, the oldest; beyond that only the figures count them. */
#define TOP_UNITS_MAX 1000u
#define TOP_BUCKETS_MAX 32u

/* Texts are cut. */
struct top_unit {
    uint64_t number;
    char state[16];
    char boundary[16];
    uint64_t age_ms;
    uint64_t writes;
    uint64_t locks;
    uint64_t waits_for; /* 0: for nobody */
    char namespaces[96];
    char who[96];
};

/* A histogram of /metrics: counts are cumulative. */
struct top_histogram {
    size_t count; /* 0: holdfastd does not measure it */
    double bounds[TOP_BUCKETS_MAX];
    double counts[TOP_BUCKETS_MAX];
};

/* One look at holdfastd. */
struct top_sample {
    uint64_t at_ms; /* monotonic */
    bool ready;
    char phase[16];
    char reason[256];
    char version[32];
    uint64_t uptime_ms;
    uint64_t connections;
    uint64_t open;
    uint64_t committed;
    uint64_t rolled_back;
    uint64_t conflicts; /* in the journal */
    uint64_t deadlocks;
    uint64_t locks_held;
    uint64_t used_bytes;
    uint64_t quota_bytes;
    uint64_t records;
    uint64_t last_lsn;
    uint64_t settled_lsn; /* UINT64_MAX: not known */
    uint64_t groups;
    uint64_t batches;
    struct top_histogram commit;
    struct top_histogram sync;
    size_t unit_count;
    struct top_unit units[TOP_UNITS_MAX];
};

/* Errors: those of control_request(). */
MUST_CHECK enum status top_sample_take(const struct cli_options *options,
                                       struct top_sample *ret_sample, struct error *ret_error);

/* The quantile, in seconds, of what came between the two; negative: nothing came. */
double top_quantile(const struct top_histogram *before, const struct top_histogram *after,
                    double share);

/* Counters a second; negative: holdfastd has restarted in between, so nothing is known. */
double top_rate(uint64_t before, uint64_t after, uint64_t elapsed_ms);

/* ---- top_screen.c */

#define TOP_ORDER_LIST(X)                                                                          \
    X(AGE, 'a', "age")                                                                             \
    X(WRITES, 'w', "writes")                                                                       \
    X(LOCKS, 'l', "locks")                                                                         \
    X(NUMBER, 'u', "unit")

enum top_order {
#define X(name, key, text) TOP_BY_##name,
    TOP_ORDER_LIST(X)
#undef X
};

struct top_view {
    enum top_order order; /* the greatest first, of unit numbers the smallest */
    size_t columns;
    size_t lines;        /* 0: all units are shown */
    bool styled;         /* bold heads, by ANSI sequences */
    const char *failure; /* NULL, or why what is shown is old */
};

/* Sorts the units of `now`, and writes the screen, each line with a \n. */
void top_screen_write(FILE *stream, const struct top_sample *before, struct top_sample *now,
                      const struct top_view *view);

/* The same as one JSON object on a line. */
void top_json_write(FILE *stream, const struct top_sample *before, const struct top_sample *now);

#endif
