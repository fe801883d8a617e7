/*
 * Replay against a real server: several threads, a journal in portions, and what it does with units
 * of every state. tests/system/test_replay.py has the rest, through the program.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recover/replay.h"
#include "recover/timeline.h"
#include "server_fixture.h"

#include "test_journal.h"

#define NS "test.replay"
#define THREADS 4

static char directory[TEST_DIRECTORY_BYTES];

static int setup(void **state)
{
    (void)state;
    directory_new(directory);
    if (have_server) {
        run_json(upstream, "test",
                 "{\"delete\": \"replay\", \"deletes\": [{\"q\": {}, \"limit\": 0}]}");
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    directory_remove(directory);
    return 0;
}

static void on_conflict(const struct replay_conflict *conflict, void *context)
{
    char *reason = context;
    assert_string_equal(conflict->namespace, NS);
    snprintf(reason, 256, "%.255s", conflict->reason);
}

static struct replay_report replay(struct wal *wal, uint64_t until_lsn, size_t memory_max,
                                   char *reason)
{
    struct replay_report report;
    struct error error = {0};
    struct replay_options options = {
        .until_lsn = until_lsn,
        .memory_max = memory_max,
        .threads = THREADS,
        .uri = server.uri,
        .connect_ms = 10000,
        .conflict = reason == NULL ? NULL : on_conflict,
        .context = reason,
    };
    journal_check(replay_run(wal, upstream, &options, &report, &error), &error);
    return report;
}

static void insert(struct wal *wal, uint64_t unit, int number, int id, int value)
{
    char key[64];
    char after[64];
    snprintf(key, sizeof key, "{\"_id\": %d}", id);
    snprintf(after, sizeof after, "{\"_id\": %d, \"v\": %d}", id, value);
    journal_write(wal, unit, number, NS, key, "", after, NULL);
}

static void update(struct wal *wal, uint64_t unit, int number, int id, int from, int to)
{
    char key[64];
    char before[64];
    char after[64];
    snprintf(key, sizeof key, "{\"_id\": %d}", id);
    snprintf(before, sizeof before, "{\"_id\": %d, \"v\": %d}", id, from);
    snprintf(after, sizeof after, "{\"_id\": %d, \"v\": %d}", id, to);
    journal_write(wal, unit, number, NS, key, before, after, "{\"findAndModify\": \"replay\"}");
}

static void assert_value(int id, int value)
{
    char key[64];
    char wanted[64];
    snprintf(key, sizeof key, "{\"_id\": %d}", id);
    snprintf(wanted, sizeof wanted, "{\"_id\": %d, \"v\": %d}", id, value);
    struct image now = current(upstream, NS, key_of(key));
    if (!image_equal(now, image_of(wanted))) {
        fail_msg("document %d is not %s", id, wanted);
    }
    image_free(&now);
}

static void many_documents_in_portions(void **state)
{
    enum { DOCUMENTS = 4000, ROUNDS = 3 };
    (void)state;
    need_server();
    struct wal *wal = journal_open(directory);
    for (int round = 0; round < ROUNDS; round++) {
        for (int first = 0; first < DOCUMENTS; first += 50) {
            uint64_t unit = journal_begin(wal);
            for (int i = 0; i < 50; i++) {
                if (round == 0) {
                    insert(wal, unit, i, first + i, 0);
                } else {
                    update(wal, unit, i, first + i, round - 1, round);
                }
            }
            journal_commit(wal, unit);
        }
    }
    /* One portion has room for a part of them only. */
    struct replay_report report = replay(wal, UINT64_MAX, (size_t)1 << 21, NULL);
    assert_true(report.portions > 1);
    assert_int_equal(report.units, DOCUMENTS / 50 * ROUNDS);
    assert_int_equal(report.writes, DOCUMENTS * ROUNDS);
    assert_int_equal(report.documents, DOCUMENTS);
    assert_int_equal(report.moved, DOCUMENTS);
    for (int i = 0; i < DOCUMENTS; i += 371) {
        assert_value(i, ROUNDS - 1);
    }
    report = replay(wal, UINT64_MAX, 0, NULL);
    assert_int_equal(report.portions, 1);
    assert_int_equal(report.in_place, DOCUMENTS);
    assert_int_equal(report.moved + report.conflicts, 0);
    wal_close(wal, true);
}

static void append_end(struct wal *wal, uint64_t unit, enum wal_kind kind, bool kept)
{
    bson_t payload = BSON_INITIALIZER;
    if (kind == WAL_KIND_CONFLICT) {
        record_put_conflict(&payload, "a test", NULL, 0);
    } else {
        record_put_resolved(&payload, "a test", kept);
    }
    journal_append(wal, unit, kind, &payload);
    bson_destroy(&payload);
}

/*
 * Document 1 to 5 are inserted with 0. Then 1 is committed to 1 and to 2; 2 is rolled back from 1;
 * 3 is left open at 1; 4 is set aside at 1; 5 is set aside at 1, and the operator keeps that.
 */
