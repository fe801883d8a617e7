/*
 * Rules of a scrub: what each kind of them is made of (rules.h).
 *
 *     database: emco                  of all rules that name none
 *     anchors: ...                    anything, to be referred to by aliases
 *     rules:
 *       - name: a name of its own
 *         why: a line for people
 *         KIND: ...                   exactly one
 *         fix: ...                    rules_fix.c
 *
 * Invariant: a rule that was read is whole: 1 to SCRUB_SOURCES_MAX sources with different names,
 * each with a key.
 */
#include "scrub/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scrub/rules_private.h"

const char *scrub_kind_name(enum scrub_kind kind)
{
    static const char *const names[] = {
#define X(name, text) text,
        SCRUB_KIND_LIST(X)
#undef X
    };
    return names[kind];
}

/* ------------------------------------------------------------------ kinds */

static enum status add_source(const struct place *place, const char *name, const char *also,
                              bool needs_key, struct scrub_rule *rule)
{
    if (rule->source_count == SCRUB_SOURCES_MAX) {
        return place_refuse(place, "a rule has at most %d sources", SCRUB_SOURCES_MAX);
    }
    struct scrub_source *source = &rule->sources[rule->source_count];
    enum status status = rules_source_read(place, name, also, needs_key, source);
    if (status != STATUS_OK) {
        return status;
    }
    rule->source_count++;
    for (size_t i = 0; i + 1 < rule->source_count; i++) {
        if (strcmp(rule->sources[i].name, source->name) == 0) {
            return place_refuse(place,
                                "%.60s is there a second time: give it a name:", source->name);
        }
    }
    return STATUS_OK;
}

static enum status add_named(const struct place *place, const char *field, struct scrub_rule *rule)
{
    struct place found;
    return place_find(place, field, &found) ? add_source(&found, field, NULL, true, rule)
                                            : place_refuse(place, "%s: is missing", field);
}

static enum status read_reference(const struct place *place, struct scrub_rule *rule)
{
    enum status status = place_check_keys(place, (const char *const[]){"from", "to", NULL});
    if (status == STATUS_OK) {
        status = add_named(place, "from", rule);
    }
    if (status == STATUS_OK) {
        status = add_named(place, "to", rule);
    }
    if (status == STATUS_OK) {
        rules_expect_reference(rule);
    }
    return status;
}

