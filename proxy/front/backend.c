/*
 * The connection to the service: made at the first request, kept with the caller's, made anew after
 * the service has closed it between two requests, and for a call if it was idle for long.
 *
 * What is lost with it:
 *   - before anything was sent: nothing; a call counts as one whose handler has ended, for none ran
 *   - a kept connection, before any byte of an answer came: it was perhaps closed already when the
 *     request went out. A request that changes nothing and has no body is sent once more.
 *   - else: the answer; of a call one does not know whether its handler still runs
 *
 * The second of these is dear for a call, which is never sent twice: its caller gets 503, and its
 * domain is fenced for http.quietPeriod, though no handler ran. Services close connections that
 * were idle for some seconds (servers in use: from 2 s on), so one that was idle for longer than
 * kept_ms is not used for a call, nor for a request with a body: a new one is made. Within that
 * time a service closes none for being idle.
 *
 * An instance of a service (front.h) that cannot be connected to has done nothing: the request
 * moves to another.
 *
 * A service that is spoken to by HTTP/2 has its own idea of connections (http2_service.h): the one
 * here is a pair in memory, and never stale.
 *
 * With TLS what is spoken follows ALPN, where http.upstreamProtocol leaves it open (FRONT_AUTO):
 * the first connection to a service, or to an instance of it, offers both, and one that has chosen
 * HTTP/2 is left for the shared ones before anything was sent. So does the next one, once a shared
 * one was refused.
 *
 * Thread: the worker's.
 */
#include "front/exchange.h"

#include <stdio.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "net/stream_tls.h"

/* Of a body that goes out in one piece with its head: copying that is cheaper than a packet. */
#define JOIN_BYTES_MAX (16u * 1024u)

void backend_close(struct exchange *exchange)
{
    stream_close(&exchange->backend);
    stream_init(&exchange->backend);
    exchange->backend_deaf = false;
    exchange->backend_ended = false;
    exchange->backend_shut = false;
    exchange->backend_count = 0;
    exchange->backend_is_http2 = false;
    exchange->head_unsent = false;
    buffer_free(&exchange->answer_incoming);
    exchange->answer_scan = (struct head_scan){0};
}

static void send_bytes(struct exchange *exchange, struct slice bytes)
{
    if (bytes.size == 0 || exchange->backend_deaf || !backend_is_open(exchange)) {
        return;
    }
    enum status status = stream_send(&exchange->backend, bytes);
    if (status == STATUS_UNREACHABLE) {
        /* It may have answered before it closed: that shows when all of it is read. */
        exchange->backend_deaf = true;
        exchange->backend.readable = true;
    } else if (status != STATUS_OK) {
        backend_lost(exchange);
    }
    exchange->again = true;
}

void backend_flush_head(struct exchange *exchange)
{
    if (exchange->head_unsent) {
        exchange->head_unsent = false;
        send_bytes(exchange, buffer_slice(&exchange->head));
    }
}

void backend_send(struct exchange *exchange, struct slice bytes)
{
    bool joins = exchange->head_unsent && bytes.size <= JOIN_BYTES_MAX &&
                 buffer_append(&exchange->head, bytes.data, bytes.size) == STATUS_OK;
    backend_flush_head(exchange);
    send_bytes(exchange, joins ? (struct slice){0} : bytes);
}

static void send_head(struct exchange *exchange)
{
    exchange->backend_reused = exchange->backend_count++ > 0;
    exchange->phase = ANSWER_HEAD;
    (void)event_del(&exchange->timer);
    exchange->head_unsent = true; /* request_pump(), which comes next, sends it */
    exchange_set_state(exchange, EXCHANGE_OPEN);
}

static _Atomic bool *chose_http2(const struct exchange *exchange)
{
    return &exchange->shared->chose_http2[exchange->target->place];
}

/* Whether the request that is here has to go to the service by HTTP/1.1. */
static bool wants_http1(const struct exchange *exchange)
{
    return exchange->service->protocol == FRONT_HTTP1 ||
           (exchange->service->protocol == FRONT_AUTO && !exchange->is_grpc &&
            (exchange->is_upgrade || exchange->is_connect));
}

