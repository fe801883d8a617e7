/*
 * Readers: one snapshot of the journal each.
 *
 * A reader is a read transaction of the store, and what the tail has beyond it: what it returns
 * points into the map or into the tail's frames, but for payloads that had to be decrypted, which
 * it owns. It never waits for the writer and the writer never for it.
 *
 * Order: first the frames, then the transaction. Frames go only when the tables have what is in
 * them, so nothing is missing between the two; what both have is taken from the tables. A reader of
 * another process may see a frame a moment before it is durable, and nobody was told of it.
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

/* The frames that there are. *ret_view NULL: none. */
static enum status hold_view(struct wal *wal, struct tail_view **ret_view, struct error *ret_error)
{
    if (wal->read_only) {
        return tail_read(wal->directory, wal->id, ret_view, ret_error);
    }
    pthread_mutex_lock(&wal->view_lock);
    *ret_view = tail_view_hold(wal->view);
    pthread_mutex_unlock(&wal->view_lock);
    return STATUS_OK;
}

static enum status lay_over(struct wal_reader *reader, struct error *ret_error)
{
    uint64_t lsn = 0;
    uint64_t unit = 0;
    struct tail_window *window = &reader->window;
    enum status status = STATUS_OK;
    if (window->frames > 0) {
        status = rows_highest(reader->transaction, &lsn, &unit, ret_error);
    }
    window->after_lsn = lsn;
    if (status == STATUS_OK && tail_window_last_lsn(window) <= lsn) {
        window->frames = 0;
    }
    if (status == STATUS_OK && !tail_window_continues(window)) {
        status = error_set(ret_error, STATUS_CORRUPT,
                           "the journal's tail does not continue its tables: see holdfast verify");
    }
    return status;
}

