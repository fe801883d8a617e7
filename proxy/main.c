/*
 * holdfastd: wires the layers together and lives through one life of the proxy.
 *
 *   configuration -> admin port -> journal -> server -> lease -> recovery -> workers -> listening
 *   ... whenever the server has restarted: recovery again, while clients wait (restart/restart.h)
 *   ... until SIGTERM or SIGINT: drain -> roll back what is open -> lease and journal closed
 * cleanly
 *
 * The daemon recovers before it listens, so no client ever meets a unit that is half there. The
 * main thread does everything that may block: the lease, signals, the shutdown.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/config.h"
#include "base/first_process.h"
#include "engine/deadlock_log.h"
#include "engine/engine.h"
#include "engine/finish.h"
#include "engine/settler.h"
#include "engine/unique_cache.h"
#include "front/routes.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/log.h"
#include "net/descriptors.h"
#include "observe/observe.h"
#include "recover/lease.h"
#include "recover/lease_keeper.h"
#include "recover/pruner.h"
#include "recover/recovery.h"
#include "restart/restart.h"
#include "route/router.h"
#include "service/services.h"
#include "unit/gate.h"
#include "unit/lock_table.h"
#include "unit/unit.h"
#include "upstream/server_process.h"
#include "upstream/upstream.h"

#define EXIT_CANNOT_RUN 2
#define DRAIN_MS_MAX 10000u
#define ROLLBACK_THREADS 4
/* Changes and sessions that are remembered: 200 and 150 bytes each. */
#define REMEMBERED_CHANGES_MAX 1000000u
#define REMEMBERED_SESSIONS_MAX 200000u
#define PRUNE_MS 60000u

struct daemon {
    int argument_count; /* for reading the configuration again */
    char **arguments;
    struct config config;
    struct admin *admin;
    struct wal *wal;
    struct upstream *upstream;
    struct lease lease;
    bool leased;
    bool told_to_end; /* by a signal while it was a standby */
    struct lease_keeper *keeper;
    bool recovered; /* no unit of an earlier life is open */
    struct worker_pool *workers;
    struct engine engine;
    struct pruner *pruner;
    struct observe *observe;
    struct services *services;
    struct router *router;
    struct server_process *process;
    struct settler *settler;
    struct probe probe; /* on the server after the recovery at the start */
    pthread_t main_thread;
    uint64_t descriptors; /* how many this process may have */
};

/*
 * What can be told of the settings without touching anything: --check-config and every start ask
 * it. Opening the upstream's URI connects to nobody yet.
 */
static enum status check_settings(const struct config *config, struct error *error)
{
    struct routes *routes = NULL;
    enum status status = routes_parse(config->http_routes, &routes, error);
    routes_free(routes);
    if (status != STATUS_OK) {
        return error_prefix(error, "http.routes");
    }
    if (config->unit_engine == CONFIG_ENGINE_NATIVE) {
        return error_set(error, STATUS_UNSUPPORTED, "unit.engine: native is not built yet");
    }
    struct upstream *upstream = NULL;
    status = upstream_open(config->upstream_uri, config->upstream_connect_ms, &upstream, error);
    upstream_close(upstream);
    return status == STATUS_OK ? STATUS_OK : error_prefix(error, "upstream.uri");
}

static enum status open_journal(struct daemon *daemon, struct error *error)
{
    struct wal_options options = {
        .directory = daemon->config.wal_directory,
        .quota_bytes = daemon->config.wal_quota_bytes,
        .durability = daemon->config.wal_durability,
        .owner = "holdfastd",
    };
    return wal_open(&options, &daemon->wal, error);
}

static enum status check_topology(struct daemon *daemon, struct error *error)
{
    struct upstream_description server;
    enum status status = upstream_describe(daemon->upstream, &server, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (server.topology != UPSTREAM_STANDALONE &&
        daemon->config.unit_engine != CONFIG_ENGINE_JOURNALED) {
        return error_set(
            error, STATUS_UNSUPPORTED,
            "the server is a member of a replica set or a cluster (or itself a proxy), "
            "for which the native engine is not built yet: use a standalone server, "
            "or set unit.engine=journaled if this proxy is its only writer");
    }
    if (server.wire_version_max < 9) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "the server is older than MongoDB 4.4 (wire version %d)",
                         server.wire_version_max);
    }
    return STATUS_OK;
}

