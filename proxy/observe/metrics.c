/* Counters of the observe report for the metrics page (observe.h). Any thread. */
#include "observe/observe_private.h"

static const char *const by_labels[] = {
    [OBSERVED_BY_HTTP] = "by=\"http\"",
    [OBSERVED_BY_TRACE] = "by=\"trace\"",
};

static void two(struct exposition *page, const char *name, enum exposition_type type,
                const char *help, const uint64_t values[2])
{
    exposition_family(page, name, type, help);
    for (size_t by = 0; by < 2; by++) {
        exposition_number(page, by_labels[by], values[by]);
    }
}

static void write_calls(struct exposition *page, const struct calls_figures *figures)
{
    const uint64_t open[2] = {figures->open[0], figures->open[1]};
    two(page, "holdfast_observe_calls_open", EXPOSITION_GAUGE,
        "API calls and traces that are followed.", open);
    two(page, "holdfast_observe_calls", EXPOSITION_COUNTER, "API calls and traces that have ended.",
        figures->calls);
    two(page, "holdfast_observe_multi_write_calls", EXPOSITION_COUNTER,
        "Of these, those that wrote more than once.", figures->calls_several);
    exposition_counter(page, "holdfast_observe_torn_calls",
                       "Calls that wrote and had no complete answer below 400.", figures->torn);
    exposition_counter(page, "holdfast_observe_missed_calls",
                       "Calls, and writes of traces, that were not followed: too many were open.",
                       figures->missed);
}

static void write_writes(struct exposition *page, struct observe *observe,
                         const struct calls_figures *figures)
{
    uint64_t outside_writes = 0;
    uint64_t outside_bytes = 0;
    findings_outside_figures(observe->findings, &outside_writes, &outside_bytes);
    two(page, "holdfast_observe_writes", EXPOSITION_COUNTER, "Write commands seen.",
        figures->writes);
    exposition_number(page, "by=\"none\"", outside_writes);
    two(page, "holdfast_observe_write_bytes", EXPOSITION_COUNTER, "Bytes of write commands seen.",
        figures->bytes);
    exposition_number(page, "by=\"none\"", outside_bytes);
}

void observe_metrics(struct observe *observe, struct exposition *page)
{
    struct calls_figures figures;
    size_t texts = 0;
    uint64_t refused = 0;
    calls_figures_get(observe->calls, &figures);
    text_table_figures(observe->texts, &texts, &refused);
    write_calls(page, &figures);
    write_writes(page, observe, &figures);
    exposition_gauge(page, "holdfast_observe_texts", "Shapes, routes and names that are kept.",
                     texts);
    exposition_counter(page, "holdfast_observe_texts_refused",
                       "Texts that became (others): too many were kept.", refused);
}
