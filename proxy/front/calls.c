/*
 * The call of a request: when it may begin, and how it ends.
 *
 *   NONE --call_begin()--> QUEUED --admitted--> OPEN --commit, roll_back--> ENDING --ended--> NONE
 *     `-------------------------------------------^ `-------- joined: its handler ended -------^
 *
 * `handler_open` runs beside that: a call whose time is over ends at once, its handler when the
 * service has answered. The exchange, in whose memory the call lies, lives until both have.
 *
 * Thread: the worker's.
 */
#include "front/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "holdfast/log.h"

static struct exchange *exchange_of(struct call *call)
{
    return (struct exchange *)(void *)((uint8_t *)call - offsetof(struct exchange, call));
}

/* Whether its answer goes on as it comes. */
static bool is_streamed(const struct exchange *exchange)
{
    return exchange->call.joined || exchange->call.unit == 0;
}

/* ------------------------------------------------------------------ ending */

static void end_handler(struct exchange *exchange, enum call_handler_end end)
{
    if (exchange->handler_open) {
        exchange->handler_open = false;
        call_handler_ended(&exchange->call, end);
    }
}

static void set_ending(struct exchange *exchange)
{
    exchange->call_state = EXCHANGE_CALL_ENDING;
    (void)event_del(&exchange->call_timer);
    if (exchange->state == EXCHANGE_OPEN || exchange->state == EXCHANGE_CONNECTING) {
        exchange_set_state(exchange, EXCHANGE_ENDING);
    }
}

static void roll_back(struct exchange *exchange, const char *reason)
{
    set_ending(exchange);
    call_roll_back(&exchange->call, reason);
}

/* A joined call has no end but its handler's. */
static bool end_joined(struct exchange *exchange)
{
    if (exchange->call_state == EXCHANGE_CALL_OPEN && exchange->call.joined) {
        exchange->call_state = EXCHANGE_CALL_NONE;
        (void)event_del(&exchange->call_timer);
        return true;
    }
    return false;
}

/* What a held, complete answer says. */
static bool has_succeeded(const struct exchange *exchange)
{
    /* Of a request with two content-types the answer shows how its service has read them. */
    if (!(exchange->is_grpc || exchange->answer_is_grpc) || is_streamed(exchange)) {
        return exchange->status < 400;
    }
    return grpc_has_succeeded(buffer_slice(&exchange->held),
                              exchange->answer_framing.trailer_bytes + 1);
}

void calls_answered(struct exchange *exchange)
{
    end_handler(exchange, CALL_HANDLER_ANSWERED);
    if (end_joined(exchange) || exchange->call_state != EXCHANGE_CALL_OPEN) {
        return;
    }
    exchange->succeeded = has_succeeded(exchange);
    if (exchange->succeeded && !is_streamed(exchange) && !repeats_record(exchange)) {
        calls_fail(exchange, ERROR_ANSWER_KEY_ANSWER_TOO_LARGE, "http.idempotency.maxAnswer");
    } else if (exchange->succeeded) {
        set_ending(exchange);
        call_commit(&exchange->call);
    } else {
        roll_back(exchange, exchange->status < 400
                                ? "the service answered with another grpc-status than 0"
                                : "the service answered with an error");
    }
}

void calls_fail(struct exchange *exchange, enum error_answer failure, const char *reason)
{
    if (exchange->call_state == EXCHANGE_CALL_OPEN) {
        exchange->failed = true;
        exchange->failure = failure;
        roll_back(exchange, reason);
    }
}

void calls_lost(struct exchange *exchange, bool ran)
{
    end_handler(exchange, ran ? CALL_HANDLER_LOST : CALL_HANDLER_ANSWERED);
    if (!end_joined(exchange)) {
        calls_fail(exchange, ERROR_ANSWER_SERVICE_LOST, "the service was lost");
    }
}

void calls_stop(struct exchange *exchange)
{
    end_handler(exchange, CALL_HANDLER_LOST);
    if (!end_joined(exchange)) {
        calls_fail(exchange, ERROR_ANSWER_DRAINING, "the proxy was shut down");
    }
}

void calls_caller_left(struct exchange *exchange)
{
    bool forwarded = exchange->state != EXCHANGE_CONNECTING && exchange->phase != ANSWER_NONE;
    if (exchange->call_state == EXCHANGE_CALL_QUEUED && call_cancel(&exchange->call)) {
        exchange->call_state = EXCHANGE_CALL_NONE;
        repeats_end(exchange, false);
    }
    if (!exchange->handler_open || (forwarded && exchange->request_complete)) {
        return; /* goes on as if the caller were there */
    }
    backend_close(exchange); /* it waits for what will not come */
    end_handler(exchange, forwarded ? CALL_HANDLER_LOST : CALL_HANDLER_ANSWERED);
    if (!end_joined(exchange) && exchange->call_state == EXCHANGE_CALL_OPEN) {
        roll_back(exchange, "the caller left before its request was whole");
    }
}

/* What the caller gets now that its call has ended. */
static void on_ended(struct call *call, enum call_end end)
{
    struct exchange *exchange = exchange_of(call);
    char number[32];
    exchange->call_state = EXCHANGE_CALL_NONE;
    repeats_end(exchange, end == CALL_COMMITTED);
    if (exchange->state != EXCHANGE_ENDING) {
        exchange_run(exchange);
        return;
    }
    (void)snprintf(number, sizeof number, "%llu", (unsigned long long)call->unit);
    if (end == CALL_CONFLICT) {
        exchange_refuse(exchange, ERROR_ANSWER_CONFLICT, number);
    } else if (exchange->failed) {
        exchange_refuse(exchange, exchange->failure, exchange->detail);
    } else if (end == CALL_ROLLED_BACK && exchange->succeeded && !is_streamed(exchange)) {
        exchange_refuse(exchange, ERROR_ANSWER_ROLLED_BACK, call->reason);
    } else {
        exchange_set_state(exchange, EXCHANGE_ANSWERING);
    }
    exchange_run(exchange);
}

