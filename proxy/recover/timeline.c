/* From times to LSNs (timeline.h). The caller's thread. */

#include "recover/timeline.h"

#define SNAPSHOT_UNITS 4096

enum status timeline_first_ended(struct wal *wal, uint64_t time_ms, uint64_t *ret_lsn,
                                 struct error *ret_error)
{
    struct wal_unit unit = {0};
    uint64_t lowest = UINT64_MAX;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        struct wal_reader *reader = NULL;
        status = wal_reader_begin(wal, &reader, ret_error);
        for (int i = 0; i < SNAPSHOT_UNITS && status == STATUS_OK; i++) {
            status = wal_read_unit_next(reader, unit.unit, &unit, ret_error);
            if (status == STATUS_OK && unit.last_time_ms >= time_ms && unit.last_lsn < lowest) {
                lowest = unit.last_lsn;
            }
        }
        wal_reader_end(reader);
    }
    if (status != STATUS_NOT_FOUND) {
        return status;
    }
    *ret_lsn = lowest;
    return STATUS_OK;
}
