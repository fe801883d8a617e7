/* The view of a command: fields in any order, each wrong type, each field twice, hostile bytes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/bson_check.h"
#include "wire/command.h"
#include "wire_bytes.h"

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

static bson_t *from_json(const char *json)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (document == NULL) {
        fail_msg("%s: %s", json, error.message);
    }
    return document;
}

#define LSID                                                                                       \
    "{\"id\": {\"$binary\": {\"base64\": \"AAECAwQFBgcICQoLDA0ODw==\", \"subType\": \"04\"}}}"

static void test_all_fields_in_any_order(void **state)
{
    (void)state;
    static const char *const orders[] = {
        "{\"insert\": \"c\", \"$db\": \"d\", \"lsid\": " LSID
        ", \"txnNumber\": {\"$numberLong\": \"5\"}, \"autocommit\": false, "
        "\"startTransaction\": true, \"writeConcern\": {\"j\": true, \"w\": 0}, "
        "\"readConcern\": {\"level\": \"snapshot\"}, \"comment\": [1], \"maxTimeMS\": 100}",
        "{\"insert\": \"c\", \"maxTimeMS\": 100.0, \"comment\": null, "
        "\"readConcern\": {\"level\": \"snapshot\"}, \"writeConcern\": {\"w\": 0.0}, "
        "\"startTransaction\": true, \"autocommit\": false, \"txnNumber\": 5, \"lsid\": " LSID
        ", \"other\": {\"$db\": 5}, \"$db\": \"d\"}",
    };
    for (size_t i = 0; i < 2; i++) {
        bson_t *command = from_json(orders[i]);
        struct command_view view;
        struct error error;
        assert_int_equal(command_view_parse(slice_of(command), &view, &error), STATUS_OK);
        assert_true(slice_equal(view.body, slice_of(command)));
        assert_string_equal(view.name, "insert");
        assert_int_equal(view.first_type, BSON_TYPE_UTF8);
        assert_string_equal(view.collection, "c");
        assert_string_equal(view.database, "d");
        assert_true(view.has_session);
        assert_int_equal(view.session_id.size, 16);
        for (uint8_t byte = 0; byte < 16; byte++) {
            assert_int_equal(view.session_id.data[byte], byte);
        }
        assert_true(view.has_transaction_number);
        assert_int_equal(view.transaction_number, 5);
        assert_true(view.has_autocommit && !view.autocommit);
        assert_true(view.has_start_transaction && view.start_transaction);
        assert_true(view.has_write_concern && view.write_concern_unacknowledged);
        assert_true(view.has_read_concern);
        assert_string_equal(view.read_concern_level, "snapshot");
        assert_true(view.has_comment);
        assert_int_equal(view.max_time_ms, 100);
        bson_destroy(command);
    }
}

static void test_absent_fields_are_absent(void **state)
{
    (void)state;
    bson_t *command = from_json("{\"ping\": 1, \"writeConcern\": null, \"readConcern\": null, "
                                "\"maxTimeMS\": null}");
    struct command_view view;
    assert_int_equal(command_view_parse(slice_of(command), &view, NULL), STATUS_OK);
    assert_string_equal(view.name, "ping");
    assert_int_equal(view.first_type, BSON_TYPE_INT32);
    assert_null(view.collection);
    assert_null(view.database);
    assert_int_equal(view.session_id.size, 0);
    assert_false(view.has_session || view.has_transaction_number || view.has_autocommit ||
                 view.has_start_transaction || view.has_write_concern || view.has_read_concern ||
                 view.has_comment || view.write_concern_unacknowledged);
    assert_null(view.read_concern_level);
    assert_int_equal(view.max_time_ms, 0);
    bson_destroy(command);
}

static void test_collection_is_a_plain_name_or_none(void **state)
{
    (void)state;
    struct command_view view;
    bson_t *empty = from_json("{\"find\": \"\"}");
    bson_t *nul = bson_new();
    assert_true(bson_append_utf8(nul, "find", 4, "a\0b", 3));
    assert_int_equal(command_view_parse(slice_of(empty), &view, NULL), STATUS_OK);
    assert_null(view.collection);
    assert_int_equal(command_view_parse(slice_of(nul), &view, NULL), STATUS_OK);
    assert_null(view.collection);
    bson_destroy(empty);
    bson_destroy(nul);
}

static void test_acknowledgement_is_read_as_the_server_does(void **state)
{
    (void)state;
    static const struct {
        const char *concern;
        bool unacknowledged;
    } cases[] = {
        {"{}", false},
        {"{\"w\": 1}", false},
        {"{\"w\": 0}", true},
        {"{\"w\": {\"$numberLong\": \"0\"}}", true},
        {"{\"w\": \"majority\"}", false},
        {"{\"w\": \"0\"}", false},
        {"{\"w\": 0.5}", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char json[128];
        struct command_view view;
        (void)snprintf(json, sizeof(json), "{\"insert\": \"c\", \"writeConcern\": %s}",
                       cases[i].concern);
        bson_t *command = from_json(json);
        assert_int_equal(command_view_parse(slice_of(command), &view, NULL), STATUS_OK);
        assert_true(view.has_write_concern);
        assert_int_equal(view.write_concern_unacknowledged, cases[i].unacknowledged);
        bson_destroy(command);
    }
}

static void test_session_that_is_no_uuid(void **state)
{
    (void)state;
    static const char *const sessions[] = {
        "{}",
        "{\"id\": 5}",
        "{\"id\": {\"$binary\": {\"base64\": \"AAECAwQFBgcICQoLDA0ODw==\", \"subType\": \"00\"}}}",
        "{\"id\": {\"$binary\": {\"base64\": \"AAECAw==\", \"subType\": \"04\"}}}",
    };
    for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++) {
        char json[256];
        struct command_view view;
        (void)snprintf(json, sizeof(json), "{\"ping\": 1, \"lsid\": %s}", sessions[i]);
        bson_t *command = from_json(json);
        assert_int_equal(command_view_parse(slice_of(command), &view, NULL), STATUS_OK);
        assert_true(view.has_session);
        assert_int_equal(view.session_id.size, 0);
        bson_destroy(command);
    }
}

static void test_wrong_fields_are_refused_with_a_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        const char *message;
    } cases[] = {
        {"\"$db\": 5", "$db must be a string"},
        {"\"$db\": \"\"", "$db must be a database name"},
        {"\"$db\": \"a.b\"", "$db must be a database name"},
        {"\"$db\": \"a\\u0000b\"", "$db must be a string without NUL"},
        {"\"$db\": \"0123456789012345678901234567890123456789012345678901234567890123\"",
         "$db must be a database name"},
        {"\"lsid\": 1", "lsid must be a document"},
        {"\"lsid\": null", "lsid must be a document"},
        {"\"lsid\": [1]", "lsid must be a document"},
        {"\"lsid\": {\"id\": 1, \"id\": 2}", "lsid is broken BSON or holds id twice"},
        {"\"txnNumber\": \"1\"", "txnNumber must be a 64 bit integer"},
        {"\"txnNumber\": 1.0", "txnNumber must be a 64 bit integer"},
        {"\"txnNumber\": null", "txnNumber must be a 64 bit integer"},
        {"\"txnNumber\": -1", "txnNumber must not be negative"},
        {"\"autocommit\": 0", "autocommit must be true or false"},
        {"\"autocommit\": null", "autocommit must be true or false"},
        {"\"startTransaction\": 1", "startTransaction must be true or false"},
        {"\"writeConcern\": 1", "writeConcern must be a document"},
        {"\"writeConcern\": {\"w\": 1, \"w\": 0}", "holds w twice"},
        {"\"readConcern\": \"local\"", "readConcern must be a document"},
        {"\"readConcern\": {\"level\": 1}", "level must be a string"},
        {"\"maxTimeMS\": -1", "maxTimeMS must be"},
        {"\"maxTimeMS\": 2147483648", "maxTimeMS must be"},
        {"\"maxTimeMS\": 0.5", "maxTimeMS must be"},
        {"\"maxTimeMS\": \"1\"", "maxTimeMS must be"},
        {"\"$db\": \"a\", \"$db\": \"a\"", "$db appears twice"},
        {"\"lsid\": {}, \"lsid\": {}", "lsid appears twice"},
        {"\"txnNumber\": 1, \"txnNumber\": 1", "txnNumber appears twice"},
        {"\"autocommit\": false, \"autocommit\": true", "autocommit appears twice"},
        {"\"startTransaction\": true, \"startTransaction\": true", "startTransaction appears"},
        {"\"writeConcern\": null, \"writeConcern\": {\"w\": 0}", "writeConcern appears twice"},
        {"\"readConcern\": {}, \"readConcern\": {}", "readConcern appears twice"},
        {"\"comment\": 1, \"comment\": 1", "comment appears twice"},
        {"\"maxTimeMS\": 1, \"maxTimeMS\": 1", "maxTimeMS appears twice"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char json[512];
        struct error error = {0};
        struct command_view view = {.max_time_ms = 77};
        (void)snprintf(json, sizeof(json), "{\"insert\": \"c\", %s}", cases[i].field);
        bson_t *command = from_json(json);
        if (command_view_parse(slice_of(command), &view, &error) != STATUS_INVALID ||
            strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s: %s", json, error.message);
        }
        assert_int_equal(view.max_time_ms, 77); /* untouched */
        bson_destroy(command);
    }
}

