/*
 * Gates and probes: a plain write follows a unit only once a probe covers it, and what plain writes
 * may have made is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "holdfast/race_point.h"
#include "test_seed.h"
#include "unit/gate.h"

#define GATE 7u
#define OTHER 8u

static struct gate_table *gates;
static int wanted;
static int admitted;

static void on_wanted(void *context)
{
    (void)context;
    wanted++;
}

static void on_admitted(struct gate_waiter *waiter)
{
    (void)waiter;
    admitted++;
}

static int set_up(void **state)
{
    (void)state;
    wanted = admitted = 0;
    gates = gate_table_new(2);
    assert_non_null(gates);
    gate_probe_sent(gates, 100);
    gate_probe_answered(gates, 5);
    gate_on_probe_wanted(gates, on_wanted, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    gates = gate_table_free(gates);
    return 0;
}

static void pass_unit(uint32_t gate, uint64_t end_lsn)
{
    struct gate_waiter unit = {.admitted = on_admitted};
    assert_true(gate_unit_enter(gates, gate, &unit));
    gate_unit_leave(gates, gate, end_lsn);
}

static void test_plain_write_waits_for_a_probe(void **state)
{
    struct gate_waiter waiter = {.admitted = on_admitted};
    (void)state;
    assert_int_equal(gate_plain_enter(gates, GATE, 0), GATE_PLAIN_ADMITTED);
    gate_plain_leave(gates, GATE, 0);
    pass_unit(GATE, 9);
    assert_true(gate_has_uncovered(gates));
    assert_int_equal(gate_plain_enter(gates, GATE, 0), GATE_PLAIN_UNCOVERED);
    assert_int_equal(gate_plain_enter(gates, OTHER, 0), GATE_PLAIN_ADMITTED);
    gate_plain_leave(gates, OTHER, 0);
    assert_false(gate_plain_wait(gates, GATE, 0, &waiter));
    assert_int_equal(wanted, 1);
    gate_probe_answered(gates, 8); /* sent before the unit's end */
    assert_int_equal(admitted, 0);
    gate_probe_answered(gates, 9);
    assert_int_equal(admitted, 1);
    assert_false(gate_has_uncovered(gates));
    gate_plain_leave(gates, GATE, 0);
}

static void test_unit_without_writes_needs_no_probe(void **state)
{
    (void)state;
    pass_unit(GATE, 0);
    assert_false(gate_has_uncovered(gates));
    assert_int_equal(gate_plain_enter(gates, GATE, 0), GATE_PLAIN_ADMITTED);
    gate_plain_leave(gates, GATE, 0);
}

static void test_units_inside_come_first(void **state)
{
    struct gate_waiter unit = {.admitted = on_admitted};
    struct gate_waiter waiter = {.admitted = on_admitted};
    (void)state;
    assert_true(gate_unit_enter(gates, GATE, &unit));
    assert_int_equal(gate_plain_enter(gates, GATE, 1), GATE_PLAIN_UNITS);
    assert_false(gate_plain_wait(gates, GATE, 1, &waiter));
    assert_int_equal(wanted, 0);
    gate_unit_leave(gates, GATE, 9);
    assert_int_equal(wanted, 1);
    assert_int_equal(admitted, 0);
    gate_probe_answered(gates, 20);
    assert_int_equal(admitted, 1);
    gate_plain_leave(gates, GATE, 1);
}

static void test_a_unit_waits_behind_the_plain_write(void **state)
{
    struct gate_waiter plain = {.admitted = on_admitted};
    struct gate_waiter unit = {.admitted = on_admitted};
    (void)state;
    pass_unit(GATE, 9);
    assert_false(gate_plain_wait(gates, GATE, 0, &plain));
    assert_false(gate_unit_enter(gates, GATE, &unit));
    gate_probe_answered(gates, 9);
    assert_int_equal(admitted, 1);
    gate_plain_leave(gates, GATE, 0);
    assert_int_equal(admitted, 2);
    gate_unit_leave(gates, GATE, 12);
}

