/*
 * The ring and its thread, with a receiver that the test plays: what fits is told in order and in
 * batches, what does not is dropped and counted, and nobody who tells something waits. The real
 * receivers are in tests/system/test_tracing.py and test_events.py.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <bson/bson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "telemetry/bodies.h"
#include "telemetry/http_post.h"
#include "telemetry/poster.h"

/* More than what the kernel takes for a receiver that does not read. */
#define FLOOD_BYTES_MAX (32u << 20)

static int listener;
static char url[64];

static int open_listener(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/x", ntohs(address.sin_port));
    log_set_level(LOG_ERROR);
    return 0;
}

static int close_listener(void **state)
{
    (void)state;
    assert_int_equal(close(listener), 0);
    return 0;
}

/* Takes one POST and answers it; its body, of one read, is put into `body`. */
static void serve(const char *answer, char *body, size_t capacity)
{
    char request[8192] = "";
    size_t size = 0;
    int peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    const char *end = NULL;
    size_t wanted = 0;
    while (end == NULL || strlen(end + 4) < wanted) {
        ssize_t got = read(peer, request + size, sizeof request - 1 - size);
        assert_true(got > 0);
        size += (size_t)got;
        request[size] = '\0';
        end = strstr(request, "\r\n\r\n");
        const char *length = strstr(request, "Content-Length: ");
        wanted = length == NULL ? 0 : strtoul(length + strlen("Content-Length: "), NULL, 10);
    }
    assert_non_null(strstr(request, "POST /x HTTP/1.1\r\n"));
    (void)snprintf(body, capacity, "%s", end + 4);
    char text[128];
    int text_size = snprintf(
        text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", answer);
    assert_int_equal(write(peer, text, (size_t)text_size), text_size);
    assert_int_equal(close(peer), 0);
}

static char *make_numbers(void *context, const void *items, size_t count)
{
    (void)context;
    char text[512] = "";
    for (size_t i = 0; i < count; i++) {
        int number;
        memcpy(&number, (const char *)items + i * sizeof number, sizeof number);
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%d,", number);
    }
    return bson_strdup(text);
}

static struct poster *start(size_t ring_size, size_t batch, unsigned tries)
{
    struct error error = {0};
    struct poster *poster = NULL;
    const struct poster_options options = {
        .name = "test",
        .url = url,
        .item_bytes = sizeof(int),
        .ring_size = ring_size,
        .batch = batch,
        .wait_ms = 20,
        .retry_ms = 1,
        .retry_ms_max = 2,
        .tries_max = tries,
        .make = make_numbers,
    };
    assert_int_equal(poster_start(&options, &poster, &error), STATUS_OK);
    return poster;
}

static void put(struct poster *poster, int from, int to)
{
    for (int i = from; i <= to; i++) {
        poster_put(poster, &i);
    }
}

static void assert_figures(struct poster *poster, uint64_t delivered, uint64_t failed,
                           uint64_t dropped)
{
    struct poster_figures figures;
    uint64_t until_ms = clock_monotonic_ms() + 10000;
    do {
        poster_figures_get(poster, &figures);
    } while (figures.delivered + figures.failed + figures.dropped < delivered + failed + dropped &&
             clock_monotonic_ms() < until_ms);
    assert_int_equal(figures.delivered, delivered);
    assert_int_equal(figures.failed, failed);
    assert_int_equal(figures.dropped, dropped);
}

static void test_batches_in_order(void **state)
{
    (void)state;
    char body[512];
    struct poster *poster = start(16, 4, 1);
    put(poster, 1, 6);
    serve("200 OK", body, sizeof body);
    assert_string_equal(body, "1,2,3,4,");
    serve("204 No Content", body, sizeof body); /* after its wait */
    assert_string_equal(body, "5,6,");
    assert_figures(poster, 6, 0, 0);
    assert_null(poster_stop(poster, 1000));
}

static void test_retries_and_final_answers(void **state)
{
    (void)state;
    char body[512];
    struct poster *poster = start(16, 2, 3);
    put(poster, 1, 2);
    serve("503 Later", body, sizeof body);
    serve("429 Later", body, sizeof body);
    serve("200 OK", body, sizeof body);
    assert_string_equal(body, "1,2,");
    put(poster, 3, 4);
    serve("400 No", body, sizeof body); /* final */
    put(poster, 5, 6);
    for (int i = 0; i < 3; i++) {
        serve("500 No", body, sizeof body);
        assert_string_equal(body, "5,6,");
    }
    assert_figures(poster, 2, 4, 0);
    assert_null(poster_stop(poster, 1000));
}

static void test_what_finds_no_place_is_dropped(void **state)
{
    (void)state;
    char body[512];
    struct poster *poster = start(4, 2, 1);
    put(poster, 1, 2); /* on their way: nobody accepts yet */
    struct poster_figures figures;
    do {
        poster_figures_get(poster, &figures);
    } while (figures.waiting > 0);
    put(poster, 3, 9); /* four wait, three are too many */
    poster_figures_get(poster, &figures);
    assert_int_equal(figures.waiting, 4);
    assert_int_equal(figures.dropped, 3);
    serve("200 OK", body, sizeof body);
    serve("200 OK", body, sizeof body);
    assert_string_equal(body, "3,4,");
    serve("200 OK", body, sizeof body);
    assert_figures(poster, 6, 0, 3);
    assert_null(poster_stop(poster, 1000));
}

static void test_the_end_does_not_wait_for_who_hangs(void **state)
{
    (void)state;
    struct poster *poster = start(16, 2, 5);
    put(poster, 1, 5); /* connects, for the kernel accepts, and is answered by nobody */
    uint64_t began_ms = clock_monotonic_ms();
    assert_null(poster_stop(poster, 100));
    assert_true(clock_monotonic_ms() - began_ms < 8000);
    assert_null(poster_stop(NULL, 0));
}

static void test_the_end_sends_what_is_left(void **state)
{
    (void)state;
    char body[512];
    struct poster *poster = start(16, 8, 1);
    put(poster, 1, 3);
    serve("200 OK", body, sizeof body);
    assert_string_equal(body, "1,2,3,");
    assert_null(poster_stop(poster, 5000));
}

struct flood {
    const char *begin; /* of the answer; behind it `more`, without end */
    const char *more;
    uint64_t taken;
};

/* Answers the first POST without an end, until the other side has enough. */
static void *flood_main(void *context)
{
    struct flood *flood = context;
    static char bytes[65536];
    const struct timeval patience = {.tv_sec = 3};
    size_t size = strlen(flood->more);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = flood->more[i % size];
    }
    int peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
    ssize_t sent = send(peer, flood->begin, strlen(flood->begin), MSG_NOSIGNAL);
    while (sent > 0 && flood->taken < FLOOD_BYTES_MAX) {
        sent = send(peer, bytes, sizeof bytes / size * size, MSG_NOSIGNAL);
        flood->taken += sent > 0 ? (uint64_t)sent : 0;
    }
    close(peer);
    return NULL;
}

