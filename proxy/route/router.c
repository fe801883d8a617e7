/*
 * The proxy as a whole: accepting, and the housekeeping that no connection does for itself.
 *
 *   accept (worker 0) --> the connection's worker, in turn
 *   every SLOW_CLIENTS_MS (each worker): clients that stop in a message (slow_clients.c)
 *   every HOUSEKEEPING_MS (worker 0):
 *      units older than unit.lifetime                      --> rolled back
 *      units whose connection closed ORPHAN_GRACE_MS ago   --> search --> rolled back
 *
 * Whose client has gone: a driver's pool hands its sessions from connection to connection, and a
 * session id is never shared between processes. So two connections that have carried the same
 * session belong to the same client, and a unit whose connection closed is kept as long as a
 * connection lives that shares a session with it. The search asks one worker after the other.
 */
#include "route/router.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "route/connection.h"
#include "route/follow.h"

#define HOUSEKEEPING_MS 50
#define ORPHAN_GRACE_MS 300u
#define SLOW_CLIENTS_MS 1000u

struct router {
    struct route_shared shared;
    struct event *housekeeping;
    uint64_t next_look_ms;
    struct worker_task housekeeping_task;
    sem_t done;
};

/* ------------------------------------------------------------------ accepting */

struct handover {
    struct worker_task task;
    struct route_worker *owner;
    const struct route_listener *listener;
    int descriptor;
    struct sockaddr_storage peer;
    socklen_t peer_size;
    struct address_key address;
};

struct route_shared *router_shared(struct router *router)
{
    return &router->shared;
}

static void on_handover(struct worker_task *task)
{
    struct handover *handover =
        (struct handover *)(void *)((uint8_t *)task - offsetof(struct handover, task));
    if (handover->owner->stopping) {
        (void)close(handover->descriptor);
        route_shared_leave(handover->owner->shared, &handover->address);
    } else {
        connection_accept(handover->owner, handover->listener, handover->descriptor,
                          (struct sockaddr *)&handover->peer, handover->peer_size,
                          &handover->address);
    }
    free(handover);
}

void route_shared_leave(struct route_shared *shared, const struct address_key *address)
{
    address_counts_leave(shared->addresses, address);
    (void)atomic_fetch_sub(&shared->connections, 1);
}

static void on_accepted(void *context, int descriptor, const struct sockaddr *peer,
                        socklen_t peer_size)
{
    const struct route_listener *listener = context;
    struct route_shared *shared = listener->shared;
    struct handover *handover = NULL;
    struct address_key address;
    uint64_t open_now = atomic_fetch_add(&shared->connections, 1);
    if (!address_counts_enter(shared->addresses, peer, atomic_load(&shared->address_max),
                              &address)) {
        char text[NETWORK_ADDRESS_TEXT_BYTES];
        network_address_text(peer, peer_size, text);
        LOG(LOG_WARNING, "net",
            "Connection refused: net.maxConnectionsPerAddress are open from its address",
            LOG_TEXT("client", text));
        (void)atomic_fetch_add(&shared->over_limit, 1);
        (void)atomic_fetch_sub(&shared->connections, 1);
        (void)close(descriptor);
        return;
    }
    if (open_now < atomic_load(&shared->connections_max)) {
        handover = calloc(1, sizeof *handover);
    }
    if (handover == NULL) {
        LOG(LOG_WARNING, "net", "Connection refused: net.maxIncomingConnections are open",
            LOG_NUMBER("connections", open_now));
        (void)atomic_fetch_add(&shared->over_limit, 1);
        route_shared_leave(shared, &address);
        (void)close(descriptor);
        return;
    }
    handover->task.run = on_handover;
    handover->owner = &shared->workers[open_now % shared->worker_count];
    handover->listener = listener;
    handover->descriptor = descriptor;
    memcpy(&handover->peer, peer, peer_size);
    handover->peer_size = peer_size;
    handover->address = address;
    worker_post(handover->owner->worker, &handover->task);
}

/* ------------------------------------------------------------------ orphans */

struct orphan_search {
    struct worker_task task;
    struct route_shared *shared;
    struct unit_orphan orphan;
    size_t worker;
};

