/*
 * The screen of `holdfast top` (top.h).
 *
 * Invariant: names of users, clients and collections are strangers' texts: all pass output_text(),
 * so that they cannot move the cursor. A line is cut at the width, counted in characters.
 */
#include <bson/bson.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "cli/top.h"

#define LINES_BEFORE_UNITS 8u

/* ------------------------------------------------------------------ figures */

static const char *format_rate(double rate, char text[32])
{
    if (rate < 0) {
        return "-";
    }
    (void)snprintf(text, 32, rate < 100 ? "%.1f/s" : "%.0f/s", rate);
    return text;
}

static const char *format_seconds(double seconds, char text[32])
{
    if (seconds < 0) {
        return "-";
    }
    if (seconds < 0.001) {
        (void)snprintf(text, 32, "%.0f us", seconds * 1e6);
    } else if (seconds < 1) {
        (void)snprintf(text, 32, "%.1f ms", seconds * 1e3);
    } else {
        (void)snprintf(text, 32, "%.1f s", seconds);
    }
    return text;
}

static const char *format_bytes(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t at = 0;
    while (value >= 1024 && at + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        at++;
    }
    (void)snprintf(text, 32, at == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, units[at]);
    return text;
}

static const char *format_age(uint64_t milliseconds, char text[32])
{
    uint64_t seconds = milliseconds / 1000;
    if (seconds < 60) {
        (void)snprintf(text, 32, "%.1f s", (double)milliseconds / 1000);
    } else if (seconds < 3600) {
        (void)snprintf(text, 32, "%" PRIu64 " min %02" PRIu64 " s", seconds / 60, seconds % 60);
    } else if (seconds < 48 * 3600) {
        (void)snprintf(text, 32, "%" PRIu64 " h %02" PRIu64 " min", seconds / 3600,
                       seconds / 60 % 60);
    } else {
        (void)snprintf(text, 32, "%" PRIu64 " d %" PRIu64 " h", seconds / 86400,
                       seconds / 3600 % 24);
    }
    return text;
}

static size_t count_waiting(const struct top_sample *now)
{
    size_t count = 0;
    for (size_t i = 0; i < now->unit_count; i++) {
        count += now->units[i].waits_for != 0;
    }
    return count;
}

/* ------------------------------------------------------------------ lines */

/* Writes what `line` holds, cut at the width, and empties it. */
static void put_line(FILE *stream, const struct top_view *view, const char *text, bool bold)
{
    size_t characters = 0;
    const char *at = text;
    for (; *at != '\0'; at++) {
        if (((unsigned char)*at & 0xc0) != 0x80 && ++characters > view->columns) {
            break;
        }
    }
    char *cut = bson_strndup(text, (size_t)(at - text));
    fputs(bold && view->styled ? "\033[1m" : "", stream);
    output_text(stream, cut);
    fputs(bold && view->styled ? "\033[0m" : "", stream);
    fputc('\n', stream);
    bson_free(cut);
}

static void put_head(FILE *stream, const struct top_sample *now, const struct top_view *view)
{
    char age[32];
    char line[600];
    if (view->failure != NULL) {
        (void)snprintf(line, sizeof line, "holdfast top - %s", view->failure);
    } else if (now->ready) {
        (void)snprintf(line, sizeof line, "holdfast top - %s, up %s, version %s", now->phase,
                       format_age(now->uptime_ms, age), now->version);
    } else {
        (void)snprintf(line, sizeof line, "holdfast top - NOT READY: %s", now->reason);
    }
    put_line(stream, view, line, true);
}

