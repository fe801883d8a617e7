/*
 * `holdfast after-restore` (cli.h): brings a restored dump of `holdfast backup` and a journal
 * together, by a replay from the backup's mark.
 *
 * Threads: main only.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/backup_file.h"
#include "cli/output.h"
#include "cli/restore.h"

/* A dump that was not of one moment tells a later LSN than the one from which on it may lack
   something: the backup's file knows better. */
static enum status use_file(const struct backup_file *file, struct cli_options *options,
                            struct error *ret_error)
{
    static char journal[PATH_MAX];
    if (!file->finished) {
        return error_set(ret_error, STATUS_REFUSED,
                         "the backup in %s was not finished: its dump is not whole",
                         options->backup);
    }
    if (options->wal == NULL && !file->journal_copied) {
        return error_set(ret_error, STATUS_INVALID,
                         "the backup has no copy of the journal: --wal DIR, where is it?");
    }
    if (options->wal == NULL) {
        if (snprintf(journal, sizeof(journal), "%s/" BACKUP_JOURNAL_NAME, options->backup) >=
            (int)sizeof(journal)) {
            return error_set(ret_error, STATUS_INVALID, "the path of the backup is too long");
        }
        options->wal = journal;
    }
    if (options->from.kind == CLI_MOMENT_NONE) {
        options->from.kind = CLI_MOMENT_LSN;
        options->from.value = file->from_lsn + 1;
    }
    return STATUS_OK;
}

/* The dump's own database `holdfast` may not have been restored: the file tells whose it is. */
static enum status check_journal(const struct backup_file *file, const struct restore *restore,
                                 struct cli_options *options, struct error *ret_error)
{
    const struct restore_point *point = &restore->point;
    if (strcmp(file->journal, point->journal) != 0) {
        return error_set(ret_error, STATUS_FOREIGN,
                         "the backup is of journal %s, and %s is journal %s", file->journal,
                         options->wal, point->journal);
    }
    if (restore->range.until_lsn < file->until_lsn) {
        return error_set(ret_error, STATUS_INVALID,
                         "the dump may show what happened up to LSN %" PRIu64
                         ", and this would end at LSN %" PRIu64
                         ": take a later --until, or a journal that reaches so far",
                         file->until_lsn, restore->range.until_lsn);
    }
    if (!point->identity_exists && options->takeover == NULL) {
        options->takeover = point->journal;
    }
    return STATUS_OK;
}

static void print_begin(const struct backup_file *file, const struct restore *restore)
{
    if (restore->options->json) {
        fputs("{\"conflicts\": [", stdout);
        return;
    }
    printf("backup      of journal %s, LSN %" PRIu64 " to %" PRIu64 "%s\n", file->journal,
           file->from_lsn, file->until_lsn, file->paused ? ", of one moment" : "");
    printf("journal     %s, up to LSN %" PRIu64 "\n", restore->options->wal,
           restore->point.last_lsn);
}

enum cli_exit cli_after_restore(const struct cli_options *given)
{
    struct cli_options options = *given;
    struct backup_file file = {0};
    struct restore restore = {.options = &options, .uri = given->onto, .dry_run = given->dry_run};
    struct error error = {0};
    enum status status = options.backup == NULL
                             ? error_set(&error, STATUS_INVALID, "which backup? --backup DIR")
                             : backup_file_read(options.backup, &file, &error);
    if (status == STATUS_OK) {
        status = use_file(&file, &options, &error);
    }
    if (status == STATUS_OK) {
        status = restore_open(&restore, &error);
    }
    if (status == STATUS_OK) {
        status = check_journal(&file, &restore, &options, &error);
    }
    if (status == STATUS_OK) {
        status = restore_check(&restore, &error);
    }
    if (status == STATUS_OK) {
        print_begin(&file, &restore);
        status = restore_run(&restore, &error);
        restore_print_report(&restore, true);
    }
    if (status == STATUS_OK) {
        restore_print_next(&restore);
    }
    restore_close(&restore);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return restore.report.conflicts > 0 ? CLI_LEFT : CLI_CLEAN;
}
