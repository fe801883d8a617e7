#ifndef HOLDFAST_TESTS_CRASH_STORAGE_H
#define HOLDFAST_TESTS_CRASH_STORAGE_H

/*
 * A shim between the journal and the kernel: it records what is done to data.mdb and to tail.wal,
 * and makes chosen calls fail. All else goes on to the kernel, so the journal under test runs as
 * always; only syncs and fallocate() do not: no power is really cut, and thousands of images would
 * wait for them.
 *
 *     liblmdb.so --+
 *     tail_file.c -+- pwrite, writev, fdatasync ... --> storage.c (in the executable) --> libc
 *                                                         |
 *                                                         +--> events, in order
 *
 * One recording at a time in a process. Any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum storage_file {
    STORAGE_NO_FILE,  /* in a fault: any */
    STORAGE_TABLES,   /* data.mdb, and before it has its name journal.new/data.mdb */
    STORAGE_TAIL,     /* tail.wal */
    STORAGE_TAIL_NEW, /* tail.wal.new; its first write, at 0, begins it anew */
};

enum storage_kind {
    STORAGE_WRITE,         /* into the page cache */
    STORAGE_WRITE_THROUGH, /* by a descriptor with O_DSYNC: LMDB's meta pages */
    STORAGE_RESIZE,        /* ftruncate: `offset` is the new size */
    STORAGE_SYNC,          /* fdatasync or fsync of the file */
    STORAGE_RENAME,        /* of journal.new/data.mdb to data.mdb, of tail.wal.new to tail.wal */
    STORAGE_SYNC_DIRECTORY,
    STORAGE_MARK, /* storage_mark(): something the test itself did */
};

struct storage_event {
    enum storage_kind kind;
    enum storage_file file;
    bool failed; /* the caller was told so: nobody knows what of it reached the disk */
    uint64_t offset;
    size_t size;
    uint8_t *bytes;
    int mark_kind;
    uint64_t mark;
};

struct storage_trace {
    struct storage_event *events;
    size_t count;
};

void storage_record_start(void);
/* Ends the recording and gives it to the caller. */
struct storage_trace storage_record_stop(void);
void storage_trace_free(struct storage_trace *trace);

/* Adds a mark to the recording and returns its place there; 0 when nothing is recorded. */
size_t storage_mark(int kind, uint64_t value);

/* Which call fails, and how. */
enum storage_call {
    STORAGE_CALL_NONE,
    STORAGE_CALL_WRITE,         /* STORAGE_WRITE */
    STORAGE_CALL_WRITE_THROUGH, /* STORAGE_WRITE_THROUGH */
    STORAGE_CALL_SYNC,          /* STORAGE_SYNC */
    STORAGE_CALL_ANY_WRITE,     /* both kinds of write */
    STORAGE_CALL_RENAME,        /* STORAGE_RENAME; only STORAGE_NOT_DONE */
};

enum storage_failure {
    STORAGE_NOT_DONE, /* the call does nothing but fail */
    STORAGE_DONE,     /* the page cache has the bytes, and yet the call fails */
    STORAGE_SHORT,    /* a write does its first half and says so, without an error */
};

struct storage_fault {
    enum storage_call call;
    enum storage_file file; /* only those to this file */
    unsigned from;          /* the calls of this kind from this one on, counted from 1, ... */
    unsigned count;         /* ... so many of them, fail */
    int error;              /* errno; not for STORAGE_SHORT */
    enum storage_failure failure;
};

/* Replaces the fault and begins to count anew. NULL: no fault. */
void storage_fault_set(const struct storage_fault *fault);
/* While true, the file system says that it has no room: statvfs() gives 0, fallocate() fails. */
void storage_disk_full_set(bool full);

/* Behind the blocks of data.mdb that were last allocated beforehand. */
uint64_t storage_allocated_end(void);

/* How many calls have been made to fail since it was set. */
unsigned storage_fault_hits(void);
/* The file of the last of them. */
enum storage_file storage_fault_hit_file(void);
/* Whether it was a write of nothing but zeros that was short. */
bool storage_fault_hit_zeros(void);

#endif
