/*
 * The steps of a read in a serializable unit (locked_read.h).
 *
 *   ENTERING  the gates of each namespace that it reads, so that plain writes do not go by
 *      v
 *   LEARNING  what each of them is; the next one --> ENTERING
 *      v
 *   LOCKING_DOCUMENT  the one that its filter names
 *   LOCKING           or each namespace as a whole
 *      v
 *   AT_SERVER  the command as it is (read.h)
 *
 * Invariant: at most one thing is waited for; its end comes as a task, from the timer, or from
 * struct enter, on the channel's worker.
 */
#include "read/locked_read.h"

#include <assert.h>

#include "engine/equality.h"
#include "engine/namespace_kind.h"
#include "unit/lock_hints.h"
#include "wire/bson_check.h"
#include "wire/reply.h"

static void enter(struct locked_read *locked, unsigned modes);
static void lock(struct locked_read *locked);
static void learn(struct locked_read *locked);

static struct lock_owner *owner_of(const struct locked_read *locked)
{
    return &locked->unit->locks;
}

/* ------------------------------------------------------------------ ends */

static void finish(struct locked_read *locked, struct slice reply)
{
    (void)event_del(&locked->timer);
    locked->completed(locked, reply);
}

static void fail(struct locked_read *locked, int code, const char *message)
{
    bson_t reply = BSON_INITIALIZER;
    reply_put_error(&reply, code, NULL, "%s", message);
    finish(locked, slice_make(bson_get_data(&reply), reply.len));
    bson_destroy(&reply);
}

static void refuse(struct locked_read *locked, const char *message)
{
    fail(locked, REPLY_CODE_OperationNotSupportedInTransaction, message);
}

/* Of the locks. */
static void fail_unit(struct locked_read *locked)
{
    locked->failed = true;
    fail(locked, REPLY_CODE_WriteConflict,
         owner_of(locked)->victim
             ? "this serializable unit and others waited for each other, and it is the youngest of "
               "them: run it again"
             : "other units write what this serializable unit is to read, and did not end within "
               "unit.lockWait: run it again");
}

/* ------------------------------------------------------------------ cursors */

static void note_cursor(struct locked_read *locked, struct slice reply)
{
    struct reply_view view;
    if (reply.size > 0 && reply_view_parse(reply, &view) == STATUS_OK && view.ok &&
        view.has_cursor && view.cursor_id != 0 && locked->command.kind != READ_GET_MORE) {
        unit_cursor_note(locked->unit, view.cursor_id);
    }
}

/* ------------------------------------------------------------------ the read itself */

static void on_read(struct read_operation *operation, struct slice reply)
{
    struct locked_read *locked = operation->context;
    note_cursor(locked, reply);
    finish(locked, reply);
}

static void send_command(struct locked_read *locked)
{
    bool has_locks = locked->step != LOCKED_READ_ENTERING;
    locked->step = LOCKED_READ_AT_SERVER;
    *locked->read = (struct read_operation){
        .engine = locked->engine,
        .channel = locked->channel,
        .view = locked->view,
        .locked = has_locks,
        .in_unit = locked->in_transaction,
        .completed = on_read,
        .context = locked,
    };
    read_start(locked->read);
}

/* ------------------------------------------------------------------ one document */

/* Whether its filter names the one document that it can find. */
static bool name_document(struct locked_read *locked)
{
    const struct read_command *command = &locked->command;
    bson_t key = BSON_INITIALIZER;
    bson_iter_t id;
    bool found = command->kind == READ_FIND && command->gate_count == 1 && !command->is_odd &&
                 command->filter.size > 0 && equality_names_one(command->filter, &key) &&
                 bson_iter_init_find(&id, &key, "_id") &&
                 read_command_names_one(&id, locked->collated || command->has_collation);
    if (found) {
        lock_name_in(command->database, command->collection,
                     slice_make(bson_get_data(&key), key.len), &locked->name);
    }
    bson_destroy(&key);
    return found;
}

static void wait_for_lock(struct locked_read *locked)
{
    worker_timer_start(&locked->timer, locked->cancelled ? 0 : locked->engine->lock_wait_ms);
}

