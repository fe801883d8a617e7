#ifndef HOLDFAST_CLI_RESTORE_H
#define HOLDFAST_CLI_RESTORE_H

/* What `replay`, `after-restore` and `check-restore` share: a journal, a restored database, and
 * what follows. */

#include "cli/cli.h"
#include "cli/moment.h"
#include "cli/progress.h"
#include "recover/replay.h"
#include "recover/restore_point.h"

struct restore {
    const struct cli_options *options;
    const char *uri;
    bool dry_run;
    struct wal *wal;
    struct upstream *upstream;
    struct restore_point point;
    struct moment_range range; /* until_lsn: at most the journal's end */
    bool whole;                /* it goes up to the journal's end */
    struct lease lease;
    bool leased;
    uint64_t renewed_ms;
    struct progress progress;
    struct replay_report report;
    uint64_t printed; /* conflicts */
};

/* Opens both, and finds out what is to be replayed. Call restore_close() in any case. */
MUST_CHECK enum status restore_open(struct restore *restore, struct error *ret_error);
void restore_close(struct restore *restore);

/*
 * Whether it may be done: STATUS_FOREIGN (another database, and nobody vouched), STATUS_REFUSED
 * (records that are needed are not in the journal any more, or nobody knows), STATUS_INVALID (the
 * backup is newer than --until). The message says what to do.
 */
MUST_CHECK enum status restore_check(const struct restore *restore, struct error *ret_error);

/* Does it, or with dry_run looks only, and prints the conflicts as they come. */
MUST_CHECK enum status restore_run(struct restore *restore, struct error *ret_error);

/* What it came to; `begun`: the JSON document has been begun, with its list of conflicts. */
void restore_print_report(const struct restore *restore, bool begun);

/* What to do next, as text and after it was done. */
void restore_print_next(const struct restore *restore);

#endif
