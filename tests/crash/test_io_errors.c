/*
 * Calls that fail under the journal, each position in turn. After an error of the disk everything
 * fails with STATUS_IO and nothing is tried again, until another process opens the journal; a lack
 * of room fails the groups that meet it and no others. Never is half of a group there.
 */

#include <errno.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "storage.h"
#include "wal_fixture.h"

enum { ROUNDS = 4, GROUPS_PER_ROUND = 3, GROUPS = ROUNDS * GROUPS_PER_ROUND, IMAGE_BYTES = 9000 };
enum { LARGE_BYTES = 100000 }; /* no frame has room for it */

/* What a child that had the fault tells its parent. */
struct report {
    enum status open;
    char message[256];
    enum status groups[GROUPS]; /* group i is unit i + 1 */
    unsigned submitted;
    enum status checkpoint; /* after the last round */
    unsigned hits;
    enum storage_file hit_file;
    bool hit_zeros;
};

struct group {
    struct wal_append begin;
    struct wal_append write;
    struct wal_append commit;
};

static uint8_t image[IMAGE_BYTES];
static uint8_t large_image[LARGE_BYTES];

static void on_completed(struct wal_append *first, void *context)
{
    (void)first;
    sem_post(context);
}

/* Submits a round at once, so that groups wait for one commit, and waits for all of it. */
static void append_round(struct wal *wal, enum status *ret_statuses)
{
    static struct group groups[GROUPS_PER_ROUND];
    sem_t done;
    sem_init(&done, 0, 0);
    for (unsigned i = 0; i < GROUPS_PER_ROUND; i++) {
        struct group *group = &groups[i];
        uint64_t unit = wal_unit_next(wal);
        *group = (struct group){
            .begin = {.kind = WAL_KIND_BEGIN,
                      .unit = unit,
                      .next = &group->write,
                      .completed = on_completed,
                      .context = &done},
            .write = {.kind = WAL_KIND_WRITE,
                      .unit = unit,
                      .payload = slice_make(image, sizeof(image)),
                      .next = &group->commit},
            .commit = {.kind = WAL_KIND_COMMIT, .unit = unit},
        };
        wal_append(wal, &group->begin);
    }
    for (unsigned i = 0; i < GROUPS_PER_ROUND; i++) {
        while (sem_wait(&done) != 0) {
        }
    }
    for (unsigned i = 0; i < GROUPS_PER_ROUND; i++) {
        ret_statuses[i] = groups[i].begin.status;
    }
    sem_destroy(&done);
}

static struct wal_options power_options(const struct fixture *fixture)
{
    struct wal_options options = fixture_options(fixture);
    options.durability = WAL_DURABILITY_POWER;
    return options;
}

static _Noreturn void child_main(const struct fixture *fixture, const struct storage_fault *fault,
                                 struct report *report)
{
    struct wal *wal = NULL;
    struct error error = {0};
    struct wal_options options = power_options(fixture);
    storage_fault_set(fault);
    report->open = wal_open(&options, &wal, &error);
    snprintf(report->message, sizeof(report->message), "%.255s", error.message);
    for (unsigned round = 0; round < ROUNDS && wal != NULL; round++) {
        append_round(wal, &report->groups[report->submitted]);
        report->submitted += GROUPS_PER_ROUND;
    }
    /* What the tail has goes into the tables. */
    report->checkpoint =
        wal == NULL ? STATUS_OK : wal_property_set(wal, "name", slice_text("value"), NULL);
    report->hits = storage_fault_hits();
    report->hit_file = storage_fault_hit_file();
    report->hit_zeros = storage_fault_hit_zeros();
    _exit(0); /* as the daemon does: no close, no sync */
}

/* Runs everything in a child in which the fault is set. */
static void run_child(const struct fixture *fixture, const struct storage_fault *fault,
                      struct report *ret_report)
{
    int wait_status = 0;
    struct report *report =
        mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(report != MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        child_main(fixture, fault, report);
    }
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0);
    *ret_report = *report;
    munmap(report, sizeof(*report));
}

