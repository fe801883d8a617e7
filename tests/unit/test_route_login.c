/* Whose connection it is, read off logins; and those that a proxy must not pass on. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <bson/bson.h>

#include "route/login.h"

static void request(struct login *login, const bson_t *command)
{
    struct command_view view;
    struct slice body = slice_make(bson_get_data(command), command->len);
    assert_int_equal(command_view_parse(body, &view, NULL), STATUS_OK);
    login_request(login, &view);
}

static void reply(struct login *login, int ok, bool done)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_DOUBLE(&document, "ok", ok);
    BSON_APPEND_BOOL(&document, "done", done);
    login_reply(login, slice_make(bson_get_data(&document), document.len));
    bson_destroy(&document);
}

static void reply_number(struct login *login, int number, bool done, bool of_hello)
{
    bson_t document = BSON_INITIALIZER;
    bson_t inside = BSON_INITIALIZER;
    BSON_APPEND_INT32(&inside, "conversationId", number);
    BSON_APPEND_BOOL(&inside, "done", done);
    BSON_APPEND_DOUBLE(of_hello ? &document : &inside, "ok", 1);
    if (of_hello) {
        BSON_APPEND_DOCUMENT(&document, "speculativeAuthenticate", &inside);
    }
    const bson_t *told = of_hello ? &document : &inside;
    login_reply(login, slice_make(bson_get_data(told), told->len));
    bson_destroy(&document);
    bson_destroy(&inside);
}

static void step(struct login *login, int number)
{
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_INT32(&command, "saslContinue", 1);
    BSON_APPEND_INT32(&command, "conversationId", number);
    BSON_APPEND_UTF8(&command, "$db", "admin");
    request(login, &command);
    bson_destroy(&command);
}

static void start(struct login *login, const char *mechanism, const void *payload, size_t size,
                  const char *database)
{
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_INT32(&command, "saslStart", 1);
    BSON_APPEND_BINARY(&command, "payload", BSON_SUBTYPE_BINARY, payload, (uint32_t)size);
    BSON_APPEND_UTF8(&command, "mechanism", mechanism);
    BSON_APPEND_UTF8(&command, "$db", database);
    request(login, &command);
    bson_destroy(&command);
}

static void test_who_it_is(void **state)
{
    (void)state;
    static const char plain[] = "\0eve\0secret";
    struct login login = {0};
    start(&login, "SCRAM-SHA-256", "n,,n=bob,r=x", 12, "admin");
    assert_string_equal(login.user, "");
    reply(&login, 1, false);
    assert_string_equal(login.user, "");
    reply(&login, 1, true);
    assert_string_equal(login.user, "admin.bob");
    start(&login, "PLAIN", plain, sizeof plain - 1, "$external");
    reply(&login, 0, false); /* wrong password: who it was it stays */
    assert_string_equal(login.user, "admin.bob");
    start(&login, "PLAIN", plain, sizeof plain - 1, "$external");
    reply(&login, 1, true);
    assert_string_equal(login.user, "$external.eve");
}

/* RFC 5802: in a name ',' is "=2C" and '=' is "=3D", and nothing else stands behind a '='. */
static void test_names_that_are_written_otherwise(void **state)
{
    (void)state;
    static const char well[] = "n,,n=a=3Db=2Cc,r=x";
    static const char *const none[] = {"n,,n=a=4Db,r=x", "n,,n=a=,r=x", "n,,n=a=3"};
    struct login login = {0};
    start(&login, "SCRAM-SHA-256", well, sizeof well - 1, "admin");
    reply(&login, 1, true);
    assert_string_equal(login.user, "admin.a=b,c");
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        login = (struct login){0};
        start(&login, "SCRAM-SHA-256", none[i], strlen(none[i]), "admin");
        reply(&login, 1, true);
        assert_string_equal(login.user, "admin.(unknown mechanism)");
    }
}

