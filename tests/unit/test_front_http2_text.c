/* Heads of HTTP/2 as text and back, and what an answer of gRPC says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "front/grpc.h"
#include "front/http2_text.h"

static void add(struct http2_fields *fields, const char *name, const char *value)
{
    http2_fields_add(fields, slice_text(name), slice_text(value));
}

static void start(struct http2_fields *fields, const char *method)
{
    http2_fields_init(fields);
    add(fields, ":method", method);
    add(fields, ":scheme", "http");
    add(fields, ":authority", "shop");
    add(fields, ":path", "/a?b=c");
}

/* Frees the fields. */
static void expect_request(struct http2_fields *fields, bool ended, const char *text,
                           enum http2_body body)
{
    struct buffer out;
    enum http2_body found;
    buffer_init(&out, HEAD_BYTES_MAX);
    assert_int_equal(http2_write_request(fields, ended, &out, &found), STATUS_OK);
    assert_int_equal(buffer_append(&out, "", 1), STATUS_OK);
    assert_string_equal((const char *)out.data, text);
    assert_int_equal(found, body);
    buffer_free(&out);
    http2_fields_free(fields);
}

static void test_requests_as_text(void **state)
{
    struct http2_fields fields;
    (void)state;
    start(&fields, "GET");
    expect_request(&fields, true, "GET /a?b=c HTTP/1.1\r\nhost: shop\r\n\r\n", HTTP2_BODY_NONE);
    start(&fields, "POST");
    expect_request(&fields, true, "POST /a?b=c HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n",
                   HTTP2_BODY_NONE);
    start(&fields, "POST");
    add(&fields, "te", "trailers");
    add(&fields, "cookie", "a=1");
    add(&fields, "x", "  y ");
    add(&fields, "cookie", "b=2");
    expect_request(&fields, false,
                   "POST /a?b=c HTTP/1.1\r\nhost: shop\r\nte: trailers\r\nx:   y \r\n"
                   "cookie: a=1; b=2\r\ntransfer-encoding: chunked\r\n\r\n",
                   HTTP2_BODY_CHUNKED);
    start(&fields, "PUT");
    add(&fields, "content-length", "3");
    add(&fields, "host", "other"); /* :authority goes before it */
    expect_request(&fields, false, "PUT /a?b=c HTTP/1.1\r\nhost: shop\r\ncontent-length: 3\r\n\r\n",
                   HTTP2_BODY_LENGTH);
}

static void expect_refused(struct http2_fields *fields, enum status status)
{
    struct buffer out;
    enum http2_body body = HTTP2_BODY_LENGTH;
    buffer_init(&out, HEAD_BYTES_MAX);
    assert_int_equal(http2_write_request(fields, true, &out, &body), status);
    assert_int_equal(body, HTTP2_BODY_LENGTH);
    buffer_free(&out);
    http2_fields_free(fields);
}

/* What would be read as another line, or another word of the first. */
static void test_fields_that_no_text_may_say(void **state)
{
    static const char *const wrong[][2] = {
        {":path", "/a HTTP/1.1"}, {":method", "GET /"}, {":authority", "a\r\nx: y"},
        {"x", "a\r\nx: y"},       {"x", "a\nb"},        {"x y", "z"},
        {"x\r\ny", "z"},          {"x", "a\x7f"},       {":path", "/\t"},
    };
    struct http2_fields fields;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        start(&fields, "GET");
        add(&fields, wrong[i][0], wrong[i][1]);
        expect_refused(&fields, STATUS_INVALID);
    }
    http2_fields_init(&fields);
    add(&fields, ":method", "CONNECT"); /* without a path */
    expect_refused(&fields, STATUS_INVALID);
    start(&fields, "GET");
    for (size_t i = 0; i < HTTP2_FIELDS_BYTES_MAX / 32; i++) {
        add(&fields, "x", "y");
    }
    expect_refused(&fields, STATUS_LIMIT);
}

static void expect_answer(const char *status, const char *name, const char *value, bool ended,
                          bool to_head, const char *text)
{
    struct http2_fields fields;
    struct buffer out;
    enum http2_body body;
    buffer_init(&out, HEAD_BYTES_MAX);
    http2_fields_init(&fields);
    add(&fields, ":status", status);
    add(&fields, name, value);
    assert_int_equal(http2_write_answer(&fields, ended, to_head, false, &out, &body), STATUS_OK);
    assert_int_equal(buffer_append(&out, "", 1), STATUS_OK);
    assert_string_equal((const char *)out.data, text);
    buffer_free(&out);
    http2_fields_free(&fields);
}

