/*
 * The ends of a unit that is a transaction of the server (native_unit.h): commit, and rollback.
 *
 * Invariant: a unit whose commit was sent ends by what the server says of it, and by nothing else.
 */
#include <string.h>

#include "engine/begin.h"
#include "engine/native_unit_private.h"
#include "engine/release.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/log.h"
#include "wire/bson_walk.h"
#include "wire/command.h"

#define PATIENCE_PART 10u
#define REFUSED "the server has refused the commit"

static void end_command(bson_t *command, const char *name, const struct native_unit_state *state)
{
    BSON_APPEND_INT32(command, name, 1);
    native_unit_put_transaction(command, state);
    if (!bson_empty(&state->recovery_token)) {
        BSON_APPEND_DOCUMENT(command, "recoveryToken", &state->recovery_token);
    }
    bson_concat(command, &state->api);
    BSON_APPEND_UTF8(command, "$db", "admin");
}

static void abort_elsewhere(struct native *native, const struct unit *unit)
{
    const struct native_unit_state *state = unit->native;
    native_asker_abort(native, unit->user, &state->lsid, &state->api, NATIVE_UNIT_NUMBER);
}

/* ------------------------------------------------------------------ commit */

static void end_without(struct commit *commit, enum unit_state state, const char *reason)
{
    if (state == UNIT_ABORTED) {
        unit_state_set(commit->unit, UNIT_ABORTING);
    }
    unit_state_set(commit->unit, state);
    commit->unit->end_reason = reason;
    release_unit(commit->engine, commit->unit);
    commit->completed(commit, STATUS_CONFLICT);
}

/* The asking thread's; it has journaled the outcome. */
static void on_told(void *context, enum commit_verdict verdict)
{
    struct commit *commit = context;
    if (verdict == COMMIT_COMMITTED) {
        unit_state_set(commit->unit, UNIT_COMMITTED);
        release_unit(commit->engine, commit->unit);
        commit->completed(commit, STATUS_OK);
    } else if (verdict == COMMIT_LOST) {
        end_without(commit, UNIT_ABORTED, "the server has lost its transaction");
    } else {
        unit_state_set(commit->unit, UNIT_ABORTING);
        end_without(commit, UNIT_CONFLICT, "the outcome of its commit is unknown");
    }
}

static void put_committing(const struct native_unit_state *state, bool with_commands,
                           struct slice reply, bson_t *payload)
{
    const bson_t *token = &state->recovery_token;
    const struct record_committing committing = {
        .lsid = slice_make(bson_get_data(&state->lsid), state->lsid.len),
        .transaction_number = NATIVE_UNIT_NUMBER,
        .recovery_token = slice_make(bson_get_data(token), bson_empty(token) ? 0 : token->len),
        .api = slice_make(bson_get_data(&state->api), bson_empty(&state->api) ? 0 : state->api.len),
        .process = state->has_process ? state->process : NULL,
        .commands = with_commands && state->command_count > 0
                        ? slice_make(bson_get_data(&state->commands), state->commands.len)
                        : (struct slice){0},
        .left = with_commands ? state->left : 0,
        .reply = reply,
    };
    record_put_committing(payload, &committing);
}

static void ask_elsewhere(struct commit *commit, bool unsent)
{
    struct native *native = commit->engine->native;
    struct unit *unit = commit->unit;
    struct native_doubt *doubt = native_doubt_new(unit->id, unit->user);
    if (doubt == NULL) {
        native_end_process("out of memory for a commit without an answer", unit->id, STATUS_MEMORY);
    }
    if (!unsent) {
        LOG(LOG_WARNING, "recovery", "The server's answer to a commit is lost: asking again",
            LOG_NUMBER("unit", unit->id), LOG_TEXT("user", unit->user));
    }
    doubt->number = NATIVE_UNIT_NUMBER;
    doubt->counted = true;
    doubt->unsent = unsent;
    doubt->told = on_told;
    doubt->context = commit;
    put_committing(unit->native, false, commit->reply, &doubt->committing);
    native_asker_add(native, doubt);
}

/*
 * The end that the server has told is in the journal, or there is no room for it, which does not
 * change it: then a shorter record is tried, and without that recovery asks.
 */
static void check_kept(struct commit *commit, enum wal_kind kind, const char *reason)
{
    enum status status = commit->append.status;
    bson_destroy(&commit->payload);
    if (status == STATUS_IO) {
        native_end_process("the end of a unit could not be made durable", commit->unit->id, status);
    } else if (status != STATUS_OK) {
        native_outcome_append(commit->engine->native, commit->unit->id, kind, reason, commit->reply,
                              true);
    }
}

