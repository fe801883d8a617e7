/*
 * The pruner's thread: it prunes by retention, when asked, and never past what is settled; it ends
 * in the middle of a backlog; others append meanwhile.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>

#include "holdfast/clock.h"
#include "recover/pruner.h"
#include "test_server.h"

#include "test_journal.h"

#define HOUR_MS (UINT64_C(3600) * 1000)
#define WAIT_STEPS_MAX 12000 /* of 5 ms: for a machine that is busy with other things */

static char directory[TEST_DIRECTORY_BYTES];
static struct wal *wal;
static struct pruner *pruner; /* NULL: none runs */
static _Atomic uint64_t pruned;
static atomic_uint rounds;
static _Atomic uint64_t settled;

static uint64_t settled_lsn(void *context)
{
    (void)context;
    return atomic_load(&settled);
}

static void on_pruned(uint64_t units, const struct error *failure, void *context)
{
    (void)context;
    if (failure == NULL) {
        atomic_fetch_add(&pruned, units);
    }
    atomic_fetch_add(&rounds, 1);
}

static int setup(void **state)
{
    (void)state;
    directory_new(directory);
    wal = journal_open(directory);
    atomic_store(&pruned, 0);
    atomic_store(&rounds, 0);
    return 0;
}

/* After a failed check the thread still runs: it must not meet a journal that is closed. */
static int teardown(void **state)
{
    (void)state;
    pruner = pruner_stop(pruner);
    wal_close(wal, true);
    directory_remove(directory);
    return 0;
}

static void start(uint64_t period_ms, uint64_t retention_ms, uint64_t lsn)
{
    atomic_store(&settled, lsn);
    struct error error = {0};
    struct pruner_options options = {
        .wal = wal,
        .period_ms = period_ms,
        .retention_ms = retention_ms,
        .settled_lsn = settled_lsn,
        .pruned = on_pruned,
    };
    journal_check(pruner_start(&options, &pruner, &error), &error);
}

static void make_units(int count)
{
    for (int i = 0; i < count; i++) {
        journal_commit(wal, journal_begin(wal));
    }
}

static void wait_for(uint64_t units)
{
    for (int i = 0; i < WAIT_STEPS_MAX && atomic_load(&pruned) < units; i++) {
        pause_ms(5);
    }
    assert_int_equal(atomic_load(&pruned), units);
}

static void wait_for_rounds(unsigned count)
{
    for (int i = 0; i < WAIT_STEPS_MAX && atomic_load(&rounds) < count; i++) {
        pause_ms(5);
    }
    assert_true(atomic_load(&rounds) >= count);
}

static void it_prunes_by_retention(void **state)
{
    (void)state;
    make_units(3);
    start(10, HOUR_MS, UINT64_MAX);
    wait_for_rounds(3);
    assert_int_equal(atomic_load(&pruned), 0);
    pause_ms(5);
    pruner_set_retention(pruner, 1);
    wait_for(3);
}

static void it_prunes_when_asked_and_tells_by_what(void **state)
{
    struct wal_prune_options rules;
    (void)state;
    make_units(3);
    start(HOUR_MS, HOUR_MS, 4);
    uint64_t now_ms = clock_wall_ms();
    pruner_ask(pruner, now_ms + 1000, &rules);
    assert_int_equal(rules.ended_before_ms, now_ms + 1000);
    assert_int_equal(rules.settled_lsn, 4);
    wait_for(2); /* LSN 6 is not settled */
    atomic_store(&settled, 6);
    pruner_ask(pruner, 0, &rules);
    assert_true(rules.ended_before_ms <= clock_wall_ms() - HOUR_MS);
    wait_for_rounds(2);
    assert_int_equal(atomic_load(&pruned), 2); /* what was asked before is over */
    pruner_ask(pruner, now_ms + 1000, &rules);
    wait_for(3);
}

static void it_ends_in_the_middle_of_a_backlog_and_appends_go_on(void **state)
{
    struct wal_prune_options rules;
    (void)state;
    make_units(4000);
    start(HOUR_MS, HOUR_MS, UINT64_MAX);
    pruner_ask(pruner, UINT64_MAX, &rules);
    make_units(20);
    pruner = pruner_stop(pruner);
    assert_null(pruner_stop(NULL));
    struct wal_statistics figures;
    struct error error = {0};
    journal_check(wal_statistics_get(wal, &figures, &error), &error);
    assert_int_equal(figures.last_lsn, 2 * 4020);
    assert_true(atomic_load(&pruned) <= 4020);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_prunes_by_retention),
        TEST(it_prunes_when_asked_and_tells_by_what),
        TEST(it_ends_in_the_middle_of_a_backlog_and_appends_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