/* The unit is there as it was submitted, or not at all; *ret_is_there says which. */
static void check_unit(struct wal_reader *reader, uint64_t number, bool *ret_is_there)
{
    struct wal_unit unit;
    struct wal_record record;
    struct error error;
    enum status status = wal_read_unit(reader, number, &unit, &error);
    *ret_is_there = status == STATUS_OK;
    if (status == STATUS_NOT_FOUND) {
        return;
    }
    assert_status(status, STATUS_OK, &error);
    assert_int_equal(unit.state, WAL_UNIT_COMMITTED);
    assert_int_equal(unit.last_lsn, unit.first_lsn + 2);
    assert_status(wal_read(reader, unit.first_lsn + 1, &record, &error), STATUS_OK, &error);
    assert_int_equal(record.unit, number);
    assert_true(slice_equal(record.payload, slice_make(image, sizeof(image))));
}

/* In this process, which never saw an error: what was acknowledged is there, nothing is half. */
static void check_journal(const struct fixture *fixture, const struct report *report)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = power_options(fixture);
    enum status more[GROUPS_PER_ROUND];
    uint64_t records = 0;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    for (unsigned i = 0; i < report->submitted; i++) {
        bool is_there = false;
        check_unit(reader, i + 1, &is_there);
        assert_true(is_there || report->groups[i] != STATUS_OK);
        assert_true(!is_there || report->groups[i] != STATUS_FULL);
        records += is_there ? 3 : 0;
    }
    wal_reader_end(reader);
    assert_int_equal(fixture_statistics(wal).records, records);
    append_round(wal, more);
    for (unsigned i = 0; i < GROUPS_PER_ROUND; i++) {
        assert_int_equal(more[i], STATUS_OK);
    }
    wal_close(wal, true);
    fixture_assert_undamaged(fixture);
}

/* From the first failure on everything has failed for good. Zeros that lie ready for later commits
   (wal/room.c) are no failure as long as the rest of them can be written; nor is anything of the
   tail that is short. */
static void check_failed_for_good(const struct report *report, enum storage_failure failure)
{
    bool failed = false;
    if (report->open != STATUS_OK) {
        /* LMDB calls it a lack of room if the very first write to a file is short. */
        assert_true(report->open == STATUS_IO ||
                    (report->open == STATUS_FULL && failure == STORAGE_SHORT));
        assert_true(report->message[0] != '\0');
        return;
    }
    for (unsigned i = 0; i < report->submitted; i++) {
        failed = failed || report->groups[i] != STATUS_OK;
        assert_int_equal(report->groups[i], failed ? STATUS_IO : STATUS_OK);
    }
    if (failed) {
        assert_int_equal(report->checkpoint, STATUS_IO);
    }
    failed = failed || report->checkpoint != STATUS_OK;
    bool goes_on =
        report->hit_zeros || (report->hit_file != STORAGE_TABLES && failure == STORAGE_SHORT);
    assert_int_equal(failed, !goes_on);
}

