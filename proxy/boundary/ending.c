/* How a request leaves its unit and answers. The connection's worker. */
#include "boundary/ending.h"

#include "wire/reply.h"

static void on_task(struct worker_task *task)
{
    struct boundary_request *request =
        (struct boundary_request *)(void *)((uint8_t *)task -
                                            offsetof(struct boundary_request, task));
    request->resume(request);
}

void ending_init(struct boundary_request *request)
{
    request->cancelled = false;
    request->unit = NULL;
    request->unit_id = 0;
    request->unit_trace = (struct span_context){0};
    request->task.run = on_task;
    request->reply_lost = false;
    request->doubt = NULL;
    request->outlives_server = false;
    request->flushing = request->writing = request->reading = request->locking = request->waiting =
        false;
    bson_init(&request->reply);
}

void ending_wake(struct boundary_request *request, void (*resume)(struct boundary_request *))
{
    request->resume = resume;
    worker_post(request->channel->worker, &request->task);
}

static void answer(struct boundary_request *request)
{
    /* The connection may start its next request, in this memory, from inside `completed`. */
    bson_t *reply = bson_copy(&request->reply);
    struct domain_slot *slot = request->slot;
    bson_destroy(&request->reply);
    request->completed(
        request, slice_make(bson_get_data(reply), request->reply_lost ? 0 : (size_t)reply->len));
    bson_destroy(reply);
    if (slot != NULL) {
        domain_write_done(slot); /* after what the connection has read meanwhile is decided */
    }
}

static void on_ready(struct unit_waiter *waiter)
{
    struct boundary_request *request =
        (struct boundary_request *)(void *)((uint8_t *)waiter -
                                            offsetof(struct boundary_request, waiter));
    ending_wake(request, request->check_out_again);
}

enum unit_checkout ending_check_out(struct boundary_request *request,
                                    const struct unit_request *wanted,
                                    void (*again)(struct boundary_request *))
{
    request->check_out_again = again;
    request->waiter.ready = on_ready;
    request->waiting = false;
    enum unit_checkout result =
        unit_table_checkout(request->engine->units, wanted, &request->waiter, &request->unit);
    request->waiting = result == UNIT_CHECKOUT_WAITING;
    if (result == UNIT_CHECKOUT_READY) {
        ending_note_unit(request);
    }
    return result;
}

void ending_note_unit(struct boundary_request *request)
{
    request->unit_id = request->unit->id;
    request->unit_began_us = request->unit->began_wall_us;
    request->unit_trace = request->unit->trace;
}

const struct span_context *ending_unit_trace(struct boundary_request *request)
{
    if (!request->has_parent) {
        return NULL;
    }
    span_continue(request->parent.trace.bytes, request->parent.parent, request->parent.sampled,
                  &request->unit_trace);
    return &request->unit_trace;
}

bool ending_is_serializable(const struct boundary_request *request)
{
    switch (request->comment.isolation) {
    case COMMENT_ISOLATION_SNAPSHOT:
        return false;
    case COMMENT_ISOLATION_SERIALIZABLE:
        return true;
    case COMMENT_ISOLATION_DEFAULT:
        break;
    }
    return request->engine->serializable;
}

void ending_prepare_write(struct boundary_request *request, enum write_errors errors,
                          void (*completed)(struct write_operation *, struct slice))
{
    request->write = (struct write_operation){
        .engine = request->engine,
        .channel = request->channel,
        .unit = request->unit,
        .errors = errors,
        .completed = completed,
        .context = request,
    };
    request->writing = true;
}

void ending_take_reply(struct boundary_request *request, struct slice reply)
{
    bson_t view;
    request->writing = false;
    request->reply_lost = reply.size == 0;
    if (reply.size > 0 && bson_init_static(&view, reply.data, reply.size)) {
        bson_concat(&request->reply, &view);
    }
}

static void on_committed(struct commit *commit, enum status status)
{
    struct boundary_request *request = commit->context;
    request->commit_status = status;
    ending_wake(request, request->after_commit);
}

void ending_commit(struct boundary_request *request, struct slice answer,
                   void (*resume)(struct boundary_request *))
{
    request->after_commit = resume;
    request->outlives_server = request->engine->native != NULL;
    request->commit = (struct commit){
        .engine = request->engine,
        .unit = request->unit,
        .channel = request->channel,
        .process = request->process,
        .reply = answer,
        .completed = on_committed,
        .context = request,
    };
    commit_start(&request->commit);
}

static void on_rolled_back(struct rollback *rollback)
{
    ending_wake(rollback->context, ending_finish);
}

void ending_roll_back(struct boundary_request *request, const char *reason)
{
    request->rollback = (struct rollback){
        .engine = request->engine,
        .unit = request->unit,
        .channel = request->channel,
        .reason = reason,
        .completed = on_rolled_back,
        .context = request,
    };
    rollback_start(&request->rollback);
}

static void after_superseded(struct boundary_request *request)
{
    const char *reason = unit_table_checkin(request->engine->units, request->unit);
    (void)reason; /* an ended unit is always taken back */
    request->unit = NULL;
    request->after_superseded(request);
}

static void on_superseded(struct rollback *rollback)
{
    ending_wake(rollback->context, after_superseded);
}

void ending_supersede(struct boundary_request *request, void (*resume)(struct boundary_request *))
{
    request->after_superseded = resume;
    request->rollback = (struct rollback){
        .engine = request->engine,
        .unit = request->unit,
        .reason = "the session began a newer transaction",
        .completed = on_superseded,
        .context = request,
    };
    rollback_start(&request->rollback);
}

