/*
 * Typed rows: keys and values of the store's tables, checked at each read.
 *
 * Invariant: rows_unit_put() is the only writer of the tables `units` and `open`, so that a unit
 * stands in `open` exactly while its state says so.
 *
 * Threads: as store.h.
 */

#include "wal/rows.h"

#include <inttypes.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ records */

enum status rows_record(struct store_transaction *transaction, uint64_t lsn,
                        struct wal_record *ret_record, struct error *ret_error)
{
    uint8_t key[FORMAT_KEY_BYTES];
    struct slice value;
    format_key_put(key, lsn);
    enum status status =
        store_get(transaction, STORE_RECORDS, slice_make(key, sizeof(key)), &value, ret_error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(ret_error, status, "there is no record %" PRIu64, lsn);
    }
    return status != STATUS_OK ? status : format_record_get(lsn, value, ret_record, ret_error);
}

/* The first row of `table` behind `after`, whose keys are numbers. */
static enum status next_number(struct store_transaction *transaction, enum store_table table,
                               uint64_t after, uint64_t *ret_number, struct slice *ret_value,
                               struct error *ret_error)
{
    uint8_t key[FORMAT_KEY_BYTES];
    struct slice found;
    struct slice value;
    uint64_t number = 0;
    format_key_put(key, after);
    enum status status =
        store_next(transaction, table, slice_make(key, sizeof(key)), &found, &value, ret_error);
    if (status == STATUS_OK) {
        status = format_key_get(found, &number, ret_error);
    }
    if (status == STATUS_OK && number <= after) {
        /* Only on a damaged page; going on could go round for ever. */
        status = error_set(ret_error, STATUS_CORRUPT, "the journal's keys are not in order");
    }
    if (status == STATUS_OK) {
        *ret_number = number;
        *ret_value = value;
    }
    return status;
}

enum status rows_record_next(struct store_transaction *transaction, uint64_t after_lsn,
                             struct wal_record *ret_record, struct error *ret_error)
{
    uint64_t lsn = 0;
    struct slice value;
    enum status status =
        next_number(transaction, STORE_RECORDS, after_lsn, &lsn, &value, ret_error);
    return status != STATUS_OK ? status : format_record_get(lsn, value, ret_record, ret_error);
}

/* ------------------------------------------------------------------ units */

