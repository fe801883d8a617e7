/*
 * A command that writes several documents as a transaction of the server, for
 * `unit.multiWrites: strict` on the native engine (plain.c has its life).
 *
 * Outside of a transaction mongod itself waits when a document is another transaction's, and tries
 * again; inside of one it says WriteConflict at once. So the command is tried again here, as a
 * whole and in a new transaction, with growing pauses, until its deadline. The connection's worker.
 */
#include <assert.h>
#include <event2/event_struct.h>
#include <string.h>

#include "boundary/request.h"
#include "boundary/strict.h"
#include "wire/bson_walk.h"
#include "wire/reply.h"

#define PAUSE_MS_MAX 32u

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct boundary_request *request = context;
    (void)descriptor;
    (void)what;
    request->resume(request);
}

void strict_again_later(struct boundary_request *request, void (*again)(struct boundary_request *))
{
    uint64_t pause_ms = request->pause_ms == 0 ? 1 : request->pause_ms;
    request->pause_ms = pause_ms * 2 < PAUSE_MS_MAX ? pause_ms * 2 : PAUSE_MS_MAX;
    request->resume = again;
    int assigned = event_assign(&request->write.timer, worker_base(request->channel->worker), -1, 0,
                                on_timer, request);
    assert(assigned == 0);
    worker_timer_start(&request->write.timer, pause_ms);
}

/* As mongod does outside of transactions, whose labels are others. */
static void put_label(struct slice reply, bson_t *undone)
{
    struct reply_view view;
    bson_t labels;
    if (reply_view_parse(reply, &view) == STATUS_OK && !view.ok &&
        reply_code_is_transient(view.code)) {
        BSON_APPEND_ARRAY_BEGIN(undone, "errorLabels", &labels);
        BSON_APPEND_UTF8(&labels, "0", REPLY_LABEL_RETRYABLE);
        bson_append_array_end(undone, &labels);
    }
}

void strict_put_undone(struct slice reply, bool retryable, bson_t *undone)
{
    static const char *const counts[] = {"n",         "nModified", "nInserted", "nMatched",
                                         "nUpserted", "nDeleted",  NULL};
    bson_iter_t at;
    if (reply.size == 0 || !bson_iter_init_from_data(&at, reply.data, reply.size)) {
        return;
    }
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        if (bson_name_is_one_of(name, counts)) {
            BSON_APPEND_INT32(undone, name, 0);
        } else if (strcmp(name, "upserted") != 0 && strcmp(name, "errorLabels") != 0 &&
                   strcmp(name, "recoveryToken") != 0) {
            bson_append_iter(undone, NULL, 0, &at);
        }
    }
    if (retryable) {
        put_label(reply, undone);
    }
}
