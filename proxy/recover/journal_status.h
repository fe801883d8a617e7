#ifndef HOLDFAST_RECOVER_JOURNAL_STATUS_H
#define HOLDFAST_RECOVER_JOURNAL_STATUS_H

/*
 * One look at the journal, as `holdfast status --json` and the admin server's /status both show it.
 * Any thread.
 */

#include <bson/bson.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "recover/lease.h"

struct journal_status {
    char journal[LEASE_JOURNAL_TEXT_BYTES];
    char identity[25]; /* of the database, in hex; "" before the first start */
    bool native;       /* a journal of the native engine */
    uint64_t epoch;
    bool clean; /* as wal_was_clean() */
    struct wal_statistics figures;
};

/* Errors: those of wal_property_get() and wal_statistics_get(). */
MUST_CHECK enum status journal_status_read(struct wal *wal, struct journal_status *ret_status,
                                           struct error *ret_error);

/*
 * Appends journal, identity, epoch, closedCleanly, records, firstLsn, lastLsn, usedBytes, unitsOpen
 * and unitsConflict to the document; of the native engine's also `engine`.
 */
void journal_status_append(bson_t *document, const struct journal_status *status);

#endif
