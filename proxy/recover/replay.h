#ifndef HOLDFAST_RECOVER_REPLAY_H
#define HOLDFAST_RECOVER_REPLAY_H

/*
 * Replay: brings a restored backup forward to what the journal says was committed up to an LSN.
 *
 * Of each document that units have written since, the journal knows a chain of images:
 *
 *     before ----- unit 5 -----> after ... before ---- unit 9, rolled back ----> after, before
 * again
 *
 * Whatever image of its chain the document is at is moved to the last committed one, in one step:
 *   - the after-image of the last unit that was committed by then; or
 *   - where a later unit was rolled back, is not committed by then, or in conflict, what that one
 *     found: a plain write may have come in between, and nobody wrote it down elsewhere.
 * So a backup that was taken while units were at work does as well, and so does a second replay,
 * which finds each document at its end. A document that is at none of its images somebody else has
 * written: a conflict; it is told of and stays as it is. So is one that the server will not take.
 *
 * A unit whose end the journal holds but whose documents are in conflict is brought forward in
 * part: look with `dry_run` first.
 *
 * Memory is bounded by memory_max: of a journal that does not fit, the documents are done in
 * portions, and the journal is read once for each.
 *
 * Threads: the caller's, which owns the struct upstream, and those that it starts and waits for.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/wal.h"
#include "upstream/upstream.h"

/* Some three million documents of one write each. */
#define REPLAY_MEMORY_BYTES ((size_t)1 << 30)
#define REPLAY_THREADS_MAX 16

struct replay_report {
    uint64_t units;     /* committed ones that were looked at */
    uint64_t writes;    /* of them and of those that were not committed */
    uint64_t documents; /* that they wrote */
    uint64_t in_place;  /* of these, those that were where they belong */
    uint64_t moved;     /* those that were moved there, or with dry_run would be */
    uint64_t conflicts; /* those that were not */
    uint64_t portions;
    uint64_t last_unit; /* how far the journal has been read, this portion */
};

struct replay_conflict {
    const char *namespace;
    struct slice key; /* {_id: value} */
    uint64_t unit;    /* the last one that wrote it */
    struct image found;
    struct image wanted; /* UNKNOWN: not even the journal knows */
    const char *reason;
};

struct replay_options {
    uint64_t from_lsn;  /* units that ended before are in the backup as a whole */
    uint64_t until_lsn; /* units that were committed after do not count, nor do writes after */
    bool dry_run;
    size_t memory_max; /* bytes; 0: REPLAY_MEMORY_BYTES */
    /* So many threads read the journal, then move documents, each by a connection of its own. */
    unsigned int threads; /* 1 to REPLAY_THREADS_MAX */
    const char *uri;
    uint64_t connect_ms;
    /* By one thread at a time, not always the caller's. May be NULL. */
    void (*conflict)(const struct replay_conflict *conflict, void *context);
    /* Often, on the caller's thread: to renew a lease, to say how far it is. Any status but OK ends
       the replay with it. May be NULL. */
    enum status (*step)(const struct replay_report *so_far, void *context, struct error *ret_error);
    void *context;
};

/*
 * *ret_report is filled in as far as it came, also on failure. May be interrupted and run again.
 * Errors: those of upstream.h and of reading the journal; STATUS_CORRUPT also where retention has
 * removed a unit meanwhile.
 */
MUST_CHECK enum status replay_run(struct wal *wal, struct upstream *upstream,
                                  const struct replay_options *options,
                                  struct replay_report *ret_report, struct error *ret_error);

#endif