/* The journal's writer thread, as the next. */
static void on_commit_kept(struct wal_append *first, void *context)
{
    struct commit *commit = context;
    (void)first;
    check_kept(commit, WAL_KIND_COMMIT, NULL);
    histogram_observe(&commit->engine->counters.commit, clock_monotonic_us() - commit->started_us);
    unit_state_set(commit->unit, UNIT_COMMITTED);
    release_unit(commit->engine, commit->unit);
    commit->completed(commit, STATUS_OK);
}

static void on_abort_kept(struct wal_append *first, void *context)
{
    struct commit *commit = context;
    (void)first;
    check_kept(commit, WAL_KIND_ABORT, REFUSED);
    end_without(commit, UNIT_ABORTED, "the server has lost its transaction");
}

/* Waited for: what it says is what a command that comes again goes by. */
static void keep_end(struct commit *commit, enum wal_kind kind)
{
    bson_init(&commit->payload);
    if (kind == WAL_KIND_COMMIT) {
        record_put_commit(&commit->payload, NULL, 0, commit->reply);
    } else {
        record_put_abort(&commit->payload, REFUSED);
    }
    commit->append = (struct wal_append){
        .kind = kind,
        .unit = commit->unit->id,
        .payload = slice_make(bson_get_data(&commit->payload), commit->payload.len),
        .completed = kind == WAL_KIND_COMMIT ? on_commit_kept : on_abort_kept,
        .context = commit,
    };
    wal_append(commit->engine->wal, &commit->append);
}

static const char *const time_names[] = {"operationTime", "$clusterTime", NULL};

static void note_times(struct native_unit_state *state, struct slice reply)
{
    struct bson_element element;
    struct slice cluster = bson_document_find(reply, time_names[1]);
    bson_t view;
    if (bson_element_find(reply, time_names[0], &element) && element.type == BSON_TYPE_TIMESTAMP) {
        bson_append_timestamp(&state->times, element.name, -1,
                              slice_load_u32le(element.value.data + 4),
                              slice_load_u32le(element.value.data));
    }
    if (cluster.size > 0 && bson_init_static(&view, cluster.data, cluster.size)) {
        bson_append_document(&state->times, time_names[1], -1, &view);
    }
}

void native_unit_put_times(const struct unit *unit, bson_t *reply)
{
    const struct native_unit_state *state = unit->native;
    bson_t rest;
    if (state == NULL || bson_empty(&state->times) ||
        command_copy_without(&rest, slice_make(bson_get_data(reply), reply->len), time_names) !=
            STATUS_OK) {
        return;
    }
    bson_reinit(reply);
    bson_concat(reply, &rest);
    bson_concat(reply, &state->times);
    bson_destroy(&rest);
}

static void on_commit_answered(void *context, enum status status, struct slice reply)
{
    static const struct commit_asked first = {.again = false};
    struct commit *commit = context;
    int32_t code = 0;
    enum commit_verdict verdict =
        status == STATUS_OK ? commit_verdict(reply, &first, &code) : COMMIT_OPEN;
    if (status == STATUS_OK) {
        CRASH_POINT(native_answered);
    }
    if (verdict == COMMIT_COMMITTED) {
        note_times(commit->unit->native, reply);
        keep_end(commit, WAL_KIND_COMMIT);
    } else if (verdict == COMMIT_LOST) {
        keep_end(commit, WAL_KIND_ABORT);
    } else {
        if (commit->left != NULL) {
            commit->left(commit);
        }
        ask_elsewhere(commit, false);
    }
}

static void on_commit_task(struct worker_task *task)
{
    struct commit *commit =
        (struct commit *)(void *)((uint8_t *)task - offsetof(struct commit, task));
    bson_t command = BSON_INITIALIZER;
    bson_t concern;
    end_command(&command, "commitTransaction", commit->unit->native);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "writeConcern", &concern);
    BSON_APPEND_UTF8(&concern, "w", "majority");
    bson_append_document_end(&command, &concern);
    commit->channel->send(commit->channel, slice_make(bson_get_data(&command), command.len),
                          on_commit_answered, commit);
    CRASH_POINT(native_sent);
    bson_destroy(&command);
}

static void journal_commit(struct commit *commit);

