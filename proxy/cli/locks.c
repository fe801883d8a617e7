/*
 * `holdfast units --locks` (cli.h): the open units of the living holdfastd, and who waits for whom.
 */
#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/answer.h"
#include "cli/control.h"
#include "cli/locks.h"
#include "cli/output.h"

static void print_unit(const bson_iter_t *unit)
{
    char waits_for[24] = "-";
    if (answer_number(unit, "waitsFor") != 0) {
        (void)snprintf(waits_for, sizeof waits_for, "%" PRId64, answer_number(unit, "waitsFor"));
    }
    char shared[32] = "-";
    if (answer_number(unit, "namespacesRead") != 0) {
        (void)snprintf(shared, sizeof shared, "%" PRId64 "+%" PRId64 "ns",
                       answer_number(unit, "locksShared"), answer_number(unit, "namespacesRead"));
    } else if (answer_number(unit, "locksShared") != 0) {
        (void)snprintf(shared, sizeof shared, "%" PRId64, answer_number(unit, "locksShared"));
    }
    printf("%8" PRId64 "  %-9s  %-9s  %8.1f  %6" PRId64 "  %8s  %9s  ", answer_number(unit, "unit"),
           answer_word(unit, "state"), answer_word(unit, "boundary"),
           (double)answer_number(unit, "ageMillis") / 1000.0, answer_number(unit, "locksHeld"),
           shared, waits_for);
    output_text(stdout, answer_word(unit, "user"));
    fputs("  ", stdout);
    output_text(stdout, answer_word(unit, "client"));
    fputs("  ", stdout);
    output_text(stdout, answer_word(unit, "appName"));
    fputc('\n', stdout);
}

static void print_table(const bson_iter_t *units)
{
    bson_iter_t list;
    printf("%8s  %-9s  %-9s  %8s  %6s  %8s  %9s  %s\n", "UNIT", "STATE", "BOUNDARY", "AGE (s)",
           "LOCKS", "SHARED", "WAITS FOR", "USER  CLIENT  APPNAME");
    if (answer_list(units, "list", &list)) {
        while (bson_iter_next(&list)) {
            print_unit(&list);
        }
    }
    int64_t hidden = answer_number(units, "open") - answer_number(units, "listed");
    if (hidden > 0) {
        printf("... and %" PRId64 " younger ones\n", hidden);
    }
}

static enum status print_status(const struct cli_options *options, const char *body,
                                struct error *ret_error)
{
    struct answer answer;
    bson_iter_t units;
    enum status status = answer_parse(body, &answer, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!answer_find(&answer.root, "units", &units) || !BSON_ITER_HOLDS_DOCUMENT(&units)) {
        status = error_set(ret_error, STATUS_NOT_FOUND, "holdfastd has not begun to serve yet");
    } else if (options->json) {
        answer_print(&units);
    } else {
        print_table(&units);
    }
    answer_free(&answer);
    return status;
}

enum cli_exit locks_print(const struct cli_options *options)
{
    struct error error = {0};
    char *body = NULL;
    int code = 0;
    enum status status = control_request(options, "GET", "/status", &code, &body, &error);
    if (status == STATUS_OK && code != 200) {
        status = error_set(&error, STATUS_PROTOCOL, "holdfastd answered %d", code);
    }
    if (status == STATUS_OK) {
        status = print_status(options, body, &error);
    }
    free(body);
    return status == STATUS_OK ? CLI_CLEAN : output_failure(&error);
}
