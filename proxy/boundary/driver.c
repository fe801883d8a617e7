/*
 * Driver transactions: startTransaction ... commitTransaction / abortTransaction.
 *
 *   check out the session's unit
 *      | waiting: another command of the session runs --> again when it is done
 *      | superseded: a newer transaction begins --> roll the older one back --> again
 *      | ended, unknown --> answer from memory or from the journal
 *      v
 *   commitTransaction   what was put off is written (engine/deferred.h), COMMIT durable --> ok
 *   abortTransaction    rolled back --> ok
 *   a write             engine/write.h
 *   a read              through the gates, then to the server without its transaction fields: what
 *                       this unit has written is there already, what others have is left out
 *                       (read/read.h)
 *   anything else       an error, and as after any error the unit is rolled back
 *
 * No transaction field ever reaches the server. The answers, codes and labels are those of the
 * public driver specification for transactions. The connection's worker.
 */
#include <string.h>

#include "boundary/ending.h"
#include "boundary/outcome.h"
#include "boundary/request.h"
#include "engine/deferred.h"
#include "engine/namespace_kind.h"
#include "holdfast/crash_point.h"
#include "wire/bson_walk.h"
#include "wire/reply.h"

static void check_out(struct boundary_request *request);

static bool named(const struct boundary_request *request, const char *name)
{
    return strcmp(request->view.name, name) == 0;
}

/* ------------------------------------------------------------------ answers without a unit */

static void no_such_transaction(struct boundary_request *request)
{
    ending_set_error(request, REPLY_CODE_NoSuchTransaction, REPLY_LABEL_TRANSIENT,
                     "the given transaction has been rolled back or was never begun here: run it "
                     "again");
}

static void answer_committed(struct boundary_request *request)
{
    if (named(request, "commitTransaction")) {
        reply_put_ok(&request->reply);
    } else {
        ending_set_error(request, REPLY_CODE_TransactionCommitted, NULL,
                         "the given transaction has been committed");
    }
}

static void answer_ended(struct boundary_request *request, enum outcome outcome)
{
    switch (outcome) {
    case OUTCOME_COMMITTED:
        answer_committed(request);
        break;
    case OUTCOME_CONFLICT:
        ending_set_conflict(request);
        break;
    case OUTCOME_UNREADABLE:
        /* Neither answer may be guessed: "run it again" after a commit would do it twice. */
        ending_set_error(request, REPLY_CODE_InternalError,
                         named(request, "commitTransaction") ? REPLY_LABEL_UNKNOWN_COMMIT : NULL,
                         "the journal cannot be read: how the given transaction ended is not "
                         "known");
        break;
    case OUTCOME_NONE:
    case OUTCOME_ROLLED_BACK:
    case OUTCOME_TOO_OLD:
        no_such_transaction(request);
        break;
    }
    ending_finish(request);
}

/* Not in memory: the journal may know. */
static void answer_from_journal(struct boundary_request *request)
{
    bson_t reply = BSON_INITIALIZER;
    enum outcome outcome = outcome_find(request, &reply);
    bson_destroy(&reply);
    if (outcome == OUTCOME_COMMITTED) {
        (void)atomic_fetch_add(&request->engine->counters.answered, 1);
    }
    answer_ended(request, outcome);
}

/* Of a commit, whichever of its records it is that has no room. */
static void set_journal_full(struct boundary_request *request)
{
    ending_set_error(request, REPLY_CODE_OutOfDiskSpace, REPLY_LABEL_TRANSIENT,
                     "the journal is full: the transaction was rolled back");
}

/* ------------------------------------------------------------------ what was put off */

static void on_flushed(struct flush *flush, struct slice reply)
{
    struct boundary_request *request = flush->context;
    bool commits = named(request, "commitTransaction");
    request->flushing = false;
    if (!flush->failed && (commits || !request->cancelled)) {
        request->after_flush(request);
        return;
    }
    if (commits && flush->journal_full) {
        set_journal_full(request);
    } else {
        ending_take_reply(request, reply); /* none, where nobody waits for the read any more */
    }
    ending_finish(request);
}

