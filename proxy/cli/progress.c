/* How far a long command is (progress.h). */

#include "cli/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "holdfast/clock.h"

void progress_begin(struct progress *progress, const struct cli_options *options)
{
    bool terminal = isatty(STDERR_FILENO) == 1;
    *progress = (struct progress){.terminal = terminal, .shown = terminal || options->progress};
    progress->next_ms = clock_monotonic_ms() + 1000;
}

bool progress_due(struct progress *progress)
{
    uint64_t now_ms = progress->shown ? clock_monotonic_ms() : 0;
    if (now_ms < progress->next_ms) {
        return false;
    }
    progress->next_ms = now_ms + 1000;
    return progress->shown;
}

void progress_print(struct progress *progress, const char *format, ...)
{
    va_list arguments;
    fputs(progress->terminal ? "\r\033[Kholdfast: " : "holdfast: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs(progress->terminal ? "" : "\n", stderr);
    fflush(stderr);
    progress->printed = true;
}

void progress_end(struct progress *progress)
{
    if (progress->printed && progress->terminal) {
        fputs("\n", stderr);
    }
}
