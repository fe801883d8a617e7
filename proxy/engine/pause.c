/*
 * A pause of all writes (pause.h).
 *
 *   1. at the gate of the server, as a plain command that waits until no unit is inside: units that
 *      come later queue behind it. Once it is counted there no unit gets in
 *   2. at all other gates, as a unit inside: plain writes in flight end, and those that come do not
 *      pass; the ones that may become units wait at the gate of the server
 *
 * In this order: a unit that is still at work may wait behind a plain write that would wait for 2.
 *
 * Invariants: `pending` counts waiters whose callback is still to come; nothing is left or freed
 * before it is 0. The mutex is not held while a gate is called.
 */
#include "engine/pause.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "holdfast/clock.h"
#include "holdfast/limits.h"
#include "holdfast/log.h"

struct spot {
    struct gate_waiter waiter; /* first: a waiter's spot */
    struct pause *pause;
    bool taken; /* asked for, and to be left */
};

struct pause {
    struct gate_table *gates;
    size_t worker;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    bool has_thread;
    bool stopping;
    bool wanted;
    uint64_t until_ms; /* monotonic */
    uint64_t since_ms; /* HELD */
    size_t pending;
    enum pause_state state;
    struct spot *spots; /* [LIMIT_NAMESPACE_GATES], of the thread */
};

const char *pause_state_name(enum pause_state state)
{
    static const char *const names[] = {"none", "waiting", "held"};
    return names[state];
}

static void pending_ended(struct pause *pause)
{
    pthread_mutex_lock(&pause->mutex);
    pause->pending--;
    pthread_cond_broadcast(&pause->changed);
    pthread_mutex_unlock(&pause->mutex);
}

static void on_admitted(struct gate_waiter *waiter)
{
    pending_ended(((struct spot *)(void *)waiter)->pause);
}

/* ------------------------------------------------------------------ the thread's work */

static void take(struct pause *pause, uint32_t gate)
{
    struct spot *spot = &pause->spots[gate];
    *spot = (struct spot){.pause = pause, .taken = true};
    spot->waiter.admitted = on_admitted;
    bool inside = gate == GATE_SERVER
                      ? gate_plain_wait(pause->gates, gate, pause->worker, &spot->waiter)
                      : gate_unit_enter(pause->gates, gate, &spot->waiter);
    if (inside) {
        pending_ended(pause);
    }
}

static void leave(struct pause *pause, uint32_t gate)
{
    if (gate == GATE_SERVER) {
        gate_plain_leave(pause->gates, gate, pause->worker);
    } else {
        gate_unit_leave(pause->gates, gate, 0);
    }
}

static void release(struct pause *pause)
{
    for (uint32_t gate = 0; gate < LIMIT_NAMESPACE_GATES; gate++) {
        struct spot *spot = &pause->spots[gate];
        if (spot->taken && gate_cancel(pause->gates, &spot->waiter)) {
            spot->taken = false;
            pending_ended(pause);
        }
    }
    /* Those that were admitted meanwhile are being told so. */
    pthread_mutex_lock(&pause->mutex);
    while (pause->pending > 0) {
        (void)pthread_cond_wait(&pause->changed, &pause->mutex);
    }
    pthread_mutex_unlock(&pause->mutex);
    for (uint32_t gate = LIMIT_NAMESPACE_GATES; gate-- > 0;) {
        if (pause->spots[gate].taken) {
            pause->spots[gate].taken = false;
            leave(pause, gate);
        }
    }
}

/* Under the mutex, which it gives up meanwhile. */
static void take_gates(struct pause *pause, uint32_t first, uint32_t end)
{
    pause->pending += end - first;
    pthread_mutex_unlock(&pause->mutex);
    for (uint32_t gate = first; gate < end; gate++) {
        take(pause, gate);
    }
    pthread_mutex_lock(&pause->mutex);
}

/* Under the mutex. Whether the pause is to go on. */
static bool is_wanted(const struct pause *pause)
{
    return pause->wanted && !pause->stopping && clock_monotonic_ms() < pause->until_ms;
}

/* Under the mutex. False: the pause is to end. */
static bool wait_pending(struct pause *pause)
{
    while (is_wanted(pause) && pause->pending > 0) {
        condition_wait_until(&pause->changed, &pause->mutex, pause->until_ms);
    }
    return is_wanted(pause);
}

