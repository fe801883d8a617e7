/*
 * The observe report's entrance (observe.h): what the boundary and the router tell is made to
 * shapes, routes and texts here, and goes on to the table that it concerns.
 *
 *   call_begin -- route_make() ------> calls --- ended, several writes ---> findings --> report
 *   write ------- shape_make() -----> calls
 *                            `------> findings, if it belongs to no call
 *
 * No mutex is held here. Order of mutexes below: calls or findings, then texts.
 */
#include "observe/observe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "holdfast/clock.h"
#include "observe/identifier.h"
#include "observe/observe_private.h"

struct observe *observe_new(void)
{
    struct observe *observe = calloc(1, sizeof *observe);
    if (observe == NULL) {
        return NULL;
    }
    /* Without random bytes it works as well, only that collisions could be worked out. */
    if (getrandom(&observe->seed, sizeof observe->seed, GRND_NONBLOCK) < 0) {
        observe->seed = clock_wall_ms();
    }
    observe->texts = text_table_new(observe->seed);
    observe->routes = route_table_new();
    if (observe->texts != NULL) {
        observe->findings = findings_new(observe->texts, observe->seed);
    }
    if (observe->findings != NULL) {
        observe->calls =
            calls_new(observe->texts, observe->findings, observe->seed, clock_monotonic_ms());
    }
    return observe->calls == NULL || observe->routes == NULL ? observe_free(observe) : observe;
}

struct observe *observe_free(struct observe *observe)
{
    if (observe != NULL) {
        calls_free(observe->calls);
        findings_free(observe->findings);
        route_table_free(observe->routes);
        text_table_free(observe->texts);
        free(observe);
    }
    return NULL;
}

_Static_assert(OBSERVE_ROUTE_BYTES == ROUTE_BYTES_MAX + 1, "what route_make() writes");

size_t observe_route(struct observe *observe, const char *service, const char *method,
                     const char *target, char ret_route[OBSERVE_ROUTE_BYTES])
{
    char clean[IDENTIFIER_BYTES_MAX + 1];
    size_t size = text_clean(TEXT_PLAIN, slice_text(service), clean, sizeof clean - 1);
    clean[size] = '\0';
    return route_make(observe->routes, clean, method, target, ret_route);
}

uint64_t observe_call_begin(struct observe *observe, const char *service, const char *method,
                            const char *target)
{
    char clean[IDENTIFIER_BYTES_MAX + 1];
    char route[ROUTE_BYTES_MAX + 1];
    if (observe == NULL) {
        return 0;
    }
    size_t size = text_clean(TEXT_PLAIN, slice_text(service), clean, sizeof clean - 1);
    clean[size] = '\0';
    size_t route_size = route_make(observe->routes, clean, method, target, route);
    return calls_begin(observe->calls, text_keep(observe->texts, slice_make(clean, size)),
                       text_keep(observe->texts, slice_make(route, route_size)));
}

void observe_write(struct observe *observe, uint64_t call, const struct trace_id *trace,
                   const struct observe_writer *writer, const struct command_view *view,
                   const struct op_msg *message, size_t message_bytes)
{
    static const struct trace_id no_trace = {{0}};
    struct shape shape;
    if (observe == NULL) {
        return;
    }
    shape_make(view, message, &shape);
    const struct people_writer people = people_writer_make(writer, observe->seed);
    const struct calls_write write = {
        .shape = &shape,
        .shape_hash = text_hash(observe->seed, shape.text, shape.size),
        .writer = &people,
        .bytes = message_bytes,
    };
    bool followed = false;
    if (call != 0) {
        followed = calls_write(observe->calls, call, &write);
    } else if (trace != NULL && memcmp(trace, &no_trace, sizeof no_trace) != 0) {
        followed = calls_write_traced(observe->calls, trace, &write);
    }
    if (!followed) {
        findings_count_outside(observe->findings, &shape, write.shape_hash, &people, message_bytes);
    }
}

void observe_call_end(struct observe *observe, uint64_t call, enum observe_end end)
{
    if (observe != NULL) {
        calls_end(observe->calls, call, end != OBSERVE_ANSWERED);
    }
}

void observe_tick(struct observe *observe, uint64_t now_ms)
{
    if (observe != NULL) {
        calls_tick(observe->calls, now_ms);
    }
}
