/*
 * `holdfast scrub` (cli.h): finds what breaks the rules of a file, shows what would put it right,
 * and does it through the running holdfastd.
 *
 *     look at all rules, report
 *     --fix: for each rule with findings and a fix: ask; look again, fix each finding in a unit
 *     again, as long as that fixed something: what was deleted may be referred to
 *
 * Threads: main only.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/output.h"
#include "cli/scrub_undo.h"
#include "holdfast/clock.h"
#include "scrub/fix.h"
#include "scrub/look.h"
#include "scrub/pipeline.h"
#include "scrub/rules.h"
#include "scrub/undo.h"
#include "upstream/upstream.h"

#define EXAMPLES_MAX 5
#define EXAMPLE_DOCUMENTS_MAX 3
#define PASSES_MAX 10
#define ANSWER_MS 600000 /* a scan of a large collection */
#define PATIENCE_MS 60000
#define LOCK_TIMEOUT 24
#define SNAPSHOT_UNAVAILABLE 246

struct scrub {
    const struct cli_options *options;
    struct scrub_rules rules;
    struct upstream *upstream;
    struct maintain *maintain; /* NULL but with --fix */
    struct scrub_link link;
    char run[SCRUB_RUN_BYTES];
    uint64_t printed; /* elements of the JSON list that is being written */
};

/* One rule's report. */
struct report {
    struct scrub *scrub;
    bson_t *examples[EXAMPLES_MAX];
    size_t example_count;
    struct scrub_counts counts;
};

/* What became of a rule's findings. */
struct repair {
    struct scrub *scrub;
    uint64_t fixed;
    uint64_t left;    /* gone or changed since they were found */
    uint64_t useless; /* not cured by the rule's fix, or refused */
};

/* The proxy has a look wait for units that have written; one that they keep waiting begins anew. */
static bool is_passing(const bson_t *command, int32_t code)
{
    bson_iter_t first;
    return (code == LOCK_TIMEOUT || code == SNAPSHOT_UNAVAILABLE) &&
           bson_iter_init(&first, command) && bson_iter_next(&first) &&
           strcmp(bson_iter_key(&first), "aggregate") == 0;
}

/* A link's command. */
static enum status upstream_send(void *context, const char *database, const bson_t *command,
                                 bson_t *ret_reply, struct error *ret_error)
{
    const struct scrub *scrub = context;
    uint64_t since_ms = clock_monotonic_ms();
    for (;;) {
        int32_t code = 0;
        enum status status =
            upstream_command(scrub->upstream, database, command, ret_reply, &code, ret_error);
        if (status != STATUS_REFUSED || !is_passing(command, code) ||
            clock_monotonic_ms() - since_ms > PATIENCE_MS) {
            return status;
        }
    }
}

/* ------------------------------------------------------------------ opening */

static enum status check_options(const struct cli_options *options, struct error *ret_error)
{
    if (options->rules == NULL) {
        return error_set(ret_error, STATUS_INVALID, "by which rules? --rules FILE");
    }
    if (options->proxy == NULL && options->upstream == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "where? --proxy URI, a running holdfastd as services have it, or "
                         "--upstream URI, the server itself");
    }
    if (options->fix && options->proxy == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "--fix works through a running holdfastd, so that it can be undone: "
                         "--proxy URI");
    }
    return STATUS_OK;
}

static enum status check_rule(const struct scrub *scrub, struct error *ret_error)
{
    const char *name = scrub->options->rule;
    for (size_t i = 0; name != NULL && i < scrub->rules.count; i++) {
        if (strcmp(scrub->rules.list[i].name, name) == 0) {
            return STATUS_OK;
        }
    }
    return name == NULL ? STATUS_OK
                        : error_set(ret_error, STATUS_INVALID, "--rule %.100s: no such rule", name);
}

static bool is_wanted(const struct scrub *scrub, const struct scrub_rule *rule)
{
    return scrub->options->rule == NULL || strcmp(scrub->options->rule, rule->name) == 0;
}

/* The run's name is in the units' appName. */
static enum status open_proxy(struct scrub *scrub, struct error *ret_error)
{
    uint64_t random = 0;
    char application[64];
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        return error_set(ret_error, STATUS_IO, "no random number");
    }
    (void)snprintf(scrub->run, sizeof(scrub->run), "%016" PRIx64, random);
    if (!scrub->options->fix) {
        return STATUS_OK;
    }
    (void)snprintf(application, sizeof(application), SCRUB_APPLICATION "%s", scrub->run);
    struct maintain_options options = {
        .uri = scrub->options->proxy, .application = application, .patience_ms = PATIENCE_MS};
    return maintain_open(&options, &scrub->maintain, ret_error);
}

