#ifndef HOLDFAST_MIGRATE_JOURNAL_H
#define HOLDFAST_MIGRATE_JOURNAL_H

/*
 * Which units of the journal are a migration's batches. A batch's last write is that of the
 * migration's row, whose after-image says `run` and `batch`, the batch's number.
 *
 * Works beside a living holdfastd, in short looks; what retention removes meanwhile is missing
 * then.
 *
 * Threads: any, one at a time.
 */

#include <bson/bson.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"

/* One application of a migration: what is asked for, and what was found. */
struct journal_run {
    bson_oid_t run;
    int64_t count;   /* batches that there were */
    uint64_t *units; /* found: units[n - 1] of batch n, 0 where it is not there */
    int64_t found;
    uint64_t oldest_ms; /* when the oldest one that was found had ended */
};

/* Allocates units. */
MUST_CHECK enum status journal_run_open(struct journal_run *run, const bson_oid_t *id,
                                        int64_t count, struct error *ret_error);
void journal_run_close(struct journal_run *run);

/*
 * Looks through all units for the batches of `runs` on `database`. Errors: those of reading the
 * journal; STATUS_INVALID: it is encrypted, and was opened without its key.
 */
MUST_CHECK enum status journal_search(struct wal *wal, const char *database,
                                      struct journal_run *runs, size_t run_count,
                                      struct error *ret_error);

#endif
