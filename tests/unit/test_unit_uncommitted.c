/*
 * What is uncommitted: published and ended, seen by whom; turns and watches; and with threads that
 * no reader ever sees half of a transfer, or one that is undone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "holdfast/race_point.h"
#include "test_seed.h"
#include "unit/uncommitted.h"

enum { GATE = 7, OTHER_GATE = 8, PAST_MAX = 100000 };

static struct uncommitted_table *table;
static const struct uncommitted_reader nobody;

static int begin(void **state)
{
    (void)state;
    table = uncommitted_table_new(PAST_MAX);
    return table == NULL;
}

static int end(void **state)
{
    (void)state;
    assert_int_equal(uncommitted_count(table), 0);
    table = uncommitted_table_free(table);
    return 0;
}

static struct lock_name name_of(uint32_t number)
{
    struct lock_name name = {{0}};
    memcpy(name.digest, &number, sizeof number);
    return name;
}

static struct uncommitted_document *document_of(uint32_t number, uint64_t image)
{
    struct lock_name name = name_of(number);
    struct uncommitted_document *document =
        uncommitted_document_new("d.c", slice_make(&number, sizeof number), &name);
    assert_non_null(document);
    document->was_present = true;
    document->lsn = image;
    return document;
}

struct published {
    struct uncommitted_publication publication;
    struct uncommitted_document *documents[1];
    bool told;
};

static void on_published(struct uncommitted_publication *publication)
{
    ((struct published *)(void *)publication)->told = true;
}

static bool publish(struct published *published, struct uncommitted_owner *owner, uint32_t gate,
                    uint32_t number, uint64_t image)
{
    published->documents[0] = document_of(number, image);
    published->told = false;
    published->publication = (struct uncommitted_publication){.owner = owner,
                                                              .gate = gate,
                                                              .documents = published->documents,
                                                              .count = 1,
                                                              .published = on_published};
    return uncommitted_publish(table, &published->publication);
}

static size_t count_seen(const struct uncommitted_reader *reader, uint32_t gate,
                         const char *namespace)
{
    struct uncommitted_view view;
    assert_int_equal(uncommitted_collect(table, gate, namespace, reader, 100000, &view), STATUS_OK);
    size_t count = view.count;
    uncommitted_view_free(&view);
    return count;
}

/* ------------------------------------------------------------------ one thread */

static void test_published_until_the_end(void **state)
{
    (void)state;
    struct uncommitted_owner owner = {.unit = 5};
    struct published one;
    struct published two;
    uint64_t stamp = uncommitted_stamp(table, GATE);
    uint64_t any = uncommitted_stamp(table, 0);
    struct lock_name name = name_of(1);
    uint32_t of_name = uncommitted_name_stamp(table, &name);
    assert_true(publish(&one, &owner, GATE, 1, 10));
    assert_false(uncommitted_is_empty(table, GATE));
    assert_false(uncommitted_is_empty(table, 0));
    assert_true(uncommitted_is_empty(table, OTHER_GATE));
    assert_int_not_equal(uncommitted_stamp(table, GATE), stamp);
    assert_int_not_equal(uncommitted_stamp(table, 0), any);
    assert_int_not_equal(uncommitted_name_stamp(table, &name), of_name);
    assert_false(uncommitted_name_is_free(table, &name));
    /* Written a second time: the first image is the committed one. */
    assert_true(publish(&two, &owner, GATE, 1, 20));
    assert_int_equal(uncommitted_count(table), 1);
    struct uncommitted_document *found = NULL;
    assert_int_equal(uncommitted_find(table, &name, &nobody, &found), STATUS_OK);
    assert_int_equal(found->lsn, 10);
    uncommitted_end(table, &owner, true);
    assert_int_equal(found->lsn, 10); /* the reader keeps it */
    uncommitted_document_release(found);
    assert_true(uncommitted_is_empty(table, GATE));
    assert_true(uncommitted_name_is_free(table, &name));
    assert_int_equal(uncommitted_find(table, &name, &nobody, &found), STATUS_OK);
    assert_null(found);
    uncommitted_end(table, &owner, true); /* twice is harmless */
}

static struct uncommitted_document *shared_name(uint32_t key, uint64_t image)
{
    struct lock_name name = name_of(1);
    struct uncommitted_document *document =
        uncommitted_document_new("d.c", slice_make(&key, sizeof key), &name);
    assert_non_null(document);
    document->lsn = image;
    return document;
}

static void publish_shared(struct uncommitted_owner *owner, uint32_t key, uint64_t image)
{
    struct uncommitted_document *documents[] = {shared_name(key, image)};
    struct uncommitted_publication publication = {
        .owner = owner, .gate = GATE, .documents = documents, .count = 1};
    assert_true(uncommitted_publish(table, &publication));
}

