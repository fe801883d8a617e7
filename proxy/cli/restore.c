/*
 * A journal and a restored database (restore.h).
 *
 * Threads: main only.
 */

#include "cli/restore.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/journal.h"
#include "cli/output.h"
#include "holdfast/clock.h"

/* Enough to keep a server busy while some of them read the journal. */
#define THREADS 4

static enum status find_range(struct restore *restore, struct error *ret_error)
{
    const struct cli_options *options = restore->options;
    enum status status = moment_range_read(options, restore->wal, &restore->range, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (options->from.kind == CLI_MOMENT_NONE) {
        restore->range.from_lsn = restore->point.proven ? restore->point.backup_lsn + 1 : 0;
    }
    restore->whole = restore->range.until_lsn >= restore->point.last_lsn;
    if (restore->whole) {
        restore->range.until_lsn = restore->point.last_lsn;
    }
    return STATUS_OK;
}

enum status restore_open(struct restore *restore, struct error *ret_error)
{
    const struct cli_options *options = restore->options;
    if (restore->uri == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "which server has the restored database, for example "
                         "mongodb://host:port? See holdfast help");
    }
    enum status status = journal_open_to_read(options, &restore->wal, ret_error);
    if (status == STATUS_OK) {
        status = upstream_open(restore->uri, options->connect_ms, &restore->upstream, ret_error);
    }
    if (status == STATUS_OK) {
        status = restore_point_read(restore->upstream, restore->wal, &restore->point, ret_error);
    }
    return status == STATUS_OK ? find_range(restore, ret_error) : status;
}

void restore_close(struct restore *restore)
{
    if (restore->leased) {
        struct error error = {0};
        if (restore_point_leave(restore->upstream, &restore->point, &restore->lease, &error) !=
            STATUS_OK) {
            output_failure(&error);
        }
        restore->leased = false;
    }
    restore->upstream = upstream_close(restore->upstream);
    restore->wal = wal_close(restore->wal, false);
}

/* ------------------------------------------------------------------ may it be done? */

static enum status check_identity(const struct restore *restore, struct error *ret_error)
{
    const struct restore_point *point = &restore->point;
    const char *vouched = restore->options->takeover;
    if (point->identity_ours || (vouched != NULL && strcasecmp(vouched, point->journal) == 0)) {
        return STATUS_OK;
    }
    return error_set(ret_error, STATUS_FOREIGN,
                     "%s. If it is a backup of the database that this journal belongs to, say so "
                     "with --set upstream.takeover=%s",
                     point->identity_exists
                         ? "this is another database than the journal's"
                         : "nothing tells that this is the journal's database: it has no database "
                           "`holdfast`",
                     point->journal);
}

static enum status check_records(const struct restore *restore, struct error *ret_error)
{
    const struct restore_point *point = &restore->point;
    bool known = point->proven || restore->options->from.kind != CLI_MOMENT_NONE;
    if (point->pruned_lsn == 0 || point->pruned_lsn < restore->range.from_lsn ||
        restore->options->yes) {
        return STATUS_OK;
    }
    if (!known) {
        return error_set(ret_error, STATUS_REFUSED,
                         "the database does not tell when the backup was taken, and the journal "
                         "has lost the records up to LSN %" PRIu64
                         ". Say with --from WHEN since when units may be missing in the backup",
                         point->pruned_lsn);
    }
    return error_set(ret_error, STATUS_REFUSED,
                     "units that ended after this backup (LSN %" PRIu64
                     ") are not in the journal any more: retention has removed records up to LSN "
                     "%" PRIu64 ". Use a newer backup; or say --yes to replay what is left, and "
                     "what was removed stays lost",
                     restore->range.from_lsn == 0 ? 0 : restore->range.from_lsn - 1,
                     point->pruned_lsn);
}

enum status restore_check(const struct restore *restore, struct error *ret_error)
{
    const struct restore_point *point = &restore->point;
    enum status status = check_identity(restore, ret_error);
    if (status == STATUS_OK) {
        status = check_records(restore, ret_error);
    }
    if (status == STATUS_OK && point->proven && restore->range.until_lsn < point->backup_lsn) {
        return error_set(ret_error, STATUS_INVALID,
                         "this backup is newer (LSN %" PRIu64 ") than --until (LSN %" PRIu64
                         "): use an older one",
                         point->backup_lsn, restore->range.until_lsn);
    }
    return status;
}

/* ------------------------------------------------------------------ doing it */

static void print_conflict_json(struct restore *restore, const struct replay_conflict *conflict)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&document, "ns", conflict->namespace);
    output_append_image(&document, "key",
                        (struct image){.presence = IMAGE_PRESENT, .document = conflict->key});
    BSON_APPEND_INT64(&document, "unit", (int64_t)conflict->unit);
    BSON_APPEND_UTF8(&document, "reason", conflict->reason);
    output_append_image(&document, "found", conflict->found);
    output_append_image(&document, "wanted", conflict->wanted);
    char *json = output_json(slice_make(bson_get_data(&document), document.len));
    printf("%s\n  %s", restore->printed == 0 ? "" : ",", json);
    bson_free(json);
    bson_destroy(&document);
}

static void print_image(const char *label, struct image image)
{
    char *text = output_image(image);
    printf("    %-8s", label);
    output_text(stdout, text);
    fputc('\n', stdout);
    bson_free(text);
}

