/*
 * Forecasts of keys (unique_forecast.h).
 *
 * The operators become changes of one path each, carried out one after the other on a copy of the
 * fields that matter. A change walks down its path and writes the document anew around it; at an
 * array it leaves the elements as they are and adds what they may become. What the server would
 * refuse stays as it is. Pure.
 */
#include "engine/unique_forecast.h"

#include <limits.h>
#include <string.h>

#include "engine/equality.h"
#include "engine/forecast_number.h"
#include "engine/unique_index.h"

/* Each change may double an array on its path. */
#define GROWTH_BYTES_MAX (1024u * 1024u)
/* A path to an element far behind the end of its array; mongod's own limit is larger. */
#define INDEX_DIGITS_MAX 7

struct change;
typedef bool make_value(const struct change *change, const bson_iter_t *old, bson_t *into,
                        const char *name);

struct change {
    const char *path;
    make_value *make;           /* appends what is there afterwards, or nothing. False: unknown */
    const bson_iter_t *operand; /* of the operator, for the path */
    bool appends;               /* $push */
    unsigned whole_depth;       /* so many names lead to a value that is a key as a whole */
};

/* ------------------------------------------------------------------ appending */

static bool append(bson_t *into, const char *name, const bson_iter_t *value)
{
    return bson_append_iter(into, name, -1, value);
}

/* Elements go behind those that the array has. */
struct elements {
    bson_t array;
    uint32_t count;
};

static const char *next_name(struct elements *elements, char text[16])
{
    const char *name;
    (void)bson_uint32_to_string(elements->count++, &name, text, 16);
    return name;
}

static bool add_element(struct elements *elements, const bson_iter_t *value)
{
    char text[16];
    return append(&elements->array, next_name(elements, text), value);
}

static bool add_null(struct elements *elements)
{
    char text[16];
    return bson_append_null(&elements->array, next_name(elements, text), -1);
}

/* The elements of an array; what is none, itself; NULL: none. */
static bool add_elements(struct elements *elements, const bson_iter_t *value)
{
    bson_iter_t at;
    bool added = true;
    if (value == NULL) {
        return true;
    }
    if (!BSON_ITER_HOLDS_ARRAY(value)) {
        return add_element(elements, value);
    }
    if (!bson_iter_recurse(value, &at)) {
        return false;
    }
    while (added && bson_iter_next(&at)) {
        added = add_element(elements, &at);
    }
    return added;
}

static bool append_elements(bson_t *into, const char *name, struct elements *elements, bool valid)
{
    bool appended = valid && bson_append_array(into, name, -1, &elements->array);
    bson_destroy(&elements->array);
    return appended;
}

static bool keep(const bson_iter_t *old, bson_t *into, const char *name)
{
    return old == NULL || append(into, name, old);
}

/* ------------------------------------------------------------------ operators */

static bool make_set(const struct change *change, const bson_iter_t *old, bson_t *into,
                     const char *name)
{
    (void)old;
    return append(into, name, change->operand);
}

static bool make_unset(const struct change *change, const bson_iter_t *old, bson_t *into,
                       const char *name)
{
    (void)change;
    (void)old;
    (void)into;
    (void)name;
    return true;
}

static bool make_number(const struct change *change, const bson_iter_t *old, bson_t *into,
                        const char *name, enum forecast_number kind)
{
    if (old != NULL && !BSON_ITER_HOLDS_NUMBER(old) && !BSON_ITER_HOLDS_DECIMAL128(old)) {
        return append(into, name, old);
    }
    switch (forecast_number(old, change->operand, kind, into, name)) {
    case FORECAST_NUMBER_DONE:
        return true;
    case FORECAST_NUMBER_REFUSED:
        return keep(old, into, name);
    case FORECAST_NUMBER_UNKNOWN:
        break;
    }
    return false;
}

static bool make_sum(const struct change *change, const bson_iter_t *old, bson_t *into,
                     const char *name)
{
    return make_number(change, old, into, name, FORECAST_NUMBER_ADD);
}

static bool make_product(const struct change *change, const bson_iter_t *old, bson_t *into,
                         const char *name)
{
    return make_number(change, old, into, name, FORECAST_NUMBER_MULTIPLY);
}

