/* Metrics as text (exposition.h). The caller's thread. */
#include "base/exposition.h"

#include <inttypes.h>
#include <string.h>

static const char *const type_names[] = {
    [EXPOSITION_COUNTER] = "counter",
    [EXPOSITION_GAUGE] = "gauge",
    [EXPOSITION_HISTOGRAM] = "histogram",
};

static const char *total(const struct exposition *page)
{
    return page->type == EXPOSITION_COUNTER ? "_total" : "";
}

void exposition_family(struct exposition *page, const char *name, enum exposition_type type,
                       const char *help)
{
    page->family = name;
    page->type = type;
    const char *suffix = page->openmetrics ? "" : total(page);
    (void)fprintf(page->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix, help, name, suffix,
                  type_names[type]);
}

static void name_and_labels(const struct exposition *page, const char *labels)
{
    (void)fprintf(page->out, labels[0] == '\0' ? "%s%s%s " : "%s%s{%s} ", page->family, total(page),
                  labels);
}

void exposition_number(struct exposition *page, const char *labels, uint64_t value)
{
    name_and_labels(page, labels);
    (void)fprintf(page->out, "%" PRIu64 "\n", value);
}

void exposition_microseconds(struct exposition *page, const char *labels, uint64_t us)
{
    name_and_labels(page, labels);
    (void)fprintf(page->out, "%" PRIu64 ".%06u\n", us / 1000000u, (unsigned)(us % 1000000u));
}

/* As Go writes it, which OpenMetrics asks for: 0.00025, 1.0, 2.5. */
static void bound_text(uint64_t us, char text[24])
{
    int size = snprintf(text, 24, "%" PRIu64 ".%06u", us / 1000000u, (unsigned)(us % 1000000u));
    while (size > 2 && text[size - 1] == '0' && text[size - 2] != '.') {
        text[--size] = '\0';
    }
}

void exposition_histogram(struct exposition *page, const char *labels,
                          const struct histogram *histogram)
{
    const char *comma = labels[0] == '\0' ? "" : ",";
    uint64_t count = 0;
    uint64_t sum_us = counter_read(&histogram->sum_us);
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        char bound[24] = "+Inf";
        count += counter_read(&histogram->counts[i]);
        if (i < HISTOGRAM_BOUNDS) {
            bound_text(histogram_bounds_us[i], bound);
        }
        (void)fprintf(page->out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", page->family, labels,
                      comma, bound, count);
    }
    const char *open = labels[0] == '\0' ? "" : "{";
    const char *close = labels[0] == '\0' ? "" : "}";
    (void)fprintf(page->out, "%s_count%s%s%s %" PRIu64 "\n", page->family, open, labels, close,
                  count);
    (void)fprintf(page->out, "%s_sum%s%s%s %" PRIu64 ".%06u\n", page->family, open, labels, close,
                  sum_us / 1000000u, (unsigned)(sum_us % 1000000u));
}

void exposition_gauge(struct exposition *page, const char *name, const char *help, uint64_t value)
{
    exposition_family(page, name, EXPOSITION_GAUGE, help);
    exposition_number(page, "", value);
}

void exposition_counter(struct exposition *page, const char *name, const char *help, uint64_t value)
{
    exposition_family(page, name, EXPOSITION_COUNTER, help);
    exposition_number(page, "", value);
}

void exposition_end(struct exposition *page)
{
    if (page->openmetrics) {
        (void)fprintf(page->out, "# EOF\n");
    }
}

void exposition_label(char *labels, size_t size, const char *name, const char *value)
{
    size_t start = strlen(labels);
    size_t at = start;
    int head = snprintf(labels + at, size - at, "%s%s=\"", start > 0 ? "," : "", name);
    at += head < 0 ? size : (size_t)head;
    for (; *value != '\0' && at + 4 < size; value++) {
        if (*value == '"' || *value == '\\') {
            labels[at++] = '\\';
            labels[at++] = *value;
        } else {
            labels[at++] = '?';
            if (*value >= ' ' && *value < 0x7f) {
                labels[at - 1] = *value;
            }
        }
    }
    if (*value != '\0' || at + 2 > size) {
        labels[start] = '\0';
        return;
    }
    labels[at++] = '"';
    labels[at] = '\0';
}

bool exposition_wants_openmetrics(const char *accept)
{
    return accept != NULL && strstr(accept, "application/openmetrics-text") != NULL;
}