/* A receiver that never ends its answer costs no memory. */
static void test_endless_answers(void **state)
{
    (void)state;
    static const struct flood floods[] = {
        {.begin = "HTTP/1.1 200 OK\r\n", .more = "X-More: of it\r\n"},
        {.begin = "HTTP/1.1 200 OK\r\nX: ", .more = "y"},
        {.begin = "HTTP/1.1 ", .more = "2"},
        {.begin = "HTTP/1.1 200 OK\r\n\r\n", .more = "body"},
        {.begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .more = "1\r\nx\r\n"},
        {.begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .more = "0"},
        {.begin = "", .more = "HTTP/1.1 100 Continue\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof floods / sizeof floods[0]; i++) {
        struct flood flood = floods[i];
        pthread_t thread;
        struct http_post *post = NULL;
        struct error error = {0};
        int answer = 0;
        assert_int_equal(http_post_new(url, NULL, &post, &error), STATUS_OK);
        assert_int_equal(pthread_create(&thread, NULL, flood_main, &flood), 0);
        (void)!http_post_send(post, "{}", 500, &answer, &error);
        assert_int_equal(pthread_join(thread, NULL), 0);
        http_post_free(post);
        if (flood.taken >= FLOOD_BYTES_MAX) {
            fail_msg("case %zu: took %llu bytes", i, (unsigned long long)flood.taken);
        }
    }
}

static void test_urls(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",          "http://",       "https://h/x", "h:1/x",
                                        "ftp://h/x", "http://u:p@h/", "http://h:x/"};
    struct http_post *post = NULL;
    struct error error = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(http_post_new(wrong[i], NULL, &post, &error), STATUS_INVALID);
        assert_null(strstr(error.message, "u:p@"));
        assert_null(post);
    }
    static const char *const right[] = {"http://h", "http://h:4318/v1/traces?x=y",
                                        "http://[::1]:1/"};
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        assert_int_equal(http_post_new(right[i], "secret", &post, &error), STATUS_OK);
        post = http_post_free(post);
    }
    assert_null(http_post_free(NULL));
}

static void test_bodies_are_json_whatever_texts_hold(void **state)
{
    (void)state;
    bson_error_t error;
    bson_t document;
    struct span span = {.context = {.sampled = true}, .kind = SPAN_CLIENT, .started_us = 1};
    memset(span.context.trace_id, 0xab, sizeof span.context.trace_id);
    memset(span.context.span_id, 0x01, sizeof span.context.span_id);
    (void)snprintf(span.name, sizeof span.name, "insert \xff\"\\\n");
    memset(span.collection, 0xc3, sizeof span.collection - 1); /* a character cut in the middle */
    char *text = bodies_spans("here\xff", &span, 1);
    assert_non_null(text);
    assert_true(bson_init_from_json(&document, text, -1, &error));
    assert_non_null(strstr(text, "abababababababababababababababab"));
    assert_non_null(strstr(text, "\"startTimeUnixNano\" : \"1000\""));
    assert_null(strstr(text, "parentSpanId"));
    bson_destroy(&document);
    bson_free(text);
    struct event_notice notice = {.kind = EVENT_UNIT_CONFLICT, .time_ms = 1767323045678};
    (void)snprintf(notice.message, sizeof notice.message, "\xff\"");
    text = bodies_event("here", &notice);
    assert_true(bson_init_from_json(&document, text, -1, &error));
    assert_non_null(strstr(text, "2026-01-02T03:04:05.678Z"));
    bson_destroy(&document);
    bson_free(text);
}

#define WITH_LISTENER(function)                                                                    \
    cmocka_unit_test_setup_teardown(function, open_listener, close_listener)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LISTENER(test_batches_in_order),
        WITH_LISTENER(test_retries_and_final_answers),
        WITH_LISTENER(test_what_finds_no_place_is_dropped),
        WITH_LISTENER(test_the_end_does_not_wait_for_who_hangs),
        WITH_LISTENER(test_the_end_sends_what_is_left),
        WITH_LISTENER(test_endless_answers),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_bodies_are_json_whatever_texts_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
