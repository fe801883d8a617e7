/* Reaches: wire_header_parse, wire_message_parse, wire_header_store. */

#include "fuzz/fuzz.h"

#include "holdfast/limits.h"
#include "wire/frame.h"

static const uint8_t smallest[] = {16, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0xdd, 7, 0, 0};
static const uint8_t with_body[] = {21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {smallest, sizeof(smallest)},
    {with_body, sizeof(with_body)},
    {NULL, 0},
};

bool fuzz_one(struct slice input)
{
    struct wire_header header;
    struct wire_header again;
    struct slice rest;
    uint8_t bytes[WIRE_HEADER_BYTES];
    if (wire_header_parse(input, &header) != STATUS_OK) {
        return false;
    }
    FUZZ_REQUIRE(header.length >= WIRE_HEADER_BYTES && header.length <= LIMIT_MESSAGE_BYTES_MAX);
    wire_header_store(bytes, &header);
    FUZZ_REQUIRE(memcmp(bytes, input.data, sizeof(bytes)) == 0);
    if (wire_message_parse(input, (enum wire_opcode)header.opcode, &again, &rest) == STATUS_OK) {
        FUZZ_REQUIRE(header.length == input.size && fuzz_inside(input, rest));
        FUZZ_REQUIRE(rest.size == input.size - WIRE_HEADER_BYTES);
    }
    return true;
}
