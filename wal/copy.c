/*
 * A copy of a journal that is in use (wal.h).
 *
 * LMDB writes it from one snapshot, without free pages. It belongs to nobody until it is whole: the
 * file gets its name last.
 *
 * The newest groups may be in the tail alone. So the tail is read first, then the snapshot is
 * taken: what is missing in the tail that was read, because its owner has begun it anew since, is
 * in the snapshot. What was read is the copy's tail, and is on the disk before data.mdb has its
 * name. It is made in any case, for the snapshot may be of a moment at which there is one.
 *
 * The caller's thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/directory.h"
#include "wal/internal.h"
#include "wal/rows.h"

static enum status sync_file(const char *path, struct error *ret_error)
{
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    bool done = descriptor >= 0 && fsync(descriptor) == 0;
    int failure = errno;
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    return done ? STATUS_OK
                : error_set(ret_error, STATUS_IO, "cannot finish %s: %s", path, strerror(failure));
}

static enum status check_target(const char *data, struct error *ret_error)
{
    struct stat found;
    if (stat(data, &found) == 0) {
        return error_set(ret_error, STATUS_EXISTS, "%s is there already", data);
    }
    return STATUS_OK;
}

/* What counts in the tail is *ret_bytes, to be freed, up to *ret_size. */
static enum status read_tail(struct wal *wal, uint8_t **ret_bytes, size_t *ret_size,
                             struct error *ret_error)
{
    struct tail_contents contents = {0};
    struct store_transaction *transaction = NULL;
    uint8_t *bytes = NULL;
    size_t size = 0;
    uint64_t lsn = 0;
    uint64_t unit = 0;
    enum status status =
        tail_file_read(wal->directory, FORMAT_TAIL_BYTES, &bytes, &size, ret_error);
    if (status != STATUS_OK || bytes == NULL) {
        *ret_size = 0;
        return status;
    }
    /* A copy may not have what a power cut could still take from the original. */
    status = tail_file_sync(wal->directory, ret_error);
    if (status == STATUS_OK) {
        status = store_begin(wal->store, false, &transaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_highest(transaction, &lsn, &unit, ret_error);
        store_abort(transaction);
    }
    if (status == STATUS_OK) {
        status = tail_look(slice_make(bytes, size), wal->id, lsn, &contents, ret_error);
    }
    if (status == STATUS_OK) {
        status = tail_confirm(wal->directory, wal->store, wal->id, &contents, ret_error);
    }
    if (status == STATUS_OK) {
        status = tail_judge(&contents, lsn, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_bytes = bytes;
        *ret_size = contents.end;
    } else {
        free(bytes);
    }
    tail_contents_free(&contents);
    return status;
}

/* One that is there, of a copy that was cut short or of a journal that is gone, is cleared. */
static enum status write_tail(const char *directory, struct slice bytes, struct error *ret_error)
{
    struct tail_file *file = NULL;
    enum status status = tail_file_open(directory, true, &file, ret_error);
    if (status == STATUS_OK) {
        status = tail_file_clear(file, ret_error);
    }
    if (status == STATUS_OK && bytes.size > 0) {
        status = tail_file_write(file, 0, bytes, ret_error);
    }
    tail_file_close(file);
    return status == STATUS_OK ? directory_sync(directory, ret_error) : status;
}

/* As far as possible: what stays does no harm, without a data.mdb beside it. */
static void remove_tail(const char *directory)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/" FORMAT_TAIL_FILE, directory) < (int)sizeof(path)) {
        (void)unlink(path);
    }
}

static enum status copy(struct wal *wal, const char *directory, const struct make_files *files,
                        struct error *ret_error)
{
    uint8_t *tail = NULL;
    size_t tail_size = 0;
    enum status status = read_tail(wal, &tail, &tail_size, ret_error);
    if (status == STATUS_OK) {
        status = store_copy(wal->store, files->place, ret_error);
    }
    if (status == STATUS_OK) {
        status = sync_file(files->made, ret_error);
    }
    if (status == STATUS_OK) {
        status = write_tail(directory, slice_make(tail, tail_size), ret_error);
    }
    if (status == STATUS_OK) {
        status = make_put_in_place(files, ret_error);
    }
    if (status != STATUS_OK) {
        remove_tail(directory);
    }
    free(tail);
    return status;
}

enum status wal_copy(struct wal *wal, const char *directory, struct error *ret_error)
{
    struct make_files files;
    enum status status = make_files_name(directory, &files, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        return error_set(ret_error, STATUS_IO, "cannot make %s: %s", directory, strerror(errno));
    }
    status = check_target(files.data, ret_error);
    if (status == STATUS_OK) {
        status = make_place(&files, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = copy(wal, directory, &files, ret_error);
    make_place_remove(&files);
    return status == STATUS_OK ? directory_sync(directory, ret_error) : status;
}