/* Whether it goes there by HTTP/2, as far as is known. */
static bool wants_http2(const struct exchange *exchange)
{
    if (wants_http1(exchange)) {
        return false;
    }
    return exchange->service->protocol == FRONT_HTTP2 || exchange->is_grpc ||
           atomic_load_explicit(chose_http2(exchange), memory_order_relaxed);
}

static void connect_http2(struct exchange *exchange);

/* Nothing was sent yet: what is spoken on it ALPN has said. */
static void begin_connection(struct exchange *exchange)
{
    struct slice protocol = stream_tls_protocol(&exchange->backend);
    if (protocol.size == 0 || slice_equal(protocol, slice_text("http/1.1"))) {
        send_head(exchange);
        return;
    }
    /* Its connections of HTTP/2 are shared, and made elsewhere: once more, then it is known. */
    atomic_store_explicit(chose_http2(exchange), true, memory_order_relaxed);
    backend_close(exchange);
    connect_http2(exchange);
}

static void on_connected(void *context, enum status status)
{
    struct exchange *exchange = context;
    if (status != STATUS_OK) {
        backend_lost(exchange);
    } else {
        begin_connection(exchange);
    }
    exchange_run(exchange);
}

static void on_event(void *context)
{
    exchange_run(context);
}

static const struct stream_callbacks callbacks = {
    .connected = on_connected,
    .readable = on_event,
    .drained = on_event,
};

/* What connecting there is shows when the request does not get through. */
static void connect_http2(struct exchange *exchange)
{
    const struct stream_pair_end end = {
        .stream = &exchange->backend, .callbacks = &callbacks, .context = exchange};
    exchange->backend_is_http2 = true;
    if (http2_service_open(exchange->owner, exchange->target, &end) == STATUS_OK) {
        send_head(exchange);
    } else {
        backend_lost(exchange);
    }
}

/* False: out of memory. */
static bool prepare_tls(struct exchange *exchange)
{
    struct tls *tls = exchange->service->tls;
    const char *offer = wants_http1(exchange) ? "\x08http/1.1" : "\x02h2\x08http/1.1";
    return tls == NULL || (stream_use_tls(&exchange->backend, tls, false) == STATUS_OK &&
                           stream_tls_offer(&exchange->backend, offer) == STATUS_OK);
}

static void connect_service(struct exchange *exchange)
{
    const struct network_address *address = &exchange->target->service;
    exchange->phase = ANSWER_NONE;
    exchange->backend.half_open = true;
    exchange_set_state(exchange, EXCHANGE_CONNECTING);
    if (wants_http2(exchange)) {
        connect_http2(exchange);
        return;
    }
    exchange_set_timer(exchange, exchange->shared->connect_ms);
    if (!prepare_tls(exchange) ||
        stream_connect(&exchange->backend, exchange->owner->worker,
                       (const struct sockaddr *)&address->storage, address->size, &callbacks,
                       exchange) != STATUS_OK) {
        backend_lost(exchange);
    }
}

/* Whether a kept connection can take another request: asks the kernel, whatever events tell. */
static bool is_still_there(struct exchange *exchange)
{
    uint8_t unexpected;
    size_t size;
    if (!backend_is_open(exchange) || exchange->backend_deaf || exchange->backend_shut) {
        return false;
    }
    exchange->backend.readable = true;
    return stream_receive(&exchange->backend, &unexpected, 1, &size) == STATUS_NOT_FOUND;
}

/* Whether the service may be closing it for having been idle, at this very moment. */
static bool is_stale(const struct exchange *exchange)
{
    return clock_monotonic_ms() - exchange->backend_idle_since_ms > exchange->shared->kept_ms;
}

/* ------------------------------------------------------------------ instances */

void backend_leave_instance(struct exchange *exchange)
{
    if (exchange->entered) {
        exchange->entered = false;
        domain_instance_leave(exchange->service->domain, exchange->target->number);
    }
}

