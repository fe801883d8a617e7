/*
 * Steps that change indexes and collections, and their inverses.
 *
 *     note what the inverse needs --> do --> note that the step is done
 *
 * The note comes first and is complete, so that the inverse needs no file. Whoever finds a note
 * that was made before does the step again, and takes what is done already for its own: a
 * collection that was renamed is known by its UUID.
 *
 *   { word: "createIndex", collection, name, existed: true | false }
 *   { word: "dropIndex", collection, index: {key, name, ...} }
 *   { word: "createCollection", collection, existed }
 *   { word: "renameCollection", collection, to, uuid }
 *   { word: "dropCollection", collection, to: "holdfast_dropped..." (kept) or gone: true, uuid }
 *   { word: "setValidator", collection, options: {validator, ...} }
 *
 * Threads: that of the struct migrate.
 */

#include <stdio.h>
#include <string.h>

#include "migrate/namespace.h"
#include "migrate/private.h"

static void put_uuid(bson_t *note, const bson_t *description)
{
    bson_iter_t at;
    bson_iter_t uuid;
    if (bson_iter_init(&at, description) && bson_iter_find_descendant(&at, "info.uuid", &uuid)) {
        bson_append_iter(note, "uuid", 4, &uuid);
    }
}

/* The collection that the step is about, which must be there. */
static enum status describe(const struct step_run *run, bson_t **ret_description,
                            struct error *ret_error)
{
    enum status status =
        namespace_describe(run->migrate, run->step->collection, ret_description, ret_error);
    return status != STATUS_OK || *ret_description != NULL
               ? status
               : error_set(ret_error, STATUS_REFUSED, "there is no collection %s",
                           run->step->collection);
}

static enum status note_index(const struct step_run *run, bson_t *note, struct error *ret_error)
{
    bson_t *index = NULL;
    enum status status =
        namespace_index(run->migrate, run->step->collection, run->step->name, &index, ret_error);
    if (status == STATUS_OK && run->step->kind == STEP_CREATE_INDEX) {
        BSON_APPEND_UTF8(note, "name", run->step->name);
        BSON_APPEND_BOOL(note, "existed", index != NULL);
    } else if (status == STATUS_OK && index == NULL) {
        status = error_set(ret_error, STATUS_REFUSED, "%s has no index %s", run->step->collection,
                           run->step->name);
    } else if (status == STATUS_OK) {
        BSON_APPEND_DOCUMENT(note, "index", index);
    }
    bson_destroy(index);
    return status;
}

static enum status note_create(const struct step_run *run, bson_t *note, struct error *ret_error)
{
    bson_t *found = NULL;
    enum status status = namespace_describe(run->migrate, run->step->collection, &found, ret_error);
    if (status == STATUS_OK && found != NULL && !bson_empty(run->step->options)) {
        status = error_set(ret_error, STATUS_REFUSED,
                           "there is a collection %s already, perhaps with other options",
                           run->step->collection);
    }
    BSON_APPEND_BOOL(note, "existed", found != NULL);
    bson_destroy(found);
    return status;
}

static enum status note_rename(const struct step_run *run, const char *to, bson_t *note,
                               struct error *ret_error)
{
    bson_t *found = NULL;
    bson_t *other = NULL;
    enum status status = describe(run, &found, ret_error);
    if (status == STATUS_OK) {
        status = namespace_describe(run->migrate, to, &other, ret_error);
    }
    if (status == STATUS_OK && other != NULL) {
        status = error_set(ret_error, STATUS_REFUSED, "there is a collection %s already", to);
    }
    if (status == STATUS_OK) {
        BSON_APPEND_UTF8(note, "to", to);
    }
    bson_destroy(found);
    bson_destroy(other);
    return status;
}

static enum status note_drop(const struct step_run *run, bson_t *note, struct error *ret_error)
{
    char kept[256];
    if (!run->step->keep) {
        bson_t *found = NULL;
        enum status status = describe(run, &found, ret_error);
        BSON_APPEND_BOOL(note, "gone", true);
        bson_destroy(found);
        return status;
    }
    (void)snprintf(kept, sizeof(kept), "holdfast_dropped.%lld.%d.%s", (long long)run->row->version,
                   run->index, run->step->collection);
    return note_rename(run, kept, note, ret_error);
}

static enum status note_validator(const struct step_run *run, bson_t *note, struct error *ret_error)
{
    static const char *const names[] = {"validator", "validationLevel", "validationAction"};
    static const char *const defaults[] = {NULL, "strict", "error"};
    bson_t *found = NULL;
    bson_t options;
    enum status status = describe(run, &found, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    BSON_APPEND_DOCUMENT_BEGIN(note, "options", &options);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[64];
        bson_iter_t at;
        bson_iter_t value;
        (void)snprintf(path, sizeof(path), "options.%s", names[i]);
        if (bson_iter_init(&at, found) && bson_iter_find_descendant(&at, path, &value)) {
            bson_append_iter(&options, names[i], -1, &value);
        } else if (defaults[i] != NULL) {
            BSON_APPEND_UTF8(&options, names[i], defaults[i]);
        } else {
            bson_t none = BSON_INITIALIZER;
            BSON_APPEND_DOCUMENT(&options, names[i], &none);
            bson_destroy(&none);
        }
    }
    bson_append_document_end(note, &options);
    bson_destroy(found);
    return STATUS_OK;
}

