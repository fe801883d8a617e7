/* See reports.h. */
#include "bench/report/reports.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

struct estimate reports_estimate(const struct suite *suite, const struct series *series,
                                 enum metric metric)
{
    double values[STATISTICS_MAX];
    series_values(suite, series, metric, values);
    return estimate_median(values, suite->rounds);
}

struct estimate reports_ratio(const struct suite *suite, const struct series *measured,
                              const struct series *reference, enum metric metric)
{
    double values[STATISTICS_MAX];
    double others[STATISTICS_MAX];
    series_values(suite, measured, metric, values);
    series_values(suite, reference, metric, others);
    return estimate_ratio(values, others, suite->rounds);
}

bool reports_has_ratio(const struct suite *suite, const struct cell *cell, size_t measured,
                       size_t reference)
{
    if (measured == reference || cell->series_count < 2) {
        return false;
    }
    if (cell->load.kind == LOAD_FLOOR) {
        return measured == 1;
    }
    enum target_kind kind = suite->targets->targets[reference].kind;
    return measured == 0 || kind == TARGET_RELAY || kind == TARGET_DIRECT;
}

bool reports_is_compared(enum metric metric)
{
    switch (metric) {
    case METRIC_THROUGHPUT:
    case METRIC_VOLUME:
    case METRIC_P50:
    case METRIC_P99:
    case METRIC_CPU:
    case METRIC_SERVER_CPU:
    case METRIC_IDLE_MEMORY:
    case METRIC_JOURNAL_BYTES:
    case METRIC_JOURNAL_COMMITS:
    case METRIC_RECOVERY:
        return true;
    default:
        return false;
    }
}

void report_number(double number, int digits, char *text)
{
    char plain[REPORT_NUMBER_BYTES];
    if (!isfinite(number)) {
        snprintf(text, REPORT_NUMBER_BYTES, "-");
        return;
    }
    snprintf(plain, sizeof plain, "%.*f", digits, fmin(number, 1e15));
    size_t whole = strcspn(plain, ".");
    size_t used = 0;
    for (size_t i = 0; plain[i] != '\0' && used + 2 < REPORT_NUMBER_BYTES; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0 && plain[i - 1] != '-') {
            text[used++] = ',';
        }
        text[used++] = plain[i];
    }
    text[used] = '\0';
}

/* ------------------------------------------------------------------ files */

static enum status open_file(const char *folder, const char *name, FILE **ret_file,
                             struct error *ret_error)
{
    char path[512];
    int size = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = size > 0 && (size_t)size < sizeof path ? fopen(path, "we") : NULL;
    if (file == NULL) {
        return error_set(ret_error, STATUS_IO, "cannot write %.300s: %s", path, strerror(errno));
    }
    *ret_file = file;
    return STATUS_OK;
}

static enum status close_file(FILE *file, const char *name, struct error *ret_error)
{
    bool written = ferror(file) == 0;
    return fclose(file) == 0 && written
               ? STATUS_OK
               : error_set(ret_error, STATUS_IO, "cannot write %s: %s", name, strerror(errno));
}

static void print_json(const struct suite *suite, FILE *file)
{
    bson_t document = BSON_INITIALIZER;
    report_json(suite, &document);
    char *text = bson_as_relaxed_extended_json(&document, NULL);
    fprintf(file, "%s\n", text);
    bson_free(text);
    bson_destroy(&document);
}

static enum status write_files(const struct suite *suite, const char *folder,
                               struct error *ret_error)
{
    FILE *file;
    enum status status = open_file(folder, "report.json", &file, ret_error);
    if (status == STATUS_OK) {
        print_json(suite, file);
        status = close_file(file, "report.json", ret_error);
    }
    if (status == STATUS_OK) {
        status = open_file(folder, "report.csv", &file, ret_error);
    }
    if (status == STATUS_OK) {
        report_csv(suite, file);
        status = close_file(file, "report.csv", ret_error);
    }
    if (status == STATUS_OK) {
        status = open_file(folder, "report.html", &file, ret_error);
    }
    if (status == STATUS_OK) {
        status = report_html(suite, folder, file, ret_error);
        enum status closed = close_file(file, "report.html", ret_error);
        status = status == STATUS_OK ? closed : status;
    }
    return status;
}

enum status reports_check(const struct bench_options *options, struct error *ret_error)
{
    bson_t *earlier = NULL;
    enum status status = STATUS_OK;
    if (options->output != NULL && mkdir(options->output, 0777) != 0 && errno != EEXIST) {
        return error_set(ret_error, STATUS_IO, "--output: cannot make %.300s: %s", options->output,
                         strerror(errno));
    }
    if (options->compare != NULL) {
        status = report_read(options->compare, &earlier, ret_error);
    }
    if (earlier != NULL) {
        bson_destroy(earlier);
    }
    return status;
}

enum status reports_make(const struct suite *suite, bool *ret_worse, struct error *ret_error)
{
    const struct bench_options *options = suite->options;
    enum status status = STATUS_OK;
    if (options->json) {
        print_json(suite, stdout);
    } else {
        report_table(suite, stdout);
    }
    if (options->output != NULL) {
        status = write_files(suite, options->output, ret_error);
    }
    if (status == STATUS_OK && options->compare != NULL) {
        status = report_compare(suite, options->compare, options->json ? stderr : stdout, ret_worse,
                                ret_error);
    }
    return status;
}
