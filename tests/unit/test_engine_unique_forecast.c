/*
 * Forecasts of unique keys against the server: whatever it makes of a document, all its keys were
 * forecast. And by hand: nothing is forecast that would make others wait for nothing.
 *
 * HOLDFAST_TEST_SEED chooses the random updates; a failure prints it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/command_build.h"
#include "engine/unique_forecast.h"
#include "server_fixture.h"
#include "test_seed.h"

#define ROUNDS 400

static struct unique_indexes *indexes_of(const char *keys)
{
    char text[1024];
    snprintf(text, sizeof text, "{\"cursor\":{\"id\":0,\"firstBatch\":[%s]}}", keys);
    bson_t *reply = doc(text);
    struct unique_indexes *indexes = unique_indexes_parse("db.c", reply, false);
    bson_destroy(reply);
    assert_non_null(indexes);
    return indexes;
}

static struct statement statement_of(struct slice update, struct slice filters, bool upsert)
{
    return (struct statement){
        .kind = STATEMENT_UPDATE,
        .filter = key_of(upsert ? "{\"u\":{\"$eq\":7},\"t.x\":3}" : "{}"),
        .update = update,
        .array_filters = filters,
        .upsert = upsert,
    };
}

static bool add_keys(const struct unique_indexes *indexes, struct slice document,
                     struct unique_keys *keys)
{
    keys->count_max = 100000;
    return unique_keys_of_change(indexes, (struct slice){0}, document, keys) == STATUS_OK;
}

static bool has(const struct unique_keys *keys, const struct lock_name *name)
{
    bool found = false;
    for (size_t i = 0; i < keys->count && !found; i++) {
        found = memcmp(&keys->names[i], name, sizeof *name) == 0;
    }
    return found;
}

static char *text_of(struct slice document)
{
    bson_t view;
    return document.size > 0 && bson_init_static(&view, document.data, document.size)
               ? bson_as_relaxed_extended_json(&view, NULL)
               : bson_strdup("nothing");
}

/* ------------------------------------------------------------------ by hand */

#define INDEX(key, more) "{\"key\":" key ",\"name\":\"i\",\"unique\":true" more "}"
#define PLAIN INDEX("{\"u\":1}", "")
#define FIELDS INDEX("{\"t.x\":1,\"u\":1}", "")

