/*
 * kill -9 of the owner at random moments, again and again on one journal: everything that was
 * acknowledged before is there each time, whole, and the journal goes on.
 *
 * The child's threads append units and tell of each acknowledgement by a pipe; what was in the pipe
 * when the child died counts as acknowledged. HOLDFAST_TEST_SEED chooses the moments.
 */

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "test_seed.h"
#include "wal/internal.h"
#include "wal_fixture.h"

enum { KILLS = 40, THREADS = 4, UNITS_MAX = 200000, WRITES_MAX = 3 };

/* What the parent was told of a unit: the last LSN and state that were acknowledged. */
struct acknowledged {
    uint64_t lsn; /* 0: nothing */
    enum wal_unit_state state;
};

static struct acknowledged units[UNITS_MAX];

/* ------------------------------------------------------------------ the child */

struct message {
    uint64_t unit;
    uint64_t lsn;
    enum wal_unit_state state;
};

struct appender {
    struct wal *wal;
    int pipe;
    uint64_t seed;
};

/* Appends a group and tells of it. A message is written whole: it is smaller than PIPE_BUF. */
static void append_and_tell(struct appender *appender, struct wal_append *first,
                            const struct wal_append *last, enum wal_unit_state state)
{
    if (wal_append_wait(appender->wal, first, NULL) != STATUS_OK) {
        _exit(2);
    }
    struct message message = {.unit = first->unit, .lsn = last->lsn, .state = state};
    if (write(appender->pipe, &message, sizeof(message)) != (ssize_t)sizeof(message)) {
        _exit(3);
    }
}

static void *append_units(void *argument)
{
    struct appender *appender = argument;
    uint8_t payload[6000];
    for (;;) {
        uint64_t unit = wal_unit_next(appender->wal);
        memset(payload, (int)(unit & 0xFF), sizeof(payload));
        struct slice image = slice_make(payload, fixture_random(&appender->seed) % sizeof(payload));
        struct wal_append write_record = {.kind = WAL_KIND_WRITE, .unit = unit, .payload = image};
        struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = unit, .next = &write_record};
        append_and_tell(appender, &begin, &write_record, WAL_UNIT_OPEN);
        for (uint64_t left = fixture_random(&appender->seed) % WRITES_MAX; left > 0; left--) {
            struct wal_append more = {.kind = WAL_KIND_WRITE, .unit = unit, .payload = image};
            append_and_tell(appender, &more, &more, WAL_UNIT_OPEN);
        }
        struct wal_append end = {.kind = unit % 4 == 0 ? WAL_KIND_ABORT : WAL_KIND_COMMIT,
                                 .unit = unit};
        append_and_tell(appender, &end, &end,
                        unit % 4 == 0 ? WAL_UNIT_ABORTED : WAL_UNIT_COMMITTED);
    }
    return NULL;
}

static _Noreturn void child_main(const struct fixture *fixture, int pipe, uint64_t seed)
{
    struct wal *wal = NULL;
    struct error error;
    pthread_t thread;
    struct wal_options options = fixture_options(fixture);
    static struct appender appenders[THREADS];
    options.quota_bytes = (uint64_t)1 << 30;
    if (wal_open(&options, &wal, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.message);
        _exit(4);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        appenders[i] = (struct appender){.wal = wal, .pipe = pipe, .seed = seed + i};
        if (pthread_create(&thread, NULL, append_units, &appenders[i]) != 0) {
            _exit(5);
        }
    }
    for (;;) {
        pause();
    }
}

/* ------------------------------------------------------------------ the parent */

static unsigned read_messages(int pipe)
{
    struct message message;
    unsigned count = 0;
    while (read(pipe, &message, sizeof(message)) == (ssize_t)sizeof(message)) {
        assert_true(message.unit < UNITS_MAX);
        units[message.unit] = (struct acknowledged){.lsn = message.lsn, .state = message.state};
        count++;
    }
    return count;
}

/* Kills the child after some milliseconds of work; returns how many acknowledgements it sent. */
static unsigned run_and_kill(const struct fixture *fixture, uint64_t *seed)
{
    int pipes[2];
    int wait_status = 0;
    struct message message;
    uint64_t child_seed = fixture_random(seed);
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(pipes[0]);
        child_main(fixture, pipes[1], child_seed);
    }
    close(pipes[1]);
    /* The pipe holds some thousand messages: so many at the most, and then the child waits. */
    assert_int_equal(read(pipes[0], &message, sizeof(message)), sizeof(message));
    units[message.unit] = (struct acknowledged){.lsn = message.lsn, .state = message.state};
    usleep((useconds_t)(fixture_random(seed) % 30000));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFSIGNALED(wait_status));
    unsigned count = 1 + read_messages(pipes[0]);
    close(pipes[0]);
    return count;
}

/* Whether the owner died with groups in the tail that the tables did not have. */
static bool has_frames(const struct fixture *fixture)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(fixture);
    options.read_only = true;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    bool has = reader->window.frames > 0;
    wal_reader_end(reader);
    wal_close(wal, false);
    return has;
}

static void check_journal(const struct fixture *fixture)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_unit unit;
    struct wal_options options = fixture_options(fixture);
    fixture_assert_undamaged(fixture);
    options.quota_bytes = (uint64_t)1 << 30;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    assert_false(wal_was_clean(wal));
    struct wal_reader *reader = fixture_reader(wal);
    uint64_t end = wal_unit_next(wal);
    for (uint64_t number = 1; number < UNITS_MAX; number++) {
        const struct acknowledged *wanted = &units[number];
        if (wanted->lsn == 0) {
            continue;
        }
        assert_true(number < end);
        assert_status(wal_read_unit(reader, number, &unit, &error), STATUS_OK, &error);
        assert_true(unit.last_lsn >= wanted->lsn);
        if (wanted->state != WAL_UNIT_OPEN) {
            assert_true(unit.last_lsn == wanted->lsn && unit.state == wanted->state);
        }
    }
    wal_reader_end(reader);
    wal_close(wal, false);
}

static void test_killed_again_and_again(void **state)
{
    uint64_t seed = seed_of_run();
    unsigned acknowledgements = 0;
    unsigned with_frames = 0;
    for (int i = 0; i < KILLS; i++) {
        acknowledgements += run_and_kill(*state, &seed);
        with_frames += has_frames(*state) ? 1 : 0;
        check_journal(*state);
    }
    print_message("%u acknowledgements, %u kills with a tail\n", acknowledgements, with_frames);
    assert_true(acknowledgements > KILLS * 10);
    assert_true(with_frames > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_killed_again_and_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
