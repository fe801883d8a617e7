/*
 * Computed updates against the server's own: whatever is computed must be, byte for byte, what the
 * server makes of it; and what looks doubtful must not be computed.
 *
 * HOLDFAST_TEST_SEED chooses the random updates; a failure prints it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/apply_update.h"
#include "engine/command_build.h"
#include "server_fixture.h"
#include "test_seed.h"

#define ROUNDS 600

/* Where there is no server, only what is computed is checked. */
static struct update_rules rules = {.update_fields = FIELD_ORDER_SORTED,
                                    .upsert_fields = FIELD_ORDER_SORTED};

/* ------------------------------------------------------------------ one update, both ways */

static struct statement statement_of(struct slice filter, struct slice update, bool upsert)
{
    bson_iter_t at;
    bool first = bson_iter_init_from_data(&at, update.data, update.size) && bson_iter_next(&at);
    return (struct statement){
        .kind = STATEMENT_UPDATE,
        .filter = filter,
        .update = update,
        .update_is_replacement = !first || bson_iter_key(&at)[0] != '$',
        .upsert = upsert,
    };
}

/* The server's own after-image; UNKNOWN if it refuses. */
static struct image by_server(const struct statement *statement, struct image before,
                              struct slice key)
{
    struct command_target target = {.database = "db", .collection = "c"};
    bool insert = before.presence == IMAGE_ABSENT;
    bson_t command = BSON_INITIALIZER;
    struct image after = {.presence = IMAGE_UNKNOWN};
    struct error error = {0};
    command_build_update(&command, &target, statement, key, false, insert);
    enum status status = upstream_evaluate(upstream, doc_slice(&command), before, &after, &error);
    if (status != STATUS_OK && status != STATUS_CONFLICT) {
        fail_msg("%s", error.message);
    }
    bson_destroy(&command);
    return after;
}

/* True if it was computed; then it is what the server makes of it. */
static bool same_both_ways(struct slice filter, struct slice update, struct image before,
                           struct slice key)
{
    struct statement statement = statement_of(filter, update, before.presence == IMAGE_ABSENT);
    bson_t after = BSON_INITIALIZER;
    bool computed = apply_update(&statement, before.document, key, &rules, &after);
    if (computed && have_server) {
        struct image expected = by_server(&statement, before, key);
        struct image got = {.presence = IMAGE_PRESENT, .document = doc_slice(&after)};
        if (!image_equal(expected, got)) {
            bson_t view;
            char *ours = bson_as_canonical_extended_json(&after, NULL);
            char *theirs = NULL;
            char *text = NULL;
            if (expected.presence == IMAGE_PRESENT &&
                bson_init_static(&view, expected.document.data, expected.document.size)) {
                theirs = bson_as_canonical_extended_json(&view, NULL);
            }
            if (bson_init_static(&view, update.data, update.size)) {
                text = bson_as_canonical_extended_json(&view, NULL);
            }
            fail_msg("update %s: computed %s, the server makes %s", text, ours,
                     theirs == NULL ? "an error of it" : theirs);
        }
        image_free(&expected);
    }
    if (!computed) {
        assert_int_equal(after.len, 5);
    }
    bson_destroy(&after);
    return computed;
}

/* ------------------------------------------------------------------ what is computed, what not */

