/* The committed state as stages of a pipeline; see overlay.h. Pure. */
#include "wire/overlay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/bson_walk.h"

/* Up to so many _ids in a list that is walked for each document. */
#define LIST_COUNT_MAX 64
#define LEAF_COUNT_MAX 8

struct overlay_index overlay_index_next(uint32_t *at)
{
    struct overlay_index index;
    index.size = snprintf(index.text, sizeof index.text, "%" PRIu32, (*at)++);
    return index;
}

static void append_document(bson_t *array, uint32_t *at, struct slice document)
{
    struct overlay_index index = overlay_index_next(at);
    bson_t view;
    if (bson_init_static(&view, document.data, document.size)) {
        bson_append_document(array, overlay_index_text(&index), index.size, &view);
    }
}

static void begin_stage(bson_t *pipeline, uint32_t *at, bson_t *stage)
{
    struct overlay_index index = overlay_index_next(at);
    bson_append_document_begin(pipeline, overlay_index_text(&index), index.size, stage);
}

/* ------------------------------------------------------------------ _ids */

bool overlay_key_has_text(struct slice key)
{
    struct slice fields;
    struct bson_element element;
    if (!bson_fields_open(key, &fields)) {
        return true;
    }
    while (bson_element_next(&fields, &element)) {
        switch (element.type) {
        case BSON_TYPE_UTF8:
        case BSON_TYPE_SYMBOL:
            return true;
        case BSON_TYPE_DOCUMENT:
        case BSON_TYPE_ARRAY:
            if (overlay_key_has_text(element.value)) {
                return true;
            }
            break;
        default:
            break;
        }
    }
    return false;
}

static bool id_of(struct slice key, bson_iter_t *ret_id)
{
    return bson_iter_init_from_data(ret_id, key.data, key.size) && bson_iter_find(ret_id, "_id");
}

/* Types whose order every server agrees on; each by itself, for a tree of its own. */
enum order {
    ORDER_WHOLE,
    ORDER_OBJECT_ID,
    ORDER_UUID,
    ORDER_DATE,
    ORDER_NONE,
};

struct ordered_id {
    enum order order;
    int64_t number;
    const uint8_t *bytes;
    struct slice key;
};

static struct ordered_id order_id(struct slice key)
{
    struct ordered_id id = {.order = ORDER_NONE, .key = key};
    bson_iter_t at;
    bson_subtype_t subtype;
    uint32_t size;
    if (!id_of(key, &at)) {
        return id;
    }
    switch (bson_iter_type(&at)) {
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        id.order = ORDER_WHOLE;
        id.number = bson_iter_as_int64(&at);
        break;
    case BSON_TYPE_DATE_TIME:
        id.order = ORDER_DATE;
        id.number = bson_iter_date_time(&at);
        break;
    case BSON_TYPE_OID:
        id.order = ORDER_OBJECT_ID;
        id.bytes = bson_iter_oid(&at)->bytes;
        break;
    case BSON_TYPE_BINARY:
        bson_iter_binary(&at, &subtype, &size, &id.bytes);
        id.order = subtype == BSON_SUBTYPE_UUID && size == 16 ? ORDER_UUID : ORDER_NONE;
        break;
    default:
        break;
    }
    return id;
}

static int compare_ids(const void *left, const void *right)
{
    const struct ordered_id *a = left;
    const struct ordered_id *b = right;
    if (a->order != b->order) {
        return a->order < b->order ? -1 : 1;
    }
    switch (a->order) {
    case ORDER_WHOLE:
    case ORDER_DATE:
        return (a->number > b->number) - (a->number < b->number);
    case ORDER_OBJECT_ID:
        return memcmp(a->bytes, b->bytes, 12);
    case ORDER_UUID:
        return memcmp(a->bytes, b->bytes, 16);
    case ORDER_NONE:
        break;
    }
    return 0;
}

static void append_ids(bson_t *array, const struct ordered_id *ids, size_t count)
{
    uint32_t at = 0;
    for (size_t i = 0; i < count; i++) {
        struct overlay_index index = overlay_index_next(&at);
        bson_iter_t id;
        if (id_of(ids[i].key, &id)) {
            bson_append_iter(array, overlay_index_text(&index), index.size, &id);
        }
    }
}

