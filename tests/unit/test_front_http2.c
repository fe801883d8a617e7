/*
 * The front between a caller and a service of HTTP/2, whose frames the test makes by hand: what is
 * a call, how it ends, and what stalls. What real clients do is in tests/system/test_http2.py and
 * test_grpc.py.
 */
#include "front_rig.h"

#include <nghttp2/nghttp2.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define GRPC_TYPE                                                                                  \
    "\x5f\x10"                                                                                     \
    "application/grpc"
/* POST, http, /a.B/C, :authority a, content-type */
#define CALL_FIELDS                                                                                \
    "\x83\x86\x44\x06/a.B/C\x41\x01"                                                               \
    "a" GRPC_TYPE
#define TRAILERS(status) "\0\x0bgrpc-status\1" status

/* One end of a connection, and what came of it, decoded: "HEADERS 1 end\n:status: 200\n". */
struct peer {
    int descriptor;
    nghttp2_hd_inflater *inflater;
    char text[16384];
};

static void peer_open(struct peer *peer, int descriptor)
{
    memset(peer, 0, sizeof *peer);
    peer->descriptor = descriptor;
    assert_int_equal(nghttp2_hd_inflate_new(&peer->inflater), 0);
}

static void peer_close(struct peer *peer)
{
    nghttp2_hd_inflate_del(peer->inflater);
    (void)close(peer->descriptor);
}

PRINTF_LIKE(2, 3) static void note(struct peer *peer, const char *format, ...)
{
    va_list arguments;
    size_t used = strlen(peer->text);
    va_start(arguments, format);
    (void)vsnprintf(peer->text + used, sizeof peer->text - used, format, arguments);
    va_end(arguments);
}

static void inflate(struct peer *peer, const uint8_t *block, size_t size)
{
    int flags = 0;
    while ((flags & NGHTTP2_HD_INFLATE_FINAL) == 0) {
        nghttp2_nv field;
        flags = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(peer->inflater, &field, &flags, block, size, 1);
        assert_true(used >= 0);
        block += used;
        size -= (size_t)used;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
            note(peer, "%s: %s\n", (const char *)field.name, (const char *)field.value);
        }
    }
    assert_int_equal(nghttp2_hd_inflate_end_headers(peer->inflater), 0);
}

/* The next frame. False: the connection has ended. */
static bool peer_read(struct peer *peer)
{
    static const char *const names[] = {"DATA", "HEADERS", "PRIORITY", "RST_STREAM",   "SETTINGS",
                                        "PUSH", "PING",    "GOAWAY",   "WINDOW_UPDATE"};
    uint8_t head[9];
    static uint8_t payload[1u << 16];
    if (receive_bytes(peer->descriptor, head, 9) != 9) {
        return false;
    }
    size_t size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    assert_true(size <= sizeof payload && head[3] < sizeof names / sizeof names[0]);
    assert_int_equal(receive_bytes(peer->descriptor, payload, size), size);
    bool ends = head[3] <= NGHTTP2_HEADERS && (head[4] & NGHTTP2_FLAG_END_STREAM) != 0;
    note(peer, "%s %u%s\n", names[head[3]], head[8], ends ? " end" : "");
    if (head[3] == NGHTTP2_HEADERS) {
        inflate(peer, payload, size);
    } else if (head[3] == NGHTTP2_DATA) {
        note(peer, "%.*s\n", (int)(size < 64 ? size : 64), (const char *)payload);
    } else if (head[3] == NGHTTP2_RST_STREAM) {
        note(peer, "code %u\n", payload[3]);
    } else if (head[3] == NGHTTP2_GOAWAY) {
        note(peer, "code %u\n", payload[7]);
    }
    return true;
}

/* Reads until all that came has this. */
static void expect(struct peer *peer, const char *wanted)
{
    while (strstr(peer->text, wanted) == NULL) {
        if (!peer_read(peer)) {
            fail_msg("no \"%s\" in \"%s\"; %s", wanted, peer->text, fake.log);
        }
    }
}

