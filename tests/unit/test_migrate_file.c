/*
 * Migration files: what each word becomes, values of all types, and every mistake named with file
 * and line; and the order of types that a search follows.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "migrate/file.h"
#include "migrate/search.h"
#include "test_program.h"

static struct error error;

static enum status parse(const char *text, struct migration_file *ret_file)
{
    error = (struct error){0};
    return migration_parse(slice_text(text), "m.yaml", ret_file, &error);
}

/* The first step of a file that is good. */
static struct migration_file good(const char *text)
{
    struct migration_file file = {0};
    if (parse(text, &file) != STATUS_OK) {
        fail_msg("%s: %s", error.message, text);
    }
    return file;
}

static void assert_json(const bson_t *document, const char *wanted)
{
    char *json = bson_as_canonical_extended_json(document, NULL);
    assert_string_equal(json, wanted);
    bson_free(json);
}

static void words_become_steps(void **state)
{
    (void)state;
    struct migration_file file = good("description: what for\n"
                                      "up:\n"
                                      "  - setDefault: {collection: c, fields: {a: 1, b.c: x}}\n"
                                      "  - renameField: {collection: c, from: a, to: b}\n"
                                      "  - removeField: {collection: c, fields: [a, b]}\n"
                                      "  - update:\n"
                                      "      collection: c\n"
                                      "      update: [{$set: {a: 1}}]\n"
                                      "down: []\n");
    assert_string_equal(file.description, "what for");
    assert_true(file.has_down);
    assert_int_equal(file.down.count, 0);
    assert_int_equal(file.up.count, 5);
    const struct step *steps = file.up.steps;
    assert_int_equal(steps[1].line, 3);
    assert_json(steps[0].filter, "{ \"a\" : { \"$exists\" : false } }");
    assert_json(steps[0].update, "{ \"$set\" : { \"a\" : { \"$numberInt\" : \"1\" } } }");
    assert_json(steps[1].filter, "{ \"b.c\" : { \"$exists\" : false } }");
    assert_json(steps[2].update, "{ \"$rename\" : { \"a\" : \"b\" } }");
    assert_json(steps[2].filter,
                "{ \"a\" : { \"$exists\" : true }, \"b\" : { \"$exists\" : false } }");
    assert_non_null(steps[2].left);
    assert_json(steps[3].update, "{ \"$unset\" : { \"a\" : \"\", \"b\" : \"\" } }");
    assert_json(steps[3].filter, "{ \"$or\" : [ { \"a\" : { \"$exists\" : true } }, { \"b\" : { "
                                 "\"$exists\" : true } } ] }");
    assert_true(steps[4].pipeline);
    assert_json(steps[4].filter, "{ }");
    migration_file_free(&file);
    migration_file_free(&file);
}