/* Its trailers have the status: they need a place, with a length, too. */
static void test_an_answer_of_grpc_with_a_length(void **state)
{
    static const char *const fields[][2] = {{":status", "200"},
                                            {"a", "b"},
                                            {"content-length", "7"},
                                            {"content-type", "application/grpc+proto"},
                                            {"c", "d"}};
    struct http2_fields gathered;
    struct buffer out;
    enum http2_body body;
    (void)state;
    for (int ended = 0; ended < 2; ended++) {
        buffer_init(&out, HEAD_BYTES_MAX);
        http2_fields_init(&gathered);
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
            add(&gathered, fields[i][0], fields[i][1]);
        }
        assert_int_equal(http2_write_answer(&gathered, ended != 0, false, false, &out, &body),
                         STATUS_OK);
        assert_int_equal(buffer_append(&out, "", 1), STATUS_OK);
        assert_string_equal((const char *)out.data,
                            ended != 0 ? "HTTP/1.1 200 \r\na: b\r\ncontent-length: 7\r\n"
                                         "content-type: application/grpc+proto\r\nc: d\r\n\r\n"
                                       : "HTTP/1.1 200 \r\na: b\r\n"
                                         "content-type: application/grpc+proto\r\nc: d\r\n"
                                         "transfer-encoding: chunked\r\n\r\n");
        assert_int_equal(body, ended != 0 ? HTTP2_BODY_NONE : HTTP2_BODY_CHUNKED);
        buffer_free(&out);
        http2_fields_free(&gathered);
    }
}

/* HTTP/1.0 knows no chunks: the end of the connection is the answer's. */
static void test_an_answer_to_an_old_request(void **state)
{
    struct http2_fields fields;
    struct buffer out;
    enum http2_body body;
    (void)state;
    for (int i = 0; i < 2; i++) {
        buffer_init(&out, HEAD_BYTES_MAX);
        http2_fields_init(&fields);
        add(&fields, ":status", "200");
        if (i == 1) {
            add(&fields, "content-length", "3");
        }
        assert_int_equal(http2_write_answer(&fields, false, false, true, &out, &body), STATUS_OK);
        assert_int_equal(buffer_append(&out, "", 1), STATUS_OK);
        assert_string_equal((const char *)out.data,
                            i == 0 ? "HTTP/1.1 200 \r\nconnection: close\r\n\r\n"
                                   : "HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\n");
        assert_int_equal(body, i == 0 ? HTTP2_BODY_CLOSE : HTTP2_BODY_LENGTH);
        buffer_free(&out);
        http2_fields_free(&fields);
    }
}

static void test_answers_as_text(void **state)
{
    (void)state;
    expect_answer("200", "a", "b", true, false,
                  "HTTP/1.1 200 \r\na: b\r\ncontent-length: 0\r\n\r\n");
    expect_answer("200", "a", "b", false, false,
                  "HTTP/1.1 200 \r\na: b\r\ntransfer-encoding: chunked\r\n\r\n");
    expect_answer("200", "content-length", "7", true, true,
                  "HTTP/1.1 200 \r\ncontent-length: 7\r\n\r\n");
    expect_answer("204", "a", "b", true, false, "HTTP/1.1 204 \r\na: b\r\n\r\n");
    expect_answer("103", "a", "b", false, false, "HTTP/1.1 103 \r\na: b\r\n\r\n");
}

/* "name=value;" of each field. */
static void expect_list(struct http2_list *list, const char *wanted)
{
    char text[1024] = "";
    for (size_t i = 0; i < list->count; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used, "%.*s=%.*s;", (int)list->fields[i].namelen,
                       (const char *)list->fields[i].name, (int)list->fields[i].valuelen,
                       (const char *)list->fields[i].value);
    }
    assert_string_equal(text, wanted);
    http2_list_free(list);
    http2_list_free(list);
}

static enum status read_request(const char *text, struct http2_list *ret_list)
{
    struct http_head head;
    const char *reason = "";
    assert_int_equal(head_parse_request(slice_text(text), &head, &reason), STATUS_OK);
    return http2_read_request(slice_text(text), &head, false, ret_list);
}

