/*
 * Salvage of journals whose newest groups are in the tail alone: what is whole of it counts, what
 * ended in it does not come out open, and what it cannot prove is lost.
 */

#include "wal_tail_fixture.h"

#include "wal/rows.h"

#define PAGE FORMAT_FRAME_ALIGNMENT

struct told {
    uint64_t units[8];
    size_t count;
};

static void on_lost(void *context, const struct wal_unit *unit, const char *why)
{
    struct told *told = context;
    assert_true(told->count < 8);
    assert_true(why[0] != '\0');
    told->units[told->count++] = unit->unit;
}

static bool is_told(const struct told *told, uint64_t unit)
{
    for (size_t i = 0; i < told->count; i++) {
        if (told->units[i] == unit) {
            return true;
        }
    }
    return false;
}

static void target_path(const struct fixture *fixture, char path[300])
{
    fixture_path(fixture, "salvaged", path, 300);
}

/* The new journal is sound; *ret_told: what it does not have. */
static struct wal_salvage salvage(const struct fixture *fixture, struct told *ret_told)
{
    char target[300];
    struct error error;
    struct wal_salvage done = {0};
    struct wal_verification found = {0};
    *ret_told = (struct told){0};
    target_path(fixture, target);
    struct wal_salvage_options options = {
        .directory = fixture->directory,
        .target = target,
        .lost_unit = on_lost,
        .context = ret_told,
    };
    assert_status(wal_salvage_run(&options, &done, &error), STATUS_OK, &error);
    assert_int_equal(done.units_lost, ret_told->count);
    assert_status(wal_verify(target, &found, &error), STATUS_OK, &error);
    assert_int_equal(found.damage_count, 0);
    assert_int_equal(found.records_checked, done.records_kept);
    assert_int_equal(found.units_checked, done.units_kept);
    return done;
}

static uint32_t version_of(const char *directory)
{
    const struct store_options options = {.directory = directory, .read_only = true};
    struct store *store = NULL;
    struct store_transaction *transaction = NULL;
    enum store_content content = STORE_NOTHING;
    uint32_t version = 0;
    struct error error;
    assert_status(store_open(&options, &store, &content, &error), STATUS_OK, &error);
    assert_status(store_begin(store, false, &transaction, &error), STATUS_OK, &error);
    assert_status(rows_version(transaction, &version, &error), STATUS_OK, &error);
    store_abort(transaction);
    store_close(store);
    return version;
}

