/*
 * Computing updates (apply_update.h).
 *
 * The update's operators become a list of changes {path, kind, value}. A document is then walked
 * once, level by level: its fields are copied, changed or left out in their places, and what is
 * new follows behind them.
 *
 * Every doubt ends in `false`: a path that runs through an array or a scalar, names that begin with
 * a dollar, numeric names, values that libbson would write in other bytes, overflows, two changes
 * that meet, more changes than fit. Pure.
 */
#include "engine/apply_update.h"

#include <string.h>

#include "engine/equality.h"
#include "holdfast/limits.h"
#include "wire/bson_check.h"

#define CHANGES_MAX 64
/* A level of the walk takes a few kilobytes of stack. */
#define PATH_DEPTH_MAX 8

enum change_kind {
    CHANGE_SET,
    CHANGE_UNSET,
    CHANGE_INC,
};

struct change {
    enum change_kind kind;
    bool insert_only;
    const char *path; /* what is left of it at the level of the walk */
    bson_iter_t value;
};

struct change_list {
    struct change items[CHANGES_MAX];
    size_t count;
};

/* ------------------------------------------------------------------ what can be computed */

static bool is_zero_timestamp(const bson_iter_t *at)
{
    uint32_t seconds = 1;
    uint32_t increment = 1;
    if (BSON_ITER_HOLDS_TIMESTAMP(at)) {
        bson_iter_timestamp(at, &seconds, &increment);
    }
    return seconds == 0 && increment == 0;
}

/* bson_append_iter() writes these anew: it sorts a regex's options and ends code at a NUL. */
static bool is_rewritten(const bson_iter_t *at)
{
    bson_subtype_t subtype = BSON_SUBTYPE_BINARY;
    if (BSON_ITER_HOLDS_BINARY(at)) {
        bson_iter_binary(at, &subtype, NULL, NULL);
    }
    return BSON_ITER_HOLDS_REGEX(at) || BSON_ITER_HOLDS_CODE(at) ||
           BSON_ITER_HOLDS_CODEWSCOPE(at) || BSON_ITER_HOLDS_DBPOINTER(at) ||
           subtype == BSON_SUBTYPE_BINARY_DEPRECATED;
}

/* Neither dollars nor dots in any name below: servers differ in which of these they take. Depth is
   bounded by bson_check(). */
static bool names_are_plain(bson_iter_t *at)
{
    while (bson_iter_next(at)) {
        const char *name = bson_iter_key(at);
        bson_iter_t child;
        if (name[0] == '$' || name[0] == '\0' || strchr(name, '.') != NULL || is_rewritten(at)) {
            return false;
        }
        if ((BSON_ITER_HOLDS_DOCUMENT(at) || BSON_ITER_HOLDS_ARRAY(at)) &&
            (!bson_iter_recurse(at, &child) || !names_are_plain(&child))) {
            return false;
        }
    }
    return true;
}

/* A whole document that any server stores as it is. */
static bool is_plain(struct slice document)
{
    bson_iter_t at;
    bson_iter_t names;
    if (!bson_iter_init_from_data(&at, document.data, document.size)) {
        return false;
    }
    names = at;
    while (bson_iter_next(&at)) {
        if (is_zero_timestamp(&at)) {
            return false; /* a server fills it in */
        }
    }
    return names_are_plain(&names);
}

static bool value_is_plain(const bson_iter_t *value)
{
    bson_iter_t child;
    if (BSON_ITER_HOLDS_DOCUMENT(value) || BSON_ITER_HOLDS_ARRAY(value)) {
        return bson_iter_recurse(value, &child) && names_are_plain(&child);
    }
    return !is_zero_timestamp(value) && !is_rewritten(value);
}

static bool component_is_plain(const char *component, size_t size)
{
    bool digits = true;
    for (size_t i = 0; i < size; i++) {
        digits = digits && component[i] >= '0' && component[i] <= '9';
    }
    return size > 0 && !digits && component[0] != '$';
}

