/*
 * The life of a caller's connection, and of the requests on it, one at a time.
 *
 *          first byte      whole    whole, or ahead                     forwarded
 *    IDLE -----------> HEAD -----> (BODY) -----> (WAITING) -> (CONNECTING) --------> OPEN
 *     ^                 |            | malformed,   | refused      | failed           |  ^ retry:
 *     |       malformed,|            | slow,        |              |                  |  CONNECTING
 *     |       slow      v            v refused      v              v                  |
 *     |<------------ ANSWERING <-----+--------------+--------------+--- ENDING <------+ complete,
 *     |                 |    ^---- the call's `ended` --------------------'           | late, lost
 *     |                 |                                                             |
 *     |                 +--> TUNNEL (101) <-------------------------------------------+ streamed,
 *     |                 v                                                             | no call
 *     |              CLOSING <--------------------------------------------------------+
 *     `-------------------------------------------------------------------------------'
 *
 *    IDLE, HEAD --HTTP/2's preface--> HTTP2 --all streams have ended--> CLOSING
 *
 * BODY is a call's only: one whose body is slow to come shall hold no domain (request.c).
 *
 *    any --the caller has gone--> GONE --the handler and the call have ended--> OVER
 *
 * Besides the state, which is that of the caller's side, three things run by themselves: the
 * service's answer (`phase`), the call (calls.c) and its handler.
 *
 * Nothing is freed from inside a handler: exchange_run() posts the end to the loop. It alone moves
 * bytes and decides what follows from what has happened; a callback notes what has, and calls it.
 *
 * Thread: the worker's.
 */
#include "front/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "holdfast/log.h"
#include "net/stream_tls.h"

/* Turns of exchange_run() before other connections of the worker have theirs. */
#define RUN_TURNS_MAX 16

#define TO(name) (1u << EXCHANGE_##name)
static const unsigned allowed[] = {
    [EXCHANGE_IDLE] = TO(HEAD) | TO(CLOSING) | TO(GONE),
    [EXCHANGE_HTTP2] = TO(CLOSING) | TO(GONE),
    [EXCHANGE_HEAD] = TO(HTTP2) | TO(BODY) | TO(WAITING) | TO(CONNECTING) | TO(OPEN) |
                      TO(ANSWERING) | TO(CLOSING) | TO(GONE),
    [EXCHANGE_BODY] = TO(WAITING) | TO(CONNECTING) | TO(OPEN) | TO(ANSWERING) | TO(GONE),
    [EXCHANGE_WAITING] = TO(CONNECTING) | TO(OPEN) | TO(ANSWERING) | TO(GONE),
    [EXCHANGE_CONNECTING] = TO(CONNECTING) | TO(OPEN) | TO(ENDING) | TO(ANSWERING) | TO(GONE),
    [EXCHANGE_OPEN] = TO(CONNECTING) | TO(ENDING) | TO(ANSWERING) | TO(TUNNEL) | TO(IDLE) |
                      TO(CLOSING) | TO(GONE),
    [EXCHANGE_ENDING] = TO(ANSWERING) | TO(GONE),
    [EXCHANGE_ANSWERING] = TO(IDLE) | TO(TUNNEL) | TO(CLOSING) | TO(GONE),
    [EXCHANGE_TUNNEL] = TO(CLOSING) | TO(GONE),
    [EXCHANGE_CLOSING] = TO(GONE),
    [EXCHANGE_GONE] = TO(OVER),
    [EXCHANGE_OVER] = 0,
};
#undef TO

void exchange_set_state(struct exchange *exchange, enum exchange_state state)
{
    assert((allowed[exchange->state] & 1u << state) != 0);
    exchange->state = state;
    exchange->again = true;
}

void exchange_set_timer(struct exchange *exchange, uint64_t milliseconds)
{
    worker_timer_start(&exchange->timer, milliseconds);
}

void exchange_watch_stall(struct exchange *exchange)
{
    exchange->stall_pending = stream_pending(&exchange->caller);
    if (!exchange->caller_gone) {
        exchange_set_timer(exchange, exchange->shared->stall_ms);
    }
}

/* ------------------------------------------------------------------ the end */

