/*
 * The front as a whole: its listeners, and the hand-over of what they accept to the workers in
 * turn.
 *
 * Threads: accepting on worker 0; start, drain, stop and free on the caller's.
 */
#include "front/front.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "front/front_private.h"
#include "holdfast/log.h"

#define STOP_WAITS_MAX 500 /* of 10 ms */

/* What a service of ours has. */
struct served {
    struct front_service service;
    struct front_service *instances; /* those of `service` */
    struct peers peers;
    struct front_endpoint outside;
    struct front_endpoint inside;
};

struct front {
    struct front_shared shared;
    struct front_worker *workers;
    size_t worker_count;
    _Atomic uint64_t accepted;
    struct served *served;
    size_t served_count;
    size_t places; /* given to services and instances */
};

/* ------------------------------------------------------------------ accepting */

struct handover {
    struct worker_task task;
    struct front_worker *owner;
    const struct front_endpoint *endpoint;
    int descriptor;
    struct sockaddr_storage peer;
    socklen_t peer_size;
    uint8_t *bytes; /* of a caller that another process has handed over; NULL: none */
    size_t size;
};

static void on_handover(struct worker_task *task)
{
    struct handover *handover =
        (struct handover *)(void *)((uint8_t *)task - offsetof(struct handover, task));
    struct front_worker *owner = handover->owner;
    if (owner->stopping) {
        (void)close(handover->descriptor);
        (void)atomic_fetch_sub(&owner->shared->counters.connections, 1);
    } else {
        exchange_accept(owner, handover->endpoint, handover->descriptor,
                        (struct sockaddr *)&handover->peer, handover->peer_size,
                        slice_make(handover->bytes, handover->size));
    }
    free(handover->bytes);
    free(handover);
}

static void accept_with(const struct front_endpoint *endpoint, int descriptor,
                        const struct sockaddr *peer, socklen_t peer_size, struct slice bytes)
{
    struct front *front = endpoint->front;
    struct handover *handover = NULL;
    uint64_t open_now = atomic_fetch_add(&front->shared.counters.connections, 1);
    if (open_now < front->shared.connections_max) {
        handover = calloc(1, sizeof *handover);
    }
    if (handover == NULL) {
        LOG(LOG_WARNING, "http", "Connection refused: http.maxConnections are open",
            LOG_NUMBER("connections", open_now));
        (void)atomic_fetch_sub(&front->shared.counters.connections, 1);
        (void)close(descriptor);
        return;
    }
    handover->task.run = on_handover;
    if (bytes.size > 0 && (handover->bytes = malloc(bytes.size)) != NULL) {
        memcpy(handover->bytes, bytes.data, bytes.size);
        handover->size = bytes.size;
    }
    handover->owner = &front->workers[atomic_fetch_add(&front->accepted, 1) % front->worker_count];
    handover->endpoint = endpoint;
    handover->descriptor = descriptor;
    memcpy(&handover->peer, peer, peer_size);
    handover->peer_size = peer_size;
    worker_post(handover->owner->worker, &handover->task);
}

static void on_accepted(void *context, int descriptor, const struct sockaddr *peer,
                        socklen_t peer_size)
{
    accept_with(context, descriptor, peer, peer_size, (struct slice){0});
}

void front_accept(const struct front_endpoint *endpoint, int descriptor, struct slice bytes)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    if (getpeername(descriptor, (struct sockaddr *)&peer, &size) == 0) {
        accept_with(endpoint, descriptor, (struct sockaddr *)&peer, size, bytes);
    } else {
        (void)close(descriptor); /* it has gone */
    }
}

/* ------------------------------------------------------------------ starting */

static void close_listeners(struct front *front)
{
    for (size_t i = 0; i < front->served_count; i++) {
        front->served[i].outside.listener = listener_close(front->served[i].outside.listener);
        front->served[i].inside.listener = listener_close(front->served[i].inside.listener);
    }
}

void front_pause_listeners(struct front *front, bool paused)
{
    for (size_t i = 0; i < front->served_count; i++) {
        struct listener *both[] = {front->served[i].outside.listener,
                                   front->served[i].inside.listener};
        for (size_t j = 0; j < 2; j++) {
            if (both[j] != NULL) {
                listener_pause(both[j], paused);
            }
        }
    }
}

