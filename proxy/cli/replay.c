/*
 * `holdfast replay` (cli.h): brings a restored backup forward to what the journal says.
 *
 * Threads: main only.
 */

#include <inttypes.h>
#include <stdio.h>

#include "cli/output.h"
#include "cli/restore.h"

static void print_report(const struct restore *restore, bool begun)
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

static void print_next(const struct restore *restore)
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

enum cli_exit cli_replay(const struct cli_options *options)
{
    struct restore restore = {
        .options = options, .uri = options->onto, .dry_run = options->dry_run};
    struct error error = {0};
    bool begun = false;
    enum status status = restore_open(&restore, &error);
    if (status == STATUS_OK) {
        status = restore_check(&restore, &error);
    }
    if (status == STATUS_OK) {
        begun = options->json;
        fputs(begun ? "{\"conflicts\": [" : "", stdout);
        status = restore_run(&restore, &error);
        print_report(&restore, begun);
    }
    if (status == STATUS_OK) {
        print_next(&restore);
    }
    restore_close(&restore);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return restore.report.conflicts > 0 ? CLI_LEFT : CLI_CLEAN;
}
