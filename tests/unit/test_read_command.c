/* Which reads can be evaluated over the committed state, and what they read. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "read/read_command.h"

static bson_t *from_json(const char *json)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (document == NULL) {
        fail_msg("%s: %s", json, error.message);
    }
    return document;
}

struct expectation {
    const char *json; /* without $db */
    enum read_form form;
};

static const struct expectation expectations[] = {
    {"{'find': 'c'}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {'_id': 1}}", READ_FORM_POINT},
    {"{'find': 'c', 'filter': {'_id': {'$eq': 'x'}}}", READ_FORM_POINT},
    {"{'find': 'c', 'filter': {'_id': {'a': 1}}}", READ_FORM_POINT},
    {"{'find': 'c', 'filter': {'_id': 'x'}, 'collation': {'locale': 'en'}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {'_id': 1}, 'collation': {'locale': 'en'}}", READ_FORM_POINT},
    {"{'find': 'c', 'filter': {'_id': 'x'}, 'collation': {'locale': 'simple'}}", READ_FORM_POINT},
    {"{'find': 'c', 'filter': {'_id': null}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {'_id': [1]}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {'_id': {'$eq': [1]}}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {'_id': {'$regularExpression': {'pattern': 'x', 'options': ''}}}}",
     READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {'_id': {'$in': [1]}}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {'_id': {'$eq': 1, '$exists': true}}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'filter': {'_id': 1, 'a': 1}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'sort': {'a': 1, 'b': -1.0}, 'projection': {'a': 1}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'sort': {'a': {'$meta': 'textScore'}}}", READ_FORM_WAIT},
    {"{'find': 'c', 'sort': {'$natural': 1}}", READ_FORM_WAIT},
    {"{'find': 'c', 'projection': {'a.$': 1}}", READ_FORM_WAIT},
    {"{'find': 'c', 'projection': {'a': {'$slice': 1}}}", READ_FORM_WAIT},
    {"{'find': 'c', 'projection': {'a': {'$elemMatch': {'b': 1}}}}", READ_FORM_WAIT},
    {"{'find': 'c', 'filter': {'$text': {'$search': 'x'}}}", READ_FORM_WAIT},
    {"{'find': 'c', 'filter': {'$or': [{'a': 1}, {'$where': 'x'}]}}", READ_FORM_WAIT},
    {"{'find': 'c', 'filter': {'a': {'$near': [0, 0]}}}", READ_FORM_WAIT},
    {"{'find': 'c', 'min': {'a': 1}}", READ_FORM_WAIT},
    {"{'find': 'c', 'min': {}}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'showRecordId': true}", READ_FORM_WAIT},
    {"{'find': 'c', 'showRecordId': false}", READ_FORM_OVERLAY},
    {"{'find': 'c', 'limit': -1}", READ_FORM_WAIT},
    {"{'find': 'c', 'limit': 1.5}", READ_FORM_WAIT},
    {"{'find': 'c', 'skip': 'x'}", READ_FORM_WAIT},
    {"{'find': 'c', 'filter': 'x'}", READ_FORM_WAIT},
    {"{'find': 'c', 'tailable': true}", READ_FORM_WAIT},
    {"{'find': 1}", READ_FORM_PASS},
    {"{'find': 'c', 'readConcern': {'level': 'available'}}", READ_FORM_PASS},
    {"{'find': 'c', 'readConcern': {'level': 'local'}}", READ_FORM_OVERLAY},
    {"{'count': 'c', 'query': {'a': 1}, 'limit': -2}", READ_FORM_OVERLAY},
    {"{'count': 'c', 'query': {'_id': 1}}", READ_FORM_OVERLAY},
    {"{'distinct': 'c', 'key': 'a.b'}", READ_FORM_OVERLAY},
    {"{'distinct': 'c', 'key': 'a.0'}", READ_FORM_WAIT},
    {"{'distinct': 'c', 'key': 'a.'}", READ_FORM_WAIT},
    {"{'distinct': 'c', 'key': ''}", READ_FORM_WAIT},
    {"{'distinct': 'c', 'key': 1}", READ_FORM_WAIT},
    {"{'getMore': {'$numberLong': '5'}, 'collection': 'c'}", READ_FORM_WAIT},
    {"{'getMore': {'$numberLong': '5'}, 'collection': 'c', 'maxTimeMS': 1}", READ_FORM_WAIT},
    {"{'getMore': {'$numberLong': '5'}}", READ_FORM_PASS},
    {"{'aggregate': 'c', 'pipeline': []}", READ_FORM_OVERLAY},
    {"{'aggregate': 'c', 'pipeline': [{'$group': {'_id': null}}]}", READ_FORM_OVERLAY},
    {"{'aggregate': 'c', 'pipeline': [{'$match': {'$text': {'$search': 'x'}}}]}", READ_FORM_WAIT},
    {"{'aggregate': 'c', 'pipeline': [{'$geoNear': {}}]}", READ_FORM_WAIT},
    {"{'aggregate': 'c', 'pipeline': [{'$collStats': {}}]}", READ_FORM_PASS},
    {"{'aggregate': 'c', 'pipeline': [{'$changeStream': {}}]}", READ_FORM_PASS},
    {"{'aggregate': 'c', 'pipeline': [], 'explain': true}", READ_FORM_PASS},
    {"{'aggregate': 'c'}", READ_FORM_PASS},
    {"{'aggregate': 1, 'pipeline': [{'$currentOp': {}}]}", READ_FORM_PASS},
    {"{'aggregate': 1, 'pipeline': [{'$documents': []}, {'$lookup': {'from': 'd'}}]}",
     READ_FORM_WAIT},
    {"{'aggregate': 'c', 'pipeline': [{'$lookup': {'from': 'd'}}]}", READ_FORM_OVERLAY},
};

