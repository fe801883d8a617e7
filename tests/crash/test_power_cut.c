/*
 * A power cut at any moment: a journal of `power` durability comes up with everything that it had
 * acknowledged, groups whole, nothing else. What a disk is assumed to do is in disk.h. The tables
 * (data.mdb) and the tail (tail.wal) lose what was not synced each by itself.
 *
 * LMDB's own rules, which this proves rather than trusts: it never overwrites a page that one of
 * the last two meta pages needs; it syncs the new pages, then writes 120 bytes of a meta page by a
 * descriptor with O_DSYNC. These lie within one sector, so that a meta page is old or new, never
 * torn.
 *
 * HOLDFAST_TEST_SEED repeats a run.
 */

#include <errno.h>

#include "disk.h"
#include "storage.h"
#include "test_seed.h"
#include "wal_fixture.h"
#include "workload.h"

/* Cuts at one place. The sanitizers see memory, of which each of them makes the same use. */
#ifdef __SANITIZE_ADDRESS__
enum { CUTS = 1, DENSE = 2 };
#else
enum { CUTS = 2, DENSE = 4 };
#endif

enum { GROUPS = 160, PHASES = 5, IDLE_US = 100000 };

static uint64_t run_seed;

/* ------------------------------------------------------------------ recording */

static struct wal *open_journal(const struct fixture *fixture, enum wal_durability durability)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(fixture);
    options.durability = durability;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    return wal;
}

/* The journal's whole life, from its making on. */
static struct storage_trace record_life(const struct fixture *fixture, struct workload *workload,
                                        enum wal_durability durability)
{
    storage_record_start();
    struct wal *wal = open_journal(fixture, durability);
    for (unsigned phase = 0; phase < PHASES; phase++) {
        workload_run(workload, wal, GROUPS / PHASES, run_seed + phase * 100);
        if (phase == 0 || phase == 2) {
            usleep(IDLE_US); /* the tables are brought up to date, and the tail begins anew */
            workload_run(workload, wal, GROUPS / PHASES, run_seed + phase * 100 + 50);
        }
        if (phase == 1) {
            workload_long_unit(workload, wal);
        }
        if (phase == 3) {
            wal_close(wal, true);
            wal = open_journal(fixture, durability);
        } else {
            workload_prune(workload, wal);
        }
    }
    wal_close(wal, true);
    assert_int_equal(workload->failed, 0);
    return storage_record_stop();
}

/* ------------------------------------------------------------------ cutting */

struct cuts {
    const struct workload *workload;
    const struct storage_trace *trace;
    char directory[300];
    unsigned made;
    unsigned failed;
    char first_failure[600];
};

