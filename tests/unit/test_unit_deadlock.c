/*
 * Deadlocks between document locks, against a naive oracle: a matrix of who waits for whom, closed
 * after every step. No cycle stays; no victim without a cycle; the victim is the youngest of its
 * cycle. Then gates among the locks, and threads that lock in any order: all of them get done.
 *
 * HOLDFAST_TEST_SEED chooses the random schedule; it is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <sched.h>

#include "lock_clients.h"
#include "test_seed.h"
#include "unit/gate.h"
#include "unit/gate_wait.h"
#include "unit/lock_table.h"

static struct lock_deadlock told; /* the last one */

static void on_deadlock(const struct lock_deadlock *deadlock)
{
    told = *deadlock;
}

/* ------------------------------------------------------------------ a world of owners and locks */

enum { OWNERS = 12, LOCKS = 7, LOCKS_MAX = 1000 };

struct player {
    struct lock_owner owner;
    struct lock_waiter waiter;
    size_t wanted; /* lock it waits for */
    bool waiting;
    bool ended; /* its wait has, as it was told */
};

struct world {
    struct lock_table *table;
    struct player players[OWNERS];
    uint64_t units;
    /* what the oracle believes */
    int holder[LOCKS]; /* -1: nobody */
    int queue[LOCKS][OWNERS];
    size_t queued[LOCKS];
};

static void on_ended(struct lock_waiter *waiter)
{
    struct player *player =
        (struct player *)(void *)((uint8_t *)waiter - offsetof(struct player, waiter));
    assert_true(player->waiting);
    assert_false(player->ended);
    player->ended = true;
}

static void begin(struct world *world, int who, uint64_t place)
{
    struct player *player = &world->players[who];
    gate_list_free(&player->owner);
    memset(player, 0, sizeof *player);
    player->waiter.ended = on_ended;
    player->owner.unit = ++world->units;
    player->owner.place = place;
    lock_owner_begin(world->table, &player->owner);
}

static void world_begin(struct world *world)
{
    memset(world, 0, sizeof *world);
    world->table = lock_table_new(LOCKS_MAX, 100);
    assert_non_null(world->table);
    lock_table_on_deadlock(world->table, on_deadlock);
    for (int i = 0; i < OWNERS; i++) {
        begin(world, i, 0);
    }
    for (size_t i = 0; i < LOCKS; i++) {
        world->holder[i] = -1;
    }
}

/* ------------------------------------------------------------------ the oracle */

typedef bool matrix[OWNERS][OWNERS];

/* Who waits for whom, directly and in the end. `queues`: also for those before one in a queue. */
static void close_over(const struct world *world, bool queues, matrix reach)
{
    memset(reach, 0, sizeof(matrix));
    for (size_t lock = 0; lock < LOCKS; lock++) {
        for (size_t i = 0; i < world->queued[lock]; i++) {
            reach[world->queue[lock][i]][world->holder[lock]] = true;
            for (size_t before = 0; queues && before < i; before++) {
                reach[world->queue[lock][i]][world->queue[lock][before]] = true;
            }
        }
    }
    for (size_t by = 0; by < OWNERS; by++) {
        for (size_t from = 0; from < OWNERS; from++) {
            for (size_t to = 0; to < OWNERS; to++) {
                reach[from][to] = reach[from][to] || (reach[from][by] && reach[by][to]);
            }
        }
    }
}

/* The youngest of those who wait for themselves by locks that are held; -1: nobody does. */
static int oracle_victim(const struct world *world, size_t *ret_members)
{
    matrix reach;
    int youngest = -1;
    *ret_members = 0;
    close_over(world, false, reach);
    for (int i = 0; i < OWNERS; i++) {
        if (reach[i][i]) {
            ++*ret_members;
            if (youngest < 0 ||
                world->players[i].owner.place > world->players[youngest].owner.place) {
                youngest = i;
            }
        }
    }
    return youngest;
}

static bool has_cycle(const struct world *world)
{
    matrix reach;
    bool found = false;
    close_over(world, true, reach);
    for (size_t i = 0; i < OWNERS; i++) {
        found = found || reach[i][i];
    }
    return found;
}

static void oracle_dequeue(struct world *world, size_t lock, int who)
{
    size_t left = 0;
    for (size_t i = 0; i < world->queued[lock]; i++) {
        if (world->queue[lock][i] != who) {
            world->queue[lock][left++] = world->queue[lock][i];
        }
    }
    assert_int_equal(left + 1, world->queued[lock]);
    world->queued[lock] = left;
}

