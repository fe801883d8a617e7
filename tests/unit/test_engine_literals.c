/* Time and random values that become literals (engine/literals.h). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/literals.h"

#define NOW 1700000000123u
#define DATE "{ \"$date\" : 1700000000123 }"

static bson_t *parse(const char *json)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (document == NULL) {
        fail_msg("%s: %s", json, error.message);
    }
    return document;
}

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

static void assert_json(const bson_t *document, const char *expected)
{
    bson_t *wanted = parse(expected);
    if (!bson_equal(document, wanted)) {
        char *text = bson_as_relaxed_extended_json(document, NULL);
        fail_msg("%s, not %s", text, expected);
    }
    bson_destroy(wanted);
}

static void check_expressions(const char *from, unsigned found, const char *to)
{
    bson_t *document = parse(from);
    bson_t *copy = literals_replace(slice_of(document), LITERALS_NOW, NOW);
    assert_int_equal(literals_find(slice_of(document)), found);
    assert_json(copy, to);
    bson_destroy(copy);
    bson_destroy(document);
}

static void replaces_now(void **state)
{
    (void)state;
    check_expressions("{\"a\": \"$$NOW\", \"b\": [\"$$NOW\", {\"c\": \"$$NOW\"}]}", LITERALS_NOW,
                      "{\"a\": " DATE ", \"b\": [" DATE ", {\"c\": " DATE "}]}");
    check_expressions("{\"a\": {\"$literal\": \"$$NOW\"}, \"b\": {\"$const\": [\"$$NOW\"]}}", 0,
                      "{\"a\": {\"$literal\": \"$$NOW\"}, \"b\": {\"$const\": [\"$$NOW\"]}}");
    check_expressions("{\"a\": \"$$NOWADAYS\", \"b\": \"$$NOW.x\", \"c\": \"NOW\"}", 0,
                      "{\"a\": \"$$NOWADAYS\", \"b\": \"$$NOW.x\", \"c\": \"NOW\"}");
    check_expressions("{\"a\": {\"$rand\": {}}}", LITERALS_RANDOM, "{\"a\": {\"$rand\": {}}}");
}

static void finds_what_does_not_repeat(void **state)
{
    (void)state;
    check_expressions("{\"a\": {\"$function\": {}}}", LITERALS_UNREPEATABLE,
                      "{\"a\": {\"$function\": {}}}");
    check_expressions("{\"a\": [\"$$CLUSTER_TIME\"]}", LITERALS_UNREPEATABLE,
                      "{\"a\": [\"$$CLUSTER_TIME\"]}");
}

static void check_filter(const char *from, unsigned found, const char *to)
{
    bson_t *document = parse(from);
    bson_t *copy = literals_replace_in_filter(slice_of(document), LITERALS_NOW, NOW);
    assert_int_equal(literals_find_in_filter(slice_of(document)), found);
    assert_json(copy, to);
    bson_destroy(copy);
    bson_destroy(document);
}

static void only_expr_in_filters_is_an_expression(void **state)
{
    (void)state;
    check_filter("{\"a\": \"$$NOW\", \"$expr\": {\"$gt\": [\"$$NOW\", \"$a\"]}}", LITERALS_NOW,
                 "{\"a\": \"$$NOW\", \"$expr\": {\"$gt\": [" DATE ", \"$a\"]}}");
    check_filter("{\"$or\": [{\"a\": 1}, {\"$and\": [{\"$expr\": \"$$NOW\"}]}], \"b\": 1}",
                 LITERALS_NOW,
                 "{\"$or\": [{\"a\": 1}, {\"$and\": [{\"$expr\": " DATE "}]}], \"b\": 1}");
    check_filter("{\"$sampleRate\": 0.5}", LITERALS_RANDOM, "{\"$sampleRate\": 0.5}");
    check_filter("{\"a\": {\"$rand\": {}}, \"$or\": 1, \"$and\": [1]}", 0,
                 "{\"a\": {\"$rand\": {}}, \"$or\": 1, \"$and\": [1]}");
}

static void each_random_value_is_another(void **state)
{
    (void)state;
    bson_t *document = parse("{\"a\": {\"$rand\": {}}, \"b\": [{\"$rand\": {}}, 1]}");
    bson_t *copy = literals_replace(slice_of(document), LITERALS_RANDOM, NOW);
    bson_iter_t a;
    bson_iter_t b;
    bson_iter_t top;
    assert_true(bson_iter_init_find(&a, copy, "a") && BSON_ITER_HOLDS_DOUBLE(&a));
    assert_true(bson_iter_init(&top, copy) && bson_iter_find_descendant(&top, "b.0", &b));
    assert_true(bson_iter_double(&a) >= 0 && bson_iter_double(&a) < 1);
    assert_true(bson_iter_double(&a) != bson_iter_double(&b));
    bson_destroy(copy);
    bson_destroy(document);
}

static void check_current_date(bson_t *from, const char *to)
{
    bson_t *copy = literals_replace_current_date(slice_of(from), NOW);
    if (to == NULL) {
        assert_null(copy);
    } else {
        assert_json(copy, to);
    }
    bson_destroy(copy);
    bson_destroy(from);
}

static void current_date_becomes_set(void **state)
{
    (void)state;
    check_current_date(
        BCON_NEW("$inc", "{", "n", BCON_INT32(1), "}", "$currentDate", "{", "a", BCON_BOOL(true),
                 "b", "{", "$type", "date", "}", "}", "$set", "{", "c", BCON_INT32(1), "}"),
        "{\"$inc\": {\"n\": 1}, \"$set\": {\"c\": 1, \"a\": " DATE ", \"b\": " DATE "}}");
    check_current_date(BCON_NEW("$currentDate", "{", "a", BCON_BOOL(false), "}"),
                       "{\"$set\": {\"a\": " DATE "}}");
}

static void invalid_current_date(void **state)
{
    (void)state;
    check_current_date(BCON_NEW("$currentDate", "{", "a", BCON_INT32(1), "}"), NULL);
    check_current_date(BCON_NEW("$currentDate", "{", "a", "{", "$type", "year", "}", "}"), NULL);
    check_current_date(
        BCON_NEW("$currentDate", "{", "a", "{", "$type", "date", "x", BCON_INT32(1), "}", "}"),
        NULL);
    check_current_date(BCON_NEW("$currentDate", "{", "a", "{", "}", "}"), NULL);
    check_current_date(BCON_NEW("$currentDate", BCON_INT32(1)), NULL);
    check_current_date(
        BCON_NEW("$currentDate", "{", "a", BCON_BOOL(true), "}", "$set", BCON_INT32(1)), NULL);
}

static void timestamps_differ(void **state)
{
    (void)state;
    bson_t *from = BCON_NEW("$currentDate", "{", "a", "{", "$type", "timestamp", "}", "b", "{",
                            "$type", "timestamp", "}", "}");
    bson_t *copy = literals_replace_current_date(slice_of(from), NOW);
    bson_iter_t top;
    bson_iter_t field;
    uint32_t seconds[2];
    uint32_t increments[2];
    assert_non_null(copy);
    assert_true(bson_iter_init(&top, copy) && bson_iter_find_descendant(&top, "$set.a", &field));
    bson_iter_timestamp(&field, &seconds[0], &increments[0]);
    assert_true(bson_iter_init(&top, copy) && bson_iter_find_descendant(&top, "$set.b", &field));
    bson_iter_timestamp(&field, &seconds[1], &increments[1]);
    assert_int_equal(seconds[0], NOW / 1000);
    assert_int_equal(seconds[1], NOW / 1000);
    assert_true(increments[0] != 0 && increments[0] < increments[1]);
    bson_destroy(copy);
    bson_destroy(from);
}

/* {r: /a/xi, c: Code("a\0b")}: libbson would sort the options and cut the code. */
static const uint8_t rewritten[] = {24,   0,   0, 0,                                /* length */
                                    0x0B, 'r', 0, 'a', 0, 'x', 'i', 0,              /* regex */
                                    0x0D, 'c', 0, 4,   0, 0,   0,   'a', 0, 'b', 0, /* code */
                                    0};

