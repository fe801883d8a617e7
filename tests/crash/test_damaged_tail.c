/*
 * A journal whose newest groups are in its tail alone, and hundreds of damaged copies of the tail:
 * bytes that were changed, pages that were zeroed, exchanged, repeated or replaced by noise, a file
 * cut short or with zeros from some page on, several of these at once. Of each copy one of two
 * things holds:
 *
 *  - it is called damaged, whoever opens it to write is refused, and both files stay as they are. A
 *    reader has the records up to some LSN, each as it was written, and no others. What is salvaged
 *    is sound, each record of it as it was written, and nothing is open in it, for it may have
 * ended in what is missing;
 *  - it is called sound. Then the journal has the records up to some LSN, and of what came later no
 *    frame is whole anywhere in the file: nobody could tell that from an owner that was killed, or
 * a power that was cut, before they were written. A salvage then loses nothing.
 *
 * HOLDFAST_TEST_SEED chooses the damage.
 */

#include <inttypes.h>

#include "test_seed.h"
#include "wal_tail_fixture.h"

enum { CASES = 150, PAGE = FORMAT_FRAME_ALIGNMENT, DATA_MAX = 4 << 20, RECORDS_MAX = 64 };

/* LSN 1 to 4 are in the tables. Unit 1 and 2 go on in the tail; a frame of it has three pages. */
static char large[2 * PAGE];
static const struct left_group groups[] = {
    {WAL_KIND_WRITE, 1, "one", NULL},   {WAL_KIND_BEGIN, 3, "", "three"},
    {WAL_KIND_COMMIT, 2, "", NULL},     {WAL_KIND_WRITE, 3, large, NULL},
    {WAL_KIND_BEGIN, 4, "", NULL},      {WAL_KIND_COMMIT, 3, "", NULL},
    {WAL_KIND_ABORT, 1, "", NULL},      {WAL_KIND_WRITE, 4, "four", NULL},
    {WAL_KIND_BEGIN, 5, "", "three"},   {WAL_KIND_CONFLICT, 5, "five", NULL},
    {WAL_KIND_COMMITTING, 4, "", NULL},
};
enum { GROUPS = sizeof(groups) / sizeof(groups[0]), IN_TABLES = 4, LAST_LSN = IN_TABLES + GROUPS };

static uint8_t original_data[DATA_MAX];
static size_t original_data_size;
static uint8_t original_tail[FORMAT_TAIL_BYTES];
static uint8_t tail[FORMAT_TAIL_BYTES];
static uint8_t seen[DATA_MAX];

/* ------------------------------------------------------------------ the original */

static struct {
    struct wal_record record;
    uint8_t payload[3 * PAGE];
} records[RECORDS_MAX];

/* Where the frame of each LSN is in the file. */
static struct {
    size_t offset;
    size_t size;
} frames[RECORDS_MAX];
static size_t tail_end;

static void find_frames(void)
{
    for (uint64_t lsn = IN_TABLES + 1; lsn <= LAST_LSN; lsn++) {
        frames[lsn].offset = tail_end;
        frames[lsn].size = slice_load_u32be(original_tail + tail_end + 8);
        assert_int_equal(slice_load_u64be(original_tail + tail_end + 32), lsn);
        assert_int_equal(slice_load_u32be(original_tail + tail_end + 40), 1);
        tail_end += (frames[lsn].size + PAGE - 1) / PAGE * PAGE;
    }
}

static void remember_records(struct wal *wal)
{
    struct wal_reader *reader = fixture_reader(wal);
    for (uint64_t lsn = 1; lsn <= LAST_LSN; lsn++) {
        struct error error;
        assert_status(wal_read(reader, lsn, &records[lsn].record, &error), STATUS_OK, &error);
        struct slice payload = records[lsn].record.payload;
        assert_true(payload.size <= sizeof(records[lsn].payload));
        if (payload.size > 0) {
            memcpy(records[lsn].payload, payload.data, payload.size);
        }
        records[lsn].record.payload = slice_make(records[lsn].payload, payload.size);
    }
    wal_reader_end(reader);
}

