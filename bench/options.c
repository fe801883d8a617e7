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
#define WORK_MS_MAX 60000.0
#define SERVICE_CONNECTIONS 32u

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
    OPTION_HOT,
    OPTION_PLAIN,
    OPTION_BLIND,
    OPTION_BY_FILTER,
    OPTION_SERIALIZABLE,
    OPTION_PID,
    OPTION_JSON,
    OPTION_METHOD,
    OPTION_PATH,
    OPTION_LISTEN,
    OPTION_MONGO,
    OPTION_WRITES,
    OPTION_WORK,
};

static const struct option long_options[] = {
    {"target", required_argument, NULL, OPTION_TARGET},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"warmup", required_argument, NULL, OPTION_WARMUP},
    {"documents", required_argument, NULL, OPTION_DOCUMENTS},
    {"bytes", required_argument, NULL, OPTION_BYTES},
    {"hot", required_argument, NULL, OPTION_HOT},
    {"plain", required_argument, NULL, OPTION_PLAIN},
    {"blind", no_argument, NULL, OPTION_BLIND},
    {"by-filter", no_argument, NULL, OPTION_BY_FILTER},
    {"serializable", no_argument, NULL, OPTION_SERIALIZABLE},
    {"pid", required_argument, NULL, OPTION_PID},
    {"json", no_argument, NULL, OPTION_JSON},
    {"method", required_argument, NULL, OPTION_METHOD},
    {"path", required_argument, NULL, OPTION_PATH},
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"mongo", required_argument, NULL, OPTION_MONGO},
    {"writes", required_argument, NULL, OPTION_WRITES},
    {"work", required_argument, NULL, OPTION_WORK},
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

/* Milliseconds, as a number or as 5ms. */
static enum status take_work(uint64_t *ret_ns, struct error *ret_error)
{
    char *end = NULL;
    double ms = strtod(optarg, &end);
    if (end == optarg || (end[0] != '\0' && strcmp(end, "ms") != 0) || !isfinite(ms) || ms < 0 ||
        ms > WORK_MS_MAX) {
        return error_set(ret_error, STATUS_INVALID, "--work %.50s: expected milliseconds up to %g",
                         optarg, WORK_MS_MAX);
    }
    *ret_ns = (uint64_t)(ms * 1e6);
    return STATUS_OK;
}

/* What may stand in the first line of a request. */
static enum status take_word(const char *option, char first, const char **ret_word,
                             struct error *ret_error)
{
    size_t size = strlen(optarg);
    bool valid = size > 0 && size < 200 && strcmp(optarg, "HEAD") != 0 &&
                 (first == '\0' || optarg[0] == first);
    for (size_t i = 0; i < size; i++) {
        valid = valid && optarg[i] > ' ' && optarg[i] < 0x7f;
    }
    if (!valid) {
        return error_set(ret_error, STATUS_INVALID, "%s %.50s: expected %s", option, optarg,
                         first == '/' ? "a path, as /calls" : "a word, as POST");
    }
    *ret_word = optarg;
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

/* Those of contended, and of transactions; STATUS_NOT_FOUND: none of them. */
static enum status take_contended_option(int letter, struct bench_options *options,
                                         struct error *ret_error)
{
    switch (letter) {
    case OPTION_HOT:
        return take_number("--hot", BENCH_DOCUMENTS_MAX, &options->hot, ret_error);
    case OPTION_PLAIN:
        return take_number("--plain", BENCH_CONNECTIONS_MAX, &options->plain, ret_error);
    case OPTION_BLIND:
        options->blind = true;
        return STATUS_OK;
    case OPTION_BY_FILTER:
        options->by_filter = true;
        return STATUS_OK;
    case OPTION_SERIALIZABLE:
        options->serializable = true;
        return STATUS_OK;
    default:
        return STATUS_NOT_FOUND;
    }
}

/* Those of calls and service; STATUS_NOT_FOUND: none of them. */
static enum status take_call_option(int letter, struct bench_options *options,
                                    struct error *ret_error)
{
    switch (letter) {
    case OPTION_METHOD:
        return take_word("--method", '\0', &options->method, ret_error);
    case OPTION_PATH:
        return take_word("--path", '/', &options->path, ret_error);
    case OPTION_LISTEN:
        options->listen = optarg;
        return STATUS_OK;
    case OPTION_MONGO:
        options->mongo = optarg;
        return STATUS_OK;
    case OPTION_WRITES:
        return take_number("--writes", BENCH_WRITES_MAX, &options->writes, ret_error);
    case OPTION_WORK:
        return take_work(&options->work_ns, ret_error);
    default:
        return STATUS_NOT_FOUND;
    }
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
    case '?':
        return error_set(ret_error, STATUS_INVALID, "unknown option %.100s", arguments[optind - 1]);
    default:
        break;
    }
    enum status status = take_contended_option(letter, options, ret_error);
    return status == STATUS_NOT_FOUND ? take_call_option(letter, options, ret_error) : status;
}

