/*
 * API calls and HTTP requests, by domain and by route.
 *
 * Threads: the admin server's.
 */
#include "admin/metrics.h"

#include <stdlib.h>
#include <string.h>

/* Series of routes that are told; of all workers together. */
#define ROUTES_TOLD_MAX 256u
#define LABELS_BYTES 512u

/* One series of all domains; `offset` is that of a size_t or uint64_t in the figures. */
struct domain_series {
    const char *name;  /* NULL: of the family before */
    const char *label; /* a second one, `outcome="committed"`, or "" */
    enum exposition_type type;
    const char *help;
    size_t offset;
};

#define FIGURE(field) offsetof(struct domain_figures, field)
static const struct domain_series domain_series[] = {
    {"holdfast_calls_open", "", EXPOSITION_GAUGE, "API calls that are open.", FIGURE(open)},
    {"holdfast_calls_waiting", "", EXPOSITION_GAUGE, "API calls in the queue.", FIGURE(waiting)},
    {"holdfast_domain_fenced", "", EXPOSITION_GAUGE,
     "Slots in which a handler may have outlived its call.", FIGURE(fenced)},
    {"holdfast_domain_instances", "", EXPOSITION_GAUGE,
     "Instances that its service has; 0: it is none with instances.", FIGURE(instances)},
    {"holdfast_domain_instances_unreached", "", EXPOSITION_GAUGE,
     "Instances that could not be connected to a moment ago.", FIGURE(unreached)},
    {"holdfast_calls", "outcome=\"committed\"", EXPOSITION_COUNTER,
     "API calls that have ended, by outcome.", FIGURE(committed)},
    {NULL, "outcome=\"rolled_back\"", 0, NULL, FIGURE(rolled_back)},
    {NULL, "outcome=\"conflict\"", 0, NULL, FIGURE(conflicts)},
    {"holdfast_calls_queued", "", EXPOSITION_COUNTER, "API calls that had to wait.",
     FIGURE(queued)},
    {"holdfast_calls_refused", "", EXPOSITION_COUNTER,
     "API calls that found the queue full or waited too long.", FIGURE(queue_refused)},
    {"holdfast_domain_writes", "where=\"call\"", EXPOSITION_COUNTER,
     "Write commands of the services: in a call, beside calls, refused.", FIGURE(writes_in_calls)},
    {NULL, "where=\"beside\"", 0, NULL, FIGURE(writes_beside)},
    {NULL, "where=\"refused\"", 0, NULL, FIGURE(writes_refused)},
};
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "figures are read as uint64_t");

static void write_domain(const struct domain_series *series, struct domain *domain,
                         struct exposition *page)
{
    struct domain_figures figures;
    char labels[LABELS_BYTES] = "";
    uint64_t value = 0;
    domain_figures_get(domain, &figures);
    memcpy(&value, (const char *)&figures + series->offset, sizeof value);
    exposition_label(labels, sizeof labels, "domain", figures.name);
    if (series->label[0] != '\0') {
        size_t size = strlen(labels);
        (void)snprintf(labels + size, sizeof labels - size, ",%s", series->label);
    }
    exposition_number(page, labels, value);
}

static void write_domains(const struct services *services, struct exposition *page)
{
    size_t count = services_domain_count(services);
    for (size_t i = 0; count > 0 && i < sizeof domain_series / sizeof domain_series[0]; i++) {
        const struct domain_series *series = &domain_series[i];
        if (series->name != NULL) {
            exposition_family(page, series->name, series->type, series->help);
        }
        for (size_t at = 0; at < count; at++) {
            write_domain(series, services_domain(services, at), page);
        }
    }
}

static void write_front(const struct front *front, struct exposition *page)
{
    struct front_figures figures;
    front_figures_get(front, &figures);
    exposition_gauge(page, "holdfast_http_connections", "HTTP callers' connections.",
                     figures.connections);
    exposition_counter(page, "holdfast_http_answers_refused",
                       "Answers of the proxy's own, in place of a service's.", figures.refused);
    exposition_counter(page, "holdfast_http_call_timeouts",
                       "Calls that took longer than http.callTimeout.", figures.timeouts);
    exposition_counter(page, "holdfast_http_services_lost",
                       "Requests whose service could not be reached or broke off.",
                       figures.services_lost);
}

static void write_idempotency(struct idempotency *idempotency, struct exposition *page)
{
    struct idempotency_figures figures;
    idempotency_figures_get(idempotency, &figures);
    exposition_gauge(page, "holdfast_idempotency_running",
                     "Calls with an Idempotency-Key that are at work.", figures.running);
    exposition_gauge(page, "holdfast_idempotency_recorded_bytes",
                     "Their recorded answers; http.idempotency.quota bounds them.",
                     figures.recorded_bytes);
    exposition_counter(page, "holdfast_idempotency_answered",
                       "Repeated calls that were answered from the journal.", figures.answered);
    exposition_counter(page, "holdfast_idempotency_refused",
                       "Calls whose key is at work, was used for another request, or found the "
                       "quota reached.",
                       figures.refused);
}

static void route_labels(const struct front_route *route, char labels[LABELS_BYTES])
{
    labels[0] = '\0';
    exposition_label(labels, LABELS_BYTES, "service", route->service_name);
    exposition_label(labels, LABELS_BYTES, "route", route->route);
}

static void write_routes(const struct front_route *routes, size_t count, struct exposition *page)
{
    static const char *const answers[FRONT_ANSWER_CLASSES] = {"none", "1xx", "2xx",
                                                              "3xx",  "4xx", "5xx"};
    char labels[LABELS_BYTES];
    exposition_family(page, "holdfast_http_requests", EXPOSITION_COUNTER,
                      "HTTP requests, by route and answer; none: the caller left before it.");
    for (size_t i = 0; i < count; i++) {
        for (size_t class = 0; class < FRONT_ANSWER_CLASSES; class ++) {
            if (routes[i].answers[class] > 0) {
                route_labels(&routes[i], labels);
                exposition_label(labels, sizeof labels, "code", answers[class]);
                exposition_number(page, labels, routes[i].answers[class]);
            }
        }
    }
    exposition_family(page, "holdfast_http_request_duration_seconds", EXPOSITION_HISTOGRAM,
                      "From a request's head to where its answer is out.");
    for (size_t i = 0; i < count; i++) {
        route_labels(&routes[i], labels);
        exposition_histogram(page, labels, &routes[i].duration);
    }
}

void admin_metrics_calls(const struct services *services, struct exposition *page)
{
    const struct front *front = services_front(services);
    write_domains(services, page);
    if (front == NULL) {
        return;
    }
    write_front(front, page);
    if (services_idempotency(services) != NULL) {
        write_idempotency(services_idempotency(services), page);
    }
    struct front_route *routes = calloc(ROUTES_TOLD_MAX, sizeof *routes);
    if (routes != NULL) {
        write_routes(routes, front_routes_get(front, routes, ROUTES_TOLD_MAX), page);
    }
    free(routes);
}
