/*
 * A tail that an owner left behind, or is at work on, and those who look at the journal without
 * being its owner: verification, the check before opening, the compacting copy, the copy of a
 * backup. What is only in the tail counts for all of them; a tail that is damaged, missing, or of
 * another moment is told, and nothing is changed.
 */

#include "wal_tail_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "wal/store.h"

#define PAGE FORMAT_FRAME_ALIGNMENT

/* One damage, which says `what`; opening to write says it too, and changes nothing. */
static void assert_told(const struct fixture *fixture, const char *what)
{
    static uint8_t before[1 << 20];
    static uint8_t after[1 << 20];
    struct error error;
    struct wal *wal = NULL;
    struct wal_verification found = fixture_verify(fixture);
    assert_int_equal(found.damage_count, 1);
    assert_non_null(strstr(found.damage[0].message, what));
    assert_int_equal(found.damage[0].offset, WAL_NO_OFFSET);
    size_t size = fixture_read(fixture, "data.mdb", before, sizeof(before));
    assert_int_equal(left_open(fixture->directory, false, &wal, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.message, what));
    assert_non_null(strstr(error.message, "docs/OPERATIONS.md"));
    assert_int_equal(fixture_read(fixture, "data.mdb", after, sizeof(after)), size);
    assert_memory_equal(before, after, size);
}

/* ------------------------------------------------------------------ verification */

static void test_what_is_only_in_the_tail_is_counted(void **state)
{
    left_make_some(*state);
    struct wal_verification found = fixture_verify(*state);
    assert_int_equal(found.damage_count, 0);
    assert_int_equal(found.records_checked, LEFT_LAST_LSN);
    assert_int_equal(found.units_checked, 3);
    left_assert_some(((struct fixture *)*state)->directory, true);
    left_assert_some(((struct fixture *)*state)->directory, false);
    found = fixture_verify(*state); /* and once it is in the tables, not twice */
    assert_int_equal(found.damage_count, 0);
    assert_int_equal(found.records_checked, LEFT_LAST_LSN);
    assert_int_equal(found.units_checked, 3);
}

static void test_a_frame_damaged_before_whole_ones_is_told(void **state)
{
    for (size_t frame = 0; frame + 1 < LEFT_SOME; frame++) {
        struct fixture *fixture = NULL;
        void *other = NULL;
        fixture_setup(&other);
        fixture = other;
        left_make_some(fixture);
        left_spoil(fixture, (off_t)(frame * PAGE + 60));
        char what[80];
        snprintf(what, sizeof(what), "tail.wal is damaged at offset %zu: at %zu", frame * PAGE,
                 (frame + 1) * PAGE);
        assert_told(fixture, what);
        fixture_teardown(&other);
    }
    (void)state;
}

/* What is written last may have been cut by a power cut: nobody can tell that from damage. */
static void test_the_last_frame_damaged_is_as_if_never_written(void **state)
{
    const struct fixture *fixture = *state;
    left_make_some(fixture);
    left_spoil(fixture, (off_t)(LEFT_SOME - 1) * PAGE + 60);
    struct wal_verification found = fixture_verify(fixture);
    assert_int_equal(found.damage_count, 0);
    assert_int_equal(found.records_checked, LEFT_LAST_LSN - 1);
    struct wal *wal = fixture_open(fixture);
    struct wal_reader *reader = fixture_reader(wal);
    assert_int_equal(left_state(reader, 1), WAL_UNIT_COMMITTED);
    assert_int_equal(left_state(reader, 3), WAL_UNIT_OPEN);
    wal_reader_end(reader);
    wal_close(wal, true);
    fixture_assert_undamaged(fixture);
}

static void test_a_missing_tail_is_told(void **state)
{
    char path[300];
    left_make_some(*state);
    fixture_path(*state, FORMAT_TAIL_FILE, path, sizeof(path));
    assert_int_equal(unlink(path), 0);
    assert_told(*state, "is not beside data.mdb");
}

