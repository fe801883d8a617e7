/* Filters and updates of the simulated server and of the model; see database.h. Pure. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "database.h"

#define FIELDS_MAX 128

bool operators_id(const bson_t *document, bson_iter_t *ret_id)
{
    return bson_iter_init_find(ret_id, document, "_id");
}

/* Type and bytes of the value that the iterator is at. */
static const uint8_t *value_bytes(const bson_iter_t *at, uint32_t *ret_size)
{
    uint32_t start = at->off + 1 + bson_iter_key_len(at) + 1;
    *ret_size = at->next_off - start;
    return at->raw + start;
}

bool operators_same_value(const bson_iter_t *a, const bson_iter_t *b)
{
    uint32_t size_a;
    uint32_t size_b;
    const uint8_t *bytes_a = value_bytes(a, &size_a);
    const uint8_t *bytes_b = value_bytes(b, &size_b);
    if (BSON_ITER_HOLDS_INT(a) && BSON_ITER_HOLDS_INT(b)) {
        return bson_iter_as_int64(a) == bson_iter_as_int64(b);
    }
    return bson_iter_type(a) == bson_iter_type(b) && size_a == size_b &&
           memcmp(bytes_a, bytes_b, size_a) == 0;
}

static bool view(const bson_iter_t *at, bson_t *ret_document)
{
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (BSON_ITER_HOLDS_DOCUMENT(at)) {
        bson_iter_document(at, &size, &data);
    } else if (BSON_ITER_HOLDS_ARRAY(at)) {
        bson_iter_array(at, &size, &data);
    }
    return data != NULL && bson_init_static(ret_document, data, size);
}

/* ------------------------------------------------------------------ expressions */

/* What an operand of an expression is: $$ROOT or a literal. */
static bool operand(const bson_t *root, const bson_iter_t *at, bson_t *ret_value)
{
    bson_t inside;
    bson_iter_t literal;
    if (BSON_ITER_HOLDS_UTF8(at) && strcmp(bson_iter_utf8(at, NULL), "$$ROOT") == 0) {
        return bson_init_static(ret_value, bson_get_data(root), root->len);
    }
    return view(at, &inside) && bson_iter_init_find(&literal, &inside, "$literal") &&
           view(&literal, ret_value);
}

/* {$eq: [a, b]} and {$in: [a, [b, ...]]} of whole documents. */
static bool condition_holds(const bson_t *root, const bson_iter_t *expression,
                            const char **ret_unknown)
{
    bson_iter_t operator;
    bson_iter_t at;
    bson_t first;
    bson_t second;
    if (!bson_iter_recurse(expression, &operator) || !bson_iter_next(&operator) ||
        !bson_iter_recurse(&operator, & at) || !bson_iter_next(&at) ||
        !operand(root, &at, &first) || !bson_iter_next(&at) || !operand(root, &at, &second)) {
        *ret_unknown = "$expr";
        return false;
    }
    if (strcmp(bson_iter_key(&operator), "$eq") == 0) {
        return bson_equal(&first, &second);
    }
    bool found = false;
    bson_iter_t element;
    bson_t document;
    if (strcmp(bson_iter_key(&operator), "$in") != 0 || !bson_iter_init(&element, &second)) {
        *ret_unknown = "$expr";
        return false;
    }
    while (bson_iter_next(&element)) {
        found = found || (view(&element, &document) && bson_equal(&first, &document));
    }
    return found;
}

/* ------------------------------------------------------------------ filters */

static bool value_in(const bson_iter_t *value, const bson_iter_t *list)
{
    bson_iter_t at;
    bool found = false;
    if (value == NULL || !bson_iter_recurse(list, &at)) {
        return false;
    }
    while (bson_iter_next(&at)) {
        found = found || operators_same_value(value, &at);
    }
    return found;
}

