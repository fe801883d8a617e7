#ifndef HOLDFAST_WAL_COMMIT_H
#define HOLDFAST_WAL_COMMIT_H

/*
 * From groups to what is durable: batches, and checkpoints. Private to wal/; the writer thread's,
 * once it runs.
 *
 * A batch becomes durable as a frame of the tail (tail.h), while its transaction of the store stays
 * open for the next one; or, where it is large or the tail has no room, by the commit of that
 * transaction. The first costs one barrier of the disk, the second two and a page for each that was
 * touched, and has all batches since the last checkpoint in it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "wal/store.h"

struct committer;

/*
 * In the transaction that opens the journal for writing: puts the tail that a former owner left
 * into it, and makes the file if there is none. `wal` has its store, id, version and numbers, which
 * are raised. `with_sync`: durability `power`. STATUS_CORRUPT: the tail does not continue the
 * tables, or there should be one and is none. Errors: those of the store, STATUS_IO, STATUS_MEMORY.
 */
MUST_CHECK enum status committer_new(struct wal *wal, struct store_transaction *transaction,
                                     bool with_sync, struct committer **ret_committer,
                                     struct error *ret_error);
/* After the commit of that: the tail begins anew. STATUS_IO. */
MUST_CHECK enum status committer_start(struct committer *committer, struct error *ret_error);
/* What is not in the tables stays in the tail. NULL is harmless; returns NULL. */
struct committer *committer_free(struct committer *committer);

/*
 * Makes `count` groups, linked by queue_next, durable. STATUS_OK: each has its own status; else
 * none of them is there. STATUS_FULL, STATUS_MEMORY: later ones may get in. Any other failure is
 * final.
 */
MUST_CHECK enum status committer_write(struct committer *committer, struct wal_append *first,
                                       size_t count, struct error *ret_error);

/* Everything into the tables, durably. Errors: as committer_write(); nothing is lost. */
MUST_CHECK enum status committer_checkpoint(struct committer *committer, struct error *ret_error);

/* Whether there is something for a checkpoint to do. */
bool committer_is_behind(const struct committer *committer);

/* How long it took to make the last batch durable. */
uint64_t committer_last_us(const struct committer *committer);

#endif
