/* What was learned, on its way into the journal; whoever has the unit checked out. */
#include "engine/known.h"

#include <stdlib.h>

static enum status collect(const struct unit *unit, bool refused_only,
                           struct record_known **ret_known, size_t *ret_count)
{
    struct record_known *known = NULL;
    size_t count = 0;
    if (unit->known_count > 0) {
        known = calloc(unit->known_count, sizeof *known);
        if (known == NULL) {
            return STATUS_MEMORY;
        }
    }
    for (size_t i = 0; i < unit->known_count; i++) {
        if (unit->known[i].refused || !refused_only) {
            known[count++] = (struct record_known){.number = unit->known[i].number,
                                                   .refused = unit->known[i].refused,
                                                   .after = unit->known[i].after};
        }
    }
    *ret_known = known;
    *ret_count = count;
    return STATUS_OK;
}

enum status known_collect(const struct unit *unit, struct record_known **ret_known,
                          size_t *ret_count)
{
    return collect(unit, false, ret_known, ret_count);
}

enum status known_collect_refused(const struct unit *unit, struct record_known **ret_known,
                                  size_t *ret_count)
{
    return collect(unit, true, ret_known, ret_count);
}
