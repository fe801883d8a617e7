/*
 * The journal's contract, one promise a test: appending and reading back, atomic groups, the rules
 * of a unit's records, sessions, properties, retention, and what survives closing and being killed.
 */

#include <signal.h>
#include <sys/wait.h>

#include <time.h>

#include "holdfast/clock.h"
#include "wal/format.h"
#include "wal/internal.h"
#include "wal_fixture.h"

static void test_round_trip(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct wal_append commit = {
        .kind = WAL_KIND_COMMIT, .unit = 1, .payload = slice_text("the end")};
    struct wal_append write = {
        .kind = WAL_KIND_WRITE, .unit = 1, .payload = slice_text("image"), .next = &commit};
    struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = 1, .next = &write};
    struct wal_record record;
    struct wal_unit unit;
    struct error error;
    assert_int_equal(wal_unit_next(wal), 1);
    assert_int_equal(wal_last_lsn(wal), 0);
    assert_status(wal_append_wait(wal, &begin, &error), STATUS_OK, &error);
    assert_int_equal(begin.lsn, 1);
    assert_int_equal(write.lsn, 2);
    assert_int_equal(commit.lsn, 3);
    assert_int_equal(commit.status, STATUS_OK);
    assert_int_equal(wal_last_lsn(wal), 3);

    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read(reader, 2, &record, &error), STATUS_OK, &error);
    assert_int_equal(record.kind, WAL_KIND_WRITE);
    assert_int_equal(record.previous_lsn, 1);
    assert_true(slice_equal(record.payload, slice_text("image")));
    assert_true(record.time_ms > 1500000000000u);
    assert_status(wal_read_next(reader, 2, &record, &error), STATUS_OK, &error);
    assert_int_equal(record.lsn, 3);
    assert_int_equal(wal_read_next(reader, 3, &record, &error), STATUS_NOT_FOUND);
    assert_int_equal(wal_read_next(reader, UINT64_MAX, &record, &error), STATUS_NOT_FOUND);
    assert_int_equal(wal_read(reader, 9, &record, &error), STATUS_NOT_FOUND);
    assert_status(wal_read_unit(reader, 1, &unit, &error), STATUS_OK, &error);
    assert_int_equal(unit.state, WAL_UNIT_COMMITTED);
    assert_true(unit.first_lsn == 1 && unit.last_lsn == 3);
    assert_int_equal(wal_read_unit_next(reader, 1, &unit, &error), STATUS_NOT_FOUND);
    assert_int_equal(wal_read_open_next(reader, 0, &unit, &error), STATUS_NOT_FOUND);
    reader = wal_reader_end(reader);
    wal_reader_end(reader);
    wal = wal_close(wal, true);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

static void test_reader_sees_one_snapshot(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct wal_record record;
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 1, "", NULL), STATUS_OK);
    struct wal_reader *reader = fixture_reader(wal);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, 1, "", NULL), STATUS_OK);
    assert_int_equal(wal_read(reader, 2, &record, NULL), STATUS_NOT_FOUND);
    wal_reader_end(reader);
    wal_close(wal, true);
}

