/*
 * Where a journal's data lies (wal_place_get() in holdfast/wal.h).
 *
 * Any thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "holdfast/wal.h"

#define BOOT_ID_BYTES 36 /* a UUID, as text */

/* Another one for each start of the kernel, shared by its containers. */
static bool read_boot_id(char ret_id[BOOT_ID_BYTES + 1])
{
    int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t size = descriptor < 0 ? -1 : read(descriptor, ret_id, BOOT_ID_BYTES);
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    ret_id[size == BOOT_ID_BYTES ? BOOT_ID_BYTES : 0] = '\0';
    return size == BOOT_ID_BYTES;
}

enum status wal_place_get(const char *directory, struct wal_place *ret_place,
                          struct error *ret_error)
{
    char path[PATH_MAX];
    char boot[BOOT_ID_BYTES + 1];
    struct statx file;
    struct wal_place place = {0};
    if (snprintf(path, sizeof(path), "%s/data.mdb", directory) >= (int)sizeof(path)) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    if (statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &file) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot look at %s: %s", path, strerror(errno));
    }
    /* Without the time of making an inode says little: it is given out again. */
    if ((file.stx_mask & STATX_BTIME) != 0) {
        (void)snprintf(place.file, sizeof(place.file), "%" PRIu64 ".%" PRId64 ".%09" PRIu32,
                       (uint64_t)file.stx_ino, (int64_t)file.stx_btime.tv_sec,
                       (uint32_t)file.stx_btime.tv_nsec);
        if (read_boot_id(boot)) {
            (void)snprintf(place.host, sizeof(place.host), "%s.%" PRIu32 ".%" PRIu32, boot,
                           (uint32_t)file.stx_dev_major, (uint32_t)file.stx_dev_minor);
        }
    }
    *ret_place = place;
    return STATUS_OK;
}
