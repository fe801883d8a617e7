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
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "holdfast/crash_point.h"
#include "recover/redo.h"
#include "recover/survey.h"
#include "recover/undo.h"

struct text_list {
    char **texts;
    size_t count;
    size_t capacity;
};

struct recovery {
    struct wal *wal;
    struct upstream *upstream;
    const struct recovery_options *options;
    struct recovery_report *report;
    struct survey survey;
    struct text_list addresses;
};

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
    void *more = memory_reserve(list->texts, list->count, &list->capacity, sizeof(*list->texts));
    if (more == NULL) {
        return false;
    }
    list->texts = more;
    list->texts[list->count] = strdup(text);
    if (list->texts[list->count] == NULL) {
        return false;
    }
    list->count++;
    return true;
}

/* ------------------------------------------------------------------ 1. read every open unit */

/* Reads each once to see that it can be read, one at a time to bound memory. */
static enum status check_open(struct recovery *recovery, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < recovery->survey.open_count && status == STATUS_OK; i++) {
        struct unit_history *history = NULL;
        status = unit_history_load(recovery->wal, recovery->survey.open[i], &history, ret_error);
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

static enum status fence_addresses(struct recovery *recovery, const char *const *addresses,
                                   size_t count, struct error *ret_error)
{
    const struct recovery_options *options = recovery->options;
    return fence_wait(recovery->upstream, addresses, count, options->fence_ms, options->fencing,
                      options->context, &recovery->report->fence, ret_error);
}

/*
 * The connections that carried units' writes, whose addresses the journal knows. And those of the
 * former proxy's own rollbacks and recoveries, which it does not: for these the whole wait passes.
 */
static enum status fence(struct recovery *recovery, struct error *ret_error)
{
    static const char *const nobody[] = {FENCE_NOBODY};
    const char *const *addresses = (const char *const *)recovery->addresses.texts;
    enum status status = STATUS_OK;
    if (recovery->options->dry_run) {
        return STATUS_OK;
    }
    if (recovery->options->alone) {
        recovery->report->fence = FENCE_GONE;
        CRASH_POINT(recovery_fenced);
        return STATUS_OK;
    }
    if (recovery->addresses.count > 0) {
        status = fence_addresses(recovery, addresses, recovery->addresses.count, ret_error);
    }
    if (status == STATUS_OK && recovery->report->fence != FENCE_WAITED) {
        status = fence_addresses(recovery, nobody, 1, ret_error);
    }
    if (status == STATUS_OK) {
        CRASH_POINT(recovery_fenced);
    }
    return status;
}

/* ------------------------------------------------------------------ 3. roll back */

static enum status append_end(struct recovery *recovery, uint64_t unit, enum wal_kind kind,
                              struct slice payload, struct error *ret_error)
{
    struct wal_append append = {.kind = kind, .unit = unit, .payload = payload};
    return wal_append_wait(recovery->wal, &append, ret_error);
}

static struct slice payload_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

/* A full journal still has room for a short record: then the images are left out. */
static enum status append_conflict(struct recovery *recovery, uint64_t unit, struct slice conflict,
                                   struct error *ret_error)
{
    enum status status = append_end(recovery, unit, WAL_KIND_CONFLICT, conflict, ret_error);
    if (status == STATUS_FULL) {
        bson_t payload = BSON_INITIALIZER;
        status = record_put_conflict_short(&payload, conflict, ret_error);
        if (status == STATUS_OK) {
            status = append_end(recovery, unit, WAL_KIND_CONFLICT, payload_of(&payload), ret_error);
        }
        bson_destroy(&payload);
    }
    return status;
}

static enum status append_abort(struct recovery *recovery, uint64_t unit, struct error *ret_error)
{
    bson_t payload = BSON_INITIALIZER;
    const char *reason = recovery->options->reason;
    record_put_abort(&payload, reason == NULL ? "recovery" : reason);
    CRASH_POINT(abort_undone);
    enum status status =
        append_end(recovery, unit, WAL_KIND_ABORT, payload_of(&payload), ret_error);
    bson_destroy(&payload);
    if (status == STATUS_OK) {
        CRASH_POINT(abort_durable);
    }
    return status;
}

static void count_result(struct recovery_report *report, enum recovery_result result)
{
    switch (result) {
    case RECOVERY_ROLLED_BACK:
        report->units_rolled_back++;
        break;
    case RECOVERY_REDONE:
        report->units_redone++;
        break;
    case RECOVERY_CONFLICT:
        report->conflicts_new++;
        report->conflicts_left++;
        break;
    }
}

/* Journals how the unit has ended, and tells. */
static enum status end_unit(struct recovery *recovery, const struct recovery_unit *unit,
                            struct error *ret_error)
{
    enum status status = STATUS_OK;
    bool looks_only = recovery->options->dry_run;
    if (!looks_only && unit->result == RECOVERY_CONFLICT) {
        status = append_conflict(recovery, unit->history->unit, unit->conflict, ret_error);
    } else if (!looks_only && unit->history->state == WAL_UNIT_OPEN) {
        status = append_abort(recovery, unit->history->unit, ret_error);
    }
    if (status == STATUS_OK) {
        count_result(recovery->report, unit->result);
        if (recovery->options->unit_done != NULL) {
            recovery->options->unit_done(unit, recovery->options->context);
        }
        CRASH_POINT(recovery_unit_done);
    }
    return status;
}

static enum status undo_one(struct recovery *recovery, const struct unit_history *history,
                            struct error *ret_error)
{
    bson_t conflict = BSON_INITIALIZER;
    struct undo_summary summary;
    enum undo_result result = UNDO_DONE;
    enum status status =
        recovery->options->dry_run
            ? undo_check(recovery->upstream, history, &result, &conflict, &summary, ret_error)
            : undo_unit(recovery->upstream, history, &result, &conflict, ret_error);
    if (status == STATUS_OK) {
        struct recovery_unit done = {
            .history = history,
            .result = result == UNDO_DONE ? RECOVERY_ROLLED_BACK : RECOVERY_CONFLICT,
            .conflict = payload_of(&conflict),
        };
        status = end_unit(recovery, &done, ret_error);
    }
    bson_destroy(&conflict);
    return status == STATUS_OK ? STATUS_OK
                               : error_prefix(ret_error, "unit %" PRIu64, history->unit);
}

static enum status roll_back(struct recovery *recovery, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < recovery->survey.open_count && status == STATUS_OK; i++) {
        struct unit_history *history = NULL;
        status = unit_history_load(recovery->wal, recovery->survey.open[i], &history, ret_error);
        if (status == STATUS_OK) {
            status = undo_one(recovery, history, ret_error);
        }
        unit_history_free(history);
    }
    return status;
}

