/*
 * `holdfast recover` (cli.h): what holdfastd does at its start, on a stopped proxy's journal.
 *
 *     journal's lock --> server --> lease --> recovery --> lease given back --> journal closed
 *
 * The lease is renewed between units and while the fence waits, so that no daemon starts beside us.
 *
 * Threads: main; the journal's writer behind it.
 */

#include <inttypes.h>
#include <string.h>

#include "cli/output.h"
#include "holdfast/clock.h"
#include "recover/lease.h"
#include "recover/recovery.h"

/* The daemon's default; what the journal holds already always fits. */
#define QUOTA_BYTES (UINT64_C(64) << 30)

struct session {
    const struct cli_options *options;
    struct wal *wal;
    struct upstream *upstream;
    struct lease lease;
    bool leased;
    uint64_t renewed_ms;
    uint64_t printed;
};

static enum status renew(struct session *session, struct error *ret_error)
{
    if (!session->leased || clock_monotonic_ms() - session->renewed_ms < LEASE_RENEW_MS) {
        return STATUS_OK;
    }
    session->renewed_ms = clock_monotonic_ms();
    return lease_renew(session->upstream, &session->lease, wal_last_lsn(session->wal), 1,
                       ret_error);
}

static const char *result_text(const struct session *session, enum undo_result result)
{
    if (session->options->dry_run) {
        return result == UNDO_DONE ? "would be rolled back" : "would be set aside as a conflict";
    }
    return result == UNDO_DONE ? "rolled back" : "set aside as a conflict";
}

static void print_unit_json(struct session *session, const struct recovery_unit *unit)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT64(&document, "unit", (int64_t)unit->history->unit);
    BSON_APPEND_UTF8(&document, "result", unit->result == UNDO_DONE ? "aborted" : "conflict");
    BSON_APPEND_INT64(&document, "writes", (int64_t)unit->history->write_count);
    if (unit->result == UNDO_CONFLICT) {
        output_append_image(&document, "conflict",
                            (struct image){.presence = IMAGE_PRESENT, .document = unit->conflict});
    }
    char *json = output_json(slice_make(bson_get_data(&document), document.len));
    printf("%s\n  %s", session->printed == 0 ? "" : ",", json);
    bson_free(json);
    bson_destroy(&document);
}

static void print_unit_text(struct session *session, const struct recovery_unit *unit)
{
    const char *reason = "";
    printf("unit %" PRIu64 " (%zu writes): %s", unit->history->unit, unit->history->write_count,
           result_text(session, unit->result));
    if (unit->result == UNDO_CONFLICT &&
        record_get_reason(unit->conflict, &reason, NULL) == STATUS_OK) {
        fputs(": ", stdout);
        output_text(stdout, reason);
    }
    fputc('\n', stdout);
    fflush(stdout);
}

static enum status unit_done(const struct recovery_unit *unit, void *context,
                             struct error *ret_error)
{
    struct session *session = context;
    if (session->options->json) {
        print_unit_json(session, unit);
    } else {
        print_unit_text(session, unit);
    }
    session->printed++;
    return renew(session, ret_error);
}

static void fencing(uint64_t left_ms, uint64_t present, void *context)
{
    struct session *session = context;
    fprintf(stderr, "holdfast: waiting for the former proxy's connections, %" PRIu64 " ms left",
            left_ms);
    if (present > 0) {
        fprintf(stderr, ", %" PRIu64 " still there", present);
    }
    fputc('\n', stderr);
    enum status status = renew(session, NULL);
    (void)status; /* the next renewal, after a unit, says it again */
}

/* Opens the journal only if there is one: a mistyped --wal must not make an empty journal. */
static enum status open_journal(struct session *session, struct error *ret_error)
{
    struct wal_options options = {.directory = session->options->wal, .read_only = true};
    enum status status = wal_open(&options, &session->wal, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    session->wal = wal_close(session->wal, false);
    options.read_only = false;
    options.quota_bytes = QUOTA_BYTES;
    options.durability = WAL_DURABILITY_POWER;
    options.owner = "holdfast recover";
    status = wal_open(&options, &session->wal, ret_error);
    if (status == STATUS_OWNED) {
        error_prefix(ret_error, "the journal is in use, and its owner recovers it by itself");
    }
    return status;
}

static enum status acquire(struct session *session, struct error *ret_error)
{
    const struct cli_options *options = session->options;
    struct lease_options lease_options = {
        .takeover = options->takeover,
        .wait_ms = LEASE_VALID_MS + 2000,
        .owner = "holdfast recover",
        .look_only = options->dry_run,
    };
    enum status status =
        upstream_open(options->upstream, options->connect_ms, &session->upstream, ret_error);
    if (status == STATUS_OK) {
        status = lease_acquire(session->upstream, session->wal, &lease_options, &session->lease,
                               ret_error);
    }
    session->leased = status == STATUS_OK && !options->dry_run;
    session->renewed_ms = clock_monotonic_ms();
    return status;
}

static void print_report(const struct session *session, const struct recovery_report *report)
{
    const char *would = session->options->dry_run ? "would be " : "";
    if (session->options->json) {
        printf("%s], \"dryRun\": %s, \"rolledBack\": %" PRIu64 ", \"conflictsNew\": %" PRIu64
               ", \"conflictsLeft\": %" PRIu64 ", \"fence\": \"%s\"}\n",
               session->printed == 0 ? "" : "\n", session->options->dry_run ? "true" : "false",
               report->units_rolled_back, report->conflicts_new, report->conflicts_left,
               fence_certainty_name(report->fence));
        return;
    }
    printf("%" PRIu64 " units %srolled back, %" PRIu64 " %sset aside as conflicts, %" PRIu64
           " conflicts left\n",
           report->units_rolled_back, would, report->conflicts_new, would, report->conflicts_left);
}

static enum status run(struct session *session, struct recovery_report *report,
                       struct error *ret_error)
{
    struct recovery_options options = {
        .dry_run = session->options->dry_run,
        .fence_ms = session->options->fence_ms,
        .fence_blindly = session->lease.former_unclean,
        .reason = "recovery by holdfast recover",
        .unit_done = unit_done,
        .fencing = fencing,
        .context = session,
    };
    if (session->options->json) {
        fputs("{\"units\": [", stdout);
    }
    enum status status = recovery_run(session->wal, session->upstream, &options, report, ret_error);
    print_report(session, report);
    return status;
}

/* Without a unit left open another journal may take the database over. */
static void end(struct session *session, bool recovered)
{
    if (session->leased) {
        struct error error = {0};
        if (lease_release(session->upstream, &session->lease, wal_last_lsn(session->wal), 0,
                          recovered, &error) != STATUS_OK) {
            output_failure(&error);
        }
    }
    upstream_close(session->upstream);
    if (session->wal != NULL) {
        bool clean = session->options->dry_run ? wal_was_clean(session->wal) : recovered;
        wal_close(session->wal, clean);
    }
}

enum cli_exit cli_recover(const struct cli_options *options)
{
    struct session session = {.options = options};
    struct recovery_report report = {0};
    struct error error = {0};
    if (options->upstream == NULL) {
        error_set(&error, STATUS_INVALID, "recover needs --upstream mongodb://host:port");
        return output_failure(&error);
    }
    enum status status = open_journal(&session, &error);
    if (status == STATUS_OK) {
        status = acquire(&session, &error);
    }
    if (status == STATUS_OK) {
        status = run(&session, &report, &error);
    }
    end(&session, status == STATUS_OK);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return report.conflicts_left > 0 ? CLI_LEFT : CLI_CLEAN;
}
