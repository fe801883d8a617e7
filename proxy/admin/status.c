/*
 * The page /status (status.h).
 *
 * Threads: the admin server's.
 */
#include "admin/status.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin/json.h"
#include "admin/look.h"
#include "engine/settler.h"
#include "holdfast/clock.h"
#include "recover/journal_status.h"

static void append_proxy(bson_t *document, const struct admin_facts *facts)
{
    bson_t proxy;
    struct admin_judgement judgement;
    admin_facts_judge(facts, &judgement);
    BSON_APPEND_DOCUMENT_BEGIN(document, "proxy", &proxy);
    BSON_APPEND_UTF8(&proxy, "version", HOLDFAST_VERSION);
    BSON_APPEND_INT64(&proxy, "pid", getpid());
    BSON_APPEND_UTF8(&proxy, "phase", admin_phase_name(facts->phase));
    BSON_APPEND_BOOL(&proxy, "ready", judgement.ready);
    if (!judgement.ready) {
        BSON_APPEND_UTF8(&proxy, "reason", judgement.reason);
    }
    BSON_APPEND_INT64(&proxy, "uptimeMillis", (int64_t)(clock_monotonic_ms() - facts->started_ms));
    BSON_APPEND_INT64(&proxy, "generation", (int64_t)facts->generation);
    BSON_APPEND_UTF8(&proxy, "upgrade", facts->upgrade_state);
    BSON_APPEND_INT64(&proxy, "upgradesFailed", (int64_t)facts->upgrades_failed);
    if (facts->upgrade_failure[0] != '\0') {
        admin_json_append(&proxy, "upgradeFailure", facts->upgrade_failure);
    }
    bson_append_document_end(document, &proxy);
}

static void append_journal(bson_t *document, const struct admin_facts *facts)
{
    struct journal_status journal;
    struct error error = {0};
    if (journal_status_read(facts->wal, &journal, &error) != STATUS_OK) {
        admin_json_append(document, "journalError", error.message);
        return;
    }
    journal.clean = false; /* what the former life left; this one has it open */
    journal_status_append(document, &journal);
    BSON_APPEND_INT64(document, "quotaBytes", (int64_t)journal.figures.quota_bytes);
    BSON_APPEND_INT64(document, "groups", (int64_t)journal.figures.groups);
    BSON_APPEND_INT64(document, "batches", (int64_t)journal.figures.batches);
    if (facts->phase == ADMIN_SERVING && facts->engine->settler != NULL) {
        BSON_APPEND_INT64(document, "settledLsn",
                          (int64_t)settler_durable_lsn(facts->engine->settler));
    }
}

static void append_servers(bson_t *upstream, const struct topology_view *view)
{
    bson_t list;
    BSON_APPEND_ARRAY_BEGIN(upstream, "servers", &list);
    for (size_t i = 0; i < view->member_count; i++) {
        const struct topology_member *member = &view->members[i];
        bson_t server;
        char buffer[16];
        const char *key = NULL;
        size_t size = bson_uint32_to_string((uint32_t)i, &key, buffer, sizeof buffer);
        bson_append_document_begin(&list, key, (int)size, &server);
        admin_json_append(&server, "server", member->name);
        BSON_APPEND_UTF8(&server, "state", topology_state_name(member->state));
        if (member->round_trip_ms >= 0) {
            BSON_APPEND_INT64(&server, "roundTripMillis", member->round_trip_ms);
        }
        bson_append_document_end(&list, &server);
    }
    bson_append_array_end(upstream, &list);
}

/* Of servers that are followed: which there are, and where commands go. */
static void append_topology(bson_t *upstream, struct topology *topology)
{
    struct topology_view *view = topology == NULL ? NULL : malloc(sizeof *view);
    BSON_APPEND_BOOL(upstream, "followed", topology != NULL);
    if (view == NULL) {
        return;
    }
    topology_view_get(topology, view);
    admin_json_append(upstream, "set", view->set_name);
    admin_json_append(upstream, "current", view->current);
    BSON_APPEND_INT64(upstream, "changes", (int64_t)view->changes);
    append_servers(upstream, view);
    free(view);
}