static void test_text_as_fields(void **state)
{
    struct http2_list list;
    struct http_head head;
    const char *reason = "";
    (void)state;
    assert_int_equal(
        read_request("POST http://x/a?b HTTP/1.1\r\nHost: shop\r\nX-Yy: Zz\r\nTE: gzip\r\n"
                     "Connection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n",
                     &list),
        STATUS_OK);
    expect_list(&list, ":method=POST;:scheme=http;:path=/a?b;:authority=x;x-yy=Zz;");
    assert_int_equal(read_request("GET HTTPS://x?b=/c HTTP/1.1\r\nHost: shop\r\n\r\n", &list),
                     STATUS_OK);
    expect_list(&list, ":method=GET;:scheme=http;:path=/?b=/c;:authority=x;");
    assert_int_equal(read_request("OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n", &list), STATUS_OK);
    expect_list(&list, ":method=OPTIONS;:scheme=http;:path=*;:authority=shop;");
    assert_int_equal(read_request("GET http://x HTTP/1.1\r\nTE: trailers\r\n\r\n", &list),
                     STATUS_OK);
    expect_list(&list, ":method=GET;:scheme=http;:path=/;:authority=x;te=trailers;");
    assert_int_equal(read_request("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", &list),
                     STATUS_UNSUPPORTED);
    assert_int_equal(
        read_request("GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", &list),
        STATUS_UNSUPPORTED);
    static const char only_trailers[] = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n"
                                        "grpc-status: 5\r\nContent-Length: 0\r\n\r\n";
    assert_int_equal(head_parse_answer(slice_text(only_trailers), false, &head, &reason),
                     STATUS_OK);
    assert_int_equal(http2_read_answer(slice_text(only_trailers), &head, true, &list), STATUS_OK);
    expect_list(&list, ":status=200;content-type=application/grpc;grpc-status=5;");
    assert_int_equal(http2_read_trailers(slice_text("Grpc-Status: 0\r\nhost: a\r\n"), &list),
                     STATUS_OK);
    expect_list(&list, "grpc-status=0;");
}

/* As many as a head has room for, of both: each is looked at once. */
static void test_thousands_of_fields_and_of_names(void **state)
{
    static char text[2u * HEAD_BYTES_MAX];
    struct http2_list list;
    size_t used = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n");
    (void)state;
    for (unsigned number = 0; number < 2000; number++) {
        used += (size_t)snprintf(&text[used], sizeof text - used, "Connection: x%u,Y%u\r\nX%u:\r\n",
                                 number, number, number);
    }
    assert_in_range(used, HEAD_BYTES_MAX * 3 / 4, HEAD_BYTES_MAX - 20);
    (void)snprintf(&text[used], sizeof text - used, "y1999: z\r\nx2000: z\r\n\r\n");
    assert_int_equal(read_request(text, &list), STATUS_OK);
    expect_list(&list, ":method=GET;:scheme=http;:path=/;:authority=a;b=c;x2000=z;");
}

static void test_types_of_grpc(void **state)
{
    static const char *const types[] = {"application/grpc", "Application/gRPC+proto",
                                        "application/grpc;charset=x"};
    static const char *const others[] = {"", "application/grp", "application/grpc-web",
                                         "application/grpc-web+proto", "text/plain"};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        assert_true(grpc_is_type(slice_text(types[i])));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(grpc_is_type(slice_text(others[i])));
    }
}

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n"
#define EMPTY "grpc-status: 0\r\nContent-Length: 0\r\n\r\n"
#define CHUNKED HEAD "Transfer-Encoding: chunked\r\n\r\n"

/* Whether it succeeds, its trailers measured as the exchange does. */
static bool succeeds(const char *answer)
{
    struct head_scan scan = {0};
    struct http_head head;
    struct framing framing;
    const char *reason = "";
    size_t size = 0;
    size_t used = 0;
    assert_int_equal(head_find_end(&scan, slice_text(answer), &size), HEAD_WHOLE);
    assert_int_equal(
        head_parse_answer(slice_front(slice_text(answer), size), false, &head, &reason), STATUS_OK);
    framing_start(&framing, head.framing, head.length, true);
    (void)framing_take(&framing, slice_rest(slice_text(answer), size), &used);
    assert_true(framing_is_complete(&framing));
    return grpc_has_succeeded(slice_text(answer), framing.trailer_bytes + 1);
}

