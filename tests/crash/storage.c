/*
 * The shim: definitions of the calls that write and sync, in front of those of the C library.
 *
 * A call is looked at only while something is recorded or made to fail, and only if its descriptor
 * is that of a file with one of the names (or of a directory, for fsync): /proc says so. `lock` is
 * held over a recorded call, so that the order of the events is the order in which they happened.
 */

#include "storage.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool watching; /* `recording` or a fault is set */
static bool recording;
static struct storage_trace trace;
static size_t capacity;
static struct storage_fault fault;
static unsigned fault_calls;
static unsigned fault_hits;
static enum storage_file fault_hit_file;
static bool fault_hit_zeros;
static atomic_bool disk_full;
static _Atomic uint64_t allocated_end;

static struct {
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
    int (*fdatasync)(int);
    int (*fsync)(int);
    int (*ftruncate)(int, off_t);
    int (*rename)(const char *, const char *);
    int (*statvfs)(const char *, struct statvfs *);
    int (*fallocate)(int, int, off_t, off_t);
} real;

/* Before any thread: the C library's own definitions are those behind ours. */
__attribute__((constructor)) static void find_real(void)
{
    real.write = dlsym(RTLD_NEXT, "write");
    real.pwrite = dlsym(RTLD_NEXT, "pwrite");
    real.writev = dlsym(RTLD_NEXT, "writev");
    real.pwritev = dlsym(RTLD_NEXT, "pwritev");
    real.fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real.fsync = dlsym(RTLD_NEXT, "fsync");
    real.ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real.rename = dlsym(RTLD_NEXT, "rename");
    real.statvfs = dlsym(RTLD_NEXT, "statvfs");
    real.fallocate = dlsym(RTLD_NEXT, "fallocate");
}

/* ------------------------------------------------------------------ recording */

static struct storage_event *add_event(enum storage_kind kind, enum storage_file file)
{
    if (trace.count == capacity) {
        capacity = capacity == 0 ? 1024 : capacity * 2;
        trace.events = realloc(trace.events, capacity * sizeof(*trace.events));
        assert(trace.events != NULL);
    }
    struct storage_event *event = &trace.events[trace.count++];
    *event = (struct storage_event){.kind = kind, .file = file};
    return event;
}

static void record_write(enum storage_kind kind, enum storage_file file, uint64_t offset,
                         const struct iovec *parts, int count, size_t size, bool failed)
{
    if (!recording || size == 0) {
        return;
    }
    struct storage_event *event = add_event(kind, file);
    event->offset = offset;
    event->size = size;
    event->failed = failed;
    event->bytes = malloc(size);
    assert(event->bytes != NULL);
    size_t done = 0;
    for (int i = 0; i < count && done < size; i++) {
        size_t part = parts[i].iov_len < size - done ? parts[i].iov_len : size - done;
        memcpy(event->bytes + done, parts[i].iov_base, part);
        done += part;
    }
}

void storage_record_start(void)
{
    pthread_mutex_lock(&lock);
    assert(!recording);
    trace = (struct storage_trace){0};
    capacity = 0;
    recording = true;
    watching = true;
    pthread_mutex_unlock(&lock);
}

struct storage_trace storage_record_stop(void)
{
    pthread_mutex_lock(&lock);
    recording = false;
    watching = fault.call != STORAGE_CALL_NONE;
    struct storage_trace recorded = trace;
    trace = (struct storage_trace){0};
    pthread_mutex_unlock(&lock);
    return recorded;
}

void storage_trace_free(struct storage_trace *recorded)
{
    for (size_t i = 0; i < recorded->count; i++) {
        free(recorded->events[i].bytes);
    }
    free(recorded->events);
    *recorded = (struct storage_trace){0};
}

size_t storage_mark(int kind, uint64_t value)
{
    size_t place = 0;
    pthread_mutex_lock(&lock);
    if (recording) {
        place = trace.count;
        struct storage_event *event = add_event(STORAGE_MARK, STORAGE_NO_FILE);
        event->mark_kind = kind;
        event->mark = value;
    }
    pthread_mutex_unlock(&lock);
    return place;
}

/* ------------------------------------------------------------------ faults */

void storage_fault_set(const struct storage_fault *wanted)
{
    pthread_mutex_lock(&lock);
    fault = wanted == NULL ? (struct storage_fault){0} : *wanted;
    fault_calls = 0;
    fault_hits = 0;
    fault_hit_file = STORAGE_NO_FILE;
    fault_hit_zeros = false;
    watching = recording || fault.call != STORAGE_CALL_NONE;
    pthread_mutex_unlock(&lock);
}

