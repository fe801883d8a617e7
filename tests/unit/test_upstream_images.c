/*
 * Images upstream against a real server: each swap, by the right bytes and by none other; what a
 * stranger wrote stays; what the server makes of a command.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server_fixture.h"

#define NS "test.images"

static void ok(enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        fail_msg("%s: %s", status_name(status), error->message);
    }
}

static enum upstream_swap swap(struct slice key, const char *expected, const char *wanted)
{
    enum upstream_swap result = UPSTREAM_SWAP_DIFFERS;
    struct error error = {0};
    struct image from = image_of(expected);
    struct image to = image_of(wanted);
    ok(upstream_replace_image(upstream, NS, key, from, to, "test", &result, &error), &error);
    image_free(&from);
    image_free(&to);
    return result;
}

static void assert_current(struct slice key, const char *json)
{
    struct image now = current(upstream, NS, key);
    struct image wanted = image_of(json);
    assert_true(image_equal(now, wanted));
    image_free(&now);
    image_free(&wanted);
}

static void each_swap_changes_exactly_what_it_expects(void **state)
{
    (void)state;
    need_server();
    struct slice key = key_of("{\"_id\": 1}");
    assert_int_equal(swap(key, "", "{\"_id\": 1, \"a\": 1}"), UPSTREAM_SWAP_DONE);
    assert_current(key, "{\"_id\": 1, \"a\": 1}");
    assert_int_equal(swap(key, "{\"_id\": 1, \"a\": 1}", "{\"_id\": 1, \"a\": 2, \"b\": []}"),
                     UPSTREAM_SWAP_DONE);
    assert_current(key, "{\"_id\": 1, \"a\": 2, \"b\": []}");
    assert_int_equal(swap(key, "{\"_id\": 1, \"a\": 2, \"b\": []}", ""), UPSTREAM_SWAP_DONE);
    assert_current(key, "");
    assert_int_equal(swap(key, "", ""), UPSTREAM_SWAP_DONE);
}

static void a_swap_that_meets_something_else_changes_nothing(void **state)
{
    (void)state;
    need_server();
    struct slice key = key_of("{\"_id\": 2}");
    stranger_writes(upstream, NS, key, "{\"_id\": 2, \"a\": 7}");
    assert_int_equal(swap(key, "{\"_id\": 2, \"a\": 1}", "{\"_id\": 2}"), UPSTREAM_SWAP_DIFFERS);
    assert_int_equal(swap(key, "{\"_id\": 2, \"a\": 1}", ""), UPSTREAM_SWAP_DIFFERS);
    assert_int_equal(swap(key, "", "{\"_id\": 2, \"a\": 1}"), UPSTREAM_SWAP_DIFFERS);
    assert_int_equal(swap(key, "", ""), UPSTREAM_SWAP_DIFFERS);
    assert_current(key, "{\"_id\": 2, \"a\": 7}");
}

/* The server thinks 1 and 1.0 are the same: it changes the document, and we put it back. */
static void a_number_of_another_type_is_put_back(void **state)
{
    (void)state;
    need_server();
    struct slice key = key_of("{\"_id\": 3}");
    const char *theirs = "{\"_id\": 3, \"a\": {\"$numberDouble\": \"1.0\"}}";
    stranger_writes(upstream, NS, key, theirs);
    assert_int_equal(swap(key, "{\"_id\": 3, \"a\": 1}", "{\"_id\": 3, \"a\": 2}"),
                     UPSTREAM_SWAP_DIFFERS);
    assert_current(key, theirs);
    assert_int_equal(swap(key, "{\"_id\": 3, \"a\": 1}", ""), UPSTREAM_SWAP_DIFFERS);
    assert_current(key, theirs);
}