/* {path: {$operator: operand ...}}; `value` NULL: there is none. */
static bool operators_hold(const bson_iter_t *value, const bson_iter_t *condition,
                           const char **ret_unknown)
{
    bson_iter_t at;
    bool holds = bson_iter_recurse(condition, &at);
    while (holds && bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        if (strcmp(name, "$eq") == 0) {
            holds = value != NULL && operators_same_value(value, &at);
        } else if (strcmp(name, "$in") == 0) {
            holds = value_in(value, &at);
        } else if (strcmp(name, "$exists") == 0) {
            holds = (value != NULL) == bson_iter_as_bool(&at);
        } else {
            *ret_unknown = "an operator of a filter";
            return false;
        }
    }
    return holds;
}

static bool field_matches(const bson_t *document, const bson_iter_t *condition,
                          const char **ret_unknown)
{
    bson_iter_t found;
    bson_iter_t inside;
    bool is = bson_iter_init_find(&found, document, bson_iter_key(condition));
    if (BSON_ITER_HOLDS_DOCUMENT(condition) && bson_iter_recurse(condition, &inside) &&
        bson_iter_next(&inside) && bson_iter_key(&inside)[0] == '$') {
        return operators_hold(is ? &found : NULL, condition, ret_unknown);
    }
    return is && operators_same_value(&found, condition);
}

/* How many of the filters in the array select it; *ret_count: of how many. */
static size_t count_matches(const bson_t *document, const bson_iter_t *list, size_t *ret_count,
                            const char **ret_unknown)
{
    bson_iter_t at;
    bson_t filter;
    size_t matches = 0;
    *ret_count = 0;
    (void)bson_iter_recurse(list, &at);
    while (bson_iter_next(&at)) {
        ++*ret_count;
        matches += view(&at, &filter) && operators_match(document, &filter, ret_unknown) ? 1 : 0;
    }
    return matches;
}

bool operators_match(const bson_t *document, const bson_t *filter, const char **ret_unknown)
{
    bson_iter_t at;
    bool matches = bson_iter_init(&at, filter);
    while (matches && bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        size_t count = 0;
        if (strcmp(name, "$and") == 0) {
            size_t met = count_matches(document, &at, &count, ret_unknown);
            matches = met == count;
        } else if (strcmp(name, "$nor") == 0) {
            matches = count_matches(document, &at, &count, ret_unknown) == 0;
        } else if (strcmp(name, "$expr") == 0) {
            matches = condition_holds(document, &at, ret_unknown);
        } else if (name[0] == '$') {
            *ret_unknown = "an operator at the top of a filter";
            return false;
        } else {
            matches = field_matches(document, &at, ret_unknown);
        }
    }
    return matches;
}

/* ------------------------------------------------------------------ updates */

/* A document that is being made: fields in their order. */
struct draft {
    struct {
        char name[32];
        bson_value_t value;
    } fields[FIELDS_MAX];
    size_t count;
    size_t sorted_from; /* new fields behind here are put in the order of their names */
};

static size_t draft_find(const struct draft *draft, const char *name)
{
    size_t at = 0;
    while (at < draft->count && strcmp(draft->fields[at].name, name) != 0) {
        at++;
    }
    return at;
}

static void draft_set(struct draft *draft, const char *name, const bson_value_t *value)
{
    bson_value_t copy;
    bson_value_copy(value, &copy);
    size_t at = draft_find(draft, name);
    if (at < draft->count) {
        bson_value_destroy(&draft->fields[at].value);
    } else {
        assert(draft->count < FIELDS_MAX && strlen(name) < sizeof draft->fields[0].name);
        while (at > draft->sorted_from && strcmp(draft->fields[at - 1].name, name) > 0) {
            draft->fields[at] = draft->fields[at - 1];
            at--;
        }
        (void)strcpy(draft->fields[at].name, name);
        draft->count++;
    }
    draft->fields[at].value = copy;
}

