/* Shapes of write commands: what is told of each form, never a value, and nothing of hostile ones
 * that is longer than its bound or no text. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "observe/identifier.h"
#include "observe/text.h"
#include "observe_command.h"
#include "wire_bytes.h"

static struct shape shape_of(const char *json)
{
    struct shape shape;
    struct test_command command = command_of(json);
    shape_make(&command.view, &command.message, &shape);
    assert_int_equal(strlen(shape.text), shape.size);
    command_done(&command);
    return shape;
}

struct example {
    const char *command;
    const char *shape;
    bool several;
};

static void check(const struct example *examples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct shape shape = shape_of(examples[i].command);
        assert_string_equal(shape.text, examples[i].shape);
        assert_int_equal(shape.several, examples[i].several);
    }
}

#define CHECK(examples) check(examples, sizeof(examples) / sizeof((examples)[0]))
#define DB "\"$db\": \"app\"}"
#define Q "{\"q\": {\"a\": 1}, \"u\": {\"$set\": {\"b\": 1}}}"
#define R "{\"q\": {\"c\": 1}, \"u\": {\"$inc\": {\"d\": 1}}}"

static void test_each_command(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"{\"insert\": \"x\", \"documents\": [{\"a\": 1}], " DB, "insert app.x one", false},
        {"{\"insert\": \"x\", \"documents\": [{\"a\": 1}, {}], " DB, "insert app.x many", true},
        {"{\"insert\": \"x\", \"documents\": [], " DB, "insert app.x ?", false},
        {"{\"insert\": \"x\", " DB, "insert app.x ?", false},
        {"{\"update\": \"x\", \"updates\": [{\"q\": {\"project\": \"p\", \"app\": \"a\"}, \"u\": "
         "{\"$set\": {\"keyId\": 1, \"data\": {\"secret\": 1}}}, \"upsert\": true}], " DB,
         "update app.x {app,project} $set{data,keyId} upsert", false},
        {"{\"update\": \"x\", \"updates\": [{\"q\": {}, \"u\": {\"$unset\": {\"b\": 1}, \"$inc\": "
         "{\"a\": 1}}, \"multi\": true}], " DB,
         "update app.x {} $inc{a} $unset{b} multi", true},
        {"{\"update\": \"x\", \"updates\": [{\"q\": {\"_id\": 1}, \"u\": {\"b\": 1}}], " DB,
         "update app.x {_id} replacement", false},
        {"{\"update\": \"x\", \"updates\": [{\"q\": {\"_id\": 1}, \"u\": {}}], " DB,
         "update app.x {_id} replacement", false},
        {"{\"update\": \"x\", \"updates\": [{\"q\": {\"_id\": 1}, \"u\": [{\"$set\": {\"b\": 1}}, "
         "{\"$unset\": \"c\"}]}], " DB,
         "update app.x {_id} pipeline[$set,$unset]", false},
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": {\"a\": 1}, \"limit\": 1}], " DB,
         "delete app.x {a} one", false},
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": {\"a\": 1}, \"limit\": 0}], " DB,
         "delete app.x {a} many", true},
        {"{\"findAndModify\": \"x\", \"query\": {\"$and\": [{\"b\": 1, \"a\": 2}]}, \"update\": "
         "{\"$set\": {\"data\": 1, \"references\": [], \"keyId\": 2}}, \"upsert\": true, \"new\": "
         "true, " DB,
         "findAndModify app.x {a,b} $set{data,keyId,references} upsert", false},
        {"{\"findandmodify\": \"x\", \"query\": {\"a\": 2}, \"remove\": true, " DB,
         "findAndModify app.x {a} remove", false},
        {"{\"aggregate\": \"x\", \"pipeline\": [{\"$match\": {\"a\": 1}}, {\"$merge\": "
         "\"y\"}], " DB,
         "aggregate app.x pipeline[$match,$merge]", false},
        {"{\"createIndexes\": \"x\", \"indexes\": [], " DB, "createIndexes app.x", false},
        {"{\"dropDatabase\": 1, " DB, "dropDatabase app", false},
        {"{\"drop\": \"x\"}", "drop ?.x", false},
    };
    CHECK(examples);
}

static void test_several_statements(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"{\"update\": \"x\", \"updates\": [" Q ", " R "], " DB,
         "update app.x [{a} $set{b}; {c} $inc{d}]", true},
        {"{\"update\": \"x\", \"updates\": [" Q ", " Q ", " Q "], " DB,
         "update app.x [{a} $set{b} +]", true},
        {"{\"update\": \"x\", \"updates\": [" Q ", " Q ", " R ", " Q "], " DB,
         "update app.x [{a} $set{b} +; {c} $inc{d}; {a} $set{b}]", true},
        {"{\"update\": \"x\", \"updates\": [" Q "," R "," Q "," R "," Q "," R "], " DB,
         "update app.x [{a} $set{b}; {c} $inc{d}; {a} $set{b}; {c} $inc{d}; …]", true},
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": {\"a\": 1}, \"limit\": 1}, {\"q\": {\"b\": 1}, "
         "\"limit\": 1}], " DB,
         "delete app.x [{a} one; {b} one]", true},
        {"{\"bulkWrite\": 1, \"ops\": [{\"insert\": 0, \"document\": {}}, {\"update\": 1, "
         "\"filter\": {\"a\": 1}, \"updateMods\": {\"$set\": {\"b\": 1}}}, {\"delete\": 0, "
         "\"filter\": {\"a\": 1}}], \"nsInfo\": [{\"ns\": \"app.x\"}, {\"ns\": \"app.y\"}], "
         "\"$db\": \"admin\"}",
         "bulkWrite [insert app.x; update app.y {a} $set{b}; delete app.x {a} one]", true},
        {"{\"bulkWrite\": 1, \"ops\": [{\"delete\": 7, \"filter\": {}, \"multi\": true}], "
         "\"nsInfo\": [], \"$db\": \"admin\"}",
         "bulkWrite [delete ? {} many]", true},
    };
    CHECK(examples);
}

static void test_filters(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": {\"$and\": [{\"b\": 1}, {\"$and\": [{\"a\": "
         "1, \"b\": 2}]}], \"c\": {\"$gt\": 5}}, \"limit\": 1}], " DB,
         "delete app.x {a,b,c} one", false},
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": {\"$or\": [{\"b\": 1}, {\"a\": 1}]}, "
         "\"limit\": 1}], " DB,
         "delete app.x {$or,a,b} one", false},
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": {\"items.12.id\": 1, "
         "\"of.3f2504e0-4f89-11d3-9a0c-0305e82c3301\": 1, \"v2.name\": 3}, \"limit\": 1}], " DB,
         "delete app.x {items.*.id,of.*,v2.name} one", false},
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": 5, \"limit\": 1}], " DB, "delete app.x {?} one",
         false},
        {"{\"delete\": \"x\", \"deletes\": [5], " DB, "delete app.x {?} many", true},
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": {\"$and\": [{\"$and\": [{\"$and\": [{\"$and\": "
         "[{\"$and\": [{\"$and\": [{\"a\": 1}]}]}]}]}]}]}, \"limit\": 1}], " DB,
         "delete app.x {$and} one", false},
    };
    CHECK(examples);
}

static void test_bounds(void **state)
{
    (void)state;
    char json[8192] = "{\"delete\": \"x\", \"deletes\": [{\"q\": {";
    for (int i = 0; i < 30; i++) {
        snprintf(json + strlen(json), sizeof json - strlen(json), "\"f%c%c\": %d, ", 'a' + i % 26,
                 'a' + i / 26, i);
    }
    snprintf(json + strlen(json), sizeof json - strlen(json), "\"fa\": 1}, \"limit\": 1}], " DB);
    assert_string_equal(shape_of(json).text,
                        "delete app.x {fa,faa,fab,fba,fbb,fca,fcb,fda,fdb,fea,ffa,fga,…} one");

    char name[301];
    memset(name, 'n', 300);
    name[300] = '\0';
    snprintf(json, sizeof json, "{\"insert\": \"%s\", \"documents\": [{}], \"$db\": \"app\"}",
             name);
    assert_string_equal(shape_of(json).text + strlen(shape_of(json).text) - 7, "… one");
    assert_true(shape_of(json).size < 120);

    /* twelve names of 64 bytes for each of two operators are more than a shape may hold */
    snprintf(json, sizeof json,
             "{\"findAndModify\": \"x\", \"query\": {}, \"update\": {\"$set\": {");
    for (int i = 0; i < 12; i++) {
        snprintf(json + strlen(json), sizeof json - strlen(json), "\"%c%.80s\": 1, ", 'a' + i,
                 name);
    }
    snprintf(json + strlen(json), sizeof json - strlen(json), "\"z\": 1}}, \"upsert\": true, " DB);
    struct shape shape = shape_of(json);
    assert_true(shape.size <= SHAPE_BYTES_MAX && shape.size > SHAPE_BYTES_MAX - 70);
    assert_string_equal(shape.text + shape.size - 3, "…");
}

