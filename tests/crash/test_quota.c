/*
 * The journal at its quota: new units are refused, what is open can be ended, always, and pruning
 * makes room again.
 */

#include <signal.h>
#include <sys/resource.h>

#include "storage.h"
#include "wal_fixture.h"

enum { QUOTA_BYTES = 1 << 20, LARGE_BYTES = 15 << 20, UNITS_MAX = 20000 };

static uint8_t image[LARGE_BYTES];

static struct wal *open_small(const struct fixture *fixture)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(fixture);
    options.quota_bytes = QUOTA_BYTES;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    return wal;
}

static enum status append(struct wal *wal, enum wal_kind kind, uint64_t unit, size_t size)
{
    struct wal_append record = {.kind = kind, .unit = unit, .payload = slice_make(image, size)};
    return wal_append_wait(wal, &record, NULL);
}

/* Begins units until the quota is met; returns how many. */
static uint64_t fill_with_units(struct wal *wal)
{
    uint64_t units = 0;
    while (append(wal, WAL_KIND_BEGIN, units + 1, 0) == STATUS_OK) {
        units++;
        assert_true(units < UNITS_MAX);
    }
    assert_true(units > 1000);
    return units;
}

static void test_new_units_are_refused_at_the_quota(void **state)
{
    struct wal *wal = open_small(*state);
    struct error error;
    uint64_t units = fill_with_units(wal);
    struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = units + 1};
    assert_int_equal(wal_append_wait(wal, &begin, &error), STATUS_FULL);
    assert_non_null(strstr(error.message, "1048576 bytes"));
    assert_int_equal(append(wal, WAL_KIND_WRITE, 1, 0), STATUS_FULL);
    assert_true(fixture_statistics(wal).used_bytes <= QUOTA_BYTES);
    assert_int_equal(fixture_statistics(wal).records, units);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

