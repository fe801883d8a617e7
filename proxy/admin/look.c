/* What units and locks there are at a moment (look.h). No state. */
#include "admin/look.h"

#include <stdlib.h>

static int compare_locks(const void *a_void, const void *b_void)
{
    const struct lock_view *a = a_void;
    const struct lock_view *b = b_void;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

static size_t bounded(size_t max)
{
    return max < ADMIN_UNITS_LOOKED_AT_MAX ? max : ADMIN_UNITS_LOOKED_AT_MAX;
}

struct admin_look *admin_look_take(const struct engine *engine, size_t units_max, size_t locks_max)
{
    struct admin_look *look = malloc(sizeof *look); /* touched only as far as it is used */
    if (look == NULL) {
        return NULL;
    }
    look->open = unit_table_open_count(engine->units);
    look->unit_count = unit_table_view(engine->units, look->units, bounded(units_max));
    look->lock_count =
        look->unit_count == 0 ? 0 : lock_table_view(engine->locks, look->locks, bounded(locks_max));
    qsort(look->locks, look->lock_count, sizeof look->locks[0], compare_locks);
    return look;
}

const struct lock_view *admin_look_locks(const struct admin_look *look, uint64_t unit)
{
    const struct lock_view wanted = {.unit = unit};
    return bsearch(&wanted, look->locks, look->lock_count, sizeof wanted, compare_locks);
}
