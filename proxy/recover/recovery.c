/*
 * Recovery of a journal's open units (recovery.h).
 *
 * Invariants: every open unit was read whole before the first image is touched; a unit's ABORT is
 * written only after all its before-images were seen in place; no reader is kept open while
 * upstream is worked on, so that the journal's pages can be used again.
 *
 * Threads: the caller's, which owns the struct upstream.
 */

#include "recover/recovery.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/crash_point.h"

struct text_list {
    char **texts;
    size_t count;
    size_t capacity;
};

struct open_unit {
    uint64_t unit;
    uint64_t last_lsn;
};

struct open_list {
    struct open_unit *units;
    size_t count;
    size_t capacity;
};

struct recovery {
    struct wal *wal;
    struct upstream *upstream;
    const struct recovery_options *options;
    struct recovery_report *report;
    struct open_list open;
    struct text_list addresses;
};

/* Makes room for one more; false if there is no memory. */
static bool reserve(void **items, size_t count, size_t *capacity, size_t item_size)
{
    if (count < *capacity) {
        return true;
    }
    size_t wanted = *capacity == 0 ? 16 : *capacity * 2;
    void *more = realloc(*items, wanted * item_size);
    if (more == NULL) {
        return false;
    }
    *items = more;
    *capacity = wanted;
    return true;
}

/* A unit's writes mostly share one connection: comparing with the last few is enough. */
static bool add_address(struct text_list *list, const char *text)
{
    size_t first = list->count > 8 ? list->count - 8 : 0;
    if (text[0] == '\0') {
        return true;
    }
    for (size_t i = first; i < list->count; i++) {
        if (strcmp(list->texts[i], text) == 0) {
            return true;
        }
    }
    void *items = list->texts;
    if (!reserve(&items, list->count, &list->capacity, sizeof(*list->texts))) {
        return false;
    }
    list->texts = items;
    list->texts[list->count] = strdup(text);
    if (list->texts[list->count] == NULL) {
        return false;
    }
    list->count++;
    return true;
}

/* ------------------------------------------------------------------ 1. read every open unit */

