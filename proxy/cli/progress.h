#ifndef HOLDFAST_CLI_PROGRESS_H
#define HOLDFAST_CLI_PROGRESS_H

/* How far a long command is, on standard error, if somebody looks or asked for it. Main thread. */

#include "cli/cli.h"

struct progress {
    bool shown;
    bool terminal; /* one line that changes, else one line each time */
    bool printed;
    uint64_t next_ms;
};

void progress_begin(struct progress *progress, const struct cli_options *options);
/* True once a second; then say it by progress_print(). */
bool progress_due(struct progress *progress);
void progress_print(struct progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void progress_end(struct progress *progress);

#endif