unsigned storage_fault_hits(void)
{
    pthread_mutex_lock(&lock);
    unsigned hits = fault_hits;
    pthread_mutex_unlock(&lock);
    return hits;
}

enum storage_file storage_fault_hit_file(void)
{
    pthread_mutex_lock(&lock);
    enum storage_file file = fault_hit_file;
    pthread_mutex_unlock(&lock);
    return file;
}

bool storage_fault_hit_zeros(void)
{
    pthread_mutex_lock(&lock);
    bool zeros = fault_hit_zeros;
    pthread_mutex_unlock(&lock);
    return zeros;
}

void storage_disk_full_set(bool full)
{
    disk_full = full;
}

static bool is_meant(enum storage_kind kind, enum storage_file file)
{
    if (fault.file != STORAGE_NO_FILE && fault.file != file) {
        return false;
    }
    switch (fault.call) {
    case STORAGE_CALL_NONE:
        return false;
    case STORAGE_CALL_WRITE:
        return kind == STORAGE_WRITE;
    case STORAGE_CALL_WRITE_THROUGH:
        return kind == STORAGE_WRITE_THROUGH;
    case STORAGE_CALL_SYNC:
        return kind == STORAGE_SYNC;
    case STORAGE_CALL_ANY_WRITE:
        return kind == STORAGE_WRITE || kind == STORAGE_WRITE_THROUGH;
    case STORAGE_CALL_RENAME:
        return kind == STORAGE_RENAME;
    }
    return false;
}

static bool fails_now(enum storage_kind kind, enum storage_file file)
{
    if (!is_meant(kind, file)) {
        return false;
    }
    fault_calls++;
    bool fails = fault_calls >= fault.from && fault_calls - fault.from < fault.count;
    if (fails) {
        fault_hits++;
        fault_hit_file = file;
        fault_hit_zeros = false;
    }
    return fails;
}

/* ------------------------------------------------------------------ the calls */

static bool ends_with(const char *path, size_t size, const char *name)
{
    size_t length = strlen(name);
    return size >= length && memcmp(path + size - length, name, length) == 0;
}

static enum storage_file file_of_path(const char *path, size_t size)
{
    return ends_with(path, size, "/data.mdb")       ? STORAGE_TABLES
           : ends_with(path, size, "/tail.wal")     ? STORAGE_TAIL
           : ends_with(path, size, "/tail.wal.new") ? STORAGE_TAIL_NEW
                                                    : STORAGE_NO_FILE;
}

static enum storage_file file_of(int descriptor)
{
    char link[64];
    char path[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof(path));
    return size > 0 ? file_of_path(path, (size_t)size) : STORAGE_NO_FILE;
}

/* While nothing is watched, no call is looked at. */
static enum storage_file watched_file_of(int descriptor)
{
    return watching ? file_of(descriptor) : STORAGE_NO_FILE;
}

static bool is_directory(int descriptor)
{
    struct stat file;
    return fstat(descriptor, &file) == 0 && S_ISDIR(file.st_mode);
}

static ssize_t write_through(int descriptor, const struct iovec *parts, int count, off_t offset)
{
    return count == 1 ? real.pwrite(descriptor, parts[0].iov_base, parts[0].iov_len, offset)
                      : real.pwritev(descriptor, parts, count, offset);
}

static bool are_zeros(const struct iovec *part)
{
    const uint8_t *bytes = part->iov_base;
    return part->iov_len > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, part->iov_len - 1) == 0;
}

/* A write to `file` at `offset`, recorded or made to fail. */
static ssize_t watched_write(int descriptor, enum storage_file file, const struct iovec *parts,
                             int count, off_t offset)
{
    bool through = (fcntl(descriptor, F_GETFL) & O_DSYNC) != 0;
    enum storage_kind kind = through ? STORAGE_WRITE_THROUGH : STORAGE_WRITE;
    ssize_t done = -1;
    pthread_mutex_lock(&lock);
    if (!fails_now(kind, file)) {
        done = write_through(descriptor, parts, count, offset);
        record_write(kind, file, (uint64_t)offset, parts, count, done > 0 ? (size_t)done : 0,
                     false);
    } else if (fault.failure == STORAGE_SHORT) {
        fault_hit_zeros = count == 1 && are_zeros(parts);
        struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};
        done = write_through(descriptor, &half, 1, offset);
        record_write(kind, file, (uint64_t)offset, &half, 1, done > 0 ? (size_t)done : 0, true);
    } else {
        if (fault.failure == STORAGE_DONE) {
            ssize_t size = write_through(descriptor, parts, count, offset);
            record_write(kind, file, (uint64_t)offset, parts, count, size > 0 ? (size_t)size : 0,
                         true);
        }
        done = -1;
        errno = fault.error;
    }
    int code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return done;
}