static void append_upstream(bson_t *document, const struct admin_facts *facts)
{
    bson_t upstream;
    BSON_APPEND_DOCUMENT_BEGIN(document, "upstream", &upstream);
    BSON_APPEND_BOOL(&upstream, "answers", facts->upstream_failure[0] == '\0');
    BSON_APPEND_INT64(&upstream, "answeredMillisAgo",
                      (int64_t)(clock_monotonic_ms() - facts->upstream_seen_ms));
    BSON_APPEND_UTF8(&upstream, "topology", upstream_topology_name(router_kind(facts->router)));
    append_topology(&upstream, router_topology(facts->router));
    bson_append_document_end(document, &upstream);
}

static void append_unit(bson_t *list, uint32_t index, const struct unit_view *unit,
                        const struct lock_view *locks)
{
    bson_t document;
    char buffer[16];
    const char *key = NULL;
    size_t size = bson_uint32_to_string(index, &key, buffer, sizeof buffer);
    bson_append_document_begin(list, key, (int)size, &document);
    BSON_APPEND_INT64(&document, "unit", (int64_t)unit->id);
    BSON_APPEND_UTF8(&document, "state", unit_state_name(unit->state));
    BSON_APPEND_UTF8(&document, "boundary", unit->boundary);
    admin_json_append(&document, "user", unit->user);
    admin_json_append(&document, "client", unit->client);
    admin_json_append(&document, "appName", unit->application);
    BSON_APPEND_INT64(&document, "ageMillis", (int64_t)unit->age_ms);
    BSON_APPEND_BOOL(&document, "busy", unit->busy);
    BSON_APPEND_UTF8(&document, "isolation", unit->serializable ? "serializable" : "snapshot");
    BSON_APPEND_INT64(&document, "locksHeld", locks == NULL ? 0 : (int64_t)locks->held_count);
    if (unit->serializable && locks != NULL) {
        BSON_APPEND_INT64(&document, "locksShared", (int64_t)locks->share_count);
        BSON_APPEND_INT64(&document, "namespacesRead", (int64_t)locks->namespace_count);
    }
    if (locks != NULL && locks->waits_for != 0) {
        BSON_APPEND_INT64(&document, "waitsFor", (int64_t)locks->waits_for);
    }
    if (unit->ends_with != NULL) {
        BSON_APPEND_UTF8(&document, "endsWith", unit->ends_with);
    }
    bson_append_document_end(list, &document);
}

/* False: out of memory. */
static bool append_units(bson_t *document, struct engine *engine, size_t units_max)
{
    struct admin_look *look = admin_look_take(engine, units_max, ADMIN_UNITS_LISTED_MAX);
    if (look == NULL) {
        return false;
    }
    bson_t units;
    bson_t list;
    struct engine_counters *counters = &engine->counters;
    BSON_APPEND_DOCUMENT_BEGIN(document, "units", &units);
    BSON_APPEND_INT64(&units, "open", (int64_t)look->open);
    BSON_APPEND_INT64(&units, "committed", (int64_t)engine_ended(counters, ENGINE_COMMITTED));
    BSON_APPEND_INT64(&units, "rolledBack", (int64_t)engine_ended(counters, ENGINE_ROLLED_BACK));
    BSON_APPEND_INT64(&units, "conflicts", (int64_t)engine_ended(counters, ENGINE_CONFLICT));
    BSON_APPEND_INT64(&units, "deadlocks", (int64_t)lock_table_deadlocks(engine->locks));
    BSON_APPEND_INT64(&units, "locksHeld", (int64_t)lock_table_held(engine->locks));
    BSON_APPEND_INT64(&units, "listed", (int64_t)look->unit_count);
    BSON_APPEND_ARRAY_BEGIN(&units, "list", &list);
    for (size_t i = 0; i < look->unit_count; i++) {
        const struct unit_view *unit = &look->units[i];
        append_unit(&list, (uint32_t)i, unit, admin_look_locks(look, unit->id));
    }
    bson_append_array_end(&units, &list);
    bson_append_document_end(document, &units);
    free(look);
    return true;
}

