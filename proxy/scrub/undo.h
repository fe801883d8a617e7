#ifndef HOLDFAST_SCRUB_UNDO_H
#define HOLDFAST_SCRUB_UNDO_H

/*
 * A run's units in the journal, and undoing them.
 *
 * A run's units name it in their appName, "holdfast scrub RUN". Each is undone whole or not at all,
 * newest first, in a unit of its own through the running holdfastd: only if all documents are
 * still, byte for byte, what it left. So what somebody has written since is never overwritten.
 *
 * Works beside a living holdfastd, on a journal that was opened to read.
 *
 * Threads: the caller's; synchronous.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "maintain/maintain.h"

#define SCRUB_RUN_BYTES 17 /* 16 hexadecimal digits */
#define SCRUB_APPLICATION "holdfast scrub "

struct scrub_run_unit {
    uint64_t unit;
    char run[SCRUB_RUN_BYTES];
    uint64_t time_ms; /* of its end */
};

/*
 * The committed units of scrubs in the journal, oldest first; `run` NULL: of all of them. The
 * caller frees *ret_units. Errors: those of reading the journal, STATUS_MEMORY.
 */
MUST_CHECK enum status scrub_run_units(struct wal *wal, const char *run,
                                       struct scrub_run_unit **ret_units, size_t *ret_count,
                                       struct error *ret_error);

/* What the run's documents were before each of its units: 16 bytes a write. */
struct scrub_run_images;

/* Errors: those of reading the journal. The caller gives *ret_images to scrub_run_images_free(). */
MUST_CHECK enum status scrub_run_images_read(struct wal *wal, const struct scrub_run_unit *units,
                                             size_t count, struct scrub_run_images **ret_images,
                                             struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct scrub_run_images *scrub_run_images_free(struct scrub_run_images *images);

enum scrub_undone {
    SCRUB_UNDONE,
    SCRUB_UNDONE_ALREADY, /* its documents are what they were before it, or an older one, of the run
                           */
    SCRUB_UNDO_CHANGED,   /* somebody has written one of them since: nothing was done */
};

/* Undoes one unit. Errors: those of maintain_run() and of reading the journal; STATUS_UNSUPPORTED
   (the native engine's: the journal has no images). */
MUST_CHECK enum status scrub_undo(struct maintain *maintain, struct wal *wal,
                                  const struct scrub_run_images *images, uint64_t unit,
                                  enum scrub_undone *ret_undone, struct error *ret_error);

#endif
