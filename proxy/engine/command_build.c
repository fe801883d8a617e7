/* Building the engine's commands; see command_build.h for their forms. */
#include "engine/command_build.h"

#include <assert.h>
#include <string.h>

static bool view(struct slice bytes, bson_t *ret_document)
{
    return bytes.size > 0 && bson_init_static(ret_document, bytes.data, bytes.size);
}

static void put_document(bson_t *into, const char *name, struct slice bytes)
{
    bson_t document;
    if (view(bytes, &document)) {
        bson_append_document(into, name, -1, &document);
    }
}

static void put_array(bson_t *into, const char *name, struct slice bytes)
{
    bson_t array;
    if (view(bytes, &array)) {
        bson_append_array(into, name, -1, &array);
    }
}

static void put_hint(bson_t *into, const struct statement *statement)
{
    if (statement->hint.value_type != BSON_TYPE_EOD) {
        bson_append_value(into, "hint", -1, &statement->hint);
    }
}

static void put_target(bson_t *into, const struct command_target *target)
{
    if (target->max_time_ms > 0) {
        BSON_APPEND_INT64(into, "maxTimeMS", target->max_time_ms);
    }
    BSON_APPEND_UTF8(into, "$db", target->database);
}

void command_build_resolve(bson_t *command, const struct command_target *target,
                           const struct statement *statement)
{
    BSON_APPEND_UTF8(command, "find", target->collection);
    put_document(command, "filter", statement->filter);
    put_document(command, "sort", statement->sort);
    put_document(command, "collation", statement->collation);
    put_document(command, "let", statement->variables);
    put_hint(command, statement);
    BSON_APPEND_INT32(command, "limit", 1);
    BSON_APPEND_BOOL(command, "singleBatch", true);
    put_target(command, target);
}

void command_build_find_key(bson_t *command, const struct command_target *target, struct slice key,
                            struct slice projection)
{
    BSON_APPEND_UTF8(command, "find", target->collection);
    put_document(command, "filter", key);
    put_document(command, "projection", projection);
    BSON_APPEND_INT32(command, "limit", 1);
    BSON_APPEND_BOOL(command, "singleBatch", true);
    put_target(command, target);
}

static void put_update(bson_t *into, const char *name, const struct statement *statement)
{
    if (statement->update_is_pipeline) {
        put_array(into, name, statement->update);
    } else {
        put_document(into, name, statement->update);
    }
}

static void put_nobody(bson_t *into, const char *name)
{
    bson_t query;
    bson_oid_t nobody;
    bson_oid_init(&nobody, NULL);
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &query);
    BSON_APPEND_OID(&query, "_id", &nobody);
    bson_append_document_end(into, &query);
}

static void put_probe_update(bson_t *command, const struct statement *statement)
{
    bson_t array;
    bson_t entry;
    BSON_APPEND_ARRAY_BEGIN(command, "updates", &array);
    BSON_APPEND_DOCUMENT_BEGIN(&array, "0", &entry);
    put_nobody(&entry, "q");
    put_update(&entry, "u", statement);
    put_document(&entry, "collation", statement->collation);
    put_array(&entry, "arrayFilters", statement->array_filters);
    bson_append_document_end(&array, &entry);
    bson_append_array_end(command, &array);
}

void command_build_probe(bson_t *command, const struct command_target *target,
                         const struct statement *statement, bool find_and_modify,
                         struct slice projection)
{
    BSON_APPEND_UTF8(command, find_and_modify ? "findAndModify" : "update", target->collection);
    if (!find_and_modify) {
        put_probe_update(command, statement);
    } else {
        put_nobody(command, "query");
        put_document(command, "fields", projection);
        put_document(command, "collation", statement->collation);
        if (statement->kind == STATEMENT_DELETE) {
            BSON_APPEND_BOOL(command, "remove", true);
        } else {
            put_update(command, "update", statement);
            put_array(command, "arrayFilters", statement->array_filters);
        }
    }
    put_document(command, "let", statement->variables);
    put_target(command, target);
}

static void put_element(bson_t *array, uint32_t *index, const bson_t *document)
{
    char name[2] = {(char)('0' + (*index)++), 0};
    bson_append_document(array, name, 1, document);
}

