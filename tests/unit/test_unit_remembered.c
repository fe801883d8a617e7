/*
 * What the lock table remembers of units that have ended: whose write is refused because it may
 * build on what is no more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "unit/lock_table.h"

enum { REMEMBERED_MAX = 4, LOCKS_MAX = 16 };

static struct lock_table *table;
static struct lock_owner reader;
static struct lock_waiter unused;

/* Takes `count` documents from `first` on; returns the last answer. */
static enum lock_result lock_many(struct lock_owner *owner, uint8_t first, size_t count)
{
    enum lock_result result = LOCK_GRANTED;
    for (size_t i = 0; i < count && result == LOCK_GRANTED; i++) {
        struct lock_name name = {{(uint8_t)(first + i)}};
        result = lock_acquire(table, owner, &name, &unused);
    }
    return result;
}

static struct lock_name name_of(uint8_t number)
{
    return (struct lock_name){{number}};
}

static int begin(void **state)
{
    (void)state;
    table = lock_table_new(LOCKS_MAX, REMEMBERED_MAX);
    reader = (struct lock_owner){0};
    lock_owner_begin(table, &reader);
    return table == NULL;
}

static int end(void **state)
{
    (void)state;
    lock_release_all(table, &reader, true);
    assert_int_equal(lock_table_held(table), 0);
    assert_int_equal(lock_table_remembered(table), 0);
    table = lock_table_free(table);
    return 0;
}

static struct lock_owner *write_one(struct lock_owner *writer, uint8_t document, bool undoable)
{
    struct lock_name name = name_of(document);
    *writer = (struct lock_owner){0};
    lock_owner_begin(table, writer);
    assert_int_equal(lock_acquire(table, writer, &name, &unused), LOCK_GRANTED);
    lock_mark_written(table, writer, &name, undoable);
    return writer;
}

static enum lock_result reader_locks(uint8_t document)
{
    struct lock_name name = name_of(document);
    return lock_acquire(table, &reader, &name, &unused);
}

static void test_committed(void **state)
{
    (void)state;
    struct lock_owner writer;
    lock_release_all(table, write_one(&writer, 1, true), false);
    assert_int_equal(reader_locks(1), LOCK_CONFLICT);
    assert_int_equal(reader_locks(2), LOCK_GRANTED);
}

static void test_committed_before(void **state)
{
    (void)state;
    struct lock_owner writer;
    lock_release_all(table, write_one(&writer, 1, true), false);
    lock_release_all(table, &reader, true);
    reader = (struct lock_owner){0};
    lock_owner_begin(table, &reader);
    assert_int_equal(reader_locks(1), LOCK_GRANTED);
}

static void test_restored(void **state)
{
    (void)state;
    struct lock_owner writer;
    lock_owner_read(table, &reader);
    lock_release_all(table, write_one(&writer, 1, true), true);
    assert_int_equal(reader_locks(1), LOCK_GRANTED);
}

static void test_restored_but_read(void **state)
{
    (void)state;
    struct lock_owner writer;
    (void)write_one(&writer, 1, true);
    lock_owner_read(table, &reader);
    lock_release_all(table, &writer, true);
    assert_int_equal(reader_locks(1), LOCK_CONFLICT);
    assert_int_equal(reader_locks(2), LOCK_GRANTED);
}

/* The second rollback does not hide what was read during the first. */
static void test_restored_twice(void **state)
{
    (void)state;
    struct lock_owner writer;
    (void)write_one(&writer, 1, true);
    lock_owner_read(table, &reader);
    lock_release_all(table, &writer, true);
    lock_release_all(table, write_one(&writer, 1, true), true);
    assert_int_equal(reader_locks(1), LOCK_CONFLICT);
}

static void test_committed_then_restored(void **state)
{
    (void)state;
    struct lock_owner writer;
    lock_release_all(table, write_one(&writer, 1, true), false);
    lock_release_all(table, write_one(&writer, 1, true), true);
    assert_int_equal(reader_locks(1), LOCK_CONFLICT);
}

/* One write of a document that no rollback undoes is enough, whatever else was written of it. */
static void test_not_undoable(void **state)
{
    (void)state;
    struct lock_owner writer;
    struct lock_name name = name_of(1);
    (void)write_one(&writer, 1, false);
    lock_mark_written(table, &writer, &name, true);
    lock_release_all(table, &writer, true);
    assert_int_equal(reader_locks(1), LOCK_CONFLICT);
    (void)write_one(&writer, 2, true);
    name = name_of(2);
    lock_mark_written(table, &writer, &name, false);
    lock_release_all(table, &writer, true);
    assert_int_equal(reader_locks(2), LOCK_CONFLICT);
}

/* Beyond the bound old changes are forgotten, and who began before them is refused anything. */
static void test_too_many(void **state)
{
    (void)state;
    struct lock_owner writer;
    for (uint8_t i = 1; i <= REMEMBERED_MAX; i++) {
        lock_release_all(table, write_one(&writer, i, true), i % 2 == 0);
    }
    assert_int_equal(reader_locks(100), LOCK_GRANTED);
    lock_release_all(table, write_one(&writer, 50, true), true);
    assert_int_equal(lock_table_remembered(table), REMEMBERED_MAX);
    assert_int_equal(reader_locks(101), LOCK_CONFLICT);
}

/* Beyond the bound nothing new is held; what is held is granted again, and what is freed can be
   taken. Remembered changes do not count. */
static void test_limit(void **state)
{
    (void)state;
    struct lock_owner other = {0};
    lock_owner_begin(table, &other);
    lock_release_all(table, write_one(&(struct lock_owner){0}, 200, false), true);
    assert_int_equal(lock_many(&reader, 1, LOCKS_MAX - 1), LOCK_GRANTED);
    assert_int_equal(lock_many(&other, 101, 1), LOCK_GRANTED);
    assert_int_equal(lock_many(&other, 102, 1), LOCK_LIMIT);
    assert_int_equal(lock_many(&other, 200, 1), LOCK_LIMIT);
    assert_int_equal(lock_table_held(table), LOCKS_MAX);
    assert_int_equal(lock_many(&reader, 1, LOCKS_MAX - 1), LOCK_GRANTED);
    lock_release_all(table, &reader, false);
    assert_int_equal(lock_many(&other, 102, 1), LOCK_GRANTED);
    lock_table_set_locks_max(table, 2);
    assert_int_equal(lock_many(&other, 103, 1), LOCK_LIMIT);
    lock_table_set_locks_max(table, 3);
    assert_int_equal(lock_many(&other, 103, 1), LOCK_GRANTED);
    lock_release_all(table, &other, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_committed, begin, end),
        cmocka_unit_test_setup_teardown(test_committed_before, begin, end),
        cmocka_unit_test_setup_teardown(test_restored, begin, end),
        cmocka_unit_test_setup_teardown(test_restored_but_read, begin, end),
        cmocka_unit_test_setup_teardown(test_restored_twice, begin, end),
        cmocka_unit_test_setup_teardown(test_committed_then_restored, begin, end),
        cmocka_unit_test_setup_teardown(test_not_undoable, begin, end),
        cmocka_unit_test_setup_teardown(test_too_many, begin, end),
        cmocka_unit_test_setup_teardown(test_limit, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
