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
 * Puts the tail that a former owner left into `transaction`; `wal` has its store, id, version and
 * numbers, which are raised. STATUS_CORRUPT: the tail does not continue the tables. Errors: those
 * of the store, and of tail_read().
 */
MUST_CHECK enum status committer_recover(struct wal *wal, const char *directory,
                                         struct store_transaction *transaction,
                                         struct error *ret_error);

/*
 * After the commit of what committer_recover() has put: begins the tail anew. Where the disk has no
 * room for it, it is done without. `with_sync`: durability `power`. STATUS_MEMORY, STATUS_IO.
 */
MUST_CHECK enum status committer_new(struct wal *wal, const char *directory, bool with_sync,
                                     struct committer **ret_committer, struct error *ret_error);
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
