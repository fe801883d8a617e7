#ifndef HOLDFAST_TESTS_UNIT_LOCK_CLIENTS_H
#define HOLDFAST_TESTS_UNIT_LOCK_CLIENTS_H

/*
 * Threads that take locks and wait for them, for the tests of the lock table. Include after
 * <cmocka.h>.
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit/lock_table.h"

struct lock_client {
    struct lock_owner owner;
    struct lock_waiter waiter; /* its ended() is lock_client_ended() */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool ended; /* guarded by mutex */
    unsigned seed;
    uint64_t added; /* what it has added to what the locks guard */
    bool stuck;     /* it gave up waiting */
};

static inline struct lock_name lock_name_numbered(size_t number)
{
    struct lock_name name = {{0}};
    memcpy(name.digest, &number, sizeof number);
    return name;
}

static inline void lock_client_ended(struct lock_waiter *waiter)
{
    struct lock_client *client =
        (struct lock_client *)(void *)((uint8_t *)waiter - offsetof(struct lock_client, waiter));
    pthread_mutex_lock(&client->mutex);
    client->ended = true;
    (void)pthread_cond_signal(&client->changed);
    pthread_mutex_unlock(&client->mutex);
}

/* After LOCK_WAITING: until the wait has ended. False, and it is stuck: not within `seconds`. */
static inline bool lock_client_wait(struct lock_client *client, int seconds)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    int error = 0;
    pthread_mutex_lock(&client->mutex);
    while (!client->ended && error != ETIMEDOUT) {
        error = pthread_cond_timedwait(&client->changed, &client->mutex, &until);
    }
    client->stuck = !client->ended;
    client->ended = false;
    pthread_mutex_unlock(&client->mutex);
    return !client->stuck;
}

/* Some do not like to wait, while somebody else may just be ending their wait. True: it was a wait
   no more. */
static inline bool lock_client_gives_up(struct lock_client *client, struct lock_table *locks)
{
    return rand_r(&client->seed) % 16 == 0 && lock_cancel(locks, &client->waiter);
}

/* Runs `run` in a thread for each of the clients, to their ends; how much they have added. */
static inline uint64_t lock_clients_run(struct lock_client *clients, unsigned count, unsigned seed,
                                        void *(*run)(void *client))
{
    uint64_t added = 0;
    bool stuck = false;
    for (unsigned i = 0; i < count; i++) {
        clients[i] = (struct lock_client){.waiter.ended = lock_client_ended, .seed = seed + i};
        (void)pthread_mutex_init(&clients[i].mutex, NULL);
        (void)pthread_cond_init(&clients[i].changed, NULL);
        assert_int_equal(pthread_create(&clients[i].thread, NULL, run, &clients[i]), 0);
    }
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(clients[i].thread, NULL);
        added += clients[i].added;
        stuck = stuck || clients[i].stuck;
        (void)pthread_mutex_destroy(&clients[i].mutex);
        (void)pthread_cond_destroy(&clients[i].changed);
    }
    assert_false(stuck);
    return added;
}

#endif
