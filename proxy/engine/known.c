/* After-images on their way into the journal; whoever has the unit checked out. */
#include "engine/known.h"

#include <stdlib.h>

enum status known_collect(struct unit *unit, struct record_known **ret_known, size_t *ret_count)
{
    size_t count = 0;
    for (size_t i = 0; i < unit->write_count; i++) {
        const struct unit_write *write = &unit->writes[i];
        count += !write->after_journaled && write->after.presence != IMAGE_UNKNOWN;
    }
    struct record_known *known = NULL;
    if (count > 0) {
        known = calloc(count, sizeof *known);
        if (known == NULL) {
            return STATUS_MEMORY;
        }
    }
    size_t at = 0;
    for (size_t i = 0; i < unit->write_count; i++) {
        struct unit_write *write = &unit->writes[i];
        if (!write->after_journaled && write->after.presence != IMAGE_UNKNOWN) {
            known[at++] = (struct record_known){.number = (int32_t)i, .after = write->after};
            write->after_journaled = true;
        }
    }
    *ret_known = known;
    *ret_count = count;
    return STATUS_OK;
}