static void send_frame(struct peer *peer, uint8_t type, uint8_t flags, uint8_t stream,
                       const void *payload, size_t size)
{
    const uint8_t head[9] = {
        (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, type, flags, 0, 0, 0, stream};
    send_bytes(peer->descriptor, head, sizeof head);
    send_bytes(peer->descriptor, payload, size);
}

#define SEND_TEXT(peer, type, flags, stream, text)                                                 \
    send_frame(peer, type, flags, stream, text, sizeof(text) - 1)

#define END_HEADERS 4
#define END_BOTH 5

struct grpc_pair {
    struct rig rig;
    struct peer caller;
    struct peer service;
};

static void pair_start(struct grpc_pair *pair)
{
    rig_start(&pair->rig);
    peer_open(&pair->caller, caller_connect(&pair->rig));
    send_bytes(pair->caller.descriptor, PREFACE SETTINGS, sizeof PREFACE SETTINGS - 1);
}

static void pair_stop(struct grpc_pair *pair)
{
    rig_stop(&pair->rig);
    peer_close(&pair->caller);
}

/* The service's connection, with its preface read. */
static void service_meet(struct grpc_pair *pair)
{
    char preface[sizeof PREFACE - 1];
    peer_open(&pair->service, service_accept(&pair->rig));
    assert_int_equal(receive_bytes(pair->service.descriptor, preface, sizeof preface),
                     sizeof preface);
    assert_memory_equal(preface, PREFACE, sizeof preface);
    send_bytes(pair->service.descriptor, SETTINGS, sizeof SETTINGS - 1);
    expect(&pair->service, "SETTINGS 0\n");
    SEND_TEXT(&pair->service, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "");
}

static void ask(struct grpc_pair *pair, uint8_t stream)
{
    SEND_TEXT(&pair->caller, NGHTTP2_HEADERS, END_HEADERS, stream, CALL_FIELDS);
    SEND_TEXT(&pair->caller, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, stream, "\0\0\0\0\2hi");
}

static void begin_answer(struct grpc_pair *pair, uint8_t stream)
{
    SEND_TEXT(&pair->service, NGHTTP2_HEADERS, END_HEADERS, stream, "\x88" GRPC_TYPE);
    SEND_TEXT(&pair->service, NGHTTP2_DATA, 0, stream, "\0\0\0\0\2ho");
}

/* Trailers are held until the unit has ended, and all of the answer with them. */
static void test_trailers_decide(void **state)
{
    struct grpc_pair pair;
    (void)state;
    for (int good = 0; good < 2; good++) {
        rig_init(&pair.rig);
        fake.hold_end = true;
        pair_start(&pair);
        ask(&pair, 1);
        service_meet(&pair);
        expect(&pair.service, ":path: /a.B/C\n");
        expect(&pair.service, "traceparent: 00-");
        expect(&pair.service, "DATA 1 end\n");
        assert_true(fake_log_is("begin POST /a.B/C; "));
        begin_answer(&pair, 1);
        if (good == 1) {
            SEND_TEXT(&pair.service, NGHTTP2_HEADERS, END_BOTH, 1, TRAILERS("0"));
            assert_true(fake_log_gets("answered; commit; "));
        } else {
            SEND_TEXT(&pair.service, NGHTTP2_HEADERS, END_BOTH, 1, TRAILERS("9"));
            assert_true(fake_log_gets("answered; roll_back the service answered with another "
                                      "grpc-status than 0; "));
        }
        assert_null(strstr(pair.caller.text, "HEADERS"));
        fake_release();
        expect(&pair.caller, good == 1 ? "grpc-status: 0\n" : "grpc-status: 9\n");
        assert_non_null(strstr(pair.caller.text, "HEADERS 1\n:status: 200\n"));
        assert_non_null(strstr(pair.caller.text, "HEADERS 1 end\n"));
        pair_stop(&pair);
        peer_close(&pair.service);
    }
}

/* What a failed commit becomes. */
static void test_ends_of_the_unit_as_status(void **state)
{
    static const struct {
        enum call_end end;
        const char *wanted;
    } ends[] = {
        {CALL_ROLLED_BACK, "grpc-status: 10\ngrpc-message: rolledBack: What the call wrote was "},
        {CALL_CONFLICT, "grpc-status: 9\ngrpc-message: conflict: What the call wrote could not "},
    };
    struct grpc_pair pair;
    (void)state;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        rig_init(&pair.rig);
        fake.commit_end = ends[i].end;
        pair_start(&pair);
        ask(&pair, 1);
        service_meet(&pair);
        expect(&pair.service, "DATA 1 end\n");
        begin_answer(&pair, 1);
        SEND_TEXT(&pair.service, NGHTTP2_HEADERS, END_BOTH, 1, TRAILERS("0"));
        expect(&pair.caller, "HEADERS 1 end\n:status: 200\ncontent-type: application/grpc\n");
        assert_non_null(strstr(pair.caller.text, ends[i].wanted));
        pair_stop(&pair);
        peer_close(&pair.service);
    }
}

