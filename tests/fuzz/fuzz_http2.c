/*
 * Reaches: http2_caller_receive, http2_caller_send, http2_lane_*, http2_fields_add,
 * http2_write_request, http2_write_trailers, http2_read_answer, stream_pair_*. A whole connection
 * of a caller, whose exchanges are played here: what comes out of its lanes is a request of
 * HTTP/1.1 that reads the same however it is cut, and is answered.
 */

#include "fuzz/fuzz.h"

#include <event2/event.h>

#include "front/http2_caller.h"
#include "front/http2_lane.h"
#include "holdfast/limits.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define EXCHANGES_MAX 8
#define TURNS_MAX 64

/* POST /, content-type, chunked by its DATA, with trailers. */
static const char call[] = PREFACE SETTINGS "\0\0\x06\1\4\0\0\0\1\x83\x86\x84\x41\x01"
                                            "a"
                                            "\0\0\5\0\0\0\0\0\1hello"
                                            "\0\0\x07\1\5\0\0\0\1\x40\1x\3sum";
/* GET, HEAD, a PING, a request that is reset, CONTINUATION. */
static const char several[] = PREFACE SETTINGS "\0\0\x06\1\5\0\0\0\1\x82\x86\x84\x41\x01"
                                               "a"
                                               "\0\0\x0b\1\5\0\0\0\3\x42\4HEAD\x86\x84\x41\x01"
                                               "a"
                                               "\0\0\x08\6\0\0\0\0\0abcdefgh"
                                               "\0\0\3\1\0\0\0\0\5\x83\x86\x84"
                                               "\0\0\3\x09\4\0\0\0\5\x41\x01"
                                               "a"
                                               "\0\0\4\3\0\0\0\0\5\0\0\0\x08"
                                               "\0\0\4\x08\0\0\0\0\0\0\0\1\0";

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {call, sizeof call - 1},
    {several, sizeof several - 1},
    {NULL, 0},
};

/* Plays an exchange: reads a request, answers it, and again. */
struct exchange {
    bool used;
    struct stream caller;
    struct buffer text;
};

static struct event_base *base;
static uint8_t scratch[LIMIT_RECEIVE_BUFFER_BYTES];
static struct exchange exchanges[EXCHANGES_MAX];
static bool requested;

