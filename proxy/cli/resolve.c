/*
 * `holdfast resolve UNIT` (cli.h): shows a conflict's documents as they are now, and carries out
 * what an operator decides. A living holdfastd does both itself (resolve_living.c); what follows is
 * for the journal of a stopped one.
 *
 * What is carried out is what was shown: the documents are read again under the lease, and if one
 * differs from what was shown nothing is done.
 *
 * Threads: main; the journal's writer behind it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/journal.h"
#include "cli/output.h"
#include "cli/resolve.h"
#include "cli/session.h"
#include "recover/resolve.h"

static enum resolve_choice choice_of(const struct cli_options *options)
{
    if (options->choice == NULL || strcmp(options->choice, "keep") == 0) {
        return RESOLVE_KEEP;
    }
    return strcmp(options->choice, "restore") == 0 ? RESOLVE_RESTORE : RESOLVE_APPLY;
}

/* ------------------------------------------------------------------ showing */

/* As text at once, or with --json into the array. */
static void show(const struct cli_options *options, const struct resolve_plan *plan,
                 bson_t *documents)
{
    for (size_t i = 0; i < plan->document_count; i++) {
        const struct resolve_document *document = &plan->documents[i];
        const struct resolve_shown shown = {
            .namespace = document->namespace,
            .key = {.presence = IMAGE_PRESENT, .document = document->key},
            .before = document->before,
            .after = document->after,
            .found = document->found,
            .restore = resolve_effect(document, RESOLVE_RESTORE),
            .apply = resolve_effect(document, RESOLVE_APPLY),
        };
        if (options->json) {
            resolve_show_json(documents, (uint32_t)i, &shown);
        } else {
            resolve_show_text(options, &shown);
        }
    }
    fflush(stdout);
}

/* ------------------------------------------------------------------ steps */

/* What there is to decide, without the journal's lock. */
static enum status look(const struct cli_options *options, struct resolve_plan *plan,
                        struct error *ret_error)
{
    struct wal *wal = NULL;
    struct upstream *upstream = NULL;
    if (options->upstream == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "--upstream is missing: which server, for example mongodb://host:port?");
    }
    enum status status = journal_open_to_read(options, &wal, ret_error);
    if (status == STATUS_OK) {
        status = upstream_open(options->upstream, options->connect_ms, &upstream, ret_error);
    }
    if (status == STATUS_OK) {
        status = resolve_look(wal, upstream, options->unit, RESOLVE_BYTES_ANY, plan, ret_error);
    }
    if (status == STATUS_NOT_FOUND) {
        error_prefix(ret_error, "unit %" PRIu64, options->unit);
    }
    upstream_close(upstream);
    wal_close(wal, false);
    return status;
}

enum status resolve_confirm(const struct cli_options *options, struct error *ret_error)
{
    char answer[32] = "";
    if (options->yes) {
        return STATUS_OK;
    }
    if (!isatty(STDIN_FILENO)) {
        return error_set(ret_error, STATUS_INVALID,
                         "nobody is there to ask: say --yes, or --dry-run to look only");
    }
    fprintf(stderr, "Carry out --%s for unit %" PRIu64 "? Type yes: ", options->choice,
            options->unit);
    if (fgets(answer, sizeof(answer), stdin) == NULL || strcmp(answer, "yes\n") != 0) {
        return error_set(ret_error, STATUS_INVALID, "not confirmed: nothing was done");
    }
    return STATUS_OK;
}

static bool same_found(const struct resolve_plan *a, const struct resolve_plan *b)
{
    bool same = a->document_count == b->document_count;
    for (size_t i = 0; same && i < a->document_count; i++) {
        same = image_equal(a->documents[i].found, b->documents[i].found);
    }
    return same;
}

static enum status carry_out(struct session *session, const struct resolve_plan *shown,
                             size_t *ret_changed, struct error *ret_error)
{
    const struct cli_options *options = session->options;
    struct resolve_plan plan = {0};
    if (!wal_was_clean(session->wal)) {
        return error_set(ret_error, STATUS_INVALID,
                         "the journal was not closed: run holdfast recover first");
    }
    enum status status = resolve_look(session->wal, session->upstream, options->unit,
                                      RESOLVE_BYTES_ANY, &plan, ret_error);
    if (status == STATUS_OK && !same_found(shown, &plan)) {
        status =
            error_set(ret_error, STATUS_CONFLICT,
                      "a document has changed since it was shown: nothing was done, look again");
    }
    if (status == STATUS_OK) {
        resolve_choose(&plan, choice_of(options));
        status = resolve_carry_out(session->wal, session->upstream, &plan, ret_changed, ret_error);
    }
    resolve_plan_free(&plan);
    return status;
}

/* A journal in which nothing was begun, or all of it ended, is as clean as it was. */
static bool is_settled(struct wal *wal)
{
    struct wal_statistics statistics;
    return wal_statistics_get(wal, &statistics, NULL) == STATUS_OK && statistics.units_open == 0;
}

static enum status decide(const struct cli_options *options, const struct resolve_plan *shown,
                          size_t *ret_changed, uint64_t *ret_left, struct error *ret_error)
{
    struct session session = {.options = options, .owner = "holdfast resolve"};
    struct wal_statistics statistics = {0};
    enum status status = session_open(&session, ret_error);
    bool clean = status == STATUS_OK && wal_was_clean(session.wal);
    if (status == STATUS_OK) {
        status = carry_out(&session, shown, ret_changed, ret_error);
    }
    if (status == STATUS_OK) {
        status = wal_statistics_get(session.wal, &statistics, ret_error);
        *ret_left = statistics.units_conflict;
    }
    session_close(&session, clean && is_settled(session.wal));
    return status;
}

enum cli_exit cli_resolve(const struct cli_options *options)
{
    struct resolve_plan plan = {0};
    struct error error = {0};
    size_t changed = 0;
    uint64_t left = 1;
    enum cli_exit done = CLI_FAILED;
    if (resolve_by_living(options, &done)) {
        return done;
    }
    bson_t documents = BSON_INITIALIZER;
    enum status status = look(options, &plan, &error);
    if (status == STATUS_OK) {
        show(options, &plan, &documents);
    }
    if (status == STATUS_OK && !resolve_looks_only(options)) {
        status = resolve_confirm(options, &error);
        if (status == STATUS_OK) {
            status = decide(options, &plan, &changed, &left, &error);
        }
    }
    done = status == STATUS_OK ? resolve_tell(options, &documents, (int64_t)changed, (int64_t)left)
                               : output_failure(&error);
    bson_destroy(&documents);
    resolve_plan_free(&plan);
    return done;
}
