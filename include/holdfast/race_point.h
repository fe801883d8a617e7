#ifndef HOLDFAST_RACE_POINT_H
#define HOLDFAST_RACE_POINT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Places where a thread is between two steps that others may come between: inside a protocol
 * without a lock, between a look and what is done about it, between giving something away and the
 * last touch of it. The window is a few instructions wide, so that a test hardly ever meets it; a
 * race point holds the thread there now and then.
 *
 * They are in builds that have crash points (never in a release), and off. HOLDFAST_RACE=SEED, or
 * SEED:ONE_IN, switches them on in a whole process, which says so on standard error; a threaded
 * test calls race_points_begin(). Then at one point in ONE_IN (default 16) the thread yields,
 * or sleeps for up to 200 microseconds. With SEED:ONE_IN:NAME it does so only at that one, and
 * sleeps for up to 20 milliseconds. The seed decides each thread's own course, not who is first: a
 * failure comes again often, not always.
 *
 * A test that knows which interleaving it wants makes that one: race_points_call() has it called at
 * each point, and it may do there what the other thread would do, or wait for that.
 *
 * In the simulation (tests/sim) each of them is a place where the seed may preempt the fiber: there
 * a failure comes again always.
 *
 */
#ifdef HOLDFAST_CRASH_POINTS
void race_point_reach(const char *name);
#define RACE_POINT(name) race_point_reach(#name)
#else
#define RACE_POINT(name) ((void)0)
#endif

/* Any thread; before those that are to meet them. Without race points in the build: nothing. */
void race_points_begin(uint64_t seed, uint64_t holds_one_in);
/* Instead of holding anybody: `reached` on the thread that is there, which may hold a lock. False:
   there are none in this build. */
bool race_points_call(void (*reached)(const char *name));
void race_points_end(void);

#endif
