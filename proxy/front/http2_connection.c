/*
 * Connections to services that speak HTTP/2, which the requests of a worker share
 * (http2_service.h).
 *
 *   connecting --> up --GOAWAY, stale--> draining
 *       |           |                       |
 *       '- failed --+---- broken, idle -----+--> gone
 *
 * Invariant: a connection is freed by a task of its own, for callbacks of it may be on the stack.
 * Thread: the worker's.
 */
#include "front/http2_service_private.h"

#include <stdio.h>
#include <stdlib.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "net/stream_tls.h"

/* Before other connections of the worker have their turn. */
#define READS_MAX 8

void http2_connection_again(struct http2_connection *connection)
{
    if (!connection->gone) {
        event_active(&connection->turn, EV_TIMEOUT, 0);
    }
}

/* ------------------------------------------------------------------ a connection's end */

static void on_finish_connection(struct worker_task *task)
{
    free((struct http2_connection *)(void *)((uint8_t *)task -
                                             offsetof(struct http2_connection, finish_task)));
}

/* `reached`: it was up. */
void http2_connection_end(struct http2_connection *connection, bool reached)
{
    struct http2_services *services = connection->services;
    struct service_lane *next;
    char reason[STREAM_TLS_REASON_BYTES];
    if (connection->gone) {
        return;
    }
    (void)snprintf(reason, sizeof reason, "%s", stream_tls_reason(&connection->stream));
    if (reached && reason[0] != '\0') {
        LOG(LOG_WARNING, "http", "A connection to the service broke",
            LOG_TEXT("service", connection->service->name),
            LOG_TEXT("address", connection->service->service_text), LOG_TEXT("reason", reason));
    }
    connection->gone = true;
    *(connection->previous == NULL ? &services->connections : &connection->previous->next) =
        connection->next;
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    (void)event_del(&connection->turn);
    stream_close(&connection->stream);
    nghttp2_session_del(connection->peer.session); /* calls nothing back */
    for (struct service_lane *lane = services->lanes; lane != NULL; lane = next) {
        next = lane->next;
        if (lane->connection == connection) {
            lane->to_stranger = connection->stranger;
            lane->reason = reason;
            service_lane_over(lane, !lane->sent || connection->stranger,
                              reached && !connection->stranger);
            lane->reason = NULL;
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
            nghttp2_session_mem_recv(connection->peer.session, memory, size) < 0) {
            return false;
        }
        connection->greeted = true;
    }
    http2_connection_again(connection);
    return true;
}

static void run_with(struct http2_connection *connection, uint8_t *memory, size_t room)
{
    if (connection->gone || connection->running || connection->stream.connecting) {
        return;
    }
    connection->running = true;
    bool alive = receive(connection, memory, room) &&
                 http2_session_send(connection->peer.session, &connection->stream) &&
                 (nghttp2_session_want_read(connection->peer.session) != 0 ||
                  nghttp2_session_want_write(connection->peer.session) != 0);
    connection->running = false;
    if (!alive) {
        http2_connection_end(connection, true);
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

static struct front_shared *shared_of(const struct http2_connection *connection)
{
    return connection->services->owner->shared;
}

/* With TLS it is ALPN that says so (RFC 9113, section 3.2). */
static bool is_agreed(const struct http2_connection *connection)
{
    return connection->service->tls == NULL ||
           slice_equal(stream_tls_protocol(&connection->stream), slice_text("h2"));
}

static void on_connected(void *context, enum status status)
{
    struct http2_connection *connection = context;
    if (status != STATUS_OK) {
        http2_connection_end(connection, false);
        return;
    }
    (void)event_del(&connection->timer);
    if (!is_agreed(connection)) {
        connection->stranger = true;
        atomic_store_explicit(&shared_of(connection)->chose_http2[connection->service->place],
                              false, memory_order_relaxed);
        http2_connection_end(connection, false);
        return;
    }
    run(connection);
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct http2_connection *connection = context;
    (void)descriptor;
    (void)what;
    if (connection->stream.connecting) {
        http2_connection_end(connection, false);
    } else if (connection->streams == 0) {
        connection->draining = true;
        (void)nghttp2_session_terminate_session(connection->peer.session, NGHTTP2_NO_ERROR);
        run(connection);
    }
}

static const struct stream_callbacks stream_callbacks = {
    .connected = on_connected,
    .readable = on_event,
    .drained = on_event,
};

/* ------------------------------------------------------------------ finding a connection */

/* False: out of memory. */
static bool prepare_tls(struct http2_connection *connection)
{
    struct tls *tls = connection->service->tls;
    return tls == NULL || (stream_use_tls(&connection->stream, tls, false) == STATUS_OK &&
                           stream_tls_offer(&connection->stream, "\x02h2") == STATUS_OK);
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
    stream_init(&connection->stream);
    if (!http2_peer_start(&connection->peer, &service_lane_handlers, false) ||
        !prepare_tls(connection) ||
        stream_connect(&connection->stream, worker,
                       (const struct sockaddr *)&service->service.storage, service->service.size,
                       &stream_callbacks, connection) != STATUS_OK) {
        stream_close(&connection->stream);
        nghttp2_session_del(connection->peer.session);
        free(connection);
        return NULL;
    }
    (void)event_assign(&connection->turn, worker_base(worker), -1, 0, on_turn, connection);
    (void)event_assign(&connection->timer, worker_base(worker), -1, 0, on_timer, connection);
    worker_timer_start(&connection->timer, shared_of(connection)->connect_ms);
    connection->next = services->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    services->connections = connection;
    return connection;
}

static bool has_room(const struct http2_connection *connection)
{
    uint32_t allowed = nghttp2_session_get_remote_settings(connection->peer.session,
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
    const struct front_shared *shared = shared_of(connection);
    if (connection->draining || !has_room(connection)) {
        return false;
    }
    if (connection->stream.connecting || connection->streams > 0) {
        return true;
    }
    if (clock_monotonic_ms() - connection->idle_since_ms > shared->kept_ms) {
        connection->draining = true;
        (void)nghttp2_session_terminate_session(connection->peer.session, NGHTTP2_NO_ERROR);
        http2_connection_again(connection);
        return false;
    }
    connection->stream.readable = true; /* asks the kernel, whatever events tell */
    run_with(connection, said, sizeof said);
    return !connection->gone && !connection->draining;
}

struct http2_connection *http2_connection_find(struct http2_services *services,
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
