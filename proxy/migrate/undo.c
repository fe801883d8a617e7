/*
 * Undoing a migration by the journal (migrate.h).
 *
 *     step 2: units 9 8 7      newest first; then the inverse of what the step noted, if it did
 *     step 1: units 6 5
 *     step 0: units 4 3 2 1
 *
 * The row says which unit is next (undoUnit) and how many of its writes are done (undoWrite); it is
 * changed in the same unit as the documents. So killed and begun again it goes on where it was.
 *
 * Threads: one for each struct migrate.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "migrate/conflicts.h"
#include "migrate/journal.h"
#include "migrate/namespace.h"
#include "migrate/private.h"
#include "migrate/undo_documents.h"

/* ------------------------------------------------------------------ indexes and collections */

static const char *note_text(const bson_t *note, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, note, name) && BSON_ITER_HOLDS_UTF8(&at)
               ? bson_iter_utf8(&at, NULL)
               : "";
}

static bool note_says(const bson_t *note, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, note, name) && bson_iter_as_bool(&at);
}

static bson_t *note_document(const bson_t *note, const char *name)
{
    bson_iter_t at;
    const uint8_t *data = NULL;
    uint32_t size = 0;
    if (!bson_iter_init_find(&at, note, name) || !BSON_ITER_HOLDS_DOCUMENT(&at)) {
        return bson_new();
    }
    bson_iter_document(&at, &size, &data);
    return bson_new_from_data(data, size);
}

/* What looks empty is moved away before it is dropped, so that nobody writes into it between the
   last look and that. */
static enum status drop_if_empty(struct migrate *migrate, const struct row *row, int32_t step,
                                 const char *collection, struct error *ret_error)
{
    char away[256];
    bool empty = false;
    bson_t *found = NULL;
    bson_t *moved = NULL;
    bson_t nothing = BSON_INITIALIZER;
    (void)snprintf(away, sizeof(away), "holdfast_undone.%" PRId64 ".%d.%s", row->version, step,
                   collection);
    enum status status = namespace_describe(migrate, away, &moved, ret_error);
    if (status == STATUS_OK) {
        status = namespace_describe(migrate, collection, &found, ret_error);
    }
    if (status == STATUS_OK && moved == NULL && found != NULL) {
        status = namespace_is_empty(migrate, collection, &empty, ret_error);
        if (status == STATUS_OK && !empty) {
            status = error_set(ret_error, STATUS_REFUSED, "it holds documents by now");
        } else if (status == STATUS_OK) {
            status = namespace_rename(migrate, collection, away, &nothing, ret_error);
        }
    }
    if (status == STATUS_OK && (moved != NULL || found != NULL)) {
        status = namespace_is_empty(migrate, away, &empty, ret_error);
        if (status == STATUS_OK && empty) {
            status = namespace_drop(migrate, away, ret_error);
        } else if (status == STATUS_OK) {
            status = namespace_rename(migrate, away, collection, &nothing, ret_error);
            status = status == STATUS_OK
                         ? error_set(ret_error, STATUS_REFUSED, "it holds documents by now")
                         : status;
        }
    }
    bson_destroy(&nothing);
    bson_destroy(found);
    bson_destroy(moved);
    return status;
}

static enum status undo_note(struct migrate *migrate, const struct row *row, int32_t step,
                             const bson_t *note, struct error *ret_error)
{
    const char *word = note_text(note, "word");
    const char *collection = note_text(note, "collection");
    bson_t *index = note_document(note, "index");
    bson_t *options = note_document(note, "options");
    enum status status = STATUS_OK;
    if (strcmp(word, "createIndex") == 0 && !note_says(note, "existed")) {
        status = namespace_drop_index(migrate, collection, note_text(note, "name"), ret_error);
        if (status == STATUS_REFUSED &&
            maintain_refusal(migrate->maintain).code == MAINTAIN_NAMESPACE_NOT_FOUND) {
            status = STATUS_OK;
        }
    } else if (strcmp(word, "dropIndex") == 0) {
        status = namespace_create_index(migrate, collection, index, ret_error);
    } else if (strcmp(word, "createCollection") == 0 && !note_says(note, "existed")) {
        status = drop_if_empty(migrate, row, step, collection, ret_error);
    } else if (strcmp(word, "renameCollection") == 0 || strcmp(word, "dropCollection") == 0) {
        status = namespace_rename(migrate, note_text(note, "to"), collection, note, ret_error);
    } else if (strcmp(word, "setValidator") == 0) {
        status = namespace_modify(migrate, collection, options, ret_error);
    }
    bson_destroy(index);
    bson_destroy(options);
    return status;
}

/* A step that was noted and whose command never came is there to be undone just as well, but for a
   renaming: then there is nothing to move back. */
