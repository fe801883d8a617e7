/* Requests that are calls: what is held, what ends how, what the caller gets. */

#include "front_rig.h"

#define REQUEST                                                                                    \
    "POST /orders?x=1 HTTP/1.1\r\nHost: shop\r\ntraceparent: "                                     \
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nContent-Length: 5\r\n\r\nhello"
#define ANSWER "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-A:  b\r\n\r\nok"

struct pair {
    struct rig rig;
    int caller;
    int service;
};

static void start(struct pair *pair)
{
    rig_start(&pair->rig);
    pair->caller = caller_connect(&pair->rig);
}

/* A call that the service has whole. */
static void begin(struct pair *pair)
{
    send_text(pair->caller, REQUEST);
    pair->service = service_accept(&pair->rig);
    expect_text(pair->service, REQUEST);
}

/*
 * A body that is too large to wait for: its call begins when the read-ahead is full of it. The head
 * says HEAD_OF_MORE, so that there is always more to come.
 */
#define LARGE_PART FRONT_READ_AHEAD_BYTES
#define HEAD_OF_MORE "Content-Length: 70000\r\n\r\n"

static void send_large_part(int caller)
{
    static char part[LARGE_PART];
    memset(part, 'x', sizeof part);
    send_bytes(caller, part, sizeof part);
}

static void expect_large_part(int service)
{
    static char got[LARGE_PART];
    assert_int_equal(receive_bytes(service, got, sizeof got), sizeof got);
    for (size_t i = 0; i < sizeof got; i++) {
        assert_int_equal(got[i], 'x');
    }
}

/* A call that the service has a part of. */
static void begin_partly(struct pair *pair)
{
    send_text(pair->caller, "POST / HTTP/1.1\r\n" HEAD_OF_MORE);
    send_large_part(pair->caller);
    pair->service = service_accept(&pair->rig);
    free(receive_head(pair->service));
    expect_large_part(pair->service);
}

/* Nothing of a request has gone on. */
static void expect_nothing_began(const struct pair *pair)
{
    set_patience(pair->rig.listener, 60);
    assert_int_equal(accept(pair->rig.listener, NULL, NULL), -1);
    assert_true(fake_log_is(""));
}

static void test_answer_is_held_until_ended(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    fake.hold_end = true;
    begin(&pair);
    send_slowly(pair.service, ANSWER);
    assert_true(fake_log_gets("begin POST /orders?x=1; answered; commit; "));
    expect_silence(pair.caller);
    fake_release();
    expect_text(pair.caller, ANSWER);
    assert_int_equal(fake.trace.bytes[0], 0x0a);
    assert_false(fake.inside);
    /* the same connections go on */
    fake.hold_end = false;
    send_text(pair.caller, REQUEST);
    expect_text(pair.service, REQUEST);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    (void)close(pair.caller);
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_error_of_the_service_passes_unchanged(void **state)
{
    (void)state;
    struct pair pair;
    static const char answer[] = "HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 "3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    rig_init(&pair.rig);
    start(&pair);
    begin(&pair);
    send_slowly(pair.service, answer);
    expect_text(pair.caller, answer);
    assert_true(fake_log_has("answered; roll_back the service answered with an error; ended; "));
    rig_stop(&pair.rig);
}

static void test_rolled_back_and_conflict(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    fake.commit_end = CALL_ROLLED_BACK;
    start(&pair);
    begin(&pair);
    send_text(pair.service, ANSWER);
    char *head = receive_head(pair.caller);
    assert_non_null(strstr(head, "HTTP/1.1 503 "));
    assert_non_null(strstr(head, "Retry-After: 1\r\n"));
    assert_non_null(strstr(head, "Content-Type: application/json\r\n"));
    assert_null(strstr(head, "Connection: close"));
    size_t size = strtoul(strstr(head, "Content-Length: ") + 16, NULL, 10);
    free(head);
    char body[1024] = "";
    (void)receive_bytes(pair.caller, body, size);
    assert_non_null(strstr(body, "\"reason\": \"rolledBack\""));
    assert_non_null(strstr(body, "the journal is full"));
    /* the connections go on */
    fake.commit_end = CALL_CONFLICT;
    send_text(pair.caller, REQUEST);
    expect_text(pair.service, REQUEST);
    send_text(pair.service, ANSWER);
    head = receive_head(pair.caller);
    assert_non_null(strstr(head, "HTTP/1.1 503 "));
    assert_null(strstr(head, "Retry-After"));
    size = strtoul(strstr(head, "Content-Length: ") + 16, NULL, 10);
    free(head);
    memset(body, 0, sizeof body);
    (void)receive_bytes(pair.caller, body, size);
    assert_non_null(strstr(body, "\"reason\": \"conflict\""));
    assert_non_null(strstr(body, "holdfast show 7"));
    rig_stop(&pair.rig);
}

static void test_waits_for_admission(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    fake.admission = CALL_WAITING;
    start(&pair);
    send_text(pair.caller, REQUEST);
    assert_true(fake_log_gets("begin"));
    set_patience(pair.rig.listener, 60);
    assert_int_equal(accept(pair.rig.listener, NULL, NULL), -1);
    fake_admit(CALL_ADMITTED);
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, REQUEST);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    /* refused later: the connection goes on, for its request was read */
    send_text(pair.caller, REQUEST);
    assert_true(fake_log_gets("ended; begin"));
    fake_admit(CALL_QUEUE_TIMEOUT);
    expect_refusal(pair.caller, "503", "queueTimeout");
    fake.admission = CALL_ADMITTED;
    send_text(pair.caller, REQUEST);
    expect_text(pair.service, REQUEST);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    rig_stop(&pair.rig);
}

