/*
 * From the caller to the service.
 *
 * A head is put together, judged and, when its call has begun, forwarded; a body goes from the
 * worker's receive buffer to the service as its bytes come. What cannot go on yet stays in
 * `incoming`: the beginning of a head, or what followed one that has to wait. The exchange's
 * worker.
 *
 * A call does not begin before its body is here, or as much of it as is read ahead
 * (FRONT_READ_AHEAD_BYTES): it might hold its domain for as long as its caller likes to take. With
 * Expect: 100-continue it begins on its head, for its caller waits for the service.
 *
 * Invariant: `incoming` begins where working through the caller's bytes has stopped. In BODY that
 * is where the body begins.
 */
#include "front/exchange.h"

#include <string.h>

#include "front/http2.h"
#include "holdfast/log.h"
#include "net/stream_tls.h"
#include "wire/traceparent.h"

#define READS_MAX 8

/* ------------------------------------------------------------------ a head */

/* What the service is told: the call's own span, if there is to be one. */
static void make_trace(struct span_context *span, char *text)
{
    struct traceparent made = {.sampled = true};
    span_root(span);
    if (span_is_wanted(span)) {
        memcpy(made.trace.bytes, span->trace_id, sizeof made.trace.bytes);
        memcpy(made.parent, span->span_id, sizeof made.parent);
        traceparent_write(&made, text);
        return;
    }
    traceparent_make(&made.trace, text);
    *span = (struct span_context){0};
    memcpy(span->trace_id, made.trace.bytes, sizeof span->trace_id);
}

/*
 * The trace of a call, and what its head needs for it. An invalid traceparent passes untouched,
 * unless the call's writes could then not be told from others.
 */
static struct span_context find_trace(const struct exchange *exchange, const struct http_head *head,
                                      char *text, struct head_changes *changes)
{
    struct traceparent found;
    struct span_context span = {0};
    if (head->traceparents == 1 && traceparent_parse(head->traceparent, &found)) {
        span_continue(found.trace.bytes, found.parent, found.sampled, &span);
        return span;
    }
    if (head->traceparents == 0 || exchange->service->trace_correlated) {
        make_trace(&span, text);
        changes->drop_traceparent = head->traceparents > 0;
        changes->traceparent = text;
    }
    return span;
}

static bool is_method(const struct http_head *head, const char *method)
{
    return slice_equal(head->method, slice_text(method));
}

static enum status keep_texts(struct exchange *exchange, const struct http_head *head)
{
    struct buffer *texts = &exchange->texts;
    enum status status = buffer_append(texts, head->method.data, head->method.size);
    status = status == STATUS_OK ? buffer_append(texts, "", 1) : status;
    status =
        status == STATUS_OK ? buffer_append(texts, head->target.data, head->target.size) : status;
    return status == STATUS_OK ? buffer_append(texts, "", 1) : status;
}

static void note_request(struct exchange *exchange, const struct http_head *head)
{
    exchange->request_keep_alive = head->keep_alive;
    exchange->request_old = head->minor_version == 0;
    exchange->has_body = head->framing != FRAMING_NONE;
    exchange->is_head = is_method(head, "HEAD");
    exchange->is_connect = is_method(head, "CONNECT");
    exchange->is_upgrade = head->upgrade && !head->upgrade_http2;
    exchange->is_grpc = grpc_is_type(head->content_type);
    exchange->is_call = routes_is_call(exchange->shared->routes, head->method, head->target);
    framing_start(&exchange->framing, head->framing, head->length, false);
    exchange->request_complete = framing_is_complete(&exchange->framing);
    exchange->ahead = exchange->framing;
    exchange->ahead_bytes = 0;
}

/* The service is not asked before the body is here: its caller is told to send it. */
static void tell_continue(struct exchange *exchange)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (stream_send(&exchange->caller, slice_make((const uint8_t *)interim, sizeof interim - 1)) !=
        STATUS_OK) {
        exchange_caller_gone(exchange);
    }
}

