/*
 * Rules as aggregations (pipeline.h).
 *
 * Rows are small whatever the documents are, and a group has a few numbers and values for each
 * source, however many rows it has: so the server's sort or hash by key holds keys, and goes to its
 * disk if they are many (allowDiskUse).
 *
 * Threads: any; nothing is kept.
 */
#include "scrub/pipeline.h"

#include <stdio.h>
#include <string.h>

#define BATCH 500

/* ------------------------------------------------------------------ values into templates */

static bool find_value(const struct scrub_values *values, const char *name, bson_iter_t *ret_found)
{
    bson_iter_t at;
    char path[128];
    if (values->group == NULL || !bson_iter_init(&at, values->group)) {
        return false;
    }
    if (strncmp(name, "key", 3) == 0 && (name[3] == '\0' || name[3] == '.')) {
        (void)snprintf(path, sizeof(path), "_id%s", name + 3);
    } else if (strncmp(name, "found.", 6) == 0) {
        (void)snprintf(path, sizeof(path), "%s", name + 6);
    } else {
        return false;
    }
    return bson_iter_find_descendant(&at, path, ret_found);
}

/* A text that is one of ours, as its value. False: it is none. */
static bool append_value(bson_t *to, const char *key, const char *text,
                         const struct scrub_values *values)
{
    bson_iter_t found;
    if (strncmp(text, "$$", 2) != 0) {
        return false;
    }
    const char *name = text + 2;
    if (strcmp(name, "now") == 0) {
        return BSON_APPEND_DATE_TIME(to, key, values->now_ms);
    }
    if (strcmp(name, "cutoff") == 0) {
        return BSON_APPEND_DATE_TIME(to, key, values->cutoff_ms);
    }
    if (strcmp(name, "rule") == 0) {
        return BSON_APPEND_UTF8(to, key, values->rule);
    }
    if (find_value(values, name, &found)) {
        return bson_append_iter(to, key, -1, &found);
    }
    bool ours = strcmp(name, "key") == 0 || strncmp(name, "key.", 4) == 0 ||
                strncmp(name, "found.", 6) == 0;
    return ours && BSON_APPEND_NULL(to, key);
}

/* $project may take a bare date or number as a switch: it is wrapped where it may. */
static bool append_substituted(bson_t *to, const char *key, const char *text,
                               const struct scrub_values *values, bool literal)
{
    if (!literal) {
        return append_value(to, key, text, values);
    }
    bson_t wrapped = BSON_INITIALIZER;
    bool done =
        append_value(&wrapped, "$literal", text, values) && BSON_APPEND_DOCUMENT(to, key, &wrapped);
    bson_destroy(&wrapped);
    return done;
}

static void substitute(bson_t *to, bson_iter_t *from, const struct scrub_values *values,
                       bool literal)
{
    while (bson_iter_next(from)) {
        const char *key = bson_iter_key(from);
        bson_iter_t inside;
        bson_t nested;
        bool document = BSON_ITER_HOLDS_DOCUMENT(from);
        if ((document || BSON_ITER_HOLDS_ARRAY(from)) && bson_iter_recurse(from, &inside)) {
            if (document) {
                BSON_APPEND_DOCUMENT_BEGIN(to, key, &nested);
            } else {
                BSON_APPEND_ARRAY_BEGIN(to, key, &nested);
            }
            substitute(&nested, &inside, values, literal);
            if (document) {
                bson_append_document_end(to, &nested);
            } else {
                bson_append_array_end(to, &nested);
            }
        } else if (!BSON_ITER_HOLDS_UTF8(from) ||
                   !append_substituted(to, key, bson_iter_utf8(from, NULL), values, literal)) {
            bson_append_iter(to, key, -1, from);
        }
    }
}

bson_t *scrub_substitute(const bson_t *template, const struct scrub_values *values, bool literal)
{
    bson_t *result = bson_new();
    bson_iter_t at;
    if (bson_iter_init(&at, template)) {
        substitute(result, &at, values, literal);
    }
    return result;
}

/* ------------------------------------------------------------------ stages */

/* An array of stages that is being made. */
struct stages {
    bson_t *array;
    uint32_t count;
};

/* Takes the stage. */
static void stage_add(struct stages *stages, bson_t *stage)
{
    char buffer[16];
    const char *key = NULL;
    (void)bson_uint32_to_string(stages->count++, &key, buffer, sizeof(buffer));
    BSON_APPEND_DOCUMENT(stages->array, key, stage);
    bson_destroy(stage);
}

