/*
 * What to lock first when a transaction is run again; see lock_hints.h. Invariant: sorted by name,
 * each name once. The holder's thread.
 */
#include "unit/lock_hints.h"

#include <stdlib.h>
#include <string.h>

/* Of a unit that has failed; made if there are none yet. NULL: out of memory. */
static struct lock_hints *list_of_failed(struct lock_hints **hints)
{
    if (*hints == NULL) {
        *hints = calloc(1, sizeof **hints);
    }
    if (*hints != NULL) {
        (*hints)->failed = true;
    }
    return *hints;
}

void lock_hints_add(struct lock_hints **hints, const struct lock_name *name, uint32_t gate)
{
    struct lock_hints *list = list_of_failed(hints);
    if (list == NULL) {
        return;
    }
    size_t at = 0;
    int order = 1;
    while (at < list->count && (order = memcmp(&list->hints[at].name, name, sizeof *name)) < 0) {
        at++;
    }
    if ((at < list->count && order == 0) || list->count == LOCK_HINTS_MAX) {
        return;
    }
    memmove(&list->hints[at + 1], &list->hints[at], (list->count - at) * sizeof list->hints[0]);
    list->hints[at] = (struct lock_hint){.name = *name, .gate = gate};
    list->count++;
}

void lock_hints_add_namespace(struct lock_hints **hints, uint32_t gate)
{
    struct lock_hints *list = list_of_failed(hints);
    if (list == NULL) {
        return;
    }
    if (!lock_hints_has_namespace(list, gate) &&
        list->namespace_count < LOCK_HINTS_NAMESPACES_MAX) {
        list->namespaces[list->namespace_count++] = gate;
    }
}

bool lock_hints_has_namespace(const struct lock_hints *hints, uint32_t gate)
{
    bool found = false;
    for (size_t i = 0; hints != NULL && i < hints->namespace_count; i++) {
        found = found || hints->namespaces[i] == gate;
    }
    return found;
}

struct lock_hints *lock_hints_free(struct lock_hints *hints)
{
    free(hints);
    return NULL;
}
