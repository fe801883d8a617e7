#ifndef HOLDFAST_UNIT_UNIT_CURSORS_H
#define HOLDFAST_UNIT_UNIT_CURSORS_H

/*
 * The open cursors of a unit. A read inside a unit is evaluated whole: what its client has not
 * asked for yet is kept here, so that later batches show the same moment as the first one. Only
 * what is beyond one reply of the server (16 MiB) stays there, as a cursor of the server's; that is
 * as good as long as no other unit has published anything in the gates that it reads
 * (unit/uncommitted.h).
 *
 * Memory: UNIT_KEPT_CURSORS_MAX cursors of a unit, and the documents, which the caller counts
 * against a bound of its own. They live and die with the unit. By who has it checked out; no locks.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

#define UNIT_KEPT_CURSORS_MAX 64u
#define UNIT_CURSOR_GATES_MAX 16u

struct unit_cursor {
    int64_t id;        /* as the client knows it; the server's if there is one behind */
    int64_t server_id; /* what comes behind the documents; 0: nothing */
    uint32_t gates[UNIT_CURSOR_GATES_MAX]; /* what that reads; none: it may show what is there */
    size_t gate_count;
    uint64_t stamp; /* of the gates together, without what the unit itself has published since */
    struct slice documents; /* not given yet, one behind the other; a part of `kept` */
    uint8_t *kept;          /* private, as what follows */
    size_t kept_size;
    struct unit_cursor *next;
    char namespace[]; /* of its replies */
};

/* Lies in the unit. Zero-initialised. */
struct unit_cursors {
    struct unit_cursor *first;
    size_t count;
    _Atomic uint64_t *bytes; /* of the documents of all units */
};

/*
 * `server_id` 0: it gets an id of its own. `documents` are copied; together with *bytes they may
 * not be more than `bytes_max`. *ret_cursor belongs to the unit. STATUS_LIMIT: too many cursors, or
 * too much. STATUS_MEMORY.
 */
MUST_CHECK enum status unit_cursors_add(struct unit_cursors *cursors, const char *namespace,
                                        int64_t server_id, struct slice documents,
                                        _Atomic uint64_t *bytes, uint64_t bytes_max,
                                        struct unit_cursor **ret_cursor);

/* NULL: none of the unit's. */
struct unit_cursor *unit_cursors_find(const struct unit_cursors *cursors, int64_t id);
void unit_cursors_remove(struct unit_cursors *cursors, struct unit_cursor *cursor);
/* All of them. */
void unit_cursors_free(struct unit_cursors *cursors);

/* The unit itself has published in this gate: no news to its cursors. */
void unit_cursors_published(struct unit_cursors *cursors, uint32_t gate);

#endif
