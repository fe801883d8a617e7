#ifndef HOLDFAST_WAL_DIRECTORY_H
#define HOLDFAST_WAL_DIRECTORY_H

/*
 * The journal's directory: making it, refusing those on which a journal is not safe, and the lock
 * that says who owns the journal. Private to wal/. Any thread.
 */

#include <stdbool.h>

#include "holdfast/error.h"

/* Makes the directory with mode 0700 if it is absent. STATUS_IO, STATUS_INVALID (not a directory).
 */
MUST_CHECK enum status directory_make(const char *path, struct error *ret_error);

/* Waits until the names in the directory, and its own name, are on the disk. STATUS_IO. */
MUST_CHECK enum status directory_sync(const char *path, struct error *ret_error);

/*
 * STATUS_UNSUPPORTED if the directory is on a filesystem whose locks and shared maps do not reach
 * all processes that can see it. STATUS_NOT_FOUND, STATUS_IO.
 */
MUST_CHECK enum status directory_check_filesystem(const char *path, struct error *ret_error);

/* The name of the refused filesystem with statfs(2)'s number `type`, or NULL if it is fit. */
const char *directory_refused_filesystem(unsigned long type);

/*
 * Takes the lock in DIRECTORY/owner.lock and writes this process's id and `owner` into the file.
 * The kernel gives the lock free when the process ends in whatever way. *ret_descriptor holds it.
 * STATUS_OWNED (names who has it), STATUS_IO.
 */
MUST_CHECK enum status directory_lock(const char *path, const char *owner, int *ret_descriptor,
                                      struct error *ret_error);
/*
 * The same with a lock that a living process holds by `lock` and has handed over: nobody else could
 * take it between. `lock` is closed on failure. STATUS_INVALID: it is not this directory's.
 */
MUST_CHECK enum status directory_adopt_lock(const char *path, const char *owner, int lock,
                                            int *ret_descriptor, struct error *ret_error);
/*
 * The lock of those that have the journal open to read, in DIRECTORY/readers.lock: shared among
 * them, or `alone`, which the compacting copy needs. A reader waits while somebody has it alone;
 * who wants it alone does not wait: STATUS_OWNED. STATUS_IO. Where the file cannot be made, on a
 * file system that is not writable or somebody else's, a reader goes on without: -1.
 */
MUST_CHECK enum status directory_lock_readers(const char *path, bool alone, int *ret_descriptor,
                                              struct error *ret_error);
/* Gives a lock free. -1 is harmless; returns -1. */
int directory_unlock(int descriptor);

#endif