/* {$expr: {$eq: ["$$ROOT", {$literal: image}]}} */
static void put_equals(bson_t *condition, const bson_t *image)
{
    bson_t expression;
    bson_t operands;
    bson_t literal;
    BSON_APPEND_DOCUMENT_BEGIN(condition, "$expr", &expression);
    BSON_APPEND_ARRAY_BEGIN(&expression, "$eq", &operands);
    BSON_APPEND_UTF8(&operands, "0", "$$ROOT");
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "1", &literal);
    BSON_APPEND_DOCUMENT(&literal, "$literal", image);
    bson_append_document_end(&operands, &literal);
    bson_append_array_end(&expression, &operands);
    bson_append_document_end(condition, &expression);
}

/* {$nor: [{_id: {$exists: true}}]}: every document has an _id. */
static void put_never(bson_t *condition)
{
    bson_t array;
    bson_t id;
    bson_t exists;
    BSON_APPEND_ARRAY_BEGIN(condition, "$nor", &array);
    BSON_APPEND_DOCUMENT_BEGIN(&array, "0", &id);
    BSON_APPEND_DOCUMENT_BEGIN(&id, "_id", &exists);
    BSON_APPEND_BOOL(&exists, "$exists", true);
    bson_append_document_end(&id, &exists);
    bson_append_document_end(&array, &id);
    bson_append_array_end(condition, &array);
}

enum guard {
    GUARD_NONE,
    GUARD_EQUALS,
    GUARD_NEVER,
};

/* query: {$and: [filter, key, guard]}, each of them left out if it has size 0. */
static void put_query(bson_t *command, struct slice filter, struct slice key, enum guard guard,
                      struct slice before)
{
    bson_t query;
    bson_t all;
    bson_t part;
    uint32_t index = 0;
    BSON_APPEND_DOCUMENT_BEGIN(command, "query", &query);
    BSON_APPEND_ARRAY_BEGIN(&query, "$and", &all);
    if (view(filter, &part)) {
        put_element(&all, &index, &part);
    }
    if (view(key, &part)) {
        put_element(&all, &index, &part);
    }
    if (guard != GUARD_NONE) {
        bson_t condition = BSON_INITIALIZER;
        bson_t image;
        if (guard == GUARD_EQUALS && view(before, &image)) {
            put_equals(&condition, &image);
        } else {
            put_never(&condition);
        }
        put_element(&all, &index, &condition);
        bson_destroy(&condition);
    }
    bson_append_array_end(&query, &all);
    bson_append_document_end(command, &query);
}

void command_build_update(bson_t *command, const struct command_target *target,
                          const struct statement *statement, struct slice key, bool key_in_filter,
                          bool insert)
{
    const struct slice none = {0};
    /* Beyond finding the document, which has been done, a filter matters only for positional
       operators and for what an upsert makes of it. It may not even be repeatable elsewhere: $text
       needs an index that the scratch collection of a recovery has not. */
    bool filter_matters = insert || statement->update_is_positional;
    BSON_APPEND_UTF8(command, "findAndModify", target->collection);
    put_query(command, filter_matters ? statement->filter : none, key_in_filter ? none : key,
              GUARD_NONE, none);
    put_update(command, "update", statement);
    BSON_APPEND_BOOL(command, "new", true);
    if (insert) {
        BSON_APPEND_BOOL(command, "upsert", true);
    }
    put_document(command, "collation", statement->collation);
    put_document(command, "let", statement->variables);
    put_array(command, "arrayFilters", statement->array_filters);
    if (target->bypass_validation) {
        BSON_APPEND_BOOL(command, "bypassDocumentValidation", true);
    }
}

void command_build_guarded(bson_t *guarded, const struct command_target *target,
                           struct slice command, struct slice before)
{
    bson_iter_t at;
    bool valid = bson_iter_init_from_data(&at, command.data, command.size);
    assert(valid); /* made by command_build_update() */
    while (bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), "query") != 0) {
            bson_append_iter(guarded, NULL, 0, &at);
            continue;
        }
        uint32_t size;
        const uint8_t *data;
        bson_iter_document(&at, &size, &data);
        put_query(guarded, slice_make(data, size), (struct slice){0},
                  before.size == 0 ? GUARD_NEVER : GUARD_EQUALS, before);
    }
    put_target(guarded, target);
}

void command_build_unguarded(bson_t *command, const struct command_target *target,
                             struct slice update)
{
    bson_t view_of_update;
    if (view(update, &view_of_update)) {
        bson_concat(command, &view_of_update);
    }
    put_target(command, target);
}

