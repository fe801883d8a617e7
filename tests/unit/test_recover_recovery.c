/*
 * Recovery against a real server: what is open is rolled back, what is committed stays, what is in
 * conflict is parked once; and all of that when recovery itself is killed at each of its steps.
 *
 * Called with DIRECTORY and URI, this program is the recovery that is killed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "holdfast/clock.h"
#include "recover/recovery.h"
#include "server_fixture.h"

#include "test_journal.h"

#define NS "test.recovery"
#define INCREMENT                                                                                  \
    "{\"findAndModify\": \"recovery\", \"query\": {\"_id\": 2}, \"update\": {\"$inc\": {\"a\": "   \
    "1}}}"

static enum status recover(const char *directory, bool dry_run, struct recovery_report *ret_report,
                           struct error *ret_error)
{
    struct recovery_options options = {.dry_run = dry_run, .fence_ms = 0};
    struct wal *wal = journal_open(directory);
    enum status status = recovery_run(wal, upstream, &options, ret_report, ret_error);
    wal_close(wal, status == STATUS_OK);
    return status;
}

static void assert_at(const char *key, const char *json)
{
    struct image now = current(upstream, NS, key_of(key));
    if (!image_equal(now, image_of(json))) {
        fail_msg("%s is not %s", key, json);
    }
    image_free(&now);
}

struct units {
    uint64_t committed;
    uint64_t open;    /* three documents, the last write's reply lost */
    uint64_t foreign; /* a stranger wrote its document */
    uint64_t newest;
};

/* What a killed proxy leaves: in the journal, and on the server. */
static struct units leave(const char *directory)
{
    struct wal *wal = journal_open(directory);
    struct units units;
    units.committed = journal_begin(wal);
    journal_write(wal, units.committed, 0, NS, "{\"_id\": 9}", "", "{\"_id\": 9}", NULL);
    journal_commit(wal, units.committed);
    units.open = journal_begin(wal);
    journal_write(wal, units.open, 0, NS, "{\"_id\": 1}", "", "{\"_id\": 1}", NULL);
    journal_write(wal, units.open, 1, NS, "{\"_id\": 3}", "{\"_id\": 3, \"x\": 1}", "", NULL);
    journal_write(wal, units.open, 2, NS, "{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}", "?", INCREMENT);
    units.foreign = journal_begin(wal);
    journal_write(wal, units.foreign, 0, NS, "{\"_id\": 4}", "", "{\"_id\": 4}", NULL);
    units.newest = journal_begin(wal);
    journal_write(wal, units.newest, 0, NS, "{\"_id\": 5}", "", "{\"_id\": 5}", NULL);
    wal_close(wal, false);
    stranger_writes(upstream, NS, key_of("{\"_id\": 9}"), "{\"_id\": 9}");
    stranger_writes(upstream, NS, key_of("{\"_id\": 1}"), "{\"_id\": 1}");
    stranger_writes(upstream, NS, key_of("{\"_id\": 3}"), "");
    stranger_writes(upstream, NS, key_of("{\"_id\": 2}"), "{\"_id\": 2, \"a\": 2}");
    stranger_writes(upstream, NS, key_of("{\"_id\": 4}"), "{\"_id\": 4, \"theirs\": 1}");
    stranger_writes(upstream, NS, key_of("{\"_id\": 5}"), "{\"_id\": 5}");
    return units;
}

static void assert_recovered(const char *directory, const struct units *units)
{
    struct wal *wal = journal_open(directory);
    assert_int_equal(journal_state(wal, units->committed), WAL_UNIT_COMMITTED);
    assert_int_equal(journal_state(wal, units->open), WAL_UNIT_ABORTED);
    assert_int_equal(journal_state(wal, units->foreign), WAL_UNIT_CONFLICT);
    assert_int_equal(journal_state(wal, units->newest), WAL_UNIT_ABORTED);
    wal_close(wal, true);
    assert_at("{\"_id\": 9}", "{\"_id\": 9}");
    assert_at("{\"_id\": 1}", "");
    assert_at("{\"_id\": 3}", "{\"_id\": 3, \"x\": 1}");
    assert_at("{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}");
    assert_at("{\"_id\": 4}", "{\"_id\": 4, \"theirs\": 1}");
    assert_at("{\"_id\": 5}", "");
}

