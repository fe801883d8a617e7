/* Reading commands as aggregations; see rewrite.h. Pure. */
#include "read/rewrite.h"

#include <string.h>

#include "wire/bson_copy.h"
#include "wire/bson_walk.h"
#include "wire/reply.h"

/* Leading $match stages that go into the overlay. */
#define FILTERS_MAX 8
/* What mongod gives in a find's first batch if nobody says how many. */
#define FIRST_BATCH_DEFAULT 101

struct building {
    const struct read_command *command;
    const struct rewrite_options *options;
    bson_t *pipeline;
    uint32_t at;
};

/* ------------------------------------------------------------------ stages */

static void put_stage_document(struct building *building, const char *name, struct slice document)
{
    struct overlay_index index = overlay_index_next(&building->at);
    bson_t stage;
    bson_t view;
    if (document.size > 0 && bson_init_static(&view, document.data, document.size)) {
        bson_append_document_begin(building->pipeline, overlay_index_text(&index), index.size,
                                   &stage);
        bson_append_document(&stage, name, -1, &view);
        bson_append_document_end(building->pipeline, &stage);
    } else {
        building->at--;
    }
}

static void put_stage_number(struct building *building, const char *name, int64_t number)
{
    struct overlay_index index = overlay_index_next(&building->at);
    bson_t stage;
    bson_append_document_begin(building->pipeline, overlay_index_text(&index), index.size, &stage);
    bson_append_int64(&stage, name, -1, number);
    bson_append_document_end(building->pipeline, &stage);
}

/* How many a find returns at most; 0: all. singleBatch is a limit of its first batch. */
static int64_t find_limit(const struct read_command *command)
{
    int64_t batch = command->has_batch_size ? command->batch_size : FIRST_BATCH_DEFAULT;
    if (command->single_batch && batch > 0 && (command->limit == 0 || command->limit > batch)) {
        return batch;
    }
    return command->limit;
}

static void put_find_stages(struct building *building)
{
    const struct read_command *command = building->command;
    int64_t limit = find_limit(command);
    put_stage_document(building, "$sort", command->sort);
    if (command->skip > 0) {
        put_stage_number(building, "$skip", command->skip);
    }
    if (limit > 0) {
        put_stage_number(building, "$limit", limit);
    }
    put_stage_document(building, "$project", command->projection);
}

/* More than these of the collection's own cannot be among the first, images or not. */
static void put_live_limit(struct building *building)
{
    const struct read_command *command = building->command;
    int64_t limit = command->kind == READ_FIND ? find_limit(command) : 0;
    int64_t first;
    if (limit > 0 && !__builtin_add_overflow(command->skip, limit, &first)) {
        put_stage_document(building, "$sort", command->sort);
        put_stage_number(building, "$limit", first);
    }
}

