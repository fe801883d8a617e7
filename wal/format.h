#ifndef HOLDFAST_WAL_FORMAT_H
#define HOLDFAST_WAL_FORMAT_H

/*
 * The journal's bytes. Everything that is stored is described here and nowhere else.
 *
 * The journal is one LMDB environment (data.mdb and lock.mdb in the journal's directory) with five
 * named tables. All integers are big-endian, so that LMDB's byte order of keys is number order.
 *
 *   table        key                   value
 *   records      LSN, 8 bytes          a record, see below; appended only, removed by retention
 *   units        unit, 8 bytes         a unit row, see below
 *   open         unit, 8 bytes         CRC-32C of the key; present exactly for the units in state
 *                                      OPEN, CONFLICT or COMMITTING
 *   sessions     the caller's bytes    a session row, see below
 *   properties   a name                value bytes, then the CRC-32C of key and value
 *
 * Properties whose names begin with a dot are the journal's own:
 *
 *   .format      4 bytes, the format version. The only row that every version must lay out alike,
 *                so that a program can tell that it does not understand the rest.
 *   .id          16 random bytes, made with the journal
 *   .clean       1 byte: 1 from a clean close until the next open for writing, else 0
 *   .floor       16 bytes: the highest LSN and the highest unit that retention has removed, so that
 *                neither is ever given out again
 *   .prune       16 bytes: unit and LSN. Retention has removed the unit's row and is part of the
 *                way down its chain; the record of this LSN and those before it are still there.
 *                Absent when retention is between two units.
 *   .keys        the data keys of an encrypted journal, wrapped (cipher.c lays it out). Absent from
 *                one that never was
 *
 * Record
 *
 *   offset  size  field
 *        0     4  magic, the bytes "HFWR"
 *        4     1  record version: 1, or 2 if the payload is encrypted (cipher.c lays that out)
 *        5     1  kind, see WAL_KIND_LIST
 *        6     2  zero
 *        8     4  length of the payload in bytes
 *       12     4  CRC-32C of bytes 0 to 11, then of bytes 16 to the end of the payload
 *       16     8  unit
 *       24     8  LSN
 *       32     8  LSN of the unit's previous record, 0 if this is its first
 *       40     8  time of the append, milliseconds since 1970-01-01 UTC
 *       48     n  payload
 *
 * A record is valid if and only if its value has 48 bytes plus the stated length, magic and record
 * version are as above, bytes 6 and 7 are zero, the kind is a known one, the CRC-32C is right, the
 * LSN is the one in the key, the previous LSN is smaller than the LSN, and unit and LSN are not 0.
 * The previous LSN is 0 if and only if the kind is BEGIN.
 *
 * Unit row
 *
 *   offset  size  field
 *        0     8  LSN of the first record
 *        8     8  LSN of the last record
 *       16     8  time of the first record
 *       24     8  time of the last record
 *       32     1  state: 0 open, 1 committed, 2 aborted, 3 conflict, 4 committing
 *       33     1  size of the session key, 0 to 64
 *       34     n  session key: retention removes that session with the unit
 *     34+n     4  CRC-32C of the key (unit), then of everything before this field
 *
 * Session row
 *
 *   offset  size  field
 *        0     8  transaction number
 *        8     8  unit
 *       16     8  time of the unit's BEGIN
 *       24     4  CRC-32C of the key, then of everything before this field
 *
 * A row is valid if and only if it has exactly its size, its CRC-32C is right and its state and key
 * size are in range. The key is part of each CRC, so that a row found under a wrong key is noticed.
 *
 * What holds after a crash: LMDB makes each transaction whole or absent, and one transaction holds
 * a group's records together with the rows they change. So every table always agrees with the
 * others.
 *
 * The tail
 *
 * DIRECTORY/tail.wal has FORMAT_TAIL_BYTES: frames, each at a multiple of FORMAT_FRAME_ALIGNMENT,
 * so that no sector is written again that holds something durable. A frame holds the records of
 * whole groups that the tables may not have yet, in the order of their LSNs:
 *
 *   offset  size  field
 *        0     4  magic, the bytes "HFTF"
 *        4     4  frame version: 1
 *        8     4  size of the frame in bytes, at most FORMAT_FRAME_BYTES_MAX
 *       12     4  CRC-32C of bytes 0 to 11, then of bytes 16 to the end
 *       16    16  the journal's .id
 *       32     8  LSN of the first record
 *       40     4  number of records, at least 1
 *       44     4  CRC-32C of bytes 0 to 11, 16 to 43 and 48 to 55: of a first frame that is not
 *                 whole the salt tells whether one behind it is of the same cycle
 *       48     8  salt: random, the same in all frames since the last checkpoint
 *       56        the records
 *
 *   of each record
 *        0     4  size of its value
 *        4     1  size of the session key, 0 to 64; 0 if it is no BEGIN
 *        5     3  zero
 *        8     8  transaction number; 0 if there is no session key
 *       16     n  session key
 *     16+n     m  the value, as the table `records` has it
 *
 * The frames that count begin at offset 0 and follow each other without a gap in LSNs, each at the
 * first aligned place behind the one before. The first that is not whole, is another journal's, or
 * has another salt or first LSN ends them. Behind them lies the middle of former frames, bytes that
 * a client may have chosen: he could not know a salt that was drawn after they were written. What
 * of them the tables have already is skipped; that the first one begins behind the end of the
 * tables, or that behind their end there is a whole one with LSNs that neither they nor the tables
 * have, is damage. Opening for writing puts them into the tables, durably, then makes the file
 * anew.
 *
 * Versions
 *
 *   1  since the first release
 *   2  has the property .keys, and records of version 2. A journal becomes one when it is opened
 *      with a key file for the first time; without one, version 1 is written
 *   3  version 1 with units in the state committing, and records COMMITTING. A journal becomes one
 *      in the transaction that writes the first of them
 *   4  is to 2 what 3 is to 1
 *   5 to 8  is to 1 to 4 what a journal with a tail is to one without. A journal is one of these
 * from its opening for writing until it is closed cleanly: then the tables have everything, and the
 *      former number comes back, so that an older program may have it again
 *
 * A program writes the lowest version that tells what is there, and reads all. A newer one it
 * refuses before it looks at anything else, with STATUS_VERSION, and changes nothing. Who makes
 * version N + 1
 *   - gives it a number whenever a program of version N would misread what is new: another layout
 *     of a row or a record, a new kind of record, a property that must not be overlooked. A field
 *     that is added to a payload, and may be overlooked, needs none (recover/record.h);
 *   - keeps `.format` and the table `properties` laid out as they are, so that older programs know
 *     what they refuse. A record has a version of its own beside it: a damaged page must not pass
 *     for a record of another time;
 *   - reads version N: either as it is, telling records apart by their version; or by a migration
 *     when the journal is opened for writing, under the owner's lock, in one transaction that ends
 *     with `.format`, or by way of a copy that takes the journal's place (compact.c). Killed at any
 *     step it leaves version N or N + 1, whole. A read-only opening never migrates;
 *   - keeps units that are open, conflicts, and the answers of commits: a migration is no recovery;
 *   - runs tests/support/make_journal_fixture with the programs of version N before it raises the
 *     number, and keeps the result in tests/fixtures/journal-N (test_format_upgrade.py).
 *
 * Threads: all functions are pure.
 */