static const struct {
    const char *index;
    const char *before; /* "": an upsert by {u: 7} */
    const char *update;
    const char *forecast; /* NULL: none */
} cases[] = {
    {PLAIN, "{\"_id\":1,\"u\":3,\"b\":1}", "{\"$mul\":{\"u\":2,\"b\":7}}", "{\"u\":6}"},
    {PLAIN, "{\"u\":3}", "{\"$min\":{\"u\":2}}", "{\"u\":[3,2]}"},
    {PLAIN, "{\"u\":3}", "{\"$push\":{\"b\":2}}", "{\"u\":3}"},
    {PLAIN, "{\"u\":[1]}", "{\"$push\":{\"u\":2}}", "{\"u\":[1,2]}"},
    {PLAIN, "{\"u\":[1]}", "{\"$addToSet\":{\"u\":{\"$each\":[2,3]}}}", "{\"u\":[1,2,3]}"},
    {PLAIN, "{\"u\":[1]}", "{\"$push\":{\"u\":{\"$each\":[2],\"$slice\":0}}}",
     "{\"u\":[1,2,null]}"},
    {PLAIN, "{\"u\":[1,2]}", "{\"$pull\":{\"u\":{\"$gt\":1}}}", "{\"u\":[1,2,null]}"},
    {PLAIN, "{\"u\":1,\"a\":{\"b\":5}}", "{\"$rename\":{\"a.b\":\"u\"}}", "{\"u\":5}"},
    {PLAIN, "{\"u\":1}", "{\"$rename\":{\"u\":\"w\"}}", "{}"},
    {PLAIN, "{\"u\":[1,2]}", "{\"$set\":{\"u.1\":5}}", "{\"u\":[1,2,5]}"},
    {PLAIN, "{\"u\":[1]}", "{\"$set\":{\"u.3\":5}}", "{\"u\":[1,5,null]}"},
    {PLAIN, "{\"u\":[1,2]}", "{\"$min\":{\"u.$[]\":0}}", "{\"u\":[1,2,0,0]}"},
    {PLAIN, "{\"u\":6}", "{\"$bit\":{\"u\":{\"and\":3}}}", "{\"u\":2}"},
    {PLAIN, "{\"u\":1}", "{\"$setOnInsert\":{\"u\":3},\"$push\":{\"b\":1}}", "{\"u\":1}"},
    {PLAIN, "", "{\"$mul\":{\"u\":3}}", "{\"u\":21}"},
    {PLAIN, "", "{\"$setOnInsert\":{\"u\":3},\"$push\":{\"b\":1}}", "{\"u\":3}"},
    {FIELDS, "{\"t\":[{\"x\":1},{\"x\":2}]}", "{\"$set\":{\"t.$[i].x\":9}}",
     "{\"t\":[{\"x\":1},{\"x\":2},{\"x\":9},{\"x\":9}]}"},
    {FIELDS, "{\"t\":{\"x\":1}}", "{\"$inc\":{\"t.x\":2,\"t.y\":1}}", "{\"t\":{\"x\":3,\"y\":1}}"},
    {PLAIN, "{\"u\":{\"$numberDecimal\":\"1.50\"}}", "{\"$mul\":{\"u\":2}}",
     "{\"u\":{\"$numberLong\":\"3\"}}"},
    {PLAIN, "{\"u\":{\"$numberDecimal\":\"0.25\"}}", "{\"$inc\":{\"u\":1}}", "{\"u\":1.25}"},
    {PLAIN, "{\"u\":{\"$numberDecimal\":\"1E+3\"}}",
     "{\"$inc\":{\"u\":{\"$numberDecimal\":\"-1\"}}}", "{\"u\":{\"$numberLong\":\"999\"}}"},
    {PLAIN, "{\"u\":{\"$numberDecimal\":\"NaN\"}}", "{\"$inc\":{\"u\":1}}", NULL},
    {PLAIN, "{\"u\":{\"$numberDecimal\":\"1234567890123456789.5\"}}", "{\"$inc\":{\"u\":1}}", NULL},
    {PLAIN, "{\"u\":1}", "{\"$foo\":{\"u\":1}}", NULL},
};

static void test_by_hand(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct unique_indexes *indexes = indexes_of(cases[i].index);
        bool upsert = cases[i].before[0] == '\0';
        struct statement statement =
            statement_of(key_of(cases[i].update), (struct slice){0}, upsert);
        struct slice before = upsert ? (struct slice){0} : key_of(cases[i].before);
        bson_t forecast = BSON_INITIALIZER;
        bool told = unique_forecast(indexes, &statement, before, key_of("{\"_id\":1}"), &forecast);
        const char *wanted = cases[i].forecast == NULL ? "{}" : cases[i].forecast;
        bson_t *expected = doc(wanted);
        char *got = bson_as_relaxed_extended_json(&forecast, NULL);
        char *hoped = bson_as_relaxed_extended_json(expected, NULL);
        if (told != (cases[i].forecast != NULL) || strcmp(got, hoped) != 0) {
            fail_msg("%s of %s: %s, not %s", cases[i].update, cases[i].before, got, hoped);
        }
        bson_free(got);
        bson_free(hoped);
        bson_destroy(expected);
        bson_destroy(&forecast);
        unique_indexes_release(indexes);
    }
}

/* A path of any length, and arrays that grow with each change, end in no forecast. */
static void test_bounds(void **state)
{
    (void)state;
    struct unique_indexes *indexes = indexes_of(PLAIN);
    char path[20001] = "u";
    bson_t update = BSON_INITIALIZER;
    bson_t forecast = BSON_INITIALIZER;
    bson_t set;
    for (size_t i = 1; i + 2 < sizeof path; i += 2) {
        path[i] = '.';
        path[i + 1] = 'u';
    }
    BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &set);
    bson_append_int32(&set, path, -1, 1);
    bson_append_document_end(&update, &set);
    struct statement statement = statement_of(doc_slice(&update), (struct slice){0}, false);
    assert_false(unique_forecast(indexes, &statement, key_of("{}"), (struct slice){0}, &forecast));
    assert_int_equal(forecast.len, 5);

    bson_reinit(&update);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &set);
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof path, "u.$[].f%d", i);
        bson_append_int32(&set, path, -1, 1);
    }
    bson_append_document_end(&update, &set);
    statement = statement_of(doc_slice(&update), (struct slice){0}, false);
    assert_false(unique_forecast(indexes, &statement, key_of("{\"u\":[{\"a\":1}]}"),
                                 (struct slice){0}, &forecast));
    bson_destroy(&update);
    bson_destroy(&forecast);
    unique_indexes_release(indexes);
}

