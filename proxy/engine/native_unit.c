/*
 * A unit as a transaction of the server (native_unit.h).
 *
 * Invariants: nothing of a unit is sent after its commit; a unit whose commit was sent ends by what
 * the server says of it, and by nothing else.
 */
#include "engine/native_unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/memory.h"
#include "engine/begin.h"
#include "engine/native_private.h"
#include "engine/release.h"
#include "engine/touched.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/limits.h"
#include "holdfast/log.h"
#include "wire/bson_walk.h"
#include "wire/reply.h"

#define TRANSACTION_NUMBER 1
#define PATIENCE_PART 10u

/* What the unit is on the server. */
struct native_unit_state {
    bson_t lsid;
    bool begun; /* a command was sent */
    bool wrote; /* one that may change something */
    struct touched touched;
    bson_t commands;
    uint32_t command_count;
    int32_t left;
    bson_t recovery_token; /* the last that a mongos gave; empty: none */
    bool has_process;
    uint8_t process[UPSTREAM_PROCESS_BYTES]; /* that the commit is first sent to */
    uint64_t began_us;
};

static void state_free(void *memory)
{
    struct native_unit_state *state = memory;
    bson_destroy(&state->lsid);
    bson_destroy(&state->commands);
    bson_destroy(&state->recovery_token);
    free(state);
}

/* NULL: out of memory, or of random numbers. */
static struct native_unit_state *state_of(struct unit *unit)
{
    uint8_t id[UNIT_SESSION_ID_BYTES];
    if (unit->native != NULL) {
        return unit->native;
    }
    struct native_unit_state *state =
        memory_new_aligned(1, sizeof *state, _Alignof(struct native_unit_state));
    if (state == NULL || getrandom(id, sizeof id, 0) != (ssize_t)sizeof id) {
        free(state);
        return NULL;
    }
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* a UUID of version 4 */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    bson_init(&state->lsid);
    bson_init(&state->commands);
    bson_init(&state->recovery_token);
    BSON_APPEND_BINARY(&state->lsid, "id", BSON_SUBTYPE_UUID, id, sizeof id);
    state->began_us = clock_monotonic_us();
    unit->native = state;
    unit->native_free = state_free;
    return state;
}

static void append_transaction(bson_t *command, const struct native_unit_state *state)
{
    BSON_APPEND_DOCUMENT(command, "lsid", &state->lsid);
    BSON_APPEND_INT64(command, "txnNumber", TRANSACTION_NUMBER);
    BSON_APPEND_BOOL(command, "autocommit", false);
}

static void end_command(bson_t *command, const char *name, const struct native_unit_state *state)
{
    BSON_APPEND_INT32(command, name, 1);
    append_transaction(command, state);
    if (!bson_empty(&state->recovery_token)) {
        BSON_APPEND_DOCUMENT(command, "recoveryToken", &state->recovery_token);
    }
    BSON_APPEND_UTF8(command, "$db", "admin");
}

static const bson_t *lsid_of(const struct unit *unit)
{
    const struct native_unit_state *state = unit->native;
    return &state->lsid;
}

/* ------------------------------------------------------------------ commands */

static void complete(struct write_operation *operation, struct slice reply)
{
    operation->completed(operation, reply);
}

static void on_write_rolled_back(struct rollback *rollback)
{
    struct write_operation *operation = rollback->context;
    bson_t reply;
    if (!bson_steal(&reply, &operation->reply)) {
        bson_init(&reply);
    }
    struct slice answer = operation->connection_lost ? (struct slice){0}
                                                     : slice_make(bson_get_data(&reply), reply.len);
    complete(operation, answer); /* its memory may be another operation's from here on */
    bson_destroy(&reply);
}

static void roll_back(struct write_operation *operation, const char *reason)
{
    operation->rollback = (struct rollback){
        .engine = operation->engine,
        .unit = operation->unit,
        .reason = reason,
        .channel = operation->connection_lost ? NULL : operation->channel,
        .completed = on_write_rolled_back,
        .context = operation,
    };
    rollback_start(&operation->rollback);
}

static void note_token(struct native_unit_state *state, struct slice reply)
{
    bson_t token;
    struct slice found = bson_document_find(reply, "recoveryToken");
    if (found.size > 0 && bson_init_static(&token, found.data, found.size)) {
        bson_reinit(&state->recovery_token);
        bson_concat(&state->recovery_token, &token);
    }
}

