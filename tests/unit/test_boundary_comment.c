/* The grammar of comments that name units: both forms, each mistake, and what is nobody's. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "boundary/comment.h"

static enum status parse(const char *json, struct comment *comment, struct error *error)
{
    struct command_view view;
    bson_error_t why;
    bson_t *command = bson_new_from_json((const uint8_t *)json, -1, &why);
    if (command == NULL) {
        fail_msg("%s: %s", json, why.message);
        return STATUS_INVALID;
    }
    assert_int_equal(
        command_view_parse(slice_make(bson_get_data(command), command->len), &view, error),
        STATUS_OK);
    enum status status = comment_parse(&view, comment, error);
    bson_destroy(command);
    return status;
}

#define WRITE(comment_) "{\"insert\": \"c\", \"$db\": \"d\", \"comment\": " comment_ "}"

static void test_valid(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        struct comment wanted;
    } cases[] = {
        {WRITE("{\"unit\": \"a b\"}"), {.unit = "a b"}},
        {WRITE("{\"begin\": true, \"unit\": \"u\", \"x\": 1}"), {.unit = "u", .begin = true}},
        {WRITE("{\"unit\": \"u\", \"last\": true, \"begin\": false}"), {.unit = "u", .last = true}},
        {WRITE("{\"unit\": \"u\", \"begin\": true, \"timeoutMS\": 50}"),
         {.unit = "u", .begin = true, .timeout_ms = 50}},
        {WRITE("\"holdfast:unit=u\""), {.unit = "u"}},
        {WRITE("\"holdfast: unit=u=v;begin ; last\\ttimeoutMS=17 \""),
         {.unit = "u=v", .begin = true, .last = true, .timeout_ms = 17}},
        {"{\"beginUnit\": \"u\", \"$db\": \"admin\", \"timeoutMS\": 9}",
         {.unit = "u", .begin = true, .timeout_ms = 9}},
        {"{\"commitUnit\": \"u\", \"$db\": \"admin\"}", {.unit = "u"}},
        {WRITE("{\"unit\": \"u\", \"begin\": true, \"isolation\": \"serializable\"}"),
         {.unit = "u", .begin = true, .isolation = COMMENT_ISOLATION_SERIALIZABLE}},
        {WRITE("\"holdfast: unit=u begin isolation=snapshot\""),
         {.unit = "u", .begin = true, .isolation = COMMENT_ISOLATION_SNAPSHOT}},
        {"{\"beginUnit\": \"u\", \"$db\": \"admin\", \"isolation\": \"serializable\"}",
         {.unit = "u", .begin = true, .isolation = COMMENT_ISOLATION_SERIALIZABLE}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct comment comment;
        struct error error = {0};
        if (parse(cases[i].command, &comment, &error) != STATUS_OK) {
            fail_msg("%s: %s", cases[i].command, error.message);
        }
        assert_string_equal(comment.unit, cases[i].wanted.unit);
        assert_int_equal(comment.begin, cases[i].wanted.begin);
        assert_int_equal(comment.last, cases[i].wanted.last);
        assert_int_equal(comment.timeout_ms, cases[i].wanted.timeout_ms);
        assert_int_equal(comment.isolation, cases[i].wanted.isolation);
    }
}

static void test_mistakes(void **state)
{
    (void)state;
    static const char *const commands[] = {
        WRITE("{\"unit\": 1}"),
        WRITE("{\"unit\": \"\"}"),
        WRITE("{\"unit\": \"a\\u0000b\"}"),
        WRITE("{\"unit\": \"u\", \"begin\": \"true\"}"),
        WRITE("{\"unit\": \"u\", \"last\": 1}"),
        WRITE("{\"unit\": \"u\", \"timeoutMS\": -1}"),
        WRITE("{\"unit\": \"u\", \"timeoutMS\": true}"),
        WRITE("{\"unit\": \"u\", \"isolation\": \"Serializable\"}"),
        WRITE("{\"unit\": \"u\", \"isolation\": 1}"),
        WRITE("\"holdfast: unit=u isolation=\""),
        WRITE("\"holdfast: isolation=serializable\""),
        WRITE("\"holdfast:\""),
        WRITE("\"holdfast: last\""),
        WRITE("\"holdfast: unit=\""),
        WRITE("\"holdfast: unit=u beginning\""),
        WRITE("\"holdfast: unit=u timeoutMS=\""),
        WRITE("\"holdfast: unit=u timeoutMS=99999999999999999999\""),
        "{\"abortUnit\": 1, \"$db\": \"admin\"}",
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct comment comment = {.unit = "untouched"};
        struct error error = {0};
        if (parse(commands[i], &comment, &error) != STATUS_INVALID) {
            fail_msg("%s was taken", commands[i]);
        }
        assert_string_equal(comment.unit, "untouched");
        assert_true(error.message[0] != '\0');
    }
}

static void test_nobodys(void **state)
{
    (void)state;
    static const char *const commands[] = {
        WRITE("\"holdfast\""),
        WRITE("{\"begin\": true}"),
        WRITE("7"),
        WRITE("[\"unit\"]"),
        WRITE("{\"last\": \"x\"}"),
        "{\"insert\": \"c\", \"$db\": \"d\"}",
        "{\"beginUnit\": \"u\", \"$db\": \"d\"}",
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct comment comment;
        struct error error = {0};
        assert_int_equal(parse(commands[i], &comment, &error), STATUS_NOT_FOUND);
    }
}

/* Of the first command of a driver's transaction. */
static void test_isolation(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        enum status status;
        enum comment_isolation isolation;
    } cases[] = {
        {"{\"find\": \"c\"}", STATUS_OK, COMMENT_ISOLATION_DEFAULT},
        {WRITE("\"mine\""), STATUS_OK, COMMENT_ISOLATION_DEFAULT},
        {WRITE("{\"mine\": 1}"), STATUS_OK, COMMENT_ISOLATION_DEFAULT},
        {WRITE("7"), STATUS_OK, COMMENT_ISOLATION_DEFAULT},
        {WRITE("{\"x\": 1, \"isolation\": \"serializable\"}"), STATUS_OK,
         COMMENT_ISOLATION_SERIALIZABLE},
        {WRITE("\"holdfast: isolation=serializable\""), STATUS_OK, COMMENT_ISOLATION_SERIALIZABLE},
        {WRITE("\"holdfast:isolation=snapshot\""), STATUS_OK, COMMENT_ISOLATION_SNAPSHOT},
        {WRITE("\"holdfast: isolation\""), STATUS_INVALID, COMMENT_ISOLATION_DEFAULT},
        {WRITE("{\"isolation\": \"strict\"}"), STATUS_INVALID, COMMENT_ISOLATION_DEFAULT},
        {WRITE("{\"isolation\": true}"), STATUS_INVALID, COMMENT_ISOLATION_DEFAULT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct command_view view;
        enum comment_isolation isolation = COMMENT_ISOLATION_DEFAULT;
        bson_t *command = bson_new_from_json((const uint8_t *)cases[i].command, -1, NULL);
        assert_non_null(command);
        struct slice body = slice_make(bson_get_data(command), command->len);
        assert_int_equal(command_view_parse(body, &view, NULL), STATUS_OK);
        assert_int_equal(comment_isolation_parse(&view, &isolation, NULL), cases[i].status);
        assert_int_equal(isolation, cases[i].isolation);
        bson_destroy(command);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_isolation),
        cmocka_unit_test(test_nobodys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
