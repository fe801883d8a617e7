/*
 * The journal's directory and its lock.
 *
 * Invariants
 *  - The lock is on the open file description (F_OFD_SETLK): it ends with the process, also by
 *    kill -9, and, unlike a lock of the classic kind, not because some other part of the process
 *    opened and closed the same file.
 *  - owner.lock and readers.lock are never removed: two processes could otherwise each lock a file
 *    of that name.
 *    What is written in it means something only while it is locked.
 *
 * owner.lock, for people and for error messages:
 *
 *     12345\n
 *     holdfastd 127.0.0.1:27018\n
 *
 * Any thread.
 */

#include "wal/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "holdfast/slice.h"

/* statfs(2) types; <linux/magic.h> does not have all of them. */
static const struct {
    unsigned long type;
    const char *name;
} refused[] = {
    {0x6969, "NFS"},
    {0x517B, "SMB"},
    {0xFF534D42, "CIFS"},
    {0xFE534D42, "SMB2"},
    {0x65735546, "FUSE"},
    {0x01021997, "9P"},
    {0x00C36400, "Ceph"},
    {0x5346414F, "AFS"},
    {0x6B414653, "AFS"},
    {0x0BD00BD0, "Lustre"},
    {0x7461636F, "OCFS2"},
    {0x01161970, "GFS2"},
    {0x47504653, "GPFS"},
    {0x73757245, "Coda"},
    {0x786F4256, "VirtualBox shared folder"},
    {0xBACBACBC, "VMware shared folder"},
};

const char *directory_refused_filesystem(unsigned long type)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (refused[i].type == type) {
            return refused[i].name;
        }
    }
    return NULL;
}

enum status directory_make(const char *path, struct error *ret_error)
{
    struct stat found;
    if (mkdir(path, 0700) == 0) {
        return STATUS_OK;
    }
    if (errno != EEXIST) {
        return error_set(ret_error, STATUS_IO, "cannot make the directory %s: %s%s", path,
                         strerror(errno),
                         errno == ENOENT ? " (only its last part is made: make its parents)" : "");
    }
    if (stat(path, &found) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot look at %s: %s", path, strerror(errno));
    }
    if (!S_ISDIR(found.st_mode)) {
        return error_set(ret_error, STATUS_INVALID, "%s is not a directory", path);
    }
    if (access(path, W_OK | X_OK) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot write to the directory %s: %s", path,
                         strerror(errno));
    }
    return STATUS_OK;
}

/* 0 or errno. A filesystem that has nothing to sync there says EINVAL. */
static int sync_descriptor(int descriptor)
{
    return fsync(descriptor) == 0 || errno == EINVAL ? 0 : errno;
}

enum status directory_sync(const char *path, struct error *ret_error)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failure = directory < 0 ? errno : sync_descriptor(directory);
    if (failure == 0) {
        int parent = openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent >= 0) {
            failure = sync_descriptor(parent);
            close(parent);
        } else if (errno != EACCES) { /* in a parent that we cannot read we made nothing */
            failure = errno;
        }
    }
    if (directory >= 0) {
        close(directory);
    }
    return failure == 0 ? STATUS_OK
                        : error_set(ret_error, STATUS_IO, "cannot sync the directory %s: %s", path,
                                    strerror(failure));
}

enum status directory_check_filesystem(const char *path, struct error *ret_error)
{
    struct statfs filesystem;
    if (statfs(path, &filesystem) != 0) {
        return error_set(ret_error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                         "cannot look at the directory %s: %s", path, strerror(errno));
    }
    /* f_type is signed on some architectures: only its low 32 bits mean something. */
    unsigned long type = (unsigned long)filesystem.f_type & 0xFFFFFFFFul;
    const char *name = directory_refused_filesystem(type);
    if (name != NULL) {
        return error_set(
            ret_error, STATUS_UNSUPPORTED,
            "%s is on a filesystem (%s) on which a journal is not safe: use a local one", path,
            name);
    }
    return STATUS_OK;
}

