/* From times to LSNs (timeline.h). The caller's thread. */

#include "recover/timeline.h"

#include "recover/unit_walk.h"

struct first_ended {
    uint64_t time_ms;
    uint64_t lowest;
};

static enum status look(struct wal_reader *reader, const struct wal_unit *unit, void *context,
                        struct error *ret_error)
{
    struct first_ended *first = context;
    (void)reader;
    (void)ret_error;
    if (unit->last_time_ms >= first->time_ms && unit->last_lsn < first->lowest) {
        first->lowest = unit->last_lsn;
    }
    return STATUS_OK;
}

enum status timeline_first_ended(struct wal *wal, uint64_t time_ms, uint64_t *ret_lsn,
                                 struct error *ret_error)
{
    struct first_ended first = {.time_ms = time_ms, .lowest = UINT64_MAX};
    enum status status = unit_walk(wal, look, &first, ret_error);
    if (status == STATUS_OK) {
        *ret_lsn = first.lowest;
    }
    return status;
}