static void open_units_end_and_conflicts_are_parked_once(void **state)
{
    (void)state;
    need_server();
    char directory[TEST_DIRECTORY_BYTES];
    struct recovery_report report = {0};
    struct error error = {0};
    directory_new(directory);
    struct units units = leave(directory);

    assert_int_equal(recover(directory, true, &report, &error), STATUS_OK);
    assert_int_equal(report.units_rolled_back, 2);
    assert_int_equal(report.conflicts_new, 1);
    assert_at("{\"_id\": 5}", "{\"_id\": 5}"); /* a dry run touches nothing */

    assert_int_equal(recover(directory, false, &report, &error), STATUS_OK);
    assert_int_equal(report.units_rolled_back, 2);
    assert_int_equal(report.conflicts_new, 1);
    assert_int_equal(report.conflicts_left, 1);
    assert_recovered(directory, &units);

    assert_int_equal(recover(directory, false, &report, &error), STATUS_OK);
    assert_int_equal(report.units_rolled_back, 0);
    assert_int_equal(report.conflicts_new, 0);
    assert_int_equal(report.conflicts_left, 1);
    assert_int_equal(report.fence, FENCE_NONE);
    assert_recovered(directory, &units);
    directory_remove(directory);
}

/* Runs this program as the recovery; true if it was killed. */
static bool killed_recovery(const char *directory, const char *crash_at)
{
    int outcome = 0;
    pid_t child = fork();
    if (child == 0) {
        setenv("HOLDFAST_CRASH_AT", crash_at, 1);
        execl("/proc/self/exe", "recovery", directory, server.uri, (char *)NULL);
        _exit(126);
    }
    assert_int_equal(waitpid(child, &outcome, 0), child);
    if (WIFSIGNALED(outcome)) {
        assert_int_equal(WTERMSIG(outcome), SIGKILL);
        return true;
    }
    assert_int_equal(WEXITSTATUS(outcome), 0);
    return false;
}

static void a_killed_recovery_is_run_again(void **state)
{
    static const struct {
        const char *name;
        int times; /* how often this recovery reaches it */
    } points[] = {{"recovery_fenced", 1},  {"undo_checked", 2},  {"undo_restored", 4},
                  {"abort_undone", 2},     {"abort_durable", 2}, {"recovery_unit_done", 3},
                  {"recovery_finished", 1}};
    (void)state;
    need_server();
#ifndef HOLDFAST_CRASH_POINTS
    skip();
#endif
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        for (int time = 1; time <= points[i].times; time++) {
            char directory[TEST_DIRECTORY_BYTES];
            char crash_at[64];
            directory_new(directory);
            struct units units = leave(directory);
            snprintf(crash_at, sizeof(crash_at), "%s:%d", points[i].name, time);
            if (!killed_recovery(directory, crash_at)) {
                fail_msg("%s was not reached", crash_at);
            }
            assert_false(killed_recovery(directory, ""));
            assert_recovered(directory, &units);
            directory_remove(directory);
        }
    }
}

/* One unit whose record does not follow the schema: everything waits for an operator. */
static void a_damaged_unit_stops_everything(void **state)
{
    (void)state;
    need_server();
    char directory[TEST_DIRECTORY_BYTES];
    struct recovery_report report = {0};
    struct error error = {0};
    directory_new(directory);
    /* The oldest one: those before it in the order of rolling back must not have been touched. */
    struct wal *wal = journal_open(directory);
    uint64_t unit = journal_begin(wal);
    bson_t payload = BSON_INITIALIZER;
    BSON_APPEND_INT32(&payload, "n", 0);
    journal_append(wal, unit, WAL_KIND_WRITE, &payload);
    wal_close(wal, false);
    leave(directory);
    char number[32];
    snprintf(number, sizeof(number), "unit %d", (int)unit);
    assert_int_equal(recover(directory, false, &report, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.message, number));
    assert_non_null(strstr(error.message, "record "));
    assert_at("{\"_id\": 5}", "{\"_id\": 5}");
    bson_destroy(&payload);
    directory_remove(directory);
}

