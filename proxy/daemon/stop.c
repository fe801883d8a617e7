/*
 * The end: drain, roll back what is open, close lease and journal. Main thread.
 *
 * It ends in a bounded time also if the server hangs: DRAIN_MS_MAX for draining, then
 * upstream_stop_waiting() bounds every wait for the server, whichever thread is joined here. What
 * is not done by then stays open in the journal, which is not marked clean.
 */
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/service_manager.h"
#include "daemon/daemon.h"
#include "engine/finish.h"
#include "engine/namespace_cache.h"
#include "engine/pause.h"
#include "engine/resolver.h"
#include "engine/unique_cache.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"

#define DRAIN_MS_MAX 10000u

/* A server that has restarted meanwhile takes nothing before a recovery, which is for the next
   start: then nothing here can end by itself any more. */
static bool may_drain(struct daemon *daemon, uint64_t until_ms)
{
    return clock_monotonic_ms() < until_ms &&
           (daemon->native || !server_process_has_changed(daemon->process));
}

bool daemon_is_told_to_end(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

static void tell_draining(struct daemon *daemon)
{
    LOG(LOG_INFO, "main", "Draining",
        LOG_NUMBER("units", unit_table_open_count(daemon->engine.units)));
    admin_draining(daemon->admin);
}

void daemon_drain(struct daemon *daemon)
{
    if (daemon->draining) {
        return;
    }
    daemon->draining = true;
    tell_draining(daemon);
    services_drain(daemon->services);
    router_drain(daemon->router);
}

static void drain(struct daemon *daemon)
{
    tell_draining(daemon);
    admin_ending(daemon->admin);
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
    upstream_stop_waiting(); /* from here on: closing a connection may wait for what it has open */
    services_stop(daemon->services);
    router_stop(daemon->router);
}

void daemon_stop_engine(struct daemon *daemon)
{
    upstream_stop_waiting(); /* what is not done in time is left to the next start */
    daemon->engine.resolver = resolver_stop(daemon->engine.resolver); /* it uses what follows */
    daemon->engine.unique = unique_cache_stop(daemon->engine.unique);
    namespace_cache_stop(daemon->engine.namespaces);
    daemon->engine.rollbacks = rollback_pool_stop(daemon->engine.rollbacks);
    daemon->pruner = pruner_stop(daemon->pruner); /* it asks the settler */
    daemon->admin = admin_stop(daemon->admin);    /* before what it looks at */
    daemon->settler = settler_stop(daemon->settler);
}

/*
 * Before what they use is stopped: where draining has given up, a command may still be at work, and
 * its wait for a lock end at any moment. Their memory stays until all have ended who may post to
 * them: the journal's writer, rollbacks, those who ask.
 */
static void end_workers(struct daemon *daemon)
{
    if (daemon->keeper != NULL) {
        lease_keeper_settle(daemon->keeper, NULL, NULL);
    }
    watchdog_watch(daemon->watchdog, NULL);
    topology_silence(daemon->topology);
    if (daemon->workers != NULL) {
        worker_pool_end(daemon->workers);
    }
}

static void tell_what_is_left(struct daemon *daemon, size_t units, size_t doubts)
{
    if (daemon->recovered && !daemon->handed_over && units + doubts > 0) {
        daemon->left_open = true;
        LOG(LOG_WARNING, "main", "The journal is left as after a crash: the next start recovers",
            LOG_NUMBER("units", units), LOG_NUMBER("commitsInDoubt", doubts));
    }
}

void daemon_stop(struct daemon *daemon)
{
    bool clean = daemon->recovered && !daemon->handed_over;
    size_t units = 0;
    size_t doubts = 0;
    if (!daemon->handed_over) {
        service_manager_stopping(daemon->router == NULL ? "Ending" : "Draining");
    }
    if (daemon->engine.pause != NULL) {
        pause_end(daemon->engine.pause); /* who waits for it is to end, too */
    }
    if (daemon->router != NULL && !daemon->handed_over) {
        drain(daemon);
    }
    end_workers(daemon);
    if (!daemon->handed_over) {
        daemon_stop_engine(daemon);
    }
    if (daemon->engine.units != NULL) {
        units = unit_table_open_count(daemon->engine.units);
    }
    daemon->topology = topology_stop(daemon->topology);
    if (daemon->engine.native != NULL) {
        doubts = native_doubts(daemon->engine.native);
        native_end(daemon->engine.native); /* the journal's writer still posts to it */
    }
    tell_what_is_left(daemon, units, doubts);
    clean = clean && units == 0 && doubts == 0;
    daemon->engine.namespaces = namespace_cache_free(daemon->engine.namespaces);
    daemon_free_tls(&daemon->tls);
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
    daemon->wal = wal_close(daemon->wal, clean && (daemon->leased || daemon->native));
    daemon->engine.native = native_free(daemon->engine.native);
    daemon->router = router_free(daemon->router); /* nobody posts to its workers any more */
    daemon->workers = worker_pool_stop(daemon->workers);
    daemon->engine.pause = pause_free(daemon->engine.pause);
    daemon->engine.gates = gate_table_free(daemon->engine.gates);
    daemon->process = server_process_free(daemon->process);
    daemon->engine.units = unit_table_free(daemon->engine.units);
    daemon->engine.locks = lock_table_free(daemon->engine.locks);
    daemon->engine.uncommitted = uncommitted_table_free(daemon->engine.uncommitted);
    daemon->telemetry = telemetry_stop(daemon->telemetry); /* after all who tell it something */
    daemon->watchdog = watchdog_stop(daemon->watchdog);
    service_manager_end();
    free(daemon->program);
    daemon->program = NULL;
}
