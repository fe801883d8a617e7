/*
 * Between a stream of an HTTP/2 session and an exchange (http2_lane.h).
 *
 *    in, out:   HEAD --a final head--> BODY --its end--> DONE --http2_lane_reset()--> HEAD
 *
 * Invariants
 *   - `unconsumed` is 0 while nothing waits in the pipe for the exchange;
 *   - in BODY nghttp2 is deferred only while `body` is empty and more is to come.
 *
 * Thread: the session's.
 */
#include "front/http2_lane.h"

#include <stdio.h>
#include <string.h>

#include "holdfast/limits.h"

/* A head, and what came with it. */
#define TEXT_READ_BYTES (16u * 1024u)

void http2_lane_init(struct http2_lane *lane, const struct http2_role *role, uint8_t *scratch)
{
    lane->role = role;
    lane->scratch = scratch;
    lane->stream = -1;
    stream_init(&lane->pipe);
    http2_fields_init(&lane->fields);
    buffer_init(&lane->text, HEAD_BYTES_MAX + TEXT_READ_BYTES);
    buffer_init(&lane->body, HTTP2_BODY_BYTES_MAX + HEAD_BYTES_MAX + TEXT_READ_BYTES);
    buffer_init(&lane->trailers, FRAMING_TRAILER_BYTES_MAX + 2u);
}

void http2_lane_reset(struct http2_lane *lane)
{
    lane->session = NULL;
    lane->stream = -1;
    lane->in = HTTP2_HEAD;
    lane->in_body = HTTP2_BODY_NONE;
    lane->unconsumed = 0;
    lane->refused = false;
    http2_fields_clear(&lane->fields);
    lane->out = HTTP2_HEAD;
    lane->scan = (struct head_scan){0};
    lane->given = 0;
    lane->deferred = false;
    buffer_free(&lane->text);
    buffer_free(&lane->body);
    buffer_free(&lane->trailers);
}

void http2_lane_close(struct http2_lane *lane, bool orderly)
{
    if (orderly) {
        stream_close(&lane->pipe);
    } else {
        stream_abort(&lane->pipe);
    }
    http2_lane_reset(lane);
}

/* ------------------------------------------------------------------ frames to text */

static void consume(struct http2_lane *lane)
{
    if (lane->unconsumed > 0 && lane->session != NULL && stream_pending(&lane->pipe) == 0) {
        (void)nghttp2_session_consume_stream(lane->session, lane->stream, lane->unconsumed);
        lane->unconsumed = 0;
    }
}

static void send_text(struct http2_lane *lane, struct slice bytes)
{
    /* Who has gone does not want it; a lane without memory for it is found broken there. */
    enum status status = stream_send(&lane->pipe, bytes);
    if (status == STATUS_MEMORY || status == STATUS_LIMIT) {
        stream_abort(&lane->pipe);
    }
}

void http2_lane_send_head(struct http2_lane *lane, struct slice text)
{
    send_text(lane, text);
}

void http2_lane_take_data(struct http2_lane *lane, struct slice bytes)
{
    char size[24];
    if (bytes.size == 0) {
        return;
    }
    if (lane->in_body == HTTP2_BODY_CHUNKED) {
        (void)snprintf(size, sizeof size, "%zx\r\n", bytes.size);
        send_text(lane, slice_text(size));
    }
    if (lane->in_body != HTTP2_BODY_NONE) {
        send_text(lane, bytes);
    }
    if (lane->in_body == HTTP2_BODY_CHUNKED) {
        send_text(lane, slice_text("\r\n"));
    }
    lane->unconsumed += bytes.size;
    consume(lane);
}

bool http2_lane_end_in(struct http2_lane *lane, bool trailers)
{
    struct buffer text;
    bool well = true;
    lane->in = HTTP2_DONE;
    if (lane->in_body != HTTP2_BODY_CHUNKED) {
        return true; /* there is no place for trailers */
    }
    if (!trailers) {
        send_text(lane, slice_text("0\r\n\r\n"));
        return true;
    }
    buffer_init(&text, 2u * HTTP2_FIELDS_BYTES_MAX);
    well = http2_write_trailers(&lane->fields, &text) == STATUS_OK;
    if (well) {
        send_text(lane, buffer_slice(&text));
    } else {
        lane->in = HTTP2_BODY; /* its end never came: who reads it is to see it break */
    }
    buffer_free(&text);
    http2_fields_clear(&lane->fields);
    return well;
}

/* ------------------------------------------------------------------ text to frames */

static ssize_t end_of_data(struct http2_lane *lane, nghttp2_session *session, uint32_t *flags)
{
    struct http2_list list;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (lane->trailers.size > 0) {
        if (http2_read_trailers(buffer_slice(&lane->trailers), &list) != STATUS_OK) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        if (list.count > 0 &&
            nghttp2_submit_trailer(session, lane->stream, list.fields, list.count) == 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        }
        http2_list_free(&list);
    }
    return 0;
}

static ssize_t read_data(nghttp2_session *session, int32_t stream, uint8_t *memory, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, void *context)
{
    struct http2_lane *lane = source->ptr;
    (void)stream;
    (void)context;
    size_t given = lane->body.size < size ? lane->body.size : size;
    if (given > 0) {
        memcpy(memory, lane->body.data, given);
        buffer_consume(&lane->body, given);
        lane->given += given;
        stream_kick(&lane->pipe); /* there is room for more */
    }
    if (lane->body.size > 0) {
        return (ssize_t)given;
    }
    buffer_free(&lane->body);
    if (lane->out == HTTP2_DONE) {
        ssize_t failed = end_of_data(lane, session, flags);
        return failed < 0 ? failed : (ssize_t)given;
    }
    if (given > 0) {
        return (ssize_t)given;
    }
    lane->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
}

