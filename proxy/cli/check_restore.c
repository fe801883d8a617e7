/*
 * `holdfast check-restore` (cli.h): what a restored database and this journal have to do with each
 * other, what a replay would do, and what to do next.
 *
 * Changes nothing. Threads: main only.
 */

#include <inttypes.h>
#include <stdio.h>

#include "cli/output.h"
#include "cli/restore.h"

static const char *database_text(const struct restore_point *point)
{
    if (point->identity_ours) {
        return point->replayed && !point->replayed_whole
                   ? "the journal's, brought to an earlier point by a replay"
                   : "the journal's";
    }
    return point->identity_exists ? "another one" : "unknown: without a database `holdfast`";
}

static void print_facts(const struct restore *restore)
{
    const struct restore_point *point = &restore->point;
    printf("journal     %s, LSN %" PRIu64 ", %" PRIu64 " units open\n", point->journal,
           point->last_lsn, point->units_open);
    printf("database    %s\n", database_text(point));
    if (point->proven) {
        printf("backup      holds everything that ended up to LSN %" PRIu64 "%s\n",
               point->backup_lsn, point->replayed ? ", after a replay" : "");
    } else {
        printf("backup      does not tell which LSN it is of\n");
    }
    if (point->pruned_lsn > 0) {
        printf("retention   has removed units that ended up to LSN %" PRIu64 "\n",
               point->pruned_lsn);
    }
    if (point->living) {
        printf("served by   ");
        output_text(stdout, point->lease.owner);
        printf(" on ");
        output_text(stdout, point->lease.host);
        printf(", pid %d\n", point->lease.pid);
    }
}

static void print_steps(const struct restore *restore, const struct error *obstacle)
{
    const struct cli_options *options = restore->options;
    const struct replay_report *report = &restore->report;
    if (restore->point.living) {
        printf("Next: stop what serves this database, or wait ten seconds if it is dead.\n");
        return;
    }
    if (obstacle->status != STATUS_OK) {
        printf("Next: ");
        output_text(stdout, obstacle->message);
        printf(".\n");
        return;
    }
    printf("a replay    would move %" PRIu64 " of %" PRIu64 " documents, %" PRIu64
           " are in conflict\n",
           report->moved, report->documents, report->conflicts);
    if (restore->point.replayed && !restore->point.replayed_whole) {
        printf("Next: start holdfastd with an empty --wal directory and\n"
               "  --set upstream.takeover=%s\n",
               restore->point.journal);
    } else if (report->moved + report->conflicts == 0) {
        printf("Next: start holdfastd with this journal, it fits.\n");
    } else {
        printf("Next: holdfast replay --wal %s --onto URI%s%s\n", options->wal,
               options->takeover == NULL ? "" : " --set upstream.takeover=",
               options->takeover == NULL ? "" : options->takeover);
        printf("  with --until WHEN to stop at an earlier point; then start holdfastd as it "
               "says.\n");
    }
}

static void print_json(const struct restore *restore, const struct error *obstacle)
{
    const struct restore_point *point = &restore->point;
    const struct replay_report *report = &restore->report;
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&document, "journal", point->journal);
    BSON_APPEND_INT64(&document, "lastLsn", (int64_t)point->last_lsn);
    BSON_APPEND_INT64(&document, "prunedLsn", (int64_t)point->pruned_lsn);
    BSON_APPEND_INT64(&document, "unitsOpen", (int64_t)point->units_open);
    BSON_APPEND_BOOL(&document, "databaseExists", point->identity_exists);
    BSON_APPEND_BOOL(&document, "databaseOurs", point->identity_ours);
    BSON_APPEND_BOOL(&document, "living", point->living);
    if (point->proven) {
        BSON_APPEND_INT64(&document, "backupLsn", (int64_t)point->backup_lsn);
    }
    BSON_APPEND_BOOL(&document, "replayed", point->replayed);
    BSON_APPEND_BOOL(&document, "replayedWhole", point->replayed_whole);
    if (obstacle->status != STATUS_OK) {
        BSON_APPEND_UTF8(&document, "obstacle", obstacle->message);
    } else {
        BSON_APPEND_INT64(&document, "documents", (int64_t)report->documents);
        BSON_APPEND_INT64(&document, "toMove", (int64_t)report->moved);
        BSON_APPEND_INT64(&document, "conflicts", (int64_t)report->conflicts);
    }
    char *json = output_json(slice_make(bson_get_data(&document), document.len));
    printf("%s, \"facts\": %s}\n", restore->printed == 0 ? "]" : "\n]", json);
    bson_free(json);
    bson_destroy(&document);
}

enum cli_exit cli_check_restore(const struct cli_options *options)
{
    struct restore restore = {.options = options, .uri = options->upstream, .dry_run = true};
    struct error error = {0};
    struct error obstacle = {0};
    enum status status = restore_open(&restore, &error);
    if (status == STATUS_OK) {
        fputs(options->json ? "{\"conflictList\": [" : "", stdout);
        /* With an obstacle nobody looks at documents: what would be found might mean nothing. */
        if (restore_check(&restore, &obstacle) == STATUS_OK) {
            status = restore_run(&restore, &error);
        }
    }
    if (status == STATUS_OK && options->json) {
        print_json(&restore, &obstacle);
    } else if (status == STATUS_OK) {
        print_facts(&restore);
        print_steps(&restore, &obstacle);
    }
    restore_close(&restore);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    bool left = obstacle.status != STATUS_OK || restore.point.living ||
                restore.report.moved + restore.report.conflicts > 0;
    return left ? CLI_LEFT : CLI_CLEAN;
}
