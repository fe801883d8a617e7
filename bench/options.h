#ifndef HOLDFAST_BENCH_OPTIONS_H
#define HOLDFAST_BENCH_OPTIONS_H

/* The command line of holdfast-bench. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load/load.h"
#include "holdfast/error.h"

#define BENCH_TARGETS_MAX 12u
#define BENCH_LIST_MAX 16u
#define BENCH_ROUNDS_MAX 1000u

/* One list makes the enum and the names. */
#define BENCH_COMMAND_LIST(X)                                                                      \
    X(RUN, "")            /* loads: suite.h */                                                     \
    X(SERVICE, "service") /* a stub service: stub/service.h */                                     \
    X(RELAY, "relay")     /* moves bytes: peer/relay.h */                                          \
    X(INSTANT, "instant") /* a fake server: peer/instant.h */

enum bench_command {
#define X(name, text) BENCH_##name,
    BENCH_COMMAND_LIST(X)
#undef X
        BENCH_HELP,
    BENCH_VERSION,
};

/* Numbers that were given as 1,8,32; each is measured. */
struct bench_list {
    double values[BENCH_LIST_MAX];
    size_t count;
};

struct bench_texts {
    const char *values[BENCH_TARGETS_MAX];
    size_t count;
};

/* Of service, relay and instant. */
struct bench_serve {
    const char *listen;             /* HOST:PORT, where it serves */
    const char *local;              /* instant: and unix:/PATH; NULL: only there */
    const char *mongo;              /* service: HOST:PORT of its writes; NULL: it writes nothing */
    struct network_address address; /* service: of `mongo`; others: of `--target` */
    uint32_t connections;           /* service: to `mongo` */
    uint32_t documents;
    uint32_t first_document;
    uint32_t writes;  /* of each call, 1 to LOAD_WRITES_MAX */
    uint64_t work_ns; /* how long a call takes before its writes */
    uint32_t threads; /* relay */
};

struct bench_options {
    enum load_kind loads[LOAD_COUNT];
    size_t load_count;
    struct load_options load;   /* what all have in common */
    struct bench_texts targets; /* as given; the first is --target, the others are --vs */
    bool peers;
    const char *upstream;  /* HOST:PORT, in front of which peers are started */
    const char *server;    /* or a program, with words behind commas */
    const char *holdfastd; /* NULL: beside this program, or on PATH */
    uint32_t threads;      /* of peers */
    struct bench_list connections;
    struct bench_list rates; /* none: closed loop */
    struct bench_list writes;
    struct bench_list units; /* recovery */
    enum load_boundary boundaries[LOAD_BOUNDARY_COUNT];
    size_t boundary_count;
    uint32_t kills; /* crash-loss */
    uint32_t rounds;
    const char *directory; /* where what is started keeps its files */
    const char *output;    /* a folder for the reports; NULL: none */
    const char *compare;   /* an earlier report.json */
    double tolerance;      /* percent; 0: differences are told, not judged */
    bool json;
    bool quiet;
    struct bench_serve serve;
};

/*
 * Reads the arguments; resolves the addresses of what serves. Errors: STATUS_INVALID,
 * STATUS_UNREACHABLE; the message names the option. Texts in *ret_options point into `arguments`.
 */
MUST_CHECK enum status bench_options_parse(int argument_count, char **arguments,
                                           enum bench_command *ret_command,
                                           struct bench_options *ret_options,
                                           struct error *ret_error);

/* Whether one load is to be run once against one target, and only printed. */
bool bench_options_single(const struct bench_options *options);

/* Prints the manual to standard output. */
void bench_options_help(void);

#endif