/* Two _ids of one name (unit/lock_name.c): both are published, each with its first image. */
static void test_a_shared_name(void **state)
{
    (void)state;
    struct uncommitted_owner old = {.unit = 4};
    struct uncommitted_owner owner = {.unit = 5};
    struct published other;
    uncommitted_snapshot_begin(table, &old, 0);
    publish_shared(&owner, 101, 10);
    publish_shared(&owner, 102, 20);
    publish_shared(&owner, 103, 30);
    publish_shared(&owner, 102, 21);
    assert_true(publish(&other, &owner, GATE, 2, 0));
    for (uint32_t gate = 0; gate <= GATE; gate += GATE) {
        struct uncommitted_view view;
        uint64_t sum = 0;
        assert_int_equal(uncommitted_collect(table, gate, "d.c", &nobody, 100000, &view),
                         STATUS_OK);
        for (size_t i = 0; i < view.count; i++) {
            sum += view.documents[i]->lsn;
        }
        assert_int_equal(view.count, 4);
        assert_int_equal(sum, 60);
        uncommitted_view_free(&view);
    }
    const struct uncommitted_reader at_old = {
        .unit = 4, .has_snapshot = true, .snapshot_at = old.snapshot_at};
    assert_int_equal(count_seen(&at_old, GATE, "d.c"), 4);
    uncommitted_end(table, &owner, true);
    assert_int_equal(uncommitted_count(table), 0);
    assert_int_equal(count_seen(&nobody, GATE, "d.c"), 0);
    assert_int_equal(count_seen(&at_old, GATE, "d.c"), 4); /* all have changed since */
    publish_shared(&owner, 102, 40);
    publish_shared(&owner, 104, 50);
    assert_int_equal(count_seen(&at_old, GATE, "d.c"), 5);
    uncommitted_end(table, &owner, false);
    uncommitted_end(table, &old, false);
}

static void test_who_sees_what(void **state)
{
    (void)state;
    struct uncommitted_owner one = {.unit = 1, .group = 9};
    struct uncommitted_owner two = {.unit = 2};
    struct published first;
    struct published second;
    assert_true(publish(&first, &one, GATE, 1, 0));
    assert_true(publish(&second, &two, GATE, 2, 0));
    assert_int_equal(count_seen(&nobody, GATE, "d.c"), 2);
    assert_int_equal(count_seen(&nobody, GATE, NULL), 2);
    assert_int_equal(count_seen(&nobody, 0, NULL), 2);
    assert_int_equal(count_seen(&nobody, GATE, "d.shares_the_gate"), 0);
    assert_int_equal(count_seen(&(struct uncommitted_reader){.unit = 1}, GATE, "d.c"), 1);
    assert_int_equal(count_seen(&(struct uncommitted_reader){.group = 9}, GATE, "d.c"), 1);
    assert_true(uncommitted_has_others(table, GATE, &(struct uncommitted_reader){.unit = 1}));
    struct uncommitted_view view;
    assert_int_equal(uncommitted_collect(table, GATE, "d.c", &nobody, 64, &view), STATUS_LIMIT);
    uncommitted_end(table, &two, true);
    assert_false(uncommitted_has_others(table, GATE, &(struct uncommitted_reader){.unit = 1}));
    uncommitted_end(table, &one, true);
}

static unsigned begun;

static void on_begun(struct uncommitted_turn *turn)
{
    (void)turn;
    begun++;
}

static void test_a_turn_holds_publications(void **state)
{
    (void)state;
    struct uncommitted_owner owner = {.unit = 1};
    struct uncommitted_turn turn = {.gate = GATE, .begun = on_begun};
    struct uncommitted_turn next = {.gate = GATE, .begun = on_begun};
    struct published waits;
    struct published beside;
    uint64_t stamp = uncommitted_stamp(table, GATE);
    begun = 0;
    assert_true(uncommitted_turn_begin(table, &turn));
    assert_false(publish(&waits, &owner, GATE, 1, 0));
    assert_true(publish(&beside, &owner, OTHER_GATE, 2, 0));
    assert_int_equal(uncommitted_stamp(table, GATE), stamp);
    /* A second reader does not go past the unit that waits. */
    assert_false(uncommitted_turn_begin(table, &next));
    uncommitted_turn_end(table, &turn);
    assert_true(waits.told);
    assert_int_equal(begun, 1);
    assert_int_not_equal(uncommitted_stamp(table, GATE), stamp);
    uncommitted_turn_end(table, &next);
    uncommitted_end(table, &owner, true);
    /* The turn of all gates. */
    turn.gate = 0;
    assert_true(uncommitted_turn_begin(table, &turn));
    assert_false(publish(&waits, &owner, GATE, 1, 0));
    assert_false(uncommitted_turn_begin(table, &next));
    assert_true(uncommitted_turn_cancel(table, &next));
    uncommitted_turn_end(table, &turn);
    assert_true(waits.told);
    assert_int_equal(begun, 1);
    uncommitted_end(table, &owner, true);
}

