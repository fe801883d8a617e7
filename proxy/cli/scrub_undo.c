/*
 * The runs of a scrub that the journal knows, and undoing one (scrub_undo.h). Main thread.
 */
#include "cli/scrub_undo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/journal.h"
#include "cli/output.h"
#include "holdfast/clock.h"
#include "scrub/undo.h"

#define PATIENCE_MS 60000

struct undo {
    const struct cli_options *options;
    struct wal *wal;
    struct scrub_run_unit *units;
    size_t count;
    struct scrub_run_images *images; /* of --undo */
    uint64_t undone;
    uint64_t already;
    uint64_t changed;
};

static enum status undo_open(struct undo *undo, struct error *ret_error)
{
    const struct cli_options *options = undo->options;
    if (options->wal == NULL) {
        return error_set(ret_error, STATUS_INVALID, "--wal DIR: where is the journal?");
    }
    if (options->undo != NULL && options->proxy == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "--undo works through a running holdfastd: "
                         "--proxy URI");
    }
    enum status status = journal_open_to_read(options, &undo->wal, ret_error);
    if (status == STATUS_OK) {
        status = scrub_run_units(undo->wal, options->undo, &undo->units, &undo->count, ret_error);
    }
    if (status == STATUS_OK && options->undo != NULL && undo->count == 0) {
        status = error_set(ret_error, STATUS_NOT_FOUND,
                           "the journal knows no units of a run %.40s: --runs lists them",
                           options->undo);
    }
    return status;
}

/* ------------------------------------------------------------------ listing */

struct run {
    const char *name;
    uint64_t began_ms;
    uint64_t units;
};

/* Mostly the one that was found last: runs hardly ever overlap. NULL: out of memory. */
static struct run *run_of(struct run **runs, size_t *count, size_t *capacity,
                          const struct scrub_run_unit *unit)
{
    for (size_t i = *count; i-- > 0;) {
        if (strcmp((*runs)[i].name, unit->run) == 0) {
            return &(*runs)[i];
        }
    }
    struct run *more = memory_reserve(*runs, *count, capacity, sizeof(*more));
    if (more == NULL) {
        return NULL;
    }
    *runs = more;
    more[*count] = (struct run){.name = unit->run, .began_ms = unit->time_ms};
    return &more[(*count)++];
}

static void print_runs(const struct undo *undo, const struct run *runs, size_t count)
{
    bool json = undo->options->json;
    fputs(json ? "{\"runs\": [" : "RUN               BEGAN                     UNITS\n", stdout);
    for (size_t i = 0; i < count; i++) {
        char began[CLOCK_TEXT_BYTES];
        clock_text(runs[i].began_ms, began);
        if (json) {
            printf("%s\n  {\"run\": \"%s\", \"began\": \"%s\", \"units\": %" PRIu64 "}",
                   i == 0 ? "" : ",", runs[i].name, began, runs[i].units);
        } else {
            printf("%-16s  %-24s  %5" PRIu64 "\n", runs[i].name, began, runs[i].units);
        }
    }
    fputs(json ? "\n]}\n" : "", stdout);
}

static enum status list_runs(const struct undo *undo, struct error *ret_error)
{
    struct run *runs = NULL;
    size_t count = 0;
    size_t capacity = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < undo->count; i++) {
        struct run *run = run_of(&runs, &count, &capacity, &undo->units[i]);
        if (run == NULL) {
            status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        } else {
            run->units++;
        }
    }
    if (status == STATUS_OK) {
        print_runs(undo, runs, count);
    }
    free(runs);
    return status;
}

/* ------------------------------------------------------------------ undoing */

static enum status undo_one(struct undo *undo, struct maintain *maintain, uint64_t unit,
                            struct error *ret_error)
{
    enum scrub_undone undone = SCRUB_UNDONE;
    enum status status = scrub_undo(maintain, undo->wal, undo->images, unit, &undone, ret_error);
    if (status != STATUS_OK) {
        error_prefix(ret_error, "unit %" PRIu64, unit);
        return status;
    }
    undo->undone += undone == SCRUB_UNDONE;
    undo->already += undone == SCRUB_UNDONE_ALREADY;
    if (undone == SCRUB_UNDO_CHANGED) {
        undo->changed++;
        if (!undo->options->json) {
            printf("unit %" PRIu64 " stays: somebody has written its documents since (holdfast "
                   "show %" PRIu64 ")\n",
                   unit, unit);
        }
    }
    return STATUS_OK;
}

static enum status undo_all(struct undo *undo, struct error *ret_error)
{
    char application[64];
    struct maintain *maintain = NULL;
    (void)snprintf(application, sizeof(application), SCRUB_APPLICATION "undo %.20s",
                   undo->options->undo);
    struct maintain_options options = {
        .uri = undo->options->proxy, .application = application, .patience_ms = PATIENCE_MS};
    enum status status =
        scrub_run_images_read(undo->wal, undo->units, undo->count, &undo->images, ret_error);
    if (status == STATUS_OK) {
        status = maintain_open(&options, &maintain, ret_error);
    }
    for (size_t i = undo->count; status == STATUS_OK && i-- > 0;) {
        status = undo_one(undo, maintain, undo->units[i].unit, ret_error);
    }
    maintain_close(maintain);
    if (undo->options->json) {
        printf("{\"run\": \"%s\", \"undone\": %" PRIu64 ", \"already\": %" PRIu64
               ", \"changedSince\": %" PRIu64 "}\n",
               undo->units[0].run, undo->undone, undo->already, undo->changed);
    } else {
        printf("%" PRIu64 " of %zu units undone, %" PRIu64 " were already\n", undo->undone,
               undo->count, undo->already);
    }
    return status;
}

enum cli_exit scrub_undo_run(const struct cli_options *options)
{
    struct undo undo = {.options = options};
    struct error error = {0};
    enum status status = undo_open(&undo, &error);
    if (status == STATUS_OK && options->undo != NULL) {
        status = undo_all(&undo, &error);
    } else if (status == STATUS_OK) {
        status = list_runs(&undo, &error);
    }
    undo.images = scrub_run_images_free(undo.images);
    free(undo.units);
    undo.wal = wal_close(undo.wal, false);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return undo.changed > 0 ? CLI_LEFT : CLI_CLEAN;
}
