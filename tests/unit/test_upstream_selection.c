/*
 * Server selection (upstream/selection.h): modes, freshness, tags, nearness, by the rules of the
 * driver specification, and preferences that are none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <bson/bson.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "upstream/selection.h"

static bson_t *document(const char *text)
{
    bson_error_t error;
    char *json = bson_strdup(text);
    for (char *at = json; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    bson_t *made = bson_new_from_json((const uint8_t *)json, -1, &error);
    bson_free(json);
    assert_non_null(made);
    return made;
}

static struct slice bytes(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

static bool parses(const char *text)
{
    struct selection_preference preference;
    bson_t *made = document(text);
    bool parsed = selection_preference_parse(bytes(made), &preference);
    bson_destroy(made);
    return parsed;
}

static void test_preferences(void **state)
{
    (void)state;
    assert_true(parses("{'mode': 'secondary'}"));
    assert_true(parses("{'mode': 'nearest', 'tags': [], 'hedge': {'enabled': true}}"));
    assert_true(parses("{'tags': [{'a': 'b'}, {}], 'mode': 'secondaryPreferred'}"));
    assert_true(parses("{'mode': 'primaryPreferred', 'maxStalenessSeconds': 90}"));
    assert_true(parses("{'mode': 'secondary', 'maxStalenessSeconds': -1}"));
    assert_false(parses("{'mode': 'primary'}"));
    assert_false(parses("{'mode': 1}"));
    assert_false(parses("{'mode': 'Secondary'}"));
    assert_false(parses("{}"));
    assert_false(parses("{'mode': 'secondary', 'tags': {'a': 'b'}}"));
    assert_false(parses("{'mode': 'secondary', 'tags': ['a']}"));
    assert_false(parses("{'mode': 'secondary', 'tags': [{'a': 1}]}"));
    assert_false(parses("{'mode': 'secondary', 'maxStalenessSeconds': 89}"));
    assert_false(parses("{'mode': 'secondary', 'maxStalenessSeconds': 'x'}"));
    struct selection_preference preference;
    assert_false(selection_preference_parse((struct slice){0}, &preference));
    static const uint8_t broken[] = {9, 0, 0, 0, 2, 'm', 0, 0, 0};
    assert_false(selection_preference_parse(slice_make(broken, sizeof broken), &preference));
}

/* A set: the primary P, A 3 ms away and fresh, B 10 ms and 200 s behind, C 40 ms and fresh. */
enum { P, A, B, C, MEMBERS };
#define NOW_MS 1000000

struct fixture {
    struct selection_member members[MEMBERS];
    bson_t *tags[MEMBERS];
};

static void setup(struct fixture *fixture)
{
    static const char *const tags[] = {"{'dc': 'x'}", "{'dc': 'x', 'use': 'reports'}",
                                       "{'dc': 'y'}", "{'dc': 'z'}"};
    static const int64_t round_trips[] = {1, 3, 10, 40};
    for (size_t i = 0; i < MEMBERS; i++) {
        fixture->tags[i] = document(tags[i]);
        fixture->members[i] = (struct selection_member){
            .primary = i == P,
            .tags = bytes(fixture->tags[i]),
            .last_write_ms = NOW_MS - (i == B ? 200000 : 0),
            .seen_ms = NOW_MS,
            .round_trip_ms = round_trips[i],
        };
    }
}

static void teardown(struct fixture *fixture)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        bson_destroy(fixture->tags[i]);
    }
}

/* Who is found, in their order: "AB". `from`: P, or A for a set without a primary. */
static void assert_found(const struct fixture *fixture, size_t from, const char *text,
                         int64_t threshold_ms, const char *wanted)
{
    struct selection_preference preference;
    size_t indexes[MEMBERS];
    char found[MEMBERS + 1] = "";
    bson_t *made = document(text);
    assert_true(selection_preference_parse(bytes(made), &preference));
    size_t count = selection_find(fixture->members + from, MEMBERS - from, &preference, 10000,
                                  threshold_ms, indexes);
    for (size_t i = 0; i < count; i++) {
        found[i] = "PABC"[indexes[i] + from];
    }
    bson_destroy(made);
    if (strcmp(found, wanted) != 0) {
        fail_msg("%s: \"%s\", not \"%s\"", text, found, wanted);
    }
}

