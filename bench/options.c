/*
 * Command line of holdfast-bench: which command it is, its options by option_table.c, and what they
 * must be together. Threads: main only.
 */
#include "bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/option_table.h"

#define SERVICE_CONNECTIONS 32u
#define OPTIONS_MAX 64u
#define LETTER_FIRST 256 /* above all characters */

/* ------------------------------------------------------------------ values */

static void *field(struct bench_options *options, const struct option_row *row)
{
    return (char *)options + row->offset;
}

static enum status take_double(const struct option_row *row, const char *text, const char *end_mark,
                               const char *expected, double *ret_number, struct error *ret_error)
{
    char *end = NULL;
    errno = 0;
    double number = strtod(text, &end);
    bool ended = end[0] == '\0' || (end_mark != NULL && strcmp(end, end_mark) == 0);
    if (end == text || !ended || errno != 0 || !isfinite(number) || number < row->least ||
        number > row->most) {
        return error_set(ret_error, STATUS_INVALID, "--%s %.50s: expected %s from %.10g to %.10g",
                         row->name, text, expected, row->least, row->most);
    }
    *ret_number = number;
    return STATUS_OK;
}

static enum status take_whole(const struct option_row *row, const char *text, double *ret_number,
                              struct error *ret_error)
{
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text)) {
        return error_set(ret_error, STATUS_INVALID,
                         "--%s %.50s: expected a number from %.10g to %.10g", row->name, text,
                         row->least, row->most);
    }
    return take_double(row, text, NULL, "a number", ret_number, ret_error);
}

/* Cuts the next word off a list with commas. */
static bool next_word(const char **rest, char word[64])
{
    size_t size = strcspn(*rest, ",");
    if (size >= 64) {
        size = 63;
    }
    memcpy(word, *rest, size);
    word[size] = '\0';
    *rest += strcspn(*rest, ",");
    bool more = **rest == ',';
    *rest += more ? 1 : 0;
    return more;
}

