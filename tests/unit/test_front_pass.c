/* What passes through: bytes, framing, connections, and what is refused before it passes. */

#include "front_rig.h"
#include "net/tls.h"
#include "wire_bytes.h"

struct pair {
    struct rig rig;
    int caller;
    int service;
};

static void start(struct pair *pair)
{
    rig_init(&pair->rig);
    rig_start(&pair->rig);
    pair->caller = caller_connect(&pair->rig);
    pair->service = -1;
}

/* `request` and `answer` pass as they are; the service's connection is made if there is none. */
static void exchange_texts(struct pair *pair, const char *request, const char *answer, bool slowly)
{
    (slowly ? send_slowly : send_text)(pair->caller, request);
    if (pair->service < 0) {
        pair->service = service_accept(&pair->rig);
    }
    expect_text(pair->service, request);
    (slowly ? send_slowly : send_text)(pair->service, answer);
    expect_text(pair->caller, answer);
}

static const struct {
    const char *request;
    const char *answer;
} passing[] = {
    {"GET /a?b=c HTTP/1.1\r\nhost:  shop \r\nX-Odd:\t\x80\xff odd\r\nEmpty:\r\n\r\n",
     "HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\nabc"},
    {"HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"},
    {"HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"},
    {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"},
    {"OPTIONS * HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
     "A;x=\"y\"\r\n0123456789\r\n1  \r\n\n\r\n000\r\nTrailer: a\r\nB: c\r\n\r\n"},
    {"POST /p HTTP/1.1\r\ntraceparent: -\r\nTransfer-Encoding: Chunked\r\n\r\n"
     "5\r\n\r\n0\r\n\r\n10;ext\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"},
    {"GET http://shop/x HTTP/1.1\r\nHost: shop\r\n\r\n",
     "HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
     "0\r\n\r\n"},
    {"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"},
};

static void test_bytes_pass_unchanged(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    for (int slowly = 0; slowly < 2; slowly++) {
        for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
            exchange_texts(&pair, passing[i].request, passing[i].answer, slowly == 1);
        }
    }
    (void)close(pair.caller);
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_pipelined_requests_go_one_by_one(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    static const char first[] =
        "POST /1 HTTP/1.1\r\ntraceparent: -\r\nContent-Length: 3\r\n\r\nabc";
    static const char second[] = "GET /2 HTTP/1.1\r\n\r\n";
    static const char third[] = "POST /3 HTTP/1.1\r\ntraceparent: -\r\n\r\n";
    send_text(pair.caller, first);
    send_text(pair.caller, second);
    send_text(pair.caller, third);
    (void)shutdown(pair.caller, SHUT_WR); /* what was asked is answered all the same */
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, first);
    expect_silence(pair.service);
    send_text(pair.service, "HTTP/1.1 200 1\r\nContent-Length: 1\r\n\r\n1");
    expect_text(pair.service, second);
    expect_silence(pair.service);
    send_text(pair.service, "HTTP/1.1 200 2\r\nContent-Length: 1\r\n\r\n2");
    expect_text(pair.service, third);
    send_text(pair.service, "HTTP/1.1 200 3\r\nContent-Length: 1\r\n\r\n3");
    expect_text(pair.caller, "HTTP/1.1 200 1\r\nContent-Length: 1\r\n\r\n1"
                             "HTTP/1.1 200 2\r\nContent-Length: 1\r\n\r\n2"
                             "HTTP/1.1 200 3\r\nContent-Length: 1\r\n\r\n3");
    expect_end(pair.caller);
    rig_stop(&pair.rig);
}

/* In pieces of any size, so that heads, chunks and requests are cut and joined anywhere. */
static void send_in_pieces(int descriptor, const char *text, uint32_t *random)
{
    size_t size = strlen(text);
    while (size > 0) {
        size_t piece = 1 + random_next(random) % (random_next(random) % 3 == 0 ? 200 : 9);
        piece = piece < size ? piece : size;
        send_bytes(descriptor, text, piece);
        text += piece;
        size -= piece;
        if (random_next(random) % 4 == 0) {
            (void)nanosleep(&(struct timespec){.tv_nsec = 50 * 1000}, NULL);
        }
    }
}