static void append_expression(bson_t *to, const char *key, const bson_t *expression)
{
    bson_iter_t at;
    if (expression != NULL && bson_iter_init_find(&at, expression, "e")) {
        bson_append_iter(to, key, -1, &at);
    }
}

/* A list has null for what is not there, as groups show it. */
static void append_key(bson_t *to, const char *key, const bson_t *expression)
{
    bson_iter_t at;
    bson_iter_t each;
    bson_t list;
    if (!bson_iter_init_find(&at, expression, "e")) {
        return;
    }
    if (!BSON_ITER_HOLDS_ARRAY(&at) || !bson_iter_recurse(&at, &each)) {
        bson_append_iter(to, key, -1, &at);
        return;
    }
    BSON_APPEND_ARRAY_BEGIN(to, key, &list);
    while (bson_iter_next(&each)) {
        bson_t item;
        bson_t operands;
        BSON_APPEND_DOCUMENT_BEGIN(&list, bson_iter_key(&each), &item);
        BSON_APPEND_ARRAY_BEGIN(&item, "$ifNull", &operands);
        bson_append_iter(&operands, "0", 1, &each);
        BSON_APPEND_NULL(&operands, "1");
        bson_append_array_end(&item, &operands);
        bson_append_document_end(&list, &item);
    }
    bson_append_array_end(to, &list);
}

static bool source_is_marked(const struct scrub_rule *rule, size_t index)
{
    for (size_t i = 0; i < rule->fix_count; i++) {
        if (rule->fixes[i].action == SCRUB_MARK && rule->fixes[i].source == index) {
            return true;
        }
    }
    return false;
}

/* {PATH: {$in: the keys' part}}: only to let an index help; what it lets through is compared. */
static void append_path_in(bson_t *query, const bson_iter_t *path, const bson_t *keys,
                           const char *part)
{
    bson_t condition;
    bson_t values;
    bson_iter_t each;
    uint32_t count = 0;
    BSON_APPEND_DOCUMENT_BEGIN(query, bson_iter_utf8(path, NULL) + 1, &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &values);
    if (bson_iter_init(&each, keys)) {
        while (bson_iter_next(&each)) {
            bson_iter_t inside;
            bson_iter_t value = each;
            char buffer[16];
            const char *index = NULL;
            if (part != NULL &&
                (!bson_iter_recurse(&each, &inside) || !bson_iter_find(&inside, part))) {
                continue;
            }
            value = part == NULL ? each : inside;
            (void)bson_uint32_to_string(count++, &index, buffer, sizeof(buffer));
            bson_append_iter(&values, index, -1, &value);
        }
    }
    bson_append_array_end(&condition, &values);
    bson_append_document_end(query, &condition);
}

/* A query by a value of these types could mean something else, or miss documents. */
static bool keys_are_plain(const bson_t *keys)
{
    bson_iter_t each;
    bool plain = bson_iter_init(&each, keys);
    while (plain && bson_iter_next(&each)) {
        bson_type_t type = bson_iter_type(&each);
        bson_iter_t inside;
        plain = type != BSON_TYPE_REGEX && type != BSON_TYPE_NULL && type != BSON_TYPE_UNDEFINED;
        if (plain && type == BSON_TYPE_ARRAY && bson_iter_recurse(&each, &inside)) {
            while (plain && bson_iter_next(&inside)) {
                type = bson_iter_type(&inside);
                plain = type != BSON_TYPE_REGEX && type != BSON_TYPE_NULL &&
                        type != BSON_TYPE_UNDEFINED && type != BSON_TYPE_ARRAY;
            }
        }
    }
    return plain;
}

static void stage_prefilter(struct stages *stages, const struct scrub_source *source,
                            const bson_t *keys)
{
    bson_iter_t at;
    bson_iter_t each;
    bson_t query;
    if (keys == NULL || !source->key_is_plain || !keys_are_plain(keys) ||
        !bson_iter_init_find(&at, source->key, "e")) {
        return;
    }
    bson_t *stage = bson_new();
    BSON_APPEND_DOCUMENT_BEGIN(stage, "$match", &query);
    if (BSON_ITER_HOLDS_UTF8(&at)) {
        append_path_in(&query, &at, keys, NULL);
    } else if (bson_iter_recurse(&at, &each)) {
        while (bson_iter_next(&each)) {
            append_path_in(&query, &each, keys, bson_iter_key(&each));
        }
    }
    bson_append_document_end(stage, &query);
    stage_add(stages, stage);
}