static enum status take_list(const struct option_row *row, struct bench_list *list,
                             struct error *ret_error)
{
    const char *rest = optarg;
    bool more = true;
    list->count = 0;
    while (more) {
        char word[64];
        if (list->count == BENCH_LIST_MAX) {
            return error_set(ret_error, STATUS_INVALID, "--%s: at most %u numbers", row->name,
                             BENCH_LIST_MAX);
        }
        more = next_word(&rest, word);
        double *value = &list->values[list->count++];
        enum status status = row->kind == OPTION_NUMBERS
                                 ? take_whole(row, word, value, ret_error)
                                 : take_double(row, word, NULL, "a number", value, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status take_boundaries(struct bench_options *options, struct error *ret_error)
{
    const char *rest = optarg;
    bool more = true;
    options->boundary_count = 0;
    while (more) {
        char word[64];
        more = next_word(&rest, word);
        size_t found = 0;
        while (found < LOAD_BOUNDARY_COUNT &&
               strcmp(word, load_boundary_name((enum load_boundary)found)) != 0) {
            found++;
        }
        if (found == LOAD_BOUNDARY_COUNT || options->boundary_count == LOAD_BOUNDARY_COUNT) {
            return error_set(ret_error, STATUS_INVALID,
                             "--boundary %.50s: expected words of plain, driver, comment, single, "
                             "http with commas between them",
                             optarg);
        }
        options->boundaries[options->boundary_count++] = (enum load_boundary)found;
    }
    return STATUS_OK;
}

/* What may stand in the first line of a request. */
static enum status take_word(const struct option_row *row, const char **ret_word,
                             struct error *ret_error)
{
    size_t size = strlen(optarg);
    bool is_path = row->kind == OPTION_PATH;
    bool valid =
        size > 0 && size < 200 && strcmp(optarg, "HEAD") != 0 && (!is_path || optarg[0] == '/');
    for (size_t i = 0; i < size; i++) {
        valid = valid && optarg[i] > ' ' && optarg[i] < 0x7f;
    }
    if (!valid) {
        return error_set(ret_error, STATUS_INVALID, "--%s %.50s: expected %s", row->name, optarg,
                         is_path ? "a path, as /calls" : "a word, as POST");
    }
    *ret_word = optarg;
    return STATUS_OK;
}

static enum status take_pid(struct bench_options *options, struct error *ret_error)
{
    static const struct option_row pids = {.name = "pid", .least = 1, .most = INT32_MAX};
    double number = 0;
    if (options->load.pid_count == LOAD_PIDS_MAX) {
        return error_set(ret_error, STATUS_INVALID, "--pid: at most %u processes", LOAD_PIDS_MAX);
    }
    enum status status = take_whole(&pids, optarg, &number, ret_error);
    if (status == STATUS_OK) {
        options->load.pids[options->load.pid_count++] = (pid_t)number;
    }
    return status;
}

static enum status take_target(const struct option_row *row, struct bench_texts *texts,
                               struct error *ret_error)
{
    bool first = strcmp(row->name, "target") == 0;
    if (first && texts->values[0] != NULL) {
        return error_set(ret_error, STATUS_INVALID, "--target: given twice; the others are --vs");
    }
    if (first) {
        texts->values[0] = optarg;
    } else if (texts->count == BENCH_TARGETS_MAX) {
        return error_set(ret_error, STATUS_INVALID, "--%s: at most %u targets", row->name,
                         BENCH_TARGETS_MAX);
    } else {
        texts->values[texts->count++] = optarg;
    }
    return STATUS_OK;
}

static enum status take_number(struct bench_options *options, const struct option_row *row,
                               struct error *ret_error)
{
    double number = 0;
    enum status status = STATUS_OK;
    switch (row->kind) {
    case OPTION_NUMBER:
        status = take_whole(row, optarg, &number, ret_error);
        if (status == STATUS_OK) {
            *(uint32_t *)field(options, row) = (uint32_t)number;
        }
        return status;
    case OPTION_FRACTION:
        status = take_double(row, optarg, NULL, "a number", &number, ret_error);
        if (status == STATUS_OK) {
            *(double *)field(options, row) = number;
        }
        return status;
    case OPTION_SECONDS:
    case OPTION_MS:
        status = row->kind == OPTION_MS
                     ? take_double(row, optarg, "ms", "milliseconds", &number, ret_error)
                     : take_double(row, optarg, NULL, "seconds", &number, ret_error);
        if (status == STATUS_OK) {
            *(uint64_t *)field(options, row) =
                (uint64_t)(number * (row->kind == OPTION_MS ? 1e6 : 1e9));
        }
        return status;
    default:
        return STATUS_NOT_FOUND;
    }
}

static enum status take_option(const struct option_row *row, struct bench_options *options,
                               enum bench_command *command, struct error *ret_error)
{
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)field(options, row) = true;
        return STATUS_OK;
    case OPTION_TEXT:
        *(const char **)field(options, row) = optarg;
        return STATUS_OK;
    case OPTION_TEXTS:
        return take_target(row, field(options, row), ret_error);
    case OPTION_NUMBERS:
    case OPTION_RATES:
        return take_list(row, field(options, row), ret_error);
    case OPTION_WORD:
    case OPTION_PATH:
        return take_word(row, field(options, row), ret_error);
    case OPTION_PID:
        return take_pid(options, ret_error);
    case OPTION_BOUNDARIES:
        return take_boundaries(options, ret_error);
    case OPTION_HELP:
        *command = BENCH_HELP;
        return STATUS_OK;
    case OPTION_VERSION:
        *command = BENCH_VERSION;
        return STATUS_OK;
    case OPTION_NUMBER:
    case OPTION_FRACTION:
    case OPTION_SECONDS:
    case OPTION_MS:
        break;
    }
    return take_number(options, row, ret_error);
}

/* ------------------------------------------------------------------ all arguments */

static const char *const command_names[] = {
#define X(name, text) [BENCH_##name] = text,
    BENCH_COMMAND_LIST(X)
#undef X
};

/* The first argument says it: what its options are is not known before. */
static enum bench_command find_command(int argument_count, char **arguments)
{
    for (size_t command = BENCH_SERVICE; argument_count > 1 && command <= BENCH_INSTANT;
         command++) {
        if (strcmp(arguments[1], command_names[command]) == 0) {
            return (enum bench_command)command;
        }
    }
    return BENCH_RUN;
}

static bool belongs(const struct option_row *row, enum bench_command command)
{
    return row->command == command || row->kind == OPTION_HELP || row->kind == OPTION_VERSION;
}

static enum status take_options(int argument_count, char **arguments, enum bench_command *command,
                                struct bench_options *options, struct error *ret_error)
{
    struct option long_options[OPTIONS_MAX] = {{NULL, 0, NULL, 0}};
    size_t count = 0;
    int letter;
    const enum bench_command of = *command;
    for (size_t i = 0; i < option_count && count + 1 < OPTIONS_MAX; i++) {
        if (belongs(&option_table[i], of)) {
            long_options[count++] =
                (struct option){option_table[i].name,
                                option_table[i].value == NULL ? no_argument : required_argument,
                                NULL, LETTER_FIRST + (int)i};
        }
    }
    optind = 0; /* so that tests may call this more than once */
    while ((letter = getopt_long(argument_count, arguments, ":hV", long_options, NULL)) != -1) {
        enum status status = STATUS_OK;
        if (letter == ':') {
            status =
                error_set(ret_error, STATUS_INVALID, "%.100s needs a value", arguments[optind - 1]);
        } else if (letter == '?') {
            status =
                error_set(ret_error, STATUS_INVALID, "unknown option %.100s%s%s",
                          arguments[optind - 1], of == BENCH_RUN ? "" : " of ", command_names[of]);
        } else if (letter < LETTER_FIRST) {
            *command = letter == 'h' ? BENCH_HELP : BENCH_VERSION;
        } else {
            status = take_option(&option_table[letter - LETTER_FIRST], options, command, ret_error);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status take_loads(int count, char **words, struct bench_options *options,
                              struct error *ret_error)
{
    if (count == 0) {
        return error_set(ret_error, STATUS_INVALID, "which load? See holdfast-bench --help");
    }
    for (int i = 0; i < count; i++) {
        size_t kind = 0;
        while (kind < LOAD_COUNT && strcmp(words[i], load_name((enum load_kind)kind)) != 0) {
            kind++;
        }
        if (kind == LOAD_COUNT) {
            return error_set(ret_error, STATUS_INVALID,
                             "there is no load %.50s; see holdfast-bench --help", words[i]);
        }
        for (size_t j = 0; j < options->load_count; j++) {
            if (options->loads[j] == (enum load_kind)kind) {
                return error_set(ret_error, STATUS_INVALID, "the load %.50s is given twice",
                                 words[i]);
            }
        }
        options->loads[options->load_count++] = (enum load_kind)kind;
    }
    return STATUS_OK;
}

static enum status check_serve(enum bench_command command, int words, char **word,
                               struct bench_options *options, struct error *ret_error)
{
    struct bench_serve *serve = &options->serve;
    const char *target = options->targets.values[0];
    if (words > 1) {
        return error_set(ret_error, STATUS_INVALID, "unexpected %.100s", word[1]);
    }
    if (serve->listen == NULL) {
        return error_set(ret_error, STATUS_INVALID, "--listen HOST:PORT is missing");
    }
    if (command != BENCH_SERVICE && target == NULL) {
        return error_set(ret_error, STATUS_INVALID, "--target HOST:PORT is missing");
    }
    const char *whereto = command == BENCH_SERVICE ? serve->mongo : target;
    return whereto == NULL ? STATUS_OK
                           : network_address_resolve(whereto, &serve->address, ret_error);
}

enum status bench_options_parse(int argument_count, char **arguments,
                                enum bench_command *ret_command, struct bench_options *ret_options,
                                struct error *ret_error)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct bench_options options = {
        .load = {.documents = 10000,
                 .seconds_ns = 10000000000u,
                 .warmup_ns = 1000000000u,
                 .zipf = 0.99,
                 .method = "POST",
                 .path = "/calls"},
        .targets = {.count = 1}, /* its place is kept */
        .connections = {{1}, 1},
        .writes = {{3}, 1},
        .units = {{1000, 10000}, 2},
        .boundaries = {LOAD_BOUNDARY_DRIVER},
        .boundary_count = 1,
        .kills = 3,
        .rounds = 1,
        .threads = processors < 1 ? 1 : (uint32_t)processors,
        .serve = {.connections = SERVICE_CONNECTIONS, .documents = 10000, .writes = 2},
    };
    options.serve.threads = options.threads;
    enum bench_command command = find_command(argument_count, arguments);
    enum status status = take_options(argument_count, arguments, &command, &options, ret_error);
    if (status == STATUS_OK && command == BENCH_RUN) {
        status = take_loads(argument_count - optind, arguments + optind, &options, ret_error);
        if (status == STATUS_OK && options.targets.values[0] == NULL &&
            !(options.load_count == 1 && options.loads[0] == LOAD_FLOOR)) {
            status = error_set(ret_error, STATUS_INVALID, "--target HOST:PORT is missing");
        }
    } else if (status == STATUS_OK && command >= BENCH_SERVICE && command <= BENCH_INSTANT) {
        status =
            check_serve(command, argument_count - optind, arguments + optind, &options, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_command = command;
        *ret_options = options;
    }
    return status;
}

bool bench_options_single(const struct bench_options *options)
{
    return options->load_count == 1 && load_is_run(options->loads[0]) &&
           options->targets.count == 1 && !options->peers && options->connections.count == 1 &&
           options->rates.count <= 1 && options->writes.count == 1 &&
           options->boundary_count == 1 && options->rounds == 1 && options->output == NULL &&
           options->compare == NULL;
}