static void test_modes(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture);
    assert_found(&fixture, P, "{'mode': 'primaryPreferred'}", 15, "P");
    assert_found(&fixture, A, "{'mode': 'primaryPreferred'}", 15, "AB");
    assert_found(&fixture, P, "{'mode': 'secondary'}", 15, "AB");
    assert_found(&fixture, P, "{'mode': 'secondary'}", 100, "ABC");
    assert_found(&fixture, P, "{'mode': 'secondary'}", 0, "A");
    assert_found(&fixture, P, "{'mode': 'secondaryPreferred'}", 15, "AB");
    assert_found(&fixture, P, "{'mode': 'nearest'}", 15, "PAB");
    assert_found(&fixture, A, "{'mode': 'nearest'}", 100, "ABC");
    struct selection_preference secondary = {.mode = SELECTION_SECONDARY};
    struct selection_preference preferred = {.mode = SELECTION_SECONDARY_PREFERRED};
    size_t indexes[1];
    assert_int_equal(selection_find(fixture.members, 1, &secondary, 1, 1, indexes), 0);
    assert_int_equal(selection_find(fixture.members, 1, &preferred, 1, 1, indexes), 1);
    assert_int_equal(selection_find(fixture.members, 0, &preferred, 1, 1, indexes), 0);
    teardown(&fixture);
}

static void test_tags(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture);
    assert_found(&fixture, P, "{'mode': 'secondary', 'tags': [{'dc': 'z'}]}", 15, "C");
    assert_found(&fixture, P, "{'mode': 'secondary', 'tags': [{'dc': 'q'}, {'dc': 'y'}]}", 15, "B");
    assert_found(&fixture, P, "{'mode': 'secondary', 'tags': [{'dc': 'q'}, {}]}", 15, "AB");
    assert_found(&fixture, P, "{'mode': 'secondary', 'tags': [{'dc': 'x', 'use': 'q'}]}", 15, "");
    assert_found(&fixture, P, "{'mode': 'secondaryPreferred', 'tags': [{'dc': 'q'}]}", 15, "P");
    assert_found(&fixture, P, "{'mode': 'primaryPreferred', 'tags': [{'dc': 'y'}]}", 15, "P");
    assert_found(&fixture, A, "{'mode': 'primaryPreferred', 'tags': [{'dc': 'y'}]}", 15, "B");
    assert_found(&fixture, P, "{'mode': 'nearest', 'tags': [{'dc': 'x'}]}", 15, "PA");
    fixture.members[A].tags = (struct slice){0};
    assert_found(&fixture, P, "{'mode': 'nearest', 'tags': [{'dc': 'x'}]}", 15, "P");
    teardown(&fixture);
}

static void test_staleness(void **state)
{
    struct fixture fixture;
    (void)state;
    setup(&fixture);
    assert_found(&fixture, P, "{'mode': 'secondary', 'maxStalenessSeconds': 209}", 100, "AC");
    assert_found(&fixture, P, "{'mode': 'secondary', 'maxStalenessSeconds': 210}", 100, "ABC");
    assert_found(&fixture, A, "{'mode': 'secondary', 'maxStalenessSeconds': 209}", 100, "AC");
    assert_found(&fixture, A, "{'mode': 'nearest', 'maxStalenessSeconds': 210}", 100, "ABC");
    /* What was seen earlier may have been written since: clocks of servers are not compared. */
    fixture.members[B].seen_ms -= 150000;
    assert_found(&fixture, P, "{'mode': 'secondary', 'maxStalenessSeconds': 90}", 100, "ABC");
    teardown(&fixture);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(selection_mode_name(SELECTION_NEAREST), "nearest");
    assert_string_equal(selection_mode_name(SELECTION_PRIMARY_PREFERRED), "primaryPreferred");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preferences), cmocka_unit_test(test_modes),
        cmocka_unit_test(test_tags),        cmocka_unit_test(test_staleness),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
