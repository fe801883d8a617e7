/*
 * The steps of a reading command; what is answered with what stands in read.h.
 *
 *   RESOLVING     what its names are, if that is not known
 *     v
 *   ENTERING      of a unit: the gates of all that it reads
 *     v
 *   LOOK --------------------------------> AT_SERVER --> same stamp, or a turn --> answered
 *     ^  |                                    |  |
 *     |  | WAIT, and not clear                |  `-- another stamp: again, the third time by way of
 *     |  v                                    |      TURN_QUEUED; a long one in two steps
 *     |  DRAINING (50 ms) --> WAITING         |
 *     |     a unit has ended: LOOK            `-- an overlay was refused: the original as a probe;
 *     |                                           refused, too: that is the answer; else form WAIT
 *     `--- KILLING: the cursor of an answer that is not given
 *
 * Invariants: at most one thing is waited for; its end comes as a task or as a reply on the
 * channel's worker, which is the only thread that touches the operation. A turn that was begun is
 * ended before `completed`.
 */
#include "read/read.h"

#include "holdfast/clock.h"
#include "holdfast/race_point.h"
#include "read/read_private.h"
#include "wire/bson_check.h"

/* Attempts that units may spoil, before one that they have to wait for. */
#define ATTEMPTS_FREE 2
/* Questions what a namespace is, of one command whose names change all the time. */
#define ASKED_MAX 64

static void resolve(struct read_operation *operation);

static uint64_t stamp_of_gates(const struct engine *engine, const uint32_t *gates, size_t count)
{
    uint64_t sum = 0; /* none ever counts down: equal sums are equal stamps */
    for (size_t i = 0; i < count; i++) {
        sum += uncommitted_stamp(engine->uncommitted, gates[i]);
    }
    return sum;
}

uint64_t read_stamp(const struct engine *engine, const struct read_command *command)
{
    return stamp_of_gates(engine, command->gates, command->gate_count);
}

uint64_t read_stamp_now(const struct read_operation *operation)
{
    return operation->form == READ_FORM_POINT
               ? uncommitted_name_stamp(operation->engine->uncommitted, &operation->name)
               : read_stamp(operation->engine, &operation->command);
}

bool read_is_clear(const struct uncommitted_table *table, const struct read_command *command)
{
    for (size_t i = 0; i < command->gate_count; i++) {
        if (!uncommitted_is_empty(table, command->gates[i])) {
            return false;
        }
    }
    return true;
}

void read_find_gates(struct engine *engine, struct read_command *command)
{
    if (command->kind == READ_GET_MORE && command->gate_count == 1 &&
        cursor_gates_has(&engine->cursor_gates, command->cursor_id, clock_monotonic_ms())) {
        command->gates[command->gate_count++] = GATE_SERVER;
    }
}

bool read_wants_cursor(const struct read_command *command)
{
    return (command->kind == READ_AGGREGATE || command->kind == READ_FIND) &&
           (command->gate_count > 1 || command->is_view);
}

void read_note_cursor(struct engine *engine, const struct read_command *command, int64_t cursor_id)
{
    if (cursor_id != 0 && read_wants_cursor(command)) {
        cursor_gates_note(&engine->cursor_gates, cursor_id, clock_monotonic_ms());
    }
}

bool read_is_committed(const struct read_operation *operation)
{
    return operation->locked || operation->form != READ_FORM_PASS;
}

/* ------------------------------------------------------------------ ends */

void read_end_turn(struct read_operation *operation)
{
    if (operation->has_turn) {
        operation->has_turn = false;
        (void)event_del(&operation->timer);
        uncommitted_turn_end(operation->engine->uncommitted, &operation->turn);
    }
}

static void finish(struct read_operation *operation, struct slice reply)
{
    read_bytes_give(operation);
    read_end_turn(operation);
    read_long_end(operation);
    read_views_release(&operation->views);
    (void)event_del(&operation->timer);
    bson_destroy(&operation->key);
    /* `completed` may start another operation in this memory. */
    bson_t own = BSON_INITIALIZER;
    bson_destroy(&own);
    bson_steal(&own, &operation->reply);
    operation->completed(operation, reply.size == 0 || own.len == 5
                                        ? reply
                                        : slice_make(bson_get_data(&own), own.len));
    bson_destroy(&own);
}

static void finish_own(struct read_operation *operation)
{
    finish(operation, slice_make(bson_get_data(&operation->reply), operation->reply.len));
}