/* For each state, what may follow; anything else is refused and leaves nothing behind. */
static void test_rules(void **state)
{
    static const enum wal_kind kinds[] = {
        WAL_KIND_BEGIN,    WAL_KIND_WRITE,      WAL_KIND_COMMIT,
        WAL_KIND_ABORT,    WAL_KIND_OUTCOME,    WAL_KIND_SETTLED,
        WAL_KIND_CONFLICT, WAL_KIND_CHECKPOINT, WAL_KIND_COMMITTING};
    static const struct {
        const char
            *records; /* the unit's so far: first letters, X for CONFLICT, M for COMMITTING */
        const char *allowed;
    } cases[] = {
        {"", "B"},      {"B", "WCAXM"}, {"BW", "WCAXM"}, {"BC", "X"},
        {"BCX", "CAX"}, {"BWA", ""},    {"BX", "CAX"},   {"BXX", "CAX"},
        {"BXC", "X"},   {"BM", "CAX"},  {"BMC", "X"},    {"BMX", "CAX"},
    };
    static const char letters[] = "BWCAOSXKM";
    struct wal *wal = fixture_open(*state);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
            uint64_t unit = wal_unit_next(wal);
            for (const char *at = cases[i].records; *at != '\0'; at++) {
                enum wal_kind made = kinds[strchr(letters, *at) - letters];
                assert_int_equal(fixture_append(wal, made, unit, "", NULL), STATUS_OK);
            }
            uint64_t before = wal_last_lsn(wal);
            bool allowed = strchr(cases[i].allowed, letters[kind]) != NULL;
            assert_int_equal(fixture_append(wal, kinds[kind], unit, "", NULL),
                             allowed ? STATUS_OK : STATUS_INVALID);
            assert_int_equal(wal_last_lsn(wal), before + (allowed ? 1 : 0));
        }
    }
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 0, "", NULL), STATUS_INVALID);
    assert_int_equal(fixture_append(wal, (enum wal_kind)200, 1, "", NULL), STATUS_INVALID);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

/* The first COMMITTING makes it a journal that older programs refuse, in the same transaction. */
static uint32_t version_on_disk(const struct fixture *fixture)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(fixture);
    options.read_only = true;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    uint32_t version = wal->version;
    wal_close(wal, false);
    return version;
}

static void test_committing_raises_the_version(void **state)
{
    struct fixture *fixture = *state;
    struct wal *wal = fixture_open(fixture);
    struct wal_unit unit;
    struct error error;
    struct wal_append committing = {.kind = WAL_KIND_COMMITTING, .unit = 1};
    struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = 1, .next = &committing};
    uint32_t committing_tail = format_version_tail(FORMAT_VERSION_COMMITTING);
    assert_int_equal(wal->version, FORMAT_VERSION_TAIL);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 2, "", NULL), STATUS_OK);
    assert_int_equal(wal->version, FORMAT_VERSION_TAIL);
    assert_status(wal_append_wait(wal, &begin, &error), STATUS_OK, &error);
    assert_int_equal(wal->version, committing_tail);
    wal = wal_close(wal, false);
    assert_int_equal(version_on_disk(fixture), committing_tail);
    wal = fixture_open(fixture);
    assert_int_equal(wal->version, committing_tail);
    assert_int_equal(fixture_statistics(wal).units_open, 2);
    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read_unit(reader, 1, &unit, &error), STATUS_OK, &error);
    assert_int_equal(unit.state, WAL_UNIT_COMMITTING);
    wal_reader_end(reader);
    wal_close(wal, true);
    assert_int_equal(version_on_disk(fixture), FORMAT_VERSION_COMMITTING); /* without the tail */
    fixture_assert_undamaged(fixture);
}

struct counted {
    _Atomic unsigned done;
};

static void on_counted(struct wal_append *first, void *context)
{
    struct counted *counted = context;
    assert_int_equal(first->status, STATUS_OK);
    counted->done++;
}

/* What nobody waits for costs no commit where others come, and is written soon where none do. */
static void test_unhurried_groups_join_others(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct counted counted = {0};
    struct wal_append first = {.kind = WAL_KIND_BEGIN,
                               .unit = wal_unit_next(wal),
                               .unhurried = true,
                               .completed = on_counted,
                               .context = &counted};
    struct wal_append second = first;
    second.unit = wal_unit_next(wal);
    uint64_t since_ms = clock_monotonic_ms();
    wal_append(wal, &first);
    uint64_t batches = fixture_statistics(wal).batches;
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, wal_unit_next(wal), "", NULL), STATUS_OK);
    if (clock_monotonic_ms() - since_ms < WAL_UNHURRIED_MS) {
        assert_int_equal(counted.done, 1);
        assert_int_equal(fixture_statistics(wal).batches, batches + 1);
    }
    wal_append(wal, &second);
    while (counted.done < 2) {
        assert_true(clock_monotonic_ms() - since_ms < 20000);
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    wal_append(wal, &(struct wal_append){.kind = WAL_KIND_ABORT, .unit = 1, .unhurried = true});
    wal_close(wal, true); /* writes what is queued */
    fixture_assert_undamaged(*state);
}