/* A server that takes no probes: nobody hangs on that. */
static void test_probes_that_fail(void **state)
{
    struct gate_waiter write = {.admitted = on_admitted, .has_other_way = true};
    struct gate_waiter index = {.admitted = on_admitted};
    struct gate_waiter unit = {.admitted = on_admitted};
    (void)state;
    pass_unit(GATE, 9);
    assert_false(gate_plain_wait(gates, GATE, 0, &index));
    assert_false(gate_plain_wait(gates, GATE, 0, &write));
    assert_false(gate_unit_enter(gates, GATE, &unit));
    gate_probe_failed(gates);
    assert_int_equal(admitted, 2); /* the write, turned away, and the unit */
    assert_true(write.turned_away);
    assert_int_equal(gate_plain_enter(gates, GATE, 0), GATE_PLAIN_UNITS);
    gate_unit_leave(gates, GATE, 10);
    assert_int_equal(gate_plain_enter(gates, GATE, 0), GATE_PLAIN_UNITS);
    pass_unit(GATE, 11);
    gate_probe_answered(gates, 11);
    assert_int_equal(admitted, 3);
    assert_false(index.turned_away);
    gate_plain_leave(gates, GATE, 0);
    assert_int_equal(gate_plain_enter(gates, GATE, 0), GATE_PLAIN_ADMITTED);
    gate_plain_leave(gates, GATE, 0);
}

static void test_what_plain_writes_may_have_made(void **state)
{
    (void)state;
    assert_int_equal(gate_plain_probe(gates, GATE), 99); /* from before the table */
    assert_false(gate_has_plain(gates));
    assert_int_equal(gate_plain_enter(gates, GATE, 1), GATE_PLAIN_ADMITTED);
    gate_probe_sent(gates, 101);
    gate_plain_leave(gates, GATE, 1); /* its end may lie behind probe 101 */
    assert_true(gate_has_plain(gates));
    gate_probe_sent(gates, 102);
    assert_false(gate_has_plain(gates));
    assert_int_equal(gate_plain_probe(gates, GATE), 101);
    assert_int_equal(gate_plain_probe(gates, OTHER), 99);
    gate_plain_note(gates, GATE_SERVER, 0); /* dropDatabase and the like touch all */
    assert_int_equal(gate_plain_probe(gates, OTHER), 102);
}

/* What passes unseen by a snapshot is known to have passed. */
static void test_plain_writes_since_an_epoch(void **state)
{
    (void)state;
    uint64_t first = gate_epoch_next(gates);
    assert_false(gate_plain_since(gates, GATE, first));
    assert_int_equal(gate_plain_enter(gates, GATE, 1), GATE_PLAIN_ADMITTED);
    assert_true(gate_plain_since(gates, GATE, first)); /* on its way */
    assert_true(gate_plain_since(gates, GATE_SERVER, first));
    assert_false(gate_plain_since(gates, OTHER, first));
    gate_plain_leave(gates, GATE, 1);
    assert_true(gate_plain_since(gates, GATE, first));
    assert_true(gate_plain_since(gates, GATE_SERVER, first));
    assert_false(gate_plain_since(gates, OTHER, first));
    uint64_t second = gate_epoch_next(gates);
    assert_true(gate_plain_since(gates, GATE, first));
    assert_false(gate_plain_since(gates, GATE, second));
    assert_false(gate_plain_since(gates, GATE_SERVER, second));
    gate_plain_note(gates, GATE_SERVER, 0); /* dropDatabase and the like touch all */
    assert_true(gate_plain_since(gates, OTHER, second));
}

static void leave_between_looks(const char *name)
{
    if (strcmp(name, "gate_one_look") == 0) {
        race_points_end();
        gate_plain_leave(gates, GATE, 1);
    }
}