static void draft_unset(struct draft *draft, const char *name)
{
    size_t at = draft_find(draft, name);
    if (at < draft->count) {
        bson_value_destroy(&draft->fields[at].value);
        draft->count--;
        memmove(&draft->fields[at], &draft->fields[at + 1],
                (draft->count - at) * sizeof draft->fields[0]);
        draft->sorted_from -= at < draft->sorted_from ? 1 : 0;
    }
}

static void draft_take(struct draft *draft, const bson_t *document)
{
    bson_iter_t at;
    (void)bson_iter_init(&at, document);
    while (bson_iter_next(&at)) {
        draft->sorted_from = draft->count;
        draft_set(draft, bson_iter_key(&at), bson_iter_value(&at));
    }
    draft->sorted_from = draft->count;
}

static bson_t *draft_make(struct draft *draft)
{
    bson_t *document = bson_new();
    for (size_t i = 0; i < draft->count; i++) {
        bson_append_value(document, draft->fields[i].name, -1, &draft->fields[i].value);
        bson_value_destroy(&draft->fields[i].value);
    }
    return document;
}

static void increment(struct draft *draft, const char *name, const bson_iter_t *by)
{
    size_t at = draft_find(draft, name);
    int64_t sum = bson_iter_as_int64(by);
    if (at < draft->count) {
        assert(draft->fields[at].value.value_type == BSON_TYPE_INT32);
        sum += draft->fields[at].value.value.v_int32;
    }
    bson_value_t value = {.value_type = BSON_TYPE_INT32, .value.v_int32 = (int32_t)sum};
    draft_set(draft, name, &value);
}

static void push(struct draft *draft, const char *name, const bson_iter_t *element)
{
    bson_t array = BSON_INITIALIZER;
    char key[16];
    const char *index;
    size_t at = draft_find(draft, name);
    if (at < draft->count) {
        bson_t old;
        const bson_value_t *value = &draft->fields[at].value;
        assert(value->value_type == BSON_TYPE_ARRAY);
        (void)bson_init_static(&old, value->value.v_doc.data, value->value.v_doc.data_len);
        bson_concat(&array, &old);
    }
    (void)bson_uint32_to_string(bson_count_keys(&array), &index, key, sizeof key);
    bson_append_iter(&array, index, -1, element);
    bson_value_t value = {.value_type = BSON_TYPE_ARRAY,
                          .value.v_doc = {.data = (uint8_t *)(uintptr_t)bson_get_data(&array),
                                          .data_len = array.len}};
    draft_set(draft, name, &value);
    bson_destroy(&array);
}

static void apply_operator(struct draft *draft, const char *operator, const bson_iter_t * field,
                           bool inserts, int64_t now_ms, const char **ret_unknown)
{
    const char *name = bson_iter_key(field);
    bson_iter_t value = *field;
    if (strcmp(operator, "$set") == 0) {
        draft_set(draft, name, bson_iter_value(&value));
    } else if (strcmp(operator, "$setOnInsert") == 0) {
        if (inserts) {
            draft_set(draft, name, bson_iter_value(&value));
        }
    } else if (strcmp(operator, "$unset") == 0) {
        draft_unset(draft, name);
    } else if (strcmp(operator, "$inc") == 0) {
        increment(draft, name, field);
    } else if (strcmp(operator, "$push") == 0) {
        push(draft, name, field);
    } else if (strcmp(operator, "$currentDate") == 0) {
        bson_value_t date = {.value_type = BSON_TYPE_DATE_TIME, .value.v_datetime = now_ms};
        draft_set(draft, name, &date);
    } else {
        *ret_unknown = "an operator of an update";
    }
}

static void apply_operators(struct draft *draft, const bson_iter_t *update, bool inserts,
                            int64_t now_ms, const char **ret_unknown)
{
    bson_iter_t operator;
    bson_iter_t field;
    (void)bson_iter_recurse(update, &operator);
    while (bson_iter_next(&operator)) {
        if (!bson_iter_recurse(&operator, & field)) {
            *ret_unknown = "an update";
            return;
        }
        while (bson_iter_next(&field)) {
            apply_operator(draft, bson_iter_key(&operator), &field, inserts, now_ms, ret_unknown);
        }
    }
}

