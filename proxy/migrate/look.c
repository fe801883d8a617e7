/*
 * What there is and what it would do (migrate.h): opening, the list of migrations, dry runs.
 *
 * Threads: one for each struct migrate.
 */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/journal.h"
#include "migrate/private.h"

/* ------------------------------------------------------------------ opening */

static enum status take_database(struct migrate *migrate, struct error *ret_error)
{
    const char *name = migrate->options.database;
    name = name != NULL ? name : maintain_database(migrate->maintain);
    if (name[0] == '\0') {
        return error_set(
            ret_error, STATUS_INVALID,
            "which database? Name it in the URI, mongodb://host:port/DATABASE, or with "
            "--database");
    }
    if (strlen(name) >= sizeof(migrate->database) || strpbrk(name, "/\\. \"$") != NULL ||
        strcmp(name, "admin") == 0 || strcmp(name, "config") == 0 || strcmp(name, "local") == 0 ||
        strcmp(name, "holdfast") == 0) {
        return error_set(ret_error, STATUS_INVALID, "%.64s is no database that can be migrated",
                         name);
    }
    (void)snprintf(migrate->database, sizeof(migrate->database), "%s", name);
    return STATUS_OK;
}

static enum status open_all(struct migrate *migrate, struct error *ret_error)
{
    const struct migrate_options *options = &migrate->options;
    struct maintain_options connection = {.uri = options->uri,
                                          .application = MIGRATE_APPLICATION,
                                          .patience_ms = options->patience_ms,
                                          .open_ms = options->open_ms,
                                          .stop = options->stop,
                                          .context = options->context};
    enum status status = migration_folder_read(options->directory, &migrate->folder, ret_error);
    if (status == STATUS_OK) {
        status = maintain_open(&connection, &migrate->maintain, ret_error);
    }
    if (status == STATUS_OK) {
        status = take_database(migrate, ret_error);
    }
    return status == STATUS_OK
               ? row_list_read(migrate->maintain, migrate->database, &migrate->rows, ret_error)
               : status;
}