static bool path_is_plain(const char *path)
{
    size_t depth = 0;
    if (strcmp(path, "_id") == 0 || strncmp(path, "_id.", 4) == 0) {
        return false;
    }
    for (const char *at = path;;) {
        size_t size = strcspn(at, ".");
        if (!component_is_plain(at, size) || ++depth > PATH_DEPTH_MAX) {
            return false;
        }
        if (at[size] == '\0') {
            return true;
        }
        at += size + 1;
    }
}

/* One is the other, or lies inside it: servers refuse that. */
static bool paths_meet(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return (*a == '\0' || *a == '.') && (*b == '\0' || *b == '.') && (*a == '\0' || *b == '\0');
}

/* ------------------------------------------------------------------ collecting changes */

static bool add_change(struct change_list *list, enum change_kind kind, const bson_iter_t *value)
{
    const char *path = bson_iter_key(value);
    if (list->count == CHANGES_MAX || !path_is_plain(path) ||
        (kind == CHANGE_SET && !value_is_plain(value)) ||
        (kind == CHANGE_INC && !BSON_ITER_HOLDS_INT(value) && !BSON_ITER_HOLDS_DOUBLE(value))) {
        return false;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (paths_meet(list->items[i].path, path)) {
            return false;
        }
    }
    list->items[list->count++] = (struct change){.kind = kind, .path = path, .value = *value};
    return true;
}

static bool collect(struct slice update, struct change_list *list)
{
    static const struct {
        const char *name;
        enum change_kind kind;
        bool insert_only;
    } operators[] = {
        {"$set", CHANGE_SET, false},
        {"$unset", CHANGE_UNSET, false},
        {"$inc", CHANGE_INC, false},
        {"$setOnInsert", CHANGE_SET, true},
    };
    bson_iter_t at;
    list->count = 0;
    if (!bson_iter_init_from_data(&at, update.data, update.size)) {
        return false;
    }
    while (bson_iter_next(&at)) {
        bson_iter_t field;
        size_t i = 0;
        while (i < sizeof operators / sizeof operators[0] &&
               strcmp(operators[i].name, bson_iter_key(&at)) != 0) {
            i++;
        }
        if (i == sizeof operators / sizeof operators[0] || !BSON_ITER_HOLDS_DOCUMENT(&at) ||
            !bson_iter_recurse(&at, &field)) {
            return false;
        }
        while (bson_iter_next(&field)) {
            if (!add_change(list, operators[i].kind, &field)) {
                return false;
            }
            list->items[list->count - 1].insert_only = operators[i].insert_only;
        }
    }
    return true;
}

/* What $setOnInsert sets is checked with the rest, as servers do, and then left out. */
static void drop_insert_only(struct change_list *list)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (!list->items[i].insert_only) {
            list->items[kept++] = list->items[i];
        }
    }
    list->count = kept;
}

static int compare_components(const char *a, const char *b)
{
    size_t a_size = strcspn(a, ".");
    size_t b_size = strcspn(b, ".");
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order != 0 ? order : a_size < b_size ? -1 : a_size > b_size;
}

