/*
 * Migrations one after the other (migrate.h): the lock, what may be done, and their rows' states.
 *
 *                        .------ failed <-----.
 *                        v                    | the server refuses
 *   (none), undone --> applying --steps--> applied
 *      ^                  |                   |
 *      '----- undoing <---'<------------------'
 *
 * applying and undoing are also what a killed process leaves; the next one goes on there.
 *
 * Threads: one for each struct migrate.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "holdfast/clock.h"
#include "migrate/private.h"

#define SLOW_UNIT_MS 1000

/* ------------------------------------------------------------------ for all of them */

void put_now(bson_t *set, const char *name)
{
    BSON_APPEND_DATE_TIME(set, name, (int64_t)clock_wall_ms());
}

enum status migrate_go_on(struct migrate *migrate, struct error *ret_error)
{
    const struct migrate_options *options = &migrate->options;
    if (migrate->lock != NULL && lock_is_lost(migrate->lock)) {
        return error_set(ret_error, STATUS_OWNED,
                         "the lock could not be renewed in time; another process may go on");
    }
    if (options->stop != NULL && options->stop(options->context)) {
        return error_set(ret_error, STATUS_UNREACHABLE, "stopped; the next run goes on from here");
    }
    if (options->pause_ms > 0) {
        struct timespec pause = {.tv_sec = (time_t)(options->pause_ms / 1000),
                                 .tv_nsec = (long)(options->pause_ms % 1000) * 1000000L};
        (void)nanosleep(&pause, NULL);
    }
    return STATUS_OK;
}

void migrate_tell(struct migrate *migrate, const struct row *row, const struct step *step,
                  size_t index, size_t count)
{
    char what[192];
    if (migrate->options.progress == NULL) {
        return;
    }
    migrate_step_describe(step, what, sizeof(what));
    struct migrate_progress progress = {
        .row = row, .what = what, .step = index + 1, .steps = count};
    migrate->options.progress(migrate->options.context, &progress);
}

void migrate_adapt_batch(struct migrate *migrate, const struct maintain_result *result,
                         uint64_t took_ms)
{
    if (result->attempts > 2 || took_ms > SLOW_UNIT_MS) {
        migrate->batch = migrate->batch > 1 ? migrate->batch / 2 : 1;
    } else if (migrate->batch < migrate->options.batch) {
        uint32_t more = migrate->batch * 2;
        migrate->batch = more < migrate->options.batch ? more : migrate->options.batch;
    }
}

enum status run_change(struct migrate *migrate, struct row *row, bson_t *set,
                       struct error *ret_error)
{
    put_now(set, "updatedAt");
    enum status status = row_change(migrate->maintain, migrate->database, row, set, ret_error);
    bson_destroy(set);
    return status;
}

/* ------------------------------------------------------------------ the lock */

static enum status read_rows(struct migrate *migrate, struct error *ret_error)
{
    struct row_list rows = {0};
    enum status status = row_list_read(migrate->maintain, migrate->database, &rows, ret_error);
    if (status == STATUS_OK) {
        row_list_free(&migrate->rows);
        migrate->rows = rows;
        migrate->entry_count = 0; /* they point to the rows that were */
    }
    return status;
}

enum status migrate_lock(struct migrate *migrate, struct error *ret_error)
{
    const struct migrate_options *options = &migrate->options;
    struct lock_options lock_options = {
        .connection = {.uri = options->uri,
                       .application = MIGRATE_APPLICATION,
                       .patience_ms = options->patience_ms,
                       .stop = options->stop,
                       .context = options->context},
        .database = migrate->database,
        .owner = migrate->owner,
        .wait_ms = options->wait_ms,
        .waiting = options->waiting,
        .context = options->context,
    };
    enum status status = lock_acquire(migrate->maintain, &lock_options, &migrate->lock, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    return read_rows(migrate, ret_error); /* what the one before us has done meanwhile */
}

void migrate_unlock(struct migrate *migrate)
{
    if (migrate->lock != NULL) {
        migrate->lock = lock_release(migrate->maintain, migrate->lock);
        /* For migrate_version(); if it fails, that is of before. */
        enum status status = read_rows(migrate, NULL);
        (void)status;
    }
}

/* ------------------------------------------------------------------ may it be done? */

static enum status check_entry(const struct migrate_entry *entry, const struct migrate *migrate,
                               struct error *ret_error)
{
    const struct row *row = entry->row;
    const struct migration_file *file = entry->file;
    bool changed = entry->changed && row != NULL && file != NULL;
    if (row != NULL && row->state == ROW_UNDOING) {
        return error_set(ret_error, STATUS_INVALID,
                         "migration %" PRId64 " is half undone: end that first with holdfast "
                         "migrate down",
                         entry->version);
    }
    if (changed && row->state == ROW_APPLIED) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s was changed since it was applied: put it back and write a new "
                         "migration. If the change means nothing, holdfast migrate repair takes it",
                         file->path);
    }
    if (changed) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s was changed since it was begun: put it back to go on, or undo what is "
                         "done with holdfast migrate down first",
                         file->path);
    }
    if (row != NULL && file == NULL && entry->pending) {
        return error_set(ret_error, STATUS_INVALID,
                         "migration %" PRId64 " is half done and its file is not here",
                         entry->version);
    }
    if (entry->out_of_order && file != NULL && !migrate->options.out_of_order) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s has a lower number than what is applied: give it a higher one, or say "
                         "--out-of-order",
                         file->path);
    }
    return STATUS_OK;
}

