#ifndef HOLDFAST_TELEMETRY_TELEMETRY_H
#define HOLDFAST_TELEMETRY_TELEMETRY_H

/*
 * What leaves the process besides answers: spans to a collector (OTLP over HTTP, JSON), events to a
 * webhook. docs/OBSERVABILITY.md has what they hold.
 *
 *   any thread --span_end()---> ring, TELEMETRY_SPANS_MAX  --> thread --> POST, in batches
 *   any thread --event_tell()-> ring, TELEMETRY_EVENTS_MAX --> thread --> POST, one by one
 *
 * Nobody waits for either: what finds its ring full is dropped and counted, and a receiver that is
 * down costs its own thread some time. HTTP only: TLS is not built here, so put an agent beside the
 * proxy (the OpenTelemetry collector, a relay) where that is needed.
 *
 * Threads: start and stop on the main thread, while no other thread tells anything; metrics on any.
 */

#include "base/exposition.h"
#include "holdfast/error.h"

#define TELEMETRY_SPANS_MAX 4096u /* 3 MiB, only if spans are wanted */
#define TELEMETRY_SPAN_BATCH 256u
#define TELEMETRY_SPAN_WAIT_MS 1000u /* how long a span waits for a batch to fill */
#define TELEMETRY_EVENTS_MAX 256u
#define TELEMETRY_POST_MS 10000u /* one try, from connecting to the answer */
/* At the end of the process: what is left is sent for so long, then given up. */
#define TELEMETRY_STOP_MS 2000u

struct telemetry;

struct telemetry_options {
    const char *trace_endpoint; /* http://HOST:PORT/v1/traces, or "" */
    unsigned trace_percent;     /* of traces that begin here, 0..100 */
    const char *webhook;        /* http://HOST:PORT/PATH, or "" */
    const char *webhook_secret; /* for "Authorization: Bearer ..."; "" or NULL: none */
    const char *instance;       /* which proxy this is: the address of its listener */
};

/* Options are copied. *ret_telemetry is NULL if neither is wanted. Errors: STATUS_INVALID (a URL),
   STATUS_MEMORY, STATUS_IO (a thread). */
MUST_CHECK enum status telemetry_start(const struct telemetry_options *options,
                                       struct telemetry **ret_telemetry, struct error *ret_error);

/* Whether `url` is one that can be posted to. Errors: STATUS_INVALID. */
MUST_CHECK enum status telemetry_check_url(const char *url, struct error *ret_error);

/* NULL is harmless; returns NULL. */
struct telemetry *telemetry_stop(struct telemetry *telemetry);

/* What was sent and what was lost. NULL: nothing was. */
void telemetry_metrics(const struct telemetry *telemetry, struct exposition *page);

#endif