const struct front_endpoint *front_find_endpoint(const struct front *front, const char *listen)
{
    for (size_t i = 0; i < front->served_count; i++) {
        const struct front_endpoint *both[] = {&front->served[i].outside, &front->served[i].inside};
        for (size_t j = 0; j < 2; j++) {
            if (both[j]->listener != NULL &&
                strcmp(listener_address(both[j]->listener), listen) == 0) {
                return both[j];
            }
        }
    }
    return NULL;
}

static enum status open_endpoint(struct front *front, struct front_endpoint *endpoint,
                                 const struct served *served, const char *address,
                                 struct error *ret_error)
{
    endpoint->front = front;
    endpoint->service = &served->service;
    endpoint->peers = &served->peers;
    if (address == NULL || address[0] == '\0') {
        return STATUS_OK;
    }
    return listener_open(address, front->workers[0].worker, on_accepted, endpoint,
                         &endpoint->listener, ret_error);
}

static enum status copy_service(struct front *front, struct served *served,
                                const struct front_service *service, struct error *ret_error)
{
    served->service = *service;
    served->service.place = front->places++;
    if (service->instance_count == 0) {
        return STATUS_OK;
    }
    served->instances = calloc(service->instance_count, sizeof *served->instances);
    if (served->instances == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < service->instance_count; i++) {
        served->instances[i] = service->instances[i];
        served->instances[i].place = front->places++;
    }
    served->service.instances = served->instances;
    return STATUS_OK;
}

