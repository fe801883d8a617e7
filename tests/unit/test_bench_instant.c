/* What the fake server answers, and what it leaves to the server. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <bson/bson.h>
#include <string.h>

#include <cmocka.h>

#include "bench/peer/instant.h"
#include "holdfast/limits.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"
#include "wire/reply.h"

#define REQUEST_ID 4711

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

/* Destroys the command. Whether it is answered; then *reply holds the message. */
static bool ask(bson_t *command, uint32_t flags, struct buffer *reply)
{
    bson_t *hello = BCON_NEW("isWritablePrimary", BCON_BOOL(true), "ok", BCON_DOUBLE(1));
    struct buffer request;
    buffer_init(&request, LIMIT_MESSAGE_BYTES_MAX);
    buffer_init(reply, LIMIT_MESSAGE_BYTES_MAX);
    assert_int_equal(op_msg_append(&request, REQUEST_ID, 0, flags, slice_of(command)), STATUS_OK);
    bool answered = instant_answer(buffer_slice(&request), slice_of(hello), reply);
    for (size_t size = 0; size < request.size; size++) { /* truncated: never */
        struct buffer none;
        buffer_init(&none, LIMIT_MESSAGE_BYTES_MAX);
        assert_false(instant_answer(slice_make(request.data, size), slice_of(hello), &none));
        assert_int_equal(none.size, 0);
        buffer_free(&none);
    }
    buffer_free(&request);
    bson_destroy(command);
    bson_destroy(hello);
    return answered;
}

/* The reply is valid, says ok, and looks like this. */
static void check_reply(struct buffer *reply, struct reply_view *view)
{
    struct wire_header header;
    struct op_msg message;
    bson_t document;
    assert_int_equal(wire_header_parse(buffer_slice(reply), &header), STATUS_OK);
    assert_int_equal(header.response_to, REQUEST_ID);
    assert_int_equal(header.length, reply->size);
    assert_int_equal(op_msg_parse(buffer_slice(reply), &message), STATUS_OK);
    assert_true(bson_init_static(&document, message.body.data, message.body.size));
    assert_true(bson_validate(&document, BSON_VALIDATE_NONE, NULL));
    assert_int_equal(reply_view_parse(message.body, view), STATUS_OK);
    assert_true(view->ok);
}

static bson_t *find_by(bson_t *filter)
{
    bson_t *command = BCON_NEW("find", BCON_UTF8("things"), "filter", BCON_DOCUMENT(filter), "$db",
                               BCON_UTF8("shop"));
    bson_destroy(filter);
    return command;
}

static void test_find(void **state)
{
    (void)state;
    struct buffer reply;
    struct reply_view view;
    struct slice elements;
    struct bson_element document;
    struct bson_element field;
    int64_t number = 0;
    assert_true(ask(find_by(BCON_NEW("_id", BCON_INT64(77))), 0, &reply));
    check_reply(&reply, &view);
    assert_true(bson_fields_open(view.batch, &elements));
    assert_true(bson_element_next(&elements, &document));
    assert_int_equal(elements.size, 0);
    assert_true(bson_element_find(document.value, "_id", &field));
    assert_true(bson_element_integer(&field, &number));
    assert_int_equal(number, 77);
    assert_true(bson_element_find(document.value, "value", &field));
    buffer_free(&reply);
    assert_true(ask(find_by(BCON_NEW("_id", BCON_UTF8("a"))), 0, &reply));
    buffer_free(&reply);
}

static bson_t *update_with(bson_t *statement)
{
    bson_t *command = BCON_NEW("update", BCON_UTF8("things"), "updates", "[",
                               BCON_DOCUMENT(statement), "]", "$db", BCON_UTF8("shop"));
    bson_destroy(statement);
    return command;
}

#define BY_ID "q", "{", "_id", BCON_INT32(3), "}"
#define INCREMENT "u", "{", "$inc", "{", "value", BCON_INT32(1), "}", "}"

static void test_update_hello_ping(void **state)
{
    (void)state;
    struct buffer reply;
    struct reply_view view;
    assert_true(ask(update_with(BCON_NEW(BY_ID, INCREMENT)), 0, &reply));
    check_reply(&reply, &view);
    assert_true(view.has_n);
    assert_int_equal(view.n, 1);
    buffer_free(&reply);
    assert_true(ask(BCON_NEW("ping", BCON_INT32(1), "$db", BCON_UTF8("admin")), 0, &reply));
    check_reply(&reply, &view);
    buffer_free(&reply);
    assert_true(ask(BCON_NEW("hello", BCON_INT32(1), "$db", BCON_UTF8("admin")), 0, &reply));
    check_reply(&reply, &view);
    buffer_free(&reply);
}

static void assert_passes(bson_t *command, uint32_t flags)
{
    struct buffer reply;
    assert_false(ask(command, flags, &reply));
    assert_int_equal(reply.size, 0);
    buffer_free(&reply);
}

/* What is more than one document by _id, or has to be done to be true later. */
static void test_what_is_the_servers(void **state)
{
    (void)state;
    assert_passes(find_by(BCON_NEW("_id", "{", "$gt", BCON_INT32(1), "}")), 0);
    assert_passes(find_by(BCON_NEW("name", BCON_UTF8("a"))), 0);
    assert_passes(find_by(BCON_NEW("_id", BCON_INT32(1), "name", BCON_UTF8("a"))), 0);
    assert_passes(find_by(bson_new()), 0);
    assert_passes(BCON_NEW("find", BCON_UTF8("things"), "$db", BCON_UTF8("shop")), 0);
    assert_passes(update_with(BCON_NEW(BY_ID, INCREMENT, "upsert", BCON_BOOL(true))), 0);
    assert_passes(update_with(BCON_NEW(BY_ID, "u", "[", "{", "}", "]")), 0);
    assert_passes(update_with(BCON_NEW("q", "{", "}", INCREMENT)), 0);
    assert_passes(
        BCON_NEW("update", BCON_UTF8("things"), "updates", "[", "]", "$db", BCON_UTF8("shop")), 0);
    assert_passes(BCON_NEW("ping", BCON_INT32(1), "txnNumber", BCON_INT64(1)), 0);
    assert_passes(BCON_NEW("ping", BCON_INT32(1), "autocommit", BCON_BOOL(false)), 0);
    assert_passes(BCON_NEW("hello", BCON_INT32(1), "topologyVersion", "{", "}"), 0);
    assert_passes(BCON_NEW("insert", BCON_UTF8("things"), "documents", "[", "]"), 0);
    assert_passes(bson_new(), 0);
    assert_passes(BCON_NEW("ping", BCON_INT32(1)), OP_MSG_MORE_TO_COME);
    assert_passes(BCON_NEW("hello", BCON_INT32(1)), OP_MSG_EXHAUST_ALLOWED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_update_hello_ping),
        cmocka_unit_test(test_what_is_the_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
