/*
 * Unique indexes: their definitions as listIndexes tells of them, and which writes and documents
 * they have to do with (unique_keys.h).
 *
 * A document is only left out of a sparse or partial index if it has none of the fields that would
 * bring it in. Whether a write changes keys is decided by the bytes of the top-level fields that
 * they are made of, not by the locks: these may be the same for different keys.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/unique_index.h"

/* Each array on a path is a level of recursion; longer paths are rare enough for one lock. */
#define COMPONENTS_MAX 16u

/* ------------------------------------------------------------------ definitions */

static bool is_number(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    return size > 0;
}

size_t unique_component_size(const char *path)
{
    return strcspn(path, ".");
}

/* Short, and without names that may count the elements of an array. */
static bool can_be_followed(const char *path)
{
    for (size_t count = 1; count <= COMPONENTS_MAX; count++) {
        size_t size = unique_component_size(path);
        if (is_number(path, size)) {
            return false;
        }
        if (path[size] == '\0') {
            return true;
        }
        path += size + 1;
    }
    return false;
}

static bool is_id_only(const bson_t *fields)
{
    return bson_count_keys(fields) == 1 && bson_has_field(fields, "_id");
}

/* The one that each collection has: it is unique, and not every server says so. */
static bool is_id_index(const bson_iter_t *name)
{
    return strcmp(bson_iter_utf8(name, NULL), "_id_") == 0;
}

static void take_fields(struct unique_index *index)
{
    bson_iter_t at;
    (void)bson_iter_init(&at, &index->fields);
    while (bson_iter_next(&at)) {
        const char *path = bson_iter_key(&at);
        if (!BSON_ITER_HOLDS_NUMBER(&at) || !can_be_followed(path) ||
            index->path_count == UNIQUE_FIELDS_MAX) {
            index->whole = true;
            return;
        }
        index->paths[index->path_count++] = path;
    }
}

static bool flag(const bson_t *definition, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, definition, name) && bson_iter_as_bool(&at);
}

static bool has_collation(const bson_t *definition)
{
    bson_iter_t at;
    bson_iter_t locale;
    if (!bson_iter_init_find(&at, definition, "collation") || !BSON_ITER_HOLDS_DOCUMENT(&at)) {
        return false;
    }
    return !bson_iter_recurse(&at, &locale) || !bson_iter_find(&locale, "locale") ||
           !BSON_ITER_HOLDS_UTF8(&locale) || strcmp(bson_iter_utf8(&locale, NULL), "simple") != 0;
}

static void copy_document(bson_iter_t *at, bson_t *copy)
{
    uint32_t size;
    const uint8_t *data;
    bson_t view;
    bson_iter_document(at, &size, &data);
    if (bson_init_static(&view, data, size)) {
        bson_concat(copy, &view);
    }
}

/* What else than a value that is there already may keep a document out of an index. */
static void note_kind(struct unique_indexes *indexes, const bson_iter_t *key)
{
    bson_iter_t field;
    size_t count = 0;
    bool valid = bson_iter_recurse(key, &field);
    while (valid && bson_iter_next(&field)) {
        indexes->are_special = indexes->are_special || !BSON_ITER_HOLDS_NUMBER(&field);
        count++;
    }
    indexes->are_compound = indexes->are_compound || count > 1;
}

/* Adds the index if it is a unique one. False: this is no definition of an index. */
static bool add_index(struct unique_indexes *indexes, const char *namespace,
                      const bson_t *definition, bool collated)
{
    bson_iter_t key;
    bson_iter_t name;
    bson_iter_t filter;
    if (!bson_iter_init_find(&key, definition, "key") || !BSON_ITER_HOLDS_DOCUMENT(&key) ||
        !bson_iter_init_find(&name, definition, "name") || !BSON_ITER_HOLDS_UTF8(&name)) {
        return false;
    }
    note_kind(indexes, &key);
    bool of_id = is_id_index(&name) && (collated || has_collation(definition));
    /* An index that is prepared to become unique refuses duplicates already. */
    if (!of_id && !flag(definition, "unique") && !flag(definition, "prepareUnique")) {
        return true;
    }
    struct unique_index *index = &indexes->items[indexes->count];
    bson_init(&index->fields);
    copy_document(&key, &index->fields);
    if (!of_id && is_id_only(&index->fields)) {
        bson_destroy(&index->fields);
        return true;
    }
    bson_init(&index->filter);
    if (bson_iter_init_find(&filter, definition, "partialFilterExpression") &&
        BSON_ITER_HOLDS_DOCUMENT(&filter)) {
        copy_document(&filter, &index->filter);
    }
    index->scope = bson_strdup_printf("unique %s %s", namespace, bson_iter_utf8(&name, NULL));
    index->sparse = flag(definition, "sparse");
    index->folds_strings = of_id || has_collation(definition);
    index->is_of_id = of_id;
    take_fields(index);
    indexes->count++;
    return true;
}

