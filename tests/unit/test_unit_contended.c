/*
 * A document that many want: whose wait ends with a commit, when a view begins anew, and what a
 * transaction that is run again locks first. In threads: everyone gets through, nothing is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lock_clients.h"
#include "unit/lock_hints.h"
#include "unit/lock_table.h"
#include "unit/unit.h"

enum { LOCKS_MAX = 1000, REMEMBERED_MAX = 1000 };

static const size_t HOT = 1;

/* ------------------------------------------------------------------ waits and views */

struct player {
    struct lock_owner owner;
    struct lock_waiter waiter;
    size_t ended; /* how often its wait has */
};

static struct lock_table *table;
static size_t ended_count;

static void on_ended(struct lock_waiter *waiter)
{
    struct player *player =
        (struct player *)(void *)((uint8_t *)waiter - offsetof(struct player, waiter));
    player->ended++;
    ended_count++;
}

static int begin(void **state)
{
    (void)state;
    table = lock_table_new(LOCKS_MAX, REMEMBERED_MAX);
    ended_count = 0;
    return table == NULL;
}

static int end(void **state)
{
    (void)state;
    assert_int_equal(lock_table_held(table), 0);
    assert_int_equal(lock_table_remembered(table), 0);
    table = lock_table_free(table);
    return 0;
}

/* It has read what it has not locked, as a transaction that reads a snapshot. */
static void player_begin(struct player *player, bool reads)
{
    *player = (struct player){.waiter = {.ended = on_ended, .unless_changed = reads}};
    lock_owner_begin(table, &player->owner);
    player->owner.view_used = reads;
}

static enum lock_result player_lock(struct player *player, size_t lock)
{
    struct lock_name name = lock_name_numbered(lock);
    return lock_acquire(table, &player->owner, &name, &player->waiter);
}

static void player_write(struct player *player, size_t lock)
{
    struct lock_name name = lock_name_numbered(lock);
    assert_int_equal(player_lock(player, lock), LOCK_GRANTED);
    lock_mark_written(table, &player->owner, &name, true);
}

static void player_end(struct player *player, bool commit)
{
    lock_release_all(table, &player->owner, !commit);
}

/* One commit ends all waits that are in vain, of whoever came first; the first of the others gets
   the lock. */
static void test_a_commit_ends_what_is_in_vain(void **state)
{
    (void)state;
    struct player holder;
    struct player others[6];
    player_begin(&holder, false);
    for (size_t i = 0; i < 6; i++) {
        player_begin(&others[i], i % 2 == 0);
    }
    player_write(&holder, HOT);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(player_lock(&others[i], HOT), LOCK_WAITING);
    }
    player_end(&holder, true);
    assert_int_equal(ended_count, 4);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(others[i].ended, i % 2 == 0 || i == 1);
    }
    assert_int_equal(player_lock(&others[0], HOT), LOCK_CONFLICT);
    assert_int_equal(others[0].owner.held_count, 0);
    assert_int_equal(player_lock(&others[1], HOT), LOCK_CONFLICT);
    assert_int_equal(others[1].owner.held_count, 1);
    for (size_t i = 0; i < 6; i++) {
        player_end(&others[i], false);
    }
    assert_int_equal(ended_count, 6);
}

/* A rollback leaves a document as it was: those who wait get it one after the other. */
static void test_a_rollback_ends_one_wait(void **state)
{
    (void)state;
    struct player holder;
    struct player others[3];
    player_begin(&holder, false);
    player_write(&holder, HOT);
    for (size_t i = 0; i < 3; i++) {
        player_begin(&others[i], true);
        assert_int_equal(player_lock(&others[i], HOT), LOCK_WAITING);
    }
    player_end(&holder, false);
    assert_int_equal(ended_count, 1);
    assert_int_equal(player_lock(&others[0], HOT), LOCK_GRANTED);
    for (size_t i = 0; i < 3; i++) {
        player_end(&others[i], false);
    }
}

/* Who asks for what was changed since it has read does not even begin to wait. */
static void test_no_wait_for_what_was_changed(void **state)
{
    (void)state;
    struct player late;
    struct player first;
    struct player second;
    player_begin(&late, true);
    player_begin(&first, false);
    player_write(&first, HOT);
    player_end(&first, true);
    player_begin(&second, false);
    player_write(&second, HOT);
    assert_int_equal(player_lock(&late, HOT), LOCK_CONFLICT);
    assert_null(late.owner.waiting);
    assert_int_equal(late.owner.held_count, 0);
    player_end(&second, true);
    assert_int_equal(late.ended, 0);
    player_end(&late, false);
}

