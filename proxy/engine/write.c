/*
 * The steps of a write inside a unit.
 *
 *   ENTERING    the gates of the server and of the namespace (gate.h)
 *      v
 *   ADMITTING   a unit that holds nothing yet waits while readers wait for those that do
 *      v
 *   LEARNING_UNIQUE   which unique indexes there are: mostly known (unique_cache.h)
 *      v
 *   SELECTING   the next statement, or a run of inserts           (none left) --> DONE, reply
 *      |`--> COLLECTING   a multi write: all _ids that match, then batch by batch
 *      v         |
 *      |         |      (it may meet what its unit has put off: FLUSHING before it, flush.h)
 *      v         |
 *   LOCKING <----'  what is known to be touched before looking: the _id of an insert or of the
 *      |        filter, the equality key of an upsert, the _ids of the batch
 *      v
 *   RESOLVING   find: which documents, and their before-images    (none, no upsert) --> SELECTING
 *      |`--> SEEKING_HIDDEN   which committed documents do open units hide from the search?
 *      |         |             (one is, of a write of one) --> LOCKING it, RESOLVING again
 *      |`--> PROBING   none, but the update may be wrong in itself: the server is asked
 *      v
 *   LOCKING     the one document; had to wait --> RESOLVING again, it may be another one now
 *      v
 *   FORECASTING   of updates that the server computes: which keys of unique indexes do they make?
 *      v
 *   LOCKING_UNIQUE   keys of unique indexes that the writes take or give up; an upsert that had to
 *      v             wait --> RESOLVING again, there may be a document now
 *   JOURNALING  before-images, and after-images (computed here) or the command, durable
 *      |`--> SELECTING   it is put off (deferred.h): counted, and kept in the unit
 *      v
 *   PUBLISHING  readers know now where the before-images are; readers in their turn come first
 *      v
 *   SENDING     the writes, pinned to their _ids and guarded by the before-images; an after-image
 *      |        that is not known yet is the reply     (more documents) --> SENDING
 *      |`--> CHECKING   fewer were written than sent: which?
 *      `------> SELECTING, or LOCKING the next batch
 *
 * (PROJECTING_* reads findAndModify's `fields` of the document that is locked anyway.)
 *
 * In a transaction any failure --> ROLLING_BACK: as in mongod it does not survive an error. The
 * error is answered when the rollback is done, so that the client's next try does not meet its own
 * locks. With WRITE_ERRORS_KEEP the server's refusals go into the reply and the command goes on as
 * mongod's would; only the proxy's own failures roll back.
 *
 * Invariant: at most one thing is waited for (`wait`), and its answer comes as a task or a reply on
 * the channel's worker, which is the only thread that touches the operation.
 */
#include "engine/write.h"
#include "engine/native_unit.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/write_steps.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "unit/lock_hints.h"
#include "wire/reply.h"

static void advance(struct write_operation *operation);

/* ------------------------------------------------------------------ waiting */

static struct write_operation *operation_of(struct worker_task *task)
{
    return (struct write_operation *)(void *)((uint8_t *)task -
                                              offsetof(struct write_operation, task));
}

static void note_lock_wait(struct write_operation *operation)
{
    struct engine_counters *counters = &operation->engine->counters;
    (void)atomic_fetch_sub_explicit(&counters->lock_waiting, 1, memory_order_relaxed);
    histogram_observe(&counters->lock_wait, clock_monotonic_us() - operation->lock_asked_us);
}

static void on_task(struct worker_task *task)
{
    struct write_operation *operation = operation_of(task);
    if (operation->wait == WRITE_WAIT_LOCK) {
        note_lock_wait(operation);
    }
    operation->wait = WRITE_WAIT_NONE;
    (void)event_del(&operation->timer);
    advance(operation);
}

void write_wake(struct write_operation *operation)
{
    worker_post(operation->channel->worker, &operation->task);
}

static void on_lock_wait_ended(struct lock_waiter *waiter)
{
    write_wake((struct write_operation *)(void *)((uint8_t *)waiter -
                                                  offsetof(struct write_operation, lock_waiter)));
}

static void on_rolled_back(struct rollback *rollback)
{
    write_wake(rollback->context);
}

void write_on_journaled(struct wal_append *first, void *context)
{
    (void)first;
    write_wake(context);
}