static void lock_document(struct locked_read *locked)
{
    locked->step = LOCKED_READ_LOCKING_DOCUMENT;
    switch (lock_acquire_shared(locked->engine->locks, owner_of(locked), &locked->name,
                                &locked->lock)) {
    case LOCK_GRANTED:
    case LOCK_CONFLICT:
        send_command(locked);
        break;
    case LOCK_WAITING:
        wait_for_lock(locked);
        break;
    case LOCK_DEADLOCK:
        fail_unit(locked);
        break;
    case LOCK_LIMIT:
        locked->failed = true;
        fail(locked, REPLY_CODE_LockTimeout,
             "unit.maxLocks documents are locked by open units: try again later");
        break;
    case LOCK_NO_MEMORY:
        locked->failed = true;
        fail(locked, REPLY_CODE_ExceededMemoryLimit, "out of memory for a lock");
        break;
    }
}

/* ------------------------------------------------------------------ namespaces */

/* An earlier try had read it and could not write it then. */
static unsigned modes_of(const struct locked_read *locked, uint32_t gate)
{
    bool writes = lock_hints_has_namespace(owner_of(locked)->hints, gate);
    return writes ? NAMESPACE_READ | NAMESPACE_WRITE : NAMESPACE_READ;
}

static void lock(struct locked_read *locked)
{
    const struct read_command *command = &locked->command;
    locked->step = LOCKED_READ_LOCKING;
    while (locked->at < command->gate_count &&
           namespace_is_locked(owner_of(locked), command->gates[locked->at], NAMESPACE_READ)) {
        locked->at++;
    }
    if (locked->at == command->gate_count) {
        send_command(locked);
    } else {
        enter(locked, modes_of(locked, command->gates[locked->at]));
    }
}

/* All namespaces are entered, and are what can be locked. */
static void lock_what_it_reads(struct locked_read *locked)
{
    locked->at = 0;
    if (locked->command.kind == READ_GET_MORE) {
        send_command(locked); /* its cursor's locks are there */
    } else if (owner_of(locked)->share_count < LOCKED_DOCUMENTS_MAX &&
               !namespace_is_locked(owner_of(locked), locked->command.gates[0], NAMESPACE_READ) &&
               name_document(locked)) {
        lock_document(locked);
    } else {
        lock(locked);
    }
}

static void on_entered(struct enter *entered, bool inside)
{
    struct locked_read *locked = entered->context;
    if (!inside) {
        fail_unit(locked);
    } else if (locked->step == LOCKED_READ_LOCKING) {
        lock(locked);
    } else {
        learn(locked);
    }
}

