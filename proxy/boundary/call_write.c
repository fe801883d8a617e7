/*
 * A plain write command of a service, as a part of the unit of the API call that is open; also a
 * read, if that unit is serializable (unit_read.c).
 *
 *   check out the call's unit
 *      | another write of the call is at work --> again when it is done
 *      | it has ended meanwhile --> an error: the write is not carried out
 *      v
 *   write   what the server refuses is the service's to deal with, as without the proxy, and the
 *      |    unit goes on; the proxy's own failures roll it back, and the call cannot commit
 *      v
 *   reply   if the client has gone before it, the service cannot know whether the write was done,
 *           and its driver may do it again: the unit is rolled back
 *
 * The connection's worker.
 */
#include "boundary/ending.h"
#include "boundary/request.h"
#include "holdfast/crash_point.h"
#include "wire/reply.h"

static void check_out(struct boundary_request *request);

void call_write_replied(struct boundary_request *request)
{
    static const char reason[] = "a service's connection broke while it wrote";
    CRASH_POINT(unit_replied);
    if (request->cancelled && request->unit->state == UNIT_OPEN) {
        ending_roll_back(request, reason);
    } else {
        ending_finish(request);
    }
}

static void on_written(struct write_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    ending_take_reply(request, reply);
    call_write_replied(request);
}

static void write_in_call(struct boundary_request *request)
{
    /* Its reads pass by unseen: before this write it may have read anything. */
    lock_owner_read(request->engine->locks, &request->unit->locks);
    ending_prepare_write(request, WRITE_ERRORS_CALL, on_written);
    write_start(&request->write, &request->view, &request->message);
}

static void refuse(struct boundary_request *request)
{
    ending_fail(request, REPLY_CODE_NoSuchTransaction, NULL,
                "the API call that this command belongs to has been rolled back or has ended: "
                "it is not carried out");
}

static void check_out(struct boundary_request *request)
{
    struct unit_request wanted = {
        .user = request->user,
        .key = &request->key,
        .connection = request->connection,
    };
    switch (ending_check_out(request, &wanted, check_out)) {
    case UNIT_CHECKOUT_READY:
        if (request->engine->native != NULL) {
            call_native_run(request);
        } else if (read_command_is_known(request->view.name)) {
            unit_read_start(request);
        } else {
            write_in_call(request);
        }
        break;
    case UNIT_CHECKOUT_WAITING:
        break;
    case UNIT_CHECKOUT_CONFLICT:
        ending_set_conflict(request);
        ending_finish(request);
        break;
    case UNIT_CHECKOUT_COMMITTED:
    case UNIT_CHECKOUT_ABORTED:
    case UNIT_CHECKOUT_UNKNOWN:
    case UNIT_CHECKOUT_SUPERSEDED:
    case UNIT_CHECKOUT_TOO_OLD:
    case UNIT_CHECKOUT_EXISTS:
    case UNIT_CHECKOUT_LIMIT:
    case UNIT_CHECKOUT_NO_MEMORY:
        if (request->engine->native != NULL && request->part == CALL_PART_READ) {
            call_native_pass(request); /* it shows what is committed: there is nothing else */
        } else {
            refuse(request);
        }
        break;
    }
}

void call_write_start(struct boundary_request *request)
{
    ending_init(request);
    check_out(request);
}
