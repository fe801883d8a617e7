/*
 * `holdfast recover` (cli.h): what holdfastd does at its start, on a stopped proxy's journal.
 *
 * The session keeps the lease meanwhile, so that no daemon starts beside us.
 *
 * Threads: main; the journal's writer behind it.
 */

#include <inttypes.h>
#include <string.h>

#include "cli/output.h"
#include "cli/recover_native.h"
#include "cli/session.h"
#include "recover/recovery.h"

struct recover_work {
    struct session session;
    uint64_t printed;
};

static const char *result_text(const struct recover_work *work, enum recovery_result result)
{
    bool would = work->session.options->dry_run;
    switch (result) {
    case RECOVERY_ROLLED_BACK:
        return would ? "would be rolled back" : "rolled back";
    case RECOVERY_REDONE:
        return would ? "lost by the server, would be redone" : "lost by the server, redone";
    case RECOVERY_CONFLICT:
        break;
    }
    return would ? "would be set aside as a conflict" : "set aside as a conflict";
}

static const char *result_name(enum recovery_result result)
{
    return result == RECOVERY_ROLLED_BACK ? "aborted"
           : result == RECOVERY_REDONE    ? "redone"
                                          : "conflict";
}

static void print_unit_json(struct recover_work *work, const struct recovery_unit *unit)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT64(&document, "unit", (int64_t)unit->history->unit);
    BSON_APPEND_UTF8(&document, "result", result_name(unit->result));
    BSON_APPEND_INT64(&document, "writes", (int64_t)unit->history->write_count);
    if (unit->result == RECOVERY_CONFLICT) {
        output_append_image(&document, "conflict",
                            (struct image){.presence = IMAGE_PRESENT, .document = unit->conflict});
    }
    char *json = output_json(slice_make(bson_get_data(&document), document.len));
    printf("%s\n  %s", work->printed == 0 ? "" : ",", json);
    bson_free(json);
    bson_destroy(&document);
}

static void print_unit_text(struct recover_work *work, const struct recovery_unit *unit)
{
    const char *reason = "";
    printf("unit %" PRIu64 " (%zu write%s): %s", unit->history->unit, unit->history->write_count,
           unit->history->write_count == 1 ? "" : "s", result_text(work, unit->result));
    if (unit->result == RECOVERY_CONFLICT &&
        record_get_reason(unit->conflict, &reason, NULL) == STATUS_OK) {
        fputs(": ", stdout);
        output_text(stdout, reason);
    }
    fputc('\n', stdout);
    fflush(stdout);
}

static void unit_done(const struct recovery_unit *unit, void *context)
{
    struct recover_work *work = context;
    if (work->session.options->json) {
        print_unit_json(work, unit);
    } else {
        print_unit_text(work, unit);
    }
    work->printed++;
}

static void fencing(uint64_t left_ms, uint64_t present, void *context)
{
    (void)context;
    fprintf(stderr, "holdfast: waiting for the former proxy's connections, %" PRIu64 " ms left",
            left_ms);
    if (present > 0) {
        fprintf(stderr, ", %" PRIu64 " still there", present);
    }
    fputc('\n', stderr);
}

static void print_report(const struct recover_work *work, const struct recovery_report *report)
{
    const char *would = work->session.options->dry_run ? "would be " : "";
    if (work->session.options->json) {
        printf("%s], \"dryRun\": %s, \"serverRestarted\": %s, \"redone\": %" PRIu64
               ", \"rolledBack\": %" PRIu64 ", \"conflictsNew\": %" PRIu64
               ", \"conflictsLeft\": %" PRIu64 ", \"fence\": \"%s\"}\n",
               work->printed == 0 ? "" : "\n", work->session.options->dry_run ? "true" : "false",
               report->server_restarted ? "true" : "false", report->units_redone,
               report->units_rolled_back, report->conflicts_new, report->conflicts_left,
               fence_certainty_name(report->fence));
        return;
    }
    if (report->server_restarted) {
        printf("the server has restarted; %slost and redone: %" PRIu64 "\n", would,
               report->units_redone);
    }
    printf("%srolled back: %" PRIu64 "; %sset aside as conflicts: %" PRIu64
           "; conflicts left: %" PRIu64 "\n",
           would, report->units_rolled_back, would, report->conflicts_new, report->conflicts_left);
}

static enum status run(struct recover_work *work, struct recovery_report *report,
                       struct error *ret_error)
{
    struct recovery_options options = {
        .lease = &work->session.lease,
        .dry_run = work->session.options->dry_run,
        .fence_ms = work->session.options->fence_ms,
        .fence_blindly = work->session.lease.former_unclean,
        .reason = "recovery by holdfast recover",
        .unit_done = unit_done,
        .fencing = fencing,
        .context = work,
    };
    if (work->session.options->json) {
        fputs("{\"units\": [", stdout);
    }
    enum status status =
        recovery_run(work->session.wal, work->session.upstream, &options, report, ret_error);
    print_report(work, report);
    return status;
}

enum cli_exit cli_recover(const struct cli_options *options)
{
    struct recover_work work = {.session = {.options = options, .owner = "holdfast recover"}};
    struct recovery_report report = {0};
    struct error error = {0};
    uint64_t left = 0;
    enum status status = session_open(&work.session, &error);
    if (status == STATUS_OK && work.session.native) {
        status = recover_native(&work.session, &left, &error);
    } else if (status == STATUS_OK) {
        status = run(&work, &report, &error);
        left = report.conflicts_left;
    }
    session_close(&work.session, status == STATUS_OK && !options->dry_run);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return left > 0 ? CLI_LEFT : CLI_CLEAN;
}