static void answer(struct exchange *exchange, bool to_head)
{
    static const char text[] = "HTTP/1.1 103 \r\nx: y\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "3\r\nabc\r\n0\r\ngrpc-status: 0\r\n\r\n";
    static const char bodiless[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    (void)!stream_send(&exchange->caller, slice_text(to_head ? bodiless : text));
}

/* Takes a whole request off the front, if one is there. */
static bool take_request(struct exchange *exchange)
{
    struct head_scan scan = {0};
    struct http_head head;
    struct framing framing;
    const char *reason = "";
    size_t size = 0;
    size_t used = 0;
    struct slice text = buffer_slice(&exchange->text);
    enum head_found found = head_find_end(&scan, text, &size);
    FUZZ_REQUIRE(found == HEAD_MORE || found == HEAD_WHOLE);
    if (found == HEAD_MORE) {
        return false;
    }
    if (head_parse_request(slice_front(text, size), &head, &reason) != STATUS_OK) {
        stream_close(&exchange->caller); /* an exchange answers 400, say for two hosts */
        buffer_clear(&exchange->text);
        return false;
    }
    requested = true;
    framing_start(&framing, head.framing, head.length, false);
    enum framing_result result = framing_take(&framing, slice_rest(text, size), &used);
    FUZZ_REQUIRE(result != FRAMING_MALFORMED);
    if (!framing_is_complete(&framing)) {
        return false;
    }
    answer(exchange, head_is_word(head.method, "HEAD"));
    buffer_consume(&exchange->text, size + used);
    return true;
}

static void on_readable(void *context)
{
    struct exchange *exchange = context;
    uint8_t memory[4096];
    size_t size = 0;
    enum status status;
    while ((status = stream_receive(&exchange->caller, memory, sizeof memory, &size)) ==
           STATUS_OK) {
        FUZZ_REQUIRE(buffer_append(&exchange->text, memory, size) == STATUS_OK);
    }
    while (exchange->text.size > 0 && take_request(exchange)) {
    }
    if (status == STATUS_UNREACHABLE) {
        stream_close(&exchange->caller);
    }
}

static void on_drained(void *context)
{
    (void)context;
}

static const struct stream_callbacks callbacks = {.readable = on_readable, .drained = on_drained};

static bool open_exchange(void *context, const struct stream_pair_end *end)
{
    (void)context;
    for (size_t i = 0; i < EXCHANGES_MAX; i++) {
        struct exchange *exchange = &exchanges[i];
        if (!exchange->used) {
            exchange->used = true;
            stream_init(&exchange->caller);
            exchange->caller.half_open = true;
            buffer_init(&exchange->text, SIZE_MAX);
            return stream_pair_open(base,
                                    &(struct stream_pair_end){.stream = &exchange->caller,
                                                              .callbacks = &callbacks,
                                                              .context = exchange},
                                    end) == STATUS_OK;
        }
    }
    return false;
}

static void on_again(void *context)
{
    (void)context;
}

static void on_refused(void *context, const char *reason)
{
    (void)context;
    FUZZ_REQUIRE(reason != NULL);
}

static void on_socket(void *context)
{
    struct stream *stream = context;
    uint8_t memory[4096];
    size_t size = 0;
    while (stream_receive(stream, memory, sizeof memory, &size) == STATUS_OK) {
    }
}

static const struct stream_callbacks socket_callbacks = {.readable = on_socket,
                                                         .drained = on_drained};

/* Until nothing more happens by itself. */
static bool settle(struct http2_caller *caller, struct stream *to)
{
    bool alive = true;
    for (int turn = 0; alive && turn < TURNS_MAX; turn++) {
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
        alive = http2_caller_send(caller, to);
    }
    return alive;
}

bool fuzz_one(struct slice input)
{
    const struct http2_caller_host host = {
        .scratch = scratch, .open = open_exchange, .again = on_again, .refused = on_refused};
    struct stream ours;
    struct stream theirs;
    base = base == NULL ? event_base_new() : base;
    requested = false;
    stream_init(&ours);
    stream_init(&theirs);
    theirs.half_open = true;
    struct http2_caller *caller = http2_caller_new(&host);
    FUZZ_REQUIRE(caller != NULL);
    FUZZ_REQUIRE(stream_pair_open(base,
                                  &(struct stream_pair_end){.stream = &ours,
                                                            .callbacks = &socket_callbacks,
                                                            .context = &ours},
                                  &(struct stream_pair_end){.stream = &theirs,
                                                            .callbacks = &socket_callbacks,
                                                            .context = &theirs}) == STATUS_OK);
    /* In two pieces: what the first has begun is under way when the second comes. */
    size_t cut = input.size / 2;
    bool alive = http2_caller_receive(caller, slice_front(input, cut)) && settle(caller, &ours);

    alive = alive && http2_caller_receive(caller, slice_rest(input, cut)) && settle(caller, &ours);
    http2_caller_end_stalled(caller);
    http2_caller_end_stalled(caller);
    http2_caller_drain(caller);
    (void)http2_caller_send(caller, &ours);
    (void)http2_caller_free(caller);
    (void)event_base_loop(base, EVLOOP_NONBLOCK);
    for (size_t i = 0; i < EXCHANGES_MAX; i++) {
        if (exchanges[i].used) {
            stream_close(&exchanges[i].caller);
            buffer_free(&exchanges[i].text);
            exchanges[i].used = false;
        }
    }
    stream_close(&ours);
    stream_close(&theirs);
    return requested && alive;
}