static void test_a_drain_holds_admissions_only(void **state)
{
    (void)state;
    struct uncommitted_owner inside = {.unit = 1};
    struct uncommitted_owner outside = {.unit = 2};
    struct uncommitted_turn drain = {.gate = GATE, .kind = UNCOMMITTED_TURN_DRAIN};
    struct published one = {.told = false};
    struct published two;
    one.publication = (struct uncommitted_publication){
        .owner = &outside, .gate = GATE, .published = on_published};
    assert_false(uncommitted_is_draining(table, GATE));
    assert_true(uncommitted_publish(table, &one.publication));
    assert_true(uncommitted_turn_begin(table, &drain));
    assert_true(uncommitted_is_draining(table, GATE));
    assert_true(publish(&two, &inside, GATE, 1, 0));
    assert_false(uncommitted_publish(table, &one.publication));
    uncommitted_turn_make_read(table, &drain);
    assert_false(uncommitted_is_draining(table, GATE));
    assert_false(publish(&two, &inside, GATE, 3, 0));
    uncommitted_turn_end(table, &drain);
    assert_true(one.told);
    assert_true(two.told);
    uncommitted_end(table, &inside, true);
}

static unsigned ended;

static void on_ended(struct uncommitted_watch *watch)
{
    (void)watch;
    ended++;
}

static void test_a_turn_without_a_lock(void **state)
{
    (void)state;
    struct uncommitted_owner owner = {.unit = 1};
    struct uncommitted_turn turn = {.gate = GATE, .begun = on_begun};
    struct published one;
    begun = 0;
    assert_true(uncommitted_read_enter(table, GATE));
    assert_true(uncommitted_read_enter(table, GATE)); /* many at once */
    uncommitted_read_leave(table, GATE);
    assert_false(publish(&one, &owner, GATE, 1, 0));
    assert_false(uncommitted_read_enter(table, GATE)); /* not past who waits */
    assert_false(one.told);
    assert_false(uncommitted_turn_begin(table, &turn));
    uncommitted_read_leave(table, GATE);
    assert_true(one.told);
    assert_int_equal(begun, 1);
    assert_false(uncommitted_read_enter(table, GATE)); /* something is published */
    uncommitted_turn_end(table, &turn);
    uncommitted_end(table, &owner, true);
    assert_true(uncommitted_read_enter(table, GATE));
    uncommitted_read_leave(table, GATE);
}

static void test_who_waits_for_a_turn_may_leave(void **state)
{
    (void)state;
    struct uncommitted_owner owner = {.unit = 1};
    struct uncommitted_turn turn = {.gate = GATE, .begun = on_begun};
    struct published one;
    struct published two;
    begun = 0;
    assert_true(uncommitted_read_enter(table, GATE));
    assert_false(publish(&one, &owner, GATE, 1, 0));
    assert_false(publish(&two, &owner, GATE, 2, 0));
    assert_false(uncommitted_turn_begin(table, &turn)); /* behind both */
    assert_true(uncommitted_publish_cancel(table, &one.publication));
    assert_int_equal(begun, 0);
    assert_true(uncommitted_publish_cancel(table, &two.publication));
    assert_int_equal(begun, 1); /* it waits for nobody any more */
    assert_false(uncommitted_publish_cancel(table, &two.publication));
    uncommitted_document_release(one.documents[0]); /* the caller's again */
    uncommitted_document_release(two.documents[0]);
    uncommitted_read_leave(table, GATE);
    uncommitted_turn_end(table, &turn);
    assert_false(one.told || two.told);
    assert_true(uncommitted_is_empty(table, GATE));
    assert_true(uncommitted_read_enter(table, GATE)); /* nobody is counted as waiting */
    uncommitted_read_leave(table, GATE);
}

static void test_watches(void **state)
{
    (void)state;
    struct uncommitted_owner one = {.unit = 1};
    struct uncommitted_owner two = {.unit = 2};
    struct published first;
    struct published second;
    struct uncommitted_watch watch = {.gate = GATE, .ended = on_ended};
    struct uncommitted_watch any = {.gate = 0, .ended = on_ended};
    struct uncommitted_watch taken_back = {.gate = GATE, .ended = on_ended};
    const struct uncommitted_reader own = {.unit = 1};
    ended = 0;
    assert_false(uncommitted_watch(table, &watch, &nobody));
    assert_true(publish(&first, &one, GATE, 1, 0));
    assert_false(uncommitted_watch(table, &watch, &own));
    assert_true(publish(&second, &two, OTHER_GATE, 2, 0));
    assert_true(uncommitted_watch(table, &watch, &nobody));
    assert_true(uncommitted_watch(table, &any, &nobody));
    assert_true(uncommitted_watch(table, &taken_back, &nobody));
    assert_true(uncommitted_unwatch(table, &taken_back));
    uncommitted_end(table, &two, true);
    assert_int_equal(ended, 1); /* any */
    uncommitted_end(table, &one, true);
    assert_int_equal(ended, 2);
    assert_false(uncommitted_unwatch(table, &watch));
}

