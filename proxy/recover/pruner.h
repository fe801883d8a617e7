#ifndef HOLDFAST_RECOVER_PRUNER_H
#define HOLDFAST_RECOVER_PRUNER_H

/*
 * Retention in the living proxy: a thread that prunes the journal once in a while, or when somebody
 * asks. Its backlog keeps nobody waiting: each transaction is short, and it pauses for as long as
 * one took, so that half of the disk's time is left to those who append.
 *
 * pruner_start() and pruner_stop() on one thread, all else on any.
 */

#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"

struct pruner;

struct pruner_options {
    struct wal *wal; /* outlives the pruner */
    uint64_t period_ms;
    uint64_t retention_ms;
    /* Up to which LSN the server has itself made everything durable: units whose last record is
       newer stay. Asked before each round, on any thread. NULL: whatever has ended may go. */
    uint64_t (*settled_lsn)(void *context);
    uint64_t requests_keep_ms; /* units of requests stay so long (holdfast/request_key.h); 0: as
                                  all others */
    /* What one round came to, on the pruner's thread. `failure` NULL: it went well. */
    void (*pruned)(uint64_t units, const struct error *failure, void *context);
    void *context;
};

/* Errors: STATUS_MEMORY, STATUS_LIMIT (no thread). The caller gives *ret_pruner to pruner_stop().
 */
MUST_CHECK enum status pruner_start(const struct pruner_options *options,
                                    struct pruner **ret_pruner, struct error *ret_error);
/* Ends it behind the transaction at hand. NULL is harmless; returns NULL. */
struct pruner *pruner_stop(struct pruner *pruner);

/* From the next round on, which comes at once. */
void pruner_set_retention(struct pruner *pruner, uint64_t retention_ms);

/*
 * Has units that ended before `ended_before_ms` removed, by a round that begins at once; 0: by
 * retention, as ever. *ret_options: what that round goes by (wal_prune_count() tells when it is
 * done). Does not wait for it.
 */
void pruner_ask(struct pruner *pruner, uint64_t ended_before_ms,
                struct wal_prune_options *ret_options);

/*
 * Until `until_ms` (monotonic) nothing goes whose last record is newer than `lsn`: for a backup
 * that will need it. The last call counts; until_ms 0 ends it.
 */
void pruner_keep(struct pruner *pruner, uint64_t lsn, uint64_t until_ms);

#endif