/* `target` must be a migration that there is. */
enum status run_check_target(const struct migrate *migrate, int64_t target, struct error *ret_error)
{
    for (size_t i = 0; i < migrate->entry_count; i++) {
        if (migrate->entries[i].version == target) {
            return STATUS_OK;
        }
    }
    return target == 0 || target == INT64_MAX || target == -1
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID,
                           "--to %" PRId64 ": there is no such migration", target);
}

enum status migrate_check(struct migrate *migrate, int64_t to, struct migrate_entry **ret_entries,
                          size_t *ret_count, struct error *ret_error)
{
    enum status status = entries_make(migrate, false, ret_error);
    if (status == STATUS_OK) {
        status = run_check_target(migrate, to, ret_error);
    }
    for (size_t i = 0; i < migrate->entry_count && status == STATUS_OK; i++) {
        const struct migrate_entry *entry = &migrate->entries[i];
        bool beyond = entry->pending && entry->version > to;
        status = beyond ? STATUS_OK : check_entry(entry, migrate, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_entries = migrate->entries;
        *ret_count = migrate->entry_count;
    }
    return status;
}

/* ------------------------------------------------------------------ steps */

enum status run_steps(struct migrate *migrate, struct row *row, const struct step_list *list,
                      struct error *ret_error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (size_t)row->step < list->count) {
        struct step_run run = {
            .migrate = migrate, .row = row, .step = &list->steps[row->step], .index = row->step};
        migrate_tell(migrate, row, run.step, (size_t)row->step, list->count);
        status = migrate_go_on(migrate, ret_error);
        if (status == STATUS_OK) {
            status = step_is_documents(run.step) ? run_documents(&run, ret_error)
                                                 : run_namespace(&run, ret_error);
        }
        if (status == STATUS_REFUSED) {
            char what[192];
            migrate_step_describe(run.step, what, sizeof(what));
            error_prefix(ret_error, "step %d, line %lu, %s", run.index + 1, run.step->line, what);
        }
    }
    return status;
}

enum status run_step_end(const struct step_run *run, bson_t *set, struct error *ret_error)
{
    BSON_APPEND_INT32(set, "step", run->index + 1);
    BSON_APPEND_NULL(set, "at");
    return run_change(run->migrate, run->row, set, ret_error);
}

void run_note_failure(struct migrate *migrate, struct row *row, const struct error *error)
{
    bson_t set = BSON_INITIALIZER;
    if (row->state == ROW_APPLYING) {
        BSON_APPEND_UTF8(&set, "state", row_state_name(ROW_FAILED));
    }
    bool valid = bson_utf8_validate(error->message, strlen(error->message), false);
    BSON_APPEND_UTF8(&set, "error", valid ? error->message : "not UTF-8");
    /* If it cannot be noted it stays "applying", which is true as well. */
    if (run_change(migrate, row, &set, NULL) != STATUS_OK) {
        return;
    }
}

/* ------------------------------------------------------------------ up */

/* Nothing is done yet of a list of steps. */
void run_put_beginning(bson_t *set)
{
    static const char *const gone[] = {"at",         "undo",        "undoStep",  "undoUnit",
                                       "undoWrite",  "restored",    "conflicts", "error",
                                       "finishedAt", "conflictList"};
    BSON_APPEND_INT32(set, "step", 0);
    BSON_APPEND_INT64(set, "units", 0);
    BSON_APPEND_INT64(set, "documents", 0);
    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
        BSON_APPEND_NULL(set, gone[i]);
    }
}

static enum status begin(struct migrate *migrate, const struct migration_file *file,
                         struct row *row, struct error *ret_error)
{
    bson_t set = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&set, "state", row_state_name(ROW_APPLYING));
    if (row->state == ROW_UNDONE) {
        bson_oid_t run;
        bson_oid_init(&run, NULL);
        BSON_APPEND_UTF8(&set, "name", file->name);
        BSON_APPEND_UTF8(&set, "checksum", file->checksum);
        BSON_APPEND_OID(&set, "run", &run);
        BSON_APPEND_NULL(&set, "how");
        run_put_beginning(&set);
        put_now(&set, "startedAt");
    } else {
        BSON_APPEND_NULL(&set, "error");
    }
    return run_change(migrate, row, &set, ret_error);
}