static void test_refused_at_once(void **state)
{
    (void)state;
    static const struct {
        enum call_admission admission;
        const char *reason;
    } refusals[] = {{CALL_QUEUE_FULL, "queueFull"},
                    {CALL_LATE, "late"},
                    {CALL_LIMIT, "limit"},
                    {CALL_DRAINING, "draining"}};
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        fake.admission = refusals[i].admission;
        send_text(pair.caller, REQUEST);
        expect_refusal(pair.caller, "503", refusals[i].reason);
    }
    /* not wholly read: the connection ends */
    send_text(pair.caller, "PUT / HTTP/1.1\r\n" HEAD_OF_MORE);
    send_large_part(pair.caller);
    char *head = receive_head(pair.caller);
    assert_non_null(strstr(head, "Connection: close\r\n"));
    free(head);
    rig_stop(&pair.rig);
}

static void test_caller_leaves_while_waiting(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    fake.admission = CALL_WAITING;
    start(&pair);
    send_text(pair.caller, REQUEST);
    assert_true(fake_log_gets("begin"));
    (void)close(pair.caller);
    assert_true(fake_log_gets("cancel"));
    /* too late: it is admitted all the same, and nothing of it ran */
    fake.cancel_fails = true;
    pair.caller = caller_connect(&pair.rig);
    send_text(pair.caller, REQUEST);
    assert_true(fake_log_gets("cancel; begin"));
    (void)close(pair.caller);
    assert_true(fake_log_gets("cancel; begin POST /orders?x=1; cancel; "));
    fake_admit(CALL_ADMITTED);
    assert_true(
        fake_log_gets("answered; roll_back the caller left before its request was whole; ended; "));
    rig_stop(&pair.rig);
}