static enum status take_load(int count, char **words, struct bench_options *options,
                             enum bench_action *action, struct error *ret_error)
{
    if (count == 0) {
        return error_set(ret_error, STATUS_INVALID, "which load? See holdfast-bench --help");
    }
    if (count > 1) {
        return error_set(ret_error, STATUS_INVALID, "unexpected %.100s", words[1]);
    }
    if (strcmp(words[0], "service") == 0) {
        *action = BENCH_SERVE;
        return STATUS_OK;
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

static enum status check_contended(const struct bench_options *options, struct error *ret_error)
{
    if (options->load != BENCH_LOAD_CONTENDED) {
        return STATUS_OK;
    }
    if (options->plain > options->connections) {
        return error_set(ret_error, STATUS_INVALID, "--plain %u: more than the %u connections",
                         options->plain, options->connections);
    }
    if ((uint64_t)options->hot + options->connections > options->documents) {
        return error_set(ret_error, STATUS_INVALID,
                         "--documents %u: contended needs %u hot ones, and one for each of %u "
                         "connections",
                         options->documents, options->hot, options->connections);
    }
    return STATUS_OK;
}

static enum status check_load(struct bench_options *options, struct error *ret_error)
{
    if (options->target == NULL) {
        return error_set(ret_error, STATUS_INVALID, "--target HOST:PORT is missing");
    }
    options->connections = options->connections == 0 ? 1 : options->connections;
    enum status status = check_documents(options, ret_error);
    if (status == STATUS_OK) {
        status = check_contended(options, ret_error);
    }
    return status == STATUS_OK
               ? network_address_resolve(options->target, &options->address, ret_error)
               : status;
}

static enum status check_service(struct bench_options *options, struct error *ret_error)
{
    if (options->listen == NULL) {
        return error_set(ret_error, STATUS_INVALID, "--listen HOST:PORT is missing");
    }
    if (options->connections == 0) {
        options->connections = SERVICE_CONNECTIONS;
    }
    return options->mongo == NULL
               ? STATUS_OK
               : network_address_resolve(options->mongo, &options->address, ret_error);
}

enum status bench_options_parse(int argument_count, char **arguments, enum bench_action *ret_action,
                                struct bench_options *ret_options, struct error *ret_error)
{
    struct bench_options options = {
        .documents = 10000,
        .bytes = 1000000,
        .hot = 1,
        .seconds_ns = 10000000000u,
        .warmup_ns = 1000000000u,
        .method = "POST",
        .path = "/calls",
        .writes = 2,
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
        status =
            take_load(argument_count - optind, arguments + optind, &options, &action, ret_error);
        if (status == STATUS_OK) {
            status = action == BENCH_SERVE ? check_service(&options, ret_error)
                                           : check_load(&options, ret_error);
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
          "       holdfast-bench service --listen HOST:PORT [OPTION]...\n"
          "\n"
          "Puts load on a MongoDB server, on holdfastd or on another proxy, and measures it. Each\n"
          "connection sends its next operation when the last one is answered.\n"
          "\n"
          "Loads:\n",
          stdout);
    for (size_t i = 0; i < LOAD_COUNT; i++) {
        printf("  %-12s  %s\n", loads[i].name, loads[i].help);
    }
    fputs(
        "\n"
        "Options:\n"
        "  --target HOST:PORT  whom to ask (required); no TLS, no login\n"
        "  --connections N     1 (default) to 50000\n"
        "  --seconds S         measured time, 10 by default\n"
        "  --warmup S          load before that, which is not measured, 1 by default\n"
        "  --documents N       documents of 200 bytes to work on, 10000 by default\n"
        "  --bytes N           large-read: bytes of documents a reply, 1000000 by default\n"
        "  --hot N             contended: documents that all increment, 1 by default\n"
        "  --plain N           contended: so many of the connections use plain updates\n"
        "  --blind             contended: transactions increment without a read before\n"
        "  --by-filter         contended: they read by a filter that does not fix _id\n"
        "  --serializable      unit, contended: transactions ask for it (of holdfastd only)\n"
        "  --method M          calls: POST by default; all but GET have a body; not HEAD\n"
        "  --path P            calls: /calls by default\n"
        "  --pid PID           report CPU time and memory of this process; up to 16 times\n"
        "  --json              one line of JSON instead of text\n"
        "  --help              this text\n"
        "  --version           the version\n"
        "\n"
        "The documents are made first, in the database holdfast_bench, unless they are there\n"
        "from an earlier run; they stay. Point it at no server whose data you would miss.\n"
        "\n"
        "An error reply, a reply that says something else than expected, an HTTP answer other\n"
        "than 2xx and a connection that ends are errors; the first one is told. Transactions that\n"
        "are told to try again (TransientTransactionError) do so and are counted as retries;\n"
        "their latency counts from the first try.\n"
        "\n"
        "service is a stub to put calls on: it works on any number of them at once, and each\n"
        "makes its writes one after the other (updates with upsert, of distinct documents, with\n"
        "the call's traceparent in their comment), but a GET none. It ends by SIGTERM.\n"
        "\n"
        "Options of service:\n"
        "  --listen HOST:PORT  where it serves (required); port 0: a free one, which it tells\n"
        "  --mongo HOST:PORT   where its writes go; without it there are none\n"
        "  --work MS           how long a call takes before its writes, 0 by default\n"
        "  --writes N          of each call, 2 by default\n"
        "  --connections N     to --mongo, 32 by default\n"
        "  --documents N       which it writes one after the other, 10000 by default\n"
        "\n"
        "Example: holdfast-bench unit --target localhost:27018 --connections 32 --pid 4711\n"
        "\n"
        "Exit codes: 0 no error, 1 errors were counted, 2 could not run.\n",
        stdout);
}
