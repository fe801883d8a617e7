/*
 * The threads that keep a lease (lease_keeper.h).
 *
 *   renewer   renews every LEASE_RENEW_MS; may be blocked by the server as long as it takes
 *   watcher   never blocked by anybody; takes the permit away when the renewer is late
 *
 *     held --LEASE_HOLD_MS without a renewal--> lowered --all threads have seen it--> called off
 *       ^                                          |                                     |
 *       `------------------- a renewal that was sent off recently enough ----------------'
 *
 * Invariants
 *  - While the permit is there, or a thread may act on having seen it, the dead man's switch is set
 *    to LEASE_KILL_MS after the last renewal was sent off: it is set before the permit is given.
 *    But not at the end, when only who ends the keeper could send anything, and waits.
 *  - A renewal counts from when it was sent off, not from its answer: the server's clock for it
 *    began in between.
 *
 *  - Who waits for permit() is told of the permit as it is by then, under `telling`: what it hears
 *    last is how it is.
 *
 * `lock` guards what the threads share; `telling` is taken before it.
 */

#include "recover/lease_keeper.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/condition.h"
#include "base/dead_man.h"
#include "holdfast/clock.h"
#include "holdfast/write_permit.h"

/* How long one renewal may wait for the server: then the connection is made anew. */
#define ANSWER_MS 3000u

struct lease_keeper {
    struct lease_keeper_options options;
    struct lease lease;
    struct upstream *upstream; /* the renewer's */
    struct dead_man dead_man;
    pthread_t renewer;
    pthread_t watcher;
    bool renewer_started;
    bool watcher_started;
    pthread_mutex_t telling; /* held while options.permit is called */
    bool told_lowered;       /* under `telling` */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping;
    bool lowered;
    uint64_t renewed_ms; /* when the last renewal that succeeded was sent off */
    struct error failure;
    uint32_t units_open;
    bool (*settle)(void *context, uint64_t wait_ms);
    void *settle_context;
    bool settling; /* it is being called */
};

/* Under the lock: waits for a change, at the longest until `until_ms`. */
static void wait_until(struct lease_keeper *keeper, uint64_t until_ms)
{
    uint64_t now_ms = dead_man_now_ms();
    uint64_t wait_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    condition_wait_until(&keeper->changed, &keeper->lock, clock_monotonic_ms() + wait_ms);
}

/* After each change of `lowered`, without the lock. One that was taken back meanwhile is not told,
   for both threads may come here at the same time, and in either order. */
static void tell_permit(struct lease_keeper *keeper)
{
    if (keeper->options.permit == NULL) {
        return;
    }
    pthread_mutex_lock(&keeper->telling);
    pthread_mutex_lock(&keeper->lock);
    bool lowered = keeper->lowered;
    struct error failure = keeper->failure;
    pthread_mutex_unlock(&keeper->lock);
    if (lowered != keeper->told_lowered) {
        keeper->told_lowered = lowered;
        keeper->options.permit(keeper->options.context, !lowered, lowered ? failure.message : "");
    }
    pthread_mutex_unlock(&keeper->telling);
}

/* ------------------------------------------------------------------ renewing */

/* False: its answer took so long that it proves too little; the next one will tell. */
static bool take_renewal(struct lease_keeper *keeper, uint64_t sent_ms)
{
    bool was_lowered = false;
    pthread_mutex_lock(&keeper->lock);
    bool in_time = dead_man_now_ms() < sent_ms + LEASE_HOLD_MS;
    if (in_time) {
        keeper->renewed_ms = sent_ms;
        dead_man_set(&keeper->dead_man, sent_ms + LEASE_KILL_MS);
        was_lowered = keeper->lowered;
        keeper->lowered = false;
        write_permit_set(true);
        pthread_cond_broadcast(&keeper->changed);
    }
    pthread_mutex_unlock(&keeper->lock);
    if (was_lowered) {
        tell_permit(keeper);
    }
    return in_time;
}

static enum status renew(struct lease_keeper *keeper, struct error *ret_error)
{
    struct wal_place place;
    uint64_t sent_ms = dead_man_now_ms();
    /* The journal's file may have been replaced by a compact one since. */
    if (wal_place_get(keeper->options.directory, &place, NULL) == STATUS_OK) {
        keeper->lease.place = place;
    }
    pthread_mutex_lock(&keeper->lock);
    uint32_t units_open = keeper->units_open;
    pthread_mutex_unlock(&keeper->lock);
    enum status status = lease_renew(keeper->upstream, &keeper->lease,
                                     wal_last_lsn(keeper->options.wal), units_open, ret_error);
    if (status == STATUS_OWNED) {
        /* A server that has crashed may have lost our lease, which is nobody else's then. */
        status = lease_regain(keeper->upstream, keeper->options.wal, &keeper->lease, ret_error);
    }
    if (status == STATUS_OK && !take_renewal(keeper, sent_ms)) {
        status = error_set(ret_error, STATUS_UNREACHABLE, "the server took too long to answer");
    }
    return status;
}

static void *renewer_main(void *context)
{
    struct lease_keeper *keeper = context;
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stopping) {
        uint64_t began_ms = dead_man_now_ms();
        struct error error = {0};
        pthread_mutex_unlock(&keeper->lock);
        enum status status = renew(keeper, &error);
        if (status == STATUS_OWNED) {
            keeper->options.lost(keeper->options.context, &error);
            abort(); /* lost() must not return */
        }
        pthread_mutex_lock(&keeper->lock);
        keeper->failure = error;
        keeper->failure.status = status;
        while (!keeper->stopping && dead_man_now_ms() < began_ms + LEASE_RENEW_MS) {
            wait_until(keeper, began_ms + LEASE_RENEW_MS);
        }
    }
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

