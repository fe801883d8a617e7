#ifndef HOLDFAST_RECOVER_RESOLVE_H
#define HOLDFAST_RECOVER_RESOLVE_H

/*
 * An operator's decision about a unit in conflict, for each of its documents: keep what is there,
 * restore what was there before the unit, or apply what the unit wrote.
 *
 * The decision is carried out by a unit of its own, so that a crash in the middle leaves the
 * conflict as it was: recovery rolls that unit back.
 *
 *     look --> decide --> BEGIN, WRITE ... durable --> each document replaced, guarded
 *                                                       |                      |
 *                COMMIT of this unit and end of the conflict, in one group     |
 *                           not as it was looked at: rolled back, the conflict stays
 *
 * On a stopped proxy's journal resolve_carry_out() does it all; the living proxy takes the steps
 * one by one, with its locks around them (engine/resolver.h).
 *
 * Preconditions of all that changes something: the journal is open for writing, the lease is ours
 * (lease.h), and nobody else writes to these documents through the proxy: no unit is open, or their
 * locks are held.
 *
 * Crash points: resolve_journaled, resolve_replaced (once per document).
 */

#include <bson/bson.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/wal.h"
#include "recover/history.h"
#include "upstream/upstream.h"

enum resolve_choice {
    RESOLVE_KEEP,    /* touches no document */
    RESOLVE_RESTORE, /* as before the unit: if all are, it counts as rolled back */
    RESOLVE_APPLY,   /* as the unit left them: if all are, it counts as committed */
};

/* One document of the unit. Everything belongs to the plan. */
struct resolve_document {
    const char *namespace; /* "database.collection" */
    struct slice key;      /* {_id: value} */
    struct image before;   /* the unit's first write found this */
    struct image after;    /* its last write left this; UNKNOWN if not even the server can tell */
    struct image found;    /* what is there now */
    size_t first;          /* the unit's first write to it, and its last */
    size_t last;
    enum resolve_choice choice; /* KEEP until somebody chooses */
};

struct resolve_plan {
    struct unit_history *history; /* its journal may be closed: no image of it is read any more */
    struct resolve_document *documents;
    size_t document_count;
    enum resolve_choice choice; /* by resolve_choose(); what the unit counts as if all are alike */
};

/* Bytes of a plan's images: no bound. */
#define RESOLVE_BYTES_ANY SIZE_MAX

/*
 * Reads the unit and its documents. Changes nothing but the scratch collection. The caller gives
 * *ret_plan to resolve_plan_free().
 *
 * Errors: STATUS_NOT_FOUND (no such unit), STATUS_INVALID (it is not in conflict), STATUS_CORRUPT,
 * STATUS_MEMORY, STATUS_LIMIT (its images take more than bytes_max), those of upstream.h.
 */
MUST_CHECK enum status resolve_look(struct wal *wal, struct upstream *upstream, uint64_t unit,
                                    size_t bytes_max, struct resolve_plan *ret_plan,
                                    struct error *ret_error);

void resolve_plan_free(struct resolve_plan *plan);

/* The same choice for all documents; single ones may then be given another. */
void resolve_choose(struct resolve_plan *plan, enum resolve_choice choice);

/* What the document becomes; UNKNOWN if `choice` cannot be carried out for it. */
struct image resolve_wanted(const struct resolve_document *document, enum resolve_choice choice);

/* What that does to it as the plan found it, a literal: "stays", "replaced", "inserted", "removed",
   or "unknown" if it cannot be carried out. */
const char *resolve_effect(const struct resolve_document *document, enum resolve_choice choice);

/*
 * Carries the plan's choices out on the documents as the plan found them. *ret_changed: how many
 * were replaced.
 *
 * Errors: STATUS_CONFLICT (a document is not any more what the plan found, or the server does not
 * take what is wanted; everything is as it was, and the unit still in conflict), STATUS_INVALID (an
 * after-image is UNKNOWN), STATUS_FULL, STATUS_IO, STATUS_MEMORY, those of upstream.h. After
 * STATUS_UNREACHABLE the next recovery rolls back what was begun.
 */
MUST_CHECK enum status resolve_carry_out(struct wal *wal, struct upstream *upstream,
                                         const struct resolve_plan *plan, size_t *ret_changed,
                                         struct error *ret_error);

/* ------------------------------------------------------------------ step by step */

/* What is to be done. Everything belongs to it, but for the plan's images. */
struct resolve_decision {
    const struct resolve_plan *plan; /* outlives it */
    /* The documents that change, in the order in which they do. Of each the caller may set
       plain_probe. */
    struct record_write *writes;
    size_t write_count;
    uint64_t unit; /* that carries it out; to be set before resolve_journal() */
    /* private but for what resolve_journal() fills in: records[1 + i] is that of writes[i], with
       payloads[1 + i] */
    struct wal_append *records;
    bson_t *payloads;
    size_t payload_count;
};

/* STATUS_INVALID (an after-image that was chosen is UNKNOWN), STATUS_MEMORY. The caller gives
 *ret_decision to resolve_decision_free(), also after an error. */
MUST_CHECK enum status resolve_decide(const struct resolve_plan *plan,
                                      struct resolve_decision *ret_decision,
                                      struct error *ret_error);
void resolve_decision_free(struct resolve_decision *decision);

/* Makes BEGIN and WRITEs durable. Only if there are writes. Errors: those of wal_append(). */
MUST_CHECK enum status resolve_journal(struct wal *wal, struct resolve_decision *decision,
                                       struct error *ret_error);

/*
 * Replaces the documents. STATUS_CONFLICT: one has been changed meanwhile, or the server does not
 * take it; those before it are replaced, and the unit is to be rolled back, as after any other
 * error (upstream.h).
 */
MUST_CHECK enum status resolve_replace(struct upstream *upstream,
                                       const struct resolve_decision *decision,
                                       struct error *ret_error);

/* Ends the conflict, and the unit which carried it out if there are writes, in one group. Errors:
   those of wal_append(). */
MUST_CHECK enum status resolve_end(struct wal *wal, const struct resolve_decision *decision,
                                   struct error *ret_error);

#endif
