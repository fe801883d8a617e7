/*
 * Reads as aggregations: the commands that come of it, and, with an evaluator of the few operators
 * of the exclusion as the judge, that exactly the given _ids are left out.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "read/rewrite.h"
#include "wire/bson_check.h"

static bson_t *from_json(const char *json)
{
    bson_error_t error;
    char *text = bson_strdup(json);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    bson_t *document = bson_new_from_json((const uint8_t *)text, -1, &error);
    if (document == NULL) {
        fail_msg("%s: %s", json, error.message);
    }
    bson_free(text);
    return document;
}

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

static void parse(const bson_t *body, struct command_view *view, struct read_command *command)
{
    assert_int_equal(command_view_parse(slice_of(body), view, NULL), STATUS_OK);
    assert_int_equal(read_command_parse(view, command), STATUS_OK);
}

/* ------------------------------------------------------------------ commands */

#define OVERLAY_START "{'$match': {'$and': ["
#define LITERALS                                                                                   \
    "{'$match': {'_id': {'$in': []}}}, {'$facet': {'images': [{'$limit': 1}]}}, "                  \
    "{'$project': {'images': {'$literal': [[{'_id': 2, 'a': 5}]]}}}, {'$unwind': '$images'}, "     \
    "{'$unwind': '$images'}, {'$replaceRoot': {'newRoot': '$images'}}"

static const struct {
    const char *command;
    const char *wanted;
    struct rewrite_options options;
} rewrites[] = {
    {"{'find': 'c', 'filter': {'a': 5}, 'sort': {'a': -1}, 'skip': 1, 'limit': 3, "
     "'projection': {'a': 1}, 'hint': 'h', 'lsid': {'id': 1}, '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" OVERLAY_START
     "{'a': 5}, {'_id': {'$nin': [1, 2]}}]}}, {'$sort': {'a': -1}}, {'$limit': 4}, "
     "{'$unionWith': {'coll': 'c', 'pipeline': [" LITERALS
     ", {'$match': {'$and': [{'a': 5}]}}]}}, {'$sort': {'a': -1}}, {'$skip': 1}, {'$limit': 3}, "
     "{'$project': {'a': 1}}], 'cursor': {'batchSize': 4}, 'hint': 'h', 'lsid': {'id': 1}, "
     "'$db': 'd'}",
     {0}},
    {"{'find': 'c', 'batchSize': 2, 'singleBatch': true, 'maxTimeMS': 9, '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" OVERLAY_START
     "{'_id': {'$nin': [1, 2]}}]}}, {'$limit': 2}, {'$unionWith': {'coll': 'c', 'pipeline': "
     "[" LITERALS "]}}, {'$limit': 2}], 'cursor': {'batchSize': 3}, '$db': 'd', 'maxTimeMS': 7}",
     {.max_time_ms = 7}},
    {"{'find': 'c', 'skip': 1, 'limit': {'$numberLong': '9223372036854775807'}, "
     "'batchSize': {'$numberLong': '9223372036854775807'}, '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" OVERLAY_START
     "{'_id': {'$nin': [1, 2]}}]}}, {'$unionWith': {'coll': 'c', 'pipeline': [" LITERALS
     "]}}, {'$skip': 1}, {'$limit': 9223372036854775807}], 'cursor': {'batchSize': "
     "9223372036854775807}, "
     "'$db': 'd'}",
     {0}},
    {"{'find': 'c', 'filter': {'_id': 2}, 'txnNumber': 1, 'autocommit': false, '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" LITERALS
     ", {'$match': {'$and': [{'_id': 2}]}}], 'cursor': {}, '$db': 'd'}",
     {.in_unit = true, .only_images = true}},
    {"{'aggregate': 'c', 'pipeline': [], 'cursor': {}, '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" OVERLAY_START
     "{'_id': {'$nin': [1, 2]}}]}}, {'$unionWith': {'coll': 'c', 'pipeline': [" LITERALS
     "]}}], '$db': 'd', 'cursor': {'batchSize': 2147483647}}",
     {.whole = true}},
    {"{'find': 'c', '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" OVERLAY_START
     "{'_id': {'$nin': [1, 2]}}]}}, {'$unionWith': {'coll': 'c', 'pipeline': [" LITERALS
     "]}}], 'cursor': {'batchSize': 2147483647}, '$db': 'd'}",
     {.whole = true}},
    {"{'count': 'c', 'query': {'a': 5}, 'skip': 1, 'limit': -2, '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" OVERLAY_START
     "{'a': 5}, {'_id': {'$nin': [1, 2]}}]}}, {'$unionWith': {'coll': 'c', 'pipeline': [" LITERALS
     ", {'$match': {'$and': [{'a': 5}]}}]}}, {'$skip': 1}, {'$limit': 2}, "
     "{'$group': {'_id': null, 'n': {'$sum': 1}}}], 'cursor': {}, '$db': 'd'}",
     {0}},
    {"{'distinct': 'c', 'key': 'a.b', '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" OVERLAY_START
     "{'_id': {'$nin': [1, 2]}}]}}, {'$unionWith': {'coll': 'c', 'pipeline': [" LITERALS
     "]}}, {'$unwind': {'path': '$a', 'preserveNullAndEmptyArrays': true}}, "
     "{'$match': {'$expr': {'$eq': [{'$type': '$a'}, 'object']}}}, "
     "{'$unwind': {'path': '$a.b', 'preserveNullAndEmptyArrays': true}}, "
     "{'$group': {'_id': null, 'values': {'$addToSet': '$a.b'}}}], 'cursor': {}, '$db': 'd'}",
     {0}},
    {"{'aggregate': 'c', 'pipeline': [{'$match': {'a': 5}}, {'$match': {'b': 1}}, {'$count': 'n'}, "
     "{'$match': {'n': 1}}], 'cursor': {'batchSize': 5}, '$db': 'd'}",
     "{'aggregate': 'c', 'pipeline': [" OVERLAY_START
     "{'a': 5}, {'b': 1}, {'_id': {'$nin': [1, 2]}}]}}, {'$unionWith': {'coll': 'c', 'pipeline': "
     "[" LITERALS ", {'$match': {'$and': [{'a': 5}, {'b': 1}]}}]}}, {'$count': 'n'}, "
     "{'$match': {'n': 1}}], 'cursor': {'batchSize': 5}, '$db': 'd'}",
     {0}},
};