static void on_finish(struct worker_task *task)
{
    struct exchange *exchange =
        (struct exchange *)(void *)((uint8_t *)task - offsetof(struct exchange, finish_task));
    struct front_worker *owner = exchange->owner;
    *(exchange->previous == NULL ? &owner->first : &exchange->previous->next) = exchange->next;
    if (exchange->next != NULL) {
        exchange->next->previous = exchange->previous;
    }
    (void)event_del(&exchange->timer);
    (void)event_del(&exchange->call_timer);
    (void)event_del(&exchange->turn);
    backend_leave_instance(exchange);
    stream_close(&exchange->caller);
    stream_close(&exchange->backend);
    buffer_free(&exchange->incoming);
    buffer_free(&exchange->head);
    buffer_free(&exchange->texts);
    buffer_free(&exchange->answer_incoming);
    buffer_free(&exchange->held);
    exchange->repeat = repeats_free(exchange->shared, exchange->repeat);
    (void)atomic_fetch_sub(&exchange->shared->counters.connections, 1);
    free(exchange);
}

static void finish_if_over(struct exchange *exchange)
{
    if (exchange->state != EXCHANGE_GONE || exchange->handler_open ||
        exchange->call_state != EXCHANGE_CALL_NONE) {
        return;
    }
    backend_close(exchange);
    exchange_set_state(exchange, EXCHANGE_OVER);
    exchange->finish_task.run = on_finish;
    worker_post(exchange->owner->worker, &exchange->finish_task);
}

void exchange_caller_gone(struct exchange *exchange)
{
    if (exchange->caller_gone) {
        return;
    }
    exchange->caller_gone = true;
    route_figures_end(exchange);
    exchange->http2 = http2_caller_free(exchange->http2);
    stream_close(&exchange->caller);
    (void)event_del(&exchange->timer);
    calls_caller_left(exchange);
    buffer_free(&exchange->incoming);
    if (!exchange->handler_open) {
        backend_close(exchange);
    }
    exchange_set_state(exchange, EXCHANGE_GONE);
}

void exchange_stop(struct exchange *exchange)
{
    if (exchange->state == EXCHANGE_OVER) {
        return;
    }
    exchange_caller_gone(exchange);
    backend_close(exchange);
    calls_stop(exchange);
    exchange_run(exchange);
}

/* ------------------------------------------------------------------ answers, and what follows */

void exchange_refuse(struct exchange *exchange, enum error_answer answer, const char *detail)
{
    exchange->refusing = true;
    exchange->refusal = answer;
    if (detail != exchange->detail) {
        (void)snprintf(exchange->detail, sizeof exchange->detail, "%s",
                       detail == NULL ? "" : detail);
    }
    exchange->again = true;
}

void exchange_malformed(struct exchange *exchange, enum error_answer answer, const char *reason)
{
    LOG(LOG_WARNING, "http", "Request refused", LOG_TEXT("caller", exchange->caller_text),
        LOG_TEXT("service", exchange->service->name), LOG_TEXT("reason", reason));
    exchange->close_after = true;
    exchange->request_broken = true;
    if (exchange->call_state == EXCHANGE_CALL_ENDING || exchange->state == EXCHANGE_ANSWERING) {
        return; /* its answer was there before, and is perhaps half out */
    }
    if (exchange->call_state == EXCHANGE_CALL_OPEN) {
        exchange->failed = true;
        exchange->failure = answer;
        (void)snprintf(exchange->detail, sizeof exchange->detail, "%s", reason);
        calls_caller_left(exchange);
    }
    backend_close(exchange);
    if (exchange->call_state == EXCHANGE_CALL_NONE) {
        exchange_refuse(exchange, answer, reason);
    }
}

static enum status append_own_answer(struct exchange *exchange)
{
    if (repeats_is_answered(exchange)) {
        return repeats_append_answer(exchange, &exchange->held);
    }
    (void)atomic_fetch_add(&exchange->shared->counters.refused, 1);
    const struct error_answer_form form = {
        .close = exchange->close_after, .to_head = exchange->is_head, .is_grpc = exchange->is_grpc};
    return error_answer_append(exchange->refusal, exchange->detail, &form, &exchange->held);
}

static void refuse_now(struct exchange *exchange)
{
    exchange->refusing = false;
    if (exchange->caller_gone) {
        return;
    }
    if (exchange->answer_begun) { /* the end of the connection is all that can be said */
        stream_abort(&exchange->caller);
        exchange_caller_gone(exchange);
        return;
    }
    request_discard(exchange);
    exchange->close_after = exchange->close_after || !exchange->request_complete ||
                            !exchange->request_keep_alive || exchange->request_old ||
                            atomic_load(&exchange->shared->draining);
    buffer_clear(&exchange->held);
    exchange->held_sent = 0;
    exchange->own_answer = true;
    if (exchange->tunnel) {
        exchange->tunnel = false;
        backend_close(exchange);
    }
    if (append_own_answer(exchange) != STATUS_OK) {
        exchange_caller_gone(exchange);
        return;
    }
    if (exchange->state != EXCHANGE_ANSWERING) {
        exchange_set_state(exchange, EXCHANGE_ANSWERING);
    }
    exchange_watch_stall(exchange);
}

