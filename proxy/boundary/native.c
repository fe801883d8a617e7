/*
 * commitTransaction of a transaction that is the server's own (engine/native.h).
 *
 *   COMMITTING durable (if it wrote) --> the client's own message to the server
 *      answered ----------------------------------> the server's answer to the client
 *      the connection broke: asked again elsewhere
 *         committed, lost, unknown ----------------> that, to the client
 *         our own user may not ask ----------------> the client's connection ends: it asks itself,
 *                                                    as after any broken connection
 *   no room in the journal: the transaction is aborted, and the client may run it again
 *
 * The connection's worker, but for what is called by the journal's writer and by the thread that
 * asks: both only wake the worker.
 */
#include "boundary/ending.h"
#include "boundary/request.h"
#include "holdfast/crash_point.h"
#include "holdfast/log.h"
#include "wire/bson_walk.h"
#include "wire/reply.h"

#define LSID_BYTES_MAX 1024u
#define RECOVERY_TOKEN_BYTES_MAX 4096u

static void set_unknown(struct boundary_request *request)
{
    /* No label: a driver must not run it again on top of itself. */
    ending_set_error(request, REPLY_CODE_UnknownError, NULL,
                     "the server cannot tell whether the transaction was committed: see holdfast "
                     "units and holdfast resolve");
}

static void after_told(struct boundary_request *request)
{
    request->doubt = NULL;
    switch (request->verdict) {
    case COMMIT_COMMITTED:
        reply_put_ok(&request->reply);
        break;
    case COMMIT_LOST:
        ending_set_error(request, REPLY_CODE_NoSuchTransaction, REPLY_LABEL_TRANSIENT,
                         "the server has lost the transaction before it was committed: run it "
                         "again");
        break;
    case COMMIT_UNKNOWN:
        set_unknown(request);
        break;
    case COMMIT_OPEN:
    case COMMIT_FORBIDDEN:
        request->reply_lost = true;
        break;
    }
    ending_finish(request);
}

static void on_told(void *context, enum commit_verdict verdict)
{
    struct boundary_request *request = context;
    request->verdict = verdict;
    ending_wake(request, after_told);
}

static void lose(struct boundary_request *request)
{
    if (request->native.unit != 0) {
        LOG(LOG_WARNING, "recovery",
            "The server's answer to a commit is lost, or settles nothing: asking again",
            LOG_NUMBER("unit", request->native.unit), LOG_TEXT("user", request->user),
            LOG_TEXT("client", request->client));
        request->doubt =
            native_commit_lost(&request->native, request->cancelled ? NULL : on_told, request);
    }
    if (request->doubt == NULL || request->cancelled) {
        request->doubt = NULL;
        request->reply_lost = true;
        ending_finish(request);
    }
}

static void on_answered(void *context, enum status status, struct slice reply)
{
    struct boundary_request *request = context;
    bson_t view;
    if (status != STATUS_OK || !bson_init_static(&view, reply.data, reply.size)) {
        lose(request);
        return;
    }
    CRASH_POINT(native_answered);
    switch (native_commit_answered(&request->native, reply)) {
    case NATIVE_ASK:
        lose(request);
        return;
    case NATIVE_UNKNOWN:
        set_unknown(request);
        break;
    case NATIVE_FORGOTTEN:
        ending_set_error(request, REPLY_CODE_UnknownError, NULL,
                         "the server had committed the transaction, and does not know it any "
                         "more: look at its documents before it is run again");
        break;
    case NATIVE_PASS:
        bson_concat(&request->reply, &view);
        break;
    }
    ending_finish(request);
}

static void send_commit(struct boundary_request *request)
{
    request->channel->forward(request->channel, on_answered, request);
    CRASH_POINT(native_sent);
}

/* ------------------------------------------------------------------ no room */

static void on_aborted(void *context, enum status status, struct slice reply)
{
    (void)status; /* if the server did not get it, its own timeout ends the transaction */
    (void)reply;
    ending_set_error(context, REPLY_CODE_OutOfDiskSpace, REPLY_LABEL_TRANSIENT,
                     "the journal is full: the transaction was rolled back");
    ending_finish(context);
}

static void abort_transaction(struct boundary_request *request)
{
    static const char *const removed[] = {"commitTransaction", "writeConcern", "maxTimeMS", NULL};
    bson_t command = BSON_INITIALIZER;
    bson_t rest;
    BSON_APPEND_INT32(&command, "abortTransaction", 1);
    if (command_copy_without(&rest, request->view.body, removed) == STATUS_OK) {
        bson_concat(&command, &rest);
        bson_destroy(&rest);
    }
    request->channel->send(request->channel, slice_make(bson_get_data(&command), command.len),
                           on_aborted, request);
    bson_destroy(&command);
}

/* ------------------------------------------------------------------ the record */

static void after_durable(struct boundary_request *request)
{
    if (request->commit_status == STATUS_OK) {
        send_commit(request);
    } else {
        request->native.unit = 0;
        abort_transaction(request);
    }
}

static void on_durable(struct native_commit *commit, enum status status)
{
    struct boundary_request *request = commit->context;
    request->commit_status = status;
    ending_wake(request, after_durable);
}

static void begin_commit(struct boundary_request *request)
{
    enum native_step step = native_commit_begin(&request->native);
    request->unit_id = request->native.unit;
    request->outlives_server = request->native.unit != 0;
    if (step == NATIVE_SEND) {
        send_commit(request);
    }
}

/* A peer's documents go into the journal: none of them is longer than any server or driver makes
 * it. */
static bool are_short(struct slice body)
{
    return bson_document_find(body, "lsid").size <= LSID_BYTES_MAX &&
           bson_document_find(body, "recoveryToken").size <= RECOVERY_TOKEN_BYTES_MAX;
}

void native_commit_start(struct boundary_request *request)
{
    ending_init(request);
    request->native = (struct native_commit){
        .native = request->engine->native,
        .user = request->user,
        .client = request->client,
        .application = request->application,
        .view = &request->view,
        .process = request->process,
        .durable = on_durable,
        .context = request,
    };
    if (!are_short(request->view.body)) {
        ending_fail(request, REPLY_CODE_FailedToParse, NULL,
                    "lsid or recoveryToken is longer than a driver makes them");
    } else if (request->user[0] == '\0' && !*request->authorized) {
        ending_ask_server(request, begin_commit); /* who may not log in fills no journal */
    } else {
        begin_commit(request);
    }
}
