/*
 * Locks that are shared, of documents and of namespaces, against a naive oracle: who holds what,
 * who waits in which queue, and a matrix of who waits for whom. After every step: nobody holds what
 * another one excludes, nobody waits who could go on, no cycle is left, and no victim was without a
 * cycle. Then threads that read and write in any order: what they read does not change under them.
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
#include "unit/gate_wait.h"
#include "unit/lock_table.h"
#include "unit/namespace_lock.h"

enum { OWNERS = 10, DOCUMENTS = 4, NAMESPACES = 3, THINGS = DOCUMENTS + NAMESPACES };
enum { LOCKS_MAX = 1000, GATE = 7 };

/* Of documents: READ shared, WRITE exclusive, and the two exclude each other and WRITE itself. */
enum { READ = NAMESPACE_READ, WRITE = NAMESPACE_WRITE };

static bool is_document(int thing)
{
    return thing < DOCUMENTS;
}

static bool conflicts(int thing, unsigned a, unsigned b)
{
    bool crossed = ((a & READ) != 0 && (b & WRITE) != 0) || ((a & WRITE) != 0 && (b & READ) != 0);
    return crossed || (is_document(thing) && (a & WRITE) != 0 && (b & WRITE) != 0);
}

struct player {
    struct lock_owner owner;
    struct lock_waiter waiter;
    bool waiting;
    bool ended; /* its wait has, as it was told */
    int thing;  /* that it waits for */
    unsigned modes;
};

struct world {
    struct lock_table *table;
    struct player players[OWNERS];
    uint64_t units;
    /* what the oracle believes */
    unsigned held[THINGS][OWNERS];
    int queue[THINGS][OWNERS];
    int queued[THINGS];
};

static uint64_t told; /* deadlocks */

static void on_deadlock(const struct lock_deadlock *deadlock)
{
    assert_true(deadlock->unit_count >= 2);
    told++;
}

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
    player->owner.serializable = true;
    player->owner.unit = ++world->units;
    player->owner.place = place;
    for (uint32_t i = 0; i < NAMESPACES; i++) {
        assert_int_equal(gate_list_add(world->table, &player->owner, GATE + i), STATUS_OK);
    }
    lock_owner_begin(world->table, &player->owner);
}

static void world_begin(struct world *world)
{
    memset(world, 0, sizeof *world);
    told = 0;
    world->table = lock_table_new(LOCKS_MAX, 100);
    assert_non_null(world->table);
    lock_table_on_deadlock(world->table, on_deadlock);
    for (int i = 0; i < OWNERS; i++) {
        begin(world, i, 0);
    }
}

/* ------------------------------------------------------------------ the oracle */

static bool is_blocked(const struct world *world, int who, int thing, unsigned modes)
{
    bool blocked = false;
    for (int i = 0; i < OWNERS; i++) {
        blocked = blocked || (i != who && conflicts(thing, world->held[thing][i], modes));
    }
    return blocked;
}

static void oracle_enqueue(struct world *world, int who, int thing)
{
    int at = world->queued[thing];
    if (world->held[thing][who] != 0) {
        at = 0;
        while (at < world->queued[thing] && world->held[thing][world->queue[thing][at]] != 0) {
            at++;
        }
    }
    memmove(&world->queue[thing][at + 1], &world->queue[thing][at],
            (size_t)(world->queued[thing] - at) * sizeof(int));
    world->queue[thing][at] = who;
    world->queued[thing]++;
}

static void oracle_dequeue(struct world *world, int who, int thing)
{
    int left = 0;
    for (int i = 0; i < world->queued[thing]; i++) {
        if (world->queue[thing][i] != who) {
            world->queue[thing][left++] = world->queue[thing][i];
        }
    }
    assert_int_equal(left + 1, world->queued[thing]);
    world->queued[thing] = left;
}

static void oracle_pass_on(struct world *world, int thing)
{
    while (world->queued[thing] > 0) {
        int first = world->queue[thing][0];
        if (is_blocked(world, first, thing, world->players[first].modes)) {
            return;
        }
        oracle_dequeue(world, first, thing);
        world->held[thing][first] |= world->players[first].modes;
    }
}