/* `body`: as much of it as the call is to begin with. */
static void open_call(struct exchange *exchange, struct slice body)
{
    if (exchange->repeat == NULL || repeats_admit(exchange, body)) {
        calls_open(exchange);
    }
}

static void begin_call(struct exchange *exchange, const struct http_head *head, struct slice bytes,
                       const struct span_context *span)
{
    calls_prepare(exchange, span);
    if (!repeats_begin(exchange, head, bytes)) {
        return;
    }
    if (exchange->request_complete) {
        open_call(exchange, (struct slice){0});
    } else if (head->expects_continue && exchange->repeat == NULL) {
        calls_open(exchange);
    } else {
        if (head->expects_continue) {
            tell_continue(exchange);
        }
        exchange_set_state(exchange, EXCHANGE_BODY); /* process() goes on with look_ahead() */
        exchange_set_timer(exchange, exchange->shared->body_ms);
    }
}

static void begin(struct exchange *exchange, struct slice bytes, const struct http_head *head)
{
    char text[TRACEPARENT_TEXT_BYTES];
    struct span_context span = {0};
    struct head_changes changes = {.drop_upgrade = head->upgrade_http2};
    note_request(exchange, head);
    (void)event_del(&exchange->timer);
    (void)atomic_fetch_add(&exchange->shared->counters.requests, 1);
    if (exchange->is_call) {
        span = find_trace(exchange, head, text, &changes);
    }
    bool reads = exchange->is_head || is_method(head, "GET");
    if (head_copy(bytes, &changes, &exchange->head) != STATUS_OK ||
        keep_texts(exchange, head) != STATUS_OK) {
        LOG(LOG_ERROR, "http", "Out of memory for a request");
        exchange_caller_gone(exchange);
        return;
    }
    route_figures_begin(exchange);
    if (exchange->is_grpc && exchange->service->protocol == FRONT_HTTP1) {
        exchange_refuse(exchange, ERROR_ANSWER_NO_GRPC, NULL);
    } else if (exchange->is_call) {
        begin_call(exchange, head, bytes, &span);
    } else if (exchange->service->reads_wait && reads && !exchange->inside) {
        calls_wait_read(exchange);
    } else {
        backend_forward(exchange);
    }
}

static void judge(struct exchange *exchange, struct slice bytes)
{
    struct http_head head;
    const char *reason = "";
    enum status status = head_parse_request(bytes, &head, &reason);
    if (status == STATUS_OK) {
        begin(exchange, bytes, &head);
    } else {
        exchange_malformed(
            exchange, status == STATUS_UNSUPPORTED ? ERROR_ANSWER_VERSION : ERROR_ANSWER_MALFORMED,
            reason);
    }
}

/* True: it is HTTP/2 that is spoken, or it may be. */
static bool begins_http2(struct exchange *exchange, struct slice data)
{
    bool whole = false;
    if (!http2_is_preface(data, &whole)) {
        exchange->is_first = false;
        return false;
    }
    if (whole) {
        http2_exchange_begin(exchange);
    }
    return true;
}

/* Returns how much of `data` is done with. */
static size_t take_head(struct exchange *exchange, struct slice data)
{
    size_t size = 0;
    if (exchange->scan.line_start == 0 && data.size >= 2 && data.data[0] == '\r' &&
        data.data[1] == '\n') {
        exchange->scan = (struct head_scan){0};
        return 2; /* an empty line before a request is to be overlooked */
    }
    if (exchange->state == EXCHANGE_IDLE) {
        exchange_set_state(exchange, EXCHANGE_HEAD);
        exchange_set_timer(exchange, exchange->shared->head_ms);
    }
    if (exchange->is_first && begins_http2(exchange, data)) {
        return 0;
    }
    if (exchange->scan.line_start == 0 && stream_tls_is_spoken(data)) {
        exchange_malformed(exchange, ERROR_ANSWER_MALFORMED,
                           "the caller speaks TLS, and this listener does not (http.tls.mode)");
        return data.size;
    }
    switch (head_find_end(&exchange->scan, data, &size)) {
    case HEAD_MORE:
        return 0;
    case HEAD_WHOLE:
        judge(exchange, slice_front(data, size));
        return size;
    case HEAD_MALFORMED:
        exchange_malformed(exchange, ERROR_ANSWER_MALFORMED, "a line does not end in CR LF");
        return data.size;
    case HEAD_TOO_LARGE:
        exchange_malformed(exchange, ERROR_ANSWER_HEAD_TOO_LARGE, "its head is too large");
        return data.size;
    }
    return 0;
}

