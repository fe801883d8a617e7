/*
 * The journal's bytes: encoding and checked decoding of records and rows. The layout is drawn in
 * format.h.
 *
 * Invariants: what *_put() wrote, *_get() accepts and gives back unchanged; *_get() accepts nothing
 * else, reads only inside the slice it was given and never fails in another way than by its status.
 * Any thread.
 */

#include "wal/format.h"

#include <assert.h>
#include <inttypes.h>
#include <isa-l.h>

#define MAGIC_BYTES 4u
#define CRC_OFFSET 12u
#define CRC_BYTES 4u

static const uint8_t magic[MAGIC_BYTES] = {'H', 'F', 'W', 'R'};

const char *wal_kind_name(enum wal_kind kind)
{
    switch (kind) {
#define X(name, number)                                                                            \
    case WAL_KIND_##name:                                                                          \
        return #name;
        WAL_KIND_LIST(X)
#undef X
    }
    return NULL;
}

const char *wal_unit_state_name(enum wal_unit_state state)
{
    switch (state) {
    case WAL_UNIT_OPEN:
        return "open";
    case WAL_UNIT_COMMITTED:
        return "committed";
    case WAL_UNIT_ABORTED:
        return "aborted";
    case WAL_UNIT_CONFLICT:
        return "conflict";
    case WAL_UNIT_COMMITTING:
        return "committing";
    }
    return "unknown";
}

uint32_t format_crc32c(uint32_t crc, struct slice bytes)
{
    /* ISA-L works on the bare remainder: the inversion before and after is the caller's. Its
       argument is not const for historical reasons; it only reads. */
    uint32_t remainder = ~crc;
    if (bytes.size > 0) {
        union {
            const uint8_t *reads;
            unsigned char *declared;
        } buffer = {.reads = bytes.data};
        assert(bytes.size <= INT32_MAX);
        remainder = crc32_iscsi(buffer.declared, (int)bytes.size, remainder);
    }
    return ~remainder;
}

void format_key_put(uint8_t key[FORMAT_KEY_BYTES], uint64_t number)
{
    slice_store_u64be(key, number);
}

enum status format_key_get(struct slice key, uint64_t *ret_number, struct error *ret_error)
{
    if (key.size != FORMAT_KEY_BYTES) {
        return error_set(ret_error, STATUS_CORRUPT, "a key has %zu bytes instead of %u", key.size,
                         FORMAT_KEY_BYTES);
    }
    *ret_number = slice_load_u64be(key.data);
    return STATUS_OK;
}

