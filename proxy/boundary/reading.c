/*
 * A read outside of units: from the committed state (read/read.h).
 *
 * One that asks for readConcern "snapshot" and belongs to the unit of an API call, or names one in
 * its comment, sees what was committed when that unit began, and what it has written itself. The
 * unit may go on, and end, meanwhile: the read has a share of its snapshot of its own.
 *
 * The connection's worker.
 */
#include <string.h>

#include "boundary/ending.h"
#include "boundary/request.h"

static void on_read(struct read_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    request->reading = false;
    uncommitted_end(request->engine->uncommitted, &request->snapshot, false);
    bson_destroy(&request->reply);
    request->completed(request, reply);
}

/* The unit that the read names in its comment, as its writes do. */
static bool names_unit(const struct boundary_request *request, struct unit_session_key *ret_key)
{
    struct comment comment;
    if (!request->view.has_comment || comment_parse(&request->view, &comment, NULL) != STATUS_OK) {
        return false;
    }
    unit_session_key_of_name(request->user, comment.unit, ret_key);
    return true;
}

/* That of the API call that it belongs to. */
static bool is_of_call(const struct boundary_request *request, struct unit_session_key *ret_key)
{
    return request->domain != NULL &&
           domain_find_call(request->domain, request->service,
                            request->has_parent ? &request->parent.trace : NULL, ret_key);
}

static bool wants_snapshot(const struct boundary_request *request)
{
    const char *level = request->view.read_concern_level;
    return level != NULL && strcmp(level, "snapshot") == 0;
}

static void take_snapshot(struct boundary_request *request, const struct unit_session_key *key,
                          struct uncommitted_reader *reader)
{
    uint64_t unit = 0;
    if (unit_table_share_snapshot(request->engine->units, key, request->engine->uncommitted,
                                  &request->snapshot, &unit)) {
        *reader = (struct uncommitted_reader){
            .unit = unit, .snapshot_at = request->snapshot.snapshot_at, .has_snapshot = true};
    }
}

void reading_start(struct boundary_request *request)
{
    struct unit_session_key key;
    struct uncommitted_reader reader = {.group = request->reader_group};
    ending_init(request);
    request->snapshot = (struct uncommitted_owner){0};
    bool named = names_unit(request, &key);
    if (named) {
        reader.group = unit_session_key_group(&key);
    }
    if (wants_snapshot(request) && (named || is_of_call(request, &key))) {
        take_snapshot(request, &key, &reader);
    }
    request->read = (struct read_operation){
        .engine = request->engine,
        .channel = request->channel,
        .view = &request->view,
        .reader = reader,
        .plain_epoch = request->snapshot.plain_epoch,
        .in_unit = reader.has_snapshot, /* the server knows nothing of its snapshot */
        .stale_cursor = request->stale_cursor,
        .is_lost = request->read_is_lost,
        .completed = on_read,
        .context = request,
    };
    request->reading = true;
    read_start(&request->read);
}
