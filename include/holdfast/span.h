#ifndef HOLDFAST_SPAN_H
#define HOLDFAST_SPAN_H

/*
 * Tracing, as far as who is traced needs it: which trace something belongs to, and the telling of a
 * span that has ended. Who takes them (telemetry/telemetry.h) stands behind a sink that main()
 * sets.
 *
 *   span_continue() or span_root()  -->  struct span_context, kept by a unit or a command
 *   ... it ends ...                 -->  span_end(), if span_is_wanted()
 *
 * Nothing here waits, allocates or takes a lock, but what the sink does. Without a sink a unit
 * still carries the trace that its caller named, for the log; no span identifier is made.
 *
 * Threads: any; the sink is set before others run and taken away after they have ended.
 */

#include <stdbool.h>
#include <stdint.h>

#define SPAN_TRACE_BYTES 16
#define SPAN_ID_BYTES 8

struct span_context {
    uint8_t trace_id[SPAN_TRACE_BYTES]; /* zeros: no trace */
    uint8_t span_id[SPAN_ID_BYTES];     /* its own; zeros: it is not recorded */
    uint8_t parent_id[SPAN_ID_BYTES];   /* zeros: it is the root */
    bool sampled;
};

/* What may ask for a span of its own. */
enum span_kind {
    SPAN_INTERNAL,
    SPAN_SERVER, /* an API call */
    SPAN_CLIENT, /* a command of the database */
};

/* One that has ended. Texts are cut where they do not fit; "" and 0 are not told. Never what
   documents, filters or updates hold. */
struct span {
    struct span_context context;
    uint8_t linked_trace_id[SPAN_TRACE_BYTES]; /* what its comment named; zeros: nothing */
    uint8_t linked_span_id[SPAN_ID_BYTES];
    enum span_kind kind;
    bool failed;
    uint64_t started_us; /* wall clock */
    uint64_t ended_us;
    uint64_t unit;
    const char *boundary; /* literals, NULL: none */
    const char *outcome;
    const char *reason;
    int32_t code; /* of the answer to a command that failed */
    char name[160];
    char operation[48];
    char database[64];
    char collection[128];
    char user[128];
    char application[128];
    char client[64];
};

struct span_sink {
    /* Copies it, or drops and counts it. Must not block. */
    void (*take)(void *context, const struct span *span);
    void *context;
    uint32_t root_parts; /* of a million traces that begin here, so many are recorded */
};

/* NULL: no spans are wanted. `sink` is copied. */
void span_set_sink(const struct span_sink *sink);

bool span_is_on(void);

/* `parent`: the span that was named, with its trace and whether it is recorded. */
void span_continue(const uint8_t trace_id[SPAN_TRACE_BYTES], const uint8_t parent[SPAN_ID_BYTES],
                   bool sampled, struct span_context *ret_context);

/* A trace of its own, if spans are wanted; else none (zeros). */
void span_root(struct span_context *ret_context);

/* A span inside of `parent`; none of one that is none. */
void span_child(const struct span_context *parent, struct span_context *ret_context);

/* Whether a span of this context is to be told when it ends. */
bool span_is_wanted(const struct span_context *context);

void span_end(const struct span *span);

#endif
