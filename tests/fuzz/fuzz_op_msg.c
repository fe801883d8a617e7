/*
 * Reaches: op_msg_parse, op_msg_parse_available, op_msg_sequence_next, bson_slice_next,
 * op_msg_append_with_sections.
 */

#include "fuzz/fuzz.h"

#include "wire/op_msg.h"

/* { ping: 1 }, moreToCome */
static const uint8_t plain[] = {36, 0, 0, 0,  1, 0, 0, 0,  0,   0,   0,   0,   0xdd, 7, 0, 0, 2, 0,
                                0,  0, 0, 15, 0, 0, 0, 16, 'p', 'i', 'n', 'g', 0,    1, 0, 0, 0, 0};
/* { ping: 1 } and the sequence d: [ {}, {} ] */
static const uint8_t sequence[] = {
    53,  0,   0,   0, 1, 0, 0, 0, 0, 0, 0,  0, 0xdd, 7, 0,   0, 0, 0, 0, 0, 0, 15, 0, 0, 0, 16, 'p',
    'i', 'n', 'g', 0, 1, 0, 0, 0, 0, 1, 16, 0, 0,    0, 'd', 0, 5, 0, 0, 0, 0, 5,  0, 0, 0, 0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {plain, sizeof(plain)},
    {sequence, sizeof(sequence)},
    {NULL, 0},
};

static void check_prefixes(struct slice input, const struct op_msg *whole)
{
    struct op_msg partial;
    bool complete = false;
    for (size_t size = 0; size < input.size; size += 1 + size / 8) {
        enum status status = op_msg_parse_available(slice_make(input.data, size),
                                                    (uint32_t)input.size, &complete, &partial);
        if (whole == NULL) {
            continue;
        }
        FUZZ_REQUIRE(status == STATUS_OK);
        FUZZ_REQUIRE(!complete || (slice_equal(partial.body, whole->body) &&
                                   partial.body_offset == whole->body_offset &&
                                   partial.has_sequence == whole->has_sequence));
    }
}

bool fuzz_one(struct slice input)
{
    struct op_msg message;
    struct op_msg again;
    struct op_msg_sequence section;
    struct slice document;
    struct buffer out;
    if (op_msg_parse(input, &message) != STATUS_OK) {
        check_prefixes(input, NULL);
        return false;
    }
    check_prefixes(input, &message);
    FUZZ_REQUIRE(fuzz_inside(input, message.body) && fuzz_inside(input, message.sections));
    struct slice sections = message.sections;
    while (op_msg_sequence_next(&sections, &section)) {
        FUZZ_REQUIRE(fuzz_inside(input, section.identifier));
        while (bson_slice_next(&section.documents, &document)) {
            FUZZ_REQUIRE(fuzz_inside(input, document));
        }
        FUZZ_REQUIRE(section.documents.size == 0);
    }
    buffer_init(&out, 2 * input.size);
    if (op_msg_append(&out, 1, 2, message.flags, message.body) == STATUS_OK) {
        FUZZ_REQUIRE(op_msg_parse(buffer_slice(&out), &again) == STATUS_OK);
        FUZZ_REQUIRE(slice_equal(again.body, message.body));
    }
    buffer_free(&out);
    return true;
}
