#ifndef HOLDFAST_BASE_EXPOSITION_H
#define HOLDFAST_BASE_EXPOSITION_H

/*
 * Writes metrics in the two text forms that Prometheus reads: its own (version 0.0.4) and
 * OpenMetrics (1.0.0). They differ in the name of a counter in its TYPE line, and in the end.
 *
 *   exposition_family(page, "holdfast_units", EXPOSITION_COUNTER, "Units that have ended.");
 *   exposition_number(page, "outcome=\"committed\"", 7);
 *
 * All samples of a family follow its beginning, before the next one's. Of a counter the family's
 * name has no _total: its samples get it. A help text and the values of labels are the caller's
 * literals, or come from exposition_label().
 *
 * One thread at a time per struct exposition.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "holdfast/histogram.h"

#define EXPOSITION_CLASSIC_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define EXPOSITION_OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

enum exposition_type {
    EXPOSITION_COUNTER,
    EXPOSITION_GAUGE,
    EXPOSITION_HISTOGRAM, /* of seconds */
};

struct exposition {
    FILE *out;
    bool openmetrics;
    /* private */
    const char *family;
    enum exposition_type type;
};

void exposition_family(struct exposition *page, const char *name, enum exposition_type type,
                       const char *help);

/* A sample. `labels`: name="value" with commas between, or "". */
void exposition_number(struct exposition *page, const char *labels, uint64_t value);
/* The same in seconds. */
void exposition_microseconds(struct exposition *page, const char *labels, uint64_t us);
void exposition_histogram(struct exposition *page, const char *labels,
                          const struct histogram *histogram);

/* A family of one sample without labels. */
void exposition_gauge(struct exposition *page, const char *name, const char *help, uint64_t value);
void exposition_counter(struct exposition *page, const char *name, const char *help,
                        uint64_t value);

/* The end of the page. */
void exposition_end(struct exposition *page);

/*
 * Appends `,name="value"` to labels of `size` bytes (without the comma where there is none yet),
 * escaped; bytes that are no printable ASCII become "?". What finds no room is left out whole.
 */
void exposition_label(char *labels, size_t size, const char *name, const char *value);

/* Whether an Accept header asks for OpenMetrics. NULL: it does not. */
bool exposition_wants_openmetrics(const char *accept);

#endif
