/*
 * Locks of unique keys against the server's own idea: what it calls a duplicate must share a lock.
 * What it does not, and what services have most, must not.
 *
 * HOLDFAST_TEST_SEED chooses the random documents; a failure prints it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/unique_keys.h"
#include "server_fixture.h"
#include "test_seed.h"

#define ROUNDS 400

/* The set of one index, as listIndexes tells of it. */
static struct unique_indexes *indexes_of(const char *index)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"cursor\":{\"id\":0,\"firstBatch\":[{\"key\":{\"_id\":1},\"name\":\"_id_\"},%s]}}",
             index);
    bson_t *reply = doc(text);
    struct unique_indexes *indexes = unique_indexes_parse("db.c", reply, false);
    bson_destroy(reply);
    assert_non_null(indexes);
    return indexes;
}

static struct unique_keys keys_of(const struct unique_indexes *indexes, const bson_t *document)
{
    struct unique_keys keys = {.count_max = 10000};
    assert_int_equal(unique_keys_of_change(indexes, (struct slice){0}, doc_slice(document), &keys),
                     STATUS_OK);
    return keys;
}

static bool meet(const struct unique_indexes *indexes, const bson_t *one, const bson_t *other)
{
    struct unique_keys a = keys_of(indexes, one);
    struct unique_keys b = keys_of(indexes, other);
    bool found = false;
    for (size_t i = 0; i < a.count; i++) {
        for (size_t k = 0; k < b.count; k++) {
            found = found || memcmp(&a.names[i], &b.names[k], sizeof a.names[i]) == 0;
        }
    }
    free(a.names);
    free(b.names);
    return found;
}

/* ------------------------------------------------------------------ by hand */

#define UNIQUE ",\"name\":\"i\",\"unique\":true"
#define PLAIN "{\"key\":{\"u\":1}" UNIQUE "}"
#define COMPOUND "{\"key\":{\"a.x\":1,\"a.y\":1,\"b\":-1}" UNIQUE "}"
#define SPARSE "{\"key\":{\"u\":1,\"v\":1}" UNIQUE ",\"sparse\":true}"
#define EXISTING                                                                                   \
    "{\"key\":{\"u\":1}" UNIQUE ",\"partialFilterExpression\":{\"u\":{\"$exists\":true}}}"
#define FOLDED "{\"key\":{\"u\":1}" UNIQUE ",\"collation\":{\"locale\":\"en\",\"strength\":2}}"
#define NUMBERED "{\"key\":{\"u.0\":1}" UNIQUE "}"
#define NOT_UNIQUE "{\"key\":{\"u\":1},\"name\":\"i\"}"

static const struct {
    const char *index;
    const char *one;
    const char *other;
    bool meet;
} pairs[] = {
    {PLAIN, "{\"u\":1}", "{\"u\":{\"$numberDouble\":\"1.0\"}}", true},
    {PLAIN, "{\"u\":1}", "{\"u\":2}", false},
    {PLAIN, "{\"u\":1}", "{\"u\":\"1\"}", false},
    {PLAIN, "{\"v\":1}", "{\"u\":null}", true},
    {PLAIN, "{\"u\":[1,2]}", "{\"u\":[3,2]}", true},
    {PLAIN, "{\"u\":[1,2]}", "{\"u\":[3,4]}", false},
    {PLAIN, "{\"u\":[[1,2]]}", "{\"u\":[1,2]}", false},
    {PLAIN, "{\"u\":{\"a\":1,\"b\":2}}", "{\"u\":{\"b\":2,\"a\":1}}", false},
    {COMPOUND, "{\"a\":[{\"x\":1,\"y\":2},{\"x\":3,\"y\":4}],\"b\":5}",
     "{\"a\":{\"x\":3,\"y\":4},\"b\":5}", true},
    {COMPOUND, "{\"a\":[{\"x\":1,\"y\":2},{\"x\":3,\"y\":4}],\"b\":5}",
     "{\"a\":{\"x\":1,\"y\":4},\"b\":5}", false},
    {COMPOUND, "{\"a\":[{\"x\":1}],\"b\":5}", "{\"a\":{\"x\":1},\"b\":5}", true},
    {COMPOUND, "{\"a\":{\"x\":1,\"y\":[6,7]}}", "{\"a\":[{\"x\":1,\"y\":7}],\"b\":null}", true},
    {COMPOUND, "{\"a\":[{\"x\":1}],\"b\":[5,6]}", "{\"a\":{\"x\":1},\"b\":6}", true},
    {SPARSE, "{}", "{}", false},
    {SPARSE, "{\"u\":1}", "{\"u\":1}", true},
    {SPARSE, "{\"u\":null}", "{\"u\":null}", true},
    {EXISTING, "{}", "{}", false},
    {EXISTING, "{\"u\":3}", "{\"u\":3}", true},
    {FOLDED, "{\"u\":\"a\"}", "{\"u\":\"A\"}", true},
    {FOLDED, "{\"u\":1}", "{\"u\":2}", false},
    {NUMBERED, "{\"u\":[1]}", "{\"u\":{\"0\":7}}", true},
    {NOT_UNIQUE, "{\"u\":1}", "{\"u\":1}", false},
};

