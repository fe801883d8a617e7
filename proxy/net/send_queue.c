/*
 * See send_queue.h. The first that is put in makes an event of its own active; the loop calls it
 * behind all that the turn brings, for it is the last in its list.
 *
 * Invariant: an entry's stream names it (stream->queued), is writable and has nothing pending.
 */
#include "net/send_queue.h"

#include <errno.h>
#include <event2/event_struct.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/log.h"
#include "net/send_ring.h"
#include "net/stream.h"

struct send_entry {
    struct stream *stream; /* NULL: was taken out */
    size_t size;
    uint8_t bytes[SEND_QUEUE_STREAM_BYTES];
};

struct send_queue {
    struct event event;
    bool may_have_ring;
    struct send_ring *ring; /* NULL: none yet, or none at all */
    size_t count;
    struct send_entry entries[SEND_QUEUE_STREAMS];
};

/* How many operations there are to do; entries whose stream may not send are dealt with. */
static size_t collect(struct send_queue *queue, struct send_ring_operation *operations,
                      struct stream **streams)
{
    size_t count = 0;
    for (size_t i = 0; i < queue->count; i++) {
        struct send_entry *entry = &queue->entries[i];
        struct stream *stream = entry->stream;
        if (stream == NULL) {
            continue;
        }
        if (!stream_may_send(stream)) {
            stream_flush(stream); /* breaks it */
            continue;
        }
        streams[count] = stream;
        operations[count++] = (struct send_ring_operation){
            .descriptor = stream->descriptor, .memory = entry->bytes, .size = entry->size};
    }
    return count;
}

/* Of each worker it would be the same. */
static void tell_no_ring(int failure)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&told)) {
        LOG(LOG_INFO, "net",
            "io_uring is not to be had: commands and answers are sent by a system call each",
            LOG_TEXT("reason", strerror(failure)));
    }
}

static bool has_ring(struct send_queue *queue)
{
    if (queue->ring == NULL && queue->may_have_ring) {
        queue->may_have_ring = false;
        queue->ring = send_ring_new(SEND_QUEUE_STREAMS);
        if (queue->ring == NULL) {
            tell_no_ring(errno);
        }
    }
    return queue->ring != NULL;
}

static void send_together(struct send_queue *queue)
{
    struct send_ring_operation operations[SEND_QUEUE_STREAMS];
    struct stream *streams[SEND_QUEUE_STREAMS];
    size_t count = collect(queue, operations, streams);
    if (!send_ring_run(queue->ring, operations, count)) {
        LOG(LOG_WARNING, "net",
            "io_uring failed, and is not used by this worker any more: commands and answers are "
            "sent by a system call each");
        queue->ring = send_ring_free(queue->ring);
    }
    for (size_t i = 0; i < count; i++) {
        if (operations[i].result == -ECANCELED) {
            stream_flush(streams[i]);
        } else {
            (void)send_queue_take(streams[i]);
            const struct slice bytes = slice_make(operations[i].memory, operations[i].size);
            stream_sent(streams[i], bytes, operations[i].result);
        }
    }
}

void send_queue_send(struct send_queue *queue)
{
    size_t count = 0;
    for (size_t i = 0; i < queue->count; i++) {
        count += queue->entries[i].stream != NULL;
    }
    if (count > 1 && has_ring(queue)) {
        send_together(queue);
    }
    for (size_t i = 0; i < queue->count; i++) {
        if (queue->entries[i].stream != NULL) {
            stream_flush(queue->entries[i].stream);
        }
    }
    queue->count = 0;
}

static void on_turn_end(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    send_queue_send(context);
}

struct send_queue *send_queue_new(struct event_base *base)
{
    struct send_queue *queue = calloc(1, sizeof *queue);
    if (queue != NULL) {
        (void)event_assign(&queue->event, base, -1, 0, on_turn_end, queue);
    }
    return queue;
}

struct send_queue *send_queue_free(struct send_queue *queue)
{
    if (queue != NULL) {
        queue->ring = send_ring_free(queue->ring);
        free(queue);
    }
    return NULL;
}

void send_queue_allow_ring(struct send_queue *queue)
{
    queue->may_have_ring = true;
}

bool send_queue_put(struct send_queue *queue, struct stream *stream, struct slice bytes)
{
    struct send_entry *entry = stream->queued;
    if (entry != NULL && entry->size + bytes.size > sizeof entry->bytes) {
        stream_flush(stream);
        entry = NULL;
    }
    if (bytes.size > sizeof entry->bytes || !stream->writable || stream->pending.size > 0) {
        return false;
    }
    if (entry == NULL) {
        if (queue->count == SEND_QUEUE_STREAMS) {
            send_queue_send(queue);
        }
        if (queue->count == 0) {
            event_active(&queue->event, EV_TIMEOUT, 0);
        }
        entry = &queue->entries[queue->count++];
        entry->stream = stream;
        entry->size = 0;
        stream->queued = entry;
    }
    memcpy(entry->bytes + entry->size, bytes.data, bytes.size);
    entry->size += bytes.size;
    return true;
}

struct slice send_queue_take(struct stream *stream)
{
    struct send_entry *entry = stream->queued;
    if (entry == NULL) {
        return slice_make(NULL, 0);
    }
    entry->stream = NULL;
    stream->queued = NULL;
    return slice_make(entry->bytes, entry->size);
}
