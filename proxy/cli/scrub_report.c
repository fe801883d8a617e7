/*
 * What a scrub has found, as text and as JSON (scrub_private.h). Main thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/output.h"
#include "cli/scrub_private.h"
#include "scrub/fix.h"
#include "scrub/pipeline.h"

#define EXAMPLES_MAX 5
#define EXAMPLE_DOCUMENTS_MAX 3

/* One rule's report. */
struct report {
    struct scrub *scrub;
    bson_t *examples[EXAMPLES_MAX];
    size_t example_count;
    struct scrub_counts counts;
};

bool scrub_is_wanted(const struct scrub *scrub, const struct scrub_rule *rule)
{
    return scrub->options->rule == NULL || strcmp(scrub->options->rule, rule->name) == 0;
}

struct example {
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
        struct example example = {.list = &list};
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
        struct example example = {.list = &list};
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

enum status scrub_report_all(struct scrub *scrub, struct scrub_counts *ret_totals,
                             struct error *ret_error)
{
    struct scrub_counts totals = {0};
    enum status status = STATUS_OK;
    fputs(scrub->options->json ? "{\"rules\": [" : "   FOUND    MOVING  RULE\n", stdout);
    for (size_t i = 0; status == STATUS_OK && i < scrub->rules.count; i++) {
        if (scrub_is_wanted(scrub, &scrub->rules.list[i])) {
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