static void test_not_a_command(void **state)
{
    (void)state;
    static const uint8_t nothing[] = {5, 0, 0, 0, 0};
    static const uint8_t no_name[] = {7, 0, 0, 0, 10, 0, 0};
    static const uint8_t broken[] = {8, 0, 0, 0, 8, 'a', 0, 0};
    struct command_view view;
    struct error error;
    assert_int_equal(command_view_parse((struct slice){0}, &view, &error), STATUS_INVALID);
    assert_int_equal(command_view_parse(slice_make(nothing, 5), &view, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "no name"));
    assert_int_equal(command_view_parse(slice_make(no_name, 7), &view, &error), STATUS_INVALID);
    assert_int_equal(command_view_parse(slice_make(broken, 8), &view, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "broken BSON at byte 4"));
}

/* What is kept is kept byte for byte, deprecated types and NaN payloads included. */
static void test_copy_without(void **state)
{
    (void)state;
    static const char *const names[] = {"lsid", "autocommit", "absent", NULL};
    static const char *const none[] = {NULL};
    bson_oid_t oid;
    bson_oid_init_from_string(&oid, "0123456789abcdef01234567");
    bson_t *command = from_json("{\"autocommit\": false, \"insert\": \"c\", \"lsid\": {\"a\": 1}}");
    assert_true(BSON_APPEND_DBPOINTER(command, "p", "db.c", &oid));
    bson_t *inner = from_json("{\"lsid\": 1}");
    assert_true(BSON_APPEND_DOCUMENT(command, "x", inner)); /* inner fields stay */
    assert_true(BSON_APPEND_BOOL(command, "autocommit", true));
    bson_t wanted = BSON_INITIALIZER;
    bson_copy_to_excluding_noinit(command, &wanted, "lsid", "autocommit", NULL);
    bson_t copy;
    assert_int_equal(command_copy_without(&copy, slice_of(command), names), STATUS_OK);
    assert_true(slice_equal(slice_of(&copy), slice_of(&wanted)));
    assert_true(BSON_APPEND_INT32(&copy, "more", 1)); /* an ordinary bson_t from here on */
    assert_int_equal(bson_check(slice_of(&copy), NULL), STATUS_OK);
    bson_destroy(&copy);
    assert_int_equal(command_copy_without(&copy, slice_of(command), none), STATUS_OK);
    assert_true(slice_equal(slice_of(&copy), slice_of(command)));
    bson_destroy(&copy);
    static const char *const all[] = {"autocommit", "insert", "lsid", "p", "x", NULL};
    assert_int_equal(command_copy_without(&copy, slice_of(command), all), STATUS_OK);
    assert_int_equal(copy.len, 5);
    bson_destroy(&copy);
    bson_destroy(inner);
    bson_destroy(&wanted);
    bson_destroy(command);
}