static void fail_waiting(struct write_operation *operation)
{
    write_fail(
        operation, REPLY_CODE_WriteConflict,
        "another transaction holds a document or a unique value that this one needs, and did "
        "not end within unit.lockWait: run the transaction again");
}

static void fail_as_victim(struct write_operation *operation)
{
    write_fail(operation, REPLY_CODE_WriteConflict,
               "this transaction and others waited for each other's documents, and it is the "
               "youngest of them: run the transaction again");
}

static void on_flushed(struct flush *flush, struct slice reply)
{
    struct write_operation *operation = flush->context;
    bson_t document;
    operation->wait = WRITE_WAIT_NONE;
    operation->step = operation->after_flush;
    if (flush->failed) {
        operation->connection_lost = reply.size == 0;
        operation->step = WRITE_DONE;
    }
    if (reply.size > 0 && bson_init_static(&document, reply.data, reply.size)) {
        bson_reinit(&operation->reply);
        bson_concat(&operation->reply, &document);
    }
    advance(operation);
}

static void give_up(struct write_operation *operation)
{
    if (operation->wait == WRITE_WAIT_LOCK &&
        lock_cancel(operation->engine->locks, &operation->lock_waiter)) {
        note_lock_wait(operation);
        operation->wait = WRITE_WAIT_NONE;
        fail_waiting(operation);
        advance(operation);
    } else if (operation->wait == WRITE_WAIT_READERS && write_publish_cancel(operation)) {
        operation->wait = WRITE_WAIT_NONE;
        advance(operation);
    } else if (operation->wait == WRITE_WAIT_FLUSH) {
        flush_cancel(&operation->flush);
    } /* else not waiting, or its task is on the way */
}

/* It has read the namespace as a whole: when it is run again it locks it for both at once. */
static void leave_namespace_hint(struct write_operation *operation)
{
    struct lock_owner *owner = &operation->unit->locks;
    if (namespace_is_locked(owner, operation->gate, NAMESPACE_READ)) {
        lock_hints_add_namespace(&owner->hints, operation->gate);
    }
}

static void on_entered(struct enter *enter, bool inside)
{
    struct write_operation *operation = enter->context;
    operation->wait = WRITE_WAIT_NONE;
    if (inside) {
        operation->step = WRITE_ADMITTING;
    } else if (operation->unit->locks.victim) {
        leave_namespace_hint(operation);
        fail_as_victim(operation);
    } else {
        fail_waiting(operation);
    }
    advance(operation);
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    give_up(context);
}

void write_cancel(struct write_operation *operation)
{
    operation->cancelled = true;
    if (operation->engine->native != NULL) {
        return; /* it waits for the server only */
    }
    (void)event_del(&operation->timer);
    if (operation->wait == WRITE_WAIT_GATE) {
        enter_cancel(&operation->enter);
    } else {
        give_up(operation);
    }
}

void write_wait(struct write_operation *operation, enum write_wait wait)
{
    operation->wait = wait;
    worker_timer_start(&operation->timer,
                       operation->cancelled ? 0 : operation->engine->lock_wait_ms);
}

/* ------------------------------------------------------------------ steps; true: go on at once */

static bool enter(struct write_operation *operation)
{
    operation->enter = (struct enter){
        .engine = operation->engine,
        .unit = operation->unit,
        .worker = operation->channel->worker,
        .modes = write_namespace_modes(operation),
        .completed = on_entered,
        .context = operation,
    };
    switch (
        enter_start(&operation->enter, operation->target.database, operation->target.collection)) {
    case ENTER_INSIDE:
        operation->step = WRITE_ADMITTING;
        return true;
    case ENTER_WAITING:
        operation->wait = WRITE_WAIT_GATE;
        return false;
    case ENTER_DEADLOCK:
        leave_namespace_hint(operation);
        fail_as_victim(operation);
        return true;
    case ENTER_NO_MEMORY:
        write_fail_for_memory(operation);
        return true;
    }
    return false;
}

static bool flush(struct write_operation *operation)
{
    operation->wait = WRITE_WAIT_FLUSH;
    operation->flush = (struct flush){
        .engine = operation->engine,
        .channel = operation->channel,
        .unit = operation->unit,
        .completed = on_flushed,
        .context = operation,
        .cancelled = operation->cancelled,
    };
    flush_start(&operation->flush);
    return false;
}

static bool is_of_several(const struct write_operation *operation)
{
    return operation->errors == WRITE_ERRORS_ABORT || operation->errors == WRITE_ERRORS_CALL;
}