/* The namespace number `at`. */
static void enter(struct locked_read *locked, unsigned modes)
{
    if (locked->cancelled) {
        fail_unit(locked);
        return;
    }
    locked->enter = (struct enter){
        .engine = locked->engine,
        .unit = locked->unit,
        .worker = locked->channel->worker,
        .modes = modes,
        .completed = on_entered,
        .context = locked,
    };
    switch (
        enter_start(&locked->enter, locked->command.database, locked->command.names[locked->at])) {
    case ENTER_INSIDE:
        on_entered(&locked->enter, true);
        break;
    case ENTER_WAITING:
        break;
    case ENTER_NO_MEMORY:
        locked->failed = true;
        fail(locked, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        break;
    case ENTER_DEADLOCK:
        fail_unit(locked);
        break;
    }
}

static void take_answer(struct locked_read *locked)
{
    struct unique_lookup *lookup = &locked->lookup;
    if (lookup->status != STATUS_OK || !lookup->listed) {
        fail(locked,
             lookup->status == STATUS_UNREACHABLE ? REPLY_CODE_HostUnreachable
                                                  : REPLY_CODE_InternalError,
             "what this namespace is cannot be learned, which reads in serializable units need: "
             "the proxy's own user must be allowed to list collections and indexes");
        return;
    }
    lookup->indexes = unique_indexes_release(lookup->indexes);
    if (lookup->kind == NAMESPACE_VIEW) {
        refuse(locked, "a serializable unit cannot read a view: which collections are behind it is "
                       "not known, so they cannot be locked");
        return;
    }
    locked->collated |= locked->at == 0 && lookup->collated;
    locked->at++;
    if (locked->at < locked->command.gate_count) {
        locked->step = LOCKED_READ_ENTERING;
        enter(locked, 0);
    } else {
        lock_what_it_reads(locked);
    }
}

static void on_answered(struct unique_lookup *lookup)
{
    struct locked_read *locked =
        (struct locked_read *)(void *)((uint8_t *)lookup - offsetof(struct locked_read, lookup));
    worker_post(locked->channel->worker, &locked->task);
}

static void learn(struct locked_read *locked)
{
    locked->step = LOCKED_READ_LEARNING;
    locked->lookup = (struct unique_lookup){
        .database = locked->command.database,
        .collection = locked->command.names[locked->at],
        .answered = on_answered,
    };
    if (unique_cache_get(locked->engine->unique, &locked->lookup)) {
        take_answer(locked);
    }
}

/* ------------------------------------------------------------------ tasks and timer */

static void on_task(struct worker_task *task)
{
    struct locked_read *locked =
        (struct locked_read *)(void *)((uint8_t *)task - offsetof(struct locked_read, task));
    (void)event_del(&locked->timer);
    if (locked->step == LOCKED_READ_LEARNING) {
        take_answer(locked);
    } else {
        lock_document(locked);
    }
}

static void on_lock_wait_ended(struct lock_waiter *waiter)
{
    struct locked_read *locked =
        (struct locked_read *)(void *)((uint8_t *)waiter - offsetof(struct locked_read, lock));
    worker_post(locked->channel->worker, &locked->task);
}

static void give_up(struct locked_read *locked)
{
    if (locked->step == LOCKED_READ_LOCKING_DOCUMENT &&
        lock_cancel(locked->engine->locks, &locked->lock)) {
        fail_unit(locked);
    } /* else it does not wait, or its task is on the way */
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    give_up(context);
}

void locked_read_cancel(struct locked_read *locked)
{
    locked->cancelled = true;
    switch (locked->step) {
    case LOCKED_READ_ENTERING:
    case LOCKED_READ_LOCKING:
        enter_cancel(&locked->enter);
        break;
    case LOCKED_READ_LOCKING_DOCUMENT:
        give_up(locked);
        break;
    case LOCKED_READ_AT_SERVER:
        read_cancel(locked->read);
        break;
    case LOCKED_READ_LEARNING:
        break;
    }
}

/* ------------------------------------------------------------------ starting */

/* NULL: it can be locked. */
static const char *why_not(const struct locked_read *locked)
{
    const struct read_command *command = &locked->command;
    if (command->kind == READ_GET_MORE) {
        return unit_cursor_is_known(locked->unit, command->cursor_id)
                   ? NULL
                   : "a serializable unit takes a getMore of a cursor only that it has opened "
                     "itself";
    }
    if (command->database == NULL || command->collection == NULL) {
        return "a serializable unit reads collections, which it locks: nothing else";
    }
    if (command->is_special) {
        return "tailable cursors, change streams, explain and what tells of the server are not for "
               "serializable units";
    }
    for (size_t i = 0; i < command->gate_count; i++) {
        if (command->names[i] == NULL) {
            return "a pipeline that reads so many collections is not for serializable units, which "
                   "lock them";
        }
    }
    return NULL;
}

void locked_read_start(struct locked_read *locked)
{
    struct locked_read fresh = {
        .engine = locked->engine,
        .channel = locked->channel,
        .unit = locked->unit,
        .view = locked->view,
        .read = locked->read,
        .in_transaction = locked->in_transaction,
        .completed = locked->completed,
        .context = locked->context,
        .task.run = on_task,
        .lock.ended = on_lock_wait_ended,
    };
    *locked = fresh;
    int assigned =
        event_assign(&locked->timer, worker_base(locked->channel->worker), -1, 0, on_timer, locked);
    assert(assigned == 0);
    enum status status = read_command_parse(locked->view, &locked->command);
    if (status == STATUS_NOT_FOUND) {
        send_command(locked);
        return;
    }
    if (status != STATUS_OK || bson_check(locked->view->body, NULL) != STATUS_OK) {
        fail(locked, REPLY_CODE_FailedToParse, "the command is not valid BSON");
        return;
    }
    const char *why = why_not(locked);
    if (why != NULL) {
        refuse(locked, why);
    } else {
        locked->step = LOCKED_READ_ENTERING;
        enter(locked, 0);
    }
}