void read_fail(struct read_operation *operation, int code, const char *message)
{
    bson_reinit(&operation->reply);
    reply_put_error(&operation->reply, code, NULL, "%s", message);
    finish_own(operation);
}

/* A cursor that waits for new documents: there are none yet. */
static void finish_empty(struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    bson_t cursor;
    bson_t batch;
    char *namespace = bson_strdup_printf("%s.%s", command->database, command->collection);
    bson_reinit(&operation->reply);
    BSON_APPEND_DOCUMENT_BEGIN(&operation->reply, "cursor", &cursor);
    BSON_APPEND_ARRAY_BEGIN(&cursor, "nextBatch", &batch);
    bson_append_array_end(&cursor, &batch);
    BSON_APPEND_INT64(&cursor, "id", command->cursor_id);
    BSON_APPEND_UTF8(&cursor, "ns", namespace);
    bson_append_document_end(&operation->reply, &cursor);
    BSON_APPEND_DOUBLE(&operation->reply, "ok", 1);
    bson_free(namespace);
    finish_own(operation);
}

void read_fail_for_time(struct read_operation *operation)
{
    if (operation->command.awaits && !operation->is_lost && operation->unit == NULL) {
        finish_empty(operation);
        return;
    }
    bson_reinit(&operation->reply);
    reply_put_error(
        &operation->reply, operation->in_unit ? REPLY_CODE_WriteConflict : REPLY_CODE_LockTimeout,
        NULL,
        "units that are open have written here, and this read had to wait longer for them than "
        "unit.lockWait or maxTimeMS allows (%s)",
        operation->why == NULL ? "it takes long, and units write all the time" : operation->why);
    finish_own(operation);
}

void read_fail_for_snapshot(struct read_operation *operation)
{
    read_fail(operation, REPLY_CODE_SnapshotUnavailable,
              "too much has changed since the transaction began, or too long ago: run it again");
}

/* ------------------------------------------------------------------ snapshots */

/* What the unit sees, which is inside. */
static void take_reader(struct read_operation *operation)
{
    const struct uncommitted_owner *owner = &operation->unit->uncommitted;
    operation->plain_epoch = owner->plain_epoch;
    operation->reader = (struct uncommitted_reader){.unit = operation->unit->id,
                                                    .snapshot_at = owner->snapshot_at,
                                                    .has_snapshot = owner->has_snapshot};
}

/* A plain write may have changed what it reads; of that there is no image. */
static bool has_gap(const struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    for (size_t i = 0; i < command->gate_count && operation->reader.has_snapshot; i++) {
        /* Of anything nobody can tell: units do not enter all gates. */
        if (command->gates[i] != GATE_SERVER &&
            gate_plain_since(operation->engine->gates, command->gates[i], operation->plain_epoch)) {
            return true;
        }
    }
    return false;
}

/* The transaction that is run again comes to them in time. */
static void miss_gates(const struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    for (size_t i = 0; i < command->gate_count && operation->unit != NULL; i++) {
        if (command->gates[i] != GATE_SERVER) {
            unit_miss_gate(operation->unit, command->gates[i]);
        }
    }
}

/* What is read as the server has it is not as it was. */
static bool has_changed(const struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    size_t first = operation->form == READ_FORM_WAIT ? 0 : 1;
    for (size_t i = first; i < command->gate_count && operation->reader.has_snapshot; i++) {
        if (uncommitted_has_changed(operation->engine->uncommitted, command->gates[i],
                                    &operation->reader)) {
            return true;
        }
    }
    return false;
}

/* A unit that has shown its client nothing yet may as well begin its view now. */
static bool renew(struct read_operation *operation)
{
    struct unit *unit = operation->unit;
    if (unit == NULL || unit->locks.view_used || !unit->uncommitted.has_snapshot) {
        return false;
    }
    lock_owner_renew(operation->engine->locks, &unit->locks);
    uncommitted_snapshot_renew(operation->engine->uncommitted, &unit->uncommitted,
                               gate_epoch_next(operation->engine->gates));
    take_reader(operation);
    return true;
}

/* Whether the reader's snapshot can be told; or it has none. */
static bool has_snapshot_still(struct read_operation *operation)
{
    if (uncommitted_snapshot_is_lost(operation->engine->uncommitted, &operation->reader)) {
        return false;
    }
    bool gap = has_gap(operation);
    if ((!gap && !has_changed(operation)) || (renew(operation) && !has_gap(operation))) {
        return true;
    }
    if (gap) {
        miss_gates(operation);
    }
    return false;
}

