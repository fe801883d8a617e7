/* Reaches: op_query_parse, op_query_append, op_reply_parse, op_reply_append. */

#include "fuzz/fuzz.h"

#include "wire/op_query.h"

static const uint8_t query[] = {44,   0,    0,  0, 1, 0,   0,   0,   0, 0, 0, 0, 0xd4, 7,    0,
                                0,    4,    0,  0, 0, 'a', '.', 'c', 0, 0, 0, 0, 0,    0xff, 0xff,
                                0xff, 0xff, 12, 0, 0, 0,   16,  'a', 0, 1, 0, 0, 0,    0};
static const uint8_t reply[] = {41, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0,
                                0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {query, sizeof(query)},
    {reply, sizeof(reply)},
    {NULL, 0},
};

bool fuzz_one(struct slice input)
{
    struct op_query parsed;
    struct op_query again;
    struct slice document;
    struct slice same;
    struct buffer out;
    bool accepted = false;
    buffer_init(&out, 2 * input.size + 64);
    if (op_query_parse(input, &parsed) == STATUS_OK) {
        accepted = true;
        FUZZ_REQUIRE(fuzz_inside(input, parsed.collection) && fuzz_inside(input, parsed.query));
        if (op_query_append(&out, 1, &parsed) == STATUS_OK) {
            FUZZ_REQUIRE(op_query_parse(buffer_slice(&out), &again) == STATUS_OK);
            FUZZ_REQUIRE(slice_equal(again.collection, parsed.collection) &&
                         slice_equal(again.query, parsed.query) && again.skip == parsed.skip &&
                         again.count == parsed.count && again.flags == parsed.flags);
        }
    }
    buffer_clear(&out);
    if (op_reply_parse(input, &document) == STATUS_OK) {
        accepted = true;
        FUZZ_REQUIRE(fuzz_inside(input, document));
        FUZZ_REQUIRE(op_reply_append(&out, 1, 2, document) == STATUS_OK);
        FUZZ_REQUIRE(op_reply_parse(buffer_slice(&out), &same) == STATUS_OK);
        FUZZ_REQUIRE(slice_equal(same, document));
    }
    buffer_free(&out);
    return accepted;
}
