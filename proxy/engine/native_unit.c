/*
 * A unit as a transaction of the server (native_unit.h): its session and its commands.
 *
 * Invariants: nothing of a unit is sent after its commit. BEGIN, which tells in which session the
 * unit is, is handed to the journal before the first command that writes is sent.
 */
#include "engine/native_unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/memory.h"
#include "engine/begin.h"
#include "engine/native_unit_private.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/limits.h"
#include "wire/bson_walk.h"
#include "wire/reply.h"

static void state_free(void *memory)
{
    struct native_unit_state *state = memory;
    bson_destroy(&state->lsid);
    bson_destroy(&state->api);
    bson_destroy(&state->commands);
    bson_destroy(&state->recovery_token);
    bson_destroy(&state->times);
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
    bson_init(&state->api);
    bson_init(&state->commands);
    bson_init(&state->recovery_token);
    bson_init(&state->times);
    BSON_APPEND_BINARY(&state->lsid, "id", BSON_SUBTYPE_UUID, id, sizeof id);
    state->began_us = clock_monotonic_us();
    unit->native = state;
    unit->native_free = state_free;
    return state;
}

void native_unit_put_transaction(bson_t *command, const struct native_unit_state *state)
{
    BSON_APPEND_DOCUMENT(command, "lsid", &state->lsid);
    BSON_APPEND_INT64(command, "txnNumber", NATIVE_UNIT_NUMBER);
    BSON_APPEND_BOOL(command, "autocommit", false);
}

bool native_unit_prepare(struct unit *unit)
{
    return state_of(unit) != NULL;
}

/* ------------------------------------------------------------------ BEGIN */

struct begin_append {
    struct wal_append append;
    bson_t payload;
};

/* The journal's writer thread. The unit may be gone. */
static void on_begun(struct wal_append *first, void *context)
{
    struct begin_append *begin = context;
    if (first->status == STATUS_IO) {
        native_end_process("a BEGIN record could not be made durable", first->unit, first->status);
    } /* FULL: the commit tries again */
    bson_destroy(&begin->payload);
    free(begin);
}

/*
 * So that recovery can end what a killed proxy had open. Unhurried: it goes with the next commit of
 * others, or after WAL_UNHURRIED_MS, and a unit that is shorter has it in one group with
 * COMMITTING, which would wait for the sync of a BEGIN before it. A kill before that leaves the
 * transaction to the server's timeout.
 */
static void journal_begin(struct wal *wal, struct unit *unit, struct native_unit_state *state)
{
    if (unit->begun || state->begin_appended) {
        return;
    }
    struct begin_append *begin =
        memory_new_aligned(1, sizeof *begin, _Alignof(struct begin_append));
    if (begin == NULL) {
        return; /* the commit journals it */
    }
    bson_init(&begin->payload);
    begin_make(unit, &begin->payload, &begin->append);
    begin->append.unhurried = true;
    begin->append.completed = on_begun;
    begin->append.context = begin;
    state->begin_appended = true;
    wal_append(wal, &begin->append);
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
    native_unit_put_transaction(&command, state);
    if (!state->begun) {
        BSON_APPEND_BOOL(&command, "startTransaction", true);
        bson_reinit(&state->api);
        command_put_api(&state->api, view->body);
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
        journal_begin(operation->engine->wal, operation->unit, state);
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
