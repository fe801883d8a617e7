/*
 * From the service to the caller.
 *
 * The head of an answer is put together and read; what follows is streamed, held or dropped as its
 * bytes come. 1xx answers pass at once. What comes after a complete answer belongs to no request:
 * the connection is then not used again (after a 101 it is the other protocol's). The exchange's
 * worker.
 *
 *   NONE --request forwarded--> HEAD --final head--> BODY --its end--> COMPLETE --next--> NONE
 */
#include "front/exchange.h"

#include "holdfast/clock.h"
#include "holdfast/log.h"

#define READS_MAX 8
/* Of a held answer at a time, so that it is not copied as a whole. */
#define FLUSH_BYTES (256u * 1024u)

/* ------------------------------------------------------------------ to the caller */

static void send_caller(struct exchange *exchange, struct slice bytes)
{
    if (!exchange->caller_gone && stream_send(&exchange->caller, bytes) != STATUS_OK) {
        exchange_caller_gone(exchange);
    }
}

static void hold(struct exchange *exchange, struct slice bytes)
{
    bool fits = bytes.size <= exchange->shared->answer_bytes_max &&
                exchange->held.size <= exchange->shared->answer_bytes_max - bytes.size;
    if (fits && buffer_append(&exchange->held, bytes.data, bytes.size) == STATUS_OK) {
        return;
    }
    exchange->mode = ANSWER_DROP;
    exchange->close_after = true;
    buffer_free(&exchange->held);
    calls_fail(exchange, ERROR_ANSWER_ANSWER_TOO_LARGE, "the answer is larger than http.maxAnswer");
}

static void emit(struct exchange *exchange, struct slice bytes)
{
    if (bytes.size == 0) {
        return;
    }
    switch (exchange->mode) {
    case ANSWER_STREAM:
        exchange->answer_begun = true;
        send_caller(exchange, bytes);
        break;
    case ANSWER_HOLD:
        hold(exchange, bytes);
        break;
    case ANSWER_DROP:
        break;
    }
}

void answer_flush(struct exchange *exchange)
{
    while (exchange->held_sent < exchange->held.size && !exchange->caller_gone &&
           stream_pending(&exchange->caller) < FRONT_BACK_PRESSURE_BYTES) {
        struct slice rest = slice_rest(buffer_slice(&exchange->held), exchange->held_sent);
        size_t size = rest.size < FLUSH_BYTES ? rest.size : FLUSH_BYTES;
        exchange->held_sent += size;
        send_caller(exchange, slice_front(rest, size));
        exchange_watch_stall(exchange);
    }
    if (!exchange->caller_gone && exchange->held_sent == exchange->held.size) {
        buffer_free(&exchange->held);
        exchange->held_sent = 0;
        exchange_next(exchange);
    }
}

/* ------------------------------------------------------------------ its bytes */

static void nonsense(struct exchange *exchange, const char *reason)
{
    LOG(LOG_ERROR, "http", "Connection to the service closed: its answer is not valid HTTP",
        LOG_TEXT("service", exchange->service->name), LOG_TEXT("reason", reason));
    backend_lost(exchange);
}

static void complete(struct exchange *exchange)
{
    exchange->phase = ANSWER_COMPLETE;
    exchange->backend_idle_since_ms = clock_monotonic_ms();
    exchange->again = true;
    if (exchange->mode == ANSWER_DROP) {
        backend_close(exchange);
    }
    calls_answered(exchange);
}

/* A whole head. False: it made no sense. */
static bool take_head(struct exchange *exchange, struct slice bytes, bool *ret_interim)
{
    struct http_head head;
    const char *reason = "";
    if (head_parse_answer(bytes, exchange->is_head, &head, &reason) != STATUS_OK) {
        nonsense(exchange, reason);
        return false;
    }
    if (head.status == 101 && !exchange->is_upgrade) {
        nonsense(exchange, "it changes the protocol unasked");
        return false;
    }
    if (head.coded && exchange->caller.pair != NULL) {
        nonsense(exchange, "it has a transfer coding, and its caller speaks HTTP/2");
        return false;
    }
    *ret_interim = head.status < 200 && head.status != 101;
    if (*ret_interim) {
        return true;
    }
    exchange->tunnel =
        head.status == 101 || (exchange->is_connect && head.status >= 200 && head.status < 300);
    exchange->status = head.status;
    exchange->answer_keep_alive = head.keep_alive;
    exchange->answer_is_grpc = grpc_is_type(head.content_type);
    exchange->phase = ANSWER_BODY;
    framing_start(&exchange->answer_framing, exchange->tunnel ? FRAMING_NONE : head.framing,
                  head.length, true);
    return true;
}

/* The next head is at the front of `data`; returns how much is done with, 0: more is needed. */
static size_t process_head(struct exchange *exchange, struct slice data, bool *ret_interim)
{
    size_t size = 0;
    exchange->answer_seen = true;
    enum head_found found = head_find_end(&exchange->answer_scan, data, &size);
    if (found == HEAD_MORE) {
        return 0;
    }
    if (found != HEAD_WHOLE) {
        nonsense(exchange, found == HEAD_MALFORMED ? "a line does not end in CR LF"
                                                   : "its head is larger than 64 KiB");
        return 0;
    }
    exchange->answer_scan = (struct head_scan){0};
    return take_head(exchange, slice_front(data, size), ret_interim) ? size : 0;
}

