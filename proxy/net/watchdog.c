/*
 * The watchdog's food (watchdog.h): asks three times in a period, each time for a third of it, so
 * that one late answer does no harm.
 *
 * Thread: its own. The main thread sets `workers` under `asking`, which is held while they are
 * asked, and `stopping` under `mutex`.
 */
#include "net/watchdog.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "holdfast/clock.h"

struct watchdog {
    struct watchdog_options options;
    pthread_t thread;
    pthread_mutex_t asking;
    struct worker_pool *workers;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stopping;
};

/* Waits until `until_ms`. True: it is to end. */
static bool wait_until(struct watchdog *watchdog, uint64_t until_ms)
{
    (void)pthread_mutex_lock(&watchdog->mutex);
    while (!watchdog->stopping && clock_monotonic_ms() < until_ms) {
        condition_wait_until(&watchdog->changed, &watchdog->mutex, until_ms);
    }
    bool stopping = watchdog->stopping;
    (void)pthread_mutex_unlock(&watchdog->mutex);
    return stopping;
}

static bool all_work(struct watchdog *watchdog, uint64_t wait_ms)
{
    (void)pthread_mutex_lock(&watchdog->asking);
    bool work = watchdog->workers == NULL || worker_pool_settle(watchdog->workers, wait_ms);
    (void)pthread_mutex_unlock(&watchdog->asking);
    return work;
}

static void *watchdog_main(void *context)
{
    struct watchdog *watchdog = context;
    uint64_t third_ms = watchdog->options.period_ms / 3;
    uint64_t next_ms;
    do {
        next_ms = clock_monotonic_ms() + third_ms;
        if (all_work(watchdog, third_ms)) {
            watchdog->options.alive();
        }
    } while (!wait_until(watchdog, next_ms));
    return NULL;
}

static void watchdog_free(struct watchdog *watchdog)
{
    (void)pthread_cond_destroy(&watchdog->changed);
    (void)pthread_mutex_destroy(&watchdog->mutex);
    (void)pthread_mutex_destroy(&watchdog->asking);
    free(watchdog);
}

enum status watchdog_start(const struct watchdog_options *options, struct watchdog **ret_watchdog,
                           struct error *ret_error)
{
    struct watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (watchdog == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    watchdog->options = *options;
    (void)pthread_mutex_init(&watchdog->asking, NULL);
    (void)pthread_mutex_init(&watchdog->mutex, NULL);
    condition_init(&watchdog->changed);
    int failure = pthread_create(&watchdog->thread, NULL, watchdog_main, watchdog);
    if (failure != 0) {
        watchdog_free(watchdog);
        return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(failure));
    }
    *ret_watchdog = watchdog;
    return STATUS_OK;
}

void watchdog_watch(struct watchdog *watchdog, struct worker_pool *workers)
{
    if (watchdog != NULL) {
        (void)pthread_mutex_lock(&watchdog->asking);
        watchdog->workers = workers;
        (void)pthread_mutex_unlock(&watchdog->asking);
    }
}

struct watchdog *watchdog_stop(struct watchdog *watchdog)
{
    if (watchdog == NULL) {
        return NULL;
    }
    (void)pthread_mutex_lock(&watchdog->mutex);
    watchdog->stopping = true;
    (void)pthread_cond_signal(&watchdog->changed);
    (void)pthread_mutex_unlock(&watchdog->mutex);
    (void)pthread_join(watchdog->thread, NULL);
    watchdog_free(watchdog);
    return NULL;
}