static enum status open_service(struct front *front, struct served *served,
                                const struct front_service *service, struct error *ret_error)
{
    enum status status = copy_service(front, served, service, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = peers_parse(service->peers == NULL ? "" : service->peers, &served->peers, ret_error);
    if (status == STATUS_OK) {
        served->inside.inside = true;
        status = open_endpoint(front, &served->inside, served, service->inside_listen, ret_error);
    }
    return status == STATUS_OK
               ? open_endpoint(front, &served->outside, served, service->listen, ret_error)
               : status;
}

static size_t count_places(const struct front_options *options)
{
    size_t count = options->service_count;
    for (size_t i = 0; i < options->service_count; i++) {
        count += options->services[i].instance_count;
    }
    return count;
}

static struct front *make(const struct front_options *options)
{
    struct front *front = calloc(1, sizeof *front);
    if (front == NULL) {
        return NULL;
    }
    front->worker_count = worker_pool_count(options->workers);
    front->workers = calloc(front->worker_count, sizeof *front->workers);
    front->served = calloc(options->service_count + 1, sizeof *front->served);
    front->shared.chose_http2 = calloc(count_places(options) + 1, sizeof(_Atomic bool));
    if (front->workers == NULL || front->served == NULL || front->shared.chose_http2 == NULL) {
        return front_free(front);
    }
    front->shared.answer_bytes_max = options->answer_bytes_max;
    front->shared.connections_max = options->connections_max;
    front->shared.tls = options->tls;
    front->shared.plain_allowed = options->plain_allowed;
    front->shared.head_ms = options->head_ms == 0 ? FRONT_HEAD_MS : options->head_ms;
    front->shared.body_ms = options->body_ms == 0 ? FRONT_BODY_MS : options->body_ms;
    front->shared.kept_ms = options->kept_ms == 0 ? FRONT_KEPT_MS : options->kept_ms;
    front->shared.stall_ms = options->stall_ms == 0 ? FRONT_STALL_MS : options->stall_ms;
    front->shared.connect_ms = options->connect_ms == 0 ? FRONT_CONNECT_MS : options->connect_ms;
    front->shared.idle_ms = options->idle_ms == 0 ? FRONT_IDLE_MS : options->idle_ms;
    front->shared.observe = options->observe;
    front->shared.idempotency = options->idempotency;
    front_set_limits(front, options->call_timeout_ms);
    for (size_t i = 0; i < front->worker_count; i++) {
        front->workers[i].shared = &front->shared;
        front->workers[i].worker = worker_pool_get(options->workers, i);
        if (options->observe != NULL) {
            /* Without memory for it nothing is counted, and all else goes on. */
            front->workers[i].figures = route_figures_new(options->service_count);
        }
    }
    return front;
}

enum status front_start(const struct front_options *options, struct front **ret_front,
                        struct error *ret_error)
{
    struct front *front = make(options);
    if (front == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status = routes_parse(options->routes == NULL ? "" : options->routes,
                                      &front->shared.routes, ret_error);
    while (status == STATUS_OK && front->served_count < options->service_count) {
        size_t i = front->served_count++;
        status = open_service(front, &front->served[i], &options->services[i], ret_error);
    }
    if (status != STATUS_OK) {
        front_drain(front);
        front_stop(front);
        front_free(front);
        return status;
    }
    *ret_front = front;
    return STATUS_OK;
}

const char *front_address(const struct front *front, size_t service, bool inside)
{
    if (service >= front->served_count) {
        return "";
    }
    const struct served *served = &front->served[service];
    const struct listener *listener = inside ? served->inside.listener : served->outside.listener;
    return listener == NULL ? "" : listener_address(listener);
}

void front_set_limits(struct front *front, uint64_t call_timeout_ms)
{
    atomic_store(&front->shared.call_timeout_ms, call_timeout_ms);
}

void front_figures_get(const struct front *front, struct front_figures *ret_figures)
{
    const struct front_counters *counters = &front->shared.counters;
    *ret_figures = (struct front_figures){
        .connections = atomic_load(&counters->connections),
        .requests = atomic_load(&counters->requests),
        .calls = atomic_load(&counters->calls),
        .refused = atomic_load(&counters->refused),
        .timeouts = atomic_load(&counters->timeouts),
        .services_lost = atomic_load(&counters->services_lost),
        .tunnels = atomic_load(&counters->tunnels),
    };
}

size_t front_routes_get(const struct front *front, struct front_route *routes, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < front->worker_count; i++) {
        if (front->workers[i].figures != NULL) {
            count = route_figures_add(front->workers[i].figures, routes, count, max);
        }
    }
    for (size_t i = 0; i < count; i++) {
        routes[i].service_name = front->served[routes[i].service].service.name;
    }
    return count;
}

/* ------------------------------------------------------------------ stopping */

static void on_round(struct worker_task *task)
{
    struct front_round *round =
        (struct front_round *)(void *)((uint8_t *)task - offsetof(struct front_round, task));
    round->owner->stopping = round->owner->stopping || round->stop;
    for (struct exchange *at = round->owner->first; at != NULL; at = at->next) {
        round->visit(at, round); /* freed from the loop, after this one */
    }
    if (round->stop) {
        http2_services_stop(round->owner);
    }
    (void)sem_post(&round->done);
}

void front_visit(struct front *front, struct front_round *round)
{
    round->task.run = on_round;
    (void)sem_init(&round->done, 0, 0);
    for (size_t i = 0; i < front->worker_count; i++) {
        round->owner = &front->workers[i];
        worker_post(round->owner->worker, &round->task);
        while (sem_wait(&round->done) != 0 && errno == EINTR) {
        }
    }
    (void)sem_destroy(&round->done);
}

struct front_shared *front_shared(struct front *front)
{
    return &front->shared;
}

static void run(struct exchange *exchange, struct front_round *round)
{
    (void)round;
    exchange_run(exchange);
}

static void stop(struct exchange *exchange, struct front_round *round)
{
    (void)round;
    exchange_stop(exchange);
}

void front_drain(struct front *front)
{
    atomic_store(&front->shared.draining, true);
    close_listeners(front);
    front_visit(front, &(struct front_round){.visit = run});
}

void front_stop(struct front *front)
{
    front_visit(front, &(struct front_round){.visit = stop, .stop = true});
    for (int waited = 0; waited < STOP_WAITS_MAX; waited++) {
        if (atomic_load(&front->shared.counters.connections) == 0) {
            return;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
}

struct front *front_free(struct front *front)
{
    if (front != NULL) {
        routes_free(front->shared.routes);
        for (size_t i = 0; front->workers != NULL && i < front->worker_count; i++) {
            route_figures_free(front->workers[i].figures);
            free(front->workers[i].http2);
        }
        for (size_t i = 0; i < front->served_count; i++) {
            free(front->served[i].instances);
        }
        free(front->workers);
        free(front->served);
        free(front->shared.chose_http2);
        free(front);
    }
    return NULL;
}