struct unique_indexes *unique_indexes_none(void)
{
    struct unique_indexes *indexes = calloc(1, sizeof *indexes);
    if (indexes != NULL) {
        atomic_init(&indexes->holders, 1);
    }
    return indexes;
}

/* The whole list of indexes in a reply; false if it is not there, or not all of it. */
static bool find_batch(const bson_t *reply, bson_t *ret_batch)
{
    bson_iter_t at;
    bson_iter_t id;
    bson_iter_t batch;
    uint32_t size;
    const uint8_t *data;
    if (!bson_iter_init_find(&at, reply, "cursor") || !BSON_ITER_HOLDS_DOCUMENT(&at) ||
        !bson_iter_recurse(&at, &id) || !bson_iter_find(&id, "id") ||
        bson_iter_as_int64(&id) != 0 || !bson_iter_recurse(&at, &batch) ||
        !bson_iter_find(&batch, "firstBatch") || !BSON_ITER_HOLDS_ARRAY(&batch)) {
        return false;
    }
    bson_iter_array(&batch, &size, &data);
    return bson_init_static(ret_batch, data, size);
}

struct unique_indexes *unique_indexes_parse(const char *namespace, const bson_t *reply,
                                            bool collated)
{
    bson_t batch;
    bson_iter_t at;
    struct unique_indexes *indexes = unique_indexes_none();
    bool taken = indexes != NULL && find_batch(reply, &batch) && bson_iter_init(&at, &batch);
    if (taken) {
        indexes->items = calloc(bson_count_keys(&batch) + 1, sizeof *indexes->items);
        taken = indexes->items != NULL;
    }
    while (taken && bson_iter_next(&at)) {
        uint32_t size = 0;
        const uint8_t *data = NULL;
        bson_t definition;
        if (BSON_ITER_HOLDS_DOCUMENT(&at)) {
            bson_iter_document(&at, &size, &data);
        }
        taken = size > 0 && bson_init_static(&definition, data, size) &&
                add_index(indexes, namespace, &definition, collated);
    }
    return taken ? indexes : unique_indexes_release(indexes);
}

static size_t count_arrays(bson_iter_t *fields)
{
    bson_iter_t inner;
    size_t count = 0;
    while (bson_iter_next(fields)) {
        bool array = BSON_ITER_HOLDS_ARRAY(fields);
        count += array;
        if ((array || BSON_ITER_HOLDS_DOCUMENT(fields)) && bson_iter_recurse(fields, &inner)) {
            count += count_arrays(&inner);
        }
    }
    return count;
}

bool unique_indexes_may_refuse(const struct unique_indexes *indexes, const bson_t *document)
{
    bson_iter_t fields;
    return indexes->are_special || (indexes->are_compound && bson_iter_init(&fields, document) &&
                                    count_arrays(&fields) > 1);
}

struct unique_indexes *unique_indexes_hold(struct unique_indexes *indexes)
{
    (void)atomic_fetch_add(&indexes->holders, 1);
    return indexes;
}

struct unique_indexes *unique_indexes_release(struct unique_indexes *indexes)
{
    if (indexes == NULL || atomic_fetch_sub(&indexes->holders, 1) > 1) {
        return NULL;
    }
    for (size_t i = 0; i < indexes->count; i++) {
        bson_free(indexes->items[i].scope);
        bson_destroy(&indexes->items[i].fields);
        bson_destroy(&indexes->items[i].filter);
    }
    free(indexes->items);
    free(indexes);
    return NULL;
}