/* Texts that would forge a shape, another line or another JSON field. */
static void test_names_are_made_harmless(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"{\"delete\": \"x\", \"deletes\": [{\"q\": {\"a},b\": 1, \"é\\n\\u0085\": 1, \"\": 1}, "
         "\"limit\": 1}], " DB,
         "delete app.x {,a??b,é???} one", false},
        {"{\"drop\": \"x y\\\"{\", " DB, "drop app.x?y??", false},
        {"{\"dr\\\"op ;\": \"x\", " DB, "dr?op?? app.x", false},
    };
    CHECK(examples);
    char out[16];
    struct slice broken = slice_text("a\xff\xc3(\xe2\x80\xf0\x9f\x98");
    size_t size = text_clean(TEXT_PLAIN, broken, out, sizeof out);
    assert_memory_equal(out, "a\?\?(\?\?\?\?\?", size);
    assert_int_equal(size, 9);
    size = text_clean(TEXT_PLAIN, slice_text("ééééé"), out, 7);
    assert_memory_equal(out, "éé…", size);
    size = text_clean(TEXT_PLAIN, slice_text("1234567"), out, 7);
    assert_memory_equal(out, "1234567", size);
    size = text_clean(TEXT_PLAIN, slice_text("12345678"), out, 7);
    assert_memory_equal(out, "1234…", size);
    assert_int_equal(size, 7);
}

