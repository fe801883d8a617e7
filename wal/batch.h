#ifndef HOLDFAST_WAL_BATCH_H
#define HOLDFAST_WAL_BATCH_H

/* Puts groups of records into a write transaction. Private to wal/; the writer thread's. */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/wal.h"
#include "wal/cipher.h"
#include "wal/store.h"
#include "wal/tail.h"

struct batch {
    struct store_transaction *transaction;
    struct cipher *cipher;        /* NULL: payloads are not encrypted */
    uint64_t quota_bytes;         /* for BEGIN, WRITE and COMMITTING */
    uint64_t ends_bytes;          /* for what ends units: the reserve but for what pruning needs */
    bool only_ends;               /* the disk or the reserve is short: refuse those */
    uint32_t version;             /* of the format: put_group() raises it */
    uint64_t time_ms;             /* of all its records */
    uint64_t last_lsn;            /* of the last record put so far */
    uint64_t last_unit;           /* the highest unit begun so far */
    struct tail_builder *builder; /* takes each record put; NULL: none does */
};

/*
 * Puts all records of a group, or none: *ret_group is then STATUS_INVALID or STATUS_FULL and the
 * transaction is as it was. If the store fails the result is not STATUS_OK and the transaction
 * can only be aborted. Fills in `lsn` of each record put.
 */
MUST_CHECK enum status batch_put(struct batch *batch, struct wal_append *first,
                                 enum status *ret_group, struct error *ret_error);

/*
 * Puts a record that the tail has, after all before it; one that the tables have already is passed
 * over. STATUS_CORRUPT: it does not follow what the tables have. Errors: as batch_put().
 */
MUST_CHECK enum status batch_put_again(struct batch *batch, const struct tail_entry *entry,
                                       struct error *ret_error);

/* About how much of the map a group takes. */
uint64_t batch_group_bytes(const struct wal_append *first);

/* True if the group does nothing but end units: it may use the reserve. */
bool batch_group_only_ends(const struct wal_append *first);

#endif