/* Whether anybody waits for itself in the end: by what is held, and by who is before it. */
static bool has_cycle(const struct world *world)
{
    bool reach[OWNERS][OWNERS] = {{false}};
    for (int thing = 0; thing < THINGS; thing++) {
        for (int i = 0; i < world->queued[thing]; i++) {
            int who = world->queue[thing][i];
            unsigned modes = world->players[who].modes;
            for (int other = 0; other < OWNERS; other++) {
                reach[who][other] |=
                    other != who && conflicts(thing, world->held[thing][other], modes);
            }
            for (int before = 0; before < i; before++) {
                int other = world->queue[thing][before];
                reach[who][other] |= conflicts(thing, world->players[other].modes, modes);
            }
        }
    }
    bool found = false;
    for (int by = 0; by < OWNERS; by++) {
        for (int from = 0; from < OWNERS; from++) {
            for (int to = 0; to < OWNERS; to++) {
                reach[from][to] |= reach[from][by] && reach[by][to];
            }
        }
    }
    for (int i = 0; i < OWNERS; i++) {
        found = found || reach[i][i];
    }
    return found;
}

/* ------------------------------------------------------------------ moves */

static enum lock_result call(struct world *world, int who, int thing, unsigned modes)
{
    struct player *player = &world->players[who];
    struct lock_name name = {{(uint8_t)(thing + 1)}};
    if (!is_document(thing)) {
        return namespace_lock(world->table, &player->owner, GATE + (uint32_t)(thing - DOCUMENTS),
                              modes, &player->waiter);
    }
    return (modes & WRITE) != 0
               ? lock_acquire(world->table, &player->owner, &name, &player->waiter)
               : lock_acquire_shared(world->table, &player->owner, &name, &player->waiter);
}

/* What the table has told is what the oracle believes. */
static void settle(struct world *world)
{
    for (int i = 0; i < OWNERS; i++) {
        struct player *player = &world->players[i];
        bool holds =
            player->waiting && (world->held[player->thing][i] & player->modes) == player->modes;
        assert_int_equal(player->ended, player->waiting && (holds || player->owner.victim));
        if (player->ended) {
            player->waiting = player->ended = false;
            assert_int_equal(call(world, i, player->thing, player->modes),
                             player->owner.victim ? LOCK_DEADLOCK : LOCK_GRANTED);
        }
    }
    assert_false(has_cycle(world));
}

static enum lock_result ask(struct world *world, int who, int thing, unsigned modes)
{
    struct player *player = &world->players[who];
    unsigned held = world->held[thing][who];
    bool has = (held & modes) == modes || (is_document(thing) && (held & WRITE) != 0);
    bool waits =
        !has && (is_blocked(world, who, thing, modes) || (world->queued[thing] > 0 && held == 0));
    bool cycle = false;
    bool was_victim[OWNERS];
    for (int i = 0; i < OWNERS; i++) {
        was_victim[i] = world->players[i].owner.victim;
    }
    if (waits) {
        player->waiting = true;
        player->thing = thing;
        player->modes = modes;
        oracle_enqueue(world, who, thing);
        cycle = has_cycle(world);
    } else if (!has) {
        world->held[thing][who] |= modes;
    }
    uint64_t before = told;
    enum lock_result result = call(world, who, thing, modes);
    assert_int_equal(told > before, cycle);
    for (int i = 0; i < OWNERS;
         i++) { /* there may be several: they go before anybody gets theirs */
        struct player *other = &world->players[i];
        if (other->owner.victim && !was_victim[i]) {
            assert_true(other->waiting);
            oracle_dequeue(world, i, other->thing);
        }
    }
    for (int i = 0; i < THINGS; i++) {
        oracle_pass_on(world, i);
    }
    if (player->owner.victim) {
        player->waiting = false;
        assert_int_equal(result, LOCK_DEADLOCK);
    } else {
        assert_int_equal(result, waits ? LOCK_WAITING : LOCK_GRANTED);
    }
    settle(world);
    return result;
}

static void release(struct world *world, int who)
{
    struct player *player = &world->players[who];
    uint64_t place = lock_owner_place_kept(&player->owner);
    for (int thing = 0; thing < THINGS; thing++) {
        world->held[thing][who] = 0;
        oracle_pass_on(world, thing);
    }
    lock_release_all(world->table, &player->owner, true);
    assert_int_equal(player->owner.share_count, 0);
    settle(world);
    begin(world, who, place);
}

static void cancel(struct world *world, int who)
{
    struct player *player = &world->players[who];
    oracle_dequeue(world, who, player->thing);
    player->waiting = false;
    oracle_pass_on(world, player->thing);
    assert_true(lock_cancel(world->table, &player->waiter));
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
        gate_list_free(&world->players[i].owner);
    }
    assert_int_equal(lock_table_held(world->table), 0);
    lock_table_free(world->table);
}

/* ------------------------------------------------------------------ tests */