static void values_keep_their_types(void **state)
{
    static const struct {
        const char *yaml;
        const char *json;
    } cases[] = {
        {"1", "{ \"$numberInt\" : \"1\" }"},
        {"-2147483648", "{ \"$numberInt\" : \"-2147483648\" }"},
        {"2147483648", "{ \"$numberLong\" : \"2147483648\" }"},
        {"1.0", "{ \"$numberDouble\" : \"1.0\" }"},
        {"-1e3", "{ \"$numberDouble\" : \"-1000.0\" }"},
        {".inf", "{ \"$numberDouble\" : \"Infinity\" }"},
        {"true", "true"},
        {"yes", "\"yes\""},
        {"'1'", "\"1\""},
        {"\"1\"", "\"1\""},
        {"~", "null"},
        {"null", "null"},
        {"0", "{ \"$numberInt\" : \"0\" }"},
        {"1.2.3", "\"1.2.3\""},
        {"2026-01-02", "\"2026-01-02\""},
        {"\"a\\nb\\\"\\\\\"", "\"a\\nb\\\"\\\\\""},
        {"{$oid: 0123456789abcdef01234567}", "{ \"$oid\" : \"0123456789abcdef01234567\" }"},
        {"{$date: \"2026-01-02T03:04:05Z\"}",
         "{ \"$date\" : { \"$numberLong\" : \"1767323045000\" } }"},
        {"{$numberLong: \"5\"}", "{ \"$numberLong\" : \"5\" }"},
        {"{$numberDecimal: \"1.50\"}", "{ \"$numberDecimal\" : \"1.50\" }"},
        {"{$gt: 5}", "{ \"$gt\" : { \"$numberInt\" : \"5\" } }"},
        {"{$type: string}", "{ \"$type\" : \"string\" }"},
        {"[1, [a], {b: c}]", "[ { \"$numberInt\" : \"1\" }, [ \"a\" ], { \"b\" : \"c\" } ]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        char wanted[512];
        snprintf(text, sizeof(text), "up: [{update: {collection: c, update: {$set: {v: %s}}}}]",
                 cases[i].yaml);
        snprintf(wanted, sizeof(wanted), "{ \"$set\" : { \"v\" : %s } }", cases[i].json);
        struct migration_file file = good(text);
        assert_json(file.up.steps[0].update, wanted);
        migration_file_free(&file);
    }
}

static void json_is_read_as_well(void **state)
{
    (void)state;
    struct migration_file file =
        good("{\"up\":[{\"delete\":{\"collection\":\"c\",\"filter\":{\"a\":{\"$lt\":1e2}}}}],"
             "\n\t\"down\":[]}");
    assert_json(file.up.steps[0].filter,
                "{ \"a\" : { \"$lt\" : { \"$numberDouble\" : \"100.0\" } } }");
    migration_file_free(&file);
}

static void indexes_have_the_names_that_servers_give(void **state)
{
    (void)state;
    struct migration_file file =
        good("up: [{createIndex: {collection: c, keys: {a.b: 1, t: text, x: -1}, unique: true,"
             " options: {sparse: true}}}]");
    assert_string_equal(file.up.steps[0].name, "a.b_1_t_text_x_-1");
    assert_json(file.up.steps[0].index,
                "{ \"key\" : { \"a.b\" : { \"$numberInt\" : \"1\" }, \"t\" : \"text\", \"x\" : { "
                "\"$numberInt\" : \"-1\" } }, \"name\" : \"a.b_1_t_text_x_-1\", \"unique\" : true, "
                "\"sparse\" : true }");
    migration_file_free(&file);
}

static void mistakes_are_named_with_their_line(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"", "m.yaml:1: a migration has up"},
        {"just text", "m.yaml:1: a migration has up"},
        {"- a\n- b\n", "m.yaml:1: a migration has up"},
        {"up:\n  - update: {", "m.yaml:3: not YAML or JSON"},
        {"up: [\t", "not YAML or JSON"},
        {"description: x\n", "m.yaml:1: up: and its steps are missing"},
        {"up: []\n", "m.yaml:1: up: and its steps are missing"},
        {"up: 5\n", "m.yaml:1: expected a list of steps"},
        {"up:\n  - 5\n", "m.yaml:2: expected one step"},
        {"up:\n  - {}\n", "m.yaml:2: expected one step"},
        {"up:\n  - update: {collection: c}\n    delete: {}\n", "m.yaml:2: expected one step"},
        {"up:\n  - frobnicate: {}\n", "m.yaml:2: there is no step frobnicate"},
        {"up:\n  - update:\n", "m.yaml:2: update needs fields"},
        {"up:\n  - update:\n      collection: c\n", "m.yaml:2: update needs update"},
        {"up:\n  - update:\n      update: {$set: {a: 1}}\n", "m.yaml:2: update needs collection"},
        {"up:\n  - update:\n      collection: c\n      set: {}\n",
         "m.yaml:4: update has no field set"},
        {"up:\n  - update:\n      collection: c\n      collection: c\n",
         "m.yaml:4: collection stands"},
        {"up:\n  - update:\n      collection: c\n      update: {a: 1}\n",
         "m.yaml:4: update: update: expected update operators"},
        {"up:\n  - update:\n      collection: c\n      update: {}\n", "expected update operators"},
        {"up:\n  - update:\n      collection: c\n      update: [1]\n", "expected update operators"},
        {"up:\n  - update:\n      collection: c\n      update: []\n", "expected update operators"},
        {"up:\n  - update:\n      collection: c\n      filter: [1]\n", "m.yaml:4: update: filter"},
        {"up: [{update: {collection: c, update: [{$set: {}}], arrayFilters: [{}]}}]",
         "not with a pipeline"},
        {"up: [{delete: {collection: c}}]", "delete needs filter"},
        {"up: [{delete: {collection: 5, filter: {}}}]", "collection: expected a text"},
        {"up: [{delete: {collection: a$b, filter: {}}}]", "not a collection's name"},
        {"up: [{delete: {collection: system.x, filter: {}}}]", "not a collection's name"},
        {"up: [{delete: {collection: holdfast_migrations, filter: {}}}]", "Holdfast's own"},
        {"up: [{insert: {collection: c, documents: []}}]", "expected a list of documents"},
        {"up: [{insert: {collection: c, documents: [1]}}]", "expected a list of documents"},
        {"up: [{setDefault: {collection: c, fields: {}}}]", "expected fields"},
        {"up: [{setDefault: {collection: c, fields: {_id: 1}}}]", "not a field's name"},
        {"up: [{setDefault: {collection: c, fields: {a: 1, $b: 1}}}]", "not a field's name"},
        {"up: [{renameField: {collection: c, from: a, to: a}}]", "not another field's name"},
        {"up: [{renameField: {collection: c, from: a..b, to: a}}]", "not a field's name"},
        {"up: [{renameField: {collection: c, from: a, to: b, overwrite: yes}}]", "true or false"},
        {"up: [{removeField: {collection: c, fields: [a, _id]}}]", "not a field's name"},
        {"up: [{createIndex: {collection: c, keys: {}}}]", "expected fields"},
        {"up: [{createIndex: {collection: c, keys: {a: 1}, options: {name: b}}}]", "beside it"},
        {"up: [{dropIndex: {collection: c, name: _id_}}]", "not an index"},
        {"up: [{createCollection: {collection: c, options: {viewOn: d}}}]", "not a collection's"},
        {"up: [{renameCollection: {collection: c, to: c}}]", "not another collection's name"},
        {"up: [{dropCollection: {collection: c, keep: 1}}]", "expected true or false"},
        {"up: [{delete: {collection: c, filter: {a: 007}}}]", "begins with a zero"},
        {"up: [{delete: {collection: c, filter: {a: 99999999999999999999}}}]", "too large"},
        {"up: [{delete: {collection: c, filter: {a: 1, a: 2}}}]", "a stands here twice"},
        {"up: [{delete: {collection: c, filter: {a: {$oid: xyz}}}}]", "no valid value"},
        {"up: [{delete: {collection: c, filter: {a: !!binary eA==}}}]", "the tag"},
        {"up: [{delete: {collection: c, filter: {[1]: 2}}}]", "must be plain text"},
        {"up: [{delete: {collection: c, filter: {a: \"\\0\"}}}]", "NUL"},
        {"up: [{delete: {collection: c, filter: &x {a: *x}}}]", "nested deeper"},
        {"up: [{delete: {collection: c, filter: {}}}]\nother: 1\n", "m.yaml:2: unknown key other"},
        {"up: [{delete: {collection: c, filter: {}}}]\nup: []\n", "m.yaml:2: up stands here twice"},
        {"up: [{delete: {collection: c, filter: {}}}]\n---\nup: 1\n",
         "m.yaml:3: a second document"},
        {"description: [1]\nup: []\n", "m.yaml:1: description: expected a text"},
        {"up: [{delete: {collection: c, filter: {}}}]\ndown: x\n", "m.yaml:2: expected a list"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct migration_file file;
        memset(&file, 0xee, sizeof(file));
        if (parse(cases[i].text, &file) != STATUS_INVALID ||
            strstr(error.message, cases[i].says) == NULL ||
            strncmp(error.message, "m.yaml:", 7) != 0) {
            fail_msg("%s: %s", cases[i].text, error.message);
        }
    }
}