/* The journal's writer thread. */
static void on_committing(struct wal_append *first, void *context)
{
    struct commit *commit = context;
    struct native_unit_state *state = commit->unit->native;
    enum status status = first->status;
    if (status == STATUS_INVALID && state->begin_appended) { /* there was no room for BEGIN then */
        state->begin_appended = false;
        journal_commit(commit);
        return;
    }
    bson_destroy(&commit->payload);
    bson_destroy(&commit->begin_payload);
    if (status == STATUS_FULL) {
        unit_state_set(commit->unit, UNIT_ABORTING);
        commit->completed(commit, status);
        return;
    }
    if (status != STATUS_OK) {
        native_end_process("a COMMITTING record could not be made durable", commit->unit->id,
                           status);
    }
    commit->unit->begun = true;
    CRASH_POINT(native_committing);
    if (commit->channel == NULL) {
        ask_elsewhere(commit, true);
        return;
    }
    commit->task.run = on_commit_task;
    worker_post(commit->channel->worker, &commit->task);
}

/* ------------------------------------------------------------------ of what has only read */

static void on_left(void *context, enum status status, struct slice reply)
{
    struct commit *commit = context;
    (void)reply; /* a transaction that is gone is ended, too */
    if (status != STATUS_OK) {
        abort_elsewhere(commit->engine->native, commit->unit);
    }
    commit_journal(commit);
}

/* There is nothing to commit: the transaction is left, for the server. */
static void leave(struct commit *commit)
{
    bson_t command = BSON_INITIALIZER;
    if (commit->channel == NULL) {
        on_left(commit, STATUS_UNREACHABLE, (struct slice){0});
        return;
    }
    end_command(&command, "abortTransaction", commit->unit->native);
    commit->channel->send(commit->channel, slice_make(bson_get_data(&command), command.len),
                          on_left, commit);
    bson_destroy(&command);
}

/* COMMITTING, with BEGIN if that is not there. */
static void journal_commit(struct commit *commit)
{
    struct native_unit_state *state = commit->unit->native;
    uint64_t patience_us = (clock_monotonic_us() - state->began_us) / PATIENCE_PART;
    commit->append = (struct wal_append){
        .kind = WAL_KIND_COMMITTING,
        .unit = commit->unit->id,
        .payload = slice_make(bson_get_data(&commit->payload), commit->payload.len),
        .completed = on_committing,
        .context = commit,
    };
    struct wal_append *first = &commit->append;
    if (!commit->unit->begun && !state->begin_appended) {
        begin_make(commit->unit, &commit->begin_payload, &commit->begin);
        commit->begin.next = &commit->append;
        commit->begin.completed = on_committing;
        commit->begin.context = commit;
        first = &commit->begin;
    }
    first->patience_us =
        patience_us < WAL_PATIENCE_US_MAX ? (uint32_t)patience_us : WAL_PATIENCE_US_MAX;
    wal_append(commit->engine->wal, first);
}

bool native_unit_commit(struct commit *commit)
{
    struct native_unit_state *state = commit->unit->native;
    if (state == NULL || !state->begun) {
        return false;
    }
    if (!state->wrote) {
        leave(commit);
        return true;
    }
    commit->started_us = clock_monotonic_us();
    state->has_process = commit->process != NULL;
    if (commit->process != NULL) {
        memcpy(state->process, commit->process, sizeof state->process);
    }
    bson_init(&commit->payload);
    bson_init(&commit->begin_payload);
    put_committing(state, true, commit->reply, &commit->payload);
    journal_commit(commit);
    return true;
}

/* ------------------------------------------------------------------ rollback */

static void end_rollback(struct rollback *rollback)
{
    const struct native_unit_state *state = rollback->unit->native;
    if (rollback->unit->begun || (state != NULL && state->begin_appended)) {
        native_outcome_append(rollback->engine->native, rollback->unit->id, WAL_KIND_ABORT,
                              rollback->reason, (struct slice){0}, true);
    }
    rollback_finish(rollback, UNIT_ABORTED);
}

static void on_aborted(void *context, enum status status, struct slice reply)
{
    struct rollback *rollback = context;
    (void)reply; /* a transaction that has failed is aborted already */
    if (status != STATUS_OK) {
        abort_elsewhere(rollback->engine->native, rollback->unit);
    }
    end_rollback(rollback);
}

void native_unit_roll_back(struct rollback *rollback)
{
    const struct native_unit_state *state = rollback->unit->native;
    if (state == NULL || !state->begun) {
        end_rollback(rollback);
        return;
    }
    if (rollback->channel == NULL) {
        abort_elsewhere(rollback->engine->native, rollback->unit);
        end_rollback(rollback);
        return;
    }
    bson_t command = BSON_INITIALIZER;
    end_command(&command, "abortTransaction", state);
    rollback->channel->send(rollback->channel, slice_make(bson_get_data(&command), command.len),
                            on_aborted, rollback);
    bson_destroy(&command);
}
