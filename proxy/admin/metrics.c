/*
 * The page /metrics (metrics.h). Counters begin at 0 with each start of the proxy, as Prometheus
 * expects; what never falls ends with _total.
 *
 * Threads: the admin server's.
 */
#include "admin/metrics.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "engine/finish.h"
#include "engine/settler.h"
#include "holdfast/clock.h"
#include "holdfast/event.h"
#include "holdfast/log.h"
#include "holdfast/write_permit.h"
#include "recover/journal_status.h"

static void write_phases(const struct admin_facts *facts, struct exposition *page)
{
    exposition_family(page, "holdfast_phase", EXPOSITION_GAUGE, "1 for the phase it is in.");
    for (enum admin_phase phase = 0; phase < ADMIN_PHASES; phase++) {
        char labels[64] = "";
        exposition_label(labels, sizeof labels, "phase", admin_phase_name(phase));
        exposition_number(page, labels, facts->phase == phase);
    }
}

static void write_proxy(const struct admin_facts *facts, struct exposition *page)
{
    struct admin_judgement judgement;
    admin_facts_judge(facts, &judgement);
    exposition_family(page, "holdfast_build_info", EXPOSITION_GAUGE,
                      "Always 1; the version is in the label.");
    exposition_number(page, "version=\"" HOLDFAST_VERSION "\"", 1);
    exposition_gauge(page, "holdfast_ready", "1 if clients are served, as /readyz says.",
                     judgement.ready ? 1 : 0);
    write_phases(facts, page);
    exposition_gauge(page, "holdfast_safe_to_remove",
                     "1 once it is drained and nothing is left to end.", judgement.safe_to_remove);
    exposition_gauge(page, "holdfast_uptime_seconds", "Since the start of the process.",
                     (clock_monotonic_ms() - facts->started_ms) / 1000);
    exposition_gauge(page, "holdfast_generation",
                     "One more than that of the process it has taken the place of; from 1.",
                     facts->generation);
    exposition_family(page, "holdfast_upgrades", EXPOSITION_COUNTER,
                      "Upgrades in place since generation 1, by their result.");
    exposition_number(page, "result=\"finished\"", facts->generation - 1);
    exposition_number(page, "result=\"failed\"", facts->upgrades_failed);
    exposition_gauge(page, "holdfast_upgrade_running", "1 while an upgrade in place is under way.",
                     strcmp(facts->upgrade_state, "none") != 0);
    exposition_family(page, "holdfast_recovery_duration_seconds", EXPOSITION_HISTOGRAM,
                      "Recoveries: at the start, and after restarts of the server.");
    exposition_histogram(page, "", facts->recovery);
}

static void write_log(struct exposition *page)
{
    static const char *const levels[LOG_LEVELS] = {"level=\"debug\"", "level=\"info\"",
                                                   "level=\"warning\"", "level=\"error\""};
    struct log_figures figures;
    log_figures_get(&figures);
    exposition_family(page, "holdfast_log_lines", EXPOSITION_COUNTER, "Log lines written.");
    for (size_t i = 0; i < LOG_LEVELS; i++) {
        exposition_number(page, levels[i], figures.lines[i]);
    }
    exposition_counter(page, "holdfast_log_lines_suppressed",
                       "Log lines that repeated and were only counted.", figures.suppressed);
    exposition_counter(page, "holdfast_log_lines_lost", "Log lines that could not be written.",
                       figures.failed);
    exposition_family(page, "holdfast_events", EXPOSITION_COUNTER,
                      "Events told, by reason (docs/OBSERVABILITY.md).");
    for (enum event_kind kind = 0; kind < EVENT_KINDS; kind++) {
        char labels[64] = "";
        exposition_label(labels, sizeof labels, "reason", event_reason(kind));
        exposition_number(page, labels, event_count(kind));
    }
}

/* ------------------------------------------------------------------ the journal */

