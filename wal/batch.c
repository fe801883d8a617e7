/*
 * Groups of records into a write transaction: the rules, the quota, the rows.
 *
 * Invariants
 *  - A group is checked as a whole before its first byte is put, because what was put into an LMDB
 *    transaction cannot be taken out again without giving up the other groups in it.
 *  - What a unit's last record allows to follow:
 *
 *        (none) --BEGIN--> open --WRITE--> open
 *                          open --COMMIT--> committed
 *                          open --ABORT--> aborted
 *                          open --CONFLICT--> conflict
 *                          open --COMMITTING--> committing
 *                          committing --COMMIT, ABORT, CONFLICT--> committed, aborted, conflict
 *                          committed --CONFLICT--> conflict
 *                          conflict --COMMIT, ABORT, CONFLICT--> committed, aborted, conflict
 *
 * The writer thread's.
 */

#include "wal/batch.h"

#include <assert.h>

#include "wal/format.h"
#include "wal/rows.h"

/* A record with a short payload takes a seventh of a page, 585 bytes (encrypted 28 more); the rest
   is for the list of free pages and for pages that are not full. */
#define SHORT_END_BYTES ((uint64_t)1024)

/* The unit that was looked at last. Groups mostly stay with one unit. */
struct cursor {
    struct format_unit row;
    bool exists;
    bool stands_open; /* as the store has it */
};

static enum status read_cursor(const struct batch *batch, uint64_t unit, struct cursor *cursor,
                               struct error *ret_error)
{
    enum status status =
        rows_unit_find(batch->transaction, unit, &cursor->exists, &cursor->row, ret_error);
    cursor->row.unit.unit = unit;
    cursor->stands_open = cursor->exists && format_unit_is_open(cursor->row.unit.state);
    return status;
}

/* ------------------------------------------------------------------ rules */

static bool record_is_sound(const struct wal_append *record)
{
    bool session_fits =
        record->kind != WAL_KIND_BEGIN || record->session_key.size <= LIMIT_SESSION_KEY_BYTES;
    return record->unit != 0 &&
           record->payload.size <= FORMAT_PAYLOAD_BYTES_MAX - CIPHER_OVERHEAD_BYTES && session_fits;
}

/* What the records of the group before `until` made of its unit; false if they do not touch it. */
static bool find_in_group(const struct wal_append *first, const struct wal_append *until,
                          enum wal_unit_state *ret_state)
{
    bool found = false;
    for (const struct wal_append *record = first; record != until; record = record->next) {
        if (record->unit == until->unit) {
            *ret_state = format_state_after(record->kind);
            found = true;
        }
    }
    return found;
}

