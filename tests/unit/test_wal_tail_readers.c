/*
 * Readers over a tail: whatever a journal's history was, every function that reads gives the same
 * answer while the newest groups are in the tail alone, in this process and in another, after a
 * kill, and when the tables have them.
 *
 * HOLDFAST_TEST_SEED repeats a run.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

#include "test_seed.h"
#include "wal/internal.h"
#include "wal_fixture.h"

enum { HISTORIES = 12, GROUPS_MAX = 120, UNITS_MAX = 400, RECORDS_MAX = 6, FLIGHT_MAX = 5 };
enum { SESSIONS = 12, SMALL_BYTES = 300, LARGE_BYTES = 70000 /* beyond any frame */ };

static uint64_t run_seed;
static uint8_t image[LARGE_BYTES];

/* ------------------------------------------------------------------ random histories */

struct history {
    struct wal *wal;
    uint64_t seed;
    bool exists[UNITS_MAX];
    enum wal_unit_state states[UNITS_MAX]; /* as of what was submitted */
    uint64_t units;                        /* the highest number */
    char keys[SESSIONS][8];
};

struct group {
    struct wal_append records[RECORDS_MAX];
    unsigned count;
};

static uint64_t pick(struct history *history, uint64_t limit)
{
    return fixture_random(&history->seed) % limit;
}

static void add(struct history *history, struct group *group, enum wal_kind kind, uint64_t unit)
{
    size_t size = pick(history, 60) == 0 ? pick(history, LARGE_BYTES) : pick(history, SMALL_BYTES);
    struct wal_append *record = &group->records[group->count];
    *record = (struct wal_append){
        .kind = kind, .unit = unit, .payload = slice_make(image + LARGE_BYTES - size, size)};
    if (kind == WAL_KIND_BEGIN && pick(history, 2) == 0) {
        record->session_key = slice_text(history->keys[pick(history, SESSIONS)]);
        record->transaction_number = (int64_t)pick(history, 20) - 2;
    }
    if (group->count > 0) {
        group->records[group->count - 1].next = record;
    }
    group->count++;
    history->exists[unit] = true;
    history->states[unit] = format_state_after(kind);
}

/* A kind that may follow; false: nothing may. */
static bool next_kind(struct history *history, uint64_t unit, enum wal_kind *ret_kind)
{
    static const enum wal_kind open[] = {WAL_KIND_WRITE, WAL_KIND_WRITE,    WAL_KIND_COMMIT,
                                         WAL_KIND_ABORT, WAL_KIND_CONFLICT, WAL_KIND_COMMITTING};
    static const enum wal_kind undecided[] = {WAL_KIND_COMMIT, WAL_KIND_ABORT, WAL_KIND_CONFLICT};
    switch (history->states[unit]) {
    case WAL_UNIT_OPEN:
        *ret_kind = open[pick(history, 6)];
        return true;
    case WAL_UNIT_COMMITTING:
    case WAL_UNIT_CONFLICT:
        *ret_kind = undecided[pick(history, 3)];
        return true;
    case WAL_UNIT_COMMITTED:
        *ret_kind = WAL_KIND_CONFLICT;
        return pick(history, 8) == 0;
    case WAL_UNIT_ABORTED:
        return false;
    }
    return false;
}

/* Of one unit or of several. */
static void make_group(struct history *history, struct group *group)
{
    unsigned wanted = 1 + (unsigned)pick(history, RECORDS_MAX);
    group->count = 0;
    while (group->count < wanted) {
        uint64_t unit = history->units == 0 ? 0 : 1 + pick(history, history->units);
        enum wal_kind kind = WAL_KIND_BEGIN;
        bool is_new = unit == 0 || !history->exists[unit] || pick(history, 3) == 0;
        if (is_new || !next_kind(history, unit, &kind)) {
            unit = wal_unit_next(history->wal);
            history->units = unit;
            kind = WAL_KIND_BEGIN;
        }
        add(history, group, kind, unit);
    }
}

static void on_completed(struct wal_append *first, void *context)
{
    (void)first;
    sem_post(context);
}