static const struct {
    const char *before; /* "" : an upsert */
    const char *filter;
    const char *update;
    bool computed;
} cases[] = {
    {"{\"_id\":1,\"a\":1}", "{\"_id\":1}", "{\"$set\":{\"a\":2}}", true},
    {"{\"_id\":1,\"a\":1}", "{\"_id\":1}", "{\"$set\":{\"b\":{\"x\":[1,{\"y\":2}]}}}", true},
    {"{\"_id\":1,\"a\":{\"b\":1,\"c\":2},\"d\":3}", "{}", "{\"$set\":{\"a.b\":5,\"a.z.y\":6}}",
     true},
    {"{\"_id\":1,\"a\":{\"b\":1},\"d\":3}", "{}", "{\"$unset\":{\"a.b\":\"\",\"x.y\":1,\"d\":1}}",
     true},
    {"{\"_id\":1,\"a\":2147483647}", "{}", "{\"$inc\":{\"a\":1,\"n\":5}}", true},
    {"{\"_id\":1,\"a\":1.5}", "{}", "{\"$inc\":{\"a\":1}}", true},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"a\":1},\"$setOnInsert\":{\"b\":1}}", true},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"b\":2,\"c\":{\"d\":1}}", true},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"c\":1,\"_id\":1}", true},
    {"{\"_id\":1,\"a\":1}", "{}", "{}", true},
    {"", "{\"k\":\"v\"}", "{\"$set\":{\"c\":1,\"a\":1},\"$setOnInsert\":{\"b\":1}}", true},
    {"", "{\"$and\":[{\"p\":\"x\",\"q\":null}]}", "{\"$set\":{\"a\":1}}", true},
    {"", "{\"k\":1}", "{\"a\":1}", true},
    /* names and places that servers differ in */
    {"{\"_id\":1,\"a\":[1,2]}", "{}", "{\"$set\":{\"a.0\":5}}", false},
    {"{\"_id\":1,\"a\":[{\"b\":1}]}", "{}", "{\"$set\":{\"a.b\":5}}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"a.b\":5}}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"_id\":2}}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"_id\":2}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"a\":1,\"a.b\":2}}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"a\":1},\"$inc\":{\"a\":2}}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"\":1}}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"a.\":1}}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"b\":{\"$x\":1}}}", false},
    {"{\"_id\":1,\"a\":1}", "{}", "{\"$set\":{\"b\":{\"x.y\":1}}}", false},
    {"{\"_id\":1,\"$x\":1}", "{}", "{\"$set\":{\"a\":1}}", false},
    {"{\"_id\":1,\"a\":\"s\"}", "{}", "{\"$inc\":{\"a\":1}}", false},
    {"{\"_id\":1,\"a\":{\"$numberLong\":\"9223372036854775807\"}}", "{}", "{\"$inc\":{\"a\":1}}",
     false},
    {"{\"_id\":1}", "{}", "{\"$push\":{\"a\":1}}", false},
    {"{\"_id\":1}", "{}", "{\"$set\":{\"a\":1},\"$push\":{\"b\":1}}", false},
    {"{\"_id\":1}", "{}", "{\"$set\":1}", false},
    {"{\"_id\":1}", "{}", "{\"t\":{\"$timestamp\":{\"t\":0,\"i\":0}}}", false},
    {"{\"_id\":1,\"x\":{\"$code\":\"c\"}}", "{}", "{\"$set\":{\"a\":1}}", false},
    {"{\"_id\":1,\"x\":[{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"\"}}]}", "{}",
     "{\"$set\":{\"a\":1}}", false},
    {"{\"_id\":1,\"x\":{\"$binary\":{\"base64\":\"YQ==\",\"subType\":\"02\"}}}", "{}",
     "{\"$set\":{\"a\":1}}", false},
    {"{\"_id\":1}", "{}", "{\"$set\":{\"x\":{\"$code\":\"c\"}}}", false},
    {"", "{\"k\":{\"$gt\":1}}", "{\"$set\":{\"a\":1}}", false},
    {"", "{\"k.l\":1}", "{\"$set\":{\"a\":1}}", false},
    {"", "{\"$or\":[{\"k\":1}]}", "{\"$set\":{\"a\":1}}", false},
    {"", "{\"k\":1,\"$and\":[{\"k\":2}]}", "{\"$set\":{\"a\":1}}", false},
    {"", "{\"k\":{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"\"}}}",
     "{\"$set\":{\"a\":1}}", false},
};

static void only_what_is_certain_is_computed(void **state)
{
    (void)state;
    struct slice key = key_of("{\"_id\":1}");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice filter = key_of(cases[i].filter);
        struct slice update = key_of(cases[i].update);
        bool computed = same_both_ways(filter, update, image_of(cases[i].before), key);
        if (computed != cases[i].computed) {
            fail_msg("case %zu (%s): computed %d", i, cases[i].update, computed);
        }
    }
}

/* New fields of one level stand in an order that servers choose differently. */
static void an_unknown_order_of_new_fields_is_not_guessed(void **state)
{
    (void)state;
    struct image before = image_of("{\"_id\":1,\"z\":1}");
    static const char *const orders[] = {"{\"$set\":{\"b\":1,\"a\":1}}",
                                         "{\"$set\":{\"a\":1,\"b\":1}}"};
    for (size_t i = 0; i < 2; i++) {
        struct statement statement = statement_of(key_of("{}"), key_of(orders[i]), false);
        bson_t after = BSON_INITIALIZER;
        struct slice key = key_of("{\"_id\":1}");
        assert_false(apply_update(&statement, before.document, key,
                                  &(struct update_rules){.update_fields = FIELD_ORDER_UNKNOWN},
                                  &after));
        bson_reinit(&after);
        assert_true(apply_update(&statement, before.document, key,
                                 &(struct update_rules){.update_fields = FIELD_ORDER_SORTED},
                                 &after));
        assert_true(slice_equal(doc_slice(&after), key_of("{\"_id\":1,\"z\":1,\"a\":1,\"b\":1}")));
        bson_reinit(&after);
        assert_true(apply_update(&statement, before.document, key,
                                 &(struct update_rules){.update_fields = FIELD_ORDER_AS_GIVEN},
                                 &after));
        assert_true(
            slice_equal(doc_slice(&after), i == 1 ? key_of("{\"_id\":1,\"z\":1,\"a\":1,\"b\":1}")
                                                  : key_of("{\"_id\":1,\"z\":1,\"b\":1,\"a\":1}")));
        bson_destroy(&after);
    }
}