static void write_journal(const struct admin_facts *facts, struct exposition *page)
{
    struct journal_status journal;
    struct statvfs disk;
    exposition_family(page, "holdfast_journal_fsync_duration_seconds", EXPOSITION_HISTOGRAM,
                      "Commits of the journal: with wal.durability power, their syncs.");
    exposition_histogram(page, "", wal_commit_times(facts->wal));
    if (facts->directory != NULL && statvfs(facts->directory, &disk) == 0) {
        exposition_gauge(page, "holdfast_journal_disk_free_bytes",
                         "Free on the journal's filesystem.",
                         (uint64_t)disk.f_bavail * disk.f_frsize);
    }
    if (journal_status_read(facts->wal, &journal, NULL) != STATUS_OK) {
        return; /* a missing series is how Prometheus is told */
    }
    const struct wal_statistics *figures = &journal.figures;
    exposition_gauge(page, "holdfast_journal_used_bytes", "Of the journal, pages in use.",
                     figures->used_bytes);
    exposition_gauge(page, "holdfast_journal_quota_bytes", "wal.quota.", figures->quota_bytes);
    exposition_gauge(page, "holdfast_journal_free_bytes", "Left until wal.quota.",
                     figures->quota_bytes > figures->used_bytes
                         ? figures->quota_bytes - figures->used_bytes
                         : 0);
    exposition_gauge(page, "holdfast_journal_records", "Records in the journal.", figures->records);
    exposition_gauge(page, "holdfast_journal_last_lsn", "The newest record that is durable.",
                     figures->last_lsn);
    exposition_counter(page, "holdfast_journal_commits",
                       "Batches of groups made durable in the journal.", figures->batches);
    exposition_counter(page, "holdfast_journal_groups",
                       "Groups of records appended; several share a batch.", figures->groups);
    exposition_gauge(page, "holdfast_units_conflict",
                     "Units in the journal that wait for an operator.", figures->units_conflict);
    exposition_gauge(page, "holdfast_lease_epoch", "How often the lease was taken.", journal.epoch);
}

/* How old the first record is that the server may still lose; 0: there is none. */
static uint64_t unsettled_ms(struct wal *wal, uint64_t settled_lsn)
{
    struct wal_reader *reader = NULL;
    struct wal_record record;
    uint64_t age_ms = 0;
    uint64_t now_ms = clock_wall_ms();
    if (wal_reader_begin(wal, &reader, NULL) == STATUS_OK &&
        wal_read_next(reader, settled_lsn, &record, NULL) == STATUS_OK && now_ms > record.time_ms) {
        age_ms = now_ms - record.time_ms;
    }
    wal_reader_end(reader);
    return age_ms;
}

static void write_settling(const struct admin_facts *facts, struct exposition *page)
{
    struct settler *settler = facts->engine->settler;
    if (settler == NULL) {
        return; /* the native engine: what the server has committed it keeps itself */
    }
    uint64_t settled = settler_durable_lsn(settler);
    uint64_t last = wal_last_lsn(facts->wal);
    exposition_gauge(page, "holdfast_units_unsettled",
                     "Units that have ended since the last probe that the server made durable.",
                     settler_unsettled_units(settler));
    exposition_gauge(page, "holdfast_settled_lsn", "What that probe covers.", settled);
    exposition_gauge(page, "holdfast_settle_lag_records", "Records of the journal behind it.",
                     last > settled ? last - settled : 0);
    exposition_family(page, "holdfast_unsettled_age_seconds", EXPOSITION_GAUGE,
                      "How old the first of these is; 0: there is none.");
    exposition_microseconds(page, "", unsettled_ms(facts->wal, settled) * 1000u);
}

/* ------------------------------------------------------------------ units */

static void write_ends(struct engine_counters *counters, const char *engine,
                       struct exposition *page)
{
    exposition_family(page, "holdfast_units", EXPOSITION_COUNTER,
                      "Units that have ended: where they came from, and how.");
    for (enum unit_boundary boundary = 0; boundary < UNIT_BOUNDARIES; boundary++) {
        for (enum engine_outcome outcome = 0; outcome < ENGINE_OUTCOMES; outcome++) {
            char labels[128] = "";
            exposition_label(labels, sizeof labels, "boundary", unit_boundary_name(boundary));
            exposition_label(labels, sizeof labels, "engine", engine);
            exposition_label(labels, sizeof labels, "outcome", engine_outcome_name(outcome));
            exposition_number(page, labels, counter_read(&counters->ended[boundary][outcome]));
        }
    }
    exposition_family(page, "holdfast_rollbacks", EXPOSITION_COUNTER,
                      "Units that were rolled back or set aside, by reason.");
    for (enum rollback_reason reason = 0; reason < ROLLBACK_REASONS; reason++) {
        char labels[64] = "";
        exposition_label(labels, sizeof labels, "reason", rollback_reason_label(reason));
        exposition_number(page, labels, counter_read(&counters->reasons[reason]));
    }
}