/* Up to FLIGHT_MAX groups are on their way at once. */
static void append_some(struct history *history, unsigned groups)
{
    static struct group flight[FLIGHT_MAX];
    sem_t done;
    assert_int_equal(sem_init(&done, 0, 0), 0);
    while (groups > 0) {
        unsigned count = 1 + (unsigned)pick(history, FLIGHT_MAX);
        count = count < groups ? count : groups;
        for (unsigned i = 0; i < count; i++) {
            make_group(history, &flight[i]);
            flight[i].records[0].completed = on_completed;
            flight[i].records[0].context = &done;
        }
        for (unsigned i = 0; i < count; i++) {
            wal_append(history->wal, &flight[i].records[0]);
        }
        for (unsigned i = 0; i < count; i++) {
            while (sem_wait(&done) != 0) {
            }
        }
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(flight[i].records[0].status, STATUS_OK);
        }
        groups -= count;
    }
    sem_destroy(&done);
}

/* Units that ended go. */
static void prune(struct history *history)
{
    struct error error;
    struct wal_unit unit;
    struct wal_prune_options options = {.ended_before_ms = UINT64_MAX, .settled_lsn = UINT64_MAX};
    assert_status(wal_prune(history->wal, &options, NULL, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(history->wal);
    for (uint64_t i = 1; i <= history->units; i++) {
        history->exists[i] = wal_read_unit(reader, i, &unit, NULL) == STATUS_OK;
        history->states[i] = history->exists[i] ? history->states[i] : WAL_UNIT_ABORTED;
    }
    wal_reader_end(reader);
}

/* Ends with groups that follow no task: those may be in the tail alone. */
static void live(struct wal *wal, uint64_t seed)
{
    static struct history history;
    struct error error;
    history = (struct history){.wal = wal, .seed = seed};
    for (unsigned i = 0; i < SESSIONS; i++) {
        snprintf(history.keys[i], sizeof(history.keys[i]), "%.*s", 1 + (int)(i % 3),
                 &"abcabdbcaxyz"[i]);
    }
    append_some(&history, (unsigned)pick(&history, GROUPS_MAX / 4));
    if (pick(&history, 2) == 0) {
        prune(&history);
    }
    append_some(&history, (unsigned)pick(&history, GROUPS_MAX / 4));
    assert_status(wal_property_set(wal, "name", slice_text("value"), &error), STATUS_OK, &error);
    append_some(&history, 1 + (unsigned)pick(&history, GROUPS_MAX / 4));
    assert_true(history.units < UNITS_MAX);
}

/* ------------------------------------------------------------------ all that can be read */

/* Text; frees with free(). */
struct dump {
    char *text;
    size_t size;
    size_t pending; /* frames that were laid over the tables; not compared */
};

static void dump_record(FILE *out, const struct wal_record *record)
{
    fprintf(out,
            "record %" PRIu64 " unit %" PRIu64 " previous %" PRIu64 " time %" PRIu64 " kind %d"
            " size %zu crc %u\n",
            record->lsn, record->unit, record->previous_lsn, record->time_ms, (int)record->kind,
            record->payload.size, format_crc32c(0, record->payload));
}

static void dump_unit(FILE *out, const char *what, const struct wal_unit *unit)
{
    fprintf(out, "%s %" PRIu64 ": %" PRIu64 " to %" PRIu64 ", %" PRIu64 " to %" PRIu64 ", %s\n",
            what, unit->unit, unit->first_lsn, unit->last_lsn, unit->begin_time_ms,
            unit->last_time_ms, wal_unit_state_name(unit->state));
}

static void dump_records(FILE *out, struct wal_reader *reader, uint64_t last_lsn)
{
    struct wal_record record = {0};
    struct wal_record again;
    enum status status = STATUS_OK;
    while ((status = wal_read_next(reader, record.lsn, &record, NULL)) == STATUS_OK) {
        dump_record(out, &record);
    }
    fprintf(out, "then %s\n", status_name(status));
    for (uint64_t lsn = 0; lsn <= last_lsn + 2; lsn++) {
        status = wal_read(reader, lsn, &again, NULL);
        fprintf(out, "%s: ", status_name(status));
        if (status == STATUS_OK) {
            dump_record(out, &again);
        }
    }
}

static void dump_units(FILE *out, struct wal_reader *reader, uint64_t last_unit)
{
    struct wal_unit unit = {0};
    enum status status = STATUS_OK;
    while ((status = wal_read_unit_next(reader, unit.unit, &unit, NULL)) == STATUS_OK) {
        dump_unit(out, "unit", &unit);
    }
    fprintf(out, "then %s\n", status_name(status));
    unit = (struct wal_unit){0};
    while ((status = wal_read_open_next(reader, unit.unit, &unit, NULL)) == STATUS_OK) {
        dump_unit(out, "open", &unit);
    }
    fprintf(out, "then %s\n", status_name(status));
    for (uint64_t number = 0; number <= last_unit + 2; number++) {
        status = wal_read_unit(reader, number, &unit, NULL);
        if (status == STATUS_OK) {
            dump_unit(out, "found", &unit);
        } else {
            fprintf(out, "%" PRIu64 ": %s\n", number, status_name(status));
        }
    }
}

static void dump_session(FILE *out, struct slice key, const struct wal_session *session)
{
    fprintf(out, "session %.*s: %" PRId64 " unit %" PRIu64 " %s at %" PRIu64 "\n", (int)key.size,
            (const char *)key.data, session->transaction_number, session->unit,
            wal_unit_state_name(session->unit_state), session->time_ms);
}

static void dump_sessions(FILE *out, struct wal_reader *reader)
{
    uint8_t keys[2][LIMIT_SESSION_KEY_BYTES];
    struct slice after = slice_make(keys[0], 0);
    struct wal_session session;
    unsigned which = 0;
    size_t size = 0;
    enum status status = STATUS_OK;
    while ((status = wal_read_session_next(reader, after, keys[which], &size, &session, NULL)) ==
           STATUS_OK) {
        after = slice_make(keys[which], size);
        dump_session(out, after, &session);
        status = wal_read_session(reader, after, &session, NULL);
        fprintf(out, "%s ", status_name(status));
        dump_session(out, after, &session);
        which = 1 - which;
    }
    fprintf(out, "then %s\n", status_name(status));
}

static void dump_figures(FILE *out, struct wal *wal, const struct wal_statistics *figures)
{
    uint64_t units = 0;
    struct error error;
    struct wal_prune_options options = {.ended_before_ms = UINT64_MAX, .settled_lsn = UINT64_MAX};
    fprintf(out,
            "records %" PRIu64 " from %" PRIu64 " to %" PRIu64 " unit %" PRIu64 " pruned %" PRIu64
            " open %" PRIu64 " conflict %" PRIu64 " last %" PRIu64 "\n",
            figures->records, figures->first_lsn, figures->last_lsn, figures->last_unit,
            figures->pruned_lsn, figures->units_open, figures->units_conflict, wal_last_lsn(wal));
    for (int i = 0; i < 3; i++) {
        options.settled_lsn = i == 1 ? figures->last_lsn - figures->last_lsn / 10 : UINT64_MAX;
        options.kept_prefix = i == 2 ? slice_text("a") : slice_make(NULL, 0);
        assert_status(wal_prune_count(wal, &options, UINT64_MAX, &units, &error), STATUS_OK,
                      &error);
        fprintf(out, "prune %" PRIu64 "\n", units);
    }
}

static struct dump dump_all(struct wal *wal)
{
    struct dump dump = {0};
    FILE *out = open_memstream(&dump.text, &dump.size);
    assert_non_null(out);
    struct wal_statistics figures = fixture_statistics(wal);
    struct wal_reader *reader = fixture_reader(wal);
    dump.pending = reader->window.frames;
    dump_records(out, reader, figures.last_lsn);
    dump_units(out, reader, figures.last_unit);
    dump_sessions(out, reader);
    wal_reader_end(reader);
    dump_figures(out, wal, &figures);
    assert_int_equal(fclose(out), 0);
    return dump;
}

static void assert_same_dump(const struct dump *wanted, const struct dump *found, const char *when)
{
    size_t at = 0;
    if (wanted->size == found->size && memcmp(wanted->text, found->text, found->size) == 0) {
        return;
    }
    while (wanted->text[at] == found->text[at]) {
        at++;
    }
    while (at > 0 && wanted->text[at - 1] != '\n') {
        at--;
    }
    fail_msg("HOLDFAST_TEST_SEED=%" PRIu64 ", %s: \"%.120s\" instead of \"%.120s\"", run_seed, when,
             found->text + at, wanted->text + at);
}

/* ------------------------------------------------------------------ the tests */

static struct wal *open_again(const struct fixture *fixture, bool read_only)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(fixture);
    options.read_only = read_only;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    return wal;
}

/* The journal as it is now, opened for writing or not, is `wanted`. Returns how much was pending.
 */
static size_t compare_opened(const struct fixture *fixture, bool read_only, bool closes_cleanly,
                             const struct dump *wanted, const char *when)
{
    struct wal *wal = open_again(fixture, read_only);
    struct dump dump = dump_all(wal);
    wal_close(wal, closes_cleanly);
    assert_same_dump(wanted, &dump, when);
    free(dump.text);
    return dump.pending;
}

static void remove_journal(const struct fixture *fixture)
{
    assert_int_equal(nftw(fixture->directory, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(mkdir(fixture->directory, 0700), 0);
}

/* Another process: waits until it is told to look, and writes what it sees into a file. */
static pid_t fork_reader(const struct fixture *fixture, const char *path, int pipes[2])
{
    char byte = 0;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct wal *wal = NULL;
        struct wal_options options = fixture_options(fixture);
        options.read_only = true;
        if (read(pipes[0], &byte, 1) != 1 || wal_open(&options, &wal, NULL) != STATUS_OK) {
            _exit(1);
        }
        struct dump dump = dump_all(wal);
        FILE *out = fopen(path, "w");
        bool written = out != NULL && fwrite(dump.text, 1, dump.size, out) == dump.size;
        _exit(written && fclose(out) == 0 ? 0 : 2);
    }
    return child;
}

static struct dump read_dump(const char *path)
{
    struct stat file;
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    assert_int_equal(fstat(fileno(in), &file), 0);
    struct dump dump = {.text = calloc(1, (size_t)file.st_size + 1), .size = (size_t)file.st_size};
    assert_non_null(dump.text);
    assert_int_equal(fread(dump.text, 1, dump.size, in), dump.size);
    assert_int_equal(fclose(in), 0);
    return dump;
}

/* Returns whether there was something in the tail alone. */
static bool try_living_owner(const struct fixture *fixture, uint64_t seed)
{
    char path[300];
    int pipes[2];
    int wait_status = 0;
    fixture_path(fixture, "dump", path, sizeof(path));
    pid_t child = fork_reader(fixture, path, pipes);
    struct wal *wal = fixture_open(fixture);
    live(wal, seed);
    assert_int_equal(write(pipes[1], "g", 1), 1);
    struct dump dump = dump_all(wal);
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0);
    close(pipes[0]);
    close(pipes[1]);
    struct dump other = read_dump(path);
    assert_same_dump(&dump, &other, "another process");
    wal_close(wal, true);
    compare_opened(fixture, false, true, &dump, "closed and opened");
    fixture_assert_undamaged(fixture);
    free(dump.text);
    free(other.text);
    return dump.pending > 0;
}

static void test_same_answers_while_the_owner_lives(void **state)
{
    unsigned pending = 0;
    for (uint64_t i = 0; i < HISTORIES; i++) {
        pending += try_living_owner(*state, run_seed + i) ? 1 : 0;
        remove_journal(*state);
    }
    print_message("%u with frames\n", pending);
    assert_true(pending > 0);
}

/* The owner appends and dies at once. */
static void be_killed(const struct fixture *fixture, uint64_t seed)
{
    int wait_status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        live(fixture_open(fixture), seed);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL);
}