static void a_fence_waits_as_long_as_it_says(void **state)
{
    (void)state;
    need_server();
    const char *const addresses[] = {"10.0.0.1:6"};
    enum fence_certainty certainty = FENCE_NONE;
    struct error error = {0};
    assert_int_equal(fence_wait(upstream, NULL, 0, 60000, NULL, NULL, &certainty, &error),
                     STATUS_OK);
    assert_int_equal(certainty, FENCE_NONE);
    /* A second connection: as far as a server without addresses can tell, it may be theirs. */
    struct upstream *other = NULL;
    struct upstream_description description;
    assert_int_equal(upstream_open(server.uri, 5000, &other, &error), STATUS_OK);
    assert_int_equal(upstream_describe(other, &description, &error), STATUS_OK);
    uint64_t started = clock_monotonic_ms();
    assert_int_equal(fence_wait(upstream, addresses, 1, 200, NULL, NULL, &certainty, &error),
                     STATUS_OK);
    if (!server.is_mongod) {
        assert_int_equal(certainty, FENCE_WAITED);
        assert_true(clock_monotonic_ms() - started >= 200);
    }
    bool alone = true;
    started = clock_monotonic_ms();
    assert_int_equal(fence_alone(upstream, 100, &alone, &error), STATUS_OK);
    assert_false(alone);
    assert_true(clock_monotonic_ms() - started >= 100);
    upstream_close(other);
    assert_int_equal(fence_alone(upstream, 10000, &alone, &error), STATUS_OK);
    assert_true(alone || server.is_mongod);
    assert_int_equal(fence_wait(upstream, addresses, 1, 10000, NULL, NULL, &certainty, &error),
                     STATUS_OK);
    if (!server.is_mongod) {
        assert_int_equal(certainty, FENCE_GONE); /* nobody is there but us */
    }
}

static void histories_that_contradict_themselves_are_corrupt(void **state)
{
    (void)state;
    char directory[TEST_DIRECTORY_BYTES];
    struct unit_history *history = NULL;
    struct error error = {0};
    directory_new(directory);
    struct wal *wal = journal_open(directory);
    uint64_t gap = journal_begin(wal);
    journal_write(wal, gap, 1, NS, "{\"_id\": 1}", "", "{\"_id\": 1}", NULL);
    uint64_t sound = journal_begin(wal);
    journal_write(wal, sound, 0, NS, "{\"_id\": 1}", "", "{\"_id\": 1}", NULL);
    journal_write(wal, sound, 1, NS, "{\"_id\": 1}", "{\"_id\": 1}", "", NULL);
    assert_int_equal(unit_history_load(wal, gap, &history, &error), STATUS_CORRUPT);
    assert_null(history);
    assert_int_equal(unit_history_load(wal, 999, &history, &error), STATUS_NOT_FOUND);
    assert_int_equal(unit_history_load(wal, sound, &history, &error), STATUS_OK);
    assert_int_equal(history->write_count, 2);
    assert_int_equal(history->writes[1].operation, RECORD_DELETE);
    assert_string_equal(history->begin.user, "admin.alice");
    unit_history_free(history);
    wal_close(wal, true);
    directory_remove(directory);
}

static void assert_image(const struct unit_history *history, const struct history_image *place,
                         const char *json)
{
    struct image image = {0};
    struct image wanted = image_of(json);
    assert_int_equal(history_image_read(history, place, &image, NULL), STATUS_OK);
    assert_true(image_equal(image, wanted));
    image_free(&image);
    image_free(&wanted);
}

/* A history holds no images: they are read from the journal, and said to be gone when they are. */
static void images_are_read_where_they_are(void **state)
{
    (void)state;
    char directory[TEST_DIRECTORY_BYTES];
    struct unit_history *history = NULL;
    struct image image = {0};
    struct error error = {0};
    directory_new(directory);
    struct wal *wal = journal_open(directory);
    uint64_t unit = journal_begin(wal);
    struct record_write write = {.number = 0,
                                 .operation = RECORD_UPDATE,
                                 .namespace = NS,
                                 .key = key_of("{\"_id\": 1}"),
                                 .before = image_of("{\"_id\": 1, \"a\": 1}"),
                                 .command = key_of("{\"update\": \"c\"}"),
                                 .connection = "10.0.0.1:6"};
    struct record_known known = {.number = 0, .after = image_of("{\"_id\": 1, \"a\": 2}")};
    bson_t first = BSON_INITIALIZER;
    bson_t second = BSON_INITIALIZER;
    record_put_write(&first, &write, NULL, 0);
    journal_append(wal, unit, WAL_KIND_WRITE, &first);
    write.number = 1;
    write.key = key_of("{\"_id\": \"two\"}");
    write.before = (struct image){.presence = IMAGE_ABSENT};
    write.operation = RECORD_INSERT;
    write.after = image_of("{\"_id\": \"two\"}");
    record_put_write(&second, &write, &known, 1);
    journal_append(wal, unit, WAL_KIND_WRITE, &second);
    assert_int_equal(unit_history_load(wal, unit, &history, &error), STATUS_OK);
    assert_image(history, &history->writes[0].before, "{\"_id\": 1, \"a\": 1}");
    assert_image(history, &history->writes[0].after, "{\"_id\": 1, \"a\": 2}");
    assert_image(history, &history->writes[0].command, "{\"update\": \"c\"}");
    assert_image(history, &history->writes[1].before, "");
    assert_image(history, &history->writes[1].after, "{\"_id\": \"two\"}");
    assert_int_equal(history->writes[1].command.presence, IMAGE_UNKNOWN);
    assert_true(slice_equal(history->writes[1].key, write.key));
    assert_ptr_equal(history->writes[0].namespace, history->writes[1].namespace);
    journal_commit(wal, unit);
    assert_int_equal(wal_prune(wal,
                               &(struct wal_prune_options){.ended_before_ms = UINT64_MAX,
                                                           .settled_lsn = UINT64_MAX},
                               NULL, &error),
                     STATUS_OK);
    assert_int_equal(history_image_read(history, &history->writes[0].after, &image, &error),
                     STATUS_CORRUPT);
    unit_history_free(history);
    bson_destroy(&first);
    bson_destroy(&second);
    wal_close(wal, true);
    directory_remove(directory);
}