static void test_any_pieces(void **state)
{
    (void)state;
    enum { ROUNDS = 60, TOGETHER = 6 };
    uint32_t random = 20260303;
    struct pair pair;
    start(&pair);
    for (int round = 0; round < ROUNDS; round++) {
        size_t chosen[TOGETHER];
        char requests[4096] = "";
        for (int i = 0; i < TOGETHER; i++) {
            chosen[i] = random_next(&random) % (sizeof passing / sizeof passing[0]);
            size_t used = strlen(requests);
            (void)snprintf(requests + used, sizeof requests - used, "%s",
                           passing[chosen[i]].request);
        }
        send_in_pieces(pair.caller, requests, &random);
        pair.service = pair.service < 0 ? service_accept(&pair.rig) : pair.service;
        for (int i = 0; i < TOGETHER; i++) {
            expect_text(pair.service, passing[chosen[i]].request);
            send_in_pieces(pair.service, passing[chosen[i]].answer, &random);
        }
        for (int i = 0; i < TOGETHER; i++) {
            expect_text(pair.caller, passing[chosen[i]].answer);
        }
    }
    rig_stop(&pair.rig);
}

static void test_expect_100_continue(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    static const char head[] = "PUT / HTTP/1.1\r\ntraceparent: -\r\nExpect: 100-continue\r\n"
                               "Content-Length: 4\r\n\r\n";
    send_text(pair.caller, head);
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, head);
    send_text(pair.service, "HTTP/1.1 100 Continue\r\n\r\n");
    expect_text(pair.caller, "HTTP/1.1 100 Continue\r\n\r\n"); /* in a held call, too */
    send_text(pair.caller, "body");
    expect_text(pair.service, "body");
    send_text(pair.service, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    expect_text(pair.caller, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    rig_stop(&pair.rig);
}

static void test_connection_close(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    exchange_texts(&pair, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
                   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", false);
    expect_end(pair.caller);
    expect_end(pair.service);
    pair.caller = caller_connect(&pair.rig);
    pair.service = -1;
    exchange_texts(&pair, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nuntil the end", false);
    (void)close(pair.service);
    expect_end(pair.caller);
    rig_stop(&pair.rig);
}

static void test_half_closed_caller_is_answered(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    send_text(pair.caller, "GET / HTTP/1.1\r\n\r\n");
    (void)shutdown(pair.caller, SHUT_WR);
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, "GET / HTTP/1.1\r\n\r\n");
    char byte;
    assert_int_equal(recv(pair.service, &byte, 1, 0), 0); /* sees what it would see directly */
    send_text(pair.service, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
    expect_text(pair.caller, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
    expect_end(pair.caller);
    rig_stop(&pair.rig);
}

static void test_caller_leaves_a_read(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    send_text(pair.caller, "GET / HTTP/1.1\r\n\r\n");
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, "GET / HTTP/1.1\r\n\r\n");
    (void)close(pair.caller);
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_read_is_sent_again_on_a_fresh_connection(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    exchange_texts(&pair, "GET /1 HTTP/1.1\r\n\r\n", "HTTP/1.1 204 OK\r\n\r\n", false);
    send_text(pair.caller, "GET /2 HTTP/1.1\r\n\r\n");
    expect_text(pair.service, "GET /2 HTTP/1.1\r\n\r\n");
    (void)close(pair.service);
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, "GET /2 HTTP/1.1\r\n\r\n");
    (void)close(pair.service); /* once only */
    expect_refusal(pair.caller, "503", "serviceLost");
    rig_stop(&pair.rig);
}

static void test_broken_streamed_answer_ends_in_a_reset(void **state)
{
    (void)state;
    struct pair pair;
    char byte;
    start(&pair);
    send_text(pair.caller, "GET / HTTP/1.1\r\n\r\n");
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, "GET / HTTP/1.1\r\n\r\n");
    send_text(pair.service, "HTTP/1.1 200 OK\r\n\r\nhalf");
    expect_text(pair.caller, "HTTP/1.1 200 OK\r\n\r\nhalf");
    struct linger reset = {.l_onoff = 1};
    (void)setsockopt(pair.service, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)close(pair.service);
    assert_int_equal(recv(pair.caller, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    rig_stop(&pair.rig);
}

/* More than sockets and the front together may keep: the source is not read meanwhile. */
static void test_back_pressure_both_ways(void **state)
{
    (void)state;
    enum { PIECE = 64 * 1024, PIECES = 800 };
    struct pair pair;
    char head[128];
    static char piece[PIECE];
    memset(piece, 'x', sizeof piece);
    start(&pair);
    for (int to_service = 0; to_service < 2; to_service++) {
        (void)snprintf(head, sizeof head, "REPORT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n",
                       to_service ? PIECE * PIECES : 0);
        send_text(pair.caller, head);
        if (pair.service < 0) {
            pair.service = service_accept(&pair.rig);
        }
        expect_text(pair.service, head);
        if (!to_service) {
            (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
                           PIECE * PIECES);
            send_text(pair.service, head);
            expect_text(pair.caller, head);
        }
        int from = to_service ? pair.caller : pair.service;
        int to = to_service ? pair.service : pair.caller;
        size_t sent = 0;
        set_patience(from, 200);
        ssize_t once;
        while (sent < (size_t)PIECE * PIECES && (once = send(from, piece, PIECE, 0)) > 0) {
            sent += (size_t)once;
        }
        assert_true(sent < (size_t)PIECE * PIECES); /* it was stopped */
        set_patience(from, 5000);
        size_t received = 0;
        while (received < (size_t)PIECE * PIECES) {
            ssize_t got = recv(to, piece, PIECE, 0);
            assert_true(got > 0);
            received += (size_t)got;
            size_t left = (size_t)PIECE * PIECES - sent;
            once = left == 0 ? 0 : send(from, piece, left < PIECE ? left : PIECE, MSG_DONTWAIT);
            sent += once > 0 ? (size_t)once : 0;
        }
    }
    send_text(pair.service, "HTTP/1.1 204 OK\r\n\r\n");
    expect_text(pair.caller, "HTTP/1.1 204 OK\r\n\r\n");
    rig_stop(&pair.rig);
}

static void test_tunnel(void **state)
{
    (void)state;
    static const char request[] = "GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\n"
                                  "Upgrade: websocket\r\n\r\n";
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\n\r\n";
    struct pair pair;
    start(&pair);
    send_text(pair.caller, request);
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, request);
    send_text(pair.service, answer);
    send_text(pair.service, "\x81\x05hello");
    expect_text(pair.caller, answer);
    expect_text(pair.caller, "\x81\x05hello");
    send_text(pair.caller, "any\nthing");
    expect_text(pair.service, "any\nthing");
    (void)shutdown(pair.service, SHUT_WR);
    char byte;
    assert_int_equal(recv(pair.caller, &byte, 1, 0), 0);
    send_text(pair.caller, "last words");
    expect_text(pair.service, "last words");
    (void)close(pair.caller);
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_upgrade_that_the_service_declines(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    exchange_texts(&pair, "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                   "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false);
    exchange_texts(&pair, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 OK\r\n\r\n", false);
    /* HTTP/2 in a tunnel would be calls that nobody sees */
    send_text(pair.caller,
              "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n");
    expect_text(pair.service, "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n");
    send_text(pair.service, "HTTP/1.1 101 Switching\r\n\r\n"); /* nobody has asked for it */
    expect_refusal(pair.caller, "503", "serviceLost");
    rig_stop(&pair.rig);
}

static void test_connect_becomes_a_tunnel(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    exchange_texts(&pair, "CONNECT shop:1 HTTP/1.1\r\nHost: shop:1\r\n\r\n",
                   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false);
    send_text(pair.caller, "abc");
    expect_text(pair.service, "abc");
    send_text(pair.service, "def");
    expect_text(pair.caller, "def");
    rig_stop(&pair.rig);
}

static void test_smuggling_is_refused(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length:\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length : 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\n Content-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n",
        "POST / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        "POST / HTTP/1.1\r\nX: a\rY: b\r\n\r\n",
        "POST / HTTP/1.1\r\nX: a\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\nHost: a\n\n",
        "POST / HTTP/1.1\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\n: empty\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST  / HTTP/1.1\r\n\r\n",
        "POST / a HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1 \r\n\r\n",
        "POST /\r\n\r\n",
        "PO(ST / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
    };
    struct pair pair;
    start(&pair);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        int caller = caller_connect(&pair.rig);
        send_text(caller, requests[i]);
        expect_refusal(caller, "400", "malformed");
        expect_end(caller);
    }
    set_patience(pair.rig.listener, 60);
    assert_int_equal(accept(pair.rig.listener, NULL, NULL), -1); /* nothing was forwarded */
    assert_string_equal(fake.log, "");
    rig_stop(&pair.rig);
}

static void test_malformed_chunks_are_not_forwarded(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "x\r\n",
        "5\nhello",
        "5\rhello",
        " 5\r\nhello\r\n",
        "-1\r\n",
        "0x5\r\nhello",
        "5 \r\nhello\r\n",
        "5\r\nhelloX\r\n",
        "\r\n",
        "5;a\nb\r\n",
        "0\r\n x: y\r\n",
        "0\r\nX: y\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "0\r\n\rX",
        "5;\x01\r\nhello\r\n",
    };
    struct pair pair;
    start(&pair);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        int caller = caller_connect(&pair.rig);
        static const char head[] = "REPORT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        send_text(caller, head);
        int service = service_accept(&pair.rig);
        expect_text(service, head);
        send_text(caller, bodies[i]);
        expect_refusal(caller, "400", "malformed");
        expect_end(caller);
        expect_end(service);
    }
    rig_stop(&pair.rig);
}

static void test_bounds_and_versions(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    char *large = malloc(80 * 1024);
    memset(large, 'a', 80 * 1024);
    send_text(pair.caller, "GET / HTTP/1.1\r\nX: ");
    send_bytes(pair.caller, large, 70 * 1024);
    expect_refusal(pair.caller, "431", "headTooLarge");
    expect_end(pair.caller);
    free(large);
    pair.caller = caller_connect(&pair.rig);
    send_text(pair.caller, "GET / HTTP/2.0\r\n\r\n");
    expect_refusal(pair.caller, "505", "version");
    expect_end(pair.caller);
    pair.caller = caller_connect(&pair.rig);
    send_text(pair.caller, "\r\n\r\n"); /* before a request: overlooked */
    exchange_texts(&pair, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 OK\r\n\r\n", false);
    send_text(pair.caller, "GET / HT");
    (void)close(pair.caller);
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_slow_heads_and_idle_connections(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.head_ms = 100;
    pair.rig.options.idle_ms = 500;
    rig_start(&pair.rig);
    pair.caller = caller_connect(&pair.rig);
    pair.service = -1;
    exchange_texts(&pair, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 OK\r\n\r\n", false);
    for (int i = 0; i < 3; i++) { /* bytes that come bring no new time */
        send_text(pair.caller, "G");
        (void)nanosleep(&(struct timespec){.tv_nsec = 40 * 1000 * 1000}, NULL);
    }
    expect_refusal(pair.caller, "408", "headTimeout");
    expect_end(pair.caller);
    expect_end(pair.service);
    expect_end(caller_connect(&pair.rig)); /* one that never asks */
    /* a service that takes long is no idle connection */
    pair.caller = caller_connect(&pair.rig);
    send_text(pair.caller, "GET / HTTP/1.1\r\n\r\n");
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, "GET / HTTP/1.1\r\n\r\n");
    (void)nanosleep(&(struct timespec){.tv_nsec = 700 * 1000 * 1000}, NULL);
    send_text(pair.service, "HTTP/1.1 204 OK\r\n\r\n");
    expect_text(pair.caller, "HTTP/1.1 204 OK\r\n\r\n");
    rig_stop(&pair.rig);
}

static void test_service_talks_unasked_or_nonsense(void **state)
{
    (void)state;
    struct pair pair;
    start(&pair);
    exchange_texts(&pair, "GET /1 HTTP/1.1\r\n\r\n",
                   "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", false);
    send_text(pair.service, "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n");
    expect_end(pair.service);
    pair.service = -1;
    exchange_texts(&pair, "GET /2 HTTP/1.1\r\n\r\n", "HTTP/1.1 204 OK\r\n\r\n", false);
    send_text(pair.caller, "GET /3 HTTP/1.1\r\n\r\n");
    expect_text(pair.service, "GET /3 HTTP/1.1\r\n\r\n");
    send_text(pair.service, "220 smtp ready\r\n\r\n");
    expect_refusal(pair.caller, "503", "serviceLost");
    rig_stop(&pair.rig);
}

static void test_limits_of_connections_and_drain(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.connections_max = 2;
    rig_start(&pair.rig);
    pair.caller = caller_connect(&pair.rig);
    pair.service = -1;
    exchange_texts(&pair, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 OK\r\n\r\n", false);
    int second = caller_connect(&pair.rig);
    send_text(second, "GET / HTTP/1.1\r\n\r\n");
    int service = service_accept(&pair.rig);
    expect_text(service, "GET / HTTP/1.1\r\n\r\n");
    expect_end(caller_connect(&pair.rig)); /* a third is one too many */
    front_drain(pair.rig.front);
    expect_end(pair.caller); /* idle */
    send_text(service, "HTTP/1.1 204 OK\r\n\r\n");
    expect_text(second, "HTTP/1.1 204 OK\r\n\r\n");
    expect_end(second);
    rig_stop(&pair.rig);
}

/* Its TLS handshake does not begin, or its answer to it is none: 503 in the time for connecting, by
   either protocol (gRPC goes by HTTP/2), and nothing was sent. */
static void test_no_handshake_with_the_service(void **state)
{
    static const char *const requests[] = {
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n"
        "Content-Length: 0\r\n\r\n",
    };
    const struct tls_options options = {.is_client = true, .host = "localhost"};
    struct tls *tls = NULL;
    struct error error;
    (void)state;
    assert_int_equal(tls_new(&options, &tls, &error), STATUS_OK);
    for (size_t i = 0; i < 4; i++) {
        struct rig rig;
        rig_init(&rig);
        rig.service.tls = tls;
        rig.options.connect_ms = 300;
        rig_start(&rig);
        int caller = caller_connect(&rig);
        send_text(caller, requests[i % 2]);
        int service = service_accept(&rig);
        uint8_t first;
        assert_int_equal(receive_bytes(service, &first, 1), 1);
        assert_int_equal(first, 0x16); /* a handshake, and no request */
        if (i >= 2) {
            send_text(service, "HTTP/1.1 400 Bad Request\r\n\r\n");
        }
        expect_text(caller, i % 2 == 0 ? "HTTP/1.1 503 " : "HTTP/1.1 200 OK\r\nContent-Type: appl");
        (void)close(service);
        (void)close(caller);
        rig_stop(&rig);
    }
    tls_free(tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_pass_unchanged),
        cmocka_unit_test(test_pipelined_requests_go_one_by_one),
        cmocka_unit_test(test_any_pieces),
        cmocka_unit_test(test_expect_100_continue),
        cmocka_unit_test(test_connection_close),
        cmocka_unit_test(test_half_closed_caller_is_answered),
        cmocka_unit_test(test_caller_leaves_a_read),
        cmocka_unit_test(test_read_is_sent_again_on_a_fresh_connection),
        cmocka_unit_test(test_broken_streamed_answer_ends_in_a_reset),
        cmocka_unit_test(test_back_pressure_both_ways),
        cmocka_unit_test(test_tunnel),
        cmocka_unit_test(test_upgrade_that_the_service_declines),
        cmocka_unit_test(test_connect_becomes_a_tunnel),
        cmocka_unit_test(test_smuggling_is_refused),
        cmocka_unit_test(test_malformed_chunks_are_not_forwarded),
        cmocka_unit_test(test_bounds_and_versions),
        cmocka_unit_test(test_slow_heads_and_idle_connections),
        cmocka_unit_test(test_service_talks_unasked_or_nonsense),
        cmocka_unit_test(test_no_handshake_with_the_service),
        cmocka_unit_test(test_limits_of_connections_and_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
