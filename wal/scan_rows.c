/*
 * Verification of the tables, through LMDB: each record and row, the units' chains, and that tables
 * agree (scan.h).
 *
 * The child's only thread.
 */

#include "wal/scan.h"

/*
 * Follows a unit's chain from its last record to its first. Damage of single records is noted here
 * only if `note_records`: a whole verification has noted it already while it walked the records.
 */
static uint64_t check_chain(struct scan *scan, struct store_transaction *transaction,
                            const struct wal_unit *unit, bool note_records)
{
    uint64_t length = 0;
    uint64_t lsn = unit->last_lsn;
    struct wal_record record = {0};
    while (lsn != 0) {
        struct error error;
        enum status status = rows_record(transaction, lsn, &record, &error);
        if (status != STATUS_OK) {
            if (status == STATUS_NOT_FOUND || note_records) {
                scan_note_unit(scan, lsn, unit->unit, error.message);
            }
            scan_note_whose(scan, lsn, unit->unit);
            return length;
        }
        length++;
        if (record.unit != unit->unit) {
            scan_note_unit(scan, lsn, unit->unit, "its chain leads to another unit's record");
            return length;
        }
        lsn = record.previous_lsn;
    }
    if (length == 0 || record.lsn != unit->first_lsn || record.kind != WAL_KIND_BEGIN ||
        record.time_ms != unit->begin_time_ms) {
        scan_note_unit(scan, unit->first_lsn, unit->unit,
                       "its chain does not end at its BEGIN record");
    }
    return length;
}

static bool state_fits(enum wal_unit_state state, enum wal_kind kind)
{
    switch (state) {
    case WAL_UNIT_OPEN:
        return kind == WAL_KIND_BEGIN || kind == WAL_KIND_WRITE;
    case WAL_UNIT_COMMITTED:
        return kind == WAL_KIND_COMMIT;
    case WAL_UNIT_ABORTED:
        return kind == WAL_KIND_ABORT;
    case WAL_UNIT_CONFLICT:
        return kind == WAL_KIND_CONFLICT;
    case WAL_UNIT_COMMITTING:
        return kind == WAL_KIND_COMMITTING;
    }
    return false;
}

static void check_last_record(struct scan *scan, struct store_transaction *transaction,
                              const struct wal_unit *unit)
{
    struct wal_record record;
    enum status status = rows_record(transaction, unit->last_lsn, &record, NULL);
    if (status == STATUS_OK &&
        (!state_fits(unit->state, record.kind) || record.time_ms != unit->last_time_ms)) {
        scan_note_unit(scan, unit->last_lsn, unit->unit, "its row contradicts its last record");
    }
}

/* Returns how many keys the table has that hold a whole record. */
static uint64_t check_records(struct scan *scan, struct store_transaction *transaction)
{
    uint8_t after[FORMAT_KEY_BYTES];
    uint64_t lsn = 0;
    uint64_t rows = 0;
    scan_now_doing(scan, "reading records");
    for (;;) {
        struct slice key;
        struct slice value;
        struct error error;
        struct wal_record record;
        uint64_t next = 0;
        format_key_put(after, lsn);
        enum status status = store_next(transaction, STORE_RECORDS,
                                        slice_make(after, sizeof(after)), &key, &value, &error);
        if (scan_is_end(scan, status, &error)) {
            return rows;
        }
        status = format_key_get(key, &next, &error);
        if (status != STATUS_OK || next <= lsn) {
            scan_note(scan, 0, "the records' keys are not in order");
            return rows;
        }
        lsn = next;
        scan->at = lsn;
        scan->found.records_checked++;
        rows++;
        if (!scan->rows_checked && format_record_get(lsn, value, &record, &error) != STATUS_OK) {
            scan_note(scan, lsn, error.message);
        }
    }
}

/* The row's session, if it still is this unit's. */
static void check_session_of(struct scan *scan, struct store_transaction *transaction,
                             const struct format_unit *row)
{
    struct format_session session;
    struct error error;
    if (row->session_key_size == 0) {
        return;
    }
    enum status status = rows_session(
        transaction, slice_make(row->session_key, row->session_key_size), &session, &error);
    if (status == STATUS_NOT_FOUND) {
        /* A newer transaction of the session may have taken the row along when it was removed, but
           then it is newer and ended before: a unit that is there keeps or follows its session. */
        return;
    }
    if (status != STATUS_OK) {
        scan_note_unit(scan, 0, row->unit.unit, error.message);
    }
}

struct tally {
    uint64_t records; /* in chains */
    uint64_t open;    /* units in a state that belongs into the table `open` */
};

static void check_units(struct scan *scan, struct store_transaction *transaction,
                        struct tally *tally)
{
    uint8_t after[FORMAT_KEY_BYTES];
    uint64_t unit = 0;
    scan_now_doing(scan, "reading units");
    for (;;) {
        struct slice key;
        struct slice value;
        struct error error;
        struct format_unit row;
        uint64_t next = 0;
        format_key_put(after, unit);
        enum status status = store_next(transaction, STORE_UNITS, slice_make(after, sizeof(after)),
                                        &key, &value, &error);
        if (scan_is_end(scan, status, &error)) {
            return;
        }
        status = format_key_get(key, &next, &error);
        if (status != STATUS_OK || next <= unit) {
            scan_note(scan, 0, "the units' keys are not in order");
            return;
        }
        unit = next;
        scan->at = unit;
        scan->found.units_checked++;
        if (format_unit_get(unit, value, &row, &error) != STATUS_OK) {
            if (!scan->rows_checked) {
                scan_note_unit(scan, 0, unit, error.message);
            }
            continue;
        }
        tally->records += check_chain(scan, transaction, &row.unit, false);
        tally->open += format_unit_is_open(row.unit.state) ? 1 : 0;
        check_last_record(scan, transaction, &row.unit);
        check_session_of(scan, transaction, &row);
    }
}