/* ------------------------------------------------------------------ a body */

/* Of a body, before its call begins. */
static size_t read_ahead_max(const struct exchange *exchange)
{
    return exchange->repeat == NULL ? FRONT_READ_AHEAD_BYTES
                                    : exchange->shared->idempotency.body_bytes_max + 1u;
}

/* `body`: what is here from the beginning of it on. What is new is looked at, all of it is kept. */
static void look_ahead(struct exchange *exchange, struct slice body)
{
    size_t used = 0;
    enum framing_result result =
        framing_take(&exchange->ahead, slice_rest(body, exchange->ahead_bytes), &used);
    exchange->ahead_bytes += used;
    if (result == FRAMING_MALFORMED) {
        exchange_malformed(exchange, ERROR_ANSWER_MALFORMED, "a chunk of its body is malformed");
    } else if (result == FRAMING_COMPLETE || exchange->ahead_bytes >= read_ahead_max(exchange)) {
        (void)event_del(&exchange->timer);
        open_call(exchange, slice_front(body, exchange->ahead_bytes));
    }
}

static bool may_forward(const struct exchange *exchange)
{
    bool forwarding = exchange->state == EXCHANGE_OPEN || exchange->state == EXCHANGE_ENDING ||
                      exchange->state == EXCHANGE_ANSWERING || exchange->state == EXCHANGE_TUNNEL;
    return forwarding && !exchange->request_complete && !exchange->request_broken &&
           backend_is_open(exchange) &&
           stream_pending(&exchange->backend) < FRONT_BACK_PRESSURE_BYTES;
}

static size_t forward_body(struct exchange *exchange, struct slice data)
{
    size_t used = 0;
    enum framing_result result = framing_take(&exchange->framing, data, &used);
    if (result == FRAMING_MALFORMED) {
        exchange_malformed(exchange, ERROR_ANSWER_MALFORMED, "a chunk of its body is malformed");
        return data.size;
    }
    exchange->request_complete = result == FRAMING_COMPLETE;
    backend_send(exchange, slice_front(data, used));
    return used;
}

void request_discard(struct exchange *exchange)
{
    size_t used = 0;
    if (exchange->request_complete || exchange->request_broken || exchange->phase != ANSWER_NONE) {
        return;
    }
    enum framing_result result =
        framing_take(&exchange->framing, buffer_slice(&exchange->incoming), &used);
    exchange->request_complete = result == FRAMING_COMPLETE;
    exchange->request_broken = result == FRAMING_MALFORMED;
    buffer_consume(&exchange->incoming, used);
}

/* ------------------------------------------------------------------ reading */

/* Works through `data` as far as possible; returns how much of it is done with. */
static size_t process(struct exchange *exchange, struct slice data)
{
    size_t at = 0;
    while (at < data.size && !exchange->caller_gone) {
        size_t done = 0;
        bool between = exchange->state == EXCHANGE_IDLE || exchange->state == EXCHANGE_HEAD;
        if ((between || exchange->state == EXCHANGE_BODY) &&
            atomic_load_explicit(&exchange->shared->held, memory_order_relaxed)) {
            break;
        }
        if (exchange->request_broken || exchange->state == EXCHANGE_CLOSING) {
            return data.size;
        }
        if (exchange->state == EXCHANGE_BODY && !exchange->refusing) {
            look_ahead(exchange, slice_rest(data, at));
        }
        if (between && !exchange->refusing) {
            done = take_head(exchange, slice_rest(data, at));
        }
        if (exchange->state == EXCHANGE_HTTP2) {
            http2_exchange_take(exchange, slice_rest(data, at));
            return data.size;
        }
        if (between) {
            /* done with as much as that was */
        } else if (may_forward(exchange)) {
            done = forward_body(exchange, slice_rest(data, at));
        }
        if (done == 0) {
            break;
        }
        at += done;
    }
    return at < data.size ? at : data.size;
}

