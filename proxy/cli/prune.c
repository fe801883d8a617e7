/*
 * `holdfast prune` (cli.h): removes ended units now, and with --compact gives their room back to
 * the disk.
 *
 * A living holdfastd owns its journal: it is asked by the control socket, as in `rollback`, and the
 * journal is watched until nothing is left of what was to go. Without one the journal is pruned
 * here, as far as the probe on the server says that the server has itself made it durable.
 *
 * Threads: main; the journal's writer behind it.
 */

#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/answer.h"
#include "cli/control.h"
#include "cli/journal.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "holdfast/clock.h"
#include "holdfast/request_key.h"
#include "recover/lease.h"
#include "recover/native.h"
#include "recover/probe.h"

/* The daemon's default of wal.retention. */
#define RETENTION_MS (UINT64_C(24) * 3600 * 1000)
#define OWNER "holdfast prune"
#define LOOK_MS 50
#define COUNT_MS 1000u
#define PATIENCE_MS 30000u

struct pruning {
    const struct cli_options *options;
    struct wal_prune_options rules;
    struct progress progress;
    uint64_t units; /* gone, or with --dry-run that would go */
    uint64_t before_bytes;
    uint64_t after_bytes;
};

/* Whose answer may be asked for again: those that ended since stay. */
static void keep_requests(struct wal_prune_options *rules, uint64_t ended_before_ms)
{
    rules->kept_prefix = slice_make((const uint8_t *)REQUEST_KEY_PREFIX, REQUEST_KEY_PREFIX_BYTES);
    rules->kept_ended_before_ms = ended_before_ms;
}

/* ------------------------------------------------------------------ by the living holdfastd */

static enum status take_rules(const char *body, struct wal_prune_options *rules,
                              struct error *ret_error)
{
    struct answer answer;
    bson_iter_t at;
    enum status status = answer_parse(body, &answer, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!answer_find(&answer.root, "endedBefore", &at)) {
        status = error_set(ret_error, STATUS_PROTOCOL, "holdfastd's answer was not understood");
    } else {
        rules->ended_before_ms = (uint64_t)bson_iter_as_int64(&at);
    }
    if (status == STATUS_OK && answer_find(&answer.root, "requestsEndedBefore", &at)) {
        keep_requests(rules, (uint64_t)bson_iter_as_int64(&at));
    }
    if (status == STATUS_OK && answer_find(&answer.root, "settledLsn", &at) &&
        bson_iter_as_int64(&at) >= 0) {
        rules->settled_lsn = (uint64_t)bson_iter_as_int64(&at);
    }
    answer_free(&answer);
    return status;
}

