#ifndef HOLDFAST_BOUNDARY_OUTCOME_H
#define HOLDFAST_BOUNDARY_OUTCOME_H

/* How a session's transaction number ended, as the journal remembers it: also after a restart. */

#include <bson/bson.h>

#include "boundary/request.h"

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

#endif
