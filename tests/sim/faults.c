/*
 * What may go wrong in a run, and when: all of it drawn from the seed.
 *
 * A run has a character of its own: some meet one fault only, so that what it does is seen without
 * others around it, some meet many.
 */
#include <string.h>

#include "clients.h"
#include "network.h"
#include "server.h"
#include "sim.h"
#include "store.h"

/* A command takes twice this at most until it is carried out: less than upstream.fenceWait, for
   where the server shows nobody its connections, that time is all there is. */
#define SLOW_US_MAX 900000u

static unsigned maybe(unsigned part, unsigned whole, unsigned value)
{
    return random_chance(part, whole) ? value : 0;
}

void faults_draw(void)
{
    static const unsigned rates[] = {20, 60, 200, 600};
    sim.profile = (struct sim_profile){
        .clients = 1 + (unsigned)random_below(4),
        .operations = 2 + (unsigned)random_below(6),
        .crash_points = maybe(3, 4, rates[random_below(4)]),
        .crashes_max = 1 + (unsigned)random_below(4),
        .crashes_random = maybe(1, 2, 1 + (unsigned)random_below(2)),
        .cuts = maybe(1, 2, 1 + (unsigned)random_below(8)),
        .server_restarts = maybe(1, 3, 1 + (unsigned)random_below(2)),
        .power_cuts = random_chance(1, 2),
        .store_failure = maybe(1, 6, 30),
        .store_full = random_chance(1, 10) || sim.full,
        .strangers = random_chance(1, 4),
        .shows_connections = random_chance(3, 4),
        .clock_jumps = random_chance(1, 8),
        .slow = maybe(2, 3, (unsigned)rates[random_below(3)] / 2),
        .preempt = maybe(3, 4, 10 + (unsigned)random_below(100)),
    };
    /* Not both: what strangers wrote around the proxy and what a crash of the server took cannot
       always be told apart (docs/ARCHITECTURE.md), and the model has no word for it. */
    if (sim.profile.strangers) {
        sim.profile.server_restarts = 0;
    }
    sim.profile.server_loses =
        sim.allow_server_loss && sim.profile.server_restarts > 0 && random_chance(3, 4);
    sim.profile.deferred = sim.writes == SIM_WRITES_DEFERRED ||
                           (sim.writes == SIM_WRITES_DRAWN && random_coin(sim.seed));
    sim_note("profile: clients %u x %u, crashes %u at points (%u/10000) and %u others, cuts %u, "
             "server %u%s, store %u%s%s%s%s%s%s, slow %u, preempt %u",
             sim.profile.clients, sim.profile.operations, sim.profile.crashes_max,
             sim.profile.crash_points, sim.profile.crashes_random, sim.profile.cuts,
             sim.profile.server_restarts, sim.profile.server_loses ? " loses" : "",
             sim.profile.store_failure, sim.profile.store_full ? " full" : "",
             sim.profile.power_cuts ? ", power cuts" : "",
             sim.profile.strangers ? ", strangers" : "",
             sim.profile.shows_connections ? "" : ", hides connections",
             sim.profile.clock_jumps ? ", clock jumps" : "",
             sim.profile.deferred ? ", deferred" : "", sim.profile.slow, sim.profile.preempt);
}

uint64_t faults_latency(void)
{
    if (!sim.faults_over && random_chance(sim.profile.slow, 1000)) {
        return random_chance(1, 8) ? random_below(SLOW_US_MAX) : random_below(40000);
    }
    return 20 + random_below(400);
}

static void crash(void *object, uint64_t number)
{
    (void)object;
    (void)number;
    if (!sim.faults_over) {
        process_die("at a random moment");
    }
}

static void cut(void *object, uint64_t number)
{
    (void)object;
    (void)number;
    struct end *end = sim.faults_over ? NULL : network_any();
    if (end != NULL) {
        sim_note("a connection is cut");
        network_cut(end);
    }
}

static void restart_server(void *object, uint64_t number)
{
    (void)object;
    (void)number;
    if (!sim.faults_over && server_is_up()) {
        server_crash(sim.profile.server_loses);
        schedule_after(1000 + random_below(1500000), server_start, NULL, 0);
    }
}

static void set_full(void *object, uint64_t full)
{
    (void)object;
    sim_note(full ? "the disk is full" : "the disk has room again");
    sim_store_set_full(full != 0 && !sim.faults_over);
}

static void jump(void *object, uint64_t number)
{
    (void)object;
    (void)number;
    /* Recovery tells a crash of the server from a restored backup by ten minutes of the wall clock
       (recover/survey.c): a clock that jumps further across such a crash makes it refuse. */
    uint64_t most_us = sim.profile.server_restarts > 0 ? 180000000u : 3600000000u;
    sim.wall_offset_us += (int64_t)random_below(2 * most_us) - (int64_t)most_us;
    sim_note("the wall clock jumps");
}

/* Within the first milliseconds or seconds: a start is short, and locks are waited for longer. */
static uint64_t a_moment(void)
{
    return random_below((uint64_t)1000 << random_below(13));
}

static void at_random_moments(unsigned count, void (*what)(void *, uint64_t))
{
    for (unsigned i = 0; i < count; i++) {
        schedule_after(a_moment(), what, NULL, 0);
    }
}

void faults_schedule(void)
{
    at_random_moments(sim.profile.crashes_random, crash);
    at_random_moments(sim.profile.cuts, cut);
    at_random_moments(sim.profile.server_restarts, restart_server);
    at_random_moments(sim.profile.clock_jumps ? 3 : 0, jump);
    at_random_moments(sim.profile.strangers ? (unsigned)random_below(24) : 0, clients_stranger);
    if (sim.profile.store_full) {
        uint64_t from = a_moment();
        schedule_after(from, set_full, NULL, 1);
        schedule_after(from + a_moment(), set_full, NULL, 0);
    }
}

void faults_over(void)
{
    sim_note("no more faults");
    sim.faults_over = true;
    sim_store_set_full(false);
    if (sim_store_has_failed()) {
        process_die("its journal has failed: it is not ready, and a supervisor ends it");
    }
    if (!server_is_up()) {
        server_start(NULL, 0);
    }
}