/* The index on _id is one of them where the collection, or what is told of the index, has a
   collation; and for text only. */
static void test_collated_ids(void **state)
{
    static const char *const definitions[] = {
        "{\"key\":{\"_id\":1},\"name\":\"_id_\"}",
        "{\"key\":{\"_id\":1},\"name\":\"_id_\",\"collation\":{\"locale\":\"en\"}}",
    };
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"cursor\":{\"id\":0,\"firstBatch\":[%s]}}",
                 definitions[i % 2]);
        bson_t *reply = doc(text);
        struct unique_indexes *indexes = unique_indexes_parse("db.c", reply, i >= 2);
        bson_t *small = doc("{\"_id\":\"abc\"}");
        bson_t *large = doc("{\"_id\":{\"x\":\"ABC\"}}");
        bson_t *number = doc("{\"_id\":1}");
        bool collated = i > 0;
        assert_int_equal(unique_indexes_count(indexes), collated);
        assert_int_equal(meet(indexes, small, large), collated);
        assert_false(meet(indexes, number, number)); /* its document's lock is enough */
        bson_destroy(reply);
        bson_destroy(small);
        bson_destroy(large);
        bson_destroy(number);
        unique_indexes_release(indexes);
    }
}

static void test_pairs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct unique_indexes *indexes = indexes_of(pairs[i].index);
        bson_t *one = doc(pairs[i].one);
        bson_t *other = doc(pairs[i].other);
        if (meet(indexes, one, other) != pairs[i].meet ||
            meet(indexes, other, one) != pairs[i].meet) {
            fail_msg("%s: %s and %s should%s meet", pairs[i].index, pairs[i].one, pairs[i].other,
                     pairs[i].meet ? "" : " not");
        }
        bson_destroy(one);
        bson_destroy(other);
        unique_indexes_release(indexes);
    }
}

/* A document of many keys ends at the bound, not in memory that it chose. */
static void test_bound(void **state)
{
    (void)state;
    struct unique_indexes *indexes = indexes_of("{\"key\":{\"u\":1,\"v\":1}" UNIQUE "}");
    struct unique_keys keys = {.count_max = 15};
    bson_t *document = doc("{\"u\":[1,2,3,4],\"v\":[1,2,3,4]}");
    assert_int_equal(unique_keys_of_change(indexes, (struct slice){0}, doc_slice(document), &keys),
                     STATUS_FULL);
    assert_int_equal(keys.count, 15);
    free(keys.names);
    bson_destroy(document);
    unique_indexes_release(indexes);
}

