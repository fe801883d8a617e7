#ifndef HOLDFAST_BOUNDARY_OUTCOME_H
#define HOLDFAST_BOUNDARY_OUTCOME_H

/* How a session's transaction number ended, as the journal remembers it: also after a restart. */

#include <bson/bson.h>

#include "boundary/request.h"
#include "holdfast/wal.h"

enum outcome {
    OUTCOME_NONE,        /* never begun here */
    OUTCOME_ROLLED_BACK, /* or about to be */
    OUTCOME_COMMITTED,   /* *reply holds what it was answered, if that was kept */
    OUTCOME_CONFLICT,    /* set aside for an operator */
    OUTCOME_TOO_OLD,     /* the session has gone on to a higher number */
    OUTCOME_UNREADABLE,
};

/*
 * Looks up the session and transaction number of the request. `reply`, an empty, initialised
 * document, gets a copy of the kept reply. Reads a few pages of the journal's map; no disk wait
 * beyond what a page fault costs.
 */
enum outcome outcome_find(const struct boundary_request *request, bson_t *reply);

/* The same for any key that units are found by. `reply` may be NULL. */
enum outcome outcome_find_key(struct wal *wal, const struct unit_session_key *key, int64_t number,
                              bson_t *reply);

/* The last record of a unit. Errors: those of wal_read_unit() and wal_read(). */
MUST_CHECK enum status outcome_read_last(struct wal_reader *reader, uint64_t unit,
                                         struct wal_record *ret_record, struct error *ret_error);

/* Of an aborted unit whether an operator has kept what it wrote, so that it is not to be run again
   on top. Errors: as outcome_read_last(). */
MUST_CHECK enum status outcome_read_kept(struct wal_reader *reader, uint64_t unit, bool *ret_kept,
                                         struct error *ret_error);

#endif
