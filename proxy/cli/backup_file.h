#ifndef HOLDFAST_CLI_BACKUP_FILE_H
#define HOLDFAST_CLI_BACKUP_FILE_H

/*
 * What `holdfast backup` leaves beside a dump, and `holdfast after-restore` goes by:
 * DIR/holdfast-backup.json and, unless it was not wanted, a copy of the journal in DIR/journal.
 *
 *   { version: 1, journal: "<hex of its id>", fromLsn, untilLsn, finished, paused, journalCopied,
 *     began: Date, ended: Date, command: [...], exitCode }
 *
 * Units that ended up to fromLsn are in the dump as a whole. What it shows of later ones, their
 * records up to untilLsn tell. `paused`: nobody wrote from beginning to end, it is of one moment.
 *
 * Threads: main only.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"

#define BACKUP_FILE_NAME "holdfast-backup.json"
#define BACKUP_JOURNAL_NAME "journal"
#define BACKUP_JOURNAL_TEXT_BYTES 33

struct backup_file {
    char journal[BACKUP_JOURNAL_TEXT_BYTES];
    uint64_t from_lsn;
    uint64_t until_lsn;
    bool finished; /* the command ended with 0 */
    bool paused;
    bool journal_copied;
    uint64_t began_ms;
    uint64_t ended_ms;
    char *const *command; /* written only */
    int exit_code;
};

/* Puts the file into `directory` in place of the one there is. Errors: STATUS_IO, STATUS_INVALID.
 */
MUST_CHECK enum status backup_file_write(const char *directory, const struct backup_file *file,
                                         struct error *ret_error);

/* Errors: STATUS_NOT_FOUND, STATUS_IO, STATUS_INVALID (it is none). */
MUST_CHECK enum status backup_file_read(const char *directory, struct backup_file *ret_file,
                                        struct error *ret_error);

#endif
