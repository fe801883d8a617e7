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

/* Who names a unit in the read's comment, as in its writes', sees what that has written. */
static uint64_t group_of(const struct boundary_request *request)
{
    struct comment comment;
    struct unit_session_key key;
    if (!request->view.has_comment || comment_parse(&request->view, &comment, NULL) != STATUS_OK) {
        return request->reader_group;
    }
    unit_session_key_of_name(request->user, comment.unit, &key);
    return unit_session_key_group(&key);
}

void reading_start(struct boundary_request *request)
{
    ending_init(request);
    request->read = (struct read_operation){
        .engine = request->engine,
        .channel = request->channel,
        .view = &request->view,
        .reader = {.group = group_of(request)},
        .stale_cursor = request->stale_cursor,
        .is_lost = request->read_is_lost,
        .completed = on_read,
        .context = request,
    };
    request->stale_cursor = 0;
    request->read_is_lost = false;
    request->reading = true;
    read_start(&request->read);
}