static enum status scrub_open(struct scrub *scrub, struct error *ret_error)
{
    const struct cli_options *options = scrub->options;
    const char *uri = options->upstream == NULL ? options->proxy : options->upstream;
    struct upstream_description description;
    enum status status = check_options(options, ret_error);
    if (status == STATUS_OK) {
        status = scrub_rules_read(options->rules, &scrub->rules, ret_error);
    }
    if (status == STATUS_OK) {
        status = check_rule(scrub, ret_error);
    }
    if (status == STATUS_OK) {
        status = upstream_open_answering(uri, options->connect_ms, ANSWER_MS, &scrub->upstream,
                                         ret_error);
    }
    if (status == STATUS_OK) {
        status = upstream_describe(scrub->upstream, &description, ret_error);
    }
    if (status == STATUS_OK) {
        scrub->link = (struct scrub_link){
            .command = upstream_send, .context = scrub, .now_ms = description.local_time_ms};
        status = open_proxy(scrub, ret_error);
    }
    return status;
}

static void scrub_close(struct scrub *scrub)
{
    scrub->maintain = maintain_close(scrub->maintain);
    scrub->upstream = upstream_close(scrub->upstream);
    scrub_rules_free(&scrub->rules);
}

/* ------------------------------------------------------------------ reporting */

struct example {
    struct report *report;
    bson_t *list;
    uint32_t count;
};

static bool on_document(const bson_t *document, void *context)
{
    struct example *example = context;
    char buffer[16];
    const char *index = NULL;
    bson_iter_t id;
    (void)bson_uint32_to_string(example->count++, &index, buffer, sizeof(buffer));
    if (bson_iter_init_find(&id, document, "_id")) {
        bson_append_iter(example->list, index, -1, &id);
    }
    return true;
}

static enum status on_command(const char *database, const bson_t *command, void *context,
                              struct error *ret_error)
{
    struct example *example = context;
    char buffer[16];
    const char *index = NULL;
    (void)ret_error;
    (void)bson_uint32_to_string(example->count++, &index, buffer, sizeof(buffer));
    BCON_APPEND(example->list, index, "{", "database", BCON_UTF8(database), "command",
                BCON_DOCUMENT(command), "}");
    return STATUS_OK;
}

/* {group, documents: {SOURCE: [_id, ...]}, fix: [{database, command}]} */
static enum status example_make(struct report *report, const struct scrub_rule *rule,
                                const bson_t *group, bson_t *document, struct error *ret_error)
{
    const struct scrub_link *link = &report->scrub->link;
    bson_t documents;
    enum status status = STATUS_OK;
    BSON_APPEND_DOCUMENT(document, "group", group);
    BSON_APPEND_DOCUMENT_BEGIN(document, "documents", &documents);
    for (size_t i = 0; status == STATUS_OK && i < rule->source_count; i++) {
        bson_t list = BSON_INITIALIZER;
        struct example example = {.report = report, .list = &list};
        bson_t *command =
            scrub_pipeline_documents(rule, i, group, EXAMPLE_DOCUMENTS_MAX, link->now_ms);
        status = scrub_documents(link, rule->database, command, on_document, &example, ret_error);
        BSON_APPEND_ARRAY(&documents, rule->sources[i].name, &list);
        bson_destroy(command);
        bson_destroy(&list);
    }
    bson_append_document_end(document, &documents);
    if (status == STATUS_OK && rule->fix_count > 0) {
        bson_t list = BSON_INITIALIZER;
        struct example example = {.report = report, .list = &list};
        status =
            scrub_fix_plan(link, rule, group, report->scrub->run, on_command, &example, ret_error);
        BSON_APPEND_ARRAY(document, "fix", &list);
        bson_destroy(&list);
    }
    return status;
}

static enum status on_finding(const struct scrub_rule *rule, const bson_t *group, void *context,
                              struct error *ret_error)
{
    struct report *report = context;
    if (report->example_count == EXAMPLES_MAX) {
        return STATUS_OK;
    }
    bson_t *example = bson_new();
    enum status status = example_make(report, rule, group, example, ret_error);
    /* Documents that somebody takes away meanwhile are no reason to stop: the next look tells. */
    if (status == STATUS_LIMIT) {
        status = STATUS_OK;
    }
    report->examples[report->example_count++] = example;
    return status;
}