/* Who has read nothing waits, and its view begins when the lock is its own: no conflict. */
static void test_a_view_that_begins_anew(void **state)
{
    (void)state;
    struct player holder;
    struct player waits;
    struct player old;
    player_begin(&old, true);
    player_begin(&waits, false);
    player_begin(&holder, false);
    player_write(&holder, HOT);
    assert_int_equal(player_lock(&waits, HOT), LOCK_WAITING);
    player_end(&holder, true);
    assert_int_equal(player_lock(&waits, HOT), LOCK_CONFLICT);
    lock_owner_renew(table, &waits.owner);
    player_write(&waits, HOT);
    player_end(&waits, true);
    /* One that began before both still knows better. */
    assert_int_equal(lock_table_remembered(table), 1);
    assert_int_equal(player_lock(&old, HOT), LOCK_CONFLICT);
    player_end(&old, false);
}

/* What only an older view needed is forgotten. */
static void test_renewing_forgets(void **state)
{
    (void)state;
    struct player holder;
    struct player waits;
    player_begin(&waits, false);
    player_begin(&holder, false);
    player_write(&holder, HOT);
    player_end(&holder, true);
    assert_int_equal(lock_table_remembered(table), 1);
    lock_owner_renew(table, &waits.owner);
    assert_int_equal(lock_table_remembered(table), 0);
    player_end(&waits, false);
}

/* ------------------------------------------------------------------ hints */

static void test_hints_are_sorted_and_bounded(void **state)
{
    (void)state;
    struct lock_hints *hints = NULL;
    static const size_t numbers[] = {5, 3, 9, 3, 1, 7, 200, 2, 4, 6, 8};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct lock_name name = lock_name_numbered(numbers[i]);
        lock_hints_add(&hints, &name, (uint32_t)numbers[i]);
    }
    static const size_t kept[] = {1, 2, 3, 4, 5, 7, 9, 200};
    assert_int_equal(hints->count, LOCK_HINTS_MAX);
    for (size_t i = 0; i < LOCK_HINTS_MAX; i++) {
        struct lock_name name = lock_name_numbered(kept[i]);
        assert_memory_equal(&hints->hints[i].name, &name, sizeof name);
        assert_int_equal(hints->hints[i].gate, kept[i]);
    }
    assert_true(hints->failed);
    assert_false(lock_hints_has_namespace(hints, 7));
    for (uint32_t gate = 7; gate < 17; gate++) {
        lock_hints_add_namespace(&hints, 7);
        lock_hints_add_namespace(&hints, gate);
    }
    assert_true(lock_hints_has_namespace(hints, 7) && lock_hints_has_namespace(hints, 10));
    assert_int_equal(hints->namespace_count, LOCK_HINTS_NAMESPACES_MAX);
    assert_false(lock_hints_has_namespace(NULL, 7));
    hints = lock_hints_free(hints);
    assert_null(lock_hints_free(hints));
}

static struct unit *checkout(struct unit_table *units, int64_t number, bool retryable)
{
    struct unit *unit = NULL;
    struct unit_request request = {
        .user = "u",
        .client = "c",
        .application = "a",
        .session_id = slice_make((const uint8_t *)"0123456789abcdef", UNIT_SESSION_ID_BYTES),
        .transaction_number = number,
        .begin = true,
        .retryable = retryable,
        .id = (uint64_t)number,
    };
    assert_int_equal(unit_table_checkout(units, &request, NULL, &unit), UNIT_CHECKOUT_READY);
    return unit;
}

static void checkin(struct unit_table *units, struct unit *unit, enum unit_state ends)
{
    unit_state_set(unit, ends == UNIT_COMMITTED ? UNIT_COMMITTING : UNIT_ABORTING);
    unit_state_set(unit, ends);
    assert_null(unit_table_checkin(units, unit));
}

static void fail_over(struct unit *unit, size_t lock)
{
    struct lock_name name = lock_name_numbered(lock);
    lock_hints_add(&unit->locks.hints, &name, 1);
}

static size_t hint_count(const struct unit *unit)
{
    return unit->locks.hints == NULL ? 0 : unit->locks.hints->count;
}

/* A session gives them to the transaction that follows, with what that fails over added; not to a
   plain write, and no more once a transaction did not fail over a lock. */
static void test_a_session_keeps_hints(void **state)
{
    (void)state;
    struct unit_table *units = unit_table_new(10, 10);
    struct unit *unit = checkout(units, 1, false);
    assert_int_equal(hint_count(unit), 0);
    fail_over(unit, 5);
    checkin(units, unit, UNIT_ABORTED);

    unit = checkout(units, 2, false);
    assert_int_equal(hint_count(unit), 1);
    fail_over(unit, 3);
    checkin(units, unit, UNIT_ABORTED);

    unit = checkout(units, 3, false);
    assert_int_equal(hint_count(unit), 2);
    checkin(units, unit, UNIT_ABORTED); /* by its client */
    unit = checkout(units, 4, false);
    assert_int_equal(hint_count(unit), 0);

    fail_over(unit, 5);
    checkin(units, unit, UNIT_ABORTED);
    unit = checkout(units, 5, true);
    assert_int_equal(hint_count(unit), 0);
    checkin(units, unit, UNIT_COMMITTED);
    unit = checkout(units, 6, false);
    assert_int_equal(hint_count(unit), 0);

    fail_over(unit, 5);
    checkin(units, unit, UNIT_ABORTED); /* left to the table's end */
    assert_null(unit_table_free(units));
}

