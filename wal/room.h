#ifndef HOLDFAST_WAL_ROOM_H
#define HOLDFAST_WAL_ROOM_H

/*
 * What lies ready behind the last page of the journal's file. Private to store.c.
 *
 *     ... pages | zeros: written | ballast: allocated
 *               ^ end            ^ zeroed_end         ^ allocated_end
 *
 * The ballast keeps blocks of the disk, so that units can still be ended on a disk that somebody
 * else filled. The zeros make a commit cheaper: a page that is written where there is one already
 * changes neither the file's size nor its extents, so that its sync writes data alone. A page that
 * makes the file longer costs a write of the inode in every sync, and of the journal of the file
 * system, if it has one.
 *
 * What LMDB never used is behind its last page, so nobody reads the zeros, and it does not matter
 * what a power cut leaves of them.
 *
 * Thread: the one that writes, between transactions.
 */

#include <stdbool.h>
#include <stdint.h>

struct room {
    bool with_zeros; /* filled in by the owner: there are syncs to be made cheaper */
    /* private; 0 at first */
    bool unsupported; /* the file system allocates nothing beforehand */
    uint64_t allocated_end;
    uint64_t zeroed_end;
};

/* How much of a nearly full disk is kept for ending units. */
#define ROOM_BALLAST_BYTES ((uint64_t)16 << 20)

/*
 * `end`: behind the last page ever used. Returns an errno if the disk fails, else 0, and whether
 * there is a ballast: without one the disk is too full.
 */
int room_keep(struct room *room, int descriptor, uint64_t end, bool *ret_kept);

#endif
