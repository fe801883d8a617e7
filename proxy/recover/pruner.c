/*
 * The pruner's thread (pruner.h).
 *
 *     waiting --period over, asked, or new settings--> a round --all steps done--> waiting
 *
 * Invariants: one round at a time. What was asked for is forgotten once a round that began after
 * the question has ended, whether it went well or not.
 *
 * `lock` guards everything but what is fixed at the start.
 */

#include "recover/pruner.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "holdfast/clock.h"
#include "holdfast/request_key.h"

/* A step that took longer was held up by others: waiting as long again would be too polite. */
#define PAUSE_MS_MAX 100u

struct pruner {
    struct wal *wal;
    uint64_t period_ms;
    uint64_t (*settled_lsn)(void *context);
    uint64_t requests_keep_ms;
    void (*pruned)(uint64_t units, const struct error *failure, void *context);
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t retention_ms;
    uint64_t asked_before_ms; /* 0: nobody asked for more than retention gives */
    uint64_t keep_lsn;        /* newer records stay */
    uint64_t keep_until_ms;
    bool due;
    bool stopping;
    /* the thread only */
    uint64_t step_began_ms;
};

/* Under the lock. Waits until `until_ms` (monotonic), until something is due or it has to stop. */
static void wait_until(struct pruner *pruner, uint64_t until_ms, bool only_stopping)
{
    while (!pruner->stopping && (only_stopping || !pruner->due)) {
        if (clock_monotonic_ms() >= until_ms) {
            return;
        }
        condition_wait_until(&pruner->changed, &pruner->lock, until_ms);
    }
}

/* Between two steps. */
static bool go_on(void *context)
{
    struct pruner *pruner = context;
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t pause_ms = now_ms - pruner->step_began_ms;
    pthread_mutex_lock(&pruner->lock);
    wait_until(pruner, now_ms + (pause_ms < PAUSE_MS_MAX ? pause_ms : PAUSE_MS_MAX), true);
    bool stopping = pruner->stopping;
    pthread_mutex_unlock(&pruner->lock);
    pruner->step_began_ms = clock_monotonic_ms();
    return !stopping;
}

/* Under the lock. */
static struct wal_prune_options rules(const struct pruner *pruner)
{
    uint64_t now_ms = clock_wall_ms();
    uint64_t before_ms = now_ms > pruner->retention_ms ? now_ms - pruner->retention_ms : 0;
    uint64_t settled_lsn =
        pruner->settled_lsn == NULL ? UINT64_MAX : pruner->settled_lsn(pruner->context);
    bool keeps = clock_monotonic_ms() < pruner->keep_until_ms && pruner->keep_lsn < settled_lsn;
    return (struct wal_prune_options){
        .ended_before_ms =
            pruner->asked_before_ms > before_ms ? pruner->asked_before_ms : before_ms,
        .settled_lsn = keeps ? pruner->keep_lsn : settled_lsn,
        .kept_prefix = slice_make((const uint8_t *)REQUEST_KEY_PREFIX,
                                  pruner->requests_keep_ms == 0 ? 0 : REQUEST_KEY_PREFIX_BYTES),
        .kept_ended_before_ms =
            now_ms > pruner->requests_keep_ms ? now_ms - pruner->requests_keep_ms : 0,
    };
}

/* Under the lock, which it gives up meanwhile. */
static void round_run(struct pruner *pruner)
{
    struct error error = {0};
    struct wal_prune_options options = rules(pruner);
    uint64_t units = 0;
    options.go_on = go_on;
    options.context = pruner;
    pruner->due = false;
    pruner->asked_before_ms = 0;
    pthread_mutex_unlock(&pruner->lock);
    pruner->step_began_ms = clock_monotonic_ms();
    enum status status = wal_prune(pruner->wal, &options, &units, &error);
    if (pruner->pruned != NULL) {
        pruner->pruned(units, status == STATUS_OK ? NULL : &error, pruner->context);
    }
    pthread_mutex_lock(&pruner->lock);
}

static void *pruner_main(void *argument)
{
    struct pruner *pruner = argument;
    pthread_mutex_lock(&pruner->lock);
    while (!pruner->stopping) {
        wait_until(pruner, clock_monotonic_ms() + pruner->period_ms, false);
        if (!pruner->stopping) {
            round_run(pruner);
        }
    }
    pthread_mutex_unlock(&pruner->lock);
    return NULL;
}

static void pruner_free(struct pruner *pruner)
{
    (void)pthread_cond_destroy(&pruner->changed);
    (void)pthread_mutex_destroy(&pruner->lock);
    free(pruner);
}

enum status pruner_start(const struct pruner_options *options, struct pruner **ret_pruner,
                         struct error *ret_error)
{
    struct pruner *pruner = calloc(1, sizeof(*pruner));
    if (pruner == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    pruner->wal = options->wal;
    pruner->period_ms = options->period_ms;
    pruner->requests_keep_ms = options->requests_keep_ms;
    pruner->pruned = options->pruned;
    pruner->context = options->context;
    pruner->retention_ms = options->retention_ms;
    pruner->settled_lsn = options->settled_lsn;
    (void)pthread_mutex_init(&pruner->lock, NULL);
    condition_init(&pruner->changed);
    /* Signals are for the main thread. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&pruner->thread, NULL, pruner_main, pruner);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        pruner_free(pruner);
        return error_set(ret_error, STATUS_LIMIT, "cannot start the pruner's thread: %s",
                         strerror(code));
    }
    *ret_pruner = pruner;
    return STATUS_OK;
}

struct pruner *pruner_stop(struct pruner *pruner)
{
    if (pruner != NULL) {
        pthread_mutex_lock(&pruner->lock);
        pruner->stopping = true;
        pthread_cond_signal(&pruner->changed);
        pthread_mutex_unlock(&pruner->lock);
        pthread_join(pruner->thread, NULL);
        pruner_free(pruner);
    }
    return NULL;
}

void pruner_set_retention(struct pruner *pruner, uint64_t retention_ms)
{
    pthread_mutex_lock(&pruner->lock);
    pruner->due = pruner->due || pruner->retention_ms != retention_ms;
    pruner->retention_ms = retention_ms;
    pthread_cond_signal(&pruner->changed);
    pthread_mutex_unlock(&pruner->lock);
}

void pruner_ask(struct pruner *pruner, uint64_t ended_before_ms,
                struct wal_prune_options *ret_options)
{
    pthread_mutex_lock(&pruner->lock);
    if (ended_before_ms > pruner->asked_before_ms) {
        pruner->asked_before_ms = ended_before_ms;
    }
    *ret_options = rules(pruner);
    pruner->due = true;
    pthread_cond_signal(&pruner->changed);
    pthread_mutex_unlock(&pruner->lock);
}

void pruner_keep(struct pruner *pruner, uint64_t lsn, uint64_t until_ms)
{
    pthread_mutex_lock(&pruner->lock);
    pruner->keep_lsn = lsn;
    pruner->keep_until_ms = until_ms;
    pthread_mutex_unlock(&pruner->lock);
}