const nghttp2_data_source_read_callback http2_lane_read = read_data;

void http2_lane_begin_body(struct http2_lane *lane, enum framing_kind kind, uint64_t length)
{
    framing_start(&lane->framing, kind, length, true);
    lane->given = 1;
    lane->out = framing_is_complete(&lane->framing) ? HTTP2_DONE : HTTP2_BODY;
}

/* How much of `bytes` is done with. */
static size_t take_head(struct http2_lane *lane, struct slice bytes, bool *ret_failed)
{
    size_t size = 0;
    switch (head_find_end(&lane->scan, bytes, &size)) {
    case HEAD_MORE:
        return 0;
    case HEAD_WHOLE:
        lane->scan = (struct head_scan){0};
        *ret_failed = !lane->role->submit(lane, slice_front(bytes, size));
        return size;
    case HEAD_MALFORMED:
    case HEAD_TOO_LARGE:
        break;
    }
    lane->role->pipe_ended(lane, true);
    *ret_failed = true;
    return 0;
}

static size_t take_body(struct http2_lane *lane, struct slice bytes, bool *ret_failed)
{
    struct framing_part part;
    enum framing_result result = framing_take_part(&lane->framing, bytes, &part);
    bool kept = buffer_append(&lane->body, part.body.data, part.body.size) == STATUS_OK &&
                buffer_append(&lane->trailers, part.trailers.data, part.trailers.size) == STATUS_OK;
    if (result == FRAMING_MALFORMED || !kept) {
        lane->role->pipe_ended(lane, true);
        *ret_failed = true;
        return 0;
    }
    if (result == FRAMING_COMPLETE) {
        lane->out = HTTP2_DONE;
    }
    return part.used;
}

/* nghttp2 asks for data again. */
static void resume(struct http2_lane *lane)
{
    if (lane->deferred && lane->session != NULL &&
        (lane->body.size > 0 || lane->out == HTTP2_DONE)) {
        lane->deferred = false;
        (void)nghttp2_session_resume_data(lane->session, lane->stream);
    }
}

bool http2_lane_end_out(struct http2_lane *lane)
{
    if (lane->out == HTTP2_BODY && lane->framing.kind == FRAMING_CLOSE && !lane->pipe.broken) {
        lane->out = HTTP2_DONE;
        resume(lane);
    }
    return lane->out == HTTP2_DONE;
}

void http2_lane_take_text(struct http2_lane *lane, struct slice bytes)
{
    size_t at = 0;
    bool failed = false;
    if (lane->text.size > 0) {
        if (buffer_append(&lane->text, bytes.data, bytes.size) != STATUS_OK) {
            lane->role->pipe_ended(lane, true);
            return;
        }
        bytes = buffer_slice(&lane->text);
    }
    while (!failed && at < bytes.size && lane->out != HTTP2_DONE) {
        struct slice rest = slice_rest(bytes, at);
        size_t done = lane->out == HTTP2_HEAD ? take_head(lane, rest, &failed)
                                              : take_body(lane, rest, &failed);
        if (done == 0) {
            break;
        }
        at += done;
    }
    if (failed) {
        return; /* of the lane nothing is known any more */
    }
    if (lane->text.size > 0) {
        buffer_consume(&lane->text, at);
    } else if (at < bytes.size && lane->out == HTTP2_HEAD) {
        struct slice rest = slice_rest(bytes, at);
        if (buffer_append(&lane->text, rest.data, rest.size) != STATUS_OK) {
            lane->role->pipe_ended(lane, true);
            return;
        }
    }
    resume(lane);
}

/* How much may be read now; 0: nothing. */
static size_t bytes_wanted(const struct http2_lane *lane)
{
    if (lane->out == HTTP2_HEAD) {
        return TEXT_READ_BYTES;
    }
    if (lane->out == HTTP2_DONE) {
        return 0; /* what follows is the next one's */
    }
    return lane->body.size < HTTP2_BODY_BYTES_MAX ? HTTP2_BODY_BYTES_MAX - lane->body.size : 0;
}

/* Whether there is nothing more to be done through the pipe, however much of it waits. */
static bool is_over(const struct http2_lane *lane)
{
    if (stream_pair_is_aborted(&lane->pipe)) {
        return true;
    }
    return lane->role->close_gives_up
               ? stream_pair_is_alone(&lane->pipe)
               : lane->out == HTTP2_DONE && stream_pair_has_ended(&lane->pipe);
}

void http2_lane_work(struct http2_lane *lane)
{
    size_t wanted;
    if (is_over(lane)) {
        lane->pipe.broken = stream_pair_is_aborted(&lane->pipe);
        lane->role->pipe_ended(lane, false);
        return;
    }
    while ((wanted = bytes_wanted(lane)) > 0) {
        size_t size = 0;
        enum status status = stream_receive(&lane->pipe, lane->scratch, wanted, &size);
        if (status == STATUS_NOT_FOUND) {
            break;
        }
        if (status != STATUS_OK && lane->role->close_gives_up) {
            break;
        }
        if (status != STATUS_OK) {
            lane->role->pipe_ended(lane, false);
            return;
        }
        if (lane->role->received != NULL) {
            lane->role->received(lane, slice_make(lane->scratch, size));
        }
        http2_lane_take_text(lane, slice_make(lane->scratch, size));
        if (lane->pipe.descriptor < 0) {
            return;
        }
    }
    lane->role->worked(lane);
}

static void on_readable(void *context)
{
    http2_lane_work(context);
}

static void on_drained(void *context)
{
    struct http2_lane *lane = context;
    consume(lane);
    lane->role->worked(lane);
}

const struct stream_callbacks http2_lane_callbacks = {
    .readable = on_readable,
    .drained = on_drained,
};