static enum status make_note(const struct step_run *run, bson_t *note, struct error *ret_error)
{
    BSON_APPEND_UTF8(note, "word", run->step->word);
    BSON_APPEND_UTF8(note, "collection", run->step->collection);
    switch (run->step->kind) {
    case STEP_CREATE_INDEX:
    case STEP_DROP_INDEX:
        return note_index(run, note, ret_error);
    case STEP_CREATE_COLLECTION:
        return note_create(run, note, ret_error);
    case STEP_RENAME_COLLECTION:
        return note_rename(run, run->step->name, note, ret_error);
    case STEP_DROP_COLLECTION:
        return note_drop(run, note, ret_error);
    case STEP_SET_VALIDATOR:
        return note_validator(run, note, ret_error);
    default:
        return error_set(ret_error, STATUS_UNSUPPORTED, "no such step");
    }
}

/* ------------------------------------------------------------------ doing it */

static enum status do_step(const struct step_run *run, const bson_t *note, struct error *ret_error)
{
    struct migrate *migrate = run->migrate;
    const struct step *step = run->step;
    bson_iter_t at;
    switch (step->kind) {
    case STEP_CREATE_INDEX:
        return namespace_create_index(migrate, step->collection, step->index, ret_error);
    case STEP_DROP_INDEX:
        return namespace_drop_index(migrate, step->collection, step->name, ret_error);
    case STEP_CREATE_COLLECTION:
        return bson_iter_init_find(&at, note, "existed") && bson_iter_as_bool(&at)
                   ? STATUS_OK
                   : namespace_create(migrate, step->collection, step->options, ret_error);
    case STEP_DROP_COLLECTION:
        if (!step->keep) {
            return namespace_drop(migrate, step->collection, ret_error);
        }
        return bson_iter_init_find(&at, note, "to")
                   ? namespace_rename(migrate, step->collection, bson_iter_utf8(&at, NULL), note,
                                      ret_error)
                   : STATUS_CORRUPT;
    case STEP_RENAME_COLLECTION:
        return namespace_rename(migrate, step->collection, step->name, note, ret_error);
    case STEP_SET_VALIDATOR:
        return namespace_modify(migrate, step->collection, step->options, ret_error);
    default:
        return error_set(ret_error, STATUS_UNSUPPORTED, "no such step");
    }
}

static enum status note_begin(const struct step_run *run, bson_t **note, struct error *ret_error)
{
    bool noted = false;
    *note = row_undo(run->row, run->index, &noted);
    if (noted) {
        return STATUS_OK;
    }
    bson_t set = BSON_INITIALIZER;
    enum status status = make_note(run, *note, ret_error);
    if (status == STATUS_OK) {
        BSON_APPEND_INT32(&set, "step", run->index);
        row_put_undo(run->row, &set, run->index, *note);
        status =
            row_change(run->migrate->maintain, run->migrate->database, run->row, &set, ret_error);
    }
    bson_destroy(&set);
    return status;
}

/* By which the inverse knows the renamed collection, into what the row is set to. */
static enum status put_renamed(const struct step_run *run, const bson_t *note, bson_t *set,
                               struct error *ret_error)
{
    bson_iter_t at;
    bson_t *found = NULL;
    if (!bson_iter_init_find(&at, note, "to")) {
        return STATUS_OK;
    }
    enum status status =
        namespace_describe(run->migrate, bson_iter_utf8(&at, NULL), &found, ret_error);
    if (status == STATUS_OK && found != NULL) {
        bson_t renamed = BSON_INITIALIZER;
        bson_copy_to_excluding_noinit(note, &renamed, "uuid", NULL);
        put_uuid(&renamed, found);
        row_put_undo(run->row, set, run->index, &renamed);
        bson_destroy(&renamed);
    }
    bson_destroy(found);
    return status;
}

enum status run_namespace(const struct step_run *run, struct error *ret_error)
{
    bson_t *note = NULL;
    bson_t set = BSON_INITIALIZER;
    enum status status = note_begin(run, &note, ret_error);
    if (status == STATUS_OK) {
        migrate_tell(run->migrate, run->row, run->step, (size_t)run->index, 0);
        status = do_step(run, note, ret_error);
    }
    if (status == STATUS_OK) {
        status = put_renamed(run, note, &set, ret_error);
    }
    bson_destroy(note);
    if (status != STATUS_OK) {
        bson_destroy(&set);
        return status;
    }
    return run_step_end(run, &set, ret_error);
}