static void write_units(struct engine *engine, struct exposition *page)
{
    struct engine_counters *counters = &engine->counters;
    exposition_gauge(page, "holdfast_units_open", "Units that are open.",
                     unit_table_open_count(engine->units));
    write_ends(counters, engine->native == NULL ? "journaled" : "native", page);
    exposition_family(page, "holdfast_commit_duration_seconds", EXPOSITION_HISTOGRAM,
                      "Commits of units that had written, until they were durable.");
    exposition_histogram(page, "", &counters->commit);
    exposition_counter(page, "holdfast_retries_answered",
                       "Commands that came again and were answered from the journal.",
                       counter_read(&counters->answered));
    exposition_counter(page, "holdfast_server_restarts",
                       "Restarts of the server that were noticed.",
                       counter_read(&counters->restarts));
    exposition_counter(page, "holdfast_writes_deferred",
                       "Writes of transactions that were put off (unit.writes: deferred).",
                       counter_read(&counters->deferred));
    exposition_counter(page, "holdfast_deferred_flushes",
                       "How often writes that were put off were carried out together.",
                       counter_read(&counters->flushes));
    exposition_counter(page, "holdfast_units_redone",
                       "Committed units that the server had lost in a crash and that are there "
                       "again.",
                       counter_read(&counters->redone));
    exposition_gauge(page, "holdfast_rollbacks_waiting", "Rollbacks that wait for a thread.",
                     rollback_pool_queued(engine->rollbacks));
    exposition_gauge(page, "holdfast_locks_held", "Locked documents.",
                     lock_table_held(engine->locks));
    exposition_gauge(page, "holdfast_locks_waiting", "Writes that wait for a document's lock.",
                     counter_read(&counters->lock_waiting));
    exposition_family(page, "holdfast_lock_wait_duration_seconds", EXPOSITION_HISTOGRAM,
                      "Waits for a document's lock, of writes that had to wait.");
    exposition_histogram(page, "", &counters->lock_wait);
    exposition_counter(page, "holdfast_deadlocks", "Deadlocks that were broken.",
                       (uint64_t)lock_table_deadlocks(engine->locks));
}

/* ------------------------------------------------------------------ connections */

static void write_connections(const struct router *router, struct exposition *page)
{
    struct router_figures figures;
    router_figures_get(router, &figures);
    exposition_gauge(page, "holdfast_connections", "Clients' connections.",
                     router_connections(router));
    exposition_counter(page, "holdfast_connections_accepted", "Connections of clients.",
                       figures.accepted);
    exposition_family(page, "holdfast_connections_refused", EXPOSITION_COUNTER,
                      "Connections that were closed for what they sent, or beyond a limit "
                      "of net.");
    exposition_number(page, "reason=\"protocol\"", figures.refused);
    exposition_number(page, "reason=\"limit\"", figures.over_limit);
    exposition_family(page, "holdfast_bytes", EXPOSITION_COUNTER,
                      "Bytes on clients' connections and on those to the server that belong to "
                      "them.");
    exposition_number(page, "peer=\"client\",direction=\"in\"", figures.client_bytes_in);
    exposition_number(page, "peer=\"client\",direction=\"out\"", figures.client_bytes_out);
    exposition_number(page, "peer=\"server\",direction=\"in\"", figures.server_bytes_in);
    exposition_number(page, "peer=\"server\",direction=\"out\"", figures.server_bytes_out);
    exposition_counter(page, "holdfast_commands", "Commands of clients.", figures.commands);
}

static void write_page(const struct admin_facts *facts, struct exposition *page)
{
    write_proxy(facts, page);
    admin_metrics_process(page);
    write_log(page);
    telemetry_metrics(facts->telemetry, page);
    if (facts->wal != NULL) {
        write_journal(facts, page);
    }
    if (facts->engine != NULL) {
        write_connections(facts->router, page);
        admin_metrics_upstream(facts, page);
        write_units(facts->engine, page);
        write_settling(facts, page);
        admin_metrics_calls(facts->services, page);
    }
    if (facts->observe != NULL) {
        observe_metrics(facts->observe, page);
    }
    exposition_end(page);
}

int admin_metrics_write(const struct admin_facts *facts, const char *accept, struct evbuffer *body,
                        const char **content_type)
{
    char *text = NULL;
    size_t size = 0;
    struct exposition page = {.out = open_memstream(&text, &size),
                              .openmetrics = exposition_wants_openmetrics(accept)};
    if (page.out == NULL) {
        return 503;
    }
    write_page(facts, &page);
    bool whole = ferror(page.out) == 0;
    whole = fclose(page.out) == 0 && whole;
    if (whole) {
        (void)evbuffer_add(body, text, size);
        *content_type = page.openmetrics ? EXPOSITION_OPENMETRICS_TYPE : EXPOSITION_CLASSIC_TYPE;
    }
    free(text);
    return whole ? 200 : 503;
}