static uint32_t version_of(const struct fixture *fixture)
{
    struct wal *wal = open_again(fixture, true);
    uint32_t version = wal->version;
    wal_close(wal, false);
    return version;
}

static bool try_killed_owner(const struct fixture *fixture, uint64_t seed)
{
    be_killed(fixture, seed);
    uint32_t killed = version_of(fixture);
    assert_true(killed >= FORMAT_VERSION_TAIL);
    struct wal *wal = open_again(fixture, true);
    struct dump dump = dump_all(wal);
    wal_close(wal, false);
    wal = open_again(fixture, false);
    assert_false(wal_was_clean(wal));
    uint32_t recovered = wal->version; /* the tail may have what raises it */
    assert_true(recovered >= killed);
    wal_close(wal, false);
    compare_opened(fixture, true, false, &dump, "recovered and read");
    compare_opened(fixture, false, true, &dump, "recovered and opened");
    assert_int_equal(version_of(fixture), format_version_no_tail(recovered));
    assert_int_equal(compare_opened(fixture, true, false, &dump, "closed and read"), 0);
    wal = open_again(fixture, false);
    assert_true(wal_was_clean(wal));
    wal_close(wal, true);
    fixture_assert_undamaged(fixture);
    free(dump.text);
    return dump.pending > 0;
}