/* The unit has more commands than this one, and its client knows something of its view. */
static bool is_view_fixed(const struct write_operation *operation)
{
    return is_of_several(operation) && operation->unit->locks.view_used;
}

/* When the transaction is run again it locks this first. */
static void leave_hint(struct write_operation *operation, const struct lock_name *name)
{
    lock_hints_add(&operation->unit->locks.hints, name, operation->gate);
}

/*
 * The document was changed after the unit began. In a transaction an earlier read may have been of
 * the older document; in its first command its view may as well begin now. A command of its own has
 * read nothing before either: it reads again, now that the document is its own.
 */
static bool take_changed(struct write_operation *operation, const struct lock_name *name)
{
    if (is_view_fixed(operation)) {
        leave_hint(operation, name);
        write_fail(operation, REPLY_CODE_WriteConflict,
                   "a document that this transaction writes was changed by another one after it "
                   "began: run the transaction again");
        return false;
    }
    if (is_of_several(operation)) {
        lock_owner_renew(operation->engine->locks, &operation->unit->locks);
        uncommitted_snapshot_renew(operation->engine->uncommitted, &operation->unit->uncommitted,
                                   gate_epoch_next(operation->engine->gates));
        operation->waited = true;
        operation->collects_again =
            operation->multi; /* what it has collected is of the older view */
        return true;
    }
    if (!operation->has_reread || memcmp(&operation->reread, name, sizeof *name) != 0) {
        operation->reread = *name;
        operation->has_reread = true;
        operation->waited = true;
    }
    return true;
}

/* False: it waits, or has failed. */
static bool acquire(struct write_operation *operation, const struct lock_name *name,
                    bool is_document)
{
    struct engine *engine = operation->engine;
    operation->lock_waiter.ended = on_lock_wait_ended;
    operation->lock_waiter.unless_changed = is_document && is_view_fixed(operation);
    switch (lock_acquire(engine->locks, &operation->unit->locks, name, &operation->lock_waiter)) {
    case LOCK_GRANTED:
        return true;
    case LOCK_WAITING:
        operation->waited = true;
        operation->lock_asked_us = clock_monotonic_us();
        (void)atomic_fetch_add_explicit(&engine->counters.lock_waiting, 1, memory_order_relaxed);
        write_wait(operation, WRITE_WAIT_LOCK);
        return false;
    case LOCK_CONFLICT:
        return !is_document || take_changed(operation, name);
    case LOCK_DEADLOCK:
        leave_hint(operation, name);
        fail_as_victim(operation);
        return false;
    case LOCK_LIMIT:
        write_fail(operation, REPLY_CODE_LockTimeout,
                   "unit.maxLocks documents are locked by open units: try again later");
        return false;
    case LOCK_NO_MEMORY:
        write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory for a lock");
        return false;
    }
    return false;
}

static bool lock_one(struct write_operation *operation, const struct lock_name *name)
{
    return acquire(operation, name, true);
}

bool write_lock_key(struct write_operation *operation, const struct lock_name *name)
{
    return acquire(operation, name, false);
}

static bool lock(struct write_operation *operation)
{
    while (operation->name_at < operation->name_count) {
        if (!lock_one(operation, &operation->names[operation->name_at])) {
            return operation->step == WRITE_ROLLING_BACK;
        }
        operation->name_at++;
    }
    if (operation->collects_again) {
        operation->collects_again = operation->waited = false;
        operation->step = WRITE_COLLECTING;
        return true;
    }
    if (operation->multi) {
        operation->unit->locks.view_used = true; /* what was collected is of this view */
    }
    if (!operation->resolved) {
        operation->waited = false; /* nothing was read yet */
        operation->step = WRITE_RESOLVING;
        return true;
    }
    if (!operation->multi && write_statement(operation)->kind != STATEMENT_INSERT &&
        !lock_one(operation, &operation->documents[0].name)) {
        return operation->step == WRITE_ROLLING_BACK;
    }
    if (operation->waited) {
        operation->waited = false;
        operation->resolved = false;
        operation->step = WRITE_RESOLVING;
        return true;
    }
    CRASH_POINT(unit_locked);
    write_documents_compute(operation);
    operation->step = WRITE_FORECASTING;
    return true;
}

