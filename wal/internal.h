#ifndef HOLDFAST_WAL_INTERNAL_H
#define HOLDFAST_WAL_INTERNAL_H

/*
 * What the parts of the open journal share. Private to wal/.
 *
 *   wal.c        open, close, properties, figures
 *   make.c       making a journal
 *   append.c     the queue and the writer thread
 *   commit.c     batches and checkpoints; calls batch.c to put groups into a transaction
 *   tail*.c      the newest groups, before the tables have them
 *   read.c       readers
 *   statistics.c figures
 *   retention.c  pruning, as tasks of the writer thread
 *   compact.c    the compacting copy; settle.c before it puts the tail into the tables
 *   scan*.c      verification, in a child process
 *   encryption.c the journal's data keys; cipher.c encrypts, key_file.c reads the key
 *   place.c      where the journal's file is
 *   pages*.c     the pages of data.mdb without LMDB
 *   salvage*.c   a new journal out of what is intact in a damaged one
 */

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/histogram.h"
#include "holdfast/wal.h"
#include "wal/format.h"
#include "wal/store.h"
#include "wal/tail.h"

struct cipher;
struct committer;
struct writer;

struct wal {
    /* fixed from wal_open() on */
    struct store *store;
    struct writer *writer; /* NULL: read-only */
    char *directory;
    int lock_descriptor; /* the owner's lock, or the readers' */
    bool read_only;
    bool was_clean;
    uint64_t quota_bytes;
    uint64_t reserve_bytes;
    uint8_t id[WAL_JOURNAL_ID_BYTES];
    struct wal_place place;
    struct cipher *cipher; /* NULL: opened without a key file */
    uint32_t version;      /* of the format; the writer thread's, once it runs */
    /* written by the writer thread (unit_next: by any), read by any */
    _Atomic uint64_t last_lsn; /* durable */
    _Atomic uint64_t unit_next;
    _Atomic uint64_t batches;
    _Atomic uint64_t groups;
    struct histogram commits; /* how long a batch took to be durable */
    pthread_mutex_t view_lock;
    struct tail_view *view;     /* under it; NULL: read-only */
    _Atomic bool short_of_room; /* the last BEGIN or WRITE found none */
    _Atomic bool failed;        /* the disk: nobody may sync or write any more */
};

/*
 * The writer thread runs a task in a write transaction of its own, after what was appended before.
 * The transaction is committed if `run` returns STATUS_OK, else aborted.
 */
struct writer_task {
    enum status (*run)(struct wal *wal, struct store_transaction *transaction, void *context,
                       struct error *ret_error);
    void *context;
};

/* Takes `committer` over; it is freed on failure, too. */
MUST_CHECK enum status writer_start(struct wal *wal, struct committer *committer,
                                    struct writer **ret_writer, struct error *ret_error);
/* Waits until the queue is empty and the tables have everything that there is room for, then ends
   the thread. NULL is
 * harmless; returns NULL. */
struct writer *writer_stop(struct writer *writer);

/* True if a later group may get in: nothing is wrong with what the disk holds. LMDB gives a
   transaction up cleanly when memory is short, as it does when the disk is full. */
static inline bool status_is_lack_of_room(enum status status)
{
    return status == STATUS_FULL || status == STATUS_MEMORY;
}

/* True after a failure of the disk, which is final. */
bool writer_has_failed(struct writer *writer);

/* Waits. STATUS_IO after an earlier failure of the disk; else what the task or its commit says. */
MUST_CHECK enum status writer_run(struct writer *writer, const struct writer_task *task,
                                  struct error *ret_error);

/* Version, id, clean mark and numbers as the tables have them. STATUS_CORRUPT and the store's
 * errors.
 */
MUST_CHECK enum status wal_identity_read(struct wal *wal, struct store_transaction *transaction,
                                         struct error *ret_error);
/* What an opening for writing and a clean close leave for the next one. */
MUST_CHECK enum status wal_mark(struct store_transaction *transaction, uint8_t clean,
                                uint32_t version, struct error *ret_error);

/* A reader (read.c): what the tables have, and over it what only the tail has. */
struct wal_reader {
    struct wal *wal;
    struct store_transaction *transaction;
    struct tail_view *view; /* held; NULL: there is nothing in it */
    struct tail_window window;
    struct opened *opened; /* payloads that were decrypted, the newest first */
};

/* As wal_read_unit_next(), with the whole row. */
MUST_CHECK enum status reader_unit_next(struct wal_reader *reader, uint64_t after_unit,
                                        struct format_unit *ret_row, struct error *ret_error);

/*
 * Makes the journal in `directory`, which holds none: a power cut leaves all of it or nothing.
 * Errors: STATUS_FULL, STATUS_IO, STATUS_INVALID (path too long).
 */
MUST_CHECK enum status make_journal(const char *directory, struct error *ret_error);

/* A file that is written where nobody looks for it, and gets its name when it is whole. */
struct make_files {
    char place[PATH_MAX]; /* DIRECTORY/journal.new/ */
    char made[PATH_MAX];  /* DIRECTORY/journal.new/data.mdb */
    char data[PATH_MAX];  /* DIRECTORY/data.mdb */
};

/* STATUS_INVALID: a path is too long. */
MUST_CHECK enum status make_files_name(const char *directory, struct make_files *ret_files,
                                       struct error *ret_error);
/* Makes the directory journal.new/, or empties it. STATUS_IO, STATUS_INVALID. */
MUST_CHECK enum status make_place(const struct make_files *files, struct error *ret_error);
/* The file gets its name, in place of what had it. It is not synced. STATUS_IO. */
MUST_CHECK enum status make_put_in_place(const struct make_files *files, struct error *ret_error);
/* Removes journal.new/ as far as possible: what stays does no harm. */
void make_place_remove(const struct make_files *files);

/*
 * Opens the key file, if one is named, and takes over the journal's data keys. To read only.
 * Errors: as cipher_open() and cipher_learn().
 */
MUST_CHECK enum status encryption_learn(struct wal *wal, struct store_transaction *transaction,
                                        const char *key_file, struct error *ret_error);
/*
 * For writing: a data key of this opening's own as well, and the property that has it.
 * STATUS_INVALID: the journal is encrypted, and no key file is named.
 */
MUST_CHECK enum status encryption_begin(struct wal *wal, struct store_transaction *transaction,
                                        const char *key_file, struct error *ret_error);

/* wal_verify() without the readers' lock. `without_tail`: a data.mdb that is not in its place yet,
   beside which there is none. */
MUST_CHECK enum status scan_verify(const char *directory, bool without_tail,
                                   struct wal_verification *ret_verification,
                                   struct error *ret_error);

/*
 * Puts what is in the tail alone into the tables, durably. Under the owner's lock, of a journal
 * that was found sound; `file_bytes`: of data.mdb. Errors: those of the store, STATUS_CORRUPT.
 */
MUST_CHECK enum status settle_tail(const char *directory, uint64_t file_bytes,
                                   struct error *ret_error);

/*
 * Checks in a child process what opening and recovery are going to read: see scan.c. STATUS_OK,
 * STATUS_CORRUPT, STATUS_VERSION and the errors of store_open().
 */
MUST_CHECK enum status scan_check_before_open(const char *directory, bool read_only,
                                              struct error *ret_error);

#endif
