/* Reaches: traceparent_parse, traceparent_in_comment. The input is a comment's text. */

#include "fuzz/fuzz.h"

#include "wire/traceparent.h"

#define VALID "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static const char text[] = VALID;
static const char pairs[] = "/*a='b',traceparent='00%2D0af7651916cd43dd8448eb211c80319c-"
                            "b7ad6b7169203331-01',tracestate='c'*/";

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {text, sizeof text - 1},
    {pairs, sizeof pairs - 1},
    {NULL, 0},
};

static bool in_comment(struct slice input, bool in_document, struct traceparent *ret_found)
{
    bson_t command = BSON_INITIALIZER;
    bson_t comment = BSON_INITIALIZER;
    bson_iter_t at;
    const char *value = (const char *)input.data;
    if (in_document) {
        bson_append_utf8(&comment, "traceparent", -1, value, (int)input.size);
        bson_append_document(&command, "comment", -1, &comment);
    } else {
        bson_append_utf8(&command, "comment", -1, value, (int)input.size);
    }
    FUZZ_REQUIRE(bson_iter_init_find(&at, &command, "comment"));
    bool found = traceparent_in_comment(&at, ret_found);
    bson_destroy(&comment);
    bson_destroy(&command);
    return found;
}

bool fuzz_one(struct slice input)
{
    struct traceparent direct = {0};
    struct traceparent found = {0};
    if (input.size == 0) {
        return false;
    }
    bool valid = traceparent_parse(input, &direct);
    FUZZ_REQUIRE(!valid || !trace_id_is_none(&direct.trace));
    FUZZ_REQUIRE(in_comment(input, true, &found) == valid);
    FUZZ_REQUIRE(trace_id_equal(&found.trace, &direct.trace));
    bool in_text = in_comment(input, false, &found);
    FUZZ_REQUIRE(in_text || !valid);
    FUZZ_REQUIRE(!in_text || !trace_id_is_none(&found.trace));
    return in_text;
}