/* ------------------------------------------------------------------ 3. or redo */

static enum status on_redone(const struct redo_unit *unit, void *context, struct error *ret_error)
{
    struct recovery *recovery = context;
    static const enum recovery_result results[] = {
        [REDO_REDONE] = RECOVERY_REDONE,
        [REDO_ABSENT] = RECOVERY_ROLLED_BACK,
        [REDO_CONFLICT] = RECOVERY_CONFLICT,
    };
    /* One that was whole, or rolled back before already, is no news. */
    if (unit->fate == REDO_WHOLE ||
        (unit->fate == REDO_ABSENT && unit->history->state != WAL_UNIT_OPEN)) {
        return STATUS_OK;
    }
    struct recovery_unit done = {
        .history = unit->history, .result = results[unit->fate], .conflict = unit->conflict};
    return end_unit(recovery, &done, ret_error);
}

static enum status redo(struct recovery *recovery, struct error *ret_error)
{
    struct redo_options options = {
        .units = recovery->survey.units,
        .unit_count = recovery->survey.unit_count,
        .probe = recovery->survey.survived_probe,
        .dry_run = recovery->options->dry_run,
        .unit_done = on_redone,
        .context = recovery,
    };
    struct redo_report report;
    enum status status = redo_run(recovery->wal, recovery->upstream, &options, &report, ret_error);
    recovery->report->documents_lost = report.moved;
    return status;
}

/* ------------------------------------------------------------------ 4. the new probe */

static enum status make_probe(struct recovery *recovery, struct error *ret_error)
{
    struct probe probe = recovery->survey.next;
    probe.lsn = wal_last_lsn(recovery->wal);
    /* First: with the property and without the probe nothing is taken for kept that may be lost. */
    enum status status = survey_note_probe(recovery->wal, &probe, ret_error);
    if (status == STATUS_OK) {
        status = probe_make(recovery->upstream, &probe, ret_error);
    }
    if (status == STATUS_OK) {
        recovery->report->probe = probe;
        CRASH_POINT(probe_made);
    }
    return status;
}

static void recovery_free(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->addresses.count; i++) {
        free(recovery->addresses.texts[i]);
    }
    free(recovery->addresses.texts);
    survey_free(&recovery->survey);
}

static enum status run(struct recovery *recovery, struct error *ret_error)
{
    const struct recovery_options *options = recovery->options;
    size_t open = recovery->survey.open_count;
    enum status status = check_open(recovery, ret_error);
    bool was_at_work = open > 0 || recovery->survey.may_have_lost;
    if (status == STATUS_OK && (was_at_work || options->fence_blindly)) {
        status = fence(recovery, ret_error);
    }
    if (status == STATUS_OK && open > 0 && !options->dry_run) {
        status = upstream_scratch_clear(recovery->upstream, ret_error);
    }
    if (status == STATUS_OK) {
        status = recovery->survey.may_have_lost ? redo(recovery, ret_error)
                                                : roll_back(recovery, ret_error);
    }
    if (status == STATUS_OK && options->lease != NULL && !options->dry_run) {
        status = make_probe(recovery, ret_error);
    }
    return status;
}

enum status recovery_run(struct wal *wal, struct upstream *upstream,
                         const struct recovery_options *options, struct recovery_report *ret_report,
                         struct error *ret_error)
{
    struct recovery recovery = {
        .wal = wal, .upstream = upstream, .options = options, .report = ret_report};
    *ret_report = (struct recovery_report){.fence = FENCE_NONE};
    enum status status = survey_make(wal, upstream, options->lease, &recovery.survey, ret_error);
    if (status == STATUS_OK) {
        ret_report->server_restarted = recovery.survey.may_have_lost;
        ret_report->survived_lsn = recovery.survey.survived_lsn;
        ret_report->units_in_doubt = recovery.survey.unit_count;
        ret_report->conflicts_left = recovery.survey.conflicts;
        status = run(&recovery, ret_error);
    }
    if (status == STATUS_OK) {
        CRASH_POINT(recovery_finished);
    }
    recovery_free(&recovery);
    return status;
}