/* Under the mutex. From the beginning to the end of one pause. */
static void pause_run(struct pause *pause)
{
    pause->state = PAUSE_WAITING;
    take_gates(pause, GATE_SERVER, GATE_SERVER + 1);
    bool go_on = wait_pending(pause);
    if (go_on) {
        take_gates(pause, GATE_SERVER + 1, LIMIT_NAMESPACE_GATES);
        go_on = wait_pending(pause);
    }
    if (go_on) {
        pause->state = PAUSE_HELD;
        pause->since_ms = clock_monotonic_ms();
        LOG(LOG_INFO, "journal", "Writes are held for a backup");
    }
    while (is_wanted(pause)) {
        condition_wait_until(&pause->changed, &pause->mutex, pause->until_ms);
    }
    const char *reason = pause->stopping ? "holdfastd ends"
                         : pause->wanted ? "nobody asked for more time"
                                         : "it has ended";
    bool held = pause->state == PAUSE_HELD;
    pause->wanted = false;
    pause->state = PAUSE_NONE;
    pthread_mutex_unlock(&pause->mutex);
    release(pause);
    if (held) {
        LOG(LOG_INFO, "journal", "Writes go on after a backup",
            LOG_NUMBER("millis", clock_monotonic_ms() - pause->since_ms),
            LOG_TEXT("reason", reason));
    }
    pthread_mutex_lock(&pause->mutex);
}

static void *pause_main(void *argument)
{
    struct pause *pause = argument;
    pthread_mutex_lock(&pause->mutex);
    while (!pause->stopping) {
        if (is_wanted(pause)) {
            pause_run(pause);
        } else {
            (void)pthread_cond_wait(&pause->changed, &pause->mutex);
        }
    }
    pthread_mutex_unlock(&pause->mutex);
    return NULL;
}

/* ------------------------------------------------------------------ the others' side */

struct pause *pause_new(struct gate_table *gates, size_t worker)
{
    struct pause *pause = calloc(1, sizeof(*pause));
    if (pause != NULL) {
        pause->gates = gates;
        pause->worker = worker;
        (void)pthread_mutex_init(&pause->mutex, NULL);
        condition_init(&pause->changed);
    }
    return pause;
}

struct pause *pause_free(struct pause *pause)
{
    if (pause == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&pause->mutex);
    pause->stopping = true;
    pthread_cond_broadcast(&pause->changed);
    pthread_mutex_unlock(&pause->mutex);
    if (pause->has_thread) {
        pthread_join(pause->thread, NULL);
    }
    (void)pthread_cond_destroy(&pause->changed);
    (void)pthread_mutex_destroy(&pause->mutex);
    free(pause->spots);
    free(pause);
    return NULL;
}

/* Under the mutex. */
static enum status start_thread(struct pause *pause, struct error *ret_error)
{
    if (pause->spots == NULL) {
        pause->spots = calloc(LIMIT_NAMESPACE_GATES, sizeof(*pause->spots));
    }
    if (pause->spots == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    /* Signals are for the main thread. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&pause->thread, NULL, pause_main, pause);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        return error_set(ret_error, STATUS_LIMIT, "cannot start the pause's thread: %s",
                         strerror(code));
    }
    pause->has_thread = true;
    return STATUS_OK;
}

enum status pause_renew(struct pause *pause, uint64_t for_ms, enum pause_state *ret_state,
                        struct error *ret_error)
{
    enum status status = STATUS_OK;
    pthread_mutex_lock(&pause->mutex);
    if (!pause->has_thread) {
        status = start_thread(pause, ret_error);
    }
    if (status == STATUS_OK) {
        pause->wanted = true;
        pause->until_ms = clock_monotonic_ms() + for_ms;
        *ret_state = pause->state;
        pthread_cond_broadcast(&pause->changed);
    }
    pthread_mutex_unlock(&pause->mutex);
    return status;
}

bool pause_is_on(struct pause *pause)
{
    pthread_mutex_lock(&pause->mutex);
    bool on = pause->wanted || pause->state != PAUSE_NONE;
    pthread_mutex_unlock(&pause->mutex);
    return on;
}

void pause_end(struct pause *pause)
{
    pthread_mutex_lock(&pause->mutex);
    pause->wanted = false;
    pthread_cond_broadcast(&pause->changed);
    pthread_mutex_unlock(&pause->mutex);
}