/* Its time is over; what the service does with it afterwards is followed without an end. */
static void on_timeout(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct exchange *exchange = context;
    if (exchange->call_state != EXCHANGE_CALL_OPEN) {
        return;
    }
    if (exchange->call.joined) {
        /* The call that it belongs to has ended by now. A caller that does not take its answer
           would keep the handler, and so the domain, waiting. */
        stream_abort(&exchange->caller);
        exchange_caller_gone(exchange);
        exchange_run(exchange);
        return;
    }
    LOG(LOG_WARNING, "http", "Call rolled back: it took longer than http.callTimeout",
        LOG_NUMBER("unit", exchange->call.unit),
        LOG_HEX("trace", exchange->call.trace.bytes, TRACE_ID_BYTES),
        LOG_TEXT("service", exchange->service->name), LOG_TEXT("caller", exchange->caller_text),
        LOG_TEXT("call", exchange->call.name));
    (void)atomic_fetch_add(&exchange->shared->counters.timeouts, 1);
    exchange->mode = ANSWER_DROP;
    buffer_free(&exchange->held);
    exchange->close_after = true;
    if (exchange->state == EXCHANGE_CONNECTING) {
        backend_close(exchange);
        end_handler(exchange, CALL_HANDLER_ANSWERED); /* nothing ran */
    } else if (!exchange->request_complete) {
        backend_close(exchange); /* it waits for what will not come */
        end_handler(exchange, CALL_HANDLER_LOST);
    }
    calls_fail(exchange, ERROR_ANSWER_TIMEOUT, "http.callTimeout");
    exchange_run(exchange);
}

/* ------------------------------------------------------------------ beginning */

static enum error_answer refusal_of(enum call_admission admission)
{
    switch (admission) {
    case CALL_QUEUE_FULL:
        return ERROR_ANSWER_QUEUE_FULL;
    case CALL_QUEUE_TIMEOUT:
        return ERROR_ANSWER_QUEUE_TIMEOUT;
    case CALL_LATE:
        return ERROR_ANSWER_LATE;
    case CALL_LIMIT:
        return ERROR_ANSWER_LIMIT;
    case CALL_DRAINING:
    case CALL_ADMITTED:
    case CALL_WAITING:
        break;
    }
    return ERROR_ANSWER_DRAINING;
}

static void set_call_timer(struct exchange *exchange)
{
    worker_timer_start(&exchange->call_timer, atomic_load(&exchange->shared->call_timeout_ms));
}

static void begin_call(struct exchange *exchange)
{
    exchange->call_state = EXCHANGE_CALL_OPEN;
    exchange->handler_open = true;
    (void)atomic_fetch_add(&exchange->shared->counters.calls, 1);
    if (exchange->caller_gone) {
        calls_caller_left(exchange);
        return;
    }
    if (!is_streamed(exchange)) {
        exchange->mode = ANSWER_HOLD;
    }
    if (exchange->call.joined || !is_streamed(exchange)) {
        set_call_timer(exchange);
    }
    backend_forward(exchange);
}

static void take_admission(struct exchange *exchange, enum call_admission admission)
{
    exchange->call_state = EXCHANGE_CALL_NONE;
    if (admission == CALL_WAITING) {
        exchange->call_state = EXCHANGE_CALL_QUEUED;
        exchange_set_state(exchange, EXCHANGE_WAITING);
    } else if (admission != CALL_ADMITTED) {
        repeats_end(exchange, false);
        exchange_refuse(exchange, refusal_of(admission), NULL);
    } else if (exchange->is_call) {
        begin_call(exchange);
    } else if (!exchange->caller_gone) {
        backend_forward(exchange);
    }
}

static void on_admitted(struct call *call, enum call_admission admission)
{
    struct exchange *exchange = exchange_of(call);
    assert(exchange->call_state == EXCHANGE_CALL_QUEUED && admission != CALL_WAITING);
    take_admission(exchange, admission);
    exchange_run(exchange);
}

void calls_prepare(struct exchange *exchange, const struct span_context *span)
{
    struct call *call = &exchange->call;
    const char *method = (const char *)exchange->texts.data;
    memset(call, 0, sizeof *call);
    call->domain = exchange->service->domain;
    call->worker = exchange->owner->worker;
    call->service = exchange->service->number;
    if (exchange->service->instance_count > 0) {
        /* The one to which there is a connection, if there is. */
        call->service = backend_is_open(exchange) ? exchange->target->number : DOMAIN_NO_INSTANCE;
    }
    call->service_name = exchange->service->name;
    call->inside = exchange->inside;
    call->span = *span;
    memcpy(call->trace.bytes, span->trace_id, sizeof call->trace.bytes);
    call->method = method;
    call->target = method + strlen(method) + 1;
    call->caller = exchange->caller_text;
    call->admitted = on_admitted;
    call->ended = on_ended;
}

void calls_open(struct exchange *exchange)
{
    take_admission(exchange, call_begin(&exchange->call));
}

void calls_wait_read(struct exchange *exchange)
{
    calls_prepare(exchange, &(struct span_context){0});
    take_admission(exchange, call_wait_read(&exchange->call));
}

void calls_init(struct exchange *exchange)
{
    (void)event_assign(&exchange->call_timer, worker_base(exchange->owner->worker), -1, 0,
                       on_timeout, exchange);
}