static void stage_where(struct stages *stages, const struct scrub_rule *rule, size_t index)
{
    const struct scrub_source *source = &rule->sources[index];
    if (!bson_empty(source->where)) {
        stage_add(stages, BCON_NEW("$match", BCON_DOCUMENT(source->where)));
    }
    if (source_is_marked(rule, index)) {
        stage_add(stages, BCON_NEW("$match", "{", SCRUB_MARK_FIELD ".rule", "{", "$ne",
                                   BCON_UTF8(rule->name), "}", "}"));
    }
}

static void stage_unwind(struct stages *stages, const struct scrub_source *source)
{
    bson_iter_t each;
    if (bson_iter_init(&each, source->unwind)) {
        while (bson_iter_next(&each)) {
            stage_add(stages, BCON_NEW("$unwind", BCON_UTF8(bson_iter_utf8(&each, NULL))));
        }
    }
}

static void stage_unsound(struct stages *stages, const struct scrub_source *source, int64_t now_ms)
{
    if (source->sound == NULL) {
        return;
    }
    struct scrub_values values = {
        .rule = "", .now_ms = now_ms, .cutoff_ms = now_ms - source->longer_ms};
    bson_t *sound = scrub_substitute(source->sound, &values, true);
    bson_t *stage = bson_new();
    bson_t match;
    bson_t inverse;
    bson_t operands;
    BSON_APPEND_DOCUMENT_BEGIN(stage, "$match", &match);
    BSON_APPEND_DOCUMENT_BEGIN(&match, "$expr", &inverse);
    BSON_APPEND_ARRAY_BEGIN(&inverse, "$not", &operands);
    append_expression(&operands, "0", sound);
    bson_append_array_end(&inverse, &operands);
    bson_append_document_end(&match, &inverse);
    bson_append_document_end(stage, &match);
    bson_destroy(sound);
    stage_add(stages, stage);
}

/* {$ifNull: [value, false]}: false stands for what is not there, and is a value that differs. */
static void append_or(bson_t *to, const char *key, const bson_t *expression, bool zero)
{
    bson_t outer;
    bson_t operands;
    BSON_APPEND_DOCUMENT_BEGIN(to, key, &outer);
    BSON_APPEND_ARRAY_BEGIN(&outer, "$ifNull", &operands);
    append_expression(&operands, "0", expression);
    if (zero) {
        BSON_APPEND_INT32(&operands, "1", 0);
    } else {
        BSON_APPEND_BOOL(&operands, "1", false);
    }
    bson_append_array_end(&outer, &operands);
    bson_append_document_end(to, &outer);
}

/* A document's rows: {k, s, v, t}, and its _id if `with_id`. */
static void stage_rows(struct stages *stages, const struct scrub_source *source, int32_t index,
                       bool with_id)
{
    bson_t *stage = bson_new();
    bson_t fields;
    bson_t which;
    BSON_APPEND_DOCUMENT_BEGIN(stage, "$project", &fields);
    BSON_APPEND_INT32(&fields, "_id", with_id ? 1 : 0);
    append_key(&fields, "k", source->key);
    BSON_APPEND_DOCUMENT_BEGIN(&fields, "s", &which);
    BSON_APPEND_INT32(&which, "$literal", index);
    bson_append_document_end(&fields, &which);
    if (source->value != NULL) {
        append_or(&fields, "v", source->value, false);
    }
    if (source->sum != NULL) {
        append_or(&fields, "t", source->sum, true);
    }
    bson_append_document_end(stage, &fields);
    stage_add(stages, stage);
    /* Documents without the key have no part in the rule. */
    stage_add(stages, BCON_NEW("$match", "{", "k", "{", "$ne", BCON_NULL, "}", "}"));
}

static void stage_keys(struct stages *stages, const bson_t *keys)
{
    if (keys != NULL) {
        stage_add(stages, BCON_NEW("$match", "{", "k", "{", "$in", BCON_ARRAY(keys), "}", "}"));
    }
}

/* All stages of a source, up to its rows. */
static void stages_of_source(struct stages *stages, const struct scrub_rule *rule, size_t index,
                             const bson_t *keys, int64_t now_ms, bool with_id)
{
    const struct scrub_source *source = &rule->sources[index];
    stage_where(stages, rule, index);
    stage_prefilter(stages, source, keys);
    stage_unwind(stages, source);
    stage_unsound(stages, source, now_ms);
    stage_rows(stages, source, (int32_t)index, with_id);
    stage_keys(stages, keys);
}

