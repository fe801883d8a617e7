/*
 * `holdfast migrate` (cli.h): what migrate/migrate.h does, for people and programs.
 *
 * Text goes out as it happens; with --json one document at the end. SIGINT and SIGTERM end it
 * between two units: the next run goes on there.
 *
 * Threads: main only; the lock's renewing thread behind it.
 */

#include "migrate/migrate.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/journal.h"
#include "cli/migrate_status.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "holdfast/clock.h"

/* Longer than a replica set keeps the transaction of a client that was killed: 60 s. */
#define PATIENCE_MS 120000
#define EMPTY_BYTES 5 /* of a document without fields: a conflict over a collection */

struct work {
    const struct cli_options *options;
    struct migrate *migrate;
    struct progress progress;
    bson_t *list; /* --json: what was done */
    uint32_t count;
    bson_t *conflicts;
    uint32_t conflict_count;
    bool left; /* conflicts, also those that an earlier run has met */
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static bool is_stopped(void *context)
{
    (void)context;
    return stopped != 0;
}

/* ------------------------------------------------------------------ while it works */

static void on_progress(void *context, const struct migrate_progress *progress)
{
    struct work *work = context;
    const struct row *row = progress->row;
    if (progress_due(&work->progress)) {
        progress_print(&work->progress,
                       "migration %" PRId64 ", step %zu, %s: %" PRId64 " documents in %" PRId64
                       " units so far",
                       row->version, progress->step, progress->what, row->documents, row->units);
    }
}

static void on_waiting(void *context, const char *holder)
{
    (void)context;
    fprintf(stderr, "holdfast: %s is migrating this database: waiting\n", holder);
}

static void put_index(bson_t *list, uint32_t *count, const bson_t *document)
{
    char index[16];
    const char *key = NULL;
    bson_uint32_to_string((*count)++, &key, index, sizeof(index));
    BSON_APPEND_DOCUMENT(list, key, document);
}

static void on_conflict(void *context, const struct migrate_conflict *conflict)
{
    struct work *work = context;
    if (work->options->json) {
        bson_t one = BSON_INITIALIZER;
        BSON_APPEND_INT64(&one, "version", conflict->version);
        BSON_APPEND_UTF8(&one, "ns", conflict->namespace);
        output_append_image(&one, "key",
                            (struct image){.presence = IMAGE_PRESENT, .document = conflict->key});
        BSON_APPEND_UTF8(&one, "reason", conflict->reason);
        put_index(work->conflicts, &work->conflict_count, &one);
        bson_destroy(&one);
        return;
    }
    char *key = output_json(conflict->key);
    fputs("conflict  ", stdout);
    output_text(stdout, conflict->namespace);
    if (conflict->key.size > EMPTY_BYTES) {
        fputc(' ', stdout);
        output_text(stdout, key);
    }
    fputs(": ", stdout);
    output_text(stdout, conflict->reason);
    fputc('\n', stdout);
    bson_free(key);
}

static void print_done(const struct row *row)
{
    if (row->state == ROW_UNDONE && row->by_file) {
        printf("undone    %04" PRId64 "_%s by its down section: %" PRId64 " documents\n",
               row->version, row->name, row->documents);
    } else if (row->state == ROW_UNDONE) {
        printf(
            "undone    %04" PRId64 "_%s: %" PRId64 " documents restored, %" PRId64 " conflict%s\n",
            row->version, row->name, row->restored, row->conflicts, row->conflicts == 1 ? "" : "s");
    } else {
        printf("applied   %04" PRId64 "_%s: %" PRId64 " documents in %" PRId64 " units\n",
               row->version, row->name, row->documents, row->units);
    }
    fflush(stdout);
}

static void on_done(void *context, const struct row *row)
{
    struct work *work = context;
    work->left = work->left || (row->state == ROW_UNDONE && row->conflicts > 0);
    if (!work->options->json) {
        print_done(row);
        return;
    }
    bson_t one = BSON_INITIALIZER;
    BSON_APPEND_INT64(&one, "version", row->version);
    BSON_APPEND_UTF8(&one, "name", row->name);
    BSON_APPEND_UTF8(&one, "state", row_state_name(row->state));
    BSON_APPEND_INT64(&one, "documents", row->documents);
    BSON_APPEND_INT64(&one, "units", row->units);
    if (row->state == ROW_UNDONE) {
        BSON_APPEND_INT64(&one, "restored", row->restored);
        BSON_APPEND_INT64(&one, "conflicts", row->conflicts);
    }
    put_index(work->list, &work->count, &one);
    bson_destroy(&one);
}

/* ------------------------------------------------------------------ dry-run */

static enum status dry_step(struct work *work, const struct step *step, size_t number, bson_t *list,
                            uint32_t *count, struct error *ret_error)
{
    char what[192];
    int64_t documents = 0;
    enum status status = migrate_count(work->migrate, step, &documents, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    migrate_step_describe(step, what, sizeof(what));
    if (work->options->json) {
        bson_t one = BSON_INITIALIZER;
        BSON_APPEND_UTF8(&one, "step", step->word);
        BSON_APPEND_UTF8(&one, "collection", step->collection);
        BSON_APPEND_INT64(&one, "line", (int64_t)step->line);
        if (documents >= 0) {
            BSON_APPEND_INT64(&one, "documents", documents);
        }
        put_index(list, count, &one);
        bson_destroy(&one);
    } else if (documents >= 0) {
        printf("  %2zu  %s: %" PRId64 " documents now\n", number, what, documents);
    } else {
        printf("  %2zu  %s\n", number, what);
    }
    return STATUS_OK;
}

static enum status dry_migration(struct work *work, const struct migrate_entry *entry,
                                 struct error *ret_error)
{
    bson_t list = BSON_INITIALIZER;
    uint32_t count = 0;
    bool begun = entry->row != NULL && entry->row->state != ROW_UNDONE;
    int32_t from = begun ? entry->row->step : 0;
    enum status status = STATUS_OK;
    if (!work->options->json) {
        printf("%s%s\n", entry->file->path, from > 0 ? " (goes on)" : "");
    }
    for (size_t i = (size_t)from; i < entry->file->up.count && status == STATUS_OK; i++) {
        status = dry_step(work, &entry->file->up.steps[i], i + 1, &list, &count, ret_error);
    }
    if (status == STATUS_OK && work->options->json) {
        bson_t one = BSON_INITIALIZER;
        BSON_APPEND_INT64(&one, "version", entry->version);
        BSON_APPEND_UTF8(&one, "name", entry->file->name);
        BSON_APPEND_ARRAY(&one, "steps", &list);
        put_index(work->list, &work->count, &one);
        bson_destroy(&one);
    }
    bson_destroy(&list);
    return status;
}

static enum status run_dry(struct work *work, int64_t to, struct error *ret_error)
{
    struct migrate_entry *entries = NULL;
    size_t count = 0;
    size_t shown = 0;
    enum status status = migrate_check(work->migrate, to, &entries, &count, ret_error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        if (entries[i].pending && entries[i].version <= to) {
            status = dry_migration(work, &entries[i], ret_error);
            shown++;
        }
    }
    if (status == STATUS_OK && shown == 0 && !work->options->json) {
        puts("nothing is pending");
    }
    return status;
}

/* ------------------------------------------------------------------ the command */

static enum status read_target(const struct cli_options *options, int64_t otherwise,
                               int64_t *ret_to, struct error *ret_error)
{
    char *end = NULL;
    *ret_to = otherwise;
    if (options->target == NULL) {
        return STATUS_OK;
    }
    size_t size = strspn(options->target, "0123456789");
    *ret_to = size > 0 && size <= 18 ? strtoll(options->target, &end, 10) : -1;
    return *ret_to >= 0 && *end == '\0'
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID,
                           "--to %.40s: expected a migration's number, or 0", options->target);
}

static enum status run_action(struct work *work, bool *ret_left, struct error *ret_error)
{
    const char *action = work->options->action;
    int64_t to = 0;
    bool down = strcmp(action, "down") == 0;
    enum status status = read_target(work->options, down ? -1 : INT64_MAX, &to, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (strcmp(action, "status") == 0) {
        return migrate_status_run(work->options, work->migrate, ret_left, ret_error);
    }
    if (strcmp(action, "dry-run") == 0) {
        return run_dry(work, to, ret_error);
    }
    if (strcmp(action, "up") == 0) {
        return migrate_up(work->migrate, to, on_done, ret_error);
    }
    if (strcmp(action, "repair") == 0) {
        return migrate_repair(work->migrate, on_done, ret_error);
    }
    if (down) {
        return migrate_down(work->migrate, to, on_done, ret_error);
    }
    return work->options->target == NULL
               ? error_set(ret_error, STATUS_INVALID, "baseline needs --to N")
               : migrate_baseline(work->migrate, to, on_done, ret_error);
}

/* What was done, also where it then failed. */
static void print_result(const struct work *work)
{
    const char *action = work->options->action;
    bool dry = strcmp(action, "dry-run") == 0;
    if (strcmp(action, "status") == 0 || (dry && !work->options->json)) {
        return;
    }
    if (!work->options->json) {
        printf("database %s, version %" PRId64 "\n", migrate_database(work->migrate),
               migrate_version(work->migrate));
        return;
    }
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&document, "database", migrate_database(work->migrate));
    BSON_APPEND_INT64(&document, "version", migrate_version(work->migrate));
    BSON_APPEND_ARRAY(&document, dry ? "pending" : "done", work->list);
    if (!dry) {
        BSON_APPEND_ARRAY(&document, "conflicts", work->conflicts);
    }
    output_bson_line(stdout, &document);
    bson_destroy(&document);
}

static enum status check_words(const struct cli_options *options, struct error *ret_error)
{
    static const char *const actions[] = {"status", "dry-run", "up", "down", "baseline", "repair"};
    bool known = false;
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        known = known || strcmp(options->action, actions[i]) == 0;
    }
    if (!known) {
        return error_set(ret_error, STATUS_INVALID,
                         "migrate %.40s: expected status, dry-run, up, down, baseline or repair",
                         options->action);
    }
    return options->proxy != NULL
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID,
                           "--proxy is missing: where does holdfastd listen, for example "
                           "mongodb://localhost:27018/shop?");
}

