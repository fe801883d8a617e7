/*
 * Heads and bodies: what the parsers read out of them, and that libhttp-parser, which is laxer,
 * reads whatever passes here the same way.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <http_parser.h>

#include "front/head.h"
#include "wire_bytes.h"

static struct http_head parse(const char *text)
{
    struct head_scan scan = {0};
    struct http_head head;
    const char *reason = "";
    size_t size = 0;
    struct slice bytes = slice_text(text);
    assert_int_equal(head_find_end(&scan, bytes, &size), HEAD_WHOLE);
    assert_int_equal(size, bytes.size);
    if (head_parse_request(bytes, &head, &reason) != STATUS_OK) {
        fail_msg("%s", reason);
    }
    return head;
}

static void assert_slice(struct slice slice, const char *text)
{
    assert_true(slice_equal(slice, slice_text(text)));
}

static void test_request_head(void **state)
{
    (void)state;
    struct http_head head = parse("PATCH /a?b HTTP/1.1\r\nTRACEPARENT:  x y \r\ntraceparent: z\r\n"
                                  "content-length: 0012\r\nConnection: a, CLOSE\r\n\r\n");
    assert_slice(head.method, "PATCH");
    assert_slice(head.target, "/a?b");
    assert_slice(head.traceparent, "x y");
    assert_int_equal(head.traceparents, 2);
    assert_int_equal(head.framing, FRAMING_LENGTH);
    assert_int_equal(head.length, 12);
    assert_false(head.keep_alive);
    assert_true(parse("GET / HTTP/1.1\r\n\r\n").keep_alive);
    assert_false(parse("GET / HTTP/1.0\r\n\r\n").keep_alive);
    assert_true(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
    assert_false(parse("GET / HTTP/1.1\r\nUpgrade: a\r\n\r\n").upgrade);
    assert_true(parse("GET / HTTP/1.1\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n").upgrade);
    assert_true(parse("GET / HTTP/1.1\r\nUpgrade: a, h2c\r\n\r\n").upgrade_http2);
}

static void test_expectation(void **state)
{
    (void)state;
    assert_true(parse("PUT / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n").expects_continue);
    assert_true(parse("PUT / HTTP/1.1\r\nEXPECT: a=b , 100-Continue\r\n\r\n").expects_continue);
    assert_true(
        parse("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nExpect:\r\n\r\n").expects_continue);
    assert_false(parse("PUT / HTTP/1.1\r\nExpect: 100-continued\r\n\r\n").expects_continue);
    assert_false(parse("PUT / HTTP/1.1\r\nExpect:\r\n\r\n").expects_continue);
    assert_false(parse("PUT / HTTP/1.1\r\nX-Expect: 100-continue\r\n\r\n").expects_continue);
    assert_false(parse("PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue);
}

static void test_end_is_found_at_any_split(void **state)
{
    (void)state;
    static const char text[] = "GET / HTTP/1.1\r\nA: b\r\n\r\nGET";
    const size_t end = sizeof text - 1 - 3;
    for (size_t first = 0; first < sizeof text; first++) {
        for (size_t second = first; second < sizeof text; second++) {
            struct head_scan scan = {0};
            size_t size = 0;
            enum head_found found = head_find_end(&scan, slice_make(text, first), &size);
            if (found == HEAD_MORE) {
                found = head_find_end(&scan, slice_make(text, second), &size);
            }
            assert_int_equal(found, second >= end ? HEAD_WHOLE : HEAD_MORE);
            assert_true(found == HEAD_MORE || size == end);
        }
    }
}

static void test_answer_framing(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool to_head;
        enum framing_kind framing;
        bool keep_alive;
    } answers[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", false, FRAMING_LENGTH, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", true, FRAMING_NONE, true},
        {"HTTP/1.1 204 OK\r\nContent-Length: 4\r\n\r\n", false, FRAMING_NONE, true},
        {"HTTP/1.1 304\r\n\r\n", false, FRAMING_NONE, true},
        {"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", false, FRAMING_CHUNKED, true},
        {"HTTP/1.1 200 \r\nTransfer-Encoding: gzip\r\n\r\n", false, FRAMING_CLOSE, false},
        {"HTTP/1.1 200 \r\n\r\n", false, FRAMING_CLOSE, false},
        {"HTTP/1.0 200 \r\nContent-Length: 4\r\n\r\n", false, FRAMING_LENGTH, false},
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct http_head head;
        const char *reason;
        assert_int_equal(
            head_parse_answer(slice_text(answers[i].text), answers[i].to_head, &head, &reason),
            STATUS_OK);
        assert_int_equal(head.framing, answers[i].framing);
        assert_int_equal(head.keep_alive, answers[i].keep_alive);
    }
    static const char *const wrong[] = {
        "HTTP/1.1 20 OK\r\n\r\n",       "HTTP/1.1 2000\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",      "HTTP/1.1\r\n\r\n",
        "HTTP/2.0 200\r\n\r\n",         "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct http_head head;
        const char *reason = NULL;
        assert_int_not_equal(head_parse_answer(slice_text(wrong[i]), false, &head, &reason),
                             STATUS_OK);
        assert_non_null(reason);
    }
}

static void copy(const char *text, struct head_changes changes, const char *wanted)
{
    struct buffer out;
    buffer_init(&out, 1000);
    assert_int_equal(head_copy(slice_text(text), &changes, &out), STATUS_OK);
    assert_slice(buffer_slice(&out), wanted);
    buffer_free(&out);
}

static void test_copy_changes_only_its_lines(void **state)
{
    (void)state;
    static const char head[] =
        "GET / HTTP/1.1\r\nTraceparent:a\r\nX:  y \r\nUPGRADE: h2c\r\ntraceparent: b\r\n\r\n";
    copy(head, (struct head_changes){0}, head);
    copy(head, (struct head_changes){.drop_upgrade = true},
         "GET / HTTP/1.1\r\nTraceparent:a\r\nX:  y \r\ntraceparent: b\r\n\r\n");
    copy(head, (struct head_changes){.drop_traceparent = true, .traceparent = "new"},
         "GET / HTTP/1.1\r\nX:  y \r\nUPGRADE: h2c\r\ntraceparent: new\r\n\r\n");
}

/* ------------------------------------------------------------------ against libhttp-parser */