static void on_conflict(const struct replay_conflict *conflict, void *context)
{
    struct restore *restore = context;
    if (restore->options->json) {
        print_conflict_json(restore, conflict);
    } else {
        char *key = output_json(conflict->key);
        fputs("conflict  ", stdout);
        output_text(stdout, conflict->namespace);
        fputc(' ', stdout);
        output_text(stdout, key);
        printf(", last written by unit %" PRIu64 ": ", conflict->unit);
        output_text(stdout, conflict->reason);
        fputc('\n', stdout);
        bson_free(key);
        print_image("found", conflict->found);
        print_image("wanted", conflict->wanted);
    }
    restore->printed++;
}

static enum status on_step(const struct replay_report *so_far, void *context,
                           struct error *ret_error)
{
    struct restore *restore = context;
    if (progress_due(&restore->progress)) {
        uint64_t done = so_far->moved + so_far->in_place + so_far->conflicts;
        if (done < so_far->documents) {
            progress_print(&restore->progress, "%" PRIu64 " of %" PRIu64 " documents", done,
                           so_far->documents);
        } else {
            progress_print(&restore->progress, "reading the journal: unit %" PRIu64,
                           so_far->last_unit);
        }
    }
    if (!restore->leased || clock_monotonic_ms() - restore->renewed_ms < LEASE_RENEW_MS) {
        return STATUS_OK;
    }
    restore->renewed_ms = clock_monotonic_ms();
    return lease_renew(restore->upstream, &restore->lease, restore->point.backup_lsn, 1, ret_error);
}

static enum status take_lease(struct restore *restore, struct error *ret_error)
{
    enum status status = restore_point_take(restore->upstream, restore->wal, LEASE_VALID_MS + 2000,
                                            &restore->point, &restore->lease, ret_error);
    restore->leased = status == STATUS_OK;
    restore->renewed_ms = clock_monotonic_ms();
    return status;
}

/* Conflicts leave the database undone with, unless the operator says that he is. */
static enum status finish(struct restore *restore, struct error *ret_error)
{
    struct wal_statistics figures;
    if (!restore->leased || (restore->report.conflicts > 0 && !restore->options->yes)) {
        return STATUS_OK;
    }
    /* A journal that has grown meanwhile belongs to a proxy that serves another database by now. */
    enum status status = wal_statistics_get(restore->wal, &figures, ret_error);
    if (status == STATUS_OK) {
        restore->whole = restore->whole && figures.last_lsn == restore->point.last_lsn;
        status =
            restore_point_finish(restore->upstream, restore->wal, &restore->point, &restore->lease,
                                 restore->range.until_lsn, restore->whole, ret_error);
    }
    restore->leased = restore->leased && status != STATUS_OK;
    return status;
}

enum status restore_run(struct restore *restore, struct error *ret_error)
{
    struct replay_options options = {
        .from_lsn = restore->range.from_lsn,
        .until_lsn = restore->range.until_lsn,
        .dry_run = restore->dry_run,
        .threads = THREADS,
        .uri = restore->uri,
        .connect_ms = restore->options->connect_ms,
        .conflict = on_conflict,
        .step = on_step,
        .context = restore,
    };
    enum status status = restore->dry_run ? STATUS_OK : take_lease(restore, ret_error);
    if (status == STATUS_OK) {
        progress_begin(&restore->progress, restore->options);
        status = replay_run(restore->wal, restore->upstream, &options, &restore->report, ret_error);
        progress_end(&restore->progress);
    }
    return status == STATUS_OK ? finish(restore, ret_error) : status;
}

/* ------------------------------------------------------------------ what it came to */

void restore_print_report(const struct restore *restore, bool begun)
{
    const struct replay_report *report = &restore->report;
    if (restore->options->json) {
        printf("%s%s], \"dryRun\": %s, \"fromLsn\": %" PRIu64 ", \"throughLsn\": %" PRIu64
               ", \"whole\": %s, \"units\": %" PRIu64 ", \"writes\": %" PRIu64
               ", \"documents\": %" PRIu64 ", \"moved\": %" PRIu64 ", \"inPlace\": %" PRIu64
               ", \"conflictCount\": %" PRIu64 "}\n",
               begun ? "" : "{\"conflicts\": [", restore->printed == 0 ? "" : "\n",
               restore->dry_run ? "true" : "false", restore->range.from_lsn,
               restore->range.until_lsn, restore->whole ? "true" : "false", report->units,
               report->writes, report->documents, report->moved, report->in_place,
               report->conflicts);
        return;
    }
    printf("LSN %" PRIu64 " to %" PRIu64 ": %" PRIu64 " committed units, %" PRIu64
           " writes to %" PRIu64 " documents\n",
           restore->range.from_lsn, restore->range.until_lsn, report->units, report->writes,
           report->documents);
    printf("%smoved: %" PRIu64 "; in place already: %" PRIu64 "; conflicts: %" PRIu64 "\n",
           restore->dry_run ? "would be " : "", report->moved, report->in_place, report->conflicts);
}

void restore_print_next(const struct restore *restore)
{
    if (restore->options->json || restore->dry_run) {
        return;
    }
    if (restore->report.conflicts > 0 && !restore->options->yes) {
        printf("Not finished: look at the conflicts, then run this again; or accept them as they "
               "are with --yes.\n");
    } else if (restore->whole) {
        printf("Next: start holdfastd with this journal.\n");
    } else {
        printf("Next: start holdfastd with an empty --wal directory and\n"
               "  --set upstream.takeover=%s\n"
               "for this journal holds commits that were left out, and is refused here now. Keep "
               "it.\n",
               restore->point.journal);
    }
}
