/*
 * The HTTP/2 session with a caller (http2_caller.h).
 *
 *    stream:  HEADERS --> a lane, idle or new --> exchange ... answer --> closed --> lane: idle
 *                 `--> refused: too large, malformed, no room      `--> reset: lane: freed
 *
 * An idle lane keeps its exchange, and that its connection to the service, as a caller's connection
 * of HTTP/1.1 does between two requests.
 *
 * Lanes are freed in on_stream_close() and http2_caller_free() only, or while they have no stream.
 * Thread: the host's.
 */
#include "front/http2_caller.h"

#include <stdlib.h>

#include "front/http2.h"
#include "front/http2_lane.h"

/* More would only keep memory: they are for callers that ask again at once. */
#define IDLE_LANES_MAX 16u

struct caller_lane {
    struct http2_lane lane;
    struct http2_caller *caller;
    struct caller_lane *next;
    struct caller_lane *previous;
    bool idle;
    bool kept_alive; /* the answer lets the exchange go on */
    bool to_head;
    uint64_t given_before; /* http2_caller_end_stalled(): lane.given then */
};

struct http2_caller {
    struct http2_peer peer; /* the first */
    struct http2_caller_host host;
    struct caller_lane *lanes;
    size_t streams;
    size_t idle;
    bool ending;
};

/* The lane is the first of it. */
static struct caller_lane *of_lane(struct http2_lane *lane)
{
    return (struct caller_lane *)lane;
}

static void again(struct http2_caller *caller)
{
    caller->host.again(caller->host.context);
}

/* ------------------------------------------------------------------ lanes */

/* `orderly`: its exchange has nothing under way. */
static void free_lane(struct caller_lane *lane, bool orderly)
{
    struct http2_caller *caller = lane->caller;
    *(lane->previous == NULL ? &caller->lanes : &lane->previous->next) = lane->next;
    if (lane->next != NULL) {
        lane->next->previous = lane->previous;
    }
    caller->idle -= lane->idle;
    http2_lane_close(&lane->lane, orderly);
    http2_fields_free(&lane->lane.fields);
    free(lane);
}

static bool submit_answer(struct http2_lane *lane, struct slice head);
static void pipe_ended(struct http2_lane *lane, bool malformed);

static void worked(struct http2_lane *lane)
{
    again(of_lane(lane)->caller);
}

static const struct http2_role role = {
    .submit = submit_answer,
    .pipe_ended = pipe_ended,
    .worked = worked,
};

static struct caller_lane *make_lane(struct http2_caller *caller)
{
    struct caller_lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL) {
        return NULL;
    }
    lane->caller = caller;
    http2_lane_init(&lane->lane, &role, caller->host.scratch);
    lane->next = caller->lanes;
    if (caller->lanes != NULL) {
        caller->lanes->previous = lane;
    }
    caller->lanes = lane;
    return lane;
}

/* One with an exchange that waits for a request, if there is one. */
static struct caller_lane *find_idle(struct http2_caller *caller)
{
    struct caller_lane *next;
    for (struct caller_lane *lane = caller->lanes; lane != NULL; lane = next) {
        next = lane->next;
        if (!lane->idle) {
            continue;
        }
        if (stream_pair_is_quiet(&lane->lane.pipe)) {
            lane->idle = false;
            caller->idle--;
            return lane;
        }
        free_lane(lane, true);
    }
    return NULL;
}

static bool has_pipe(const struct caller_lane *lane)
{
    return lane->lane.pipe.descriptor >= 0;
}

static bool open_pipe(struct caller_lane *lane)
{
    struct http2_caller *caller = lane->caller;
    struct stream_pair_end end = {
        .stream = &lane->lane.pipe,
        .callbacks = &http2_lane_callbacks,
        .context = &lane->lane,
    };
    return has_pipe(lane) || caller->host.open(caller->host.context, &end);
}

/* ------------------------------------------------------------------ answers */

/* Its request is over, one way or the other. */
static void reset_stream(struct caller_lane *lane, uint32_t code)
{
    (void)nghttp2_submit_rst_stream(lane->caller->peer.session, NGHTTP2_FLAG_NONE,
                                    lane->lane.stream, code);
    again(lane->caller);
}