/* [ "$$ROOT", {$literal: image} ] */
static void put_root_and_literal(bson_t *into, const char *name, struct slice bytes)
{
    bson_t operands;
    bson_t literal;
    BSON_APPEND_ARRAY_BEGIN(into, name, &operands);
    BSON_APPEND_UTF8(&operands, "0", "$$ROOT");
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "1", &literal);
    put_document(&literal, "$literal", bytes);
    bson_append_document_end(&operands, &literal);
    bson_append_array_end(into, &operands);
}

/* [ {$replaceWith: {$cond: [ {$eq: ["$$ROOT", before]}, after, "$$ROOT" ]}} ] */
static void put_guarded_pipeline(bson_t *into, const struct command_document *document)
{
    bson_t pipeline;
    bson_t stage;
    bson_t condition;
    bson_t branches;
    bson_t part;
    BSON_APPEND_ARRAY_BEGIN(into, "u", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$replaceWith", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$cond", &branches);
    BSON_APPEND_DOCUMENT_BEGIN(&branches, "0", &part);
    put_root_and_literal(&part, "$eq", document->before);
    bson_append_document_end(&branches, &part);
    BSON_APPEND_DOCUMENT_BEGIN(&branches, "1", &part);
    put_document(&part, "$literal", document->after);
    bson_append_document_end(&branches, &part);
    BSON_APPEND_UTF8(&branches, "2", "$$ROOT");
    bson_append_array_end(&condition, &branches);
    bson_append_document_end(&stage, &condition);
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(into, &pipeline);
}

static const char *index_name(size_t index, char text[16], size_t *ret_size)
{
    const char *name;
    *ret_size = bson_uint32_to_string((uint32_t)index, &name, text, 16);
    return name;
}

static void put_write_options(bson_t *command, const struct command_target *target, bool ordered)
{
    BSON_APPEND_BOOL(command, "ordered", ordered);
    if (target->bypass_validation) {
        BSON_APPEND_BOOL(command, "bypassDocumentValidation", true);
    }
    put_target(command, target);
}

void command_build_replace(bson_t *command, const struct command_target *target,
                           const struct command_document *documents, size_t count)
{
    bson_t array;
    bson_t entry;
    BSON_APPEND_UTF8(command, "update", target->collection);
    BSON_APPEND_ARRAY_BEGIN(command, "updates", &array);
    for (size_t i = 0; i < count; i++) {
        char text[16];
        size_t size;
        const char *name = index_name(i, text, &size);
        bson_append_document_begin(&array, name, (int)size, &entry);
        put_document(&entry, "q", documents[i].key);
        put_guarded_pipeline(&entry, &documents[i]);
        bson_append_document_end(&array, &entry);
    }
    bson_append_array_end(command, &array);
    put_write_options(command, target, true);
}

static void put_id(bson_t *into, const char *name, size_t size, struct slice key)
{
    bson_iter_t id;
    if (bson_iter_init_from_data(&id, key.data, key.size) && bson_iter_find(&id, "_id")) {
        bson_append_iter(into, name, (int)size, &id);
    }
}

/* { _id: {$in: [...]}, $expr: {$in: ["$$ROOT", {$literal: [images]}]} } */
static void put_remove_query(bson_t *into, const struct command_document *documents, size_t count)
{
    bson_t condition;
    bson_t array;
    bson_t operands;
    bson_t literal;
    char text[16];
    size_t size;
    BSON_APPEND_DOCUMENT_BEGIN(into, "_id", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &array);
    for (size_t i = 0; i < count; i++) {
        const char *name = index_name(i, text, &size);
        put_id(&array, name, size, documents[i].key);
    }
    bson_append_array_end(&condition, &array);
    bson_append_document_end(into, &condition);
    BSON_APPEND_DOCUMENT_BEGIN(into, "$expr", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &operands);
    BSON_APPEND_UTF8(&operands, "0", "$$ROOT");
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "1", &literal);
    BSON_APPEND_ARRAY_BEGIN(&literal, "$literal", &array);
    for (size_t i = 0; i < count; i++) {
        const char *name = index_name(i, text, &size);
        bson_t image;
        if (view(documents[i].before, &image)) {
            bson_append_document(&array, name, (int)size, &image);
        }
    }
    bson_append_array_end(&literal, &array);
    bson_append_document_end(&operands, &literal);
    bson_append_array_end(&condition, &operands);
    bson_append_document_end(into, &condition);
}

