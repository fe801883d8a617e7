#ifndef HOLDFAST_BENCH_LOAD_H
#define HOLDFAST_BENCH_LOAD_H

/* What may be measured, and the options of one run of it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "net/listener.h"

/* One list makes the enum, the names and the help. YCSB's are those of its core workloads. */
#define LOAD_LIST(X)                                                                               \
    X(POINT_READ, "point-read", "find of one document by _id")                                     \
    X(POINT_WRITE, "point-write", "update ($inc) of one document by _id, without a session")       \
    X(INSERT, "insert", "insert of one document")                                                  \
    X(YCSB_A, "ycsb-a", "1/2 reads, 1/2 updates; which documents: zipfian, as in b, c, e, f")      \
    X(YCSB_B, "ycsb-b", "95 % reads, 5 % updates")                                                 \
    X(YCSB_C, "ycsb-c", "reads only")                                                              \
    X(YCSB_D, "ycsb-d", "95 % reads, of the latest documents mostly, 5 % inserts")                 \
    X(YCSB_E, "ycsb-e", "95 % finds of up to 100 documents in order, 5 % inserts")                 \
    X(YCSB_F, "ycsb-f", "1/2 reads, 1/2 read, change, write back")                                 \
    X(LARGE_READ, "large-read", "find that returns --bytes in one reply")                          \
    X(CHANGE_STREAM, "change-stream", "update, and the getMore that brings its event")             \
    X(UNIT, "unit", "--writes updates as one unit, made by --boundary")                            \
    X(CONTENDED, "contended",                                                                      \
      "driver transaction: increment a document that all do, and an own one")                      \
    X(ACCOUNTS, "accounts", "driver transaction: read two of --hot accounts, move 1 between them") \
    X(IDLE, "idle", "connections that say hello and are held open")                                \
    X(CALLS, "calls", "HTTP/1.1 requests to a service, or to holdfastd in front of one")           \
    X(FLOOR, "floor", "no target: append --bytes to a file and sync it, for each and in groups")   \
    X(RECOVERY, "recovery",                                                                        \
      "a started holdfastd, killed with --units in its journal: the restart")                      \
    X(CRASH_LOSS, "crash-loss", "kills what was started under load, counts what is lost")

enum load_kind {
#define X(name, text, help) LOAD_##name,
    LOAD_LIST(X)
#undef X
        LOAD_COUNT,
};

/* Where the units of LOAD_UNIT begin and end. */
#define LOAD_BOUNDARY_LIST(X)                                                                      \
    X(PLAIN, "plain", "none: single updates, each on its own")                                     \
    X(DRIVER, "driver", "a driver transaction")                                                    \
    X(COMMENT, "comment", "named in the updates' comments")                                        \
    X(SINGLE, "single", "one command with all updates")                                            \
    X(HTTP, "http", "an HTTP call to a stub service, which writes through the target")

enum load_boundary {
#define X(name, text, help) LOAD_BOUNDARY_##name,
    LOAD_BOUNDARY_LIST(X)
#undef X
        LOAD_BOUNDARY_COUNT,
};

/* "point-read", ... */
const char *load_name(enum load_kind kind);
const char *load_help(enum load_kind kind);
const char *load_boundary_name(enum load_boundary boundary);

#define LOAD_CONNECTIONS_MAX 50000u
#define LOAD_DOCUMENTS_MAX 10000000u
/* A reply holds at most 16 MB of documents. */
#define LOAD_BYTES_MAX 15000000u
#define LOAD_PIDS_MAX 16u
#define LOAD_WRITES_MAX 1000u
/* Of one unit: each write is a request of its own that every connection keeps ready. */
#define LOAD_UNIT_WRITES_MAX 100u

struct load_options {
    enum load_kind kind;
    const char *target;             /* as given; `address` is what it resolved to */
    struct network_address address; /* of `target` */
    uint32_t connections;           /* 1 to LOAD_CONNECTIONS_MAX */
    uint32_t documents;             /* 1 to LOAD_DOCUMENTS_MAX; large-read: unused */
    uint32_t bytes;                 /* large-read: of documents in a reply; floor: of a record */
    double rate;         /* operations a second that are begun; 0: each when the last has ended */
    uint64_t seconds_ns; /* measured time, nanoseconds, at most an hour */
    uint64_t warmup_ns;
    pid_t pids[LOAD_PIDS_MAX]; /* whose CPU time and memory are reported */
    size_t pid_count;
    uint32_t hot;   /* contended, accounts: documents that all connections write */
    uint32_t plain; /* contended: connections that do so without transactions, 0 to connections */
    bool blind;     /* contended: transactions do not read first */
    bool serializable; /* transactions say that they are */
    bool by_filter;    /* contended: the hot document is read by another filter than _id */
    enum load_boundary boundary; /* unit */
    uint32_t writes;             /* unit: 1 to LOAD_UNIT_WRITES_MAX */
    double zipf;                 /* ycsb: the constant of its distribution, above 0 and below 1 */
    bool after_find;             /* idle: each connection has asked for one document before */
    const char *method;          /* calls: of its requests */
    const char *path;
    uint64_t *acknowledged; /* operations of each connection are counted there; NULL: nowhere */
};

/* Whether it speaks HTTP to its target. */
bool load_is_http(const struct load_options *options);
/* Whether it asks a target, by run.h. */
bool load_is_run(enum load_kind kind);
/* Whether the documents are those of YCSB. */
static inline bool load_is_ycsb(enum load_kind kind)
{
    return kind >= LOAD_YCSB_A && kind <= LOAD_YCSB_F;
}
/* Whether its operations may be begun at a constant rate. */
bool load_has_operations(enum load_kind kind);

#endif