static void test_pruning_makes_room(void **state)
{
    struct wal *wal = open_small(*state);
    struct error error;
    uint64_t removed = 0;
    uint64_t units = fill_with_units(wal);
    for (uint64_t unit = 1; unit <= units / 2; unit++) {
        assert_int_equal(append(wal, WAL_KIND_COMMIT, unit, 0), STATUS_OK);
    }
    assert_int_equal(append(wal, WAL_KIND_BEGIN, units + 1, 0), STATUS_FULL);
    assert_status(wal_prune(wal,
                            &(struct wal_prune_options){.ended_before_ms = UINT64_MAX,
                                                        .settled_lsn = UINT64_MAX},
                            &removed, &error),
                  STATUS_OK, &error);
    assert_int_equal(removed, units / 2);
    for (uint64_t unit = units + 1; unit <= units + units / 4; unit++) {
        assert_int_equal(append(wal, WAL_KIND_BEGIN, unit, 0), STATUS_OK);
    }
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

/* Ends as large as they come, smaller and smaller, until nothing but a short one gets in. */
static uint64_t use_up_the_reserve(struct wal *wal, uint64_t first, uint64_t units)
{
    uint64_t unit = first;
    size_t size = LARGE_BYTES;
    while (size > WAL_SHORT_PAYLOAD_BYTES && unit < units) {
        enum wal_kind kind = unit % 2 == 0 ? WAL_KIND_CONFLICT : WAL_KIND_COMMIT;
        enum status status = append(wal, kind, unit, size);
        if (status == STATUS_OK) {
            unit++;
        } else {
            assert_int_equal(status, STATUS_FULL);
            size /= 2;
        }
    }
    return unit;
}

/*
 * Thousands of open units at the quota, and others that end with large records: every one of the
 * open ones can still be set aside, and ended after that.
 */
static void test_every_open_unit_can_be_ended(void **state)
{
    struct wal *wal = open_small(*state);
    uint64_t units = fill_with_units(wal);
    uint64_t first = use_up_the_reserve(wal, 1, units);
    assert_true(first > 4 && units - first > 1000);
    for (uint64_t unit = first; unit <= units; unit++) {
        enum wal_kind kind = unit % 3 == 0 ? WAL_KIND_CONFLICT : WAL_KIND_ABORT;
        assert_int_equal(append(wal, kind, unit, WAL_SHORT_PAYLOAD_BYTES), STATUS_OK);
        if (kind == WAL_KIND_CONFLICT) { /* a second one has no place of its own */
            (void)append(wal, kind, unit, WAL_SHORT_PAYLOAD_BYTES);
        }
    }
    for (uint64_t unit = first; unit <= units; unit++) {
        if (unit % 3 == 0) {
            assert_int_equal(append(wal, WAL_KIND_ABORT, unit, WAL_SHORT_PAYLOAD_BYTES), STATUS_OK);
        }
    }
    assert_int_equal(fixture_statistics(wal).units_open, 0);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

/* Pruning itself needs pages: the ends leave some. */
static void test_a_full_reserve_can_be_pruned(void **state)
{
    struct wal *wal = open_small(*state);
    struct error error;
    uint64_t units = fill_with_units(wal);
    use_up_the_reserve(wal, 1, units);
    for (uint64_t unit = 1; unit <= units; unit++) {
        struct wal_append abort_record = {.kind = WAL_KIND_ABORT, .unit = unit};
        enum status status = wal_append_wait(wal, &abort_record, &error);
        assert_true(status == STATUS_OK || status == STATUS_INVALID); /* it is committed */
    }
    assert_status(wal_prune(wal,
                            &(struct wal_prune_options){.ended_before_ms = UINT64_MAX,
                                                        .settled_lsn = UINT64_MAX},
                            NULL, &error),
                  STATUS_OK, &error);
    assert_int_equal(fixture_statistics(wal).records, 0);
    /* A file that has just grown into the reserve keeps new units waiting for a second. */
    enum status status = STATUS_FULL;
    for (int tries = 0; tries < 50 && status == STATUS_FULL; tries++) {
        status = append(wal, WAL_KIND_BEGIN, wal_unit_next(wal), 0);
        usleep(status == STATUS_FULL ? 100000 : 0);
    }
    assert_int_equal(status, STATUS_OK);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

enum { SESSIONS = 300000, BURST = 300, BURSTS = 40 };

/* A run of units, each a group of its own with a session of its own, so that each changes another
   page; returns how many began. */
static unsigned begin_burst(struct wal *wal, uint64_t *seed)
{
    static struct wal_append begins[BURST];
    static uint64_t keys[BURST][4];
    unsigned begun = 0;
    for (unsigned i = 0; i < BURST; i++) {
        for (unsigned part = 0; part < 4; part++) {
            keys[i][part] = fixture_random(seed);
        }
        begins[i] = (struct wal_append){
            .kind = WAL_KIND_BEGIN,
            .unit = wal_unit_next(wal),
            .session_key = slice_make((const uint8_t *)keys[i], sizeof(keys[i])),
            .transaction_number = 1,
        };
        if (i + 1 < BURST) {
            wal_append(wal, &begins[i]);
        }
    }
    enum status last = wal_append_wait(wal, &begins[BURST - 1], NULL);
    assert_true(last == STATUS_OK || last == STATUS_FULL);
    for (unsigned i = 0; i < BURST; i++) {
        begun += begins[i].status == STATUS_OK ? 1 : 0;
    }
    return begun;
}

/* The file cannot grow beyond the blocks that were kept ready, as on a disk that is full; and a
   reader keeps freed pages from being used again. What is open can be ended all the same, at once.
 */
static void test_full_disk_beside_a_reader(void **state)
{
    struct wal *wal = NULL;
    struct error error;
    uint64_t seed = 1;
    struct wal_options options = fixture_options(*state);
    options.durability = WAL_DURABILITY_PROCESS;
    options.quota_bytes = (uint64_t)1 << 30;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    for (unsigned done = 0; done < SESSIONS; done += BURST) {
        assert_int_equal(begin_burst(wal, &seed), BURST);
    }
    struct wal_reader *reader = fixture_reader(wal);
    assert_int_equal(begin_burst(wal, &seed), BURST);
    struct rlimit before;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit full = {.rlim_cur = storage_allocated_end(), .rlim_max = before.rlim_max};
    storage_disk_full_set(true);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    unsigned begun = 0;
    for (unsigned i = 0; i < BURSTS; i++) {
        begun += begin_burst(wal, &seed);
    }
    assert_true(begun < BURST * BURSTS);
    for (uint64_t unit = 1; unit <= 50; unit++) {
        assert_int_equal(append(wal, WAL_KIND_ABORT, unit * 997, 1), STATUS_OK);
    }
    wal_reader_end(reader);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    storage_disk_full_set(false);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new_units_are_refused_at_the_quota), TEST(test_pruning_makes_room),
        TEST(test_every_open_unit_can_be_ended),       TEST(test_a_full_reserve_can_be_pruned),
        TEST(test_full_disk_beside_a_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
