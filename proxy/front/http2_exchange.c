/*
 * An exchange that is the connection of an HTTP/2 caller: its socket, between that and the session
 * (http2_caller.h), whose streams are exchanges of their own.
 *
 * Thread: the worker's.
 */
#include "front/exchange.h"

#include "front/http2.h"
#include "holdfast/log.h"

static bool open_stream(void *context, const struct stream_pair_end *end)
{
    return exchange_accept_stream(context, end);
}

static void again(void *context)
{
    struct exchange *exchange = context;
    exchange->again = true;
    event_active(&exchange->turn, EV_TIMEOUT, 0);
}

static void refused(void *context, const char *reason)
{
    const struct exchange *exchange = context;
    (void)atomic_fetch_add(&exchange->shared->counters.refused, 1);
    LOG(LOG_WARNING, "http", "Request refused", LOG_TEXT("caller", exchange->caller_text),
        LOG_TEXT("service", exchange->service->name), LOG_TEXT("reason", reason));
}

void http2_exchange_begin(struct exchange *exchange)
{
    const struct http2_caller_host host = {
        .context = exchange,
        .scratch = worker_receive_buffer(exchange->owner->worker),
        .open = open_stream,
        .again = again,
        .refused = refused,
    };
    exchange->http2 = http2_caller_new(&host);
    if (exchange->http2 == NULL) {
        LOG(LOG_ERROR, "http", "Out of memory for a connection");
        exchange_caller_gone(exchange);
        return;
    }
    exchange_set_state(exchange, EXCHANGE_HTTP2);
    exchange->is_idle = true;
    exchange_set_timer(exchange, exchange->shared->idle_ms);
}

static void close_connection(struct exchange *exchange)
{
    exchange->http2 = http2_caller_free(exchange->http2);
    exchange_set_state(exchange, EXCHANGE_CLOSING);
    exchange_watch_stall(exchange);
}

void http2_exchange_take(struct exchange *exchange, struct slice bytes)
{
    if (!http2_caller_receive(exchange->http2, bytes)) {
        (void)http2_caller_send(exchange->http2, &exchange->caller); /* why */
        close_connection(exchange);
    }
}

void http2_exchange_settle(struct exchange *exchange)
{
    if (exchange->caller_ended) {
        exchange_caller_gone(exchange);
        return;
    }
    if (atomic_load(&exchange->shared->draining)) {
        http2_caller_drain(exchange->http2);
    }
    if (!http2_caller_send(exchange->http2, &exchange->caller)) {
        close_connection(exchange);
        return;
    }
    bool idle =
        http2_caller_streams(exchange->http2) == 0 && stream_pending(&exchange->caller) == 0;
    if (idle != exchange->is_idle) {
        exchange->is_idle = idle;
        if (idle) {
            exchange_set_timer(exchange, exchange->shared->idle_ms);
        } else {
            exchange_watch_stall(exchange);
        }
    }
}

void http2_exchange_timeout(struct exchange *exchange)
{
    size_t pending = stream_pending(&exchange->caller);
    if (exchange->is_idle) {
        http2_caller_drain(exchange->http2);
    } else if (pending > 0 && pending >= exchange->stall_pending) {
        exchange_caller_gone(exchange);
    } else {
        http2_caller_end_stalled(exchange->http2);
        exchange_watch_stall(exchange);
    }
}
