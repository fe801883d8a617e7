#ifndef HOLDFAST_WAL_TAIL_H
#define HOLDFAST_WAL_TAIL_H

/*
 * The tail: the newest groups of the journal, durable before the tables have them. Private to wal/.
 *
 * A commit of the tables takes two barriers of the disk and seven or more writes of scattered
 * pages. A frame of the tail takes one write and one barrier. So a batch of groups is put into a
 * transaction of the store that stays open, is made durable as a frame, and is completed; one
 * checkpoint commits what many batches have put. The tail is redo only, and small.
 *
 *     wal_append() -> batch --put----> transaction, open --checkpoint: commit--> tables
 *                           --frame--> tail.wal, synced --> completed()
 *
 * After a checkpoint the tail begins anew, at offset 0 and with another salt: a cycle. A stray is a
 * whole frame behind damage.
 *
 * What is laid out where is in format.h. Invariants
 *  - What has been completed is in the tables, or in the tail.
 *  - A frame is written only when the one before it is durable, and never over a frame that the
 *    tables, durably, do not have: so the frames that count are those from the file's beginning
 *    with LSNs without a gap, and behind the first that is not whole there is none that counts.
 *
 * Files: tail.c frames, their chain; tail_file.c the file; tail_view.c the frames in memory, which
 * readers lay over the tables; tail_confirm.c damage, or an owner who writes.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "holdfast/wal.h"
#include "wal/format.h"

/* ------------------------------------------------------------------ frames */

/* A record as the tail has it. Points into the frame's bytes. */
struct tail_entry {
    struct slice value;       /* what the table `records` has, or will have; encrypted or not */
    struct slice session_key; /* of a BEGIN; size 0: none */
    int64_t transaction_number;
    uint64_t unit;
    enum wal_kind kind;
};

/* Whole and sound; never changed. */
struct tail_frame {
    uint64_t salt;
    uint64_t first_lsn;
    uint64_t last_lsn;
    uint8_t *bytes;
    size_t size;
    size_t count;
    struct tail_entry entries[];
};

/* A frame that is being made. All zeros at first; tail_builder_free() in the end. */
struct tail_builder {
    uint8_t *bytes;
    size_t size; /* 0: nothing yet */
    size_t capacity;
    size_t count;
    bool too_large; /* FORMAT_FRAME_BYTES_MAX is not enough: such a batch goes to the tables */
};

void tail_builder_free(struct tail_builder *builder);
/* Forgets what was added. */
void tail_builder_reset(struct tail_builder *builder);
/* `value`: a row of the table `records`. STATUS_MEMORY. */
MUST_CHECK enum status tail_builder_add(struct tail_builder *builder, struct slice value,
                                        struct slice session_key, int64_t transaction_number,
                                        struct error *ret_error);
/* The whole, which then is a frame in memory as well. STATUS_MEMORY. */
MUST_CHECK enum status tail_builder_finish(struct tail_builder *builder,
                                           const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                                           uint64_t salt, struct tail_frame **ret_frame,
                                           struct error *ret_error);
/* NULL is harmless. */
void tail_frame_free(struct tail_frame *frame);
/* What it takes in the file. */
uint64_t tail_frame_room(const struct tail_frame *frame);

/* ------------------------------------------------------------------ the file */

struct store;
struct tail_file;

/*
 * Opens DIRECTORY/tail.wal to write; makes it, full of zeros, if it is not there. One that was
 * made is on the disk. `with_sync`: for `power`; then so is each frame that was written.
 * STATUS_FULL (it was to be made), STATUS_IO, STATUS_MEMORY.
 */
MUST_CHECK enum status tail_file_open(const char *directory, bool with_sync,
                                      struct tail_file **ret_file, struct error *ret_error);
/* Fills it with zeros, durably. What it held must be in the tables, durably. Errors: as
   tail_file_write(). */