static void make_original(const struct fixture *fixture)
{
    struct wal *wal = fixture_open(fixture);
    struct error error;
    memset(large, 'x', sizeof(large) - 1);
    for (uint64_t unit = 1; unit <= 2; unit++) {
        assert_int_equal(wal_unit_next(wal), unit);
        assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, unit, "", NULL), STATUS_OK);
        assert_int_equal(fixture_append(wal, WAL_KIND_WRITE, unit, "0", NULL), STATUS_OK);
    }
    wal_close(wal, true);
    left_tail_make(fixture, groups, GROUPS);
    original_data_size = fixture_read(fixture, "data.mdb", original_data, sizeof(original_data));
    assert_int_equal(fixture_read(fixture, FORMAT_TAIL_FILE, original_tail, sizeof(original_tail)),
                     FORMAT_TAIL_BYTES);
    find_frames();
    assert_status(left_open(fixture->directory, true, &wal, &error), STATUS_OK, &error);
    remember_records(wal);
    wal_close(wal, false);
}

/* ------------------------------------------------------------------ damage */

static size_t some_page(uint64_t *seed)
{
    return fixture_random(seed) % (tail_end / PAGE) * PAGE;
}

/* Of `tail`, which has `size`; returns what is left of that. */
static size_t damage(uint64_t *seed, size_t size, char *what, size_t what_size)
{
    static uint8_t kept[PAGE];
    size_t page = some_page(seed);
    size_t other = fixture_random(seed) % 3 == 0 ? tail_end + page : some_page(seed);
    size_t at = page + fixture_random(seed) % 160;
    uint64_t kind = fixture_random(seed) % 9;
    snprintf(what, what_size, "kind %" PRIu64 ", byte %zu, page %zu and %zu", kind, at, page / PAGE,
             other / PAGE);
    switch (kind) {
    case 0:
    case 1:
        tail[at] ^= (uint8_t)(1u << fixture_random(seed) % 8);
        return size;
    case 2:
        memset(tail + page, 0, PAGE);
        return size;
    case 3:
        memcpy(kept, tail + page, PAGE);
        memcpy(tail + page, tail + other, PAGE);
        memcpy(tail + other, kept, PAGE);
        return size;
    case 4:
        memcpy(tail + other, tail + page, PAGE);
        return size;
    case 5:
        for (size_t i = 0; i < 512; i++) {
            tail[page + i] = (uint8_t)fixture_random(seed);
        }
        return size;
    case 6:
        return at < size ? at : size;
    default: /* as if it had never been written */
        memset(tail + page, 0, sizeof(tail) - page);
        return size;
    }
}