enum status run_end(struct migrate *migrate, struct row *row, enum row_state state,
                    struct error *ret_error)
{
    bson_t set = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&set, "state", row_state_name(state));
    BSON_APPEND_NULL(&set, "at");
    BSON_APPEND_NULL(&set, "error");
    put_now(&set, "finishedAt");
    return run_change(migrate, row, &set, ret_error);
}

/* The row of the version; of one that was never applied, `fresh`. */
static struct row *row_of(struct migrate *migrate, int64_t version, struct row *fresh)
{
    struct row *row = row_list_find(&migrate->rows, version);
    if (row == NULL) {
        row_make(fresh, version);
        row = fresh;
    }
    return row;
}

static enum status apply(struct migrate *migrate, const struct migration_file *file,
                         struct row *row, struct error *ret_error)
{
    struct error error = {0};
    enum status status = begin(migrate, file, row, &error);
    if (status == STATUS_OK) {
        status = run_steps(migrate, row, &file->up, &error);
        if (status == STATUS_REFUSED) {
            run_note_failure(migrate, row, &error);
        }
    }
    if (status == STATUS_OK) {
        status = run_end(migrate, row, ROW_APPLIED, &error);
    }
    return status == STATUS_OK ? status
                               : error_set(ret_error, status, "%s: %s", file->path, error.message);
}

enum how {
    HOW_APPLY,
    HOW_BASELINE,
};

static enum status baseline(struct migrate *migrate, const struct migration_file *file,
                            struct row *row, struct error *ret_error)
{
    if (row->state != ROW_UNDONE) {
        return error_set(ret_error, STATUS_INVALID, "%s is half done: holdfast migrate up or down",
                         file->path);
    }
    enum status status = begin(migrate, file, row, ret_error);
    bson_t set = BSON_INITIALIZER;
    BSON_APPEND_INT32(&set, "step", (int32_t)file->up.count);
    BSON_APPEND_UTF8(&set, "how", "baseline");
    if (status == STATUS_OK) {
        status = row_change(migrate->maintain, migrate->database, row, &set, ret_error);
    }
    bson_destroy(&set);
    return status == STATUS_OK ? run_end(migrate, row, ROW_APPLIED, ret_error) : status;
}

static enum status all(struct migrate *migrate, int64_t to, enum how how,
                       void (*done)(void *context, const struct row *row), struct error *ret_error)
{
    struct migrate_entry *entries = NULL;
    size_t count = 0;
    enum status status = migrate_check(migrate, to, &entries, &count, ret_error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const struct migrate_entry *entry = &entries[i];
        struct row fresh = {0};
        if (!entry->pending || entry->version > to) {
            continue;
        }
        struct row *row = row_of(migrate, entry->version, &fresh);
        status = how == HOW_APPLY ? apply(migrate, entry->file, row, ret_error)
                                  : baseline(migrate, entry->file, row, ret_error);
        if (status == STATUS_OK) {
            done(migrate->options.context, row);
        }
        row_free(&fresh);
    }
    return status;
}

enum status migrate_up(struct migrate *migrate, int64_t to,
                       void (*done)(void *context, const struct row *row), struct error *ret_error)
{
    enum status status = migrate_lock(migrate, ret_error);
    if (status == STATUS_OK) {
        status = all(migrate, to, HOW_APPLY, done, ret_error);
    }
    migrate_unlock(migrate);
    return status;
}

enum status migrate_baseline(struct migrate *migrate, int64_t to,
                             void (*done)(void *context, const struct row *row),
                             struct error *ret_error)
{
    enum status status = migrate_lock(migrate, ret_error);
    if (status == STATUS_OK) {
        status = all(migrate, to, HOW_BASELINE, done, ret_error);
    }
    migrate_unlock(migrate);
    return status;
}

static enum status repair(struct migrate *migrate,
                          void (*done)(void *context, const struct row *row),
                          struct error *ret_error)
{
    enum status status = entries_make(migrate, false, ret_error);
    for (size_t i = 0; i < migrate->entry_count && status == STATUS_OK; i++) {
        const struct migrate_entry *entry = &migrate->entries[i];
        if (!entry->changed || entry->row->state != ROW_APPLIED) {
            continue;
        }
        bson_t set = BSON_INITIALIZER;
        struct row *row = row_list_find(&migrate->rows, entry->version);
        BSON_APPEND_UTF8(&set, "checksum", entry->file->checksum);
        BSON_APPEND_UTF8(&set, "name", entry->file->name);
        status = run_change(migrate, row, &set, ret_error);
        if (status == STATUS_OK) {
            done(migrate->options.context, row);
        }
    }
    return status;
}

enum status migrate_repair(struct migrate *migrate,
                           void (*done)(void *context, const struct row *row),
                           struct error *ret_error)
{
    enum status status = migrate_lock(migrate, ret_error);
    if (status == STATUS_OK) {
        status = repair(migrate, done, ret_error);
    }
    migrate_unlock(migrate);
    return status;
}