/* ------------------------------------------------------------------ looking */

void read_wait_from_now_on(struct read_operation *operation, const char *why)
{
    operation->form = READ_FORM_WAIT;
    operation->why = why;
    read_look(operation);
}

/*
 * What the server shows of what it reads there is what its snapshot shows; or it has failed. To be
 * looked at when nobody publishes there any more: a unit that was still open before may have
 * committed since, and neither stamps nor a look at what is published tell of that.
 */
static bool is_as_it_was(struct read_operation *operation)
{
    if (operation->reader.has_snapshot && !has_snapshot_still(operation)) {
        read_fail_for_snapshot(operation);
        return false;
    }
    return true;
}

static void look_wait(struct read_operation *operation)
{
    operation->stamp = read_stamp_now(operation);
    if (!read_is_clear_now(operation, 0)) {
        read_wait_for_units(operation);
    } else if (is_as_it_was(operation)) {
        read_send_original(operation, READ_SENT_ORIGINAL);
    }
}

static void look_point(struct read_operation *operation)
{
    struct uncommitted_table *table = operation->engine->uncommitted;
    operation->stamp = read_stamp_now(operation);
    struct uncommitted_document *found = NULL;
    if (uncommitted_find(table, &operation->name, &operation->reader, &found) != STATUS_OK) {
        read_fail_for_snapshot(operation);
        return;
    }
    if (found == NULL) {
        read_send_original(operation, READ_SENT_ORIGINAL);
        return;
    }
    /* Another _id may have the same name (unit/lock_name.c): nothing is known of this one then. */
    struct slice key = slice_make(bson_get_data(&operation->key), operation->key.len);
    if (slice_equal(found->key, key)) {
        read_send_overlay(operation, &found, 1, true);
    } else {
        operation->form = READ_FORM_OVERLAY;
        read_look(operation);
    }
    uncommitted_document_release(found);
}

static void look_overlay(struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    struct uncommitted_view view;
    operation->stamp = read_stamp_now(operation);
    if (!read_is_clear_now(operation, 1)) {
        operation->why = "a pipeline that reads other collections";
        read_wait_for_units(operation);
        return;
    }
    if (!is_as_it_was(operation)) {
        return;
    }
    char *namespace = bson_strdup_printf("%s.%s", command->database, operation->views.base);
    enum status status =
        uncommitted_collect(operation->engine->uncommitted, command->gates[0], namespace,
                            &operation->reader, REWRITE_BYTES_MAX, &view);
    bson_free(namespace);
    if (status == STATUS_MEMORY) {
        read_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
    } else if (status != STATUS_OK && operation->reader.has_snapshot) {
        read_fail_for_snapshot(operation);
    } else if (status != STATUS_OK) {
        read_wait_from_now_on(operation, "among too many bytes of before-images");
    } else if (view.count == 0) {
        read_send_original(operation, READ_SENT_ORIGINAL);
    } else {
        read_send_overlay(operation, view.documents, view.count, false);
        uncommitted_view_free(&view);
    }
}

/* What comes behind a unit's own part of the answer (read_batch.c), as long as nobody else has
   written there since it was begun. */
static bool cursor_is_good(const struct read_operation *operation)
{
    const struct unit_cursor *cursor = operation->cursor;
    return cursor->gate_count == 0 ||
           stamp_of_gates(operation->engine, cursor->gates, cursor->gate_count) == cursor->stamp;
}

static void look_cursor(struct read_operation *operation)
{
    if (cursor_is_good(operation)) {
        read_send_original(operation, READ_SENT_ORIGINAL);
    } else {
        read_fail_for_snapshot(operation);
    }
}

static bool wants_turn(const struct read_operation *operation)
{
    return operation->attempts >= ATTEMPTS_FREE || operation->command.kind == READ_GET_MORE;
}

static void look_by_form(struct read_operation *operation)
{
    bool turn = wants_turn(operation) && !operation->has_turn;
    if (turn && operation->form != READ_FORM_WAIT) {
        read_begin_turn(operation, UNCOMMITTED_TURN_READ);
        return;
    }
    switch (operation->form) {
    case READ_FORM_PASS:
        break;
    case READ_FORM_POINT:
        look_point(operation);
        break;
    case READ_FORM_OVERLAY:
        look_overlay(operation);
        break;
    case READ_FORM_WAIT:
        /* Without a turn a getMore could not be done again, and others might never be in time. */
        if (turn && read_is_clear_now(operation, 0)) {
            read_begin_turn(operation, UNCOMMITTED_TURN_DRAIN);
        } else {
            look_wait(operation);
        }
        break;
    }
}

