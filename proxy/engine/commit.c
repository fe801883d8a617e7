/*
 * Committing a unit.
 *
 *   OPEN -> COMMITTING -> [COMMIT and the last after-images durable] -> COMMITTED, locks released
 *
 * Durable before acknowledged; and the locks go before the acknowledgement, so that the client's
 * next transaction, which may follow at once on another connection, does not meet its own locks.
 * Starts on the thread that has the unit checked out, goes on on the journal's writer thread.
 */
#include <stdlib.h>

#include "engine/begin.h"
#include "engine/finish.h"
#include "engine/known.h"
#include "engine/native_unit.h"
#include "engine/release.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "recover/record.h"

static void on_appended(struct wal_append *first, void *context)
{
    struct commit *commit = context;
    enum status status = first->status;
    bson_destroy(&commit->payload);
    bson_destroy(&commit->begin_payload);
    if (status == STATUS_OK) {
        CRASH_POINT(commit_durable);
        histogram_observe(&commit->engine->counters.commit,
                          clock_monotonic_us() - commit->started_us);
        unit_state_set(commit->unit, UNIT_COMMITTED);
        release_unit(commit->engine, commit->unit);
    } else if (status == STATUS_FULL) {
        unit_state_set(commit->unit, UNIT_ABORTING);
    } else {
        release_end_process("a commit record could not be made durable", commit->unit, status);
    }
    commit->completed(commit, status);
}

void commit_start(struct commit *commit)
{
    struct unit *unit = commit->unit;
    CRASH_POINT(commit_requested);
    unit_state_set(unit, UNIT_COMMITTING);
    if (commit->engine->native == NULL || !native_unit_commit(commit)) {
        commit_journal(commit);
    }
}

void commit_journal(struct commit *commit)
{
    struct unit *unit = commit->unit;
    if (!unit->begun && !unit->is_request) {
        unit_state_set(unit, UNIT_COMMITTED);
        release_unit(commit->engine, unit);
        commit->completed(commit, STATUS_OK);
        return;
    }
    struct record_known *known = NULL;
    size_t count = 0;
    commit->started_us = clock_monotonic_us();
    bson_init(&commit->payload);
    bson_init(&commit->begin_payload);
    if (known_collect(unit, &known, &count) != STATUS_OK) {
        unit_state_set(unit, UNIT_ABORTING);
        commit->completed(commit, STATUS_FULL);
        return;
    }
    record_put_commit(&commit->payload, known, count, commit->reply);
    free(known);
    commit->append = (struct wal_append){
        .kind = WAL_KIND_COMMIT,
        .unit = unit->id,
        .payload = slice_make(bson_get_data(&commit->payload), commit->payload.len),
        .completed = on_appended,
        .context = commit,
    };
    if (!unit->begun) {
        begin_make(unit, &commit->begin_payload, &commit->begin);
        commit->begin.next = &commit->append;
        commit->begin.completed = on_appended;
        commit->begin.context = commit;
        wal_append(commit->engine->wal, &commit->begin);
        return;
    }
    wal_append(commit->engine->wal, &commit->append);
}
