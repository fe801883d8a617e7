/*
 * Blocks and zeros behind the end of the journal's file (room.h).
 *
 * Invariant: zeros are written only behind `end`, the last page of the newest commit, and only
 * where blocks were allocated: they touch no page that somebody reads. Where a file system takes
 * new blocks for each write all the same, they are as little as a commit or two.
 *
 * The writer thread's.
 */
#include "wal/room.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Some commits' pages. Written when fewer than the rest of the step are left, so that a commit of
   a few units never gets ahead of them, while a step, 100 us of the processor and a few ms of the
   disk at its next sync, comes once in some hundred commits. */
#define ZEROS_BYTES ((uint64_t)512 << 10)
#define ZEROS_BYTES_MIN ((uint64_t)128 << 10)

static const uint8_t zeros[32768];

static bool is_lack_of_room(int code)
{
    return code == ENOSPC || code == EDQUOT || code == EFBIG;
}

/* A disk that fails to take zeros is not trusted with anything else. One that takes fewer than
   given is full, whatever it had promised. */
static int keep_zeros(struct room *room, int descriptor, uint64_t end)
{
    uint64_t at = room->zeroed_end > end ? room->zeroed_end : end;
    uint64_t until = end + ZEROS_BYTES;
    if (at >= end + ZEROS_BYTES_MIN || until > room->allocated_end) {
        return 0;
    }
    while (at < until) {
        size_t size = until - at < sizeof zeros ? (size_t)(until - at) : sizeof zeros;
        ssize_t written = pwrite(descriptor, zeros, size, (off_t)at);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? errno : ENOSPC;
        }
        at += (uint64_t)written;
        room->zeroed_end = at;
    }
    return 0;
}

static bool keep_ballast(struct room *room, int descriptor, uint64_t end)
{
    if (room->allocated_end >= end + ROOM_BALLAST_BYTES / 2) {
        return true;
    }
    if (fallocate(descriptor, FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)ROOM_BALLAST_BYTES) == 0) {
        room->allocated_end = end + ROOM_BALLAST_BYTES;
        return true;
    }
    if (is_lack_of_room(errno)) {
        return false;
    }
    room->unsupported = errno == EOPNOTSUPP || errno == ENOSYS;
    return true;
}

int room_keep(struct room *room, int descriptor, uint64_t end, bool *ret_kept)
{
    bool kept = room->unsupported || keep_ballast(room, descriptor, end);
    int code = 0;
    if (kept && !room->unsupported && room->with_zeros) {
        code = keep_zeros(room, descriptor, end);
    }
    if (is_lack_of_room(code)) {
        kept = false; /* blocks that were allocated, and yet are not there */
        code = 0;
    }
    *ret_kept = kept;
    return code;
}