static uint64_t image_seen(const struct uncommitted_owner *owner, uint32_t number)
{
    struct uncommitted_reader reader = {.unit = owner->unit,
                                        .snapshot_at = owner->snapshot_at,
                                        .has_snapshot = owner->has_snapshot};
    struct lock_name name = name_of(number);
    struct uncommitted_document *found = NULL;
    assert_int_equal(uncommitted_find(table, &name, &reader, &found), STATUS_OK);
    uint64_t image = found == NULL ? 0 : found->lsn;
    uncommitted_document_release(found);
    struct uncommitted_view view;
    assert_int_equal(uncommitted_collect(table, GATE, "d.c", &reader, 100000, &view), STATUS_OK);
    uint64_t collected = 0;
    for (size_t i = 0; i < view.count; i++) {
        if (memcmp(&view.documents[i]->name, &name, sizeof name) == 0) {
            assert_int_equal(collected, 0); /* once */
            collected = view.documents[i]->lsn;
        }
    }
    uncommitted_view_free(&view);
    assert_int_equal(collected, image);
    return image;
}

static void change(uint32_t number, uint64_t image, bool changed)
{
    struct uncommitted_owner owner = {.unit = 77};
    struct published one;
    assert_true(publish(&one, &owner, GATE, number, image));
    uncommitted_end(table, &owner, changed);
}

static void test_snapshots(void **state)
{
    (void)state;
    struct uncommitted_owner old = {.unit = 1};
    struct uncommitted_owner young = {.unit = 2};
    struct uncommitted_owner writer = {.unit = 3};
    struct published one;
    change(1, 10, true); /* before anybody */
    uncommitted_snapshot_begin(table, &old, 0);
    assert_int_equal(image_seen(&old, 1), 0);
    change(1, 11, true);
    change(2, 20, false); /* undone: what is there is what was there */
    assert_int_equal(image_seen(&old, 1), 11);
    assert_int_equal(image_seen(&old, 2), 0);
    uncommitted_snapshot_begin(table, &young, 0);
    uncommitted_snapshot_begin(table, &young, 0); /* harmless */
    change(1, 12, true);
    assert_true(publish(&one, &writer, GATE, 1, 13));
    assert_int_equal(image_seen(&old, 1), 11);
    assert_int_equal(image_seen(&young, 1), 12);
    assert_int_equal(image_seen(&writer, 1), 0); /* its own */
    assert_true(uncommitted_is_empty(table, OTHER_GATE));
    uncommitted_end(table, &old, true);
    assert_int_equal(image_seen(&young, 1), 12);
    uncommitted_end(table, &writer, true);
    assert_int_equal(image_seen(&young, 1), 12);
    uncommitted_end(table, &young, true);
    uncommitted_snapshot_begin(table, &old, 0);
    assert_int_equal(image_seen(&old, 1), 0);
    uncommitted_end(table, &old, false);
}

/* What a write wants to know after its search: also what was undone while it searched. */
static void test_looks(void **state)
{
    (void)state;
    struct uncommitted_owner old = {.unit = 1};
    struct uncommitted_owner look = {0};
    struct uncommitted_owner open = {.unit = 3};
    struct published one;
    uncommitted_snapshot_begin(table, &old, 0);
    change(1, 10, false);
    uncommitted_look_begin(table, &look);
    assert_int_equal(image_seen(&look, 1), 0); /* undone before */
    change(2, 20, false);
    change(3, 30, true);
    assert_true(publish(&one, &open, GATE, 4, 40));
    assert_int_equal(image_seen(&look, 2), 20);
    assert_int_equal(image_seen(&look, 3), 30);
    assert_int_equal(image_seen(&look, 4), 40);
    assert_int_equal(image_seen(&old, 2), 20); /* the same as what is there */
    uncommitted_end(table, &look, false);
    change(5, 50, false);
    assert_int_equal(image_seen(&old, 5), 0); /* nobody looks any more */
    uncommitted_end(table, &open, false);
    uncommitted_end(table, &old, false);
    assert_int_equal(uncommitted_count(table), 0);
}

