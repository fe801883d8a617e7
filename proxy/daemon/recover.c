/*
 * Recovery at the start, and again whenever the server has restarted. Main thread.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/service_manager.h"
#include "daemon/daemon.h"
#include "holdfast/clock.h"
#include "holdfast/event.h"
#include "holdfast/log.h"
#include "restart/restart.h"

static void on_unit_recovered(const struct recovery_unit *unit, void *context)
{
    static const char *const messages[] = {
        [RECOVERY_ROLLED_BACK] = "Unit rolled back",
        [RECOVERY_REDONE] = "Unit redone: the server had lost it",
        [RECOVERY_CONFLICT] = "Unit set aside as a conflict; see holdfast show",
    };
    LOG(unit->result == RECOVERY_CONFLICT ? LOG_ERROR : LOG_INFO, "recovery",
        messages[unit->result], LOG_NUMBER("unit", unit->history->unit),
        LOG_TEXT("user", unit->history->begin.user),
        LOG_TEXT("client", unit->history->begin.client),
        LOG_TEXT("appName", unit->history->begin.application),
        LOG_HEX("session", unit->history->begin.session_id.data,
                unit->history->begin.session_id.size));
    if (unit->result == RECOVERY_CONFLICT) {
        char number[24];
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)unit->history->unit);
        event_tell(EVENT_UNIT_CONFLICT, number,
                   "Unit %s could not be recovered without overwriting newer data and was set "
                   "aside: see holdfast show %s",
                   number, number);
    }
    (void)context;
}

static void tell_events(const struct recovery_report *report)
{
    if (report->units_rolled_back > 0) {
        event_tell(EVENT_UNITS_ROLLED_BACK, "holdfastd",
                   "%llu units that a crash had left open were rolled back",
                   (unsigned long long)report->units_rolled_back);
    }
    if (report->units_redone > 0) {
        event_tell(EVENT_UNITS_REDONE, "holdfastd",
                   "%llu committed units that the server had lost are there again",
                   (unsigned long long)report->units_redone);
    }
}

static void tell_recovered(struct daemon *daemon, const struct recovery_report *report,
                           uint64_t started_us)
{
    admin_recovered(daemon->admin, clock_monotonic_us() - started_us);
    tell_events(report);
    LOG(LOG_INFO, "recovery", "Recovery finished",
        LOG_TEXT("serverRestarted", report->server_restarted ? "yes" : "no"),
        LOG_NUMBER("survivedLsn", report->survived_lsn),
        LOG_NUMBER("unitsInDoubt", report->units_in_doubt),
        LOG_NUMBER("documentsLost", report->documents_lost),
        LOG_NUMBER("redone", report->units_redone),
        LOG_NUMBER("rolledBack", report->units_rolled_back),
        LOG_NUMBER("conflictsNew", report->conflicts_new),
        LOG_NUMBER("conflictsLeft", report->conflicts_left));
}

enum status daemon_recover(struct daemon *daemon, struct error *error)
{
    struct recovery_options options = {
        .lease = &daemon->lease,
        .fence_ms = daemon->config.upstream_fence_ms,
        .fence_blindly = daemon->lease.former_unclean,
        .alone = daemon->alone,
        .reason = "recovery at the start of the proxy",
        .unit_done = on_unit_recovered,
    };
    struct recovery_report report = {0};
    uint64_t started_us = clock_monotonic_us();
    enum status status = recovery_run(daemon->wal, daemon->upstream, &options, &report, error);
    if (status == STATUS_OK) {
        daemon->probe = report.probe;
        tell_recovered(daemon, &report, started_us);
    }
    return status;
}

static bool gives_up(void *context)
{
    (void)context;
    return daemon_is_told_to_end();
}

void daemon_recover_again(struct daemon *daemon)
{
    struct error error = {0};
    struct recovery_report report;
    struct restart_options options = {
        .engine = &daemon->engine,
        .router = daemon->router,
        .settler = daemon->settler,
        .process = daemon->process,
        .upstream = &daemon->upstream,
        .upstream_uri = daemon->config.upstream_uri,
        .connect_ms = daemon->config.upstream_connect_ms,
        .lease = &daemon->lease,
        .recovery = {.fence_ms = daemon->config.upstream_fence_ms, .unit_done = on_unit_recovered},
        .give_up = gives_up,
    };
    uint64_t started_us = clock_monotonic_us();
    admin_recovering(daemon->admin, daemon->wal);
    event_tell(EVENT_UPSTREAM_RESTARTED, daemon->upstream_name,
               "The server has restarted: what it lost is recovered");
    service_manager_status("Recovering: the server has restarted");
    enum status status = restart_recover(&options, &report, &error);
    if (status != STATUS_OK) {
        LOG(LOG_ERROR, "recovery", "Ending: the next start recovers",
            LOG_TEXT("status", status_name(status)), LOG_TEXT("reason", error.message));
        _exit(DAEMON_EXIT_CANNOT_RUN);
    }
    tell_recovered(daemon, &report, started_us);
    daemon->probe = report.probe;
    admin_serving(daemon->admin, &daemon->engine, daemon->router, daemon->services, daemon->observe,
                  daemon->pruner);
    if (daemon->draining) {
        admin_draining(daemon->admin);
    }
    daemon_tell_upstream(daemon, NULL);
    daemon_tell_serving(daemon);
}