static void test_timeout_and_a_late_answer(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.call_timeout_ms = 80;
    start(&pair);
    begin(&pair);
    send_text(pair.service, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    expect_refusal(pair.caller, "503", "timeout");
    expect_end(pair.caller);
    assert_true(fake_log_has("roll_back http.callTimeout; ended; "));
    assert_false(fake_log_has("answered"));
    send_text(pair.service, "llo");
    assert_true(fake_log_gets("answered; "));
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_timeout_and_a_service_that_breaks(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.call_timeout_ms = 80;
    start(&pair);
    begin(&pair);
    expect_refusal(pair.caller, "503", "timeout");
    expect_end(pair.caller);
    (void)close(pair.service);
    assert_true(fake_log_gets("ended; lost; "));
    rig_stop(&pair.rig);
}

static void test_timeout_of_a_partial_request(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.call_timeout_ms = 80;
    start(&pair);
    begin_partly(&pair);
    expect_refusal(pair.caller, "503", "timeout");
    assert_true(fake_log_has("lost; roll_back http.callTimeout; ended; "));
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_service_breaks_off(void **state)
{
    (void)state;
    static const char *const beginnings[] = {
        "", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"};
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
        struct pair pair;
        rig_init(&pair.rig);
        start(&pair);
        begin(&pair);
        send_text(pair.service, beginnings[i]);
        (void)close(pair.service);
        expect_refusal(pair.caller, "503", "serviceLost");
        assert_true(
            fake_log_has("begin POST /orders?x=1; lost; roll_back the service was lost; ended; "));
        /* the caller's connection goes on with a new one to the service */
        begin(&pair);
        send_text(pair.service, ANSWER);
        expect_text(pair.caller, ANSWER);
        rig_stop(&pair.rig);
    }
}

static void test_close_delimited_answer(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    begin(&pair);
    send_text(pair.service, "HTTP/1.0 200 OK\r\n\r\nall of it");
    assert_false(fake_log_has("answered"));
    (void)close(pair.service);
    expect_text(pair.caller, "HTTP/1.0 200 OK\r\n\r\nall of it");
    expect_end(pair.caller);
    assert_true(fake_log_has("answered; commit; "));
    /* broken by a reset, it is not complete */
    pair.caller = caller_connect(&pair.rig);
    begin(&pair);
    send_text(pair.service, "HTTP/1.0 200 OK\r\n\r\nall of");
    struct linger reset = {.l_onoff = 1};
    (void)setsockopt(pair.service, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)close(pair.service);
    expect_refusal(pair.caller, "503", "serviceLost");
    rig_stop(&pair.rig);
}

static void test_service_that_is_not_there(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    (void)close(pair.rig.listener);
    pair.rig.listener = -1;
    start(&pair);
    send_text(pair.caller, REQUEST);
    expect_refusal(pair.caller, "503", "serviceLost");
    assert_true(fake_log_has("answered; roll_back the service was lost; ended; "));
    send_text(pair.caller, "GET / HTTP/1.1\r\n\r\n");
    expect_refusal(pair.caller, "503", "serviceLost");
    rig_stop(&pair.rig);
}

static void test_kept_connection_that_the_service_closed(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    begin(&pair);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    (void)close(pair.service); /* idle: the next one has a new connection */
    begin(&pair);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    /* a call is never sent twice */
    send_text(pair.caller, REQUEST);
    expect_text(pair.service, REQUEST);
    (void)close(pair.service);
    expect_refusal(pair.caller, "503", "serviceLost");
    assert_true(fake_log_has("lost; roll_back"));
    rig_stop(&pair.rig);
}

static void test_caller_leaves_a_whole_request(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    begin(&pair);
    (void)close(pair.caller);
    expect_silence(pair.service);
    send_text(pair.service, ANSWER);
    assert_true(fake_log_gets("answered; commit; ended; "));
    expect_end(pair.service);
    /* the same with an error, and with a reset */
    pair.caller = caller_connect(&pair.rig);
    begin(&pair);
    struct linger reset = {.l_onoff = 1};
    (void)setsockopt(pair.caller, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)close(pair.caller);
    expect_silence(pair.service);
    send_text(pair.service, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    assert_true(fake_log_gets("answered; roll_back the service answered with an error; ended; "));
    rig_stop(&pair.rig);
}

static void test_caller_leaves_a_partial_request(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    begin_partly(&pair);
    (void)close(pair.caller);
    expect_end(pair.service);
    assert_true(
        fake_log_gets("lost; roll_back the caller left before its request was whole; ended; "));
    rig_stop(&pair.rig);
}

static void test_answer_too_large(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.answer_bytes_max = 100;
    start(&pair);
    begin(&pair);
    send_text(pair.service, "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n");
    char bytes[200];
    memset(bytes, 'x', sizeof bytes);
    send_bytes(pair.service, bytes, 150);
    expect_refusal(pair.caller, "503", "answerTooLarge");
    assert_true(fake_log_has("roll_back the answer is larger than http.maxAnswer; ended; "));
    assert_false(fake_log_has("answered"));
    send_bytes(pair.service, bytes, 50);
    assert_true(fake_log_gets("answered; "));
    expect_end(pair.caller);
    rig_stop(&pair.rig);
}

/* Its service would wait for the rest of the request for ever. */
static void test_answer_too_large_for_a_partial_request(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.answer_bytes_max = 100;
    start(&pair);
    begin_partly(&pair);
    send_text(pair.service, "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n");
    char bytes[200];
    memset(bytes, 'x', sizeof bytes);
    send_bytes(pair.service, bytes, 150);
    expect_refusal(pair.caller, "503", "answerTooLarge");
    expect_end(pair.caller);
    expect_end(pair.service);
    assert_true(fake_log_gets("maxAnswer; ended; lost; "));
    rig_stop(&pair.rig);
}

static void test_large_held_answer_and_slow_caller(void **state)
{
    (void)state;
    enum { SIZE = 8 * 1024 * 1024 };
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    begin(&pair);
    char head[100];
    char *body = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        body[i] = (char)('a' + i % 23);
    }
    (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", SIZE);
    send_text(pair.service, head);
    send_bytes(pair.service, body, SIZE);
    expect_text(pair.caller, head);
    char *got = malloc(SIZE);
    assert_int_equal(receive_bytes(pair.caller, got, SIZE), SIZE);
    assert_memory_equal(got, body, SIZE);
    free(got);
    free(body);
    rig_stop(&pair.rig);
}

static void test_joined_call_streams(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    fake.joined = true;
    fake.unit = 0;
    rig_start(&pair.rig);
    pair.caller = connect_to(front_address(pair.rig.front, 0, true));
    begin(&pair);
    assert_true(fake.inside);
    send_text(pair.service, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    expect_text(pair.caller, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    assert_false(fake_log_has("answered"));
    send_text(pair.service, "llo");
    expect_text(pair.caller, "llo");
    assert_true(fake_log_gets("answered; "));
    assert_false(fake_log_has("commit"));
    rig_stop(&pair.rig);
}

static void test_observed_call_streams_and_is_ended(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    fake.unit = 0;
    fake.hold_end = true;
    start(&pair);
    begin(&pair);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    assert_true(fake_log_gets("answered; commit; "));
    send_text(pair.caller, REQUEST);
    expect_silence(pair.service); /* not before the first has ended */
    fake_release();
    expect_text(pair.service, REQUEST);
    fake.hold_end = false;
    send_text(pair.service, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    expect_text(pair.caller, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    assert_true(fake_log_gets("answered; roll_back"));
    rig_stop(&pair.rig);
}

/* What was streamed cannot be taken back: the connection breaks, and so does the call. */
static void test_streamed_call_that_breaks_off(void **state)
{
    (void)state;
    for (int joined = 0; joined < 2; joined++) {
        struct pair pair;
        char byte;
        rig_init(&pair.rig);
        fake.unit = 0;
        fake.joined = joined == 1;
        start(&pair);
        begin(&pair);
        send_text(pair.service, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        expect_text(pair.caller, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        (void)close(pair.service);
        assert_int_equal(recv(pair.caller, &byte, 1, 0), -1);
        assert_int_equal(errno, ECONNRESET);
        assert_true(fake_log_gets(joined ? "lost; " : "lost; roll_back the service was lost"));
        assert_false(joined && fake_log_has("roll_back"));
        (void)close(pair.caller);
        pair.caller = caller_connect(&pair.rig);
        begin(&pair); /* before any byte: it can be told */
        (void)close(pair.service);
        expect_refusal(pair.caller, "503", "serviceLost");
        rig_stop(&pair.rig);
    }
}

/* The caller of a streamed call leaves: the call goes on, its answer is dropped. */
static void test_caller_leaves_a_streamed_call(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    fake.unit = 0;
    start(&pair);
    begin(&pair);
    send_text(pair.service, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    expect_text(pair.caller, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    (void)close(pair.caller);
    expect_silence(pair.service);
    send_text(pair.service, "llo");
    assert_true(fake_log_gets("answered; commit; ended; "));
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_listed_peers_are_inside(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.service.peers = "10.0.0.1, 127.0.0.1";
    start(&pair);
    begin(&pair);
    assert_true(fake.inside);
    rig_stop(&pair.rig);
}

static void test_reads_wait(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.service.reads_wait = true;
    fake.read_admission = CALL_WAITING;
    start(&pair);
    send_text(pair.caller, "GET /a HTTP/1.1\r\n\r\n");
    assert_true(fake_log_gets("read GET /a; "));
    fake_admit(CALL_ADMITTED);
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, "GET /a HTTP/1.1\r\n\r\n");
    send_text(pair.service, "HTTP/1.1 204 OK\r\n\r\n");
    expect_text(pair.caller, "HTTP/1.1 204 OK\r\n\r\n");
    send_text(pair.caller, "GET /b HTTP/1.1\r\n\r\n");
    assert_true(fake_log_gets("read GET /b; "));
    fake_admit(CALL_QUEUE_TIMEOUT);
    expect_refusal(pair.caller, "503", "queueTimeout");
    send_text(pair.caller, "GET /c HTTP/1.1\r\n\r\n");
    assert_true(fake_log_gets("read GET /c; "));
    (void)close(pair.caller);
    assert_true(fake_log_gets("cancel; "));
    rig_stop(&pair.rig);
}

static void test_trace_is_added_or_kept(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    send_text(pair.caller, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    pair.service = service_accept(&pair.rig);
    char *head = receive_head(pair.service);
    static const char start_of_it[] =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ntraceparent: 00-";
    assert_memory_equal(head, start_of_it, sizeof start_of_it - 1);
    assert_int_equal(strlen(head), sizeof start_of_it - 1 + 52 + 4);
    struct traceparent sent;
    assert_true(traceparent_parse(slice_make(head + sizeof start_of_it - 1 - 3, 55), &sent));
    assert_true(trace_id_equal(&sent.trace, &fake.trace));
    free(head);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    /* an invalid one passes, and there is no trace */
    send_text(pair.caller, "DELETE /1 HTTP/1.1\r\ntraceparent: x\r\n\r\n");
    expect_text(pair.service, "DELETE /1 HTTP/1.1\r\ntraceparent: x\r\n\r\n");
    assert_true(trace_id_is_none(&fake.trace));
    rig_stop(&pair.rig);
}

static void test_invalid_trace_is_replaced_where_it_matters(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.service.trace_correlated = true;
    start(&pair);
    send_text(pair.caller, "DELETE /1 HTTP/1.1\r\ntraceparent: x\r\nHost: a\r\n\r\n");
    pair.service = service_accept(&pair.rig);
    char *head = receive_head(pair.service);
    static const char start_of_it[] = "DELETE /1 HTTP/1.1\r\nHost: a\r\ntraceparent: 00-";
    assert_memory_equal(head, start_of_it, sizeof start_of_it - 1);
    assert_false(trace_id_is_none(&fake.trace));
    free(head);
    rig_stop(&pair.rig);
}

static void test_upgrade_is_committed_first(void **state)
{
    (void)state;
    static const char request[] = "POST /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: "
                                  "chat\r\ntraceparent: x\r\nContent-Length: 0\r\n\r\n";
    static const char answer[] =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    struct pair pair;
    rig_init(&pair.rig);
    fake.hold_end = true;
    start(&pair);
    send_text(pair.caller, request);
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, request);
    send_text(pair.service, answer);
    send_text(pair.service, "first words");
    assert_true(fake_log_gets("answered; commit; "));
    expect_silence(pair.caller);
    fake_release();
    expect_text(pair.caller, answer);
    expect_text(pair.caller, "first words");
    send_text(pair.caller, "\x01\x02GET / HTTP/1.1\r\n\r\n");
    expect_text(pair.service, "\x01\x02GET / HTTP/1.1\r\n\r\n");
    (void)close(pair.caller);
    expect_end(pair.service);
    rig_stop(&pair.rig);
}

static void test_malformed_body_in_mid_call(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    send_text(pair.caller, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n");
    send_large_part(pair.caller);
    pair.service = service_accept(&pair.rig);
    free(receive_head(pair.service));
    expect_text(pair.service, "10000\r\n");
    expect_large_part(pair.service);
    send_text(pair.caller, "\r\n3\r\nabc\r\n");
    expect_text(pair.service, "\r\n3\r\nabc\r\n");
    send_text(pair.caller, "5\rXhello\r\n0\r\n\r\n");
    expect_refusal(pair.caller, "400", "malformed");
    expect_end(pair.caller);
    expect_end(pair.service);
    assert_true(fake_log_has("lost; roll_back"));
    rig_stop(&pair.rig);
}

static void test_early_answer(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    begin_partly(&pair);
    send_text(pair.service,
              "HTTP/1.1 413 Too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    (void)close(pair.service);
    expect_text(pair.caller,
                "HTTP/1.1 413 Too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    expect_end(pair.caller);
    assert_true(fake_log_has("answered; roll_back the service answered with an error; ended; "));
    rig_stop(&pair.rig);
}

static const char waiting_head[] = "POST / HTTP/1.1\r\ntraceparent: -\r\n"
                                   "Transfer-Encoding: chunked\r\n\r\n";

static void test_call_begins_when_its_body_is_whole(void **state)
{
    (void)state;
    static const char *const bodies[] = {"5;a=b\r\nhello\r\n0\r\n\r\n",
                                         "3\r\nabc\r\nA\r\n0123456789\r\n00\r\nT: u\r\n\r\n"};
    struct pair pair;
    rig_init(&pair.rig);
    fake.unit = 0;
    start(&pair);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        const char *body = bodies[i];
        char last[] = {body[strlen(body) - 1], '\0'};
        char *most = strndup(body, strlen(body) - 1);
        send_text(pair.caller, waiting_head);
        send_slowly(pair.caller, most);
        if (i == 0) {
            expect_nothing_began(&pair);
        } else {
            expect_silence(pair.service);
        }
        send_text(pair.caller, last);
        if (i == 0) {
            pair.service = service_accept(&pair.rig);
        }
        expect_text(pair.service, waiting_head);
        expect_text(pair.service, body);
        send_text(pair.service, ANSWER);
        expect_text(pair.caller, ANSWER);
        free(most);
    }
    rig_stop(&pair.rig);
}

/* What follows a body is the next request, and waits for its own. */
static void test_body_that_comes_with_the_next_request(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    send_text(pair.caller, waiting_head);
    send_text(pair.caller, "2\r\nab");
    expect_nothing_began(&pair);
    send_text(pair.caller, "\r\n0\r\n\r\nPOST /2 HTTP/1.1\r\ntraceparent: -\r\n"
                           "Content-Length: 4\r\n\r\nab");
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, waiting_head);
    expect_text(pair.service, "2\r\nab\r\n0\r\n\r\n");
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    expect_silence(pair.service);
    assert_true(fake_log_is("begin POST /; answered; commit; ended; "));
    send_text(pair.caller, "cd");
    expect_text(pair.service,
                "POST /2 HTTP/1.1\r\ntraceparent: -\r\nContent-Length: 4\r\n\r\nabcd");
    (void)shutdown(pair.caller, SHUT_WR); /* it was whole */
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    rig_stop(&pair.rig);
}

static void test_call_begins_when_the_read_ahead_is_full(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    fake.admission = CALL_WAITING;
    start(&pair);
    static char part[LARGE_PART];
    memset(part, 'x', sizeof part);
    send_text(pair.caller, "POST / HTTP/1.1\r\n" HEAD_OF_MORE);
    send_bytes(pair.caller, part, sizeof part - 1);
    expect_nothing_began(&pair);
    send_bytes(pair.caller, part, 1);
    assert_true(fake_log_gets("begin POST /; "));
    send_bytes(pair.caller, part, 70000 - sizeof part); /* waits in the kernel */
    fake_admit(CALL_ADMITTED);
    pair.service = service_accept(&pair.rig);
    free(receive_head(pair.service));
    expect_large_part(pair.service);
    assert_int_equal(receive_bytes(pair.service, part, 70000 - sizeof part), 70000 - sizeof part);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    assert_true(fake_log_is("begin POST /; answered; commit; ended; "));
    rig_stop(&pair.rig);
}

static void test_caller_leaves_before_its_call(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct pair pair;
        rig_init(&pair.rig);
        start(&pair);
        send_text(pair.caller, waiting_head);
        send_text(pair.caller, "5\r\nhel");
        expect_nothing_began(&pair);
        if (way == 0) {
            (void)shutdown(pair.caller, SHUT_WR);
            expect_end(pair.caller);
        } else {
            struct linger reset = {.l_onoff = way - 1};
            (void)setsockopt(pair.caller, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            (void)close(pair.caller);
        }
        struct front_figures figures = {.connections = 1};
        for (int waited = 0; waited < 1000 && figures.connections > 0; waited++) {
            (void)nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
            front_figures_get(pair.rig.front, &figures);
        }
        assert_int_equal(figures.connections, 0);
        assert_int_equal(figures.calls, 0);
        expect_nothing_began(&pair);
        rig_stop(&pair.rig);
    }
}

static void test_stop_before_a_call(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    send_text(pair.caller, waiting_head);
    expect_nothing_began(&pair);
    rig_stop(&pair.rig);
    assert_true(fake_log_is(""));
}

static void test_malformed_body_before_its_call(void **state)
{
    (void)state;
    static const char *const bodies[] = {"5\rXhello", "3\r\nabcX", "0\r\n\rX"};
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        for (int slowly = 0; slowly < 2; slowly++) {
            send_text(pair.caller, waiting_head);
            (slowly ? send_slowly : send_text)(pair.caller, bodies[i]);
            expect_refusal(pair.caller, "400", "malformed");
            expect_end(pair.caller);
            pair.caller = caller_connect(&pair.rig);
        }
    }
    expect_nothing_began(&pair);
    rig_stop(&pair.rig);
}

static void test_slow_body(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.body_ms = 100;
    start(&pair);
    send_text(pair.caller, "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n");
    for (int i = 0; i < 3; i++) { /* bytes that come bring no new time */
        send_text(pair.caller, "x");
        (void)nanosleep(&(struct timespec){.tv_nsec = 40 * 1000 * 1000}, NULL);
    }
    expect_refusal(pair.caller, "408", "bodyTimeout");
    expect_end(pair.caller);
    /* an older caller's expectation is none */
    pair.caller = caller_connect(&pair.rig);
    send_text(pair.caller, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
    expect_refusal(pair.caller, "408", "bodyTimeout");
    expect_end(pair.caller);
    expect_nothing_began(&pair);
    /* the service has all the time it likes */
    pair.caller = caller_connect(&pair.rig);
    send_slowly(pair.caller, REQUEST);
    pair.service = service_accept(&pair.rig);
    expect_text(pair.service, REQUEST);
    (void)nanosleep(&(struct timespec){.tv_nsec = 200 * 1000 * 1000}, NULL);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    rig_stop(&pair.rig);
}

/* The service may be closing it as the call comes, and a call is never sent twice. */
static void test_connection_that_was_idle_is_not_used_for_a_call(void **state)
{
    (void)state;
    static const char get[] = "GET / HTTP/1.1\r\n\r\n";
    const struct timespec idle = {.tv_nsec = 150 * 1000 * 1000};
    struct pair pair;
    rig_init(&pair.rig);
    pair.rig.options.kept_ms = 100;
    start(&pair);
    begin(&pair);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    (void)nanosleep(&idle, NULL);
    send_text(pair.caller, get); /* would be sent once more */
    expect_text(pair.service, get);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    (void)nanosleep(&idle, NULL);
    int before = pair.service;
    begin(&pair); /* on a new one */
    expect_end(before);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    /* idle in the queue is idle, too */
    fake.admission = CALL_WAITING;
    send_text(pair.caller, REQUEST);
    assert_true(fake_log_gets("ended; begin POST /orders?x=1; answered; commit; ended; begin"));
    (void)nanosleep(&idle, NULL);
    before = pair.service;
    fake_admit(CALL_ADMITTED);
    pair.service = service_accept(&pair.rig);
    expect_end(before);
    expect_text(pair.service, REQUEST);
    send_text(pair.service, ANSWER);
    expect_text(pair.caller, ANSWER);
    rig_stop(&pair.rig);
}

static void test_stop_in_mid_call(void **state)
{
    (void)state;
    struct pair pair;
    rig_init(&pair.rig);
    start(&pair);
    begin(&pair);
    rig_stop(&pair.rig);
    assert_true(fake_log_has("lost; roll_back the proxy was shut down; ended; "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_is_held_until_ended),
        cmocka_unit_test(test_error_of_the_service_passes_unchanged),
        cmocka_unit_test(test_rolled_back_and_conflict),
        cmocka_unit_test(test_waits_for_admission),
        cmocka_unit_test(test_refused_at_once),
        cmocka_unit_test(test_caller_leaves_while_waiting),
        cmocka_unit_test(test_timeout_and_a_late_answer),
        cmocka_unit_test(test_timeout_and_a_service_that_breaks),
        cmocka_unit_test(test_timeout_of_a_partial_request),
        cmocka_unit_test(test_service_breaks_off),
        cmocka_unit_test(test_close_delimited_answer),
        cmocka_unit_test(test_service_that_is_not_there),
        cmocka_unit_test(test_kept_connection_that_the_service_closed),
        cmocka_unit_test(test_caller_leaves_a_whole_request),
        cmocka_unit_test(test_caller_leaves_a_partial_request),
        cmocka_unit_test(test_answer_too_large),
        cmocka_unit_test(test_answer_too_large_for_a_partial_request),
        cmocka_unit_test(test_large_held_answer_and_slow_caller),
        cmocka_unit_test(test_joined_call_streams),
        cmocka_unit_test(test_observed_call_streams_and_is_ended),
        cmocka_unit_test(test_streamed_call_that_breaks_off),
        cmocka_unit_test(test_caller_leaves_a_streamed_call),
        cmocka_unit_test(test_listed_peers_are_inside),
        cmocka_unit_test(test_reads_wait),
        cmocka_unit_test(test_trace_is_added_or_kept),
        cmocka_unit_test(test_invalid_trace_is_replaced_where_it_matters),
        cmocka_unit_test(test_upgrade_is_committed_first),
        cmocka_unit_test(test_malformed_body_in_mid_call),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_call_begins_when_its_body_is_whole),
        cmocka_unit_test(test_body_that_comes_with_the_next_request),
        cmocka_unit_test(test_call_begins_when_the_read_ahead_is_full),
        cmocka_unit_test(test_caller_leaves_before_its_call),
        cmocka_unit_test(test_stop_before_a_call),
        cmocka_unit_test(test_malformed_body_before_its_call),
        cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_connection_that_was_idle_is_not_used_for_a_call),
        cmocka_unit_test(test_stop_in_mid_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