static void put_figures(FILE *stream, const struct top_sample *before, const struct top_sample *now,
                        const struct top_view *view)
{
    char text[6][32];
    char line[256];
    uint64_t elapsed = now->at_ms - before->at_ms;
    (void)snprintf(
        line, sizeof line,
        "Units      %" PRIu64 " open, committed %s, rolled back %s, %" PRIu64 " in conflict",
        now->open, format_rate(top_rate(before->committed, now->committed, elapsed), text[0]),
        format_rate(top_rate(before->rolled_back, now->rolled_back, elapsed), text[1]),
        now->conflicts);
    put_line(stream, view, line, false);
    (void)snprintf(line, sizeof line, "Commit     median %s, 99th percentile %s",
                   format_seconds(top_quantile(&before->commit, &now->commit, 0.5), text[0]),
                   format_seconds(top_quantile(&before->commit, &now->commit, 0.99), text[1]));
    put_line(stream, view, line, false);
    (void)snprintf(line, sizeof line,
                   "Locks      %" PRIu64 " held, %zu units wait, %" PRIu64
                   " deadlocks broken since the start",
                   now->locks_held, count_waiting(now), now->deadlocks);
    put_line(stream, view, line, false);
    (void)snprintf(line, sizeof line,
                   "Journal    %s of %s, %s syncs, median %s, 99th percentile %s",
                   format_bytes(now->used_bytes, text[0]), format_bytes(now->quota_bytes, text[1]),
                   format_rate(top_rate(before->batches, now->batches, elapsed), text[2]),
                   format_seconds(top_quantile(&before->sync, &now->sync, 0.5), text[3]),
                   format_seconds(top_quantile(&before->sync, &now->sync, 0.99), text[4]));
    put_line(stream, view, line, false);
    if (now->settled_lsn == UINT64_MAX) {
        (void)snprintf(line, sizeof line, "Settled    not known");
    } else {
        uint64_t behind = now->last_lsn > now->settled_lsn ? now->last_lsn - now->settled_lsn : 0;
        (void)snprintf(line, sizeof line,
                       "Settled    %" PRIu64 " of %" PRIu64 " records behind; %" PRIu64
                       " connections",
                       behind, now->records, now->connections);
    }
    put_line(stream, view, line, false);
}

/* ------------------------------------------------------------------ units */

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int by_number(const void *a, const void *b)
{
    return compare_numbers(((const struct top_unit *)a)->number,
                           ((const struct top_unit *)b)->number);
}

static int by_age(const void *a, const void *b)
{
    int order =
        compare_numbers(((const struct top_unit *)b)->age_ms, ((const struct top_unit *)a)->age_ms);
    return order != 0 ? order : by_number(a, b);
}

static int by_writes(const void *a, const void *b)
{
    int order =
        compare_numbers(((const struct top_unit *)b)->writes, ((const struct top_unit *)a)->writes);
    return order != 0 ? order : by_number(a, b);
}

static int by_locks(const void *a, const void *b)
{
    int order =
        compare_numbers(((const struct top_unit *)b)->locks, ((const struct top_unit *)a)->locks);
    return order != 0 ? order : by_number(a, b);
}

static void sort_units(struct top_sample *now, enum top_order order)
{
    static int (*const comparisons[])(const void *, const void *) = {
        [TOP_BY_AGE] = by_age,
        [TOP_BY_WRITES] = by_writes,
        [TOP_BY_LOCKS] = by_locks,
        [TOP_BY_NUMBER] = by_number,
    };
    qsort(now->units, now->unit_count, sizeof now->units[0], comparisons[order]);
}

static void put_unit(FILE *stream, const struct top_unit *unit, const struct top_view *view)
{
    char age[32];
    char waits_for[24] = "-";
    char line[400];
    if (unit->waits_for != 0) {
        (void)snprintf(waits_for, sizeof waits_for, "%" PRIu64, unit->waits_for);
    }
    (void)snprintf(
        line, sizeof line, "%8" PRIu64 "  %-10s %-9s %13s %7" PRIu64 " %6" PRIu64 " %9s  %-28s  %s",
        unit->number, unit->state, unit->boundary, format_age(unit->age_ms, age), unit->writes,
        unit->locks, waits_for, unit->namespaces[0] == '\0' ? "-" : unit->namespaces, unit->who);
    put_line(stream, view, line, false);
}

