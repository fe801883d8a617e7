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
#include <time.h>

struct watchdog {
    struct watchdog_options options;
    pthread_t thread;
    pthread_mutex_t asking;
    struct worker_pool *workers;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stopping;
};

/* Waits until `until`. True: it is to end. */
static bool wait_until(struct watchdog *watchdog, const struct timespec *until)
{
    int result = 0;
    (void)pthread_mutex_lock(&watchdog->mutex);
    while (!watchdog->stopping && result == 0) {
        result = pthread_cond_timedwait(&watchdog->changed, &watchdog->mutex, until);
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
    struct timespec next;
    do {
        (void)clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += (time_t)(third_ms / 1000);
        next.tv_nsec += (long)(third_ms % 1000) * 1000000;
        if (next.tv_nsec >= 1000000000) {
            next.tv_sec++;
            next.tv_nsec -= 1000000000;
        }
        if (all_work(watchdog, third_ms)) {
            watchdog->options.alive();
        }
    } while (!wait_until(watchdog, &next));
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
    pthread_condattr_t attributes;
    struct watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (watchdog == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    watchdog->options = *options;
    (void)pthread_mutex_init(&watchdog->asking, NULL);
    (void)pthread_mutex_init(&watchdog->mutex, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&watchdog->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
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
