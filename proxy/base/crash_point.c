/*
 * Kills the process at the place that HOLDFAST_CRASH_AT names: NAME, or NAME:N for its Nth time;
 * NAME:N:stop stops it there instead (SIGSTOP), and whoever wakes it lets it go on.
 *
 * The variable is read once, at the first crash point that any thread reaches. A value that names
 * no place ends the process at once with a message: a test that misspells a name must not pass.
 * SIGKILL, not abort(): no handler, no buffer flush and no destructor may run.
 *
 * Threads: any; the count is atomic, so exactly one thread meets the Nth time.
 */

#include "holdfast/crash_point.h"

#ifdef HOLDFAST_CRASH_POINTS

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const crash_point_names[] = {
#define X(name) [CRASH_POINT_##name] = #name,
    CRASH_POINT_LIST(X)
#undef X
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int wanted = -1; /* -1: none */
static long wanted_time = 1;
static bool only_stop;
static atomic_long times_reached;

static _Thread_local void (*let_go_of)(void *context);
static _Thread_local void *let_go_context;

void crash_point_before(void (*let_go)(void *context), void *context)
{
    let_go_of = let_go;
    let_go_context = context;
}

static void refuse(const char *value)
{
    fprintf(stderr, "HOLDFAST_CRASH_AT=%s names no crash point\n", value);
    _exit(127);
}

static void read_environment(void)
{
    const char *value = getenv("HOLDFAST_CRASH_AT");
    if (value == NULL || value[0] == '\0') {
        return;
    }
    const char *colon = strchr(value, ':');
    size_t size = colon == NULL ? strlen(value) : (size_t)(colon - value);
    if (colon != NULL) {
        char *end = NULL;
        wanted_time = strtol(colon + 1, &end, 10);
        only_stop = end != colon + 1 && strcmp(end, ":stop") == 0;
        if (end == colon + 1 || (*end != '\0' && !only_stop) || wanted_time < 1) {
            refuse(value);
        }
    }
    for (int i = 0; i < CRASH_POINT_COUNT; i++) {
        if (strlen(crash_point_names[i]) == size &&
            memcmp(crash_point_names[i], value, size) == 0) {
            wanted = i;
            return;
        }
    }
    refuse(value);
}

void crash_point_reach(enum crash_point point)
{
    pthread_once(&once, read_environment);
    if ((int)point != wanted) {
        return;
    }
    if (atomic_fetch_add(&times_reached, 1) + 1 == wanted_time) {
        if (let_go_of != NULL) {
            let_go_of(let_go_context);
        }
        if (only_stop) {
            /* To this thread: were it to the process, another might take it while we go on. */
            (void)pthread_kill(pthread_self(), SIGSTOP);
            return;
        }
        (void)kill(getpid(), SIGKILL);
        for (;;) {
            pause(); /* not one instruction of the caller after this place */
        }
    }
}

#else
/* A release has no crash points; ISO C wants a translation unit to hold something. */
typedef int crash_point_none;
#endif
