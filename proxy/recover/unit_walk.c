/* Looking at all units of a journal (unit_walk.h). */

#include "recover/unit_walk.h"

#define SNAPSHOT_UNITS 256

enum status unit_walk(struct wal *wal, unit_visit *visit, void *context, struct error *ret_error)
{
    struct wal_unit unit = {0};
    enum status status = STATUS_OK;
    bool at_end = false;
    while (status == STATUS_OK && !at_end) {
        struct wal_reader *reader = NULL;
        status = wal_reader_begin(wal, &reader, ret_error);
        for (int i = 0; i < SNAPSHOT_UNITS && status == STATUS_OK && !at_end; i++) {
            status = wal_read_unit_next(reader, unit.unit, &unit, ret_error);
            if (status == STATUS_NOT_FOUND) {
                at_end = true;
                status = STATUS_OK;
            } else if (status == STATUS_OK) {
                status = visit(reader, &unit, context, ret_error);
                wal_reader_forget(reader);
            }
        }
        wal_reader_end(reader);
    }
    return status;
}