static enum status read_list(const struct place *place, struct scrub_rule *rule)
{
    struct place item;
    if (!BSON_ITER_HOLDS_ARRAY(&place->at) || place_count(place) < 2) {
        return place_refuse(place, "this must be a list of two or more");
    }
    for (size_t i = 0; i < place_count(place); i++) {
        char index[24];
        (void)snprintf(index, sizeof(index), "%zu", i);
        if (!place_find(place, index, &item)) {
            break;
        }
        enum status status = add_source(&item, NULL, NULL, true, rule);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status read_partners(const struct place *place, struct scrub_rule *rule)
{
    enum status status = read_list(place, rule);
    if (status == STATUS_OK) {
        rules_expect_partners(rule);
    }
    return status;
}

static enum status read_twin(const struct place *place, struct scrub_rule *rule)
{
    enum status status = read_list(place, rule);
    for (size_t i = 0; status == STATUS_OK && i < rule->source_count; i++) {
        if (rule->sources[i].value == NULL) {
            status = place_refuse(place, "value: of %.60s is missing", rule->sources[i].name);
        }
    }
    if (status == STATUS_OK) {
        rules_expect_twin(rule);
    }
    return status;
}

static enum status read_counter(const struct place *place, struct scrub_rule *rule)
{
    struct place found;
    bool sums = place_find(place, "sums", &found);
    enum status status =
        place_check_keys(place, (const char *const[]){"of", sums ? "sums" : "counts", NULL});
    if (status == STATUS_OK) {
        status = add_named(place, "of", rule);
    }
    if (status == STATUS_OK) {
        status = add_named(place, sums ? "sums" : "counts", rule);
    }
    if (status == STATUS_OK && rule->sources[0].value == NULL) {
        status = place_refuse(place, "of: needs a value:, the counter");
    }
    if (status == STATUS_OK && sums && rule->sources[1].sum == NULL) {
        status = place_refuse(place, "sums: needs a sum:, what is added up");
    }
    if (status == STATUS_OK) {
        rules_expect_counter(rule, sums);
    }
    return status;
}

static enum status read_unique(const struct place *place, struct scrub_rule *rule)
{
    enum status status = add_source(place, "documents", NULL, false, rule);
    if (status == STATUS_OK && rule->sources[0].key == NULL) {
        status = place_refuse(place, "key: is missing: what should be unique?");
    }
    if (status == STATUS_OK) {
        rules_expect_unique(rule);
    }
    return status;
}

/* The only source, whose rows are findings of their own. */
static enum status read_by_document(const struct place *place, const char *also,
                                    struct scrub_rule *rule)
{
    if (!BSON_ITER_HOLDS_DOCUMENT(&place->at)) {
        return place_refuse(place, "this must be a mapping (key: value)");
    }
    enum status status = add_source(place, "documents", also, true, rule);
    if (status != STATUS_OK) {
        return status;
    }
    const struct scrub_source *source = &rule->sources[0];
    struct place found;
    if (bson_count_keys(source->unwind) > 0 || place_find(place, "key", &found)) {
        return place_refuse(place, "%s: takes documents as they are, without key: and unwind:",
                            scrub_kind_name(rule->kind));
    }
    rule->by_document = true;
    return STATUS_OK;
}

static enum status read_expect(const struct place *place, struct scrub_rule *rule)
{
    struct place found;
    enum status status = read_by_document(place, "that\0", rule);
    if (status == STATUS_OK && !place_find(place, "that", &found)) {
        status = place_refuse(place, "that: is missing: what should be true?");
    }
    if (status == STATUS_OK) {
        rule->sources[0].sound = place_expression(&found);
    }
    return status;
}

/* "90s", "15m", "2h", "7d". */
static enum status read_duration(const struct place *place, int64_t *ret_ms)
{
    static const struct {
        const char *name;
        int64_t factor;
    } units[] = {{"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const char *text = BSON_ITER_HOLDS_UTF8(&place->at) ? bson_iter_utf8(&place->at, NULL) : "";
    size_t digits = strspn(text, "0123456789");
    for (size_t i = 0; digits > 0 && digits < 7 && i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(text + digits, units[i].name) == 0) {
            *ret_ms = strtoll(text, NULL, 10) * units[i].factor;
            return STATUS_OK;
        }
    }
    return place_refuse(place, "expected a time such as 90s, 15m, 2h or 7d");
}

static enum status read_stuck(const struct place *place, struct scrub_rule *rule)
{
    struct place since;
    struct place longer;
    bson_t *path = NULL;
    enum status status = read_by_document(place, "since\0longer\0", rule);
    if (status != STATUS_OK) {
        return status;
    }
    if (!place_find(place, "since", &since) || !place_find(place, "longer", &longer)) {
        return place_refuse(place, "stuck: needs since:, a time in the document, and longer:");
    }
    status = read_duration(&longer, &rule->sources[0].longer_ms);
    if (status == STATUS_OK) {
        status = place_path_or_expression(&since, &path);
    }
    if (status == STATUS_OK) {
        rule->sources[0].sound = rules_younger(path);
    }
    bson_destroy(path);
    return status;
}

static enum status read_group(const struct place *place, struct scrub_rule *rule)
{
    struct place sources;
    struct place that;
    bson_iter_t each;
    enum status status = place_check_keys(place, (const char *const[]){"sources", "that", NULL});
    if (status != STATUS_OK) {
        return status;
    }
    if (!place_find(place, "sources", &sources) || !BSON_ITER_HOLDS_DOCUMENT(&sources.at) ||
        place_count(&sources) == 0) {
        return place_refuse(place, "sources: is missing: NAME: {in: ..., key: ...}");
    }
    if (!place_find(place, "that", &that)) {
        return place_refuse(place, "that: is missing: what should be true of each group?");
    }
    if (!bson_iter_recurse(&sources.at, &each)) {
        return place_refuse(&sources, "this must be a mapping (key: value)");
    }
    while (status == STATUS_OK && bson_iter_next(&each)) {
        status = add_named(&sources, bson_iter_key(&each), rule);
    }
    rule->expect = place_expression(&that);
    return status;
}

static enum status (*const kind_readers[])(const struct place *place, struct scrub_rule *rule) = {
    [SCRUB_REFERENCE] = read_reference, [SCRUB_PARTNERS] = read_partners,
    [SCRUB_TWIN] = read_twin,           [SCRUB_COUNTER] = read_counter,
    [SCRUB_UNIQUE] = read_unique,       [SCRUB_STUCK] = read_stuck,
    [SCRUB_EXPECT] = read_expect,       [SCRUB_GROUP] = read_group,
};

/* ------------------------------------------------------------------ rules */

static void rule_free(struct scrub_rule *rule)
{
    bson_free(rule->name);
    bson_free(rule->why);
    bson_free(rule->database);
    bson_destroy(rule->expect);
    for (size_t i = 0; i < rule->source_count; i++) {
        rules_source_free(&rule->sources[i]);
    }
    for (size_t i = 0; i < rule->fix_count; i++) {
        rules_fix_free(&rule->fixes[i]);
    }
}

void scrub_rules_free(struct scrub_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        rule_free(&rules->list[i]);
    }
    free(rules->list);
    *rules = (struct scrub_rules){0};
}

static enum status read_kind(const struct place *place, struct scrub_rule *rule)
{
    struct place found;
    size_t count = 0;
    for (size_t i = 0; i < sizeof(kind_readers) / sizeof(kind_readers[0]); i++) {
        struct place kind;
        if (place_find(place, scrub_kind_name((enum scrub_kind)i), &kind)) {
            rule->kind = (enum scrub_kind)i;
            found = kind;
            count++;
        }
    }
    if (count != 1) {
        return place_refuse(place, "a rule has exactly one of reference, partners, twin, counter, "
                                   "unique, stuck, expect, group");
    }
    return kind_readers[rule->kind](&found, rule);
}

static enum status read_texts(const struct place *place, const char *database,
                              struct scrub_rule *rule)
{
    struct place found;
    const char *text = NULL;
    if (!place_find(place, "name", &found)) {
        return place_refuse(place, "name: is missing");
    }
    enum status status = place_text(&found, &text);
    if (status == STATUS_OK) {
        rule->name = bson_strdup(text);
        text = "";
        status = place_find(place, "why", &found) ? place_text(&found, &text) : STATUS_OK;
    }
    if (status == STATUS_OK) {
        rule->why = bson_strdup(text);
        text = database;
        status = place_find(place, "database", &found) ? place_text(&found, &text) : STATUS_OK;
    }
    if (status == STATUS_OK && text == NULL) {
        status = place_refuse(place, "database: is missing, here or at the top of the file");
    }
    if (status == STATUS_OK) {
        rule->database = bson_strdup(text);
    }
    return status;
}

static enum status read_rule(const struct place *place, const char *database,
                             struct scrub_rule *rule)
{
    static const char *const names[] = {"name", "why", "database", "fix",
#define X(name, text) text,
                                        SCRUB_KIND_LIST(X)
#undef X
                                            NULL};
    struct place found;
    enum status status = place_check_keys(place, names);
    if (status == STATUS_OK) {
        status = read_texts(place, database, rule);
    }
    if (status == STATUS_OK) {
        status = read_kind(place, rule);
    }
    if (status == STATUS_OK && place_find(place, "fix", &found)) {
        status = rules_fix_read(&found, rule);
    }
    return status;
}

static enum status check_name(const struct place *place, const struct scrub_rules *rules)
{
    const char *name = rules->list[rules->count - 1].name;
    for (size_t i = 0; i + 1 < rules->count; i++) {
        if (strcmp(rules->list[i].name, name) == 0) {
            return place_refuse(place, "a second rule %.60s", name);
        }
    }
    return STATUS_OK;
}

static enum status read_all(const struct place *root, struct scrub_rules *rules)
{
    struct place list;
    struct place found;
    const char *database = NULL;
    enum status status =
        place_check_keys(root, (const char *const[]){"database", "anchors", "rules", NULL});
    if (status == STATUS_OK && place_find(root, "database", &found)) {
        status = place_text(&found, &database);
    }
    if (status == STATUS_OK &&
        (!place_find(root, "rules", &list) || !BSON_ITER_HOLDS_ARRAY(&list.at))) {
        status = place_refuse(root, "rules: is missing, a list of rules");
    }
    size_t count = status == STATUS_OK ? place_count(&list) : 0;
    if (count > SCRUB_RULES_MAX) {
        return place_refuse(&list, "at most %d rules", SCRUB_RULES_MAX);
    }
    rules->list = calloc(count == 0 ? 1 : count, sizeof(rules->list[0]));
    if (rules->list == NULL) {
        return error_set(root->error, STATUS_MEMORY, "out of memory");
    }
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        char index[24];
        (void)snprintf(index, sizeof(index), "%zu", i);
        if (!place_find(&list, index, &found)) {
            break;
        }
        rules->count++;
        status = read_rule(&found, database, &rules->list[i]);
        if (status == STATUS_OK) {
            status = check_name(&found, rules);
        }
    }
    return status;
}

/* Takes the tree. */
static enum status read_tree(struct yaml_tree *tree, struct scrub_rules *ret_rules,
                             struct error *ret_error)
{
    struct scrub_rules rules = {0};
    enum status status = STATUS_OK;
    bson_t holder = BSON_INITIALIZER;
    struct place root = {.tree = tree, .error = ret_error};
    if (!BSON_APPEND_DOCUMENT(&holder, "root", yaml_tree_document(tree)) ||
        !bson_iter_init_find(&root.at, &holder, "root")) {
        status = error_set(ret_error, STATUS_MEMORY, "out of memory");
    } else {
        status = read_all(&root, &rules);
    }
    bson_destroy(&holder);
    yaml_tree_free(tree);
    if (status != STATUS_OK) {
        scrub_rules_free(&rules);
        return status;
    }
    *ret_rules = rules;
    return STATUS_OK;
}

enum status scrub_rules_parse(struct slice text, const char *name, struct scrub_rules *ret_rules,
                              struct error *ret_error)
{
    struct yaml_tree *tree = NULL;
    enum status status = yaml_tree_parse(text, name, &tree, ret_error);
    return status == STATUS_OK ? read_tree(tree, ret_rules, ret_error) : status;
}

enum status scrub_rules_read(const char *path, struct scrub_rules *ret_rules,
                             struct error *ret_error)
{
    struct yaml_tree *tree = NULL;
    enum status status = yaml_tree_read(path, &tree, ret_error);
    return status == STATUS_OK ? read_tree(tree, ret_rules, ret_error) : status;
}