void read_look(struct read_operation *operation)
{
    if (operation->cursor != NULL) {
        look_cursor(operation);
    } else if (operation->form == READ_FORM_PASS) {
        read_send_original(operation, READ_SENT_ORIGINAL);
    } else if (!read_is_resolved_still(operation->engine, &operation->command)) {
        read_end_turn(operation);
        resolve(operation);
    } else if (!has_snapshot_still(operation)) {
        read_fail_for_snapshot(operation);
    } else {
        RACE_POINT(read_snapshot_seen);
        look_by_form(operation);
    }
}

/* ------------------------------------------------------------------ answers */

static void look_or_fail(struct read_operation *operation)
{
    if (operation->is_lost) {
        read_fail_for_time(operation);
    } else if (read_long_can_gather(operation)) {
        read_long_gather(operation);
    } else {
        read_look(operation);
    }
}

void read_look_again(struct read_operation *operation, int64_t cursor_id)
{
    bson_t command = BSON_INITIALIZER;
    bson_t cursors;
    bson_iter_t session;
    if (cursor_id == 0) {
        bson_destroy(&command);
        look_or_fail(operation);
        return;
    }
    /* An aggregation over the committed state of a view is one of what is behind it. */
    bool as_it_came = operation->sent == READ_SENT_ORIGINAL || operation->sent == READ_SENT_PROBE;
    const char *collection = as_it_came ? operation->command.collection : operation->views.base;
    BSON_APPEND_UTF8(&command, "killCursors",
                     collection == NULL ? "$cmd.aggregate" : collection); /* aggregate: 1 */
    BSON_APPEND_ARRAY_BEGIN(&command, "cursors", &cursors);
    BSON_APPEND_INT64(&cursors, "0", cursor_id);
    bson_append_array_end(&command, &cursors);
    struct slice body = operation->view->body;
    if (bson_iter_init_from_data(&session, body.data, body.size) &&
        bson_iter_find(&session, "lsid")) {
        bson_append_iter(&command, "lsid", -1, &session);
    }
    BSON_APPEND_UTF8(&command, "$db", operation->command.database);
    read_send_command(operation, operation->sent, &command);
    operation->step = READ_KILLING;
}

static void take_error(struct read_operation *operation, const struct reply_view *view,
                       struct slice reply)
{
    bool of_time = view->code == REPLY_CODE_MaxTimeMSExpired ||
                   view->code == REPLY_CODE_Interrupted ||
                   view->code == REPLY_CODE_InterruptedAtShutdown;
    bool gathered = operation->sent == READ_SENT_GATHER || operation->sent == READ_SENT_GATHERED;
    if (operation->timed && view->code == REPLY_CODE_MaxTimeMSExpired) {
        read_fail_for_time(operation);
    } else if (gathered && !of_time) {
        read_fail_for_time(operation); /* the server does not take it as an aggregation */
    } else if (operation->sent == READ_SENT_OVERLAY && !of_time) {
        read_send_original(operation, READ_SENT_PROBE);
    } else {
        finish(operation, reply);
    }
}

static bool is_undisturbed(const struct read_operation *operation)
{
    if (operation->cursor != NULL) {
        return cursor_is_good(operation);
    }
    if (operation->form == READ_FORM_PASS || operation->sent == READ_SENT_GATHERED) {
        return true;
    }
    if (!read_is_resolved_still(operation->engine, &operation->command) ||
        (operation->unit == NULL && has_gap(operation))) {
        return false;
    }
    if (read_has_turn(operation, UNCOMMITTED_TURN_READ)) {
        return true;
    }
    return read_stamp_now(operation) == operation->stamp;
}

/* Of a cursor of the server's that the client gets: of a serializable unit's, too, with which a
   client may go on after the unit's end. */
static void note_cursor(struct read_operation *operation, int64_t cursor_id)
{
    if (operation->form == READ_FORM_PASS && !operation->locked) {
        cursor_set_note(&operation->engine->loose_cursors, cursor_id);
    } else {
        read_note_cursor(operation->engine, &operation->command, cursor_id);
    }
}

/* The client gets it; of a unit's, what it has asked for. */
static void give(struct read_operation *operation, const struct reply_view *view,
                 struct slice reply)
{
    if (operation->unit != NULL && operation->engine->committed_reads &&
        operation->cursor == NULL && view->has_cursor) {
        if (read_batch_cut(operation, reply)) {
            finish_own(operation);
        } else {
            finish(operation, reply);
        }
        return;
    }
    note_cursor(operation, view->cursor_id);
    finish(operation, reply);
}

