/*
 * A read outside of units: from the committed state (read/read.h). The connection's worker.
 */
#include "boundary/ending.h"
#include "boundary/request.h"

static void on_read(struct read_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    request->reading = false;
    bson_destroy(&request->reply);
    request->completed(request, reply);
}

void reading_start(struct boundary_request *request)
{
    ending_init(request);
    request->read = (struct read_operation){
        .engine = request->engine,
        .channel = request->channel,
        .view = &request->view,
        .reader = {.group = request->reader_group},
        .stale_cursor = request->stale_cursor,
        .completed = on_read,
        .context = request,
    };
    request->stale_cursor = 0;
    request->reading = true;
    read_start(&request->read);
}