/* ------------------------------------------------------------------ moves */

/* A wait that was told to have ended is asked about: the answer is what the oracle believes. */
static void settle(struct world *world)
{
    for (int i = 0; i < OWNERS; i++) {
        struct player *player = &world->players[i];
        bool holds = player->waiting && world->holder[player->wanted] == i;
        assert_int_equal(player->ended, player->waiting && (holds || player->owner.victim));
        if (player->ended) {
            struct lock_name name = lock_name_numbered(player->wanted);
            player->waiting = player->ended = false;
            assert_int_equal(lock_acquire(world->table, &player->owner, &name, &player->waiter),
                             holds ? LOCK_GRANTED : LOCK_DEADLOCK);
        }
    }
    assert_false(has_cycle(world));
}

static enum lock_result ask(struct world *world, int who, size_t lock)
{
    struct player *player = &world->players[who];
    struct lock_name name = lock_name_numbered(lock);
    uint64_t before = lock_table_deadlocks(world->table);
    int victim = -1;
    size_t members = 0;
    if (world->holder[lock] < 0) {
        world->holder[lock] = who;
    } else if (world->holder[lock] != who) {
        world->queue[lock][world->queued[lock]++] = who;
        player->waiting = true;
        player->wanted = lock;
        victim = oracle_victim(world, &members);
        /* That queues add no cycle of their own is what the table relies on. */
        assert_int_equal(has_cycle(world), victim >= 0);
    }
    enum lock_result result = lock_acquire(world->table, &player->owner, &name, &player->waiter);
    assert_int_equal(lock_table_deadlocks(world->table) - before, victim >= 0);
    if (victim >= 0) {
        assert_true(world->players[victim].owner.victim);
        assert_int_equal(told.victim, world->players[victim].owner.unit);
        assert_int_equal(told.unit_count, members);
        assert_int_equal(told.units[0], player->owner.unit);
        assert_int_equal(told.total, before + 1);
        oracle_dequeue(world, world->players[victim].wanted, victim);
    }
    if (victim == who) {
        player->waiting = false;
        assert_int_equal(result, LOCK_DEADLOCK);
    } else {
        assert_int_equal(result, player->waiting ? LOCK_WAITING : LOCK_GRANTED);
    }
    settle(world);
    return result;
}

static void release(struct world *world, int who)
{
    struct player *player = &world->players[who];
    for (size_t lock = 0; lock < LOCKS; lock++) {
        if (world->holder[lock] == who) {
            world->holder[lock] = world->queued[lock] > 0 ? world->queue[lock][0] : -1;
            if (world->queued[lock] > 0) {
                oracle_dequeue(world, lock, world->holder[lock]);
            }
        }
    }
    uint64_t place = lock_owner_place_kept(&player->owner);
    assert_int_equal(place, player->owner.victim ? player->owner.place : 0);
    lock_release_all(world->table, &player->owner, true);
    settle(world);
    begin(world, who, place);
}

static void cancel(struct world *world, int who)
{
    struct player *player = &world->players[who];
    assert_true(lock_cancel(world->table, &player->waiter));
    oracle_dequeue(world, player->wanted, who);
    player->waiting = false;
    settle(world);
}

static void world_end(struct world *world)
{
    for (int i = 0; i < OWNERS; i++) {
        if (world->players[i].waiting) {
            cancel(world, i);
        }
    }
    for (int i = 0; i < OWNERS; i++) {
        lock_release_all(world->table, &world->players[i].owner, true);
    }
    assert_int_equal(lock_table_held(world->table), 0);
    lock_table_free(world->table);
}

/* ------------------------------------------------------------------ tests */

static void test_the_one_that_asks(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    assert_int_equal(ask(&world, 0, 0), LOCK_GRANTED);
    assert_int_equal(ask(&world, 1, 1), LOCK_GRANTED);
    assert_int_equal(ask(&world, 0, 1), LOCK_WAITING);
    assert_int_equal(ask(&world, 1, 0), LOCK_DEADLOCK);
    /* It keeps what it holds, and gets nothing more, until it is rolled back. */
    struct lock_name other = lock_name_numbered(5);
    struct player *victim = &world.players[1];
    assert_int_equal(lock_acquire(world.table, &victim->owner, &other, &victim->waiter),
                     LOCK_DEADLOCK);
    assert_int_equal(lock_table_held(world.table), 2);
    release(&world, 1);
    assert_int_equal(world.holder[1], 0);
    world_end(&world);
}