/* A stream that changes something and does not end: nothing has begun. */
static void test_a_stream_that_does_not_end(void **state)
{
    struct grpc_pair pair;
    (void)state;
    rig_init(&pair.rig);
    pair.rig.options.body_ms = 100;
    pair_start(&pair);
    SEND_TEXT(&pair.caller, NGHTTP2_HEADERS, END_HEADERS, 1, CALL_FIELDS);
    SEND_TEXT(&pair.caller, NGHTTP2_DATA, 0, 1, "\0\0\0\0\2hi");
    expect(&pair.caller, "grpc-status: 4\ngrpc-message: bodyTimeout: ");
    assert_true(fake_log_is(""));
    pair_stop(&pair);
}

/* The service ends the connection, or the stream, in the middle: lost, and told so. */
static void test_what_the_service_breaks_off(void **state)
{
    struct grpc_pair pair;
    (void)state;
    for (int how = 0; how < 3; how++) {
        rig_init(&pair.rig);
        pair_start(&pair);
        ask(&pair, 1);
        service_meet(&pair);
        expect(&pair.service, "DATA 1 end\n");
        if (how != 0) {
            begin_answer(&pair, 1);
        }
        if (how == 2) {
            SEND_TEXT(&pair.service, NGHTTP2_RST_STREAM, 0, 1, "\0\0\0\2");
        } else {
            (void)shutdown(pair.service.descriptor, SHUT_RDWR);
        }
        expect(&pair.caller, "grpc-status: 14\ngrpc-message: serviceLost: ");
        assert_true(
            fake_log_is("begin POST /a.B/C; lost; roll_back the service was lost; ended; "));
        pair_stop(&pair);
        peer_close(&pair.service);
    }
}

/* No handler ran: nothing is lost. Once it is sent again. */
static void test_what_the_service_has_not_begun(void **state)
{
    struct grpc_pair pair;
    (void)state;
    rig_init(&pair.rig);
    pair_start(&pair);
    ask(&pair, 1);
    service_meet(&pair);
    expect(&pair.service, "DATA 1 end\n");
    SEND_TEXT(&pair.service, NGHTTP2_RST_STREAM, 0, 1, "\0\0\0\7");
    expect(&pair.service, "DATA 3 end\n");
    SEND_TEXT(&pair.service, NGHTTP2_RST_STREAM, 0, 3, "\0\0\0\7");
    expect(&pair.caller, "grpc-status: 14\ngrpc-message: serviceLost: ");
    assert_true(fake_log_has("begin POST /a.B/C; answered; roll_back the service answered with "));
    assert_false(fake_log_has("lost"));
    pair_stop(&pair);
    peer_close(&pair.service);
}

/* A joined call whose caller takes nothing keeps its handler no longer than a call may take. */
static void test_a_joined_call_that_is_not_taken(void **state)
{
    static uint8_t large[16384];
    struct grpc_pair pair;
    (void)state;
    rig_init(&pair.rig);
    pair.rig.options.call_timeout_ms = 300;
    fake.joined = true;
    pair_start(&pair);
    ask(&pair, 1);
    service_meet(&pair);
    expect(&pair.service, "DATA 1 end\n");
    begin_answer(&pair, 1);
    /* As much as the windows of service and connection let out, and more of it until the end. */
    for (size_t sent = 0; sent < 200u * 1024u; sent += sizeof large) {
        send_frame(&pair.service, NGHTTP2_DATA, 0, 1, large, sizeof large);
    }
    assert_false(fake_log_has("answered"));
    expect(&pair.caller, "RST_STREAM 1\n");
    for (size_t sent = 0; sent < 64u * 1024u; sent += sizeof large) {
        expect(&pair.service, "WINDOW_UPDATE 1\n");
        send_frame(&pair.service, NGHTTP2_DATA, 0, 1, large, sizeof large);
    }
    SEND_TEXT(&pair.service, NGHTTP2_HEADERS, END_BOTH, 1, TRAILERS("0"));
    assert_true(fake_log_gets("answered; "));
    assert_true(fake_log_is("begin POST /a.B/C; answered; "));
    pair_stop(&pair);
    peer_close(&pair.service);
}