static enum status open_all(struct work *work, struct wal **wal, struct error *ret_error)
{
    const struct cli_options *options = work->options;
    enum status status = check_words(options, ret_error);
    if (status == STATUS_OK && options->wal != NULL) {
        status = journal_open_to_read(options, wal, ret_error);
    }
    struct migrate_options migrate_options = {
        .directory = options->folder,
        .uri = options->proxy,
        .database = options->database,
        .wal = *wal,
        .patience_ms = PATIENCE_MS,
        .open_ms = options->connect_ms,
        .wait_ms = options->wait_ms,
        .pause_ms = options->throttle_ms,
        .batch = options->batch > 0 ? (uint32_t)options->batch : MIGRATE_BATCH_DEFAULT,
        .out_of_order = options->out_of_order,
        .way = options->way == NULL                   ? MIGRATE_WAY_BEST
               : strcmp(options->way, "journal") == 0 ? MIGRATE_WAY_JOURNAL
                                                      : MIGRATE_WAY_FILE,
        .stop = is_stopped,
        .progress = on_progress,
        .conflict = on_conflict,
        .waiting = on_waiting,
        .context = work,
    };
    return status == STATUS_OK ? migrate_open(&migrate_options, &work->migrate, ret_error) : status;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

enum cli_exit cli_migrate(const struct cli_options *options)
{
    struct work work = {.options = options, .list = bson_new(), .conflicts = bson_new()};
    struct error error = {0};
    struct wal *wal = NULL;
    bool left = false;
    catch_signals();
    progress_begin(&work.progress, options);
    enum status status = open_all(&work, &wal, &error);
    if (status == STATUS_OK) {
        status = run_action(&work, &left, &error);
        progress_end(&work.progress);
        print_result(&work);
    }
    migrate_close(work.migrate);
    wal_close(wal, false);
    left = left || work.left;
    bson_destroy(work.list);
    bson_destroy(work.conflicts);
    if (status == STATUS_OK) {
        return left ? CLI_LEFT : CLI_CLEAN;
    }
    (void)output_failure(&error);
    return status == STATUS_OWNED ? CLI_BUSY : CLI_FAILED;
}