/* Whether the frame of a record is whole somewhere. */
static bool is_anywhere(uint64_t lsn, size_t size)
{
    for (size_t at = 0; at + frames[lsn].size <= size; at += PAGE) {
        if (memcmp(tail + at, original_tail + frames[lsn].offset, frames[lsn].size) == 0) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ looking */

static bool is_original(const struct wal_record *record)
{
    const struct wal_record *known = &records[record->lsn < RECORDS_MAX ? record->lsn : 0].record;
    return known->lsn == record->lsn && known->unit == record->unit &&
           known->kind == record->kind && known->previous_lsn == record->previous_lsn &&
           known->time_ms == record->time_ms && slice_equal(known->payload, record->payload);
}

/* The records are the original's up to an LSN, which is returned. */
static uint64_t check_prefix(struct wal *wal, const char *what)
{
    struct wal_reader *reader = fixture_reader(wal);
    struct wal_record record = {0};
    struct error error;
    uint64_t last_lsn = 0;
    while (wal_read_next(reader, last_lsn, &record, &error) == STATUS_OK) {
        if (record.lsn != last_lsn + 1 || !is_original(&record)) {
            fail_msg("%s: record %" PRIu64 " is not the original's", what, record.lsn);
        }
        last_lsn = record.lsn;
    }
    /* And the units' rows are those of the same moment. */
    for (uint64_t unit = 1; unit <= 5; unit++) {
        struct wal_unit row;
        uint64_t newest = last_lsn;
        while (newest > 0 && records[newest].record.unit != unit) {
            newest--;
        }
        enum status status = wal_read_unit(reader, unit, &row, &error);
        if (newest == 0) {
            assert_int_equal(status, STATUS_NOT_FOUND);
            continue;
        }
        assert_status(status, STATUS_OK, &error);
        assert_int_equal(row.last_lsn, newest);
        assert_int_equal(row.state, format_state_after(records[newest].record.kind));
    }
    wal_reader_end(reader);
    assert_true(last_lsn >= IN_TABLES);
    return last_lsn;
}

static struct wal_salvage salvage(const struct fixture *fixture, bool sound, const char *what)
{
    char target[300];
    struct wal *wal = NULL;
    struct wal_salvage done;
    struct wal_verification found;
    struct error error;
    fixture_path(fixture, "salvaged", target, sizeof(target));
    struct wal_salvage_options options = {.directory = fixture->directory, .target = target};
    assert_status(wal_salvage_run(&options, &done, &error), STATUS_OK, &error);
    assert_status(wal_verify(target, &found, &error), STATUS_OK, &error);
    if (found.damage_count != 0) {
        fail_msg("%s: salvaged, and yet %s", what, found.damage[0].message);
    }
    assert_status(left_open(target, false, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    struct wal_record record = {0};
    struct wal_unit open = {0};
    while (wal_read_next(reader, record.lsn, &record, &error) == STATUS_OK) {
        if (!is_original(&record)) {
            fail_msg("%s: salvaged record %" PRIu64 " is not the original's", what, record.lsn);
        }
    }
    enum status status = wal_read_open_next(reader, 0, &open, &error);
    if (!sound && status == STATUS_OK) {
        fail_msg("%s: unit %" PRIu64 " is open in what was salvaged", what, open.unit);
    }
    wal_reader_end(reader);
    wal_close(wal, false);
    nftw(target, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return done;
}

/* ------------------------------------------------------------------ one case */

static void check_refused(const struct fixture *fixture, size_t size, const char *what)
{
    struct wal *wal = NULL;
    struct error error = {0};
    if (left_open(fixture->directory, false, &wal, &error) != STATUS_CORRUPT ||
        strstr(error.message, "tail.wal") == NULL) {
        fail_msg("%s: called damaged, and opened: %s", what, error.message);
    }
    assert_int_equal(fixture_read(fixture, "data.mdb", seen, sizeof(seen)), original_data_size);
    assert_memory_equal(seen, original_data, original_data_size);
    assert_int_equal(fixture_read(fixture, FORMAT_TAIL_FILE, seen, sizeof(seen)), size);
    assert_memory_equal(seen, tail, size);
}

static void run_case(const struct fixture *fixture, uint64_t seed, unsigned *told, unsigned *less)
{
    char what[400] = "";
    size_t size = FORMAT_TAIL_BYTES;
    struct wal *wal = NULL;
    struct error error;
    memcpy(tail, original_tail, sizeof(tail));
    for (uint64_t i = fixture_random(&seed) % 3; i < 3; i++) {
        size_t used = strlen(what);
        snprintf(what + used, sizeof(what) - used, "; ");
        size = damage(&seed, size, what + used + 2, sizeof(what) - used - 2);
    }
    fixture_write(fixture, "data.mdb", original_data, original_data_size);
    fixture_write(fixture, FORMAT_TAIL_FILE, tail, size);
    struct wal_verification found = fixture_verify(fixture);
    bool sound = found.damage_count == 0;

    if (left_open(fixture->directory, true, &wal, &error) == STATUS_OK) {
        uint64_t last_lsn = check_prefix(wal, what);
        wal_close(wal, false);
        assert_true(!sound || found.records_checked == last_lsn);
    } else if (sound) {
        fail_msg("%s: sound, and cannot be read: %s", what, error.message);
    }
    struct wal_salvage done = salvage(fixture, sound, what);
    assert_int_equal(done.end_lost, !sound);
    assert_true(!sound || (done.units_lost == 0 && done.sessions_lost == 0));
    if (!sound) {
        *told += 1;
        check_refused(fixture, size, what);
        return;
    }
    assert_status(left_open(fixture->directory, false, &wal, &error), STATUS_OK, &error);
    uint64_t last_lsn = check_prefix(wal, what);
    wal_close(wal, false);
    for (uint64_t lsn = last_lsn + 1; lsn <= LAST_LSN; lsn++) {
        if (is_anywhere(lsn, size)) {
            fail_msg("%s: sound up to %" PRIu64 ", and yet the frame of %" PRIu64 " is there", what,
                     last_lsn, lsn);
        }
    }
    *less += last_lsn < LAST_LSN ? 1 : 0;
    fixture_assert_undamaged(fixture);
}

static void test_damaged_in_hundreds_of_ways(void **state)
{
    unsigned told = 0;
    unsigned less = 0;
    uint64_t seed = seed_of_run();
    make_original(*state);
    for (int i = 0; i < CASES; i++) {
        run_case(*state, fixture_random(&seed), &told, &less);
    }
    print_message("%u called damaged, %u as if cut short\n", told, less);
    assert_true(told > CASES / 4 && less > CASES / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
        test_damaged_in_hundreds_of_ways, fixture_setup, fixture_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