static void test_one_that_waits(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(&world, i, (size_t)i), LOCK_GRANTED);
    }
    assert_int_equal(ask(&world, 1, 2), LOCK_WAITING);
    assert_int_equal(ask(&world, 2, 0), LOCK_WAITING);
    assert_int_equal(ask(&world, 0, 1), LOCK_WAITING); /* closes 0, 1, 2 */
    assert_true(world.players[2].owner.victim);
    assert_false(world.players[2].waiting);
    assert_int_equal(told.unit_count, 3);
    assert_int_equal(told.units[1], world.players[1].owner.unit);
    world_end(&world);
}

/* Somebody else's queue is no reason to be a victim: 3 is the youngest, and it would not help. */
static void test_bystander(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    assert_int_equal(ask(&world, 0, 0), LOCK_GRANTED);
    assert_int_equal(ask(&world, 1, 1), LOCK_GRANTED);
    assert_int_equal(ask(&world, 3, 0), LOCK_WAITING);
    assert_int_equal(ask(&world, 1, 0), LOCK_WAITING); /* behind 3 */
    assert_int_equal(ask(&world, 0, 1), LOCK_WAITING);
    assert_false(world.players[3].owner.victim);
    assert_true(world.players[1].owner.victim);
    world_end(&world);
}

/* A lock that is handed on changes whom the others wait for. */
static void test_handed_on(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    assert_int_equal(ask(&world, 0, 0), LOCK_GRANTED);
    assert_int_equal(ask(&world, 1, 0), LOCK_WAITING);
    assert_int_equal(ask(&world, 2, 2), LOCK_GRANTED);
    assert_int_equal(ask(&world, 2, 0), LOCK_WAITING);
    release(&world, 0);
    assert_int_equal(world.holder[0], 1);
    assert_int_equal(ask(&world, 1, 2), LOCK_WAITING); /* 2 waits for 1 by now */
    assert_true(world.players[2].owner.victim);
    world_end(&world);
}

/* A victim that begins again keeps its place: younger ones give way to it then. */
static void test_place_is_kept(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    assert_int_equal(ask(&world, 0, 0), LOCK_GRANTED);
    assert_int_equal(ask(&world, 5, 1), LOCK_GRANTED);
    assert_int_equal(ask(&world, 0, 1), LOCK_WAITING);
    assert_int_equal(ask(&world, 5, 0), LOCK_DEADLOCK);
    release(&world, 5);
    release(&world, 0); /* not a victim: the youngest of all from now on */
    assert_int_equal(ask(&world, 5, 1), LOCK_GRANTED);
    assert_int_equal(ask(&world, 0, 0), LOCK_GRANTED);
    assert_int_equal(ask(&world, 5, 0), LOCK_WAITING);
    assert_int_equal(ask(&world, 0, 1), LOCK_DEADLOCK);
    world_end(&world);
}

static void test_random_schedules(void **state)
{
    (void)state;
    struct world world;
    unsigned seed = (unsigned)seed_of_run();
    world_begin(&world);
    for (size_t step = 0; step < 60000; step++) {
        int who = rand_r(&seed) % OWNERS;
        struct player *player = &world.players[who];
        int move = rand_r(&seed) % 16;
        if (player->waiting) {
            if (move == 0) {
                cancel(&world, who);
            }
        } else if (player->owner.victim || move == 0) {
            release(&world, who);
        } else {
            (void)ask(&world, who, (size_t)rand_r(&seed) % LOCKS);
        }
    }
    assert_true(lock_table_deadlocks(world.table) > 100);
    world_end(&world);
}

/* ------------------------------------------------------------------ gates */

enum { GATE_A = 1, GATE_B = 2, GATE_C = 3 };

static struct gate_table *gates;
static struct lock_table *gates_locks;

struct visitor {
    struct lock_owner *owner;
    struct gate_waiter waiter;
    struct gate_wait wait;
    int admitted;
};

static void on_admitted(struct gate_waiter *waiter)
{
    struct visitor *visitor =
        (struct visitor *)(void *)((uint8_t *)waiter - offsetof(struct visitor, waiter));
    visitor->admitted++;
}

