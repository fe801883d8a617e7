#ifndef HOLDFAST_OBSERVE_OBSERVE_H
#define HOLDFAST_OBSERVE_OBSERVE_H

/*
 * The observe report: which service, by which route, writes several times for one API call, how
 * often, how many bytes, and how often such a call ended between its writes. It changes nothing and
 * makes no unit: it only looks on.
 *
 * What is counted
 *   call      what the HTTP boundary tells (observe_call_begin() .. observe_call_end()); or, where
 *             nobody tells of one, the writes that carry the same trace-id, until none has come for
 *             OBSERVE_TRACE_IDLE_MS
 *   route     a method and a path with what looks like an identifier taken out: numbers, UUIDs,
 *             long hexadecimal texts, segments whose values differ too much (route.h)
 *   shape     of a write: command, namespace, sorted names of the filter's fields and of what is
 *             set, "update app.resources {app,project} $set{data,keyId}", never a value (shape.h)
 *   sequence  the shapes of one call, repeats in a row folded: "insert app.x one +" (sequence.h)
 *   torn      a call that ended in another way than by the service's complete answer below 400
 *             after at least one write: it may have been between its writes
 *
 * Calls are counted by (service, route, sequence). Of a trace nobody knows the first two: its
 * service is the first writer's application, its route "".
 *
 * Memory is bounded: OBSERVE_FINDINGS_MAX of these are counted, by the space-saving method
 * (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data
 * Streams", ICDT 2005): when it is full the rarest makes room and hands on its count as the new
 * one's possible error, which the report states. OBSERVE_CALLS_MAX calls are followed at a time;
 * what comes beyond is counted as missed. All in all 20 MiB, and only as much of it as is used.
 *
 * Threads: any. One mutex for each of several shards, short sections; nothing here waits.
 */

#include <bson/bson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/exposition.h"
#include "holdfast/slice.h"
#include "wire/command.h"
#include "wire/op_msg.h"
#include "wire/traceparent.h"

#define OBSERVE_FINDINGS_MAX 1024u
#define OBSERVE_CALLS_MAX 16384u
#define OBSERVE_SEQUENCE_MAX 32u /* shapes kept of one call; more are counted, not told */
#define OBSERVE_TRACE_IDLE_MS 2000u
/* An older trace is ended at its next write, though it never is idle. */
#define OBSERVE_TRACE_LIFE_MS 60000u
/* BSON bytes of findings after which the rest is left out; half as many of writes outside calls. */
#define OBSERVE_REPORT_BYTES_MAX (1024u * 1024u)

struct observe;

/* NULL: out of memory. */
struct observe *observe_new(void);
/* NULL is harmless; returns NULL. */
struct observe *observe_free(struct observe *observe);

/* Who writes. Texts are copied. */
struct observe_writer {
    const char *user;        /* "database.name", "" if not logged in */
    const char *client;      /* address:port; the port is dropped in the report */
    const char *application; /* appName, "" if none */
    uint64_t *hash; /* NULL, or what stays with this writer: 0 at first and when a text has changed.
                       Then the texts, which lie cold in memory, are not read for every write. */
};

/* How a call ended. */
enum observe_end {
    OBSERVE_ANSWERED,   /* the service's complete answer, 2xx or 3xx */
    OBSERVE_REFUSED,    /* its complete answer, 4xx or 5xx */
    OBSERVE_UNANSWERED, /* timeout, a lost service, a caller that went away */
};

#define OBSERVE_ROUTE_BYTES 257u

/* The route of a request (route.h), NUL-terminated; returns its size. */
size_t observe_route(struct observe *observe, const char *service, const char *method,
                     const char *target, char ret_route[OBSERVE_ROUTE_BYTES]);

/*
 * A call begins. `service`: its configured name; `target`: as in the request line, the query is
 * cut off. Returns its number, never 0; 0: it is not followed (counted as missed, or `observe` is
 * NULL), and every function takes 0 for "none".
 */
uint64_t observe_call_begin(struct observe *observe, const char *service, const char *method,
                            const char *target);

/*
 * A write command of call `call`; or, if `call` is 0 and `trace` is neither NULL nor none, of that
 * trace; else, and if `call` has ended, counted as a write outside any call (by writer and shape,
 * same bounds). `message_bytes`: the size of the whole command, which is what is counted as bytes;
 * of `message` only the body need be here, though shapes of what has not arrived are then told with
 * a "?". `writer` may be NULL. `observe` may be NULL: nothing is done.
 */
void observe_write(struct observe *observe, uint64_t call, const struct trace_id *trace,
                   const struct observe_writer *writer, const struct command_view *view,
                   const struct op_msg *message, size_t message_bytes);

/* The call is over. Its sequence is counted now. Harmless for 0. */
void observe_call_end(struct observe *observe, uint64_t call, enum observe_end end);

/*
 * Ends traces that have been idle. `now_ms`: clock_monotonic_ms(). To be called about once a
 * second, by anybody: it is also the clock by which writes of traces are dated.
 */
void observe_tick(struct observe *observe, uint64_t now_ms);

/*
 * Appends the report to *document:
 *
 *   calls, callsMissed    ended, and not followed, since the start
 *   findings              calls with more than one write, or with a command that writes several
 *                         documents, the most frequent first:
 *     service, route, toldBy        "http" or "trace"
 *     applications, users, clients  who wrote: up to 8 different ones of each
 *     sequence                      [shape ..]; "a +" was repeated, "(a", "b)+" both were; an
 *                                   ellipsis is its last: more than OBSERVE_SEQUENCE_MAX
 *     writesPerCall                 {min, max, mean}
 *     calls, callsError             at most, and by how much that may be too high; other figures
 *                                   are of the (calls - callsError) that were certainly seen
 *     torn, bytes
 *     suggestion                    the boundary that fits, in a sentence
 *   findingsLeftOut       because of OBSERVE_REPORT_BYTES_MAX
 *   outsideCalls          writes outside any call, the most frequent first:
 *     application, user, client, shape, writes, writesError, bytes
 *     suggestion                    only if one command writes several documents
 *   outsideLeftOut
 */
void observe_report(struct observe *observe, bson_t *document);

/* Its counters for the metrics page. */
void observe_metrics(struct observe *observe, struct exposition *page);

#endif