/* A request that its service does not take: its call's time ends it, and the service is told. */
static void test_a_request_without_window(void **state)
{
    static uint8_t large[16384];
    struct grpc_pair pair;
    (void)state;
    rig_init(&pair.rig);
    pair.rig.options.call_timeout_ms = 300;
    pair_start(&pair);
    SEND_TEXT(&pair.caller, NGHTTP2_HEADERS, END_HEADERS, 1, CALL_FIELDS);
    expect(&pair.caller, "SETTINGS 0\n");
    SEND_TEXT(&pair.caller, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "");
    /* More than is read ahead, and than the service has window for. */
    for (int frames = 0; frames < 6; frames++) {
        send_frame(&pair.caller, NGHTTP2_DATA, 0, 1, large, 16000);
        if (frames == 3) {
            expect(&pair.caller, "WINDOW_UPDATE 1\n");
        }
    }
    service_meet(&pair);
    expect(&pair.service, "RST_STREAM 1\ncode 8\n");
    expect(&pair.caller, "grpc-status: 14\ngrpc-message: timeout: ");
    assert_true(fake_log_is("begin POST /a.B/C; lost; roll_back http.callTimeout; ended; "));
    pair_stop(&pair);
    peer_close(&pair.service);
}

/* What waits for window, and gets none, does not wait for ever. */
static void test_an_answer_without_window(void **state)
{
    static uint8_t large[16384];
    struct grpc_pair pair;
    (void)state;
    rig_init(&pair.rig);
    pair.rig.options.stall_ms = 100;
    pair_start(&pair);
    ask(&pair, 1);
    service_meet(&pair);
    expect(&pair.service, "DATA 1 end\n");
    begin_answer(&pair, 1);
    for (size_t sent = 0; sent < 128u * 1024u; sent += sizeof large) {
        send_frame(&pair.service, NGHTTP2_DATA, 0, 1, large, sizeof large);
    }
    SEND_TEXT(&pair.service, NGHTTP2_HEADERS, END_BOTH, 1, TRAILERS("0"));
    assert_true(fake_log_gets("commit; ended; "));
    expect(&pair.caller, "RST_STREAM 1\n");
    pair_stop(&pair);
    peer_close(&pair.service);
}

/* An idle connection is told GOAWAY, one that is drained as well. */
static void test_ends_of_a_connection(void **state)
{
    struct grpc_pair pair;
    (void)state;
    rig_init(&pair.rig);
    pair.rig.options.idle_ms = 100;
    pair_start(&pair);
    expect(&pair.caller, "GOAWAY 0\ncode 0\n");
    while (peer_read(&pair.caller)) {
    }
    pair_stop(&pair);
    rig_init(&pair.rig);
    pair_start(&pair);
    expect(&pair.caller, "SETTINGS 0\n");
    front_drain(pair.rig.front);
    expect(&pair.caller, "GOAWAY 0\ncode 0\n");
    pair_stop(&pair);
}

/* Everything is closed while a call is open and a request goes up. */
static void test_a_stop_in_the_middle(void **state)
{
    struct grpc_pair pair;
    (void)state;
    rig_init(&pair.rig);
    pair_start(&pair);
    ask(&pair, 1);
    service_meet(&pair);
    expect(&pair.service, "DATA 1 end\n");
    SEND_TEXT(&pair.caller, NGHTTP2_HEADERS, END_HEADERS, 3, CALL_FIELDS);
    pair_stop(&pair);
    assert_true(fake_log_has("begin POST /a.B/C; "));
    assert_true(fake_log_has("lost; roll_back the proxy was shut down; "));
    peer_close(&pair.service);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trailers_decide),
        cmocka_unit_test(test_ends_of_the_unit_as_status),
        cmocka_unit_test(test_a_stream_that_does_not_end),
        cmocka_unit_test(test_what_the_service_breaks_off),
        cmocka_unit_test(test_what_the_service_has_not_begun),
        cmocka_unit_test(test_a_joined_call_that_is_not_taken),
        cmocka_unit_test(test_a_request_without_window),
        cmocka_unit_test(test_an_answer_without_window),
        cmocka_unit_test(test_ends_of_a_connection),
        cmocka_unit_test(test_a_stop_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
