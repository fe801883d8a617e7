/*
 * `holdfast recover` on a journal of the native engine (recover/native.h).
 *
 * Threads: main; the journal's writer behind it.
 */
#include "cli/recover_native.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/output.h"
#include "recover/native.h"

struct native_work {
    bool json;
    uint64_t printed;
};

static const char *text_of(enum wal_unit_state state)
{
    switch (state) {
    case WAL_UNIT_COMMITTED:
        return "committed";
    case WAL_UNIT_ABORTED:
        return "never committed";
    case WAL_UNIT_COMMITTING:
        return "the server would be asked";
    default:
        return "set aside as a conflict";
    }
}

static void print_json(struct native_work *work, const struct native_unit *unit)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT64(&document, "unit", (int64_t)unit->history->unit);
    BSON_APPEND_UTF8(&document, "result", wal_unit_state_name(unit->state));
    if (unit->reason != NULL) {
        BSON_APPEND_UTF8(&document, "reason", unit->reason);
    }
    if (unit->left != NULL) {
        BSON_APPEND_UTF8(&document, "left", unit->left);
    }
    char *json = output_json(slice_make(bson_get_data(&document), document.len));
    printf("%s\n  %s", work->printed == 0 ? "" : ",", json);
    bson_free(json);
    bson_destroy(&document);
}

static void unit_done(const struct native_unit *unit, void *context)
{
    struct native_work *work = context;
    if (work->json) {
        print_json(work, unit);
    } else {
        printf("unit %" PRIu64 ": %s", unit->history->unit, text_of(unit->state));
        if (unit->state == WAL_UNIT_CONFLICT) {
            fputs(": ", stdout);
            output_text(stdout, unit->reason);
        }
        if (unit->left != NULL) {
            printf("; its documents are held until the server's own timeout: %s", unit->left);
        }
        fputc('\n', stdout);
        fflush(stdout);
    }
    work->printed++;
}

static void print_report(const struct native_work *work, bool dry_run,
                         const struct native_report *report)
{
    if (work->json) {
        printf("%s], \"dryRun\": %s, \"committed\": %" PRIu64 ", \"lost\": %" PRIu64
               ", \"rolledBack\": %" PRIu64 ", \"notAsked\": %" PRIu64
               ", \"conflictsNew\": %" PRIu64 ", \"conflictsLeft\": %" PRIu64 "}\n",
               work->printed == 0 ? "" : "\n", dry_run ? "true" : "false", report->committed,
               report->lost, report->rolled_back, report->not_asked, report->conflicts_new,
               report->conflicts_left);
        return;
    }
    if (dry_run) {
        printf("to be asked for: %" PRIu64 "; conflicts left: %" PRIu64 "\n", report->not_asked,
               report->conflicts_left);
        return;
    }
    printf("committed: %" PRIu64 "; lost: %" PRIu64 "; rolled back: %" PRIu64
           "; set aside as conflicts: %" PRIu64 "; conflicts left: %" PRIu64 "\n",
           report->committed, report->lost, report->rolled_back, report->conflicts_new,
           report->conflicts_left);
}

enum status recover_native(struct session *session, uint64_t *ret_left, struct error *ret_error)
{
    struct native_work work = {.json = session->options->json};
    struct native_report report = {0};
    const struct native_recovery_options options = {
        .dry_run = session->options->dry_run,
        .unit_done = unit_done,
        .context = &work,
    };
    if (work.json) {
        fputs("{\"units\": [", stdout);
    }
    enum status status =
        native_recover(session->wal, session->upstream, &options, &report, ret_error);
    print_report(&work, options.dry_run, &report);
    *ret_left = report.conflicts_left + report.not_asked;
    return status;
}
