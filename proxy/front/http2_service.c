/*
 * Requests to services that speak HTTP/2 (http2_service.h).
 *
 *   exchange ==pipe== lane --\                  .-- connecting --> up --GOAWAY, stale--> draining
 *   exchange ==pipe== lane ---+--> connection --+                   |                        |
 *   exchange ==pipe== lane --/                  '--- failed --------+---- broken, idle ------+->
 * gone
 *
 *   lane:  IDLE --head--> on a connection --its stream has closed--> IDLE, or the pipe is closed
 *
 * Invariants
 *   - a lane is freed by a task of its own (finish_lane()), a connection likewise: their callbacks
 *     are perhaps on the stack;
 *   - a lane with a stream is freed only after that has closed: nghttp2 may ask it for data.
 *
 * Thread: the worker's.
 */
#include "front/http2_service.h"

#include <stdlib.h>

#include "front/exchange.h"
#include "front/grpc.h"
#include "front/http2.h"
#include "front/http2_lane.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"

/* Before other connections of the worker have their turn. */
#define READS_MAX 8

struct http2_connection {
    struct http2_services *services;
    struct http2_connection *next;
    struct http2_connection *previous;
    const struct front_service *service;
    struct stream stream;
    nghttp2_session *session;
    struct http2_budget budget;
    struct event turn;
    struct event timer; /* for connecting, and for being idle */
    struct worker_task finish_task;
    size_t streams;
    uint64_t idle_since_ms; /* with no streams */
    bool draining;          /* no new requests */
    bool greeted;           /* its first bytes were of HTTP/2 */
    bool stranger;          /* it does not */
    bool running;           /* run() is on the stack */
    bool gone;
};

struct service_lane {
    struct http2_lane lane; /* the first */
    struct http2_services *services;
    struct service_lane *next;
    struct service_lane *previous;
    const struct front_service *service;
    struct http2_connection *connection; /* NULL: none */
    struct buffer kept;                  /* the request as it came */
    bool keeps;
    bool retried;
    bool sent;  /* its first frame was */
    bool begun; /* something of the answer was passed on */
    bool to_head;
    bool is_grpc;
    bool to_stranger; /* its service speaks something else */
    bool finishing;
    struct worker_task finish_task;
};

struct http2_services {
    struct front_worker *owner;
    struct http2_connection *connections;
    struct service_lane *lanes;
};

static void again(struct http2_connection *connection)
{
    if (!connection->gone) {
        event_active(&connection->turn, EV_TIMEOUT, 0);
    }
}

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