static size_t process_body(struct exchange *exchange, struct slice data)
{
    size_t used = 0;
    if (framing_take(&exchange->answer_framing, data, &used) == FRAMING_MALFORMED) {
        nonsense(exchange, "a chunk of its body is malformed");
        return 0;
    }
    return used;
}

/*
 * Works through `data` as far as possible; returns how much of it is done with. Head and body go
 * out together: what is not emitted yet begins at `kept_from`.
 */
static size_t process(struct exchange *exchange, struct slice data)
{
    size_t at = 0;
    size_t kept_from = 0;
    while (backend_is_open(exchange) && exchange->phase != ANSWER_COMPLETE) {
        size_t done = 0;
        bool interim = false;
        if (exchange->phase == ANSWER_HEAD && at < data.size) {
            done = process_head(exchange, slice_rest(data, at), &interim);
        } else if (exchange->phase == ANSWER_BODY && at < data.size) {
            done = process_body(exchange, slice_rest(data, at));
        }
        if (interim && exchange->mode != ANSWER_DROP && !exchange->request_old) {
            send_caller(exchange, slice_front(slice_rest(data, at), done));
        }
        at += done;
        kept_from = interim ? at : kept_from;
        if (exchange->phase == ANSWER_BODY && framing_is_complete(&exchange->answer_framing)) {
            emit(exchange, slice_rest(slice_front(data, at), kept_from));
            kept_from = at;
            complete(exchange);
        } else if (done == 0) {
            break;
        }
    }
    if (backend_is_open(exchange)) { /* else it was nonsense, or nobody is there to get it */
        emit(exchange, slice_rest(slice_front(data, at), kept_from));
    }
    return at;
}

/* ------------------------------------------------------------------ reading */

static bool may_read(const struct exchange *exchange)
{
    if (!backend_is_open(exchange) || exchange->backend_ended ||
        (exchange->tunnel && exchange->state != EXCHANGE_TUNNEL)) {
        return false;
    }
    return exchange->mode != ANSWER_STREAM || exchange->caller_gone ||
           stream_pending(&exchange->caller) < FRONT_BACK_PRESSURE_BYTES;
}

static void take_end(struct exchange *exchange)
{
    bool orderly = !exchange->backend.broken;
    if (exchange->state == EXCHANGE_TUNNEL && orderly) {
        exchange->backend_ended = true;
        exchange->again = true;
    } else if (exchange->phase == ANSWER_BODY && orderly &&
               exchange->answer_framing.kind == FRAMING_CLOSE) {
        backend_close(exchange);
        complete(exchange);
    } else if (exchange->phase == ANSWER_NONE || exchange->phase == ANSWER_COMPLETE) {
        backend_close(exchange);
        exchange->again = true;
    } else {
        backend_lost(exchange);
    }
}

static void keep(struct exchange *exchange, struct slice rest)
{
    if (rest.size == 0 || !backend_is_open(exchange)) {
        return;
    }
    bool wanted = exchange->phase == ANSWER_HEAD || exchange->tunnel;
    if (!wanted) {
        backend_close(exchange); /* what it says now answers nothing */
        exchange->again = true;
    } else if (buffer_append(&exchange->answer_incoming, rest.data, rest.size) != STATUS_OK) {
        nonsense(exchange, "out of memory for it");
    }
}

static void process_received(struct exchange *exchange, struct slice data)
{
    struct buffer *kept = &exchange->answer_incoming;
    if (kept->size == 0) {
        keep(exchange, slice_rest(data, process(exchange, data)));
        return;
    }
    if (buffer_append(kept, data.data, data.size) != STATUS_OK) {
        nonsense(exchange, "out of memory for it");
        return;
    }
    struct buffer whole = *kept; /* the connection may be closed, and another opened, meanwhile */
    buffer_init(kept, whole.limit);
    keep(exchange, slice_rest(buffer_slice(&whole), process(exchange, buffer_slice(&whole))));
    buffer_free(&whole);
}

static bool read_more(struct exchange *exchange)
{
    uint8_t *memory = worker_receive_buffer(exchange->owner->worker);
    size_t size = 0;
    enum status status =
        stream_receive(&exchange->backend, memory, LIMIT_RECEIVE_BUFFER_BYTES, &size);
    if (status == STATUS_UNREACHABLE) {
        take_end(exchange);
    }
    if (status != STATUS_OK) {
        return false;
    }
    process_received(exchange, slice_make(memory, size));
    return true;
}

void answer_pump(struct exchange *exchange)
{
    if (exchange->state == EXCHANGE_TUNNEL && exchange->answer_incoming.size > 0) {
        emit(exchange, buffer_slice(&exchange->answer_incoming));
        buffer_free(&exchange->answer_incoming);
    }
    for (int reads = 0; may_read(exchange); reads++) {
        if (reads == READS_MAX) {
            exchange->again = true;
            return;
        }
        if (!read_more(exchange)) {
            return;
        }
    }
}