/* ------------------------------------------------------------------ groups */

/* {ACCUMULATOR: {$cond: [{$eq: ["$s", index]}, value, otherwise]}}; otherwise NULL: 0 */
static void append_accumulator(bson_t *group, const char *prefix, size_t index,
                               const char *accumulator, const char *value, const char *otherwise)
{
    char name[32];
    bson_t outer;
    bson_t condition;
    bson_t operands;
    bson_t equal;
    bson_t sides;
    (void)snprintf(name, sizeof(name), "%s%zu", prefix, index);
    BSON_APPEND_DOCUMENT_BEGIN(group, name, &outer);
    BSON_APPEND_DOCUMENT_BEGIN(&outer, accumulator, &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$cond", &operands);
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "0", &equal);
    BSON_APPEND_ARRAY_BEGIN(&equal, "$eq", &sides);
    BSON_APPEND_UTF8(&sides, "0", "$s");
    BSON_APPEND_INT32(&sides, "1", (int32_t)index);
    bson_append_array_end(&equal, &sides);
    bson_append_document_end(&operands, &equal);
    if (value == NULL) {
        BSON_APPEND_INT32(&operands, "1", 1);
    } else {
        BSON_APPEND_UTF8(&operands, "1", value);
    }
    if (otherwise == NULL) {
        BSON_APPEND_INT32(&operands, "2", 0);
    } else {
        BSON_APPEND_UTF8(&operands, "2", otherwise);
    }
    bson_append_array_end(&condition, &operands);
    bson_append_document_end(&outer, &condition);
    bson_append_document_end(group, &outer);
}

static void stage_group(struct stages *stages, const struct scrub_rule *rule)
{
    bson_t *stage = bson_new();
    bson_t group;
    BSON_APPEND_DOCUMENT_BEGIN(stage, "$group", &group);
    BSON_APPEND_UTF8(&group, "_id", "$k");
    for (size_t i = 0; i < rule->source_count; i++) {
        append_accumulator(&group, "n", i, "$sum", NULL, NULL);
        if (rule->sources[i].value != NULL) {
            append_accumulator(&group, "a", i, "$min", "$v", "$$REMOVE");
            append_accumulator(&group, "z", i, "$max", "$v", "$$REMOVE");
        }
        if (rule->sources[i].sum != NULL) {
            append_accumulator(&group, "t", i, "$sum", "$t", NULL);
        }
    }
    bson_append_document_end(stage, &group);
    stage_add(stages, stage);
}

static void append_reference(bson_t *to, const char *name, const char *prefix, size_t index)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "$%s%zu", prefix, index);
    BSON_APPEND_UTF8(to, name, text);
}

/* Names in place of numbers, as expressions and templates know them. */
static void stage_names(struct stages *stages, const struct scrub_rule *rule)
{
    bson_t *stage = bson_new();
    bson_t fields;
    BSON_APPEND_DOCUMENT_BEGIN(stage, "$project", &fields);
    for (size_t i = 0; i < rule->source_count; i++) {
        bson_t source;
        BSON_APPEND_DOCUMENT_BEGIN(&fields, rule->sources[i].name, &source);
        append_reference(&source, "n", "n", i);
        if (rule->sources[i].value != NULL) {
            append_reference(&source, "min", "a", i);
            append_reference(&source, "max", "z", i);
        }
        if (rule->sources[i].sum != NULL) {
            append_reference(&source, "sum", "t", i);
        }
        bson_append_document_end(&fields, &source);
    }
    bson_append_document_end(stage, &fields);
    stage_add(stages, stage);
}

static void stage_unexpected(struct stages *stages, const struct scrub_rule *rule)
{
    bson_t *stage = bson_new();
    bson_t match;
    bson_t inverse;
    bson_t operands;
    BSON_APPEND_DOCUMENT_BEGIN(stage, "$match", &match);
    BSON_APPEND_DOCUMENT_BEGIN(&match, "$expr", &inverse);
    BSON_APPEND_ARRAY_BEGIN(&inverse, "$not", &operands);
    append_expression(&operands, "0", rule->expect);
    bson_append_array_end(&inverse, &operands);
    bson_append_document_end(&match, &inverse);
    bson_append_document_end(stage, &match);
    stage_add(stages, stage);
}

