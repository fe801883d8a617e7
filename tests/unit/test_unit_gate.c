/*
 * Gates and probes: a plain write follows a unit only once a probe covers it, and what plain writes
 * may have made is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
