/*
 * The steps of a reading command; what is answered with what stands in read.h.
 *
 *   LOOK --------------------------------> AT_SERVER --> same stamp, or a turn --> answered
 *     ^  |                                    |  |
 *     |  | WAIT, and not clear                |  `-- another stamp: again, the third time by way of
 *     |  v                                    |      TURN_QUEUED
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

#include <assert.h>
#include <stdlib.h>

#include "holdfast/clock.h"
#include "holdfast/limits.h"
#include "recover/history.h"
#include "wire/bson_check.h"
#include "wire/reply.h"

/* Attempts that units may spoil, before one that they have to wait for. */
#define ATTEMPTS_FREE 2
/* How long units that are not there yet are kept out, and how often. */
#define DRAIN_MS 50
#define DRAIN_PAUSE_MS 200
/* Documents of one overlay; far more than a command of 15 MiB holds. */
#define IMAGES_MAX 1000000u

static void look(struct read_operation *operation);

uint64_t read_stamp(const struct uncommitted_table *table, const struct read_command *command)
{
    uint64_t sum = 0; /* none ever counts down: equal sums are equal stamps */
    for (size_t i = 0; i < command->gate_count; i++) {
        sum += uncommitted_stamp(table, command->gates[i]);
    }
    return sum;
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

void read_note_cursor(struct engine *engine, const struct read_command *command, int64_t cursor_id)
{
    if (command->kind == READ_AGGREGATE && command->gate_count > 1 && cursor_id != 0) {
        cursor_gates_note(&engine->cursor_gates, cursor_id, clock_monotonic_ms());
    }
}

bool read_is_committed(const struct read_operation *operation)
{
    return operation->locked || operation->form != READ_FORM_PASS;
}

/* ------------------------------------------------------------------ ends */

static void end_turn(struct read_operation *operation)
{
    if (operation->has_turn) {
        operation->has_turn = false;
        (void)event_del(&operation->timer);
        uncommitted_turn_end(operation->engine->uncommitted, &operation->turn);
    }
}

/* False: the reads on their way carry too much. */
static bool overlay_bytes_take(struct read_operation *operation, uint64_t bytes)
{
    uint64_t wanted = bytes * READ_OVERLAY_COPIES;
    uint64_t before = atomic_fetch_add(&operation->engine->overlay_bytes, wanted);
    if (before + wanted > LIMIT_OVERLAY_BYTES_MAX) {
        (void)atomic_fetch_sub(&operation->engine->overlay_bytes, wanted);
        return false;
    }
    operation->overlay_bytes = wanted;
    return true;
}

/* Harmless if it carries nothing. */
static void overlay_bytes_give(struct read_operation *operation)
{
    (void)atomic_fetch_sub(&operation->engine->overlay_bytes, operation->overlay_bytes);
    operation->overlay_bytes = 0;
}

static void finish(struct read_operation *operation, struct slice reply)
{
    overlay_bytes_give(operation);
    end_turn(operation);
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

/* With the answer that stands in operation->reply. */
static void finish_own(struct read_operation *operation)
{
    finish(operation, slice_make(bson_get_data(&operation->reply), operation->reply.len));
}

static void fail(struct read_operation *operation, int code, const char *message)
{
    bson_reinit(&operation->reply);
    reply_put_error(&operation->reply, code, NULL, "%s", message);
    finish_own(operation);
}

static void fail_for_time(struct read_operation *operation)
{
    bson_reinit(&operation->reply);
    reply_put_error(
        &operation->reply, operation->in_unit ? REPLY_CODE_WriteConflict : REPLY_CODE_LockTimeout,
        NULL,
        "units that are open have written here, and this read had to wait longer for them than "
        "unit.lockWait or maxTimeMS allows (%s)",
        operation->why == NULL ? "it takes long, and units write all the time" : operation->why);
    finish_own(operation);
}

static void fail_for_snapshot(struct read_operation *operation)
{
    fail(operation, REPLY_CODE_SnapshotUnavailable,
         "too much has changed since the transaction began, or too long ago: run it again");
}

static bool has_turn(const struct read_operation *operation, enum uncommitted_turn_kind kind)
{
    return operation->has_turn && operation->turn.kind == kind;
}

/* ------------------------------------------------------------------ sending */

static void on_reply(void *context, enum status status, struct slice reply);

static void give_turn_up_in_time(struct read_operation *operation)
{
    uint64_t ms = read_turn_ms(operation->engine);
    struct timeval timeout = {.tv_sec = (time_t)(ms / 1000),
                              .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    operation->gave_up = false;
    if (operation->has_turn) {
        (void)event_add(&operation->timer, &timeout);
    }
}

static void send_command(struct read_operation *operation, enum read_sent sent, bson_t *command)
{
    operation->step = READ_AT_SERVER;
    operation->sent = sent;
    give_turn_up_in_time(operation);
    operation->channel->send(operation->channel, slice_make(bson_get_data(command), command->len),
                             on_reply, operation);
    bson_destroy(command);
}

static struct rewrite_options options_of(struct read_operation *operation)
{
    /* A unit's cursors show what is there when they go on: so they had better not have to. */
    struct rewrite_options options = {
        .in_unit = operation->in_unit,
        .whole = operation->locked || (operation->in_unit && operation->form != READ_FORM_PASS)};
    int64_t given = operation->view->max_time_ms;
    /* Units wait meanwhile. Only where no cursor stays, which would keep the limit for all its
       getMores. */
    const struct read_command *command = &operation->command;
    bool bounded =
        operation->has_turn && (command->kind == READ_COUNT || command->kind == READ_DISTINCT ||
                                (command->kind == READ_FIND && command->single_batch));
    int64_t bound = (int64_t)operation->engine->lock_wait_ms;
    operation->timed = bounded && bound > 0 && (given == 0 || given > bound);
    options.max_time_ms = operation->timed ? bound : 0;
    return options;
}

static void send_original(struct read_operation *operation, enum read_sent sent)
{
    struct rewrite_options options = options_of(operation);
    bson_t command;
    if (rewrite_original(&operation->command, &options, &command) != STATUS_OK) {
        fail(operation, REPLY_CODE_FailedToParse, "the command is not valid BSON");
        return;
    }
    send_command(operation, sent, &command);
}

/* ------------------------------------------------------------------ the overlay */

static enum status read_image(struct wal_reader *reader,
                              const struct uncommitted_document *document,
                              struct overlay_image *ret_image)
{
    struct overlay_image image = {.key = document->key};
    if (document->was_present) {
        struct history_image place = {.presence = IMAGE_PRESENT,
                                      .lsn = document->lsn,
                                      .offset = document->offset,
                                      .size = document->size};
        struct image view;
        enum status status = history_image_view(reader, &place, &view, NULL);
        if (status != STATUS_OK) {
            return status;
        }
        image.document = view.document;
    }
    *ret_image = image;
    return STATUS_OK;
}

/* Of their part of the command, or a little more. */
static uint64_t bytes_of(struct uncommitted_document *const *documents, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += documents[i]->size + rewrite_key_bytes(documents[i]->key);
    }
    return bytes;
}

static enum status make_overlay(struct read_operation *operation,
                                struct uncommitted_document *const *documents, size_t count,
                                bool only_images, bson_t *ret_command)
{
    struct rewrite_options options = options_of(operation);
    struct wal_reader *reader = NULL;
    struct overlay_image *images = calloc(count, sizeof *images);
    if (images == NULL) {
        return STATUS_MEMORY;
    }
    options.only_images = only_images;
    options.whole =
        true; /* a getMore would have to wait for the units that this does not wait for */
    enum status status = wal_reader_begin(operation->engine->wal, &reader, NULL);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = read_image(reader, documents[i], &images[i]);
    }
    if (status == STATUS_OK) {
        status = rewrite_read(&operation->command, images, count, &options, ret_command);
    }
    wal_reader_end(reader);
    free(images);
    return status;
}

static void wait_from_now_on(struct read_operation *operation, const char *why)
{
    operation->form = READ_FORM_WAIT;
    operation->why = why;
    look(operation);
}

static void send_overlay(struct read_operation *operation,
                         struct uncommitted_document *const *documents, size_t count,
                         bool only_images)
{
    bson_t command;
    uint64_t bytes = bytes_of(documents, count) + operation->view->body.size;
    const char *too_much = "among too many bytes of before-images";
    enum status status = STATUS_LIMIT;
    if (bytes <= REWRITE_BYTES_MAX && !overlay_bytes_take(operation, bytes)) {
        too_much = "among other reads with too many bytes of before-images";
    } else if (bytes <= REWRITE_BYTES_MAX) {
        status = make_overlay(operation, documents, count, only_images, &command);
    }
    if (status != STATUS_OK) {
        overlay_bytes_give(operation);
    }
    switch (status) {
    case STATUS_OK:
        send_command(operation, READ_SENT_OVERLAY, &command);
        break;
    case STATUS_LIMIT:
        if (operation->reader.has_snapshot) {
            fail_for_snapshot(operation); /* waiting does not make it less */
            break;
        }
        wait_from_now_on(operation, too_much);
        break;
    case STATUS_UNSUPPORTED:
        wait_from_now_on(operation, "by a collation, among _ids with text");
        break;
    case STATUS_MEMORY:
        fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        break;
    default:
        /* A unit that has ended may be pruned from the journal already. */
        if (operation->reader.has_snapshot) {
            fail_for_snapshot(operation);
            break;
        }
        wait_from_now_on(operation, "of images that the journal could not give");
        break;
    }
}

/* ------------------------------------------------------------------ looking */

static bool others_are_clear(const struct read_operation *operation, size_t first)
{
    const struct read_command *command = &operation->command;
    for (size_t i = first; i < command->gate_count; i++) {
        uint32_t gate = command->gates[i];
        if (!uncommitted_is_empty(operation->engine->uncommitted, gate) &&
            uncommitted_has_others(operation->engine->uncommitted, gate, NULL,
                                   &operation->reader)) {
            return false;
        }
    }
    return true;
}

static uint32_t turn_gate(const struct read_operation *operation)
{
    return operation->command.gate_count > 1 ? GATE_SERVER : operation->command.gates[0];
}

static void set_timer(struct read_operation *operation, uint64_t until_ms)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t end_ms = until_ms < operation->deadline_ms ? until_ms : operation->deadline_ms;
    uint64_t ms = end_ms > now_ms ? end_ms - now_ms : 1;
    struct timeval timeout = {.tv_sec = (time_t)(ms / 1000),
                              .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    (void)event_add(&operation->timer, &timeout);
}

static void begin_turn(struct read_operation *operation, enum uncommitted_turn_kind kind)
{
    operation->turn.gate = turn_gate(operation);
    operation->turn.kind = kind;
    operation->drain_until_ms = clock_monotonic_ms() + DRAIN_MS;
    if (uncommitted_turn_begin(operation->engine->uncommitted, &operation->turn)) {
        operation->has_turn = true;
        look(operation);
        return;
    }
    operation->step = READ_TURN_QUEUED;
    set_timer(operation, UINT64_MAX);
}

/* Until a unit ends, or `until_ms`. */
static void watch(struct read_operation *operation, enum read_step step, uint64_t until_ms)
{
    struct uncommitted_table *table = operation->engine->uncommitted;
    operation->watch.gate = turn_gate(operation);
    operation->step = step;
    bool waiting = uncommitted_watch(table, &operation->watch, NULL, &operation->reader);
    /* What it waits for may have ended before it was watched. */
    if (!waiting ||
        (others_are_clear(operation, 0) && uncommitted_unwatch(table, &operation->watch))) {
        worker_post(operation->channel->worker, &operation->task);
        return;
    }
    set_timer(operation, until_ms);
}

static void wait_for_units(struct read_operation *operation)
{
    uint64_t now_ms = clock_monotonic_ms();
    bool draining = has_turn(operation, UNCOMMITTED_TURN_DRAIN);
    if (operation->cancelled || now_ms >= operation->deadline_ms) {
        fail_for_time(operation);
    } else if (draining && now_ms < operation->drain_until_ms) {
        watch(operation, READ_DRAINING, operation->drain_until_ms);
    } else if (!operation->has_turn && now_ms >= operation->drain_after_ms) {
        operation->drain_after_ms = now_ms + DRAIN_MS + DRAIN_PAUSE_MS;
        begin_turn(operation, UNCOMMITTED_TURN_DRAIN);
    } else {
        end_turn(operation);
        watch(operation, READ_WAITING, operation->drain_after_ms);
    }
}

/* Nothing is uncommitted there, from the gate `first` on; and a drain has done its work. */
static bool is_clear_now(struct read_operation *operation, size_t first)
{
    if (!others_are_clear(operation, first)) {
        return false;
    }
    if (!has_turn(operation, UNCOMMITTED_TURN_DRAIN)) {
        return true;
    }
    uncommitted_turn_make_read(operation->engine->uncommitted, &operation->turn);
    return others_are_clear(operation, first); /* who may pass a drain may have been faster */
}

static void look_wait(struct read_operation *operation)
{
    operation->stamp = read_stamp(operation->engine->uncommitted, &operation->command);
    if (is_clear_now(operation, 0)) {
        send_original(operation, READ_SENT_ORIGINAL);
    } else {
        wait_for_units(operation);
    }
}

static void look_point(struct read_operation *operation)
{
    struct uncommitted_table *table = operation->engine->uncommitted;
    operation->stamp = uncommitted_name_stamp(table, &operation->name);
    struct uncommitted_document *found =
        uncommitted_find(table, &operation->name, &operation->reader);
    if (found == NULL) {
        send_original(operation, READ_SENT_ORIGINAL);
        return;
    }
    /* Another _id may have the same name (unit/lock_name.c): nothing is known of this one then. */
    struct slice key = slice_make(bson_get_data(&operation->key), operation->key.len);
    if (slice_equal(found->key, key)) {
        send_overlay(operation, &found, 1, true);
    } else {
        operation->form = READ_FORM_OVERLAY;
        look(operation);
    }
    uncommitted_document_release(found);
}

static void look_overlay(struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    struct uncommitted_view view;
    operation->stamp = read_stamp(operation->engine->uncommitted, command);
    if (!is_clear_now(operation, 1)) {
        operation->why = "a pipeline that reads other collections";
        wait_for_units(operation);
        return;
    }
    char *namespace = bson_strdup_printf("%s.%s", command->database, command->collection);
    enum status status = uncommitted_collect(operation->engine->uncommitted, command->gates[0],
                                             namespace, &operation->reader, IMAGES_MAX, &view);
    bson_free(namespace);
    if (status == STATUS_MEMORY) {
        fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
    } else if (status != STATUS_OK) {
        wait_from_now_on(operation, "among too many documents");
    } else if (view.count == 0) {
        send_original(operation, READ_SENT_ORIGINAL);
    } else {
        send_overlay(operation, view.documents, view.count, false);
        uncommitted_view_free(&view);
    }
}

static void look(struct read_operation *operation)
{
    if (uncommitted_snapshot_is_lost(operation->engine->uncommitted, &operation->reader)) {
        fail_for_snapshot(operation);
        return;
    }
    bool wants_turn =
        operation->form != READ_FORM_PASS &&
        (operation->attempts >= ATTEMPTS_FREE || operation->command.kind == READ_GET_MORE);
    if (wants_turn && !operation->has_turn && operation->form != READ_FORM_WAIT) {
        begin_turn(operation, UNCOMMITTED_TURN_READ);
        return;
    }
    switch (operation->form) {
    case READ_FORM_PASS:
        send_original(operation, READ_SENT_ORIGINAL);
        break;
    case READ_FORM_POINT:
        look_point(operation);
        break;
    case READ_FORM_OVERLAY:
        look_overlay(operation);
        break;
    case READ_FORM_WAIT:
        /* Without a turn a getMore could not be done again, and others might never be in time. */
        if (wants_turn && !operation->has_turn && others_are_clear(operation, 0)) {
            begin_turn(operation, UNCOMMITTED_TURN_DRAIN);
        } else {
            look_wait(operation);
        }
        break;
    }
}

/* ------------------------------------------------------------------ answers */

static void look_or_fail(struct read_operation *operation)
{
    if (operation->is_lost) {
        fail_for_time(operation);
    } else {
        look(operation);
    }
}

/* Nobody gets this answer: its cursor goes, then `look` again. */
static void look_again(struct read_operation *operation, int64_t cursor_id)
{
    bson_t command = BSON_INITIALIZER;
    bson_t cursors;
    bson_iter_t session;
    if (cursor_id == 0) {
        bson_destroy(&command);
        look_or_fail(operation);
        return;
    }
    const char *collection = operation->command.collection;
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
    send_command(operation, operation->sent, &command);
    operation->step = READ_KILLING;
}

static void take_error(struct read_operation *operation, const struct reply_view *view,
                       struct slice reply)
{
    bool of_time = view->code == REPLY_CODE_MaxTimeMSExpired ||
                   view->code == REPLY_CODE_Interrupted ||
                   view->code == REPLY_CODE_InterruptedAtShutdown;
    if (operation->timed && view->code == REPLY_CODE_MaxTimeMSExpired) {
        fail_for_time(operation);
    } else if (operation->sent == READ_SENT_OVERLAY && !of_time) {
        send_original(operation, READ_SENT_PROBE);
    } else {
        finish(operation, reply);
    }
}

static bool is_undisturbed(const struct read_operation *operation)
{
    const struct uncommitted_table *table = operation->engine->uncommitted;
    switch (operation->form) {
    case READ_FORM_PASS:
        return true;
    case READ_FORM_POINT:
        return has_turn(operation, UNCOMMITTED_TURN_READ) ||
               uncommitted_name_stamp(table, &operation->name) == operation->stamp;
    case READ_FORM_OVERLAY:
    case READ_FORM_WAIT:
        break;
    }
    return has_turn(operation, UNCOMMITTED_TURN_READ) ||
           read_stamp(table, &operation->command) == operation->stamp;
}

static void take_answer(struct read_operation *operation, const struct reply_view *view,
                        struct slice reply)
{
    if (operation->sent == READ_SENT_PROBE) {
        operation->form = READ_FORM_WAIT;
        operation->why = "one that the server does not take as an aggregation";
        end_turn(operation);
        look_again(operation, view->cursor_id);
    } else if (!is_undisturbed(operation)) {
        operation->is_lost = operation->gave_up;
        operation->attempts++;
        look_again(operation, view->cursor_id);
    } else if (operation->sent == READ_SENT_ORIGINAL) {
        read_note_cursor(operation->engine, &operation->command, view->cursor_id);
        finish(operation, reply);
    } else if (rewrite_reply(&operation->command, reply, &operation->reply) == STATUS_OK) {
        read_note_cursor(operation->engine, &operation->command, view->cursor_id);
        finish_own(operation);
    } else {
        fail(operation, REPLY_CODE_InternalError, "the server's answer makes no sense");
    }
}

static void on_reply(void *context, enum status status, struct slice reply)
{
    struct read_operation *operation = context;
    struct reply_view view;
    overlay_bytes_give(operation);
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

/* ------------------------------------------------------------------ tasks and timer */

static struct read_operation *operation_of(struct worker_task *task)
{
    return (struct read_operation *)(void *)((uint8_t *)task -
                                             offsetof(struct read_operation, task));
}

static void on_task(struct worker_task *task)
{
    struct read_operation *operation = operation_of(task);
    (void)event_del(&operation->timer);
    if (operation->step == READ_TURN_QUEUED) {
        operation->has_turn = true;
    }
    if (operation->cancelled) {
        fail_for_time(operation);
        return;
    }
    look(operation);
}

static void on_turn(struct uncommitted_turn *turn)
{
    struct read_operation *operation =
        (struct read_operation *)(void *)((uint8_t *)turn - offsetof(struct read_operation, turn));
    worker_post(operation->channel->worker, &operation->task);
}

static void on_unit_ended(struct uncommitted_watch *ended)
{
    struct read_operation *operation =
        (struct read_operation *)(void *)((uint8_t *)ended -
                                          offsetof(struct read_operation, watch));
    worker_post(operation->channel->worker, &operation->task);
}

/* True: it waited, and nothing comes of that any more. */
static bool stop_waiting(struct read_operation *operation)
{
    struct uncommitted_table *table = operation->engine->uncommitted;
    switch (operation->step) {
    case READ_TURN_QUEUED:
        return uncommitted_turn_cancel(table, &operation->turn);
    case READ_DRAINING:
    case READ_WAITING:
        return uncommitted_unwatch(table, &operation->watch);
    case READ_AT_SERVER:
    case READ_KILLING:
        break;
    }
    return false;
}

/* The reply takes longer than units have to wait for it. */
static void give_turn_up(struct read_operation *operation)
{
    const struct uncommitted_table *table = operation->engine->uncommitted;
    if (operation->has_turn) {
        operation->stamp = operation->form == READ_FORM_POINT
                               ? uncommitted_name_stamp(table, &operation->name)
                               : read_stamp(table, &operation->command);
        operation->gave_up = true;
        end_turn(operation);
    }
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct read_operation *operation = context;
    (void)descriptor;
    (void)what;
    if (operation->step == READ_AT_SERVER) {
        give_turn_up(operation);
        return;
    }
    if (!stop_waiting(operation)) {
        return; /* its task is on the way */
    }
    if (operation->step == READ_TURN_QUEUED) {
        fail_for_time(operation);
    } else {
        look(operation);
    }
}

void read_cancel(struct read_operation *operation)
{
    operation->cancelled = true;
    if (stop_waiting(operation)) {
        fail_for_time(operation);
    }
}

/* ------------------------------------------------------------------ starting */

static enum read_form form_of(struct read_operation *operation)
{
    struct read_command *command = &operation->command;
    struct slice body = operation->view->body;
    *command = (struct read_command){.view = operation->view};
    if (read_command_parse(operation->view, command) != STATUS_OK ||
        bson_check(body, NULL) != STATUS_OK || operation->locked ||
        !operation->engine->committed_reads) {
        return READ_FORM_PASS;
    }
    if (operation->in_unit && command->kind == READ_GET_MORE) {
        return READ_FORM_PASS; /* two units with cursors would wait for each other */
    }
    read_find_gates(operation->engine, command);
    return read_command_analyse(command, &operation->why);
}

static void name_point(struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    if (!read_command_point_key(command, &operation->key)) {
        operation->form = READ_FORM_OVERLAY;
        return;
    }
    char *namespace = bson_strdup_printf("%s.%s", command->database, command->collection);
    lock_name_of(namespace, slice_make(bson_get_data(&operation->key), operation->key.len),
                 &operation->name);
    bson_free(namespace);
}

void read_start(struct read_operation *operation)
{
    struct read_operation fresh = {
        .engine = operation->engine,
        .channel = operation->channel,
        .view = operation->view,
        .reader = operation->reader,
        .locked = operation->locked,
        .in_unit = operation->in_unit,
        .stale_cursor = operation->stale_cursor,
        .is_lost = operation->is_lost,
        .completed = operation->completed,
        .context = operation->context,
        .task.run = on_task,
        .turn.begun = on_turn,
        .watch.ended = on_unit_ended,
    };
    *operation = fresh;
    bson_init(&operation->key);
    bson_init(&operation->reply);
    int assigned = event_assign(&operation->timer, worker_base(operation->channel->worker), -1, 0,
                                on_timer, operation);
    assert(assigned == 0);
    uint64_t wait_ms = operation->engine->lock_wait_ms;
    uint64_t given_ms = (uint64_t)operation->view->max_time_ms;
    operation->deadline_ms =
        clock_monotonic_ms() + (given_ms > 0 && given_ms < wait_ms ? given_ms : wait_ms);
    operation->form = form_of(operation);
    if (operation->form == READ_FORM_POINT) {
        name_point(operation);
    }
    look_again(operation, operation->stale_cursor);
}
