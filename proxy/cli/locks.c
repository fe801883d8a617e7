/*
 * `holdfast units --locks` (cli.h): the open units of the living holdfastd, and who waits for whom.
 */
#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/control.h"
#include "cli/locks.h"
#include "cli/output.h"

static int64_t number_of(const bson_iter_t *unit, const char *name)
{
    bson_iter_t at;
    return bson_iter_recurse(unit, &at) && bson_iter_find(&at, name) ? bson_iter_as_int64(&at) : 0;
}

static const char *text_of(const bson_iter_t *unit, const char *name)
{
    bson_iter_t at;
    const char *text =
        bson_iter_recurse(unit, &at) && bson_iter_find(&at, name) && BSON_ITER_HOLDS_UTF8(&at)
            ? bson_iter_utf8(&at, NULL)
            : "";
    return text[0] == '\0' ? "-" : text;
}

static void print_unit(const bson_iter_t *unit)
{
    char waits_for[24] = "-";
    if (number_of(unit, "waitsFor") != 0) {
        (void)snprintf(waits_for, sizeof waits_for, "%" PRId64, number_of(unit, "waitsFor"));
    }
    char shared[32] = "-";
    if (number_of(unit, "namespacesRead") != 0) {
        (void)snprintf(shared, sizeof shared, "%" PRId64 "+%" PRId64 "ns",
                       number_of(unit, "locksShared"), number_of(unit, "namespacesRead"));
    } else if (number_of(unit, "locksShared") != 0) {
        (void)snprintf(shared, sizeof shared, "%" PRId64, number_of(unit, "locksShared"));
    }
    printf("%8" PRId64 "  %-9s  %-9s  %8.1f  %6" PRId64 "  %8s  %9s  ", number_of(unit, "unit"),
           text_of(unit, "state"), text_of(unit, "boundary"),
           (double)number_of(unit, "ageMillis") / 1000.0, number_of(unit, "locksHeld"), shared,
           waits_for);
    output_text(stdout, text_of(unit, "user"));
    fputs("  ", stdout);
    output_text(stdout, text_of(unit, "client"));
    fputs("  ", stdout);
    output_text(stdout, text_of(unit, "appName"));
    fputc('\n', stdout);
}

static void print_table(bson_iter_t *units)
{
    bson_iter_t list;
    bson_iter_t at;
    printf("%8s  %-9s  %-9s  %8s  %6s  %8s  %9s  %s\n", "UNIT", "STATE", "BOUNDARY", "AGE (s)",
           "LOCKS", "SHARED", "WAITS FOR", "USER  CLIENT  APPNAME");
    if (bson_iter_recurse(units, &at) && bson_iter_find(&at, "list") &&
        bson_iter_recurse(&at, &list)) {
        while (bson_iter_next(&list)) {
            print_unit(&list);
        }
    }
    int64_t hidden = number_of(units, "open") - number_of(units, "listed");
    if (hidden > 0) {
        printf("... and %" PRId64 " younger ones\n", hidden);
    }
}

static enum status print_status(const struct cli_options *options, const char *body,
                                struct error *ret_error)
{
    bson_error_t why;
    bson_iter_t units;
    bson_t *status = bson_new_from_json((const uint8_t *)body, -1, &why);
    if (status == NULL) {
        return error_set(ret_error, STATUS_PROTOCOL, "holdfastd's answer is not JSON: %s",
                         why.message);
    }
    enum status result = STATUS_OK;
    if (!bson_iter_init_find(&units, status, "units") || !BSON_ITER_HOLDS_DOCUMENT(&units)) {
        result = error_set(ret_error, STATUS_NOT_FOUND, "holdfastd has not begun to serve yet");
    } else if (options->json) {
        bson_t view;
        uint32_t size = 0;
        const uint8_t *data = NULL;
        bson_iter_document(&units, &size, &data);
        if (bson_init_static(&view, data, size)) {
            output_bson_line(stdout, &view);
        }
    } else {
        print_table(&units);
    }
    bson_destroy(status);
    return result;
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
