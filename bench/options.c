/*
 * Command line of holdfast-bench. Threads: main only.
 */
#include "bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS_MAX 3600.0

static const struct {
    const char *name;
    const char *help;
} loads[] = {
#define X(name, text, help) [BENCH_LOAD_##name] = {text, help},
    BENCH_LOAD_LIST(X)
#undef X
};

#define LOAD_COUNT (sizeof loads / sizeof loads[0])

enum option_letter {
    OPTION_TARGET = 256,
    OPTION_CONNECTIONS,
    OPTION_SECONDS,
    OPTION_WARMUP,
    OPTION_DOCUMENTS,
    OPTION_BYTES,
    OPTION_PID,
    OPTION_JSON,
};

static const struct option long_options[] = {
    {"target", required_argument, NULL, OPTION_TARGET},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"warmup", required_argument, NULL, OPTION_WARMUP},
    {"documents", required_argument, NULL, OPTION_DOCUMENTS},
    {"bytes", required_argument, NULL, OPTION_BYTES},
    {"pid", required_argument, NULL, OPTION_PID},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

const char *bench_load_name(enum bench_load load)
{
    return loads[load].name;
}

static enum status take_number(const char *option, uint32_t most, uint32_t *ret_number,
                               struct error *ret_error)
{
    char *end = NULL;
    errno = 0;
    unsigned long number = strtoul(optarg, &end, 10);
    if (optarg[0] < '0' || optarg[0] > '9' || end[0] != '\0' || errno != 0 || number < 1 ||
        number > most) {
        return error_set(ret_error, STATUS_INVALID, "%s %.50s: expected a number from 1 to %u",
                         option, optarg, most);
    }
    *ret_number = (uint32_t)number;
    return STATUS_OK;
}

static enum status take_seconds(const char *option, double least, uint64_t *ret_ns,
                                struct error *ret_error)
{
    char *end = NULL;
    double seconds = strtod(optarg, &end);
    if (end == optarg || end[0] != '\0' || !isfinite(seconds) || seconds < least ||
        seconds > SECONDS_MAX) {
        return error_set(ret_error, STATUS_INVALID, "%s %.50s: expected seconds from %g to %g",
                         option, optarg, least, SECONDS_MAX);
    }
    *ret_ns = (uint64_t)(seconds * 1e9);
    return STATUS_OK;
}

static enum status take_pid(struct bench_options *options, struct error *ret_error)
{
    uint32_t number = 0;
    if (options->pid_count == BENCH_PIDS_MAX) {
        return error_set(ret_error, STATUS_INVALID, "--pid: at most %u processes", BENCH_PIDS_MAX);
    }
    enum status status = take_number("--pid", INT32_MAX, &number, ret_error);
    if (status == STATUS_OK) {
        options->pids[options->pid_count++] = (pid_t)number;
    }
    return status;
}

static enum status take_option(int letter, struct bench_options *options, enum bench_action *action,
                               char **arguments, struct error *ret_error)
{
    switch (letter) {
    case OPTION_TARGET:
        options->target = optarg;
        return STATUS_OK;
    case OPTION_CONNECTIONS:
        return take_number("--connections", BENCH_CONNECTIONS_MAX, &options->connections,
                           ret_error);
    case OPTION_SECONDS:
        return take_seconds("--seconds", 0.1, &options->seconds_ns, ret_error);
    case OPTION_WARMUP:
        return take_seconds("--warmup", 0, &options->warmup_ns, ret_error);
    case OPTION_DOCUMENTS:
        return take_number("--documents", BENCH_DOCUMENTS_MAX, &options->documents, ret_error);
    case OPTION_BYTES:
        return take_number("--bytes", BENCH_BYTES_MAX, &options->bytes, ret_error);
    case OPTION_PID:
        return take_pid(options, ret_error);
    case OPTION_JSON:
        options->json = true;
        return STATUS_OK;
    case 'h':
        *action = BENCH_HELP;
        return STATUS_OK;
    case 'V':
        *action = BENCH_VERSION;
        return STATUS_OK;
    case ':':
        return error_set(ret_error, STATUS_INVALID, "%.100s needs a value", arguments[optind - 1]);
    default:
        return error_set(ret_error, STATUS_INVALID, "unknown option %.100s", arguments[optind - 1]);
    }
}

