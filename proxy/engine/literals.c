/*
 * Replacing time and random values (literals.h).
 *
 * $literal keeps what is below it from being an expression, and from being replaced.
 */
#include "engine/literals.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/clock.h"
#include "wire/bson_copy.h"

struct replacement {
    unsigned which;
    uint64_t now_ms;
};

/* ------------------------------------------------------------------ finding */

/* False: there is nothing to walk. */
static bool walk(struct slice document, bson_iter_t *at)
{
    return document.size > 0 && bson_iter_init_from_data(at, document.data, document.size);
}

static bool is_container(const bson_iter_t *at)
{
    return BSON_ITER_HOLDS_DOCUMENT(at) || BSON_ITER_HOLDS_ARRAY(at);
}

static bool is_literal_name(const char *name)
{
    return strcmp(name, "$literal") == 0 || strcmp(name, "$const") == 0;
}

static bool is_logical_name(const char *name)
{
    return strcmp(name, "$and") == 0 || strcmp(name, "$or") == 0 || strcmp(name, "$nor") == 0;
}

static unsigned find_in_text(const char *text)
{
    if (strcmp(text, "$$NOW") == 0) {
        return LITERALS_NOW;
    }
    return strncmp(text, "$$CLUSTER_TIME", 14) == 0 ? LITERALS_UNREPEATABLE : 0;
}

static unsigned find_in_name(const char *name)
{
    if (strcmp(name, "$rand") == 0) {
        return LITERALS_RANDOM;
    }
    return strcmp(name, "$function") == 0 || strcmp(name, "$accumulator") == 0
               ? LITERALS_UNREPEATABLE
               : 0;
}

static unsigned find_in_values(bson_iter_t *at)
{
    unsigned found = 0;
    while (bson_iter_next(at)) {
        const char *name = bson_iter_key(at);
        bson_iter_t child;
        if (is_literal_name(name)) {
            continue;
        }
        found |= find_in_name(name);
        if (BSON_ITER_HOLDS_UTF8(at)) {
            found |= find_in_text(bson_iter_utf8(at, NULL));
        } else if (is_container(at) && bson_iter_recurse(at, &child)) {
            found |= find_in_values(&child);
        }
    }
    return found;
}

unsigned literals_find(struct slice expressions)
{
    bson_iter_t at;
    return walk(expressions, &at) ? find_in_values(&at) : 0;
}

/* $expr stands at the top of a filter, or below logical operators there. */
static unsigned find_in_conditions(bson_iter_t *at)
{
    unsigned found = 0;
    while (bson_iter_next(at)) {
        const char *name = bson_iter_key(at);
        bson_iter_t child;
        bson_iter_t element;
        if (strcmp(name, "$sampleRate") == 0) {
            found |= LITERALS_RANDOM;
        } else if (strcmp(name, "$expr") == 0) {
            if (BSON_ITER_HOLDS_UTF8(at)) {
                found |= find_in_text(bson_iter_utf8(at, NULL));
            } else if (is_container(at) && bson_iter_recurse(at, &child)) {
                found |= find_in_values(&child);
            }
        } else if (is_logical_name(name) && is_container(at) && bson_iter_recurse(at, &child)) {
            while (bson_iter_next(&child)) {
                if (is_container(&child) && bson_iter_recurse(&child, &element)) {
                    found |= find_in_conditions(&element);
                }
            }
        }
    }
    return found;
}

unsigned literals_find_in_filter(struct slice filter)
{
    bson_iter_t at;
    return walk(filter, &at) ? find_in_conditions(&at) : 0;
}

/* ------------------------------------------------------------------ replacing */

static void begin(bson_t *into, const bson_iter_t *at, bson_t *child)
{
    const char *name = bson_iter_key(at);
    int size = (int)bson_iter_key_len(at);
    if (BSON_ITER_HOLDS_ARRAY(at)) {
        bson_append_array_begin(into, name, size, child);
    } else {
        bson_append_document_begin(into, name, size, child);
    }
}

static void end(bson_t *into, const bson_iter_t *at, bson_t *child)
{
    if (BSON_ITER_HOLDS_ARRAY(at)) {
        bson_append_array_end(into, child);
    } else {
        bson_append_document_end(into, child);
    }
}

/* At least 0 and below 1, as $rand: 53 bits are what a Double holds. */
static double random_value(void)
{
    uint64_t bits;
    arc4random_buf(&bits, sizeof bits);
    return (double)(bits >> 11) * 0x1p-53;
}

/* An operator is a document of one field. */
static bool is_operator(const bson_iter_t *at, bool (*is_name)(const char *name))
{
    bson_iter_t child;
    return BSON_ITER_HOLDS_DOCUMENT(at) && bson_iter_recurse(at, &child) &&
           bson_iter_next(&child) && is_name(bson_iter_key(&child));
}

static bool is_random_name(const char *name)
{
    return strcmp(name, "$rand") == 0;
}

static void put_values(bson_t *into, bson_iter_t *at, const struct replacement *replacement);

