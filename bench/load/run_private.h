#ifndef HOLDFAST_BENCH_RUN_PRIVATE_H
#define HOLDFAST_BENCH_RUN_PRIVATE_H

/* What run.c and run_connection.c share. */

#include "base/buffer.h"
#include "bench/load/documents.h"
#include "bench/load/keys.h"
#include "bench/load/pace.h"
#include "bench/load/run.h"
#include "bench/load/script.h"

enum connection_state {
    CONNECTION_AT_WORK,
    CONNECTION_RESTING,
    CONNECTION_CLOSED,
};

struct connection {
    int descriptor;
    enum connection_state state;
    struct script *script;
    uint64_t meant_ns;      /* when the operation at work was meant to begin, retries included */
    uint64_t begun_ns;      /* when it began */
    uint64_t measured;      /* operations that ended in the measured time */
    struct buffer incoming; /* a reply that is not whole yet */
    uint32_t dropping;      /* bytes of a large reply that are still to come */
};

enum phase {
    PHASE_WARMUP,
    PHASE_MEASURED,
    PHASE_DRAIN,
};

struct bench {
    const struct load_options *options;
    const struct run_watcher *watcher;
    struct documents documents;
    struct keys keys;
    struct connection *connections;
    uint32_t opened; /* connections that are set up */
    uint32_t at_work;
    uint32_t alive;
    bool is_open; /* the loop; then pace says when operations begin */
    struct pace pace;
    uint32_t *resting; /* open loop: connections without an operation, a stack */
    uint32_t resting_count;
    int epoll;
    enum phase phase;
    uint64_t phase_end_ns;
    uint64_t measured_from_ns;
    uint64_t own_cpu_before_ns;
    uint64_t told_ns; /* when the watcher was */
    uint64_t told_operations;
    uint8_t *receive_buffer;
    struct run_result *result;
};

/* run.c */
void run_count_error(struct bench *bench, const char *message);
/* Goes on to the phase of that time. */
void run_advance(struct bench *bench, uint64_t now);

/* run_connection.c */
void run_connection_close(struct bench *bench, struct connection *connection);
/* Begins its next operation, or lets it rest. */
void run_connection_begin(struct bench *bench, struct connection *connection, uint64_t now);
/* Open loop: begins what is due, as far as connections rest. */
void run_connections_begin_due(struct bench *bench, uint64_t now);
void run_connection_readable(struct bench *bench, struct connection *connection);

#endif
