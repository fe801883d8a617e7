/*
 * Undoing migrations, newest first (migrate.h): which ones, and which way.
 *
 * Threads: one for each struct migrate.
 */

#include <inttypes.h>

#include "migrate/private.h"

static enum status undo_by_file(struct migrate *migrate, struct row *row,
                                const struct migration_file *file, struct error *ret_error)
{
    if (row->state != ROW_UNDOING || !row->by_file) {
        bson_t set = BSON_INITIALIZER;
        BSON_APPEND_UTF8(&set, "state", row_state_name(ROW_UNDOING));
        BSON_APPEND_UTF8(&set, "how", "file");
        run_put_beginning(&set);
        enum status status = run_change(migrate, row, &set, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return run_steps(migrate, row, &file->down, ret_error);
}

/* Which way; an interrupted one goes on as it began, unless the file is asked for. */
static enum status choose(const struct migrate *migrate, const struct migrate_entry *entry,
                          bool *ret_by_file, struct error *ret_error)
{
    enum migrate_way way = migrate->options.way;
    const struct row *row = entry->row;
    bool begun_by_file = row->state == ROW_UNDOING && row->by_file;
    if (entry->changed && (begun_by_file || way == MIGRATE_WAY_FILE)) {
        return error_set(ret_error, STATUS_INVALID, "%s was changed since it was applied",
                         entry->file->path);
    }
    if (begun_by_file && way == MIGRATE_WAY_JOURNAL) {
        return error_set(ret_error, STATUS_UNSUPPORTED,
                         "migration %" PRId64 " is half undone by its down section: go on so",
                         entry->version);
    }
    if (!begun_by_file && way != MIGRATE_WAY_FILE && entry->by_journal) {
        *ret_by_file = false;
        return STATUS_OK;
    }
    if (way != MIGRATE_WAY_JOURNAL && entry->by_file && !entry->changed) {
        *ret_by_file = true;
        return STATUS_OK;
    }
    return error_set(ret_error, STATUS_UNSUPPORTED, "migration %" PRId64 " cannot be undone: %s%s",
                     entry->version, entry->cannot == NULL ? "" : entry->cannot,
                     entry->by_file ? "" : "; and there is no down section in its file");
}

static enum status undo(struct migrate *migrate, const struct migrate_entry *entry,
                        struct error *ret_error)
{
    struct row *row = row_list_find(&migrate->rows, entry->version);
    struct error error = {0};
    bool by_file = false;
    enum status status = choose(migrate, entry, &by_file, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = by_file ? undo_by_file(migrate, row, entry->file, &error)
                     : undo_by_journal(migrate, row, &error);
    if (status == STATUS_REFUSED) {
        run_note_failure(migrate, row, &error);
    }
    if (status == STATUS_OK) {
        status = run_end(migrate, row, ROW_UNDONE, &error);
    }
    return status == STATUS_OK ? status
                               : error_set(ret_error, status, "undoing migration %" PRId64 ": %s",
                                           entry->version, error.message);
}

static enum status all_down(struct migrate *migrate, int64_t to,
                            void (*done)(void *context, const struct row *row),
                            struct error *ret_error)
{
    struct migrate_entry *entries = NULL;
    size_t count = 0;
    enum status status = migrate_entries(migrate, &entries, &count, ret_error);
    if (status == STATUS_OK) {
        status = run_check_target(migrate, to, ret_error);
    }
    for (size_t i = count; i-- > 0 && status == STATUS_OK;) {
        const struct migrate_entry *entry = &entries[i];
        if (entry->row == NULL || entry->row->state == ROW_UNDONE || entry->version <= to) {
            continue;
        }
        status = undo(migrate, entry, ret_error);
        if (status == STATUS_OK) {
            done(migrate->options.context, row_list_find(&migrate->rows, entry->version));
        }
        if (to < 0) {
            break;
        }
    }
    return status;
}

enum status migrate_down(struct migrate *migrate, int64_t to,
                         void (*done)(void *context, const struct row *row),
                         struct error *ret_error)
{
    enum status status = migrate_lock(migrate, ret_error);
    if (status == STATUS_OK) {
        status = all_down(migrate, to, done, ret_error);
    }
    migrate_unlock(migrate);
    return status;
}
