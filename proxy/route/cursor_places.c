/* Where cursors are (cursor_places.h). Any thread. */
#include "route/cursor_places.h"

#include <stdio.h>
#include <string.h>

void cursor_places_init(struct cursor_places *places)
{
    (void)pthread_mutex_init(&places->mutex, NULL);
}

void cursor_places_destroy(struct cursor_places *places)
{
    (void)pthread_mutex_destroy(&places->mutex);
}

/* A server draws ids at random, but a hostile one need not. */
static struct cursor_place *set_of(struct cursor_places *places, int64_t cursor)
{
    uint64_t hash = (uint64_t)cursor * 0x9e3779b97f4a7c15u;
    return places->places[(hash >> 32) % (CURSOR_PLACES_COUNT / CURSOR_PLACES_WAYS)];
}

static struct cursor_place *find(struct cursor_places *places, int64_t cursor)
{
    struct cursor_place *set = set_of(places, cursor);
    for (size_t i = 0; cursor != 0 && i < CURSOR_PLACES_WAYS; i++) {
        if (set[i].cursor == cursor) {
            return &set[i];
        }
    }
    return NULL;
}

/* False: there is no room for one more. */
static bool name_of(struct cursor_places *places, const char *member, uint32_t *ret_name)
{
    for (uint32_t i = 0; i < places->name_count; i++) {
        if (strcmp(places->names[i], member) == 0) {
            *ret_name = i;
            return true;
        }
    }
    if (places->name_count == CURSOR_PLACES_NAMES) {
        return false;
    }
    *ret_name = places->name_count++;
    (void)snprintf(places->names[*ret_name], TOPOLOGY_NAME_BYTES, "%s", member);
    return true;
}

static void touch(struct cursor_places *places, struct cursor_place *place)
{
    place->used_ms = clock_monotonic_ms();
    atomic_store_explicit(&places->used_ms, place->used_ms, memory_order_relaxed);
}

static struct cursor_place *place_for(struct cursor_places *places, int64_t cursor)
{
    struct cursor_place *set = set_of(places, cursor);
    struct cursor_place *known = find(places, cursor);
    struct cursor_place *oldest = &set[0];
    for (size_t i = 0; known == NULL && i < CURSOR_PLACES_WAYS; i++) {
        known = set[i].cursor == 0 ? &set[i] : NULL;
        oldest = set[i].used_ms < oldest->used_ms ? &set[i] : oldest;
    }
    return known != NULL ? known : oldest;
}

void cursor_places_note(struct cursor_places *places, int64_t cursor, const char *member)
{
    uint32_t name = 0;
    if (cursor == 0) {
        return;
    }
    pthread_mutex_lock(&places->mutex);
    if (name_of(places, member, &name)) {
        struct cursor_place *place = place_for(places, cursor);
        touch(places, place);
        if (place->cursor == 0) { /* who sees this one sees `used_ms` */
            (void)atomic_fetch_add_explicit(&places->count, 1, memory_order_release);
        }
        place->cursor = cursor;
        place->name = name;
    }
    pthread_mutex_unlock(&places->mutex);
}

void cursor_places_forget(struct cursor_places *places, int64_t cursor)
{
    pthread_mutex_lock(&places->mutex);
    struct cursor_place *place = find(places, cursor);
    if (place != NULL) {
        place->cursor = 0;
        (void)atomic_fetch_sub_explicit(&places->count, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&places->mutex);
}

bool cursor_places_find(struct cursor_places *places, int64_t cursor,
                        char ret_member[TOPOLOGY_NAME_BYTES])
{
    pthread_mutex_lock(&places->mutex);
    struct cursor_place *place = find(places, cursor);
    if (place != NULL) {
        touch(places, place);
        memcpy(ret_member, places->names[place->name], TOPOLOGY_NAME_BYTES);
    }
    pthread_mutex_unlock(&places->mutex);
    return place != NULL;
}
