/*
 * Units that services name in the `comment` of their writes (comment.h).
 *
 *   begin        nobody has logged in: may such a client ask the server anything? (once)
 *                make the unit --> does the journal know that name? --> BEGIN durable --> the write
 *   a write      check out the open unit --> write, as in a transaction: any error rolls it back
 *   last         ... then commit, and only then the answer
 *   commitUnit, abortUnit
 *   a read       of a serializable unit only (route/dispatch_reads.c): it locks what it reads;
 * other units' reads go by, and see what they have written
 *
 * BEGIN is durable before anything else, so that a name that was begun is remembered through
 * restarts, however it ends: a late write or a second begin under it is an error, never a new unit.
 * Who has not logged in where that is needed begins none.
 *
 * A write that its driver sends a second time, under the same session and number, is answered what
 * it was the first time: from the unit's memory (unit/answers.h), of the last write from its
 * COMMIT.
 *
 * A name belongs to one user, as a session does. The connection's worker.
 */
#include <string.h>

#include "boundary/ending.h"
#include "boundary/outcome.h"
#include "boundary/request.h"
#include "engine/begin.h"
#include "engine/native_unit.h"
#include "engine/release.h"
#include "holdfast/crash_point.h"
#include "wire/reply.h"

static void check_out(struct boundary_request *request);
static void write_in_unit(struct boundary_request *request);

static bool named(const struct boundary_request *request, const char *name)
{
    return strcmp(request->view.name, name) == 0;
}

static void roll_back(struct boundary_request *request, int code, const char *message,
                      const char *reason)
{
    ending_set_error(request, code, NULL, message);
    ending_roll_back(request, reason);
}

static void fail_begun(struct boundary_request *request)
{
    ending_fail(request, REPLY_CODE_ConflictingOperationInProgress, NULL,
                "a unit of this name was begun already: a name is used once");
}

/* ------------------------------------------------------------------ writes that come again */

/* What COMMIT keeps of the last write: { lsid, txnNumber, reply }. */
static void put_last_answer(const struct boundary_request *request, bson_t *kept)
{
    BSON_APPEND_BINARY(kept, "lsid", BSON_SUBTYPE_UUID, request->view.session_id.data,
                       (uint32_t)request->view.session_id.size);
    BSON_APPEND_INT64(kept, "txnNumber", request->view.transaction_number);
    BSON_APPEND_DOCUMENT(kept, "reply", &request->reply);
}

/* Whether the committed unit's last write was this one; then request->reply is what it was told. */
static bool take_last_answer(struct boundary_request *request, const bson_t *kept)
{
    bson_iter_t session;
    bson_iter_t number;
    bson_iter_t reply;
    bson_subtype_t subtype;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    bson_t view;
    if (!bson_iter_init_find(&session, kept, "lsid") || !BSON_ITER_HOLDS_BINARY(&session) ||
        !bson_iter_init_find(&number, kept, "txnNumber") || !BSON_ITER_HOLDS_INT64(&number) ||
        !bson_iter_init_find(&reply, kept, "reply") || !BSON_ITER_HOLDS_DOCUMENT(&reply)) {
        return false;
    }
    bson_iter_binary(&session, &subtype, &size, &data);
    if (bson_iter_int64(&number) != request->view.transaction_number ||
        !slice_equal(slice_make(data, size), request->view.session_id)) {
        return false;
    }
    bson_iter_document(&reply, &size, &data);
    return bson_init_static(&view, data, size) && bson_concat(&request->reply, &view);
}

static void answer_committed(struct boundary_request *request)
{
    bson_t kept = BSON_INITIALIZER;
    bool again =
        ending_may_come_again(request) &&
        outcome_find_key(request->engine->wal, &request->key, 0, &kept) == OUTCOME_COMMITTED &&
        take_last_answer(request, &kept);
    bson_destroy(&kept);
    if (again) {
        (void)atomic_fetch_add(&request->engine->counters.answered, 1);
        ending_finish(request);
    } else if (named(request, "commitUnit")) {
        reply_put_ok(&request->reply);
        ending_finish(request);
    } else {
        ending_fail(request, REPLY_CODE_TransactionCommitted, NULL,
                    "the unit of this name has been committed: nothing more can be done under it");
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
        ending_finish(request);
        break;
    case OUTCOME_UNREADABLE:
        ending_fail(request, REPLY_CODE_InternalError, NULL,
                    "the journal cannot be read: how the unit of this name ended is not known");
        break;
    case OUTCOME_ROLLED_BACK:
    case OUTCOME_TOO_OLD:
        ending_fail(
            request, REPLY_CODE_NoSuchTransaction, NULL,
            "the unit of this name has been rolled back: nothing more can be done under it");
        break;
    case OUTCOME_NONE:
        ending_fail(request, REPLY_CODE_NoSuchTransaction, NULL,
                    "no unit of this name is open: its first write wants begin: true");
        break;
    }
}

