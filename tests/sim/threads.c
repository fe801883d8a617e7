/*
 * Threads, mutexes, conditions and semaphores of the product, as fibers.
 *
 * A mutex is its first int (0: free), a condition and a semaphore their address, so that objects
 * that lie in memory which a crash throws away need no care. A fiber may be preempted at each lock
 * and unlock.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sim.h"

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument);
int __wrap_pthread_join(pthread_t thread, void **ret_value);
int __wrap_pthread_kill(pthread_t thread, int signal_number);
pthread_t __wrap_pthread_self(void);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes);
int __wrap_pthread_cond_destroy(pthread_cond_t *condition);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *condition);
int __wrap_pthread_cond_broadcast(pthread_cond_t *condition);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret_set);
int __wrap_sigpending(sigset_t *ret_set);
int __wrap_sem_init(sem_t *semaphore, int shared, unsigned value);
int __wrap_sem_destroy(sem_t *semaphore);
int __wrap_sem_wait(sem_t *semaphore);
int __wrap_sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until);
int __wrap_sem_post(sem_t *semaphore);
int __wrap_nanosleep(const struct timespec *time, struct timespec *ret_left);
int __wrap_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout);

static unsigned threads_started;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument)
{
    char name[16];
    (void)attributes;
    (void)snprintf(name, sizeof name, "thread%u", threads_started++ % 1000);
    *thread = (pthread_t)(uintptr_t)fiber_start(name, true, run, argument);
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret_value)
{
    struct fiber *fiber = (struct fiber *)(uintptr_t)thread;
    assert(ret_value == NULL);
    while (!fiber_has_ended(fiber)) {
        (void)fiber_wait(fiber, UINT64_MAX);
    }
    return 0;
}

pthread_t __wrap_pthread_self(void)
{
    return (pthread_t)(uintptr_t)fiber_current();
}

/* Only the main thread waits for signals. */
int __wrap_pthread_kill(pthread_t thread, int signal_number)
{
    (void)thread;
    process_signal(signal_number);
    return 0;
}

/* ------------------------------------------------------------------ mutexes */

static int *state_of(pthread_mutex_t *mutex)
{
    return (int *)(void *)mutex;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    assert(attributes == NULL);
    memset(mutex, 0, sizeof *mutex);
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    assert(*state_of(mutex) == 0);
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    fiber_preempt();
    while (*state_of(mutex) != 0) {
        (void)fiber_wait(mutex, UINT64_MAX);
    }
    *state_of(mutex) = 1;
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    assert(*state_of(mutex) == 1);
    *state_of(mutex) = 0;
    fiber_wake_one(mutex);
    fiber_preempt();
    return 0;
}

/* ------------------------------------------------------------------ conditions */

int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
    (void)attributes;
    memset(condition, 0, sizeof *condition);
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *condition)
{
    (void)condition;
    return 0;
}

static bool wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_us)
{
    *state_of(mutex) = 0;
    fiber_wake_one(mutex);
    bool woken = fiber_wait(condition, until_us);
    while (*state_of(mutex) != 0) {
        (void)fiber_wait(mutex, UINT64_MAX);
    }
    *state_of(mutex) = 1;
    return woken;
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    (void)wait_until(condition, mutex, UINT64_MAX);
    return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until)
{
    uint64_t us = (uint64_t)until->tv_sec * 1000000u + (uint64_t)until->tv_nsec / 1000u;
    return wait_until(condition, mutex, us) ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_signal(pthread_cond_t *condition)
{
    fiber_wake_one(condition);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *condition)
{
    fiber_wake_all(condition);
    return 0;
}

int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret_set)
{
    (void)how;
    (void)set;
    if (ret_set != NULL) {
        (void)sigemptyset(ret_set);
    }
    return 0;
}

/* ------------------------------------------------------------------ semaphores, sleep, signals */

static int *count_of(sem_t *semaphore)
{
    return (int *)(void *)semaphore;
}

int __wrap_sem_init(sem_t *semaphore, int shared, unsigned value)
{
    assert(shared == 0);
    *count_of(semaphore) = (int)value;
    return 0;
}

int __wrap_sem_destroy(sem_t *semaphore)
{
    (void)semaphore;
    return 0;
}

int __wrap_sem_wait(sem_t *semaphore)
{
    while (*count_of(semaphore) == 0) {
        (void)fiber_wait(semaphore, UINT64_MAX);
    }
    --*count_of(semaphore);
    return 0;
}

int __wrap_sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
{
    assert(clock == CLOCK_MONOTONIC);
    while (*count_of(semaphore) == 0) {
        uint64_t us = (uint64_t)until->tv_sec * 1000000u + (uint64_t)until->tv_nsec / 1000u;
        if (sim.now_us >= us) {
            errno = ETIMEDOUT;
            return -1;
        }
        (void)fiber_wait(semaphore, us);
    }
    --*count_of(semaphore);
    return 0;
}

int __wrap_sem_post(sem_t *semaphore)
{
    ++*count_of(semaphore);
    fiber_wake_one(semaphore);
    return 0;
}

static uint64_t us_of(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000u + (uint64_t)time->tv_nsec / 1000u;
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *ret_left)
{
    assert(ret_left == NULL);
    fiber_sleep(us_of(time));
    return 0;
}

int __wrap_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    (void)set;
    (void)info;
    int received = process_wait_signal(us_of(timeout));
    errno = EAGAIN;
    return received == 0 ? -1 : received;
}

int __wrap_sigpending(sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    if (process_is_asked_to_end()) {
        (void)sigaddset(ret_set, SIGTERM);
    }
    return 0;
}