/* Who has the lock, as far as the file tells. */
static enum status refuse(const char *path, int descriptor, struct error *ret_error)
{
    char text[256] = "";
    ssize_t size = pread(descriptor, text, sizeof(text) - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    char *owner = strchr(text, '\n');
    if (owner != NULL) {
        *owner++ = '\0';
        owner[strcspn(owner, "\n")] = '\0';
    }
    return error_set(ret_error, STATUS_OWNED,
                     "the journal in %s is owned by a running process: pid %s (%s)", path,
                     text[0] == '\0' ? "unknown" : text,
                     owner == NULL || owner[0] == '\0' ? "no name given" : owner);
}

static enum status write_owner(int descriptor, const char *path, const char *owner,
                               struct error *ret_error)
{
    char text[256];
    int size =
        snprintf(text, sizeof(text), "%ld\n%.200s\n", (long)getpid(), owner == NULL ? "" : owner);
    if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, text, (size_t)size, 0) != size) {
        /* On a full disk the lock still holds; only the next one's message will be poorer. */
        if (errno == ENOSPC || errno == EDQUOT) {
            return STATUS_OK;
        }
        return error_set(ret_error, STATUS_IO, "cannot write %s/owner.lock: %s", path,
                         strerror(errno));
    }
    return STATUS_OK;
}

enum status directory_lock(const char *path, const char *owner, int *ret_descriptor,
                           struct error *ret_error)
{
    char name[PATH_MAX];
    if (snprintf(name, sizeof(name), "%s/owner.lock", path) >= (int)sizeof(name)) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    int descriptor = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        return error_set(ret_error, STATUS_IO, "cannot open %s: %s", name, strerror(errno));
    }
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    enum status status = STATUS_OK;
    if (fcntl(descriptor, F_OFD_SETLK, &whole) != 0) {
        status = errno == EAGAIN || errno == EACCES
                     ? refuse(path, descriptor, ret_error)
                     : error_set(ret_error, STATUS_IO, "cannot lock %s: %s", name, strerror(errno));
    } else {
        status = write_owner(descriptor, path, owner, ret_error);
    }
    if (status != STATUS_OK) {
        close(descriptor);
        return status;
    }
    *ret_descriptor = descriptor;
    return STATUS_OK;
}

enum status directory_adopt_lock(const char *path, const char *owner, int lock, int *ret_descriptor,
                                 struct error *ret_error)
{
    char name[PATH_MAX];
    struct stat named;
    struct stat held;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    enum status status = STATUS_OK;
    if (snprintf(name, sizeof(name), "%s/owner.lock", path) >= (int)sizeof(name) ||
        stat(name, &named) != 0 || fstat(lock, &held) != 0 || named.st_dev != held.st_dev ||
        named.st_ino != held.st_ino || fcntl(lock, F_OFD_SETLK, &whole) != 0) {
        status = error_set(ret_error, STATUS_INVALID,
                           "what was handed over is not the lock of the journal in %s", path);
    } else {
        status = write_owner(lock, path, owner, ret_error);
    }
    if (status != STATUS_OK) {
        (void)close(lock);
        return status;
    }
    *ret_descriptor = lock;
    return STATUS_OK;
}

enum status directory_lock_readers(const char *path, bool alone, int *ret_descriptor,
                                   struct error *ret_error)
{
    char name[PATH_MAX];
    struct flock whole = {.l_type = alone ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    if (snprintf(name, sizeof(name), "%s/data.mdb", path) >= (int)sizeof(name) - 8) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    if (!alone && access(name, F_OK) != 0) {
        *ret_descriptor = -1; /* no journal: leave no file where somebody mistyped a name */
        return STATUS_OK;
    }
    (void)snprintf(name, sizeof(name), "%s/readers.lock", path);
    int descriptor = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0 && !alone && (errno == EACCES || errno == EROFS || errno == EPERM)) {
        *ret_descriptor = -1;
        return STATUS_OK;
    }
    if (descriptor < 0) {
        return error_set(ret_error, STATUS_IO, "cannot open %s: %s", name, strerror(errno));
    }
    if (fcntl(descriptor, alone ? F_OFD_SETLK : F_OFD_SETLKW, &whole) != 0) {
        int failure = errno;
        close(descriptor);
        return failure == EAGAIN || failure == EACCES
                   ? error_set(ret_error, STATUS_OWNED,
                               "a process reads the journal in %s (a holdfast command?): end it, "
                               "then try again",
                               path)
                   : error_set(ret_error, STATUS_IO, "cannot lock %s: %s", name, strerror(failure));
    }
    *ret_descriptor = descriptor;
    return STATUS_OK;
}

int directory_unlock(int descriptor)
{
    if (descriptor >= 0) {
        close(descriptor);
    }
    return -1;
}