static void test_plain_payloads_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {{"", 0}, {"eve", 3}, {"\0", 1}, {"\0eve", 4}, {"\0\0x", 3}, {"a\0", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct login login = {0};
        start(&login, "PLAIN", cases[i].bytes, cases[i].size, "$external");
        reply(&login, 1, true);
        assert_string_equal(login.user, "$external.(unknown mechanism)");
    }
}

/* On a server that holds several: the end of one is not the end of another. */
static void test_conversations(void **state)
{
    (void)state;
    struct login login = {0};
    start(&login, "SCRAM-SHA-256", "n,,n=bob,r=x", 12, "admin");
    reply_number(&login, 7, false, false);
    step(&login, 7);
    reply_number(&login, 7, false, false);
    step(&login, 7);
    reply_number(&login, 7, true, false);
    assert_string_equal(login.user, "admin.bob");
    login = (struct login){0};
    start(&login, "SCRAM-SHA-256", "n,,n=eve,r=x", 12, "admin");
    reply_number(&login, 1, false, false);
    start(&login, "SCRAM-SHA-256", "n,,n=bob,r=x", 12, "admin");
    reply_number(&login, 2, false, false);
    step(&login, 1);
    reply_number(&login, 1, true, false);
    assert_string_equal(login.user, "(unknown).(unknown mechanism)");
}

static void append_payload(bson_t *command, const char *text)
{
    BSON_APPEND_BINARY(command, "payload", BSON_SUBTYPE_BINARY, (const uint8_t *)text,
                       (uint32_t)strlen(text));
}

/* Which of two a server takes is its own: nobody lends another's name so. */
static void test_fields_that_are_there_twice(void **state)
{
    (void)state;
    struct login login = {0};
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_INT32(&command, "saslStart", 1);
    BSON_APPEND_UTF8(&command, "$db", "admin");
    append_payload(&command, "n,,n=bob,r=x");
    append_payload(&command, "n,,n=eve,r=x");
    request(&login, &command);
    reply(&login, 1, true);
    assert_string_equal(login.user, "admin.(unknown mechanism)");
    bson_reinit(&command);
    login = (struct login){0};
    BSON_APPEND_INT32(&command, "saslStart", 1);
    BSON_APPEND_UTF8(&command, "$db", "admin");
    BSON_APPEND_UTF8(&command, "mechanism", "PLAIN");
    BSON_APPEND_UTF8(&command, "mechanism", "SCRAM-SHA-256");
    BSON_APPEND_BINARY(&command, "payload", BSON_SUBTYPE_BINARY,
                       (const uint8_t *)"n,,n=eve\0bob\0,r=x", 17);
    request(&login, &command);
    reply(&login, 1, true);
    assert_string_equal(login.user, "admin.(unknown mechanism)");
    bson_reinit(&command);
    login = (struct login){0};
    BSON_APPEND_INT32(&command, "hello", 1);
    for (int i = 0; i < 2; i++) {
        bson_t inside;
        BSON_APPEND_DOCUMENT_BEGIN(&command, "speculativeAuthenticate", &inside);
        append_payload(&inside, i == 0 ? "n,,n=bob,r=x" : "n,,n=eve,r=x");
        bson_append_document_end(&command, &inside);
    }
    request(&login, &command);
    reply(&login, 1, true);
    assert_string_equal(login.user, "(unknown).(unknown mechanism)");
    bson_destroy(&command);
}

/* A server that does not take up what a hello offers has begun no conversation. */
static void test_a_hello_that_begins_one(void **state)
{
    (void)state;
    for (int taken = 0; taken < 2; taken++) {
        struct login login = {0};
        bson_t command = BSON_INITIALIZER;
        bson_t inside;
        start(&login, "SCRAM-SHA-256", "n,,n=eve,r=x", 12, "admin");
        reply_number(&login, 1, false, false);
        BSON_APPEND_INT32(&command, "hello", 1);
        BSON_APPEND_DOCUMENT_BEGIN(&command, "speculativeAuthenticate", &inside);
        append_payload(&inside, "n,,n=bob,r=x");
        bson_append_document_end(&command, &inside);
        request(&login, &command);
        if (taken) {
            reply_number(&login, 2, false, true);
        } else {
            reply(&login, 1, false);
        }
        step(&login, taken ? 2 : 1);
        reply(&login, 1, true);
        assert_string_equal(login.user, taken ? "admin.bob" : "(unknown).(unknown mechanism)");
        bson_destroy(&command);
    }
}