static bool was_never_done(struct migrate *migrate, const bson_t *note)
{
    bson_t *moved = NULL;
    const char *to = note_text(note, "to");
    if (to[0] == '\0' || namespace_describe(migrate, to, &moved, NULL) != STATUS_OK) {
        return false;
    }
    bson_t *there = NULL;
    bool never =
        moved == NULL &&
        namespace_describe(migrate, note_text(note, "collection"), &there, NULL) == STATUS_OK &&
        there != NULL;
    bson_destroy(moved);
    bson_destroy(there);
    return never;
}

static void put_conflict(struct migrate *migrate, const struct row *row, bson_t *set,
                         const bson_t *note, const char *reason)
{
    char namespace[256];
    bson_t key = BSON_INITIALIZER;
    (void)snprintf(namespace, sizeof(namespace), "%s.%s", migrate->database,
                   note_text(note, "collection"));
    struct migrate_conflict conflict = {.version = row->version,
                                        .namespace = namespace,
                                        .key = slice_make(bson_get_data(&key), key.len),
                                        .reason = reason};
    conflicts_put(row, set, &conflict, 1);
    if (migrate->options.conflict != NULL) {
        migrate->options.conflict(migrate->options.context, &conflict);
    }
    bson_destroy(&key);
}

/* What is in the way is a document or a collection, not the server or the user's rights. */
static bool is_conflict(const struct migrate *migrate, enum status status)
{
    /* 0: it was found out here, and nothing was refused. */
    static const int32_t codes[] = {0, 26, 48, 67, 85, 86, MAINTAIN_DUPLICATE_KEY};
    for (size_t i = 0; status == STATUS_REFUSED && i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (maintain_refusal(migrate->maintain).code == codes[i]) {
            return true;
        }
    }
    return false;
}

/* The step's note, if it made one; then the step is undone. */
static enum status end_step(struct migrate *migrate, struct row *row, struct error *ret_error)
{
    bool noted = false;
    bson_t set = BSON_INITIALIZER;
    bson_t *note = row_undo(row, row->undo_step, &noted);
    struct error error = {0};
    enum status status = STATUS_OK;
    if (noted && !was_never_done(migrate, note)) {
        status = undo_note(migrate, row, row->undo_step, note, &error);
        if (is_conflict(migrate, status)) {
            put_conflict(migrate, row, &set, note, error.message);
            status = STATUS_OK;
        }
    }
    if (status == STATUS_OK) {
        BSON_APPEND_INT32(&set, "undoStep", row->undo_step - 1);
        status = run_change(migrate, row, &set, ret_error);
    } else {
        status = error_set(ret_error, status, "%s", error.message);
        bson_destroy(&set);
    }
    bson_destroy(note);
    return status;
}

/* ------------------------------------------------------------------ in order */

static enum status begin(struct migrate *migrate, struct row *row, struct error *ret_error)
{
    bson_t set = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&set, "state", row_state_name(ROW_UNDOING));
    if (row->state != ROW_UNDOING) {
        BSON_APPEND_UTF8(&set, "how", "journal");
        BSON_APPEND_INT32(&set, "undoStep", row->step);
        BSON_APPEND_INT64(&set, "undoUnit", row->units);
        BSON_APPEND_INT64(&set, "undoWrite", 0);
        BSON_APPEND_INT64(&set, "restored", 0);
        BSON_APPEND_INT64(&set, "conflicts", 0);
        BSON_APPEND_NULL(&set, "conflictList");
    }
    BSON_APPEND_NULL(&set, "error");
    return run_change(migrate, row, &set, ret_error);
}

static enum status undo_steps(struct migrate *migrate, struct row *row,
                              const struct journal_run *run, struct error *ret_error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && row->undo_step >= 0) {
        int32_t step = -1;
        struct undo_unit *unit = NULL;
        if (row->undo_unit > 0 && row->undo_unit <= run->count) {
            status =
                undo_unit_open(migrate, run->units[row->undo_unit - 1], &unit, &step, ret_error);
        }
        if (status == STATUS_OK && unit != NULL && step >= row->undo_step) {
            status = undo_unit_run(unit, row, ret_error);
        } else if (status == STATUS_OK) {
            status = end_step(migrate, row, ret_error);
        }
        undo_unit_close(unit);
        if (status == STATUS_OK) {
            status = migrate_go_on(migrate, ret_error);
        }
    }
    return status;
}

enum status undo_by_journal(struct migrate *migrate, struct row *row, struct error *ret_error)
{
    struct journal_run run = {0};
    enum status status = begin(migrate, row, ret_error);
    if (status == STATUS_OK) {
        status = journal_run_open(&run, &row->run, row->units, ret_error);
    }
    if (status == STATUS_OK && row->units > 0) {
        status = journal_search(migrate->options.wal, migrate->database, &run, 1, ret_error);
    }
    if (status == STATUS_OK) {
        status = undo_steps(migrate, row, &run, ret_error);
    }
    journal_run_close(&run);
    return status;
}