static void remove_journal(const struct fixture *fixture)
{
    assert_int_equal(nftw(fixture->directory, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void fail_each_in_turn(const struct fixture *fixture, enum storage_call call,
                              enum storage_failure failure)
{
    unsigned position = 1;
    for (;; position++) {
        struct storage_fault fault = {
            .call = call, .from = position, .count = 1, .error = EIO, .failure = failure};
        struct report report;
        run_child(fixture, &fault, &report);
        check_journal(fixture, &report);
        remove_journal(fixture);
        if (report.hits == 0) {
            break; /* beyond the last one */
        }
        check_failed_for_good(&report, failure);
    }
    assert_true(position > ROUNDS); /* there was one in each round at the least */
    assert_int_equal(mkdir(fixture->directory, 0700), 0);
}

static void test_each_sync_fails(void **state)
{
    fail_each_in_turn(*state, STORAGE_CALL_SYNC, STORAGE_NOT_DONE);
}

static void test_each_write_fails(void **state)
{
    fail_each_in_turn(*state, STORAGE_CALL_ANY_WRITE, STORAGE_NOT_DONE);
}

static void test_each_write_fails_although_it_was_done(void **state)
{
    fail_each_in_turn(*state, STORAGE_CALL_ANY_WRITE, STORAGE_DONE);
}

/* The tail cannot be put in its place. */
static void test_each_rename_fails(void **state)
{
    struct storage_fault fault = {.call = STORAGE_CALL_RENAME, .from = 1, .count = 1, .error = EIO};
    struct report report;
    for (; fault.from <= 2; fault.from++) { /* of data.mdb, of tail.wal */
        run_child(*state, &fault, &report);
        assert_int_equal(report.hits, 1);
        assert_int_equal(report.open, STATUS_IO);
        assert_true(report.message[0] != '\0');
        check_journal(*state, &report);
        remove_journal(*state);
        assert_int_equal(mkdir(((struct fixture *)*state)->directory, 0700), 0);
    }
}

static void test_each_write_is_short(void **state)
{
    fail_each_in_turn(*state, STORAGE_CALL_ANY_WRITE, STORAGE_SHORT);
}

/* ------------------------------------------------------------------ a lack of room */

static void append_and_expect(struct wal *wal, struct report *report, enum status expected)
{
    enum status *statuses = &report->groups[report->submitted];
    append_round(wal, statuses);
    report->submitted += GROUPS_PER_ROUND;
    for (unsigned i = 0; i < GROUPS_PER_ROUND; i++) {
        assert_int_equal(statuses[i], expected);
    }
}

/* Writes meet a full disk for a while: these groups fail, those before and after do not. */
static void refuse_for_a_while(const struct fixture *fixture, const struct storage_fault *fault)
{
    struct wal *wal = NULL;
    struct error error;
    struct report report = {0};
    struct wal_options options = power_options(fixture);
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    append_and_expect(wal, &report, STATUS_OK);
    storage_disk_full_set(true);
    storage_fault_set(fault);
    append_and_expect(wal, &report, STATUS_FULL);
    assert_int_equal(wal_property_set(wal, "name", slice_text("value"), &error), STATUS_FULL);
    assert_true(storage_fault_hits() > 0);
    storage_fault_set(NULL);
    storage_disk_full_set(false);
    append_and_expect(wal, &report, STATUS_OK);
    wal_close(wal, true);
    check_journal(fixture, &report);
}

static void test_writes_find_no_room(void **state)
{
    struct storage_fault fault = {
        .call = STORAGE_CALL_WRITE, .from = 1, .count = 1000, .error = ENOSPC};
    refuse_for_a_while(*state, &fault);
}

/* LMDB calls a short write EIO; on a full disk it is a lack of room. */
static void test_writes_find_half_the_room(void **state)
{
    struct storage_fault fault = {
        .call = STORAGE_CALL_WRITE, .from = 1, .count = 1000, .failure = STORAGE_SHORT};
    refuse_for_a_while(*state, &fault);
}

/*
 * The tables find no room while the tail has groups that they do not have: nothing of it is lost,
 * what is open can be ended, in the tail's blocks, and when there is room again everything goes on.
 * A batch that is refused on the way takes the open transaction with it, which is made anew.
 */
static void test_tables_find_no_room_for_the_tail(void **state)
{
    enum { UNITS = 40 };
    struct fixture *fixture = *state;
    struct storage_fault fault = {.call = STORAGE_CALL_ANY_WRITE,
                                  .file = STORAGE_TABLES,
                                  .from = 1,
                                  .count = 100000,
                                  .error = ENOSPC};
    struct wal_options options = power_options(fixture);
    struct wal *wal = NULL;
    struct error error;
    struct wal_unit unit;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    for (uint64_t i = 1; i <= UNITS; i++) {
        assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, i, "image", NULL), STATUS_OK);
    }
    storage_disk_full_set(true);
    storage_fault_set(&fault);
    assert_int_equal(wal_property_set(wal, "name", slice_text("value"), &error), STATUS_FULL);
    for (uint64_t i = 1; i <= UNITS; i++) {
        enum wal_kind kind = i % 3 == 0   ? WAL_KIND_CONFLICT
                             : i % 3 == 1 ? WAL_KIND_COMMIT
                                          : WAL_KIND_ABORT;
        assert_int_equal(fixture_append(wal, kind, i, "end", NULL), STATUS_OK);
        if (i % 10 == 0) { /* tried again, and again in vain */
            assert_int_equal(wal_property_set(wal, "name", slice_text("value"), &error),
                             STATUS_FULL);
        }
    }
    /* Too large for a frame: to the tables or not at all. */
    struct wal_append large = {
        .kind = WAL_KIND_ABORT, .unit = 3, .payload = slice_make(large_image, LARGE_BYTES)};
    assert_int_equal(wal_append_wait(wal, &large, &error), STATUS_FULL);
    assert_int_equal(fixture_append(wal, WAL_KIND_ABORT, 6, "end", NULL), STATUS_OK);
    assert_true(storage_fault_hits() > 0);
    storage_fault_set(NULL);
    storage_disk_full_set(false);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, UNITS + 1, "", NULL), STATUS_OK);
    assert_int_equal(wal_append_wait(wal, &large, &error), STATUS_OK);
    for (int pass = 0; pass < 2; pass++) {
        struct wal_reader *reader = fixture_reader(wal);
        for (uint64_t i = 1; i <= UNITS; i++) {
            enum wal_unit_state wanted = i == 3 || i == 6 || i % 3 == 2 ? WAL_UNIT_ABORTED
                                         : i % 3 == 0                   ? WAL_UNIT_CONFLICT
                                                                        : WAL_UNIT_COMMITTED;
            assert_status(wal_read_unit(reader, i, &unit, &error), STATUS_OK, &error);
            assert_int_equal(unit.state, wanted);
        }
        wal_reader_end(reader);
        assert_int_equal(fixture_statistics(wal).records, 2 * UNITS + 3);
        wal_close(wal, true);
        assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    }
    wal_close(wal, true);
    fixture_assert_undamaged(fixture);
}

