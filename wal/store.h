#ifndef HOLDFAST_WAL_STORE_H
#define HOLDFAST_WAL_STORE_H

/*
 * The store under the journal: five ordered tables in one LMDB environment. Private to wal/.
 *
 * Ownership: slices that come out point into LMDB's map. They are valid until the transaction ends,
 * in a write transaction until the next change.
 * Threads: a write transaction belongs to the thread that began it and there is one at a time; a
 * read transaction may move between threads but is used by one at a time. Different read
 * transactions are independent.
 * Errors, everywhere: STATUS_NOT_FOUND, STATUS_CORRUPT (LMDB noticed that its pages contradict each
 * other), STATUS_FULL (map or disk; in a write transaction the only thing left is to abort),
 * STATUS_LIMIT (too many readers), STATUS_IO.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "holdfast/wal.h"

#define STORE_TABLE_LIST(X)                                                                        \
    X(RECORDS, "records")                                                                          \
    X(UNITS, "units")                                                                              \
    X(OPEN, "open")                                                                                \
    X(SESSIONS, "sessions")                                                                        \
    X(PROPERTIES, "properties")

enum store_table {
#define X(name, text) STORE_##name,
    STORE_TABLE_LIST(X)
#undef X
        STORE_TABLE_COUNT
};

struct store;
struct store_transaction;

struct store_options {
    const char *directory;
    uint64_t map_bytes; /* ignored if read_only: the map is as large as the file says */
    enum wal_durability durability;
    bool read_only;
    bool scattered; /* few pages far apart will be read: the kernel shall not read ahead */
};

/* What was found in the directory. */
enum store_content {
    STORE_NOTHING, /* no file, or one whose making was cut short before anything was in it */
    STORE_TABLES,  /* the tables of a journal */
};

/*
 * Opens the environment; makes its files if there are none and not read_only. STATUS_INVALID: the
 * environment holds something that is not a journal. STATUS_VERSION: another LMDB file format.
 * With `power` durability, what is visible then is on the disk.
 */
MUST_CHECK enum status store_open(const struct store_options *options, struct store **ret_store,
                                  enum store_content *ret_content, struct error *ret_error);
/* All transactions must have ended. NULL is harmless; returns NULL. */
struct store *store_close(struct store *store);

/* Makes the tables in a write transaction. Only after STORE_NOTHING; commit before anything else
   but writing rows in the same transaction. */
MUST_CHECK enum status store_make_tables(struct store_transaction *transaction,
                                         struct error *ret_error);

/* Waits until everything committed is on the disk, whatever the durability. */
MUST_CHECK enum status store_sync(struct store *store, struct error *ret_error);

/*
 * Writes what the store holds now into `directory`/data.mdb, which must not exist, without free
 * pages. Not synced. The store must be open to read only.
 */
MUST_CHECK enum status store_copy(struct store *store, const char *directory,
                                  struct error *ret_error);

/* Frees the reader slots of processes that died: they would keep freed pages from being used. */
void store_clear_stale_readers(struct store *store);

MUST_CHECK enum status store_begin(struct store *store, bool write,
                                   struct store_transaction **ret_transaction,
                                   struct error *ret_error);
/* Ends the transaction in any case; durable (see wal_durability) if STATUS_OK. */
MUST_CHECK enum status store_commit(struct store_transaction *transaction, struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct store_transaction *store_abort(struct store_transaction *transaction);

/* STATUS_NOT_FOUND leaves *ret_error alone: the caller knows better what is missing. */
MUST_CHECK enum status store_get(struct store_transaction *transaction, enum store_table table,
                                 struct slice key, struct slice *ret_value,
                                 struct error *ret_error);
/* The first row whose key is greater than `after`; size 0: the first row. */
MUST_CHECK enum status store_next(struct store_transaction *transaction, enum store_table table,
                                  struct slice after, struct slice *ret_key,
                                  struct slice *ret_value, struct error *ret_error);
MUST_CHECK enum status store_last(struct store_transaction *transaction, enum store_table table,
                                  struct slice *ret_key, struct slice *ret_value,
                                  struct error *ret_error);
/* Adds or replaces a row. */
MUST_CHECK enum status store_put(struct store_transaction *transaction, enum store_table table,
                                 struct slice key, struct slice value, struct error *ret_error);
/*
 * Adds a row behind all others and gives the room for its value, to be filled in before anything
 * else is done in the transaction. STATUS_CORRUPT if the key is not greater than all others.
 */
MUST_CHECK enum status store_append(struct store_transaction *transaction, enum store_table table,
                                    struct slice key, size_t value_size, uint8_t **ret_room,
                                    struct error *ret_error);
MUST_CHECK enum status store_delete(struct store_transaction *transaction, enum store_table table,
                                    struct slice key, struct error *ret_error);

struct store_usage {
    uint64_t page_bytes;
    uint64_t used_bytes; /* of pages in use, without pages free for use again */
    uint64_t file_bytes; /* up to the last page ever used, as of the last commit */
    uint64_t map_bytes;
    uint64_t commits; /* since the environment was made; a write transaction counts itself */
};

/* As of the transaction. Costs a few memory reads. */
MUST_CHECK enum status store_usage_get(struct store_transaction *transaction,
                                       struct store_usage *ret_usage, struct error *ret_error);
MUST_CHECK enum status store_entries(struct store_transaction *transaction, enum store_table table,
                                     uint64_t *ret_entries, struct error *ret_error);

/* Reads LMDB's list of free pages from end to end (verification only; read transactions). */
MUST_CHECK enum status store_check_free_pages(struct store_transaction *transaction,
                                              struct error *ret_error);

/*
 * Keeps some blocks of the disk ready behind the end of the file, where the file system can do that
 * (room.h), so that units can still be ended on a disk that somebody else filled. Call it between
 * transactions, on the thread that writes. *ret_kept false: the disk is too full to keep the
 * store's share, so nothing should be written but what ends units. Errors: as store_commit().
 */
MUST_CHECK enum status store_ballast_keep(struct store *store, bool *ret_kept,
                                          struct error *ret_error);

/* Whether the disk could take a ballast now. Any thread. */
bool store_disk_has_room(const struct store *store);

#endif