/* {and: number}, also several of them, one after the other */
static bool make_bits(const struct change *change, const bson_iter_t *old, bson_t *into,
                      const char *name)
{
    bson_iter_t at;
    int64_t bits = 0;
    if ((old != NULL && !BSON_ITER_HOLDS_INT(old)) || !BSON_ITER_HOLDS_DOCUMENT(change->operand) ||
        !bson_iter_recurse(change->operand, &at)) {
        return keep(old, into, name);
    }
    bits = old == NULL ? 0 : bson_iter_as_int64(old);
    while (bson_iter_next(&at)) {
        int64_t operand = bson_iter_as_int64(&at);
        switch (bson_iter_key(&at)[0]) {
        case 'a':
            bits &= operand;
            break;
        case 'o':
            bits |= operand;
            break;
        default:
            bits ^= operand;
            break;
        }
    }
    return bson_append_int64(into, name, -1, bits);
}

static bool is_empty_array(const bson_iter_t *value)
{
    bson_iter_t at;
    return BSON_ITER_HOLDS_ARRAY(value) && bson_iter_recurse(value, &at) && !bson_iter_next(&at);
}

/* $min, $max: what was there, or the operand. */
static bool make_either(const struct change *change, const bson_iter_t *old, bson_t *into,
                        const char *name)
{
    struct elements elements = {.array = BSON_INITIALIZER};
    if (old == NULL) {
        return append(into, name, change->operand);
    }
    bool valid = add_elements(&elements, old) && add_elements(&elements, change->operand);
    if (is_empty_array(old) || is_empty_array(change->operand)) {
        valid = valid && add_null(&elements);
    }
    return append_elements(into, name, &elements, valid);
}

/* $push and $addToSet, with $each; a $slice may leave nothing. */
static bool make_more(const struct change *change, const bson_iter_t *old, bson_t *into,
                      const char *name)
{
    struct elements elements = {.array = BSON_INITIALIZER};
    bson_iter_t inside;
    bool valid = add_elements(&elements, old);
    if (old != NULL && !BSON_ITER_HOLDS_ARRAY(old)) {
        bson_destroy(&elements.array);
        return append(into, name, old);
    }
    if (BSON_ITER_HOLDS_DOCUMENT(change->operand) && bson_iter_recurse(change->operand, &inside) &&
        bson_iter_find(&inside, "$each")) {
        valid = valid && add_elements(&elements, &inside);
        if (bson_iter_recurse(change->operand, &inside) && bson_iter_find(&inside, "$slice")) {
            valid = valid && add_null(&elements);
        }
    } else {
        valid = valid && add_element(&elements, change->operand);
    }
    return append_elements(into, name, &elements, valid);
}

/* $pull, $pullAll, $pop: some of them are left, perhaps none. */
static bool make_fewer(const struct change *change, const bson_iter_t *old, bson_t *into,
                       const char *name)
{
    struct elements elements = {.array = BSON_INITIALIZER};
    (void)change;
    if (old == NULL || !BSON_ITER_HOLDS_ARRAY(old)) {
        bson_destroy(&elements.array);
        return keep(old, into, name);
    }
    bool valid = add_elements(&elements, old) && add_null(&elements);
    return append_elements(into, name, &elements, valid);
}

/* Whether the value that it makes is the one, not several in an array. */
static bool is_exact(const struct change *change)
{
    bson_iter_t inside;
    if (change->make == make_either || change->make == make_fewer) {
        return false;
    }
    if (change->make != make_more) {
        return true;
    }
    /* A $push that only appends; $addToSet, which may not, is no such one. */
    if (!change->appends) {
        return false;
    }
    if (BSON_ITER_HOLDS_DOCUMENT(change->operand) && bson_iter_recurse(change->operand, &inside) &&
        bson_iter_next(&inside) && bson_iter_key(&inside)[0] == '$') {
        return strcmp(bson_iter_key(&inside), "$each") == 0 && !bson_iter_next(&inside);
    }
    return true;
}