static void flush_before(struct boundary_request *request,
                         void (*after)(struct boundary_request *request))
{
    request->after_flush = after;
    request->flush = (struct flush){
        .engine = request->engine,
        .channel = request->channel,
        .unit = request->unit,
        .completed = on_flushed,
        .context = request,
        .cancelled = request->cancelled,
    };
    request->flushing = true;
    flush_start(&request->flush);
}

/* ------------------------------------------------------------------ commit and abort */

static void after_commit(struct boundary_request *request)
{
    if (request->commit_status == STATUS_OK) {
        reply_put_ok(&request->reply);
        ending_finish(request);
        CRASH_POINT(commit_acknowledged);
        return;
    }
    set_journal_full(request);
    ending_roll_back(request, "the journal is full");
}

static void commit_now(struct boundary_request *request)
{
    ending_commit(request, (struct slice){0}, after_commit);
}

static void commit(struct boundary_request *request)
{
    if (deferred_count(request->unit) > 0) {
        flush_before(request, commit_now);
    } else {
        commit_now(request);
    }
}

/* ------------------------------------------------------------------ reads and writes */

static void on_written(struct write_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    ending_take_reply(request, reply);
    /* As in mongod its view is that of its first command, whatever that was. */
    request->unit->locks.view_used = true;
    CRASH_POINT(unit_replied);
    ending_finish(request);
}

static void write_in_unit(struct boundary_request *request)
{
    ending_prepare_write(request, WRITE_ERRORS_ABORT, on_written);
    write_start(&request->write, &request->view, &request->message);
}

/* `committed`: it has shown nothing that others have not committed. */
static void take_read(struct boundary_request *request, struct slice reply, bool committed)
{
    struct reply_view view;
    bson_t document;
    if (reply.size == 0 || reply_view_parse(reply, &view) != STATUS_OK) {
        request->reply_lost = true;
        ending_roll_back(request, "the connection to the server broke");
        return;
    }
    if (view.ok) {
        if (!committed) {
            lock_owner_read(request->engine->locks, &request->unit->locks);
        }
        /* A killCursors shows nothing, and may come before the unit's view has begun. */
        request->unit->locks.view_used = request->unit->locks.registered;
        if (!request->unit->locks.serializable && request->read.cursor != NULL &&
            view.cursor_id == 0) {
            unit_cursors_remove(&request->unit->kept_cursors, request->read.cursor);
        }
        (void)bson_init_static(&document, reply.data, reply.size);
        bson_concat(&request->reply, &document);
        ending_finish(request);
        return;
    }
    ending_set_error(request, view.code,
                     reply_code_is_transient(view.code) ? REPLY_LABEL_TRANSIENT : NULL,
                     view.message == NULL ? "the server gave no reason" : view.message);
    ending_roll_back(request, request->unit->locks.victim ? "it was the victim of a deadlock"
                                                          : "a command of the unit failed");
}

static void on_read(struct read_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    request->reading = false;
    take_read(request, reply, read_is_committed(operation));
}

static void on_locked_read(struct locked_read *locked, struct slice reply)
{
    struct boundary_request *request = locked->context;
    request->locking = false;
    take_read(request, reply, true);
}

/* killCursors of what the unit keeps itself: all there is to it, unless others are named, too. */
static bool kill_kept(struct boundary_request *request)
{
    struct unit_cursors *cursors = &request->unit->kept_cursors;
    bson_iter_t at;
    bson_iter_t id;
    bson_t killed;
    bson_t none;
    uint32_t count = 0;
    bool all = bson_iter_init_from_data(&at, request->view.body.data, request->view.body.size) &&
               bson_iter_find(&at, "cursors") && bson_iter_recurse(&at, &id);
    BSON_APPEND_ARRAY_BEGIN(&request->reply, "cursorsKilled", &killed);
    while (all && bson_iter_next(&id)) {
        char text[16];
        const char *name;
        size_t size = bson_uint32_to_string(count++, &name, text, sizeof text);
        struct unit_cursor *cursor = unit_cursors_find(cursors, bson_iter_as_int64(&id));
        all = cursor != NULL && cursor->server_id == 0;
        if (cursor != NULL) {
            bson_append_int64(&killed, name, (int)size, cursor->id);
            unit_cursors_remove(cursors, cursor);
        }
    }
    bson_append_array_end(&request->reply, &killed);
    static const char *const others[] = {"cursorsNotFound", "cursorsAlive", "cursorsUnknown"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        bson_append_array_begin(&request->reply, others[i], -1, &none);
        bson_append_array_end(&request->reply, &none);
    }
    BSON_APPEND_DOUBLE(&request->reply, "ok", 1);
    if (!all) {
        bson_reinit(&request->reply);
    }
    return all;
}

