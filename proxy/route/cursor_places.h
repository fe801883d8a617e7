#ifndef HOLDFAST_ROUTE_CURSOR_PLACES_H
#define HOLDFAST_ROUTE_CURSOR_PLACES_H

/*
 * Which member of a replica set a cursor is on that is not the primary's: a driver may ask for its
 * next batch on another connection than it was opened on.
 *
 * It may forget: beyond CURSOR_PLACES_COUNT cursors the longest unused of CURSOR_PLACES_WAYS, and
 * all of a member beyond the first CURSOR_PLACES_NAMES. The getMore of one goes to the primary
 * then, which knows of no such cursor and says so.
 *
 * Many are abandoned, and their end is never told: so once all are older than any server keeps an
 * unused one there is none.
 *
 * Zero-initialised but for cursor_places_init(); 116 KiB. Any thread; a short mutex, and while
 * there is none an atomic load or two.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/clock.h"
#include "upstream/topology.h"

#define CURSOR_PLACES_COUNT 4096u
#define CURSOR_PLACES_WAYS 4u
#define CURSOR_PLACES_NAMES 64u
/* A server ends an unused cursor after 10 minutes, one with noCursorTimeout with its session. */
#define CURSOR_PLACES_MS_MAX (30u * 60u * 1000u)

struct cursor_place {
    int64_t cursor;   /* 0: none */
    uint64_t used_ms; /* noted, or asked for */
    uint32_t name;
};

struct cursor_places {
    pthread_mutex_t mutex;
    _Atomic uint32_t count;   /* places that are taken, however old */
    _Atomic uint64_t used_ms; /* the latest of them */
    uint32_t name_count;
    char names[CURSOR_PLACES_NAMES][TOPOLOGY_NAME_BYTES];
    struct cursor_place places[CURSOR_PLACES_COUNT / CURSOR_PLACES_WAYS][CURSOR_PLACES_WAYS];
};

void cursor_places_init(struct cursor_places *places);
void cursor_places_destroy(struct cursor_places *places);

static inline bool cursor_places_any(const struct cursor_places *places)
{
    return atomic_load_explicit(&places->count, memory_order_acquire) != 0 &&
           clock_monotonic_ms() <=
               atomic_load_explicit(&places->used_ms, memory_order_relaxed) + CURSOR_PLACES_MS_MAX;
}

/* `cursor` 0 is harmless. */
void cursor_places_note(struct cursor_places *places, int64_t cursor, const char *member);
/* It is closed. Harmless if it is not known. */
void cursor_places_forget(struct cursor_places *places, int64_t cursor);
/* False: it is not known. */
bool cursor_places_find(struct cursor_places *places, int64_t cursor,
                        char ret_member[TOPOLOGY_NAME_BYTES]);

#endif
