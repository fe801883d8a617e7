/*
 * The page /metrics (metrics.h). Counters begin at 0 with each start of the proxy, as Prometheus
 * expects; what never falls ends with _total.
 *
 * Threads: the admin server's.
 */
#include "admin/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/clock.h"
#include "recover/journal_status.h"

static void head(struct evbuffer *body, const char *name, const char *type, const char *help)
{
    (void)evbuffer_add_printf(body, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(struct evbuffer *body, const char *name, const char *help, uint64_t value)
{
    head(body, name, "gauge", help);
    (void)evbuffer_add_printf(body, "%s %" PRIu64 "\n", name, value);
}

static void write_proxy(const struct admin_facts *facts, struct evbuffer *body)
{
    char reason[ADMIN_REASON_BYTES];
    head(body, "holdfast_build_info", "gauge", "Always 1; the version is in the label.");
    (void)evbuffer_add_printf(body, "holdfast_build_info{version=\"%s\"} 1\n", HOLDFAST_VERSION);
    gauge(body, "holdfast_ready", "1 if clients are served, as /readyz says.",
          admin_facts_ready(facts, reason) ? 1 : 0);
    gauge(body, "holdfast_uptime_seconds", "Since the start of the process.",
          (clock_monotonic_ms() - facts->started_ms) / 1000);
}

static void write_journal(struct wal *wal, struct evbuffer *body)
{
    struct journal_status journal;
    if (journal_status_read(wal, &journal, NULL) != STATUS_OK) {
        return; /* a missing series is how Prometheus is told */
    }
    gauge(body, "holdfast_journal_used_bytes", "Of the journal, pages in use.",
          journal.figures.used_bytes);
    gauge(body, "holdfast_journal_quota_bytes", "wal.quota.", journal.figures.quota_bytes);
    gauge(body, "holdfast_units_conflict", "Units in the journal that wait for an operator.",
          journal.figures.units_conflict);
}

static void write_units(struct engine *engine, struct evbuffer *body)
{
    struct engine_counters *counters = &engine->counters;
    const struct {
        const char *outcome;
        uint64_t value;
    } outcomes[] = {
        {"committed", atomic_load(&counters->committed)},
        {"rolled_back", atomic_load(&counters->rolled_back)},
        {"conflict", atomic_load(&counters->conflicts)},
    };
    gauge(body, "holdfast_units_open", "Units that are open.",
          unit_table_open_count(engine->units));
    head(body, "holdfast_units_total", "counter", "Units that have ended, by outcome.");
    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
        (void)evbuffer_add_printf(body, "holdfast_units_total{outcome=\"%s\"} %" PRIu64 "\n",
                                  outcomes[i].outcome, outcomes[i].value);
    }
    head(body, "holdfast_server_restarts_total", "counter",
         "Restarts of the server that were noticed.");
    (void)evbuffer_add_printf(body, "holdfast_server_restarts_total %" PRIu64 "\n",
                              atomic_load(&counters->restarts));
    head(body, "holdfast_units_redone_total", "counter",
         "Committed units that the server had lost in a crash and that are there again.");
    (void)evbuffer_add_printf(body, "holdfast_units_redone_total %" PRIu64 "\n",
                              atomic_load(&counters->redone));
    gauge(body, "holdfast_locks_held", "Locked documents.", lock_table_held(engine->locks));
    head(body, "holdfast_deadlocks_total", "counter", "Deadlocks that were broken.");
    (void)evbuffer_add_printf(body, "holdfast_deadlocks_total %" PRIu64 "\n",
                              (uint64_t)lock_table_deadlocks(engine->locks));
}

/* One series of all domains; `offset` is that of a size_t or uint64_t in the figures. */
struct domain_series {
    const char *name;
    const char *label; /* a second one, `outcome="committed"`, or "" */
    const char *type;
    const char *help; /* NULL: the series before has told it */
    size_t offset;
};

#define FIGURE(field) offsetof(struct domain_figures, field)
static const struct domain_series domain_series[] = {
    {"holdfast_calls_open", "", "gauge", "API calls that are open.", FIGURE(open)},
    {"holdfast_calls_waiting", "", "gauge", "API calls in the queue.", FIGURE(waiting)},
    {"holdfast_domain_fenced", "", "gauge", "Slots in which a handler may have outlived its call.",
     FIGURE(fenced)},
    {"holdfast_calls_total", ",outcome=\"committed\"", "counter",
     "API calls that have ended, by outcome.", FIGURE(committed)},
    {"holdfast_calls_total", ",outcome=\"rolled_back\"", NULL, NULL, FIGURE(rolled_back)},
    {"holdfast_calls_total", ",outcome=\"conflict\"", NULL, NULL, FIGURE(conflicts)},
    {"holdfast_calls_queued_total", "", "counter", "API calls that had to wait.", FIGURE(queued)},
    {"holdfast_calls_refused_total", "", "counter",
     "API calls that found the queue full or waited too long.", FIGURE(queue_refused)},
    {"holdfast_domain_writes_total", ",where=\"call\"", "counter",
     "Write commands of the services: in a call, beside calls, refused.", FIGURE(writes_in_calls)},
    {"holdfast_domain_writes_total", ",where=\"beside\"", NULL, NULL, FIGURE(writes_beside)},
    {"holdfast_domain_writes_total", ",where=\"refused\"", NULL, NULL, FIGURE(writes_refused)},
};
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "figures are read as uint64_t");

static void write_domains(const struct services *services, struct evbuffer *body)
{
    size_t count = services_domain_count(services);
    for (size_t i = 0; count > 0 && i < sizeof domain_series / sizeof domain_series[0]; i++) {
        const struct domain_series *series = &domain_series[i];
        if (series->help != NULL) {
            head(body, series->name, series->type, series->help);
        }
        for (size_t at = 0; at < count; at++) {
            struct domain_figures figures;
            uint64_t value = 0;
            domain_figures_get(services_domain(services, at), &figures);
            memcpy(&value, (const char *)&figures + series->offset, sizeof value);
            /* A domain's name needs no escaping: the configuration allows letters, digits, ._- */
            (void)evbuffer_add_printf(body, "%s{domain=\"%s\"%s} %" PRIu64 "\n", series->name,
                                      figures.name, series->label, value);
        }
    }
}

int admin_metrics_write(const struct admin_facts *facts, struct evbuffer *body)
{
    write_proxy(facts, body);
    if (facts->wal != NULL) {
        write_journal(facts->wal, body);
    }
    if (facts->engine != NULL) {
        gauge(body, "holdfast_connections", "Clients' connections.",
              router_connections(facts->router));
        write_units(facts->engine, body);
        write_domains(facts->services, body);
    }
    char *observed = facts->observe == NULL ? NULL : observe_metrics(facts->observe);
    if (observed != NULL) {
        (void)evbuffer_add_printf(body, "%s", observed);
        free(observed);
    }
    return 200;
}