void top_screen_write(FILE *stream, const struct top_sample *before, struct top_sample *now,
                      const struct top_view *view)
{
    char line[120];
    size_t room = view->lines == 0                       ? now->unit_count
                  : view->lines > LINES_BEFORE_UNITS + 1 ? view->lines - LINES_BEFORE_UNITS - 1
                                                         : 0;
    size_t shown = now->unit_count < room ? now->unit_count : room;
    sort_units(now, view->order);
    put_head(stream, now, view);
    put_figures(stream, before, now, view);
    put_line(stream, view, "", false);
    (void)snprintf(line, sizeof line, "%8s  %-10s %-9s %13s %7s %6s %9s  %s", "UNIT", "STATE",
                   "BOUNDARY", "AGE", "WRITES", "LOCKS", "WAITS FOR",
                   "COLLECTIONS                   FOR");
    put_line(stream, view, line, true);
    for (size_t i = 0; i < shown; i++) {
        put_unit(stream, &now->units[i], view);
    }
    if (view->lines == 0 && now->open > shown) {
        (void)snprintf(line, sizeof line, "... and %" PRIu64 " younger ones", now->open - shown);
        put_line(stream, view, line, false);
    }
}

/* ------------------------------------------------------------------ JSON */

static void append_rate(bson_t *document, const char *name, double value)
{
    if (value < 0) {
        BSON_APPEND_NULL(document, name);
    } else {
        BSON_APPEND_DOUBLE(document, name, value);
    }
}

static void append_number(bson_t *document, const char *name, uint64_t value)
{
    BSON_APPEND_INT64(document, name, (int64_t)value);
}

static void append_units(bson_t *document, const struct top_sample *now)
{
    bson_t list;
    bson_t entry;
    BSON_APPEND_ARRAY_BEGIN(document, "list", &list);
    for (size_t i = 0; i < now->unit_count; i++) {
        const struct top_unit *unit = &now->units[i];
        char buffer[16];
        const char *index = NULL;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof buffer);
        BSON_APPEND_DOCUMENT_BEGIN(&list, index, &entry);
        append_number(&entry, "unit", unit->number);
        BSON_APPEND_UTF8(&entry, "state", unit->state);
        BSON_APPEND_UTF8(&entry, "boundary", unit->boundary);
        append_number(&entry, "ageMillis", unit->age_ms);
        append_number(&entry, "writes", unit->writes);
        append_number(&entry, "locksHeld", unit->locks);
        if (unit->waits_for != 0) {
            append_number(&entry, "waitsFor", unit->waits_for);
        }
        bson_append_document_end(&list, &entry);
    }
    bson_append_array_end(document, &list);
}

void top_json_write(FILE *stream, const struct top_sample *before, const struct top_sample *now)
{
    bson_t document = BSON_INITIALIZER;
    uint64_t elapsed = now->at_ms - before->at_ms;
    BSON_APPEND_UTF8(&document, "phase", now->phase);
    BSON_APPEND_BOOL(&document, "ready", now->ready);
    append_number(&document, "open", now->open);
    append_rate(&document, "committedPerSecond",
                top_rate(before->committed, now->committed, elapsed));
    append_rate(&document, "rolledBackPerSecond",
                top_rate(before->rolled_back, now->rolled_back, elapsed));
    append_rate(&document, "commitMedianSeconds", top_quantile(&before->commit, &now->commit, 0.5));
    append_rate(&document, "commitP99Seconds", top_quantile(&before->commit, &now->commit, 0.99));
    append_number(&document, "unitsConflict", now->conflicts);
    append_number(&document, "locksHeld", now->locks_held);
    append_number(&document, "unitsWaiting", count_waiting(now));
    append_number(&document, "deadlocks", now->deadlocks);
    append_number(&document, "usedBytes", now->used_bytes);
    append_number(&document, "quotaBytes", now->quota_bytes);
    append_rate(&document, "syncsPerSecond", top_rate(before->batches, now->batches, elapsed));
    append_rate(&document, "syncMedianSeconds", top_quantile(&before->sync, &now->sync, 0.5));
    append_rate(&document, "syncP99Seconds", top_quantile(&before->sync, &now->sync, 0.99));
    append_number(&document, "lastLsn", now->last_lsn);
    if (now->settled_lsn != UINT64_MAX) {
        append_number(&document, "settledLsn", now->settled_lsn);
    }
    append_number(&document, "connections", now->connections);
    append_units(&document, now);
    output_bson_line(stream, &document);
    bson_destroy(&document);
}