static bool share_session(const struct connection *connection, const struct unit_orphan *orphan)
{
    for (size_t i = 0; i < UNIT_RECENT_SESSIONS; i++) {
        for (size_t j = 0; j < UNIT_RECENT_SESSIONS; j++) {
            if (orphan->recent_sessions[i] != 0 &&
                orphan->recent_sessions[i] == connection->recent_sessions[j]) {
                return true;
            }
        }
    }
    return false;
}

static void end_orphan(struct orphan_search *search)
{
    static const char reason[] = "the client has gone";
    struct engine *engine = search->shared->options.engine;
    if (unit_table_adopt(engine->units, search->orphan.unit, 0)) {
        struct unit *unit = unit_table_take(engine->units, search->orphan.unit, reason, NULL);
        if (unit != NULL) {
            rollback_detached(engine, unit, reason);
        }
    }
    free(search);
}

static void on_search(struct worker_task *task)
{
    struct orphan_search *search =
        (struct orphan_search *)(void *)((uint8_t *)task - offsetof(struct orphan_search, task));
    struct route_shared *shared = search->shared;
    for (struct connection *at = shared->workers[search->worker].first; at != NULL; at = at->next) {
        if (!at->client_gone && share_session(at, &search->orphan)) {
            at->carried_unit = true; /* it is this one whose end makes it an orphan again */
            (void)unit_table_adopt(shared->options.engine->units, search->orphan.unit, at->number);
            free(search);
            return;
        }
    }
    if (++search->worker < shared->worker_count) {
        worker_post(shared->workers[search->worker].worker, &search->task);
    } else {
        end_orphan(search);
    }
}

static void search_orphans(struct route_shared *shared, uint64_t now_ms)
{
    struct unit_orphan orphan;
    while (now_ms > ORPHAN_GRACE_MS && unit_table_next_orphan(shared->options.engine->units,
                                                              now_ms - ORPHAN_GRACE_MS, &orphan)) {
        struct orphan_search *search = calloc(1, sizeof *search);
        if (search == NULL) {
            return; /* its lifetime ends it */
        }
        *search = (struct orphan_search){
            .task.run = on_search, .shared = shared, .orphan = orphan, .worker = 0};
        worker_post(shared->workers[0].worker, &search->task);
    }
}

/* ------------------------------------------------------------------ slow clients */

static void on_look(struct worker_task *task)
{
    struct route_worker *worker =
        (struct route_worker *)(void *)((uint8_t *)task - offsetof(struct route_worker, look_task));
    slow_clients_look(worker, clock_monotonic_ms());
    atomic_store(&worker->looking, false);
}

static void look_at_clients(struct router *router, uint64_t now_ms)
{
    if (now_ms < router->next_look_ms) {
        return;
    }
    router->next_look_ms = now_ms + SLOW_CLIENTS_MS;
    for (size_t i = 0; i < router->shared.worker_count; i++) {
        struct route_worker *worker = &router->shared.workers[i];
        if (!atomic_exchange(&worker->looking, true)) {
            worker->look_task.run = on_look;
            worker_post(worker->worker, &worker->look_task);
        }
    }
}

static void on_follow(struct worker_task *task)
{
    struct route_worker *worker =
        (struct route_worker *)(void *)((uint8_t *)task -
                                        offsetof(struct route_worker, follow_task));
    atomic_store(&worker->following,
                 false); /* before the look: a change meanwhile is another one */
    follow_changed(worker);
}

void router_follow(struct router *router)
{
    for (size_t i = 0; i < router->shared.worker_count; i++) {
        struct route_worker *worker = &router->shared.workers[i];
        if (!atomic_exchange(&worker->following, true)) {
            worker->follow_task.run = on_follow;
            worker_post(worker->worker, &worker->follow_task);
        }
    }
}

static void on_housekeeping(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    static const char reason[] = "it lived longer than unit.lifetime, or than its own timeout";
    struct router *router = context;
    struct engine *engine = router->shared.options.engine;
    uint64_t now = clock_monotonic_ms();
    uint64_t lifetime = atomic_load(&router->shared.unit_lifetime_ms);
    struct unit *unit;
    while ((unit = unit_table_take_expired(engine->units, lifetime, reason)) != NULL) {
        rollback_detached(engine, unit, reason);
    }
    search_orphans(&router->shared, now);
    look_at_clients(router, now);
    const struct router_options *options = &router->shared.options;
    if (options->tick != NULL) {
        options->tick(options->tick_context, now);
    }
}

