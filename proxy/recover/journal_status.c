/*
 * One look at the journal (journal_status.h). Figures and properties are read one after the other:
 * of a journal that is being written they may be of neighbouring moments.
 */
#include "recover/journal_status.h"

#include <stdio.h>

#include "recover/native.h"

enum status journal_status_read(struct wal *wal, struct journal_status *ret_status,
                                struct error *ret_error)
{
    struct journal_status found = {.clean = wal_was_clean(wal)};
    uint8_t bytes[16];
    size_t size = 0;
    lease_journal_text(wal_journal_id(wal), found.journal);
    enum status status =
        wal_property_get(wal, LEASE_PROPERTY_IDENTITY, bytes, sizeof(bytes), &size, ret_error);
    for (size_t i = 0; status == STATUS_OK && i < size && i < 12; i++) {
        (void)snprintf(found.identity + 2 * i, 3, "%02x", bytes[i]);
    }
    if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
        status =
            wal_property_get(wal, LEASE_PROPERTY_EPOCH, bytes, sizeof(bytes), &size, ret_error);
    }
    if (status == STATUS_OK && size == 8) {
        found.epoch = slice_load_u64be(bytes);
    }
    if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
        status = wal_statistics_get(wal, &found.figures, ret_error);
    }
    if (status == STATUS_OK) {
        status = native_journal_is(wal, &found.native, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_status = found;
    }
    return status;
}

void journal_status_append(bson_t *document, const struct journal_status *status)
{
    const struct wal_statistics *figures = &status->figures;
    BSON_APPEND_UTF8(document, "journal", status->journal);
    if (status->identity[0] == '\0') {
        BSON_APPEND_NULL(document, "identity");
    } else {
        BSON_APPEND_UTF8(document, "identity", status->identity);
    }
    if (status->native) {
        BSON_APPEND_UTF8(document, "engine", "native");
    }
    BSON_APPEND_INT64(document, "epoch", (int64_t)status->epoch);
    BSON_APPEND_BOOL(document, "closedCleanly", status->clean);
    BSON_APPEND_INT64(document, "records", (int64_t)figures->records);
    BSON_APPEND_INT64(document, "firstLsn", (int64_t)figures->first_lsn);
    BSON_APPEND_INT64(document, "lastLsn", (int64_t)figures->last_lsn);
    BSON_APPEND_INT64(document, "usedBytes", (int64_t)figures->used_bytes);
    BSON_APPEND_INT64(document, "commits", (int64_t)figures->commits);
    BSON_APPEND_INT64(document, "unitsOpen", (int64_t)figures->units_open);
    BSON_APPEND_INT64(document, "unitsConflict", (int64_t)figures->units_conflict);
}