/* Equalities of a filter, also within $and, become fields of a document that an upsert makes. */
static void take_equalities(struct draft *draft, const bson_t *filter)
{
    bson_iter_t at;
    bson_iter_t inside;
    bson_t part;
    (void)bson_iter_init(&at, filter);
    while (bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), "$and") == 0) {
            (void)bson_iter_recurse(&at, &inside);
            while (bson_iter_next(&inside)) {
                if (view(&inside, &part)) {
                    take_equalities(draft, &part);
                }
            }
        } else if (bson_iter_key(&at)[0] != '$' && !BSON_ITER_HOLDS_DOCUMENT(&at)) {
            draft->sorted_from = draft->count > 0 ? 1 : 0; /* behind _id */
            if (strcmp(bson_iter_key(&at), "_id") == 0) {
                draft->sorted_from = 0;
            }
            draft_set(draft, bson_iter_key(&at), bson_iter_value(&at));
        }
    }
}

/* [ {$replaceWith: expression} ] with a literal, $$ROOT or a $cond of those. */
static bson_t *apply_pipeline(const bson_t *before, const bson_iter_t *update,
                              const char **ret_unknown)
{
    static const bson_t nothing = BSON_INITIALIZER;
    const bson_t *root = before == NULL ? &nothing : before;
    bson_iter_t stage;
    bson_iter_t expression;
    bson_iter_t branches;
    bson_t value;
    bson_iter_t condition;
    if (!bson_iter_recurse(update, &stage) || !bson_iter_next(&stage) ||
        !bson_iter_recurse(&stage, &expression) || !bson_iter_next(&expression) ||
        strcmp(bson_iter_key(&expression), "$replaceWith") != 0) {
        *ret_unknown = "a pipeline";
        return NULL;
    }
    if (operand(root, &expression, &value)) {
        return bson_copy(&value);
    }
    if (!bson_iter_recurse(&expression, &condition) || !bson_iter_next(&condition) ||
        strcmp(bson_iter_key(&condition), "$cond") != 0 ||
        !bson_iter_recurse(&condition, &branches) || !bson_iter_next(&branches)) {
        *ret_unknown = "a pipeline";
        return NULL;
    }
    bool holds = condition_holds(root, &branches, ret_unknown);
    (void)bson_iter_next(&branches);
    if (!holds) {
        (void)bson_iter_next(&branches);
    }
    if (!operand(root, &branches, &value)) {
        *ret_unknown = "a branch of $cond";
        return NULL;
    }
    return bson_copy(&value);
}

bson_t *operators_apply(const bson_t *before, const bson_t *filter, const bson_iter_t *update,
                        int64_t now_ms, const char **ret_unknown)
{
    bson_iter_t first;
    bson_iter_t id;
    if (BSON_ITER_HOLDS_ARRAY(update)) {
        return apply_pipeline(before, update, ret_unknown);
    }
    struct draft *draft = sim_malloc(sizeof *draft);
    bool operators = bson_iter_recurse(update, &first) && bson_iter_next(&first) &&
                     bson_iter_key(&first)[0] == '$';
    if (before != NULL && operators) {
        draft_take(draft, before);
    } else if (before != NULL && operators_id(before, &id)) {
        draft_set(draft, "_id", bson_iter_value(&id));
    } else if (before == NULL) {
        take_equalities(draft, filter);
    }
    draft->sorted_from = draft->count;
    if (operators) {
        apply_operators(draft, update, before == NULL, now_ms, ret_unknown);
    } else {
        bson_iter_t field;
        (void)bson_iter_recurse(update, &field);
        while (bson_iter_next(&field)) {
            draft->sorted_from = draft->count;
            draft_set(draft, bson_iter_key(&field), bson_iter_value(&field));
        }
    }
    bson_t *after = draft_make(draft);
    sim_free(draft);
    return after;
}