void command_build_remove(bson_t *command, const struct command_target *target,
                          const struct command_document *documents, size_t count)
{
    bson_t array;
    bson_t entry;
    bson_t query;
    bson_t expression;
    BSON_APPEND_UTF8(command, "delete", target->collection);
    BSON_APPEND_ARRAY_BEGIN(command, "deletes", &array);
    BSON_APPEND_DOCUMENT_BEGIN(&array, "0", &entry);
    BSON_APPEND_DOCUMENT_BEGIN(&entry, "q", &query);
    if (count == 1) {
        put_id(&query, "_id", 3, documents[0].key);
        if (documents[0].before.size > 0) {
            BSON_APPEND_DOCUMENT_BEGIN(&query, "$expr", &expression);
            put_root_and_literal(&expression, "$eq", documents[0].before);
            bson_append_document_end(&query, &expression);
        }
    } else {
        put_remove_query(&query, documents, count);
    }
    bson_append_document_end(&entry, &query);
    BSON_APPEND_INT32(&entry, "limit", count == 1 ? 1 : 0);
    bson_append_document_end(&array, &entry);
    bson_append_array_end(command, &array);
    put_target(command, target);
}

void command_build_insert(bson_t *command, const struct command_target *target,
                          const struct slice *documents, size_t count, bool ordered)
{
    bson_t array;
    BSON_APPEND_UTF8(command, "insert", target->collection);
    BSON_APPEND_ARRAY_BEGIN(command, "documents", &array);
    for (size_t i = 0; i < count; i++) {
        char text[16];
        size_t size;
        const char *name = index_name(i, text, &size);
        bson_t document;
        if (view(documents[i], &document)) {
            bson_append_document(&array, name, (int)size, &document);
        }
    }
    bson_append_array_end(command, &array);
    put_write_options(command, target, ordered);
}

/* ------------------------------------------------------------------ multi writes */

static void put_projection_of_ids(bson_t *into, const char *name)
{
    bson_t projection;
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &projection);
    BSON_APPEND_INT32(&projection, "_id", 1);
    bson_append_document_end(into, &projection);
}

static void put_ids(bson_t *into, const bson_t *ids)
{
    bson_t condition;
    BSON_APPEND_DOCUMENT_BEGIN(into, "_id", &condition);
    BSON_APPEND_ARRAY(&condition, "$in", ids);
    bson_append_document_end(into, &condition);
}

void command_build_collect(bson_t *command, const struct command_target *target,
                           const struct statement *statement, int32_t batch_count)
{
    BSON_APPEND_UTF8(command, "find", target->collection);
    put_document(command, "filter", statement->filter);
    put_document(command, "collation", statement->collation);
    put_document(command, "let", statement->variables);
    put_hint(command, statement);
    put_projection_of_ids(command, "projection");
    BSON_APPEND_INT32(command, "batchSize", batch_count);
    put_target(command, target);
}

void command_build_images(bson_t *command, const struct command_target *target,
                          const struct statement *statement, const bson_t *ids)
{
    bson_t filter;
    bson_t all;
    bson_t part;
    BSON_APPEND_UTF8(command, "find", target->collection);
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    if (statement->filter.size <= 5 || statement->filter_is_random) {
        put_ids(&filter, ids);
    } else {
        BSON_APPEND_ARRAY_BEGIN(&filter, "$and", &all);
        BSON_APPEND_DOCUMENT_BEGIN(&all, "0", &part);
        put_ids(&part, ids);
        bson_append_document_end(&all, &part);
        put_document(&all, "1", statement->filter);
        bson_append_array_end(&filter, &all);
    }
    bson_append_document_end(command, &filter);
    put_document(command, "collation", statement->collation);
    put_document(command, "let", statement->variables);
    BSON_APPEND_INT32(command, "batchSize", (int32_t)bson_count_keys(ids) + 1);
    put_target(command, target);
}

static void put_stage(bson_t *pipeline, uint32_t *at, const char *name, struct slice argument)
{
    struct overlay_index index = overlay_index_next(at);
    bson_t stage;
    bson_append_document_begin(pipeline, overlay_index_text(&index), index.size, &stage);
    put_document(&stage, name, argument);
    bson_append_document_end(pipeline, &stage);
}