static void process_kept(struct exchange *exchange)
{
    size_t done = process(exchange, buffer_slice(&exchange->incoming));
    if (exchange->caller_gone) {
        return;
    }
    buffer_consume(&exchange->incoming, done);
    if (exchange->incoming.size == 0) {
        buffer_free(&exchange->incoming);
    }
}

/* How much may be read now; 0: nothing. */
static size_t bytes_wanted(const struct exchange *exchange)
{
    size_t kept = exchange->incoming.size;
    if (exchange->state == EXCHANGE_IDLE || exchange->state == EXCHANGE_HEAD) {
        return kept < HEAD_BYTES_MAX ? LIMIT_RECEIVE_BUFFER_BYTES : 0;
    }
    if (exchange->state == EXCHANGE_HTTP2) {
        return stream_pending(&exchange->caller) < FRONT_BACK_PRESSURE_BYTES
                   ? LIMIT_RECEIVE_BUFFER_BYTES
                   : 0;
    }
    if (may_forward(exchange) || exchange->request_broken || exchange->state == EXCHANGE_CLOSING) {
        return LIMIT_RECEIVE_BUFFER_BYTES;
    }
    size_t most = exchange->state == EXCHANGE_BODY ? read_ahead_max(exchange)
                                                   : (size_t)FRONT_READ_AHEAD_BYTES;
    size_t wanted = kept < most ? most - kept : 0;
    return wanted < LIMIT_RECEIVE_BUFFER_BYTES ? wanted : LIMIT_RECEIVE_BUFFER_BYTES;
}

static bool read_more(struct exchange *exchange, size_t wanted)
{
    uint8_t *memory = worker_receive_buffer(exchange->owner->worker);
    size_t size = 0;
    enum status status = stream_receive(&exchange->caller, memory, wanted, &size);
    if (status == STATUS_UNREACHABLE) {
        exchange->caller_ended = true;
        exchange->again = true;
        if (exchange->caller.broken) {
            exchange_caller_gone(exchange);
        }
    }
    if (status != STATUS_OK) {
        return false;
    }
    struct slice data = slice_make(memory, size);
    bool kept = exchange->incoming.size > 0;
    size_t done = kept ? 0 : process(exchange, data);
    struct slice rest = slice_rest(data, done);
    if (rest.size > 0 && !exchange->caller_gone &&
        buffer_append(&exchange->incoming, rest.data, rest.size) != STATUS_OK) {
        LOG(LOG_ERROR, "http", "Out of memory for a request");
        exchange_caller_gone(exchange);
    }
    return true;
}

static void pump(struct exchange *exchange)
{
    for (int reads = 0; !exchange->caller_gone; reads++) {
        if (exchange->incoming.size > 0) {
            process_kept(exchange);
        }
        if (exchange->request_complete) {
            backend_flush_head(exchange); /* before looking for what follows */
        }
        size_t wanted = exchange->caller_gone ? 0 : bytes_wanted(exchange);
        if (wanted == 0 || exchange->caller_ended) {
            return;
        }
        if (reads == READS_MAX) {
            exchange->again = true;
            return;
        }
        if (!read_more(exchange, wanted)) {
            return;
        }
    }
}

void request_pump(struct exchange *exchange)
{
    pump(exchange);
    backend_flush_head(exchange);
}
