/*
 * Recovery at the start, and again whenever the server has restarted. Main thread.
 */
#include <signal.h>
#include <unistd.h>

#include "base/service_manager.h"
#include "daemon/daemon.h"
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
        LOG_TEXT("client", unit->history->begin.client));
    (void)context;
}

static void tell_recovered(const struct recovery_report *report)
{
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
        .reason = "recovery at the start of the proxy",
        .unit_done = on_unit_recovered,
    };
    struct recovery_report report = {0};
    enum status status = recovery_run(daemon->wal, daemon->upstream, &options, &report, error);
    if (status == STATUS_OK) {
        daemon->probe = report.probe;
        tell_recovered(&report);
    }
    return status;
}

static bool is_to_end(void *context)
{
    sigset_t pending;
    (void)context;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
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
        .give_up = is_to_end,
    };
    admin_recovering(daemon->admin, daemon->wal);
    service_manager_status("Recovering: the server has restarted");
    enum status status = restart_recover(&options, &report, &error);
    if (status != STATUS_OK) {
        LOG(LOG_ERROR, "recovery", "Ending: the next start recovers",
            LOG_TEXT("status", status_name(status)), LOG_TEXT("reason", error.message));
        _exit(DAEMON_EXIT_CANNOT_RUN);
    }
    tell_recovered(&report);
    daemon->probe = report.probe;
    admin_serving(daemon->admin, &daemon->engine, daemon->router, daemon->services, daemon->observe,
                  daemon->pruner);
    admin_upstream_seen(daemon->admin, NULL);
    daemon_tell_serving(daemon);
}