/* An answer of our own without an exchange. */
static void refuse(struct caller_lane *lane, const char *status, const char *reason)
{
    nghttp2_nv field = {
        .name = (uint8_t *)(uintptr_t) ":status",
        .namelen = 7,
        .value = (uint8_t *)(uintptr_t)status,
        .valuelen = 3,
    };
    struct http2_caller *caller = lane->caller;
    lane->lane.refused = true;
    lane->lane.out = HTTP2_DONE;
    caller->host.refused(caller->host.context, reason);
    (void)nghttp2_submit_response(caller->peer.session, lane->lane.stream, &field, 1, NULL);
    again(caller);
}

static int submit_list(struct caller_lane *lane, const struct http2_list *list, bool interim)
{
    nghttp2_session *session = lane->caller->peer.session;
    nghttp2_data_provider data = {.source.ptr = &lane->lane, .read_callback = http2_lane_read};
    if (interim) {
        return nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, lane->lane.stream, NULL,
                                      list->fields, list->count, NULL);
    }
    return nghttp2_submit_response(session, lane->lane.stream, list->fields, list->count,
                                   lane->lane.out == HTTP2_DONE ? NULL : &data);
}

static bool submit_answer(struct http2_lane *lane, struct slice head)
{
    struct caller_lane *own = of_lane(lane);
    struct http_head parsed;
    struct http2_list list;
    const char *reason = "";
    if (lane->session == NULL ||
        head_parse_answer(head, own->to_head, &parsed, &reason) != STATUS_OK) {
        pipe_ended(lane, true);
        return false;
    }
    bool interim = parsed.status < 200;
    if (!interim) {
        own->kept_alive = parsed.keep_alive;
        http2_lane_begin_body(lane, parsed.framing, parsed.length);
    }
    bool bodiless = !interim && lane->out == HTTP2_DONE;
    if (parsed.status == 101 ||
        http2_read_answer(head, &parsed, bodiless && !own->to_head, &list) != STATUS_OK) {
        pipe_ended(lane, true);
        return false;
    }
    bool submitted = submit_list(own, &list, interim) == 0;
    http2_list_free(&list);
    if (!submitted) {
        pipe_ended(lane, true);
    }
    return submitted;
}

static void pipe_ended(struct http2_lane *lane, bool malformed)
{
    struct caller_lane *own = of_lane(lane);
    if (lane->session == NULL) {
        stream_close(&lane->pipe); /* between two requests; find_idle() frees it */
        return;
    }
    if (malformed || !http2_lane_end_out(lane)) {
        reset_stream(own, NGHTTP2_INTERNAL_ERROR);
        lane->refused = true;
    }
    stream_close(&lane->pipe);
    again(own->caller);
}

/* ------------------------------------------------------------------ requests */

/* Its head has come; what follows it goes the same way. */
static void begin_request(struct caller_lane *lane, bool ended)
{
    struct buffer text;
    buffer_init(&text, HEAD_BYTES_MAX);
    enum status status = http2_write_request(&lane->lane.fields, ended, &text, &lane->lane.in_body);
    lane->to_head = slice_equal(buffer_slice(&lane->lane.fields.method), slice_text("HEAD"));
    if (status == STATUS_LIMIT) {
        refuse(lane, "431", "its head is too large");
    } else if (status == STATUS_INVALID) {
        refuse(lane, "400", "no request of HTTP/1.1 says what it says");
    } else if (status != STATUS_OK || !open_pipe(lane)) {
        lane->lane.refused = true;
        reset_stream(lane, NGHTTP2_REFUSED_STREAM);
    } else {
        http2_lane_send_head(&lane->lane, buffer_slice(&text));
        lane->lane.in = HTTP2_BODY;
    }
    buffer_free(&text);
    http2_fields_clear(&lane->lane.fields);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct http2_caller *caller = context;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct caller_lane *lane = find_idle(caller);
    lane = lane == NULL ? make_lane(caller) : lane;
    if (lane == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    lane->lane.session = session;
    lane->lane.stream = frame->hd.stream_id;
    lane->kept_alive = lane->to_head = false;
    caller->streams++;
    (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, lane);
    return 0;
}

static void take_headers(struct caller_lane *lane, const nghttp2_frame *frame)
{
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        begin_request(lane, ended);
    }
    if (ended && lane->lane.in == HTTP2_BODY) {
        bool trailers = frame->headers.cat != NGHTTP2_HCAT_REQUEST;
        if (!http2_lane_end_in(&lane->lane, trailers)) {
            reset_stream(lane, NGHTTP2_PROTOCOL_ERROR);
        }
    } else if (ended) {
        lane->lane.in = HTTP2_DONE;
    }
}