size_t unique_indexes_count(const struct unique_indexes *indexes)
{
    return indexes->count;
}

/* ------------------------------------------------------------------ what a write may change */

static bool same_component(const char *a, const char *b)
{
    size_t size = unique_component_size(a);
    return size == unique_component_size(b) && memcmp(a, b, size) == 0;
}

/* Whether a change at `path` may change keys of the index. */
static bool depends_on(const struct unique_index *index, const char *path)
{
    bson_iter_t at;
    (void)bson_iter_init(&at, &index->fields);
    while (bson_iter_next(&at)) {
        if (same_component(bson_iter_key(&at), path)) {
            return true;
        }
    }
    (void)bson_iter_init(&at, &index->filter);
    while (bson_iter_next(&at)) {
        if (bson_iter_key(&at)[0] == '$' || same_component(bson_iter_key(&at), path)) {
            return true;
        }
    }
    return false;
}

bool unique_indexes_depend_on(const struct unique_indexes *indexes, const char *path)
{
    bool found = false;
    for (size_t i = 0; i < indexes->count && !found; i++) {
        found = depends_on(&indexes->items[i], path);
    }
    return found;
}

/* {path: operand}; the operand of $rename is a path as well. */
static bool touches(const struct unique_indexes *indexes, bson_iter_t *operands)
{
    bool rename = strcmp(bson_iter_key(operands), "$rename") == 0;
    bson_iter_t at;
    if (!BSON_ITER_HOLDS_DOCUMENT(operands) || !bson_iter_recurse(operands, &at)) {
        return true;
    }
    while (bson_iter_next(&at)) {
        if (unique_indexes_depend_on(indexes, bson_iter_key(&at)) ||
            (rename && BSON_ITER_HOLDS_UTF8(&at) &&
             unique_indexes_depend_on(indexes, bson_iter_utf8(&at, NULL)))) {
            return true;
        }
    }
    return false;
}

/* {path: expression} of a stage. */
static bool stage_touches(const struct unique_indexes *indexes, const bson_iter_t *fields)
{
    bson_iter_t at;
    bool touched = !BSON_ITER_HOLDS_DOCUMENT(fields) || !bson_iter_recurse(fields, &at);
    while (!touched && bson_iter_next(&at)) {
        touched = unique_indexes_depend_on(indexes, bson_iter_key(&at));
    }
    return touched;
}

/* The stages that name what they change; any other may change everything. */
static bool pipeline_touches(const struct unique_indexes *indexes, struct slice pipeline)
{
    bson_iter_t at;
    bson_iter_t stage;
    bool touched = !bson_iter_init_from_data(&at, pipeline.data, pipeline.size);
    while (!touched && bson_iter_next(&at)) {
        touched = !BSON_ITER_HOLDS_DOCUMENT(&at) || !bson_iter_recurse(&at, &stage) ||
                  !bson_iter_next(&stage) ||
                  (strcmp(bson_iter_key(&stage), "$set") != 0 &&
                   strcmp(bson_iter_key(&stage), "$addFields") != 0) ||
                  stage_touches(indexes, &stage);
    }
    return touched;
}

bool unique_indexes_touched(const struct unique_indexes *indexes, const struct statement *statement)
{
    bson_iter_t at;
    if (indexes->count == 0 || statement->kind != STATEMENT_UPDATE) {
        return false;
    }
    if (statement->upsert && unique_indexes_depend_on(indexes, "_id")) {
        return true; /* it may make the document, and its _id */
    }
    if (statement->update_is_pipeline) {
        return pipeline_touches(indexes, statement->update);
    }
    if (statement->update_is_replacement ||
        !bson_iter_init_from_data(&at, statement->update.data, statement->update.size)) {
        return true;
    }
    while (bson_iter_next(&at)) {
        if (touches(indexes, &at)) {
            return true;
        }
    }
    return false;
}

/* The bytes of the value that the iterator is at, behind its type and name. */
static struct slice value_bytes(const bson_iter_t *at)
{
    uint32_t start = bson_iter_offset((bson_iter_t *)(uintptr_t)at) + 1 + bson_iter_key_len(at) + 1;
    return slice_make(at->raw + start, at->next_off - start);
}

