/*
 * Holding callers still, and handing them over to another process (front.h).
 *
 *   { version: 1, listen: "ADDRESS:PORT", bytes: Binary }
 *
 * A caller goes over while nothing of its request has reached the service: between requests, in the
 * middle of a head or of what is read ahead of a body, or waiting for its call to begin. The other
 * process begins with the request anew: `bytes` are its head, as it would have been forwarded, and
 * what has come behind it.
 *
 * Threads: the caller's, which waits for each worker in turn; visits are made on the worker.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bson/bson.h>

#include "front/exchange.h"
#include "front/front_private.h"

#define HANDOVER_VERSION 1

/* ------------------------------------------------------------------ holding */

static void go_on(struct exchange *exchange, struct front_round *round)
{
    (void)round;
    exchange_run(exchange);
}

void front_hold(struct front *front, bool held)
{
    struct front_round round = {.visit = go_on};
    atomic_store(&front_shared(front)->held, held);
    front_pause_listeners(front, held);
    front_visit(front, &round); /* also a barrier: whoever begins later has seen it */
}

/* ------------------------------------------------------------------ giving */

struct giving {
    struct front_round round;
    void (*give)(void *context, const struct front_parcel *parcel);
    void *context;
    size_t count;
};

/* Nothing of a request is with the service, and nothing of ours is on its way to the caller. */
static bool can_go(struct exchange *exchange)
{
    bool before = exchange->state == EXCHANGE_IDLE || exchange->state == EXCHANGE_HEAD ||
                  exchange->state == EXCHANGE_BODY || exchange->state == EXCHANGE_WAITING;
    bool is_stream =
        exchange->endpoint == NULL; /* of HTTP/2: its caller has no socket of its own */
    if (!before || is_stream || exchange->caller_gone || exchange->caller_ended ||
        exchange->caller.ended || exchange->caller.tls != NULL || exchange->refusing ||
        exchange->request_broken || stream_pending(&exchange->caller) > 0) {
        return false;
    }
    if (exchange->call_state == EXCHANGE_CALL_QUEUED) {
        if (!call_cancel(&exchange->call)) {
            return false; /* the word is on its way */
        }
        exchange->call_state = EXCHANGE_CALL_NONE;
        repeats_end(exchange, false);
    }
    return exchange->call_state == EXCHANGE_CALL_NONE;
}

static bool pack(const struct exchange *exchange, struct buffer *bytes, bson_t *state)
{
    bool has_head = exchange->state == EXCHANGE_BODY || exchange->state == EXCHANGE_WAITING;
    const struct buffer *head = &exchange->head;
    const struct buffer *incoming = &exchange->incoming;
    return (!has_head || buffer_append(bytes, head->data, head->size) == STATUS_OK) &&
           buffer_append(bytes, incoming->data, incoming->size) == STATUS_OK &&
           BSON_APPEND_INT32(state, "version", HANDOVER_VERSION) &&
           BSON_APPEND_UTF8(state, "listen", listener_address(exchange->endpoint->listener)) &&
           bson_append_binary(state, "bytes", -1, BSON_SUBTYPE_BINARY, bytes->data,
                              (uint32_t)bytes->size);
}

static void give(struct exchange *exchange, struct front_round *round)
{
    struct giving *giving = (struct giving *)round;
    bson_t state = BSON_INITIALIZER;
    struct buffer bytes;
    buffer_init(&bytes, exchange->head.limit + exchange->incoming.limit);
    if (can_go(exchange)) {
        if (pack(exchange, &bytes, &state)) {
            const struct front_parcel parcel = {
                .caller = exchange->caller.descriptor,
                .state = bson_get_data(&state),
                .state_size = state.len,
            };
            giving->give(giving->context, &parcel);
            giving->count++;
        }
        exchange_caller_gone(exchange);
        exchange_run(exchange);
    }
    buffer_free(&bytes);
    bson_destroy(&state);
}

size_t front_give(struct front *front,
                  void (*take)(void *context, const struct front_parcel *parcel), void *context)
{
    struct giving giving = {.round.visit = give, .give = take, .context = context};
    front_visit(front, &giving.round);
    return giving.count;
}

/* ------------------------------------------------------------------ taking */

static struct slice binary_of(const bson_t *state, const char *key)
{
    bson_iter_t at;
    bson_subtype_t subtype;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (!bson_iter_init_find(&at, state, key) || !BSON_ITER_HOLDS_BINARY(&at)) {
        return (struct slice){0};
    }
    bson_iter_binary(&at, &subtype, &size, &data);
    return slice_make(data, size);
}

enum status front_take(struct front *front, const struct front_parcel *parcel,
                       struct error *ret_error)
{
    bson_t state;
    bson_iter_t at;
    const struct front_endpoint *endpoint = NULL;
    struct slice bytes = {0};
    if (bson_init_static(&state, parcel->state, parcel->state_size) &&
        bson_validate(&state, BSON_VALIDATE_NONE, NULL) &&
        bson_iter_init_find(&at, &state, "version") &&
        bson_iter_as_int64(&at) == HANDOVER_VERSION && bson_iter_init_find(&at, &state, "listen") &&
        BSON_ITER_HOLDS_UTF8(&at)) {
        endpoint = front_find_endpoint(front, bson_iter_utf8(&at, NULL));
        bytes = binary_of(&state, "bytes");
    }
    if (endpoint == NULL) {
        (void)close(parcel->caller);
        return error_set(ret_error, STATUS_INVALID,
                         "a caller came in another form, or for a listener that is not served");
    }
    front_accept(endpoint, parcel->caller, bytes);
    return STATUS_OK;
}