static void test_a_snapshot_that_is_lost(void **state)
{
    (void)state;
    struct uncommitted_owner old = {.unit = 1};
    struct uncommitted_owner young = {.unit = 2};
    uncommitted_snapshot_begin(table, &old, 0);
    change(0, 1, true);
    uncommitted_snapshot_begin(table, &young, 0);
    for (uint32_t i = 1; i <= PAST_MAX; i++) {
        change(i, 1, true);
    }
    const struct uncommitted_reader lost = {.has_snapshot = true, .snapshot_at = old.snapshot_at};
    const struct uncommitted_reader kept = {.has_snapshot = true, .snapshot_at = young.snapshot_at};
    assert_true(uncommitted_snapshot_is_lost(table, &lost));
    assert_false(uncommitted_snapshot_is_lost(table, &kept));
    /* No look takes what is left for the whole: it may have been lost since it was asked for. */
    for (uint32_t i = 0; i <= PAST_MAX; i++) {
        struct lock_name name = name_of(i);
        struct uncommitted_document *found = NULL;
        assert_int_equal(uncommitted_find(table, &name, &lost, &found), STATUS_LIMIT);
        assert_null(found);
        assert_int_equal(uncommitted_find(table, &name, &kept, &found), STATUS_OK);
        assert_int_equal(found != NULL, i > 0);
        uncommitted_document_release(found);
    }
    for (uint32_t gate = 0; gate <= OTHER_GATE; gate++) { /* also where nothing has changed */
        struct uncommitted_view view;
        assert_int_equal(uncommitted_collect(table, gate, "d.c", &lost, 100000, &view),
                         STATUS_LIMIT);
        assert_true(uncommitted_has_changed(table, gate, &lost));
    }
    struct uncommitted_view whole;
    assert_int_equal(uncommitted_collect(table, GATE, "d.c", &kept, UINT64_MAX, &whole), STATUS_OK);
    assert_int_equal(whole.count, PAST_MAX);
    uncommitted_view_free(&whole);
    uncommitted_end(table, &old, true);
    uncommitted_end(table, &young, true);
}

/* ------------------------------------------------------------------ many threads */

enum {
    ACCOUNTS = 12,
    WRITERS = 3,
    READERS = 3,
    EACH = 100,
    TRANSFERS = 20000,
    HELD_TRANSFERS = 200, /* at race points */
};

/* The server, as far as a read and a write of it are one step each. */
static _Atomic uint64_t balances[ACCOUNTS];
static pthread_mutex_t locks[ACCOUNTS]; /* of documents */
static uint64_t transfers;              /* of each writer */
static atomic_uint writers_left;
static atomic_uint good_reads;
static atomic_uint good_cursors;
static atomic_uint good_snapshots;

struct waiting {
    struct published published;
    atomic_bool done;
};

static void on_done(struct uncommitted_publication *publication)
{
    atomic_store(&((struct waiting *)(void *)publication)->done, true);
}

static void write_account(struct uncommitted_owner *owner, uint32_t account, uint64_t to)
{
    struct waiting waiting;
    atomic_init(&waiting.done, false);
    waiting.published.documents[0] = document_of(account, atomic_load(&balances[account]));
    waiting.published.publication =
        (struct uncommitted_publication){.owner = owner,
                                         .gate = GATE,
                                         .documents = waiting.published.documents,
                                         .count = 1,
                                         .published = on_done};
    if (!uncommitted_publish(table, &waiting.published.publication)) {
        while (!atomic_load(&waiting.done)) {
            sched_yield();
        }
    }
    atomic_store(&balances[account], to);
}

static void transfer(uint32_t source, uint32_t target, uint64_t unit)
{
    struct uncommitted_owner owner = {.unit = unit};
    uint32_t low = source < target ? source : target;
    uint32_t high = source < target ? target : source;
    pthread_mutex_lock(&locks[low]);
    pthread_mutex_lock(&locks[high]);
    uint64_t of_source = atomic_load(&balances[source]);
    uint64_t of_target = atomic_load(&balances[target]);
    write_account(&owner, source, of_source - 1);
    write_account(&owner, target, of_target + 1);
    bool undone = unit % 3 == 0;
    if (undone) {
        atomic_store(&balances[target], of_target);
        atomic_store(&balances[source], of_source);
    }
    uncommitted_end(table, &owner, !undone);
    pthread_mutex_unlock(&locks[high]);
    pthread_mutex_unlock(&locks[low]);
}

/* On a loaded machine all transfers may be over before some reader had a moment for itself. */
static bool each_has_read(void)
{
    return atomic_load(&good_reads) > 0 && atomic_load(&good_cursors) > 0 &&
           atomic_load(&good_snapshots) > 0;
}