enum status format_version_get(struct slice value, uint32_t *ret_version, struct error *ret_error)
{
    if (value.size != 4) {
        return error_set(ret_error, STATUS_CORRUPT, "the journal does not say its format version");
    }
    uint32_t version = slice_load_u32be(value.data);
    if (version < FORMAT_VERSION || version > FORMAT_VERSION_NEWEST) {
        return error_set(ret_error, STATUS_VERSION,
                         "the journal has format version %" PRIu32
                         ", this program understands versions %u to %u",
                         version, FORMAT_VERSION, FORMAT_VERSION_NEWEST);
    }
    *ret_version = version;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ records */

static uint32_t record_crc(struct slice value)
{
    uint32_t crc = format_crc32c(0, slice_make(value.data, CRC_OFFSET));
    size_t rest = CRC_OFFSET + CRC_BYTES;
    return format_crc32c(crc, slice_make(value.data + rest, value.size - rest));
}

void format_record_put(uint8_t *room, const struct wal_record *record)
{
    assert(record->payload.size <= FORMAT_PAYLOAD_BYTES_MAX);
    memcpy(room, magic, MAGIC_BYTES);
    room[4] = record->encrypted ? FORMAT_RECORD_VERSION_ENCRYPTED : FORMAT_RECORD_VERSION;
    room[5] = (uint8_t)record->kind;
    room[6] = 0;
    room[7] = 0;
    slice_store_u32be(room + 8, (uint32_t)record->payload.size);
    slice_store_u64be(room + 16, record->unit);
    slice_store_u64be(room + 24, record->lsn);
    slice_store_u64be(room + 32, record->previous_lsn);
    slice_store_u64be(room + 40, record->time_ms);
    if (record->payload.size > 0 && record->payload.data != room + FORMAT_RECORD_HEADER_BYTES) {
        memcpy(room + FORMAT_RECORD_HEADER_BYTES, record->payload.data, record->payload.size);
    }
    struct slice whole = slice_make(room, FORMAT_RECORD_HEADER_BYTES + record->payload.size);
    slice_store_u32be(room + CRC_OFFSET, record_crc(whole));
}

uint64_t format_record_lsn(const uint8_t *value)
{
    return slice_load_u64be(value + 24);
}

uint64_t format_record_time_ms(const uint8_t *value)
{
    return slice_load_u64be(value + 40);
}

/* What of the fields contradicts itself, or NULL. The CRC is already known to be right. */
static const char *record_contradiction(uint64_t key_lsn, const struct wal_record *record)
{
    if (wal_kind_name(record->kind) == NULL) {
        return "its kind is unknown";
    }
    if (record->lsn != key_lsn || record->lsn == 0) {
        return "it is stored under another LSN than its own";
    }
    if (record->unit == 0) {
        return "it belongs to no unit";
    }
    if (record->previous_lsn >= record->lsn) {
        return "its previous LSN is not before it";
    }
    if ((record->previous_lsn == 0) != (record->kind == WAL_KIND_BEGIN)) {
        return "only a BEGIN record has no previous one";
    }
    return NULL;
}

enum status format_record_get(uint64_t lsn, struct slice value, struct wal_record *ret_record,
                              struct error *ret_error)
{
    const uint8_t *at = value.data;
    if (value.size < FORMAT_RECORD_HEADER_BYTES) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "record %" PRIu64 " is damaged: %zu bytes are too few for a header", lsn,
                         value.size);
    }
    if (memcmp(at, magic, MAGIC_BYTES) != 0) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "record %" PRIu64 " is damaged: it does not begin as a record does", lsn);
    }
    if (slice_load_u32be(at + 8) != value.size - FORMAT_RECORD_HEADER_BYTES) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "record %" PRIu64 " is damaged: its length does not match", lsn);
    }
    if (slice_load_u32be(at + CRC_OFFSET) != record_crc(value)) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "record %" PRIu64 " is damaged: its CRC-32C does not match", lsn);
    }
    bool encrypted = at[4] == FORMAT_RECORD_VERSION_ENCRYPTED;
    if ((at[4] != FORMAT_RECORD_VERSION && !encrypted) || at[6] != 0 || at[7] != 0) {
        return error_set(ret_error, STATUS_VERSION,
                         "record %" PRIu64 " has version %u, this program understands 1 and %u",
                         lsn, at[4], FORMAT_RECORD_VERSION_ENCRYPTED);
    }
    struct wal_record record = {
        .lsn = slice_load_u64be(at + 24),
        .unit = slice_load_u64be(at + 16),
        .previous_lsn = slice_load_u64be(at + 32),
        .time_ms = slice_load_u64be(at + 40),
        .kind = (enum wal_kind)at[5],
        .encrypted = encrypted,
        .payload =
            slice_make(at + FORMAT_RECORD_HEADER_BYTES, value.size - FORMAT_RECORD_HEADER_BYTES),
    };
    const char *contradiction = record_contradiction(lsn, &record);
    if (contradiction != NULL) {
        return error_set(ret_error, STATUS_CORRUPT, "record %" PRIu64 " is damaged: %s", lsn,
                         contradiction);
    }
    *ret_record = record;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ rows */

/* CRC-32C of a row: of its key, then of its bytes. */
static uint32_t row_crc(struct slice key, struct slice bytes)
{
    return format_crc32c(format_crc32c(0, key), bytes);
}

static uint32_t row_crc_u64(uint64_t number, struct slice bytes)
{
    uint8_t key[FORMAT_KEY_BYTES];
    format_key_put(key, number);
    return row_crc(slice_make(key, sizeof(key)), bytes);
}

/* True if `row` ends in the right checksum. */
static bool row_crc_matches(struct slice key, struct slice row)
{
    if (row.size < CRC_BYTES) {
        return false;
    }
    size_t size = row.size - CRC_BYTES;
    return slice_load_u32be(row.data + size) == row_crc(key, slice_make(row.data, size));
}

size_t format_unit_put(uint8_t row[FORMAT_UNIT_BYTES_MAX], const struct format_unit *unit)
{
    assert(unit->session_key_size <= LIMIT_SESSION_KEY_BYTES);
    slice_store_u64be(row, unit->unit.first_lsn);
    slice_store_u64be(row + 8, unit->unit.last_lsn);
    slice_store_u64be(row + 16, unit->unit.begin_time_ms);
    slice_store_u64be(row + 24, unit->unit.last_time_ms);
    row[32] = (uint8_t)unit->unit.state;
    row[33] = unit->session_key_size;
    memcpy(row + 34, unit->session_key, unit->session_key_size);
    size_t size = 34u + unit->session_key_size;
    slice_store_u32be(row + size, row_crc_u64(unit->unit.unit, slice_make(row, size)));
    return size + CRC_BYTES;
}

