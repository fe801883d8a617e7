/*
 * Several threads and processes at one journal: groups of each thread complete in its order,
 * numbers are given out once, readers in the same and in another process see whole groups while it
 * grows.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "wal_fixture.h"

enum { THREADS = 4, UNITS_PER_THREAD = 300, WINDOW = 8 };

struct slot {
    struct wal_append begin;
    struct wal_append write;
    struct wal_append commit;
    struct producer *producer;
};

struct producer {
    struct wal *wal;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct slot slots[WINDOW];
    int submitted;
    int completed; /* guarded by lock, as is what follows */
    uint64_t last_lsn;
    bool in_order;
};

/* On the writer thread. */
static void completed(struct wal_append *first, void *context)
{
    struct producer *producer = ((struct slot *)context)->producer;
    pthread_mutex_lock(&producer->lock);
    producer->in_order =
        producer->in_order && first->status == STATUS_OK && first->lsn > producer->last_lsn &&
        first->next->next->lsn == first->lsn + 2 && wal_last_lsn(producer->wal) >= first->lsn + 2;
    producer->last_lsn = first->lsn;
    producer->completed++;
    pthread_cond_signal(&producer->change);
    pthread_mutex_unlock(&producer->lock);
}

static void *produce(void *argument)
{
    struct producer *producer = argument;
    for (int i = 0; i < UNITS_PER_THREAD; i++) {
        pthread_mutex_lock(&producer->lock);
        while (i - producer->completed >= WINDOW) {
            pthread_cond_wait(&producer->change, &producer->lock);
        }
        pthread_mutex_unlock(&producer->lock);
        struct slot *slot = &producer->slots[i % WINDOW];
        uint64_t unit = wal_unit_next(producer->wal);
        *slot = (struct slot){
            .begin = {.kind = WAL_KIND_BEGIN, .unit = unit, .completed = completed},
            .write = {.kind = WAL_KIND_WRITE, .unit = unit, .payload = slice_text("image")},
            .commit = {.kind = WAL_KIND_COMMIT, .unit = unit},
            .producer = producer,
        };
        slot->begin.context = slot;
        slot->begin.next = &slot->write;
        slot->write.next = &slot->commit;
        wal_append(producer->wal, &slot->begin);
    }
    pthread_mutex_lock(&producer->lock);
    while (producer->completed < UNITS_PER_THREAD) {
        pthread_cond_wait(&producer->change, &producer->lock);
    }
    pthread_mutex_unlock(&producer->lock);
    return NULL;
}