MUST_CHECK enum status tail_file_clear(struct tail_file *file, struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct tail_file *tail_file_close(struct tail_file *file);
/* Writes `bytes` at `offset`, durably. STATUS_FULL (a file system that takes new blocks for each
   write; what is there may be a part of them), STATUS_IO. */
MUST_CHECK enum status tail_file_write(struct tail_file *file, uint64_t offset, struct slice bytes,
                                       struct error *ret_error);
/* The first `limit` bytes of the file, at most FORMAT_TAIL_BYTES. *ret_bytes NULL: there is none,
   or one that is shorter than FORMAT_TAIL_BYTES, which it never is by itself; else it is to be
   freed. STATUS_IO, STATUS_MEMORY. */
MUST_CHECK enum status tail_file_read(const char *directory, size_t limit, uint8_t **ret_bytes,
                                      size_t *ret_size, struct error *ret_error);
/* Waits until what was read is on the disk. STATUS_IO. */
MUST_CHECK enum status tail_file_sync(const char *directory, struct error *ret_error);

/* ------------------------------------------------------------------ frames laid over the tables */

/*
 * The frames since the last checkpoint. One thread adds; any number of readers, each of which holds
 * it and looks at no more frames than there were when it began. Freed with the last holder.
 */
struct tail_view;

/* Held once. NULL: out of memory. */
struct tail_view *tail_view_new(void);
struct tail_view *tail_view_hold(struct tail_view *view);
/* NULL is harmless; returns NULL. */
struct tail_view *tail_view_release(struct tail_view *view);
bool tail_view_is_full(const struct tail_view *view);
/* Takes the frame over. Not if it is full. */
void tail_view_add(struct tail_view *view, struct tail_frame *frame);

/* What one reader sees: the records of the view behind `after_lsn`, which the tables do not have.
 */
struct tail_window {
    const struct tail_view *view; /* NULL: none */
    size_t frames;
    uint64_t after_lsn;
    /* of its records, once somebody has asked for a unit; 0: not known yet */
    uint64_t lowest_unit;
    uint64_t highest_unit;
    /* what tail_window_unit_next() has said last, and of which unit */
    uint64_t next_unit;
    uint64_t next_after;
    bool next_known;
};

/* All frames that are there now. Any thread that holds the view. */
struct tail_window tail_window_of(const struct tail_view *view, uint64_t after_lsn);
/* Of all its frames, whether the tables have them or not; 0: there is none. */
uint64_t tail_window_first_lsn(const struct tail_window *window);
uint64_t tail_window_last_lsn(const struct tail_window *window);
/* True if no record is missing between window->after_lsn and its first frame. */
bool tail_window_continues(const struct tail_window *window);
/* The entry with this LSN, which is then greater than window->after_lsn; NULL: none. */
const struct tail_entry *tail_window_entry(const struct tail_window *window, uint64_t lsn);
/* Lays what the window has over a unit's row from the tables. *found: whether there is a row. */
void tail_window_unit(struct tail_window *window, uint64_t unit, bool *found,
                      struct format_unit *row);
/* A place among the entries of a window. All zeros: before the first. */
struct tail_place {
    size_t frame;
    size_t entry;
    uint64_t lsn;                /* of the entry that it stands on */
    const struct tail_entry *at; /* that one */
};

/* Goes to the next entry, in the order of the frames; false: there is none. */
bool tail_window_next(const struct tail_window *window, struct tail_place *place);
/* A record of the window. */
struct tail_record {
    uint64_t unit;
    uint64_t lsn;
    const struct tail_entry *entry;
};

/* All of them, by unit, those of each in the order of their LSNs. *ret_records is to be freed.
   STATUS_MEMORY. */
MUST_CHECK enum status tail_window_by_unit(const struct tail_window *window,
                                           struct tail_record **ret_records, size_t *ret_count,
                                           struct error *ret_error);
/* The lowest unit above `after_unit` that the window has a record of; 0: none. */
uint64_t tail_window_unit_next(struct tail_window *window, uint64_t after_unit);
/* The same for a session. */
void tail_window_session(const struct tail_window *window, struct slice key, bool *found,
                         struct format_session *session);
/* The lowest session key above `after`, byte by byte; size 0: none. */
struct slice tail_window_session_next(const struct tail_window *window, struct slice after);

/* ------------------------------------------------------------------ reading the file */

/*
 * Adds the frames that count of a file's bytes to `view`, which has none. *ret_end: behind the last
 * of them, aligned; it may lie behind the bytes. Pure. STATUS_MEMORY.
 */
MUST_CHECK enum status tail_parse(struct slice bytes,
                                  const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                                  struct tail_view *view, size_t *ret_end, struct error *ret_error);

/*
 * The frames that count, as they are in DIRECTORY/tail.wal; for whoever has no view of the owner's.
 * Read it before the snapshot of the tables that it is laid over: a frame that is overwritten
 * meanwhile is in the tables. An empty view: no frame counts. *ret_view NULL: there is no file, or
 * one that was cut short.
 * STATUS_MEMORY, STATUS_IO.
 */
MUST_CHECK enum status tail_read(const char *directory,
                                 const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                                 struct tail_view **ret_view, struct error *ret_error);

/* The error of a journal whose version says that it has a tail, and that has none. */
enum status tail_is_missing(const char *directory, struct error *ret_error);

/* What a file of the tail has, for tables that end with a known LSN. */
struct tail_contents {
    struct tail_view *frames; /* those that count; some of them the tables may have already */
    struct tail_view *strays; /* whole ones behind those, with LSNs that neither they nor the tables
                                 have: something that was between is damaged */
    size_t end;               /* offset behind the frames that count */
    size_t stray;             /* of the first stray; FORMAT_TAIL_BYTES: there is none */
};

/* Of `bytes`, which tail_file_read() has read; `last_lsn`: the tables' last. To be freed with
   tail_contents_free(). STATUS_MEMORY. */
MUST_CHECK enum status tail_look(struct slice bytes, const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                                 uint64_t last_lsn, struct tail_contents *ret_contents,
                                 struct error *ret_error);
/* All zeros are harmless. */
void tail_contents_free(struct tail_contents *contents);

/*
 * Where the bytes may have been read while an owner wrote: whether the strays are damage. If not,
 * contents->stray is set to none. `store`: of the tables, whose snapshot tail_look() knew the end
 * of was taken after the bytes were read. Errors: STATUS_MEMORY, STATUS_IO and those of the store.
 */
MUST_CHECK enum status tail_confirm(const char *directory, struct store *store,
                                    const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                                    struct tail_contents *contents, struct error *ret_error);

/* Whether the tail continues tables that end with `last_lsn`, and nothing that counts is missing
   from it. STATUS_CORRUPT. */
MUST_CHECK enum status tail_judge(const struct tail_contents *contents, uint64_t last_lsn,
                                  struct error *ret_error);

#endif
