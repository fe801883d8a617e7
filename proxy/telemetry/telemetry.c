/* Who takes spans and events, and sends them on (telemetry.h). */
#include "telemetry/telemetry.h"

#include <stdlib.h>
#include <string.h>

#include "holdfast/event.h"
#include "holdfast/span.h"
#include "telemetry/bodies.h"
#include "telemetry/http_post.h"
#include "telemetry/poster.h"

struct telemetry {
    char *instance;
    struct poster *spans;  /* NULL: not wanted */
    struct poster *events; /* NULL: not wanted */
};

static void take_span(void *context, const struct span *span)
{
    struct telemetry *telemetry = context;
    poster_put(telemetry->spans, span);
}

static void take_event(void *context, const struct event_notice *notice)
{
    struct telemetry *telemetry = context;
    poster_put(telemetry->events, notice);
}

static char *make_spans(void *context, const void *items, size_t count)
{
    const struct telemetry *telemetry = context;
    return bodies_spans(telemetry->instance, items, count);
}

static char *make_event(void *context, const void *items, size_t count)
{
    const struct telemetry *telemetry = context;
    (void)count; /* one by one */
    return bodies_event(telemetry->instance, items);
}

static enum status start_spans(struct telemetry *telemetry, const struct telemetry_options *options,
                               struct error *ret_error)
{
    if (options->trace_endpoint[0] == '\0') {
        return STATUS_OK;
    }
    const struct poster_options poster = {
        .name = "trace.endpoint",
        .url = options->trace_endpoint,
        .item_bytes = sizeof(struct span),
        .ring_size = TELEMETRY_SPANS_MAX,
        .batch = TELEMETRY_SPAN_BATCH,
        .wait_ms = TELEMETRY_SPAN_WAIT_MS,
        .retry_ms = 500,
        .retry_ms_max = 5000,
        .tries_max = 4,
        .make = make_spans,
        .context = telemetry,
    };
    enum status status = poster_start(&poster, &telemetry->spans, ret_error);
    if (status == STATUS_OK) {
        const struct span_sink sink = {
            .take = take_span, .context = telemetry, .root_parts = options->trace_percent * 10000u};
        span_set_sink(&sink);
    }
    return status;
}

static enum status start_events(struct telemetry *telemetry,
                                const struct telemetry_options *options, struct error *ret_error)
{
    if (options->webhook[0] == '\0') {
        return STATUS_OK;
    }
    const struct poster_options poster = {
        .name = "event.webhook",
        .url = options->webhook,
        .secret = options->webhook_secret,
        .item_bytes = sizeof(struct event_notice),
        .ring_size = TELEMETRY_EVENTS_MAX,
        .batch = 1,
        .wait_ms = 0,
        .retry_ms = 500,
        .retry_ms_max = 60000,
        .tries_max = 12, /* some ten minutes: somebody is to hear of it */
        .make = make_event,
        .context = telemetry,
    };
    enum status status = poster_start(&poster, &telemetry->events, ret_error);
    if (status == STATUS_OK) {
        const struct event_sink sink = {.take = take_event, .context = telemetry};
        event_set_sink(&sink);
    }
    return status;
}

enum status telemetry_start(const struct telemetry_options *options,
                            struct telemetry **ret_telemetry, struct error *ret_error)
{
    if (options->trace_endpoint[0] == '\0' && options->webhook[0] == '\0') {
        *ret_telemetry = NULL;
        return STATUS_OK;
    }
    struct telemetry *telemetry = calloc(1, sizeof *telemetry);
    if (telemetry == NULL || (telemetry->instance = strdup(options->instance)) == NULL) {
        free(telemetry);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status = start_spans(telemetry, options, ret_error);
    status = status == STATUS_OK ? start_events(telemetry, options, ret_error) : status;
    if (status != STATUS_OK) {
        telemetry_stop(telemetry);
        return status;
    }
    *ret_telemetry = telemetry;
    return STATUS_OK;
}

enum status telemetry_check_url(const char *url, struct error *ret_error)
{
    struct http_post *post = NULL;
    enum status status = http_post_new(url, NULL, &post, ret_error);
    if (status == STATUS_OK) {
        http_post_free(post);
    }
    return status;
}

struct telemetry *telemetry_stop(struct telemetry *telemetry)
{
    if (telemetry != NULL) {
        span_set_sink(NULL);
        event_set_sink(NULL);
        telemetry->spans = poster_stop(telemetry->spans, TELEMETRY_STOP_MS);
        telemetry->events = poster_stop(telemetry->events, TELEMETRY_STOP_MS);
        free(telemetry->instance);
        free(telemetry);
    }
    return NULL;
}

static void write_poster(struct poster *poster, struct exposition *page, const char *family,
                         const char *help, const char *waiting, const char *waiting_help)
{
    struct poster_figures figures = {0};
    if (poster != NULL) {
        poster_figures_get(poster, &figures);
    }
    exposition_family(page, family, EXPOSITION_COUNTER, help);
    exposition_number(page, "outcome=\"delivered\"", figures.delivered);
    exposition_number(page, "outcome=\"failed\"", figures.failed);
    exposition_number(page, "outcome=\"dropped\"", figures.dropped);
    exposition_gauge(page, waiting, waiting_help, figures.waiting);
}

void telemetry_metrics(const struct telemetry *telemetry, struct exposition *page)
{
    write_poster(telemetry == NULL ? NULL : telemetry->spans, page, "holdfast_trace_spans",
                 "Spans: taken by the collector, given up, or dropped because too many waited.",
                 "holdfast_trace_spans_waiting", "Spans that wait to be sent.");
    write_poster(telemetry == NULL ? NULL : telemetry->events, page, "holdfast_webhook_events",
                 "Events: taken by the webhook, given up, or dropped because too many waited.",
                 "holdfast_webhook_events_waiting", "Events that wait to be sent.");
}
