/*
 * A copy of a journal that is in use (wal.h).
 *
 * LMDB writes it from one snapshot, without free pages. It belongs to nobody until it is whole: the
 * file gets its name last.
 *
 * The caller's thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/directory.h"
#include "wal/internal.h"

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
    status = store_copy(wal->store, files.place, ret_error);
    if (status == STATUS_OK) {
        status = sync_file(files.made, ret_error);
    }
    if (status == STATUS_OK) {
        status = make_put_in_place(&files, ret_error);
    }
    make_place_remove(&files);
    return status == STATUS_OK ? directory_sync(directory, ret_error) : status;
}
