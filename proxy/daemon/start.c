/*
 * The start: journal, server, lease, recovery, and only then clients. Main thread.
 */
#include "base/service_manager.h"
#include "daemon/daemon.h"
#include "holdfast/crash_point.h"
#include "holdfast/event.h"
#include "holdfast/log.h"

static enum status start_admin(struct daemon *daemon, struct error *error)
{
    char address[NETWORK_ADDRESS_TEXT_BYTES];
    daemon->admin = admin_new();
    if (daemon->admin == NULL) {
        return error_set(error, STATUS_MEMORY, "out of memory");
    }
    admin_set_token(daemon->admin, daemon->config.admin_token);
    if (daemon->config.admin_listen[0] == '\0') {
        return STATUS_OK;
    }
    enum status status = admin_listen(daemon->admin, daemon->config.admin_listen, address, error);
    if (status != STATUS_OK) {
        return error_prefix(error, "admin.listen");
    }
    LOG(LOG_INFO, "admin", "Listening", LOG_TEXT("listener", "admin"),
        LOG_TEXT("address", address));
    return STATUS_OK;
}

/* The one owner: lease, recovery and what works behind the engine. */
static enum status start_journaled(struct daemon *daemon, struct error *error)
{
    enum status status = native_refuse(daemon->wal, error);
    if (status == STATUS_OK) {
        status = daemon_in_turn(daemon, daemon_acquire_lease, error);
    }
    if (status == STATUS_OK) {
        status = daemon_look_alone(daemon, error);
    }
    if (status == STATUS_OK) {
        status = daemon_start_keeper(daemon, error);
    }
    if (status == STATUS_OK) {
        admin_recovering(daemon->admin, daemon->wal);
        service_manager_status("Recovering");
        status = daemon_recover(daemon, error);
    }
    if (status == STATUS_OK) {
        daemon->recovered = true;
        CRASH_POINT(recovery_finished);
        status = daemon_start_engine(daemon, error);
    }
    return status == STATUS_OK ? daemon_learn_server(daemon, error) : status;
}

/* One of any number. */
static enum status start_native(struct daemon *daemon, struct error *error)
{
    enum status status = daemon_claim_native(daemon, error);
    if (status == STATUS_OK) {
        service_manager_status("Recovering");
        status = daemon_recover_native(daemon, error);
    }
    if (status == STATUS_OK) {
        daemon->recovered = true;
        CRASH_POINT(recovery_finished);
        status = daemon_start_native(daemon, error);
    }
    return status;
}

enum status daemon_start(struct daemon *daemon, struct error *error)
{
    enum status status = daemon_make_tls(&daemon->config, &daemon->tls, error);
    if (status == STATUS_OK) {
        status = daemon_await_journal(daemon, error);
    }
    if (status == STATUS_OK) {
        status = daemon_meet_manager(daemon, error);
    }
    if (status == STATUS_OK) {
        status = start_admin(daemon, error);
    }
    if (status == STATUS_OK) {
        status = daemon_start_telemetry(daemon, error);
    }
    if (status == STATUS_OK) {
        status = daemon_in_turn(daemon, daemon_open_journal, error);
    }
    if (status == STATUS_OK) {
        admin_recovering(daemon->admin, daemon->wal);
        status = admin_control(daemon->admin, daemon->config.wal_directory, error);
    }
    if (status == STATUS_OK) {
        status = daemon_start_topology(daemon, error);
    }
    if (status == STATUS_OK && daemon->upstream == NULL) {
        status = upstream_open(daemon->config.upstream_uri, daemon->config.upstream_connect_ms,
                               &daemon->upstream, error);
    }
    if (status == STATUS_OK) {
        status = daemon_choose_engine(daemon, error);
    }
    if (status == STATUS_OK) {
        status = daemon->native ? start_native(daemon, error) : start_journaled(daemon, error);
    }
    if (status == STATUS_OK) {
        daemon->observe = observe_new();
        status = daemon->observe == NULL ? error_set(error, STATUS_MEMORY, "out of memory")
                                         : services_new(&daemon->config, &daemon->engine,
                                                        daemon->observe, &daemon->services, error);
    }
    if (status == STATUS_OK) {
        status = daemon_start_router(daemon, error);
    }
    if (status == STATUS_OK) {
        status = daemon_start_pruner(daemon, error);
    }
    if (status == STATUS_OK) {
        admin_serving(daemon->admin, &daemon->engine, daemon->router, daemon->services,
                      daemon->observe, daemon->pruner);
        daemon_tell_upgrade(daemon, "none");
        if (daemon->stood_by) {
            event_tell(EVENT_STANDBY_TOOK_OVER, "holdfastd", "The standby serves now");
        }
        watchdog_watch(daemon->watchdog, daemon->workers);
        daemon_succeed(daemon);
        daemon_tell_serving(daemon);
    }
    return status;
}