static void test_copy_of_broken_bytes_leaves_the_output(void **state)
{
    (void)state;
    static const uint8_t broken[] = {8, 0, 0, 0, 8, 'a', 0, 0};
    static const char *const none[] = {NULL};
    bson_t copy = {.len = 1234};
    assert_int_equal(command_copy_without(&copy, slice_make(broken, 8), none), STATUS_INVALID);
    assert_int_equal(command_copy_without(&copy, (struct slice){0}, none), STATUS_INVALID);
    assert_int_equal(copy.len, 1234);
}

static bool inside(struct slice body, const char *text)
{
    const uint8_t *at = (const uint8_t *)text;
    return at == NULL || (at >= body.data && at + strlen(text) < body.data + body.size);
}

static void test_api_parameters(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"insert\": \"c\", \"apiStrict\": false, \"$db\": \"d\", \"apiVersion\": \"1\", "
         "\"apiDeprecationErrors\": true}",
         "{\"apiVersion\": \"1\", \"apiStrict\": false, \"apiDeprecationErrors\": true}"},
        {"{\"insert\": \"c\", \"apiVersion\": \"1\"}", "{\"apiVersion\": \"1\"}"},
        {"{\"insert\": \"c\"}", "{}"},
        {"{\"insert\": \"c\", \"apiVersion\": 1, \"apiStrict\": 1}", "{}"},
        {"{\"insert\": \"c\", \"apiVersion\": \"12345678901234567\"}", "{}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bson_t *command = from_json(cases[i][0]);
        bson_t *wanted = from_json(cases[i][1]);
        bson_t found = BSON_INITIALIZER;
        command_put_api(&found, slice_of(command));
        assert_true(slice_equal(slice_of(&found), slice_of(wanted)));
        bson_destroy(&found);
        bson_destroy(wanted);
        bson_destroy(command);
    }
}