static void append_instances(bson_t *document, struct domain *domain)
{
    bson_t list;
    BSON_APPEND_ARRAY_BEGIN(document, "instances", &list);
    for (size_t i = 0; i < domain_instance_count(domain); i++) {
        struct domain_instance_figures figures;
        bson_t instance;
        char buffer[16];
        const char *key = NULL;
        size_t size = bson_uint32_to_string((uint32_t)i, &key, buffer, sizeof buffer);
        domain_instance_figures_get(domain, i, &figures);
        bson_append_document_begin(&list, key, (int)size, &instance);
        BSON_APPEND_BOOL(&instance, "callOpen", figures.open);
        BSON_APPEND_BOOL(&instance, "fenced", figures.fenced);
        BSON_APPEND_BOOL(&instance, "reached", figures.reached);
        BSON_APPEND_INT64(&instance, "otherRequests", (int64_t)figures.others);
        BSON_APPEND_INT64(&instance, "mongoConnections", (int64_t)figures.connections);
        BSON_APPEND_INT64(&instance, "calls", (int64_t)figures.calls);
        BSON_APPEND_INT64(&instance, "writesInCalls", (int64_t)figures.writes);
        BSON_APPEND_INT64(&instance, "writesOutside", (int64_t)figures.writes_out);
        bson_append_document_end(&list, &instance);
    }
    bson_append_array_end(document, &list);
}

static void append_domain(bson_t *list, uint32_t index, struct domain *domain)
{
    struct domain_figures figures;
    bson_t document;
    char buffer[16];
    const char *key = NULL;
    size_t size = bson_uint32_to_string(index, &key, buffer, sizeof buffer);
    domain_figures_get(domain, &figures);
    bson_append_document_begin(list, key, (int)size, &document);
    BSON_APPEND_UTF8(&document, "domain", figures.name);
    BSON_APPEND_INT64(&document, "callsOpen", (int64_t)figures.open);
    BSON_APPEND_INT64(&document, "callsWaiting", (int64_t)figures.waiting);
    BSON_APPEND_INT64(&document, "fenced", (int64_t)figures.fenced);
    BSON_APPEND_INT64(&document, "committed", (int64_t)figures.committed);
    BSON_APPEND_INT64(&document, "rolledBack", (int64_t)figures.rolled_back);
    BSON_APPEND_INT64(&document, "conflicts", (int64_t)figures.conflicts);
    BSON_APPEND_INT64(&document, "queued", (int64_t)figures.queued);
    BSON_APPEND_INT64(&document, "queueRefused", (int64_t)figures.queue_refused);
    BSON_APPEND_INT64(&document, "writesInCalls", (int64_t)figures.writes_in_calls);
    BSON_APPEND_INT64(&document, "writesBeside", (int64_t)figures.writes_beside);
    BSON_APPEND_INT64(&document, "writesRefused", (int64_t)figures.writes_refused);
    if (figures.instances > 0) {
        append_instances(&document, domain);
    }
    bson_append_document_end(list, &document);
}

static void append_domains(bson_t *document, const struct services *services)
{
    bson_t list;
    BSON_APPEND_ARRAY_BEGIN(document, "domains", &list);
    for (size_t i = 0; i < services_domain_count(services); i++) {
        append_domain(&list, (uint32_t)i, services_domain(services, i));
    }
    bson_append_array_end(document, &list);
}

char *admin_status_json(const struct admin_facts *facts, size_t units_max)
{
    bool whole = true;
    units_max = units_max > ADMIN_UNITS_LISTED_MAX ? ADMIN_UNITS_LISTED_MAX : units_max;
    bson_t document = BSON_INITIALIZER;
    append_proxy(&document, facts);
    if (facts->wal != NULL) {
        append_journal(&document, facts);
    }
    if (facts->engine != NULL) {
        append_upstream(&document, facts);
        BSON_APPEND_INT64(&document, "connections", (int64_t)router_connections(facts->router));
        whole = append_units(&document, facts->engine, units_max);
        append_domains(&document, facts->services);
    }
    char *text = whole ? bson_as_relaxed_extended_json(&document, NULL) : NULL;
    bson_destroy(&document);
    return text;
}