/* STATUS_NOT_FOUND: there is none. */
static enum status ask(struct pruning *pruning, struct error *ret_error)
{
    char target[64];
    char *body = NULL;
    int code = 0;
    (void)snprintf(
        target, sizeof target, "/prune?before=%" PRIu64,
        pruning->options->before.kind == CLI_MOMENT_NONE ? 0 : pruning->options->before.value);
    enum status status = control_request(pruning->options, "POST", target, &code, &body, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (code == 200) {
        status = take_rules(body, &pruning->rules, ret_error);
    } else {
        body[strcspn(body, "\n")] = '\0';
        status = error_set(ret_error, STATUS_REFUSED, "%.500s", body);
    }
    free(body);
    return status;
}

/* Whether a living holdfastd is there to be asked, without asking it for anything. */
static bool is_living(const struct cli_options *options)
{
    char *body = NULL;
    int code = 0;
    bool living = control_request(options, "GET", "/status", &code, &body, NULL) == STATUS_OK;
    free(body);
    return living;
}

/* Until nothing is left that was to go; a holdfastd that does not get on has failed, or died. */
static enum status watch(struct pruning *pruning, struct wal *wal, struct error *ret_error)
{
    uint64_t left = 0;
    enum status status = wal_prune_count(wal, &pruning->rules, UINT64_MAX, &left, ret_error);
    uint64_t moved_ms = clock_monotonic_ms();
    uint64_t counted_ms = moved_ms;
    pruning->units = left;
    while (status == STATUS_OK && left > 0) {
        uint64_t still = 0;
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
        /* Counting all takes a while where there are many: often it is enough to see one. */
        bool all = clock_monotonic_ms() - counted_ms >= COUNT_MS;
        status = wal_prune_count(wal, &pruning->rules, all ? UINT64_MAX : 1, &still, ret_error);
        if (status != STATUS_OK || (still > 0 && !all)) {
            continue;
        }
        counted_ms = clock_monotonic_ms();
        moved_ms = still < left ? counted_ms : moved_ms;
        left = still;
        if (progress_due(&pruning->progress)) {
            progress_print(&pruning->progress, "%" PRIu64 " units to go", left);
        }
        if (left > 0 && counted_ms - moved_ms > PATIENCE_MS) {
            status = error_set(ret_error, STATUS_UNREACHABLE,
                               "%" PRIu64 " units are still there: holdfastd does not get on with "
                               "it. Its log tells why",
                               left);
        }
    }
    return status;
}

static enum status prune_living(struct pruning *pruning, struct error *ret_error)
{
    struct wal *wal = NULL;
    if (pruning->options->compact) {
        return error_set(ret_error, STATUS_OWNED,
                         "--compact needs a stopped holdfastd: its journal is in use");
    }
    enum status status = journal_open_to_read(pruning->options, &wal, ret_error);
    if (status == STATUS_OK) {
        status = ask(pruning, ret_error);
    }
    if (status == STATUS_OK) {
        status = watch(pruning, wal, ret_error);
    }
    wal_close(wal, false);
    return status;
}

/* ------------------------------------------------------------------ on a stopped one's journal */

static bool go_on(void *context)
{
    struct pruning *pruning = context;
    if (progress_due(&pruning->progress)) {
        progress_print(&pruning->progress, "pruning");
    }
    return true;
}

/*
 * What the probe on the server covers no recovery will ask for, once the probe is durable there: so
 * it is written again.
 */
static enum status read_settled(struct pruning *pruning, struct wal *wal, struct error *ret_error)
{
    const struct cli_options *options = pruning->options;
    struct upstream *upstream = NULL;
    struct probe probe = {0};
    char journal[LEASE_JOURNAL_TEXT_BYTES];
    bool ours = false;
    lease_journal_text(wal_journal_id(wal), journal);
    enum status status =
        upstream_open(options->upstream, options->connect_ms, &upstream, ret_error);
    if (status == STATUS_OK) {
        status = probe_read(upstream, &probe, ret_error);
    }
    ours = probe.exists && strcmp(probe.journal, journal) == 0;
    if (status == STATUS_OK && ours && !options->dry_run) {
        probe.number++;
        status = probe_advance(upstream, &probe, true, &ours, ret_error);
    }
    if (status == STATUS_OK && !ours) {
        status = error_set(ret_error, STATUS_FOREIGN,
                           "the server's probe is not of this journal: it does not tell what it "
                           "has on its disk. Start holdfastd with this journal once");
    }
    pruning->rules.settled_lsn = probe.lsn;
    upstream_close(upstream);
    return status;
}

/* As the last holdfastd of this journal was told (http.idempotency.keep). */
static enum status read_kept(struct pruning *pruning, struct wal *wal, struct error *ret_error)
{
    char text[32] = "";
    size_t size = 0;
    uint64_t now_ms = clock_wall_ms();
    enum status status =
        wal_property_get(wal, REQUEST_KEEP_PROPERTY, text, sizeof text - 1, &size, ret_error);
    if (status == STATUS_OK) {
        uint64_t keep_ms = strtoull(text, NULL, 10);
        keep_requests(&pruning->rules, keep_ms < now_ms ? now_ms - keep_ms : 0);
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status remove_units(struct pruning *pruning, struct wal *wal, struct error *ret_error)
{
    bool native = false;
    enum status status = native_journal_is(wal, &native, ret_error);
    if (status == STATUS_OK) {
        status = read_kept(pruning, wal, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (native) {
        pruning->rules.settled_lsn = UINT64_MAX; /* it brings nothing back */
    } else if (pruning->options->upstream != NULL) {
        status = read_settled(pruning, wal, ret_error);
    } else if (!pruning->options->dry_run) {
        return error_set(ret_error, STATUS_INVALID,
                         "--upstream is missing: only the server tells which units it has on its "
                         "disk, and no others may go");
    }
    if (status == STATUS_OK && pruning->options->dry_run) {
        return wal_prune_count(wal, &pruning->rules, UINT64_MAX, &pruning->units, ret_error);
    }
    pruning->rules.go_on = go_on;
    pruning->rules.context = pruning;
    return status == STATUS_OK ? wal_prune(wal, &pruning->rules, &pruning->units, ret_error)
                               : status;
}

static enum status prune_stopped(struct pruning *pruning, struct error *ret_error)
{
    const struct cli_options *options = pruning->options;
    struct wal *wal = NULL;
    enum status status = options->dry_run ? journal_open_to_read(options, &wal, ret_error)
                                          : journal_open_stopped(options, OWNER, &wal, ret_error);
    /* --compact alone asks for no unit to go. */
    bool only_compact =
        options->compact && options->upstream == NULL && options->before.kind == CLI_MOMENT_NONE;
    if (status == STATUS_OK && !only_compact) {
        status = remove_units(pruning, wal, ret_error);
    }
    bool clean = wal != NULL && wal_was_clean(wal);
    wal_close(wal, clean);
    if (status == STATUS_OK && options->compact && !options->dry_run && !clean) {
        /* The lease of who did not end names the file: another one would pass for a copy. */
        status = error_set(ret_error, STATUS_REFUSED,
                           "--compact: this journal was not closed cleanly. Start holdfastd, or "
                           "run holdfast recover, then try again");
    } else if (status == STATUS_OK && options->compact && !options->dry_run) {
        status = wal_compact(options->wal, OWNER, &pruning->before_bytes, &pruning->after_bytes,
                             ret_error);
    }
    return status;
}

/* ------------------------------------------------------------------ the command */

static enum status check_before(struct pruning *pruning, struct error *ret_error)
{
    const struct cli_moment *before = &pruning->options->before;
    uint64_t now_ms = clock_wall_ms();
    pruning->rules = (struct wal_prune_options){.settled_lsn = UINT64_MAX};
    pruning->rules.ended_before_ms =
        before->kind == CLI_MOMENT_NONE ? now_ms - RETENTION_MS : before->value;
    if (before->kind == CLI_MOMENT_LSN) {
        return error_set(ret_error, STATUS_INVALID, "--before: expected a time, not an LSN");
    }
    if (pruning->rules.ended_before_ms + LEASE_REMEMBERED_MS > now_ms && !pruning->options->yes &&
        !pruning->options->dry_run) {
        return error_set(ret_error, STATUS_INVALID,
                         "--before less than 30 minutes ago: a driver may still ask how a commit "
                         "ended, or send a write again, and would not be recognised. Say --yes if "
                         "none can");
    }
    return STATUS_OK;
}

static void print_result(const struct pruning *pruning)
{
    bool compacted = pruning->after_bytes > 0;
    if (pruning->options->json) {
        printf("{\"units\": %" PRIu64 ", \"dryRun\": %s", pruning->units,
               pruning->options->dry_run ? "true" : "false");
        if (compacted) {
            printf(", \"bytesBefore\": %" PRIu64 ", \"bytesAfter\": %" PRIu64,
                   pruning->before_bytes, pruning->after_bytes);
        }
        puts("}");
        return;
    }
    printf("%" PRIu64 " unit%s %s\n", pruning->units, pruning->units == 1 ? "" : "s",
           pruning->options->dry_run ? "would be removed" : "removed");
    if (compacted) {
        printf("the journal's file has %" PRIu64 " bytes, it had %" PRIu64 "\n",
               pruning->after_bytes, pruning->before_bytes);
    }
}

enum cli_exit cli_prune(const struct cli_options *options)
{
    struct pruning pruning = {.options = options};
    struct error error = {0};
    enum status status = check_before(&pruning, &error);
    progress_begin(&pruning.progress, options);
    if (status == STATUS_OK) {
        status = !options->dry_run && is_living(options) ? prune_living(&pruning, &error)
                                                         : prune_stopped(&pruning, &error);
    }
    progress_end(&pruning.progress);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    print_result(&pruning);
    return CLI_CLEAN;
}
