#ifndef HOLDFAST_MIGRATE_ROW_H
#define HOLDFAST_MIGRATE_ROW_H

/*
 * What the database says of each migration: one document of the collection `holdfast_migrations`,
 * beside the data, so that a restored backup has the version that its data have.
 *
 *   { _id: Int64            the migration's number
 *     name, checksum        of its file, when it was applied
 *     state: "applying"     at work, or interrupted: `up` goes on
 *            "applied"
 *            "failed"       as applying; `error` says why it stopped
 *            "undoing"      being undone, or interrupted: `down` goes on
 *            "undone"       as if it had never been applied
 *     mark: Int64           counts the changes of this document: who has not seen the last one may
 *                           make no further one, so that of two processes only one goes on
 *     run: ObjectId         of this application: by it the journal's units are found again
 *     step: Int32           the step that is at work, from 0; of the down section while undoing by
 * it at: { v: ... }        where the step is: the last _id that is done, or how many documents of
 * an insert; absent: at its beginning units: Int64          batches committed, each one unit with
 * documents of the data documents: Int64      changed by them undo: { "2": {...} }  what the
 * inverse of step 2 needs, for steps that the journal cannot undo how: "journal"|"file", undoStep,
 * undoUnit, undoWrite, restored, conflicts, conflictList while and after undoing startedAt,
 * updatedAt, finishedAt, by, error }
 *
 * A batch's unit writes this document last, with the documents that it changes: so the journal's
 * last write of the unit tells which batch it was, and a batch is done if and only if this says so.
 *
 * Threads: that of the struct maintain.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "maintain/maintain.h"

#define ROW_COLLECTION "holdfast_migrations"

#define ROW_STATE_LIST(X)                                                                          \
    X(APPLYING, "applying")                                                                        \
    X(APPLIED, "applied")                                                                          \
    X(FAILED, "failed")                                                                            \
    X(UNDOING, "undoing")                                                                          \
    X(UNDONE, "undone")

enum row_state {
#define X(name, text) ROW_##name,
    ROW_STATE_LIST(X)
#undef X
};

/* Never NULL. */
const char *row_state_name(enum row_state state);

struct row {
    int64_t version;
    enum row_state state;
    int64_t mark; /* 0: there is no document yet */
    bson_oid_t run;
    int32_t step;
    int64_t units;
    int64_t documents;
    bool by_file; /* how */
    int32_t undo_step;
    int64_t undo_unit;
    int64_t undo_write;
    int64_t restored;
    int64_t conflicts;
    const char *name; /* these point into `document`; never NULL */
    const char *checksum;
    const char *error; /* NULL: none */
    int64_t started_ms;
    int64_t finished_ms; /* 0: not */
    bson_t *document;
};

struct row_list {
    struct row *rows; /* by version */
    size_t count;
};

/* All of the database. STATUS_CORRUPT: a document that Holdfast did not write. */
MUST_CHECK enum status row_list_read(struct maintain *maintain, const char *database,
                                     struct row_list *ret_list, struct error *ret_error);
void row_list_free(struct row_list *list);
/* NULL: none. */
struct row *row_list_find(struct row_list *list, int64_t version);

/* A row of a migration that was never applied. */
void row_make(struct row *row, int64_t version);
void row_free(struct row *row);

/* A field of the document. */
bool row_find(const struct row *row, const char *path, bson_iter_t *ret_at);

/* {"v": ...} of `at`; NULL: at the step's beginning. The caller destroys it. */
bson_t *row_at(const struct row *row);

/* What the inverse of the step needs, {} if nothing is noted: its step was not begun. The caller
   destroys it. */
bson_t *row_undo(const struct row *row, int32_t step, bool *ret_noted);

/*
 * Changes the document inside a unit: `set` are its new fields, null takes a field out. `row` stays
 * as it is; row_take() after the unit is committed. STATUS_OWNED: somebody else has changed it.
 */
MUST_CHECK enum status row_write(struct maintain_unit *unit, const char *database,
                                 const struct row *row, const bson_t *set, struct error *ret_error);
void row_take(struct row *row, const bson_t *set);

/* The same as a unit of its own. */
MUST_CHECK enum status row_change(struct maintain *maintain, const char *database, struct row *row,
                                  const bson_t *set, struct error *ret_error);

/* `set` with `undo` as it will be when the step's note is in it. */
void row_put_undo(const struct row *row, bson_t *set, int32_t step, const bson_t *note);

#endif
