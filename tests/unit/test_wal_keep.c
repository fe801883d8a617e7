/*
 * Keeping a journal: what retention spares, counts, and may be stopped at; the compacting copy, its
 * locks, and what it is called off by.
 */

#include "wal_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#define OWNER "a test that compacts"

static struct wal_prune_options all_of_them(void)
{
    return (struct wal_prune_options){.ended_before_ms = UINT64_MAX, .settled_lsn = UINT64_MAX};
}

/* Units of BEGIN and COMMIT, each with a payload of `bytes`: LSN 2n - 1 and 2n. */
static void append_units(struct wal *wal, uint64_t count, size_t bytes)
{
    char *payload = calloc(1, bytes + 1);
    assert_non_null(payload);
    memset(payload, 'x', bytes);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t unit = wal_unit_next(wal);
        assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, unit, payload, NULL), STATUS_OK);
        assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, unit, "", NULL), STATUS_OK);
    }
    free(payload);
}

static void test_what_is_not_settled_stays(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct error error;
    struct wal_unit unit;
    struct wal_prune_options options = all_of_them();
    uint64_t units = 0;
    append_units(wal, 3, 10);
    options.settled_lsn = 3; /* the second unit's BEGIN: its COMMIT, 4, is not */
    assert_status(wal_prune_count(wal, &options, UINT64_MAX, &units, &error), STATUS_OK, &error);
    assert_int_equal(units, 1);
    assert_status(wal_prune(wal, &options, &units, &error), STATUS_OK, &error);
    assert_int_equal(units, 1);
    assert_int_equal(fixture_statistics(wal).pruned_lsn, 2);
    struct wal_reader *reader = fixture_reader(wal);
    assert_int_equal(wal_read_unit(reader, 1, &unit, &error), STATUS_NOT_FOUND);
    assert_status(wal_read_unit(reader, 2, &unit, &error), STATUS_OK, &error);
    wal_reader_end(reader);
    options.settled_lsn = 4;
    assert_status(wal_prune(wal, &options, &units, &error), STATUS_OK, &error);
    assert_int_equal(units, 1);
    assert_int_equal(fixture_statistics(wal).first_lsn, 5);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

static void test_counting_stops_at_its_limit_and_changes_nothing(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct error error;
    struct wal_prune_options options = all_of_them();
    uint64_t units = 0;
    append_units(wal, 5, 10);
    wal_close(wal, true);
    struct wal_options read = fixture_options(*state);
    read.read_only = true;
    assert_status(wal_open(&read, &wal, &error), STATUS_OK, &error);
    assert_status(wal_prune_count(wal, &options, 2, &units, &error), STATUS_OK, &error);
    assert_int_equal(units, 2);
    assert_status(wal_prune_count(wal, &options, UINT64_MAX, &units, &error), STATUS_OK, &error);
    assert_int_equal(units, 5);
    assert_int_equal(wal_prune(wal, &options, &units, &error), STATUS_INVALID);
    wal_close(wal, false);
}

static bool count_calls(void *context)
{
    unsigned *calls = context;
    return ++*calls < 2;
}

/* A backlog of more than one transaction's share: the caller ends it behind the second. */
static void test_pruning_may_be_ended_between_two_transactions(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct error error;
    unsigned calls = 0;
    uint64_t units = 0;
    uint64_t left = 0;
    struct wal_prune_options options = all_of_them();
    append_units(wal, 1000, 10); /* 2,000 records, 512 at a time */
    options.go_on = count_calls;
    options.context = &calls;
    assert_status(wal_prune(wal, &options, &units, &error), STATUS_OK, &error);
    assert_int_equal(calls, 2);
    assert_int_equal(units, 512);
    assert_status(wal_prune_count(wal, &options, UINT64_MAX, &left, &error), STATUS_OK, &error);
    assert_int_equal(left, 1000 - units);
    options.go_on = NULL;
    assert_status(wal_prune(wal, &options, &units, &error), STATUS_OK, &error);
    assert_int_equal(units, left);
    assert_int_equal(fixture_statistics(wal).records, 0);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

/* ------------------------------------------------------------------ the compacting copy */

static uint64_t file_bytes(const struct fixture *fixture)
{
    char path[300];
    struct stat file;
    fixture_path(fixture, "data.mdb", path, sizeof(path));
    assert_int_equal(stat(path, &file), 0);
    return (uint64_t)file.st_size;
}

/* Unit 1 to 40 of 64 KiB, of which retention then takes all, and one that stays. */
static void make_holey(const struct fixture *fixture)
{
    struct wal *wal = fixture_open(fixture);
    struct error error;
    struct wal_prune_options options = all_of_them();
    append_units(wal, 40, 64 * 1024);
    assert_status(wal_prune(wal, &options, NULL, &error), STATUS_OK, &error);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 41, "kept", NULL), STATUS_OK);
    assert_status(wal_property_set(wal, "name", slice_text("value"), &error), STATUS_OK, &error);
    wal_close(wal, true);
}