static void *write_many(void *context)
{
    uint32_t random = (uint32_t)(uintptr_t)context;
    for (uint64_t i = 1; i <= transfers || !each_has_read(); i++) {
        if (i > transfers) {
            sched_yield(); /* with nothing published, which read_on() needs of all writers */
        }
        random = random * 1664525u + 1013904223u;
        uint32_t source = random >> 8 & 0xff;
        uint32_t target = random >> 16 & 0xff;
        if (source % ACCOUNTS != target % ACCOUNTS) {
            transfer(source % ACCOUNTS, target % ACCOUNTS, i * 16 + (uintptr_t)context);
        }
    }
    (void)atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

/* What the proxy and the server do for one read; the sum of what it shows. */
static uint64_t evaluate(const struct uncommitted_view *view)
{
    uint64_t sum = 0;
    bool left_out[ACCOUNTS] = {false};
    for (size_t i = 0; i < view->count; i++) {
        uint32_t account;
        memcpy(&account, view->documents[i]->key.data, sizeof account);
        left_out[account] = true;
        sum += view->documents[i]->lsn;
    }
    for (uint32_t account = 0; account < ACCOUNTS; account++) {
        sum += left_out[account] ? 0 : atomic_load(&balances[account]);
    }
    return sum;
}

struct awaited_turn {
    struct uncommitted_turn turn;
    _Atomic bool has_begun;
};

static void on_awaited_begun(struct uncommitted_turn *turn)
{
    struct awaited_turn *awaited =
        (struct awaited_turn *)(void *)((uint8_t *)turn - offsetof(struct awaited_turn, turn));
    atomic_store(&awaited->has_begun, true);
}

static void *read_many(void *context)
{
    (void)context;
    while (atomic_load(&writers_left) > 0) {
        for (unsigned attempt = 0;; attempt++) {
            struct uncommitted_view view;
            struct awaited_turn awaited = {.turn = {.gate = GATE, .begun = on_awaited_begun}};
            bool with_turn = attempt >= 2 && uncommitted_turn_begin(table, &awaited.turn);
            if (attempt >= 2 && !with_turn && !uncommitted_turn_cancel(table, &awaited.turn)) {
                while (!atomic_load(&awaited.has_begun)) {
                    (void)sched_yield(); /* it is on its way, and uses the memory until then */
                }
                with_turn = true;
            }
            uint64_t stamp = uncommitted_stamp(table, GATE);
            if (uncommitted_collect(table, GATE, "d.c", &nobody, 100000, &view) != STATUS_OK) {
                abort();
            }
            uint64_t sum = evaluate(&view);
            bool good = with_turn || uncommitted_stamp(table, GATE) == stamp;
            uncommitted_view_free(&view);
            if (with_turn) {
                uncommitted_turn_end(table, &awaited.turn);
            }
            if (good) {
                if (sum != (uint64_t)ACCOUNTS * EACH) {
                    abort();
                }
                (void)atomic_fetch_add(&good_reads, 1);
                break;
            }
        }
    }
    return NULL;
}

/* What one snapshot shows of each account. */
static void read_snapshot(const struct uncommitted_owner *owner, uint64_t *ret_balances)
{
    const struct uncommitted_reader reader = {
        .unit = owner->unit, .snapshot_at = owner->snapshot_at, .has_snapshot = true};
    for (;;) {
        struct uncommitted_view view;
        uint64_t stamp = uncommitted_stamp(table, GATE);
        enum status status = uncommitted_collect(table, GATE, "d.c", &reader, 100000, &view);
        if (status == STATUS_LIMIT && uncommitted_snapshot_is_lost(table, &reader)) {
            return; /* it slept for very long; the caller looks, too */
        }
        if (status != STATUS_OK) {
            abort();
        }
        for (uint32_t account = 0; account < ACCOUNTS; account++) {
            ret_balances[account] = atomic_load(&balances[account]);
        }
        for (size_t i = 0; i < view.count; i++) {
            uint32_t account;
            memcpy(&account, view.documents[i]->key.data, sizeof account);
            ret_balances[account] = view.documents[i]->lsn;
        }
        uncommitted_view_free(&view);
        if (uncommitted_stamp(table, GATE) == stamp) {
            return;
        }
    }
}

/* Two reads at one snapshot show the same, and no half transfer. */
static void *read_twice(void *context)
{
    (void)context;
    while (atomic_load(&writers_left) > 0) {
        struct uncommitted_owner owner = {.unit = UINT64_MAX};
        uint64_t first[ACCOUNTS] = {0};
        uint64_t second[ACCOUNTS] = {0};
        uint64_t sum = 0;
        uncommitted_snapshot_begin(table, &owner, 0);
        read_snapshot(&owner, first);
        sched_yield();
        read_snapshot(&owner, second);
        bool lost = uncommitted_snapshot_is_lost(
            table,
            &(struct uncommitted_reader){.has_snapshot = true, .snapshot_at = owner.snapshot_at});
        uncommitted_end(table, &owner, true);
        if (lost) {
            continue;
        }
        for (size_t i = 0; i < ACCOUNTS; i++) {
            sum += first[i];
        }
        if (sum != (uint64_t)ACCOUNTS * EACH || memcmp(first, second, sizeof first) != 0) {
            abort();
        }
        (void)atomic_fetch_add(&good_snapshots, 1);
    }
    return NULL;
}

/* What cannot be done again, and knows of nothing published. */
static void *read_on(void *context)
{
    (void)context;
    while (atomic_load(&writers_left) > 0) {
        if (uncommitted_read_enter(table, GATE)) {
            uint64_t sum = evaluate(&(struct uncommitted_view){0});
            uncommitted_read_leave(table, GATE);
            if (sum != (uint64_t)ACCOUNTS * EACH) {
                abort();
            }
            (void)atomic_fetch_add(&good_cursors, 1);
        }
    }
    return NULL;
}

static void begin_transfers(uint64_t count, unsigned writers)
{
    transfers = count;
    atomic_store(&good_reads, 0);
    atomic_store(&good_cursors, 0);
    atomic_store(&good_snapshots, 0);
    atomic_store(&writers_left, writers);
    for (size_t i = 0; i < ACCOUNTS; i++) {
        atomic_store(&balances[i], EACH);
        (void)pthread_mutex_init(&locks[i], NULL);
    }
}

static void end_transfers(void)
{
    for (size_t i = 0; i < ACCOUNTS; i++) {
        (void)pthread_mutex_destroy(&locks[i]);
    }
}

/* All kinds of readers at once. */
static void transfer_and_read(uint64_t count)
{
    pthread_t threads[WRITERS + READERS + 2];
    begin_transfers(count, WRITERS);
    for (uintptr_t i = 0; i < WRITERS; i++) {
        /* NOLINTNEXTLINE(performance-no-int-to-ptr): a number for the thread */
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[WRITERS + i], NULL, read_many, NULL), 0);
    }
    assert_int_equal(pthread_create(&threads[WRITERS + READERS], NULL, read_on, NULL), 0);
    assert_int_equal(pthread_create(&threads[WRITERS + READERS + 1], NULL, read_twice, NULL), 0);
    for (size_t i = 0; i < WRITERS + READERS + 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    end_transfers();
    assert_true(each_has_read());
}