static void test_commands(void **state)
{
    (void)state;
    bson_t *keys[] = {from_json("{'_id': 1}"), from_json("{'_id': 2}")};
    bson_t *image = from_json("{'_id': 2, 'a': 5}");
    const struct overlay_image images[] = {
        {.key = slice_of(keys[0])},
        {.key = slice_of(keys[1]), .document = slice_of(image)},
    };
    for (size_t i = 0; i < sizeof rewrites / sizeof rewrites[0]; i++) {
        struct command_view view;
        struct read_command command;
        bson_t *body = from_json(rewrites[i].command);
        bson_t *wanted = from_json(rewrites[i].wanted);
        bson_t made;
        parse(body, &view, &command);
        assert_int_equal(rewrite_read(&command, images, 2, &rewrites[i].options, &made), STATUS_OK);
        assert_int_equal(bson_check(slice_of(&made), NULL), STATUS_OK);
        char *text = bson_as_relaxed_extended_json(&made, NULL);
        char *wanted_text = bson_as_relaxed_extended_json(wanted, NULL);
        assert_string_equal(text, wanted_text);
        bson_free(text);
        bson_free(wanted_text);
        bson_destroy(&made);
        bson_destroy(wanted);
        bson_destroy(body);
    }
    bson_destroy(keys[0]);
    bson_destroy(keys[1]);
    bson_destroy(image);
}

