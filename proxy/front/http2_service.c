/*
 * Requests to services that speak HTTP/2 (http2_service.h), on connections that they share
 * (http2_connection.c).
 *
 *   exchange ==pipe== lane --\
 *   exchange ==pipe== lane ---+--> connection
 *   exchange ==pipe== lane --/
 *
 *   lane:  IDLE --head--> on a connection --its stream has closed--> IDLE, or the pipe is closed
 *
 * Invariants
 *   - a lane is freed by a task of its own (finish_lane()), for callbacks of it may be on the
 * stack;
 *   - a lane with a stream is freed only after that has closed: nghttp2 may ask it for data.
 *
 * Thread: the worker's.
 */
#include "front/http2_service.h"

#include <stdlib.h>

#include "front/grpc.h"
#include "front/http2_service_private.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"

/* ------------------------------------------------------------------ the end of a lane */

static void free_lane(struct service_lane *lane)
{
    *(lane->previous == NULL ? &lane->services->lanes : &lane->previous->next) = lane->next;
    if (lane->next != NULL) {
        lane->next->previous = lane->previous;
    }
    http2_lane_close(&lane->lane, true);
    http2_fields_free(&lane->lane.fields);
    buffer_free(&lane->kept);
    free(lane);
}

static void on_finish_lane(struct worker_task *task)
{
    free_lane((struct service_lane *)(void *)((uint8_t *)task -
                                              offsetof(struct service_lane, finish_task)));
}

/* Its pipe is closed, and it has no stream. */
static void finish_lane(struct service_lane *lane)
{
    if (!lane->finishing) {
        lane->finishing = true;
        lane->finish_task.run = on_finish_lane;
        worker_post(lane->services->owner->worker, &lane->finish_task);
    }
}

static void close_pipe(struct service_lane *lane, bool orderly)
{
    http2_lane_close(&lane->lane, orderly);
    buffer_free(&lane->kept);
    finish_lane(lane);
}

/* Answers in the service's place: no handler of it has run, or will. */
static void answer_locally(struct service_lane *lane, enum error_answer answer)
{
    struct buffer text;
    buffer_init(&text, ERROR_ANSWER_BYTES_MAX);
    bool well = error_answer_append(
                    answer, NULL,
                    &(struct error_answer_form){.to_head = lane->to_head, .is_grpc = lane->is_grpc},
                    &text) == STATUS_OK;
    if (well) {
        http2_lane_send_head(&lane->lane, buffer_slice(&text));
    }
    buffer_free(&text);
    close_pipe(lane, well);
}

/* Whether no request of its kind can go there: else, as that service has chosen HTTP/2 before, the
   next one is spoken to as it chooses then. */
static bool is_mistaken(const struct service_lane *lane)
{
    return lane->to_stranger && (lane->service->protocol == FRONT_HTTP2 || lane->is_grpc);
}

static void lose(struct service_lane *lane)
{
    struct front_counters *counters = &lane->services->owner->shared->counters;
    (void)atomic_fetch_add(&counters->services_lost, 1);
    /* One that has changed what it speaks is there. */
    if (lane->service->is_instance && (!lane->to_stranger || is_mistaken(lane))) {
        domain_instance_failed(lane->service->domain, lane->service->number);
    }
    LOG(LOG_WARNING, "http",
        lane->to_stranger ? "The service does not speak HTTP/2 (http.upstreamProtocol)"
                          : "Cannot connect to the service, or it did not begin with a request",
        LOG_TEXT("service", lane->service->name), LOG_TEXT("address", lane->service->service_text),
        LOG_TEXT_IF("reason", lane->reason));
    answer_locally(lane, is_mistaken(lane) ? ERROR_ANSWER_NOT_HTTP2 : ERROR_ANSWER_SERVICE_LOST);
}

static void never_ran(struct service_lane *lane, bool may_retry)
{
    if (!may_retry || !lane->keeps || lane->retried || lane->begun) {
        lose(lane);
        return;
    }
    struct buffer request = lane->kept;
    buffer_init(&lane->kept, HTTP2_KEPT_BYTES_MAX);
    http2_lane_reset(&lane->lane);
    lane->retried = true;
    http2_lane_take_text(&lane->lane, buffer_slice(&request)); /* submit(), as at first */
    buffer_free(&request);
}

/* What did not fit into the pipe yet would be lost with it. */
static void close_drained(struct service_lane *lane)
{
    if (stream_pending(&lane->lane.pipe) == 0) {
        close_pipe(lane, true);
    }
}