/* Anything else that a frame says is nghttp2's to see to. */
static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct http2_caller *caller = context;
    if (!http2_budget_pay(&caller->peer.budget, frame)) {
        if (!caller->ending) {
            caller->ending = true;
            caller->host.refused(caller->host.context,
                                 "it sends more resets, pings or settings than anybody needs");
        }
        (void)nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
        return 0;
    }
    struct caller_lane *lane = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (frame->hd.stream_id == 0 || lane == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        take_headers(lane, frame);
    } else if (frame->hd.type == NGHTTP2_DATA && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        (void)http2_lane_end_in(&lane->lane, false);
    }
    return 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct http2_caller *caller = context;
    bool carries = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (!carries) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_DATA) {
        http2_budget_earn(&caller->peer.budget);
    }
    const struct caller_lane *lane =
        nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (lane != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
        lane->lane.in != HTTP2_DONE) {
        /* Answered before its end: the rest of the request is not wanted. */
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_NO_ERROR);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *context)
{
    struct http2_caller *caller = context;
    struct caller_lane *lane = nghttp2_session_get_stream_user_data(session, stream);
    if (lane == NULL) {
        return 0;
    }
    (void)nghttp2_session_set_stream_user_data(session, stream, NULL);
    caller->streams--;
    bool whole = code == NGHTTP2_NO_ERROR && lane->lane.in == HTTP2_DONE &&
                 lane->lane.out == HTTP2_DONE && !lane->lane.refused && lane->kept_alive;
    if (!whole || caller->idle >= IDLE_LANES_MAX || !has_pipe(lane)) {
        free_lane(lane, whole);
        return 0;
    }
    http2_lane_reset(&lane->lane);
    lane->idle = true;
    caller->idle++;
    return 0;
}

/* ------------------------------------------------------------------ the session */

static const struct http2_handlers handlers = {
    .begin_headers = on_begin_headers,
    .received = on_frame,
    .sent = on_sent,
    .closed = on_stream_close,
};

struct http2_caller *http2_caller_new(const struct http2_caller_host *host)
{
    struct http2_caller *caller = calloc(1, sizeof *caller);
    if (caller == NULL) {
        return NULL;
    }
    caller->host = *host;
    return http2_peer_start(&caller->peer, &handlers, true) ? caller : http2_caller_free(caller);
}

struct http2_caller *http2_caller_free(struct http2_caller *caller)
{
    if (caller == NULL) {
        return NULL;
    }
    nghttp2_session_del(caller->peer.session); /* calls nothing back */
    while (caller->lanes != NULL) {
        free_lane(caller->lanes, caller->lanes->idle);
    }
    free(caller);
    return NULL;
}

bool http2_caller_receive(struct http2_caller *caller, struct slice bytes)
{
    ssize_t taken = nghttp2_session_mem_recv(caller->peer.session, bytes.data, bytes.size);
    again(caller);
    return taken >= 0;
}

bool http2_caller_send(struct http2_caller *caller, struct stream *to)
{
    return http2_session_send(caller->peer.session, to) &&
           (stream_pending(to) > 0 || nghttp2_session_want_read(caller->peer.session) != 0 ||
            nghttp2_session_want_write(caller->peer.session) != 0);
}

size_t http2_caller_streams(const struct http2_caller *caller)
{
    return caller->streams;
}

void http2_caller_end_stalled(struct http2_caller *caller)
{
    for (struct caller_lane *lane = caller->lanes; lane != NULL; lane = lane->next) {
        bool waits = lane->lane.session != NULL &&
                     (lane->lane.body.size > 0 || lane->lane.out == HTTP2_DONE);
        if (waits && lane->lane.given == lane->given_before) {
            caller->host.refused(caller->host.context, "it does not take its answer");
            lane->lane.refused = true;
            reset_stream(lane, NGHTTP2_CANCEL);
        }
        lane->given_before = waits ? lane->lane.given : 0;
    }
}

void http2_caller_drain(struct http2_caller *caller)
{
    if (!caller->ending) {
        caller->ending = true;
        (void)nghttp2_submit_goaway(caller->peer.session, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(caller->peer.session),
                                    NGHTTP2_NO_ERROR, NULL, 0);
        again(caller);
    }
}