static void put_value(bson_t *into, const bson_iter_t *at, const struct replacement *replacement)
{
    const char *name = bson_iter_key(at);
    int size = (int)bson_iter_key_len(at);
    bson_iter_t child;
    if ((replacement->which & LITERALS_NOW) != 0 && BSON_ITER_HOLDS_UTF8(at) &&
        find_in_text(bson_iter_utf8(at, NULL)) == LITERALS_NOW) {
        bson_append_date_time(into, name, size, (int64_t)replacement->now_ms);
    } else if ((replacement->which & LITERALS_RANDOM) != 0 && is_operator(at, is_random_name)) {
        bson_append_double(into, name, size, random_value());
    } else if (is_container(at) && !is_operator(at, is_literal_name) &&
               bson_iter_recurse(at, &child)) {
        bson_t copy;
        begin(into, at, &copy);
        put_values(&copy, &child, replacement);
        end(into, at, &copy);
    } else {
        bson_copy_element(into, at);
    }
}

static void put_values(bson_t *into, bson_iter_t *at, const struct replacement *replacement)
{
    while (bson_iter_next(at)) {
        put_value(into, at, replacement);
    }
}

bson_t *literals_replace(struct slice expressions, unsigned which, uint64_t now_ms)
{
    struct replacement replacement = {.which = which, .now_ms = now_ms};
    bson_t *copy = bson_new();
    bson_iter_t at;
    if (walk(expressions, &at)) {
        put_values(copy, &at, &replacement);
    }
    return copy;
}

static void put_conditions(bson_t *into, bson_iter_t *at, const struct replacement *replacement)
{
    while (bson_iter_next(at)) {
        const char *name = bson_iter_key(at);
        bson_iter_t child;
        bson_iter_t element;
        if (strcmp(name, "$expr") == 0) {
            put_value(into, at, replacement);
        } else if (is_logical_name(name) && BSON_ITER_HOLDS_ARRAY(at) &&
                   bson_iter_recurse(at, &child)) {
            bson_t copy;
            bson_t part;
            begin(into, at, &copy);
            while (bson_iter_next(&child)) {
                if (is_container(&child) && bson_iter_recurse(&child, &element)) {
                    begin(&copy, &child, &part);
                    put_conditions(&part, &element, replacement);
                    end(&copy, &child, &part);
                } else {
                    bson_copy_element(&copy, &child);
                }
            }
            end(into, at, &copy);
        } else {
            bson_copy_element(into, at);
        }
    }
}

bson_t *literals_replace_in_filter(struct slice filter, unsigned which, uint64_t now_ms)
{
    struct replacement replacement = {.which = which, .now_ms = now_ms};
    bson_t *copy = bson_new();
    bson_iter_t at;
    if (walk(filter, &at)) {
        put_conditions(copy, &at, &replacement);
    }
    return copy;
}

/* ------------------------------------------------------------------ $currentDate */

/* Within a second no two are the same, as with mongod's clock. */
static void put_timestamp(bson_t *into, const char *path, uint64_t now_ms)
{
    static atomic_uint_fast32_t increment;
    uint32_t next = (uint32_t)atomic_fetch_add(&increment, 1) + 1;
    bson_append_timestamp(into, path, -1, (uint32_t)(now_ms / 1000), next == 0 ? 1 : next);
}

/* { path: true | false | {$type: "date"} | {$type: "timestamp"} } */
static bool put_date(bson_t *into, const bson_iter_t *at, uint64_t now_ms)
{
    const char *path = bson_iter_key(at);
    bson_iter_t type;
    const char *name = "date";
    if (BSON_ITER_HOLDS_DOCUMENT(at)) {
        if (!bson_iter_recurse(at, &type) || !bson_iter_next(&type) ||
            strcmp(bson_iter_key(&type), "$type") != 0 || !BSON_ITER_HOLDS_UTF8(&type)) {
            return false;
        }
        name = bson_iter_utf8(&type, NULL);
        if (bson_iter_next(&type)) {
            return false;
        }
    } else if (!BSON_ITER_HOLDS_BOOL(at)) {
        return false;
    }
    if (strcmp(name, "timestamp") == 0) {
        put_timestamp(into, path, now_ms);
        return true;
    }
    bson_append_date_time(into, path, -1, (int64_t)now_ms);
    return strcmp(name, "date") == 0;
}

/* All fields of all operators of that name. */
static bool collect(bson_t *into, struct slice update, const char *operator_name, uint64_t now_ms)
{
    bson_iter_t at;
    bson_iter_t field;
    bool valid = walk(update, &at);
    bool is_date = strcmp(operator_name, "$currentDate") == 0;
    while (valid && bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), operator_name) != 0) {
            continue;
        }
        valid = BSON_ITER_HOLDS_DOCUMENT(&at) && bson_iter_recurse(&at, &field);
        while (valid && bson_iter_next(&field)) {
            valid = is_date ? put_date(into, &field, now_ms) : bson_copy_element(into, &field);
        }
    }
    return valid;
}

bson_t *literals_replace_current_date(struct slice update, uint64_t now_ms)
{
    bson_t fields = BSON_INITIALIZER;
    bson_t *copy = NULL;
    bson_iter_t at;
    if (collect(&fields, update, "$set", now_ms) &&
        collect(&fields, update, "$currentDate", now_ms) && walk(update, &at)) {
        bool put = false;
        copy = bson_new();
        while (bson_iter_next(&at)) {
            const char *name = bson_iter_key(&at);
            if (strcmp(name, "$set") != 0 && strcmp(name, "$currentDate") != 0) {
                bson_copy_element(copy, &at);
            } else if (!put) {
                put = BSON_APPEND_DOCUMENT(copy, "$set", &fields);
            }
        }
    }
    bson_destroy(&fields);
    return copy;
}
