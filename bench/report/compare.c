/*
 * What has changed since an earlier report: for each cell that both have, each figure of each
 * target beside the earlier one; and each ratio of two targets. A machine is faster or slower from
 * one day to the next, so only ratios are judged: one is worse if its whole interval is on the
 * worse side of the earlier middle by more than the tolerance.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/reports.h"

#define CONFIDENCE 0.95

/* ------------------------------------------------------------------ the earlier report */

enum status report_read(const char *path, bson_t **ret_document, struct error *ret_error)
{
    bson_error_t broken;
    bson_json_reader_t *reader = bson_json_reader_new_from_file(path, &broken);
    if (reader == NULL) {
        return error_set(ret_error, STATUS_NOT_FOUND, "--compare %.200s: %s", path, broken.message);
    }
    bson_t *document = bson_new();
    bson_iter_t format;
    int got = bson_json_reader_read(reader, document, &broken);
    bson_json_reader_destroy(reader);
    if (got != 1 || !bson_iter_init_find(&format, document, "format") ||
        bson_iter_as_int64(&format) != 1) {
        bson_destroy(document);
        return error_set(ret_error, STATUS_INVALID,
                         "--compare %.200s: no report of holdfast-bench in format 1%s%s", path,
                         got < 0 ? ": " : "", got < 0 ? broken.message : "");
    }
    *ret_document = document;
    return STATUS_OK;
}

static bool text_is(const bson_iter_t *document, const char *name, const char *wanted)
{
    bson_iter_t field;
    return bson_iter_recurse(document, &field) && bson_iter_find(&field, name) &&
           BSON_ITER_HOLDS_UTF8(&field) && strcmp(bson_iter_utf8(&field, NULL), wanted) == 0;
}

/* The element of the array `name` in *parent of which all texts are as wanted. */
static bool find_element(const bson_iter_t *parent, const char *name, const char *const *wanted,
                         bson_iter_t *ret_element)
{
    bson_iter_t array;
    bson_iter_t element;
    if (!bson_iter_recurse(parent, &array) || !bson_iter_find(&array, name) ||
        !bson_iter_recurse(&array, &element)) {
        return false;
    }
    while (bson_iter_next(&element)) {
        bool same = true;
        for (size_t i = 0; wanted[i] != NULL && same; i += 2) {
            same = text_is(&element, wanted[i], wanted[i + 1]);
        }
        if (same) {
            *ret_element = element;
            return true;
        }
    }
    return false;
}

static bool find_cell(const bson_t *document, const char *title, bson_iter_t *ret_cell)
{
    bson_iter_t cells;
    bson_iter_t cell;
    if (!bson_iter_init_find(&cells, document, "cells") || !bson_iter_recurse(&cells, &cell)) {
        return false;
    }
    while (bson_iter_next(&cell)) {
        if (text_is(&cell, "title", title)) {
            *ret_cell = cell;
            return true;
        }
    }
    return false;
}

/* figures.KEY.middle */
static double middle_of(const bson_iter_t *element, enum metric metric)
{
    bson_iter_t field;
    bson_iter_t found;
    char path[80];
    snprintf(path, sizeof path, "figures.%s.middle", metric_about[metric].key);
    if (!bson_iter_recurse(element, &field) || !bson_iter_find_descendant(&field, path, &found)) {
        return NAN;
    }
    return bson_iter_as_double(&found);
}

/* ------------------------------------------------------------------ what is told */

static bool is_worse(const struct estimate *now, double earlier, enum metric metric,
                     double tolerance)
{
    double allowed = 1 + tolerance / 100;
    if (tolerance <= 0 || now->confidence < CONFIDENCE || !isfinite(earlier) ||
        metric == METRIC_P99) {
        return false;
    }
    return metric_about[metric].better > 0 ? now->high * allowed < earlier
                                           : now->low > earlier * allowed;
}

static void print_change(FILE *file, const char *what, enum metric metric,
                         const struct estimate *now, double earlier, int digits, bool worse)
{
    char text[REPORT_NUMBER_BYTES];
    char before[REPORT_NUMBER_BYTES];
    if (now->count == 0 || !isfinite(earlier) || earlier <= 0) {
        return;
    }
    report_number(now->middle, digits, text);
    report_number(earlier, digits, before);
    fprintf(file, "  %-40s %-16s %12s, was %12s: %+.1f %%%s\n", what, metric_about[metric].title,
            text, before, 100 * (now->middle / earlier - 1), worse ? "  WORSE" : "");
}

static void compare_figures(const struct suite *suite, const struct cell *cell,
                            const bson_iter_t *earlier, FILE *file)
{
    for (size_t i = 0; i < cell->series_count; i++) {
        bson_iter_t target;
        const char *const wanted[] = {"name", cell->series[i].target, NULL};
        if (!find_element(earlier, "targets", wanted, &target)) {
            continue;
        }
        for (int metric = 0; metric < METRIC_COUNT; metric++) {
            if (reports_is_compared((enum metric)metric)) {
                struct estimate now =
                    reports_estimate(suite, &cell->series[i], (enum metric)metric);
                print_change(file, cell->series[i].target, (enum metric)metric, &now,
                             middle_of(&target, (enum metric)metric), metric_about[metric].digits,
                             false);
            }
        }
    }
}

static bool compare_ratio(const struct suite *suite, const struct series *measured,
                          const struct series *reference, bool judged, const bson_iter_t *earlier,
                          FILE *file)
{
    bson_iter_t ratio;
    bool worse = false;
    char what[2 * TARGET_NAME_BYTES + 4];
    const char *const wanted[] = {"measured", measured->target, "reference", reference->target,
                                  NULL};
    if (!find_element(earlier, "ratios", wanted, &ratio)) {
        return false;
    }
    snprintf(what, sizeof what, "%s / %s", measured->target, reference->target);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        if (!reports_is_compared((enum metric)metric)) {
            continue;
        }
        struct estimate now = reports_ratio(suite, measured, reference, (enum metric)metric);
        double before = middle_of(&ratio, (enum metric)metric);
        bool this_one =
            judged && is_worse(&now, before, (enum metric)metric, suite->options->tolerance);
        print_change(file, what, (enum metric)metric, &now, before, 2, this_one);
        worse = worse || this_one;
    }
    return worse;
}

enum status report_compare(const struct suite *suite, const char *path, FILE *file, bool *ret_worse,
                           struct error *ret_error)
{
    bson_t *document = NULL;
    enum status status = report_read(path, &document, ret_error);
    bool worse = false;
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < suite->cell_count; i++) {
        const struct cell *cell = &suite->cells[i];
        bson_iter_t earlier;
        fprintf(file, "\n%s, against %s\n", cell->title, path);
        if (!find_cell(document, cell->title, &earlier)) {
            fputs("  which has nothing of the kind\n", file);
            continue;
        }
        compare_figures(suite, cell, &earlier, file);
        for (size_t of = 0; of < cell->series_count; of++) {
            for (size_t to = 0; to < cell->series_count; to++) {
                if (reports_has_ratio(suite, cell, of, to)) {
                    worse = compare_ratio(suite, &cell->series[of], &cell->series[to], of == 0,
                                          &earlier, file) ||
                            worse;
                }
            }
        }
    }
    bson_destroy(document);
    *ret_worse = worse;
    return STATUS_OK;
}
