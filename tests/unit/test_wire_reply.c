/* Replies: codes and names, errors that every driver can read, views of what servers answer. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/reply.h"
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

static void test_codes_have_their_names(void **state)
{
    (void)state;
    assert_string_equal(reply_code_name(112), "WriteConflict");
    assert_string_equal(reply_code_name(251), "NoSuchTransaction");
    assert_string_equal(reply_code_name(REPLY_CODE_DuplicateKey), "DuplicateKey");
    assert_int_equal(REPLY_CODE_OperationNotSupportedInTransaction, 263);
    assert_null(reply_code_name(0));
    assert_null(reply_code_name(-1));
    assert_null(reply_code_name(123456));
}

static void test_transient_codes(void **state)
{
    (void)state;
    static const int transient[] = {6, 24, 91, 112, 246, 251, 262, 267, 10107, 11600};
    static const int lasting[] = {0, 1, 2, 13, 20, 50, 225, 256, 257, 263, 290, 11000, -1};
    for (size_t i = 0; i < sizeof(transient) / sizeof(transient[0]); i++) {
        assert_true(reply_code_is_transient(transient[i]));
    }
    for (size_t i = 0; i < sizeof(lasting) / sizeof(lasting[0]); i++) {
        assert_false(reply_code_is_transient(lasting[i]));
    }
}

static void test_error_round_trip(void **state)
{
    (void)state;
    bson_t reply = BSON_INITIALIZER;
    struct reply_view view;
    reply_put_error(&reply, REPLY_CODE_WriteConflict, REPLY_LABEL_TRANSIENT, "held by unit %d", 7);
    assert_int_equal(reply_view_parse(slice_of(&reply), &view), STATUS_OK);
    assert_false(view.ok);
    assert_int_equal(view.code, 112);
    assert_string_equal(view.code_name, "WriteConflict");
    assert_string_equal(view.message, "held by unit 7");
    assert_true(view.is_transient);
    bson_reinit(&reply);
    reply_put_error(&reply, 51234, NULL, "odd");
    assert_int_equal(reply_view_parse(slice_of(&reply), &view), STATUS_OK);
    assert_string_equal(view.code_name, "Location51234");
    assert_false(view.is_transient);
    assert_false(bson_has_field(&reply, "errorLabels"));
    bson_reinit(&reply);
    reply_put_ok(&reply);
    assert_int_equal(reply_view_parse(slice_of(&reply), &view), STATUS_OK);
    assert_true(view.ok);
    assert_int_equal(view.code, 0);
    assert_null(view.message);
    bson_destroy(&reply);
}

/* A client's text in a message, broken or cut in the middle of a character, stays readable. */
static void test_error_is_always_valid_utf8(void **state)
{
    (void)state;
    static char euros[4000];
    for (size_t i = 0; i + 3 < sizeof(euros); i += 3) {
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): the last bytes stay zero */
        memcpy(euros + i, "\xe2\x82\xac", 3);
    }
    static const char *const texts[] = {"\xff\xfe", euros, "\xc3", "fine \xc3\xa4"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        bson_t reply = BSON_INITIALIZER;
        reply_put_error(&reply, 2, NULL, "%s", texts[i]);
        struct reply_view view;
        assert_int_equal(reply_view_parse(slice_of(&reply), &view), STATUS_OK);
        assert_true(bson_utf8_validate(view.message, strlen(view.message), false));
        bson_destroy(&reply);
    }
}

