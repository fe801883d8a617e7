#ifndef HOLDFAST_WAL_SALVAGE_H
#define HOLDFAST_WAL_SALVAGE_H

/*
 * What the parts of salvaging share. Private to wal/.
 *
 *   salvage.c        which units are whole; the order of it all
 *   salvage_find.c   what is intact in the damaged file
 *   salvage_tail.c   what the tail has beyond it
 *   salvage_write.c  the new journal
 *
 *     damaged data.mdb --salvage_find()--> struct findings --judge--> kept units
 *     tail.wal         --salvage_tail()-->                  --salvage_write()-->
 *
 * One thread.
 */

#include "wal/cipher.h"
#include "wal/format.h"
#include "wal/pages.h"
#include "wal/tail.h"

/* An intact record: where it is, and what its header says. */
struct found_record {
    uint64_t lsn;
    uint64_t unit;
    uint64_t previous_lsn;
    uint64_t time_ms;
    uint64_t offset;        /* in data.mdb */
    const uint8_t *in_tail; /* NULL: it is in data.mdb; else its bytes, which findings->tail has */
    uint32_t size;          /* header and payload */
    uint32_t crc;
    enum wal_kind kind;
    bool doubtful; /* another intact record has the same LSN: nobody knows which one counted */
};

/* An intact row of a unit. */
struct found_unit {
    struct format_unit row;
    uint64_t offset;
    bool from_tail; /* the tables have no row of it */
    bool kept;
    char why[120]; /* it is not */
};

/* An intact row of another kind, with its own memory. */
struct found_row {
    uint64_t offset;
    uint8_t *key;
    size_t key_size;
    uint8_t *value;
    size_t value_size;
};

struct findings {
    struct pages *pages;
    struct cipher *cipher; /* NULL: none, or no key file was named */
    struct pages_result result;
    uint64_t damage_count;
    bool out_of_memory;
    struct found_record *records; /* by LSN; one each */
    size_t record_count;
    size_t record_capacity;
    struct found_unit *units; /* by number */
    size_t unit_count;
    size_t unit_capacity;
    struct found_row *sessions;
    size_t session_count;
    size_t session_capacity;
    struct found_row *properties;
    size_t property_count;
    size_t property_capacity;
    uint64_t sessions_lost;
    uint64_t properties_lost;
    uint64_t highest_lsn;
    uint64_t highest_unit;
    uint64_t record_rows; /* keys of the table `records` that were seen */
    struct tail_contents tail;
    bool tail_damaged; /* some of it is missing: what is open may have ended there */
    bool end_is_known; /* the tables' last LSN is: all keys of the newest snapshot were seen */
    bool committing;   /* a record that only the tail has needs the version for it */
};

/* Give *findings, all zeros before, to findings_free() in any case. */
MUST_CHECK enum status salvage_find(const char *directory, struct findings *findings,
                                    struct error *ret_error);
/*
 * After salvage_find(), and after the journal's id and version were found intact: takes what the
 * tail has beyond the tables. Damage of the tail is no error. STATUS_MEMORY.
 */
MUST_CHECK enum status salvage_tail(const char *directory, struct findings *findings,
                                    struct error *ret_error);
void findings_free(struct findings *findings);

/* Each notes in findings->out_of_memory that there is none. `in_tail`: see found_record. */
void findings_add_record(struct findings *findings, const struct wal_record *record,
                         struct slice value, uint64_t offset, bool in_tail);
void findings_add_unit(struct findings *findings, const struct format_unit *row, uint64_t offset,
                       bool from_tail);
void findings_add_session(struct findings *findings, struct slice key, struct slice value,
                          uint64_t offset);
/* Sorts after something was added; makes one of the copies of a record, and of a session's rows
   the one that counts. */
void findings_sort(struct findings *findings);

/* NULL: there is none. */
const struct found_record *findings_record(const struct findings *findings, uint64_t lsn);
const struct found_unit *findings_unit(const struct findings *findings, uint64_t unit);
struct found_unit *findings_unit_to_change(struct findings *findings, uint64_t unit);
const struct found_row *findings_property(const struct findings *findings, const char *name);

/* Reads and checks it again. *ret_bytes is to be freed; *ret_record points into it. */
MUST_CHECK enum status findings_read(const struct findings *findings,
                                     const struct found_record *found, uint8_t **ret_bytes,
                                     struct wal_record *ret_record, struct error *ret_error);

/* Makes the journal in `target` of the kept units. */
MUST_CHECK enum status salvage_write(const struct findings *findings, const char *target,
                                     struct wal_salvage *salvage, struct error *ret_error);

#endif
