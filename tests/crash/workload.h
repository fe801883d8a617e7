#ifndef HOLDFAST_TESTS_CRASH_WORKLOAD_H
#define HOLDFAST_TESTS_CRASH_WORKLOAD_H

/*
 * Units as a busy proxy makes them, and the check that a journal holds what it promised of them.
 *
 * Each record that was ever completed is remembered under its LSN; its payload follows from a seed,
 * so that it can be compared byte for byte.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/wal.h"

enum {
    WORKLOAD_RECORDS_MAX = 8192,
    WORKLOAD_PRUNES_MAX = 32,
    WORKLOAD_ACKNOWLEDGED = 1, /* mark: the last LSN of a group that was reported durable */
    WORKLOAD_PRUNE = 2,        /* mark: everything that ended is about to be removed */
};

struct workload_record {
    uint64_t unit; /* 0: no such record */
    enum wal_kind kind;
    uint32_t payload_size;
    bool ends_group;
};

struct workload {
    struct workload_record records[WORKLOAD_RECORDS_MAX]; /* by LSN */
    uint64_t last_lsn;
    uint64_t failed; /* groups that were not completed with STATUS_OK */
    struct {
        size_t place; /* in the recording */
        uint64_t last_lsn;
    } prunes[WORKLOAD_PRUNES_MAX];
    unsigned prune_count;
};

/*
 * Appends `groups` groups from several threads at once: units of one and of several groups, small
 * and large records, some left open. Marks each acknowledgement in the recording.
 */
void workload_run(struct workload *workload, struct wal *wal, unsigned groups, uint64_t seed);

/* Begins one unit, alone. Begun again under the same number after it failed, it is the same. */
enum status workload_begin(struct workload *workload, struct wal *wal);

/* One unit with more records than retention removes in one transaction. */
void workload_long_unit(struct workload *workload, struct wal *wal);

/* Removes every unit that ended. */
void workload_prune(struct workload *workload, struct wal *wal);

/* What a journal must hold. */
struct workload_promise {
    uint64_t acknowledged; /* every group up to this LSN */
    size_t place;          /* in the recording: units that ended before a prune that began before
                              this place may be gone */
};

/*
 * Opens the journal in `directory`, reads everything, appends once more. False, with the reason in
 * `why`, if it is damaged, cannot be opened, or holds anything but: the groups up to some LSN not
 * below promise->acknowledged, all of them, whole.
 */
bool workload_check(const struct workload *workload, const char *directory,
                    const struct workload_promise *promise, char *why, size_t why_size);

#endif