static void test_truncations_and_random_changes(void **state)
{
    (void)state;
    static const char *const names[] = {"lsid", NULL};
    bson_t *command =
        from_json("{\"insert\": \"c\", \"$db\": \"d\", \"lsid\": " LSID
                  ", \"txnNumber\": {\"$numberLong\": \"5\"}, \"autocommit\": false, "
                  "\"writeConcern\": {\"w\": 0}, \"readConcern\": {\"level\": \"snapshot\"}}");
    struct command_view view;
    uint32_t random = 2718;
    for (uint32_t size = 0; size < command->len; size++) {
        struct slice copy = exact_copy(bson_get_data(command), size);
        assert_int_equal(command_view_parse(copy, &view, NULL), STATUS_INVALID);
        exact_free(copy);
    }
    for (int round = 0; round < 60000; round++) {
        uint8_t bytes[512];
        memcpy(bytes, bson_get_data(command), command->len);
        bytes_mutate(bytes + 4, command->len - 5, &random);
        struct slice body = exact_copy(bytes, command->len);
        if (command_view_parse(body, &view, NULL) == STATUS_OK) {
            assert_true(inside(body, view.name) && inside(body, view.collection) &&
                        inside(body, view.database) && inside(body, view.read_concern_level));
            bson_t copy;
            assert_int_equal(command_copy_without(&copy, body, names), STATUS_OK);
            bson_destroy(&copy);
        }
        bson_t api = BSON_INITIALIZER;
        command_put_api(&api, body);
        bson_destroy(&api);
        exact_free(body);
    }
    bson_destroy(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_fields_in_any_order),
        cmocka_unit_test(test_absent_fields_are_absent),
        cmocka_unit_test(test_collection_is_a_plain_name_or_none),
        cmocka_unit_test(test_acknowledgement_is_read_as_the_server_does),
        cmocka_unit_test(test_session_that_is_no_uuid),
        cmocka_unit_test(test_wrong_fields_are_refused_with_a_sentence),
        cmocka_unit_test(test_not_a_command),
        cmocka_unit_test(test_copy_without),
        cmocka_unit_test(test_copy_of_broken_bytes_leaves_the_output),
        cmocka_unit_test(test_api_parameters),
        cmocka_unit_test(test_truncations_and_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
