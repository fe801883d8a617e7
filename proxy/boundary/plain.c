/*
 * A plain write command that becomes a unit of its own, begun and committed here:
 *
 *   retryable    it carries lsid and txnNumber, so its driver may send it again: its answer is kept
 *                in the journal under that number, and a retry gets it: no second execution
 *   several      it writes several documents: what a crash leaves half done is undone
 *   among units  units are inside its namespace: it waits for their locks like one of them
 *
 *   check out --> (retryable: ended already, says the journal) --> the kept answer
 *      |  `--> (an older transaction of the session is open) roll it back, check out again
 *      v
 *   write --> the proxy's own failure: rolled back --> another unit was in the way: check out again
 *      |         |                                `--> reply
 *      |         `--> cannot be undone: set aside, an error
 *      v
 *   commit, with the answer --> reply          what the server refused is part of the answer
 *
 * On the native engine only what writes several documents comes here, and only under
 * `unit.multiWrites: strict`: the unit is a transaction of the server (strict.c).
 *
 * It is tried again until the deadline, as mongod's plain writes wait for transactions; a victim of
 * a deadlock at once, for its next try waits in line behind those that it was in the way of. The
 * connection's worker.
 */
#include <string.h>

#include "boundary/ending.h"
#include "boundary/outcome.h"
#include "boundary/request.h"
#include "boundary/strict.h"
#include "engine/native_unit.h"
#include "holdfast/clock.h"
#include "wire/reply.h"

static void begin(struct boundary_request *request);

/* ------------------------------------------------------------------ writing and committing */

static void again(struct boundary_request *request)
{
    request->place = lock_owner_place_kept(&request->unit->locks);
    const char *reason = unit_table_checkin(request->engine->units, request->unit);
    (void)reason; /* an ended unit is always taken back */
    request->unit = NULL;
    begin(request);
}

/* Only what was rolled back whole may be carried out again. */
static bool may_run_again(const struct boundary_request *request)
{
    return request->unit->state == UNIT_ABORTED && !request->cancelled &&
           clock_monotonic_ms() < request->deadline_ms;
}

/* Not from inside the operation that is just ending in this memory. */
static void run_again(struct boundary_request *request)
{
    if (request->engine->native != NULL) {
        strict_again_later(request, again);
    } else {
        ending_wake(request, again);
    }
}

/* Native engine: the unit has ended, and was not committed; or nobody knows, and ending_finish()
   says so instead. */
static void after_refused_commit(struct boundary_request *request)
{
    bson_reinit(&request->reply);
    if (may_run_again(request)) {
        run_again(request);
    } else {
        ending_fail(request, REPLY_CODE_NoSuchTransaction, NULL,
                    "the server has lost the command's transaction: nothing of it is there");
    }
}

static void after_commit(struct boundary_request *request)
{
    if (request->commit_status == STATUS_OK) {
        native_unit_put_times(request->unit, &request->reply);
        ending_finish(request);
        return;
    }
    if (request->commit_status == STATUS_CONFLICT) {
        after_refused_commit(request);
        return;
    }
    ending_set_error(request, REPLY_CODE_OutOfDiskSpace, NULL,
                     "the journal is full: the write was rolled back");
    ending_roll_back(request, "the journal is full");
}

static void take_reply(struct boundary_request *request, struct slice reply, bool undone)
{
    bson_t view;
    if (undone) {
        strict_put_undone(reply, request->unit->has_session, &request->reply);
    } else if (reply.size > 0 && bson_init_static(&view, reply.data, reply.size)) {
        bson_concat(&request->reply, &view);
    }
}

static void on_written(struct write_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    request->writing = false;
    request->reply_lost = reply.size == 0;
    bool ended = request->unit->state != UNIT_OPEN;
    if (operation->conflicted && may_run_again(request)) {
        run_again(request);
        return;
    }
    take_reply(request, reply, ended && request->engine->native != NULL);
    if (ended) {
        ending_finish(request);
        return;
    }
    struct slice answer = slice_make(bson_get_data(&request->reply), request->reply.len);
    ending_commit(request, request->unit->has_session ? answer : (struct slice){0}, after_commit);
}

static void write_in_unit(struct boundary_request *request)
{
    bool strict = request->engine->multi_writes == ENGINE_MULTI_WRITES_STRICT;
    ending_prepare_write(request, strict ? WRITE_ERRORS_STRICT : WRITE_ERRORS_KEEP, on_written);
    write_start(&request->write, &request->view, &request->message);
}

/* ------------------------------------------------------------------ beginning */

/* The unit was made for a command that turns out to be executed already, or must not be. */
static void end_unused(struct boundary_request *request)
{
    unit_state_set(request->unit, UNIT_ABORTING);
    unit_state_set(request->unit, UNIT_ABORTED);
}