/* ------------------------------------------------------------------ against the server */

static uint64_t random_state;

static uint32_t pick(uint32_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % bound;
}

static void put_value(bson_t *into, const char *name, int depth)
{
    bson_t inside;
    bson_decimal128_t decimal;
    switch (pick(depth > 0 ? 10 : 6)) {
    case 0:
        bson_append_int32(into, name, -1, (int32_t)pick(5));
        return;
    case 1:
        bson_append_double(into, name, -1, pick(7) / 2.0);
        return;
    case 2:
        bson_append_null(into, name, -1);
        return;
    case 3:
        bson_append_utf8(into, name, -1, "a", -1);
        return;
    case 4:
        assert_true(bson_decimal128_from_string(pick(2) == 0 ? "1.50" : "2E+2", &decimal));
        bson_append_decimal128(into, name, -1, &decimal);
        return;
    case 5:
        bson_append_int64(into, name, -1, (int64_t)pick(3) << 40);
        return;
    case 6:
    case 7:
        bson_append_array_begin(into, name, -1, &inside);
        for (uint32_t i = pick(4); i > 0; i--) {
            char text[4];
            snprintf(text, sizeof text, "%u", bson_count_keys(&inside));
            put_value(&inside, text, depth - 1);
        }
        bson_append_array_end(into, &inside);
        return;
    default:
        bson_append_document_begin(into, name, -1, &inside);
        if (pick(4) > 0) {
            put_value(&inside, "x", depth - 1);
        }
        if (pick(4) > 0) {
            put_value(&inside, "y", depth - 1);
        }
        bson_append_document_end(into, &inside);
        return;
    }
}

static void put_document(bson_t *into)
{
    static const char *const names[] = {"u", "t", "v"};
    BSON_APPEND_INT32(into, "_id", 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (pick(4) > 0) {
            put_value(into, names[i], 3);
        }
    }
}

/* {operator: {path: operand}} */
static void put_update(bson_t *into)
{
    static const char *const names[] = {"$set",    "$unset", "$inc",      "$mul",  "$min",
                                        "$max",    "$push",  "$addToSet", "$pull", "$pop",
                                        "$rename", "$push",  "$bit"};
    static const char *const paths[] = {"u",        "t",     "v",      "t.x",
                                        "u.x",      "t.0",   "t.1.x",  "t.$[].x",
                                        "t.$[i].x", "u.$[]", "u.$[i]", "t.$[].y"};
    const char *name = names[pick(sizeof names / sizeof names[0])];
    const char *path = paths[pick(sizeof paths / sizeof paths[0])];
    bson_t inside;
    bson_t more;
    bson_t list;
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &inside);
    if (strcmp(name, "$rename") == 0) {
        bson_append_utf8(&inside, path, -1, pick(2) == 0 ? "u" : "w", -1);
    } else if (strcmp(name, "$bit") == 0) {
        bson_append_document_begin(&inside, path, -1, &more);
        BSON_APPEND_INT32(&more, pick(2) == 0 ? "and" : "xor", (int32_t)pick(8));
        bson_append_document_end(&inside, &more);
    } else if (strcmp(name, "$pop") == 0) {
        bson_append_int32(&inside, path, -1, pick(2) == 0 ? 1 : -1);
    } else if (strcmp(name, "$push") == 0 && pick(2) == 0) {
        bson_append_document_begin(&inside, path, -1, &more);
        BSON_APPEND_ARRAY_BEGIN(&more, "$each", &list);
        put_value(&list, "0", 1);
        put_value(&list, "1", 1);
        bson_append_array_end(&more, &list);
        if (pick(2) == 0) {
            BSON_APPEND_INT32(&more, "$slice", (int32_t)pick(3));
        }
        bson_append_document_end(&inside, &more);
    } else {
        put_value(&inside, path, 2);
    }
    bson_append_document_end(into, &inside);
}