static void test_view_of_server_replies(void **state)
{
    (void)state;
    struct reply_view view;
    bson_t *written = from_json("{\"n\": 2, \"nModified\": 1, \"ok\": 1.0, "
                                "\"upserted\": [{\"index\": 0, \"_id\": 5}]}");
    assert_int_equal(reply_view_parse(slice_of(written), &view), STATUS_OK);
    assert_true(view.ok && view.has_n && view.has_modified && !view.has_write_errors);
    assert_int_equal(view.n, 2);
    assert_int_equal(view.modified, 1);
    assert_true(view.upserted.size > 5);
    bson_destroy(written);

    bson_t *failed = from_json("{\"ok\": 1, \"n\": 0, \"writeErrors\": [{\"index\": 0, "
                               "\"code\": 11000}], \"writeConcernError\": {\"code\": 64}}");
    assert_int_equal(reply_view_parse(slice_of(failed), &view), STATUS_OK);
    assert_true(view.ok && view.has_write_errors && view.has_write_concern_error);
    assert_true(view.write_errors.size > 5);
    bson_destroy(failed);

    bson_t *cursor =
        from_json("{\"cursor\": {\"firstBatch\": [{\"_id\": 1}], "
                  "\"id\": {\"$numberLong\": \"77\"}, \"ns\": \"a.b\"}, \"ok\": true}");
    assert_int_equal(reply_view_parse(slice_of(cursor), &view), STATUS_OK);
    assert_true(view.ok && view.has_cursor);
    assert_int_equal(view.cursor_id, 77);
    assert_true(view.batch.size > 5);
    bson_destroy(cursor);

    bson_t *found =
        from_json("{\"value\": {\"_id\": 1}, \"lastErrorObject\": {\"n\": 1}, \"ok\": 1}");
    assert_int_equal(reply_view_parse(slice_of(found), &view), STATUS_OK);
    assert_true(view.has_value && view.value.size > 5 && view.last_error_object.size > 5);
    bson_destroy(found);

    bson_t *nothing = from_json("{\"value\": null, \"ok\": 1, \"writeErrors\": []}");
    assert_int_equal(reply_view_parse(slice_of(nothing), &view), STATUS_OK);
    assert_true(view.has_value && view.value.size == 0 && !view.has_write_errors);
    bson_destroy(nothing);
}

static void test_fields_of_wrong_types_count_as_missing(void **state)
{
    (void)state;
    struct reply_view view;
    bson_t *odd = from_json(
        "{\"ok\": \"1\", \"code\": {\"$numberLong\": \"4294967408\"}, \"codeName\": 5, "
        "\"errmsg\": null, \"errorLabels\": \"TransientTransactionError\", \"writeErrors\": {}, "
        "\"writeConcernError\": 1, \"n\": \"2\", \"nModified\": 0.5, \"cursor\": 9, "
        "\"value\": 3, \"upserted\": {}, \"lastErrorObject\": []}");
    assert_int_equal(reply_view_parse(slice_of(odd), &view), STATUS_OK);
    assert_false(view.ok || view.is_transient || view.has_write_errors || view.has_n ||
                 view.has_write_concern_error || view.has_modified || view.has_cursor ||
                 view.has_value);
    assert_int_equal(view.code, 0);
    assert_null(view.code_name);
    assert_null(view.message);
    assert_int_equal(view.upserted.size + view.last_error_object.size + view.batch.size, 0);
    bson_destroy(odd);
    bson_t *empty = from_json("{}");
    assert_int_equal(reply_view_parse(slice_of(empty), &view), STATUS_OK);
    assert_false(view.ok);
    bson_destroy(empty);
}

static void test_truncations_and_random_changes(void **state)
{
    (void)state;
    struct reply_view view;
    uint32_t random = 1618;
    bson_t *reply = from_json(
        "{\"ok\": 0.0, \"errmsg\": \"text\", \"code\": 112, \"errorLabels\": [\"a\", \"b\"], "
        "\"cursor\": {\"id\": {\"$numberLong\": \"1\"}, \"nextBatch\": [{}]}, \"value\": {\"a\": "
        "1}, "
        "\"writeErrors\": [{\"code\": 1}]}");
    for (uint32_t size = 0; size < reply->len; size++) {
        struct slice copy = exact_copy(bson_get_data(reply), size);
        assert_int_equal(reply_view_parse(copy, &view), STATUS_PROTOCOL);
        exact_free(copy);
    }
    for (int round = 0; round < 60000; round++) {
        uint8_t bytes[512];
        memcpy(bytes, bson_get_data(reply), reply->len);
        bytes_mutate(bytes + 4, reply->len - 5, &random);
        struct slice copy = exact_copy(bytes, reply->len);
        if (reply_view_parse(copy, &view) == STATUS_OK && view.message != NULL) {
            assert_true((const uint8_t *)view.message + strlen(view.message) <
                        copy.data + copy.size);
        }
        exact_free(copy);
    }
    bson_destroy(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_have_their_names),
        cmocka_unit_test(test_transient_codes),
        cmocka_unit_test(test_error_round_trip),
        cmocka_unit_test(test_error_is_always_valid_utf8),
        cmocka_unit_test(test_view_of_server_replies),
        cmocka_unit_test(test_fields_of_wrong_types_count_as_missing),
        cmocka_unit_test(test_truncations_and_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
