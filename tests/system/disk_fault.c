/*
 * Preloaded into holdfastd: makes the disk under its journal fail while the file that
 * HOLDFAST_DISK_FAULT names says so.
 *
 *   full   there is no room: fallocate() and statvfs() say so, and writes to data.mdb and tail.wal
 *          beyond the blocks that were allocated fail with ENOSPC
 *   eio    fdatasync() of either fails with EIO
 *   (empty or absent: nothing fails)
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    int (*fdatasync)(int);
    int (*fallocate)(int, int, off_t, off_t);
    int (*statvfs)(const char *, struct statvfs *);
} real;

__attribute__((constructor)) static void find_real(void)
{
    real.pwrite = dlsym(RTLD_NEXT, "pwrite");
    real.writev = dlsym(RTLD_NEXT, "writev");
    real.fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real.fallocate = dlsym(RTLD_NEXT, "fallocate");
    real.statvfs = dlsym(RTLD_NEXT, "statvfs");
}

static bool says(const char *wanted)
{
    char text[16] = "";
    const char *path = getenv("HOLDFAST_DISK_FAULT");
    int descriptor = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return false;
    }
    ssize_t size = read(descriptor, text, sizeof(text) - 1);
    close(descriptor);
    return size > 0 && strcmp(text, wanted) == 0;
}

static bool is_journal(int descriptor)
{
    char link[64];
    char path[PATH_MAX];
    static const char *const names[] = {"/data.mdb", "/tail.wal"};
    snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof(path));
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(names[i]);
        if (size >= (ssize_t)length && memcmp(path + size - length, names[i], length) == 0) {
            return true;
        }
    }
    return false;
}

static bool finds_room(int descriptor, off_t end)
{
    struct stat file;
    if (!is_journal(descriptor) || !says("full")) {
        return true;
    }
    /* Blocks that an earlier fallocate() got are there, also behind the end of the file. */
    return fstat(descriptor, &file) == 0 && end <= (off_t)file.st_blocks * 512;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t offset)
{
    if (!finds_room(descriptor, offset + (off_t)size)) {
        errno = ENOSPC;
        return -1;
    }
    return real.pwrite(descriptor, bytes, size, offset);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    off_t end = lseek(descriptor, 0, SEEK_CUR);
    for (int i = 0; i < count && end >= 0; i++) {
        end += (off_t)parts[i].iov_len;
    }
    if (end >= 0 && !finds_room(descriptor, end)) {
        errno = ENOSPC;
        return -1;
    }
    return real.writev(descriptor, parts, count);
}

int fdatasync(int descriptor)
{
    if (is_journal(descriptor) && says("eio")) {
        errno = EIO;
        return -1;
    }
    return real.fdatasync(descriptor);
}

int fallocate(int descriptor, int mode, off_t offset, off_t size)
{
    if (says("full")) {
        errno = ENOSPC;
        return -1;
    }
    return real.fallocate(descriptor, mode, offset, size);
}

int statvfs(const char *path, struct statvfs *ret_room)
{
    int result = real.statvfs(path, ret_room);
    if (says("full")) {
        ret_room->f_bavail = 0;
    }
    return result;
}