/* Two changes inside one new sub-document. */
static bool shares_component(const struct change_list *list)
{
    for (size_t i = 1; i < list->count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (compare_components(list->items[i].path, list->items[j].path) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* ------------------------------------------------------------------ values */

static bool put_sum(bson_t *into, const char *name, const bson_iter_t *a, const bson_iter_t *b)
{
    if ((!BSON_ITER_HOLDS_INT(a) && !BSON_ITER_HOLDS_DOUBLE(a))) {
        return false;
    }
    if (BSON_ITER_HOLDS_DOUBLE(a) || BSON_ITER_HOLDS_DOUBLE(b)) {
        return bson_append_double(into, name, -1, bson_iter_as_double(a) + bson_iter_as_double(b));
    }
    int64_t sum;
    if (__builtin_add_overflow(bson_iter_as_int64(a), bson_iter_as_int64(b), &sum)) {
        return false;
    }
    if (BSON_ITER_HOLDS_INT32(a) && BSON_ITER_HOLDS_INT32(b) && sum >= INT32_MIN &&
        sum <= INT32_MAX) {
        return bson_append_int32(into, name, -1, (int32_t)sum);
    }
    return bson_append_int64(into, name, -1, sum);
}

static bool put_changed(bson_t *into, const char *name, const bson_iter_t *old,
                        const struct change *change)
{
    switch (change->kind) {
    case CHANGE_SET:
        return bson_append_iter(into, name, -1, &change->value);
    case CHANGE_INC:
        return put_sum(into, name, old, &change->value);
    case CHANGE_UNSET:
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------ the walk */

static bool names_component(const char *path, const char *name, size_t size)
{
    return strncmp(path, name, size) == 0 && (path[size] == '.' || path[size] == '\0');
}

/* Moves the changes of one component out of `list`; they lose that component. */
static bool take_component(struct change_list *list, const char *name, size_t size,
                           struct change_list *ret_taken)
{
    size_t kept = 0;
    ret_taken->count = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct change change = list->items[i];
        if (!names_component(change.path, name, size)) {
            list->items[kept++] = change;
            continue;
        }
        change.path += size;
        change.path += *change.path == '.';
        ret_taken->items[ret_taken->count++] = change;
    }
    list->count = kept;
    return ret_taken->count > 0;
}

/* Which change's component comes next; false if that depends on the server. */
static bool next_component(const struct change_list *list, enum field_order order, size_t *ret_next)
{
    size_t least = 0;
    for (size_t i = 1; i < list->count; i++) {
        if (compare_components(list->items[i].path, list->items[least].path) < 0) {
            least = i;
        }
    }
    *ret_next = order == FIELD_ORDER_AS_GIVEN ? 0 : least;
    return order != FIELD_ORDER_UNKNOWN || list->count == 1;
}

static bool creates(const struct change_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != CHANGE_UNSET) {
            return true;
        }
    }
    return false;
}

/* What no field of the level took. */
static bool put_new_fields(bson_t *into, struct change_list *list, enum field_order order)
{
    while (list->count > 0) {
        struct change_list inside;
        bson_t child;
        size_t next;
        if (!creates(list)) {
            return true;
        }
        if (!next_component(list, order, &next)) {
            return false;
        }
        const char *name = list->items[next].path;
        size_t size = strcspn(name, ".");
        (void)take_component(list, name, size, &inside);
        if (!creates(&inside)) {
            continue;
        }
        if (*inside.items[0].path == '\0') {
            (void)bson_append_iter(into, name, (int)size, &inside.items[0].value);
            continue;
        }
        (void)bson_append_document_begin(into, name, (int)size, &child);
        bool done = put_new_fields(&child, &inside, order);
        (void)bson_append_document_end(into, &child);
        if (!done) {
            return false;
        }
    }
    return true;
}

static bool apply_level(bson_t *into, bson_iter_t *at, struct change_list *list,
                        enum field_order order)
{
    while (bson_iter_next(at)) {
        struct change_list inside;
        bson_iter_t field;
        bson_t child;
        const char *name = bson_iter_key(at);
        if (!take_component(list, name, strlen(name), &inside)) {
            (void)bson_append_iter(into, NULL, 0, at);
            continue;
        }
        if (*inside.items[0].path == '\0') {
            if (!put_changed(into, name, at, &inside.items[0])) {
                return false;
            }
            continue;
        }
        if (!BSON_ITER_HOLDS_DOCUMENT(at) || !bson_iter_recurse(at, &field)) {
            return false;
        }
        (void)bson_append_document_begin(into, name, -1, &child);
        bool done = apply_level(&child, &field, &inside, order);
        (void)bson_append_document_end(into, &child);
        if (!done) {
            return false;
        }
    }
    return put_new_fields(into, list, order);
}

/* ------------------------------------------------------------------ documents to be */

static bool put_id(bson_t *into, struct slice document)
{
    bson_iter_t at;
    return bson_iter_init_from_data(&at, document.data, document.size) &&
           bson_iter_find(&at, "_id") && bson_append_iter(into, NULL, 0, &at);
}

/* A filter that says nothing but what some fields equal, each of them once. Depth: bson_check(). */
static bool is_equalities(bson_t *seen, bson_iter_t *at)
{
    while (bson_iter_next(at)) {
        const char *name = bson_iter_key(at);
        bson_iter_t inside;
        bson_iter_t element;
        if (strcmp(name, "$and") == 0 && BSON_ITER_HOLDS_ARRAY(at) &&
            bson_iter_recurse(at, &element)) {
            while (bson_iter_next(&element)) {
                if (!BSON_ITER_HOLDS_DOCUMENT(&element) || !bson_iter_recurse(&element, &inside) ||
                    !is_equalities(seen, &inside)) {
                    return false;
                }
            }
            continue;
        }
        if (name[0] == '$' || strchr(name, '.') != NULL || BSON_ITER_HOLDS_REGEX(at) ||
            !value_is_plain(at) || bson_has_field(seen, name)) {
            return false;
        }
        BSON_APPEND_NULL(seen, name);
    }
    return true;
}

static bool make_base(const struct statement *statement, struct slice key, bson_t *ret_base)
{
    bson_t seen = BSON_INITIALIZER;
    bson_t equalities = BSON_INITIALIZER;
    bson_iter_t at;
    bool made = bson_iter_init_from_data(&at, statement->filter.data, statement->filter.size) &&
                is_equalities(&seen, &at) && put_id(ret_base, key);
    if (made) {
        equality_collect(statement->filter, &equalities);
        made = bson_count_keys(&equalities) == bson_count_keys(&seen) &&
               bson_iter_init(&at, &equalities);
    }
    while (made && bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), "_id") != 0) {
            (void)bson_append_iter(ret_base, NULL, 0, &at);
        }
    }
    bson_destroy(&seen);
    bson_destroy(&equalities);
    return made;
}