static void test_no_reader_sees_half_a_transfer(void **state)
{
    (void)state;
    transfer_and_read(TRANSFERS);
}

static void test_no_reader_sees_half_a_transfer_while_threads_are_held(void **state)
{
    (void)state;
    race_points_begin(seed_of_run(), 4);
    transfer_and_read(HELD_TRANSFERS);
    race_points_end();
}

/* A unit that has seen no turn is held before it publishes; a reader between its two looks until
   the unit has. */
static sem_t unit_decided;
static sem_t reader_between;
static sem_t unit_published;
static _Thread_local bool is_reader;

static void meet(const char *name)
{
    if (!is_reader && strcmp(name, "publish_decided") == 0) {
        (void)sem_post(&unit_decided);
        (void)sem_wait(&reader_between);
    } else if (is_reader && strcmp(name, "read_one_seen") == 0) {
        (void)sem_post(&reader_between);
        (void)sem_wait(&unit_published);
    }
}

static void *enter_meanwhile(void *context)
{
    is_reader = true;
    (void)sem_wait(&unit_decided);
    *(bool *)context = uncommitted_read_enter(table, GATE);
    return NULL;
}

static void test_no_turn_without_a_lock_begins_beside_a_publication(void **state)
{
    (void)state;
    struct uncommitted_owner unit = {.unit = 1};
    struct published one;
    bool entered = false;
    pthread_t thread;
    (void)sem_init(&unit_decided, 0, 0);
    (void)sem_init(&reader_between, 0, 0);
    (void)sem_init(&unit_published, 0, 0);
    if (!race_points_call(meet)) {
        skip();
    }
    assert_int_equal(pthread_create(&thread, NULL, enter_meanwhile, &entered), 0);
    assert_true(publish(&one, &unit, GATE, 1, 100));
    (void)sem_post(&unit_published);
    assert_int_equal(pthread_join(thread, NULL), 0);
    race_points_end();
    assert_false(entered); /* what is published has been while its turn lasted */
    uncommitted_end(table, &unit, true);
}

/* ------------------------------------------------------------------ shares and costs */

static void test_a_share_of_a_snapshot(void **state)
{
    (void)state;
    struct uncommitted_owner unit = {.unit = 1};
    struct uncommitted_owner writer = {.unit = 2};
    struct uncommitted_owner share = {0};
    struct published one;
    assert_false(uncommitted_snapshot_share(table, &unit, &share));
    uncommitted_snapshot_begin(table, &unit, 7);
    assert_true(publish(&one, &writer, GATE, 1, 100));
    uncommitted_end(table, &writer, true);
    assert_true(uncommitted_snapshot_share(table, &unit, &share));
    assert_int_equal(share.plain_epoch, 7);
    uncommitted_end(table, &unit, false); /* it has ended; the share has not */
    struct uncommitted_reader reader = {.snapshot_at = share.snapshot_at, .has_snapshot = true};
    assert_false(uncommitted_snapshot_is_lost(table, &reader));
    assert_int_equal(count_seen(&reader, GATE, "d.c"), 1);
    assert_true(uncommitted_has_changed(table, GATE, &reader));
    assert_true(uncommitted_has_changed(table, 0, &reader));
    assert_false(uncommitted_has_changed(table, OTHER_GATE, &reader));
    assert_false(uncommitted_has_changed(table, GATE, &nobody));
    uncommitted_snapshot_renew(table, &share, 8);
    reader.snapshot_at = share.snapshot_at;
    assert_int_equal(share.plain_epoch, 8);
    assert_int_equal(count_seen(&reader, GATE, "d.c"), 0);
    assert_false(uncommitted_has_changed(table, GATE, &reader));
    uncommitted_end(table, &share, false);
}