static void lose_connection(struct write_operation *operation, bool never_left)
{
    operation->connection_lost = true;
    if (operation->step == WRITE_SENDING && never_left) {
        operation->sent_count = 0;
    } else if (operation->step == WRITE_SENDING) {
        /* Whatever was on its way may still be applied: the rollback fences first. */
        operation->unit->fate_unknown = true;
    } else if (operation->step == WRITE_CHECKING) {
        write_take_check(operation, (struct slice){0}); /* which were written is not known now */
    }
    write_fail(operation, REPLY_CODE_HostUnreachable, "the connection to the server broke");
}

static void on_reply(void *context, enum status status, struct slice reply)
{
    struct write_operation *operation = context;
    operation->wait = WRITE_WAIT_NONE;
    if (status != STATUS_OK) {
        lose_connection(operation, status == STATUS_NOT_FOUND);
    } else {
        switch (operation->step) {
        case WRITE_RESOLVING:
            write_take_resolved(operation, reply);
            break;
        case WRITE_COLLECTING:
            write_take_collected(operation, reply);
            break;
        case WRITE_SEEKING_HIDDEN:
            write_take_hidden(operation, reply);
            break;
        case WRITE_PROBING:
            write_take_probe(operation, reply);
            break;
        case WRITE_FORECASTING:
            write_take_forecast(operation, reply);
            break;
        case WRITE_SENDING:
            CRASH_POINT(unit_answered);
            write_take_answer(operation, reply);
            break;
        case WRITE_CHECKING:
            write_take_check(operation, reply);
            break;
        default:
            write_take_projection(operation, reply);
            break;
        }
    }
    advance(operation);
}

void write_send(struct write_operation *operation, bson_t *command)
{
    operation->wait = WRITE_WAIT_SERVER;
    operation->channel->send(operation->channel, slice_make(bson_get_data(command), command->len),
                             on_reply, operation);
    bson_destroy(command);
}

static const char *rollback_reason(const struct write_operation *operation)
{
    if (operation->unit->locks.victim) {
        return "it was the victim of a deadlock";
    }
    return operation->connection_lost ? "the connection to the server broke"
                                      : "a command of the unit failed";
}

/*
 * What was journaled, and not sent before the failure: undoing has to leave it alone, for whatever
 * is there is not the unit's, not even if it looks so. Of this batch it is what lies behind the run
 * on its way; of a flush also the operations behind this one.
 */
static void refuse_unsent(struct write_operation *operation)
{
    size_t behind = operation->document_at + operation->sent_count;
    if (operation->journaled && behind < operation->document_count) {
        write_documents_refuse(operation, behind, operation->document_count - behind);
    }
    for (struct write_operation *rest = operation->next_deferred; rest != NULL;
         rest = rest->next_deferred) {
        if (rest->step == WRITE_PUBLISHING) {
            write_documents_refuse(rest, 0, rest->document_count);
        }
    }
}

static bool roll_back(struct write_operation *operation)
{
    if (operation->unit->state != UNIT_OPEN) {
        operation->step = WRITE_DONE;
        return true;
    }
    refuse_unsent(operation);
    operation->wait = WRITE_WAIT_ROLLBACK;
    operation->rollback = (struct rollback){
        .engine = operation->engine,
        .unit = operation->unit,
        .reason = rollback_reason(operation),
        .completed = on_rolled_back,
        .context = operation,
    };
    rollback_start(&operation->rollback);
    return false;
}

void write_init(struct write_operation *operation)
{
    operation->task.run = on_task;
    bson_init(&operation->reply);
    bson_init(&operation->ids);
    bson_init(&operation->batch_ids);
    bson_init(&operation->equalities);
    bson_init(&operation->begin_payload);
    write_result_init(&operation->result);
    int assigned = event_assign(&operation->timer, worker_base(operation->channel->worker), -1, 0,
                                on_timer, operation);
    assert(assigned == 0);
}

void write_release(struct write_operation *operation)
{
    (void)event_del(&operation->timer);
    write_statement_free(operation);
    statement_list_free(&operation->list);
    write_result_free(&operation->result);
    free(operation->namespace);
    free(operation->documents);
    operation->namespace = NULL;
    operation->documents = NULL;
    operation->unique = unique_indexes_release(operation->unique);
    bson_destroy(&operation->equalities);
    bson_destroy(&operation->ids);
    bson_destroy(&operation->batch_ids);
    bson_destroy(&operation->begin_payload);
    bson_destroy(&operation->reply);
}