static void test_group_is_all_or_nothing(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct wal_unit unit;
    struct error error;
    struct wal_append late = {.kind = WAL_KIND_WRITE, .unit = 1};
    struct wal_append commit = {.kind = WAL_KIND_COMMIT, .unit = 1, .next = &late};
    struct wal_append other = {.kind = WAL_KIND_BEGIN, .unit = 2, .next = &commit};
    struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = 1, .next = &other};
    assert_int_equal(wal_append_wait(wal, &begin, &error), STATUS_INVALID);
    assert_int_equal(begin.lsn, 0);
    assert_int_equal(late.status, STATUS_INVALID);
    assert_int_equal(wal_last_lsn(wal), 0);
    commit.next = NULL; /* two units in one group */
    assert_status(wal_append_wait(wal, &begin, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read_unit(reader, 1, &unit, &error), STATUS_OK, &error);
    assert_true(unit.state == WAL_UNIT_COMMITTED && unit.first_lsn == 1 && unit.last_lsn == 3);
    assert_status(wal_read_open_next(reader, 0, &unit, &error), STATUS_OK, &error);
    assert_true(unit.unit == 2 && unit.state == WAL_UNIT_OPEN && unit.last_lsn == 2);
    wal_reader_end(reader);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

static struct wal_append begin_in_session(uint64_t unit, const char *key, int64_t number)
{
    return (struct wal_append){
        .kind = WAL_KIND_BEGIN,
        .unit = unit,
        .session_key = slice_text(key),
        .transaction_number = number,
    };
}

static void test_sessions(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct wal_session session;
    struct error error;
    struct wal_append first = begin_in_session(1, "alice/1", 10);
    struct wal_append second = begin_in_session(2, "alice/1", 11);
    struct wal_append older = begin_in_session(3, "alice/1", 9);
    assert_status(wal_append_wait(wal, &first, &error), STATUS_OK, &error);
    assert_int_equal(fixture_append(wal, WAL_KIND_ABORT, 1, "", NULL), STATUS_OK);
    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read_session(reader, slice_text("alice/1"), &session, &error), STATUS_OK,
                  &error);
    assert_true(session.transaction_number == 10 && session.unit == 1);
    assert_int_equal(session.unit_state, WAL_UNIT_ABORTED);
    assert_int_equal(wal_read_session(reader, slice_text("alice/2"), &session, &error),
                     STATUS_NOT_FOUND);
    assert_int_equal(wal_read_session(reader, slice_make("", 0), &session, &error),
                     STATUS_NOT_FOUND);
    wal_reader_end(reader);
    assert_status(wal_append_wait(wal, &second, &error), STATUS_OK, &error);
    assert_status(wal_append_wait(wal, &older, &error), STATUS_OK, &error);
    reader = fixture_reader(wal);
    assert_status(wal_read_session(reader, slice_text("alice/1"), &session, &error), STATUS_OK,
                  &error);
    assert_true(session.transaction_number == 11 && session.unit == 2);
    wal_reader_end(reader);
    struct wal_append large = begin_in_session(
        4, "a key of more than the sixty-four bytes that the journal keeps room for", 1);
    assert_int_equal(wal_append_wait(wal, &large, &error), STATUS_INVALID);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

static void test_properties(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct error error;
    char buffer[8] = "";
    size_t size = 0;
    assert_int_equal(wal_property_get(wal, "upstream", buffer, sizeof(buffer), &size, &error),
                     STATUS_NOT_FOUND);
    assert_status(wal_property_set(wal, "upstream", slice_text("first"), &error), STATUS_OK,
                  &error);
    assert_status(wal_property_set(wal, "upstream", slice_text("longer than the buffer"), &error),
                  STATUS_OK, &error);
    assert_status(wal_property_set(wal, "empty", slice_make(NULL, 0), &error), STATUS_OK, &error);
    assert_int_equal(wal_property_set(wal, ".format", slice_text("x"), &error), STATUS_INVALID);
    assert_int_equal(wal_property_set(wal, "", slice_text("x"), &error), STATUS_INVALID);
    wal_close(wal, true);
    wal = fixture_open(*state);
    assert_status(wal_property_get(wal, "upstream", buffer, sizeof(buffer), &size, &error),
                  STATUS_OK, &error);
    assert_int_equal(size, 22);
    assert_memory_equal(buffer, "longer t", 8);
    assert_status(wal_property_get(wal, "empty", NULL, 0, &size, &error), STATUS_OK, &error);
    assert_int_equal(size, 0);
    wal_close(wal, true);
}

static void test_numbers_and_identity_survive(void **state)
{
    uint8_t id[WAL_JOURNAL_ID_BYTES];
    struct wal *wal = fixture_open(*state);
    assert_true(wal_was_clean(wal));
    memcpy(id, wal_journal_id(wal), sizeof(id));
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 41, "", NULL), STATUS_OK);
    assert_int_equal(wal_unit_next(wal), 42);
    wal_close(wal, true);
    wal = fixture_open(*state);
    assert_true(wal_was_clean(wal));
    assert_memory_equal(id, wal_journal_id(wal), sizeof(id));
    assert_int_equal(wal_last_lsn(wal), 1);
    assert_int_equal(wal_unit_next(wal), 42);
    wal_close(wal, false);
    wal = fixture_open(*state);
    assert_false(wal_was_clean(wal));
    wal_close(wal, true);
}