static void images_keep_their_bytes(void **state)
{
    static const char *const documents[] = {
        "{\"_id\": 4, \"ts\": {\"$timestamp\": {\"t\": 0, \"i\": 0}}}",
        "{\"_id\": 4, \"n\": {\"ts\": {\"$timestamp\": {\"t\": 0, \"i\": 0}}}}",
        "{\"_id\": 4, \"x.y\": 1, \"\": 2, \"n\": {\"$gt\": 1, \"$in\": [1]}}",
        "{\"_id\": 4, \"z\": 1, \"a\": 1, \"m\": 1}",
        "{\"_id\": 4, \"d\": {\"$numberDouble\": \"-0.0\"}, \"l\": {\"$numberLong\": \"1\"}}",
        "{\"_id\": 4, \"d\": {\"$numberDouble\": \"NaN\"}, \"t\": \"$$ROOT\", \"u\": \"$a\"}",
        "{\"_id\": 4, \"d\": {\"$numberDecimal\": \"1.10\"}, \"e\": {}, \"f\": [], \"g\": null}",
    };
    (void)state;
    need_server();
    struct slice key = key_of("{\"_id\": 4}");
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        assert_int_equal(swap(key, "", documents[i]), UPSTREAM_SWAP_DONE);
        assert_current(key, documents[i]);
        assert_int_equal(swap(key, documents[i], "{\"_id\": 4}"), UPSTREAM_SWAP_DONE);
        assert_int_equal(swap(key, "{\"_id\": 4}", documents[i]), UPSTREAM_SWAP_DONE);
        assert_current(key, documents[i]);
        assert_int_equal(swap(key, documents[i], ""), UPSTREAM_SWAP_DONE);
    }
}

/* This server moves _id to the front: what it cannot hold is taken away again. */
static void what_the_server_does_not_keep_is_taken_back(void **state)
{
    (void)state;
    need_server();
    struct slice key = key_of("{\"_id\": 5}");
    const char *odd = "{\"a\": 1, \"_id\": 5}";
    enum upstream_swap result = UPSTREAM_SWAP_DIFFERS;
    struct error error = {0};
    struct image from = image_of("{\"_id\": 5}");
    struct image to = image_of(odd);
    stranger_writes(upstream, NS, key, "{\"_id\": 5}");
    ok(upstream_replace_image(upstream, NS, key, from, to, "test", &result, &error), &error);
    assert_current(key, result == UPSTREAM_SWAP_DONE ? odd : "{\"_id\": 5}");
    image_free(&from);
    image_free(&to);
}

static void a_key_that_looks_like_an_operator_selects_nothing_else(void **state)
{
    (void)state;
    need_server();
    struct error error = {0};
    struct image found = {0};
    stranger_writes(upstream, NS, key_of("{\"_id\": 6}"), "{\"_id\": 6, \"v\": 1}");
    struct slice key = key_of("{\"_id\": {\"$gt\": {\"$numberInt\": \"0\"}}}");
    enum status status = upstream_find_image(upstream, NS, key, &found, &error);
    assert_true(status == STATUS_REFUSED || found.presence == IMAGE_ABSENT);
    key = key_of("{\"_id\": {\"$regularExpression\": {\"pattern\": \"\", \"options\": \"\"}}}");
    stranger_writes(upstream, NS, key_of("{\"_id\": \"text\"}"), "{\"_id\": \"text\"}");
    status = upstream_find_image(upstream, NS, key, &found, &error);
    assert_true(status == STATUS_REFUSED || found.presence == IMAGE_ABSENT);
}

static void a_unique_index_makes_it_a_conflict(void **state)
{
    (void)state;
    need_server();
    enum upstream_swap result = UPSTREAM_SWAP_DONE;
    struct error error = {0};
    run_json(upstream, "test",
             "{\"createIndexes\": \"unique\", \"indexes\": [{\"key\": {\"u\": 1}, \"name\": \"u\", "
             "\"unique\": true}]}");
    run_json(upstream, "test",
             "{\"insert\": \"unique\", \"documents\": [{\"_id\": 1, \"u\": 1}, {\"_id\": 2, "
             "\"u\": 2}]}");
    struct image absent = image_of("");
    assert_int_equal(upstream_replace_image(upstream, "test.unique", key_of("{\"_id\": 3}"), absent,
                                            image_of("{\"_id\": 3, \"u\": 1}"), "test", &result,
                                            &error),
                     STATUS_CONFLICT);
    assert_int_equal(upstream_replace_image(upstream, "test.unique", key_of("{\"_id\": 2}"),
                                            image_of("{\"_id\": 2, \"u\": 2}"),
                                            image_of("{\"_id\": 2, \"u\": 1}"), "test", &result,
                                            &error),
                     STATUS_CONFLICT);
    assert_non_null(strstr(error.message, "E11000"));
}