/* True: answered. A cursor lives and dies with its unit. */
static bool go_on_with_kept(struct boundary_request *request, struct unit_cursor **ret_cursor)
{
    bson_iter_t at;
    struct unit_cursors *cursors = &request->unit->kept_cursors;
    int64_t id = bson_iter_init_from_data(&at, request->view.body.data, request->view.body.size) &&
                         bson_iter_next(&at)
                     ? bson_iter_as_int64(&at)
                     : 0;
    struct unit_cursor *cursor = unit_cursors_find(cursors, id);
    if (cursor == NULL) {
        ending_set_error(request, REPLY_CODE_CursorNotFound, NULL,
                         "the cursor is none of this transaction");
        ending_roll_back(request, "a command of the unit failed");
        return true;
    }
    *ret_cursor = cursor;
    if (read_batch_next(cursors, cursor, &request->view, &request->reply)) {
        ending_finish(request);
        return true;
    }
    return false;
}

static void read_now(struct boundary_request *request)
{
    if (request->unit->locks.serializable) {
        unit_read_lock(request, true, on_locked_read);
        return;
    }
    struct unit_cursor *cursor = NULL;
    if (named(request, "killCursors") && kill_kept(request)) {
        ending_finish(request);
        return;
    }
    if (named(request, "getMore") && request->engine->committed_reads &&
        go_on_with_kept(request, &cursor)) {
        return;
    }
    request->read = (struct read_operation){
        .engine = request->engine,
        .channel = request->channel,
        .view = &request->view,
        .unit = request->unit,
        .cursor = cursor,
        .in_unit = true,
        .completed = on_read,
        .context = request,
    };
    request->reading = true;
    read_start(&request->read);
}

static void read_in_unit(struct boundary_request *request)
{
    if (deferred_may_show(request->unit, &request->view)) {
        flush_before(request, read_now);
    } else {
        read_now(request);
    }
}

/* ------------------------------------------------------------------ dispatch */

/* An aggregation that writes is not for a transaction. */
static bool writes_out(const struct boundary_request *request)
{
    bson_iter_t at;
    bson_iter_t stage;
    bson_iter_t inside;
    if (!named(request, "aggregate") ||
        !bson_iter_init_from_data(&at, request->view.body.data, request->view.body.size) ||
        !bson_iter_find(&at, "pipeline") || !BSON_ITER_HOLDS_ARRAY(&at) ||
        !bson_iter_recurse(&at, &stage)) {
        return false;
    }
    while (bson_iter_next(&stage)) {
        if (BSON_ITER_HOLDS_DOCUMENT(&stage) && bson_iter_recurse(&stage, &inside) &&
            bson_iter_next(&inside) &&
            (strcmp(bson_iter_key(&inside), "$out") == 0 ||
             strcmp(bson_iter_key(&inside), "$merge") == 0)) {
            return true;
        }
    }
    return false;
}

static void run(struct boundary_request *request)
{
    static const char *const writes[] = {"insert",        "update",    "delete", "findAndModify",
                                         "findandmodify", "bulkWrite", NULL};
    static const char *const reads[] = {"find",    "aggregate",   "distinct",
                                        "getMore", "killCursors", NULL};
    if (named(request, "commitTransaction")) {
        commit(request);
    } else if (named(request, "abortTransaction")) {
        reply_put_ok(&request->reply);
        ending_roll_back(request, "the client asked for it");
    } else if (namespace_is_internal_database(request->view.database) &&
               bson_name_is_one_of(request->view.name, reads)) {
        ending_set_error(request, REPLY_CODE_OperationNotSupportedInTransaction, NULL,
                         "the databases admin, config and local are not for transactions");
        ending_roll_back(request, "a command of the unit failed");
    } else if (bson_name_is_one_of(request->view.name, writes)) {
        write_in_unit(request);
    } else if (bson_name_is_one_of(request->view.name, reads) && !writes_out(request)) {
        read_in_unit(request);
    } else {
        ending_set_error(request, REPLY_CODE_OperationNotSupportedInTransaction, NULL,
                         "this command is not supported in a transaction");
        ending_roll_back(request, "a command of the unit failed");
    }
}

