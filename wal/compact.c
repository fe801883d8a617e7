/*
 * The compacting copy: gives the space of what retention removed back to the disk.
 *
 *   1. the owner's lock, and the readers' lock alone: nobody has the journal open
 *   2. the journal is verified: a damaged one is left as it is
 *      what is in the tail alone is put into the tables (settle.c), because 3 is of the tables
 *   3. DIRECTORY/journal.new/data.mdb is written from it, without free pages, and synced
 *   4. the copy is verified and holds as many records and units
 *   5. journal.new/data.mdb is renamed to data.mdb, and the directory is synced
 *
 * The tail stays where it is: it has nothing that the tables do not have, and nobody appends.
 *
 * A crash before 5 leaves the old file, and a journal.new/ that the next making or compacting
 * empties; one after it the new file. Both are whole.
 *
 * Nobody may have the journal open, because LMDB counts its transactions anew in a copy: who holds
 * the old lock.mdb open would look into the new file with the old count. The next one to open it
 * finds itself alone and sets lock.mdb right.
 *
 * The caller's thread; it forks (scan.c).
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "holdfast/crash_point.h"
#include "wal/directory.h"
#include "wal/internal.h"

struct compaction {
    const char *directory;
    struct make_files files;
    struct stat before;
    struct wal_verification found;
};

static enum status name_files(struct compaction *compaction, struct error *ret_error)
{
    enum status status = make_files_name(compaction->directory, &compaction->files, ret_error);
    if (status == STATUS_OK && stat(compaction->files.data, &compaction->before) != 0) {
        return error_set(ret_error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                         "there is no journal in %s: %s", compaction->directory, strerror(errno));
    }
    return status;
}

static enum status verify(const char *directory, bool is_copy, struct wal_verification *ret_found,
                          struct error *ret_error)
{
    enum status status = scan_verify(directory, is_copy, ret_found, ret_error);
    if (status == STATUS_OK && ret_found->damage_count > 0) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "the journal in %s is damaged, nothing was changed: %s", directory,
                         ret_found->damage[0].message);
    }
    return status;
}

static enum status write_copy(const struct compaction *compaction, struct error *ret_error)
{
    struct store *store = NULL;
    enum store_content content = STORE_NOTHING;
    struct store_options options = {.directory = compaction->directory, .read_only = true};
    enum status status = store_open(&options, &store, &content, ret_error);
    if (status == STATUS_OK) {
        status = store_copy(store, compaction->files.place, ret_error);
    }
    store_close(store);
    return status;
}

/* The copy belongs to whom the journal belongs to, whoever compacts it; then it is synced. */
static enum status settle_copy(const struct compaction *compaction, struct error *ret_error)
{
    int descriptor = open(compaction->files.made, O_RDWR | O_CLOEXEC);
    int failure = descriptor < 0 ? errno : 0;
    if (failure == 0 &&
        (fchown(descriptor, compaction->before.st_uid, compaction->before.st_gid) != 0 ||
         fchmod(descriptor, compaction->before.st_mode & 0777) != 0 || fsync(descriptor) != 0)) {
        failure = errno;
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    return failure == 0
               ? STATUS_OK
               : error_set(ret_error, failure == ENOSPC ? STATUS_FULL : STATUS_IO,
                           "cannot finish %s: %s", compaction->files.made, strerror(failure));
}

static enum status check_copy(const struct compaction *compaction, struct error *ret_error)
{
    struct wal_verification copied = {0};
    enum status status = verify(compaction->files.place, true, &copied, ret_error);
    if (status == STATUS_OK && (copied.records_checked != compaction->found.records_checked ||
                                copied.units_checked != compaction->found.units_checked)) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "the copy holds %" PRIu64 " records and %" PRIu64
                         " units instead of %" PRIu64 " and %" PRIu64 ", nothing was changed",
                         copied.records_checked, copied.units_checked,
                         compaction->found.records_checked, compaction->found.units_checked);
    }
    return status;
}

static enum status put_in_place(const struct compaction *compaction, struct error *ret_error)
{
    enum status status = make_put_in_place(&compaction->files, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    CRASH_POINT(compact_renamed);
    return directory_sync(compaction->directory, ret_error);
}

static enum status compact(struct compaction *compaction, uint64_t *ret_after,
                           struct error *ret_error)
{
    struct stat after = {0};
    enum status status = verify(compaction->directory, false, &compaction->found, ret_error);
    if (status == STATUS_OK) {
        status =
            settle_tail(compaction->directory, (uint64_t)compaction->before.st_size, ret_error);
    }
    if (status == STATUS_OK) {
        status = make_place(&compaction->files, ret_error);
    }
    if (status == STATUS_OK) {
        status = write_copy(compaction, ret_error);
    }
    if (status == STATUS_OK) {
        CRASH_POINT(compact_copied);
        status = settle_copy(compaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = check_copy(compaction, ret_error);
    }
    if (status == STATUS_OK && stat(compaction->files.made, &after) != 0) {
        status = error_set(ret_error, STATUS_IO, "cannot look at the copy: %s", strerror(errno));
    }
    if (status == STATUS_OK) {
        CRASH_POINT(compact_checked);
        status = put_in_place(compaction, ret_error);
        *ret_after = (uint64_t)after.st_size;
    }
    make_place_remove(&compaction->files);
    return status;
}

enum status wal_compact(const char *directory, const char *owner, uint64_t *ret_before,
                        uint64_t *ret_after, struct error *ret_error)
{
    struct compaction compaction = {.directory = directory};
    int owner_lock = -1;
    int readers_lock = -1;
    uint64_t after = 0;
    enum status status = directory_check_filesystem(directory, ret_error);
    if (status == STATUS_OK) {
        status = name_files(&compaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = directory_lock(directory, owner, &owner_lock, ret_error);
    }
    if (status == STATUS_OK) {
        status = directory_lock_readers(directory, true, &readers_lock, ret_error);
    }
    if (status == STATUS_OK) {
        status = compact(&compaction, &after, ret_error);
    }
    directory_unlock(readers_lock);
    directory_unlock(owner_lock);
    if (status == STATUS_OK) {
        *ret_before = (uint64_t)compaction.before.st_size;
        *ret_after = after;
    }
    return status;
}
