/*
 * holdfastd: one life of the proxy.
 *
 *   configuration -> admin port -> journal -> server -> lease -> recovery -> workers -> listening
 *   With the native engine there is no lease, and recovery asks the server (recover/native.h).
 *   ... whenever the server has restarted: recovery again, while clients wait (restart/restart.h)
 *   ... SIGHUP: the configuration again; SIGUSR1: the log file again; SIGRTMIN, ours: drain, and
 *       go on
 *   ... SIGUSR2: another process of the program at our path takes our place (daemon/upgrade.c)
 *   ... until SIGTERM or SIGINT: drain -> roll back what is open -> lease and journal closed
 * cleanly
 *
 * The daemon recovers before it listens, so no client ever meets a unit that is half there. The
 * main thread does everything that may block: the lease, signals, the shutdown. The steps are in
 * daemon/.
 */
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/first_process.h"
#include "base/secret.h"
#include "daemon/daemon.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "net/descriptors.h"

/* With the native engine: only whether it answers. */
static void look_at_native_server(struct daemon *daemon)
{
    struct error error = {0};
    struct upstream_description server;
    enum status status = STATUS_OK;
    if (daemon->upstream == NULL) {
        status = upstream_open(daemon->config.upstream_uri, daemon->config.upstream_connect_ms,
                               &daemon->upstream, &error);
    }
    if (status == STATUS_OK) {
        status = upstream_describe(daemon->upstream, &server, &error);
    }
    if (status != STATUS_OK) {
        daemon->upstream = upstream_close(daemon->upstream);
    }
    daemon_tell_upstream(daemon, status == STATUS_OK ? NULL : error.message);
}

/* Whether the server is the one it was, and how the lease fares, which its keeper renews. */
static void look_at_server(struct daemon *daemon)
{
    struct error error = {0};
    enum status status = STATUS_OK;
    if (daemon->upstream == NULL) {
        status = upstream_open(daemon->config.upstream_uri, daemon->config.upstream_connect_ms,
                               &daemon->upstream, &error);
    }
    if (status == STATUS_OK) {
        status = server_process_check_upstream(daemon->process, daemon->upstream, &error);
    }
    if (status != STATUS_OK) {
        daemon->upstream = upstream_close(daemon->upstream);
    } else {
        lease_keeper_failure(daemon->keeper, &error);
        status = error.status;
    }
    daemon_tell_upstream(daemon, status == STATUS_OK ? NULL : error.message);
    if (status != STATUS_OK) {
        LOG(LOG_WARNING, "main", "The lease could not be renewed",
            LOG_TEXT("reason", error.message));
    }
}

/* Keeps the lease, until a signal asks for the end. */
static void run(struct daemon *daemon, const sigset_t *signals)
{
    const struct timespec period = {.tv_sec = LEASE_RENEW_MS / 1000};
    const struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};
    uint64_t next_ms = 0;
    for (;;) {
        int received = sigtimedwait(signals, NULL, daemon->upgrade == NULL ? &period : &moment);
        if (received == SIGTERM || received == SIGINT) {
            daemon_upgrade_cancel(daemon, "the process was told to end");
            return;
        }
        if (received == SIGHUP) {
            daemon_reload(daemon);
        } else if (received == SIGUSR1) {
            daemon_reopen_log(); /* it may be ours: harmless */
        } else if (received == SIGUSR2) {
            daemon_upgrade(daemon);
        } else if (received == SIGRTMIN) {
            daemon_upgrade_cancel(daemon, "the process was told to drain");
            daemon_drain(daemon);
        }
        if (daemon_upgrade_step(daemon)) {
            return;
        }
        if (received < 0 && daemon->upgrade != NULL && clock_monotonic_ms() < next_ms) {
            continue;
        }
        next_ms = clock_monotonic_ms() + LEASE_RENEW_MS;
        daemon_watch(daemon);
        observe_tick(daemon->observe, clock_monotonic_ms());
        if (daemon->native) {
            look_at_native_server(daemon);
            continue;
        }
        lease_keeper_note_units(daemon->keeper,
                                (uint32_t)unit_table_open_count(daemon->engine.units));
        if (server_process_has_changed(daemon->process)) {
            daemon_upgrade_cancel(daemon, "the server has restarted meanwhile");
            daemon_recover_again(daemon);
        } else {
            look_at_server(daemon);
        }
    }
}

int main(int argument_count, char **arguments)
{
    static struct daemon daemon;
    daemon.argument_count = argument_count;
    daemon.arguments = secret_hide_arguments(argument_count, arguments);
    daemon_note_predecessor(&daemon);
    struct error error = {0};
    enum config_action action = CONFIG_RUN;
    enum status status = daemon.arguments == NULL
                             ? error_set(&error, STATUS_MEMORY, "out of memory")
                             : first_process_leave(&error);
    if (status == STATUS_OK) {
        status = config_from_arguments(argument_count, daemon.arguments, &daemon.config, &action,
                                       &error);
    }
    if (status == STATUS_OK && action == CONFIG_RUN) {
        status = daemon_check_settings(&daemon.config, &error);
    }
    if (status != STATUS_OK) {
        daemon_fail_predecessor(&daemon, error.message);
        (void)fprintf(stderr, "holdfastd: %s\n", error.message);
        config_free(&daemon.config);
        return DAEMON_EXIT_CANNOT_RUN;
    }
    if (action == CONFIG_EXIT || daemon.config.check_only) {
        if (action == CONFIG_RUN) {
            printf("The configuration is valid.\n");
        }
        config_free(&daemon.config);
        return 0;
    }
    log_set_level(daemon.config.log_level);
    if (daemon.config.log_path[0] != '\0') {
        status = log_open(daemon.config.log_path, &error);
    }
    daemon_note_program(&daemon);
    daemon.descriptors = descriptors_raise();
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaddset(&signals, SIGUSR1); /* also ours: the server has restarted */
    (void)sigaddset(&signals, SIGUSR2);
    (void)sigaddset(&signals, SIGRTMIN);
    daemon.main_thread = pthread_self();
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    upstream_watch_end(daemon_is_told_to_end);

    status = status == STATUS_OK ? daemon_start(&daemon, &error) : status;
    if (status == STATUS_OK) {
        run(&daemon, &signals);
    } else if (daemon.told_to_end || (status == STATUS_UNREACHABLE && daemon_is_told_to_end())) {
        status = STATUS_OK;
    } else {
        daemon_fail_predecessor(&daemon, error.message);
        LOG(LOG_ERROR, "main", "Cannot start", LOG_TEXT("reason", error.message),
            LOG_TEXT("status", status_name(status)));
        (void)fprintf(stderr, "holdfastd: %s\n", error.message);
    }
    daemon_stop(&daemon);
    config_free(&daemon.config);
    if (status == STATUS_OK) {
        LOG(LOG_INFO, "main", daemon.left_open ? "Ended" : "Ended cleanly");
    }
    log_tell_repeats(true);
    return status == STATUS_OK ? 0 : DAEMON_EXIT_CANNOT_RUN;
}