static struct slice sequence_section(uint8_t *bytes, const char *name, const bson_t *document,
                                     int times)
{
    size_t at = 5;
    bytes[0] = 1;
    memcpy(bytes + at, name, strlen(name) + 1);
    at += strlen(name) + 1;
    for (int i = 0; i < times; i++) {
        memcpy(bytes + at, bson_get_data(document), document->len);
        at += document->len;
    }
    slice_store_u32le(bytes + 1, (uint32_t)at - 1);
    return slice_make(bytes, at);
}

static void test_documents_in_sequences(void **state)
{
    (void)state;
    uint8_t bytes[4096];
    struct shape shape;
    bson_t *document = bson_new_from_json((const uint8_t *)Q, -1, NULL);
    struct test_command insert = command_of("{\"insert\": \"x\", " DB);
    insert.message.has_sequence = true;
    insert.message.sections = sequence_section(bytes, "documents", document, 1);
    shape_make(&insert.view, &insert.message, &shape);
    assert_string_equal(shape.text, "insert app.x one");
    insert.message.sections = sequence_section(bytes, "documents", document, 9);
    shape_make(&insert.view, &insert.message, &shape);
    assert_string_equal(shape.text, "insert app.x many");
    insert.message.sections = (struct slice){0}; /* not here yet */
    shape_make(&insert.view, &insert.message, &shape);
    assert_string_equal(shape.text, "insert app.x ?");
    command_done(&insert);

    struct test_command update = command_of("{\"update\": \"x\", " DB);
    update.message.has_sequence = true;
    update.message.sections = sequence_section(bytes, "updates", document, 2);
    shape_make(&update.view, &update.message, &shape);
    assert_string_equal(shape.text, "update app.x [{a} $set{b} +]");
    command_done(&update);
    bson_destroy(document);
}

