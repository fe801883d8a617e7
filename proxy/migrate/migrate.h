#ifndef HOLDFAST_MIGRATE_MIGRATE_H
#define HOLDFAST_MIGRATE_MIGRATE_H

/*
 * Schema migrations through a running holdfastd, while services go on writing.
 *
 *     file.h     what is to be done        row.h      how far it is, in the database
 *     search.h   which documents           journal.h  which units did it, for undoing
 *
 * A step's documents are changed in batches in the order of _id. A batch is one unit: it changes
 * its documents and, with them, the migration's row, which says how far the step is. So whatever is
 * killed at whatever moment, what the row says is done is done, once, and `up` goes on behind it.
 *
 * Steps that are no writes of documents (indexes, collections) note in the row what they are about
 * to do, do it, and note that it is done; carried out again they find their own work.
 *
 * Undoing goes by the journal: each unit's before-images are put back, newest unit first, where a
 * document is still byte for byte what the migration made of it. Where it is not, or cannot be put
 * back, it stays as it is and is a conflict. Or it goes by the file's down section.
 *
 * Threads: one for each struct migrate.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/wal.h"
#include "migrate/file.h"
#include "migrate/row.h"

struct migrate;

enum migrate_way {
    MIGRATE_WAY_BEST, /* the journal where it has all units, else the down section */
    MIGRATE_WAY_JOURNAL,
    MIGRATE_WAY_FILE,
};

/* How far a migration is; texts are valid during the call. */
struct migrate_progress {
    const struct row *row;
    const char *what; /* "update customers" */
    size_t step;      /* from 1 */
    size_t steps;
};

/* A document that could not be undone. */
struct migrate_conflict {
    int64_t version;
    const char *namespace;
    struct slice key; /* {_id: value} */
    const char *reason;
};

struct migrate_options {
    const char *directory; /* of the files */
    const char *uri;       /* of the proxy */
    const char *database;  /* NULL: the URI's */
    struct wal *wal;       /* opened to read, or NULL: then nothing is undone by the journal */
    uint64_t patience_ms;  /* how long a proxy that is away, or a conflict, is tried again */
    uint64_t open_ms;      /* the same at the beginning; 0: patience_ms */
    uint64_t wait_ms;      /* for another process that migrates */
    uint64_t pause_ms;     /* between batches */
    uint32_t batch;        /* documents of a unit, at most */
    bool out_of_order;     /* also what has a lower number than what is applied */
    enum migrate_way way;
    bool (*stop)(void *context); /* asked between batches; may be NULL */
    void (*progress)(void *context, const struct migrate_progress *progress); /* may be NULL */
    void (*conflict)(void *context, const struct migrate_conflict *conflict); /* may be NULL */
    void (*waiting)(void *context, const char *holder);                       /* may be NULL */
    void *context;
};

/* The unit of the journal's records that migrations are found by. */
#define MIGRATE_APPLICATION "holdfast migrate"

#define MIGRATE_BATCH_DEFAULT 100u

/*
 * Reads the files, connects, and reads the rows. Changes nothing. Errors: those of file.h and
 * maintain.h, STATUS_INVALID (no database named). `options` is copied; what it points to must
 * outlive the result. Give it to migrate_close().
 */
MUST_CHECK enum status migrate_open(const struct migrate_options *options,
                                    struct migrate **ret_migrate, struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct migrate *migrate_close(struct migrate *migrate);

/* ------------------------------------------------------------------ looking */

struct migrate_entry {
    int64_t version;
    const struct migration_file *file; /* NULL: applied, but not in the directory */
    const struct row *row;             /* NULL: never applied */
    bool pending;                      /* `up` would apply it, or go on with it */
    bool changed;                      /* the file is not the one that was applied */
    bool out_of_order;                 /* pending, with a lower number than one that is applied */
    /* Of what is applied in whole or in part: */
    int64_t units_found; /* in the journal, of row->units; -1: no journal was named */
    uint64_t oldest_ms;  /* when the oldest of those ended: retention counts from there */
    bool by_journal;     /* the journal can undo it */
    bool by_file;        /* its file has a down section */
    const char *cannot;  /* why not by the journal; NULL: it can */
};

/* By version. Valid until the next call with `migrate`. Looks through the journal. */
MUST_CHECK enum status migrate_entries(struct migrate *migrate, struct migrate_entry **ret_entries,
                                       size_t *ret_count, struct error *ret_error);

/* The same, and whether up may be done to version `to`: the errors of migrate_up() beforehand. */
MUST_CHECK enum status migrate_check(struct migrate *migrate, int64_t to,
                                     struct migrate_entry **ret_entries, size_t *ret_count,
                                     struct error *ret_error);

/* The highest version that is applied, as far as was read or done; 0: none. */
int64_t migrate_version(const struct migrate *migrate);
const char *migrate_database(const struct migrate *migrate);
/* Who holds the lock, for people; "" if nobody. */
MUST_CHECK enum status migrate_holder(struct migrate *migrate, char *holder, size_t capacity,
                                      struct error *ret_error);

/* How many documents the step would change now; -1: it is none that changes documents. */
MUST_CHECK enum status migrate_count(struct migrate *migrate, const struct step *step,
                                     int64_t *ret_count, struct error *ret_error);

/* "update customers": for people. */
void migrate_step_describe(const struct step *step, char *text, size_t capacity);

/* ------------------------------------------------------------------ doing */

/*
 * Applies what is pending up to version `to` (INT64_MAX: all), in order, each after `done` was told
 * of the one before. Takes the lock.
 *
 * Errors: STATUS_OWNED (another process has the lock, or has gone on with our migration),
 * STATUS_INVALID (a file was changed, or is out of order), STATUS_REFUSED (the server refused a
 * step: the row says why, the migration is `failed`, `up` goes on there), those of maintain.h.
 */
MUST_CHECK enum status migrate_up(struct migrate *migrate, int64_t to,
                                  void (*done)(void *context, const struct row *row),
                                  struct error *ret_error);

/*
 * Undoes what is applied above version `to`, newest first, and what was left half done; `to` -1:
 * the newest alone. Takes the lock. Conflicts are no error. Errors also: STATUS_UNSUPPORTED (the
 * journal does not have all of it any more, and there is no down section).
 */
MUST_CHECK enum status migrate_down(struct migrate *migrate, int64_t to,
                                    void (*done)(void *context, const struct row *row),
                                    struct error *ret_error);

/*
 * Notes what is pending up to `to` as applied, and carries nothing out: for a database that has it
 * already. Else as migrate_up().
 */
MUST_CHECK enum status migrate_baseline(struct migrate *migrate, int64_t to,
                                        void (*done)(void *context, const struct row *row),
                                        struct error *ret_error);

/* Takes the checksums of changed files of what is applied for right. Else as migrate_up(). */
MUST_CHECK enum status migrate_repair(struct migrate *migrate,
                                      void (*done)(void *context, const struct row *row),
                                      struct error *ret_error);

#endif
