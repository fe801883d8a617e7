/*
 * A plain write of one document while units are in its namespace: it waits for their locks like one
 * of them, for it is a unit of one write, begun and committed here.
 *
 *   begin --> write --> (answered with an error: rolled back) --> reply
 *     ^         |  `--> commit --> reply
 *     `---------'  another unit was in the way: again, until the deadline, as mongod's plain writes
 *                  wait for transactions
 */
#include "boundary/ending.h"
#include "boundary/request.h"
#include "holdfast/clock.h"
#include "wire/reply.h"

static void begin(struct boundary_request *request);

static void after_commit(struct boundary_request *request)
{
    if (request->commit_status == STATUS_OK) {
        ending_finish(request);
        return;
    }
    ending_set_error(request, REPLY_CODE_OutOfDiskSpace, NULL,
                     "the journal is full: the write was rolled back");
    ending_roll_back(request, "the journal is full");
}

static void on_committed(struct commit *commit, enum status status)
{
    struct boundary_request *request = commit->context;
    request->commit_status = status;
    ending_wake(request, after_commit);
}

static void again(struct boundary_request *request)
{
    const char *reason = unit_table_checkin(request->engine->units, request->unit);
    (void)reason; /* an ended unit is always taken back */
    request->unit = NULL;
    begin(request);
}

static void on_written(struct write_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    bson_t view;
    request->writing = false;
    request->reply_lost = reply.size == 0;
    bool ended = request->unit->state != UNIT_OPEN;
    if (ended && operation->conflicted && !request->cancelled &&
        clock_monotonic_ms() < request->deadline_ms) {
        /* Not from inside the operation that is just ending in this memory. */
        ending_wake(request, again);
        return;
    }
    if (reply.size > 0 && bson_init_static(&view, reply.data, reply.size)) {
        bson_concat(&request->reply, &view);
    }
    if (ended) {
        ending_finish(request);
        return;
    }
    request->commit = (struct commit){
        .engine = request->engine,
        .unit = request->unit,
        .completed = on_committed,
        .context = request,
    };
    commit_start(&request->commit);
}

static void begin(struct boundary_request *request)
{
    struct unit_request wanted = {
        .user = request->user,
        .connection = request->connection,
        .client = request->client,
        .application = request->application,
        .id = wal_unit_next(request->engine->wal),
    };
    request->unit = unit_table_new_plain(request->engine->units, &wanted);
    if (request->unit == NULL) {
        ending_set_error(request, REPLY_CODE_TooManyLogicalSessions, NULL,
                         "unit.maxOpen transactions are open: try again later");
        ending_finish(request);
        return;
    }
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

void plain_start(struct boundary_request *request)
{
    ending_init(request);
    uint64_t wait = request->view.max_time_ms > 0 ? (uint64_t)request->view.max_time_ms
                                                  : request->engine->plain_wait_ms;
    request->deadline_ms = clock_monotonic_ms() + wait;
    begin(request);
}