static void reset_request(struct exchange *exchange)
{
    route_figures_end(exchange);
    backend_leave_instance(exchange);
    exchange->scan = (struct head_scan){0};
    buffer_free(&exchange->head);
    buffer_free(&exchange->texts);
    buffer_free(&exchange->held);
    exchange->held_sent = 0;
    exchange->request_complete = false;
    exchange->request_keep_alive = false;
    exchange->is_head = false;
    exchange->is_grpc = false;
    exchange->retried = false;
    exchange->phase = ANSWER_NONE;
    exchange->mode = ANSWER_STREAM;
    exchange->status = 0;
    exchange->answer_scan = (struct head_scan){0};
    exchange->answer_seen = false;
    exchange->answer_begun = false;
    exchange->own_answer = false;
    exchange->succeeded = false;
    exchange->failed = false;
    exchange->repeat = repeats_free(exchange->shared, exchange->repeat);
    exchange->incoming.limit = FRONT_INCOMING_BYTES_MAX;
    exchange->detail[0] = '\0';
}

static void close_caller(struct exchange *exchange)
{
    route_figures_end(exchange);
    backend_leave_instance(exchange);
    calls_caller_left(exchange); /* nothing more of a request is forwarded */
    if (!exchange->handler_open) {
        backend_close(exchange);
    }
    buffer_free(&exchange->held);
    exchange_set_state(exchange, EXCHANGE_CLOSING);
    exchange_watch_stall(exchange);
}

static void open_tunnel(struct exchange *exchange)
{
    (void)atomic_fetch_add(&exchange->shared->counters.tunnels, 1);
    route_figures_end(exchange);
    framing_start(&exchange->framing, FRAMING_CLOSE, 0, false);
    framing_start(&exchange->answer_framing, FRAMING_CLOSE, 0, false);
    exchange->request_complete = false;
    exchange->phase = ANSWER_BODY;
    exchange->mode = ANSWER_STREAM;
    exchange->answer_begun = true;
    (void)event_del(&exchange->timer);
    exchange_set_state(exchange, EXCHANGE_TUNNEL);
}

void exchange_next(struct exchange *exchange)
{
    if (exchange->tunnel && backend_is_open(exchange)) {
        open_tunnel(exchange);
        return;
    }
    if (exchange->phase == ANSWER_COMPLETE && !exchange->answer_keep_alive) {
        backend_close(exchange);
        exchange->close_after = exchange->close_after || !exchange->own_answer;
    }
    if (exchange->close_after || !exchange->request_complete || !exchange->request_keep_alive ||
        exchange->handler_open || atomic_load(&exchange->shared->draining)) {
        close_caller(exchange);
        return;
    }
    reset_request(exchange);
    exchange_set_state(exchange, EXCHANGE_IDLE);
    exchange_set_timer(exchange, exchange->shared->idle_ms);
}

/* ------------------------------------------------------------------ what follows from what is */

/* The service has said all of a streamed answer; perhaps the caller has not of its request. */
static void settle_streamed(struct exchange *exchange)
{
    bool may_continue = exchange->answer_keep_alive && backend_is_open(exchange);
    if (exchange->request_complete || exchange->tunnel || !may_continue) {
        exchange_next(exchange);
    }
}

/* A direction that has ended at one side ends at the other when all of it is there. */
static void settle_half_close(struct exchange *exchange)
{
    bool to_service = exchange->caller_ended && exchange->incoming.size == 0 &&
                      backend_is_open(exchange) && stream_pending(&exchange->backend) == 0;
    if (to_service && !exchange->backend_shut) {
        exchange->backend_shut = stream_shutdown(&exchange->backend);
    }
    bool to_caller = exchange->backend_ended && stream_pending(&exchange->caller) == 0;
    if (to_caller && !exchange->caller_shut) {
        exchange->caller_shut = stream_shutdown(&exchange->caller);
    }
    if (exchange->state == EXCHANGE_TUNNEL && exchange->caller_shut && exchange->backend_shut) {
        exchange_caller_gone(exchange);
    } else if (exchange->state == EXCHANGE_TUNNEL && to_service && to_caller) {
        exchange_set_timer(exchange, FRONT_LINGER_MS); /* TLS's word of the end has no room */
    }
}

static void settle_open(struct exchange *exchange)
{
    bool cut_off = exchange->caller_ended && exchange->incoming.size == 0 &&
                   !exchange->request_complete && !exchange->request_broken;
    if (cut_off) {
        exchange_caller_gone(exchange);
    } else if (exchange->phase == ANSWER_COMPLETE && exchange->call_state == EXCHANGE_CALL_NONE) {
        settle_streamed(exchange);
    } else if (exchange->call_state == EXCHANGE_CALL_NONE) {
        settle_half_close(exchange);
    }
}