/* ------------------------------------------------------------------ starting and stopping */

static struct router *router_of(struct worker_task *task)
{
    return (struct router *)(void *)((uint8_t *)task - offsetof(struct router, housekeeping_task));
}

static void on_start_housekeeping(struct worker_task *task)
{
    struct router *router = router_of(task);
    const struct timeval period = {.tv_usec = HOUSEKEEPING_MS * 1000};
    router->housekeeping = event_new(worker_base(router->shared.workers[0].worker), -1, EV_PERSIST,
                                     on_housekeeping, router);
    if (router->housekeeping != NULL) {
        (void)event_add(router->housekeeping, &period);
    }
    (void)sem_post(&router->done);
}

static void on_stop_housekeeping(struct worker_task *task)
{
    struct router *router = router_of(task);
    event_free(router->housekeeping);
    (void)sem_post(&router->done);
}

static void wait_done(struct router *router)
{
    while (sem_wait(&router->done) != 0 && errno == EINTR) {
    }
}

static void run_on_first_worker(struct router *router, void (*run)(struct worker_task *))
{
    router->housekeeping_task.run = run;
    worker_post(router->shared.workers[0].worker, &router->housekeeping_task);
    wait_done(router);
}

static enum status open_listeners(struct router *router, struct error *ret_error)
{
    struct route_shared *shared = &router->shared;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < shared->options.listener_count && status == STATUS_OK; i++) {
        struct route_listener *at = &shared->listeners[i];
        at->shared = shared;
        at->options = shared->options.listeners[i];
        status = listener_open(at->options.listen, shared->workers[0].worker, on_accepted, at,
                               &at->listener, ret_error);
        shared->listener_count = i + 1;
    }
    return status;
}

static void close_listeners(struct router *router)
{
    for (size_t i = 0; i < router->shared.listener_count; i++) {
        struct route_listener *at = &router->shared.listeners[i];
        if (at->listener != NULL) {
            at->listener = listener_close(at->listener);
        }
    }
}

