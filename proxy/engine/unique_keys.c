/*
 * Keys of unique indexes (unique_keys.h).
 *
 * A document's keys in a compound index are made as the server makes them: all paths are followed
 * at once, and where they meet an array, each element gives keys of its own:
 *
 *    {a: [{x: 1, y: 2}, {x: 3}], b: 5}  in  {a.x, a.y, b}  ->  (1, 2, 5) (3, null, 5)
 *
 * Missing, null, undefined and the empty array share one lock. Pure.
 */
#include "engine/unique_keys.h"

#include <stdlib.h>
#include <string.h>

#include "engine/unique_index.h"

/* What is known of a key, and where to look for the rest. */
struct search {
    const char *rest[UNIQUE_FIELDS_MAX]; /* of each path; NULL: its value is known */
    struct slice
        later[UNIQUE_FIELDS_MAX]; /* the array that the rest is in, met beside another one */
    bson_value_t values[UNIQUE_FIELDS_MAX]; /* point into the document */
    bool found[UNIQUE_FIELDS_MAX];          /* else its value is null */
};

static enum status add_name(struct unique_keys *keys, const char *scope, const bson_t *key)
{
    if (keys->count == keys->count_max) {
        return STATUS_FULL;
    }
    if (keys->count == keys->capacity) {
        size_t capacity = keys->capacity == 0 ? 16 : keys->capacity * 2;
        struct lock_name *grown = realloc(keys->names, capacity * sizeof *grown);
        if (grown == NULL) {
            return STATUS_MEMORY;
        }
        keys->names = grown;
        keys->capacity = capacity;
    }
    lock_name_of(scope, slice_make(bson_get_data(key), key->len), &keys->names[keys->count++]);
    return STATUS_OK;
}

/* Types that hold text which a collation may take for equal. */
static bool may_hold_text(const bson_value_t *value)
{
    switch (value->value_type) {
    case BSON_TYPE_UTF8:
    case BSON_TYPE_SYMBOL:
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
    case BSON_TYPE_CODE:
    case BSON_TYPE_CODEWSCOPE:
        return true;
    default:
        return false;
    }
}

/* Servers differ in whether an empty array that is itself an element is like nothing. */
static bool is_nothing(const bson_value_t *value)
{
    return value->value_type == BSON_TYPE_UNDEFINED ||
           (value->value_type == BSON_TYPE_ARRAY && value->value.v_doc.data_len <= 5);
}

static enum status add_key(const struct unique_index *index, const struct search *search,
                           struct unique_keys *keys)
{
    if (index->is_of_id && !(search->found[0] && may_hold_text(&search->values[0]))) {
        return STATUS_OK; /* the document's own lock will do */
    }
    bson_t key = BSON_INITIALIZER;
    for (size_t i = 0; i < index->path_count; i++) {
        const bson_value_t *value = &search->values[i];
        if (!search->found[i] || is_nothing(value)) {
            bson_append_null(&key, "", 0);
        } else if (index->folds_strings && may_hold_text(value)) {
            bson_append_utf8(&key, "", 0, "", 0);
        } else {
            bson_append_value(&key, "", 0, value);
        }
    }
    enum status status = add_name(keys, index->scope, &key);
    bson_destroy(&key);
    return status;
}

static struct slice array_at(const bson_iter_t *at)
{
    uint32_t size;
    const uint8_t *data;
    bson_iter_array(at, &size, &data);
    return slice_make(data, size);
}

/*
 * Follows the rest of a path through documents, to its end or to an array. The array is returned,
 * and the rest is what lies behind it ("" at the end of the path). Size 0: the value is known.
 */