/* ------------------------------------------------------------------ retention */

static uint64_t fake_wall_ms = 1000;

static uint64_t fake_wall(void)
{
    return fake_wall_ms;
}

static uint64_t fake_monotonic(void)
{
    return fake_wall_ms;
}

static void test_prune(void **state)
{
    static const struct clock_source fake = {fake_monotonic, fake_wall};
    clock_use(&fake);
    fake_wall_ms = 1000;
    struct wal *wal = fixture_open(*state);
    struct error error;
    struct wal_session session;
    struct wal_unit unit;
    uint64_t removed = 0;
    /* Unit 1 ends early, 2 is in conflict, 3 stays open, 4 ends late, 5 shares 1's session. */
    struct wal_append one = begin_in_session(1, "s", 1);
    struct wal_append three = begin_in_session(3, "t", 1);
    assert_int_equal(wal_append_wait(wal, &one, &error), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, 1, "", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 2, "", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_CONFLICT, 2, "", NULL), STATUS_OK);
    assert_int_equal(wal_append_wait(wal, &three, &error), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 4, "", NULL), STATUS_OK);
    fake_wall_ms = 2000;
    assert_int_equal(fixture_append(wal, WAL_KIND_ABORT, 4, "", NULL), STATUS_OK);
    assert_status(
        wal_prune(wal,
                  &(struct wal_prune_options){.ended_before_ms = 1000, .settled_lsn = UINT64_MAX},
                  &removed, &error),
        STATUS_OK, &error);
    assert_int_equal(removed, 0);
    assert_status(
        wal_prune(wal,
                  &(struct wal_prune_options){.ended_before_ms = 1500, .settled_lsn = UINT64_MAX},
                  &removed, &error),
        STATUS_OK, &error);
    assert_int_equal(removed, 1);
    struct wal_reader *reader = fixture_reader(wal);
    assert_int_equal(wal_read_unit(reader, 1, &unit, &error), STATUS_NOT_FOUND);
    assert_int_equal(wal_read_session(reader, slice_text("s"), &session, &error), STATUS_NOT_FOUND);
    assert_status(wal_read_session(reader, slice_text("t"), &session, &error), STATUS_OK, &error);
    assert_status(wal_read_unit(reader, 2, &unit, &error), STATUS_OK, &error);
    assert_status(wal_read_unit(reader, 4, &unit, &error), STATUS_OK, &error);
    wal_reader_end(reader);
    assert_int_equal(fixture_statistics(wal).records, 5);
    assert_int_equal(fixture_statistics(wal).first_lsn, 3);
    wal_close(wal, true);
    clock_use(NULL);
    fixture_assert_undamaged(*state);
}