/* It is on its way at the first look, and has ended before the second. */
static void test_a_plain_write_ends_between_two_looks(void **state)
{
    (void)state;
    uint64_t epoch = gate_epoch_next(gates);
    assert_int_equal(gate_plain_enter(gates, GATE, 1), GATE_PLAIN_ADMITTED);
    if (!race_points_call(leave_between_looks)) {
        skip();
    }
    assert_true(gate_plain_since(gates, GATE_SERVER, epoch));
}

/* ------------------------------------------------------------------ many threads */

enum { WRITERS = 2, UNITS = 2, ROUNDS = 400 };

static atomic_int plain_inside;
static atomic_int units_inside;
static atomic_uint plain_writes;
static atomic_uint threads_left;

struct admission {
    struct gate_waiter waiter;
    atomic_bool admitted;
};

static void on_inside(struct gate_waiter *waiter)
{
    atomic_store(&((struct admission *)(void *)waiter)->admitted, true);
}

static void wait_admitted(struct admission *admission)
{
    while (!atomic_load(&admission->admitted)) {
        (void)sched_yield();
    }
}

/* A plain write goes the fast way, or waits. */
static void *write_plainly(void *context)
{
    size_t worker = *(const size_t *)context;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (gate_plain_enter(gates, GATE, worker) != GATE_PLAIN_ADMITTED) {
            struct admission admission = {.waiter.admitted = on_inside};
            if (!gate_plain_wait(gates, GATE, worker, &admission.waiter)) {
                wait_admitted(&admission);
            }
        }
        (void)atomic_fetch_add(&plain_inside, 1);
        if (atomic_load(&units_inside) != 0) {
            abort(); /* its undo would erase this write */
        }
        (void)atomic_fetch_add(&plain_writes, 1);
        (void)atomic_fetch_sub(&plain_inside, 1);
        gate_plain_leave(gates, GATE, worker);
    }
    (void)atomic_fetch_sub(&threads_left, 1);
    return NULL;
}

static void *come_as_a_unit(void *context)
{
    (void)context;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct admission admission = {.waiter.admitted = on_inside};
        if (!gate_unit_enter(gates, GATE, &admission.waiter)) {
            wait_admitted(&admission);
        }
        (void)atomic_fetch_add(&units_inside, 1);
        if (atomic_load(&plain_inside) != 0) {
            abort();
        }
        (void)sched_yield();
        (void)atomic_fetch_sub(&units_inside, 1);
        gate_unit_leave(gates, GATE, i % 4 == 0 ? 1000u + i : 0);
    }
    (void)atomic_fetch_sub(&threads_left, 1);
    return NULL;
}

/* Probes are answered all the time, so that everybody gets in who is to: else this does not end. */
static void test_plain_writes_and_units_never_meet(void **state)
{
    (void)state;
    static const size_t workers[WRITERS] = {0, 1};
    pthread_t threads[WRITERS + UNITS];
    race_points_begin(seed_of_run(), 8);
    atomic_store(&threads_left, WRITERS + UNITS);
    for (size_t i = 0; i < WRITERS; i++) {
        void *worker = (void *)(uintptr_t)&workers[i]; /* only read */
        assert_int_equal(pthread_create(&threads[i], NULL, write_plainly, worker), 0);
    }
    for (size_t i = WRITERS; i < WRITERS + UNITS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, come_as_a_unit, NULL), 0);
    }
    for (int64_t number = 1; atomic_load(&threads_left) > 0; number++) {
        gate_probe_sent(gates, number);
        gate_probe_answered(gates, 1000000);
        (void)sched_yield();
    }
    for (size_t i = 0; i < WRITERS + UNITS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    race_points_end();
    assert_int_equal(atomic_load(&plain_writes), WRITERS * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain_write_waits_for_a_probe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unit_without_writes_needs_no_probe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_units_inside_come_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_unit_waits_behind_the_plain_write, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_probes_that_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_plain_writes_may_have_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plain_writes_since_an_epoch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_plain_write_ends_between_two_looks, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_plain_writes_and_units_never_meet, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