/* The disk has no room for a tail: it is done without, and a part of one is not left. */
static void test_tail_finds_no_room(void **state)
{
    struct storage_fault fault = {.call = STORAGE_CALL_WRITE,
                                  .file = STORAGE_TAIL_NEW,
                                  .from = 3,
                                  .count = 100000,
                                  .error = ENOSPC};
    struct wal_options options = power_options(*state);
    struct wal *wal = NULL;
    struct error error;
    struct report report = {0};
    char tail[300];
    char part[300];
    fixture_path(*state, "tail.wal", tail, sizeof(tail));
    fixture_path(*state, "tail.wal.new", part, sizeof(part));
    for (int i = 0; i < 4; i++) { /* twice without one, with one, without one again */
        storage_fault_set(i == 2 ? NULL : &fault);
        assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
        assert_int_equal(storage_fault_hits() > 0, i != 2);
        assert_int_equal(access(tail, F_OK) == 0, i == 2);
        assert_int_not_equal(access(part, F_OK), 0);
        append_and_expect(wal, &report, STATUS_OK);
        wal_close(wal, i == 2);
        if (i == 2) {
            assert_int_equal(unlink(tail), 0);
        }
    }
    storage_fault_set(NULL);
    check_journal(*state, &report);
}

/* Somebody else filled the disk: what is open can be ended in the blocks that were kept. */
static void test_full_disk_leaves_room_to_end_units(void **state)
{
    struct wal *wal = fixture_open(*state);
    for (uint64_t unit = 1; unit <= 4; unit++) {
        assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, unit, "", NULL), STATUS_OK);
    }
    wal_close(wal, false);
    storage_disk_full_set(true);
    wal = fixture_open(*state);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 5, "", NULL), STATUS_FULL);
    assert_int_equal(fixture_append(wal, WAL_KIND_WRITE, 4, "", NULL), STATUS_FULL);
    assert_int_equal(fixture_append(wal, WAL_KIND_ABORT, 1, "", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, 2, "", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_CONFLICT, 3, "", NULL), STATUS_OK);
    storage_disk_full_set(false);
    assert_int_equal(fixture_append(wal, WAL_KIND_WRITE, 4, "", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 5, "", NULL), STATUS_OK);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_sync_fails),
        TEST(test_each_write_fails),
        TEST(test_each_write_fails_although_it_was_done),
        TEST(test_each_write_is_short),
        TEST(test_each_rename_fails),
        TEST(test_writes_find_no_room),
        TEST(test_writes_find_half_the_room),
        TEST(test_tables_find_no_room_for_the_tail),
        TEST(test_tail_finds_no_room),
        TEST(test_full_disk_leaves_room_to_end_units),
    };
    memset(image, 'i', sizeof(image));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