/* The server reads it, too; here it is not. */
static void test_a_payload_in_base64(void **state)
{
    (void)state;
    struct login login = {.user = "admin.bob"};
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_INT32(&command, "saslStart", 1);
    BSON_APPEND_UTF8(&command, "payload", "biwsbj1ldmUscj14");
    BSON_APPEND_UTF8(&command, "$db", "admin");
    request(&login, &command);
    reply(&login, 1, true);
    assert_string_equal(login.user, "admin.(unknown mechanism)");
    bson_destroy(&command);
}

/* A server that refuses the logout still takes the connection for the user's. */
static void test_logout(void **state)
{
    (void)state;
    struct login login = {.user = "admin.bob"};
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_INT32(&command, "logout", 1);
    BSON_APPEND_UTF8(&command, "$db", "admin");
    request(&login, &command);
    reply(&login, 0, false);
    assert_string_equal(login.user, "admin.bob");
    request(&login, &command);
    reply(&login, 1, false);
    assert_string_equal(login.user, "");
    bson_destroy(&command);
}

static void check(const char *json, bool by_certificate, bool hello)
{
    bson_error_t error;
    struct command_view view;
    bson_t *command = bson_new_from_json((const uint8_t *)json, -1, &error);
    assert_non_null(command);
    struct slice body = slice_make(bson_get_data(command), command->len);
    assert_int_equal(command_view_parse(body, &view, NULL), STATUS_OK);
    if (login_is_by_certificate(&view) != by_certificate ||
        login_hello_is_by_certificate(&view) != hello) {
        fail_msg("%s", json);
    }
    bson_destroy(command);
}

static void test_logins_by_certificate(void **state)
{
    (void)state;
    static const char x509[] = "{\"authenticate\": 1, \"mechanism\": \"MONGODB-X509\", \"db\": "
                               "\"$external\"}";
    char hello[300];
    check("{\"authenticate\": 1, \"mechanism\": \"MONGODB-X509\"}", true, false);
    check("{\"authenticate\": 1, \"user\": \"x\"}", true, false);
    check("{\"saslStart\": 1, \"mechanism\": \"mongodb-x509\"}", true, false);
    check("{\"saslStart\": 1, \"mechanism\": \"EXTERNAL\"}", true, false);
    check("{\"saslStart\": 1, \"mechanism\": \"SCRAM-SHA-256\"}", false, false);
    check("{\"saslStart\": 1, \"mechanism\": \"PLAIN\"}", false, false);
    check("{\"hello\": 1}", false, false);
    check("{\"hello\": 1, \"speculativeAuthenticate\": {\"saslStart\": 1, \"mechanism\": "
          "\"SCRAM-SHA-256\"}}",
          false, false);
    check("{\"hello\": 1, \"speculativeAuthenticate\": 1}", false, false);
    (void)snprintf(hello, sizeof hello, "{\"hello\": 1, \"speculativeAuthenticate\": %s}", x509);
    check(hello, false, true);
    (void)snprintf(hello, sizeof hello,
                   "{\"isMaster\": 1, \"speculativeAuthenticate\": 1, "
                   "\"speculativeAuthenticate\": %s}",
                   x509);
    check(hello, false, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_it_is),
        cmocka_unit_test(test_names_that_are_written_otherwise),
        cmocka_unit_test(test_plain_payloads_that_are_none),
        cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_a_hello_that_begins_one),
        cmocka_unit_test(test_fields_that_are_there_twice),
        cmocka_unit_test(test_a_payload_in_base64),
        cmocka_unit_test(test_logout),
        cmocka_unit_test(test_logins_by_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
