/*
 * A pause of all writes: it waits for who is there, holds who comes, and lets them go on when it is
 * ended, when its time is over, and when it is freed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <time.h>

#include "engine/pause.h"

#define GATE 7u
#define WORKER 0u
#define LONG_MS 60000u

static struct gate_table *gates;
static struct pause *pause_under_test;
static atomic_int admitted;

static void on_admitted(struct gate_waiter *waiter)
{
    (void)waiter;
    atomic_fetch_add(&admitted, 1);
}

static int set_up(void **state)
{
    (void)state;
    atomic_store(&admitted, 0);
    gates = gate_table_new(2);
    assert_non_null(gates);
    gate_probe_sent(gates, 1);
    pause_under_test = pause_new(gates, 1);
    assert_non_null(pause_under_test);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pause_under_test = pause_free(pause_under_test);
    gates = gate_table_free(gates);
    return 0;
}

static enum pause_state renew(uint64_t for_ms)
{
    struct error error = {0};
    enum pause_state found = PAUSE_NONE;
    assert_int_equal(pause_renew(pause_under_test, for_ms, &found, &error), STATUS_OK);
    return found;
}

static void nap(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static void renew_until(enum pause_state wanted)
{
    while (renew(LONG_MS) != wanted) {
        nap();
    }
}

static void wait_admitted(int wanted)
{
    while (atomic_load(&admitted) != wanted) {
        nap();
    }
}

static void test_it_waits_for_units_and_plain_writes(void **state)
{
    struct gate_waiter server = {.admitted = on_admitted};
    struct gate_waiter inner = {.admitted = on_admitted};
    (void)state;
    assert_true(gate_unit_enter(gates, GATE_SERVER, &server));
    assert_true(gate_unit_enter(gates, GATE, &inner));
    renew_until(PAUSE_WAITING);
    /* A unit that is inside goes on to further collections. */
    struct gate_waiter further = {.admitted = on_admitted};
    assert_true(gate_unit_enter(gates, GATE + 1, &further));
    gate_unit_leave(gates, GATE + 1, 0);
    gate_unit_leave(gates, GATE, 0);
    assert_int_equal(gate_plain_enter(gates, GATE, WORKER), GATE_PLAIN_ADMITTED);
    gate_unit_leave(gates, GATE_SERVER, 0);
    for (int i = 0; i < 20; i++) {
        assert_int_not_equal(renew(LONG_MS), PAUSE_HELD); /* a plain write is on its way */
        nap();
    }
    gate_plain_leave(gates, GATE, WORKER);
    renew_until(PAUSE_HELD);
}

static void test_it_holds_who_comes_until_it_ends(void **state)
{
    struct gate_waiter unit = {.admitted = on_admitted};
    struct gate_waiter plain = {.admitted = on_admitted};
    (void)state;
    renew_until(PAUSE_HELD);
    assert_int_equal(gate_plain_enter(gates, GATE, WORKER), GATE_PLAIN_UNITS);
    assert_false(gate_plain_wait(gates, GATE, WORKER, &plain));
    assert_false(gate_unit_enter(gates, GATE_SERVER, &unit));
    assert_int_equal(renew(LONG_MS), PAUSE_HELD);
    assert_int_equal(atomic_load(&admitted), 0);
    pause_end(pause_under_test);
    wait_admitted(2);
    gate_unit_leave(gates, GATE_SERVER, 0);
    gate_plain_leave(gates, GATE, WORKER);
    assert_int_equal(gate_plain_enter(gates, GATE, WORKER), GATE_PLAIN_ADMITTED);
    gate_plain_leave(gates, GATE, WORKER);
    renew_until(PAUSE_HELD); /* and once more */
}

static void test_it_ends_when_its_time_is_over(void **state)
{
    struct gate_waiter unit = {.admitted = on_admitted};
    (void)state;
    renew_until(PAUSE_HELD);
    assert_false(gate_unit_enter(gates, GATE_SERVER, &unit));
    (void)renew(1);
    wait_admitted(1);
    gate_unit_leave(gates, GATE_SERVER, 0);
}

static void test_it_ends_while_it_waits(void **state)
{
    struct gate_waiter server = {.admitted = on_admitted};
    struct gate_waiter second = {.admitted = on_admitted};
    (void)state;
    assert_true(gate_unit_enter(gates, GATE_SERVER, &server));
    renew_until(PAUSE_WAITING);
    assert_false(gate_unit_enter(gates, GATE_SERVER, &second));
    pause_end(pause_under_test);
    wait_admitted(1);
    gate_unit_leave(gates, GATE_SERVER, 0);
    gate_unit_leave(gates, GATE_SERVER, 0);
}

static void test_it_ends_with_the_process(void **state)
{
    struct gate_waiter unit = {.admitted = on_admitted};
    (void)state;
    renew_until(PAUSE_HELD);
    assert_false(gate_unit_enter(gates, GATE_SERVER, &unit));
    pause_under_test = pause_free(pause_under_test);
    wait_admitted(1);
    gate_unit_leave(gates, GATE_SERVER, 0);
    assert_null(pause_free(NULL));
    assert_string_equal(pause_state_name(PAUSE_HELD), "held");
}

static atomic_bool over;

static void *come_and_go(void *context)
{
    (void)context;
    while (!atomic_load(&over)) {
        if (gate_plain_enter(gates, GATE, WORKER) == GATE_PLAIN_ADMITTED) {
            gate_plain_leave(gates, GATE, WORKER);
        }
    }
    return NULL;
}

static void test_again_and_again_among_writes(void **state)
{
    pthread_t thread;
    (void)state;
    atomic_store(&over, false);
    assert_int_equal(pthread_create(&thread, NULL, come_and_go, NULL), 0);
    for (int i = 0; i < 10; i++) {
        renew_until(PAUSE_HELD);
        pause_end(pause_under_test);
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_waits_for_units_and_plain_writes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_it_holds_who_comes_until_it_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_ends_when_its_time_is_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_ends_while_it_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_ends_with_the_process, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again_and_again_among_writes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