static void test_commits_are_counted_for_every_reader(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct wal_statistics before = fixture_statistics(wal);
    uint64_t started_ms = clock_monotonic_ms();
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 1, "", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_WRITE, 1, "w", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, 1, "", NULL), STATUS_OK);
    struct wal_statistics after = fixture_statistics(wal);
    assert_int_equal(after.batches - before.batches, 3);
    /* They are in the tail; unless the machine stood still for so long that a checkpoint came. */
    assert_true(after.commits - before.commits <= 3);
    assert_true(after.commits == before.commits || clock_monotonic_ms() - started_ms >= 20);
    wal_close(wal, false);
    wal = fixture_open(*state); /* another life knows what was, unlike `batches` */
    assert_int_equal(fixture_statistics(wal).batches, 0);
    assert_true(fixture_statistics(wal).commits > before.commits);
    wal_close(wal, true);
}

static void test_prune_gives_space_back_and_no_number_twice(void **state)
{
    enum { WRITES = 2000 };
    static char image[8000];
    struct wal *wal = fixture_open(*state);
    struct error error;
    uint64_t removed = 0;
    memset(image, 'x', sizeof(image) - 1);
    struct wal_append *writes = calloc(WRITES, sizeof(*writes));
    assert_non_null(writes);
    for (int round = 0; round < 6; round++) { /* six times 16 MB through 32 MB */
        uint64_t unit = wal_unit_next(wal);
        assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, unit, "", NULL), STATUS_OK);
        for (int i = 0; i < WRITES; i++) {
            writes[i] = (struct wal_append){.kind = WAL_KIND_WRITE,
                                            .unit = unit,
                                            .payload = slice_make(image, sizeof(image)),
                                            .next = i + 1 < WRITES ? &writes[i + 1] : NULL};
        }
        assert_status(wal_append_wait(wal, &writes[0], &error), STATUS_OK, &error);
        assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, unit, "", NULL), STATUS_OK);
        uint64_t last = wal_last_lsn(wal);
        assert_status(wal_prune(wal,
                                &(struct wal_prune_options){.ended_before_ms = UINT64_MAX,
                                                            .settled_lsn = UINT64_MAX},
                                &removed, &error),
                      STATUS_OK, &error);
        assert_int_equal(removed, 1);
        assert_true(fixture_statistics(wal).used_bytes < 1 << 20);
        assert_int_equal(fixture_statistics(wal).records, 0);
        wal_close(wal, true);
        fixture_assert_undamaged(*state);
        wal = fixture_open(*state);
        assert_int_equal(wal_last_lsn(wal), last);
        assert_int_equal(fixture_statistics(wal).last_lsn, last);
    }
    assert_int_equal(wal_unit_next(wal), 7);
    free(writes);
    wal_close(wal, true);
}

/* ------------------------------------------------------------------ being killed */

static void test_writable_until_full_and_again_after_pruning(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct error error = {0};
    static char text[256 * 1024];
    enum status status = STATUS_OK;
    uint64_t unit = 0;
    memset(text, 'x', sizeof(text) - 1);
    for (int i = 0; i < 1000 && status == STATUS_OK; i++) {
        assert_status(wal_check_writable(wal, &error), STATUS_OK, &error);
        unit = wal_unit_next(wal);
        status = fixture_append(wal, WAL_KIND_BEGIN, unit, text, NULL);
        if (status == STATUS_OK) {
            assert_status(fixture_append(wal, WAL_KIND_COMMIT, unit, "", NULL), STATUS_OK, &error);
        }
    }
    assert_int_equal(status, STATUS_FULL);
    assert_int_equal(wal_check_writable(wal, &error), STATUS_FULL);
    assert_non_null(strstr(error.message, "quota"));
    assert_status(wal_prune(wal,
                            &(struct wal_prune_options){.ended_before_ms = UINT64_MAX,
                                                        .settled_lsn = UINT64_MAX},
                            NULL, &error),
                  STATUS_OK, &error);
    assert_status(wal_check_writable(wal, &error), STATUS_OK, &error);
    wal_close(wal, true);
}