/* -1: it is not there. */
static int state_in_target(const struct fixture *fixture, uint64_t unit)
{
    char target[300];
    struct wal *wal = NULL;
    struct wal_unit row = {0};
    struct error error;
    target_path(fixture, target);
    assert_status(left_open(target, true, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    enum status status = wal_read_unit(reader, unit, &row, &error);
    wal_reader_end(reader);
    wal_close(wal, false);
    return status == STATUS_OK ? (int)row.state : -1;
}

static void test_sound_tables_and_what_the_tail_has(void **state)
{
    char target[300];
    struct told told;
    struct error error;
    struct wal *wal = NULL;
    left_make_some(*state);
    struct wal_salvage done = salvage(*state, &told);
    assert_int_equal(done.damage_count, 0);
    assert_false(done.end_lost);
    assert_int_equal(done.units_kept, 3);
    assert_int_equal(done.units_lost, 0);
    assert_int_equal(done.records_kept, LEFT_LAST_LSN);
    target_path(*state, target);
    assert_int_equal(version_of(target) < FORMAT_VERSION_TAIL, true);
    left_assert_some(target, true);
    assert_status(left_open(target, false, &wal, &error), STATUS_OK, &error);
    assert_true(wal_last_lsn(wal) > LEFT_LAST_LSN);
    wal_close(wal, true);
    left_assert_some(target, true);
}

static void test_frames_behind_damage_make_their_units_lost(void **state)
{
    for (size_t frame = 0; frame + 1 < LEFT_SOME; frame++) {
        void *own = NULL;
        struct told told;
        fixture_setup(&own);
        left_make_some(own);
        left_spoil(own, (off_t)(frame * PAGE + 60));
        struct wal_salvage done = salvage(own, &told);
        assert_true(done.end_lost);
        assert_int_equal(done.damage_count, 1);
        /* Of unit 1 the commit is the second frame. Nothing that is open stays. */
        assert_int_equal(state_in_target(own, 1), frame >= 2 ? (int)WAL_UNIT_COMMITTED : -1);
        assert_int_equal(is_told(&told, 1), frame < 2);
        assert_int_equal(state_in_target(own, 2), -1);
        assert_true(is_told(&told, 2));
        assert_int_equal(state_in_target(own, 3), -1);
        assert_true(is_told(&told, 3));
        fixture_teardown(&own);
    }
    (void)state;
}

static void test_a_missing_tail_may_have_ended_what_is_open(void **state)
{
    char path[300];
    struct told told;
    left_make_some(*state);
    fixture_path(*state, FORMAT_TAIL_FILE, path, sizeof(path));
    assert_int_equal(unlink(path), 0);
    struct wal_salvage done = salvage(*state, &told);
    assert_true(done.end_lost);
    assert_int_equal(done.units_kept, 0);
    assert_true(is_told(&told, 1));
}

/* Unit 1 goes on in the tail, with nothing before it; 3 is whole there; 2 is open. */
static void test_tables_of_an_older_moment(void **state)
{
    static uint8_t older[1 << 20];
    struct told told;
    wal_close(fixture_open(*state), true);
    size_t size = fixture_read(*state, "data.mdb", older, sizeof(older));
    left_make_some(*state);
    fixture_write(*state, "data.mdb", older, size);
    struct wal_salvage done = salvage(*state, &told);
    assert_true(done.end_lost);
    assert_int_equal(state_in_target(*state, 1), -1);
    assert_int_equal(state_in_target(*state, 2), -1);
    assert_int_equal(state_in_target(*state, 3), WAL_UNIT_COMMITTED);
    assert_true(is_told(&told, 1) && is_told(&told, 2));
    assert_int_equal(done.units_lost, 2);
}

/* Inverts a byte of the newer one of the two meta pages: its magic number. */
static void spoil_newest_meta(const struct fixture *fixture)
{
    static uint8_t data[1 << 20];
    uint64_t numbers[2];
    size_t size = fixture_read(fixture, "data.mdb", data, sizeof(data));
    memcpy(&numbers[0], data + 144, 8);
    memcpy(&numbers[1], data + 4096 + 144, 8);
    data[(numbers[1] > numbers[0] ? 4096 : 0) + 16] ^= 0xFF;
    fixture_write(fixture, "data.mdb", data, size);
}

static void test_a_former_meta_page_is_carried_on(void **state)
{
    struct told told;
    left_make_some(*state);
    spoil_newest_meta(*state);
    struct wal_salvage done = salvage(*state, &told);
    assert_true(done.end_lost);
    assert_int_equal(state_in_target(*state, 1), WAL_UNIT_COMMITTED);
    assert_int_equal(state_in_target(*state, 3), WAL_UNIT_COMMITTED);
    assert_int_equal(state_in_target(*state, 2), -1); /* it may have ended since */
    assert_int_equal(told.count, 1);
    assert_true(is_told(&told, 2));
}

static void spoil_text(const struct fixture *fixture, const char *text)
{
    static uint8_t data[1 << 20];
    unsigned found = 0;
    size_t size = fixture_read(fixture, "data.mdb", data, sizeof(data));
    for (uint8_t *at = data; (at = memmem(at, size - (size_t)(at - data), text, strlen(text)));
         at++) {
        *at ^= 0xFF;
        found++;
    }
    assert_true(found > 0);
    fixture_write(fixture, "data.mdb", data, size);
}

/* All keys were seen, so that the tail is known to be the end. */
static void test_a_damaged_record_takes_its_unit_alone(void **state)
{
    struct told told;
    left_make_some(*state);
    spoil_text(*state, "zero");
    struct wal_salvage done = salvage(*state, &told);
    assert_false(done.end_lost);
    assert_int_equal(told.count, 1);
    assert_true(is_told(&told, 1));
    assert_int_equal(state_in_target(*state, 2), WAL_UNIT_OPEN);
    assert_int_equal(state_in_target(*state, 3), WAL_UNIT_COMMITTED);
    assert_int_equal(done.sessions_lost, 0);
}

/* The tables have it, and retention has removed its units: that is no loss. */
static void test_an_old_tail_brings_nothing_back(void **state)
{
    static uint8_t tail[FORMAT_TAIL_BYTES];
    const struct wal_prune_options all = {.ended_before_ms = UINT64_MAX, .settled_lsn = UINT64_MAX};
    struct told told;
    struct error error;
    left_make_some(*state);
    size_t size = fixture_read(*state, FORMAT_TAIL_FILE, tail, sizeof(tail));
    struct wal *wal = fixture_open(*state);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, 2, "", NULL), STATUS_OK);
    assert_status(wal_prune(wal, &all, NULL, &error), STATUS_OK, &error);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 9, "", NULL), STATUS_OK);
    wal_close(wal, true);
    fixture_write(*state, FORMAT_TAIL_FILE, tail, size);
    struct wal_salvage done = salvage(*state, &told);
    assert_int_equal(done.damage_count, 0);
    assert_false(done.end_lost);
    assert_int_equal(done.units_kept, 1);
    assert_int_equal(done.units_lost, 0);
}