static bool ids_are_equal(struct slice a, struct slice b)
{
    bson_t a_id = BSON_INITIALIZER;
    bson_t b_id = BSON_INITIALIZER;
    bool equal = put_id(&a_id, a) && put_id(&b_id, b) && bson_equal(&a_id, &b_id);
    bson_destroy(&a_id);
    bson_destroy(&b_id);
    return equal;
}

static bool replace(const struct statement *statement, struct slice old, bson_t *ret_after)
{
    bson_iter_t at;
    if (!is_plain(statement->update) || !put_id(ret_after, old) ||
        !bson_iter_init_from_data(&at, statement->update.data, statement->update.size)) {
        return false;
    }
    while (bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), "_id") != 0) {
            (void)bson_append_iter(ret_after, NULL, 0, &at);
        } else if (!ids_are_equal(statement->update, old)) {
            return false;
        }
    }
    return true;
}

static bool compute(const struct statement *statement, struct slice before, struct slice key,
                    const struct update_rules *rules, bson_t *ret_after)
{
    bool insert = before.size == 0;
    if (statement->update_is_replacement) {
        return replace(statement, insert ? key : before, ret_after);
    }
    struct change_list changes;
    enum field_order order = insert ? rules->upsert_fields : rules->update_fields;
    if (!collect(statement->update, &changes)) {
        return false;
    }
    if (!insert) {
        drop_insert_only(&changes);
    } else if (order == FIELD_ORDER_UNKNOWN || shares_component(&changes)) {
        return false; /* some servers sort the top level only */
    }
    bson_t base = BSON_INITIALIZER;
    bson_iter_t at;
    bool done = (!insert || make_base(statement, key, &base)) &&
                (insert ? bson_iter_init(&at, &base)
                        : bson_iter_init_from_data(&at, before.data, before.size)) &&
                apply_level(ret_after, &at, &changes, order);
    bson_destroy(&base);
    return done;
}

bool apply_update(const struct statement *statement, struct slice before, struct slice key,
                  const struct update_rules *rules, bson_t *ret_after)
{
    bool possible = statement->kind == STATEMENT_UPDATE && !statement->update_is_pipeline &&
                    statement->array_filters.size == 0 && (before.size == 0 || is_plain(before));
    if (!possible || !compute(statement, before, key, rules, ret_after)) {
        bson_reinit(ret_after);
        return false;
    }
    struct slice after = slice_make(bson_get_data(ret_after), ret_after->len);
    if (after.size > LIMIT_DOCUMENT_BYTES_MAX || !is_plain(after) ||
        bson_check(after, NULL) != STATUS_OK) {
        bson_reinit(ret_after);
        return false;
    }
    return true;
}