static enum status acquire_lease(struct daemon *daemon, struct error *error)
{
    struct lease_options options = {
        .takeover = daemon->config.upstream_takeover,
        .wait_ms = LEASE_VALID_MS + LEASE_RENEW_MS,
        .owner = "holdfastd",
    };
    enum status status =
        lease_acquire(daemon->upstream, daemon->wal, &options, &daemon->lease, error);
    daemon->leased = status == STATUS_OK;
    if (daemon->leased) {
        upstream_pin(daemon->upstream); /* the recovery in the same process of the server */
    }
    return status;
}

/* Another proxy recovers our units now: the process ends at once, so that none of its writes
   follows. A keeper's thread. */
static void on_lease_lost(void *context, const struct error *error)
{
    (void)context;
    LOG(LOG_ERROR, "main", "Another proxy has taken over this server: ending",
        LOG_TEXT("reason", error->message));
    _exit(EXIT_CANNOT_RUN);
}

static void on_permit(void *context, bool up, const char *failure)
{
    (void)context;
    if (up) {
        LOG(LOG_INFO, "main", "The lease is renewed again: commands are sent to the server");
    } else {
        LOG(LOG_WARNING, "main",
            "The lease could not be renewed in time: nothing is sent to the server until it was",
            LOG_TEXT("reason", failure));
    }
}

static bool settle_workers(void *context, uint64_t wait_ms)
{
    return worker_pool_settle(context, wait_ms);
}

static enum status start_keeper(struct daemon *daemon, struct error *error)
{
    struct lease_keeper_options options = {
        .upstream_uri = daemon->config.upstream_uri,
        .connect_ms = daemon->config.upstream_connect_ms,
        .lease = &daemon->lease,
        .directory = daemon->config.wal_directory,
        .wal = daemon->wal,
        .lost = on_lease_lost,
        .permit = on_permit,
    };
    return lease_keeper_start(&options, &daemon->keeper, error);
}

/* True: a signal asks for the end. Waits a second for it. */
static bool told_to_end(void)
{
    const struct timespec pause = {.tv_sec = 1};
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    return sigtimedwait(&signals, NULL, &pause) > 0;
}

/* Takes a step of the start. A standby takes it again as long as somebody else is the owner, or the
   server is away: that is no reason to leave the place. */
static enum status in_turn(struct daemon *daemon,
                           enum status (*step)(struct daemon *, struct error *),
                           struct error *error)
{
    enum status status = step(daemon, error);
    if (status == STATUS_OWNED && daemon->config.upstream_standby == CONFIG_STANDBY_ON) {
        LOG(LOG_INFO, "main", "Standing by", LOG_TEXT("reason", error->message));
    }
    bool stands_by = status == STATUS_OWNED;
    while (stands_by && (status == STATUS_OWNED || status == STATUS_UNREACHABLE) &&
           daemon->config.upstream_standby == CONFIG_STANDBY_ON) {
        admin_standby(daemon->admin, error->message);
        daemon->told_to_end = told_to_end();
        if (daemon->told_to_end) {
            return status;
        }
        status = step(daemon, error);
    }
    return status;
}

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

static enum status recover(struct daemon *daemon, struct error *error)
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

static size_t worker_count(const struct config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = config->net_threads > 0 ? (size_t)config->net_threads : (size_t)cores;
    return wanted < 1 ? 1 : wanted > 256 ? 256 : wanted;
}

/* What the engine must know of the server's habits. */
static enum status probe(struct daemon *daemon, struct error *error)
{
    enum status status =
        upstream_update_rules(daemon->upstream, &daemon->engine.update_rules, error);
    /* A server that refuses the question is served all the same, with more round trips. */
    return status == STATUS_UNREACHABLE ? status : STATUS_OK;
}

/* What SIGHUP may change; also of a running engine. */
static void set_engine_limits(struct engine *engine, const struct config *config)
{
    atomic_store(&engine->lock_wait_ms, config->unit_lock_wait_ms);
    atomic_store(&engine->plain_wait_ms, config->unit_lifetime_ms);
    atomic_store(&engine->unit_writes_max, config->unit_writes_max);
    atomic_store(&engine->unit_bytes_max, config->unit_bytes_max);
}