/* Of a service without instances there is nothing to choose. */
static void choose_instance(struct exchange *exchange)
{
    const struct front_service *service = exchange->service;
    size_t number = exchange->call.service;
    if (service->instance_count == 0) {
        return;
    }
    bool is_its_call = exchange->call_state == EXCHANGE_CALL_OPEN;
    backend_leave_instance(exchange);
    if (!is_its_call) {
        number = domain_instance_enter(service->domain, backend_is_open(exchange)
                                                            ? exchange->target->number
                                                            : DOMAIN_NO_INSTANCE);
    }
    if (exchange->target != &service->instances[number]) {
        backend_close(exchange);
        exchange->target = &service->instances[number];
    }
    exchange->entered = !is_its_call;
}

/* Nothing was sent to the one that cannot be reached. */
static bool try_another(struct exchange *exchange)
{
    if (exchange->service->instance_count == 0 || exchange->state != EXCHANGE_CONNECTING) {
        return false;
    }
    domain_instance_failed(exchange->service->domain, exchange->target->number);
    if (exchange->moves++ >= exchange->service->instance_count || exchange->caller_gone) {
        return false;
    }
    if (exchange->is_call &&
        (exchange->call_state != EXCHANGE_CALL_OPEN || !call_move(&exchange->call))) {
        return false;
    }
    choose_instance(exchange);
    return true;
}

void backend_forward(struct exchange *exchange)
{
    exchange->moves = 0;
    choose_instance(exchange);
    bool sent_once = exchange->is_call || exchange->has_body;
    bool fits = exchange->backend_is_http2 == wants_http2(exchange) &&
                (!sent_once || exchange->backend_is_http2 || !is_stale(exchange));
    if (fits && is_still_there(exchange)) {
        send_head(exchange);
        return;
    }
    backend_close(exchange);
    connect_service(exchange);
}

static bool may_retry(const struct exchange *exchange)
{
    return exchange->state == EXCHANGE_OPEN && exchange->backend_reused && !exchange->retried &&
           !exchange->answer_seen && !exchange->is_call && !exchange->has_body;
}

/* Why TLS has failed, if it was that. */
static void note_reason(const struct exchange *exchange, char reason[STREAM_TLS_REASON_BYTES])
{
    (void)snprintf(reason, STREAM_TLS_REASON_BYTES, "%s", stream_tls_reason(&exchange->backend));
}

void backend_lost(struct exchange *exchange)
{
    bool ran = exchange->phase == ANSWER_HEAD || exchange->phase == ANSWER_BODY;
    bool retry = may_retry(exchange);
    char reason[STREAM_TLS_REASON_BYTES];
    note_reason(exchange, reason);
    backend_close(exchange);
    if (exchange->state == EXCHANGE_TUNNEL) {
        exchange_caller_gone(exchange);
        return;
    }
    if (!ran && exchange->state != EXCHANGE_CONNECTING) {
        return; /* between two requests */
    }
    if (retry || (!ran && try_another(exchange))) {
        exchange->retried = exchange->retried || retry;
        connect_service(exchange);
        return;
    }
    (void)atomic_fetch_add(&exchange->shared->counters.services_lost, 1);
    LOG(LOG_WARNING, "http", ran ? "The service broke off" : "Cannot connect to the service",
        LOG_TEXT("service", exchange->service->name),
        LOG_TEXT("address", exchange->target->service_text), LOG_TEXT_IF("reason", reason),
        LOG_TEXT("caller", exchange->caller_text),
        LOG_NUMBER(exchange->call_state == EXCHANGE_CALL_NONE ? NULL : "unit", exchange->call.unit),
        LOG_HEX("trace", exchange->call.trace.bytes, TRACE_ID_BYTES));
    exchange->mode = ANSWER_DROP;
    calls_lost(exchange, ran);
    bool waits = exchange->call_state == EXCHANGE_CALL_ENDING;
    if (!waits && (exchange->state == EXCHANGE_OPEN || exchange->state == EXCHANGE_CONNECTING)) {
        exchange_refuse(exchange, ERROR_ANSWER_SERVICE_LOST, NULL);
    }
}