/* Its stream has closed, or never was. */
void service_lane_over(struct service_lane *lane, bool unprocessed, bool may_retry)
{
    struct http2_connection *connection = lane->connection;
    if (connection == NULL) {
        return; /* it is over already */
    }
    bool whole = lane->lane.in == HTTP2_DONE;
    bool taken = lane->lane.out == HTTP2_DONE && /* all of the request */
                 lane->lane.in_body != HTTP2_BODY_CLOSE;
    lane->connection = NULL;
    lane->lane.session = NULL;
    lane->lane.stream = -1;
    if (--connection->streams == 0) {
        connection->idle_since_ms = clock_monotonic_ms();
        worker_timer_start(&connection->timer, lane->services->owner->shared->idle_ms);
    }
    http2_connection_again(connection);
    if (lane->lane.pipe.descriptor < 0) {
        finish_lane(lane);
    } else if (whole && taken) {
        http2_lane_reset(&lane->lane);
        stream_kick(&lane->lane.pipe); /* the next request may be there */
        buffer_free(&lane->kept);
    } else if (whole) {
        /* The rest of the request is wanted by nobody, or the end of the pipe is that of the
         * answer. */
        lane->closes = true;
        close_drained(lane);
    } else if (unprocessed && !lane->begun) {
        never_ran(lane, may_retry);
    } else {
        close_pipe(lane, false);
    }
}

/* ------------------------------------------------------------------ answers */

static struct service_lane *find_lane(nghttp2_session *session, int32_t stream)
{
    return stream == 0 ? NULL : nghttp2_session_get_stream_user_data(session, stream);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct service_lane *lane = find_lane(session, frame->hd.stream_id);
    (void)context;
    if (lane != NULL) {
        http2_fields_clear(&lane->lane.fields);
    }
    return 0;
}

/* A head, of an answer or of 1xx. */
static bool take_head(struct service_lane *lane, bool ended)
{
    struct buffer text;
    buffer_init(&text, HEAD_BYTES_MAX);
    bool interim = lane->lane.fields.status < 200;
    bool well = lane->lane.fields.status != 101 &&
                http2_write_answer(&lane->lane.fields, ended, lane->to_head, lane->old, &text,
                                   &lane->lane.in_body) == STATUS_OK;
    if (well) {
        http2_lane_send_head(&lane->lane, buffer_slice(&text));
        lane->begun = true;
        lane->keeps = false;
        buffer_free(&lane->kept);
        lane->lane.in = interim ? HTTP2_HEAD : HTTP2_BODY;
    }
    buffer_free(&text);
    http2_fields_clear(&lane->lane.fields);
    return well;
}

static bool take_headers(struct service_lane *lane, bool ended)
{
    if (lane->lane.in == HTTP2_BODY) {
        return http2_lane_end_in(&lane->lane, true);
    }
    if (!take_head(lane, ended)) {
        return false;
    }
    return !ended || lane->lane.in != HTTP2_BODY || http2_lane_end_in(&lane->lane, false);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct http2_connection *connection = context;
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (!http2_budget_pay(&connection->peer.budget, frame)) {
        (void)nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
        return 0;
    }
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        connection->draining = true;
    }
    struct service_lane *lane = find_lane(session, frame->hd.stream_id);
    if (lane == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        if (!take_headers(lane, ended)) {
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                            NGHTTP2_PROTOCOL_ERROR);
        }
    } else if (frame->hd.type == NGHTTP2_DATA && ended) {
        (void)http2_lane_end_in(&lane->lane, false);
    }
    if (ended && nghttp2_session_get_stream_local_close(session, frame->hd.stream_id) == 0) {
        /* Answered before its end: the rest of the request is not wanted. */
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_NO_ERROR);
    }
    return 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct http2_connection *connection = context;
    struct service_lane *lane = find_lane(session, frame->hd.stream_id);
    if (lane != NULL && frame->hd.type == NGHTTP2_HEADERS) {
        lane->sent = true;
    }
    if (frame->hd.type == NGHTTP2_DATA) {
        http2_budget_earn(&connection->peer.budget);
    }
    return 0;
}

/* Also of a request that was never sent, for the service lets no one send any more, or its caller
   has left: nghttp2 closes its stream with REFUSED_STREAM, or the code that it was to be reset
   with. */
static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *context)
{
    struct service_lane *lane = find_lane(session, stream);
    (void)context;
    if (lane != NULL) {
        (void)nghttp2_session_set_stream_user_data(session, stream, NULL);
        service_lane_over(lane, code == NGHTTP2_REFUSED_STREAM || code == NGHTTP2_HTTP_1_1_REQUIRED,
                          code == NGHTTP2_REFUSED_STREAM);
    }
    return 0;
}

const struct http2_handlers service_lane_handlers = {
    .begin_headers = on_begin_headers,
    .received = on_frame,
    .sent = on_sent,
    .closed = on_stream_close,
};

/* ------------------------------------------------------------------ requests */

static struct service_lane *of_lane(struct http2_lane *lane)
{
    return (struct service_lane *)lane;
}

