/*
 * `holdfast observe` (cli.h): which services write several times per call, as the living holdfastd
 * has seen it.
 *
 * Invariant: names of services, fields and users are strangers' texts: all pass output_text().
 */
#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/control.h"
#include "cli/output.h"

#define WIDTH 100u
#define INDENT 8u
#define OUTSIDE_SHOWN 10 /* --json has all */

/* ------------------------------------------------------------------ wrapping */

static unsigned int columns_of(const char *text, size_t size)
{
    unsigned int columns = 0;
    for (size_t i = 0; i < size; i++) {
        columns += ((unsigned char)text[i] & 0xc0) != 0x80; /* not the rest of a character */
    }
    return columns;
}

/* Bytes up to where a line may end: behind a space or a comma. */
static size_t word_size(const char *text)
{
    size_t size = strcspn(text, " ,");
    return size + strspn(text + size, " ,");
}

/* One paragraph, indented, its further lines a bit more. */
static void print_wrapped(const char *first, const char *text)
{
    char word[256];
    unsigned int column = INDENT + columns_of(first, strlen(first));
    printf("%*s%s", (int)INDENT, "", first);
    while (*text != '\0') {
        size_t size = word_size(text);
        size = size < sizeof word ? size : sizeof word - 1;
        memcpy(word, text, size);
        word[size] = '\0';
        unsigned int columns = columns_of(word, strcspn(word, " "));
        if (column + columns > WIDTH && column > INDENT + 4) {
            printf("\n%*s", (int)INDENT + 4, "");
            column = INDENT + 4;
        }
        output_text(stdout, word);
        column += columns_of(word, size);
        text += size;
    }
    fputc('\n', stdout);
}

static void print_people(const bson_iter_t *finding, const char *name, const char *first)
{
    bson_iter_t list;
    char text[2048] = "";
    size_t size = 0;
    if (!answer_list(finding, name, &list)) {
        return;
    }
    while (bson_iter_next(&list) && BSON_ITER_HOLDS_UTF8(&list) && size < sizeof text) {
        int added = snprintf(text + size, sizeof text - size, "%s%s", size == 0 ? "" : ", ",
                             bson_iter_utf8(&list, NULL));
        size += (size_t)added;
    }
    if (size > 0) {
        print_wrapped(first, text);
    }
}

/* ------------------------------------------------------------------ findings */