static void settle_closing(struct exchange *exchange)
{
    if (exchange->caller_ended) {
        exchange_caller_gone(exchange);
    } else if (!exchange->caller_shut && stream_pending(&exchange->caller) == 0) {
        exchange->caller_shut = stream_shutdown(&exchange->caller);
        if (exchange->caller_shut) {
            exchange_set_timer(exchange, FRONT_LINGER_MS);
        }
    }
}

static void settle(struct exchange *exchange)
{
    if (exchange->refusing) {
        refuse_now(exchange);
    }
    switch (exchange->state) {
    case EXCHANGE_IDLE:
        if (exchange->incoming.size == 0 &&
            (exchange->caller_ended || atomic_load(&exchange->shared->draining))) {
            close_caller(exchange);
        }
        break;
    case EXCHANGE_HTTP2:
        http2_exchange_settle(exchange);
        break;
    case EXCHANGE_HEAD:
    case EXCHANGE_BODY:
        if (exchange->caller_ended && !exchange->refusing) {
            exchange_caller_gone(exchange);
        }
        break;
    case EXCHANGE_WAITING:
        if (exchange->caller_ended || exchange->caller.peer_closed) {
            exchange_caller_gone(exchange);
        }
        break;
    case EXCHANGE_OPEN:
        settle_open(exchange);
        break;
    case EXCHANGE_ANSWERING:
        answer_flush(exchange);
        break;
    case EXCHANGE_TUNNEL:
        settle_half_close(exchange);
        break;
    case EXCHANGE_CLOSING:
        settle_closing(exchange);
        break;
    case EXCHANGE_CONNECTING:
    case EXCHANGE_ENDING:
    case EXCHANGE_GONE:
    case EXCHANGE_OVER:
        break;
    }
}

void exchange_run(struct exchange *exchange)
{
    exchange->again = true;
    if (exchange->running || exchange->state == EXCHANGE_OVER) {
        return;
    }
    exchange->running = true;
    for (int turn = 0; exchange->again && turn < RUN_TURNS_MAX; turn++) {
        exchange->again = false;
        request_pump(exchange);
        answer_pump(exchange);
        settle(exchange);
    }
    if (exchange->again) {
        event_active(&exchange->turn, EV_TIMEOUT, 0);
    }
    exchange->running = false;
    finish_if_over(exchange);
}

/* ------------------------------------------------------------------ events */

static void on_caller_event(void *context)
{
    exchange_run(context);
}

/* Its TLS handshake has ended. */
static void on_caller_connected(void *context, enum status status)
{
    struct exchange *exchange = context;
    if (status != STATUS_OK) {
        LOG(LOG_WARNING, "http", "Connection closed: no TLS with the caller",
            LOG_TEXT("caller", exchange->caller_text),
            LOG_TEXT("reason", stream_tls_failure(&exchange->caller)));
        exchange_caller_gone(exchange);
    }
    exchange_run(exchange);
}

static const struct stream_callbacks caller_callbacks = {
    .connected = on_caller_connected,
    .readable = on_caller_event,
    .drained = on_caller_event,
};

/* The others had their turn. */
static void on_turn(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    exchange_run(context);
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct exchange *exchange = context;
    switch (exchange->state) {
    case EXCHANGE_HEAD:
    case EXCHANGE_BODY:
        exchange->close_after = true;
        exchange->request_broken = true;
        exchange_refuse(exchange,
                        exchange->state == EXCHANGE_HEAD ? ERROR_ANSWER_HEAD_SLOW
                                                         : ERROR_ANSWER_BODY_SLOW,
                        NULL);
        break;
    case EXCHANGE_CONNECTING:
        backend_lost(exchange);
        break;
    case EXCHANGE_ANSWERING:
    case EXCHANGE_CLOSING:
        if (!exchange->caller_shut && stream_pending(&exchange->caller) < exchange->stall_pending) {
            exchange_watch_stall(exchange); /* slow, but not stalled */
        } else {
            exchange_caller_gone(exchange);
        }
        break;
    case EXCHANGE_IDLE:
    case EXCHANGE_TUNNEL:
        exchange_caller_gone(exchange);
        break;
    case EXCHANGE_HTTP2:
        http2_exchange_timeout(exchange);
        break;
    case EXCHANGE_WAITING:
    case EXCHANGE_OPEN:
    case EXCHANGE_ENDING:
    case EXCHANGE_GONE:
    case EXCHANGE_OVER:
        break;
    }
    exchange_run(exchange);
}