static void on_pass(struct gate_wait *wait)
{
    struct visitor *visitor =
        (struct visitor *)(void *)((uint8_t *)wait - offsetof(struct visitor, wait));
    gate_pass(gates, &visitor->waiter);
}

/* As engine/enter.c does it. True: inside. */
static bool enter(struct visitor *visitor, struct lock_owner *owner, uint32_t gate)
{
    *visitor = (struct visitor){
        .owner = owner, .waiter.admitted = on_admitted, .wait = {.pass = on_pass, .gate = gate}};
    assert_int_equal(gate_list_add(gates_locks, owner, gate), STATUS_OK);
    if (gate_unit_enter(gates, gate, &visitor->waiter)) {
        return true;
    }
    gate_wait_begin(gates_locks, owner, &visitor->wait);
    return false;
}

static void gates_begin(struct world *world)
{
    world_begin(world);
    gates = gate_table_new(1);
    assert_non_null(gates);
    gates_locks = world->table;
}

static void gates_end(struct world *world)
{
    assert_int_equal(lock_table_deadlocks(world->table), 0);
    for (int i = 0; i < OWNERS; i++) {
        gate_list_free(&world->players[i].owner);
    }
    world_end(world);
    gates = gate_table_free(gates);
}

/* 0 holds lock 0; 1 is inside gate A, and a plain command waits until that is over. */
static void gates_set_up(struct world *world, struct visitor *first, struct visitor *plain)
{
    gates_begin(world);
    assert_int_equal(ask(world, 0, 0), LOCK_GRANTED);
    assert_true(enter(first, &world->players[1].owner, GATE_A));
    *plain = (struct visitor){.waiter.admitted = on_admitted};
    assert_false(gate_plain_wait(gates, GATE_A, 0, &plain->waiter));
}

static void gates_leave(struct world *world, int who, uint32_t gate)
{
    gate_unit_leave(gates, gate, 0);
    gate_list_drop(world->table, &world->players[who].owner);
}

static void test_gate_asked_last(void **state)
{
    (void)state;
    struct world world;
    struct visitor first;
    struct visitor plain;
    struct visitor second;
    gates_set_up(&world, &first, &plain);
    assert_int_equal(ask(&world, 1, 0), LOCK_WAITING);
    assert_false(enter(&second, &world.players[0].owner, GATE_A));
    assert_int_equal(second.admitted, 1);
    gate_wait_end(world.table, second.owner);
    gates_leave(&world, 0, GATE_A);
    assert_int_equal(plain.admitted, 0);
    release(&world, 0);
    gate_unit_leave(gates, GATE_A, 0);
    assert_int_equal(plain.admitted, 1);
    gates_end(&world);
}

static void test_lock_asked_last(void **state)
{
    (void)state;
    struct world world;
    struct visitor first;
    struct visitor plain;
    struct visitor second;
    gates_set_up(&world, &first, &plain);
    /* As long as nobody inside waits for it the unit has to queue. */
    assert_false(enter(&second, &world.players[0].owner, GATE_A));
    assert_int_equal(second.admitted, 0);
    /* Somebody who is not inside may wait for it. */
    assert_int_equal(ask(&world, 2, 0), LOCK_WAITING);
    assert_int_equal(second.admitted, 0);
    /* Over another unit's lock: 1 waits for 3, which waits for 0. */
    assert_int_equal(ask(&world, 3, 3), LOCK_GRANTED);
    assert_int_equal(ask(&world, 3, 0), LOCK_WAITING);
    assert_int_equal(second.admitted, 0);
    assert_int_equal(ask(&world, 1, 3), LOCK_WAITING);
    assert_int_equal(second.admitted, 1);
    assert_int_equal(plain.admitted, 0);
    gate_wait_end(world.table, second.owner);
    gates_end(&world);
}

/* Two gates, two plain commands, no lock at all. */
static void test_gates_alone(void **state)
{
    (void)state;
    struct world world;
    struct visitor inside[2];
    struct visitor plain[2];
    struct visitor crossing[2];
    gates_begin(&world);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(enter(&inside[i], &world.players[i].owner, GATE_A + i));
        plain[i] = (struct visitor){.waiter.admitted = on_admitted};
        assert_false(gate_plain_wait(gates, GATE_A + i, 0, &plain[i].waiter));
    }
    assert_false(enter(&crossing[0], &world.players[0].owner, GATE_B));
    assert_int_equal(crossing[0].admitted, 0);
    assert_false(enter(&crossing[1], &world.players[1].owner, GATE_A));
    assert_int_equal(crossing[0].admitted + crossing[1].admitted, 1);
    gate_wait_end(world.table, crossing[0].owner);
    gate_wait_end(world.table, crossing[1].owner);
    gates_end(&world);
}