enum status format_unit_get(uint64_t unit, struct slice row, struct format_unit *ret_unit,
                            struct error *ret_error)
{
    uint8_t key[FORMAT_KEY_BYTES];
    format_key_put(key, unit);
    if (row.size < 34u + CRC_BYTES || !row_crc_matches(slice_make(key, sizeof(key)), row) ||
        row.data[33] > LIMIT_SESSION_KEY_BYTES || row.size != 34u + row.data[33] + CRC_BYTES ||
        row.data[32] > WAL_UNIT_COMMITTING) {
        return error_set(ret_error, STATUS_CORRUPT, "the row of unit %" PRIu64 " is damaged", unit);
    }
    struct format_unit result = {
        .unit = {.unit = unit,
                 .first_lsn = slice_load_u64be(row.data),
                 .last_lsn = slice_load_u64be(row.data + 8),
                 .begin_time_ms = slice_load_u64be(row.data + 16),
                 .last_time_ms = slice_load_u64be(row.data + 24),
                 .state = (enum wal_unit_state)row.data[32]},
        .session_key_size = row.data[33],
    };
    memcpy(result.session_key, row.data + 34, result.session_key_size);
    *ret_unit = result;
    return STATUS_OK;
}

void format_open_put(uint8_t row[FORMAT_OPEN_BYTES], uint64_t unit)
{
    slice_store_u32be(row, row_crc_u64(unit, slice_make(NULL, 0)));
}

enum status format_open_get(uint64_t unit, struct slice row, struct error *ret_error)
{
    if (row.size != FORMAT_OPEN_BYTES ||
        slice_load_u32be(row.data) != row_crc_u64(unit, slice_make(NULL, 0))) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "the entry of unit %" PRIu64 " among the open units is damaged", unit);
    }
    return STATUS_OK;
}

void format_session_put(uint8_t row[FORMAT_SESSION_BYTES], struct slice key,
                        const struct format_session *session)
{
    size_t size = FORMAT_SESSION_BYTES - CRC_BYTES;
    slice_store_u64be(row, (uint64_t)session->transaction_number);
    slice_store_u64be(row + 8, session->unit);
    slice_store_u64be(row + 16, session->time_ms);
    slice_store_u32be(row + size, row_crc(key, slice_make(row, size)));
}

enum status format_session_get(struct slice key, struct slice row,
                               struct format_session *ret_session, struct error *ret_error)
{
    if (row.size != FORMAT_SESSION_BYTES || !row_crc_matches(key, row)) {
        return error_set(ret_error, STATUS_CORRUPT, "the row of a session is damaged");
    }
    *ret_session = (struct format_session){
        .transaction_number = (int64_t)slice_load_u64be(row.data),
        .unit = slice_load_u64be(row.data + 8),
        .time_ms = slice_load_u64be(row.data + 16),
    };
    return STATUS_OK;
}

uint32_t format_property_crc(const char *name, struct slice value)
{
    return row_crc(slice_text(name), value);
}

enum status format_property_get(const char *name, struct slice row, struct slice *ret_value,
                                struct error *ret_error)
{
    if (!row_crc_matches(slice_text(name), row)) {
        return error_set(ret_error, STATUS_CORRUPT, "the property \"%s\" is damaged", name);
    }
    *ret_value = slice_make(row.data, row.size - CRC_BYTES);
    return STATUS_OK;
}

enum wal_unit_state format_state_after(enum wal_kind kind)
{
    switch (kind) {
    case WAL_KIND_COMMIT:
        return WAL_UNIT_COMMITTED;
    case WAL_KIND_ABORT:
        return WAL_UNIT_ABORTED;
    case WAL_KIND_CONFLICT:
        return WAL_UNIT_CONFLICT;
    case WAL_KIND_COMMITTING:
        return WAL_UNIT_COMMITTING;
    default:
        return WAL_UNIT_OPEN;
    }
}

bool format_kind_may_follow(bool exists, enum wal_unit_state state, enum wal_kind kind)
{
    if (!exists) {
        return kind == WAL_KIND_BEGIN;
    }
    switch (state) {
    case WAL_UNIT_OPEN:
        return kind == WAL_KIND_WRITE || kind == WAL_KIND_COMMIT || kind == WAL_KIND_ABORT ||
               kind == WAL_KIND_CONFLICT || kind == WAL_KIND_COMMITTING;
    case WAL_UNIT_COMMITTING:
    case WAL_UNIT_CONFLICT:
        return kind == WAL_KIND_COMMIT || kind == WAL_KIND_ABORT || kind == WAL_KIND_CONFLICT;
    case WAL_UNIT_COMMITTED:
        return kind == WAL_KIND_CONFLICT;
    case WAL_UNIT_ABORTED:
        return false;
    }
    return false;
}

void format_unit_begin(struct format_unit *ret_row, uint64_t unit, uint64_t lsn, uint64_t time_ms,
                       struct slice session_key)
{
    *ret_row = (struct format_unit){
        .unit = {.unit = unit, .first_lsn = lsn, .begin_time_ms = time_ms},
        .session_key_size = (uint8_t)session_key.size,
    };
    if (session_key.size > 0) {
        memcpy(ret_row->session_key, session_key.data, session_key.size);
    }
}

void format_unit_follow(struct format_unit *row, enum wal_kind kind, uint64_t lsn, uint64_t time_ms)
{
    row->unit.last_lsn = lsn;
    row->unit.last_time_ms = time_ms;
    row->unit.state = format_state_after(kind);
}