static void test_a_tail_without_tables_is_told(void **state)
{
    char path[300];
    struct wal *wal = NULL;
    struct error error = {0};
    struct fixture *fixture = *state;
    left_make_some(fixture);
    fixture_path(fixture, "data.mdb", path, sizeof(path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(left_open(fixture->directory, false, &wal, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.message, "data.mdb is missing"));
}

/* Of before the first of the records that the tail continues. */
static void test_tables_of_an_older_moment_are_told(void **state)
{
    static uint8_t older[1 << 20];
    struct fixture *fixture = *state;
    struct wal *wal = fixture_open(fixture);
    wal_close(wal, true);
    size_t size = fixture_read(fixture, "data.mdb", older, sizeof(older));
    left_make_some(fixture);
    fixture_write(fixture, "data.mdb", older, size);
    assert_told(fixture, "tail.wal begins with record 3, but data.mdb ends with 0: they are not of "
                         "the same moment");
    struct error error;
    assert_int_equal(left_open(fixture->directory, true, &wal, &error), STATUS_CORRUPT);
}

/* A data.mdb that was put aside after a clean close, and is put back: the tail continues it. It is
   as complete as it was, but not as one that was closed: recovery has to look at what is open. */
static void test_what_the_tail_continues_was_not_closed(void **state)
{
    static uint8_t clean[1 << 20];
    struct fixture *fixture = *state;
    struct wal *wal = fixture_open(fixture);
    assert_int_equal(wal_unit_next(wal), 1);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 1, "", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_WRITE, 1, "zero", NULL), STATUS_OK);
    wal_close(wal, true);
    size_t size = fixture_read(fixture, "data.mdb", clean, sizeof(clean));
    left_tail_make(fixture, left_some, LEFT_SOME);
    fixture_write(fixture, "data.mdb", clean, size);
    if (getenv("HOLDFAST_TEST_KEY_FILE") != NULL) {
        return; /* see below */
    }
    struct wal_verification found = fixture_verify(fixture);
    assert_int_equal(found.damage_count, 0);
    assert_int_equal(found.records_checked, LEFT_LAST_LSN);
    struct error error;
    assert_status(left_open(fixture->directory, true, &wal, &error), STATUS_OK, &error);
    assert_false(wal_was_clean(wal));
    wal_close(wal, false);
    wal = fixture_open(fixture);
    assert_false(wal_was_clean(wal));
    wal_close(wal, false);
    left_assert_some(fixture->directory, false);
}

/* The same, encrypted: the data key of the tail's records is in the data.mdb that was put away. */
static void test_a_tail_without_its_data_key_is_told(void **state)
{
    static uint8_t clean[1 << 20];
    struct fixture *fixture = *state;
    char path[300];
    const char *given = getenv("HOLDFAST_TEST_KEY_FILE");
    char *before = given == NULL ? NULL : strdup(given);
    static const char key[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n";
    fixture_write(fixture, "key", (const uint8_t *)key, sizeof(key) - 1);
    fixture_path(fixture, "key", path, sizeof(path));
    assert_int_equal(chmod(path, 0600), 0);
    setenv("HOLDFAST_TEST_KEY_FILE", path, 1);
    static const struct left_group group = {WAL_KIND_WRITE, 1, "one", NULL};
    struct wal *wal = fixture_open(fixture);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, wal_unit_next(wal), "", NULL), STATUS_OK);
    wal_close(wal, true);
    size_t size = fixture_read(fixture, "data.mdb", clean, sizeof(clean));
    left_tail_make(fixture, &group, 1);
    fixture_assert_undamaged(fixture);
    fixture_write(fixture, "data.mdb", clean, size);
    assert_told(fixture, "does not have the data key of its record in tail.wal");
    struct wal_salvage done;
    struct error error;
    fixture_path(fixture, "salvaged", path, sizeof(path));
    const struct wal_salvage_options options = {.directory = fixture->directory, .target = path};
    assert_status(wal_salvage_run(&options, &done, &error), STATUS_OK, &error);
    assert_true(done.end_lost);
    assert_int_equal(done.damage_count, 1);
    assert_int_equal(done.units_lost, 1);
    if (before == NULL) {
        unsetenv("HOLDFAST_TEST_KEY_FILE");
    } else {
        setenv("HOLDFAST_TEST_KEY_FILE", before, 1);
    }
    free(before);
}