static enum status list_open(struct recovery *recovery, struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    struct wal_unit unit = {0};
    enum status status = wal_reader_begin(recovery->wal, &reader, ret_error);
    while (status == STATUS_OK) {
        status = wal_read_open_next(reader, unit.unit, &unit, ret_error);
        if (status != STATUS_OK) {
            break;
        }
        if (unit.state == WAL_UNIT_CONFLICT) {
            recovery->report->conflicts_left++;
            continue;
        }
        void *items = recovery->open.units;
        if (!reserve(&items, recovery->open.count, &recovery->open.capacity,
                     sizeof(*recovery->open.units))) {
            status = error_set(ret_error, STATUS_MEMORY, "out of memory");
            break;
        }
        recovery->open.units = items;
        recovery->open.units[recovery->open.count].unit = unit.unit;
        recovery->open.units[recovery->open.count].last_lsn = unit.last_lsn;
        recovery->open.count++;
    }
    wal_reader_end(reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static int compare_newest_first(const void *a_void, const void *b_void)
{
    const struct open_unit *a = a_void;
    const struct open_unit *b = b_void;
    return a->last_lsn == b->last_lsn ? 0 : a->last_lsn > b->last_lsn ? -1 : 1;
}

/* Reads each once to see that it can be read, one at a time to bound memory. */
static enum status check_open(struct recovery *recovery, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < recovery->open.count && status == STATUS_OK; i++) {
        struct unit_history *history = NULL;
        status =
            unit_history_load(recovery->wal, recovery->open.units[i].unit, &history, ret_error);
        for (size_t w = 0; status == STATUS_OK && w < history->write_count; w++) {
            if (!add_address(&recovery->addresses, history->writes[w].connection)) {
                status = error_set(ret_error, STATUS_MEMORY, "out of memory");
            }
        }
        unit_history_free(history);
    }
    if (status == STATUS_CORRUPT) {
        error_prefix(ret_error, "an open unit cannot be read, nothing was rolled back");
    }
    return status;
}

/* ------------------------------------------------------------------ 2. fence */

static enum status fence(struct recovery *recovery, struct error *ret_error)
{
    static const char *const nobody[] = {FENCE_NOBODY};
    const char *const *addresses = (const char *const *)recovery->addresses.texts;
    size_t count = recovery->addresses.count;
    if (recovery->options->dry_run) {
        return STATUS_OK;
    }
    if (recovery->options->fence_blindly) {
        /* No address of theirs is known. */
        addresses = nobody;
        count = 1;
    }
    enum status status =
        fence_wait(recovery->upstream, addresses, count, recovery->options->fence_ms,
                   recovery->options->fencing, recovery->options->context, &recovery->report->fence,
                   ret_error);
    if (status == STATUS_OK) {
        CRASH_POINT(recovery_fenced);
    }
    return status;
}

/* ------------------------------------------------------------------ 3. roll back */

static enum status append_end(struct recovery *recovery, uint64_t unit, enum wal_kind kind,
                              const bson_t *payload, struct error *ret_error)
{
    struct wal_append append = {
        .kind = kind,
        .unit = unit,
        .payload = slice_make(bson_get_data(payload), payload->len),
    };
    return wal_append_wait(recovery->wal, &append, ret_error);
}

/* A full journal still has room for a short record: then the images are left out. */
static enum status append_conflict(struct recovery *recovery, uint64_t unit, const bson_t *conflict,
                                   struct error *ret_error)
{
    enum status status = append_end(recovery, unit, WAL_KIND_CONFLICT, conflict, ret_error);
    if (status == STATUS_FULL) {
        bson_t payload = BSON_INITIALIZER;
        status = record_put_conflict_short(
            &payload, slice_make(bson_get_data(conflict), conflict->len), ret_error);
        if (status == STATUS_OK) {
            status = append_end(recovery, unit, WAL_KIND_CONFLICT, &payload, ret_error);
        }
        bson_destroy(&payload);
    }
    return status;
}

static enum status end_unit(struct recovery *recovery, uint64_t unit, enum undo_result result,
                            const bson_t *conflict, struct error *ret_error)
{
    if (recovery->options->dry_run) {
        return STATUS_OK;
    }
    if (result == UNDO_CONFLICT) {
        return append_conflict(recovery, unit, conflict, ret_error);
    }
    bson_t payload = BSON_INITIALIZER;
    const char *reason = recovery->options->reason;
    record_put_abort(&payload, reason == NULL ? "recovery" : reason);
    CRASH_POINT(abort_undone);
    enum status status = append_end(recovery, unit, WAL_KIND_ABORT, &payload, ret_error);
    bson_destroy(&payload);
    if (status == STATUS_OK) {
        CRASH_POINT(abort_durable);
    }
    return status;
}

static enum status undo_one(struct recovery *recovery, const struct unit_history *history,
                            struct error *ret_error)
{
    bson_t conflict = BSON_INITIALIZER;
    struct recovery_unit done = {.history = history};
    enum status status;
    if (recovery->options->dry_run) {
        status = undo_check(recovery->upstream, history, &done.result, &conflict, &done.summary,
                            ret_error);
    } else {
        status = undo_unit(recovery->upstream, history, &done.result, &conflict, ret_error);
    }
    if (status == STATUS_OK) {
        status = end_unit(recovery, history->unit, done.result, &conflict, ret_error);
    }
    if (status == STATUS_OK) {
        if (done.result == UNDO_CONFLICT) {
            recovery->report->conflicts_new++;
            recovery->report->conflicts_left++;
            done.conflict = slice_make(bson_get_data(&conflict), conflict.len);
        } else {
            recovery->report->units_rolled_back++;
        }
        if (recovery->options->unit_done != NULL) {
            status = recovery->options->unit_done(&done, recovery->options->context, ret_error);
        }
        CRASH_POINT(recovery_unit_done);
    } else {
        error_prefix(ret_error, "unit %" PRIu64, history->unit);
    }
    bson_destroy(&conflict);
    return status;
}

static enum status roll_back(struct recovery *recovery, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < recovery->open.count && status == STATUS_OK; i++) {
        struct unit_history *history = NULL;
        status =
            unit_history_load(recovery->wal, recovery->open.units[i].unit, &history, ret_error);
        if (status == STATUS_OK) {
            status = undo_one(recovery, history, ret_error);
        }
        unit_history_free(history);
    }
    return status;
}

static void recovery_free(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->addresses.count; i++) {
        free(recovery->addresses.texts[i]);
    }
    free(recovery->addresses.texts);
    free(recovery->open.units);
}

enum status recovery_run(struct wal *wal, struct upstream *upstream,
                         const struct recovery_options *options, struct recovery_report *ret_report,
                         struct error *ret_error)
{
    struct recovery recovery = {
        .wal = wal, .upstream = upstream, .options = options, .report = ret_report};
    *ret_report = (struct recovery_report){.fence = FENCE_NONE};
    enum status status = list_open(&recovery, ret_error);
    if (status == STATUS_OK) {
        status = check_open(&recovery, ret_error);
    }
    if (status == STATUS_OK && recovery.open.count > 0) {
        qsort(recovery.open.units, recovery.open.count, sizeof(*recovery.open.units),
              compare_newest_first);
    }
    if (status == STATUS_OK && (recovery.open.count > 0 || options->fence_blindly)) {
        status = fence(&recovery, ret_error);
    }
    if (status == STATUS_OK && recovery.open.count > 0 && !options->dry_run) {
        status = upstream_scratch_clear(upstream, ret_error);
    }
    if (status == STATUS_OK) {
        status = roll_back(&recovery, ret_error);
    }
    if (status == STATUS_OK) {
        CRASH_POINT(recovery_finished);
    }
    recovery_free(&recovery);
    return status;
}