static enum status take_load(int count, char **words, struct bench_options *options,
                             struct error *ret_error)
{
    if (count == 0) {
        return error_set(ret_error, STATUS_INVALID, "which load? See holdfast-bench --help");
    }
    if (count > 1) {
        return error_set(ret_error, STATUS_INVALID, "unexpected %.100s", words[1]);
    }
    for (size_t i = 0; i < LOAD_COUNT; i++) {
        if (strcmp(words[0], loads[i].name) == 0) {
            options->load = (enum bench_load)i;
            return STATUS_OK;
        }
    }
    return error_set(ret_error, STATUS_INVALID, "there is no load %.50s; see holdfast-bench --help",
                     words[0]);
}

/* Each connection writes documents of its own, so that no connection waits for another. */
static enum status check_documents(const struct bench_options *options, struct error *ret_error)
{
    uint32_t each = options->load == BENCH_LOAD_UNIT          ? 3
                    : options->load == BENCH_LOAD_POINT_WRITE ? 1
                                                              : 0;
    if (options->documents / options->connections < each) {
        return error_set(
            ret_error, STATUS_INVALID, "--documents %u: %s needs %u for each of %u connections",
            options->documents, bench_load_name(options->load), each, options->connections);
    }
    return STATUS_OK;
}

enum status bench_options_parse(int argument_count, char **arguments, enum bench_action *ret_action,
                                struct bench_options *ret_options, struct error *ret_error)
{
    struct bench_options options = {
        .connections = 1,
        .documents = 10000,
        .bytes = 1000000,
        .seconds_ns = 10000000000u,
        .warmup_ns = 1000000000u,
    };
    enum bench_action action = BENCH_RUN;
    enum status status = STATUS_OK;
    int letter;
    optind = 0; /* so that tests may call this more than once */
    while ((letter = getopt_long(argument_count, arguments, ":hV", long_options, NULL)) != -1) {
        status = take_option(letter, &options, &action, arguments, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (action == BENCH_RUN) {
        status = take_load(argument_count - optind, arguments + optind, &options, ret_error);
        if (status == STATUS_OK && options.target == NULL) {
            status = error_set(ret_error, STATUS_INVALID, "--target HOST:PORT is missing");
        }
        if (status == STATUS_OK) {
            status = check_documents(&options, ret_error);
        }
        if (status == STATUS_OK) {
            status = network_address_resolve(options.target, &options.address, ret_error);
        }
    }
    if (status == STATUS_OK) {
        *ret_action = action;
        *ret_options = options;
    }
    return status;
}

void bench_options_help(void)
{
    fputs("Usage: holdfast-bench LOAD --target HOST:PORT [OPTION]...\n"
          "\n"
          "Puts load on a MongoDB server, on holdfastd or on another proxy, and measures it. Each\n"
          "connection sends its next operation when the last one is answered.\n"
          "\n"
          "Loads:\n",
          stdout);
    for (size_t i = 0; i < LOAD_COUNT; i++) {
        printf("  %-12s  %s\n", loads[i].name, loads[i].help);
    }
    fputs("\n"
          "Options:\n"
          "  --target HOST:PORT  whom to ask (required); no TLS, no login\n"
          "  --connections N     1 (default) to 50000\n"
          "  --seconds S         measured time, 10 by default\n"
          "  --warmup S          load before that, which is not measured, 1 by default\n"
          "  --documents N       documents of 200 bytes to work on, 10000 by default\n"
          "  --bytes N           large-read: bytes of documents a reply, 1000000 by default\n"
          "  --pid PID           report CPU time and memory of this process; up to 16 times\n"
          "  --json              one line of JSON instead of text\n"
          "  --help, --version\n"
          "\n"
          "The documents are made first, in the database holdfast_bench, unless they are there\n"
          "from an earlier run; they stay. Point it at no server whose data you would miss.\n"
          "\n"
          "An error reply, a reply that says something else than expected and a connection that\n"
          "ends are errors; the first one is told. Transactions that are told to try again\n"
          "(TransientTransactionError) do so and are counted as retries; their latency counts\n"
          "from the first try.\n"
          "\n"
          "Example: holdfast-bench unit --target localhost:27018 --connections 32 --pid 4711\n"
          "\n"
          "Exit codes: 0 no error, 1 errors were counted, 2 could not run.\n",
          stdout);
}
