#ifndef HOLDFAST_RECOVER_RESOLVE_H
#define HOLDFAST_RECOVER_RESOLVE_H

/*
 * An operator's decision about a unit in conflict: keep what is there, restore what was there
 * before the unit, or apply what the unit wrote.
 *
 * The decision is carried out by a unit of its own, so that a crash in the middle leaves the
 * conflict as it was: recovery rolls that unit back.
 *
 *     look --> BEGIN, WRITE ... durable --> each document replaced, guarded --> COMMIT of this unit
 *                                                 |                            and end of the
 * conflict, v                            in one group not as it was looked at: rolled back, the
 * conflict stays
 *
 * Preconditions: the journal is open for writing, the lease is ours (lease.h), no unit is open, and
 * nobody else writes to these documents through the proxy.
 *
 * Crash points: resolve_journaled, resolve_replaced (once per document).
 */

#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/wal.h"
#include "recover/history.h"
#include "upstream/upstream.h"

enum resolve_choice {
    RESOLVE_KEEP,    /* touches no document */
    RESOLVE_RESTORE, /* as before the unit: it then counts as rolled back */
    RESOLVE_APPLY,   /* as the unit left them: it then counts as committed */
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
};

struct resolve_plan {
    struct unit_history *history; /* its journal may be closed: no image of it is read any more */
    struct resolve_document *documents;
    size_t document_count;
};

/*
 * Reads the unit and its documents. Changes nothing but the scratch collection. The caller gives
 * *ret_plan to resolve_plan_free().
 *
 * Errors: STATUS_NOT_FOUND (no such unit), STATUS_INVALID (it is not in conflict), STATUS_CORRUPT,
 * STATUS_MEMORY, those of upstream.h.
 */
MUST_CHECK enum status resolve_look(struct wal *wal, struct upstream *upstream, uint64_t unit,
                                    struct resolve_plan *ret_plan, struct error *ret_error);

void resolve_plan_free(struct resolve_plan *plan);

/* What the document becomes; UNKNOWN if `choice` cannot be carried out for it. */
struct image resolve_wanted(const struct resolve_document *document, enum resolve_choice choice);

/*
 * Carries the decision out on the documents as the plan found them. *ret_changed: how many were
 * replaced.
 *
 * Errors: STATUS_CONFLICT (a document is not any more what the plan found, or the server does not
 * take what is wanted; everything is as it was, and the unit still in conflict), STATUS_INVALID (an
 * after-image is UNKNOWN), STATUS_FULL, STATUS_IO, STATUS_MEMORY, those of upstream.h. After
 * STATUS_UNREACHABLE the next recovery rolls back what was begun.
 */
MUST_CHECK enum status resolve_carry_out(struct wal *wal, struct upstream *upstream,
                                         const struct resolve_plan *plan,
                                         enum resolve_choice choice, size_t *ret_changed,
                                         struct error *ret_error);

#endif