static int watched_sync(enum storage_file file)
{
    pthread_mutex_lock(&lock);
    bool fails = fails_now(STORAGE_SYNC, file);
    int code = fails ? fault.error : errno;
    if (recording) {
        add_event(STORAGE_SYNC, file)->failed = fails;
    }
    pthread_mutex_unlock(&lock);
    errno = code;
    return fails ? -1 : 0;
}

static int directory_sync_seen(void)
{
    pthread_mutex_lock(&lock);
    if (recording) {
        add_event(STORAGE_SYNC_DIRECTORY, STORAGE_NO_FILE);
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

static int any_sync(int descriptor, int (*sync)(int))
{
    enum storage_file file = file_of(descriptor);
    if (file != STORAGE_NO_FILE) {
        return watched_sync(file);
    }
    return is_directory(descriptor) ? directory_sync_seen() : sync(descriptor);
}

int fdatasync(int descriptor)
{
    return any_sync(descriptor, real.fdatasync);
}

int fsync(int descriptor)
{
    return any_sync(descriptor, real.fsync);
}

int ftruncate(int descriptor, off_t size)
{
    enum storage_file file = watched_file_of(descriptor);
    if (file == STORAGE_NO_FILE) {
        return real.ftruncate(descriptor, size);
    }
    pthread_mutex_lock(&lock);
    int result = real.ftruncate(descriptor, size);
    if (recording && result == 0) {
        add_event(STORAGE_RESIZE, file)->offset = (uint64_t)size;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to)
{
    pthread_mutex_lock(&lock);
    enum storage_file file = file_of_path(to, strlen(to));
    bool fails = fails_now(STORAGE_RENAME, file);
    int result = fails ? -1 : real.rename(from, to);
    int code = fails ? fault.error : errno;
    if (recording && result == 0 && file != STORAGE_NO_FILE) {
        add_event(STORAGE_RENAME, file);
    }
    pthread_mutex_unlock(&lock);
    errno = code;
    return result;
}

int statvfs(const char *path, struct statvfs *ret_room)
{
    int result = real.statvfs(path, ret_room);
    if (disk_full) {
        ret_room->f_bavail = 0;
    }
    return result;
}

int fallocate(int descriptor, int mode, off_t offset, off_t size)
{
    if (disk_full) {
        errno = ENOSPC;
        return -1;
    }
    if (file_of(descriptor) != STORAGE_TABLES) {
        return real.fallocate(descriptor, mode, offset, size);
    }
    allocated_end = (uint64_t)(offset + size);
    return 0;
}

uint64_t storage_allocated_end(void)
{
    return allocated_end;
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset)
{
    enum storage_file file = watched_file_of(descriptor);
    if (file == STORAGE_NO_FILE) {
        return real.pwritev(descriptor, parts, count, offset);
    }
    return watched_write(descriptor, file, parts, count, offset);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t offset)
{
    enum storage_file file = watched_file_of(descriptor);
    if (file == STORAGE_NO_FILE) {
        return real.pwrite(descriptor, bytes, size, offset);
    }
    union {
        const void *reads;
        void *declared;
    } base = {.reads = bytes};
    struct iovec part = {base.declared, size};
    return watched_write(descriptor, file, &part, 1, offset);
}

/* Writes where the descriptor stands, and moves it on. */
ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    enum storage_file file = watched_file_of(descriptor);
    if (file == STORAGE_NO_FILE) {
        return real.writev(descriptor, parts, count);
    }
    off_t offset = lseek(descriptor, 0, SEEK_CUR);
    ssize_t done = watched_write(descriptor, file, parts, count, offset);
    if (done > 0) {
        int code = errno;
        (void)lseek(descriptor, offset + done, SEEK_SET);
        errno = code;
    }
    return done;
}

ssize_t write(int descriptor, const void *bytes, size_t size)
{
    if (watched_file_of(descriptor) == STORAGE_NO_FILE) {
        return real.write(descriptor, bytes, size);
    }
    union {
        const void *reads;
        void *declared;
    } base = {.reads = bytes};
    struct iovec part = {base.declared, size};
    return writev(descriptor, &part, 1);
}

/* What a library built for large files calls them. */
ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t offset)
{
    return pwrite(descriptor, bytes, size, offset);
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev(descriptor, parts, count, offset);
}

int ftruncate64(int descriptor, off64_t size)
{
    return ftruncate(descriptor, size);
}
