#ifndef HOLDFAST_RECOVER_LEASE_H
#define HOLDFAST_RECOVER_LEASE_H

/*
 * Whose database this is, and whose it is to write to: two documents in the collection
 * holdfast.state on the server.
 *
 *   { _id: "identity", id: ObjectId }     made once; every journal of this database remembers it
 *   { _id: "lease", journal: "<hex of the journal's id>", epoch: Int64, owner: "...", host: "...",
 *     pid: Int32, lastLsn: Int64, clean: Bool, unitsOpen: Int32, renewedAt: Date,
 *     file: "...", place: "..." }       where the journal's file is: see struct wal_place
 *
 * The lease says which journal knows everything about the units of this database. A journal keeps
 * the identity and its own epoch as properties. Together they recognise
 *   - a journal of another database (the identity differs),
 *   - a database that was emptied or restored from a dump (its identity is gone),
 *   - a second proxy with a journal of its own (the lease names another journal),
 *   - an older copy of this journal (the lease knows a newer LSN, or a newer epoch),
 *   - any copy of it made after its last owner began: nobody but the operator can say whether all
 *     that the owner wrote until it died is in there.
 *
 * Time is the server's alone: renewedAt is set and compared by its clock.
 *
 * What a lease alone cannot do: stop an owner that was suspended and wakes up from sending what it
 * has already prepared. That is what lease_keeper.h is for; a successor waits LEASE_VALID_MS and
 * fences (fence.h).
 *
 * Every change is one findAndModify that compares epoch, journal and time of renewal.
 * Threads: those of the struct upstream that is handed in.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "upstream/upstream.h"

#define LEASE_RENEW_MS 2000u
/* A lease that was not renewed for so long belongs to nobody alive. */
#define LEASE_VALID_MS 10000u
/* How long a journal that was closed cleanly still answers for its commits: a session's timeout. */
#define LEASE_REMEMBERED_MS (30u * 60u * 1000u)

#define LEASE_JOURNAL_TEXT_BYTES (2 * WAL_JOURNAL_ID_BYTES + 1)

/* Names of the journal's properties. */
#define LEASE_PROPERTY_IDENTITY "upstream.identity" /* 12 bytes, an ObjectId */
#define LEASE_PROPERTY_EPOCH "owner.epoch"          /* 8 bytes, big-endian */

struct lease_options {
    const char *takeover; /* the journal id the operator vouches for, in hex; NULL or "": none */
    uint64_t wait_ms;     /* how long to wait for a lease that still looks alive; not if it is
                             renewed meanwhile: then it is */
    const char *owner;    /* shown to whoever is refused, for example "holdfastd on :27018" */
    bool look_only;       /* apply all rules, change nothing: neither here nor on the server */
};

struct lease {
    char journal[LEASE_JOURNAL_TEXT_BYTES];
    int64_t epoch;        /* of this ownership; 0 after look_only */
    uint8_t identity[12]; /* the database's; zeros after look_only of a database without one */
    bool vouched;        /* the operator says that this journal belongs here, whatever is missing */
    bool former_unclean; /* a journal that is not ours was left uncleanly and vouched for: its
                            connections are not known, so wait for them blindly (fence.h) */
    struct wal_place place; /* of the journal's file */
};

/* The lease as it stands on the server. */
struct lease_state {
    bool exists;
    char journal[LEASE_JOURNAL_TEXT_BYTES];
    int64_t epoch;
    char owner[256];
    char host[256];
    int32_t pid;
    int64_t last_lsn;
    int32_t units_open;
    bool clean;
    struct wal_place place; /* of its journal's file */
    int64_t renewed_at_ms;  /* the server's clock */
    int64_t age_ms;         /* since then, by the server's clock */
};

/*
 * Makes the journal of `wal` (which must be open for writing, except with look_only) the owner of
 * the database.
 *
 * Errors: STATUS_FOREIGN (the journal belongs to another database, is a stale copy, or another
 * journal knows more; the message says what to do), STATUS_OWNED (another proxy renewed its lease
 * within LEASE_VALID_MS, and did so again or wait_ms is over; names it), and those of upstream.h
 * and of wal_property_set().
 */
MUST_CHECK enum status lease_acquire(struct upstream *upstream, struct wal *wal,
                                     const struct lease_options *options, struct lease *ret_lease,
                                     struct error *ret_error);

/*
 * Only what lease_acquire() looks at first: that journal and database belong together, for an
 * engine that needs no lease. Makes the identity, and the journal remembers it. Of the options
 * `takeover` and `look_only` count. Errors: as lease_acquire(), without STATUS_OWNED.
 */
MUST_CHECK enum status lease_identify(struct upstream *upstream, struct wal *wal,
                                      const struct lease_options *options, struct error *ret_error);

/*
 * After a restart of the server, by who had the lease before it: the server may have lost that it
 * was given. Takes it again, under the same epoch, if nobody has a newer one. STATUS_OWNED:
 * somebody has. STATUS_FOREIGN: the server is not the same database any more.
 */
MUST_CHECK enum status lease_regain(struct upstream *upstream, struct wal *wal,
                                    const struct lease *lease, struct error *ret_error);

/* Tells the server that we live. STATUS_OWNED: somebody else has taken the lease; stop writing. */
MUST_CHECK enum status lease_renew(struct upstream *upstream, const struct lease *lease,
                                   uint64_t last_lsn, uint32_t units_open, struct error *ret_error);

/*
 * Gives the lease back. `clean`: no unit is open, so another journal may take over. STATUS_OWNED as
 * in lease_renew().
 */
MUST_CHECK enum status lease_release(struct upstream *upstream, const struct lease *lease,
                                     uint64_t last_lsn, uint32_t units_open, bool clean,
                                     struct error *ret_error);

/* Reads the lease as it stands; a database without one is no error. */
MUST_CHECK enum status lease_read(struct upstream *upstream, struct lease_state *ret_state,
                                  struct error *ret_error);

/* "0123abcd..." of a journal's id. */
void lease_journal_text(const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                        char ret_text[LEASE_JOURNAL_TEXT_BYTES]);

#endif