bool ending_check_in(struct boundary_request *request)
{
    const char *reason = unit_table_checkin(request->engine->units, request->unit);
    if (reason != NULL) {
        ending_set_error(request, REPLY_CODE_NoSuchTransaction, REPLY_LABEL_TRANSIENT, reason);
        ending_roll_back(request, reason);
        return false;
    }
    request->unit = NULL;
    return true;
}

void ending_finish(struct boundary_request *request)
{
    if (request->unit != NULL && request->unit->state == UNIT_CONFLICT) {
        ending_set_conflict(request);
    }
    if (request->unit == NULL || ending_check_in(request)) {
        answer(request);
    }
}

void ending_fail(struct boundary_request *request, int code, const char *label, const char *message)
{
    ending_set_error(request, code, label, message);
    ending_finish(request);
}

void ending_set_conflict(struct boundary_request *request)
{
    if (request->engine->native != NULL) {
        ending_set_error(request, REPLY_CODE_UnknownError, NULL,
                         "whether the server has committed this unit is not known, or not yet: see "
                         "holdfast units and holdfast resolve");
        return;
    }
    ending_set_error(request, REPLY_CODE_InternalError, NULL,
                     "the writes of this unit could not be undone because a document was changed "
                     "around the proxy: it was set aside; see holdfast units and holdfast resolve");
}

void ending_set_error(struct boundary_request *request, int code, const char *label,
                      const char *message)
{
    bson_reinit(&request->reply);
    reply_put_error(&request->reply, code, label, "%s", message);
}

/* ------------------------------------------------------------------ writes that come again */

bool ending_may_come_again(const struct boundary_request *request)
{
    return request->view.has_transaction_number && request->view.session_id.size > 0;
}

bool ending_answer_again(struct boundary_request *request)
{
    struct slice reply;
    bson_t view;
    enum answer_found found = ending_may_come_again(request)
                                  ? answers_find(&request->unit->answers, request->view.session_id,
                                                 request->view.transaction_number, &reply)
                                  : ANSWER_NEW;
    if (found == ANSWER_NEW) {
        return false;
    }
    if (found == ANSWER_KEPT && bson_init_static(&view, reply.data, reply.size) &&
        bson_concat(&request->reply, &view)) {
        ending_finish(request);
        return true;
    }
    ending_set_error(request, REPLY_CODE_NoSuchTransaction, NULL,
                     "this write was carried out before, and its answer is not known any more: its "
                     "unit was rolled back");
    ending_roll_back(request, "a write came a second time");
    return true;
}

bool ending_keep_answer(struct boundary_request *request)
{
    if (!ending_may_come_again(request) ||
        answers_keep(&request->unit->answers, request->view.session_id,
                     request->view.transaction_number,
                     slice_make(bson_get_data(&request->reply), request->reply.len)) == STATUS_OK) {
        return true;
    }
    ending_set_error(request, REPLY_CODE_TransactionTooLarge, NULL,
                     "too many sessions write in one unit for their answers to be remembered");
    ending_roll_back(request, "too many sessions wrote in it");
    return false;
}

/* ------------------------------------------------------------------ who may begin */

static void on_authorized(void *context, enum status status, struct slice reply)
{
    struct boundary_request *request = context;
    struct reply_view view;
    bson_t document;
    if (status != STATUS_OK || reply_view_parse(reply, &view) != STATUS_OK) {
        request->reply_lost = true;
        ending_finish(request);
    } else if (view.ok) {
        *request->authorized = true;
        request->after_asked(request);
    } else {
        (void)bson_init_static(&document, reply.data, reply.size);
        bson_concat(&request->reply, &document);
        ending_finish(request);
    }
}

void ending_ask_server(struct boundary_request *request,
                       void (*resume)(struct boundary_request *request))
{
    /* A question that needs a login where logins are. */
    bson_t command = BSON_INITIALIZER;
    bson_t filter;
    request->after_asked = resume;
    BSON_APPEND_INT32(&command, "listDatabases", 1);
    BSON_APPEND_BOOL(&command, "nameOnly", true);
    BSON_APPEND_BOOL(&command, "authorizedDatabases", true);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
    BSON_APPEND_UTF8(&filter, "name", "admin");
    bson_append_document_end(&command, &filter);
    BSON_APPEND_UTF8(&command, "$db", "admin");
    request->channel->send(request->channel, slice_make(bson_get_data(&command), command.len),
                           on_authorized, request);
    bson_destroy(&command);
}

/* ------------------------------------------------------------------ lent */

void boundary_lend(struct boundary_request *request)
{
    ending_init(request);
    request->outlives_server = true; /* whose command it is is told by the channel */
    reply_put_ok(&request->reply);
}

void boundary_take_back(struct boundary_request *request)
{
    ending_finish(request);
}

void boundary_cancel(struct boundary_request *request)
{
    request->cancelled = true;
    if (request->writing) {
        write_cancel(&request->write);
    } else if (request->flushing) {
        flush_cancel(&request->flush);
    } else if (request->reading) {
        read_cancel(&request->read);
    } else if (request->locking) {
        locked_read_cancel(&request->locked);
    } else if (request->doubt != NULL &&
               native_doubt_leave(request->engine->native, request->doubt, request)) {
        request->doubt = NULL;
        request->reply_lost = true;
        ending_finish(request);
    } else if (request->waiting && unit_table_cancel(request->engine->units, &request->waiter)) {
        request->waiting = false;
        request->reply_lost = true;
        ending_finish(request);
    }
}
