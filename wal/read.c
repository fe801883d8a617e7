/*
 * Readers: one snapshot of the journal each.
 *
 * A reader is a read transaction of the store and nothing else: what it returns points into the map
 * and stays valid until the reader ends. It never waits for the writer and the writer never for it.
 *
 * Threads: a reader is used by one thread at a time; readers are independent of each other.
 */

#include <stdlib.h>

#include "wal/internal.h"
#include "wal/rows.h"

struct wal_reader {
    struct store_transaction *transaction;
};

enum status wal_reader_begin(struct wal *wal, struct wal_reader **ret_reader,
                             struct error *ret_error)
{
    struct wal_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status = store_begin(wal->store, false, &reader->transaction, ret_error);
    if (status != STATUS_OK) {
        free(reader);
        return status;
    }
    *ret_reader = reader;
    return STATUS_OK;
}

struct wal_reader *wal_reader_end(struct wal_reader *reader)
{
    if (reader != NULL) {
        store_abort(reader->transaction);
        free(reader);
    }
    return NULL;
}

enum status wal_read(struct wal_reader *reader, uint64_t lsn, struct wal_record *ret_record,
                     struct error *ret_error)
{
    return rows_record(reader->transaction, lsn, ret_record, ret_error);
}

enum status wal_read_next(struct wal_reader *reader, uint64_t after_lsn,
                          struct wal_record *ret_record, struct error *ret_error)
{
    return rows_record_next(reader->transaction, after_lsn, ret_record, ret_error);
}

enum status wal_read_unit(struct wal_reader *reader, uint64_t unit, struct wal_unit *ret_unit,
                          struct error *ret_error)
{
    struct format_unit row;
    enum status status = rows_unit(reader->transaction, unit, &row, ret_error);
    if (status == STATUS_OK) {
        *ret_unit = row.unit;
    }
    return status;
}

enum status wal_read_unit_next(struct wal_reader *reader, uint64_t after_unit,
                               struct wal_unit *ret_unit, struct error *ret_error)
{
    struct format_unit row;
    enum status status = rows_unit_next(reader->transaction, after_unit, &row, ret_error);
    if (status == STATUS_OK) {
        *ret_unit = row.unit;
    }
    return status;
}

enum status wal_read_open_next(struct wal_reader *reader, uint64_t after_unit,
                               struct wal_unit *ret_unit, struct error *ret_error)
{
    uint64_t unit = 0;
    struct format_unit row;
    enum status status = rows_open_next(reader->transaction, after_unit, &unit, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = rows_unit(reader->transaction, unit, &row, ret_error);
    if (status == STATUS_NOT_FOUND ||
        (status == STATUS_OK && !format_unit_is_open(row.unit.state))) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "unit %llu is listed as open, which its row does not bear out",
                         (unsigned long long)unit);
    }
    if (status == STATUS_OK) {
        *ret_unit = row.unit;
    }
    return status;
}

enum status wal_read_session(struct wal_reader *reader, struct slice key,
                             struct wal_session *ret_session, struct error *ret_error)
{
    struct format_session session;
    struct format_unit row;
    if (key.size == 0 || key.size > LIMIT_SESSION_KEY_BYTES) {
        return error_set(ret_error, STATUS_NOT_FOUND, "no session has a key of %zu bytes",
                         key.size);
    }
    enum status status = rows_session(reader->transaction, key, &session, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = rows_unit(reader->transaction, session.unit, &row, ret_error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "a session names unit %llu, which is not in the journal",
                         (unsigned long long)session.unit);
    }
    if (status == STATUS_OK) {
        *ret_session = (struct wal_session){
            .transaction_number = session.transaction_number,
            .unit = session.unit,
            .unit_state = row.unit.state,
            .time_ms = session.time_ms,
        };
    }
    return status;
}