static void test_modes_of_a_document(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    assert_int_equal(ask(&world, 0, 0, READ), LOCK_GRANTED);
    assert_int_equal(ask(&world, 1, 0, READ), LOCK_GRANTED);
    assert_int_equal(ask(&world, 2, 0, WRITE), LOCK_WAITING);
    assert_int_equal(ask(&world, 3, 0, READ), LOCK_WAITING); /* behind a writer: nobody starves */
    assert_int_equal(ask(&world, 1, 0, READ), LOCK_GRANTED); /* it has it */
    release(&world, 0);
    release(&world, 1);
    assert_int_equal(world.held[0][2], WRITE);
    assert_int_equal(ask(&world, 2, 0, READ), LOCK_GRANTED);
    release(&world, 2);
    assert_int_equal(world.held[0][3], READ);
    assert_int_equal(ask(&world, 3, 0, WRITE), LOCK_GRANTED); /* nobody else reads */
    assert_int_equal(lock_table_held(world.table), 2);
    world_end(&world);
}

static void test_modes_of_a_namespace(void **state)
{
    (void)state;
    struct world world;
    int place = DOCUMENTS;
    world_begin(&world);
    assert_int_equal(ask(&world, 0, place, WRITE), LOCK_GRANTED);
    assert_int_equal(ask(&world, 1, place, WRITE), LOCK_GRANTED);
    assert_int_equal(ask(&world, 2, place, READ), LOCK_WAITING);
    assert_int_equal(ask(&world, 3, place, WRITE), LOCK_WAITING);
    release(&world, 0);
    release(&world, 1);
    assert_int_equal(world.held[place][2], READ);
    assert_int_equal(ask(&world, 4, place, READ | WRITE), LOCK_WAITING);
    release(&world, 2);
    assert_int_equal(world.held[place][3], WRITE);
    release(&world, 3);
    assert_int_equal(world.held[place][4], READ | WRITE);
    assert_int_equal(ask(&world, 5, place, WRITE), LOCK_WAITING);
    assert_int_equal(ask(&world, 6, place + 1, READ | WRITE), LOCK_GRANTED);
    world_end(&world);
}

/* The wish to write what one has read goes before those that wait; two such wishes are a deadlock.
 */
static void test_upgrades(void **state)
{
    (void)state;
    for (int thing = 0; thing < THINGS; thing += DOCUMENTS) {
        struct world world;
        world_begin(&world);
        assert_int_equal(ask(&world, 0, thing, READ), LOCK_GRANTED);
        assert_int_equal(ask(&world, 1, thing, READ), LOCK_GRANTED);
        assert_int_equal(ask(&world, 2, thing, WRITE), LOCK_WAITING);
        assert_int_equal(ask(&world, 1, thing, WRITE), LOCK_WAITING);
        assert_int_equal(world.queue[thing][0], 1);
        assert_int_equal(ask(&world, 0, thing, WRITE), LOCK_WAITING);
        assert_true(world.players[1].owner.victim);
        release(&world, 1);
        assert_int_equal(world.held[thing][0], READ | WRITE);
        assert_false(world.players[2].owner.victim);
        world_end(&world);
    }
}

/* One wait may close several cycles: it waits for two readers, who both wait for it. */
static void test_several_cycles(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    assert_int_equal(ask(&world, 0, 0, WRITE), LOCK_GRANTED);
    assert_int_equal(ask(&world, 1, 1, READ), LOCK_GRANTED);
    assert_int_equal(ask(&world, 2, 1, READ), LOCK_GRANTED);
    assert_int_equal(ask(&world, 1, 0, READ), LOCK_WAITING);
    assert_int_equal(ask(&world, 2, 0, READ), LOCK_WAITING);
    assert_int_equal(ask(&world, 0, 1, WRITE), LOCK_WAITING);
    assert_true(world.players[1].owner.victim && world.players[2].owner.victim);
    release(&world, 1);
    release(&world, 2);
    assert_int_equal(world.held[1][0], WRITE);
    world_end(&world);
}

/* A cycle through who is only before one in a queue. */
static void test_cycle_through_a_queue(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    assert_int_equal(ask(&world, 0, 0, READ), LOCK_GRANTED);
    assert_int_equal(ask(&world, 2, 1, WRITE), LOCK_GRANTED);
    assert_int_equal(ask(&world, 1, 0, WRITE), LOCK_WAITING);
    assert_int_equal(ask(&world, 2, 0, READ), LOCK_WAITING); /* it could, but for 1 */
    assert_int_equal(ask(&world, 0, 1, READ), LOCK_WAITING);
    assert_true(world.players[2].owner.victim);
    world_end(&world);
}