static const struct {
    const char *name;
    make_value *make;
} operators[] = {
    {"$set", make_set},      {"$unset", make_unset}, {"$inc", make_sum},
    {"$mul", make_product},  {"$bit", make_bits},    {"$min", make_either},
    {"$max", make_either},   {"$push", make_more},   {"$addToSet", make_more},
    {"$pushAll", make_more}, {"$pull", make_fewer},  {"$pullAll", make_fewer},
    {"$pop", make_fewer},
};

static make_value *make_of(const char *name)
{
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (strcmp(operators[i].name, name) == 0) {
            return operators[i].make;
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------ the walk down a path */

static bool write_value(const struct change *change, const char *path, const bson_iter_t *old,
                        bson_t *into, const char *name, unsigned depth);

static const char *behind(const char *path)
{
    size_t size = unique_component_size(path);
    return path + size + (path[size] == '.');
}

static bool is_element_number(const char *path, size_t size, uint32_t *ret_number)
{
    uint32_t number = 0;
    if (size == 0 || size > INDEX_DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (path[i] < '0' || path[i] > '9') {
            return false;
        }
        number = number * 10 + (uint32_t)(path[i] - '0');
    }
    *ret_number = number;
    return true;
}

/* The fields of a document, one of them changed. `fields` NULL: it has none. */
static bool write_fields(const struct change *change, const char *path, bson_iter_t *fields,
                         bson_t *into, unsigned depth)
{
    size_t size = unique_component_size(path);
    bool found = false;
    bool written = true;
    while (written && fields != NULL && bson_iter_next(fields)) {
        const char *name = bson_iter_key(fields);
        bool is = !found && strlen(name) == size && memcmp(name, path, size) == 0;
        found = found || is;
        written = is ? write_value(change, behind(path), fields, into, name, depth + 1)
                     : append(into, name, fields);
    }
    if (written && !found) {
        char *name = bson_strndup(path, size);
        written = write_value(change, behind(path), NULL, into, name, depth + 1);
        bson_free(name);
    }
    return written;
}

static bool write_document(const struct change *change, const char *path, const bson_iter_t *old,
                           bson_t *into, const char *name, unsigned depth)
{
    bson_t inside = BSON_INITIALIZER;
    bson_iter_t fields;
    bool written = (old == NULL || bson_iter_recurse(old, &fields)) &&
                   write_fields(change, path, old == NULL ? NULL : &fields, &inside, depth) &&
                   bson_append_document(into, name, -1, &inside);
    bson_destroy(&inside);
    return written;
}

/* What an element may become, or one that is not there. */
static bool write_element(const struct change *change, const char *path, const bson_iter_t *old,
                          struct elements *elements, unsigned depth)
{
    char text[16];
    uint32_t size = elements->array.len;
    if (behind(path)[0] == '\0' && change->make == make_either) {
        return add_element(elements, change->operand); /* the other one is there already */
    }
    bool written = write_value(change, behind(path), old, &elements->array,
                               next_name(elements, text), depth + 1);
    if (elements->array.len == size) {
        elements->count--; /* nothing is left of it */
    }
    return written;
}

/* What the elements may become behind those that are there. */
static bool write_array(const struct change *change, const char *path, const bson_iter_t *old,
                        bson_t *into, const char *name, unsigned depth)
{
    struct elements elements = {.array = BSON_INITIALIZER};
    uint32_t number = 0;
    uint32_t at_number = 0;
    bool one = is_element_number(path, unique_component_size(path), &number);
    bool met = false;
    bson_iter_t at;
    bool written = add_elements(&elements, old) && bson_iter_recurse(old, &at);
    while (written && (one || path[0] == '$') && bson_iter_next(&at)) {
        if (!one || at_number++ == number) {
            met = true;
            written = write_element(change, path, &at, &elements, depth);
        }
    }
    if (written && one && !met) {
        written = write_element(change, path, NULL, &elements, depth);
    }
    /* In an array what is unset, or is before the one that is set, is null. */
    if (change->make == make_unset || (one && !met)) {
        written = written && add_null(&elements);
    }
    return append_elements(into, name, &elements, written);
}

static bool write_value(const struct change *change, const char *path, const bson_iter_t *old,
                        bson_t *into, const char *name, unsigned depth)
{
    bool is_array = old != NULL && path[0] != '\0' && BSON_ITER_HOLDS_ARRAY(old);
    if (depth > UNIQUE_FORECAST_DEPTH_MAX ||
        (depth > change->whole_depth && (is_array || !is_exact(change)))) {
        return false;
    }
    if (path[0] == '\0') {
        return change->make(change, old, into, name);
    }
    if ((old == NULL && change->make == make_unset) || (path[0] == '$' && !is_array)) {
        return keep(old, into, name); /* nothing is there, or no elements to choose from */
    }
    if (old == NULL || BSON_ITER_HOLDS_DOCUMENT(old)) {
        return write_document(change, path, old, into, name, depth);
    }
    if (is_array) {
        return write_array(change, path, old, into, name, depth);
    }
    return append(into, name, old); /* a path through a scalar is refused */
}

/* ------------------------------------------------------------------ the changes of an update */

struct forecast {
    const struct unique_indexes *indexes;
    struct slice before;
    bson_t *document;
    size_t size_max;
    bool insert;
    bool makes_base; /* of which all fields matter: they may be renamed */
    bool has_whole;  /* a change below a key that is a whole value */
};

/* "$", "$[]", "$[name]", "0": of an array's elements, and in no path of an index. */
static bool is_of_elements(const char *path)
{
    size_t size = unique_component_size(path);
    return path[0] == '$' || (size > 0 && strspn(path, "0123456789") == size);
}

/* After how many of the path's names the index's own path is at its end, with some left; UINT_MAX:
   never. */
static unsigned whole_depth_in(const char *index_path, const char *path)
{
    unsigned depth = 0;
    while (path[0] != '\0' && index_path[0] != '\0') {
        size_t size = unique_component_size(path);
        bool same =
            size == unique_component_size(index_path) && memcmp(path, index_path, size) == 0;
        if (same) {
            index_path = behind(index_path);
        } else if (!is_of_elements(path)) {
            return UINT_MAX;
        }
        path = behind(path);
        depth++;
    }
    return path[0] != '\0' && index_path[0] == '\0' ? depth : UINT_MAX;
}

static unsigned whole_depth_of(const struct unique_indexes *indexes, const char *path)
{
    unsigned least = UINT_MAX;
    for (size_t i = 0; i < indexes->count; i++) {
        const struct unique_index *index = &indexes->items[i];
        for (size_t k = 0; k < index->path_count && !index->whole; k++) {
            unsigned depth = whole_depth_in(index->paths[k], path);
            least = depth < least ? depth : least;
        }
    }
    return least;
}

static bool carry_out(struct forecast *forecast, struct change change)
{
    bson_t next = BSON_INITIALIZER;
    bson_iter_t fields;
    if (!forecast->makes_base && !unique_indexes_depend_on(forecast->indexes, change.path)) {
        bson_destroy(&next);
        return true;
    }
    change.whole_depth = whole_depth_of(forecast->indexes, change.path);
    bool is_whole = change.whole_depth != UINT_MAX;
    /* Of two the order in which new fields stand is the server's. */
    bool done = !(is_whole && forecast->has_whole) && bson_iter_init(&fields, forecast->document) &&
                write_fields(&change, change.path, &fields, &next, 0) &&
                next.len <= forecast->size_max;
    forecast->has_whole = forecast->has_whole || is_whole;
    if (done) {
        bson_reinit(forecast->document);
        done = bson_concat(forecast->document, &next);
    }
    bson_destroy(&next);
    return done;
}

/* What the path leads to through documents only. */
static bool find_value(struct slice document, const char *path, bson_iter_t *ret_value)
{
    bson_iter_t at;
    bool found = bson_iter_init_from_data(&at, document.data, document.size);
    while (found && bson_iter_find_w_len(&at, path, (int)unique_component_size(path))) {
        path = behind(path);
        if (path[0] == '\0') {
            *ret_value = at;
            return true;
        }
        bson_iter_t inside;
        found = BSON_ITER_HOLDS_DOCUMENT(&at) && bson_iter_recurse(&at, &inside);
        if (found) {
            at = inside;
        }
    }
    return false;
}

static bool rename_field(struct forecast *forecast, const bson_iter_t *at)
{
    bson_iter_t value;
    const char *from = bson_iter_key(at);
    if (!BSON_ITER_HOLDS_UTF8(at) || !find_value(forecast->before, from, &value)) {
        return true;
    }
    const struct change leave = {.path = from, .make = make_unset};
    const struct change arrive = {
        .path = bson_iter_utf8(at, NULL), .make = make_set, .operand = &value};
    return carry_out(forecast, leave) && carry_out(forecast, arrive);
}

/* One operator: {path: operand ...}. */
static bool carry_out_all(struct forecast *forecast, const bson_iter_t *operands)
{
    const char *name = bson_iter_key(operands);
    bson_iter_t at;
    if (!BSON_ITER_HOLDS_DOCUMENT(operands) || !bson_iter_recurse(operands, &at)) {
        return false;
    }
    bool appends = strcmp(name, "$push") == 0;
    bool is_rename = strcmp(name, "$rename") == 0;
    bool at_insert_only = strcmp(name, "$setOnInsert") == 0;
    make_value *make = at_insert_only ? make_set : make_of(name);
    if (at_insert_only && !forecast->insert) {
        return true;
    }
    bool done = is_rename || make != NULL;
    while (done && bson_iter_next(&at)) {
        const struct change change = {
            .path = bson_iter_key(&at), .make = make, .operand = &at, .appends = appends};
        done = is_rename ? rename_field(forecast, &at) : carry_out(forecast, change);
    }
    return done;
}

/* The fields of the document that matter. */
static bool begin(struct forecast *forecast)
{
    bson_iter_t at;
    bool begun = bson_iter_init_from_data(&at, forecast->before.data, forecast->before.size);
    while (begun && bson_iter_next(&at)) {
        if (unique_indexes_depend_on(forecast->indexes, bson_iter_key(&at))) {
            begun = append(forecast->document, bson_iter_key(&at), &at);
        }
    }
    return begun;
}

/* An upsert's document begins with its _id, and what its filter says must be equal. */
static bool make_base(struct forecast *forecast, const struct statement *statement,
                      struct slice key, bson_t *base)
{
    bson_t equalities = BSON_INITIALIZER;
    bson_iter_t at;
    bool made = bson_iter_init_from_data(&at, key.data, key.size) && bson_iter_find(&at, "_id") &&
                append(base, "_id", &at);
    equality_collect(statement->filter, &equalities);
    forecast->document = base;
    made = made && bson_iter_init(&at, &equalities);
    while (made && bson_iter_next(&at)) {
        const struct change change = {.path = bson_iter_key(&at), .make = make_set, .operand = &at};
        made = strcmp(change.path, "_id") == 0 || carry_out(forecast, change);
    }
    bson_destroy(&equalities);
    return made;
}

static bool carry_out_update(struct forecast *forecast, struct slice update, bson_t *document)
{
    bson_iter_t at;
    forecast->document = document;
    bool done = begin(forecast) && bson_iter_init_from_data(&at, update.data, update.size);
    while (done && bson_iter_next(&at)) {
        done = carry_out_all(forecast, &at);
    }
    return done;
}

bool unique_forecast(const struct unique_indexes *indexes, const struct statement *statement,
                     struct slice before, struct slice key, bson_t *ret_forecast)
{
    struct forecast forecast = {
        .indexes = indexes,
        .before = before,
        .insert = before.size == 0,
        .size_max =
            before.size + statement->filter.size + statement->update.size + GROWTH_BYTES_MAX,
    };
    bson_t base = BSON_INITIALIZER;
    bool done = true;
    if (forecast.insert) {
        forecast.makes_base = true;
        done = make_base(&forecast, statement, key, &base);
        forecast.makes_base = false;
        forecast.before = slice_make(bson_get_data(&base), base.len);
    }
    done = done && carry_out_update(&forecast, statement->update, ret_forecast);
    bson_destroy(&base);
    if (!done) {
        bson_reinit(ret_forecast);
    }
    return done;
}
