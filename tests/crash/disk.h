#ifndef HOLDFAST_TESTS_CRASH_DISK_H
#define HOLDFAST_TESTS_CRASH_DISK_H

/*
 * What a disk may hold of data.mdb and tail.wal after a power cut, played forward along a
 * recording.
 *
 * What is assumed of a disk, and nothing more:
 *  - a sector of 512 bytes is written whole or not at all;
 *  - a sync that returned without an error has made durable what was written to that file before
 *    it began, and says nothing about other files;
 *  - a write by a descriptor with O_DSYNC that returned without an error is durable itself, and
 *    says nothing about others;
 *  - until then each sector, alone, holds any of the contents it had since it was last durable:
 *    writes are kept, lost, reordered and torn as the disk likes. The file's size likewise;
 *  - a file that was renamed has its old or its new name until its directory was synced, and what
 *    had the new name before has it until then; each file that was renamed by itself;
 *  - after a sync that failed the kernel may have given the sectors up: later syncs do not make
 *    them durable, unless they are written once more.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage.h"

/* How a power cut treats what was not durable. */
enum disk_cut {
    DISK_CUT_LOSES,    /* nothing of it is there */
    DISK_CUT_KEEPS,    /* all of it is there */
    DISK_CUT_REORDERS, /* each write is there or not, whole */
    DISK_CUT_TEARS,    /* the writes up to a random one are there, that one in part */
    DISK_CUT_MIXES,    /* each sector has any of its contents */
    DISK_CUT_COUNT
};

const char *disk_cut_name(enum disk_cut cut);

struct disk;

struct disk *disk_new(const struct storage_trace *trace);
/* NULL is harmless; returns NULL. */
struct disk *disk_free(struct disk *disk);

/*
 * Plays the recording on so that the events before `place` are done and the one at `place` is on
 * its way: its bytes may have reached the disk, but it has not returned. Only ever forward.
 */
void disk_play_until(struct disk *disk, size_t place);

/*
 * Writes what a power cut at this moment leaves into the empty directory `directory`: data.mdb or
 * journal.new/data.mdb, and where there are any tail.wal and tail.wal.new. `tables` and `tail` say
 * how each of the two files is treated. `seed` is moved on.
 */
void disk_cut_power(const struct disk *disk, enum disk_cut tables, enum disk_cut tail,
                    uint64_t *seed, const char *directory);

#endif