/* Two keys that share a lock are still two: giving up one of them locks it. */
static void test_changes(void **state)
{
    (void)state;
    static const struct {
        const char *index;
        const char *before;
        const char *after;
        size_t count;
    } cases[] = {
        {PLAIN, "{\"u\":1,\"v\":1}", "{\"u\":1,\"v\":2}", 0},
        {PLAIN, "{\"u\":1}", "{\"u\":2}", 2},
        {FOLDED, "{\"u\":\"a\"}", "{\"u\":\"b\"}", 2},
        {SPARSE, "{\"u\":1}", "{}", 1},
        {EXISTING, "{\"u\":1}", "{}", 1},
        {"{\"key\":{\"u\":1}" UNIQUE ",\"partialFilterExpression\":{\"live\":true}}",
         "{\"u\":1,\"live\":true}", "{\"u\":1,\"live\":false}", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct unique_indexes *indexes = indexes_of(cases[i].index);
        struct unique_keys keys = {.count_max = 2};
        bson_t *before = doc(cases[i].before);
        bson_t *after = doc(cases[i].after);
        assert_int_equal(unique_keys_of_change(indexes, doc_slice(before), doc_slice(after), &keys),
                         STATUS_OK);
        if (keys.count != cases[i].count) {
            fail_msg("%s: %s to %s gives %zu locks", cases[i].index, cases[i].before,
                     cases[i].after, keys.count);
        }
        free(keys.names);
        bson_destroy(before);
        bson_destroy(after);
        unique_indexes_release(indexes);
    }
}

static void test_touched(void **state)
{
    (void)state;
    static const struct {
        const char *update;
        bool touched;
    } cases[] = {
        {"{\"$push\":{\"v\":1}}", false},       {"{\"$push\":{\"a.$[].x\":1}}", true},
        {"{\"$rename\":{\"v\":\"b\"}}", true},  {"{\"$rename\":{\"v\":\"w\"}}", false},
        {"{\"$mul\":{\"v\":2,\"b\":2}}", true}, {"{\"$pull\":{\"ab\":2}}", false},
    };
    struct unique_indexes *indexes = indexes_of(COMPOUND);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bson_t *update = doc(cases[i].update);
        struct statement statement = {.kind = STATEMENT_UPDATE, .update = doc_slice(update)};
        if (unique_indexes_touched(indexes, &statement) != cases[i].touched) {
            fail_msg("%s", cases[i].update);
        }
        bson_destroy(update);
    }
    unique_indexes_release(indexes);
}

static void test_nonsense(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "{}",
        "{\"cursor\":1}",
        "{\"cursor\":{\"id\":0}}",
        "{\"cursor\":{\"id\":7,\"firstBatch\":[]}}",
        "{\"cursor\":{\"id\":0,\"firstBatch\":[1]}}",
        "{\"cursor\":{\"id\":0,\"firstBatch\":[{\"name\":\"a\"}]}}",
        "{\"cursor\":{\"id\":0,\"firstBatch\":[{\"key\":1,\"name\":\"a\"}]}}",
    };
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        bson_t *reply = doc(replies[i]);
        assert_null(unique_indexes_parse("db.c", reply, false));
        bson_destroy(reply);
    }
}

/* ------------------------------------------------------------------ the server's own idea */

static int pick(int count)
{
    return (int)(random() % count);
}

static void put_value(bson_t *document, const char *name, int depth)
{
    bson_t inside;
    switch (pick(depth > 0 ? 10 : 7)) {
    case 0:
        bson_append_int32(document, name, -1, pick(2));
        return;
    case 1:
        bson_append_double(document, name, -1, pick(3) * 0.5);
        return;
    case 2:
        bson_append_int64(document, name, -1, pick(2));
        return;
    case 3:
        bson_append_null(document, name, -1);
        return;
    case 4:
    case 5:
        bson_append_utf8(document, name, -1, pick(2) == 0 ? "a" : "A", -1);
        return;
    case 6:
        bson_append_bool(document, name, -1, pick(2) == 0);
        return;
    case 7:
        bson_append_array_begin(document, name, -1, &inside);
        for (int i = pick(4); i > 0; i--) {
            char text[4];
            snprintf(text, sizeof text, "%u", bson_count_keys(&inside));
            put_value(&inside, text, depth - 1);
        }
        bson_append_array_end(document, &inside);
        return;
    default:
        bson_append_document_begin(document, name, -1, &inside);
        if (pick(4) > 0) {
            put_value(&inside, "x", depth - 1);
        }
        if (pick(4) > 0) {
            put_value(&inside, "y", depth - 1);
        }
        bson_append_document_end(document, &inside);
        return;
    }
}

static bson_t *random_document(int id)
{
    bson_t *document = bson_new();
    bson_append_int32(document, "_id", -1, id);
    if (pick(5) > 0) {
        put_value(document, "u", 3);
    }
    if (pick(2) > 0) {
        put_value(document, "v", 1);
    }
    return document;
}