/* ------------------------------------------------------------------ random updates */

static uint64_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % bound;
}

static const char *random_path(bool deep)
{
    static const char *const paths[] = {"a",   "b",   "c",     "d",     "n",   "n.x",
                                        "n.y", "m.x", "m.y.z", "n.x.q", "a-b", "a.b"};
    return paths[random_below(deep ? 12 : 5)];
}

static void put_random_value(bson_t *into, const char *name, int depth)
{
    bson_t child;
    switch (random_below(depth > 0 ? 8 : 6)) {
    case 0:
        BSON_APPEND_INT32(into, name, (int32_t)random_below(5));
        break;
    case 1:
        BSON_APPEND_INT64(into, name, (int64_t)random_below(5));
        break;
    case 2:
        BSON_APPEND_DOUBLE(into, name, random_below(5) / 2.0);
        break;
    case 3:
        BSON_APPEND_UTF8(into, name, "text");
        break;
    case 4:
        BSON_APPEND_NULL(into, name);
        break;
    case 5:
        BSON_APPEND_INT32(into, name, INT32_MAX - (int32_t)random_below(3));
        break;
    default:
        BSON_APPEND_DOCUMENT_BEGIN(into, name, &child);
        put_random_value(&child, "x", depth - 1);
        put_random_value(&child, "y", depth - 1);
        bson_append_document_end(into, &child);
    }
}

static void put_random_document(bson_t *into)
{
    static const char *const names[] = {"a", "b", "c", "d", "n", "m"};
    BSON_APPEND_INT32(into, "_id", 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (random_below(2) == 0) {
            put_random_value(into, names[i], 2);
        }
    }
}

static void put_random_update(bson_t *into)
{
    static const char *const operators[] = {"$set", "$inc", "$unset", "$setOnInsert"};
    if (random_below(6) == 0) {
        for (uint32_t i = random_below(4); i > 0; i--) {
            const char *name = random_path(false);
            if (!bson_has_field(into, name)) {
                put_random_value(into, name, 2);
            }
        }
        return;
    }
    for (uint32_t i = 0; i < 4; i++) {
        bson_t child;
        if (random_below(2) == 0 && !(i == 3 && into->len == 5)) {
            continue;
        }
        BSON_APPEND_DOCUMENT_BEGIN(into, operators[i], &child);
        for (uint32_t n = 1 + random_below(3); n > 0; n--) {
            put_random_value(&child, random_path(true), i == 0 ? 2 : 0);
        }
        bson_append_document_end(into, &child);
    }
}

static void random_updates_are_what_the_server_makes(void **state)
{
    (void)state;
    need_server();
    unsigned computed = 0;
    struct slice key = key_of("{\"_id\":1}");
    random_state = seed_of_run();
    for (unsigned i = 0; i < ROUNDS; i++) {
        bson_t before = BSON_INITIALIZER;
        bson_t update = BSON_INITIALIZER;
        bool upsert = random_below(4) == 0;
        put_random_document(&before);
        put_random_update(&update);
        struct image image = {.presence = IMAGE_PRESENT, .document = doc_slice(&before)};
        struct slice filter = key_of("{\"k\":7,\"j\":null}");
        computed += same_both_ways(upsert ? filter : key_of("{}"), doc_slice(&update),
                                   upsert ? (struct image){.presence = IMAGE_ABSENT} : image, key);
        bson_destroy(&before);
        bson_destroy(&update);
    }
    printf("%u of %u updates were computed\n", computed, ROUNDS);
    assert_true(computed > ROUNDS / 5);
}

/* ------------------------------------------------------------------ */

static int start(void **state)
{
    int failed = server_fixture_start(state);
    return failed == 0 && have_server ? (int)upstream_update_rules(upstream, &rules, NULL) : failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_certain_is_computed),
        cmocka_unit_test(an_unknown_order_of_new_fields_is_not_guessed),
        cmocka_unit_test(random_updates_are_what_the_server_makes),
    };
    return cmocka_run_group_tests(tests, start, server_fixture_stop);
}