static void start(struct wal *wal, struct producer *producers)
{
    for (int i = 0; i < THREADS; i++) {
        producers[i] = (struct producer){.wal = wal, .in_order = true};
        pthread_mutex_init(&producers[i].lock, NULL);
        pthread_cond_init(&producers[i].change, NULL);
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
}

static void finish(struct producer *producers)
{
    for (int i = 0; i < THREADS; i++) {
        pthread_join(producers[i].thread, NULL);
        assert_true(producers[i].in_order);
        pthread_mutex_destroy(&producers[i].lock);
        pthread_cond_destroy(&producers[i].change);
    }
}

/* Reads the whole journal once: each unit that is seen at all is committed and whole. */
static bool read_whole_groups(struct wal *wal, uint64_t *ret_units)
{
    struct wal_reader *reader = NULL;
    struct wal_unit unit;
    struct wal_record record;
    uint64_t after = 0;
    uint64_t units = 0;
    bool whole = wal_reader_begin(wal, &reader, NULL) == STATUS_OK;
    while (whole && wal_read_unit_next(reader, after, &unit, NULL) == STATUS_OK) {
        after = unit.unit;
        units++;
        whole = unit.state == WAL_UNIT_COMMITTED && unit.last_lsn == unit.first_lsn + 2 &&
                wal_read(reader, unit.first_lsn + 1, &record, NULL) == STATUS_OK &&
                record.unit == unit.unit && record.kind == WAL_KIND_WRITE;
    }
    wal_reader_end(reader);
    *ret_units = units;
    return whole;
}

static struct producer producers[THREADS];

static void test_threads_and_a_reader(void **state)
{
    struct wal *wal = fixture_open(*state);
    uint64_t units = 0;
    start(wal, producers);
    do {
        assert_true(read_whole_groups(wal, &units));
    } while (units < (uint64_t)THREADS * UNITS_PER_THREAD);
    finish(producers);
    struct wal_statistics statistics = fixture_statistics(wal);
    assert_int_equal(statistics.groups, THREADS * UNITS_PER_THREAD);
    assert_int_equal(statistics.records, 3 * THREADS * UNITS_PER_THREAD);
    assert_true(statistics.batches <= statistics.groups);
    assert_int_equal(wal_unit_next(wal), THREADS * UNITS_PER_THREAD + 1);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

/* The child reads until it has seen everything, and verifies while the owner writes. */
static int child_reads(const struct fixture *fixture)
{
    struct wal *wal = NULL;
    uint64_t units = 0;
    struct wal_verification found;
    struct wal_options options = fixture_options(fixture);
    options.read_only = true;
    for (int tries = 0; wal_open(&options, &wal, NULL) != STATUS_OK; tries++) {
        if (tries > 10000) {
            return 1; /* the parent did not even make the journal */
        }
        usleep(1000);
    }
    while (units < (uint64_t)THREADS * UNITS_PER_THREAD) {
        if (!read_whole_groups(wal, &units)) {
            return 2;
        }
    }
    wal_close(wal, false);
    if (wal_verify(fixture->directory, &found, NULL) != STATUS_OK || found.damage_count > 0) {
        return 3;
    }
    return 0;
}

static void test_reader_in_another_process(void **state)
{
    int wait_status = 0;
    pid_t child = fork(); /* before there is any thread */
    if (child == 0) {
        _exit(child_reads(*state));
    }
    struct wal *wal = fixture_open(*state);
    start(wal, producers);
    finish(producers);
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFEXITED(wait_status));
    assert_int_equal(WEXITSTATUS(wait_status), 0);
    wal_close(wal, true);
}

static void test_close_completes_what_was_submitted(void **state)
{
    struct wal *wal = fixture_open(*state);
    static struct wal_append begins[200];
    for (uint64_t i = 0; i < 200; i++) {
        begins[i] = (struct wal_append){.kind = WAL_KIND_BEGIN, .unit = i + 1};
        wal_append(wal, &begins[i]);
    }
    wal_close(wal, true);
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(begins[i].status, STATUS_OK);
        assert_int_equal(begins[i].lsn, i + 1);
    }
}

/* The owner's map grows after the reader opened its own: the reader follows. */
static void test_reader_follows_a_larger_map(void **state)
{
    const struct fixture *fixture = *state;
    static char image[1 << 20];
    int to_child[2];
    int from_child[2];
    char byte = 0;
    int wait_status = 0;
    wal_close(fixture_open(fixture), true);
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(from_child), 0);
    pid_t child = fork();
    if (child == 0) {
        struct wal *wal = NULL;
        struct wal_reader *reader = NULL;
        struct wal_record record;
        struct wal_options options = fixture_options(fixture);
        options.read_only = true;
        bool fine = wal_open(&options, &wal, NULL) == STATUS_OK;
        fine = fine && write(from_child[1], "o", 1) == 1 && read(to_child[0], &byte, 1) == 1;
        fine = fine && wal_reader_begin(wal, &reader, NULL) == STATUS_OK;
        fine = fine && wal_read(reader, 200, &record, NULL) == STATUS_OK;
        _exit(fine ? 0 : 1);
    }
    assert_int_equal(read(from_child[0], &byte, 1), 1);
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(fixture);
    options.quota_bytes = FIXTURE_QUOTA_BYTES * 10;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 1, "", NULL), STATUS_OK);
    for (int i = 0; i < 199; i++) { /* beyond the child's map of 96 MB */
        struct wal_append write_record = {
            .kind = WAL_KIND_WRITE, .unit = 1, .payload = slice_make(image, sizeof(image))};
        assert_status(wal_append_wait(wal, &write_record, &error), STATUS_OK, &error);
    }
    assert_int_equal(write(to_child[1], "g", 1), 1);
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_int_equal(WEXITSTATUS(wait_status), 0);
    wal_close(wal, true);
    for (int i = 0; i < 2; i++) {
        close(to_child[i]);
        close(from_child[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_threads_and_a_reader),
        TEST(test_reader_in_another_process),
        TEST(test_close_completes_what_was_submitted),
        TEST(test_reader_follows_a_larger_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
