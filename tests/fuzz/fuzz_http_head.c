/*
 * Reaches: head_find_end, head_parse_request, head_parse_answer, head_copy, framing_take. Whatever
 * is accepted reads the same after its traceparent was set, and ends at the same byte however it is
 * cut.
 */

#include "fuzz/fuzz.h"

#include "front/head.h"

static const char request[] =
    "POST /a?b HTTP/1.1\r\nHost: c\r\ntraceparent: d\r\n"
    "Transfer-Encoding: chunked\r\n\r\n5;e=f\r\nhello\r\n0\r\nT: u\r\n\r\n";
static const char sized[] = "PUT / HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nUpgrade: h2c\r\n"
                            "Content-Length: 3\r\n\r\nabc";
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {request, sizeof request - 1},
    {sized, sizeof sized - 1},
    {answer, sizeof answer - 1},
    {NULL, 0},
};

/* Where the body ends, fed `step` bytes at a time; SIZE_MAX: malformed. */
static size_t body_end(const struct http_head *head, struct slice body, size_t step)
{
    struct framing framing;
    struct slice piece;
    size_t total = 0;
    size_t used = 0;
    framing_start(&framing, head->framing, head->length, head->status != 0);
    while (!framing_is_complete(&framing) &&
           slice_take(&body, body.size < step ? body.size : step, &piece) && piece.size > 0) {
        enum framing_result result = framing_take(&framing, piece, &used);
        if (result == FRAMING_MALFORMED) {
            return SIZE_MAX;
        }
        FUZZ_REQUIRE(used <= piece.size && (used == piece.size || result == FRAMING_COMPLETE));
        total += used;
    }
    return total;
}

static void check_copy(struct slice bytes, const struct http_head *head)
{
    static const char trace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const struct head_changes changes = {.drop_traceparent = true, .traceparent = trace};
    struct http_head again;
    struct head_scan scan = {0};
    struct buffer out;
    const char *reason;
    size_t size = 0;
    buffer_init(&out, bytes.size + 100);
    FUZZ_REQUIRE(head_copy(bytes, &changes, &out) == STATUS_OK);
    FUZZ_REQUIRE(head_find_end(&scan, buffer_slice(&out), &size) == HEAD_WHOLE);
    FUZZ_REQUIRE(size == out.size);
    FUZZ_REQUIRE(head_parse_request(buffer_slice(&out), &again, &reason) == STATUS_OK);
    FUZZ_REQUIRE(slice_equal(again.method, head->method));
    FUZZ_REQUIRE(slice_equal(again.target, head->target));
    FUZZ_REQUIRE(again.framing == head->framing && again.length == head->length);
    FUZZ_REQUIRE(again.keep_alive == head->keep_alive && again.traceparents == 1);
    FUZZ_REQUIRE(slice_equal(again.traceparent, slice_text(trace)));
    buffer_free(&out);
}

bool fuzz_one(struct slice input)
{
    struct head_scan scan = {0};
    struct http_head head;
    struct slice rest = input;
    struct slice bytes;
    const char *reason = NULL;
    size_t size = 0;
    bool accepted = false;
    if (head_find_end(&scan, input, &size) != HEAD_WHOLE || !slice_take(&rest, size, &bytes)) {
        return false;
    }
    if (head_parse_request(bytes, &head, &reason) == STATUS_OK) {
        accepted = true;
        FUZZ_REQUIRE(fuzz_inside(bytes, head.method) && fuzz_inside(bytes, head.target));
        FUZZ_REQUIRE(fuzz_inside(bytes, head.traceparent));
        FUZZ_REQUIRE(head.framing != FRAMING_CLOSE);
        check_copy(bytes, &head);
        FUZZ_REQUIRE(body_end(&head, rest, SIZE_MAX) == body_end(&head, rest, 1));
    } else {
        FUZZ_REQUIRE(reason != NULL);
    }
    if (head_parse_answer(bytes, false, &head, &reason) == STATUS_OK) {
        accepted = true;
        FUZZ_REQUIRE(head.status >= 100 && head.status <= 999);
        FUZZ_REQUIRE(body_end(&head, rest, SIZE_MAX) == body_end(&head, rest, 1));
    }
    return accepted;
}
