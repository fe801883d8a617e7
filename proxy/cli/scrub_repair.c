/*
 * Fixing what a scrub has found (scrub_private.h): asks for each rule, and goes through the rules
 * again as long as that fixes something, for what was deleted may be referred to. Main thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/output.h"
#include "cli/scrub_private.h"
#include "scrub/fix.h"

#define PASSES_MAX 10

/* What became of a rule's findings. */
struct repair {
    struct scrub *scrub;
    uint64_t fixed;
    uint64_t left;    /* gone or changed since they were found */
    uint64_t useless; /* not cured by the rule's fix, or refused */
};

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
    /* A call that is no unit may have begun since: what is fixed has settled, too. */
    status = scrub_find(&scrub->link, rule, pause_ms, fix_finding, &repair, &counts, ret_error);
    if (repair.fixed + repair.left + repair.useless > 0) {
        repair_print(rule, &repair);
    }
    *fixed += repair.fixed;
    return status;
}

/* Until a pass fixes nothing. */
static enum status fix_in_passes(struct scrub *scrub, struct error *ret_error)
{
    enum status status = STATUS_OK;
    uint64_t fixed = 1;
    scrub->printed = 0;
    fputs(scrub->options->json ? "\n], \"fixes\": [" : "\n", stdout);
    for (int pass = 0; pass < PASSES_MAX && status == STATUS_OK && fixed > 0; pass++) {
        fixed = 0;
        for (size_t i = 0; i < scrub->rules.count && status == STATUS_OK; i++) {
            const struct scrub_rule *rule = &scrub->rules.list[i];
            if (scrub_is_wanted(scrub, rule) && rule->fix_count > 0) {
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
        if (scrub_is_wanted(scrub, &scrub->rules.list[i])) {
            status = scrub_find(&scrub->link, &scrub->rules.list[i], scrub->options->settle_ms,
                                nothing, NULL, &counts, ret_error);
            totals.found += counts.found;
            totals.moving += counts.moving;
        }
    }
    *ret_totals = totals;
    return status;
}

enum status scrub_fix_all(struct scrub *scrub, struct scrub_counts *ret_totals,
                          struct error *ret_error)
{
    enum status status = fix_in_passes(scrub, ret_error);
    if (status == STATUS_OK) {
        status = count_all(scrub, ret_totals, ret_error);
    }
    if (!scrub->options->json) {
        printf("%8" PRIu64
               " left. To undo this run: holdfast scrub --undo %s --wal DIR --proxy URI\n",
               ret_totals->found, scrub->run);
    }
    return status;
}
