/*
 * Events (event.h): counted, written to the log, given to the sink.
 *
 * The sink is written while no other thread of ours runs; `has_sink` is what they look at.
 */
#include "holdfast/event.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"

static const struct {
    const char *reason;
    const char *type;
    const char *object;
} kinds[] = {
#define X(name, reason_, type_, object_)                                                           \
    [EVENT_##name] = {.reason = reason_, .type = type_, .object = object_},
    EVENT_LIST(X)
#undef X
};

static struct event_sink current;
static _Atomic bool has_sink;
static _Atomic uint64_t counts[EVENT_KINDS];

const char *event_reason(enum event_kind kind)
{
    return kinds[kind].reason;
}

const char *event_type(enum event_kind kind)
{
    return kinds[kind].type;
}

const char *event_object(enum event_kind kind)
{
    return kinds[kind].object;
}

void event_set_sink(const struct event_sink *sink)
{
    if (sink != NULL) {
        current = *sink;
    }
    atomic_store(&has_sink, sink != NULL);
}

uint64_t event_count(enum event_kind kind)
{
    return atomic_load_explicit(&counts[kind], memory_order_relaxed);
}

void event_tell(enum event_kind kind, const char *object_name, const char *message_format, ...)
{
    struct event_notice notice = {.kind = kind, .time_ms = clock_wall_ms()};
    va_list arguments;
    va_start(arguments, message_format);
    (void)vsnprintf(notice.message, sizeof notice.message, message_format, arguments);
    va_end(arguments);
    (void)snprintf(notice.object_name, sizeof notice.object_name, "%s", object_name);
    (void)atomic_fetch_add_explicit(&counts[kind], 1, memory_order_relaxed);
    const struct log_field object[] = {LOG_TEXT("kind", event_object(kind)),
                                       LOG_TEXT("name", notice.object_name)};
    const struct log_field fields[] = {
        LOG_TEXT("type", event_type(kind)), LOG_TEXT("reason", event_reason(kind)),
        LOG_TEXT("message", notice.message), LOG_OBJECT("involvedObject", object, 2)};
    log_write(strcmp(event_type(kind), "Normal") == 0 ? LOG_INFO : LOG_WARNING, "event",
              notice.message, fields, sizeof fields / sizeof fields[0]);
    if (atomic_load_explicit(&has_sink, memory_order_relaxed)) {
        current.take(current.context, &notice);
    }
}
