/*
 * Contexts of spans, and the sink of those that have ended (span.h).
 *
 * The sink is written while no other thread of ours runs; `is_on` is what they look at.
 */
#include "holdfast/span.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

static struct span_sink current;
static _Atomic bool is_on;

void span_set_sink(const struct span_sink *sink)
{
    if (sink != NULL) {
        current = *sink;
    }
    atomic_store(&is_on, sink != NULL);
}

bool span_is_on(void)
{
    return atomic_load_explicit(&is_on, memory_order_relaxed);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

/* Without random bytes, which a kernel that has just started may lack, nothing is recorded. */
static bool make_random(uint8_t *bytes, size_t size)
{
    ssize_t got;
    do {
        got = getrandom(bytes, size, GRND_NONBLOCK); /* up to 256 bytes come whole */
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)size && !is_zero(bytes, size);
}

static void make_span_id(struct span_context *context)
{
    if (context->sampled && span_is_on() && !make_random(context->span_id, SPAN_ID_BYTES)) {
        memset(context->span_id, 0, SPAN_ID_BYTES);
    }
}

void span_continue(const uint8_t trace_id[SPAN_TRACE_BYTES], const uint8_t parent[SPAN_ID_BYTES],
                   bool sampled, struct span_context *ret_context)
{
    struct span_context context = {.sampled = sampled};
    memcpy(context.trace_id, trace_id, SPAN_TRACE_BYTES);
    memcpy(context.parent_id, parent, SPAN_ID_BYTES);
    make_span_id(&context);
    *ret_context = context;
}

void span_root(struct span_context *ret_context)
{
    struct span_context context = {0};
    uint32_t draw = 0;
    if (span_is_on() && make_random(context.trace_id, SPAN_TRACE_BYTES)) {
        memcpy(&draw, context.trace_id + SPAN_TRACE_BYTES - sizeof draw, sizeof draw);
        context.sampled = draw % 1000000u < current.root_parts;
        make_span_id(&context);
    }
    *ret_context = context;
}

void span_child(const struct span_context *parent, struct span_context *ret_context)
{
    struct span_context context = {0};
    if (span_is_wanted(parent)) {
        context = *parent;
        memcpy(context.parent_id, parent->span_id, SPAN_ID_BYTES);
        memset(context.span_id, 0, SPAN_ID_BYTES);
        make_span_id(&context);
    }
    *ret_context = context;
}

bool span_is_wanted(const struct span_context *context)
{
    return context->sampled && span_is_on() && !is_zero(context->span_id, SPAN_ID_BYTES);
}

void span_end(const struct span *span)
{
    if (span_is_on()) {
        current.take(current.context, span);
    }
}
