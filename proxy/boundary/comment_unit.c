/*
 * Units that services name in the `comment` of their writes (comment.h).
 *
 *   begin      make the unit --> has the journal known that name? --> BEGIN durable --> the write
 *   a write    check out the open unit --> write, as in a transaction: any error rolls it back
 *   last       ... then commit, and only then the answer
 *   commitUnit, abortUnit
 *
 * BEGIN is durable before anything is answered, so that a name that was begun is remembered through
 * restarts, however it ends: a late write or a second begin under it is an error, never a new unit.
 * A name belongs to one user, as a session does. The connection's worker.
 */
#include <string.h>

#include "boundary/ending.h"
#include "boundary/outcome.h"
#include "boundary/request.h"
#include "engine/begin.h"
#include "engine/release.h"
#include "holdfast/crash_point.h"
#include "wire/reply.h"

static void check_out(struct boundary_request *request);

static void fail(struct boundary_request *request, int code, const char *message)
{
    ending_set_error(request, code, NULL, message);
    ending_finish(request);
}

static void answer_ended(struct boundary_request *request, enum outcome outcome)
{
    switch (outcome) {
    case OUTCOME_COMMITTED:
        if (strcmp(request->view.name, "commitUnit") == 0) {
            reply_put_ok(&request->reply);
            ending_finish(request);
        } else {
            fail(request, REPLY_CODE_TransactionCommitted,
                 "the unit of this name has been committed: nothing more can be done under it");
        }
        break;
    case OUTCOME_CONFLICT:
        ending_set_conflict(request);
        ending_finish(request);
        break;
    case OUTCOME_UNREADABLE:
        fail(request, REPLY_CODE_InternalError,
             "the journal cannot be read: how the unit of this name ended is not known");
        break;
    case OUTCOME_ROLLED_BACK:
    case OUTCOME_TOO_OLD:
        fail(request, REPLY_CODE_NoSuchTransaction,
             "the unit of this name has been rolled back: nothing more can be done under it");
        break;
    case OUTCOME_NONE:
        fail(request, REPLY_CODE_NoSuchTransaction,
             "no unit of this name is open: its first write wants begin: true");
        break;
    }
}

/* ------------------------------------------------------------------ ends */

static void after_commit(struct boundary_request *request)
{
    if (request->commit_status == STATUS_OK) {
        if (request->reply.len <= 5) {
            reply_put_ok(&request->reply); /* commitUnit; else it is the last write's */
        }
        ending_finish(request);
        CRASH_POINT(commit_acknowledged);
        return;
    }
    ending_set_error(request, REPLY_CODE_OutOfDiskSpace, NULL,
                     "the journal is full: the unit was rolled back");
    ending_roll_back(request, "the journal is full");
}

static void on_committed(struct commit *commit, enum status status)
{
    struct boundary_request *request = commit->context;
    request->commit_status = status;
    ending_wake(request, after_commit);
}

static void commit(struct boundary_request *request)
{
    request->commit = (struct commit){
        .engine = request->engine,
        .unit = request->unit,
        .completed = on_committed,
        .context = request,
    };
    commit_start(&request->commit);
}

/* ------------------------------------------------------------------ writes */

static void on_written(struct write_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    bson_t view;
    request->writing = false;
    request->reply_lost = reply.size == 0;
    if (reply.size > 0 && bson_init_static(&view, reply.data, reply.size)) {
        bson_concat(&request->reply, &view);
    }
    CRASH_POINT(unit_replied);
    if (request->comment.last && request->unit->state == UNIT_OPEN && !request->reply_lost) {
        commit(request);
    } else {
        ending_finish(request);
    }
}

static void write_in_unit(struct boundary_request *request)
{
    /* Its reads pass by unseen: before this write it may have read anything. */
    lock_owner_read(request->engine->locks, &request->unit->locks);
    request->write = (struct write_operation){
        .engine = request->engine,
        .channel = request->channel,
        .unit = request->unit,
        .completed = on_written,
        .context = request,
    };
    request->writing = true;
    write_start(&request->write, &request->view, &request->message);
}