static uint64_t units_of_every_state(struct wal *wal)
{
    uint64_t unit = journal_begin(wal);
    for (int id = 1; id <= 5; id++) {
        insert(wal, unit, id - 1, id, 0);
    }
    journal_commit(wal, unit);
    unit = journal_begin(wal);
    update(wal, unit, 0, 1, 0, 1);
    journal_commit(wal, unit);
    uint64_t limit = wal_last_lsn(wal);
    unit = journal_begin(wal);
    update(wal, unit, 0, 1, 1, 2);
    journal_commit(wal, unit);
    for (int id = 2; id <= 5; id++) {
        unit = journal_begin(wal);
        update(wal, unit, 0, id, 0, 1);
        if (id == 2) {
            append_end(wal, unit, WAL_KIND_ABORT, false);
        } else if (id > 3) {
            append_end(wal, unit, WAL_KIND_CONFLICT, false);
        }
        if (id == 5) {
            append_end(wal, unit, WAL_KIND_ABORT, true);
        }
    }
    return limit;
}

static void only_what_was_committed_counts(void **state)
{
    (void)state;
    need_server();
    struct wal *wal = journal_open(directory);
    uint64_t limit = units_of_every_state(wal);
    struct replay_report report = replay(wal, limit, 0, NULL);
    assert_int_equal(report.moved, 5);
    assert_value(1, 1);
    report = replay(wal, UINT64_MAX, 0, NULL);
    assert_int_equal(report.moved, 1);
    assert_value(1, 2);
    for (int id = 2; id <= 5; id++) {
        assert_value(id, 0);
    }
    wal_close(wal, true);
}

/* The same with the images that those units had left: what was not committed goes back, what an
   operator has to decide, or has kept, stays. */
static void a_backup_of_their_middle(void **state)
{
    (void)state;
    need_server();
    struct wal *wal = journal_open(directory);
    uint64_t limit = units_of_every_state(wal);
    run_json(
        upstream, "test",
        "{\"insert\": \"replay\", \"documents\": [{\"_id\": 1, \"v\": 2}, {\"_id\": 2, \"v\": 1},"
        " {\"_id\": 3, \"v\": 1}, {\"_id\": 4, \"v\": 1}, {\"_id\": 5, \"v\": 1}]}");
    struct replay_report report = replay(wal, UINT64_MAX, 0, NULL);
    assert_int_equal(report.conflicts, 0);
    assert_int_equal(report.moved, 2);
    assert_int_equal(report.in_place, 3);
    assert_value(2, 0);
    assert_value(3, 0);
    assert_value(4, 1);
    assert_value(5, 1);
    /* Newer than the limit: of document 1 that image is none that it knows by then. */
    char reason[256] = "";
    report = replay(wal, limit, 0, reason);
    assert_int_equal(report.conflicts, 3);
    assert_non_null(strstr(reason, "none of the images"));
    assert_value(1, 2);
    wal_close(wal, true);
}

static void a_damaged_unit_changes_nothing(void **state)
{
    (void)state;
    need_server();
    struct wal *wal = journal_open(directory);
    struct replay_report report;
    struct error error = {0};
    bson_t nonsense = BSON_INITIALIZER;
    uint64_t unit = journal_begin(wal);
    insert(wal, unit, 0, 1, 0);
    journal_commit(wal, unit);
    unit = journal_begin(wal);
    BSON_APPEND_INT32(&nonsense, "n", 0);
    journal_append(wal, unit, WAL_KIND_WRITE, &nonsense);
    journal_commit(wal, unit);
    bson_destroy(&nonsense);
    struct replay_options options = {
        .until_lsn = UINT64_MAX, .threads = 1, .uri = server.uri, .connect_ms = 10000};
    assert_int_equal(replay_run(wal, upstream, &options, &report, &error), STATUS_CORRUPT);
    struct image now = current(upstream, NS, key_of("{\"_id\": 1}"));
    assert_int_equal(now.presence, IMAGE_ABSENT);
    wal_close(wal, true);
}

static void times_become_places(void **state)
{
    (void)state;
    struct wal *wal = journal_open(directory);
    struct wal_reader *reader = NULL;
    struct wal_unit second;
    struct error error = {0};
    uint64_t lsn = 0;
    journal_commit(wal, journal_begin(wal));
    pause_ms(20);
    uint64_t unit = journal_begin(wal);
    journal_commit(wal, unit);
    journal_check(wal_reader_begin(wal, &reader, &error), &error);
    journal_check(wal_read_unit(reader, unit, &second, &error), &error);
    wal_reader_end(reader);
    journal_check(timeline_first_ended(wal, 0, &lsn, &error), &error);
    assert_int_equal(lsn, 2);
    journal_check(timeline_first_ended(wal, second.last_time_ms, &lsn, &error), &error);
    assert_int_equal(lsn, 4);
    journal_check(timeline_first_ended(wal, second.last_time_ms + 1, &lsn, &error), &error);
    assert_true(lsn == UINT64_MAX);
    wal_close(wal, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(many_documents_in_portions), TEST(only_what_was_committed_counts),
        TEST(a_backup_of_their_middle),   TEST(a_damaged_unit_changes_nothing),
        TEST(times_become_places),
    };
    return cmocka_run_group_tests(tests, server_fixture_start, server_fixture_stop);
}