/* Most ABORTs have nothing to say of what was refused, and those of older programs never did. */
static void an_abort_may_tell_what_was_refused(void **state)
{
    (void)state;
    char directory[TEST_DIRECTORY_BYTES];
    struct unit_history *history = NULL;
    struct record_known known[] = {{.number = 0, .refused = true}, {.number = 7, .refused = true}};
    struct error error = {0};
    directory_new(directory);
    struct wal *wal = journal_open(directory);
    for (size_t count = 0; count <= 2; count++) {
        uint64_t unit = journal_begin(wal);
        bson_t payload = BSON_INITIALIZER;
        journal_write(wal, unit, 0, NS, "{\"_id\": 1}", "", "{\"_id\": 1, \"a\": 1}", NULL);
        record_put_abort(&payload, "the client asked for it");
        record_put_refused(&payload, known, count);
        journal_append(wal, unit, WAL_KIND_ABORT, &payload);
        bson_destroy(&payload);
        enum status status = unit_history_load(wal, unit, &history, &error);
        assert_int_equal(status, count < 2 ? STATUS_OK : STATUS_CORRUPT); /* there is no write 7 */
        if (status == STATUS_OK) {
            assert_int_equal(history->state, WAL_UNIT_ABORTED);
            assert_int_equal(history->writes[0].refused, count > 0);
            unit_history_free(history);
        }
    }
    wal_close(wal, true);
    directory_remove(directory);
}

static void two_different_after_images_are_corrupt(void **state)
{
    (void)state;
    char directory[TEST_DIRECTORY_BYTES];
    struct unit_history *history = NULL;
    struct error error = {0};
    directory_new(directory);
    struct wal *wal = journal_open(directory);
    uint64_t unit = journal_begin(wal);
    struct record_known known = {.number = 0, .after = image_of("{\"_id\": 1}")};
    bson_t payload = BSON_INITIALIZER;
    journal_write(wal, unit, 0, NS, "{\"_id\": 1}", "", "{\"_id\": 1, \"a\": 1}", NULL);
    record_put_commit(&payload, &known, 1, (struct slice){0});
    journal_append(wal, unit, WAL_KIND_COMMIT, &payload);
    assert_int_equal(unit_history_load(wal, unit, &history, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.message, "two different after-images"));
    bson_destroy(&payload);
    wal_close(wal, true);
    directory_remove(directory);
}

static int run_recovery(const char *directory, const char *uri)
{
    struct recovery_report report;
    struct error error = {0};
    if (upstream_open(uri, 10000, &upstream, &error) == STATUS_OK &&
        recover(directory, false, &report, &error) == STATUS_OK) {
        upstream_close(upstream);
        return 0;
    }
    fprintf(stderr, "recovery: %s\n", error.message);
    return 1;
}

int main(int argument_count, char **arguments)
{
    if (argument_count == 3) {
        return run_recovery(arguments[1], arguments[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_units_end_and_conflicts_are_parked_once),
        cmocka_unit_test(a_killed_recovery_is_run_again),
        cmocka_unit_test(a_damaged_unit_stops_everything),
        cmocka_unit_test(a_fence_waits_as_long_as_it_says),
        cmocka_unit_test(histories_that_contradict_themselves_are_corrupt),
        cmocka_unit_test(images_are_read_where_they_are),
        cmocka_unit_test(an_abort_may_tell_what_was_refused),
        cmocka_unit_test(two_different_after_images_are_corrupt),
    };
    return cmocka_run_group_tests(tests, server_fixture_start, server_fixture_stop);
}