enum status wal_reader_begin(struct wal *wal, struct wal_reader **ret_reader,
                             struct error *ret_error)
{
    struct wal_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    reader->wal = wal;
    enum status status = hold_view(wal, &reader->view, ret_error);
    if (status == STATUS_OK) {
        reader->window = tail_window_of(reader->view, 0);
        status = store_begin(wal->store, false, &reader->transaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = lay_over(reader, ret_error);
    }
    if (status != STATUS_OK) {
        wal_reader_end(reader);
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
        tail_view_release(reader->view);
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

static enum status record_of(uint64_t lsn, const struct tail_entry *entry,
                             struct wal_record *ret_record, struct error *ret_error)
{
    return format_record_get(lsn, entry->value, ret_record, ret_error);
}

enum status wal_read(struct wal_reader *reader, uint64_t lsn, struct wal_record *ret_record,
                     struct error *ret_error)
{
    struct wal_record record;
    const struct tail_entry *entry = tail_window_entry(&reader->window, lsn);
    enum status status = entry != NULL ? record_of(lsn, entry, &record, ret_error)
                                       : rows_record(reader->transaction, lsn, &record, ret_error);
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
    if (status == STATUS_NOT_FOUND) {
        uint64_t behind = reader->window.after_lsn;
        uint64_t lsn = (after_lsn > behind ? after_lsn : behind) + 1;
        const struct tail_entry *entry = tail_window_entry(&reader->window, lsn);
        status = entry != NULL ? record_of(lsn, entry, &record, ret_error) : status;
    }
    if (status == STATUS_OK) {
        status = open_payload(reader, &record, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_record = record;
    }
    return status;
}

/* *ret_found false: neither the tables nor the tail have it. */
static enum status find_unit(struct wal_reader *reader, uint64_t unit, bool *ret_found,
                             struct format_unit *ret_row, struct error *ret_error)
{
    *ret_row = (struct format_unit){0};
    enum status status = rows_unit_find(reader->transaction, unit, ret_found, ret_row, ret_error);
    if (status == STATUS_OK) {
        tail_window_unit(&reader->window, unit, ret_found, ret_row);
    }
    return status;
}

enum status wal_read_unit(struct wal_reader *reader, uint64_t unit, struct wal_unit *ret_unit,
                          struct error *ret_error)
{
    struct format_unit row;
    bool found = false;
    enum status status = find_unit(reader, unit, &found, &row, ret_error);
    if (status == STATUS_OK && !found) {
        return error_set(ret_error, STATUS_NOT_FOUND, "there is no unit %llu",
                         (unsigned long long)unit);
    }
    if (status == STATUS_OK) {
        *ret_unit = row.unit;
    }
    return status;
}

enum status reader_unit_next(struct wal_reader *reader, uint64_t after_unit,
                             struct format_unit *ret_row, struct error *ret_error)
{
    bool found = false;
    uint64_t other = tail_window_unit_next(&reader->window, after_unit);
    enum status status = rows_unit_next(reader->transaction, after_unit, ret_row, ret_error);
    bool in_tables = status == STATUS_OK;
    if (other == 0 || (!in_tables && status != STATUS_NOT_FOUND)) {
        return status;
    }
    uint64_t unit = in_tables && ret_row->unit.unit < other ? ret_row->unit.unit : other;
    status = find_unit(reader, unit, &found, ret_row, ret_error);
    if (status == STATUS_OK && !found) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "the tail has records of unit %llu, which the tables do not know",
                         (unsigned long long)unit);
    }
    return status;
}

enum status wal_read_unit_next(struct wal_reader *reader, uint64_t after_unit,
                               struct wal_unit *ret_unit, struct error *ret_error)
{
    struct format_unit row;
    enum status status = reader_unit_next(reader, after_unit, &row, ret_error);
    if (status == STATUS_OK) {
        *ret_unit = row.unit;
    }
    return status;
}

/* What the tables have; the tail may have ended it since. */
static enum status open_next(struct wal_reader *reader, uint64_t after_unit, uint64_t *ret_unit,
                             struct error *ret_error)
{
    struct format_unit row;
    enum status status = rows_open_next(reader->transaction, after_unit, ret_unit, ret_error);
    if (status == STATUS_OK) {
        status = rows_unit(reader->transaction, *ret_unit, &row, ret_error);
        if (status == STATUS_NOT_FOUND ||
            (status == STATUS_OK && !format_unit_is_open(row.unit.state))) {
            return error_set(ret_error, STATUS_CORRUPT,
                             "unit %llu is listed as open, which its row does not bear out",
                             (unsigned long long)*ret_unit);
        }
    }
    return status;
}

enum status wal_read_open_next(struct wal_reader *reader, uint64_t after_unit,
                               struct wal_unit *ret_unit, struct error *ret_error)
{
    for (;;) {
        bool found = false;
        uint64_t unit = 0;
        struct format_unit row;
        uint64_t other = tail_window_unit_next(&reader->window, after_unit);
        enum status status = open_next(reader, after_unit, &unit, ret_error);
        if (status != STATUS_OK && (status != STATUS_NOT_FOUND || other == 0)) {
            return status;
        }
        unit = status == STATUS_OK && (other == 0 || unit < other) ? unit : other;
        status = find_unit(reader, unit, &found, &row, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (found && format_unit_is_open(row.unit.state)) {
            *ret_unit = row.unit;
            return STATUS_OK;
        }
        after_unit = unit;
    }
}

static enum status join_unit(struct wal_reader *reader, const struct format_session *session,
                             struct wal_session *ret_session, struct error *ret_error)
{
    struct format_unit row;
    bool found = false;
    enum status status = find_unit(reader, session->unit, &found, &row, ret_error);
    if (status == STATUS_OK && !found) {
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
    bool found = status == STATUS_OK;
    if (found || status == STATUS_NOT_FOUND) {
        tail_window_session(&reader->window, key, &found, &session);
        status = found ? STATUS_OK : STATUS_NOT_FOUND;
    }
    return status != STATUS_OK ? status : join_unit(reader, &session, ret_session, ret_error);
}

enum status wal_read_session_next(struct wal_reader *reader, struct slice after,
                                  uint8_t ret_key[LIMIT_SESSION_KEY_BYTES], size_t *ret_key_size,
                                  struct wal_session *ret_session, struct error *ret_error)
{
    struct slice key;
    struct slice value;
    struct slice other = tail_window_session_next(&reader->window, after);
    enum status status =
        store_next(reader->transaction, STORE_SESSIONS, after, &key, &value, ret_error);
    if (status == STATUS_OK && key.size > LIMIT_SESSION_KEY_BYTES) {
        return error_set(ret_error, STATUS_CORRUPT, "a session has a key of %zu bytes", key.size);
    }
    if (status != STATUS_OK && (status != STATUS_NOT_FOUND || other.size == 0)) {
        return status;
    }
    if (status != STATUS_OK || (other.size > 0 && slice_compare(other, key) < 0)) {
        key = other;
    }
    status = wal_read_session(reader, key, ret_session, ret_error);
    if (status == STATUS_OK) {
        memcpy(ret_key, key.data, key.size);
        *ret_key_size = key.size;
    }
    return status;
}