/* Two that wait at one gate do not wait for each other, nor for one inside that goes on. */
static void test_gate_without_cycle(void **state)
{
    (void)state;
    struct world world;
    struct visitor first;
    struct visitor plain;
    struct visitor waiting[2];
    gates_set_up(&world, &first, &plain);
    assert_true(enter(&waiting[1], &world.players[2].owner, GATE_C));
    assert_false(enter(&waiting[0], &world.players[0].owner, GATE_A));
    assert_false(enter(&waiting[1], &world.players[2].owner, GATE_A));
    assert_int_equal(waiting[0].admitted + waiting[1].admitted, 0);
    gates_leave(&world, 1, GATE_A);
    assert_int_equal(plain.admitted, 1);
    gate_plain_leave(gates, GATE_A, 0);
    assert_int_equal(waiting[0].admitted + waiting[1].admitted, 2);
    gate_pass(gates, &waiting[0].waiter); /* too late: harmless */
    assert_int_equal(waiting[0].admitted, 1);
    gate_wait_end(world.table, waiting[0].owner);
    gate_wait_end(world.table, waiting[1].owner);
    gates_end(&world);
}

/* ------------------------------------------------------------------ threads */

enum { THREADS = 6, ROUNDS = 400, DOCUMENTS = 5, GIVE_UP_SECONDS = 30 };

static struct lock_table *shared;
static uint64_t documents[DOCUMENTS]; /* each guarded by its lock alone */

static enum lock_result client_lock(struct lock_client *client, size_t document)
{
    struct lock_name name = lock_name_numbered(document);
    for (;;) {
        enum lock_result result = lock_acquire(shared, &client->owner, &name, &client->waiter);
        if (result != LOCK_WAITING) {
            return result;
        }
        if (!lock_client_gives_up(client, shared) && !lock_client_wait(client, GIVE_UP_SECONDS)) {
            return LOCK_DEADLOCK;
        }
    }
}

/* One unit: locks three documents in any order, then adds to them. False: it was a victim. */
static bool client_round(struct lock_client *client)
{
    size_t wanted[3];
    for (size_t i = 0; i < 3; i++) {
        wanted[i] = (size_t)rand_r(&client->seed) % DOCUMENTS;
        if (client_lock(client, wanted[i]) != LOCK_GRANTED) {
            return false;
        }
        (void)sched_yield();
    }
    for (size_t i = 0; i < 3; i++) {
        documents[wanted[i]]++;
    }
    client->added += 3;
    return true;
}

static void *client_main(void *argument)
{
    struct lock_client *client = argument;
    uint64_t place = 0;
    for (int done = 0; done < ROUNDS && !client->stuck;) {
        client->owner = (struct lock_owner){.place = place};
        lock_owner_begin(shared, &client->owner);
        done += client_round(client) ? 1 : 0;
        place = lock_owner_place_kept(&client->owner);
        lock_release_all(shared, &client->owner, true);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static struct lock_client clients[THREADS];
    shared = lock_table_new(LOCKS_MAX, 100);
    assert_non_null(shared);
    uint64_t found = 0;
    uint64_t added = lock_clients_run(clients, THREADS, (unsigned)seed_of_run(), client_main);
    for (size_t i = 0; i < DOCUMENTS; i++) {
        found += documents[i];
    }
    assert_int_equal(added, (uint64_t)THREADS * ROUNDS * 3);
    assert_int_equal(found, added);
    assert_int_equal(lock_table_held(shared), 0);
    assert_true(lock_table_deadlocks(shared) > 0);
    shared = lock_table_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_one_that_asks), cmocka_unit_test(test_one_that_waits),
        cmocka_unit_test(test_bystander),         cmocka_unit_test(test_handed_on),
        cmocka_unit_test(test_place_is_kept),     cmocka_unit_test(test_random_schedules),
        cmocka_unit_test(test_gate_asked_last),   cmocka_unit_test(test_lock_asked_last),
        cmocka_unit_test(test_gates_alone),       cmocka_unit_test(test_gate_without_cycle),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