/* ------------------------------------------------------------------ ends */

static void after_commit(struct boundary_request *request)
{
    bson_destroy(&request->kept);
    if (request->commit_status == STATUS_CONFLICT) {
        /* Native engine: it has ended. If nobody knows how, ending_finish() says so instead. */
        ending_fail(request, REPLY_CODE_NoSuchTransaction, NULL,
                    "the server has lost the unit's transaction: nothing of it is there");
        return;
    }
    if (request->commit_status == STATUS_OK) {
        if (request->reply.len <= 5) {
            reply_put_ok(&request->reply); /* commitUnit; else it is the last write's */
        }
        native_unit_put_times(request->unit, &request->reply);
        ending_finish(request);
        CRASH_POINT(commit_acknowledged);
        return;
    }
    roll_back(request, REPLY_CODE_OutOfDiskSpace, "the journal is full: the unit was rolled back",
              "the journal is full");
}

static void commit(struct boundary_request *request)
{
    struct slice answer = {0};
    bson_init(&request->kept);
    if (ending_may_come_again(request)) {
        put_last_answer(request, &request->kept);
        answer = slice_make(bson_get_data(&request->kept), request->kept.len);
    }
    ending_commit(request, answer, after_commit);
}

/* ------------------------------------------------------------------ BEGIN */

static void after_begin(struct boundary_request *request)
{
    enum status status = request->begin.status;
    bson_destroy(&request->kept);
    if (status == STATUS_IO) {
        release_end_process("a record could not be made durable", request->unit, status);
    }
    if (status != STATUS_OK) {
        roll_back(request, REPLY_CODE_OutOfDiskSpace, "the journal is full: no unit can begin",
                  "the journal is full");
        return;
    }
    request->unit->begun = true;
    if (named(request, "beginUnit")) {
        reply_put_ok(&request->reply);
        ending_finish(request);
    } else {
        write_in_unit(request);
    }
}

static void on_begun(struct wal_append *first, void *context)
{
    (void)first;
    ending_wake(context, after_begin);
}

static void append_begin(struct boundary_request *request)
{
    if (request->engine->native != NULL && !native_unit_prepare(request->unit)) {
        roll_back(request, REPLY_CODE_ExceededMemoryLimit, "out of memory for a unit",
                  "a command of the unit failed");
        return;
    }
    bson_init(&request->kept);
    begin_make(request->unit, &request->kept, &request->begin);
    request->begin.completed = on_begun;
    request->begin.context = request;
    wal_append(request->engine->wal, &request->begin);
}

/* ------------------------------------------------------------------ writes */

/* The write is done, its unit open. */
static void keep_answer(struct boundary_request *request)
{
    if (!ending_keep_answer(request)) {
        return;
    }
    if (request->comment.last) {
        commit(request);
    } else {
        ending_finish(request);
    }
}

static void on_written(struct write_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    ending_take_reply(request, reply);
    CRASH_POINT(unit_replied);
    if (request->unit->state == UNIT_OPEN && !request->reply_lost) {
        keep_answer(request);
    } else {
        ending_finish(request);
    }
}

static void write_in_unit(struct boundary_request *request)
{
    /* Its reads pass by unseen: before this write it may have read anything. */
    lock_owner_read(request->engine->locks, &request->unit->locks);
    ending_prepare_write(request, WRITE_ERRORS_ABORT, on_written);
    write_start(&request->write, &request->view, &request->message);
}

/* Unless its driver sends it a second time. */
static void write_once(struct boundary_request *request)
{
    if (ending_answer_again(request)) {
        return;
    }
    if (request->again) {
        fail_begun(request); /* begin, of another write than the one that began it */
    } else {
        write_in_unit(request);
    }
}

static void run(struct boundary_request *request)
{
    if (named(request, "commitUnit")) {
        commit(request);
    } else if (named(request, "abortUnit")) {
        reply_put_ok(&request->reply);
        ending_roll_back(request, "the client asked for it");
    } else if (named(request, "beginUnit")) {
        fail_begun(request); /* only a second one gets here */
    } else if (request->comment.isolation == COMMENT_ISOLATION_SERIALIZABLE &&
               !request->unit->locks.serializable) {
        roll_back(request, REPLY_CODE_InvalidOptions,
                  "only what begins a unit says that it is serializable",
                  "a command of the unit failed");
    } else if (read_command_is_known(request->view.name)) {
        unit_read_start(request);
    } else {
        write_once(request);
    }
}

