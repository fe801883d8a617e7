/*
 * A read that belongs to a serializable unit: it locks what it reads (read/locked_read.h). Of a
 * unit of a comment or of an API call all of it; driver.c takes its answers itself. What the server
 * refuses is the reader's to deal with; a read that does not get its locks rolls the unit back. The
 * connection's worker.
 */
#include "boundary/ending.h"
#include "boundary/request.h"
#include "wire/reply.h"

void unit_read_lock(struct boundary_request *request, bool in_transaction,
                    void (*completed)(struct locked_read *locked, struct slice reply))
{
    request->locked = (struct locked_read){
        .engine = request->engine,
        .channel = request->channel,
        .unit = request->unit,
        .view = &request->view,
        .read = &request->read,
        .in_transaction = in_transaction,
        .completed = completed,
        .context = request,
    };
    request->locking = true;
    locked_read_start(&request->locked);
}

static void on_read(struct locked_read *locked, struct slice reply)
{
    struct boundary_request *request = locked->context;
    struct reply_view view;
    request->locking = false;
    if (locked->failed && reply_view_parse(reply, &view) == STATUS_OK) {
        ending_set_error(request, view.code,
                         reply_code_is_transient(view.code) ? REPLY_LABEL_TRANSIENT : NULL,
                         view.message == NULL ? "no lock" : view.message);
        ending_roll_back(request, request->unit->locks.victim ? "it was the victim of a deadlock"
                                                              : "a read of it got no lock");
        return;
    }
    ending_take_reply(request, reply);
    ending_finish(request);
}

/* A cursor of somebody else in the service, who reads beside the call. */
static bool is_of_another(const struct boundary_request *request)
{
    struct read_command command;
    return request->slot != NULL && read_command_parse(&request->view, &command) == STATUS_OK &&
           command.kind == READ_GET_MORE && !unit_cursor_is_known(request->unit, command.cursor_id);
}

static void on_beside(struct read_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    request->reading = false;
    ending_take_reply(request, reply);
    ending_finish(request);
}

static void read_beside(struct boundary_request *request)
{
    request->read = (struct read_operation){
        .engine = request->engine,
        .channel = request->channel,
        .view = &request->view,
        .reader = {.group = request->reader_group},
        .completed = on_beside,
        .context = request,
    };
    request->reading = true;
    read_start(&request->read);
}

void unit_read_start(struct boundary_request *request)
{
    if (is_of_another(request)) {
        read_beside(request);
        return;
    }
    unit_read_lock(request, false, on_read);
}