static void finish(struct write_operation *operation)
{
    if (operation->reply.len == 5) {
        write_reply_put(&operation->reply, &operation->list, &operation->result);
    }
    /* `completed` may start another operation in this memory. */
    bson_t *reply = bson_copy(&operation->reply);
    write_release(operation);
    bool lost = operation->connection_lost;
    operation->completed(operation,
                         slice_make(bson_get_data(reply), lost ? 0 : (size_t)reply->len));
    bson_destroy(reply);
}

static void advance(struct write_operation *operation)
{
    bool go_on = true;
    while (go_on) {
        switch (operation->step) {
        case WRITE_ENTERING:
            go_on = enter(operation);
            break;
        case WRITE_ADMITTING:
            go_on = write_admit(operation);
            break;
        case WRITE_LEARNING_UNIQUE:
            go_on = write_learn_unique(operation);
            break;
        case WRITE_SELECTING:
            write_select(operation);
            break;
        case WRITE_COLLECTING:
            go_on = write_collect(operation);
            break;
        case WRITE_LOCKING:
            go_on = lock(operation);
            break;
        case WRITE_FLUSHING:
            go_on = flush(operation);
            break;
        case WRITE_RESOLVING:
            go_on = write_resolve(operation);
            break;
        case WRITE_SEEKING_HIDDEN:
            go_on = write_hidden_seek(operation);
            break;
        case WRITE_PROBING:
            go_on = write_probe(operation);
            break;
        case WRITE_FORECASTING:
            go_on = write_forecast(operation);
            break;
        case WRITE_LOCKING_UNIQUE:
            go_on = write_lock_unique(operation);
            break;
        case WRITE_PROJECTING_BEFORE:
        case WRITE_PROJECTING_AFTER:
            go_on = write_project(operation);
            break;
        case WRITE_JOURNALING:
            go_on = write_journal(operation);
            break;
        case WRITE_PUBLISHING:
            go_on = write_publish(operation);
            break;
        case WRITE_SENDING:
            go_on = write_send_documents(operation);
            break;
        case WRITE_CHECKING:
            go_on = write_check(operation);
            break;
        case WRITE_ROLLING_BACK:
            go_on = roll_back(operation);
            break;
        case WRITE_DONE:
            finish(operation);
            return;
        }
    }
}

void write_go_on(struct write_operation *operation)
{
    advance(operation);
}

/* ------------------------------------------------------------------ failing */

void write_fail(struct write_operation *operation, int code, const char *message)
{
    bool transient = operation->errors == WRITE_ERRORS_ABORT && reply_code_is_transient(code);
    operation->conflicted = code == REPLY_CODE_WriteConflict;
    bson_reinit(&operation->reply);
    reply_put_error(&operation->reply, code, transient ? REPLY_LABEL_TRANSIENT : NULL, "%s",
                    message);
    operation->step = WRITE_ROLLING_BACK;
}

void write_fail_for_memory(struct write_operation *operation)
{
    write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
}

void write_fail_behind(struct write_operation *operation)
{
    write_fail(operation, REPLY_CODE_WriteConflict,
               "a document was changed around the proxy while it was being written: run the "
               "command again");
}

/* An error that mongod gives to a whole command, not to one of its statements. */
static bool is_of_command(const struct reply_view *view)
{
    return !view->ok &&
           (reply_code_is_transient(view->code) || view->code == REPLY_CODE_Unauthorized ||
            view->code == REPLY_CODE_MaxTimeMSExpired || view->code == REPLY_CODE_Interrupted);
}

static bool refuse_and_keep(struct write_operation *operation, size_t index,
                            struct slice server_reply, const struct reply_view *view)
{
    bool find_and_modify = operation->list.reply == STATEMENT_REPLY_FIND_AND_MODIFY;
    bool whole = is_of_command(view) && write_result_is_empty(&operation->result);
    if (whole && !find_and_modify) {
        bson_reinit(&operation->reply);
        reply_put_error(&operation->reply, view->code, NULL, "%s",
                        view->message == NULL ? "the server gave no reason" : view->message);
        operation->step = WRITE_DONE;
        return false;
    }
    write_result_error(&operation->result, operation->list.reply, index, server_reply);
    if (find_and_modify || operation->list.ordered || is_of_command(view)) {
        operation->step = WRITE_DONE;
        return false;
    }
    return true;
}

