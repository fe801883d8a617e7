#ifndef HOLDFAST_OBSERVE_OBSERVE_H
#define HOLDFAST_OBSERVE_OBSERVE_H

/*
 * The observe report: which service, by which route, writes several times for one API call, how
 * often, how many bytes, and how often such a call ended between its writes. It changes nothing and
 * makes no unit: it only looks on.
 *
 * What is counted
 *   A call is what the HTTP boundary tells (observe_call_begin() .. observe_call_end()), or, where
 *   nobody tells of one, the writes that carry the same traceparent until none has come for
 *   OBSERVE_TRACE_IDLE_MS.
 *   Calls are counted by (service, route) and, within that, by the sequence of their writes'
 * shapes. A route is a method and a path with what looks like an identifier taken out: numbers,
 * UUIDs, long hexadecimal texts, and segments whose values differ too much (bounded, see below). A
 * shape is a command's name, its namespace, the sorted field names of its filter and of what it
 *   sets ("update app.resources {app,project} $set{data,keyId}"), never a value. A shape that
 *   repeats in a row is told once with a "+" ("insert app.x {..} +").
 *   A call is torn if it ended in another way than by the service's complete answer below 400 after
 *   at least one write: such a call may have been between its writes.
 *
 * Memory is bounded: OBSERVE_FINDINGS_MAX counted (service, route, sequence), by the space-saving
 * method (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in
 * Data Streams", ICDT 2005): when it is full the rarest makes room and hands on its count as the
 * new one's possible error, which the report states. OBSERVE_CALLS_MAX calls are followed at a
 * time; what comes beyond is counted as missed.
 *
 * Threads: any. One mutex for each of several shards, short sections; nothing here waits.
 */

#include <bson/bson.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/slice.h"
#include "wire/command.h"
#include "wire/op_msg.h"
#include "wire/traceparent.h"

#define OBSERVE_FINDINGS_MAX 1024u
#define OBSERVE_CALLS_MAX 16384u
#define OBSERVE_SEQUENCE_MAX 32u /* shapes kept of one call; more are counted, not told */
#define OBSERVE_TRACE_IDLE_MS 2000u

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
};

/* How a call ended. */
enum observe_end {
    OBSERVE_ANSWERED,   /* the service's complete answer, 2xx or 3xx */
    OBSERVE_REFUSED,    /* its complete answer, 4xx or 5xx */
    OBSERVE_UNANSWERED, /* timeout, a lost service, a caller that went away */
};

/*
 * A call begins. `service`: its configured name; `target`: as in the request line, the query is
 * cut off. Returns its number, never 0; 0: it is not followed (counted as missed), and every
 * function takes 0 for "none".
 */
uint64_t observe_call_begin(struct observe *observe, const char *service, const char *method,
                            const char *target);

/*
 * A write command of call `call`; or, if `call` is 0 and `trace` is not NULL, of that trace; else
 * counted as a write outside any call (by writer and shape, same bounds). `message` is the whole
 * command: its size is what is counted as bytes. `observe` may be NULL: nothing is done.
 */
void observe_write(struct observe *observe, uint64_t call, const struct trace_id *trace,
                   const struct observe_writer *writer, const struct command_view *view,
                   const struct op_msg *message, size_t message_bytes);

/* The call is over. Its sequence is counted now. Harmless for 0. */
void observe_call_end(struct observe *observe, uint64_t call, enum observe_end end);

/* Ends traces that have been idle. `now_ms`: monotonic. Called every now and then by anybody. */
void observe_tick(struct observe *observe, uint64_t now_ms);

/*
 * Appends the report to *document:
 *   { calls, callsMissed, findings: [ { service, route, applications: [..], users: [..], clients:
 *     [..], sequence: [shape..], writesPerCall: {min, max, mean}, calls, callsError, torn, bytes,
 *     suggestion } .. ],             those with more than one write a call, most calls first
 *     outsideCalls: [ {application, user, client, shape, writes} .. ] }
 * `suggestion` names the boundary that fits, in a sentence.
 */
void observe_report(struct observe *observe, bson_t *document);

/* Counters for the metrics page, in the Prometheus text format; to be given to free(). NULL: out of
   memory. */
char *observe_metrics(struct observe *observe);

#endif