static void take_answer(struct read_operation *operation, const struct reply_view *view,
                        struct slice reply)
{
    if (operation->sent == READ_SENT_PROBE) {
        operation->form = READ_FORM_WAIT;
        operation->why = "one that the server does not take as an aggregation";
        read_end_turn(operation);
        read_look_again(operation, view->cursor_id);
    } else if (operation->sent == READ_SENT_GATHER) {
        read_long_take(operation, view);
    } else if (!is_undisturbed(operation)) {
        operation->is_lost = operation->gave_up && operation->command.kind == READ_GET_MORE;
        operation->attempts++;
        operation->took_ms = clock_monotonic_ms() - operation->sent_ms;
        read_look_again(operation, view->cursor_id);
    } else if (operation->sent == READ_SENT_ORIGINAL) {
        give(operation, view, reply);
    } else if (rewrite_reply(&operation->command, reply, &operation->reply) == STATUS_OK) {
        bson_t answer = BSON_INITIALIZER;
        bson_destroy(&answer);
        bson_steal(&answer, &operation->reply);
        bson_init(&operation->reply);
        give(operation, view, slice_make(bson_get_data(&answer), answer.len));
        bson_destroy(&answer);
    } else {
        read_fail(operation, REPLY_CODE_InternalError, "the server's answer makes no sense");
    }
}

static void on_reply(struct read_operation *operation, enum status status, struct slice reply)
{
    struct reply_view view;
    if (status != STATUS_OK || reply_view_parse(reply, &view) != STATUS_OK) {
        finish(operation, (struct slice){0});
    } else if (operation->step == READ_KILLING) {
        look_or_fail(operation);
    } else if (!view.ok) {
        take_error(operation, &view, reply);
    } else {
        take_answer(operation, &view, reply);
    }
}

/* ------------------------------------------------------------------ entering */

static void begin(struct read_operation *operation)
{
    if (operation->unit != NULL) {
        take_reader(operation);
    }
    int64_t stale_cursor = operation->stale_cursor;
    operation->stale_cursor = 0;
    read_look_again(operation, stale_cursor);
}

static void fail_to_enter(struct read_operation *operation)
{
    read_fail(operation, REPLY_CODE_WriteConflict,
              operation->unit->locks.victim
                  ? "this transaction and others waited for each other's documents, and it is the "
                    "youngest of them: run the transaction again"
                  : "other writes in this namespace did not end within unit.lockWait: run the "
                    "transaction again");
}

static void on_entered(struct enter *enter, bool inside)
{
    struct read_operation *operation = enter->context;
    if (inside) {
        begin(operation);
    } else {
        fail_to_enter(operation);
    }
}

/* From its first command in a namespace on no plain write passes it there. */
static void enter(struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    if (operation->unit == NULL) {
        begin(operation);
        return;
    }
    operation->enter = (struct enter){
        .engine = operation->engine,
        .unit = operation->unit,
        .worker = operation->channel->worker,
        .completed = on_entered,
        .context = operation,
    };
    operation->step = READ_ENTERING;
    switch (enter_start_gates(&operation->enter, command->gates, command->gate_count)) {
    case ENTER_INSIDE:
        begin(operation);
        break;
    case ENTER_WAITING:
        break;
    case ENTER_DEADLOCK:
        fail_to_enter(operation);
        break;
    case ENTER_NO_MEMORY:
        read_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        break;
    }
}

/* ------------------------------------------------------------------ resolving */

static void on_known(struct namespace_lookup *lookup)
{
    struct read_operation *operation =
        (struct read_operation *)(void *)((uint8_t *)lookup -
                                          offsetof(struct read_operation, lookup));
    worker_post(operation->channel->worker, &operation->task);
}

static void name_point(struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    bson_reinit(&operation->key);
    if (!read_command_point_key(command, &operation->key)) {
        operation->form = READ_FORM_OVERLAY;
        return;
    }
    lock_name_in(command->database, command->collection,
                 slice_make(bson_get_data(&operation->key), operation->key.len), &operation->name);
}

