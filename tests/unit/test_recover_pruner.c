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

static char directory[TEST_DIRECTORY_BYTES];
static struct wal *wal;
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

static int teardown(void **state)
{
    (void)state;
    wal_close(wal, true);
    directory_remove(directory);
    return 0;
}

static struct pruner *start(uint64_t period_ms, uint64_t retention_ms, uint64_t lsn)
{
    atomic_store(&settled, lsn);
    struct pruner *pruner = NULL;
    struct error error = {0};
    struct pruner_options options = {
        .wal = wal,
        .period_ms = period_ms,
        .retention_ms = retention_ms,
        .settled_lsn = settled_lsn,
        .pruned = on_pruned,
    };
    journal_check(pruner_start(&options, &pruner, &error), &error);
    return pruner;
}

static void make_units(int count)
{
    for (int i = 0; i < count; i++) {
        journal_commit(wal, journal_begin(wal));
    }
}

static void wait_for(uint64_t units)
{
    for (int i = 0; i < 2000 && atomic_load(&pruned) < units; i++) {
        pause_ms(5);
    }
    assert_int_equal(atomic_load(&pruned), units);
}

static void it_prunes_by_retention(void **state)
{
    (void)state;
    make_units(3);
    struct pruner *pruner = start(10, HOUR_MS, UINT64_MAX);
    pause_ms(100);
    assert_int_equal(atomic_load(&pruned), 0);
    assert_true(atomic_load(&rounds) > 0);
    pause_ms(5);
    pruner_set_retention(pruner, 1);
    wait_for(3);
    pruner_stop(pruner);
}

static void it_prunes_when_asked_and_tells_by_what(void **state)
{
    struct wal_prune_options rules;
    (void)state;
    make_units(3);
    struct pruner *pruner = start(HOUR_MS, HOUR_MS, 4);
    uint64_t now_ms = clock_wall_ms();
    pruner_ask(pruner, now_ms + 1000, &rules);
    assert_int_equal(rules.ended_before_ms, now_ms + 1000);
    assert_int_equal(rules.settled_lsn, 4);
    wait_for(2); /* LSN 6 is not settled */
    atomic_store(&settled, 6);
    pruner_ask(pruner, 0, &rules);
    assert_true(rules.ended_before_ms <= clock_wall_ms() - HOUR_MS);
    while (atomic_load(&rounds) < 2) {
        pause_ms(5);
    }
    assert_int_equal(atomic_load(&pruned), 2); /* what was asked before is over */
    pruner_ask(pruner, now_ms + 1000, &rules);
    wait_for(3);
    pruner_stop(pruner);
}

static void it_ends_in_the_middle_of_a_backlog_and_appends_go_on(void **state)
{
    struct wal_prune_options rules;
    (void)state;
    make_units(4000);
    struct pruner *pruner = start(HOUR_MS, HOUR_MS, UINT64_MAX);
    pruner_ask(pruner, UINT64_MAX, &rules);
    make_units(20);
    pruner_stop(pruner);
    pruner_stop(NULL);
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