/* One that reads a namespace as a whole and writes it would fail again, beside others. */
static void test_a_session_keeps_namespaces(void **state)
{
    (void)state;
    struct unit_table *units = unit_table_new(10, 10);
    struct unit *unit = checkout(units, 1, false);
    fail_over(unit, 5);
    lock_hints_add_namespace(&unit->locks.hints, 7);
    checkin(units, unit, UNIT_ABORTED);

    unit = checkout(units, 2, false);
    assert_int_equal(hint_count(unit), 1);
    assert_true(lock_hints_has_namespace(unit->locks.hints, 7));
    unit->begun = true;
    checkin(units, unit, UNIT_COMMITTED);

    unit = checkout(units, 3, false);
    assert_int_equal(hint_count(unit), 0);
    assert_true(lock_hints_has_namespace(unit->locks.hints, 7));
    checkin(units, unit, UNIT_COMMITTED); /* which has only read */
    unit = checkout(units, 4, false);
    assert_null(unit->locks.hints);
    checkin(units, unit, UNIT_ABORTED);
    assert_null(unit_table_free(units));
}

/* ------------------------------------------------------------------ threads */

enum { THREADS = 8, ROUNDS = 300, GIVE_UP_SECONDS = 60 };

static uint64_t hot_value; /* belongs to whoever holds the lock, so the thread sanitizer watches */

static enum lock_result lock_and_wait(struct lock_client *client, bool reads)
{
    struct lock_name name = lock_name_numbered(HOT);
    client->waiter.unless_changed = reads;
    enum lock_result result = lock_acquire(table, &client->owner, &name, &client->waiter);
    if (result != LOCK_WAITING) {
        return result;
    }
    assert_true(lock_client_wait(client, GIVE_UP_SECONDS));
    return lock_acquire(table, &client->owner, &name, &client->waiter);
}

/* One try, as a transaction's: reads, then locks, writes and ends. Run again it locks first. */
static bool try_once(struct lock_client *client, bool again)
{
    struct lock_name name = lock_name_numbered(HOT);
    client->owner = (struct lock_owner){0};
    lock_owner_begin(table, &client->owner);
    if (again) {
        enum lock_result first = lock_and_wait(client, false);
        assert_true(first == LOCK_GRANTED || first == LOCK_CONFLICT);
        lock_owner_renew(table, &client->owner);
    }
    client->owner.view_used = true;
    enum lock_result result = lock_and_wait(client, true);
    if (result == LOCK_GRANTED) {
        lock_mark_written(table, &client->owner, &name, true);
        hot_value++;
        client->added++;
    } else {
        assert_int_equal(result, LOCK_CONFLICT);
        assert_false(again);
    }
    lock_release_all(table, &client->owner, result != LOCK_GRANTED);
    return result == LOCK_GRANTED;
}

static void *run_thread(void *argument)
{
    struct lock_client *client = argument;
    for (size_t i = 0; i < ROUNDS; i++) {
        if (!try_once(client, false)) {
            (void)try_once(client, true);
        }
    }
    return NULL;
}

/* Nobody fails twice: run again, a transaction gets through in its turn. */
static void test_threads(void **state)
{
    (void)state;
    static struct lock_client clients[THREADS];
    hot_value = 0;
    (void)lock_clients_run(clients, THREADS, 0, run_thread);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(clients[i].added, ROUNDS);
    }
    assert_int_equal(hot_value, THREADS * ROUNDS);
    assert_int_equal(lock_table_deadlocks(table), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_commit_ends_what_is_in_vain, begin, end),
        cmocka_unit_test_setup_teardown(test_a_rollback_ends_one_wait, begin, end),
        cmocka_unit_test_setup_teardown(test_no_wait_for_what_was_changed, begin, end),
        cmocka_unit_test_setup_teardown(test_a_view_that_begins_anew, begin, end),
        cmocka_unit_test_setup_teardown(test_renewing_forgets, begin, end),
        cmocka_unit_test(test_hints_are_sorted_and_bounded),
        cmocka_unit_test(test_a_session_keeps_hints),
        cmocka_unit_test(test_a_session_keeps_namespaces),
        cmocka_unit_test_setup_teardown(test_threads, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