/* ------------------------------------------------------------------ beginning */

/* A new unit. */
static void begin(struct boundary_request *request)
{
    if (request->unit->maybe_repeated) { /* memory does not know the name; the journal may */
        enum outcome outcome = outcome_find_key(request->engine->wal, &request->key, 0, NULL);
        if (outcome != OUTCOME_NONE) {
            unit_state_set(request->unit, UNIT_ABORTING);
            unit_state_set(request->unit, UNIT_ABORTED);
            answer_ended(request, outcome);
            return;
        }
    }
    lock_owner_begin(request->engine->locks, &request->unit->locks);
    enter_snapshot(request->engine, request->unit);
    append_begin(request);
}

static void check_out(struct boundary_request *request)
{
    const struct comment *comment = &request->comment;
    bool begins = comment->begin && !request->again && !read_command_is_known(request->view.name);
    struct unit_request wanted = {
        .user = request->user,
        .key = &request->key,
        .boundary = UNIT_BOUNDARY_COMMENT,
        .name = comment->unit,
        .journaled_key = true,
        .begin = begins,
        .connection = request->connection,
        .client = request->client,
        .application = request->application,
        .lifetime_ms = (uint64_t)comment->timeout_ms,
        .group = unit_session_key_group(&request->key),
        .id = begins ? wal_unit_next(request->engine->wal) : 0,
        .trace = begins ? ending_unit_trace(request) : NULL,
        .serializable = ending_is_serializable(request),
    };
    switch (ending_check_out(request, &wanted, check_out)) {
    case UNIT_CHECKOUT_READY:
        if (begins) {
            begin(request);
        } else {
            run(request);
        }
        break;
    case UNIT_CHECKOUT_WAITING:
        break;
    case UNIT_CHECKOUT_EXISTS: /* open: was it this very write that began it? */
        request->again = true;
        check_out(request);
        break;
    case UNIT_CHECKOUT_COMMITTED:
        answer_ended(request, OUTCOME_COMMITTED);
        break;
    case UNIT_CHECKOUT_ABORTED:
        answer_ended(request, OUTCOME_ROLLED_BACK);
        break;
    case UNIT_CHECKOUT_CONFLICT: /* native engine: how its commit ended may be known by now */
        answer_ended(request, request->engine->native == NULL
                                  ? OUTCOME_CONFLICT
                                  : outcome_find_key(request->engine->wal, &request->key, 0, NULL));
        break;
    case UNIT_CHECKOUT_UNKNOWN:
        answer_ended(request, outcome_find_key(request->engine->wal, &request->key, 0, NULL));
        break;
    case UNIT_CHECKOUT_LIMIT:
        ending_fail(request, REPLY_CODE_TooManyLogicalSessions, NULL,
                    "unit.maxOpen units are open: try again later");
        break;
    case UNIT_CHECKOUT_NO_MEMORY:
        ending_fail(request, REPLY_CODE_ExceededMemoryLimit, NULL, "out of memory");
        break;
    case UNIT_CHECKOUT_SUPERSEDED:
    case UNIT_CHECKOUT_TOO_OLD:
        fail_begun(request);
        break;
    }
}

void comment_start(struct boundary_request *request)
{
    struct error error = {0};
    ending_init(request);
    request->again = false;
    if (comment_parse(&request->view, &request->comment, &error) != STATUS_OK) {
        ending_fail(request, REPLY_CODE_FailedToParse, NULL, error.message);
        return;
    }
    if (request->engine->native != NULL &&
        request->comment.isolation == COMMENT_ISOLATION_SERIALIZABLE) {
        ending_fail(request, REPLY_CODE_InvalidOptions, NULL,
                    "serializable units are not there on a replica set or a cluster");
        return;
    }
    if (request->draining && request->comment.begin) {
        ending_fail(request, REPLY_CODE_ShutdownInProgress, NULL, "the proxy is shutting down");
        return;
    }
    unit_session_key_of_name(request->user, request->comment.unit, &request->key);
    if (request->comment.begin && request->user[0] == '\0' && !*request->authorized) {
        ending_ask_server(request, check_out);
    } else {
        check_out(request);
    }
}