static int on_complete(http_parser *parser)
{
    *(bool *)parser->data = true;
    return 0;
}

/* Where libhttp-parser sees the end of the request; 0: it does not. */
static size_t their_end(struct slice message)
{
    http_parser parser;
    http_parser_settings settings;
    bool complete = false;
    http_parser_settings_init(&settings);
    settings.on_message_complete = on_complete;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &complete;
    size_t used = 0;
    while (!complete && used < message.size && HTTP_PARSER_ERRNO(&parser) == HPE_OK) {
        (void)http_parser_execute(&parser, &settings, (const char *)&message.data[used++], 1);
    }
    return complete ? used : 0;
}

/* Where we do; 0: we do not. */
static size_t our_end(struct slice message)
{
    struct head_scan scan = {0};
    struct http_head head;
    struct framing framing;
    struct slice front;
    const char *reason;
    size_t size = 0;
    size_t used = 0;
    if (head_find_end(&scan, message, &size) != HEAD_WHOLE || !slice_take(&message, size, &front) ||
        head_parse_request(front, &head, &reason) != STATUS_OK || head.upgrade) {
        return 0;
    }
    framing_start(&framing, head.framing, head.length, false);
    (void)framing_take(&framing, message, &used);
    return framing_is_complete(&framing) ? size + used : 0;
}

static void test_agrees_with_http_parser(void **state)
{
    (void)state;
    static const char *const messages[] = {
        ("POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n"
         "5;x=y\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: u\r\n\r\nGET"),
        "PUT /a HTTP/1.1\r\nHost: b\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789AB",
        "GET /a HTTP/1.0\r\nX-Y: z\r\n\r\nGET",
    };
    uint32_t random = 20260202;
    size_t agreed = 0;
    for (int i = 0; i < 60000; i++) {
        char bytes[256];
        const char *message = messages[i % 3];
        size_t size = strlen(message);
        memcpy(bytes, message, size);
        for (uint32_t changes = random_next(&random) % 3; changes > 0; changes--) {
            static const char likely[] = "\r\n :;,0159afx\t";
            bytes[random_next(&random) % size] = likely[random_next(&random) % (sizeof likely - 1)];
        }
        size_t ours = our_end(slice_make(bytes, size));
        size_t theirs = ours == 0 ? 0 : their_end(slice_make(bytes, size));
        /* Where it is stricter, it refuses: nobody is misled. */
        if (theirs != 0 && ours != theirs) {
            fail_msg("%zu, not %zu: %.*s", ours, theirs, (int)size, bytes);
        }
        agreed += ours != 0 && ours == theirs;
    }
    assert_true(agreed > 15000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_head),
        cmocka_unit_test(test_expectation),
        cmocka_unit_test(test_end_is_found_at_any_split),
        cmocka_unit_test(test_answer_framing),
        cmocka_unit_test(test_copy_changes_only_its_lines),
        cmocka_unit_test(test_agrees_with_http_parser),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
