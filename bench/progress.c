/* See progress.h. */
#include "bench/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/load/nanoseconds.h"

#define CLEAR_LINE "\r\033[K"
#define LINE_WIDTH 100

/* By how long those took that are done. */
static uint64_t seconds_left(const struct progress *progress)
{
    if (progress->run == 0) {
        return 0;
    }
    uint64_t each = (progress->done_ns - progress->began_ns) / progress->run;
    uint64_t left = each * (progress->runs - progress->run);
    uint64_t past = nanoseconds_now() - progress->done_ns;
    return left > past ? (left - past) / NS_PER_SECOND : 0;
}

static void show(const struct progress *progress, const char *more)
{
    uint64_t left = seconds_left(progress);
    char line[512];
    if (!progress->shown) {
        return;
    }
    snprintf(line, sizeof line, "%zu/%zu  %s%s", progress->run + 1, progress->runs, progress->what,
             more);
    fprintf(stderr, CLEAR_LINE "%.*s", LINE_WIDTH, line);
    if (left > 0) {
        fprintf(stderr, "  (%" PRIu64 ":%02" PRIu64 " left)", left / 60, left % 60);
    }
    (void)fflush(stderr);
}

static void tell(void *context, uint64_t operations, uint64_t operations_a_second)
{
    char more[80];
    (void)operations;
    snprintf(more, sizeof more, "  %" PRIu64 " a second", operations_a_second);
    show(context, more);
}

void progress_init(struct progress *progress, bool quiet, size_t runs)
{
    *progress = (struct progress){
        .shown = !quiet && isatty(STDERR_FILENO) == 1, .runs = runs, .began_ns = nanoseconds_now()};
    progress->watcher = (struct run_watcher){.tell = tell, .context = progress};
}

void progress_begin(struct progress *progress, const char *cell, const char *target, uint32_t round)
{
    snprintf(progress->what, sizeof progress->what, "%s: %s, round %" PRIu32, cell, target,
             round + 1);
    show(progress, "");
}

void progress_done(struct progress *progress)
{
    progress->run++;
    progress->done_ns = nanoseconds_now();
}

void progress_end(struct progress *progress)
{
    if (progress->shown) {
        fputs(CLEAR_LINE, stderr);
    }
}

const struct run_watcher *progress_watcher(struct progress *progress)
{
    return progress->shown ? &progress->watcher : NULL;
}
