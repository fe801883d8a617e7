#ifndef HOLDFAST_MIGRATE_FILE_H
#define HOLDFAST_MIGRATE_FILE_H

/*
 * Migration files: NUMBER_NAME.yaml, .yml or .json in one directory. Their grammar is in
 * docs/MIGRATIONS.md; what it allows is one table in file_words.c.
 *
 * Threads: any; nothing is kept.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "migrate/step.h"

/* SHA-256 in hex, of the file without the carriage returns that a checkout may add. */
#define MIGRATION_CHECKSUM_BYTES 65

struct migration_file {
    int64_t version; /* the number in front of its name; above 0 */
    char *name;      /* what is between number and ending */
    char *path;
    char *description; /* or NULL */
    char checksum[MIGRATION_CHECKSUM_BYTES];
    struct step_list up;
    struct step_list down;
    bool has_down; /* it has a down section, perhaps an empty one */
};

/* All of a directory, by version. Zeroed, it is empty. */
struct migration_folder {
    struct migration_file *files;
    size_t count;
};

/*
 * Reads all files of the directory. Hidden files, directories and files of other endings are passed
 * over. Errors: STATUS_INVALID (the message names the file, and the line: a bad name, two of one
 * number, what breaks the grammar), STATUS_NOT_FOUND (no such directory), STATUS_MEMORY. Give the
 * result to migration_folder_free().
 */
MUST_CHECK enum status migration_folder_read(const char *directory,
                                             struct migration_folder *ret_folder,
                                             struct error *ret_error);
void migration_folder_free(struct migration_folder *folder);

/* NULL: there is none. */
const struct migration_file *migration_folder_find(const struct migration_folder *folder,
                                                   int64_t version);

/*
 * One file's contents; `name` is for messages. Sets description, checksum, steps; the rest is the
 * caller's. After an error there is nothing to free.
 */
MUST_CHECK enum status migration_parse(struct slice text, const char *name,
                                       struct migration_file *ret_file, struct error *ret_error);
void migration_file_free(struct migration_file *file);

#endif
