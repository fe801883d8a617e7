/* Reaches: reply_view_parse, reply_put_error (with text of the peer), reply_code_name. */

#include "fuzz/fuzz.h"

#include "wire/reply.h"

/* { ok: 1, n: 1, writeErrors: [ {} ], cursor: { id: 1, nextBatch: [] }, errmsg: "e", code: 112 } */
static const uint8_t reply[] = {
    'o', 0,   0,   0,   16,  'o', 'k', 0,   1,   0,   0,   0,   16,  'n', 0,   1,   0,   0,   0,
    4,   'w', 'r', 'i', 't', 'e', 'E', 'r', 'r', 'o', 'r', 's', 0,   13,  0,   0,   0,   3,   48,
    0,   5,   0,   0,   0,   0,   0,   3,   'c', 'u', 'r', 's', 'o', 'r', 0,   33,  0,   0,   0,
    18,  'i', 'd', 0,   1,   0,   0,   0,   0,   0,   0,   0,   4,   'n', 'e', 'x', 't', 'B', 'a',
    't', 'c', 'h', 0,   5,   0,   0,   0,   0,   0,   2,   'e', 'r', 'r', 'm', 's', 'g', 0,   2,
    0,   0,   0,   'e', 0,   16,  'c', 'o', 'd', 'e', 0,   'p', 0,   0,   0,   0};
/* { value: {}, errorLabels: [ "a" ] } */
static const uint8_t found[] = {44, 0, 0,   0,   3,   'v', 'a', 'l', 'u', 'e', 0,   5,   0,   0, 0,
                                0,  4, 'e', 'r', 'r', 'o', 'r', 'L', 'a', 'b', 'e', 'l', 's', 0, 14,
                                0,  0, 0,   2,   48,  0,   2,   0,   0,   0,   'a', 0,   0,   0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {reply, sizeof(reply)},
    {found, sizeof(found)},
    {NULL, 0},
};

bool fuzz_one(struct slice input)
{
    struct reply_view view;
    bson_t made = BSON_INITIALIZER;
    bool accepted = false;
    if (reply_view_parse(input, &view) == STATUS_OK) {
        accepted = true;
        FUZZ_REQUIRE(fuzz_inside(input, view.write_errors) && fuzz_inside(input, view.batch));
        FUZZ_REQUIRE(fuzz_inside(input, view.value) && fuzz_inside(input, view.upserted));
        FUZZ_REQUIRE(fuzz_inside(input, view.last_error_object));
        FUZZ_REQUIRE(!view.has_write_errors || view.write_errors.size > 5);
        reply_put_error(&made, view.code, view.is_transient ? REPLY_LABEL_TRANSIENT : NULL, "%s",
                        view.message == NULL ? "" : view.message);
        FUZZ_REQUIRE(reply_view_parse(slice_make(bson_get_data(&made), made.len), &view) ==
                     STATUS_OK);
        FUZZ_REQUIRE(!view.ok && view.code_name != NULL && view.message != NULL);
        FUZZ_REQUIRE(bson_utf8_validate(view.message, strlen(view.message), false));
    }
    bson_destroy(&made);
    return accepted;
}