/* ------------------------------------------------------------------ watching */

/* Until nobody sends any more who has seen the permit. */
static bool wait_for_senders(uint64_t until_ms)
{
    bool left = write_permit_is_left();
    while (!left && dead_man_now_ms() < until_ms) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
        left = write_permit_is_left();
    }
    return left;
}

/* Under the lock, which it gives up meanwhile. */
static void lower(struct lease_keeper *keeper)
{
    bool (*settle)(void *, uint64_t) = keeper->settle;
    void *context = keeper->settle_context;
    uint64_t kill_ms = keeper->renewed_ms + LEASE_KILL_MS;
    keeper->lowered = true;
    keeper->settling = true;
    write_permit_set(false);
    pthread_mutex_unlock(&keeper->lock);
    tell_permit(keeper);
    bool settled = (settle == NULL || settle(context, LEASE_KILL_MS - LEASE_HOLD_MS)) &&
                   wait_for_senders(kill_ms);
    pthread_mutex_lock(&keeper->lock);
    keeper->settling = false;
    pthread_cond_broadcast(&keeper->changed);
    if (settled && keeper->lowered) {
        dead_man_set(&keeper->dead_man, 0);
    }
}

static void *watcher_main(void *context)
{
    struct lease_keeper *keeper = context;
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stopping) {
        uint64_t hold_ms = keeper->renewed_ms + LEASE_HOLD_MS;
        if (keeper->lowered) {
            wait_until(keeper, dead_man_now_ms() + LEASE_RENEW_MS);
        } else if (dead_man_now_ms() < hold_ms) {
            wait_until(keeper, hold_ms);
        } else {
            lower(keeper);
        }
    }
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

/* ------------------------------------------------------------------ start and end */

static enum status start_threads(struct lease_keeper *keeper, struct error *ret_error)
{
    keeper->renewer_started = pthread_create(&keeper->renewer, NULL, renewer_main, keeper) == 0;
    keeper->watcher_started = keeper->renewer_started &&
                              pthread_create(&keeper->watcher, NULL, watcher_main, keeper) == 0;
    return keeper->watcher_started
               ? STATUS_OK
               : error_set(ret_error, STATUS_LIMIT, "cannot start a thread that keeps the lease");
}

enum status lease_keeper_start(const struct lease_keeper_options *options,
                               struct lease_keeper **ret_keeper, struct error *ret_error)
{
    uint64_t connect_ms = options->connect_ms < ANSWER_MS ? options->connect_ms : ANSWER_MS;
    struct lease_keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    keeper->options = *options;
    keeper->lease = *options->lease;
    enum status status = dead_man_begin(&keeper->dead_man, ret_error);
    if (status != STATUS_OK) {
        free(keeper);
        return status;
    }
    condition_init(&keeper->changed);
    (void)pthread_mutex_init(&keeper->telling, NULL);
    (void)pthread_mutex_init(&keeper->lock, NULL);
    status = upstream_open_answering(options->upstream_uri, connect_ms, ANSWER_MS,
                                     &keeper->upstream, ret_error);
    if (status == STATUS_OK) {
        upstream_exempt(keeper->upstream);
        status = renew(keeper, ret_error);
    }
    if (status == STATUS_OK) {
        status = start_threads(keeper, ret_error);
    }
    if (status != STATUS_OK) {
        lease_keeper_stop(keeper);
        return status;
    }
    *ret_keeper = keeper;
    return STATUS_OK;
}

void lease_keeper_note_units(struct lease_keeper *keeper, uint32_t units_open)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->units_open = units_open;
    pthread_mutex_unlock(&keeper->lock);
}

void lease_keeper_settle(struct lease_keeper *keeper,
                         bool (*settle)(void *context, uint64_t wait_ms), void *context)
{
    pthread_mutex_lock(&keeper->lock);
    while (keeper->settling) {
        (void)pthread_cond_wait(&keeper->changed, &keeper->lock);
    }
    keeper->settle = settle;
    keeper->settle_context = context;
    pthread_mutex_unlock(&keeper->lock);
}

void lease_keeper_failure(struct lease_keeper *keeper, struct error *ret_error)
{
    pthread_mutex_lock(&keeper->lock);
    *ret_error = keeper->failure;
    pthread_mutex_unlock(&keeper->lock);
}

struct lease_keeper *lease_keeper_stop(struct lease_keeper *keeper)
{
    if (keeper == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
    if (keeper->watcher_started) {
        (void)pthread_join(keeper->watcher, NULL);
    }
    /* The renewer may wait for an answer for longer, and nobody is left who could send anything. */
    pthread_mutex_lock(&keeper->lock);
    dead_man_set(&keeper->dead_man, 0);
    pthread_mutex_unlock(&keeper->lock);
    if (keeper->renewer_started) {
        (void)pthread_join(keeper->renewer, NULL);
    }
    dead_man_end(&keeper->dead_man);
    write_permit_set(true);
    upstream_close(keeper->upstream);
    (void)pthread_cond_destroy(&keeper->changed);
    (void)pthread_mutex_destroy(&keeper->lock);
    (void)pthread_mutex_destroy(&keeper->telling);
    free(keeper);
    return NULL;
}