static void cut_here(struct cuts *cuts, const struct disk *disk, size_t place, enum disk_cut cut,
                     uint64_t acknowledged, uint64_t *seed)
{
    char why[400] = "";
    struct workload_promise promise = {.acknowledged = acknowledged, .place = place};
    assert_int_equal(mkdir(cuts->directory, 0700), 0);
    enum disk_cut tail = fixture_random(seed) % 2 == 0
                             ? cut
                             : (enum disk_cut)(fixture_random(seed) % DISK_CUT_COUNT);
    disk_cut_power(disk, cut, tail, seed, cuts->directory);
    cuts->made++;
    bool is_kept = workload_check(cuts->workload, cuts->directory, &promise, why, sizeof(why));
    nftw(cuts->directory, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (!is_kept && cuts->failed++ == 0) {
        snprintf(
            cuts->first_failure, sizeof(cuts->first_failure),
            "a cut at event %zu of %zu that %s what was not durable of the tables, and %s what "
            "was not of the tail: %s",
            place, cuts->trace->count, disk_cut_name(cut), disk_cut_name(tail), why);
    }
}

static bool is_boundary(const struct storage_trace *trace, size_t place)
{
    if (place >= trace->count) {
        return true;
    }
    enum storage_kind kind = trace->events[place].kind;
    return kind == STORAGE_SYNC || kind == STORAGE_WRITE_THROUGH;
}

/* One of the many writes with which the tail is made, or cleared. */
static bool is_zeros(const struct storage_trace *trace, size_t place)
{
    const struct storage_event *event = &trace->events[place];
    return place < trace->count && event->kind == STORAGE_WRITE && event->file != STORAGE_TABLES &&
           event->bytes[0] == 0;
}

/* Where to cut: before and after every sync and every meta page, and at one of `sparse` other
   places; or, with `sparse` 0, only at each of these places, several times over. */
struct places {
    unsigned sparse;
    size_t dense_from, dense_end;
};

static unsigned cuts_at(const struct storage_trace *trace, const struct places *places,
                        size_t place, uint64_t *seed)
{
    if (places->sparse == 0) {
        bool is_inside = place >= places->dense_from && place < places->dense_end;
        return !is_inside ? 0 : is_zeros(trace, place) ? 1 : DENSE;
    }
    bool after = place > 0 && is_boundary(trace, place - 1);
    bool is_chosen =
        is_boundary(trace, place) || after || fixture_random(seed) % places->sparse == 0;
    return is_chosen ? CUTS : 0;
}

static struct cuts cut_power(const struct fixture *fixture, const struct workload *workload,
                             const struct storage_trace *trace, const struct places *places)
{
    struct cuts cuts = {.workload = workload, .trace = trace};
    struct disk *disk = disk_new(trace);
    uint64_t seed = run_seed;
    uint64_t acknowledged = 0;
    fixture_path(fixture, "image", cuts.directory, sizeof(cuts.directory));
    for (size_t place = 0; place <= trace->count; place++) {
        disk_play_until(disk, place);
        for (unsigned left = cuts_at(trace, places, place, &seed); left > 0; left--) {
            enum disk_cut cut = (enum disk_cut)(fixture_random(&seed) % DISK_CUT_COUNT);
            cut_here(&cuts, disk, place, cut, acknowledged, &seed);
        }
        if (place < trace->count && trace->events[place].kind == STORAGE_MARK &&
            trace->events[place].mark_kind == WORKLOAD_ACKNOWLEDGED) {
            acknowledged = trace->events[place].mark;
        }
    }
    disk_free(disk);
    print_message("%u cuts of %zu events, %u with losses\n", cuts.made, trace->count, cuts.failed);
    return cuts;
}

/* ------------------------------------------------------------------ the tests */

static void test_power_durability_keeps_what_it_acknowledged(void **state)
{
    static struct workload workload;
    struct storage_trace trace = record_life(*state, &workload, WAL_DURABILITY_POWER);
    struct cuts cuts = cut_power(*state, &workload, &trace, &(struct places){.sparse = 4});
    storage_trace_free(&trace);
    if (cuts.failed > 0) {
        fail_msg("HOLDFAST_TEST_SEED=%llu: %s", (unsigned long long)run_seed, cuts.first_failure);
    }
}

/* The same with no barriers must lose something: else the cuts above prove nothing. */
static void test_process_durability_does_not(void **state)
{
    static struct workload workload;
    struct storage_trace trace = record_life(*state, &workload, WAL_DURABILITY_PROCESS);
    struct cuts cuts = cut_power(*state, &workload, &trace, &(struct places){.sparse = 40});
    storage_trace_free(&trace);
    assert_true(cuts.failed > cuts.made / 10);
}

/*
 * Who made the journal did not sync its directory, or died before: the next owner does. (Cuts begin
 * with the first acknowledgement: before it `process` durability promised nothing.)
 */
static void test_power_cut_after_another_made_the_journal(void **state)
{
    static struct workload workload;
    storage_record_start();
    wal_close(open_journal(*state, WAL_DURABILITY_PROCESS), false);
    struct wal *wal = open_journal(*state, WAL_DURABILITY_POWER);
    assert_int_equal(workload_begin(&workload, wal), STATUS_OK);
    size_t acknowledged = storage_mark(0, 0);
    assert_int_equal(workload_begin(&workload, wal), STATUS_OK);
    wal_close(wal, false);
    struct storage_trace trace = storage_record_stop();
    struct places places = {.dense_from = acknowledged, .dense_end = trace.count};
    struct cuts cuts = cut_power(*state, &workload, &trace, &places);
    storage_trace_free(&trace);
    if (cuts.failed > 0) {
        fail_msg("HOLDFAST_TEST_SEED=%llu: %s", (unsigned long long)run_seed, cuts.first_failure);
    }
}

/* A call that is refused: that of a group that is appended, or of the checkpoint after it, and what
   is said then. */
struct refusal {
    struct storage_fault fault;
    bool at_checkpoint;
    enum status expected;
};

static enum status checkpoint(struct wal *wal)
{
    return wal_property_set(wal, "name", slice_text("value"), NULL);
}

static void remake_directory(const struct fixture *fixture)
{
    assert_int_equal(nftw(fixture->directory, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(mkdir(fixture->directory, 0700), 0);
}

/* With a frame in the tail that the tables do not have. */
static void meet_refusal(struct wal *wal, struct workload *workload, const struct refusal *refusal)
{
    assert_int_equal(workload_begin(workload, wal), STATUS_OK);
    storage_fault_set(&refusal->fault);
    enum status status = refusal->at_checkpoint ? checkpoint(wal) : workload_begin(workload, wal);
    assert_int_equal(status, refusal->expected);
    assert_true(storage_fault_hits() > 0);
    if (refusal->at_checkpoint && refusal->expected == STATUS_FULL) {
        /* The tail goes on, for there are its blocks. */
        assert_int_equal(workload_begin(workload, wal), STATUS_OK);
    }
    storage_fault_set(NULL);
}

/*
 * The disk refuses a call, and then the power is cut. An error is final: the journal fails for good
 * and its owner starts again; a lack of room is not. The refused bytes may be on the disk, or on
 * their way to it: a meta page that nobody acknowledged must not come back to life over pages that
 * were used again, and no frame of a group that was refused for lack of room.
 *
 * The power is cut up to where the next owner, or the same, has appended and has brought the tables
 * up to date again.
 */
static void cut_after_failure(const struct fixture *fixture, const struct refusal *refusal)
{
    struct workload *workload = calloc(1, sizeof(*workload));
    assert_non_null(workload);
    storage_record_start();
    struct wal *wal = open_journal(fixture, WAL_DURABILITY_POWER);
    workload_run(workload, wal, GROUPS / PHASES, run_seed);
    workload_prune(workload, wal); /* pages to use again */
    workload_run(workload, wal, GROUPS / PHASES, run_seed + 1);
    size_t refused = storage_mark(0, 0);
    meet_refusal(wal, workload, refusal);
    if (refusal->expected == STATUS_IO) {
        wal_close(wal, false);
        wal = open_journal(fixture, WAL_DURABILITY_POWER);
    }
    assert_int_equal(workload_begin(workload, wal), STATUS_OK);
    assert_int_equal(checkpoint(wal), STATUS_OK);
    assert_int_equal(workload_begin(workload, wal), STATUS_OK);
    size_t settled = storage_mark(0, 0);
    workload_run(workload, wal, GROUPS / PHASES, run_seed + 2);
    wal_close(wal, false);
    struct storage_trace trace = storage_record_stop();
    struct places places = {.dense_from = refused, .dense_end = settled};
    struct cuts cuts = cut_power(fixture, workload, &trace, &places);
    storage_trace_free(&trace);
    free(workload);
    if (cuts.failed > 0) {
        fail_msg("HOLDFAST_TEST_SEED=%llu, call %d, failure %d: %s", (unsigned long long)run_seed,
                 refusal->fault.call, refusal->fault.failure, cuts.first_failure);
    }
}

static void test_power_cut_after_a_meta_page_that_failed(void **state)
{
    struct refusal refusal = {
        .fault = {.call = STORAGE_CALL_WRITE_THROUGH, .from = 1, .count = 1, .error = EIO},
        .at_checkpoint = true,
        .expected = STATUS_IO,
    };
    refusal.fault.failure = STORAGE_DONE;
    cut_after_failure(*state, &refusal);
}

/* A file system that copies on write may lack room for a page that it has: whatever the reason, of
   a meta page that failed nobody knows what the disk has. */
static void test_power_cut_after_a_meta_page_that_found_no_room(void **state)
{
    struct refusal refusal = {
        .fault = {.call = STORAGE_CALL_WRITE_THROUGH, .from = 1, .count = 1, .error = ENOSPC},
        .at_checkpoint = true,
        .expected = STATUS_IO,
    };
    refusal.fault.failure = STORAGE_DONE;
    cut_after_failure(*state, &refusal);
}

static void test_power_cut_after_half_a_meta_page(void **state)
{
    struct refusal refusal = {
        .fault = {.call = STORAGE_CALL_WRITE_THROUGH, .from = 1, .count = 1},
        .at_checkpoint = true,
        .expected = STATUS_IO,
    };
    refusal.fault.failure = STORAGE_SHORT;
    cut_after_failure(*state, &refusal);
}

static void test_power_cut_after_a_sync_that_failed(void **state)
{
    struct refusal refusal = {
        .fault = {.call = STORAGE_CALL_SYNC, .from = 1, .count = 1, .error = EIO},
        .at_checkpoint = true,
        .expected = STATUS_IO,
    };
    cut_after_failure(*state, &refusal);
}

/* A disk that promises room lazily says so when it is synced. */
static void test_power_cut_after_a_sync_that_found_no_room(void **state)
{
    struct refusal refusal = {
        .fault = {.call = STORAGE_CALL_SYNC,
                  .file = STORAGE_TABLES,
                  .from = 1,
                  .count = 1000,
                  .error = ENOSPC},
        .at_checkpoint = true,
        .expected = STATUS_FULL,
    };
    cut_after_failure(*state, &refusal);
}

static void test_power_cut_after_a_frame_that_failed(void **state)
{
    struct refusal refusal = {
        .fault =
            {.call = STORAGE_CALL_WRITE, .file = STORAGE_TAIL, .from = 1, .count = 1, .error = EIO},
        .expected = STATUS_IO,
    };
    cut_after_failure(*state, &refusal);
    refusal.fault.failure = STORAGE_DONE;
    remake_directory(*state);
    cut_after_failure(*state, &refusal);
}

/* Unlike the tables', a frame is what counts, whether anybody took it for good or not. So whatever
   the reason, no other may follow one whose sync failed. */
static void test_power_cut_after_a_sync_of_the_tail_that_failed(void **state)
{
    struct refusal refusal = {
        .fault =
            {.call = STORAGE_CALL_SYNC, .file = STORAGE_TAIL, .from = 1, .count = 1, .error = EIO},
        .expected = STATUS_IO,
    };
    cut_after_failure(*state, &refusal);
    refusal.fault.error = ENOSPC;
    remake_directory(*state);
    cut_after_failure(*state, &refusal);
}

/* The tables take what the tail has no room for. */
static void test_power_cut_after_a_frame_that_found_no_room(void **state)
{
    struct refusal refusal = {
        .fault = {.call = STORAGE_CALL_WRITE,
                  .file = STORAGE_TAIL,
                  .from = 1,
                  .count = 1,
                  .error = ENOSPC},
        .expected = STATUS_OK,
    };
    cut_after_failure(*state, &refusal);
}

/* Neither has room: the group is refused, and what its frame left in the tail is nothing. */
static void test_power_cut_after_nothing_found_room(void **state)
{
    struct refusal refusal = {
        .fault = {.call = STORAGE_CALL_WRITE, .from = 1, .count = 1000, .error = ENOSPC},
        .expected = STATUS_FULL,
    };
    cut_after_failure(*state, &refusal);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_power_durability_keeps_what_it_acknowledged),
        TEST(test_process_durability_does_not),
        TEST(test_power_cut_after_another_made_the_journal),
        TEST(test_power_cut_after_a_meta_page_that_failed),
        TEST(test_power_cut_after_a_meta_page_that_found_no_room),
        TEST(test_power_cut_after_half_a_meta_page),
        TEST(test_power_cut_after_a_sync_that_failed),
        TEST(test_power_cut_after_a_sync_that_found_no_room),
        TEST(test_power_cut_after_a_frame_that_failed),
        TEST(test_power_cut_after_a_sync_of_the_tail_that_failed),
        TEST(test_power_cut_after_a_frame_that_found_no_room),
        TEST(test_power_cut_after_nothing_found_room),
    };
    run_seed = seed_of_run();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
