/*
 * Several threads at one piece of work of a replay: the first that fails has the others stop, and
 * the caller's thread waits for all, calling the caller's function now and then.
 *
 * Threads: the caller's, and those started here.
 */

#include <signal.h>
#include <string.h>
#include <time.h>

#include "recover/replay_private.h"

struct team {
    struct replay *replay;
    enum status (*work)(struct replay *replay, void *context, struct error *ret_error);
    void *context;
    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t changed;
    unsigned int running;
    enum status status; /* of the first that failed */
    struct error error;
};

static void *member_main(void *argument)
{
    struct team *team = argument;
    struct error error = {0};
    enum status status = team->work(team->replay, team->context, &error);
    pthread_mutex_lock(&team->lock);
    if (status != STATUS_OK && team->status == STATUS_OK) {
        team->status = status;
        team->error = error;
        atomic_store(&team->replay->stopping, true);
    }
    team->running--;
    pthread_cond_signal(&team->changed);
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

/* *ret_started: how many of them are there to be joined. */
static enum status start(struct team *team, pthread_t *threads, unsigned int *ret_started,
                         struct error *ret_error)
{
    unsigned int wanted = team->replay->options->threads;
    enum status status = STATUS_OK;
    sigset_t all;
    sigset_t before;
    /* Signals are for the program's own threads. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned int i = 0; i < wanted && status == STATUS_OK; i++) {
        pthread_mutex_lock(&team->lock);
        team->running++;
        pthread_mutex_unlock(&team->lock);
        int code = pthread_create(&threads[i], NULL, member_main, team);
        if (code == 0) {
            ++*ret_started;
            continue;
        }
        pthread_mutex_lock(&team->lock);
        team->running--;
        pthread_mutex_unlock(&team->lock);
        status = error_set(ret_error, STATUS_LIMIT, "cannot start a thread: %s", strerror(code));
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

static enum status watch(struct team *team, struct error *ret_error)
{
    struct replay *replay = team->replay;
    enum status status = STATUS_OK;
    pthread_mutex_lock(&team->lock);
    while (team->running > 0) {
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1; /* a step of the clock makes it early or late, no more */
        (void)pthread_cond_timedwait(&team->changed, &team->lock, &until);
        if (status == STATUS_OK && !atomic_load(&replay->stopping)) {
            pthread_mutex_unlock(&team->lock);
            pthread_mutex_lock(&replay->lock);
            struct replay_report so_far = *replay->report;
            pthread_mutex_unlock(&replay->lock);
            status = replay_step(replay, &so_far, ret_error);
            if (status != STATUS_OK) {
                atomic_store(&replay->stopping, true);
            }
            pthread_mutex_lock(&team->lock);
        }
    }
    pthread_mutex_unlock(&team->lock);
    return status;
}

enum status replay_team_run(struct replay *replay,
                            enum status (*work)(struct replay *replay, void *context,
                                                struct error *ret_error),
                            void *context, struct error *ret_error)
{
    struct team team = {.replay = replay, .work = work, .context = context};
    pthread_t threads[REPLAY_THREADS_MAX];
    unsigned int started = 0;
    struct error error = {0};
    (void)pthread_mutex_init(&team.lock, NULL);
    (void)pthread_cond_init(&team.changed, NULL);
    atomic_store(&replay->stopping, false);
    enum status status = start(&team, threads, &started, ret_error);
    if (status != STATUS_OK) {
        atomic_store(&replay->stopping, true);
    }
    enum status watched = watch(&team, &error);
    for (unsigned int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    if (status == STATUS_OK && watched != STATUS_OK) {
        status = error_set(ret_error, watched, "%s", error.message);
    }
    if (status == STATUS_OK && team.status != STATUS_OK) {
        status = error_set(ret_error, team.status, "%s", team.error.message);
    }
    (void)pthread_cond_destroy(&team.changed);
    (void)pthread_mutex_destroy(&team.lock);
    return status;
}
