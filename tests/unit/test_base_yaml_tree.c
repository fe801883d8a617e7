/* YAML as BSON: types, Extended JSON, anchors, lines; and what is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/yaml_tree.h"

static void assert_json(const char *yaml, const char *json)
{
    struct yaml_tree *tree = NULL;
    struct error error = {0};
    if (yaml_tree_parse(slice_text(yaml), "f", &tree, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    char *text = bson_as_canonical_extended_json(yaml_tree_document(tree), NULL);
    assert_string_equal(text, json);
    bson_free(text);
    assert_null(yaml_tree_free(tree));
}

static void assert_refused(const char *yaml, const char *why)
{
    struct yaml_tree *tree = NULL;
    struct error error = {0};
    assert_int_equal(yaml_tree_parse(slice_text(yaml), "f", &tree, &error), STATUS_INVALID);
    if (strstr(error.message, why) == NULL) {
        fail_msg("%s: %s is missing in: %s", yaml, why, error.message);
    }
    assert_null(tree);
}

static void scalars_have_their_types(void **state)
{
    (void)state;
    assert_json("a: 1\nb: '1'\nc: 1.5\nd: true\ne: ~\nf: text\ng: 3000000000\nh:\n",
                "{ \"a\" : { \"$numberInt\" : \"1\" }, \"b\" : \"1\", "
                "\"c\" : { \"$numberDouble\" : \"1.5\" }, \"d\" : true, \"e\" : null, "
                "\"f\" : \"text\", \"g\" : { \"$numberLong\" : \"3000000000\" }, \"h\" : null }");
    assert_json("a: 1.2.3\nb: -5\nc: 2026-01-02\nd: .5\ne: yes\nf: 'null'\ng: 1e3\n",
                "{ \"a\" : \"1.2.3\", \"b\" : { \"$numberInt\" : \"-5\" }, "
                "\"c\" : \"2026-01-02\", \"d\" : { \"$numberDouble\" : \"0.5\" }, "
                "\"e\" : \"yes\", \"f\" : \"null\", \"g\" : { \"$numberDouble\" : \"1000.0\" } }");
    assert_json("a: 007\nb: 99999999999999999999\nc: 1e400\nd: -.inf\ne: 1e\n",
                "{ \"a\" : { \"$numberInt\" : \"7\" }, "
                "\"b\" : { \"$numberDouble\" : \"1e+20\" }, \"c\" : \"1e400\", "
                "\"d\" : { \"$numberDouble\" : \"-Infinity\" }, \"e\" : \"1e\" }");
}

static void json_and_extended_json_are_read(void **state)
{
    (void)state;
    assert_json("{\"a\": [1, {\"b\": {}}]}",
                "{ \"a\" : [ { \"$numberInt\" : \"1\" }, { \"b\" : {  } } ] }");
    assert_json("a: {$oid: 0123456789abcdef01234567}\nb: {$numberLong: '5'}\n",
                "{ \"a\" : { \"$oid\" : \"0123456789abcdef01234567\" }, "
                "\"b\" : { \"$numberLong\" : \"5\" } }");
    assert_refused("x: 1\na:\n  {$oid: nonsense}\n", "f:3: this is no value of Extended JSON");
}

static void aliases_are_followed_within_bounds(void **state)
{
    (void)state;
    assert_json("a: &x [p]\nb: *x\n", "{ \"a\" : [ \"p\" ], \"b\" : [ \"p\" ] }");
    assert_refused("a: &x\n  b: *x\n", "contains itself");
    assert_refused("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                   "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
                   "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n",
                   "repeats itself");
}

static void what_is_no_mapping_is_refused(void **state)
{
    (void)state;
    assert_refused("- a\n", "must be a mapping");
    assert_refused("", "must be a mapping");
    assert_refused("a: 1\nb: 2\na: 3\n", "f:3: a is there a second time");
    assert_refused("a: [1\n", "f:");
    assert_refused("a: 1\n---\nb: 2\n", "second document");
    assert_refused("? [a]\n: 1\n", "f:1: a key must be plain text");
    assert_refused("a: \"x\\0y\"\n", "NUL");
    struct yaml_tree *tree = NULL;
    struct error error = {0};
    assert_int_equal(yaml_tree_read("/nonexistent/file", &tree, &error), STATUS_NOT_FOUND);
}

static void lines_are_known(void **state)
{
    (void)state;
    struct yaml_tree *tree = NULL;
    struct error error = {0};
    const char *text = "a: 1\nrules:\n  - name: x\n  - name: y\n    fix:\n      set: 1\n";
    assert_int_equal(yaml_tree_parse(slice_text(text), "f", &tree, &error), STATUS_OK);
    assert_string_equal(yaml_tree_name(tree), "f");
    assert_int_equal(yaml_tree_line(tree, "rules"), 2);
    assert_int_equal(yaml_tree_line(tree, "rules.0"), 3);
    assert_int_equal(yaml_tree_line(tree, "rules.1.fix"), 5);
    assert_int_equal(yaml_tree_line(tree, "rules.1.fix.set"), 6);
    assert_int_equal(yaml_tree_line(tree, "rules.1.nothing.set"), 4);
    assert_int_equal(yaml_tree_line(tree, "rules.7"), 2);
    yaml_tree_free(tree);
    assert_null(yaml_tree_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_have_their_types),
        cmocka_unit_test(json_and_extended_json_are_read),
        cmocka_unit_test(aliases_are_followed_within_bounds),
        cmocka_unit_test(what_is_no_mapping_is_refused),
        cmocka_unit_test(lines_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