static void run(struct boundary_request *request)
{
    const char *name = request->view.name;
    if (strcmp(name, "commitUnit") == 0) {
        commit(request);
    } else if (strcmp(name, "abortUnit") == 0) {
        reply_put_ok(&request->reply);
        ending_roll_back(request, "the client asked for it");
    } else if (strcmp(name, "beginUnit") == 0) {
        reply_put_ok(&request->reply);
        ending_finish(request);
    } else {
        write_in_unit(request);
    }
}

/* ------------------------------------------------------------------ beginning */

static void after_begin(struct boundary_request *request)
{
    enum status status = request->begin.status;
    bson_destroy(&request->begin_payload);
    if (status == STATUS_IO) {
        release_end_process("a record could not be made durable", request->unit, status);
    }
    if (status != STATUS_OK) {
        ending_set_error(request, REPLY_CODE_OutOfDiskSpace, NULL,
                         "the journal is full: no unit can begin");
        ending_roll_back(request, "the journal is full");
        return;
    }
    request->unit->begun = true;
    run(request);
}

static void on_begun(struct wal_append *first, void *context)
{
    (void)first;
    ending_wake(context, after_begin);
}

static void begin(struct boundary_request *request)
{
    bson_init(&request->begin_payload);
    begin_make(request->unit, &request->begin_payload, &request->begin);
    request->begin.completed = on_begun;
    request->begin.context = request;
    lock_owner_begin(request->engine->locks, &request->unit->locks);
    wal_append(request->engine->wal, &request->begin);
}

/* Memory does not know the name; the journal may. */
static void begin_unless_known(struct boundary_request *request)
{
    if (request->unit->maybe_repeated) {
        enum outcome outcome = outcome_find_key(request->engine->wal, &request->key, 0, NULL);
        if (outcome != OUTCOME_NONE) {
            unit_state_set(request->unit, UNIT_ABORTING);
            unit_state_set(request->unit, UNIT_ABORTED);
            answer_ended(request, outcome);
            return;
        }
    }
    begin(request);
}

static void on_ready(struct unit_waiter *waiter)
{
    struct boundary_request *request =
        (struct boundary_request *)(void *)((uint8_t *)waiter -
                                            offsetof(struct boundary_request, waiter));
    ending_wake(request, check_out);
}

static void check_out(struct boundary_request *request)
{
    const struct comment *comment = &request->comment;
    struct unit_request wanted = {
        .user = request->user,
        .key = &request->key,
        .boundary = "comment",
        .name = comment->unit,
        .journaled_key = true,
        .begin = comment->begin,
        .connection = request->connection,
        .client = request->client,
        .application = request->application,
        .lifetime_ms = (uint64_t)comment->timeout_ms,
        .id = comment->begin ? wal_unit_next(request->engine->wal) : 0,
    };
    request->waiter.ready = on_ready;
    request->waiting = false;
    switch (
        unit_table_checkout(request->engine->units, &wanted, &request->waiter, &request->unit)) {
    case UNIT_CHECKOUT_READY:
        if (comment->begin) {
            begin_unless_known(request);
        } else {
            run(request);
        }
        break;
    case UNIT_CHECKOUT_WAITING:
        request->waiting = true;
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
        answer_ended(request, outcome_find_key(request->engine->wal, &request->key, 0, NULL));
        break;
    case UNIT_CHECKOUT_LIMIT:
        fail(request, REPLY_CODE_TooManyLogicalSessions,
             "unit.maxOpen units are open: try again later");
        break;
    case UNIT_CHECKOUT_NO_MEMORY:
        fail(request, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        break;
    case UNIT_CHECKOUT_EXISTS:
    case UNIT_CHECKOUT_SUPERSEDED:
    case UNIT_CHECKOUT_TOO_OLD:
        fail(request, REPLY_CODE_ConflictingOperationInProgress,
             "a unit of this name was begun already: a name is used once");
        break;
    }
}

void comment_start(struct boundary_request *request)
{
    struct error error = {0};
    ending_init(request);
    if (comment_parse(&request->view, &request->comment, &error) != STATUS_OK) {
        fail(request, REPLY_CODE_FailedToParse, error.message);
        return;
    }
    if (request->draining && request->comment.begin) {
        fail(request, REPLY_CODE_ShutdownInProgress, "the proxy is shutting down");
        return;
    }
    unit_session_key_of_name(request->user, request->comment.unit, &request->key);
    check_out(request);
}