/* bulkWrite tells its errors in a cursor, and their number beside it. */
static bool has_bulk_errors(struct slice reply)
{
    struct bson_element errors;
    int64_t number = 0;
    return bson_element_find(reply, "nErrors", &errors) && bson_element_integer(&errors, &number) &&
           number > 0;
}

static bool is_conflict_code(int64_t code)
{
    return code == REPLY_CODE_WriteConflict || code == REPLY_CODE_LockTimeout ||
           code == REPLY_CODE_SnapshotUnavailable || code == REPLY_CODE_NoSuchTransaction;
}

/* Others were in its way: in a new transaction it may go well. */
static bool is_conflict(const struct reply_view *view)
{
    struct bson_element error;
    struct bson_element code;
    struct slice errors;
    int64_t number = 0;
    if (!view->ok) {
        return is_conflict_code(view->code);
    }
    return view->has_write_errors && bson_fields_open(view->write_errors, &errors) &&
           bson_element_next(&errors, &error) && error.type == BSON_TYPE_DOCUMENT &&
           bson_element_find(error.value, "code", &code) && bson_element_integer(&code, &number) &&
           is_conflict_code(number);
}

static void on_answered(void *context, enum status status, struct slice reply)
{
    struct write_operation *operation = context;
    struct reply_view view;
    bson_t document;
    if (status != STATUS_OK || reply_view_parse(reply, &view) != STATUS_OK) {
        operation->connection_lost = true;
        roll_back(operation, "the connection to the server broke");
        return;
    }
    note_token(operation->unit->native, reply);
    if (view.ok && !view.has_write_errors && !has_bulk_errors(reply)) {
        if (view.has_cursor && view.cursor_id != 0) {
            unit_cursor_note(operation->unit, view.cursor_id);
        }
        bson_destroy(&operation->reply);
        complete(operation, reply);
        return;
    }
    (void)bson_init_static(&document, reply.data, reply.size);
    bson_concat(&operation->reply, &document);
    operation->conflicted = is_conflict(&view);
    roll_back(operation, "a command of the unit failed");
}

/* The kind 1 sections alone. */
static enum status copy_sections(const struct op_msg *message, struct buffer *sections)
{
    struct slice rest = message->sections;
    struct op_msg_sequence sequence;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && op_msg_sequence_next(&rest, &sequence)) {
        uint8_t head[5] = {1};
        size_t size = 4 + sequence.identifier.size + 1 + sequence.documents.size;
        slice_store_u32le(head + 1, (uint32_t)size);
        status = buffer_append(sections, head, sizeof head);
        if (status == STATUS_OK) { /* with its NUL */
            status =
                buffer_append(sections, sequence.identifier.data, sequence.identifier.size + 1);
        }
        if (status == STATUS_OK) {
            status = buffer_append(sections, sequence.documents.data, sequence.documents.size);
        }
    }
    return status;
}

/* For the audit, within its bound. */
static void keep_command(struct native *native, struct native_unit_state *state,
                         const struct command_view *view, const struct op_msg *message)
{
    char text[16];
    const char *number;
    bson_t command;
    uint64_t bound = native_audit_bytes(native);
    if (bound == 0) {
        return;
    }
    if (view->body.size + message->sections.size > bound ||
        !native_copy_command(view, message, &command)) {
        state->left++;
        return;
    }
    if (state->commands.len + command.len > bound) {
        state->left++;
    } else {
        bson_uint32_to_string(state->command_count++, &number, text, sizeof text);
        BSON_APPEND_DOCUMENT(&state->commands, number, &command);
    }
    bson_destroy(&command);
}

static void refuse(struct write_operation *operation, int code, const char *message)
{
    bson_reinit(&operation->reply);
    reply_put_error(&operation->reply, code, NULL, "%s", message);
    roll_back(operation, "a command of the unit failed");
}