/* A file of some bytes whose aliases would become gigabytes. */
static void aliases_are_bounded(void **state)
{
    char text[4096] = "x: &a0 [aaaaaaaaaa]\n";
    (void)state;
    for (int i = 1; i < 12; i++) {
        char line[256];
        int used = snprintf(line, sizeof(line), "x%d: &a%d [", i, i);
        for (int n = 0; n < 10; n++) {
            used += snprintf(line + used, sizeof(line) - (size_t)used, "%s*a%d", n == 0 ? "" : ",",
                             i - 1);
        }
        strcat(text, line);
        strcat(text, "]\n");
    }
    strcat(text, "up: []\n");
    struct migration_file file;
    assert_int_equal(parse(text, &file), STATUS_INVALID); /* unknown key */
    char *inside = strstr(text, "x: ");
    char whole[8192];
    snprintf(whole, sizeof(whole), "up: [{delete: {collection: c, filter: {v: [");
    for (char *line = inside; line != NULL && line[0] == 'x'; line = strchr(line, '\n') + 1) {
        char *value = strchr(line, '&');
        strncat(whole, value, strcspn(value, "\n"));
        strcat(whole, ",");
    }
    strcat(whole, "1]}}}]");
    assert_int_equal(parse(whole, &file), STATUS_INVALID);
    assert_non_null(strstr(error.message, "16 MiB"));
}

static void checksums_do_not_see_line_ends(void **state)
{
    static const char *const texts[] = {
        "up: [{delete: {collection: c, filter: {}}}]\n",
        "up: [{delete: {collection: c, filter: {}}}]\r\n",
        "up: [{delete: {collection: c, filter: {}}}] \n",
    };
    struct migration_file files[3];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        files[i] = good(texts[i]);
    }
    assert_string_equal(files[0].checksum, files[1].checksum);
    assert_string_not_equal(files[0].checksum, files[2].checksum);
    assert_int_equal(strlen(files[0].checksum), 64);
    for (size_t i = 0; i < 3; i++) {
        migration_file_free(&files[i]);
    }
}

