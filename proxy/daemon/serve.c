/*
 * What serves clients: the engine and its helpers, the router, the services, the pruner. Main
 * thread.
 */
#include <signal.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "engine/deadlock_log.h"
#include "engine/finish.h"
#include "engine/namespace_cache.h"
#include "engine/pause.h"
#include "engine/resolver.h"
#include "engine/unique_cache.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "net/descriptors.h"

#define ROLLBACK_THREADS 4
/* Changes and sessions that are remembered: 200 and 150 bytes each. */
#define REMEMBERED_CHANGES_MAX 1000000u
#define REMEMBERED_SESSIONS_MAX 200000u
#define PRUNE_MS 60000u

static size_t worker_count(const struct config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = config->net_threads > 0 ? (size_t)config->net_threads : (size_t)cores;
    return wanted < 1 ? 1 : wanted > 256 ? 256 : wanted;
}

enum status daemon_learn_server(struct daemon *daemon, struct error *error)
{
    enum status status =
        upstream_update_rules(daemon->upstream, &daemon->engine.update_rules, error);
    /* A server that refuses the question is served all the same, with more round trips. */
    return status == STATUS_UNREACHABLE ? status : STATUS_OK;
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
        .ended = &daemon->engine.counters.journaled,
    };
    enum status status = settler_start(&options, &daemon->settler, error);
    daemon->engine.settler = daemon->settler;
    return status;
}

static bool settle_workers(void *context, uint64_t wait_ms)
{
    return worker_pool_settle(context, wait_ms);
}

enum status daemon_make_engine(struct daemon *daemon, struct error *error)
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
    if (config->net_io_uring == CONFIG_IO_URING_AUTO) {
        worker_pool_allow_ring(daemon->workers);
    }
    daemon->engine = (struct engine){
        .wal = daemon->wal,
        .units = unit_table_new((size_t)config->unit_count_max, REMEMBERED_SESSIONS_MAX),
        .locks = lock_table_new((size_t)config->unit_locks_max, REMEMBERED_CHANGES_MAX),
        .gates = gate_table_new(workers + 1), /* the last one is the pause's */
        .uncommitted = uncommitted_table_new(REMEMBERED_CHANGES_MAX),
        .retryable_writes = config->unit_retryable_writes == CONFIG_RETRYABLE_WRITES_ONCE,
        .multi_writes = multi_writes[config->unit_multi_writes],
        .committed_reads = config->unit_reads == CONFIG_UNIT_READS_COMMITTED,
        .defer_writes = config->unit_writes == CONFIG_UNIT_WRITES_DEFERRED,
        .serializable = config->unit_isolation == CONFIG_ISOLATION_SERIALIZABLE,
    };
    daemon_set_engine_limits(&daemon->engine, config);
    if (daemon->engine.units == NULL || daemon->engine.locks == NULL ||
        daemon->engine.gates == NULL || daemon->engine.uncommitted == NULL) {
        return error_set(error, STATUS_MEMORY, "out of memory");
    }
    return STATUS_OK;
}

enum status daemon_start_engine(struct daemon *daemon, struct error *error)
{
    const struct config *config = &daemon->config;
    enum status status = daemon_make_engine(daemon, error);
    if (status != STATUS_OK) {
        return status;
    }
    daemon->engine.pause = pause_new(daemon->engine.gates, worker_pool_count(daemon->workers));
    if (daemon->engine.pause == NULL) {
        return error_set(error, STATUS_MEMORY, "out of memory");
    }
    if (daemon->succeeding) {
        cursor_gates_note_all(&daemon->engine.cursor_gates, clock_monotonic_ms());
    }
    lease_keeper_settle(daemon->keeper, settle_workers, daemon->workers);
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
    if (status == STATUS_OK) {
        status = unique_cache_start(config->upstream_uri, config->upstream_connect_ms,
                                    &daemon->engine.unique, error);
    }
    if (status == STATUS_OK && daemon->engine.committed_reads) {
        status = namespace_cache_start(config->upstream_uri, config->upstream_connect_ms,
                                       &daemon->engine.namespaces, error);
    }
    struct resolver_options resolver = {
        .engine = &daemon->engine,
        .upstream_uri = config->upstream_uri,
        .connect_ms = config->upstream_connect_ms,
        .process = daemon->process,
    };
    return status == STATUS_OK ? resolver_start(&resolver, &daemon->engine.resolver, error)
                               : status;
}