enum status router_start(const struct router_options *options, struct router **ret_router,
                         struct error *ret_error)
{
    size_t count = worker_pool_count(options->workers);
    struct router *router = calloc(1, sizeof *router);
    struct route_worker *workers =
        memory_new_aligned(count, sizeof *workers, _Alignof(struct route_worker));
    struct route_listener *listeners = calloc(options->listener_count, sizeof *listeners);
    struct address_counts *addresses = address_counts_new();
    if (router == NULL || workers == NULL || listeners == NULL || addresses == NULL) {
        address_counts_free(addresses);
        free(router);
        free(workers);
        free(listeners);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    router->shared.options = *options;
    router->shared.addresses = addresses;
    router_set_limits(router, options->connections_max, options->address_max,
                      options->unit_lifetime_ms);
    router->shared.workers = workers;
    router->shared.worker_count = count;
    router->shared.listeners = listeners;
    (void)sem_init(&router->done, 0, 0);
    (void)pthread_mutex_init(&router->shared.hello.mutex, NULL);
    cursor_places_init(&router->shared.cursor_places);
    for (size_t i = 0; i < count; i++) {
        workers[i].shared = &router->shared;
        workers[i].worker = worker_pool_get(options->workers, i);
    }
    enum status status = open_listeners(router, ret_error);
    if (status != STATUS_OK) {
        close_listeners(router);
        router_free(router);
        return status;
    }
    run_on_first_worker(router, on_start_housekeeping);
    *ret_router = router;
    return STATUS_OK;
}

void router_set_limits(struct router *router, uint64_t connections_max, uint64_t address_max,
                       uint64_t unit_lifetime_ms)
{
    atomic_store(&router->shared.address_max, address_max);
    atomic_store(&router->shared.connections_max, connections_max);
    atomic_store(&router->shared.unit_lifetime_ms, unit_lifetime_ms);
}

const char *router_address(const struct router *router, size_t listener)
{
    return listener_address(router->shared.listeners[listener].listener);
}

struct topology *router_topology(const struct router *router)
{
    return router->shared.options.topology;
}

enum upstream_topology router_kind(const struct router *router)
{
    return router->shared.options.kind;
}

uint64_t router_connections(const struct router *router)
{
    return atomic_load(&router->shared.connections);
}

void router_figures_get(const struct router *router, struct router_figures *ret_figures)
{
    struct router_figures figures = {.over_limit = atomic_load(&router->shared.over_limit)};
    for (size_t i = 0; i < router->shared.worker_count; i++) {
        const struct route_counters *counters = &router->shared.workers[i].counters;
        figures.client_bytes_in += counter_read(&counters->client_bytes_in);
        figures.client_bytes_out += counter_read(&counters->client_bytes_out);
        figures.server_bytes_in += counter_read(&counters->server_bytes_in);
        figures.server_bytes_out += counter_read(&counters->server_bytes_out);
        figures.commands += counter_read(&counters->commands);
        figures.accepted += counter_read(&counters->accepted);
        figures.refused += counter_read(&counters->refused);
    }
    *ret_figures = figures;
}

void router_drain(struct router *router)
{
    atomic_store(&router->shared.draining, true);
    close_listeners(router);
}

static void run_on_workers(struct router *router, void (*run)(struct worker_task *))
{
    for (size_t i = 0; i < router->shared.worker_count; i++) {
        router->shared.workers[i].hold_task.run = run;
        worker_post(router->shared.workers[i].worker, &router->shared.workers[i].hold_task);
    }
    for (size_t i = 0; i < router->shared.worker_count; i++) {
        wait_done(router);
    }
}

static struct route_worker *held_worker(struct worker_task *task)
{
    return (struct route_worker *)(void *)((uint8_t *)task -
                                           offsetof(struct route_worker, hold_task));
}

static void on_hold_worker(struct worker_task *task)
{
    struct route_worker *worker = held_worker(task);
    struct router *router =
        (struct router *)(void *)((uint8_t *)worker->shared - offsetof(struct router, shared));
    for (struct connection *at = worker->first; at != NULL; at = at->next) {
        if (at->connected) {
            connection_end_server(at); /* freed from the loop, after this one */
        }
    }
    (void)sem_post(&router->done);
}

static void on_resume_worker(struct worker_task *task)
{
    struct route_worker *worker = held_worker(task);
    struct router *router =
        (struct router *)(void *)((uint8_t *)worker->shared - offsetof(struct router, shared));
    for (struct connection *at = worker->first; at != NULL; at = at->next) {
        process_check_again(at);
    }
    (void)sem_post(&router->done);
}

void router_hold(struct router *router)
{
    run_on_workers(router, on_hold_worker);
}

void router_resume(struct router *router)
{
    run_on_workers(router, on_resume_worker);
}

static void on_stop_worker(struct worker_task *task)
{
    struct route_worker *worker =
        (struct route_worker *)(void *)((uint8_t *)task - offsetof(struct route_worker, stop_task));
    worker->stopping = true;
    for (struct connection *at = worker->first; at != NULL; at = at->next) {
        connection_end_server(at); /* freed from the loop, after this one */
    }
}

void router_stop(struct router *router)
{
    static const char reason[] = "the proxy was shut down";
    struct engine *engine = router->shared.options.engine;
    run_on_first_worker(router, on_stop_housekeeping);
    for (size_t i = 0; i < router->shared.worker_count; i++) {
        router->shared.workers[i].stop_task.run = on_stop_worker;
        worker_post(router->shared.workers[i].worker, &router->shared.workers[i].stop_task);
    }
    /* A unit whose command is still running is rolled back when that ends, which it does now that
       its connections are gone. */
    for (int waited = 0; waited < 500; waited++) {
        struct unit *unit;
        while ((unit = unit_table_take_any(engine->units, reason)) != NULL) {
            rollback_detached(engine, unit, reason);
        }
        if (unit_table_open_count(engine->units) == 0 &&
            atomic_load(&router->shared.connections) == 0) {
            return;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
}

struct router *router_free(struct router *router)
{
    if (router != NULL) {
        (void)sem_destroy(&router->done);
        (void)pthread_mutex_destroy(&router->shared.hello.mutex);
        cursor_places_destroy(&router->shared.cursor_places);
        for (size_t i = 0; i < router->shared.worker_count; i++) {
            operation_free_spare(&router->shared.workers[i]);
        }
        free(router->shared.workers);
        free(router->shared.listeners);
        address_counts_free(router->shared.addresses);
        free(router);
    }
    return NULL;
}