/* Of this thread's own time: a look that takes longer than a slice is interrupted in each turn. */
static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The fastest of some turns: what else the machine does makes none faster. */
static uint64_t cost_of(bool (*look)(const struct uncommitted_reader *reader),
                        const struct uncommitted_reader *reader, unsigned times, bool wanted)
{
    uint64_t best = UINT64_MAX;
    for (unsigned turn = 0; turn < 20; turn++) {
        uint64_t began = now_ns();
        for (unsigned i = 0; i < times; i++) {
            assert_int_equal(look(reader), wanted);
        }
        uint64_t took = now_ns() - began;
        best = took < best ? took : best;
    }
    return best;
}

static bool look_for_others(const struct uncommitted_reader *reader)
{
    return uncommitted_has_others(table, GATE, reader);
}

static bool look_for_too_much(const struct uncommitted_reader *reader)
{
    struct uncommitted_view view;
    return uncommitted_collect(table, GATE, "d.c", reader, 50, &view) == STATUS_LIMIT;
}

static bool look_for_one(const struct uncommitted_reader *reader)
{
    struct lock_name name = name_of(1);
    struct uncommitted_document *found = NULL;
    enum status status = uncommitted_find(table, &name, reader, &found);
    uncommitted_document_release(found);
    return status == STATUS_OK && found != NULL;
}

static bool look_for_all(const struct uncommitted_reader *reader)
{
    struct uncommitted_view view;
    bool all = uncommitted_collect(table, GATE, "d.c", reader, UINT64_MAX, &view) == STATUS_OK;
    uncommitted_view_free(&view);
    return all;
}

/* What documents a unit has published costs only who wants them. */
static void test_who_pays_for_many_documents(void **state)
{
    (void)state;
    enum { FEW = 100, MANY = 10000, LOOKS = 200 };
    struct uncommitted_owner owner = {.unit = 1};
    const struct uncommitted_reader own = {.unit = 1};
    uint64_t cost[2][4];
    uint32_t number = 0;
    for (size_t i = 0; i < 2; i++) {
        for (; number < (i == 0 ? FEW : MANY); number++) {
            struct published one;
            assert_true(publish(&one, &owner, GATE, number, number));
        }
        cost[i][0] = cost_of(look_for_others, &own, LOOKS, false);
        cost[i][1] = cost_of(look_for_too_much, &nobody, LOOKS, true);
        cost[i][2] = cost_of(look_for_one, &nobody, LOOKS, true);
        cost[i][3] = cost_of(look_for_all, &nobody, 1, true);
    }
    uncommitted_end(table, &owner, true);
    for (size_t look = 0; look < 3; look++) {
        if (cost[1][look] > 10 * cost[0][look] + 20000) {
            fail_msg("look %zu: %lu ns, %lu with as many documents more", look,
                     (unsigned long)cost[0][look], (unsigned long)cost[1][look]);
        }
    }
    /* Linear would be 100 times as much, its square 10,000. */
    if (cost[1][3] > 1500 * cost[0][3]) {
        fail_msg("all: %lu ns, then %lu", (unsigned long)cost[0][3], (unsigned long)cost[1][3]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_published_until_the_end, begin, end),
        cmocka_unit_test_setup_teardown(test_a_shared_name, begin, end),
        cmocka_unit_test_setup_teardown(test_who_sees_what, begin, end),
        cmocka_unit_test_setup_teardown(test_a_turn_holds_publications, begin, end),
        cmocka_unit_test_setup_teardown(test_a_drain_holds_admissions_only, begin, end),
        cmocka_unit_test_setup_teardown(test_a_turn_without_a_lock, begin, end),
        cmocka_unit_test_setup_teardown(test_who_waits_for_a_turn_may_leave, begin, end),
        cmocka_unit_test_setup_teardown(test_watches, begin, end),
        cmocka_unit_test_setup_teardown(test_snapshots, begin, end),
        cmocka_unit_test_setup_teardown(test_looks, begin, end),
        cmocka_unit_test_setup_teardown(test_a_snapshot_that_is_lost, begin, end),
        cmocka_unit_test_setup_teardown(test_a_share_of_a_snapshot, begin, end),
        cmocka_unit_test_setup_teardown(test_who_pays_for_many_documents, begin, end),
        cmocka_unit_test_setup_teardown(test_no_reader_sees_half_a_transfer, begin, end),
        cmocka_unit_test_setup_teardown(test_no_reader_sees_half_a_transfer_while_threads_are_held,
                                        begin, end),
        cmocka_unit_test_setup_teardown(test_no_turn_without_a_lock_begins_beside_a_publication,
                                        begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
