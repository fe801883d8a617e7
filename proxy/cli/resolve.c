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
#include "cli/side_by_side.h"
#include "recover/resolve.h"

static enum resolve_choice choice_of(const struct cli_options *options)
{
    if (options->choice == NULL || strcmp(options->choice, "keep") == 0) {
        return RESOLVE_KEEP;
    }
    return strcmp(options->choice, "restore") == 0 ? RESOLVE_RESTORE : RESOLVE_APPLY;
}

/* ------------------------------------------------------------------ showing */

static const char *effect(const struct resolve_document *document, enum resolve_choice choice)
{
    struct image wanted = resolve_wanted(document, choice);
    if (wanted.presence == IMAGE_UNKNOWN) {
        return "cannot be done: what the unit wrote is not known";
    }
    if (image_equal(document->found, wanted)) {
        return "stays as it is";
    }
    if (wanted.presence == IMAGE_ABSENT) {
        return "is removed";
    }
    return document->found.presence == IMAGE_ABSENT ? "is inserted" : "is replaced";
}

static void show_text(const struct resolve_plan *plan, const struct cli_options *options)
{
    for (size_t i = 0; i < plan->document_count; i++) {
        const struct resolve_document *document = &plan->documents[i];
        char *key = output_json(document->key);
        output_text(stdout, document->namespace);
        fputc(' ', stdout);
        output_text(stdout, key);
        bson_free(key);
        fputc('\n', stdout);
        side_by_side_print(stdout, document->before, document->after, document->found);
        if (options->choice == NULL) {
            printf("    --keep: stays as it is; --restore: %s; --apply: %s\n\n",
                   effect(document, RESOLVE_RESTORE), effect(document, RESOLVE_APPLY));
        } else {
            printf("    --%s: %s\n\n", options->choice, effect(document, choice_of(options)));
        }
    }
    fflush(stdout);
}

static void append_documents(bson_t *into, const struct resolve_plan *plan)
{
    bson_t list;
    bson_t entry;
    BSON_APPEND_ARRAY_BEGIN(into, "documents", &list);
    for (size_t i = 0; i < plan->document_count; i++) {
        const struct resolve_document *document = &plan->documents[i];
        char buffer[16];
        const char *index;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof(buffer));
        BSON_APPEND_DOCUMENT_BEGIN(&list, index, &entry);
        BSON_APPEND_UTF8(&entry, "ns", document->namespace);
        output_append_image(&entry, "key",
                            (struct image){.presence = IMAGE_PRESENT, .document = document->key});
        output_append_image(&entry, "before", document->before);
        output_append_image(&entry, "after", document->after);
        output_append_image(&entry, "found", document->found);
        bson_append_document_end(&list, &entry);
    }
    bson_append_array_end(into, &list);
}

static void print_json(const struct resolve_plan *plan, const struct cli_options *options,
                       bool resolved, size_t changed)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT64(&document, "unit", (int64_t)options->unit);
    append_documents(&document, plan);
    if (options->choice != NULL) {
        BSON_APPEND_UTF8(&document, "choice", options->choice);
    }
    BSON_APPEND_BOOL(&document, "resolved", resolved);
    BSON_APPEND_INT64(&document, "changed", (int64_t)changed);
    output_bson_line(stdout, &document);
    bson_destroy(&document);
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
    bool look_only = options->choice == NULL || options->dry_run;
    enum cli_exit done = CLI_FAILED;
    if (resolve_by_living(options, &done)) {
        return done;
    }
    enum status status = look(options, &plan, &error);
    if (status == STATUS_OK && !options->json) {
        show_text(&plan, options);
    }
    if (status == STATUS_OK && !look_only) {
        status = resolve_confirm(options, &error);
        if (status == STATUS_OK) {
            status = decide(options, &plan, &changed, &left, &error);
        }
    }
    if (status == STATUS_OK && options->json) {
        print_json(&plan, options, !look_only, changed);
    } else if (status == STATUS_OK && !look_only) {
        printf("unit %" PRIu64 " is resolved: %zu documents changed; %" PRIu64
               " conflicts left in the journal\n",
               options->unit, changed, left);
    }
    resolve_plan_free(&plan);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return left > 0 ? CLI_LEFT : CLI_CLEAN;
}