/* The client's and the server's; that of reads by preference (route/elsewhere.h); and where
   services are fronted as many HTTP callers, two each as well. */
static uint64_t descriptors_of_connection(const struct daemon *daemon)
{
    bool prefers = daemon->topology != NULL && daemon->upstream_kind == UPSTREAM_REPLICA_SET &&
                   daemon->config.unit_boundary != CONFIG_BOUNDARY_OBSERVE;
    return 2u + prefers + (services_are_fronted(daemon->services) ? 2u : 0u);
}

uint64_t daemon_connections_max(const struct daemon *daemon)
{
    uint64_t wanted = daemon->config.net_connections_max;
    uint64_t each = descriptors_of_connection(daemon);
    uint64_t possible = descriptors_connections(daemon->descriptors, each);
    if (wanted <= possible) {
        return wanted;
    }
    LOG(LOG_WARNING, "net",
        "Fewer connections than net.maxIncomingConnections: raise the limit of open files "
        "(ulimit -Hn, LimitNOFILE)",
        LOG_NUMBER("connections", possible), LOG_NUMBER("wanted", wanted),
        LOG_NUMBER("openFiles", daemon->descriptors),
        LOG_NUMBER("openFilesWanted", descriptors_wanted(wanted, each)));
    return possible;
}

enum status daemon_start_router(struct daemon *daemon, struct error *error)
{
    char *name = daemon->upstream_name;
    struct router_options options = {
        .engine = &daemon->engine,
        .workers = daemon->workers,
        .observe = daemon->observe,
        .process = daemon->process,
        .topology = daemon->topology,
        .kind = daemon->upstream_kind,
        .selection_ms = upstream_uri_selection_ms(daemon->config.upstream_uri),
        .observe_only = daemon->config.unit_boundary == CONFIG_BOUNDARY_OBSERVE,
        .upstream_name = name,
        .upstream_tls = daemon->tls.upstream,
        .connections_max = daemon_connections_max(daemon),
        .address_max = daemon->config.net_address_max,
        .handshake_ms = daemon->config.net_handshake_ms,
        .stall_ms = daemon->config.net_stall_ms,
        .unit_lifetime_ms = daemon->config.unit_lifetime_ms,
    };
    enum status status = daemon->topology == NULL
                             ? network_address_resolve(name, &options.upstream, error)
                             : STATUS_OK;
    if (status != STATUS_OK) {
        return status;
    }
    services_use_tls(daemon->services, daemon->tls.net, daemon->tls.http, daemon->tls.services);
    services_router(daemon->services, &options);
    status = router_start(&options, &daemon->router, error);
    if (status == STATUS_OK) {
        status = services_serve(daemon->services, daemon->workers, daemon->router,
                                options.connections_max, error);
    }
    if (status == STATUS_OK) {
        daemon_follow_topology(daemon);
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
    /* What the server has committed of its own transactions it keeps itself. */
    return daemon->native ? UINT64_MAX : settler_durable_lsn(daemon->settler);
}

enum status daemon_start_pruner(struct daemon *daemon, struct error *error)
{
    struct pruner_options options = {
        .wal = daemon->wal,
        .period_ms = PRUNE_MS,
        .retention_ms = daemon->config.wal_retention_ms,
        .settled_lsn = settled_lsn,
        .requests_keep_ms = daemon->config.http_idempotency_keep_ms,
        .pruned = on_pruned,
        .context = daemon,
    };
    return pruner_start(&options, &daemon->pruner, error);
}