/* What the command says of isolation is too late for its transaction. */
static bool wants_more_isolation(const struct boundary_request *request)
{
    return request->comment.isolation == COMMENT_ISOLATION_SERIALIZABLE &&
           !request->unit->locks.serializable;
}

static void run_checked(struct boundary_request *request)
{
    if (wants_more_isolation(request)) {
        ending_set_error(request, REPLY_CODE_InvalidOptions, NULL,
                         "only the first command of a transaction says that it is serializable");
        ending_roll_back(request, "a command of the unit failed");
    } else {
        run(request);
    }
}

static void check_out(struct boundary_request *request)
{
    const struct command_view *view = &request->view;
    struct unit_request wanted = {
        .user = request->user,
        .session_id = view->session_id,
        .transaction_number = view->transaction_number,
        .begin = view->has_start_transaction && view->start_transaction,
        .connection = request->connection,
        .client = request->client,
        .application = request->application,
    };
    if (wanted.begin) {
        wanted.id = wal_unit_next(request->engine->wal);
        wanted.trace = ending_unit_trace(request);
        wanted.serializable = ending_is_serializable(request);
    }
    switch (ending_check_out(request, &wanted, check_out)) {
    case UNIT_CHECKOUT_READY:
        run_checked(request);
        break;
    case UNIT_CHECKOUT_WAITING:
        break;
    case UNIT_CHECKOUT_SUPERSEDED:
        ending_supersede(request, check_out);
        break;
    case UNIT_CHECKOUT_COMMITTED:
        answer_ended(request, OUTCOME_COMMITTED);
        break;
    case UNIT_CHECKOUT_ABORTED:
        answer_ended(request, OUTCOME_ROLLED_BACK);
        break;
    case UNIT_CHECKOUT_CONFLICT:
        answer_ended(request, OUTCOME_CONFLICT);
        break;
    case UNIT_CHECKOUT_UNKNOWN:
        answer_from_journal(request);
        break;
    case UNIT_CHECKOUT_TOO_OLD:
        ending_fail(request, REPLY_CODE_TransactionTooOld, NULL,
                    "the session has begun a newer transaction already");
        break;
    case UNIT_CHECKOUT_EXISTS:
        ending_fail(request, REPLY_CODE_ConflictingOperationInProgress, NULL,
                    "a transaction of this number was begun on the session already");
        break;
    case UNIT_CHECKOUT_LIMIT:
        ending_fail(request, REPLY_CODE_TooManyLogicalSessions, REPLY_LABEL_TRANSIENT,
                    "unit.maxOpen transactions are open: try again later");
        break;
    case UNIT_CHECKOUT_NO_MEMORY:
        ending_fail(request, REPLY_CODE_ExceededMemoryLimit, NULL, "out of memory");
        break;
    }
}

void driver_start(struct boundary_request *request)
{
    const struct command_view *view = &request->view;
    struct error error = {0};
    ending_init(request);
    request->comment.isolation = COMMENT_ISOLATION_DEFAULT;
    if (view->session_id.size == 0 || !view->has_transaction_number) {
        ending_fail(request, REPLY_CODE_InvalidOptions, NULL,
                    "a command with autocommit: false needs lsid and txnNumber");
    } else if (!view->has_autocommit || view->autocommit) {
        ending_fail(request, REPLY_CODE_InvalidOptions, NULL,
                    "a command of a transaction needs autocommit: false");
    } else if (view->database == NULL) {
        ending_fail(request, REPLY_CODE_FailedToParse, NULL, "the command has no $db");
    } else if (request->draining && view->has_start_transaction && view->start_transaction) {
        ending_fail(request, REPLY_CODE_ShutdownInProgress, REPLY_LABEL_TRANSIENT,
                    "the proxy is shutting down: run the transaction again");
    } else if (comment_isolation_parse(view, &request->comment.isolation, &error) != STATUS_OK) {
        ending_fail(request, REPLY_CODE_FailedToParse, NULL, error.message);
    } else {
        check_out(request);
    }
}
