/*
 * Verification of the tail (scan.h): that it continues the tables, that nothing that counts is
 * missing from it, and that its records may follow what the tables have of their units.
 *
 * It is read before the snapshot of the tables that it is compared with, and may be a living
 * owner's: what that means is said in tail_confirm.c.
 *
 * The child's only thread.
 */

#include <stdlib.h>

#include "wal/cipher.h"
#include "wal/scan.h"
#include "wal/tail.h"

enum status scan_read_tail(struct scan *scan, struct scan_tail *ret_tail, struct error *ret_error)
{
    scan_now_doing(scan, "reading the tail");
    return scan->without_tail ? STATUS_OK
                              : tail_file_read(scan->directory, FORMAT_TAIL_BYTES, &ret_tail->bytes,
                                               &ret_tail->size, ret_error);
}

/* ------------------------------------------------------------------ records */

/* Those of one unit, which are `count`, in order. */
static void check_unit(struct scan *scan, struct store_transaction *transaction, struct slice keys,
                       const struct tail_record *records, size_t count)
{
    struct format_unit row = {0};
    struct error error;
    bool exists = false;
    uint64_t unit = records[0].unit;
    scan->at = unit;
    if (rows_unit_find(transaction, unit, &exists, &row, &error) != STATUS_OK) {
        scan_note_unit(scan, 0, unit, error.message);
        return;
    }
    uint64_t last_lsn = exists ? row.unit.last_lsn : 0;
    scan->found.units_checked += exists ? 0 : 1;
    for (size_t i = 0; i < count; i++) {
        struct wal_record record;
        uint64_t lsn = records[i].lsn;
        if (format_record_get(lsn, records[i].entry->value, &record, &error) != STATUS_OK) {
            scan_note_unit(scan, lsn, unit, error.message);
            return;
        }
        if (!format_kind_may_follow(exists, row.unit.state, record.kind) ||
            record.previous_lsn != last_lsn) {
            scan_note_unit(scan, lsn, unit,
                           "its record in " FORMAT_TAIL_FILE
                           " does not follow what data.mdb has of it");
            return;
        }
        if (record.encrypted && !cipher_property_has(keys, record.payload)) {
            scan_note_unit(scan, lsn, unit,
                           "data.mdb does not have the data key of its record in " FORMAT_TAIL_FILE
                           ": they are not of the same moment");
            return;
        }
        exists = true;
        last_lsn = lsn;
        row.unit.state = format_state_after(record.kind);
    }
}

/* Those beyond the tables, by unit. */
static enum status check_tail_records(struct scan *scan, struct store_transaction *transaction,
                                      const struct tail_window *window, struct error *ret_error)
{
    size_t count = 0;
    struct tail_record *records = NULL;
    enum status status = tail_window_by_unit(window, &records, &count, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct slice keys = {0};
    if (rows_property(transaction, FORMAT_PROPERTY_KEYS, &keys, NULL) != STATUS_OK) {
        keys = (struct slice){0};
    }
    scan->found.records_checked += count;
    for (size_t from = 0, to = 0; from < count; from = to) {
        while (to < count && records[to].unit == records[from].unit) {
            to++;
        }
        check_unit(scan, transaction, keys, records + from, to - from);
    }
    free(records);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ the whole */

static enum status check_contents(struct scan *scan, struct store *store,
                                  struct store_transaction *transaction,
                                  const uint8_t journal_id[WAL_JOURNAL_ID_BYTES], uint64_t last_lsn,
                                  struct tail_contents *contents, struct error *ret_error)
{
    struct error fault;
    struct tail_window window = tail_window_of(contents->frames, last_lsn);
    bool continues = tail_window_continues(&window);
    enum status status = tail_confirm(scan->directory, store, journal_id, contents, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (tail_judge(contents, last_lsn, &fault) != STATUS_OK) {
        scan->tail_damaged = true;
        scan_note(scan, 0, fault.message);
    }
    return continues ? check_tail_records(scan, transaction, &window, ret_error) : STATUS_OK;
}

enum status scan_check_tail(struct scan *scan, struct store *store,
                            struct store_transaction *transaction, const struct scan_tail *tail,
                            struct error *ret_error)
{
    uint32_t version = 0;
    uint64_t last_lsn = 0;
    uint64_t last_unit = 0;
    struct slice id;
    struct tail_contents contents = {0};
    scan_now_doing(scan, "comparing the tail with the tables");
    if (scan->without_tail || rows_version(transaction, &version, NULL) != STATUS_OK ||
        rows_property(transaction, FORMAT_PROPERTY_ID, &id, NULL) != STATUS_OK ||
        id.size != WAL_JOURNAL_ID_BYTES ||
        rows_highest(transaction, &last_lsn, &last_unit, NULL) != STATUS_OK) {
        return STATUS_OK; /* what is damaged was noted before */
    }
    if (tail->bytes == NULL) {
        /* Its owner may have opened the journal for the first time since we looked for it. */
        struct scan_tail now = {0};
        enum status status =
            version < FORMAT_VERSION_TAIL ? STATUS_OK : scan_read_tail(scan, &now, ret_error);
        if (status == STATUS_OK && version >= FORMAT_VERSION_TAIL && now.bytes == NULL) {
            scan_note(scan, 0,
                      FORMAT_TAIL_FILE ", which has the newest records of a journal that was not "
                                       "closed cleanly, is not beside data.mdb, or was cut "
                                       "short: put it there");
        }
        free(now.bytes);
        return status;
    }
    enum status status =
        tail_look(slice_make(tail->bytes, tail->size), id.data, last_lsn, &contents, ret_error);
    if (status == STATUS_OK) {
        status = check_contents(scan, store, transaction, id.data, last_lsn, &contents, ret_error);
    }
    tail_contents_free(&contents);
    return status;
}