/* { $group: { _id: null, NAME: { OPERATOR: operand } } } */
static void put_group(struct building *building, const char *name, const char *operator,
                      const char * path)
{
    struct overlay_index index = overlay_index_next(&building->at);
    bson_t stage;
    bson_t group;
    bson_t field;
    bson_append_document_begin(building->pipeline, overlay_index_text(&index), index.size, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$group", &group);
    BSON_APPEND_NULL(&group, "_id");
    bson_append_document_begin(&group, name, -1, &field);
    if (path == NULL) {
        bson_append_int32(&field, operator, - 1, 1);
    } else {
        bson_append_utf8(&field, operator, - 1, path, -1);
    }
    bson_append_document_end(&group, &field);
    bson_append_document_end(&stage, &group);
    bson_append_document_end(building->pipeline, &stage);
}

static void put_count_stages(struct building *building)
{
    if (building->command->skip > 0) {
        put_stage_number(building, "$skip", building->command->skip);
    }
    if (building->command->limit > 0) {
        put_stage_number(building, "$limit", building->command->limit);
    }
    put_group(building, "n", "$sum", NULL);
}

/* { $unwind: { path, preserveNullAndEmptyArrays: true } } */
static void put_unwind(struct building *building, const char *path)
{
    struct overlay_index index = overlay_index_next(&building->at);
    bson_t stage;
    bson_t unwind;
    bson_append_document_begin(building->pipeline, overlay_index_text(&index), index.size, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$unwind", &unwind);
    bson_append_utf8(&unwind, "path", -1, path, -1);
    BSON_APPEND_BOOL(&unwind, "preserveNullAndEmptyArrays", true);
    bson_append_document_end(&stage, &unwind);
    bson_append_document_end(building->pipeline, &stage);
}

/* { $match: { $expr: { $eq: [ { $type: path }, "object" ] } } }: no step into an array of arrays.
 */
static void put_is_object(struct building *building, const char *path)
{
    struct overlay_index index = overlay_index_next(&building->at);
    bson_t stage;
    bson_t match;
    bson_t expression;
    bson_t operands;
    bson_t type;
    bson_append_document_begin(building->pipeline, overlay_index_text(&index), index.size, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &match);
    BSON_APPEND_DOCUMENT_BEGIN(&match, "$expr", &expression);
    BSON_APPEND_ARRAY_BEGIN(&expression, "$eq", &operands);
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "0", &type);
    bson_append_utf8(&type, "$type", -1, path, -1);
    bson_append_document_end(&operands, &type);
    BSON_APPEND_UTF8(&operands, "1", "object");
    bson_append_array_end(&expression, &operands);
    bson_append_document_end(&match, &expression);
    bson_append_document_end(&stage, &match);
    bson_append_document_end(building->pipeline, &stage);
}

/* Every part of the path may be an array: `a.b` steps into each element of `a`. */
static void put_distinct_stages(struct building *building)
{
    char *path = bson_strdup_printf("$%s", building->command->key);
    for (char *dot = strchr(path, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
        *dot = '\0';
        put_unwind(building, path);
        put_is_object(building, path);
        *dot = '.';
    }
    put_unwind(building, path);
    put_group(building, "values", "$addToSet", path);
    bson_free(path);
}

/* ------------------------------------------------------------------ filters */

/* The filter, or that of leading $match stages; *ret_stages: how many stages they were. */
static size_t collect_filters(const struct read_command *command, struct slice *filters,
                              uint32_t *ret_stages)
{
    struct slice stages;
    struct bson_element element;
    struct bson_element match;
    size_t count = 0;
    *ret_stages = 0;
    if (command->kind != READ_AGGREGATE) {
        if (command->filter.size > 0) {
            filters[count++] = command->filter;
        }
        return count;
    }
    if (!bson_fields_open(command->pipeline, &stages)) {
        return 0;
    }
    while (count < FILTERS_MAX && bson_element_next(&stages, &element)) {
        struct slice fields;
        if (element.type != BSON_TYPE_DOCUMENT || !bson_fields_open(element.value, &fields) ||
            !bson_element_next(&fields, &match) || fields.size != 0 ||
            !bson_element_is(&match, "$match") || match.type != BSON_TYPE_DOCUMENT) {
            break;
        }
        filters[count++] = match.value;
        (*ret_stages)++;
    }
    return count;
}

/* Of an array of stages, from this one on. */
static bool put_stages(struct building *building, struct slice stages, uint32_t skipped)
{
    bson_iter_t at;
    if (!bson_iter_init_from_data(&at, stages.data, stages.size)) {
        return false;
    }
    for (uint32_t i = 0; bson_iter_next(&at); i++) {
        if (i >= skipped) {
            struct overlay_index index = overlay_index_next(&building->at);
            if (!bson_append_iter(building->pipeline, overlay_index_text(&index), index.size,
                                  &at)) {
                return false;
            }
        }
    }
    return true;
}

/* What the collection holds, without the images, and the images. */
static enum status put_overlay(struct building *building, const struct slice *filters,
                               size_t filter_count, const struct overlay_image *images,
                               size_t image_count)
{
    const struct rewrite_options *options = building->options;
    const char *collection =
        options->views == NULL ? building->command->collection : options->views->base;
    enum status status = STATUS_OK;
    if (options->only_images) {
        return overlay_append_images(building->pipeline, &building->at, filters, filter_count,
                                     images, image_count);
    }
    if (filter_count + image_count > 0) {
        status = overlay_append_live(building->pipeline, &building->at, filters, filter_count,
                                     images, image_count);
    }
    if (options->views == NULL && !options->gathers) {
        put_live_limit(building);
    }
    return status != STATUS_OK ? status
                               : overlay_append_union(building->pipeline, &building->at, collection,
                                                      filters, filter_count, images, image_count);
}

/* The collection behind as the views show it, and what is left of the filter. */
static enum status put_views(struct building *building, const struct overlay_image *images,
                             size_t image_count)
{
    const struct read_views *views = building->options->views;
    enum status status = put_overlay(building, NULL, 0, images, image_count);
    for (size_t i = views->chain_count; i > 0 && status == STATUS_OK; i--) {
        const bson_t *stages = views->held[i - 1]->pipeline;
        if (!put_stages(building, slice_make(bson_get_data(stages), stages->len), 0)) {
            status = STATUS_MEMORY;
        }
    }
    put_stage_document(building, "$match", building->command->filter);
    return status;
}

static enum status put_pipeline(struct building *building, const struct overlay_image *images,
                                size_t image_count)
{
    const struct read_command *command = building->command;
    struct slice filters[FILTERS_MAX];
    uint32_t skipped = 0;
    enum status status;
    if (building->options->views != NULL && building->options->gathers) {
        status = put_overlay(building, NULL, 0, images, image_count);
    } else if (building->options->views != NULL) {
        status = put_views(building, images, image_count);
    } else {
        size_t filter_count = collect_filters(command, filters, &skipped);
        status = put_overlay(building, filters, filter_count, images, image_count);
    }
    if (status != STATUS_OK || building->options->gathers) {
        return status;
    }
    switch (command->kind) {
    case READ_FIND:
        put_find_stages(building);
        break;
    case READ_COUNT:
        put_count_stages(building);
        break;
    case READ_DISTINCT:
        put_distinct_stages(building);
        break;
    case READ_AGGREGATE:
        return put_stages(building, command->pipeline, skipped) ? STATUS_OK : STATUS_MEMORY;
    case READ_GET_MORE:
        return STATUS_UNSUPPORTED;
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ the command */

/* It says nothing of batches, and is to come in one. */
static bool is_made_whole(const struct read_command *command, const struct rewrite_options *options)
{
    return options->whole && (options->always || !command->has_batch_size) &&
           !command->single_batch &&
           (command->kind == READ_FIND || command->kind == READ_AGGREGATE);
}

static bool is_left_out(const char *name, const struct read_command *command,
                        const struct rewrite_options *options, bool original)
{
    static const char *const of_find[] = {"filter",
                                          "query",
                                          "sort",
                                          "projection",
                                          "skip",
                                          "limit",
                                          "batchSize",
                                          "singleBatch",
                                          "key",
                                          "fields",
                                          "min",
                                          "max",
                                          "returnKey",
                                          "showRecordId",
                                          "tailable",
                                          "awaitData",
                                          "cursor",
                                          "pipeline",
                                          "noCursorTimeout",
                                          "allowPartialResults",
                                          "oplogReplay",
                                          NULL};
    static const char *const of_transactions[] = {"txnNumber",   "autocommit",   "startTransaction",
                                                  "readConcern", "writeConcern", NULL};
    if (options->max_time_ms > 0 && strcmp(name, "maxTimeMS") == 0) {
        return true;
    }
    if (is_made_whole(command, options) &&
        strcmp(name, command->kind == READ_FIND ? "batchSize" : "cursor") == 0) {
        return true;
    }
    if (options->gathers && (strcmp(name, "cursor") == 0 || strcmp(name, "allowDiskUse") == 0)) {
        return true;
    }
    if (options->in_unit && bson_name_is_one_of(name, of_transactions)) {
        return true;
    }
    if (original) {
        return false;
    }
    if (options->views != NULL && strcmp(name, "collation") == 0) {
        return true;
    }
    return command->kind == READ_AGGREGATE ? strcmp(name, "pipeline") == 0
                                           : bson_name_is_one_of(name, of_find);
}

/* The server ends a batch at 16 MiB, whatever it is asked for. */
static void put_whole(bson_t *into, const struct read_command *command)
{
    bson_t cursor;
    if (command->kind == READ_FIND) {
        BSON_APPEND_INT32(into, "batchSize", INT32_MAX);
        return;
    }
    BSON_APPEND_DOCUMENT_BEGIN(into, "cursor", &cursor);
    BSON_APPEND_INT32(&cursor, "batchSize", INT32_MAX);
    bson_append_document_end(into, &cursor);
}

/* All fields from the second on that are not left out. */
static bool copy_fields(bson_t *into, const struct read_command *command,
                        const struct rewrite_options *options, bool original)
{
    bson_iter_t at;
    if (!bson_iter_init_from_data(&at, command->view->body.data, command->view->body.size)) {
        return false;
    }
    for (bool first = true; bson_iter_next(&at); first = false) {
        if ((first && !original) || is_left_out(bson_iter_key(&at), command, options, original)) {
            continue;
        }
        if (!bson_copy_element(into, &at)) {
            return false;
        }
    }
    if (options->max_time_ms > 0) {
        BSON_APPEND_INT64(into, "maxTimeMS", options->max_time_ms);
    }
    if (!options->gathers && is_made_whole(command, options) &&
        (original || command->kind == READ_AGGREGATE)) {
        put_whole(into, command);
    }
    return true;
}

/* An aggregation's cursor stays open until it was asked for what is behind its last document: one
   more than can come makes it end with the first batch, as a find's does. */
static void put_cursor(bson_t *into, const struct read_command *command,
                       const struct rewrite_options *options)
{
    bson_t cursor;
    int64_t limit = find_limit(command);
    BSON_APPEND_DOCUMENT_BEGIN(into, "cursor", &cursor);
    if (options->gathers) {
        BSON_APPEND_INT32(&cursor, "batchSize", INT32_MAX);
    } else if (command->kind == READ_FIND) {
        int64_t batch = command->has_batch_size ? command->batch_size : FIRST_BATCH_DEFAULT;
        if (is_made_whole(command, options)) {
            BSON_APPEND_INT32(&cursor, "batchSize", INT32_MAX);
        } else if (limit > 0 && limit <= batch && limit < INT64_MAX) {
            BSON_APPEND_INT64(&cursor, "batchSize", limit + 1);
        } else if (command->has_batch_size) {
            BSON_APPEND_INT64(&cursor, "batchSize", batch);
        }
    }
    bson_append_document_end(into, &cursor);
}

/* Views have one; a command that names another is no overlay. */
static bool has_collation(const struct read_command *command, const struct rewrite_options *options)
{
    return command->has_collation ||
           (options->views != NULL && !bson_empty(options->views->held[0]->collation));
}

enum status rewrite_read(const struct read_command *command, const struct overlay_image *images,
                         size_t image_count, const struct rewrite_options *options,
                         bson_t *ret_command)
{
    bson_t rewritten;
    bson_t pipeline;
    size_t bytes = 0;
    for (size_t i = 0; i < image_count; i++) {
        bytes += images[i].document.size + rewrite_key_bytes(images[i].key);
        if (bytes > REWRITE_BYTES_MAX) {
            return STATUS_LIMIT;
        }
        /* Without the collection nothing is left out by its _id. */
        if (has_collation(command, options) && !options->only_images &&
            overlay_key_has_text(images[i].key)) {
            return STATUS_UNSUPPORTED;
        }
    }
    bson_init(&rewritten);
    BSON_APPEND_UTF8(&rewritten, "aggregate",
                     options->views == NULL ? command->collection : options->views->base);
    struct building building = {.command = command, .options = options, .pipeline = &pipeline};
    BSON_APPEND_ARRAY_BEGIN(&rewritten, "pipeline", &pipeline);
    enum status status = put_pipeline(&building, images, image_count);
    bson_append_array_end(&rewritten, &pipeline);
    if (command->kind != READ_AGGREGATE || options->gathers) {
        put_cursor(&rewritten, command, options);
    }
    if (options->views != NULL && !bson_empty(options->views->held[0]->collation)) {
        BSON_APPEND_DOCUMENT(&rewritten, "collation", options->views->held[0]->collation);
    }
    if (status == STATUS_OK && !copy_fields(&rewritten, command, options, false)) {
        status = STATUS_MEMORY;
    }
    if (status == STATUS_OK && rewritten.len > REWRITE_BYTES_MAX) {
        status = STATUS_LIMIT;
    }
    if (status != STATUS_OK) {
        bson_destroy(&rewritten);
        return status;
    }
    bson_steal(ret_command, &rewritten);
    return STATUS_OK;
}

enum status rewrite_original(const struct read_command *command,
                             const struct rewrite_options *options, bson_t *ret_command)
{
    bson_t copy = BSON_INITIALIZER;
    if (!copy_fields(&copy, command, options, true)) {
        bson_destroy(&copy);
        return STATUS_INVALID;
    }
    bson_steal(ret_command, &copy);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ replies */

static void put_count(bson_t *answer, int64_t count)
{
    if (count <= INT32_MAX) {
        BSON_APPEND_INT32(answer, "n", (int32_t)count);
    } else {
        BSON_APPEND_INT64(answer, "n", count);
    }
}

/* The field `name` of the batch's one document; false if the batch is empty. */
static bool find_result(struct slice batch, const char *name, bson_iter_t *ret_value)
{
    bson_iter_t at;
    return batch.size > 0 && bson_iter_init_from_data(&at, batch.data, batch.size) &&
           bson_iter_next(&at) && BSON_ITER_HOLDS_DOCUMENT(&at) &&
           bson_iter_recurse(&at, ret_value) && bson_iter_find(ret_value, name);
}

static void put_values(bson_t *answer, const bson_iter_t *values)
{
    bson_t array;
    if (values == NULL || !bson_copy_element(answer, values)) {
        BSON_APPEND_ARRAY_BEGIN(answer, "values", &array);
        bson_append_array_end(answer, &array);
    }
}

/* The cursor, named after what the client has named, if nothing of it is left behind. */
static bool put_cursor_of(bson_t *answer, const struct read_command *command,
                          const bson_iter_t *cursor)
{
    bson_iter_t at;
    bson_t copy;
    char *namespace = bson_strdup_printf("%s.%s", command->database, command->collection);
    bool done = BSON_ITER_HOLDS_DOCUMENT(cursor) && bson_iter_recurse(cursor, &at);
    BSON_APPEND_DOCUMENT_BEGIN(answer, "cursor", &copy);
    while (done && bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), "ns") == 0) {
            BSON_APPEND_UTF8(&copy, "ns", namespace);
        } else {
            done = bson_copy_element(&copy, &at);
        }
    }
    bson_append_document_end(answer, &copy);
    bson_free(namespace);
    return done;
}

enum status rewrite_reply(const struct read_command *command, struct slice reply, bson_t *answer)
{
    struct reply_view view;
    bson_iter_t value;
    bson_iter_t at;
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.ok || !view.has_cursor ||
        !bson_iter_init_from_data(&at, reply.data, reply.size)) {
        return STATUS_PROTOCOL;
    }
    bool plain = command->kind == READ_FIND || command->kind == READ_AGGREGATE;
    if (command->kind == READ_COUNT) {
        put_count(answer, find_result(view.batch, "n", &value) ? bson_iter_as_int64(&value) : 0);
    } else if (command->kind == READ_DISTINCT) {
        put_values(answer, find_result(view.batch, "values", &value) ? &value : NULL);
    }
    while (bson_iter_next(&at)) {
        bool is_cursor = strcmp(bson_iter_key(&at), "cursor") == 0;
        bool copied = true;
        if (is_cursor && plain && command->is_view && view.cursor_id == 0) {
            copied = put_cursor_of(answer, command, &at);
        } else if (plain || !is_cursor) {
            copied = bson_copy_element(answer, &at);
        }
        if (!copied) {
            return STATUS_PROTOCOL;
        }
    }
    return STATUS_OK;
}