static void lose(struct service_lane *lane)
{
    struct front_counters *counters = &lane->services->owner->shared->counters;
    (void)atomic_fetch_add(&counters->services_lost, 1);
    LOG(LOG_WARNING, "http",
        lane->to_stranger ? "The service does not speak HTTP/2 (http.upstreamProtocol)"
                          : "Cannot connect to the service, or it did not begin with a request",
        LOG_TEXT("service", lane->service->name), LOG_TEXT("address", lane->service->service_text));
    answer_locally(lane, lane->to_stranger ? ERROR_ANSWER_NOT_HTTP2 : ERROR_ANSWER_SERVICE_LOST);
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

/* Its stream has closed, or never was. */
static void stream_over(struct service_lane *lane, bool unprocessed, bool may_retry)
{
    struct http2_connection *connection = lane->connection;
    bool whole = lane->lane.in == HTTP2_DONE;
    bool taken = lane->lane.out == HTTP2_DONE; /* all of the request */
    lane->connection = NULL;
    lane->lane.session = NULL;
    lane->lane.stream = -1;
    if (--connection->streams == 0) {
        connection->idle_since_ms = clock_monotonic_ms();
        worker_timer_start(&connection->timer, lane->services->owner->shared->idle_ms);
    }
    again(connection);
    if (lane->lane.pipe.descriptor < 0) {
        finish_lane(lane);
    } else if (whole && taken) {
        http2_lane_reset(&lane->lane);
        stream_kick(&lane->lane.pipe); /* the next request may be there */
        buffer_free(&lane->kept);
    } else if (whole) {
        close_pipe(lane, true); /* the rest of the request is wanted by nobody */
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

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    struct service_lane *lane = find_lane(session, frame->hd.stream_id);
    (void)flags;
    (void)context;
    if (lane == NULL) {
        return 0;
    }
    http2_fields_add(&lane->lane.fields, slice_make(name, name_size),
                     slice_make(value, value_size));
    return lane->lane.fields.size > HTTP2_FIELDS_SPENT_BYTES ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A head, of an answer or of 1xx. */
static bool take_head(struct service_lane *lane, bool ended)
{
    struct buffer text;
    buffer_init(&text, HEAD_BYTES_MAX);
    bool interim = lane->lane.fields.status < 200;
    bool well = lane->lane.fields.status != 101 &&
                http2_write_answer(&lane->lane.fields, ended, lane->to_head, &text,
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
    if (!http2_budget_pay(&connection->budget, frame)) {
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

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *header, void *context)
{
    struct http2_connection *connection = context;
    (void)session;
    return http2_budget_begin(&connection->budget, header) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                   size_t size, void *context)
{
    struct http2_connection *connection = context;
    struct service_lane *lane = find_lane(session, stream);
    (void)flags;
    http2_budget_earn(&connection->budget);
    (void)nghttp2_session_consume_connection(session, size);
    if (lane == NULL || lane->lane.pipe.descriptor < 0) {
        (void)nghttp2_session_consume_stream(session, stream, size);
    } else {
        http2_lane_take_data(&lane->lane, slice_make(bytes, size));
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
        http2_budget_earn(&connection->budget);
    }
    return 0;
}

/* A request that nghttp2 had in its queue, and that the service lets no one send any more. */
static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int code,
                       void *context)
{
    struct http2_connection *connection = context;
    (void)session;
    (void)code;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct service_lane *next;
    for (struct service_lane *lane = connection->services->lanes; lane != NULL; lane = next) {
        next = lane->next;
        if (lane->connection == connection && lane->lane.stream == frame->hd.stream_id) {
            stream_over(lane, true, true);
            break;
        }
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *context)
{
    struct service_lane *lane = find_lane(session, stream);
    (void)context;
    if (lane != NULL) {
        (void)nghttp2_session_set_stream_user_data(session, stream, NULL);
        stream_over(lane, code == NGHTTP2_REFUSED_STREAM || code == NGHTTP2_HTTP_1_1_REQUIRED,
                    code == NGHTTP2_REFUSED_STREAM);
    }
    return 0;
}

/* ------------------------------------------------------------------ a connection's end */

static void on_finish_connection(struct worker_task *task)
{
    free((struct http2_connection *)(void *)((uint8_t *)task -
                                             offsetof(struct http2_connection, finish_task)));
}

/* `reached`: it was up. */
static void end_connection(struct http2_connection *connection, bool reached)
{
    struct http2_services *services = connection->services;
    struct service_lane *next;
    if (connection->gone) {
        return;
    }
    connection->gone = true;
    *(connection->previous == NULL ? &services->connections : &connection->previous->next) =
        connection->next;
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    (void)event_del(&connection->turn);
    stream_close(&connection->stream);
    nghttp2_session_del(connection->session); /* calls nothing back */
    for (struct service_lane *lane = services->lanes; lane != NULL; lane = next) {
        next = lane->next;
        if (lane->connection == connection) {
            lane->to_stranger = connection->stranger;
            stream_over(lane, !lane->sent || connection->stranger,
                        reached && !connection->stranger);
        }
    }
    (void)event_del(&connection->timer);
    connection->finish_task.run = on_finish_connection;
    worker_post(services->owner->worker, &connection->finish_task);
}

/* ------------------------------------------------------------------ running */

/* What begins with another frame than SETTINGS is not HTTP/2. */
static bool is_stranger(const uint8_t *first, size_t size)
{
    return size > 3 && first[3] != NGHTTP2_SETTINGS;
}

/* False: it has ended. */
static bool receive(struct http2_connection *connection, uint8_t *memory, size_t room)
{
    for (int reads = 0; reads < READS_MAX; reads++) {
        size_t size = 0;
        enum status status = stream_receive(&connection->stream, memory, room, &size);
        if (status == STATUS_NOT_FOUND) {
            return true;
        }
        if (status != STATUS_OK) {
            return false;
        }
        connection->stranger = !connection->greeted && is_stranger(memory, size);
        if (connection->stranger ||
            nghttp2_session_mem_recv(connection->session, memory, size) < 0) {
            return false;
        }
        connection->greeted = true;
    }
    again(connection);
    return true;
}

static void run_with(struct http2_connection *connection, uint8_t *memory, size_t room)
{
    if (connection->gone || connection->running || connection->stream.connecting) {
        return;
    }
    connection->running = true;
    bool alive = receive(connection, memory, room) &&
                 http2_session_send(connection->session, &connection->stream) &&
                 (nghttp2_session_want_read(connection->session) != 0 ||
                  nghttp2_session_want_write(connection->session) != 0);
    connection->running = false;
    if (!alive) {
        end_connection(connection, true);
    }
}

static void run(struct http2_connection *connection)
{
    run_with(connection, worker_receive_buffer(connection->services->owner->worker),
             LIMIT_RECEIVE_BUFFER_BYTES);
}

static void on_event(void *context)
{
    run(context);
}

static void on_turn(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    run(context);
}

static void on_connected(void *context, enum status status)
{
    struct http2_connection *connection = context;
    if (status != STATUS_OK) {
        end_connection(connection, false);
        return;
    }
    (void)event_del(&connection->timer);
    run(connection);
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct http2_connection *connection = context;
    (void)descriptor;
    (void)what;
    if (connection->stream.connecting) {
        end_connection(connection, false);
    } else if (connection->streams == 0) {
        connection->draining = true;
        (void)nghttp2_session_terminate_session(connection->session, NGHTTP2_NO_ERROR);
        run(connection);
    }
}

static const struct stream_callbacks stream_callbacks = {
    .connected = on_connected,
    .readable = on_event,
    .drained = on_event,
};

/* ------------------------------------------------------------------ finding a connection */

static nghttp2_session *make_session(struct http2_connection *connection)
{
    nghttp2_session_callbacks *callbacks = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        return NULL;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    return http2_session_new(callbacks, false, connection);
}

/* NULL: out of memory, or it cannot even be tried. */
static struct http2_connection *connect_service(struct http2_services *services,
                                                const struct front_service *service)
{
    struct worker *worker = services->owner->worker;
    struct http2_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        return NULL;
    }
    connection->services = services;
    connection->service = service;
    connection->idle_since_ms = clock_monotonic_ms();
    http2_budget_init(&connection->budget);
    stream_init(&connection->stream);
    connection->session = make_session(connection);
    if (connection->session == NULL ||
        stream_connect(&connection->stream, worker,
                       (const struct sockaddr *)&service->service.storage, service->service.size,
                       &stream_callbacks, connection) != STATUS_OK) {
        nghttp2_session_del(connection->session);
        free(connection);
        return NULL;
    }
    (void)event_assign(&connection->turn, worker_base(worker), -1, 0, on_turn, connection);
    (void)event_assign(&connection->timer, worker_base(worker), -1, 0, on_timer, connection);
    worker_timer_start(&connection->timer, FRONT_CONNECT_MS);
    connection->next = services->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    services->connections = connection;
    return connection;
}

static bool has_room(const struct http2_connection *connection)
{
    uint32_t allowed = nghttp2_session_get_remote_settings(connection->session,
                                                           NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return connection->streams < (allowed < HTTP2_STREAMS_MAX ? allowed : HTTP2_STREAMS_MAX);
}

/*
 * Whether a request may begin on it. What the service has said is read first: it may have closed
 * it. One that was idle for long it may be closing at this moment, as with HTTP/1.1 (backend.c).
 */
static bool is_fit(struct http2_connection *connection)
{
    uint8_t said[1024]; /* the receive buffer holds the request */
    const struct front_shared *shared = connection->services->owner->shared;
    if (connection->draining || !has_room(connection)) {
        return false;
    }
    if (connection->stream.connecting || connection->streams > 0) {
        return true;
    }
    if (clock_monotonic_ms() - connection->idle_since_ms > shared->kept_ms) {
        connection->draining = true;
        (void)nghttp2_session_terminate_session(connection->session, NGHTTP2_NO_ERROR);
        again(connection);
        return false;
    }
    connection->stream.readable = true; /* asks the kernel, whatever events tell */
    run_with(connection, said, sizeof said);
    return !connection->gone && !connection->draining;
}

static struct http2_connection *find_connection(struct http2_services *services,
                                                const struct front_service *service)
{
    struct http2_connection *next;
    for (struct http2_connection *at = services->connections; at != NULL; at = next) {
        next = at->next;
        if (at->service == service && is_fit(at)) {
            return at;
        }
    }
    return connect_service(services, service);
}

/* ------------------------------------------------------------------ requests */

static struct service_lane *of_lane(struct http2_lane *lane)
{
    return (struct service_lane *)lane;
}

static bool send_request(struct service_lane *lane, const struct http2_list *list)
{
    nghttp2_data_provider data = {.source.ptr = &lane->lane, .read_callback = http2_lane_read};
    struct http2_connection *connection = find_connection(lane->services, lane->service);
    if (connection == NULL) {
        return false;
    }
    int32_t stream = nghttp2_submit_request(connection->session, NULL, list->fields, list->count,
                                            lane->lane.out == HTTP2_DONE ? NULL : &data, lane);
    if (stream < 0) {
        connection->draining = true; /* it has no ids left */
        again(connection);
        return false;
    }
    if (connection->streams++ == 0 && !connection->stream.connecting) {
        (void)event_del(&connection->timer);
    }
    lane->connection = connection;
    lane->lane.session = connection->session;
    lane->lane.stream = stream;
    again(connection);
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
    own->is_grpc = grpc_is_type(parsed.content_type);
    http2_lane_begin_body(lane, parsed.framing, parsed.length);
    enum status status = http2_read_request(head, &parsed, &list);
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
    (void)nghttp2_submit_rst_stream(own->connection->session, NGHTTP2_FLAG_NONE, lane->stream,
                                    NGHTTP2_CANCEL);
    stream_close(&lane->pipe); /* on_stream_close() finishes the lane */
    again(own->connection);
}

static void worked(struct http2_lane *lane)
{
    struct service_lane *own = of_lane(lane);
    if (own->connection != NULL) {
        again(own->connection);
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
        end_connection(services->connections, false);
    }
    for (struct service_lane *lane = services->lanes; lane != NULL; lane = next) {
        next = lane->next;
        if (!lane->finishing) {
            free_lane(lane);
        }
    }
    /* Lanes that are about to be freed still look at it: front_free() ends it. */
}