/* An old tail has unit 9 as open; the tables, where it ended, have lost all that tells so. */
static void test_an_old_tail_opens_nothing_again(void **state)
{
    static const struct left_group begin = {WAL_KIND_BEGIN, 9, "here begins nine", "nine"};
    static uint8_t tail[FORMAT_TAIL_BYTES];
    static uint8_t data[1 << 20];
    struct told told;
    left_tail_make(*state, &begin, 1);
    size_t tail_size = fixture_read(*state, FORMAT_TAIL_FILE, tail, sizeof(tail));
    struct wal *wal = fixture_open(*state);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, 9, "here ends nine", NULL), STATUS_OK);
    wal_close(wal, true);
    fixture_write(*state, FORMAT_TAIL_FILE, tail, tail_size);
    size_t size = fixture_read(*state, "data.mdb", data, sizeof(data));
    for (size_t page = 2 * PAGE; page < size; page += PAGE) {
        if (memmem(data + page, PAGE, "here ", 5) != NULL || /* the records, and both rows */
            memmem(data + page, PAGE, "nine", 4) != NULL) {
            memset(data + page, 0, PAGE);
        }
    }
    fixture_write(*state, "data.mdb", data, size);
    struct wal_salvage done = salvage(*state, &told);
    assert_true(done.damage_count > 0);
    assert_int_equal(state_in_target(*state, 9), -1);
    assert_true(is_told(&told, 9));
}

static void test_the_newest_transaction_of_a_session_wins(void **state)
{
    static const struct left_group groups[] = {
        {WAL_KIND_COMMIT, 1, NULL, NULL},   {WAL_KIND_BEGIN, 2, NULL, "s"},
        {WAL_KIND_COMMIT, 2, NULL, NULL},   {WAL_KIND_BEGIN, 3, NULL, "t"},
        {WAL_KIND_COMMITTING, 3, "", NULL},
    };
    char target[300];
    struct told told;
    struct error error;
    struct wal_session session;
    struct wal *wal = fixture_open(*state);
    struct wal_append begin = {
        .kind = WAL_KIND_BEGIN, .unit = 1, .session_key = slice_text("s"), .transaction_number = 1};
    assert_status(wal_append_wait(wal, &begin, &error), STATUS_OK, &error);
    wal_close(wal, true);
    left_tail_make(*state, groups, sizeof(groups) / sizeof(groups[0]));
    struct wal_salvage done = salvage(*state, &told);
    assert_int_equal(done.sessions_lost, 0);
    assert_int_equal(done.units_kept, 3);
    target_path(*state, target);
    assert_int_equal(format_version_committing(version_of(target)), version_of(target));
    assert_status(left_open(target, true, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read_session(reader, slice_text("s"), &session, &error), STATUS_OK, &error);
    assert_int_equal(session.unit, 2);
    assert_int_equal(session.unit_state, WAL_UNIT_COMMITTED);
    assert_status(wal_read_session(reader, slice_text("t"), &session, &error), STATUS_OK, &error);
    assert_int_equal(session.unit_state, WAL_UNIT_COMMITTING);
    wal_reader_end(reader);
    wal_close(wal, false);
}

/* The tables have a newer one of it than the tail. */
static void test_an_older_transaction_of_a_session_loses(void **state)
{
    static const struct left_group groups[] = {{WAL_KIND_BEGIN, 2, NULL, "s"},
                                               {WAL_KIND_COMMIT, 2, NULL, NULL}};
    char target[300];
    struct told told;
    struct error error;
    struct wal_session session;
    struct wal *wal = fixture_open(*state);
    struct wal_append begin = {.kind = WAL_KIND_BEGIN,
                               .unit = 1,
                               .session_key = slice_text("s"),
                               .transaction_number = 10};
    assert_status(wal_append_wait(wal, &begin, &error), STATUS_OK, &error);
    wal_close(wal, true);
    left_tail_make(*state, groups, sizeof(groups) / sizeof(groups[0]));
    (void)salvage(*state, &told);
    target_path(*state, target);
    assert_status(left_open(target, true, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read_session(reader, slice_text("s"), &session, &error), STATUS_OK, &error);
    assert_int_equal(session.transaction_number, 10);
    assert_int_equal(session.unit, 1);
    wal_reader_end(reader);
    wal_close(wal, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sound_tables_and_what_the_tail_has),
        TEST(test_frames_behind_damage_make_their_units_lost),
        TEST(test_a_missing_tail_may_have_ended_what_is_open),
        TEST(test_tables_of_an_older_moment),
        TEST(test_a_former_meta_page_is_carried_on),
        TEST(test_a_damaged_record_takes_its_unit_alone),
        TEST(test_an_old_tail_brings_nothing_back),
        TEST(test_an_old_tail_opens_nothing_again),
        TEST(test_the_newest_transaction_of_a_session_wins),
        TEST(test_an_older_transaction_of_a_session_loses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