static bool send_request(struct service_lane *lane, const struct http2_list *list)
{
    nghttp2_data_provider data = {.source.ptr = &lane->lane, .read_callback = http2_lane_read};
    struct http2_connection *connection = http2_connection_find(lane->services, lane->service);
    if (connection == NULL) {
        return false;
    }
    int32_t stream =
        nghttp2_submit_request(connection->peer.session, NULL, list->fields, list->count,
                               lane->lane.out == HTTP2_DONE ? NULL : &data, lane);
    if (stream < 0) {
        connection->draining = true; /* it has no ids left */
        http2_connection_again(connection);
        return false;
    }
    if (connection->streams++ == 0 && !connection->stream.connecting) {
        (void)event_del(&connection->timer);
    }
    lane->connection = connection;
    lane->lane.session = connection->peer.session;
    lane->lane.stream = stream;
    http2_connection_again(connection);
    return true;
}

static bool submit(struct http2_lane *lane, struct slice head)
{
    struct service_lane *own = of_lane(lane);
    struct http_head parsed;
    struct http2_list list;
    const char *reason = "";
    own->sent = own->begun = own->to_stranger = false;
    if (head_parse_request(head, &parsed, &reason) != STATUS_OK) {
        close_pipe(own, false); /* the exchange has read it before */
        return false;
    }
    own->to_head = head_is_word(parsed.method, "HEAD");
    own->old = parsed.minor_version == 0;
    own->is_grpc = grpc_is_type(parsed.content_type);
    http2_lane_begin_body(lane, parsed.framing, parsed.length);
    enum status status = http2_read_request(head, &parsed, own->service->tls != NULL, &list);
    if (status == STATUS_UNSUPPORTED) {
        answer_locally(own, ERROR_ANSWER_NO_TUNNEL);
        return false;
    }
    if (status != STATUS_OK) {
        lose(own);
        return false;
    }
    bool sent = send_request(own, &list);
    http2_list_free(&list);
    if (!sent) {
        lose(own);
    }
    return sent;
}

/* The exchange has closed it: its request is given up, or nothing was under way. */
static void pipe_ended(struct http2_lane *lane, bool malformed)
{
    struct service_lane *own = of_lane(lane);
    if (own->connection == NULL) {
        close_pipe(own, !malformed);
        return;
    }
    (void)nghttp2_submit_rst_stream(own->connection->peer.session, NGHTTP2_FLAG_NONE, lane->stream,
                                    NGHTTP2_CANCEL);
    stream_close(&lane->pipe); /* on_stream_close() finishes the lane */
    http2_connection_again(own->connection);
}

static void worked(struct http2_lane *lane)
{
    struct service_lane *own = of_lane(lane);
    if (own->connection != NULL) {
        http2_connection_again(own->connection);
    } else if (own->closes && !own->finishing) {
        close_drained(own);
    }
}

static void received(struct http2_lane *lane, struct slice bytes)
{
    struct service_lane *own = of_lane(lane);
    if (lane->out == HTTP2_HEAD && lane->text.size == 0) {
        buffer_clear(&own->kept);
        own->keeps = true;
        own->retried = false;
    }
    if (own->keeps && buffer_append(&own->kept, bytes.data, bytes.size) != STATUS_OK) {
        own->keeps = false;
        buffer_free(&own->kept);
    }
}

static const struct http2_role role = {
    .close_gives_up = true,
    .submit = submit,
    .pipe_ended = pipe_ended,
    .worked = worked,
    .received = received,
};

/* ------------------------------------------------------------------ for the front */

enum status http2_service_open(struct front_worker *owner, const struct front_service *service,
                               const struct stream_pair_end *end)
{
    if (owner->stopping) {
        return STATUS_UNREACHABLE;
    }
    if (owner->http2 == NULL) {
        owner->http2 = calloc(1, sizeof *owner->http2);
        if (owner->http2 == NULL) {
            return STATUS_MEMORY;
        }
        owner->http2->owner = owner;
    }
    struct service_lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL) {
        return STATUS_MEMORY;
    }
    lane->services = owner->http2;
    lane->service = service;
    buffer_init(&lane->kept, HTTP2_KEPT_BYTES_MAX);
    http2_lane_init(&lane->lane, &role, worker_receive_buffer(owner->worker));
    enum status status =
        stream_pair_open(worker_base(owner->worker), end,
                         &(struct stream_pair_end){.stream = &lane->lane.pipe,
                                                   .callbacks = &http2_lane_callbacks,
                                                   .context = &lane->lane});
    if (status != STATUS_OK) {
        free(lane);
        return status;
    }
    lane->next = owner->http2->lanes;
    if (lane->next != NULL) {
        lane->next->previous = lane;
    }
    owner->http2->lanes = lane;
    return STATUS_OK;
}

void http2_services_stop(struct front_worker *owner)
{
    struct http2_services *services = owner->http2;
    struct service_lane *next;
    if (services == NULL) {
        return;
    }
    for (struct service_lane *lane = services->lanes; lane != NULL; lane = lane->next) {
        stream_close(&lane->lane.pipe);
    }
    while (services->connections != NULL) {
        http2_connection_end(services->connections, false);
    }
    for (struct service_lane *lane = services->lanes; lane != NULL; lane = next) {
        next = lane->next;
        if (!lane->finishing) {
            free_lane(lane);
        }
    }
    /* Lanes that are about to be freed still look at it: front_free() ends it. */
}