/* ------------------------------------------------------------------ directories */

static char directory[TEST_DIRECTORY_BYTES];

static void put(const char *name)
{
    char path[TEST_DIRECTORY_BYTES + 256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs("up: [{delete: {collection: c, filter: {}}}]\n", file);
    fclose(file);
}

static void a_directory_is_read_in_order(void **state)
{
    struct migration_folder folder = {0};
    (void)state;
    directory_new(directory);
    put("0010_ten.yaml");
    put("2_two.yml");
    put("20260102030405_time.json");
    put("README.md");
    put(".0001_hidden.yaml");
    assert_int_equal(migration_folder_read(directory, &folder, &error), STATUS_OK);
    assert_int_equal(folder.count, 3);
    assert_string_equal(folder.files[0].name, "two");
    assert_int_equal(folder.files[1].version, 10);
    assert_int_equal(folder.files[2].version, 20260102030405);
    assert_ptr_equal(migration_folder_find(&folder, 10), &folder.files[1]);
    assert_null(migration_folder_find(&folder, 11));
    migration_folder_free(&folder);
    directory_remove(directory);
}

static void names_that_are_none_are_refused(void **state)
{
    static const char *const names[] = {"first.yaml",
                                        "1.yaml",
                                        "1_.yaml",
                                        "_x.yaml",
                                        "0_x.yaml",
                                        "1x.yaml",
                                        "9999999999999999999_x.yaml"};
    struct migration_folder folder = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        directory_new(directory);
        put(names[i]);
        assert_int_equal(migration_folder_read(directory, &folder, &error), STATUS_INVALID);
        assert_non_null(strstr(error.message, names[i]));
        directory_remove(directory);
    }
    directory_new(directory);
    put("01_a.yaml");
    put("1_b.yaml");
    assert_int_equal(migration_folder_read(directory, &folder, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "the same number"));
    directory_remove(directory);
    assert_int_equal(migration_folder_read(directory, &folder, &error), STATUS_NOT_FOUND);
    assert_int_equal(migration_folder_read("", &folder, &error), STATUS_NOT_FOUND);
}

/* ------------------------------------------------------------------ search.h */

static void each_type_has_those_behind_it(void **state)
{
    static const struct {
        const char *json;
        const char *next;
    } cases[] = {
        {"{\"v\": {\"$minKey\": 1}}", "null"},
        {"{\"v\": null}", "number"},
        {"{\"v\": 1}", "string"},
        {"{\"v\": {\"$numberDecimal\": \"1\"}}", "string"},
        {"{\"v\": \"x\"}", "object"},
        {"{\"v\": {\"a\": 1}}", "binData"},
        {"{\"v\": {\"$binary\": {\"base64\": \"\", \"subType\": \"00\"}}}", "objectId"},
        {"{\"v\": {\"$oid\": \"0123456789abcdef01234567\"}}", "bool"},
        {"{\"v\": true}", "date"},
        {"{\"v\": {\"$date\": 0}}", "timestamp"},
        {"{\"v\": {\"$timestamp\": {\"t\": 1, \"i\": 1}}}", "regex"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const *types = NULL;
        bson_iter_t at;
        bson_t *document = bson_new_from_json((const uint8_t *)cases[i].json, -1, NULL);
        assert_non_null(document);
        assert_true(bson_iter_init_find(&at, document, "v"));
        size_t count = search_types_behind(&at, &types);
        assert_true(count > 0);
        assert_string_equal(types[0], cases[i].next);
        assert_string_equal(types[count - 1], "maxKey");
        bson_destroy(document);
    }
    const char *const *types = NULL;
    bson_iter_t at;
    bson_t *last = BCON_NEW("v", BCON_MAXKEY);
    assert_true(bson_iter_init_find(&at, last, "v"));
    assert_int_equal(search_types_behind(&at, &types), 0);
    bson_destroy(last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_become_steps),
        cmocka_unit_test(values_keep_their_types),
        cmocka_unit_test(json_is_read_as_well),
        cmocka_unit_test(indexes_have_the_names_that_servers_give),
        cmocka_unit_test(mistakes_are_named_with_their_line),
        cmocka_unit_test(aliases_are_bounded),
        cmocka_unit_test(checksums_do_not_see_line_ends),
        cmocka_unit_test(a_directory_is_read_in_order),
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(each_type_has_those_behind_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