/*
 * The last refusal is for an array as a whole, which the tests' server has in its index beside the
 * array's elements. MongoDB has the elements alone: to it ["a"] and [["a"]] are no duplicates.
 */
static bool refused_for_whole_array;

static int32_t run(bson_t *command)
{
    bson_t reply;
    int32_t code = 0;
    struct error error = {0};
    enum status status = upstream_command(upstream, "db", command, &reply, &code, &error);
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    } else if (status != STATUS_REFUSED) {
        fail_msg("%s", error.message);
    }
    refused_for_whole_array = strstr(error.message, "Array([") != NULL;
    return code;
}

static int32_t insert(const bson_t *document)
{
    bson_t command = BSON_INITIALIZER;
    bson_t documents;
    bson_append_utf8(&command, "insert", -1, "c", -1);
    bson_append_array_begin(&command, "documents", -1, &documents);
    bson_append_document(&documents, "0", -1, document);
    bson_append_array_end(&command, &documents);
    int32_t code = run(&command);
    bson_destroy(&command);
    return code;
}

/* True: the server has the index, and listIndexes tells of it. */
static struct unique_indexes *server_indexes(const char *index)
{
    char text[1024];
    bson_t reply;
    struct error error = {0};
    snprintf(text, sizeof text, "{\"createIndexes\":\"c\",\"indexes\":[%s]}", index);
    bson_t *command = doc(text);
    int32_t code = run(command);
    bson_destroy(command);
    if (code != 0) {
        return NULL; /* it knows no such index */
    }
    command = doc("{\"listIndexes\":\"c\",\"cursor\":{}}");
    assert_int_equal(upstream_command(upstream, "db", command, &reply, &code, &error), STATUS_OK);
    bson_destroy(command);
    struct unique_indexes *indexes = unique_indexes_parse("db.c", &reply, false);
    bson_destroy(&reply);
    assert_non_null(indexes);
    assert_int_equal(unique_indexes_count(indexes), 1);
    return indexes;
}

static void test_server_duplicates(void **state)
{
    (void)state;
    static const char *const definitions[] = {
        PLAIN,
        "{\"key\":{\"u.x\":1}" UNIQUE "}",
        "{\"key\":{\"u.x\":1,\"u.y\":-1,\"v\":1}" UNIQUE "}",
        SPARSE,
        EXISTING,
        FOLDED,
        "{\"key\":{\"u.x\":1}" UNIQUE ",\"sparse\":true}",
        "{\"key\":{\"u\":1}" UNIQUE ",\"partialFilterExpression\":{\"v\":{\"$gt\":0}}}",
    };
    size_t all = 0;
    need_server();
    for (size_t i = 0; i < sizeof definitions / sizeof definitions[0]; i++) {
        size_t duplicates = 0;
        struct unique_indexes *indexes = server_indexes(definitions[i]);
        for (int round = 0; indexes != NULL && round < ROUNDS; round++) {
            bson_t *one = random_document(1);
            bson_t *other = random_document(2);
            bool both = insert(one) == 0;
            if (both && insert(other) == 11000) {
                duplicates++;
                if (!refused_for_whole_array && !meet(indexes, one, other)) {
                    char *a = bson_as_canonical_extended_json(one, NULL);
                    char *b = bson_as_canonical_extended_json(other, NULL);
                    fail_msg("%s: duplicates without a lock in common: %s %s", definitions[i], a,
                             b);
                }
            }
            bson_destroy(one);
            bson_destroy(other);
            bson_t *clear = doc("{\"delete\":\"c\",\"deletes\":[{\"q\":{},\"limit\":0}]}");
            assert_int_equal(run(clear), 0);
            bson_destroy(clear);
        }
        printf("%zu of %d pairs are duplicates in %s\n", duplicates, ROUNDS, definitions[i]);
        all += duplicates;
        unique_indexes_release(indexes);
        bson_t *drop = doc("{\"drop\":\"c\"}");
        (void)run(drop);
        bson_destroy(drop);
    }
    assert_true(all > ROUNDS / 10);
}

int main(void)
{
    srandom((unsigned)seed_of_run());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_collated_ids),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_touched),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_server_duplicates),
    };
    return cmocka_run_group_tests(tests, server_fixture_start, server_fixture_stop);
}