static void print_part(const char *label, const bson_t *example, const char *name)
{
    bson_iter_t at;
    bson_t view;
    const uint8_t *data = NULL;
    uint32_t size = 0;
    if (!bson_iter_init_find(&at, example, name) || !BSON_ITER_HOLDS_DOCUMENT(&at)) {
        return;
    }
    bson_iter_document(&at, &size, &data);
    if (bson_init_static(&view, data, size)) {
        char *json = output_json(slice_make(data, size));
        printf("    %s", label);
        output_text(stdout, json);
        fputc('\n', stdout);
        bson_free(json);
    }
}

/* As a shell of MongoDB takes it. */
static void print_fix(const bson_t *example)
{
    bson_iter_t at;
    bson_iter_t each;
    if (!bson_iter_init_find(&at, example, "fix") || !bson_iter_recurse(&at, &each)) {
        return;
    }
    while (bson_iter_next(&each)) {
        bson_iter_t inside;
        bson_iter_t command;
        const uint8_t *data = NULL;
        uint32_t size = 0;
        if (!bson_iter_recurse(&each, &inside) || !bson_iter_find(&inside, "database") ||
            !bson_iter_recurse(&each, &command) || !bson_iter_find(&command, "command")) {
            continue;
        }
        bson_iter_document(&command, &size, &data);
        char *json = output_json(slice_make(data, size));
        printf("    fix: db.getSiblingDB(\"%s\").runCommand(", bson_iter_utf8(&inside, NULL));
        output_text(stdout, json);
        fputs(")\n", stdout);
        bson_free(json);
    }
}

static void report_print_text(const struct scrub_rule *rule, const struct report *report)
{
    printf("%8" PRIu64 "  %8" PRIu64 "  ", report->counts.found, report->counts.moving);
    output_text(stdout, rule->name);
    printf("%s", rule->why[0] == '\0' ? "" : ": ");
    output_text(stdout, rule->why);
    fputc('\n', stdout);
    for (size_t i = 0; i < report->example_count; i++) {
        print_part("", report->examples[i], "group");
        print_part("documents: ", report->examples[i], "documents");
        print_fix(report->examples[i]);
    }
    if (report->counts.found > report->example_count) {
        printf("    ... and %" PRIu64 " more\n",
               report->counts.found - (uint64_t)report->example_count);
    }
    (void)fflush(stdout);
}

static void report_print_json(const struct scrub_rule *rule, const struct report *report)
{
    bson_t document = BSON_INITIALIZER;
    bson_t examples;
    BSON_APPEND_UTF8(&document, "rule", rule->name);
    BSON_APPEND_UTF8(&document, "kind", scrub_kind_name(rule->kind));
    BSON_APPEND_UTF8(&document, "why", rule->why);
    BSON_APPEND_INT64(&document, "found", (int64_t)report->counts.found);
    BSON_APPEND_INT64(&document, "rows", (int64_t)report->counts.rows);
    BSON_APPEND_INT64(&document, "moving", (int64_t)report->counts.moving);
    BSON_APPEND_BOOL(&document, "fixable", rule->fix_count > 0);
    BSON_APPEND_ARRAY_BEGIN(&document, "examples", &examples);
    for (size_t i = 0; i < report->example_count; i++) {
        char buffer[16];
        const char *index = NULL;
        (void)bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof(buffer));
        BSON_APPEND_DOCUMENT(&examples, index, report->examples[i]);
    }
    bson_append_array_end(&document, &examples);
    char *json = output_json(slice_make(bson_get_data(&document), document.len));
    printf("%s\n  %s", report->scrub->printed++ == 0 ? "" : ",", json);
    bson_free(json);
    bson_destroy(&document);
}

static enum status report_rule(struct scrub *scrub, const struct scrub_rule *rule,
                               struct scrub_counts *totals, struct error *ret_error)
{
    struct report report = {.scrub = scrub};
    enum status status = scrub_find(&scrub->link, rule, scrub->options->settle_ms, on_finding,
                                    &report, &report.counts, ret_error);
    if (status == STATUS_OK) {
        totals->found += report.counts.found;
        totals->moving += report.counts.moving;
        if (scrub->options->json) {
            report_print_json(rule, &report);
        } else if (report.counts.found + report.counts.moving > 0) {
            report_print_text(rule, &report);
        }
    }
    for (size_t i = 0; i < report.example_count; i++) {
        bson_destroy(report.examples[i]);
    }
    return status;
}