/* Any bytes: a text within its bound, in a bounded time. */
static void test_hostile_bytes(void **state)
{
    (void)state;
    static const char updates[] = "{\"update\": \"x\", \"updates\": [" Q ", " R "], " DB;
    static const char modify[] = "{\"findAndModify\": \"x\", \"query\": {\"$and\": [{\"b\": 1}]}, "
                                 "\"update\": {\"$set\": {\"data\": 1}}, " DB;
    static const char bulk[] = "{\"bulkWrite\": 1, \"ops\": [{\"insert\": 0, \"document\": {}}], "
                               "\"nsInfo\": [{\"ns\": \"app.x\"}], \"$db\": \"admin\"}";
    static const char *const seeds[] = {updates, modify, bulk};
    uint32_t random = 4711;
    int looked = 0;
    for (int i = 0; i < 30000; i++) {
        struct test_command command = command_of(seeds[i % 3]);
        uint8_t bytes[1024];
        size_t size = command.message.body.size;
        memcpy(bytes, command.message.body.data, size);
        bytes_mutate(bytes, size, &random);
        struct slice copy = exact_copy(bytes, size);
        struct op_msg message = {.body = copy};
        struct command_view view;
        if (command_view_parse(copy, &view, NULL) == STATUS_OK) {
            struct shape shape;
            shape_make(&view, &message, &shape);
            assert_int_equal(strlen(shape.text), shape.size);
            assert_true(shape.size <= SHAPE_BYTES_MAX);
            assert_true(bson_utf8_validate(shape.text, shape.size, false));
            looked++;
        }
        exact_free(copy);
        command_done(&command);
    }
    assert_true(looked > 10000);
}

/* More elements than are looked at: the end of the walk is said. */
static void test_many_elements(void **state)
{
    (void)state;
    bson_t command = BSON_INITIALIZER;
    bson_t query;
    struct shape shape;
    struct command_view view;
    BSON_APPEND_UTF8(&command, "findAndModify", "x");
    BSON_APPEND_DOCUMENT_BEGIN(&command, "query", &query);
    for (int i = 0; i < 200000; i++) {
        BSON_APPEND_INT32(&query, "same", i);
    }
    bson_append_document_end(&command, &query);
    BSON_APPEND_UTF8(&command, "$db", "app");
    struct op_msg message = {.body = slice_make(bson_get_data(&command), command.len)};
    assert_int_equal(command_view_parse(message.body, &view, NULL), STATUS_OK);
    shape_make(&view, &message, &shape);
    assert_string_equal(shape.text, "findAndModify app.x {same,…} ?");
    bson_destroy(&command);
}

static void test_identifiers(void **state)
{
    (void)state;
    static const char *const identifiers[] = {"7",
                                              "0123456",
                                              "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
                                              "FFFFFFFFFFFFFFFF",
                                              "deadbeefdeadbeef0",
                                              "2024-01-01T10:00:00Z0",
                                              "pod-abcdefghijklmnop-1"};
    static const char *const names[] = {"",
                                        "apps",
                                        "v2",
                                        "composite-apps",
                                        "deployment-intent-groups",
                                        "cafe",
                                        "feed-beef",
                                        "a-long-name-without-any-number-in-it",
                                        "oauth2",
                                        "userdata1"};
    for (size_t i = 0; i < sizeof(identifiers) / sizeof(identifiers[0]); i++) {
        assert_true(identifier_is(slice_text(identifiers[i])));
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_false(identifier_is(slice_text(names[i])));
    }
    char much[100];
    memset(much, 'x', sizeof much);
    assert_true(identifier_is(slice_make(much, 65)));
    assert_false(identifier_is(slice_make(much, 64)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_command),
        cmocka_unit_test(test_several_statements),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_names_are_made_harmless),
        cmocka_unit_test(test_documents_in_sequences),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_many_elements),
        cmocka_unit_test(test_identifiers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