/* Returns how many entries the table `open` has. */
static uint64_t check_open(struct scan *scan, struct store_transaction *transaction, bool chains)
{
    uint64_t unit = 0;
    uint64_t entries = 0;
    scan_now_doing(scan, "reading open units");
    for (;;) {
        struct error error;
        struct format_unit row;
        enum status status = rows_open_next(transaction, unit, &unit, &error);
        if (scan_is_end(scan, status, &error)) {
            return entries;
        }
        scan->at = unit;
        entries++;
        status = rows_unit(transaction, unit, &row, &error);
        if (status != STATUS_OK) {
            scan_note_unit(scan, 0, unit, error.message);
            continue;
        }
        if (!format_unit_is_open(row.unit.state)) {
            scan_note_unit(scan, 0, unit, "it is listed as open although it ended");
        }
        if (chains) {
            check_chain(scan, transaction, &row.unit, true);
            check_last_record(scan, transaction, &row.unit);
        }
    }
}

static void check_sessions(struct scan *scan, struct store_transaction *transaction)
{
    uint8_t after_bytes[LIMIT_SESSION_KEY_BYTES];
    struct slice after = slice_make(after_bytes, 0);
    scan_now_doing(scan, "reading sessions");
    for (;;) {
        struct slice key;
        struct slice value;
        struct error error;
        struct format_session session;
        struct format_unit row;
        enum status status = store_next(transaction, STORE_SESSIONS, after, &key, &value, &error);
        if (scan_is_end(scan, status, &error)) {
            return;
        }
        if (key.size == 0 || key.size > LIMIT_SESSION_KEY_BYTES) {
            scan_note(scan, 0, "a session has a key of an impossible size");
            return;
        }
        memcpy(after_bytes, key.data, key.size);
        after.size = key.size;
        scan->at++;
        status = format_session_get(key, value, &session, &error);
        if (status == STATUS_OK) {
            status = rows_unit(transaction, session.unit, &row, &error);
        }
        if (status != STATUS_OK) {
            scan_note(scan, 0, error.message);
        }
    }
}

/* Records of a unit that retention has begun to remove. */
static uint64_t check_prune_rest(struct scan *scan, struct store_transaction *transaction)
{
    uint64_t length = 0;
    struct wal_unit rest = {0};
    struct error error;
    scan_now_doing(scan, "reading a unit that is being removed");
    if (rows_pair(transaction, FORMAT_PROPERTY_PRUNE, &rest.unit, &rest.last_lsn, &error) !=
        STATUS_OK) {
        scan_note(scan, 0, error.message);
        return 0;
    }
    for (uint64_t lsn = rest.last_lsn; lsn != 0;) {
        struct wal_record record;
        if (rows_record(transaction, lsn, &record, &error) != STATUS_OK) {
            scan_note_unit(scan, lsn, rest.unit, error.message);
            return length;
        }
        length++;
        lsn = record.previous_lsn;
    }
    return length;
}

static void check_properties(struct scan *scan, struct store_transaction *transaction)
{
    char name[FORMAT_PROPERTY_NAME_BYTES_MAX + 1] = "";
    scan_now_doing(scan, "reading properties");
    for (;;) {
        struct slice key;
        struct slice row;
        struct slice value;
        struct error error;
        enum status status =
            store_next(transaction, STORE_PROPERTIES, slice_text(name), &key, &row, &error);
        if (scan_is_end(scan, status, &error)) {
            return;
        }
        if (key.size == 0 || key.size > FORMAT_PROPERTY_NAME_BYTES_MAX ||
            memchr(key.data, 0, key.size) != NULL) {
            scan_note(scan, 0, "a property has an impossible name");
            return;
        }
        memcpy(name, key.data, key.size);
        name[key.size] = '\0';
        scan->at++;
        if (!scan->rows_checked && format_property_get(name, row, &value, &error) != STATUS_OK) {
            scan_note(scan, 0, error.message);
        }
    }
}

void scan_check_everything(struct scan *scan, struct store_transaction *transaction)
{
    struct tally tally = {0};
    uint64_t rows = check_records(scan, transaction);
    check_units(scan, transaction, &tally);
    uint64_t open = check_open(scan, transaction, false);
    check_sessions(scan, transaction);
    check_properties(scan, transaction);
    tally.records += check_prune_rest(scan, transaction);
    /* What is damaged was noted above and is missing in one of the sums. */
    if (scan->found.damage_count == 0 && tally.records != rows) {
        scan_note(scan, 0, "there are records that belong to no unit's chain");
    }
    if (scan->found.damage_count == 0 && tally.open != open) {
        scan_note(scan, 0, "an open unit is not listed as open");
    }
}

void scan_check_what_opening_reads(struct scan *scan, struct store_transaction *transaction)
{
    struct slice key;
    struct slice value;
    struct error error;
    check_properties(scan, transaction);
    scan_now_doing(scan, "reading the ends of the tables");
    for (int table = 0; table < STORE_TABLE_COUNT; table++) {
        enum status status = store_last(transaction, (enum store_table)table, &key, &value, &error);
        struct wal_record record;
        uint64_t lsn = 0;
        if (scan_is_end(scan, status, &error) || table != STORE_RECORDS) {
            continue;
        }
        status = format_key_get(key, &lsn, &error);
        status = status != STATUS_OK ? status : format_record_get(lsn, value, &record, &error);
        scan_is_end(scan, status, &error);
    }
    check_open(scan, transaction, true);
}