enum status rows_unit_find(struct store_transaction *transaction, uint64_t unit, bool *ret_found,
                           struct format_unit *ret_unit, struct error *ret_error)
{
    uint8_t key[FORMAT_KEY_BYTES];
    struct slice value;
    format_key_put(key, unit);
    enum status status =
        store_get(transaction, STORE_UNITS, slice_make(key, sizeof(key)), &value, ret_error);
    if (status == STATUS_NOT_FOUND) {
        *ret_found = false;
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = format_unit_get(unit, value, ret_unit, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_found = true;
    }
    return status;
}

enum status rows_unit(struct store_transaction *transaction, uint64_t unit,
                      struct format_unit *ret_unit, struct error *ret_error)
{
    bool found = false;
    enum status status = rows_unit_find(transaction, unit, &found, ret_unit, ret_error);
    if (status == STATUS_OK && !found) {
        return error_set(ret_error, STATUS_NOT_FOUND, "there is no unit %" PRIu64, unit);
    }
    return status;
}

enum status rows_unit_next(struct store_transaction *transaction, uint64_t after_unit,
                           struct format_unit *ret_unit, struct error *ret_error)
{
    uint64_t unit = 0;
    struct slice value;
    enum status status =
        next_number(transaction, STORE_UNITS, after_unit, &unit, &value, ret_error);
    return status != STATUS_OK ? status : format_unit_get(unit, value, ret_unit, ret_error);
}

enum status rows_unit_put(struct store_transaction *transaction, const struct format_unit *unit,
                          bool stands_open, struct error *ret_error)
{
    uint8_t number[FORMAT_KEY_BYTES];
    uint8_t row[FORMAT_UNIT_BYTES_MAX];
    uint8_t open[FORMAT_OPEN_BYTES];
    format_key_put(number, unit->unit.unit);
    struct slice key = slice_make(number, sizeof(number));
    size_t size = format_unit_put(row, unit);
    enum status status = store_put(transaction, STORE_UNITS, key, slice_make(row, size), ret_error);
    bool wanted = format_unit_is_open(unit->unit.state);
    if (status != STATUS_OK || wanted == stands_open) {
        return status;
    }
    if (wanted) {
        format_open_put(open, unit->unit.unit);
        return store_put(transaction, STORE_OPEN, key, slice_make(open, sizeof(open)), ret_error);
    }
    status = store_delete(transaction, STORE_OPEN, key, ret_error);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status; /* a damaged one, and whole again now */
}

enum status rows_open_next(struct store_transaction *transaction, uint64_t after_unit,
                           uint64_t *ret_unit, struct error *ret_error)
{
    uint64_t unit = 0;
    struct slice value;
    enum status status = next_number(transaction, STORE_OPEN, after_unit, &unit, &value, ret_error);
    if (status == STATUS_OK) {
        status = format_open_get(unit, value, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_unit = unit;
    }
    return status;
}

/* ------------------------------------------------------------------ sessions */

enum status rows_session(struct store_transaction *transaction, struct slice key,
                         struct format_session *ret_session, struct error *ret_error)
{
    struct slice value;
    enum status status = store_get(transaction, STORE_SESSIONS, key, &value, ret_error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(ret_error, status, "the journal does not know this session");
    }
    return status != STATUS_OK ? status : format_session_get(key, value, ret_session, ret_error);
}

enum status rows_session_put(struct store_transaction *transaction, struct slice key,
                             const struct format_session *session, struct error *ret_error)
{
    uint8_t row[FORMAT_SESSION_BYTES];
    format_session_put(row, key, session);
    return store_put(transaction, STORE_SESSIONS, key, slice_make(row, sizeof(row)), ret_error);
}

/* ------------------------------------------------------------------ properties */

enum status rows_property(struct store_transaction *transaction, const char *name,
                          struct slice *ret_value, struct error *ret_error)
{
    struct slice row;
    enum status status =
        store_get(transaction, STORE_PROPERTIES, slice_text(name), &row, ret_error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(ret_error, status, "the journal has no property \"%s\"", name);
    }
    return status != STATUS_OK ? status : format_property_get(name, row, ret_value, ret_error);
}

enum status rows_property_put(struct store_transaction *transaction, const char *name,
                              struct slice value, struct error *ret_error)
{
    /* Made beside the store: MDB_RESERVE and replacing a row of another size do not go together. */
    uint8_t *row = malloc(value.size + 4);
    if (row == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    if (value.size > 0) {
        memcpy(row, value.data, value.size);
    }
    slice_store_u32be(row + value.size, format_property_crc(name, value));
    enum status status = store_put(transaction, STORE_PROPERTIES, slice_text(name),
                                   slice_make(row, value.size + 4), ret_error);
    free(row);
    return status;
}

enum status rows_property_delete(struct store_transaction *transaction, const char *name,
                                 struct error *ret_error)
{
    return store_delete(transaction, STORE_PROPERTIES, slice_text(name), ret_error);
}

enum status rows_pair(struct store_transaction *transaction, const char *name, uint64_t *ret_first,
                      uint64_t *ret_second, struct error *ret_error)
{
    struct slice value;
    enum status status = rows_property(transaction, name, &value, ret_error);
    if (status == STATUS_NOT_FOUND) {
        *ret_first = 0;
        *ret_second = 0;
        return STATUS_OK;
    }
    if (status == STATUS_OK && value.size != 16) {
        status = error_set(ret_error, STATUS_CORRUPT, "the property \"%s\" is damaged", name);
    }
    if (status == STATUS_OK) {
        *ret_first = slice_load_u64be(value.data);
        *ret_second = slice_load_u64be(value.data + 8);
    }
    return status;
}

enum status rows_pair_put(struct store_transaction *transaction, const char *name, uint64_t first,
                          uint64_t second, struct error *ret_error)
{
    uint8_t value[16];
    slice_store_u64be(value, first);
    slice_store_u64be(value + 8, second);
    return rows_property_put(transaction, name, slice_make(value, sizeof(value)), ret_error);
}

/* ------------------------------------------------------------------ whole journal */

/* Raises *highest to the last key of a table whose keys are numbers. */
static enum status raise_to_last(struct store_transaction *transaction, enum store_table table,
                                 uint64_t *highest, struct error *ret_error)
{
    struct slice key;
    struct slice value;
    uint64_t last = 0;
    enum status status = store_last(transaction, table, &key, &value, ret_error);
    if (status == STATUS_NOT_FOUND) {
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = format_key_get(key, &last, ret_error);
    }
    if (status == STATUS_OK && last > *highest) {
        *highest = last;
    }
    return status;
}

enum status rows_highest(struct store_transaction *transaction, uint64_t *ret_lsn,
                         uint64_t *ret_unit, struct error *ret_error)
{
    uint64_t lsn = 0;
    uint64_t unit = 0;
    enum status status = rows_pair(transaction, FORMAT_PROPERTY_FLOOR, &lsn, &unit, ret_error);
    if (status == STATUS_OK) {
        status = raise_to_last(transaction, STORE_RECORDS, &lsn, ret_error);
    }
    if (status == STATUS_OK) {
        status = raise_to_last(transaction, STORE_UNITS, &unit, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_lsn = lsn;
        *ret_unit = unit;
    }
    return status;
}

enum status rows_version(struct store_transaction *transaction, uint32_t *ret_version,
                         struct error *ret_error)
{
    struct slice value;
    enum status status = rows_property(transaction, FORMAT_PROPERTY_VERSION, &value, ret_error);
    if (status == STATUS_NOT_FOUND) {
        value = slice_make(NULL, 0);
        status = STATUS_OK;
    }
    return status == STATUS_OK ? format_version_get(value, ret_version, ret_error) : status;
}

enum status rows_version_put(struct store_transaction *transaction, uint32_t version,
                             struct error *ret_error)
{
    uint8_t value[4];
    slice_store_u32be(value, version);
    return rows_property_put(transaction, FORMAT_PROPERTY_VERSION, slice_make(value, sizeof(value)),
                             ret_error);
}
