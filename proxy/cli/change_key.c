/*
 * `holdfast change-key` (cli.h). Main thread.
 */

#include "cli/journal.h"
#include "cli/output.h"

enum cli_exit cli_change_key(const struct cli_options *options)
{
    struct error error = {0};
    struct wal *wal = NULL;
    if (options->key_file == NULL || options->target == NULL) {
        (void)error_set(
            &error, STATUS_INVALID,
            "which key file opens the journal, and which one is to open it from now on: "
            "--wal-key-file OLD --to NEW");
        return output_failure(&error);
    }
    enum status status = journal_open_stopped(options, "holdfast change-key", &wal, &error);
    if (status == STATUS_OK) {
        status = wal_change_key(wal, options->target, &error);
    }
    bool clean = wal != NULL && wal_was_clean(wal);
    wal_close(wal, clean);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    printf("The journal's keys are encrypted with %s now: start holdfastd with it.\n",
           options->target);
    return CLI_CLEAN;
}
