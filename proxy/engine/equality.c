/* Equality predicates of a filter. Pure. */
#include "engine/equality.h"

#include <stdlib.h>
#include <string.h>

/* More fields than this in one upsert's filter: the rest does not name the lock, which then only
   covers more keys than it must. */
#define EQUALITIES_MAX 64

struct equality {
    const char *name;
    bson_value_t value; /* points into the filter */
};

struct equality_list {
    struct equality items[EQUALITIES_MAX];
    size_t count;
};

static void add(struct equality_list *list, const char *name, const bson_iter_t *value)
{
    if (list->count < EQUALITIES_MAX) {
        list->items[list->count++] = (struct equality){
            .name = name, .value = *bson_iter_value((bson_iter_t *)(uintptr_t)value)};
    }
}

/* { $in: [value] } is an equality: servers make the field of it, too. */
static void collect_only(struct equality_list *list, const char *name, const bson_iter_t *in)
{
    bson_iter_t element;
    if (!BSON_ITER_HOLDS_ARRAY(in) || !bson_iter_recurse(in, &element) ||
        !bson_iter_next(&element) || BSON_ITER_HOLDS_REGEX(&element)) {
        return;
    }
    bson_iter_t only = element;
    if (!bson_iter_next(&element)) {
        add(list, name, &only);
    }
}

static void collect_value(struct equality_list *list, const char *name, bson_iter_t *at)
{
    bson_iter_t inside;
    if (BSON_ITER_HOLDS_REGEX(at)) {
        return;
    }
    if (!BSON_ITER_HOLDS_DOCUMENT(at) || !bson_iter_recurse(at, &inside) ||
        !bson_iter_next(&inside) || bson_iter_key(&inside)[0] != '$') {
        add(list, name, at);
    } else if (strcmp(bson_iter_key(&inside), "$eq") == 0) {
        add(list, name, &inside);
    } else if (strcmp(bson_iter_key(&inside), "$in") == 0) {
        collect_only(list, name, &inside);
    }
}

/* Depth is bounded by bson_check(). */
static void collect(struct equality_list *list, bson_iter_t *at)
{
    while (bson_iter_next(at)) {
        bson_iter_t array;
        if (strcmp(bson_iter_key(at), "$and") == 0 && BSON_ITER_HOLDS_ARRAY(at) &&
            bson_iter_recurse(at, &array)) {
            while (bson_iter_next(&array)) {
                bson_iter_t document;
                if (BSON_ITER_HOLDS_DOCUMENT(&array) && bson_iter_recurse(&array, &document)) {
                    collect(list, &document);
                }
            }
        } else if (bson_iter_key(at)[0] != '$') {
            collect_value(list, bson_iter_key(at), at);
        }
    }
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct equality *)a)->name, ((const struct equality *)b)->name);
}

void equality_collect(struct slice filter, bson_t *equalities)
{
    struct equality_list list;
    list.count = 0;
    bson_iter_t at;
    if (bson_iter_init_from_data(&at, filter.data, filter.size)) {
        collect(&list, &at);
    }
    qsort(list.items, list.count, sizeof list.items[0], compare);
    for (size_t i = 0; i < list.count; i++) {
        bson_append_value(equalities, list.items[i].name, -1, &list.items[i].value);
    }
}

bool equality_key(const bson_t *equalities, bson_t *ret_key)
{
    bson_iter_t at;
    if (!bson_iter_init_find(&at, equalities, "_id")) {
        return false;
    }
    bson_append_iter(ret_key, "_id", -1, &at);
    return true;
}

bool equality_names_one(struct slice filter, bson_t *ret_key)
{
    bson_t equalities = BSON_INITIALIZER;
    bson_iter_t id;
    equality_collect(filter, &equalities);
    bool one = bson_iter_init_find(&id, &equalities, "_id") && !BSON_ITER_HOLDS_NULL(&id) &&
               !BSON_ITER_HOLDS_ARRAY(&id) && equality_key(&equalities, ret_key);
    bson_destroy(&equalities);
    return one;
}
