/*
 * Holds threads at race points (holdfast/race_point.h).
 *
 * Each thread draws from a generator of its own, which begins with the seed and the thread's
 * number, so that the points themselves put no two threads into an order: a lock or a counter that
 * all share would hide the very races that they are to show, from the thread sanitizer, too.
 *
 * Threads: any. `mode` is read relaxed: who has just switched them on orders nothing by it.
 */
#include "holdfast/race_point.h"

#ifdef HOLDFAST_CRASH_POINTS

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ONE_IN_DEFAULT 16u
#define SLEEP_NS_MAX 200000u
#define SLEEP_NS_MAX_AT_ONE 20000000u

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *only; /* the one point; NULL: all. Set once */
static atomic_bool on;
static _Atomic uint64_t seed_of_all;
static _Atomic uint64_t one_in = ONE_IN_DEFAULT;
static _Atomic uint64_t threads;
static void (*_Atomic called)(const char *name); /* NULL: threads are held */
static _Thread_local uint64_t state;             /* 0: the thread has met none */

static void refuse(const char *value)
{
    fprintf(stderr, "HOLDFAST_RACE=%s is not SEED, SEED:ONE_IN or SEED:ONE_IN:NAME\n", value);
    _exit(127);
}

static void switch_on(uint64_t seed)
{
    atomic_store_explicit(&seed_of_all, seed, memory_order_relaxed);
    atomic_store_explicit(&on, true, memory_order_relaxed);
}

static void read_environment(void)
{
    const char *value = getenv("HOLDFAST_RACE");
    if (value == NULL || value[0] == '\0') {
        return;
    }
    char *end = NULL;
    uint64_t seed = strtoull(value, &end, 10);
    if (end == value || (*end != ':' && *end != '\0')) {
        refuse(value);
    }
    if (*end == ':') {
        const char *part = end + 1;
        uint64_t wanted = strtoull(part, &end, 10);
        if (end == part || (*end != ':' && *end != '\0') || wanted == 0) {
            refuse(value);
        }
        only = *end == ':' ? end + 1 : NULL;
        atomic_store_explicit(&one_in, wanted, memory_order_relaxed);
    }
    fprintf(stderr, "race points: HOLDFAST_RACE=%s\n", value);
    switch_on(seed);
}

/* splitmix64: any state, also one that is like its neighbour, gives a course of its own. */
static uint64_t draw(void)
{
    if (state == 0) {
        uint64_t number = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
        state = atomic_load_explicit(&seed_of_all, memory_order_relaxed) * 0x2545F4914F6CDD1Du +
                number * 0xD1342543DE82EF95u + 1;
    }
    state += 0x9E3779B97F4A7C15u;
    uint64_t mixed = state;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    return mixed ^ mixed >> 31;
}

void race_point_reach(const char *name)
{
    (void)pthread_once(&once, read_environment);
    if (!atomic_load_explicit(&on, memory_order_relaxed)) {
        return;
    }
    void (*reached)(const char *) = atomic_load(&called);
    if (reached != NULL) {
        reached(name);
        return;
    }
    if (only != NULL && strcmp(name, only) != 0) {
        return;
    }
    uint64_t drawn = draw();
    if (drawn % atomic_load_explicit(&one_in, memory_order_relaxed) != 0) {
        return;
    }
    uint64_t longest_ns = only == NULL ? SLEEP_NS_MAX : SLEEP_NS_MAX_AT_ONE;
    if ((drawn >> 32 & 1) == 0) {
        (void)sched_yield();
    } else {
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)((drawn >> 33) % longest_ns)}, NULL);
    }
}

void race_points_begin(uint64_t seed, uint64_t holds_one_in)
{
    (void)pthread_once(&once, read_environment); /* so that what is chosen there does not follow */
    atomic_store_explicit(&one_in, holds_one_in, memory_order_relaxed);
    switch_on(seed);
}

bool race_points_call(void (*reached)(const char *name))
{
    (void)pthread_once(&once, read_environment);
    atomic_store(&called, reached);
    atomic_store_explicit(&on, true, memory_order_relaxed);
    return true;
}

void race_points_end(void)
{
    atomic_store_explicit(&on, false, memory_order_relaxed);
    atomic_store(&called, NULL);
}

#else

void race_points_begin(uint64_t seed, uint64_t holds_one_in)
{
    (void)seed;
    (void)holds_one_in;
}

bool race_points_call(void (*reached)(const char *name))
{
    (void)reached;
    return false;
}

void race_points_end(void)
{
}

#endif