static bool find_top(struct slice document, const char *path, bson_iter_t *ret_at)
{
    return bson_iter_init_from_data(ret_at, document.data, document.size) &&
           bson_iter_find_w_len(ret_at, path, (int)unique_component_size(path));
}

/* Whether the top-level field of the path is the same, byte for byte. */
static bool same_field(struct slice before, struct slice after, const char *path)
{
    bson_iter_t old;
    bson_iter_t new;
    bool was = find_top(before, path, &old);
    bool is = find_top(after, path, &new);
    if (!was || !is) {
        return was == is;
    }
    return bson_iter_type(&old) == bson_iter_type(&new) &&
           slice_equal(value_bytes(&old), value_bytes(&new));
}

bool unique_index_is_unchanged(const struct unique_index *index, struct slice before,
                               struct slice after)
{
    bson_iter_t at;
    if (before.size == 0 || after.size == 0) {
        return false;
    }
    (void)bson_iter_init(&at, &index->fields);
    while (bson_iter_next(&at)) {
        if (!same_field(before, after, bson_iter_key(&at))) {
            return false;
        }
    }
    (void)bson_iter_init(&at, &index->filter);
    while (bson_iter_next(&at)) {
        if (bson_iter_key(&at)[0] == '$' || !same_field(before, after, bson_iter_key(&at))) {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------ what is not in the index */

/* Whether there is nothing at the path for certain: no array on the way hides it. */
static bool is_missing(struct slice document, const char *path)
{
    bson_iter_t at;
    if (!bson_iter_init_from_data(&at, document.data, document.size)) {
        return false;
    }
    for (;;) {
        size_t size = unique_component_size(path);
        bson_iter_t inside;
        if (!bson_iter_find_w_len(&at, path, (int)size)) {
            return true;
        }
        if (path[size] == '\0' || BSON_ITER_HOLDS_ARRAY(&at)) {
            return false;
        }
        if (!BSON_ITER_HOLDS_DOCUMENT(&at)) {
            return true;
        }
        if (!bson_iter_recurse(&at, &inside)) {
            return false;
        }
        at = inside;
        path += size + 1;
    }
}

/* Values that a comparison never finds in a missing field. */
static bool is_something(const bson_iter_t *at)
{
    switch (bson_iter_type(at)) {
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DECIMAL128:
    case BSON_TYPE_UTF8:
    case BSON_TYPE_BOOL:
    case BSON_TYPE_OID:
    case BSON_TYPE_DATE_TIME:
        return true;
    default:
        return false;
    }
}

/* Whether the condition of a filter never holds for a missing field. */
static bool wants_something(bson_iter_t *condition)
{
    static const char *const comparisons[] = {"$eq", "$gt", "$gte", "$lt", "$lte"};
    bson_iter_t at;
    if (!BSON_ITER_HOLDS_DOCUMENT(condition)) {
        return is_something(condition);
    }
    if (!bson_iter_recurse(condition, &at)) {
        return false;
    }
    while (bson_iter_next(&at)) {
        const char *condition_name = bson_iter_key(&at);
        bool wanted = strcmp(condition_name, "$exists") == 0 && bson_iter_as_bool(&at);
        for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++) {
            wanted = wanted || (strcmp(condition_name, comparisons[i]) == 0 && is_something(&at));
        }
        if (wanted || strcmp(condition_name, "$type") == 0) {
            return true;
        }
    }
    return false;
}

bool unique_index_leaves_out(const struct unique_index *index, struct slice document)
{
    bson_iter_t at;
    (void)bson_iter_init(&at, &index->filter);
    while (bson_iter_next(&at)) {
        if (bson_iter_key(&at)[0] != '$' && is_missing(document, bson_iter_key(&at)) &&
            wants_something(&at)) {
            return true;
        }
    }
    bool missing = index->sparse;
    (void)bson_iter_init(&at, &index->fields);
    while (missing && bson_iter_next(&at)) {
        missing = is_missing(document, bson_iter_key(&at));
    }
    return missing;
}