static void test_what_does_not_go(void **state)
{
    (void)state;
    bson_t *body = from_json("{'count': 'c', 'collation': {'locale': 'en'}, '$db': 'd'}");
    bson_t *text_key = from_json("{'_id': {'a': ['x']}}");
    bson_t *number_key = from_json("{'_id': 1}");
    struct command_view view;
    struct read_command command;
    bson_t made;
    const struct rewrite_options options = {0};
    parse(body, &view, &command);
    struct overlay_image image = {.key = slice_of(text_key)};
    assert_int_equal(rewrite_read(&command, &image, 1, &options, &made), STATUS_UNSUPPORTED);
    uint8_t *large = calloc(1, REWRITE_BYTES_MAX);
    assert_non_null(large);
    image = (struct overlay_image){.key = slice_of(number_key),
                                   .document = slice_make(large, REWRITE_BYTES_MAX)};
    assert_int_equal(rewrite_read(&command, &image, 1, &options, &made), STATUS_LIMIT);
    free(large);
    bson_destroy(body);
    bson_destroy(text_key);
    bson_destroy(number_key);
}

static void test_replies(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        const char *reply;
        const char *wanted;
    } cases[] = {
        {"{'count': 'c', '$db': 'd'}",
         "{'cursor': {'firstBatch': [{'_id': null, 'n': 3}], 'id': {'$numberLong': '0'}, 'ns': "
         "'d.c'}, 'ok': 1.0}",
         "{'n': 3, 'ok': 1.0}"},
        {"{'count': 'c', '$db': 'd'}",
         "{'cursor': {'firstBatch': [], 'id': {'$numberLong': '0'}}, 'ok': 1.0, 't': 1}",
         "{'n': 0, 'ok': 1.0, 't': 1}"},
        {"{'distinct': 'c', 'key': 'a', '$db': 'd'}",
         "{'cursor': {'firstBatch': [{'_id': null, 'values': [1, 'x']}], 'id': {'$numberLong': "
         "'0'}}, 'ok': 1.0}",
         "{'values': [1, 'x'], 'ok': 1.0}"},
        {"{'distinct': 'c', 'key': 'a', '$db': 'd'}",
         "{'cursor': {'firstBatch': [], 'id': {'$numberLong': '0'}}, 'ok': 1.0}",
         "{'values': [], 'ok': 1.0}"},
        {"{'find': 'c', '$db': 'd'}",
         "{'cursor': {'firstBatch': [{'_id': 1}], 'id': {'$numberLong': '0'}}, 'ok': 1.0}",
         "{'cursor': {'firstBatch': [{'_id': 1}], 'id': {'$numberLong': '0'}}, 'ok': 1.0}"},
        {"{'find': 'c', '$db': 'd'}", "{'value': 1, 'ok': 1.0}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct command_view view;
        struct read_command command;
        bson_t *body = from_json(cases[i].command);
        bson_t *reply = from_json(cases[i].reply);
        bson_t answer = BSON_INITIALIZER;
        parse(body, &view, &command);
        enum status status = rewrite_reply(&command, slice_of(reply), &answer);
        assert_int_equal(status, cases[i].wanted == NULL ? STATUS_PROTOCOL : STATUS_OK);
        if (cases[i].wanted != NULL) {
            bson_t *wanted = from_json(cases[i].wanted);
            assert_true(slice_equal(slice_of(&answer), slice_of(wanted)));
            bson_destroy(wanted);
        }
        bson_destroy(&answer);
        bson_destroy(reply);
        bson_destroy(body);
    }
}

/* ------------------------------------------------------------------ who is left out */

static int compare(const bson_iter_t *left, const bson_iter_t *right)
{
    if (BSON_ITER_HOLDS_OID(left) || BSON_ITER_HOLDS_OID(right)) {
        if (!BSON_ITER_HOLDS_OID(left) || !BSON_ITER_HOLDS_OID(right)) {
            return BSON_ITER_HOLDS_OID(left) ? 1 : -1; /* numbers come before ObjectIds */
        }
        return bson_oid_compare(bson_iter_oid(left), bson_iter_oid(right));
    }
    int64_t a = bson_iter_as_int64(left);
    int64_t b = bson_iter_as_int64(right);
    return (a > b) - (a < b);
}

static bool is_in(bson_iter_t list, const bson_iter_t *id)
{
    bson_iter_t at;
    assert_true(bson_iter_recurse(&list, &at));
    while (bson_iter_next(&at)) {
        if (compare(&at, id) == 0) {
            return true;
        }
    }
    return false;
}