static enum status report_all(struct scrub *scrub, struct scrub_counts *ret_totals,
                              struct error *ret_error)
{
    struct scrub_counts totals = {0};
    enum status status = STATUS_OK;
    fputs(scrub->options->json ? "{\"rules\": [" : "   FOUND    MOVING  RULE\n", stdout);
    for (size_t i = 0; status == STATUS_OK && i < scrub->rules.count; i++) {
        if (is_wanted(scrub, &scrub->rules.list[i])) {
            status = report_rule(scrub, &scrub->rules.list[i], &totals, ret_error);
        }
    }
    if (status == STATUS_OK && !scrub->options->json) {
        printf("%8" PRIu64 "  %8" PRIu64 "  in all, by %zu rules\n", totals.found, totals.moving,
               scrub->options->rule == NULL ? scrub->rules.count : (size_t)1);
    }
    *ret_totals = totals;
    return status;
}

/* ------------------------------------------------------------------ fixing */

/* One that the server refuses, or that has too many documents, is no reason to leave the others. */
static bool concerns_one(enum status status)
{
    return status == STATUS_REFUSED || status == STATUS_LIMIT;
}

static void tell_refused(const struct scrub_rule *rule, const bson_t *group, const char *why)
{
    char *json = output_json(slice_make(bson_get_data(group), group->len));
    fputs("holdfast: ", stderr);
    output_text(stderr, rule->name);
    fputs(": ", stderr);
    output_text(stderr, json);
    fputs(": ", stderr);
    output_text(stderr, why);
    fputc('\n', stderr);
    bson_free(json);
}

static enum status fix_finding(const struct scrub_rule *rule, const bson_t *group, void *context,
                               struct error *ret_error)
{
    struct repair *repair = context;
    struct scrub *scrub = repair->scrub;
    enum scrub_outcome outcome = SCRUB_GONE;
    struct error error = {0};
    enum status status =
        scrub_fix(scrub->maintain, rule, group, scrub->run, scrub->link.now_ms, &outcome, &error);
    if (concerns_one(status)) {
        tell_refused(rule, group, error.message);
        repair->useless++;
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return error_set(ret_error, status, "%s", error.message);
    }
    repair->fixed += outcome == SCRUB_FIXED;
    repair->useless += outcome == SCRUB_USELESS;
    repair->left += outcome == SCRUB_GONE || outcome == SCRUB_CHANGED;
    return STATUS_OK;
}

static enum status nothing(const struct scrub_rule *rule, const bson_t *group, void *context,
                           struct error *ret_error)
{
    (void)rule;
    (void)group;
    (void)context;
    (void)ret_error;
    return STATUS_OK;
}

/* *ret_agreed: whether the operator wants this rule's findings fixed. */
static enum status ask(const struct scrub *scrub, const struct scrub_rule *rule, uint64_t found,
                       bool *ret_agreed, struct error *ret_error)
{
    char answer[16];
    *ret_agreed = true;
    if (scrub->options->yes) {
        return STATUS_OK;
    }
    if (!isatty(STDIN_FILENO)) {
        return error_set(ret_error, STATUS_INVALID,
                         "--fix: nobody is here to be asked; --yes does not ask");
    }
    fprintf(stderr, "Fix %" PRIu64 " of %s? Type yes: ", found, rule->name);
    *ret_agreed = fgets(answer, sizeof(answer), stdin) != NULL && strcmp(answer, "yes\n") == 0;
    return STATUS_OK;
}

static void repair_print(const struct scrub_rule *rule, const struct repair *repair)
{
    if (repair->scrub->options->json) {
        bson_t document = BSON_INITIALIZER;
        BSON_APPEND_UTF8(&document, "rule", rule->name);
        BSON_APPEND_INT64(&document, "fixed", (int64_t)repair->fixed);
        BSON_APPEND_INT64(&document, "changedMeanwhile", (int64_t)repair->left);
        BSON_APPEND_INT64(&document, "notCured", (int64_t)repair->useless);
        char *json = output_json(slice_make(bson_get_data(&document), document.len));
        printf("%s\n  %s", repair->scrub->printed++ == 0 ? "" : ",", json);
        bson_free(json);
        bson_destroy(&document);
        return;
    }
    printf("%8" PRIu64 " fixed  ", repair->fixed);
    output_text(stdout, rule->name);
    if (repair->left > 0) {
        printf(", %" PRIu64 " had changed meanwhile", repair->left);
    }
    if (repair->useless > 0) {
        printf(", %" PRIu64 " that the fix does not cure stay as they are", repair->useless);
    }
    fputc('\n', stdout);
    (void)fflush(stdout);
}