/* A newer data.mdb has everything that an older tail has; another journal's tail says nothing. */
static void test_a_tail_of_no_matter_is_passed_over(void **state)
{
    static uint8_t older[FORMAT_TAIL_BYTES];
    struct fixture *fixture = *state;
    left_make_some(fixture);
    size_t size = fixture_read(fixture, FORMAT_TAIL_FILE, older, sizeof(older));
    struct wal *wal = fixture_open(fixture);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, 2, "", NULL), STATUS_OK);
    wal_close(wal, true);
    fixture_write(fixture, FORMAT_TAIL_FILE, older, size);
    struct wal_verification found = fixture_verify(fixture);
    assert_int_equal(found.damage_count, 0);
    assert_int_equal(found.records_checked, LEFT_LAST_LSN + 1);
    void *other = NULL;
    fixture_setup(&other);
    wal = fixture_open(other);
    wal_close(wal, true);
    fixture_write(other, FORMAT_TAIL_FILE, older, size);
    fixture_assert_undamaged(other);
    wal = fixture_open(other);
    assert_int_equal(wal_last_lsn(wal), 0);
    wal_close(wal, true);
    fixture_teardown(&other);
}

/* Two copies of a journal that went on by themselves have the same id, and the same LSNs. */
static void test_a_tail_that_does_not_follow_is_told(void **state)
{
    static const struct left_group commit = {WAL_KIND_COMMIT, 1, NULL, NULL};
    static uint8_t tables[1 << 20];
    static uint8_t tail[FORMAT_TAIL_BYTES];
    struct fixture *fixture = *state;
    struct wal *wal = fixture_open(fixture);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, wal_unit_next(wal), "", NULL), STATUS_OK);
    wal_close(wal, true);
    size_t tables_size = fixture_read(fixture, "data.mdb", tables, sizeof(tables));
    wal = fixture_open(fixture);
    assert_int_equal(fixture_append(wal, WAL_KIND_WRITE, 1, "", NULL), STATUS_OK);
    wal_close(wal, true);
    left_tail_make(fixture, &commit, 1); /* LSN 3, behind 2 */
    size_t tail_size = fixture_read(fixture, FORMAT_TAIL_FILE, tail, sizeof(tail));
    fixture_write(fixture, "data.mdb", tables, tables_size);
    fixture_write(fixture, FORMAT_TAIL_FILE, tail, 0);
    wal = fixture_open(fixture);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, wal_unit_next(wal), "", NULL), STATUS_OK);
    wal_close(wal, true); /* here LSN 2 is another unit's */
    fixture_write(fixture, FORMAT_TAIL_FILE, tail, tail_size);
    assert_told(fixture, "unit 1: its record in tail.wal does not follow what data.mdb has of it");
}

/* ------------------------------------------------------------------ beside a living owner */

static _Atomic bool writer_stops;
static _Atomic bool writer_failed;
static _Atomic uint64_t acknowledged;

/* Now and then a batch that goes to the tables at once, so that the tail begins anew often. */
static void *keep_writing(void *context)
{
    struct wal *wal = context;
    static const uint8_t image[90000] = {3};
    while (!atomic_load(&writer_stops)) {
        uint64_t unit = wal_unit_next(wal);
        size_t size = unit % 16 == 0 ? sizeof(image) : unit % 3000;
        struct wal_append commit = {.kind = WAL_KIND_COMMIT, .unit = unit};
        struct wal_append record = {
            .kind = WAL_KIND_WRITE, .unit = unit, .payload = slice_make(image, size)};
        struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = unit, .next = &record};
        enum status status = wal_append_wait(wal, &begin, NULL);
        status = status == STATUS_OK ? wal_append_wait(wal, &commit, NULL) : status;
        if (status == STATUS_OK) {
            atomic_store(&acknowledged, commit.lsn);
        }
        if (status == STATUS_FULL || unit % 256 == 0) {
            const struct wal_prune_options all = {.ended_before_ms = UINT64_MAX,
                                                  .settled_lsn = UINT64_MAX};
            status = wal_prune(wal, &all, NULL, NULL);
        }
        if (status != STATUS_OK) {
            atomic_store(&writer_failed, true);
            return NULL;
        }
    }
    return NULL;
}

