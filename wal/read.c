/*
 * Readers: one snapshot of the journal each.
 *
 * A reader is a read transaction of the store: what it returns points into the map, but for
 * payloads that had to be decrypted, which it owns. It never waits for the writer and the writer
 * never for it.
 *
 * Threads: a reader is used by one thread at a time; readers are independent of each other.
 */

#include <stdlib.h>

#include "wal/cipher.h"
#include "wal/internal.h"
#include "wal/rows.h"

/* A payload that had to be decrypted. */
struct opened {
    struct opened *next;
    uint64_t lsn;
    size_t size;
    uint8_t bytes[];
};

struct wal_reader {
    struct wal *wal;
    struct store_transaction *transaction;
    struct opened *opened; /* the newest first */
};

enum status wal_reader_begin(struct wal *wal, struct wal_reader **ret_reader,
                             struct error *ret_error)
{
    struct wal_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    reader->wal = wal;
    enum status status = store_begin(wal->store, false, &reader->transaction, ret_error);
    if (status != STATUS_OK) {
        free(reader);
        return status;
    }
    *ret_reader = reader;
    return STATUS_OK;
}

void wal_reader_forget(struct wal_reader *reader)
{
    while (reader->opened != NULL) {
        struct opened *opened = reader->opened;
        reader->opened = opened->next;
        free(opened);
    }
}

struct wal_reader *wal_reader_end(struct wal_reader *reader)
{
    if (reader != NULL) {
        store_abort(reader->transaction);
        wal_reader_forget(reader);
        free(reader);
    }
    return NULL;
}

/* The owner may have made a data key since we opened the journal. */
static enum status decrypt(struct wal_reader *reader, const struct wal_record *record,
                           uint8_t *room, struct error *ret_error)
{
    struct cipher *cipher = reader->wal->cipher;
    struct slice keys;
    enum status status = cipher_decrypt(cipher, record, room, ret_error);
    if (status != STATUS_NOT_FOUND) {
        return status;
    }
    status = rows_property(reader->transaction, FORMAT_PROPERTY_KEYS, &keys, ret_error);
    if (status == STATUS_OK) {
        status = cipher_learn(cipher, keys, ret_error);
    }
    if (status == STATUS_OK) {
        status = cipher_decrypt(cipher, record, room, ret_error);
    }
    return status == STATUS_NOT_FOUND ? STATUS_CORRUPT : status;
}

static enum status open_payload(struct wal_reader *reader, struct wal_record *record,
                                struct error *ret_error)
{
    struct opened *opened = reader->opened;
    if (!record->encrypted) {
        struct cipher *cipher = reader->wal->cipher;
        uint64_t since = cipher == NULL ? UINT64_MAX : cipher_since(cipher);
        return record->lsn < since
                   ? STATUS_OK
                   : error_set(ret_error, STATUS_CORRUPT,
                               "record %llu is not encrypted, and all from %llu on are: it has "
                               "been replaced",
                               (unsigned long long)record->lsn, (unsigned long long)since);
    }
    if (reader->wal->cipher == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "the journal is encrypted: name its key file (--wal-key-file FILE)");
    }
    if (opened == NULL || opened->lsn != record->lsn) {
        opened = malloc(sizeof(*opened) + record->payload.size);
        if (opened == NULL) {
            return error_set(ret_error, STATUS_MEMORY, "out of memory");
        }
        enum status status = decrypt(reader, record, opened->bytes, ret_error);
        if (status != STATUS_OK) {
            free(opened);
            return status;
        }
        opened->lsn = record->lsn;
        opened->size = record->payload.size - CIPHER_OVERHEAD_BYTES;
        opened->next = reader->opened;
        reader->opened = opened;
    }
    record->payload = slice_make(opened->bytes, opened->size);
    record->encrypted = false;
    return STATUS_OK;
}

enum status wal_read(struct wal_reader *reader, uint64_t lsn, struct wal_record *ret_record,
                     struct error *ret_error)
{
    struct wal_record record;
    enum status status = rows_record(reader->transaction, lsn, &record, ret_error);
    if (status == STATUS_OK) {
        status = open_payload(reader, &record, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_record = record;
    }
    return status;
}

enum status wal_read_next(struct wal_reader *reader, uint64_t after_lsn,
                          struct wal_record *ret_record, struct error *ret_error)
{
    struct wal_record record;
    enum status status = rows_record_next(reader->transaction, after_lsn, &record, ret_error);
    if (status == STATUS_OK) {
        status = open_payload(reader, &record, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_record = record;
    }
    return status;
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

static enum status join_unit(struct wal_reader *reader, const struct format_session *session,
                             struct wal_session *ret_session, struct error *ret_error)
{
    struct format_unit row;
    enum status status = rows_unit(reader->transaction, session->unit, &row, ret_error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "a session names unit %llu, which is not in the journal",
                         (unsigned long long)session->unit);
    }
    if (status == STATUS_OK) {
        *ret_session = (struct wal_session){
            .transaction_number = session->transaction_number,
            .unit = session->unit,
            .unit_state = row.unit.state,
            .time_ms = session->time_ms,
        };
    }
    return status;
}

enum status wal_read_session(struct wal_reader *reader, struct slice key,
                             struct wal_session *ret_session, struct error *ret_error)
{
    struct format_session session;
    if (key.size == 0 || key.size > LIMIT_SESSION_KEY_BYTES) {
        return error_set(ret_error, STATUS_NOT_FOUND, "no session has a key of %zu bytes",
                         key.size);
    }
    enum status status = rows_session(reader->transaction, key, &session, ret_error);
    return status != STATUS_OK ? status : join_unit(reader, &session, ret_session, ret_error);
}

enum status wal_read_session_next(struct wal_reader *reader, struct slice after,
                                  uint8_t ret_key[LIMIT_SESSION_KEY_BYTES], size_t *ret_key_size,
                                  struct wal_session *ret_session, struct error *ret_error)
{
    struct format_session session;
    struct slice key;
    struct slice value;
    enum status status =
        store_next(reader->transaction, STORE_SESSIONS, after, &key, &value, ret_error);
    if (status == STATUS_OK && key.size > LIMIT_SESSION_KEY_BYTES) {
        return error_set(ret_error, STATUS_CORRUPT, "a session has a key of %zu bytes", key.size);
    }
    if (status == STATUS_OK) {
        status = format_session_get(key, value, &session, ret_error);
    }
    if (status == STATUS_OK) {
        status = join_unit(reader, &session, ret_session, ret_error);
    }
    if (status == STATUS_OK) {
        memcpy(ret_key, key.data, key.size);
        *ret_key_size = key.size;
    }
    return status;
}