static void assert_begins_as_rewritten(bson_iter_t *at)
{
    uint32_t size = 0;
    const uint8_t *bytes = NULL;
    assert_true(BSON_ITER_HOLDS_DOCUMENT(at));
    bson_iter_document(at, &size, &bytes);
    assert_true(size > sizeof rewritten);
    assert_memory_equal(bytes + 4, rewritten + 4, sizeof rewritten - 5);
}

static void other_values_stay_as_they_are(void **state)
{
    (void)state;
    bson_t fields;
    bson_t *from = bson_new();
    bson_t *values = bson_new();
    bson_iter_t at;
    assert_true(bson_init_static(&fields, rewritten, sizeof rewritten));
    assert_true(bson_concat(values, &fields));
    BSON_APPEND_UTF8(values, "n", "$$NOW");
    BSON_APPEND_DOCUMENT(from, "$set", &fields);
    bson_t *update = bson_copy(from);
    BCON_APPEND(update, "$currentDate", "{", "t", BCON_BOOL(true), "}");
    bson_t *copy = literals_replace_current_date(slice_of(update), NOW);
    assert_non_null(copy);
    assert_true(bson_iter_init_find(&at, copy, "$set"));
    assert_begins_as_rewritten(&at);
    bson_destroy(copy);

    bson_reinit(from);
    BSON_APPEND_DOCUMENT(from, "$expr", values);
    copy = literals_replace(slice_of(from), LITERALS_NOW, NOW);
    assert_true(bson_iter_init_find(&at, copy, "$expr"));
    assert_begins_as_rewritten(&at);
    bson_destroy(copy);

    bson_reinit(values);
    assert_true(bson_concat(values, &fields));
    BCON_APPEND(values, "$expr", "$$NOW");
    copy = literals_replace_in_filter(slice_of(values), LITERALS_NOW, NOW);
    assert_memory_equal(bson_get_data(copy) + 4, rewritten + 4, sizeof rewritten - 5);
    bson_destroy(copy);
    bson_destroy(update);
    bson_destroy(values);
    bson_destroy(from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces_now),
        cmocka_unit_test(finds_what_does_not_repeat),
        cmocka_unit_test(only_expr_in_filters_is_an_expression),
        cmocka_unit_test(each_random_value_is_another),
        cmocka_unit_test(current_date_becomes_set),
        cmocka_unit_test(invalid_current_date),
        cmocka_unit_test(timestamps_differ),
        cmocka_unit_test(other_values_stay_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