/* The server's after-image; UNKNOWN if it refuses. */
static struct image by_server(const struct statement *statement, struct image before)
{
    struct command_target target = {.database = "db", .collection = "c"};
    bson_t command = BSON_INITIALIZER;
    struct image after = {.presence = IMAGE_UNKNOWN};
    struct error error = {0};
    command_build_update(&command, &target, statement, key_of("{\"_id\":1}"), false,
                         before.presence == IMAGE_ABSENT);
    enum status status = upstream_evaluate(upstream, doc_slice(&command), before, &after, &error);
    if (status != STATUS_OK && status != STATUS_CONFLICT) {
        fail_msg("%s", error.message);
    }
    bson_destroy(&command);
    return after;
}

/* True: the server has made a document of it, and all its keys were told. */
static bool was_told(const struct unique_indexes *indexes, const struct statement *statement,
                     struct image before, bool wanted)
{
    struct image after = by_server(statement, before);
    bson_t forecast = BSON_INITIALIZER;
    struct unique_keys told = {0};
    struct unique_keys made = {0};
    bool is = after.presence == IMAGE_PRESENT;
    if (is &&
        !unique_forecast(indexes, statement, before.document, key_of("{\"_id\":1}"), &forecast)) {
        if (wanted) {
            fail_msg("no forecast of %s for %s", text_of(statement->update),
                     text_of(before.document));
        }
        is = false;
    }
    assert_true(add_keys(indexes, doc_slice(&forecast), &told));
    assert_true(!is || add_keys(indexes, after.document, &made));
    for (size_t i = 0; i < made.count; i++) {
        if (!has(&told, &made.names[i])) {
            fail_msg("%s of %s is %s; forecast %s", text_of(statement->update),
                     text_of(before.document), text_of(after.document),
                     text_of(doc_slice(&forecast)));
        }
    }
    free(told.names);
    free(made.names);
    bson_destroy(&forecast);
    image_free(&after);
    return is;
}

static void try_some(const struct unique_indexes *indexes, bool wanted)
{
    unsigned told = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        bson_t before = BSON_INITIALIZER;
        bson_t update = BSON_INITIALIZER;
        bool upsert = pick(6) == 0;
        put_document(&before);
        put_update(&update);
        struct slice text = doc_slice(&update);
        bool filtered = memmem(text.data, text.size, "$[i]", 4) != NULL;
        struct slice filters =
            filtered ? key_of("{\"0\":{\"i\":{\"$exists\":true}}}") : (struct slice){0};
        struct statement statement = statement_of(text, filters, upsert);
        struct image image = {.presence = IMAGE_PRESENT, .document = doc_slice(&before)};
        told += was_told(indexes, &statement,
                         upsert ? (struct image){.presence = IMAGE_ABSENT} : image, wanted);
        bson_destroy(&before);
        bson_destroy(&update);
    }
    printf("of %u of %d updates that made a document\n", told, ROUNDS);
    assert_true(told > ROUNDS / 5);
}

static void test_against_the_server(void **state)
{
    (void)state;
    need_server();
    static const char *const definitions[] = {
        /* each of these is told */
        INDEX("{\"u.x\":1}", ",\"sparse\":true") "," INDEX("{\"t.x\":1,\"v\":-1}", ""),
        INDEX("{\"u.x\":1}", ",\"partialFilterExpression\":{\"v\":{\"$exists\":true}}"),
        /* documents are keys as a whole */
        INDEX("{\"u\":1}", "") "," INDEX("{\"t\":1}", ",\"sparse\":true"),
    };
    random_state = seed_of_run();
    for (size_t i = 0; i < 3; i++) {
        struct unique_indexes *indexes = indexes_of(definitions[i]);
        try_some(indexes, i < 2);
        unique_indexes_release(indexes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_against_the_server),
    };
    return cmocka_run_group_tests(tests, server_fixture_start, server_fixture_stop);
}