static bson_iter_t inside(bson_iter_t at)
{
    bson_iter_t child;
    assert_true(bson_iter_recurse(&at, &child) && bson_iter_next(&child));
    return child;
}

static bool evaluate(bson_iter_t expression, const bson_iter_t *id)
{
    bson_iter_t operator= inside(expression);
    bson_iter_t operand = inside(operator);
    if (strcmp(bson_iter_key(&operator), "$not") == 0) {
        return !evaluate(operand, id);
    }
    if (strcmp(bson_iter_key(&operator), "$cond") == 0) {
        bool condition = evaluate(operand, id);
        assert_true(bson_iter_next(&operand));
        if (!condition) {
            assert_true(bson_iter_next(&operand));
        }
        return evaluate(operand, id);
    }
    assert_string_equal(bson_iter_utf8(&operand, NULL), "$_id");
    assert_true(bson_iter_next(&operand));
    bson_iter_t literal = inside(operand);
    assert_string_equal(bson_iter_key(&literal), "$literal");
    if (strcmp(bson_iter_key(&operator), "$lt") == 0) {
        return compare(id, &literal) < 0;
    }
    assert_string_equal(bson_iter_key(&operator), "$in");
    return is_in(literal, id);
}

/* { $match: { $and: [ { _id: { $nin } } or { $expr } ... ] } } */
static bool matches(const bson_t *pipeline, const bson_iter_t *id)
{
    bson_iter_t stage;
    bson_iter_t condition;
    assert_true(bson_iter_init(&stage, pipeline) && bson_iter_next(&stage));
    bson_iter_t all = inside(inside(stage));
    assert_true(bson_iter_recurse(&all, &condition));
    while (bson_iter_next(&condition)) {
        bson_iter_t field = inside(condition);
        bool fine = strcmp(bson_iter_key(&field), "$expr") == 0 ? evaluate(field, id)
                                                                : !is_in(inside(field), id);
        if (!fine) {
            return false;
        }
    }
    return true;
}

static void append_id(bson_t *key, uint32_t number)
{
    bson_oid_t oid;
    char text[25];
    switch (number % 3) {
    case 0:
        (void)snprintf(text, sizeof text, "%024x", number);
        bson_oid_init_from_string(&oid, text);
        BSON_APPEND_OID(key, "_id", &oid);
        break;
    case 1:
        BSON_APPEND_INT32(key, "_id", (int32_t)number);
        break;
    default:
        BSON_APPEND_INT64(key, "_id", (int64_t)number - 1500); /* negative ones, too */
        break;
    }
}

static void test_exactly_these_are_left_out(void **state)
{
    (void)state;
    enum { RANGE = 3000 };
    static const uint32_t sparse[] = {1, 2, 3, 7, 40, 1500, 3000};
    for (size_t i = 0; i < sizeof sparse / sizeof sparse[0]; i++) {
        static bson_t keys[RANGE];
        static bool left_out[RANGE];
        static struct overlay_image images[RANGE];
        size_t count = 0;
        for (uint32_t number = 0; number < RANGE; number++) {
            bson_init(&keys[number]);
            append_id(&keys[number], number);
            left_out[number] = number * 2654435761u % 3000u < sparse[i];
            if (left_out[number]) {
                images[count++] = (struct overlay_image){.key = slice_of(&keys[number])};
            }
        }
        bson_t pipeline = BSON_INITIALIZER;
        uint32_t at = 0;
        assert_int_equal(overlay_append_live(&pipeline, &at, NULL, 0, images, count), STATUS_OK);
        assert_int_equal(bson_check(slice_of(&pipeline), NULL), STATUS_OK);
        for (uint32_t number = 0; number < RANGE; number++) {
            bson_iter_t id;
            assert_true(bson_iter_init_find(&id, &keys[number], "_id"));
            if (matches(&pipeline, &id) == left_out[number]) {
                fail_msg("%u of about %u", number, sparse[i]);
            }
        }
        bson_destroy(&pipeline);
        for (uint32_t number = 0; number < RANGE; number++) {
            bson_destroy(&keys[number]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_what_does_not_go),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_exactly_these_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