static struct slice follow(struct search *search, size_t field, struct slice document)
{
    const char *path = search->rest[field];
    bson_iter_t at;
    bool found = document.size > 0 && bson_iter_init_from_data(&at, document.data, document.size);
    search->rest[field] = NULL;
    search->found[field] = false;
    while (found) {
        size_t size = unique_component_size(path);
        bson_iter_t inside;
        if (!bson_iter_find_w_len(&at, path, (int)size)) {
            break;
        }
        path += path[size] == '\0' ? size : size + 1;
        if (BSON_ITER_HOLDS_ARRAY(&at)) {
            search->rest[field] = path;
            return array_at(&at);
        }
        if (path[0] == '\0') {
            search->values[field] = *bson_iter_value(&at);
            search->found[field] = true;
            break;
        }
        found = BSON_ITER_HOLDS_DOCUMENT(&at) && bson_iter_recurse(&at, &inside);
        if (found) {
            at = inside;
        }
    }
    return (struct slice){0};
}

/*
 * Follows all paths to values or arrays. Returns the array to go through next, *of_array the paths
 * that go on in it; size 0: all values are known. Of two arrays side by side, which mongod refuses
 * and other servers do not, one is kept for later.
 */
static struct slice next_array(struct search *search, size_t count, struct slice document,
                               bool *of_array)
{
    struct slice array = {0};
    for (size_t i = 0; i < count; i++) {
        if (search->rest[i] != NULL && search->later[i].size == 0) {
            search->later[i] = follow(search, i, document);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (search->later[i].size == 0) {
            continue;
        }
        array = array.size == 0 ? search->later[i] : array;
        of_array[i] = search->later[i].data == array.data;
        if (of_array[i]) {
            search->later[i] = (struct slice){0};
        }
    }
    return array;
}

static enum status add_keys(const struct unique_index *index, const struct search *from,
                            struct slice document, struct unique_keys *keys);

/* The keys by one element of the array; NULL: it is empty. */
static enum status add_element(const struct unique_index *index, const struct search *from,
                               const bool *of_array, bson_iter_t *element, struct unique_keys *keys)
{
    struct search search = *from;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (element != NULL && BSON_ITER_HOLDS_DOCUMENT(element)) {
        bson_iter_document(element, &size, &data);
    }
    for (size_t i = 0; i < index->path_count; i++) {
        if (of_array[i] && search.rest[i][0] == '\0') {
            search.rest[i] = NULL;
            search.found[i] = element != NULL;
            if (element != NULL) {
                search.values[i] = *bson_iter_value(element);
            }
        }
    }
    return add_keys(index, &search, slice_make(data, size), keys);
}

/* Recursion is bounded by the arrays on the paths, UNIQUE_FIELDS_MAX * COMPONENTS_MAX. */
static enum status add_keys(const struct unique_index *index, const struct search *from,
                            struct slice document, struct unique_keys *keys)
{
    struct search search = *from;
    bool of_array[UNIQUE_FIELDS_MAX] = {false};
    struct slice array = next_array(&search, index->path_count, document, of_array);
    bson_iter_t element;
    if (array.size == 0) {
        return add_key(index, &search, keys);
    }
    if (!bson_iter_init_from_data(&element, array.data, array.size) || !bson_iter_next(&element)) {
        return add_element(index, &search, of_array, NULL, keys);
    }
    enum status status;
    do {
        status = add_element(index, &search, of_array, &element, keys);
    } while (status == STATUS_OK && bson_iter_next(&element));
    return status;
}

static enum status add_document(const struct unique_index *index, struct slice document,
                                struct unique_keys *keys)
{
    struct search search = {0};
    if (document.size == 0 || unique_index_leaves_out(index, document)) {
        return STATUS_OK;
    }
    if (index->whole) {
        bson_t nothing = BSON_INITIALIZER;
        return add_name(keys, index->scope, &nothing);
    }
    memcpy(search.rest, index->paths, sizeof search.rest);
    return add_keys(index, &search, document, keys);
}

enum status unique_keys_of_change(const struct unique_indexes *indexes, struct slice before,
                                  struct slice after, struct unique_keys *keys)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < indexes->count && status == STATUS_OK; i++) {
        const struct unique_index *index = &indexes->items[i];
        if (unique_index_is_unchanged(index, before, after)) {
            continue;
        }
        status = add_document(index, before, keys);
        if (status == STATUS_OK) {
            status = add_document(index, after, keys);
        }
    }
    return status;
}