static void format_bytes(int64_t bytes, char *ret_text, size_t capacity)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024.0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024.0;
        unit++;
    }
    (void)snprintf(ret_text, capacity, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

/* "2", or "2.1 (2-3)". */
static void format_writes(const bson_iter_t *finding, char *ret_text, size_t capacity)
{
    bson_iter_t mean;
    int64_t least = answer_number(finding, "writesPerCall.min");
    int64_t most = answer_number(finding, "writesPerCall.max");
    if (least == most || !answer_find(finding, "writesPerCall.mean", &mean)) {
        (void)snprintf(ret_text, capacity, "%" PRId64, most);
    } else {
        (void)snprintf(ret_text, capacity, "%.1f (%" PRId64 "-%" PRId64 ")",
                       bson_iter_as_double(&mean), least, most);
    }
}

/* "10", or "7-10" where the count may be too high. */
static void format_count(int64_t most, int64_t error, char *ret_text, size_t capacity)
{
    if (error == 0) {
        (void)snprintf(ret_text, capacity, "%" PRId64, most);
    } else {
        (void)snprintf(ret_text, capacity, "%" PRId64 "-%" PRId64, most - error, most);
    }
}

static void print_finding(const bson_iter_t *finding)
{
    char writes[64];
    char calls[48];
    char bytes[32];
    bson_iter_t step;
    format_writes(finding, writes, sizeof writes);
    format_count(answer_number(finding, "calls"), answer_number(finding, "callsError"), calls,
                 sizeof calls);
    format_bytes(answer_number(finding, "bytes"), bytes, sizeof bytes);
    printf("\n%-12s  %9s  %7" PRId64 "  %10s  ", writes, calls, answer_number(finding, "torn"),
           bytes);
    output_text(stdout, answer_word(finding, "service"));
    fputs("  ", stdout);
    output_text(stdout, strcmp(answer_word(finding, "toldBy"), "trace") == 0
                            ? "(a trace)"
                            : answer_word(finding, "route"));
    fputc('\n', stdout);
    if (answer_list(finding, "sequence", &step)) {
        while (bson_iter_next(&step) && BSON_ITER_HOLDS_UTF8(&step)) {
            print_wrapped("", bson_iter_utf8(&step, NULL));
        }
    }
    print_people(finding, "applications", "written by: ");
    print_people(finding, "users", "as user: ");
    print_people(finding, "clients", "from: ");
    print_wrapped("-> ", answer_word(finding, "suggestion"));
}

static void print_findings(const bson_iter_t *report)
{
    bson_iter_t finding;
    int64_t left_out = answer_number(report, "findingsLeftOut");
    bool any = false;
    if (answer_list(report, "findings", &finding)) {
        while (bson_iter_next(&finding)) {
            if (!any) {
                printf("%-12s  %9s  %7s  %10s  %s\n", "WRITES/CALL", "CALLS", "TORN", "BYTES",
                       "SERVICE  ROUTE");
            }
            any = true;
            print_finding(&finding);
        }
    }
    if (!any) {
        fputs("No call that writes more than once has been seen.\n", stdout);
    }
    if (left_out > 0) {
        printf("\n... and %" PRId64 " rarer ones\n", left_out);
    }
    printf("\n%" PRId64 " calls have ended since the start of holdfastd",
           answer_number(report, "calls"));
    if (answer_number(report, "callsMissed") > 0) {
        printf("; %" PRId64 " were not followed, too many were open",
               answer_number(report, "callsMissed"));
    }
    fputs(".\n", stdout);
}

/* ------------------------------------------------------------------ outside calls */

static void print_outside(const bson_iter_t *report)
{
    bson_iter_t write;
    int64_t count = 0;
    if (!answer_list(report, "outsideCalls", &write)) {
        return;
    }
    while (bson_iter_next(&write)) {
        char writes[48];
        char who[512];
        count++;
        if (count > OUTSIDE_SHOWN) {
            continue;
        }
        if (count == 1) {
            printf("\nWrites that no call and no trace is known of:\n%9s  %s\n", "WRITES",
                   "APPLICATION  USER  CLIENT");
        }
        format_count(answer_number(&write, "writes"), answer_number(&write, "writesError"), writes,
                     sizeof writes);
        (void)snprintf(who, sizeof who, "%s  %s  %s", answer_word(&write, "application"),
                       answer_word(&write, "user"), answer_word(&write, "client"));
        printf("%9s  ", writes);
        output_text(stdout, who);
        fputc('\n', stdout);
        print_wrapped("", answer_word(&write, "shape"));
        if (strcmp(answer_word(&write, "suggestion"), "-") != 0) {
            print_wrapped("-> ", answer_word(&write, "suggestion"));
        }
    }
    count += answer_number(report, "outsideLeftOut");
    if (count > OUTSIDE_SHOWN) {
        printf("... and %" PRId64 " rarer ones; --json shows more\n", count - OUTSIDE_SHOWN);
    }
}

/* ------------------------------------------------------------------ the command */

static enum status print_report(const struct cli_options *options, const char *body,
                                struct error *ret_error)
{
    struct answer answer;
    enum status status = answer_parse(body, &answer, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (options->json) {
        answer_print(&answer.root);
    } else {
        print_findings(&answer.root);
        print_outside(&answer.root);
    }
    answer_free(&answer);
    return STATUS_OK;
}

enum cli_exit cli_observe(const struct cli_options *options)
{
    struct error error = {0};
    char *body = NULL;
    int code = 0;
    enum status status = control_request(options, "GET", "/observe", &code, &body, &error);
    if (status == STATUS_OK && code != 200) {
        status = error_set(&error, STATUS_NOT_FOUND, "holdfastd answered %d: %.200s", code,
                           code == 404 ? "nothing is observed, or not yet" : body);
    }
    if (status == STATUS_OK) {
        status = print_report(options, body, &error);
    }
    free(body);
    return status == STATUS_OK ? CLI_CLEAN : output_failure(&error);
}
