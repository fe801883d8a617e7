#ifndef HOLDFAST_RECOVER_STATE_H
#define HOLDFAST_RECOVER_STATE_H

/*
 * The documents of holdfast.state as they go over the wire; private to this folder. What identity
 * and lease say is here, and their rules in lease.c; others are probe.c's and restore_point.c's.
 */

#include <bson/bson.h>

#include "recover/lease.h"

/* Reads the document `id`, and hands it to `take` if there is one. */
MUST_CHECK enum status state_find(struct upstream *upstream, const char *id,
                                  void (*take)(const bson_t *document, void *context),
                                  void *context, struct error *ret_error);

struct state_update {
    const bson_t *query;  /* with the _id */
    const bson_t *change; /* a whole document or operators */
    bool upsert;
    bool durable; /* answered once it is on the server's disk, where the server has a journal */
};

/* *ret_matched: how many documents met the query, or were made. */
MUST_CHECK enum status state_update_run(struct upstream *upstream,
                                        const struct state_update *update, int64_t *ret_matched,
                                        struct error *ret_error);

struct state_identity {
    bool exists;
    uint8_t id[12];
};

MUST_CHECK enum status state_read_identity(struct upstream *upstream,
                                           struct state_identity *ret_identity,
                                           struct error *ret_error);

/* Makes the identity `id` if there is none; *ret_identity is what is there afterwards. */
MUST_CHECK enum status state_make_identity(struct upstream *upstream, const uint8_t id[12],
                                           struct state_identity *ret_identity,
                                           struct error *ret_error);

/* What a new owner writes into the lease. */
struct state_owner {
    const char *journal;
    int64_t epoch;
    const char *owner;
    const char *host;
    int32_t pid;
    int64_t last_lsn;
    const struct wal_place *place;
};

/*
 * Takes the lease if it still stands as in `seen` (or still does not exist). *ret_taken false:
 * somebody was faster, or it was renewed; read it again.
 */
MUST_CHECK enum status state_take_lease(struct upstream *upstream, const struct lease_state *seen,
                                        const struct state_owner *owner, bool *ret_taken,
                                        struct error *ret_error);

/* Renews our lease; *ret_ours false: it is not ours any more. */
MUST_CHECK enum status state_renew_lease(struct upstream *upstream, const struct lease *lease,
                                         uint64_t last_lsn, uint32_t units_open, bool clean,
                                         bool *ret_ours, struct error *ret_error);

#endif