static void test_same_answers_after_a_kill(void **state)
{
    unsigned pending = 0;
    for (uint64_t i = 0; i < HISTORIES; i++) {
        pending += try_killed_owner(*state, run_seed + i) ? 1 : 0;
        remove_journal(*state);
    }
    print_message("%u with frames\n", pending);
    assert_true(pending > 0);
}

/* Owner after owner is killed, on one journal: each begins with what the one before left. */
static void test_same_answers_after_kill_upon_kill(void **state)
{
    struct dump dump = {0};
    for (uint64_t i = 0; i < HISTORIES / 2; i++) {
        int wait_status = 0;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct wal *wal = fixture_open(*state);
            if (dump.text != NULL) {
                struct dump found = dump_all(wal);
                assert_same_dump(&dump, &found, "by the next owner");
            }
            uint64_t unit = wal_unit_next(wal);
            for (uint64_t left = 1 + i * 3; left > 0; left--) {
                struct wal_append write_record = {.kind = WAL_KIND_WRITE, .unit = unit};
                struct wal_append begin = {
                    .kind = WAL_KIND_BEGIN, .unit = unit, .next = &write_record};
                if (wal_append_wait(wal, &begin, NULL) != STATUS_OK) {
                    _exit(1);
                }
                unit = wal_unit_next(wal);
            }
            kill(getpid(), SIGKILL);
        }
        assert_int_equal(waitpid(child, &wait_status, 0), child);
        assert_true(WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL);
        free(dump.text);
        struct wal *wal = open_again(*state, true);
        dump = dump_all(wal);
        wal_close(wal, false);
    }
    compare_opened(*state, false, true, &dump, "at last");
    fixture_assert_undamaged(*state);
    free(dump.text);
}