/* The main thread sees it as a signal. */
static void on_server_restarted(void *context)
{
    struct daemon *daemon = context;
    (void)pthread_kill(daemon->main_thread, SIGUSR1);
}

static enum status start_settler(struct daemon *daemon, struct error *error)
{
    daemon->process = server_process_new(on_server_restarted, daemon);
    if (daemon->process == NULL) {
        return error_set(error, STATUS_MEMORY, "out of memory");
    }
    if (daemon->probe.has_process) {
        server_process_set(daemon->process, daemon->probe.process);
    }
    struct settler_options options = {
        .upstream_uri = daemon->config.upstream_uri,
        .connect_ms = daemon->config.upstream_connect_ms,
        .wal = daemon->wal,
        .gates = daemon->engine.gates,
        .process = daemon->process,
        .probe = daemon->probe,
    };
    return settler_start(&options, &daemon->settler, error);
}

static enum status start_engine(struct daemon *daemon, struct error *error)
{
    static const enum engine_multi_writes multi_writes[] = {
        [CONFIG_MULTI_WRITES_KEEP] = ENGINE_MULTI_WRITES_KEEP,
        [CONFIG_MULTI_WRITES_STRICT] = ENGINE_MULTI_WRITES_STRICT,
        [CONFIG_MULTI_WRITES_OFF] = ENGINE_MULTI_WRITES_OFF,
    };
    const struct config *config = &daemon->config;
    size_t workers = worker_count(config);
    enum status status = worker_pool_start(workers, &daemon->workers, error);
    if (status != STATUS_OK) {
        return status;
    }
    lease_keeper_settle(daemon->keeper, settle_workers, daemon->workers);
    daemon->engine = (struct engine){
        .wal = daemon->wal,
        .units = unit_table_new((size_t)config->unit_count_max, REMEMBERED_SESSIONS_MAX),
        .locks = lock_table_new((size_t)config->unit_locks_max, REMEMBERED_CHANGES_MAX),
        .gates = gate_table_new(workers),
        .uncommitted = uncommitted_table_new(REMEMBERED_CHANGES_MAX),
        .retryable_writes = config->unit_retryable_writes == CONFIG_RETRYABLE_WRITES_ONCE,
        .multi_writes = multi_writes[config->unit_multi_writes],
        .committed_reads = config->unit_reads == CONFIG_UNIT_READS_COMMITTED,
        .serializable = config->unit_isolation == CONFIG_ISOLATION_SERIALIZABLE,
    };
    set_engine_limits(&daemon->engine, config);
    if (daemon->engine.units == NULL || daemon->engine.locks == NULL ||
        daemon->engine.gates == NULL || daemon->engine.uncommitted == NULL) {
        return error_set(error, STATUS_MEMORY, "out of memory");
    }
    lock_table_on_deadlock(daemon->engine.locks, deadlock_log);
    status = start_settler(daemon, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct rollback_pool_options rollbacks = {
        .upstream_uri = config->upstream_uri,
        .process = daemon->process,
        .connect_ms = config->upstream_connect_ms,
        .fence_ms = config->upstream_fence_ms,
        .threads = ROLLBACK_THREADS,
    };
    status = rollback_pool_start(&rollbacks, &daemon->engine.rollbacks, error);
    return status != STATUS_OK
               ? status
               : unique_cache_start(config->upstream_uri, config->upstream_connect_ms,
                                    &daemon->engine.unique, error);
}

/* net.maxIncomingConnections, or fewer if there are not descriptors enough. */
static uint64_t connections_max(const struct daemon *daemon)
{
    uint64_t wanted = daemon->config.net_connections_max;
    uint64_t possible = descriptors_connections(daemon->descriptors);
    if (services_are_fronted(daemon->services)) {
        possible /= 2; /* as many HTTP callers, two descriptors each as well */
    }
    if (wanted <= possible) {
        return wanted;
    }
    LOG(LOG_WARNING, "net",
        "Fewer connections than net.maxIncomingConnections: raise the limit of open files "
        "(ulimit -Hn, LimitNOFILE) to twice that and 256",
        LOG_NUMBER("connections", possible), LOG_NUMBER("wanted", wanted),
        LOG_NUMBER("openFiles", daemon->descriptors));
    return possible;
}

static enum status start_router(struct daemon *daemon, struct error *error)
{
    static char name[300];
    struct router_options options = {
        .engine = &daemon->engine,
        .workers = daemon->workers,
        .observe = daemon->observe,
        .process = daemon->process,
        .observe_only = daemon->config.unit_boundary == CONFIG_BOUNDARY_OBSERVE,
        .upstream_name = name,
        .connections_max = connections_max(daemon),
        .unit_lifetime_ms = daemon->config.unit_lifetime_ms,
    };
    enum status status = upstream_host(daemon->config.upstream_uri, name, sizeof name, error);
    if (status == STATUS_OK) {
        status = network_address_resolve(name, &options.upstream, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    services_router(daemon->services, &options);
    status = router_start(&options, &daemon->router, error);
    if (status == STATUS_OK) {
        status = services_serve(daemon->services, daemon->workers, daemon->router,
                                options.connections_max, error);
    }
    if (status == STATUS_OK) {
        LOG(LOG_INFO, "net", "Listening", LOG_TEXT("listener", "mongo"),
            LOG_TEXT("address", router_address(daemon->router, 0)), LOG_TEXT("upstream", name));
    }
    return status;
}

static void on_pruned(uint64_t units, const struct error *failure, void *context)
{
    (void)context;
    if (failure != NULL) {
        LOG(LOG_WARNING, "journal", "Old records could not be pruned",
            LOG_TEXT("reason", failure->message));
    }
    if (units > 0) {
        LOG(LOG_INFO, "journal", "Old units pruned", LOG_NUMBER("units", units));
    }
}

static uint64_t settled_lsn(void *context)
{
    struct daemon *daemon = context;
    return settler_durable_lsn(daemon->settler);
}

static enum status start_pruner(struct daemon *daemon, struct error *error)
{
    struct pruner_options options = {
        .wal = daemon->wal,
        .period_ms = PRUNE_MS,
        .retention_ms = daemon->config.wal_retention_ms,
        .settled_lsn = settled_lsn,
        .pruned = on_pruned,
        .context = daemon,
    };
    return pruner_start(&options, &daemon->pruner, error);
}

static enum status start_admin(struct daemon *daemon, struct error *error)
{
    char address[NETWORK_ADDRESS_TEXT_BYTES];
    daemon->admin = admin_new();
    if (daemon->admin == NULL) {
        return error_set(error, STATUS_MEMORY, "out of memory");
    }
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

static enum status start(struct daemon *daemon, struct error *error)
{
    enum status status = start_admin(daemon, error);
    if (status == STATUS_OK) {
        status = in_turn(daemon, open_journal, error);
    }
    if (status == STATUS_OK) {
        admin_recovering(daemon->admin, daemon->wal);
        status = admin_control(daemon->admin, daemon->config.wal_directory, error);
    }
    if (status == STATUS_OK) {
        status = upstream_open(daemon->config.upstream_uri, daemon->config.upstream_connect_ms,
                               &daemon->upstream, error);
    }
    if (status == STATUS_OK) {
        status = check_topology(daemon, error);
    }
    if (status == STATUS_OK) {
        status = in_turn(daemon, acquire_lease, error);
    }
    if (status == STATUS_OK) {
        status = start_keeper(daemon, error);
    }
    if (status == STATUS_OK) {
        admin_recovering(daemon->admin, daemon->wal);
        status = recover(daemon, error);
    }
    if (status == STATUS_OK) {
        daemon->recovered = true;
        CRASH_POINT(recovery_finished);
        status = start_engine(daemon, error);
    }
    if (status == STATUS_OK) {
        status = probe(daemon, error);
    }
    if (status == STATUS_OK) {
        daemon->observe = observe_new();
        status = daemon->observe == NULL ? error_set(error, STATUS_MEMORY, "out of memory")
                                         : services_new(&daemon->config, &daemon->engine,
                                                        daemon->observe, &daemon->services, error);
    }
    if (status == STATUS_OK) {
        status = start_router(daemon, error);
    }
    if (status == STATUS_OK) {
        status = start_pruner(daemon, error);
    }
    if (status == STATUS_OK) {
        admin_serving(daemon->admin, &daemon->engine, daemon->router, daemon->services,
                      daemon->observe, daemon->pruner);
    }
    return status;
}

/* ------------------------------------------------------------------ running */

static void on_changed(void *context, const char *key, bool live)
{
    size_t *changes = context;
    ++*changes;
    if (live) {
        LOG(LOG_INFO, "config", "Setting changed", LOG_TEXT("key", key));
    } else {
        LOG(LOG_WARNING, "config", "This setting needs a restart to change", LOG_TEXT("key", key));
    }
}

/*
 * SIGHUP: the file and the options once more. A configuration with any mistake is refused whole. A
 * good one is taken over here, and what other threads read of it is published as atomics, each of
 * which makes sense beside the old value of any other.
 */
static void reload(struct daemon *daemon)
{
    struct config next;
    struct error error = {0};
    enum config_action action = CONFIG_RUN;
    enum status status =
        config_from_arguments(daemon->argument_count, daemon->arguments, &next, &action, &error);
    if (status == STATUS_OK) {
        status = check_settings(&next, &error);
    }
    if (status == STATUS_OK) {
        size_t changes = 0;
        config_take_over(&daemon->config, &next, on_changed, &changes);
        const struct config *config = &daemon->config;
        log_set_level(config->log_level);
        set_engine_limits(&daemon->engine, config);
        unit_table_set_units_max(daemon->engine.units, (size_t)config->unit_count_max);
        lock_table_set_locks_max(daemon->engine.locks, (size_t)config->unit_locks_max);
        pruner_set_retention(daemon->pruner, config->wal_retention_ms);
        services_set_limits(daemon->services, config);
        router_set_limits(daemon->router, connections_max(daemon), config->unit_lifetime_ms);
        LOG(LOG_INFO, "config", "Configuration read again", LOG_NUMBER("changes", changes));
    } else {
        LOG(LOG_ERROR, "config", "The new configuration is refused; the running one stays",
            LOG_TEXT("reason", error.message));
    }
    config_free(&next);
}

static bool is_to_end(void *context)
{
    sigset_t pending;
    (void)context;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* What cannot be repaired here is left to the next start: nothing was forwarded since. */
static void recover_again(struct daemon *daemon)
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
    enum status status = restart_recover(&options, &report, &error);
    if (status != STATUS_OK) {
        LOG(LOG_ERROR, "recovery", "Ending: the next start recovers",
            LOG_TEXT("status", status_name(status)), LOG_TEXT("reason", error.message));
        _exit(EXIT_CANNOT_RUN);
    }
    tell_recovered(&report);
    daemon->probe = report.probe;
    admin_serving(daemon->admin, &daemon->engine, daemon->router, daemon->services, daemon->observe,
                  daemon->pruner);
    admin_upstream_seen(daemon->admin, NULL);
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
    admin_upstream_seen(daemon->admin, status == STATUS_OK ? NULL : error.message);
    if (status != STATUS_OK) {
        LOG(LOG_WARNING, "main", "The lease could not be renewed",
            LOG_TEXT("reason", error.message));
    }
}

/* Keeps the lease, until a signal asks for the end. */
static void run(struct daemon *daemon, const sigset_t *signals)
{
    const struct timespec period = {.tv_sec = LEASE_RENEW_MS / 1000};
    for (;;) {
        int received = sigtimedwait(signals, NULL, &period);
        if (received == SIGTERM || received == SIGINT) {
            return;
        }
        if (received == SIGHUP) {
            reload(daemon);
        }
        observe_tick(daemon->observe, clock_monotonic_ms());
        lease_keeper_note_units(daemon->keeper,
                                (uint32_t)unit_table_open_count(daemon->engine.units));
        if (server_process_has_changed(daemon->process)) {
            recover_again(daemon);
        } else {
            look_at_server(daemon);
        }
    }
}

/* A server that has restarted meanwhile takes nothing before a recovery, which is for the next
   start: then nothing here can end by itself any more. */
static bool may_drain(struct daemon *daemon, uint64_t until_ms)
{
    return clock_monotonic_ms() < until_ms && !server_process_has_changed(daemon->process);
}

static void drain(struct daemon *daemon)
{
    LOG(LOG_INFO, "main", "Draining",
        LOG_NUMBER("units", unit_table_open_count(daemon->engine.units)));
    admin_draining(daemon->admin);
    uint64_t until = clock_monotonic_ms() + DRAIN_MS_MAX;
    /* Calls first: their services may need new connections to finish them. */
    services_drain(daemon->services);
    while (services_calls(daemon->services) > 0 && may_drain(daemon, until)) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    router_drain(daemon->router);
    while (unit_table_open_count(daemon->engine.units) > 0 && may_drain(daemon, until)) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    services_stop(daemon->services);
    router_stop(daemon->router);
}

static void stop(struct daemon *daemon)
{
    bool clean = daemon->recovered;
    if (daemon->router != NULL) {
        drain(daemon);
    }
    upstream_stop_waiting(); /* what is not done by now is left to the next start */
    daemon->engine.unique = unique_cache_stop(daemon->engine.unique);
    daemon->engine.rollbacks = rollback_pool_stop(daemon->engine.rollbacks);
    daemon->pruner = pruner_stop(daemon->pruner); /* it asks the settler */
    daemon->settler = settler_stop(daemon->settler);
    if (daemon->engine.units != NULL) {
        clean = clean && unit_table_open_count(daemon->engine.units) == 0;
    }
    daemon->admin = admin_stop(daemon->admin); /* before what it looks at */
    if (daemon->keeper != NULL) {
        lease_keeper_settle(daemon->keeper, NULL, NULL);
    }
    daemon->workers = worker_pool_stop(daemon->workers);
    daemon->router = router_free(daemon->router);
    daemon->keeper = lease_keeper_stop(daemon->keeper);
    if (daemon->leased) {
        struct error error = {0};
        if (daemon->upstream == NULL ||
            lease_release(daemon->upstream, &daemon->lease, wal_last_lsn(daemon->wal), 0, clean,
                          &error) != STATUS_OK) {
            LOG(LOG_WARNING, "main", "The lease could not be given back",
                LOG_TEXT("reason", error.message));
        }
    }
    daemon->upstream = upstream_close(daemon->upstream);
    if (clean && daemon->services != NULL) {
        services_note_end(daemon->services);
    }
    daemon->services = services_free(daemon->services);
    daemon->observe = observe_free(daemon->observe);
    daemon->wal = wal_close(daemon->wal, clean && daemon->leased);
    daemon->engine.gates = gate_table_free(daemon->engine.gates);
    daemon->process = server_process_free(daemon->process);
    daemon->engine.units = unit_table_free(daemon->engine.units);
    daemon->engine.locks = lock_table_free(daemon->engine.locks);
    daemon->engine.uncommitted = uncommitted_table_free(daemon->engine.uncommitted);
}

int main(int argument_count, char **arguments)
{
    static struct daemon daemon;
    daemon.argument_count = argument_count;
    daemon.arguments = arguments;
    struct error error = {0};
    enum config_action action = CONFIG_RUN;
    enum status status = first_process_leave(&error);
    if (status == STATUS_OK) {
        status = config_from_arguments(argument_count, arguments, &daemon.config, &action, &error);
    }
    if (status == STATUS_OK && action == CONFIG_RUN) {
        status = check_settings(&daemon.config, &error);
    }
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "holdfastd: %s\n", error.message);
        config_free(&daemon.config);
        return EXIT_CANNOT_RUN;
    }
    if (action == CONFIG_EXIT || daemon.config.check_only) {
        if (action == CONFIG_RUN) {
            printf("The configuration is valid.\n");
        }
        config_free(&daemon.config);
        return 0;
    }
    log_set_level(daemon.config.log_level);
    daemon.descriptors = descriptors_raise();
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaddset(&signals, SIGUSR1); /* ours: the server has restarted */
    daemon.main_thread = pthread_self();
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);

    status = start(&daemon, &error);
    if (status == STATUS_OK) {
        run(&daemon, &signals);
    } else if (daemon.told_to_end) {
        status = STATUS_OK;
    } else {
        LOG(LOG_ERROR, "main", "Cannot start", LOG_TEXT("reason", error.message),
            LOG_TEXT("status", status_name(status)));
        (void)fprintf(stderr, "holdfastd: %s\n", error.message);
    }
    stop(&daemon);
    config_free(&daemon.config);
    if (status == STATUS_OK) {
        LOG(LOG_INFO, "main", "Ended cleanly");
    }
    return status == STATUS_OK ? 0 : EXIT_CANNOT_RUN;
}
