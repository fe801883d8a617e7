/*
 * Kills the process at the place that HOLDFAST_CRASH_AT names, or stops it at that which
 * HOLDFAST_STOP_AT does: NAME, or NAME:N for its Nth time.
 *
 * The variables are read once, at the first crash point that any thread reaches. A value that names
 * no place ends the process at once with a message: a test that misspells a name must not pass.
 * SIGKILL, not abort(): no handler, no buffer flush and no destructor may run. SIGSTOP takes all
 * threads, so that others can be killed while this process stands there.
 *
 * Threads: any; the count is atomic, so exactly one thread meets the Nth time.
 */

#include "holdfast/crash_point.h"

#ifdef HOLDFAST_CRASH_POINTS

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const crash_point_names[] = {
#define X(name) [CRASH_POINT_##name] = #name,
    CRASH_POINT_LIST(X)
#undef X
};

struct place {
    const char *variable;
    int signal;
    int wanted; /* -1: none */
    long wanted_time;
    atomic_long times_reached;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct place places[] = {
    {.variable = "HOLDFAST_CRASH_AT", .signal = SIGKILL, .wanted = -1, .wanted_time = 1},
    {.variable = "HOLDFAST_STOP_AT", .signal = SIGSTOP, .wanted = -1, .wanted_time = 1},
};
#define PLACES (sizeof places / sizeof *places)

static void refuse(const struct place *place, const char *value)
{
    fprintf(stderr, "%s=%s names no crash point\n", place->variable, value);
    _exit(127);
}

static void read_place(struct place *place)
{
    const char *value = getenv(place->variable);
    if (value == NULL || value[0] == '\0') {
        return;
    }
    const char *colon = strchr(value, ':');
    size_t size = colon == NULL ? strlen(value) : (size_t)(colon - value);
    if (colon != NULL) {
        char *end = NULL;
        place->wanted_time = strtol(colon + 1, &end, 10);
        if (end == colon + 1 || *end != '\0' || place->wanted_time < 1) {
            refuse(place, value);
        }
    }
    for (int i = 0; i < CRASH_POINT_COUNT; i++) {
        if (strlen(crash_point_names[i]) == size &&
            memcmp(crash_point_names[i], value, size) == 0) {
            place->wanted = i;
            return;
        }
    }
    refuse(place, value);
}

static void read_environment(void)
{
    for (size_t i = 0; i < PLACES; i++) {
        read_place(&places[i]);
    }
}

void crash_point_reach(enum crash_point point)
{
    pthread_once(&once, read_environment);
    for (size_t i = 0; i < PLACES; i++) {
        if ((int)point != places[i].wanted ||
            atomic_fetch_add(&places[i].times_reached, 1) + 1 != places[i].wanted_time) {
            continue;
        }
        (void)pthread_kill(pthread_self(), places[i].signal); /* this thread is never past it */
        while (places[i].signal == SIGKILL) {
            pause(); /* not one instruction of the caller after this place */
        }
    }
}

#else
/* A release has no crash points; ISO C wants a translation unit to hold something. */
typedef int crash_point_none;
#endif