/* The command without what `removed` lists, as the transaction's next. */
static void run(struct write_operation *operation, struct native_unit_state *state,
                const struct command_view *view, const struct op_msg *message,
                const char *const *removed)
{
    struct buffer sections;
    bson_t command;
    if (command_copy_without(&command, view->body, removed) != STATUS_OK) {
        refuse(operation, REPLY_CODE_FailedToParse, "the command is not valid BSON");
        return;
    }
    buffer_init(&sections, LIMIT_MESSAGE_BYTES_MAX);
    append_transaction(&command, state);
    if (!state->begun) {
        BSON_APPEND_BOOL(&command, "startTransaction", true);
    }
    if (copy_sections(message, &sections) == STATUS_OK) {
        state->begun = true;
        operation->channel->send_message(operation->channel,
                                         slice_make(bson_get_data(&command), command.len),
                                         buffer_slice(&sections), on_answered, operation);
        CRASH_POINT(unit_sent);
    } else {
        refuse(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory for a command");
    }
    buffer_free(&sections);
    bson_destroy(&command);
}

/* NULL: refused, out of memory. */
static struct native_unit_state *start(struct write_operation *operation)
{
    operation->connection_lost = false;
    bson_init(&operation->reply);
    struct native_unit_state *state = state_of(operation->unit);
    if (state == NULL) {
        refuse(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory for a unit");
    }
    return state;
}

void native_unit_write(struct write_operation *operation, const struct command_view *view,
                       const struct op_msg *message)
{
    /* Of a transaction the client must not speak here, and concerns are the transaction's. */
    static const char *const removed[] = {
        "lsid", "txnNumber", "autocommit", "startTransaction", "writeConcern", "readConcern", NULL};
    struct native_unit_state *state = start(operation);
    if (state != NULL) {
        state->wrote = true;
        touched_add(&state->touched, view->database, view->collection);
        keep_command(operation->engine->native, state, view, message);
        run(operation, state, view, message, removed);
    }
}

/* A transaction has the read concern of its first command, and not each of them may begin one. */
static bool may_begin_with_concern(const struct command_view *view)
{
    static const char *const levels[] = {"local", "majority", "snapshot", NULL};
    return view->read_concern_level == NULL ||
           bson_name_is_one_of(view->read_concern_level, levels);
}

void native_unit_read(struct write_operation *operation, const struct command_view *view,
                      const struct op_msg *message)
{
    /* It is on the primary, wherever else it would have been read. */
    static const char *const removed[] = {"lsid",
                                          "txnNumber",
                                          "autocommit",
                                          "writeConcern",
                                          "$readPreference",
                                          "startTransaction",
                                          "readConcern",
                                          NULL};
    static const char *const removed_first[] = {
        "lsid", "txnNumber", "autocommit", "writeConcern", "$readPreference", "startTransaction",
        NULL};
    struct native_unit_state *state = start(operation);
    if (state != NULL) {
        bool kept = !state->begun && may_begin_with_concern(view);
        run(operation, state, view, message, kept ? removed_first : removed);
    }
}

void native_unit_touch(struct unit *unit, const char *database, const char *collection)
{
    struct native_unit_state *state = state_of(unit);
    if (state != NULL) {
        touched_add(&state->touched, database, collection);
    }
}

bool native_unit_has_touched(const struct unit *unit, const char *database, const char *collection)
{
    const struct native_unit_state *state = unit->native;
    return state != NULL && state->begun && touched_has(&state->touched, database, collection);
}

bool native_unit_has_begun(const struct unit *unit)
{
    const struct native_unit_state *state = unit->native;
    return state != NULL && state->begun;
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
        .transaction_number = TRANSACTION_NUMBER,
        .recovery_token = slice_make(bson_get_data(token), bson_empty(token) ? 0 : token->len),
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
    struct native_doubt *doubt =
        memory_new_aligned(1, sizeof *doubt, _Alignof(struct native_doubt));
    char *user = strdup(unit->user);
    if (doubt == NULL || user == NULL) {
        native_end_process("out of memory for a commit without an answer", unit->id, STATUS_MEMORY);
    }
    if (!unsent) {
        LOG(LOG_WARNING, "recovery", "The server's answer to a commit is lost: asking again",
            LOG_NUMBER("unit", unit->id), LOG_TEXT("user", user));
    }
    doubt->unit = unit->id;
    doubt->since_ms = clock_monotonic_ms();
    doubt->user = user;
    doubt->number = TRANSACTION_NUMBER;
    doubt->counted = true;
    doubt->unsent = unsent;
    doubt->told = on_told;
    doubt->context = commit;
    bson_init(&doubt->committing);
    put_committing(unit->native, false, commit->reply, &doubt->committing);
    native_asker_add(native, doubt);
}

/* The journal's writer thread. The server has committed it: a full journal does not change that. */
static void on_kept(struct wal_append *first, void *context)
{
    struct commit *commit = context;
    enum status status = first->status;
    bson_destroy(&commit->payload);
    if (status == STATUS_IO) {
        native_end_process("a commit record could not be made durable", commit->unit->id, status);
    } else if (status != STATUS_OK) {
        native_outcome_append(commit->engine->native, commit->unit->id, WAL_KIND_COMMIT, NULL,
                              commit->reply, true);
    }
    histogram_observe(&commit->engine->counters.commit, clock_monotonic_us() - commit->started_us);
    unit_state_set(commit->unit, UNIT_COMMITTED);
    release_unit(commit->engine, commit->unit);
    commit->completed(commit, STATUS_OK);
}

/* Waited for: the answer that it keeps is what a write that comes again is told. */
static void keep_commit(struct commit *commit)
{
    bson_init(&commit->payload);
    record_put_commit(&commit->payload, NULL, 0, commit->reply);
    commit->append = (struct wal_append){
        .kind = WAL_KIND_COMMIT,
        .unit = commit->unit->id,
        .payload = slice_make(bson_get_data(&commit->payload), commit->payload.len),
        .completed = on_kept,
        .context = commit,
    };
    wal_append(commit->engine->wal, &commit->append);
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
        keep_commit(commit);
    } else if (verdict == COMMIT_LOST) {
        native_outcome_append(commit->engine->native, commit->unit->id, WAL_KIND_ABORT,
                              "the server has refused the commit", (struct slice){0}, true);
        end_without(commit, UNIT_ABORTED, "the server has lost its transaction");
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

/* The journal's writer thread. */
static void on_committing(struct wal_append *first, void *context)
{
    struct commit *commit = context;
    enum status status = first->status;
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
        native_asker_abort(commit->engine->native, commit->unit->user, lsid_of(commit->unit),
                           TRANSACTION_NUMBER);
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
    uint64_t patience_us = (clock_monotonic_us() - state->began_us) / PATIENCE_PART;
    commit->started_us = clock_monotonic_us();
    state->has_process = commit->process != NULL;
    if (commit->process != NULL) {
        memcpy(state->process, commit->process, sizeof state->process);
    }
    bson_init(&commit->payload);
    bson_init(&commit->begin_payload);
    put_committing(state, true, commit->reply, &commit->payload);
    commit->append = (struct wal_append){
        .kind = WAL_KIND_COMMITTING,
        .unit = commit->unit->id,
        .payload = slice_make(bson_get_data(&commit->payload), commit->payload.len),
        .completed = on_committing,
        .context = commit,
    };
    struct wal_append *first = &commit->append;
    if (!commit->unit->begun) {
        begin_make(commit->unit, &commit->begin_payload, &commit->begin);
        commit->begin.next = &commit->append;
        commit->begin.completed = on_committing;
        commit->begin.context = commit;
        first = &commit->begin;
    }
    first->patience_us =
        patience_us < WAL_PATIENCE_US_MAX ? (uint32_t)patience_us : WAL_PATIENCE_US_MAX;
    wal_append(commit->engine->wal, first);
    return true;
}

/* ------------------------------------------------------------------ rollback */

static void end_rollback(struct rollback *rollback)
{
    if (rollback->unit->begun) {
        native_outcome_append(rollback->engine->native, rollback->unit->id, WAL_KIND_ABORT,
                              rollback->reason, (struct slice){0}, true);
    }
    rollback_finish(rollback, UNIT_ABORTED);
}

static void abort_elsewhere(struct rollback *rollback)
{
    native_asker_abort(rollback->engine->native, rollback->unit->user, lsid_of(rollback->unit),
                       TRANSACTION_NUMBER);
}

static void on_aborted(void *context, enum status status, struct slice reply)
{
    struct rollback *rollback = context;
    (void)reply; /* a transaction that has failed is aborted already */
    if (status != STATUS_OK) {
        abort_elsewhere(rollback);
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
        abort_elsewhere(rollback);
        end_rollback(rollback);
        return;
    }
    bson_t command = BSON_INITIALIZER;
    end_command(&command, "abortTransaction", state);
    rollback->channel->send(rollback->channel, slice_make(bson_get_data(&command), command.len),
                            on_aborted, rollback);
    bson_destroy(&command);
}