/* What is restored was there before the rule. */
static void a_validation_rule_does_not_apply(void **state)
{
    (void)state;
    need_server();
    enum upstream_swap result = UPSTREAM_SWAP_DIFFERS;
    struct error error = {0};
    struct slice key = key_of("{\"_id\": 1}");
    struct image odd = image_of("{\"_id\": 1}");
    run_json(upstream, "test",
             "{\"create\": \"ruled\", \"validator\": {\"a\": {\"$type\": \"int\"}}}");
    run_json(upstream, "test", "{\"insert\": \"ruled\", \"documents\": [{\"_id\": 1, \"a\": 1}]}");
    ok(upstream_replace_image(upstream, "test.ruled", key, image_of("{\"_id\": 1, \"a\": 1}"), odd,
                              "test", &result, &error),
       &error);
    assert_int_equal(result, UPSTREAM_SWAP_DONE);
    ok(upstream_replace_image(upstream, "test.ruled", key, odd, image_of(""), "test", &result,
                              &error),
       &error);
    ok(upstream_replace_image(upstream, "test.ruled", key, image_of(""), odd, "test", &result,
                              &error),
       &error);
    assert_int_equal(result, UPSTREAM_SWAP_DONE);
}

static void images_too_large_for_one_command_are_unsupported(void **state)
{
    (void)state;
    need_server();
    enum upstream_swap result = UPSTREAM_SWAP_DONE;
    struct error error = {0};
    size_t size = 9 * 1024 * 1024;
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, 'x', size);
    text[size] = '\0';
    bson_t big = BSON_INITIALIZER;
    BSON_APPEND_INT32(&big, "_id", 7);
    BSON_APPEND_UTF8(&big, "t", text);
    struct image image = {.presence = IMAGE_PRESENT, .document = doc_slice(&big)};
    assert_int_equal(upstream_replace_image(upstream, NS, key_of("{\"_id\": 7}"), image, image,
                                            "test", &result, &error),
                     STATUS_UNSUPPORTED);
    ok(upstream_replace_image(upstream, NS, key_of("{\"_id\": 7}"), image_of(""), image, "test",
                              &result, &error),
       &error);
    assert_int_equal(result, UPSTREAM_SWAP_DONE);
    bson_destroy(&big);
    free(text);
}

static void assert_evaluates(const char *command, const char *before, const char *after)
{
    struct image result = {0};
    struct error error = {0};
    struct image expected = image_of(after);
    ok(upstream_evaluate(upstream, key_of(command), image_of(before), &result, &error), &error);
    assert_true(image_equal(result, expected));
    image_free(&result);
    image_free(&expected);
}

static void a_command_is_evaluated_without_touching_its_collection(void **state)
{
    (void)state;
    need_server();
    struct slice key = key_of("{\"_id\": 8}");
    stranger_writes(upstream, NS, key, "{\"_id\": 8, \"n\": 1}");
    const char *inc = "{\"findAndModify\": \"images\", \"query\": {\"_id\": 8}, \"update\": "
                      "{\"$inc\": {\"n\": 5}}, \"new\": true, \"fields\": {\"n\": 1}}";
    assert_evaluates(inc, "{\"_id\": 8, \"n\": 1, \"m\": 1}", "{\"_id\": 8, \"n\": 6, \"m\": 1}");
    assert_evaluates(inc, "{\"_id\": 8}", "{\"_id\": 8, \"n\": 5}");
    assert_evaluates(inc, "", ""); /* no upsert: nothing becomes nothing */
    assert_evaluates("{\"findAndModify\": \"images\", \"query\": {\"_id\": 8}, \"upsert\": true, "
                     "\"update\": {\"$set\": {\"n\": 5}}}",
                     "", "{\"_id\": 8, \"n\": 5}");
    assert_evaluates("{\"findAndModify\": \"images\", \"query\": {\"_id\": 8}, \"update\": "
                     "{\"$set\": {\"a.$[e].b\": 2}}, \"arrayFilters\": [{\"e.b\": 1}]}",
                     "{\"_id\": 8, \"a\": [{\"b\": 1}, {\"b\": 3}]}",
                     "{\"_id\": 8, \"a\": [{\"b\": 2}, {\"b\": 3}]}");
    assert_current(key, "{\"_id\": 8, \"n\": 1}");
}