#include "holdfast/error.h"
#include "holdfast/limits.h"
#include "holdfast/slice.h"
#include "holdfast/wal.h"

#define FORMAT_VERSION 1u
#define FORMAT_VERSION_ENCRYPTED 2u
#define FORMAT_VERSION_COMMITTING 3u
#define FORMAT_VERSION_TAIL 5u
#define FORMAT_VERSION_NEWEST 8u

#define FORMAT_RECORD_HEADER_BYTES 48u
#define FORMAT_RECORD_VERSION 1u
#define FORMAT_RECORD_VERSION_ENCRYPTED 2u
/* Far beyond what any caller needs; a record's size stays an int, as BSON's does. */
#define FORMAT_PAYLOAD_BYTES_MAX (1024u * 1024u * 1024u)

#define FORMAT_TAIL_FILE "tail.wal"
#define FORMAT_TAIL_BYTES ((size_t)1 << 20)
#define FORMAT_FRAME_ALIGNMENT 4096u
#define FORMAT_FRAME_BYTES_MAX ((size_t)64 << 10)
#define FORMAT_FRAME_HEADER_BYTES 56u
#define FORMAT_FRAME_ENTRY_BYTES 16u

#define FORMAT_KEY_BYTES 8u
#define FORMAT_OPEN_BYTES 4u
#define FORMAT_UNIT_BYTES_MAX (34u + LIMIT_SESSION_KEY_BYTES + 4u)
#define FORMAT_SESSION_BYTES 28u
#define FORMAT_PROPERTY_NAME_BYTES_MAX 64u

#define FORMAT_PROPERTY_VERSION ".format"
#define FORMAT_PROPERTY_ID ".id"
#define FORMAT_PROPERTY_CLEAN ".clean"
#define FORMAT_PROPERTY_FLOOR ".floor"
#define FORMAT_PROPERTY_PRUNE ".prune"
#define FORMAT_PROPERTY_KEYS ".keys"

