#ifndef HOLDFAST_BENCH_OPTIONS_H
#define HOLDFAST_BENCH_OPTIONS_H

/* The command line of holdfast-bench. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "holdfast/error.h"
#include "net/listener.h"

/* One list makes the enum, the names and the help. */
#define BENCH_LOAD_LIST(X)                                                                         \
    X(POINT_READ, "point-read", "find of one document by _id")                                     \
    X(POINT_WRITE, "point-write", "update ($inc) of one document by _id, without a session")       \
    X(UNIT, "unit", "driver transaction: three updates and commitTransaction")                     \
    X(CONTENDED, "contended",                                                                      \
      "driver transaction: increment a document that all do, and an own one")                      \
    X(LARGE_READ, "large-read", "find that returns --bytes in one reply")                          \
    X(IDLE, "idle", "connections that say hello and are held open")                                \
    X(CALLS, "calls", "HTTP/1.1 requests to a service, or to holdfastd in front of one")

enum bench_load {
#define X(name, text, help) BENCH_LOAD_##name,
    BENCH_LOAD_LIST(X)
#undef X
};

/* "point-read", ... */
const char *bench_load_name(enum bench_load load);

#define BENCH_CONNECTIONS_MAX 50000u
#define BENCH_DOCUMENTS_MAX 10000000u
/* A reply holds at most 16 MB of documents. */
#define BENCH_BYTES_MAX 15000000u
#define BENCH_PIDS_MAX 16u
#define BENCH_WRITES_MAX 1000u

struct bench_options {
    enum bench_load load;
    const char *target;             /* as given; `address` is what it resolved to */
    struct network_address address; /* of `target`, or of `mongo` */
    uint32_t connections;           /* 1 to BENCH_CONNECTIONS_MAX */
    uint32_t documents;             /* 1 to BENCH_DOCUMENTS_MAX; large-read: unused */
    uint32_t bytes;      /* of documents in a reply of large-read, up to BENCH_BYTES_MAX */
    uint64_t seconds_ns; /* measured time, nanoseconds, at most an hour */
    uint64_t warmup_ns;
    pid_t pids[BENCH_PIDS_MAX]; /* whose CPU time and memory are reported */
    size_t pid_count;
    uint32_t hot;   /* contended: documents that all connections increment */
    uint32_t plain; /* contended: connections that do so without transactions, 0 to connections */
    bool blind;     /* contended: transactions do not read first */
    bool serializable; /* transactions say that they are */
    bool by_filter;    /* contended: the hot document is read by another filter than its _id */
    bool json;
    const char *method; /* calls: of its requests */
    const char *path;
    const char *listen; /* service: HOST:PORT, where it serves */
    const char *mongo;  /* service: HOST:PORT, to which its writes go; NULL: it writes nothing */
    uint32_t writes;    /* service: of each call, 1 to BENCH_WRITES_MAX */
    uint64_t work_ns;   /* service: how long a call takes before its writes */
};

enum bench_action {
    BENCH_RUN,
    BENCH_SERVE, /* "service" in place of a load: service.h */
    BENCH_HELP,
    BENCH_VERSION,
};

/*
 * Reads the arguments and resolves --target or --mongo. Errors: STATUS_INVALID, STATUS_UNREACHABLE;
 * the message names the option. Texts in *ret_options point into `arguments`.
 */
MUST_CHECK enum status bench_options_parse(int argument_count, char **arguments,
                                           enum bench_action *ret_action,
                                           struct bench_options *ret_options,
                                           struct error *ret_error);

/* Prints the manual to standard output. */
void bench_options_help(void);

#endif