static char *with_database(const char *json)
{
    char *text = bson_strdup_printf("%.*s, '$db': 'd'}", (int)strlen(json) - 1, json);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    return text;
}

static enum read_form form_of(const char *json, struct read_command *command, bson_t **ret_body)
{
    static struct command_view view;
    const char *why = NULL;
    char *text = with_database(json);
    bson_t *body = from_json(text);
    bson_free(text);
    assert_int_equal(command_view_parse(slice_make(bson_get_data(body), body->len), &view, NULL),
                     STATUS_OK);
    assert_int_equal(read_command_parse(&view, command), STATUS_OK);
    enum read_form form = read_command_analyse(command, &why);
    assert_true((form == READ_FORM_WAIT) == (why != NULL));
    *ret_body = body;
    return form;
}

static void test_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof expectations / sizeof expectations[0]; i++) {
        struct read_command command;
        bson_t *body;
        enum read_form form = form_of(expectations[i].json, &command, &body);
        if (form != expectations[i].form) {
            fail_msg("%s: form %d, not %d", expectations[i].json, form, expectations[i].form);
        }
        bson_destroy(body);
    }
}

static void expect_gates(const char *json, const char *const *names)
{
    struct read_command command;
    bson_t *body;
    size_t count = 0;
    (void)form_of(json, &command, &body);
    for (; names[count] != NULL; count++) {
        assert_true(count < command.gate_count);
        assert_int_equal(command.gates[count],
                         names[count][0] == '*' ? GATE_SERVER : gate_of("d", names[count]));
        if (names[count][0] == '*') {
            assert_null(command.names[count]);
        } else {
            assert_string_equal(command.names[count], names[count]);
        }
    }
    assert_int_equal(command.gate_count, count);
    bson_destroy(body);
}

static void test_collections_that_are_read(void **state)
{
    (void)state;
    expect_gates("{'find': 'c'}", (const char *[]){"c", NULL});
    expect_gates("{'aggregate': 'c', 'pipeline': [{'$lookup': {'from': 'x', 'pipeline': "
                 "[{'$unionWith': 'y'}]}}, {'$facet': {'f': [{'$graphLookup': {'from': 'x'}}, "
                 "{'$unionWith': {'coll': 'c'}}]}}]}",
                 (const char *[]){"c", "x", "y", "c", NULL});
    expect_gates(
        "{'aggregate': 'c', 'pipeline': [{'$lookup': {'from': {'db': 'e', 'coll': 'x'}}}]}",
        (const char *[]){"c", "*", NULL});
    expect_gates("{'aggregate': 'c', 'pipeline': [{'$unionWith': 'a1'}, {'$unionWith': 'a2'}, "
                 "{'$unionWith': 'a3'}, {'$unionWith': 'a4'}, {'$unionWith': 'a5'}, "
                 "{'$unionWith': 'a6'}, {'$unionWith': 'a7'}, {'$unionWith': 'a8'}, "
                 "{'$unionWith': 'a9'}, {'$unionWith': 'a10'}, {'$unionWith': 'a11'}, "
                 "{'$unionWith': 'a12'}, {'$unionWith': 'a13'}, {'$unionWith': 'a14'}, "
                 "{'$unionWith': 'a15'}, {'$unionWith': 'a16'}]}",
                 (const char *[]){"c", "*", NULL});
}

static void test_what_is_no_read(void **state)
{
    (void)state;
    static const char *const others[] = {"{'insert': 'c'}", "{'ping': 1}", "{'killCursors': 'c'}"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct command_view view;
        struct read_command command;
        char *text = with_database(others[i]);
        bson_t *body = from_json(text);
        assert_int_equal(
            command_view_parse(slice_make(bson_get_data(body), body->len), &view, NULL), STATUS_OK);
        assert_int_equal(read_command_parse(&view, &command), STATUS_NOT_FOUND);
        bson_destroy(body);
        bson_free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_collections_that_are_read),
        cmocka_unit_test(test_what_is_no_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