static void refuse_and_roll_back(struct write_operation *operation, size_t index,
                                 struct slice server_reply, const struct reply_view *view)
{
    if (reply_code_is_transient(view->code) || is_of_command(view)) {
        write_fail(operation, view->code,
                   view->message == NULL ? "the server gave no reason" : view->message);
        return;
    }
    if (operation->errors != WRITE_ERRORS_ABORT) {
        write_result_clear(&operation->result, operation->list.count); /* nothing of it stays */
    }
    write_result_error(&operation->result, operation->list.reply, index, server_reply);
    operation->result.stopped = true;
    operation->step = WRITE_ROLLING_BACK;
}

bool write_refused(struct write_operation *operation, size_t index, struct slice server_reply)
{
    struct reply_view view;
    if (write_statement(operation)->kind != STATEMENT_INSERT) {
        operation->result.matched = operation->matched_before;
        operation->result.modified = operation->modified_before;
        if (operation->result.each != NULL) {
            operation->result.each[index] = (struct write_count){0};
        }
    }
    if (reply_view_parse(server_reply, &view) != STATUS_OK) {
        write_fail(operation, REPLY_CODE_InternalError, "the server's answer makes no sense");
        return false;
    }
    if (write_errors_are_kept(operation->errors) && !reply_code_is_transient(view.code)) {
        return refuse_and_keep(operation, index, server_reply, &view);
    }
    refuse_and_roll_back(operation, index, server_reply, &view);
    return false;
}

void write_broken_off(struct write_operation *operation, size_t index, struct slice server_reply)
{
    struct reply_view view;
    if (reply_view_parse(server_reply, &view) != STATUS_OK) {
        write_fail(operation, REPLY_CODE_InternalError, "the server's answer makes no sense");
        return;
    }
    refuse_and_roll_back(operation, index, server_reply, &view);
}

/* ------------------------------------------------------------------ starting */

bool write_take_namespace(struct write_operation *operation, const char *database,
                          const char *collection)
{
    size_t size = strlen(database) + 1 + strlen(collection) + 1;
    char *namespace = realloc(operation->namespace, size);
    if (namespace == NULL) {
        return false;
    }
    (void)snprintf(namespace, size, "%s.%s", database, collection);
    operation->namespace = namespace;
    operation->gate = gate_of(database, collection);
    operation->collated = false; /* not known yet */
    operation->target = (struct command_target){
        .database = database,
        .collection = collection,
        .bypass_validation = operation->list.bypass_validation,
        .max_time_ms = operation->list.max_time_ms,
    };
    return true;
}

static enum status prepare(struct write_operation *operation, const struct command_view *view)
{
    const struct statement_list *list = &operation->list;
    const struct statement_namespace *first =
        list->namespaces == NULL ? NULL : &list->namespaces[list->statements[0].namespace_number];
    if (list->reply == STATEMENT_REPLY_BULK &&
        !write_result_count_each(&operation->result, list->count)) {
        return STATUS_MEMORY;
    }
    operation->namespace_number = list->statements[0].namespace_number;
    return write_take_namespace(operation, first == NULL ? view->database : first->database,
                                first == NULL ? view->collection : first->collection)
               ? STATUS_OK
               : STATUS_MEMORY;
}

/* The command itself cannot be understood: nothing of it was done. */
static void refuse_command(struct write_operation *operation, int code, const char *message)
{
    write_fail(operation, code, message);
    if (operation->errors == WRITE_ERRORS_CALL) {
        operation->step = WRITE_DONE;
    }
}

void write_start(struct write_operation *operation, const struct command_view *view,
                 const struct op_msg *message)
{
    if (operation->engine->native != NULL) {
        native_unit_write(operation, view, message);
        return;
    }
    struct write_operation fresh = {
        .engine = operation->engine,
        .channel = operation->channel,
        .unit = operation->unit,
        .errors = operation->errors,
        .completed = operation->completed,
        .context = operation->context,
    };
    *operation = fresh;
    write_init(operation);

    struct error error = {0};
    int code = REPLY_CODE_FailedToParse;
    if (view->database == NULL) {
        refuse_command(operation, code, "the command has no $db");
    } else if (statement_list_parse(view, message, &operation->list, &code, &error) != STATUS_OK) {
        refuse_command(operation, code, error.message);
    } else if (prepare(operation, view) != STATUS_OK) {
        write_fail_for_memory(operation);
    }
    advance(operation);
}