/* *ret_row: the unit of its first record. */
static enum status check_group(struct batch *batch, const struct wal_append *first,
                               struct cursor *ret_row, bool *ret_allowed, struct error *ret_error)
{
    uint64_t unit = 0;
    bool exists = false;
    enum wal_unit_state state = WAL_UNIT_OPEN;
    for (const struct wal_append *record = first; record != NULL; record = record->next) {
        if (!record_is_sound(record)) {
            *ret_allowed = false;
            return STATUS_OK;
        }
        if (record->unit != unit) {
            unit = record->unit;
            exists = find_in_group(first, record, &state);
            if (!exists) {
                struct cursor other = {0};
                struct cursor *row = record == first ? ret_row : &other;
                enum status status = read_cursor(batch, unit, row, ret_error);
                if (status != STATUS_OK) {
                    return status;
                }
                exists = row->exists;
                state = exists ? row->row.unit.state : WAL_UNIT_OPEN;
            }
        }
        if (!format_kind_may_follow(exists, state, record->kind)) {
            *ret_allowed = false;
            return STATUS_OK;
        }
        exists = true;
        state = format_state_after(record->kind);
    }
    *ret_allowed = true;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ space */

uint64_t batch_group_bytes(const struct wal_append *first)
{
    const uint64_t page = 4096;
    uint64_t bytes = 0;
    for (const struct wal_append *record = first; record != NULL; record = record->next) {
        uint64_t size = FORMAT_RECORD_HEADER_BYTES + record->payload.size + CIPHER_OVERHEAD_BYTES;
        /* A value beyond half a page goes to pages of its own, with a header of 16 bytes. */
        bytes += size > page / 2 ? (size + 16 + page - 1) / page * page : size;
        bytes += FORMAT_UNIT_BYTES_MAX + FORMAT_SESSION_BYTES + LIMIT_SESSION_KEY_BYTES;
    }
    return bytes;
}

bool batch_group_only_ends(const struct wal_append *first)
{
    for (const struct wal_append *record = first; record != NULL; record = record->next) {
        if (record->kind == WAL_KIND_BEGIN || record->kind == WAL_KIND_WRITE ||
            record->kind == WAL_KIND_COMMITTING) {
            return false;
        }
    }
    return true;
}

/* How many units need places set aside after the group that perhaps had none: those that begin, and
   those that were committed and become conflicts. */
static uint64_t new_places_of(const struct wal_append *first)
{
    uint64_t units = 0;
    for (const struct wal_append *record = first; record != NULL; record = record->next) {
        units += record->kind == WAL_KIND_BEGIN || record->kind == WAL_KIND_CONFLICT ? 1 : 0;
    }
    return units;
}

/* True for what has a place set aside: see "Space" in holdfast/wal.h. */
static bool has_own_place(const struct wal_append *first, const struct cursor *row)
{
    bool is_short = first->next == NULL && first->payload.size <= WAL_SHORT_PAYLOAD_BYTES;
    if (!is_short || !batch_group_only_ends(first)) {
        return false;
    }
    return first->kind != WAL_KIND_CONFLICT || row->row.unit.state == WAL_UNIT_OPEN ||
           row->row.unit.state == WAL_UNIT_COMMITTING; /* a second conflict has none */
}

/*
 * Invariant: what is used, and SHORT_END_BYTES twice for each open unit and once for each conflict,
 * fit into ends_bytes. What has its own place gives it back with what it uses; all else must leave
 * the places of the others. Conflicts are counted as open units here, which is on the safe side.
 */
static enum status check_space(struct batch *batch, const struct wal_append *first,
                               const struct cursor *row, bool *ret_fits, struct error *ret_error)
{
    struct store_usage usage;
    uint64_t open = 0;
    bool ends = batch_group_only_ends(first);
    bool own_place = has_own_place(first, row);
    enum status status = store_usage_get(batch->transaction, &usage, ret_error);
    if (status == STATUS_OK) {
        status = store_entries(batch->transaction, STORE_OPEN, &open, ret_error);
    }
    if (status == STATUS_OK) {
        uint64_t wanted = usage.used_bytes + batch_group_bytes(first);
        uint64_t places = own_place ? 0 : (open + new_places_of(first)) * 2 * SHORT_END_BYTES;
        *ret_fits = wanted + places <= batch->ends_bytes &&
                    (ends || (!batch->only_ends && wanted <= batch->quota_bytes));
    }
    return status;
}

/* ------------------------------------------------------------------ putting */

/* The newest transaction of a session wins; a unit of an older one is not found by its session. */
static enum status put_session(struct batch *batch, const struct wal_append *record,
                               struct error *ret_error)
{
    struct format_session session;
    enum status status = rows_session(batch->transaction, record->session_key, &session, ret_error);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        return status;
    }
    if (status == STATUS_OK && session.transaction_number > record->transaction_number) {
        return STATUS_OK;
    }
    session = (struct format_session){
        .transaction_number = record->transaction_number,
        .unit = record->unit,
        .time_ms = batch->time_ms,
    };
    return rows_session_put(batch->transaction, record->session_key, &session, ret_error);
}

/* Encodes the record at `room`, which has its size. */
static enum status encode_record(struct batch *batch, struct wal_record *record, uint8_t *room,
                                 struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (batch->cipher != NULL) {
        uint8_t *place = room + FORMAT_RECORD_HEADER_BYTES;
        status = cipher_encrypt(batch->cipher, record, place, ret_error);
        record->payload = slice_make(place, record->payload.size + CIPHER_OVERHEAD_BYTES);
        record->encrypted = true;
    }
    if (status == STATUS_OK) {
        format_record_put(room, record);
    }
    return status;
}

/* `again`: its value, if the tail has it. */
static enum status put_record(struct batch *batch, const struct wal_append *record, uint64_t lsn,
                              uint64_t previous_lsn, const struct slice *again,
                              struct error *ret_error)
{
    uint8_t key[FORMAT_KEY_BYTES];
    uint8_t *room = NULL;
    struct wal_record stored = {
        .lsn = lsn,
        .unit = record->unit,
        .previous_lsn = previous_lsn,
        .time_ms = batch->time_ms,
        .kind = record->kind,
        .payload = record->payload,
    };
    size_t size = again != NULL ? again->size
                                : FORMAT_RECORD_HEADER_BYTES + record->payload.size +
                                      (batch->cipher == NULL ? 0 : CIPHER_OVERHEAD_BYTES);
    format_key_put(key, lsn);
    enum status status = store_append(batch->transaction, STORE_RECORDS,
                                      slice_make(key, sizeof(key)), size, &room, ret_error);
    if (status == STATUS_OK && again != NULL) {
        memcpy(room, again->data, again->size);
    } else if (status == STATUS_OK) {
        status = encode_record(batch, &stored, room, ret_error);
    }
    if (status == STATUS_OK && batch->builder != NULL) {
        bool names_session = record->kind == WAL_KIND_BEGIN && record->session_key.size > 0;
        status = tail_builder_add(batch->builder, slice_make(room, size),
                                  names_session ? record->session_key : slice_make(NULL, 0),
                                  record->transaction_number, ret_error);
    }
    return status;
}