static void test_limit(void **state)
{
    (void)state;
    struct world world;
    struct lock_name name = {{99}};
    world_begin(&world);
    lock_table_set_locks_max(world.table, 1);
    assert_int_equal(ask(&world, 0, 0, READ), LOCK_GRANTED);
    assert_int_equal(
        lock_acquire_shared(world.table, &world.players[1].owner, &name, &world.players[1].waiter),
        LOCK_LIMIT);
    assert_int_equal(
        lock_acquire(world.table, &world.players[1].owner, &name, &world.players[1].waiter),
        LOCK_LIMIT);
    assert_int_equal(lock_table_held(world.table), 1);
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
        int thing = rand_r(&seed) % THINGS;
        unsigned modes = (unsigned)rand_r(&seed) % 3 + 1;
        if (player->waiting) {
            if (move == 0) {
                cancel(&world, who);
            }
        } else if (player->owner.victim || move < 2) {
            release(&world, who);
        } else {
            (void)ask(&world, who, thing, is_document(thing) && modes == 3 ? WRITE : modes);
        }
    }
    assert_true(lock_table_deadlocks(world.table) > 100);
    world_end(&world);
}

/* ------------------------------------------------------------------ threads */

enum { THREADS = 6, ROUNDS = 300, CELLS = 4, GIVE_UP_SECONDS = 60 };

static struct lock_table *shared;
static uint64_t cells[CELLS]; /* each guarded by its lock, or by its namespace being read */

enum wish { READ_CELL, WRITE_CELL, READ_ALL, WRITE_ALL };

static bool wish(struct lock_client *client, enum wish what, size_t cell)
{
    struct lock_name name = {{(uint8_t)(cell + 1)}};
    enum lock_result result = LOCK_WAITING;
    while (result == LOCK_WAITING) {
        switch (what) {
        case READ_CELL:
            result = lock_acquire_shared(shared, &client->owner, &name, &client->waiter);
            break;
        case WRITE_CELL:
            result = lock_acquire(shared, &client->owner, &name, &client->waiter);
            break;
        case READ_ALL:
            result = namespace_lock(shared, &client->owner, GATE, READ, &client->waiter);
            break;
        case WRITE_ALL:
            result = namespace_lock(shared, &client->owner, GATE, WRITE, &client->waiter);
            break;
        }
        if (result == LOCK_WAITING && !lock_client_gives_up(client, shared) &&
            !lock_client_wait(client, GIVE_UP_SECONDS)) {
            return false;
        }
    }
    return result == LOCK_GRANTED;
}

/* Reads one cell or all, twice; then writes one. False: it was a victim. */
static bool client_round(struct lock_client *client)
{
    size_t read = (size_t)rand_r(&client->seed) % CELLS;
    size_t written = (size_t)rand_r(&client->seed) % CELLS;
    bool all = rand_r(&client->seed) % 2 == 0;
    if (!wish(client, all ? READ_ALL : READ_CELL, read)) {
        return false;
    }
    uint64_t before = cells[read];
    (void)sched_yield();
    if (!wish(client, WRITE_ALL, 0) || !wish(client, WRITE_CELL, written)) {
        return false;
    }
    assert_int_equal(cells[read], before);
    cells[written]++;
    client->added++;
    return true;
}

static void *client_main(void *argument)
{
    struct lock_client *client = argument;
    uint64_t place = 0;
    for (int done = 0; done < ROUNDS && !client->stuck;) {
        client->owner = (struct lock_owner){.serializable = true, .place = place};
        assert_int_equal(gate_list_add(shared, &client->owner, GATE), STATUS_OK);
        lock_owner_begin(shared, &client->owner);
        done += client_round(client) ? 1 : 0;
        place = lock_owner_place_kept(&client->owner);
        lock_release_all(shared, &client->owner, true);
        gate_list_free(&client->owner);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static struct lock_client clients[THREADS];
    shared = lock_table_new(LOCKS_MAX, 100);
    uint64_t found = 0;
    uint64_t added = lock_clients_run(clients, THREADS, (unsigned)seed_of_run(), client_main);
    for (size_t i = 0; i < CELLS; i++) {
        found += cells[i];
    }
    assert_int_equal(added, (uint64_t)THREADS * ROUNDS);
    assert_int_equal(found, added);
    assert_int_equal(lock_table_held(shared), 0);
    assert_true(lock_table_deadlocks(shared) > 0);
    shared = lock_table_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes_of_a_document),
        cmocka_unit_test(test_modes_of_a_namespace),
        cmocka_unit_test(test_upgrades),
        cmocka_unit_test(test_several_cycles),
        cmocka_unit_test(test_cycle_through_a_queue),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_random_schedules),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