/* {$not: [{$in: ["$_id", {$literal: [ids]}]}]} */
static void append_leaf(bson_t *into, const char *name, const struct ordered_id *ids, size_t count)
{
    bson_t expression;
    bson_t not ;
    bson_t in;
    bson_t operands;
    bson_t literal;
    bson_t list;
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &expression);
    BSON_APPEND_ARRAY_BEGIN(&expression, "$not", &not );
    BSON_APPEND_DOCUMENT_BEGIN(&not, "0", &in);
    BSON_APPEND_ARRAY_BEGIN(&in, "$in", &operands);
    BSON_APPEND_UTF8(&operands, "0", "$_id");
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "1", &literal);
    BSON_APPEND_ARRAY_BEGIN(&literal, "$literal", &list);
    append_ids(&list, ids, count);
    bson_append_array_end(&literal, &list);
    bson_append_document_end(&operands, &literal);
    bson_append_array_end(&in, &operands);
    bson_append_document_end(&not, &in);
    bson_append_array_end(&expression, &not );
    bson_append_document_end(into, &expression);
}

/* {$cond: [{$lt: ["$_id", {$literal: middle}]}, left, right]}; its depth is log2(count). */
static void append_tree(bson_t *into, const char *name, const struct ordered_id *ids, size_t count)
{
    bson_t expression;
    bson_t cond;
    bson_t condition;
    bson_t operands;
    bson_t literal;
    bson_iter_t id;
    if (count <= LEAF_COUNT_MAX) {
        append_leaf(into, name, ids, count);
        return;
    }
    size_t middle = count / 2;
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &expression);
    BSON_APPEND_ARRAY_BEGIN(&expression, "$cond", &cond);
    BSON_APPEND_DOCUMENT_BEGIN(&cond, "0", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$lt", &operands);
    BSON_APPEND_UTF8(&operands, "0", "$_id");
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "1", &literal);
    if (id_of(ids[middle].key, &id)) {
        bson_append_iter(&literal, "$literal", -1, &id);
    }
    bson_append_document_end(&operands, &literal);
    bson_append_array_end(&condition, &operands);
    bson_append_document_end(&cond, &condition);
    append_tree(&cond, "1", ids, middle);
    append_tree(&cond, "2", ids + middle, count - middle);
    bson_append_array_end(&expression, &cond);
    bson_append_document_end(into, &expression);
}

/* Conditions for the array of an $and, from *at on. */
static void append_without(bson_t *all, uint32_t *at, const struct ordered_id *ids, size_t count)
{
    size_t next;
    for (size_t i = 0; i < count; i = next) {
        bson_t condition;
        next = i + 1;
        while (next < count && ids[next].order == ids[i].order) {
            next++;
        }
        begin_stage(all, at, &condition);
        if (ids[i].order != ORDER_NONE && next - i > LIST_COUNT_MAX) {
            append_tree(&condition, "$expr", ids + i, next - i);
        } else {
            bson_t operator;
            bson_t list;
            BSON_APPEND_DOCUMENT_BEGIN(&condition, "_id", &operator);
            BSON_APPEND_ARRAY_BEGIN(&operator, "$nin", &list);
            append_ids(&list, ids + i, next - i);
            bson_append_array_end(&operator, & list);
            bson_append_document_end(&condition, &operator);
        }
        bson_append_document_end(all, &condition);
    }
}

/* ------------------------------------------------------------------ stages */

/* { $match: { $and: [ filters, without ids ] } } */
enum status overlay_append_live(bson_t *pipeline, uint32_t *at, const struct slice *filters,
                                size_t filter_count, const struct overlay_image *images,
                                size_t image_count)
{
    bson_t stage;
    bson_t match;
    bson_t all;
    uint32_t condition = 0;
    struct ordered_id *ids = calloc(image_count + 1, sizeof *ids);
    if (ids == NULL) {
        return STATUS_MEMORY;
    }
    for (size_t i = 0; i < image_count; i++) {
        ids[i] = order_id(images[i].key);
    }
    qsort(ids, image_count, sizeof *ids, compare_ids);
    begin_stage(pipeline, at, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &match);
    BSON_APPEND_ARRAY_BEGIN(&match, "$and", &all);
    for (size_t i = 0; i < filter_count; i++) {
        append_document(&all, &condition, filters[i]);
    }
    append_without(&all, &condition, ids, image_count);
    bson_append_array_end(&match, &all);
    bson_append_document_end(&stage, &match);
    bson_append_document_end(pipeline, &stage);
    free(ids);
    return STATUS_OK;
}

