#ifndef HOLDFAST_UPSTREAM_SELECTION_H
#define HOLDFAST_UPSTREAM_SELECTION_H

/*
 * Which members of a replica set a read may go to (driver specification: Server Selection; Max
 * Staleness), as a mongos would choose.
 *
 *   mode     primary: nobody asks here · primaryPreferred: the primary, else secondaries
 *            secondary · secondaryPreferred: secondaries, else the primary · nearest: both
 *   fresh    secondaries that are not further behind than maxStalenessSeconds
 *   tags     of a list of tag sets the first that somebody has counts
 *   near     of these the nearest, and those that are no more than the threshold further away
 *
 * Pure; any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/slice.h"

/* As `maxStalenessSeconds` of the specification: less is an error, which the server tells. */
#define SELECTION_STALENESS_SECONDS_MIN 90

enum selection_mode {
    SELECTION_PRIMARY_PREFERRED,
    SELECTION_SECONDARY,
    SELECTION_SECONDARY_PREFERRED,
    SELECTION_NEAREST,
};

struct selection_preference {
    enum selection_mode mode;
    struct slice tags;    /* the array; size 0: none. Points into the command */
    int64_t staleness_ms; /* 0: any */
};

/* A member that is a primary or a secondary. */
struct selection_member {
    bool primary;
    struct slice tags;     /* a document; size 0: none */
    int64_t last_write_ms; /* by its own wall clock */
    int64_t seen_ms;       /* when it said so, by ours, monotonic */
    int64_t round_trip_ms;
};

/* "secondary". */
const char *selection_mode_name(enum selection_mode mode);

/*
 * Of `$readPreference`. False: it is the primary's, or not valid, of which the server tells its
 * client.
 */
bool selection_preference_parse(struct slice document, struct selection_preference *ret_preference);

/* How many of the members may take it; ret_indexes (room for `count`) says which. `heartbeat_ms`:
   between two looks at a member. */
size_t selection_find(const struct selection_member *members, size_t count,
                      const struct selection_preference *preference, int64_t heartbeat_ms,
                      int64_t threshold_ms, size_t *ret_indexes);

#endif