/* The same with encryption at rest. */
static int setup_encrypted(void **state)
{
    char path[300];
    if (fixture_setup(state) != 0) {
        return 1;
    }
    struct fixture *fixture = *state;
    snprintf(path, sizeof(path), "%s.key", fixture->directory);
    int descriptor = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    static const char key[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n";
    assert_int_equal(write(descriptor, key, sizeof(key) - 1), sizeof(key) - 1);
    assert_int_equal(close(descriptor), 0);
    return setenv("HOLDFAST_TEST_KEY_FILE", path, 1);
}

static int teardown_encrypted(void **state)
{
    assert_int_equal(unlink(getenv("HOLDFAST_TEST_KEY_FILE")), 0);
    unsetenv("HOLDFAST_TEST_KEY_FILE");
    return fixture_teardown(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define ENCRYPTED(name)                                                                            \
    {                                                                                              \
#name ", encrypted", name, setup_encrypted, teardown_encrypted, NULL                       \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_same_answers_while_the_owner_lives),
        TEST(test_same_answers_after_a_kill),
        TEST(test_same_answers_after_kill_upon_kill),
        ENCRYPTED(test_same_answers_while_the_owner_lives),
        ENCRYPTED(test_same_answers_after_a_kill),
    };
    run_seed = seed_of_run();
    for (size_t i = 0; i < sizeof(image); i++) {
        image[i] = (uint8_t)(i * 7 + i / 256);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