static void test_an_owner_at_work_is_no_damage(void **state)
{
    pthread_t thread;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* forks beside a busy writer, which a sanitizer may have in the middle of malloc() */
#endif
    struct wal *wal = fixture_open(*state);
    atomic_store(&writer_stops, false);
    atomic_store(&acknowledged, 0);
    assert_int_equal(pthread_create(&thread, NULL, keep_writing, wal), 0);
    for (int i = 0; i < 60; i++) {
        fixture_assert_undamaged(*state);
    }
    atomic_store(&writer_stops, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(atomic_load(&writer_failed));
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

/* What a reader sees for whom an owner began anew meanwhile, made by hand: it is too rare. */
static void test_a_torn_reading_is_no_damage(void **state)
{
    static uint8_t image[FORMAT_TAIL_BYTES];
    uint8_t id[WAL_JOURNAL_ID_BYTES];
    const struct fixture *fixture = *state;
    const struct store_options options = {.directory = fixture->directory, .read_only = true};
    struct error error;
    left_make_some(fixture);
    size_t size = fixture_read(fixture, FORMAT_TAIL_FILE, image, sizeof(image));
    struct wal *wal = NULL;
    assert_status(left_open(fixture->directory, true, &wal, &error), STATUS_OK, &error);
    memcpy(id, wal_journal_id(wal), sizeof(id));
    wal_close(wal, false);
    memset(image + PAGE, 0, PAGE);
    /* The file is whole; then it is not; then the tables have caught up. */
    for (int step = 0; step < 3; step++) {
        struct store *store = NULL;
        enum store_content content = STORE_NOTHING;
        struct tail_contents contents = {0};
        if (step == 1) {
            left_spoil(fixture, PAGE + 60);
        } else if (step == 2) {
            left_spoil(fixture, PAGE + 60);
            wal_close(fixture_open(fixture), true);
        }
        assert_status(store_open(&options, &store, &content, &error), STATUS_OK, &error);
        assert_status(tail_look(slice_make(image, size), id, 2, &contents, &error), STATUS_OK,
                      &error);
        assert_int_equal(contents.end, PAGE);
        assert_int_equal(contents.stray, 2 * PAGE);
        assert_status(tail_confirm(fixture->directory, store, id, &contents, &error), STATUS_OK,
                      &error);
        assert_int_equal(contents.stray, step == 1 ? 2 * PAGE : FORMAT_TAIL_BYTES);
        tail_contents_free(&contents);
        store_close(store);
    }
}

/* ------------------------------------------------------------------ copies */

static enum status copy_to(const char *directory, const char *target, struct error *ret_error)
{
    struct wal *wal = NULL;
    enum status status = left_open(directory, true, &wal, ret_error);
    if (status == STATUS_OK) {
        status = wal_copy(wal, target, ret_error);
    }
    wal_close(wal, false);
    return status;
}

static void assert_sound(const char *directory, uint64_t records)
{
    struct wal_verification found = {0};
    struct error error;
    assert_status(wal_verify(directory, &found, &error), STATUS_OK, &error);
    if (found.damage_count != 0) {
        fail_msg("damage: %s", found.damage[0].message);
    }
    assert_true(records == 0 || found.records_checked == records);
}

static void test_the_copy_of_one_that_was_killed_has_the_tail(void **state)
{
    static const struct left_group commit = {WAL_KIND_COMMIT, 2, NULL, NULL};
    static uint8_t other[FORMAT_TAIL_BYTES];
    static uint8_t tail[FORMAT_TAIL_BYTES];
    static uint8_t data[1 << 20];
    const struct fixture *fixture = *state;
    struct error error;
    char target[300];
    left_make_some(fixture);
    /* In the target's place lies the tail of a copy that was cut short, of a later moment. */
    size_t tail_size = fixture_read(fixture, FORMAT_TAIL_FILE, tail, sizeof(tail));
    size_t data_size = fixture_read(fixture, "data.mdb", data, sizeof(data));
    left_tail_make(fixture, &commit, 1);
    size_t size = fixture_read(fixture, FORMAT_TAIL_FILE, other, sizeof(other));
    fixture_write(fixture, FORMAT_TAIL_FILE, tail, tail_size);
    fixture_write(fixture, "data.mdb", data, data_size);
    memcpy(other + 20 * PAGE, other, PAGE);
    fixture_path(fixture, "copy", target, sizeof(target));
    assert_int_equal(mkdir(target, 0700), 0);
    fixture_write(fixture, "copy/" FORMAT_TAIL_FILE, other, size);
    assert_status(copy_to(fixture->directory, target, &error), STATUS_OK, &error);
    assert_sound(target, LEFT_LAST_LSN);
    left_assert_some(target, true);
    left_assert_some(target, false);
    assert_sound(fixture->directory, LEFT_LAST_LSN); /* as it was */
    assert_int_equal(copy_to(fixture->directory, target, &error), STATUS_EXISTS);
}

static void test_a_damaged_tail_is_not_copied(void **state)
{
    const struct fixture *fixture = *state;
    struct error error;
    char target[300];
    char path[300];
    left_make_some(fixture);
    left_spoil(fixture, PAGE + 60);
    fixture_path(fixture, "copy", target, sizeof(target));
    assert_int_equal(copy_to(fixture->directory, target, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.message, "tail.wal is damaged at offset 4096"));
    fixture_path(fixture, "copy/data.mdb", path, sizeof(path));
    assert_int_not_equal(access(path, F_OK), 0);
    fixture_path(fixture, "copy/" FORMAT_TAIL_FILE, path, sizeof(path));
    assert_int_not_equal(access(path, F_OK), 0);
}

/* Another process copies. What was acknowledged before it began is in the copy. */
static void test_the_copy_of_a_living_owners_has_what_was_acknowledged(void **state)
{
    const struct fixture *fixture = *state;
    pthread_t thread;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* forks beside a busy writer, which a sanitizer may have in the middle of malloc() */
#endif
    struct wal *wal = fixture_open(fixture);
    atomic_store(&writer_stops, false);
    atomic_store(&acknowledged, 0);
    assert_int_equal(pthread_create(&thread, NULL, keep_writing, wal), 0);
    for (int i = 0; i < 20; i++) {
        char name[32];
        char target[300];
        int ended = 0;
        struct error error;
        struct wal *copied = NULL;
        snprintf(name, sizeof(name), "copy-%d", i);
        fixture_path(fixture, name, target, sizeof(target));
        uint64_t before = atomic_load(&acknowledged);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            _exit(copy_to(fixture->directory, target, NULL) == STATUS_OK ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &ended, 0), child);
        assert_true(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
        assert_sound(target, 0);
        assert_status(left_open(target, false, &copied, &error), STATUS_OK, &error);
        assert_true(wal_last_lsn(copied) >= before);
        wal_close(copied, true);
        assert_sound(target, 0);
        nftw(target, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    atomic_store(&writer_stops, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(atomic_load(&writer_failed));
    wal_close(wal, true);
}

/* ------------------------------------------------------------------ the compacting copy */

#define OWNER "a test that compacts"

static void test_compacting_puts_the_tail_into_the_tables(void **state)
{
    const struct fixture *fixture = *state;
    char path[300];
    struct error error;
    uint64_t before = 0;
    uint64_t after = 0;
    static uint8_t tail[FORMAT_TAIL_BYTES];
    static uint8_t now[FORMAT_TAIL_BYTES + 1];
    static const uint8_t zeros[FORMAT_TAIL_BYTES];
    left_make_some(fixture);
    size_t size = fixture_read(fixture, FORMAT_TAIL_FILE, tail, sizeof(tail));
    assert_status(wal_compact(fixture->directory, OWNER, &before, &after, &error), STATUS_OK,
                  &error);
    assert_sound(fixture->directory, LEFT_LAST_LSN);
    /* All of it is in the tables; and the tail was cleared, but may as well be as it was: so it is
       between the two, if the compaction is killed there. */
    assert_int_equal(fixture_read(fixture, FORMAT_TAIL_FILE, now, sizeof(now)), sizeof(zeros));
    assert_memory_equal(now, zeros, sizeof(zeros));
    fixture_write(fixture, FORMAT_TAIL_FILE, tail, size);
    assert_sound(fixture->directory, LEFT_LAST_LSN);
    fixture_path(fixture, "journal.new", path, sizeof(path));
    assert_int_not_equal(access(path, F_OK), 0);
    struct wal *wal = fixture_open(fixture);
    assert_false(wal_was_clean(wal)); /* unit 2 is open */
    assert_int_equal(wal_last_lsn(wal), LEFT_LAST_LSN);
    wal_close(wal, false);
    left_assert_some(fixture->directory, false);
}

static void test_a_damaged_tail_is_not_compacted(void **state)
{
    struct error error;
    uint64_t before = 0;
    uint64_t after = 0;
    const struct fixture *fixture = *state;
    left_make_some(fixture);
    left_spoil(fixture, 60);
    assert_int_equal(wal_compact(fixture->directory, OWNER, &before, &after, &error),
                     STATUS_CORRUPT);
    assert_non_null(strstr(error.message, "tail.wal is damaged at offset 0"));
    left_spoil(fixture, 60);
    left_assert_some(fixture->directory, true);
}

#ifdef HOLDFAST_CRASH_POINTS
static void test_compacting_killed_at_each_step_loses_nothing(void **state)
{
    static const char *const steps[] = {"compact_copied", "compact_checked", "compact_renamed"};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        void *own = NULL;
        int ended = 0;
        fixture_setup(&own);
        const struct fixture *fixture = own;
        left_make_some(fixture);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            setenv("HOLDFAST_CRASH_AT", steps[i], 1);
            execl("/proc/self/exe", "test_wal_left_tail", fixture->directory, (char *)NULL);
            _exit(127);
        }
        assert_int_equal(waitpid(child, &ended, 0), child);
        assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
        assert_sound(fixture->directory, LEFT_LAST_LSN);
        left_assert_some(fixture->directory, true);
        left_assert_some(fixture->directory, false);
        fixture_teardown(&own);
    }
    (void)state;
}
#endif

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
        TEST(test_what_is_only_in_the_tail_is_counted),
        TEST(test_a_frame_damaged_before_whole_ones_is_told),
        TEST(test_the_last_frame_damaged_is_as_if_never_written),
        TEST(test_a_tail_without_tables_is_told),
        TEST(test_a_missing_tail_is_told),
        TEST(test_tables_of_an_older_moment_are_told),
        TEST(test_what_the_tail_continues_was_not_closed),
        TEST(test_a_tail_without_its_data_key_is_told),
        TEST(test_a_tail_of_no_matter_is_passed_over),
        TEST(test_a_tail_that_does_not_follow_is_told),
        TEST(test_an_owner_at_work_is_no_damage),
        TEST(test_a_torn_reading_is_no_damage),
        TEST(test_the_copy_of_one_that_was_killed_has_the_tail),
        TEST(test_a_damaged_tail_is_not_copied),
        TEST(test_the_copy_of_a_living_owners_has_what_was_acknowledged),
        TEST(test_compacting_puts_the_tail_into_the_tables),
        TEST(test_a_damaged_tail_is_not_compacted),
#ifdef HOLDFAST_CRASH_POINTS
        TEST(test_compacting_killed_at_each_step_loses_nothing),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
