/*
 * `holdfast replay` (cli.h): brings a restored backup forward to what the journal says.
 *
 * Threads: main only.
 */

#include <stdio.h>

#include "cli/output.h"
#include "cli/restore.h"

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
        restore_print_report(&restore, begun);
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
