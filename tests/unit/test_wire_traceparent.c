/* The traceparent: valid and invalid texts, new ones, and those in a comment. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/traceparent.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define VALID "00-" TRACE "-b7ad6b7169203331-01"

static const struct trace_id expected = {{0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84,
                                          0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c}};

static void test_valid(void **state)
{
    (void)state;
    static const char *const texts[] = {
        VALID, "00-" TRACE "-b7ad6b7169203331-ff", "cc-" TRACE "-b7ad6b7169203331-01",
        "01-" TRACE "-b7ad6b7169203331-01-what-comes-later", "01-" TRACE "-b7ad6b7169203331-01-"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct traceparent found = {0};
        assert_true(traceparent_parse(slice_text(texts[i]), &found));
        assert_true(trace_id_equal(&found.trace, &expected));
        assert_false(trace_id_is_none(&found.trace));
    }
}

static void test_invalid(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "00-" TRACE "-b7ad6b7169203331-0",
        VALID "1",
        VALID "-",
        VALID "-more",
        "01-" TRACE "-b7ad6b7169203331-01.more",
        "ff-" TRACE "-b7ad6b7169203331-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "-b7ad6b716920333g-01",
        "00_" TRACE "-b7ad6b7169203331-01",
        "00-" TRACE "_b7ad6b7169203331-01",
        "00-" TRACE "-b7ad6b7169203331_01",
        "0x-" TRACE "-b7ad6b7169203331-01",
        "00-" TRACE "-b7ad6b7169203331-0x",
        " " VALID,
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct traceparent found = {.trace = expected};
        assert_false(traceparent_parse(slice_text(texts[i]), &found));
        assert_true(trace_id_equal(&found.trace, &expected));
    }
    for (size_t size = 0; size < strlen(VALID); size++) {
        struct traceparent found;
        assert_false(traceparent_parse(slice_make(VALID, size), &found));
    }
}

static void test_parent_and_flag_come_back_as_they_were(void **state)
{
    (void)state;
    static const char *const texts[] = {VALID, "00-" TRACE "-b7ad6b7169203331-00"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct traceparent found;
        char text[TRACEPARENT_TEXT_BYTES];
        assert_true(traceparent_parse(slice_text(texts[i]), &found));
        assert_int_equal(found.parent[0], 0xb7);
        assert_int_equal(found.sampled, i == 0);
        traceparent_write(&found, text);
        assert_string_equal(text, texts[i]);
    }
    struct traceparent other;
    assert_true(traceparent_parse(slice_text("00-" TRACE "-b7ad6b7169203331-fe"), &other));
    assert_false(other.sampled); /* other flags say nothing of it */
}

static void test_new_ones_differ_and_are_valid(void **state)
{
    (void)state;
    struct trace_id made[2];
    struct traceparent parsed;
    char text[2][TRACEPARENT_TEXT_BYTES];
    for (int i = 0; i < 2; i++) {
        traceparent_make(&made[i], text[i]);
        assert_int_equal(strlen(text[i]), 55);
        assert_true(traceparent_parse(slice_text(text[i]), &parsed));
        assert_true(trace_id_equal(&made[i], &parsed.trace));
        assert_string_equal(text[i] + 52, "-00");
    }
    assert_false(trace_id_equal(&made[0], &made[1]));
    assert_string_not_equal(text[0] + 36, text[1] + 36);
}

static bool find(const char *comment, struct traceparent *ret_found)
{
    bson_t command = BSON_INITIALIZER;
    bson_iter_t at;
    BSON_APPEND_UTF8(&command, "comment", comment);
    assert_true(bson_iter_init_find(&at, &command, "comment"));
    bool found = traceparent_in_comment(&at, ret_found);
    bson_destroy(&command);
    return found;
}

static void test_in_text(void **state)
{
    (void)state;
    static const char *const there[] = {
        VALID,
        "traceparent='" VALID "'",
        "/*traceparent='" VALID "'*/",
        "/*traceparent=" VALID "*/",
        "action='run',traceparent='" VALID "',tracestate='a%3Db'",
        "a=1; traceparent = \"" VALID "\"",
        "xtraceparent='1',traceparent='00%2D" TRACE "%2db7ad6b7169203331-01'",
        "traceparent, traceparent=" VALID " and more",
    };
    static const char *const not_there[] = {
        "",
        "traceparent",
        "traceparent=",
        "traceparent='",
        "traceparent='" TRACE "'",
        "traceparent='" VALID "0'",
        "xtraceparent='" VALID "'",
        "traceparent2='" VALID "'",
        "'traceparent'='" VALID "'",
        "traceparent='%'",
        "traceparent='%0'",
        "the trace is " VALID,
    };
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++) {
        struct traceparent found = {0};
        assert_true(find(there[i], &found));
        assert_true(trace_id_equal(&found.trace, &expected));
    }
    for (size_t i = 0; i < sizeof not_there / sizeof not_there[0]; i++) {
        struct traceparent found = {.trace = expected};
        assert_false(find(not_there[i], &found));
        assert_true(trace_id_equal(&found.trace, &expected));
    }
}

static bool find_in(const char *json, struct traceparent *ret_found)
{
    bson_error_t error;
    bson_t *command = bson_new_from_json((const uint8_t *)json, -1, &error);
    bson_iter_t at;
    assert_non_null(command);
    assert_true(bson_iter_init_find(&at, command, "comment"));
    bool found = traceparent_in_comment(&at, ret_found);
    bson_destroy(command);
    return found;
}

static void test_in_documents(void **state)
{
    (void)state;
    struct traceparent found = {0};
    assert_true(find_in("{\"comment\": {\"a\": 1, \"traceparent\": \"" VALID "\"}}", &found));
    assert_true(trace_id_equal(&found.trace, &expected));
    static const char *const none[] = {
        "{\"comment\": {\"traceparent\": 1}}",
        "{\"comment\": {\"a\": {\"traceparent\": \"" VALID "\"}}}",
        "{\"comment\": {\"traceparent\": \"x\"}}",
        "{\"comment\": {}}",
        "{\"comment\": 7}",
        "{\"comment\": [\"" VALID "\"]}",
    };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_false(find_in(none[i], &found));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_parent_and_flag_come_back_as_they_were),
        cmocka_unit_test(test_new_ones_differ_and_are_valid),
        cmocka_unit_test(test_in_text),
        cmocka_unit_test(test_in_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