enum status migrate_open(const struct migrate_options *options, struct migrate **ret_migrate,
                         struct error *ret_error)
{
    bson_oid_t owner;
    struct migrate *migrate = calloc(1, sizeof(*migrate));
    if (migrate == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    migrate->options = *options;
    migrate->batch = options->batch;
    enum status status = open_all(migrate, ret_error);
    bson_oid_init(&owner, NULL);
    bson_oid_to_string(&owner, migrate->owner);
    if (status != STATUS_OK) {
        migrate_close(migrate);
        return status;
    }
    *ret_migrate = migrate;
    return STATUS_OK;
}

struct migrate *migrate_close(struct migrate *migrate)
{
    if (migrate != NULL) {
        maintain_close(migrate->maintain);
        migration_folder_free(&migrate->folder);
        row_list_free(&migrate->rows);
        free(migrate->entries);
        free(migrate);
    }
    return NULL;
}

const char *migrate_database(const struct migrate *migrate)
{
    return migrate->database;
}

int64_t migrate_version(const struct migrate *migrate)
{
    int64_t version = 0;
    for (size_t i = 0; i < migrate->rows.count; i++) {
        const struct row *row = &migrate->rows.rows[i];
        version = row->state == ROW_APPLIED ? row->version : version;
    }
    return version;
}

enum status migrate_holder(struct migrate *migrate, char *holder, size_t capacity,
                           struct error *ret_error)
{
    return lock_holder(migrate->maintain, migrate->database, holder, capacity, ret_error);
}

/* ------------------------------------------------------------------ the list */

static bool is_applied(const struct row *row)
{
    return row != NULL && row->state != ROW_UNDONE;
}

/* Files and rows, both by version, into one list. */
static enum status merge(struct migrate *migrate, struct error *ret_error)
{
    size_t files = 0;
    size_t rows = 0;
    size_t capacity = migrate->folder.count + migrate->rows.count + 1;
    free(migrate->entries);
    migrate->entry_count = 0;
    migrate->entries = calloc(capacity, sizeof(*migrate->entries));
    if (migrate->entries == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    while (files < migrate->folder.count || rows < migrate->rows.count) {
        struct migrate_entry *entry = &migrate->entries[migrate->entry_count++];
        const struct migration_file *file =
            files < migrate->folder.count ? &migrate->folder.files[files] : NULL;
        const struct row *row = rows < migrate->rows.count ? &migrate->rows.rows[rows] : NULL;
        bool take_file = file != NULL && (row == NULL || file->version <= row->version);
        bool take_row = row != NULL && (file == NULL || row->version <= file->version);
        assert(take_file || row != NULL);
        entry->file = take_file ? file : NULL;
        entry->row = take_row ? row : NULL;
        entry->version = take_file ? file->version : row->version;
        files += take_file ? 1 : 0;
        rows += take_row ? 1 : 0;
    }
    return STATUS_OK;
}

static bool is_baseline(const struct row *row)
{
    bson_iter_t at;
    return row_find(row, "how", &at) && BSON_ITER_HOLDS_UTF8(&at) &&
           strcmp(bson_iter_utf8(&at, NULL), "baseline") == 0;
}

/* A step that has thrown its documents away. */
static bool has_thrown_away(const struct row *row)
{
    bson_iter_t at;
    bson_iter_t each;
    bool gone = false;
    if (!row_find(row, "undo", &at) || !BSON_ITER_HOLDS_DOCUMENT(&at) ||
        !bson_iter_recurse(&at, &each)) {
        return false;
    }
    while (!gone && bson_iter_next(&each)) {
        bson_t note;
        const uint8_t *data = NULL;
        uint32_t size = 0;
        if (BSON_ITER_HOLDS_BINARY(&each)) {
            bson_iter_binary(&each, NULL, &size, &data);
        }
        gone = data != NULL && bson_init_static(&note, data, size) && bson_has_field(&note, "gone");
    }
    return gone;
}

static void judge(struct migrate_entry *entry, const struct migrate *migrate, int64_t newest)
{
    const struct row *row = entry->row;
    bool applied = is_applied(row);
    entry->pending = (entry->file != NULL || applied) &&
                     (!applied || row->state == ROW_APPLYING || row->state == ROW_FAILED);
    entry->changed =
        applied && entry->file != NULL && strcmp(entry->file->checksum, row->checksum) != 0;
    entry->out_of_order = entry->pending && !applied && entry->version < newest;
    entry->by_file = entry->file != NULL && entry->file->has_down;
    entry->units_found = -1;
    if (!applied) {
        return;
    }
    if (row->state == ROW_UNDOING && row->by_file) {
        entry->cannot = "it is half undone by its down section";
    } else if (is_baseline(row)) {
        entry->cannot = "it was noted as applied, and not carried out";
    } else if (has_thrown_away(row)) {
        entry->cannot = "it has dropped a collection without keeping it";
    } else if (row->units > 0 && migrate->options.wal == NULL) {
        entry->cannot = "no journal was named (--wal DIR)";
    }
}

/* How many of the row's batches are still to be undone: those are needed. */
static int64_t needed(const struct row *row)
{
    return row->state == ROW_UNDOING ? row->undo_unit : row->units;
}

static enum status look_into_journal(struct migrate *migrate, struct error *ret_error)
{
    size_t count = 0;
    enum status status = STATUS_OK;
    struct journal_run *runs = calloc(migrate->entry_count + 1, sizeof(*runs));
    if (runs == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < migrate->entry_count && status == STATUS_OK; i++) {
        const struct migrate_entry *entry = &migrate->entries[i];
        if (is_applied(entry->row)) {
            status =
                journal_run_open(&runs[count++], &entry->row->run, entry->row->units, ret_error);
        }
    }
    if (status == STATUS_OK && count > 0) {
        status = journal_search(migrate->options.wal, migrate->database, runs, count, ret_error);
    }
    for (size_t i = 0, at = 0; i < migrate->entry_count && status == STATUS_OK; i++) {
        struct migrate_entry *entry = &migrate->entries[i];
        if (!is_applied(entry->row)) {
            continue;
        }
        const struct journal_run *run = &runs[at++];
        entry->units_found = run->found;
        entry->oldest_ms = run->oldest_ms;
        for (int64_t n = 0; n < needed(entry->row) && entry->cannot == NULL; n++) {
            if (run->units[n] == 0) {
                entry->cannot = "the journal does not have all of its units any more (or it is "
                                "another proxy's, or the engine keeps no images)";
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        journal_run_close(&runs[i]);
    }
    free(runs);
    return status;
}

enum status entries_make(struct migrate *migrate, bool with_journal, struct error *ret_error)
{
    enum status status = merge(migrate, ret_error);
    int64_t newest = 0;
    for (size_t i = 0; i < migrate->rows.count; i++) {
        const struct row *row = &migrate->rows.rows[i];
        newest = is_applied(row) ? row->version : newest;
    }
    for (size_t i = 0; i < migrate->entry_count && status == STATUS_OK; i++) {
        judge(&migrate->entries[i], migrate, newest);
    }
    if (status == STATUS_OK && with_journal && migrate->options.wal != NULL) {
        status = look_into_journal(migrate, ret_error);
    }
    for (size_t i = 0; i < migrate->entry_count && status == STATUS_OK; i++) {
        struct migrate_entry *entry = &migrate->entries[i];
        entry->by_journal = with_journal && is_applied(entry->row) && entry->cannot == NULL;
    }
    return status;
}

enum status migrate_entries(struct migrate *migrate, struct migrate_entry **ret_entries,
                            size_t *ret_count, struct error *ret_error)
{
    enum status status = entries_make(migrate, true, ret_error);
    if (status == STATUS_OK) {
        *ret_entries = migrate->entries;
        *ret_count = migrate->entry_count;
    }
    return status;
}

/* ------------------------------------------------------------------ steps */

void migrate_step_describe(const struct step *step, char *text, size_t capacity)
{
    const char *joint = step->kind == STEP_RENAME_COLLECTION ? " to "
                        : step->name != NULL                 ? " "
                                                             : "";
    (void)snprintf(text, capacity, "%s %s%s%s", step->word, step->collection, joint,
                   step->name == NULL ? "" : step->name);
}

enum status migrate_count(struct migrate *migrate, const struct step *step, int64_t *ret_count,
                          struct error *ret_error)
{
    if (!step_is_documents(step)) {
        *ret_count = -1;
        return STATUS_OK;
    }
    if (step->kind == STEP_INSERT) {
        *ret_count = bson_count_keys(step->documents);
        return STATUS_OK;
    }
    bson_t reply;
    bson_t *command =
        BCON_NEW("count", BCON_UTF8(step->collection), "query", BCON_DOCUMENT(step->filter));
    enum status status = maintain_command(migrate->maintain, migrate->database, command,
                                          MAINTAIN_IDEMPOTENT, &reply, ret_error);
    bson_destroy(command);
    if (status == STATUS_OK) {
        *ret_count = maintain_number(&reply, "n");
        bson_destroy(&reply);
    }
    return status;
}