static void put_last_stages(bson_t *pipeline, uint32_t *at, const struct statement *statement,
                            bool one)
{
    struct overlay_index index;
    bson_t stage;
    if (one && statement->sort.size > 0) {
        put_stage(pipeline, at, "$sort", statement->sort);
    }
    if (one) {
        index = overlay_index_next(at);
        bson_append_document_begin(pipeline, overlay_index_text(&index), index.size, &stage);
        BSON_APPEND_INT32(&stage, "$limit", 1);
        bson_append_document_end(pipeline, &stage);
    }
    index = overlay_index_next(at);
    bson_append_document_begin(pipeline, overlay_index_text(&index), index.size, &stage);
    put_projection_of_ids(&stage, "$project");
    bson_append_document_end(pipeline, &stage);
}

/* What comes behind a pipeline. */
static void put_aggregate_options(bson_t *command, const struct command_target *target,
                                  const struct statement *statement, int32_t batch_count)
{
    bson_t cursor;
    BSON_APPEND_DOCUMENT_BEGIN(command, "cursor", &cursor);
    BSON_APPEND_INT32(&cursor, "batchSize", batch_count);
    bson_append_document_end(command, &cursor);
    put_document(command, "collation", statement->collation);
    put_document(command, "let", statement->variables);
    put_target(command, target);
}

enum status command_build_select_images(bson_t *command, const struct command_target *target,
                                        const struct statement *statement, bool one,
                                        const struct overlay_image *images, size_t image_count)
{
    bson_t pipeline;
    uint32_t at = 0;
    BSON_APPEND_UTF8(command, "aggregate", target->collection);
    BSON_APPEND_ARRAY_BEGIN(command, "pipeline", &pipeline);
    enum status status =
        overlay_append_images(&pipeline, &at, &statement->filter,
                              statement->filter.size > 5 ? 1 : 0, images, image_count);
    put_last_stages(&pipeline, &at, statement, one);
    bson_append_array_end(command, &pipeline);
    put_aggregate_options(command, target, statement, (int32_t)image_count + 1);
    return status;
}

static void put_match_of_ids(bson_t *pipeline, uint32_t *at, const bson_t *ids)
{
    struct overlay_index index = overlay_index_next(at);
    bson_t stage;
    bson_t match;
    bson_append_document_begin(pipeline, overlay_index_text(&index), index.size, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &match);
    put_ids(&match, ids);
    bson_append_document_end(&stage, &match);
    bson_append_document_end(pipeline, &stage);
}

static void put_stages(bson_t *pipeline, uint32_t *at, struct slice stages)
{
    bson_iter_t stage;
    (void)bson_iter_init_from_data(&stage, stages.data, stages.size);
    while (bson_iter_next(&stage)) {
        struct overlay_index index = overlay_index_next(at);
        bson_append_iter(pipeline, overlay_index_text(&index), index.size, &stage);
    }
}

enum status command_build_evaluate(bson_t *command, const struct command_target *target,
                                   const struct statement *statement, const bson_t *ids,
                                   struct slice document)
{
    bson_t pipeline;
    uint32_t at = 0;
    int32_t count = ids == NULL ? 1 : (int32_t)bson_count_keys(ids);
    enum status status = STATUS_OK;
    BSON_APPEND_UTF8(command, "aggregate", target->collection);
    BSON_APPEND_ARRAY_BEGIN(command, "pipeline", &pipeline);
    if (ids != NULL) {
        put_match_of_ids(&pipeline, &at, ids);
    } else {
        const struct overlay_image image = {.document = document};
        status = overlay_append_images(&pipeline, &at, NULL, 0, &image, 1);
    }
    put_stages(&pipeline, &at, statement->update);
    bson_append_array_end(command, &pipeline);
    put_aggregate_options(command, target, statement, count + 1);
    return status;
}

void command_build_find_ids(bson_t *command, const struct command_target *target, const bson_t *ids,
                            bool ids_only)
{
    bson_t filter;
    BSON_APPEND_UTF8(command, "find", target->collection);
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    put_ids(&filter, ids);
    bson_append_document_end(command, &filter);
    if (ids_only) {
        put_projection_of_ids(command, "projection");
    }
    BSON_APPEND_INT32(command, "batchSize", (int32_t)bson_count_keys(ids) + 1);
    put_target(command, target);
}

void command_build_get_more(bson_t *command, const struct command_target *target, int64_t cursor_id)
{
    BSON_APPEND_INT64(command, "getMore", cursor_id);
    BSON_APPEND_UTF8(command, "collection", target->collection);
    BSON_APPEND_UTF8(command, "$db", target->database);
}
