#ifndef HOLDFAST_RECOVER_HISTORY_H
#define HOLDFAST_RECOVER_HISTORY_H

/*
 * All writes of one unit, read from the journal, without its images: of an image it is remembered
 * where it is, and it is read when it is needed. So a unit costs memory by the number of its
 * writes (about 200 bytes each and the document's _id), not by the size of its documents.
 *
 *     history: writes[0] writes[1] ...         operation, namespace, _id, connection
 *                  |  before, after, command   record, offset and size: 32 bytes each
 *                  v
 *     journal: WRITE 0  WRITE 1 ...
 *
 * A record never changes and its checksum is compared at each reading; retention leaves alone what
 * is open or in conflict, so that the places stay right while the journal is open. Of a unit that
 * has ended they do until retention takes it: then reading is STATUS_CORRUPT.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/slice.h"
#include "holdfast/wal.h"
#include "recover/record.h"

/* An image, or a command, and where its bytes are: in the journal or in memory. */
struct history_image {
    enum image_presence presence;
    uint32_t offset; /* in the payload of record `lsn` */
    uint32_t size;
    uint64_t lsn;         /* 0: in memory */
    const uint8_t *bytes; /* in memory only; borrowed */
};

/* An image in memory, which must outlive what is made. */
struct history_image history_image_here(struct image image);

struct history_write {
    uint64_t lsn; /* of its WRITE record; 0: in memory */
    enum record_operation operation;
    bool refused; /* the server did not carry it out: it touched nothing */
    const char *namespace;
    struct slice key;
    const char *connection;
    struct history_image before;
    struct history_image after;   /* UNKNOWN where the journal does not say it */
    struct history_image command; /* PRESENT or UNKNOWN */
    int64_t plain_probe;          /* as in the record (record.h) */
};

struct unit_history {
    struct wal *wal; /* where the images are; NULL: all of them are in memory */
    uint64_t unit;
    enum wal_unit_state state;
    uint64_t last_lsn;
    uint64_t begin_time_ms;
    uint64_t last_time_ms;
    struct record_begin begin;
    struct history_write *writes; /* oldest first: the index is the write's number */
    size_t write_count;
    struct slice committing;       /* payload of the COMMITTING record; size 0: none */
    struct slice last_payload;     /* payload of a COMMIT, ABORT or CONFLICT record, else size 0 */
    struct history_memory *memory; /* private */
};

/*
 * Follows the unit's chain of records from its last one back, and checks all of it.
 * STATUS_NOT_FOUND, STATUS_CORRUPT, STATUS_MEMORY, those of reading the journal. Give the result to
 * unit_history_free(); `wal` must outlive it.
 */
MUST_CHECK enum status unit_history_load(struct wal *wal, uint64_t unit,
                                         struct unit_history **ret_history,
                                         struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct unit_history *unit_history_free(struct unit_history *history);

/*
 * The image, as a view that is valid while `reader` is open, or as long as what was in memory.
 * `reader` may be NULL if the unit's `wal` is. STATUS_CORRUPT, those of reading the journal.
 */
MUST_CHECK enum status history_image_view(struct wal_reader *reader,
                                          const struct history_image *image, struct image *ret_view,
                                          struct error *ret_error);

/*
 * The image, as a copy for image_free(), so that no reader stays open while the server is worked
 * on. STATUS_CORRUPT, STATUS_MEMORY, those of reading the journal.
 */
MUST_CHECK enum status history_image_read(const struct unit_history *history,
                                          const struct history_image *image, struct image *ret_copy,
                                          struct error *ret_error);

/* A reader for several views. *ret_reader is NULL if the unit's `wal` is: that is no error. */
MUST_CHECK enum status history_reader_begin(const struct unit_history *history,
                                            struct wal_reader **ret_reader,
                                            struct error *ret_error);

#endif