/* { $match: { _id: { $in: [] } } }, { $facet: { images: [ { $limit: 1 } ] } }: one document. */
static void append_one(bson_t *pipeline, uint32_t *at)
{
    bson_t stage;
    bson_t inside;
    bson_t id;
    bson_t list;
    bson_t limit;
    begin_stage(pipeline, at, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &inside);
    BSON_APPEND_DOCUMENT_BEGIN(&inside, "_id", &id);
    BSON_APPEND_ARRAY_BEGIN(&id, "$in", &list);
    bson_append_array_end(&id, &list);
    bson_append_document_end(&inside, &id);
    bson_append_document_end(&stage, &inside);
    bson_append_document_end(pipeline, &stage);
    begin_stage(pipeline, at, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$facet", &inside);
    BSON_APPEND_ARRAY_BEGIN(&inside, "images", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &limit);
    BSON_APPEND_INT32(&limit, "$limit", 1);
    bson_append_document_end(&list, &limit);
    bson_append_array_end(&inside, &list);
    bson_append_document_end(&stage, &inside);
    bson_append_document_end(pipeline, &stage);
}

/* So many in each list of the list of lists: the square root of their number. */
static size_t list_length(size_t count)
{
    size_t length = 1;
    while (length * length < count) {
        length++;
    }
    return length;
}

static void append_lists(bson_t *literal, const struct overlay_image *images, size_t image_count,
                         size_t present)
{
    size_t length = list_length(present);
    uint32_t list_at = 0;
    for (size_t i = 0; i < image_count;) {
        struct overlay_index index = overlay_index_next(&list_at);
        bson_t list;
        uint32_t at = 0;
        bson_append_array_begin(literal, overlay_index_text(&index), index.size, &list);
        for (; i < image_count && at < length; i++) {
            if (images[i].document.size > 0) {
                append_document(&list, &at, images[i].document);
            }
        }
        bson_append_array_end(literal, &list);
    }
}

static void append_text_stage(bson_t *pipeline, uint32_t *at, const char *name, const char *text)
{
    bson_t stage;
    begin_stage(pipeline, at, &stage);
    bson_append_utf8(&stage, name, -1, text, -1);
    bson_append_document_end(pipeline, &stage);
}

static void append_literals(bson_t *pipeline, uint32_t *at, const struct overlay_image *images,
                            size_t image_count, size_t present)
{
    bson_t stage;
    bson_t inside;
    bson_t field;
    bson_t literal;
    begin_stage(pipeline, at, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$project", &inside);
    BSON_APPEND_DOCUMENT_BEGIN(&inside, "images", &field);
    BSON_APPEND_ARRAY_BEGIN(&field, "$literal", &literal);
    append_lists(&literal, images, image_count, present);
    bson_append_array_end(&field, &literal);
    bson_append_document_end(&inside, &field);
    bson_append_document_end(&stage, &inside);
    bson_append_document_end(pipeline, &stage);
    append_text_stage(pipeline, at, "$unwind", "$images");
    append_text_stage(pipeline, at, "$unwind", "$images");
    begin_stage(pipeline, at, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$replaceRoot", &inside);
    BSON_APPEND_UTF8(&inside, "newRoot", "$images");
    bson_append_document_end(&stage, &inside);
    bson_append_document_end(pipeline, &stage);
}

static size_t count_present(const struct overlay_image *images, size_t count)
{
    size_t present = 0;
    for (size_t i = 0; i < count; i++) {
        present += images[i].document.size > 0;
    }
    return present;
}

enum status overlay_append_images(bson_t *pipeline, uint32_t *at, const struct slice *filters,
                                  size_t filter_count, const struct overlay_image *images,
                                  size_t image_count)
{
    append_one(pipeline, at);
    append_literals(pipeline, at, images, image_count, count_present(images, image_count));
    return filter_count == 0 ? STATUS_OK
                             : overlay_append_live(pipeline, at, filters, filter_count, NULL, 0);
}

enum status overlay_append_union(bson_t *pipeline, uint32_t *at, const char *collection,
                                 const struct slice *filters, size_t filter_count,
                                 const struct overlay_image *images, size_t image_count)
{
    bson_t stage;
    bson_t unite;
    bson_t inner;
    uint32_t inner_at = 0;
    if (count_present(images, image_count) == 0) {
        return STATUS_OK;
    }
    begin_stage(pipeline, at, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$unionWith", &unite);
    BSON_APPEND_UTF8(&unite, "coll", collection);
    BSON_APPEND_ARRAY_BEGIN(&unite, "pipeline", &inner);
    enum status status =
        overlay_append_images(&inner, &inner_at, filters, filter_count, images, image_count);
    bson_append_array_end(&unite, &inner);
    bson_append_document_end(&stage, &unite);
    bson_append_document_end(pipeline, &stage);
    return status;
}