/* A retry, or a first try of a session that this process has not seen yet: the journal knows. */
static void run_unless_repeated(struct boundary_request *request)
{
    switch (outcome_find(request, &request->reply)) {
    case OUTCOME_NONE:
    case OUTCOME_ROLLED_BACK:
        write_in_unit(request);
        return;
    case OUTCOME_COMMITTED:
        end_unused(request);
        if (request->reply.len > 5) {
            (void)atomic_fetch_add(&request->engine->counters.answered, 1);
            ending_finish(request);
        } else {
            ending_fail(
                request, REPLY_CODE_InvalidOptions, NULL,
                "this transaction number was a transaction, or an operator has ended its unit: "
                "its answer is not known");
        }
        return;
    case OUTCOME_CONFLICT:
        end_unused(request);
        ending_set_conflict(request);
        ending_finish(request);
        return;
    case OUTCOME_TOO_OLD:
        end_unused(request);
        ending_fail(request, REPLY_CODE_TransactionTooOld, NULL,
                    "the session has used a higher transaction number already");
        return;
    case OUTCOME_UNREADABLE:
        end_unused(request);
        ending_fail(
            request, REPLY_CODE_InternalError, NULL,
            "the journal cannot be read: whether this write was carried out before is not known");
        return;
    }
}

static void check_out_session(struct boundary_request *request, const struct unit_request *wanted)
{
    switch (ending_check_out(request, wanted, begin)) {
    case UNIT_CHECKOUT_READY:
        if (request->unit->maybe_repeated) {
            run_unless_repeated(request);
        } else {
            write_in_unit(request);
        }
        break;
    case UNIT_CHECKOUT_WAITING:
        break;
    case UNIT_CHECKOUT_SUPERSEDED:
        ending_supersede(request, begin);
        break;
    case UNIT_CHECKOUT_TOO_OLD:
        ending_fail(request, REPLY_CODE_TransactionTooOld, NULL,
                    "the session has used a higher transaction number already");
        break;
    case UNIT_CHECKOUT_LIMIT:
        ending_fail(request, REPLY_CODE_TooManyLogicalSessions, NULL,
                    "unit.maxOpen units are open: try again later");
        break;
    case UNIT_CHECKOUT_NO_MEMORY:
        ending_fail(request, REPLY_CODE_ExceededMemoryLimit, NULL, "out of memory");
        break;
    case UNIT_CHECKOUT_EXISTS:
    case UNIT_CHECKOUT_COMMITTED:
    case UNIT_CHECKOUT_ABORTED:
    case UNIT_CHECKOUT_CONFLICT:
    case UNIT_CHECKOUT_UNKNOWN:
        ending_fail(
            request, REPLY_CODE_InvalidOptions, NULL,
            "Must specify autocommit=false on all operations of a multi-statement transaction.");
        break;
    }
}

/* On the native engine the server would have known it again, had it got the number. */
static bool is_retryable(const struct boundary_request *request)
{
    const struct engine *engine = request->engine;
    return (engine->retryable_writes || engine->native != NULL) &&
           request->view.has_transaction_number && request->view.session_id.size > 0;
}

static void begin(struct boundary_request *request)
{
    struct unit_request wanted = {
        .user = request->user,
        .connection = request->connection,
        .client = request->client,
        .application = request->application,
        .id = wal_unit_next(request->engine->wal),
        .place = request->place,
        .trace = ending_unit_trace(request),
        .serializable = request->engine->serializable,
    };
    if (request->cancelled) {
        request->reply_lost = true; /* nobody is there to answer */
        ending_finish(request);
        return;
    }
    if (is_retryable(request)) {
        wanted.session_id = request->view.session_id;
        wanted.transaction_number = request->view.transaction_number;
        wanted.begin = wanted.retryable = true;
        check_out_session(request, &wanted);
        return;
    }
    request->unit = unit_table_new_plain(request->engine->units, &wanted);
    if (request->unit == NULL) {
        ending_fail(request, REPLY_CODE_TooManyLogicalSessions, NULL,
                    "unit.maxOpen units are open: try again later");
        return;
    }
    ending_note_unit(request);
    write_in_unit(request);
}

bool plain_is_unit(const struct engine *engine, const struct command_view *view,
                   const struct op_msg *message)
{
    if (engine->native != NULL) {
        return engine->multi_writes == ENGINE_MULTI_WRITES_STRICT &&
               (strcmp(view->name, "bulkWrite") == 0 || statement_is_several(view, message));
    }
    if (engine->retryable_writes && view->has_transaction_number && view->session_id.size > 0) {
        return true;
    }
    /* Only a unit can carry out bulkWrite: most servers have no such command. */
    return strcmp(view->name, "bulkWrite") == 0 ||
           (engine->multi_writes != ENGINE_MULTI_WRITES_OFF && statement_is_several(view, message));
}

/* Outside a transaction a write takes the newest data: mongod refuses to promise it another view.
   The unit's commands to the server carry no read concern, so the server cannot refuse it. */
static bool asks_for_other_view(const struct command_view *view)
{
    return view->read_concern_level != NULL && strcmp(view->read_concern_level, "local") != 0;
}

void plain_start(struct boundary_request *request)
{
    ending_init(request);
    if (asks_for_other_view(&request->view)) {
        ending_fail(request, REPLY_CODE_InvalidOptions, NULL,
                    "a write in no transaction supports no readConcern level but \"local\"");
        return;
    }
    uint64_t wait = request->view.max_time_ms > 0 ? (uint64_t)request->view.max_time_ms
                                                  : request->engine->plain_wait_ms;
    request->deadline_ms = clock_monotonic_ms() + wait;
    request->place = 0;
    request->pause_ms = 0;
    begin(request);
}