static void test_killed_owner_leaves_what_was_completed(void **state)
{
    const struct fixture *fixture = *state;
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct wal *wal = NULL;
        struct wal_options options = fixture_options(fixture);
        bool done = wal_open(&options, &wal, NULL) == STATUS_OK &&
                    fixture_append(wal, WAL_KIND_BEGIN, 1, "kept", NULL) == STATUS_OK &&
                    write(ready[1], "k", 1) == 1;
        pause();
        _exit(done ? 0 : 1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    /* It is alive: nobody else may own the journal, anybody may look. */
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(fixture);
    char pid[32];
    assert_int_equal(wal_open(&options, &wal, &error), STATUS_OWNED);
    snprintf(pid, sizeof(pid), "pid %ld (a test)", (long)child);
    assert_non_null(strstr(error.message, pid));
    options.read_only = true;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    assert_int_equal(wal_last_lsn(wal), 1);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, 1, "", NULL), STATUS_INVALID);
    assert_int_equal(
        wal_prune(wal, &(struct wal_prune_options){.ended_before_ms = 1, .settled_lsn = UINT64_MAX},
                  NULL, &error),
        STATUS_INVALID);
    wal_close(wal, true);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ready[0]);
    wal = fixture_open(fixture);
    assert_false(wal_was_clean(wal));
    struct wal_reader *reader = fixture_reader(wal);
    struct wal_record record;
    assert_status(wal_read(reader, 1, &record, &error), STATUS_OK, &error);
    assert_true(slice_equal(record.payload, slice_text("kept")));
    wal_reader_end(reader);
    wal_close(wal, true);
    fixture_assert_undamaged(fixture);
}

static void test_second_open_in_the_same_process_is_refused(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct wal *again = NULL;
    struct error error;
    struct wal_options options = fixture_options(*state);
    assert_int_equal(wal_open(&options, &again, &error), STATUS_OWNED);
    wal_close(wal, true);
}

static bool somebody_else_may_open(const struct fixture *fixture)
{
    pid_t child = fork();
    if (child == 0) {
        struct wal *wal = NULL;
        struct error error;
        struct wal_options options = fixture_options(fixture);
        _exit(wal_open(&options, &wal, &error) == STATUS_OWNED ? 1 : 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status) == 0;
}

/* From one owner to the next nobody comes between, and the next knows that all ended cleanly. */
static void test_lock_is_handed_over(void **state)
{
    struct wal *wal = fixture_open(*state);
    struct error error;
    struct wal_options options = fixture_options(*state);
    int lock = -1;
    assert_null(wal_close_for(wal, true, &lock));
    assert_true(lock > 0);
    assert_false(somebody_else_may_open(*state));
    options.owner_lock = dup(lock);
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    assert_true(wal_was_clean(wal));
    assert_int_equal(close(lock), 0);
    assert_false(somebody_else_may_open(*state));
    wal_close(wal, true);
    assert_true(somebody_else_may_open(*state));
}

static void test_another_lock_is_refused(void **state)
{
    struct error error;
    struct wal *wal = NULL;
    struct wal_options options = fixture_options(*state);
    wal_close(fixture_open(*state), true);
    int other = dup(STDIN_FILENO);
    options.owner_lock = other;
    assert_int_equal(wal_open(&options, &wal, &error), STATUS_INVALID);
    assert_int_equal(close(other), -1); /* it was */
    assert_true(somebody_else_may_open(*state));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_reader_sees_one_snapshot),
        TEST(test_rules),
        TEST(test_committing_raises_the_version),
        TEST(test_unhurried_groups_join_others),
        TEST(test_group_is_all_or_nothing),
        TEST(test_sessions),
        TEST(test_properties),
        TEST(test_numbers_and_identity_survive),
        TEST(test_prune),
        TEST(test_commits_are_counted_for_every_reader),
        TEST(test_prune_gives_space_back_and_no_number_twice),
        TEST(test_writable_until_full_and_again_after_pruning),
        TEST(test_killed_owner_leaves_what_was_completed),
        TEST(test_second_open_in_the_same_process_is_refused),
        TEST(test_lock_is_handed_over),
        TEST(test_another_lock_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
