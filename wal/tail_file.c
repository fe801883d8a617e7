/*
 * The tail's file: made once, full of zeros, so that a frame changes neither its size nor its
 * extents, and its sync writes data alone.
 *
 * Threads: a file that is open is the writer thread's; reading opens it anew.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/directory.h"
#include "wal/tail.h"

struct tail_file {
    int descriptor;
    bool with_sync;
    char path[PATH_MAX];
};

static enum status fail(const char *path, int code, const char *what, struct error *ret_error)
{
    bool full = code == ENOSPC || code == EDQUOT || code == EFBIG;
    return error_set(ret_error, full ? STATUS_FULL : STATUS_IO, "cannot %s %s: %s", what, path,
                     strerror(code));
}

/* An errno, or 0. */
static int write_all(int descriptor, uint64_t offset, struct slice bytes)
{
    size_t done = 0;
    while (done < bytes.size) {
        ssize_t written =
            pwrite(descriptor, bytes.data + done, bytes.size - done, (off_t)(offset + done));
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? errno : ENOSPC;
        }
        done += (size_t)written;
    }
    return 0;
}

static int fill_with_zeros(int descriptor, bool with_sync)
{
    static const uint8_t zeros[65536];
    int code = 0;
    for (uint64_t at = 0; at < FORMAT_TAIL_BYTES && code == 0; at += sizeof zeros) {
        code = write_all(descriptor, at, slice_make(zeros, sizeof zeros));
    }
    return code == 0 && with_sync && fdatasync(descriptor) != 0 ? errno : code;
}

/* Under another name first: whoever sees the file sees all of it. Durably in any case, for the
   tables may soon say, durably, that it is there. */
static enum status make(const char *directory, const char *path, struct error *ret_error)
{
    char made[PATH_MAX];
    char data[PATH_MAX];
    struct stat beside;
    if (snprintf(made, PATH_MAX, "%s.new", path) >= PATH_MAX ||
        snprintf(data, PATH_MAX, "%s/data.mdb", directory) >= PATH_MAX) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    int descriptor = open(made, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int code = descriptor < 0 ? errno : fill_with_zeros(descriptor, true);
    if (code == 0 && stat(data, &beside) == 0) {
        /* It belongs to whom the journal belongs to, whoever opens it first. Who may not give it
           away is that one himself. */
        bool given = fchown(descriptor, beside.st_uid, beside.st_gid) == 0 || errno == EPERM;
        code = given && fchmod(descriptor, beside.st_mode & 0777) == 0 ? 0 : errno;
    }
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    if (code == 0 && rename(made, path) != 0) {
        code = errno;
    }
    if (code != 0) {
        (void)unlink(made);
        return fail(path, code, "make", ret_error);
    }
    return directory_sync(directory, ret_error);
}

/* Never by itself: a copy that was cut short. */
static bool is_short(int descriptor)
{
    struct stat file;
    return fstat(descriptor, &file) == 0 && file.st_size < (off_t)FORMAT_TAIL_BYTES;
}

enum status tail_file_open(const char *directory, bool with_sync, struct tail_file **ret_file,
                           struct error *ret_error)
{
    enum status status = STATUS_OK;
    struct tail_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    file->with_sync = with_sync;
    if (snprintf(file->path, PATH_MAX, "%s/" FORMAT_TAIL_FILE, directory) >= PATH_MAX) {
        free(file);
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    file->descriptor = open(file->path, O_RDWR | O_CLOEXEC);
    if (file->descriptor >= 0 && is_short(file->descriptor)) {
        (void)close(file->descriptor);
        file->descriptor = -1;
        errno = ENOENT;
    }
    if (file->descriptor < 0 && errno == ENOENT) {
        status = make(directory, file->path, ret_error);
        file->descriptor = status == STATUS_OK ? open(file->path, O_RDWR | O_CLOEXEC) : -1;
    }
    if (status == STATUS_OK && file->descriptor < 0) {
        status = fail(file->path, errno, "open", ret_error);
    }
    if (status != STATUS_OK) {
        tail_file_close(file);
        return status;
    }
    *ret_file = file;
    return STATUS_OK;
}

enum status tail_file_clear(struct tail_file *file, struct error *ret_error)
{
    int code = fill_with_zeros(file->descriptor, file->with_sync);
    return code == 0 ? STATUS_OK : fail(file->path, code, "write to", ret_error);
}

struct tail_file *tail_file_close(struct tail_file *file)
{
    if (file != NULL) {
        if (file->descriptor >= 0) {
            (void)close(file->descriptor);
        }
        free(file);
    }
    return NULL;
}

enum status tail_file_write(struct tail_file *file, uint64_t offset, struct slice bytes,
                            struct error *ret_error)
{
    int code = write_all(file->descriptor, offset, bytes);
    if (code == 0 && file->with_sync && fdatasync(file->descriptor) != 0) {
        /* Whatever the reason, nobody knows what the disk has: no later frame may follow. */
        code = errno;
        return error_set(ret_error, STATUS_IO, "cannot sync %s: %s", file->path, strerror(code));
    }
    return code == 0 ? STATUS_OK : fail(file->path, code, "write to", ret_error);
}

static enum status open_to_read(const char *directory, char path[PATH_MAX], int *ret_descriptor,
                                struct error *ret_error)
{
    if (snprintf(path, PATH_MAX, "%s/" FORMAT_TAIL_FILE, directory) >= PATH_MAX) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    *ret_descriptor = open(path, O_RDONLY | O_CLOEXEC);
    return *ret_descriptor >= 0 || errno == ENOENT ? STATUS_OK
                                                   : fail(path, errno, "open", ret_error);
}

/* An errno, or 0; *ret_size is less than `limit` if the file ends before. */
static int read_all(int descriptor, uint8_t *bytes, size_t limit, size_t *ret_size)
{
    size_t size = 0;
    while (size < limit) {
        ssize_t got = pread(descriptor, bytes + size, limit - size, (off_t)size);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            *ret_size = size;
            return got < 0 ? errno : 0;
        }
        size += (size_t)got;
    }
    *ret_size = size;
    return 0;
}

enum status tail_file_read(const char *directory, size_t limit, uint8_t **ret_bytes,
                           size_t *ret_size, struct error *ret_error)
{
    char path[PATH_MAX];
    int descriptor = -1;
    size_t size = 0;
    *ret_bytes = NULL;
    *ret_size = 0;
    enum status status = open_to_read(directory, path, &descriptor, ret_error);
    if (status != STATUS_OK || descriptor < 0) {
        return status;
    }
    if (is_short(descriptor)) {
        (void)close(descriptor);
        return STATUS_OK;
    }
    uint8_t *bytes = malloc(limit);
    int code = bytes == NULL ? ENOMEM : read_all(descriptor, bytes, limit, &size);
    (void)close(descriptor);
    if (code != 0) {
        free(bytes);
        return fail(path, code, "read", ret_error);
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return STATUS_OK;
}

enum status tail_file_sync(const char *directory, struct error *ret_error)
{
    char path[PATH_MAX];
    int descriptor = -1;
    enum status status = open_to_read(directory, path, &descriptor, ret_error);
    if (status == STATUS_OK && descriptor >= 0) {
        int code = fdatasync(descriptor) != 0 ? errno : 0;
        (void)close(descriptor);
        status = code == 0 ? STATUS_OK : fail(path, code, "sync", ret_error);
    }
    return status;
}