/* A view's own pipeline or collation may be one that only the server itself understands. */
static bool view_is_odd(const struct read_operation *operation)
{
    const struct read_views *views = &operation->views;
    for (size_t i = 0; i < views->chain_count; i++) {
        const bson_t *pipeline = views->held[i]->pipeline;
        if (read_command_is_first_only(slice_make(bson_get_data(pipeline), pipeline->len))) {
            return true;
        }
    }
    return views->chain_count > 0 && operation->command.has_collation;
}

static void analyse(struct read_operation *operation)
{
    operation->form = read_command_analyse(&operation->command, &operation->why);
    if (operation->form == READ_FORM_OVERLAY && view_is_odd(operation)) {
        operation->form = READ_FORM_WAIT;
        operation->why = "a view that has to be evaluated by itself";
    }
    if (operation->form == READ_FORM_POINT) {
        name_point(operation);
    }
}

/* The parsed command; false: it goes to the server as it is. */
static bool parse(struct read_operation *operation)
{
    struct read_command *command = &operation->command;
    if (read_command_parse(operation->view, command) != STATUS_OK ||
        bson_check(operation->view->body, NULL) != STATUS_OK) {
        const char *collection = operation->view->collection;
        *command = (struct read_command){.view = operation->view};
        command->gates[0] =
            operation->view->database == NULL
                ? GATE_SERVER
                : gate_of(operation->view->database, collection == NULL ? "" : collection);
        command->gate_count = 1;
        return false;
    }
    if (command->kind == READ_GET_MORE &&
        cursor_set_has(&operation->engine->loose_cursors, command->cursor_id)) {
        command->passes = true;
    }
    return !command->passes && !operation->locked && operation->engine->committed_reads;
}

static void resolve(struct read_operation *operation)
{
    struct namespace_lookup *lookup = &operation->lookup;
    read_views_release(&operation->views);
    if (!parse(operation)) {
        operation->form = READ_FORM_PASS;
        enter(operation);
        return;
    }
    read_find_gates(operation->engine, &operation->command);
    const char *ask = NULL;
    if (read_resolve(operation->engine->namespaces, operation->asked < ASKED_MAX,
                     &operation->command, &operation->views, &ask)) {
        analyse(operation);
        enter(operation);
        return;
    }
    operation->asked++;
    operation->step = READ_RESOLVING;
    *lookup = (struct namespace_lookup){
        .database = operation->command.database, .collection = ask, .answered = on_known};
    namespace_cache_ask(operation->engine->namespaces, lookup);
}

/* It was asked for. */
static void resolve_again(struct read_operation *operation)
{
    if (operation->lookup.known == NAMESPACE_KNOWN_NOTHING) {
        operation->asked = ASKED_MAX;
    }
    operation->lookup.view = view_definition_release(operation->lookup.view);
    resolve(operation);
}

/* ------------------------------------------------------------------ tasks */

static void on_task(struct worker_task *task)
{
    struct read_operation *operation =
        (struct read_operation *)(void *)((uint8_t *)task - offsetof(struct read_operation, task));
    (void)event_del(&operation->timer);
    if (operation->step == READ_RESOLVING) {
        resolve_again(operation);
        return;
    }
    if (operation->step == READ_TURN_QUEUED) {
        operation->has_turn = true;
    }
    if (operation->cancelled) {
        read_fail_for_time(operation);
        return;
    }
    read_look(operation);
}

void read_cancel(struct read_operation *operation)
{
    operation->cancelled = true;
    if (operation->step == READ_ENTERING) {
        enter_cancel(&operation->enter);
    } else if (read_stop_waiting(operation)) {
        read_fail_for_time(operation);
    }
}

void read_start(struct read_operation *operation)
{
    struct read_operation fresh = {
        .engine = operation->engine,
        .channel = operation->channel,
        .view = operation->view,
        .reader = operation->reader,
        .plain_epoch = operation->plain_epoch,
        .unit = operation->unit,
        .cursor = operation->cursor,
        .locked = operation->locked,
        .in_unit = operation->in_unit,
        .stale_cursor = operation->stale_cursor,
        .is_lost = operation->is_lost,
        .completed = operation->completed,
        .context = operation->context,
        .answered = on_reply,
        .task.run = on_task,
    };
    *operation = fresh;
    bson_init(&operation->key);
    bson_init(&operation->reply);
    read_wait_init(operation);
    uint64_t wait_ms = operation->engine->lock_wait_ms;
    uint64_t given_ms = (uint64_t)operation->view->max_time_ms;
    operation->deadline_ms =
        clock_monotonic_ms() + (given_ms > 0 && given_ms < wait_ms ? given_ms : wait_ms);
    resolve(operation);
}