static void init(struct exchange *exchange, struct front_worker *owner,
                 const struct front_service *service)
{
    exchange->shared = owner->shared;
    exchange->owner = owner;
    exchange->service = exchange->target = service;
    stream_init(&exchange->caller);
    stream_init(&exchange->backend);
    exchange->caller.half_open = true;
    buffer_init(&exchange->incoming, FRONT_INCOMING_BYTES_MAX);
    buffer_init(&exchange->head, 2u * HEAD_BYTES_MAX);
    buffer_init(&exchange->texts, 2u * HEAD_BYTES_MAX);
    buffer_init(&exchange->answer_incoming, FRONT_INCOMING_BYTES_MAX);
    size_t held_max = owner->shared->answer_bytes_max;
    if (owner->shared->idempotency.keys != NULL && held_max < LIMIT_DOCUMENT_BYTES_MAX) {
        held_max = LIMIT_DOCUMENT_BYTES_MAX; /* recorded when more was allowed */
    }
    buffer_init(&exchange->held, held_max + ERROR_ANSWER_BYTES_MAX);
    (void)event_assign(&exchange->timer, worker_base(owner->worker), -1, 0, on_timer, exchange);
    (void)event_assign(&exchange->turn, worker_base(owner->worker), -1, 0, on_turn, exchange);
    calls_init(exchange);
    exchange->next = owner->first;
    if (owner->first != NULL) {
        owner->first->previous = exchange;
    }
    owner->first = exchange;
}

void exchange_accept(struct front_worker *owner, const struct front_endpoint *endpoint,
                     int descriptor, const struct sockaddr *peer, socklen_t peer_size,
                     struct slice bytes)
{
    struct exchange *exchange = memory_new_aligned(1, sizeof *exchange, _Alignof(struct exchange));
    if (exchange == NULL) {
        LOG(LOG_ERROR, "http", "Out of memory for a connection");
        (void)atomic_fetch_sub(&owner->shared->counters.connections, 1);
        (void)close(descriptor);
        return;
    }
    init(exchange, owner, endpoint->service);
    exchange->is_first = true;
    network_address_text(peer, peer_size, exchange->caller_text);
    exchange->endpoint = endpoint;
    exchange->inside = endpoint->inside || peers_have(endpoint->peers, peer);
    exchange_set_timer(exchange, exchange->shared->idle_ms);
    struct tls *tls = owner->shared->tls;
    if (tls != NULL &&
        stream_use_tls(&exchange->caller, tls, owner->shared->plain_allowed) != STATUS_OK) {
        LOG(LOG_ERROR, "http", "Out of memory for a connection");
        (void)close(descriptor);
        exchange_caller_gone(exchange);
    } else if (stream_open(&exchange->caller, owner->worker, descriptor, &caller_callbacks,
                           exchange) != STATUS_OK) {
        exchange_caller_gone(exchange);
    }
    if (exchange->incoming.limit < bytes.size + LIMIT_RECEIVE_BUFFER_BYTES) {
        exchange->incoming.limit = bytes.size + LIMIT_RECEIVE_BUFFER_BYTES;
    }
    if (bytes.size > 0 && !exchange->caller_gone &&
        buffer_append(&exchange->incoming, bytes.data, bytes.size) != STATUS_OK) {
        exchange_caller_gone(exchange);
    }
    exchange_run(exchange);
}

bool exchange_accept_stream(struct exchange *connection, const struct stream_pair_end *end)
{
    struct front_worker *owner = connection->owner;
    struct front_shared *shared = connection->shared;
    struct exchange *exchange = NULL;
    uint64_t open_now = atomic_fetch_add(&shared->counters.connections, 1);
    if (open_now < shared->connections_max && !owner->stopping) {
        exchange = memory_new_aligned(1, sizeof *exchange, _Alignof(struct exchange));
    }
    if (exchange == NULL) {
        (void)atomic_fetch_sub(&shared->counters.connections, 1);
        return false;
    }
    init(exchange, owner, connection->service);
    memcpy(exchange->caller_text, connection->caller_text, sizeof exchange->caller_text);
    exchange->inside = connection->inside;
    exchange_set_timer(exchange, shared->idle_ms);
    const struct stream_pair_end own = {
        .stream = &exchange->caller, .callbacks = &caller_callbacks, .context = exchange};
    if (stream_pair_open(worker_base(owner->worker), &own, end) != STATUS_OK) {
        exchange_caller_gone(exchange);
        exchange_run(exchange);
        return false;
    }
    return true;
}
