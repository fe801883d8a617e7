/* What was learned, on its way into the journal; whoever has the unit checked out. */
#include "engine/known.h"

#include <stdlib.h>

enum status known_collect(const struct unit *unit, struct record_known **ret_known,
                          size_t *ret_count)
{
    struct record_known *known = NULL;
    if (unit->known_count > 0) {
        known = calloc(unit->known_count, sizeof *known);
        if (known == NULL) {
            return STATUS_MEMORY;
        }
    }
    for (size_t i = 0; i < unit->known_count; i++) {
        known[i] = (struct record_known){.number = unit->known[i].number,
                                         .refused = unit->known[i].refused,
                                         .after = unit->known[i].after};
    }
    *ret_known = known;
    *ret_count = unit->known_count;
    return STATUS_OK;
}