static enum status fix_rule(struct scrub *scrub, const struct scrub_rule *rule, uint64_t *fixed,
                            struct error *ret_error)
{
    struct scrub_counts counts = {0};
    struct repair repair = {.scrub = scrub};
    bool agreed = false;
    uint64_t pause_ms = scrub->options->settle_ms;
    enum status status =
        scrub_find(&scrub->link, rule, pause_ms, nothing, NULL, &counts, ret_error);
    if (status != STATUS_OK || counts.found == 0) {
        return status;
    }
    status = ask(scrub, rule, counts.found, &agreed, ret_error);
    if (status != STATUS_OK || !agreed) {
        return status;
    }
    /* Each is looked at once more in its unit, so nothing needs a pause. */
    status = scrub_find(&scrub->link, rule, 0, fix_finding, &repair, &counts, ret_error);
    if (repair.fixed + repair.left + repair.useless > 0) {
        repair_print(rule, &repair);
    }
    *fixed += repair.fixed;
    return status;
}

/* Until a pass fixes nothing. */
static enum status fix_all(struct scrub *scrub, struct error *ret_error)
{
    enum status status = STATUS_OK;
    uint64_t fixed = 1;
    scrub->printed = 0;
    fputs(scrub->options->json ? "\n], \"fixes\": [" : "\n", stdout);
    for (int pass = 0; pass < PASSES_MAX && status == STATUS_OK && fixed > 0; pass++) {
        fixed = 0;
        for (size_t i = 0; i < scrub->rules.count && status == STATUS_OK; i++) {
            const struct scrub_rule *rule = &scrub->rules.list[i];
            if (is_wanted(scrub, rule) && rule->fix_count > 0) {
                status = fix_rule(scrub, rule, &fixed, ret_error);
            }
        }
    }
    return status;
}

/* What is left after the fixes. */
static enum status count_all(struct scrub *scrub, struct scrub_counts *ret_totals,
                             struct error *ret_error)
{
    struct scrub_counts totals = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < scrub->rules.count; i++) {
        struct scrub_counts counts = {0};
        if (is_wanted(scrub, &scrub->rules.list[i])) {
            status = scrub_find(&scrub->link, &scrub->rules.list[i], scrub->options->settle_ms,
                                nothing, NULL, &counts, ret_error);
            totals.found += counts.found;
            totals.moving += counts.moving;
        }
    }
    *ret_totals = totals;
    return status;
}

static enum status fix_and_count(struct scrub *scrub, struct scrub_counts *totals,
                                 struct error *ret_error)
{
    enum status status = fix_all(scrub, ret_error);
    if (status == STATUS_OK) {
        status = count_all(scrub, totals, ret_error);
    }
    if (!scrub->options->json) {
        printf("%8" PRIu64
               " left. To undo this run: holdfast scrub --undo %s --wal DIR --proxy URI\n",
               totals->found, scrub->run);
    }
    return status;
}

enum cli_exit cli_scrub(const struct cli_options *options)
{
    struct scrub scrub = {.options = options};
    struct scrub_counts totals = {0};
    struct error error = {0};
    if (options->undo != NULL || options->runs) {
        return scrub_undo_run(options);
    }
    enum status status = scrub_open(&scrub, &error);
    if (status == STATUS_OK) {
        status = report_all(&scrub, &totals, &error);
        if (status == STATUS_OK && options->fix && totals.found > 0) {
            status = fix_and_count(&scrub, &totals, &error);
        }
        if (options->json) {
            printf("\n], \"found\": %" PRIu64 ", \"moving\": %" PRIu64 ", \"run\": \"%s\"}\n",
                   totals.found, totals.moving, scrub.run);
        }
    }
    scrub_close(&scrub);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return totals.found > 0 ? CLI_LEFT : CLI_CLEAN;
}
