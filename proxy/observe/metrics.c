/* Counters of the observe report in the Prometheus text format (observe.h). */
#include "observe/observe_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const by_names[] = {
    [OBSERVED_BY_HTTP] = "http",
    [OBSERVED_BY_TRACE] = "trace",
};

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    (void)fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void two(FILE *out, const char *name, const uint64_t values[2])
{
    for (size_t by = 0; by < 2; by++) {
        (void)fprintf(out, "%s{by=\"%s\"} %" PRIu64 "\n", name, by_names[by], values[by]);
    }
}

static void one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    head(out, name, type, help);
    (void)fprintf(out, "%s %" PRIu64 "\n", name, value);
}

static void write_calls(FILE *out, const struct calls_figures *figures)
{
    const uint64_t open[2] = {figures->open[0], figures->open[1]};
    head(out, "holdfast_observe_calls_open", "gauge", "API calls and traces that are followed.");
    two(out, "holdfast_observe_calls_open", open);
    head(out, "holdfast_observe_calls_total", "counter", "API calls and traces that have ended.");
    two(out, "holdfast_observe_calls_total", figures->calls);
    head(out, "holdfast_observe_multi_write_calls_total", "counter",
         "Of these, those that wrote more than once.");
    two(out, "holdfast_observe_multi_write_calls_total", figures->calls_several);
    one(out, "holdfast_observe_torn_calls_total", "counter",
        "Calls that wrote and had no complete answer below 400.", figures->torn);
    one(out, "holdfast_observe_missed_calls_total", "counter",
        "Calls, and writes of traces, that were not followed: too many were open.",
        figures->missed);
}

static void write_writes(FILE *out, struct observe *observe, const struct calls_figures *figures)
{
    uint64_t outside_writes = 0;
    uint64_t outside_bytes = 0;
    findings_outside_figures(observe->findings, &outside_writes, &outside_bytes);
    head(out, "holdfast_observe_writes_total", "counter", "Write commands seen.");
    two(out, "holdfast_observe_writes_total", figures->writes);
    (void)fprintf(out, "holdfast_observe_writes_total{by=\"none\"} %" PRIu64 "\n", outside_writes);
    head(out, "holdfast_observe_write_bytes_total", "counter", "Bytes of write commands seen.");
    two(out, "holdfast_observe_write_bytes_total", figures->bytes);
    (void)fprintf(out, "holdfast_observe_write_bytes_total{by=\"none\"} %" PRIu64 "\n",
                  outside_bytes);
}

char *observe_metrics(struct observe *observe)
{
    struct calls_figures figures;
    size_t texts = 0;
    uint64_t refused = 0;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    calls_figures_get(observe->calls, &figures);
    text_table_figures(observe->texts, &texts, &refused);
    write_calls(out, &figures);
    write_writes(out, observe, &figures);
    one(out, "holdfast_observe_texts", "gauge", "Shapes, routes and names that are kept.", texts);
    one(out, "holdfast_observe_texts_refused_total", "counter",
        "Texts that became (others): too many were kept.", refused);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