/* Rows that are findings: {_id: k, documents: {n: 1}}, streamed as they are met. */
static void stage_findings(struct stages *stages, const struct scrub_rule *rule)
{
    bson_t *stage = bson_new();
    bson_t fields;
    bson_t source;
    bson_t one;
    BSON_APPEND_DOCUMENT_BEGIN(stage, "$project", &fields);
    BSON_APPEND_UTF8(&fields, "_id", "$k");
    BSON_APPEND_DOCUMENT_BEGIN(&fields, rule->sources[0].name, &source);
    BSON_APPEND_DOCUMENT_BEGIN(&source, "n", &one);
    BSON_APPEND_INT32(&one, "$literal", 1);
    bson_append_document_end(&source, &one);
    if (rule->sources[0].value != NULL) {
        BSON_APPEND_UTF8(&source, "min", "$v");
        BSON_APPEND_UTF8(&source, "max", "$v");
    }
    bson_append_document_end(&fields, &source);
    bson_append_document_end(stage, &fields);
    stage_add(stages, stage);
}

static void stage_union(struct stages *stages, const struct scrub_rule *rule, size_t index,
                        const bson_t *keys, int64_t now_ms)
{
    struct stages inner = {.array = bson_new()};
    stages_of_source(&inner, rule, index, keys, now_ms, false);
    stage_add(stages,
              BCON_NEW("$unionWith", "{", "coll", BCON_UTF8(rule->sources[index].collection),
                       "pipeline", BCON_ARRAY(inner.array), "}"));
    bson_destroy(inner.array);
}

static bson_t *command_make(const char *collection, bson_t *stages)
{
    bson_t *command =
        BCON_NEW("aggregate", BCON_UTF8(collection), "pipeline", BCON_ARRAY(stages), "cursor", "{",
                 "batchSize", BCON_INT32(BATCH), "}", "allowDiskUse", BCON_BOOL(true));
    bson_destroy(stages);
    return command;
}

bson_t *scrub_pipeline_groups(const struct scrub_rule *rule, const bson_t *keys, int64_t now_ms)
{
    struct stages stages = {.array = bson_new()};
    stages_of_source(&stages, rule, 0, keys, now_ms, false);
    if (rule->by_document) {
        stage_findings(&stages, rule);
        return command_make(rule->sources[0].collection, stages.array);
    }
    for (size_t i = 1; i < rule->source_count; i++) {
        stage_union(&stages, rule, i, keys, now_ms);
    }
    stage_group(&stages, rule);
    stage_names(&stages, rule);
    stage_unexpected(&stages, rule);
    return command_make(rule->sources[0].collection, stages.array);
}

bson_t *scrub_pipeline_documents(const struct scrub_rule *rule, size_t source, const bson_t *group,
                                 int64_t limit, int64_t now_ms)
{
    struct stages stages = {.array = bson_new()};
    bson_t keys = BSON_INITIALIZER;
    bson_iter_t key;
    if (bson_iter_init_find(&key, group, "_id")) {
        bson_append_iter(&keys, "0", 1, &key);
    }
    stages_of_source(&stages, rule, source, &keys, now_ms, true);
    /* By value: $in takes an array's element for the array. */
    bson_t *stage = bson_new();
    bson_t match;
    bson_t expression;
    bson_t sides;
    bson_t literal;
    BSON_APPEND_DOCUMENT_BEGIN(stage, "$match", &match);
    BSON_APPEND_DOCUMENT_BEGIN(&match, "$expr", &expression);
    BSON_APPEND_ARRAY_BEGIN(&expression, "$eq", &sides);
    BSON_APPEND_UTF8(&sides, "0", "$k");
    BSON_APPEND_DOCUMENT_BEGIN(&sides, "1", &literal);
    if (bson_iter_init_find(&key, group, "_id")) {
        bson_append_iter(&literal, "$literal", -1, &key);
    }
    bson_append_document_end(&sides, &literal);
    bson_append_array_end(&expression, &sides);
    bson_append_document_end(&match, &expression);
    bson_append_document_end(stage, &match);
    stage_add(&stages, stage);
    stage_add(&stages, BCON_NEW("$sort", "{", "_id", BCON_INT32(1), "}"));
    stage_add(&stages, BCON_NEW("$limit", BCON_INT64(limit)));
    stage_add(&stages, BCON_NEW("$project", "{", "_id", BCON_INT32(1), "}"));
    bson_destroy(&keys);
    return command_make(rule->sources[source].collection, stages.array);
}