/* Writes back the unit that the cursor stands on and moves it to `unit`. */
static enum status move_cursor(struct batch *batch, struct cursor *cursor, uint64_t unit,
                               struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (cursor->exists) {
        status = rows_unit_put(batch->transaction, &cursor->row, cursor->stands_open, ret_error);
    }
    if (status == STATUS_OK && unit != 0) {
        status = read_cursor(batch, unit, cursor, ret_error);
    }
    return status;
}

/* In the transaction of the first record that an older program would not know. */
static enum status raise_version(struct batch *batch, struct error *ret_error)
{
    uint32_t wanted = format_version_committing(batch->version);
    if (wanted == batch->version) {
        return STATUS_OK;
    }
    enum status status = rows_version_put(batch->transaction, wanted, ret_error);
    if (status == STATUS_OK) {
        batch->version = wanted;
    }
    return status;
}

/* `row`: the unit of its first record. `again`: see put_record(). */
static enum status put_group(struct batch *batch, struct wal_append *first,
                             const struct cursor *row, const struct slice *again,
                             struct error *ret_error)
{
    struct cursor cursor = *row;
    enum status status = STATUS_OK;
    for (struct wal_append *record = first; record != NULL && status == STATUS_OK;
         record = record->next) {
        if (record->unit != cursor.row.unit.unit) {
            status = move_cursor(batch, &cursor, record->unit, ret_error);
        }
        if (status == STATUS_OK && record->kind == WAL_KIND_BEGIN) {
            assert(!cursor.exists);
            cursor.exists = true;
            format_unit_begin(&cursor.row, record->unit, batch->last_lsn + 1, batch->time_ms,
                              record->session_key);
            if (record->session_key.size > 0) {
                status = put_session(batch, record, ret_error);
            }
            if (record->unit > batch->last_unit) {
                batch->last_unit = record->unit;
            }
        }
        if (status == STATUS_OK && record->kind == WAL_KIND_COMMITTING) {
            status = raise_version(batch, ret_error);
        }
        if (status != STATUS_OK) {
            break;
        }
        record->lsn = batch->last_lsn + 1;
        status = put_record(batch, record, record->lsn, cursor.row.unit.last_lsn, again, ret_error);
        batch->last_lsn = record->lsn;
        format_unit_follow(&cursor.row, record->kind, record->lsn, batch->time_ms);
    }
    return status != STATUS_OK ? status : move_cursor(batch, &cursor, 0, ret_error);
}

enum status batch_put(struct batch *batch, struct wal_append *first, enum status *ret_group,
                      struct error *ret_error)
{
    bool fine = false;
    struct cursor row = {0};
    enum status status = check_group(batch, first, &row, &fine, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!fine) {
        *ret_group = STATUS_INVALID;
        return STATUS_OK;
    }
    status = check_space(batch, first, &row, &fine, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!fine) {
        *ret_group = STATUS_FULL;
        return STATUS_OK;
    }
    status = put_group(batch, first, &row, NULL, ret_error);
    if (status == STATUS_OK) {
        *ret_group = STATUS_OK;
    }
    return status;
}

enum status batch_put_again(struct batch *batch, const struct tail_entry *entry,
                            struct error *ret_error)
{
    struct wal_record record = {0};
    struct cursor row = {0};
    uint64_t lsn = format_record_lsn(entry->value.data);
    if (lsn <= batch->last_lsn) {
        return STATUS_OK;
    }
    enum status status = format_record_get(lsn, entry->value, &record, ret_error);
    if (status == STATUS_OK) {
        status = read_cursor(batch, record.unit, &row, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (!format_kind_may_follow(row.exists, row.row.unit.state, record.kind) ||
        record.previous_lsn != (row.exists ? row.row.unit.last_lsn : 0)) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "record %llu of the tail does not follow what data.mdb has of unit %llu",
                         (unsigned long long)lsn, (unsigned long long)record.unit);
    }
    struct wal_append append = {
        .kind = record.kind,
        .unit = record.unit,
        .session_key = entry->session_key,
        .transaction_number = entry->transaction_number,
    };
    batch->time_ms = record.time_ms;
    batch->last_lsn = lsn - 1;
    return put_group(batch, &append, &row, &entry->value, ret_error);
}