static void a_command_that_cannot_be_evaluated_is_an_answer(void **state)
{
    (void)state;
    need_server();
    struct image result = {0};
    struct error error = {0};
    assert_int_equal(upstream_evaluate(upstream,
                                       key_of("{\"findAndModify\": \"x\", \"query\": {\"_id\": 1}, "
                                              "\"update\": {\"$inc\": {\"t\": 1}}}"),
                                       image_of("{\"_id\": 1, \"t\": \"text\"}"), &result, &error),
                     STATUS_CONFLICT);
    assert_int_equal(upstream_evaluate(upstream, key_of("{\"dropDatabase\": 1}"),
                                       image_of("{\"_id\": 1}"), &result, &error),
                     STATUS_INVALID);
    assert_int_equal(upstream_evaluate(upstream, key_of("{\"findAndModify\": \"x\"}"),
                                       image_of("{\"_id\": 1}"), &result, &error),
                     STATUS_INVALID);
}

static void the_server_describes_itself(void **state)
{
    (void)state;
    need_server();
    struct upstream_description description = {0};
    struct upstream_connections connections = {0};
    struct error error = {0};
    const char *const nobody[] = {"127.0.0.1:1"};
    ok(upstream_describe(upstream, &description, &error), &error);
    assert_int_equal(description.topology, UPSTREAM_STANDALONE);
    assert_true(description.wire_version_max >= 8);
    assert_true(description.has_process_id);
    assert_true(description.local_time_ms > 1500000000000);
    ok(upstream_connections(upstream, nobody, 1, &connections, &error), &error);
    assert_true(connections.shown || connections.counted);
    assert_int_equal(connections.present, 0);
}

static void what_a_dead_process_left_is_cleared(void **state)
{
    (void)state;
    need_server();
    struct error error = {0};
    struct image found = {0};
    struct slice key = key_of("{\"_id\": 1}");
    stranger_writes(upstream, "holdfast.scratch.left", key, "{\"_id\": 1}");
    stranger_writes(upstream, "holdfast.state2", key, "{\"_id\": 1}");
    ok(upstream_scratch_clear(upstream, &error), &error);
    found = current(upstream, "holdfast.scratch.left", key);
    assert_int_equal(found.presence, IMAGE_ABSENT);
    found = current(upstream, "holdfast.state2", key);
    assert_int_equal(found.presence, IMAGE_PRESENT);
    image_free(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_swap_changes_exactly_what_it_expects),
        cmocka_unit_test(a_swap_that_meets_something_else_changes_nothing),
        cmocka_unit_test(a_number_of_another_type_is_put_back),
        cmocka_unit_test(images_keep_their_bytes),
        cmocka_unit_test(what_the_server_does_not_keep_is_taken_back),
        cmocka_unit_test(a_key_that_looks_like_an_operator_selects_nothing_else),
        cmocka_unit_test(a_unique_index_makes_it_a_conflict),
        cmocka_unit_test(a_validation_rule_does_not_apply),
        cmocka_unit_test(images_too_large_for_one_command_are_unsupported),
        cmocka_unit_test(a_command_is_evaluated_without_touching_its_collection),
        cmocka_unit_test(a_command_that_cannot_be_evaluated_is_an_answer),
        cmocka_unit_test(the_server_describes_itself),
        cmocka_unit_test(what_a_dead_process_left_is_cleared),
    };
    return cmocka_run_group_tests(tests, server_fixture_start, server_fixture_stop);
}
