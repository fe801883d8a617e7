/*
 * Holding the clients still, and handing them over to another process (router.h).
 *
 * What is paused is decided where a message is (dispatch.c): one that has to wait stays where it
 * is, in its connection's memory or in the kernel's, and is decided again later, here or in the
 * other process.
 *
 * Threads: the caller's, which waits for each worker in turn; visits are made on the worker.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "holdfast/log.h"
#include "route/connection.h"

/* Something done by each worker with its connections, awaited. */
struct round {
    struct worker_task task;
    struct route_worker *owner;
    void (*visit)(struct connection *connection, struct round *round);
    size_t count;
    size_t later;
    void (*give)(void *context, const struct router_parcel *parcel);
    void *context;
    sem_t done;
};

static void on_round(struct worker_task *task)
{
    struct round *round = (struct round *)(void *)((uint8_t *)task - offsetof(struct round, task));
    struct connection *at = round->owner->first;
    while (at != NULL) {
        struct connection *next = at->next; /* none is freed but from the loop */
        round->visit(at, round);
        at = next;
    }
    (void)sem_post(&round->done);
}

static void run_round(struct router *router, struct round *round)
{
    struct route_shared *shared = router_shared(router);
    round->task.run = on_round;
    (void)sem_init(&round->done, 0, 0);
    for (size_t i = 0; i < shared->worker_count; i++) {
        round->owner = &shared->workers[i];
        worker_post(round->owner->worker, &round->task);
        while (sem_wait(&round->done) != 0 && errno == EINTR) {
        }
    }
    (void)sem_destroy(&round->done);
}

/* ------------------------------------------------------------------ pausing */

static void go_on(struct connection *connection, struct round *round)
{
    (void)round;
    if (!connection->client_gone && !connection->server_gone) {
        connection_continue(connection);
    }
}

void router_pause(struct router *router, enum router_pause pause)
{
    struct route_shared *shared = router_shared(router);
    struct round round = {.visit = go_on};
    int former = atomic_exchange(&shared->pause, (int)pause);
    for (size_t i = 0; i < shared->listener_count; i++) {
        struct listener *listener = shared->listeners[i].listener;
        if (listener != NULL && (former == ROUTER_PAUSES) != (pause == ROUTER_PAUSES)) {
            listener_pause(listener, pause == ROUTER_PAUSES);
        }
    }
    run_round(router, &round); /* also a barrier: whoever decides later has seen it */
}

/* What waits for the end of the turn has not left yet. */
static void flush(struct connection *connection)
{
    stream_flush(&connection->downstream);
    stream_flush(&connection->upstream);
}

static void count_busy(struct connection *connection, struct round *round)
{
    flush(connection);
    round->count += parcel_must_wait(connection);
}

size_t router_busy(struct router *router)
{
    struct round round = {.visit = count_busy};
    run_round(router, &round);
    return round.count;
}

static void end_busy(struct connection *connection, struct round *round)
{
    (void)round;
    if (parcel_must_wait(connection)) {
        connection_end_client(connection);
        connection_end_server(connection);
    }
}

void router_end_busy(struct router *router)
{
    struct round round = {.visit = end_busy};
    run_round(router, &round);
}

/* ------------------------------------------------------------------ handing over */

static void give(struct connection *connection, struct round *round)
{
    bson_t state = BSON_INITIALIZER;
    flush(connection);
    if (parcel_can_be_made(connection) && parcel_pack(connection, &state) == STATUS_OK) {
        const struct router_parcel parcel = {
            .client = connection->downstream.descriptor,
            .server = connection->away ? -1 : connection->upstream.descriptor,
            .state = bson_get_data(&state),
            .state_size = state.len,
        };
        round->give(round->context, &parcel);
        round->count++;
        connection_let_go(connection);
    } else {
        round->later += parcel_may_be_made_later(connection);
    }
    bson_destroy(&state);
}

size_t router_give(struct router *router,
                   void (*take)(void *context, const struct router_parcel *parcel), void *context,
                   size_t *ret_later)
{
    struct round round = {.visit = give, .give = take, .context = context};
    run_round(router, &round);
    *ret_later = round.later;
    return round.count;
}

/* ------------------------------------------------------------------ taking over */

struct arrival {
    struct worker_task task;
    struct route_worker *owner;
    struct parcel parcel;
};

static void on_arrival(struct worker_task *task)
{
    struct arrival *arrival =
        (struct arrival *)(void *)((uint8_t *)task - offsetof(struct arrival, task));
    connection_adopt(arrival->owner, &arrival->parcel);
    free(arrival);
}

/* It counts as any other; it was within the limits of the other process. */
static enum status count_in(struct route_shared *shared, struct parcel *parcel,
                            struct error *ret_error)
{
    parcel->peer_size = sizeof parcel->peer;
    if (getpeername(parcel->client, (struct sockaddr *)&parcel->peer, &parcel->peer_size) != 0) {
        return error_set(ret_error, STATUS_INVALID, "its client has gone");
    }
    if (!address_counts_enter(shared->addresses, (struct sockaddr *)&parcel->peer,
                              atomic_load(&shared->address_max), &parcel->address)) {
        parcel->address.counted = false;
    }
    (void)atomic_fetch_add(&shared->connections, 1);
    return STATUS_OK;
}

enum status router_take(struct router *router, const struct router_parcel *given,
                        struct error *ret_error)
{
    struct route_shared *shared = router_shared(router);
    struct arrival *arrival = calloc(1, sizeof *arrival);
    enum status status = arrival == NULL
                             ? error_set(ret_error, STATUS_MEMORY, "out of memory")
                             : parcel_unpack(shared, slice_make(given->state, given->state_size),
                                             &arrival->parcel, ret_error);
    if (status == STATUS_OK) {
        arrival->parcel.client = given->client;
        arrival->parcel.server = given->server;
        status = count_in(shared, &arrival->parcel, ret_error);
    }
    if (status != STATUS_OK) {
        if (arrival != NULL) {
            buffer_free(&arrival->parcel.incoming);
        }
        free(arrival);
        (void)close(given->client);
        if (given->server >= 0) {
            (void)close(given->server);
        }
        return status;
    }
    arrival->task.run = on_arrival;
    arrival->owner = &shared->workers[atomic_load(&shared->connections) % shared->worker_count];
    worker_post(arrival->owner->worker, &arrival->task);
    return STATUS_OK;
}
