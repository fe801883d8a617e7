/*
 * The watchdog is fed while all workers work, or there are none, and not while one of them hangs.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "net/watchdog.h"
#include "test_program.h"

#define PERIOD_MS 60u

static _Atomic int fed;
static sem_t hangs;
static sem_t goes_on;

static void on_alive(void)
{
    (void)atomic_fetch_add(&fed, 1);
}

static void hang(struct worker_task *task)
{
    (void)task;
    (void)sem_post(&hangs);
    while (sem_wait(&goes_on) != 0) {
    }
}

static void wait_for(int more)
{
    int wanted = atomic_load(&fed) + more;
    while (atomic_load(&fed) < wanted) {
        pause_ms(5);
    }
}

static void test_only_workers_that_work_feed_it(void **state)
{
    struct error error = {0};
    struct worker_pool *workers = NULL;
    struct watchdog *watchdog = NULL;
    struct worker_task task = {.run = hang};
    (void)state;
    assert_int_equal(sem_init(&hangs, 0, 0), 0);
    assert_int_equal(sem_init(&goes_on, 0, 0), 0);
    assert_int_equal(worker_pool_start(3, &workers, &error), STATUS_OK);
    struct watchdog_options options = {.period_ms = PERIOD_MS, .alive = on_alive};
    assert_int_equal(watchdog_start(&options, &watchdog, &error), STATUS_OK);
    wait_for(2); /* there are no workers yet */
    watchdog_watch(watchdog, workers);
    wait_for(3);

    worker_post(worker_pool_get(workers, 1), &task);
    while (sem_wait(&hangs) != 0) {
    }
    int when_it_hung = atomic_load(&fed);
    pause_ms(5 * (long)PERIOD_MS);
    assert_true(atomic_load(&fed) <= when_it_hung + 1); /* one answer may have been on its way */
    int silent = atomic_load(&fed);
    pause_ms(2 * (long)PERIOD_MS);
    assert_int_equal(atomic_load(&fed), silent);

    (void)sem_post(&goes_on);
    wait_for(3);
    watchdog_watch(watchdog, NULL);
    assert_null(worker_pool_stop(workers));
    wait_for(2);
    watchdog_watch(NULL, NULL);
    assert_null(watchdog_stop(watchdog));
    assert_null(watchdog_stop(NULL));
    int ended = atomic_load(&fed);
    pause_ms((long)PERIOD_MS);
    assert_int_equal(atomic_load(&fed), ended);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_workers_that_work_feed_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