static void assert_kept(const struct fixture *fixture)
{
    struct wal *wal = fixture_open(fixture);
    struct wal_record record;
    struct error error;
    char value[16];
    size_t size = 0;
    assert_true(wal_was_clean(wal));
    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read(reader, 81, &record, &error), STATUS_OK, &error);
    assert_true(slice_equal(record.payload, slice_text("kept")));
    wal_reader_end(reader);
    assert_status(wal_property_get(wal, "name", value, sizeof(value), &size, &error), STATUS_OK,
                  &error);
    assert_int_equal(size, 5);
    /* Numbers go on where they were. */
    assert_int_equal(wal_unit_next(wal), 42);
    uint64_t lsn = 0;
    assert_int_equal(fixture_append(wal, WAL_KIND_ABORT, 41, "", &lsn), STATUS_OK);
    assert_int_equal(lsn, 82);
    wal_close(wal, true);
    fixture_assert_undamaged(fixture);
}

static void test_the_copy_is_smaller_and_holds_the_same(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    uint64_t before = 0;
    uint64_t after = 0;
    uint8_t id[WAL_JOURNAL_ID_BYTES];
    make_holey(fixture);
    struct wal *wal = fixture_open(fixture);
    memcpy(id, wal_journal_id(wal), sizeof(id));
    wal_close(wal, true);
    uint64_t size = file_bytes(fixture);
    assert_status(wal_compact(fixture->directory, OWNER, &before, &after, &error), STATUS_OK,
                  &error);
    assert_int_equal(before, size);
    assert_int_equal(after, file_bytes(fixture));
    assert_true(after < (128u << 10) && before > (1u << 20));
    wal = fixture_open(fixture);
    assert_memory_equal(wal_journal_id(wal), id, sizeof(id));
    wal_close(wal, true);
    assert_kept(fixture);
}

static void test_nobody_may_have_it_open(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    uint64_t before = 0;
    uint64_t after = 0;
    make_holey(fixture);
    struct wal *wal = fixture_open(fixture);
    assert_int_equal(wal_compact(fixture->directory, OWNER, &before, &after, &error), STATUS_OWNED);
    assert_non_null(strstr(error.message, "a test"));
    wal_close(wal, true);
    struct wal_options read = fixture_options(fixture);
    read.read_only = true;
    assert_status(wal_open(&read, &wal, &error), STATUS_OK, &error);
    assert_int_equal(wal_compact(fixture->directory, OWNER, &before, &after, &error), STATUS_OWNED);
    assert_non_null(strstr(error.message, "reads the journal"));
    wal_close(wal, false);
    assert_status(wal_compact(fixture->directory, OWNER, &before, &after, &error), STATUS_OK,
                  &error);
    assert_kept(fixture);
}

static void test_a_damaged_journal_stays_as_it_is(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    uint64_t before = 0;
    uint64_t after = 0;
    char path[300];
    make_holey(fixture);
    fixture_path(fixture, "data.mdb", path, sizeof(path));
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    uint64_t size = file_bytes(fixture);
    char *bytes = malloc(size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, size, file), size);
    for (size_t i = 0; i + 4 < size; i++) {
        if (memcmp(bytes + i, "kept", 4) == 0) {
            assert_int_equal(fseek(file, (long)i, SEEK_SET), 0);
            assert_int_equal(fputc('K', file), 'K');
        }
    }
    fclose(file);
    assert_int_equal(wal_compact(fixture->directory, OWNER, &before, &after, &error),
                     STATUS_CORRUPT);
    assert_int_equal(file_bytes(fixture), size);
    fixture_path(fixture, "journal.new", path, sizeof(path));
    assert_int_not_equal(access(path, F_OK), 0);
    free(bytes);
}

#ifdef HOLDFAST_CRASH_POINTS
static void test_killed_at_each_step_it_leaves_the_journal_whole(void **state)
{
    static const char *const steps[] = {"compact_copied", "compact_checked", "compact_renamed"};
    struct fixture *fixture = *state;
    struct error error;
    uint64_t before = 0;
    uint64_t after = 0;
    int ended = 0;
    make_holey(fixture);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            setenv("HOLDFAST_CRASH_AT", steps[i], 1);
            execl("/proc/self/exe", "test_wal_keep", fixture->directory, (char *)NULL);
            _exit(127);
        }
        assert_int_equal(waitpid(child, &ended, 0), child);
        assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
        fixture_assert_undamaged(fixture);
    }
    assert_true(file_bytes(fixture) < (128u << 10)); /* the last one was in place */
    assert_status(wal_compact(fixture->directory, OWNER, &before, &after, &error), STATUS_OK,
                  &error);
    assert_kept(fixture);
}
#endif

static void test_there_must_be_a_journal(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    uint64_t before = 0;
    uint64_t after = 0;
    char path[300];
    assert_int_equal(wal_compact(fixture->directory, OWNER, &before, &after, &error),
                     STATUS_NOT_FOUND);
    fixture_path(fixture, "owner.lock", path, sizeof(path));
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(wal_compact("/nowhere/at/all", OWNER, &before, &after, &error),
                     STATUS_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* With a directory, this program is the compaction that is killed. */
int main(int count, char **arguments)
{
    uint64_t before = 0;
    uint64_t after = 0;
    if (count == 2) {
        return wal_compact(arguments[1], OWNER, &before, &after, NULL) == STATUS_OK ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_not_settled_stays),
        TEST(test_counting_stops_at_its_limit_and_changes_nothing),
        TEST(test_pruning_may_be_ended_between_two_transactions),
        TEST(test_the_copy_is_smaller_and_holds_the_same),
        TEST(test_nobody_may_have_it_open),
        TEST(test_a_damaged_journal_stays_as_it_is),
#ifdef HOLDFAST_CRASH_POINTS
        TEST(test_killed_at_each_step_it_leaves_the_journal_whole),
#endif
        TEST(test_there_must_be_a_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
