/*
 * Asking holdfastd how it is (top.h): three answers of the control socket become one sample. What
 * an older holdfastd does not tell is 0 or unknown.
 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/control.h"
#include "cli/top.h"
#include "holdfast/clock.h"

#define PAGE 100u

static uint64_t number_of(const bson_iter_t *document, const char *path)
{
    return (uint64_t)answer_number(document, path);
}

static void copy_text(const bson_iter_t *document, const char *path, char *text, size_t capacity)
{
    (void)snprintf(text, capacity, "%s", answer_text(document, path));
}

/* To be given to answer_free(). */
static enum status ask(const struct cli_options *options, const char *target,
                       struct answer *ret_answer, struct error *ret_error)
{
    char *body = NULL;
    int code = 0;
    enum status status = control_request(options, "GET", target, &code, &body, ret_error);
    if (status == STATUS_OK && code != 200) {
        status = error_set(ret_error, STATUS_PROTOCOL, "holdfastd answered %d to %s: %.300s", code,
                           target, body);
    }
    if (status == STATUS_OK) {
        status = answer_parse(body, ret_answer, ret_error);
    }
    free(body);
    return status;
}

/* ------------------------------------------------------------------ /status */

static enum status take_status(const struct cli_options *options, struct top_sample *sample,
                               struct error *ret_error)
{
    struct answer answer;
    bson_iter_t at;
    enum status status = ask(options, "/status?units=0", &answer, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    const bson_iter_t *root = &answer.root;
    sample->ready = answer_find(root, "proxy.ready", &at) && bson_iter_as_bool(&at);
    copy_text(root, "proxy.phase", sample->phase, sizeof sample->phase);
    copy_text(root, "proxy.reason", sample->reason, sizeof sample->reason);
    copy_text(root, "proxy.version", sample->version, sizeof sample->version);
    sample->uptime_ms = number_of(root, "proxy.uptimeMillis");
    sample->open = number_of(root, "units.open");
    sample->committed = number_of(root, "units.committed");
    sample->rolled_back = number_of(root, "units.rolledBack");
    sample->deadlocks = number_of(root, "units.deadlocks");
    sample->locks_held = number_of(root, "units.locksHeld");
    sample->connections = number_of(root, "connections");
    sample->conflicts = number_of(root, "unitsConflict");
    sample->used_bytes = number_of(root, "usedBytes");
    sample->quota_bytes = number_of(root, "quotaBytes");
    sample->records = number_of(root, "records");
    sample->last_lsn = number_of(root, "lastLsn");
    sample->settled_lsn =
        answer_find(root, "settledLsn", &at) ? (uint64_t)bson_iter_as_int64(&at) : UINT64_MAX;
    sample->groups = number_of(root, "groups");
    sample->batches = number_of(root, "batches");
    answer_free(&answer);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ /units */

static void take_who(const bson_iter_t *unit, struct top_unit *taken)
{
    char parts[3][96];
    size_t used = 0;
    copy_text(unit, "user", parts[0], sizeof parts[0]);
    copy_text(unit, "client", parts[1], sizeof parts[1]);
    copy_text(unit, "appName", parts[2], sizeof parts[2]);
    taken->who[0] = '\0';
    for (size_t i = 0; i < 3 && used < sizeof taken->who; i++) {
        if (parts[i][0] != '\0') {
            used += (size_t)snprintf(taken->who + used, sizeof taken->who - used, "%s%s",
                                     used == 0 ? "" : " ", parts[i]);
        }
    }
}

static void take_namespaces(const bson_iter_t *unit, struct top_unit *taken)
{
    bson_iter_t list;
    size_t used = 0;
    taken->namespaces[0] = '\0';
    if (!answer_list(unit, "namespaces", &list)) {
        return;
    }
    while (bson_iter_next(&list) && used < sizeof taken->namespaces) {
        if (BSON_ITER_HOLDS_UTF8(&list)) {
            used += (size_t)snprintf(taken->namespaces + used, sizeof taken->namespaces - used,
                                     "%s%s", used == 0 ? "" : ",", bson_iter_utf8(&list, NULL));
        }
    }
}

static void take_unit(const bson_iter_t *unit, struct top_unit *taken)
{
    *taken = (struct top_unit){
        .number = number_of(unit, "unit"),
        .age_ms = number_of(unit, "ageMillis"),
        .writes = number_of(unit, "writes"),
        .locks = number_of(unit, "locksHeld"),
        .waits_for = number_of(unit, "waitsFor"),
    };
    copy_text(unit, "state", taken->state, sizeof taken->state);
    for (char *at = taken->state; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    copy_text(unit, "boundary", taken->boundary, sizeof taken->boundary);
    take_namespaces(unit, taken);
    take_who(unit, taken);
}

/* The next page. *ret_more: there is another one. */
static enum status take_page(const struct cli_options *options, struct top_sample *sample,
                             bool *ret_more, struct error *ret_error)
{
    char target[64];
    struct answer answer;
    bson_iter_t at;
    bson_iter_t list;
    (void)snprintf(target, sizeof target, "/units?from=%zu&count=%u", sample->unit_count, PAGE);
    enum status status = ask(options, target, &answer, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t before = sample->unit_count;
    if (answer_list(&answer.root, "units", &list)) {
        while (bson_iter_next(&list) && sample->unit_count < TOP_UNITS_MAX) {
            take_unit(&list, &sample->units[sample->unit_count++]);
        }
    }
    *ret_more = answer_find(&answer.root, "more", &at) && bson_iter_as_bool(&at) &&
                sample->unit_count > before && sample->unit_count < TOP_UNITS_MAX;
    answer_free(&answer);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ /metrics */

/* A line `NAME_bucket{...le="0.001"...} 12`: adds it, for other labels may tell series apart. */
static void add_bucket(struct top_histogram *histogram, const char *line)
{
    const char *bound = strstr(line, "le=\"");
    const char *value = strrchr(line, ' ');
    if (bound == NULL || value == NULL) {
        return;
    }
    double le = strncmp(bound + 4, "+Inf", 4) == 0 ? INFINITY : strtod(bound + 4, NULL);
    size_t at = 0;
    while (at < histogram->count && histogram->bounds[at] < le) {
        at++;
    }
    if (at == histogram->count || histogram->bounds[at] > le) {
        if (histogram->count == TOP_BUCKETS_MAX) {
            return;
        }
        size_t behind = histogram->count++ - at;
        memmove(&histogram->bounds[at + 1], &histogram->bounds[at], behind * sizeof(double));
        memmove(&histogram->counts[at + 1], &histogram->counts[at], behind * sizeof(double));
        histogram->bounds[at] = le;
        histogram->counts[at] = 0;
    }
    histogram->counts[at] += strtod(value + 1, NULL);
}

static void take_histogram(char *text, const char *name, struct top_histogram *histogram)
{
    size_t size = strlen(name);
    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n' ? 1 : 0;
        char *end = strchr(line, '\n');
        if (strncmp(line, name, size) == 0 && line[size] == '{' && end != NULL) {
            *end = '\0';
            add_bucket(histogram, line);
            *end = '\n';
        }
    }
}

static enum status take_metrics(const struct cli_options *options, struct top_sample *sample,
                                struct error *ret_error)
{
    char *body = NULL;
    int code = 0;
    enum status status = control_request(options, "GET", "/metrics", &code, &body, ret_error);
    if (status == STATUS_OK && code == 200) {
        take_histogram(body, "holdfast_commit_duration_seconds_bucket", &sample->commit);
        take_histogram(body, "holdfast_journal_fsync_duration_seconds_bucket", &sample->sync);
    }
    free(body);
    return status;
}

enum status top_sample_take(const struct cli_options *options, struct top_sample *ret_sample,
                            struct error *ret_error)
{
    bool more = true;
    memset(ret_sample, 0, offsetof(struct top_sample, units));
    ret_sample->at_ms = clock_monotonic_ms();
    enum status status = take_status(options, ret_sample, ret_error);
    if (status == STATUS_OK) {
        status = take_metrics(options, ret_sample, ret_error);
    }
    /* Before it serves there are no units to ask for. */
    bool serves = strcmp(ret_sample->phase, "serving") == 0;
    while (status == STATUS_OK && serves && more) {
        status = take_page(options, ret_sample, &more, ret_error);
    }
    return status;
}

/* ------------------------------------------------------------------ between two samples */

double top_rate(uint64_t before, uint64_t after, uint64_t elapsed_ms)
{
    return after < before || elapsed_ms == 0
               ? -1
               : (double)(after - before) * 1000.0 / (double)elapsed_ms;
}

/* Within a bucket it is taken for evenly spread, as Prometheus does. */
double top_quantile(const struct top_histogram *before, const struct top_histogram *after,
                    double share)
{
    double below = 0;
    double lower = 0;
    if (after->count == 0 || before->count != after->count) {
        return -1;
    }
    double total = after->counts[after->count - 1] - before->counts[before->count - 1];
    for (size_t i = 0; i < after->count && total > 0; i++) {
        double count = after->counts[i] - before->counts[i];
        if (count >= share * total) {
            return isinf(after->bounds[i]) || count <= below
                       ? lower
                       : lower +
                             (after->bounds[i] - lower) * (share * total - below) / (count - below);
        }
        below = count;
        lower = after->bounds[i];
    }
    return -1;
}