static void test_what_an_answer_of_grpc_says(void **state)
{
    static const char *const well[] = {
        CHUNKED "3\r\nabc\r\n0\r\ngrpc-status: 0\r\n\r\n",
        CHUNKED "0\r\nx: y\r\nGrpc-Status: 0\r\ngrpc-message: a\r\n\r\n",
        HEAD "grpc-status: 0\r\nContent-Length: 0\r\n\r\n",
        /* bytes of a message that look like trailers */
        CHUNKED "18\r\n\r\n0\r\ngrpc-status: 5\r\n\r\n.\r\n0\r\ngrpc-status: 0\r\n\r\n",
    };
    static const char *const not_well[] = {
        CHUNKED "3\r\nabc\r\n0\r\ngrpc-status: 5\r\n\r\n",
        CHUNKED "3\r\nabc\r\n0\r\n\r\n",
        CHUNKED "3\r\nabc\r\n0\r\ngrpc-status: 00\r\n\r\n",
        CHUNKED "3\r\nabc\r\n0\r\ngrpc-status: 0\r\ngrpc-status: 5\r\n\r\n",
        CHUNKED "3\r\nabc\r\n0\r\ngrpc-status:\r\n\r\n",
        CHUNKED "18\r\n\r\n0\r\ngrpc-status: 0\r\n\r\n.\r\n0\r\n\r\n",
        HEAD "grpc-status: 0\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        HEAD "grpc-status: 0\r\nContent-Length: 3\r\n\r\nabc",
        HEAD "grpc-status: 14\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 \r\nContent-Type: application/grpc\r\n" EMPTY,
        "HTTP/1.1 200 \r\nContent-Type: text/plain\r\n" EMPTY,
    };
    (void)state;
    for (size_t i = 0; i < sizeof well / sizeof well[0]; i++) {
        assert_true(succeeds(well[i]));
    }
    for (size_t i = 0; i < sizeof not_well / sizeof not_well[0]; i++) {
        assert_false(succeeds(not_well[i]));
    }
}

static void test_messages_are_percent_encoded(void **state)
{
    struct buffer out;
    (void)state;
    buffer_init(&out, 100);
    assert_int_equal(grpc_append_message("a 100% \xc3\xbc\n", &out), STATUS_OK);
    assert_int_equal(buffer_append(&out, "", 1), STATUS_OK);
    assert_string_equal((const char *)out.data, "a 100%25 %C3%BC%0A");
    buffer_free(&out);
}

/* A body without its chunks is the same however it comes. */
static void test_parts_of_a_body(void **state)
{
    static const char text[] = "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\na: b\r\nc: d\r\n\r\nnext";
    (void)state;
    for (size_t step = 1; step < sizeof text; step++) {
        struct framing framing;
        struct framing_part part;
        struct buffer body;
        struct buffer trailers;
        enum framing_result result = FRAMING_MORE;
        size_t at = 0;
        buffer_init(&body, 100);
        buffer_init(&trailers, 100);
        framing_start(&framing, FRAMING_CHUNKED, 0, false);
        while (result == FRAMING_MORE) {
            struct slice rest = slice_rest(slice_make(text, sizeof text - 1), at);
            result = framing_take_part(&framing, rest.size > step ? slice_front(rest, step) : rest,
                                       &part);
            assert_int_equal(buffer_append(&body, part.body.data, part.body.size), STATUS_OK);
            assert_int_equal(buffer_append(&trailers, part.trailers.data, part.trailers.size),
                             STATUS_OK);
            at += part.used;
        }
        assert_int_equal(result, FRAMING_COMPLETE);
        assert_int_equal(at, sizeof text - 1 - 4);
        assert_true(slice_equal(buffer_slice(&body), slice_text("hello!")));
        assert_true(slice_equal(buffer_slice(&trailers), slice_text("a: b\r\nc: d\r\n")));
        buffer_free(&body);
        buffer_free(&trailers);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_as_text),
        cmocka_unit_test(test_fields_that_no_text_may_say),
        cmocka_unit_test(test_answers_as_text),
        cmocka_unit_test(test_an_answer_to_an_old_request),
        cmocka_unit_test(test_an_answer_of_grpc_with_a_length),
        cmocka_unit_test(test_text_as_fields),
        cmocka_unit_test(test_thousands_of_fields_and_of_names),
        cmocka_unit_test(test_types_of_grpc),
        cmocka_unit_test(test_what_an_answer_of_grpc_says),
        cmocka_unit_test(test_messages_are_percent_encoded),
        cmocka_unit_test(test_parts_of_a_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