/* A unit as its row has it. */
struct format_unit {
    struct wal_unit unit;
    uint8_t session_key_size;
    uint8_t session_key[LIMIT_SESSION_KEY_BYTES];
};

/* A session as its row has it. */
struct format_session {
    int64_t transaction_number;
    uint64_t unit;
    uint64_t time_ms;
};

/* CRC-32C (Castagnoli). Begin with 0; feed the result back in to go on with further bytes. */
uint32_t format_crc32c(uint32_t crc, struct slice bytes);

/* A key of the tables records, units and open. */
void format_key_put(uint8_t key[FORMAT_KEY_BYTES], uint64_t number);
MUST_CHECK enum status format_key_get(struct slice key, uint64_t *ret_number,
                                      struct error *ret_error);

/* Of the property .format. STATUS_CORRUPT, STATUS_VERSION (a version that is not known). */
MUST_CHECK enum status format_version_get(struct slice value, uint32_t *ret_version,
                                          struct error *ret_error);

/* Writes header and payload of `record` to `room`, FORMAT_RECORD_HEADER_BYTES + payload bytes. The
   payload may be in its place there already. */
void format_record_put(uint8_t *room, const struct wal_record *record);
/* Of a record that is known to be valid. */
uint64_t format_record_lsn(const uint8_t *value);
uint64_t format_record_time_ms(const uint8_t *value);
/* *ret_record points into `value`. STATUS_CORRUPT, STATUS_VERSION (a newer record version). */
MUST_CHECK enum status format_record_get(uint64_t lsn, struct slice value,
                                         struct wal_record *ret_record, struct error *ret_error);

/* Returns the row's size. */
size_t format_unit_put(uint8_t row[FORMAT_UNIT_BYTES_MAX], const struct format_unit *unit);
MUST_CHECK enum status format_unit_get(uint64_t unit, struct slice row,
                                       struct format_unit *ret_unit, struct error *ret_error);

void format_open_put(uint8_t row[FORMAT_OPEN_BYTES], uint64_t unit);
MUST_CHECK enum status format_open_get(uint64_t unit, struct slice row, struct error *ret_error);

void format_session_put(uint8_t row[FORMAT_SESSION_BYTES], struct slice key,
                        const struct format_session *session);
MUST_CHECK enum status format_session_get(struct slice key, struct slice row,
                                          struct format_session *ret_session,
                                          struct error *ret_error);

/* The four bytes that follow a property's value. */
uint32_t format_property_crc(const char *name, struct slice value);
/* Cuts the checksum off `row`. */
MUST_CHECK enum status format_property_get(const char *name, struct slice row,
                                           struct slice *ret_value, struct error *ret_error);

/* Whether a journal of this version has the property .keys. */
static inline bool format_version_is_encrypted(uint32_t version)
{
    return version % 2 == 0;
}

/* The lowest version that tells what `version` does, and that it is encrypted. */
static inline uint32_t format_version_encrypted(uint32_t version)
{
    return version + version % 2;
}

/* The same, and that there are records COMMITTING. */
static inline uint32_t format_version_committing(uint32_t version)
{
    return (version - 1) % 4 < 2 ? version + 2 : version;
}

/* The same, and that there is a tail. */
static inline uint32_t format_version_tail(uint32_t version)
{
    return version < FORMAT_VERSION_TAIL ? version + 4 : version;
}

/* The same, and that there is none. */
static inline uint32_t format_version_no_tail(uint32_t version)
{
    return version < FORMAT_VERSION_TAIL ? version : version - 4;
}

/* Whether a record of this kind may be the next one of a unit; `exists`: it has one already. */
bool format_kind_may_follow(bool exists, enum wal_unit_state state, enum wal_kind kind);

/* What a record that may follow a unit's last one makes of the unit. */
enum wal_unit_state format_state_after(enum wal_kind kind);

/* The row of a unit that begins with the record `lsn`; its first record has still to follow. */
void format_unit_begin(struct format_unit *ret_row, uint64_t unit, uint64_t lsn, uint64_t time_ms,
                       struct slice session_key);
/* What a record that may follow the unit's last one makes of the row. */
void format_unit_follow(struct format_unit *row, enum wal_kind kind, uint64_t lsn,
                        uint64_t time_ms);

/* True for the states in which a unit stands in the table `open`. */
static inline bool format_unit_is_open(enum wal_unit_state state)
{
    return state == WAL_UNIT_OPEN || state == WAL_UNIT_CONFLICT || state == WAL_UNIT_COMMITTING;
}

#endif
