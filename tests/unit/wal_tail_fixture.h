#ifndef HOLDFAST_TESTS_UNIT_WAL_TAIL_FIXTURE_H
#define HOLDFAST_TESTS_UNIT_WAL_TAIL_FIXTURE_H

/*
 * A journal whose owner was killed when its newest groups were in the tail alone.
 *
 * He appends from one completion to the next, which are the writer thread's, and is killed in the
 * last one: so no checkpoint can come between, however slow the machine is. Each group is a frame
 * of one page.
 */

#include "wal_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "wal/format.h"
#include "wal/tail.h"

struct left_group {
    enum wal_kind kind;
    uint64_t unit;
    const char *payload;
    const char *session; /* of a BEGIN, or NULL; its transaction number is the unit's */
};

#define LEFT_GROUPS_MAX 32u

struct left_chain {
    struct wal *wal;
    struct wal_append records[LEFT_GROUPS_MAX];
    size_t count;
    size_t done;
};

static void left_on_completed(struct wal_append *first, void *context)
{
    struct left_chain *chain = context;
    if (first->status != STATUS_OK) {
        _exit(3);
    }
    if (++chain->done == chain->count) {
        (void)kill(getpid(), SIGKILL);
    }
    wal_append(chain->wal, &chain->records[chain->done]);
}

/* The owner that is killed, in a process of his own. */
FIXTURE_UNUSED static void left_tail_make(const struct fixture *fixture,
                                          const struct left_group *groups, size_t count)
{
    static struct left_chain chain;
    int wait_status = 0;
    assert_true(count <= LEFT_GROUPS_MAX);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct wal_options options = fixture_options(fixture);
        if (wal_open(&options, &chain.wal, NULL) != STATUS_OK) {
            _exit(2);
        }
        chain.count = count;
        for (size_t i = 0; i < count; i++) {
            chain.records[i] = (struct wal_append){
                .kind = groups[i].kind,
                .unit = groups[i].unit,
                .payload = slice_text(groups[i].payload == NULL ? "" : groups[i].payload),
                .completed = left_on_completed,
                .context = &chain,
            };
            if (groups[i].session != NULL) {
                chain.records[i].session_key = slice_text(groups[i].session);
                chain.records[i].transaction_number = (int64_t)groups[i].unit;
            }
        }
        wal_append(chain.wal, &chain.records[0]);
        for (;;) {
            (void)pause();
        }
    }
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL);
}

/* Inverts a byte of the tail. */
FIXTURE_UNUSED static void left_spoil(const struct fixture *fixture, off_t offset)
{
    char path[300];
    uint8_t byte = 0;
    fixture_path(fixture, FORMAT_TAIL_FILE, path, sizeof(path));
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    assert_true(descriptor >= 0);
    assert_int_equal(pread(descriptor, &byte, 1, offset), 1);
    byte = (uint8_t)~byte;
    assert_int_equal(pwrite(descriptor, &byte, 1, offset), 1);
    assert_int_equal(close(descriptor), 0);
}

/* Opens it to write, reads, closes it. */
FIXTURE_UNUSED static enum status left_open(const char *directory, bool read_only,
                                            struct wal **ret_wal, struct error *ret_error)
{
    struct wal_options options = {
        .directory = directory,
        .quota_bytes = FIXTURE_QUOTA_BYTES,
        .durability = WAL_DURABILITY_PROCESS,
        .read_only = read_only,
        .owner = "a test",
        .key_file = getenv("HOLDFAST_TEST_KEY_FILE"),
    };
    return wal_open(&options, ret_wal, ret_error);
}

/* ------------------------------------------------------------------ one that several tests use */

/* Unit 1 was begun before and is committed, 2 is open, 3 is whole: LSN 3 to 8. */
static const struct left_group left_some[] = {
    {WAL_KIND_WRITE, 1, "one", NULL}, {WAL_KIND_COMMIT, 1, NULL, NULL},
    {WAL_KIND_BEGIN, 2, NULL, "two"}, {WAL_KIND_WRITE, 2, "open", NULL},
    {WAL_KIND_BEGIN, 3, NULL, NULL},  {WAL_KIND_COMMIT, 3, NULL, NULL},
};
enum { LEFT_SOME = sizeof(left_some) / sizeof(left_some[0]), LEFT_LAST_LSN = 2 + LEFT_SOME };

/* Two records of unit 1 in the tables, the rest in the tail alone. */
FIXTURE_UNUSED static void left_make_some(const struct fixture *fixture)
{
    struct wal *wal = fixture_open(fixture);
    assert_int_equal(wal_unit_next(wal), 1);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 1, "", NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_WRITE, 1, "zero", NULL), STATUS_OK);
    wal_close(wal, true);
    left_tail_make(fixture, left_some, LEFT_SOME);
}

FIXTURE_UNUSED static enum wal_unit_state left_state(struct wal_reader *reader, uint64_t unit)
{
    struct wal_unit row;
    struct error error;
    assert_status(wal_read_unit(reader, unit, &row, &error), STATUS_OK, &error);
    return row.state;
}

/* What left_make_some() made, wherever it is now. */
FIXTURE_UNUSED static void left_assert_some(const char *directory, bool read_only)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_record record;
    struct wal_session session;
    assert_status(left_open(directory, read_only, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    for (uint64_t lsn = 1; lsn <= LEFT_LAST_LSN; lsn++) {
        assert_status(wal_read(reader, lsn, &record, &error), STATUS_OK, &error);
    }
    assert_int_equal(wal_read(reader, LEFT_LAST_LSN + 1, &record, &error), STATUS_NOT_FOUND);
    assert_int_equal(left_state(reader, 1), WAL_UNIT_COMMITTED);
    assert_int_equal(left_state(reader, 2), WAL_UNIT_OPEN);
    assert_int_equal(left_state(reader, 3), WAL_UNIT_COMMITTED);
    assert_status(wal_read_session(reader, slice_text("two"), &session, &error), STATUS_OK, &error);
    assert_int_equal(session.unit, 2);
    wal_reader_end(reader);
    wal_close(wal, false);
}

#endif
