/* Reaches: comment_parse, comment_is_command, and what they call. */

#include "fuzz/fuzz.h"

#include <string.h>

#include "boundary/comment.h"
#include "wire/bson_check.h"

/* { insert: "c", $db: "d", comment: { unit: "u", begin: true, timeoutMS: 5 } } */
static const uint8_t document[] = {
    'O', 0,   0,   0,   2,   'i', 'n', 's', 'e', 'r', 't', 0,   2,   0,   0,   0,
    'c', 0,   2,   '$', 'd', 'b', 0,   2,   0,   0,   0,   'd', 0,   3,   'c', 'o',
    'm', 'm', 'e', 'n', 't', 0,   40,  0,   0,   0,   2,   'u', 'n', 'i', 't', 0,
    2,   0,   0,   0,   'u', 0,   8,   'b', 'e', 'g', 'i', 'n', 0,   1,   16,  't',
    'i', 'm', 'e', 'o', 'u', 't', 'M', 'S', 0,   5,   0,   0,   0,   0,   0};
/* { insert: "c", comment: "holdfast: unit=u begin last timeoutMS=7" } */
static const uint8_t text[] = {
    'H', 0,   0,   0,   2,   'i', 'n', 's', 'e', 'r', 't', 0,   2,   0,   0,   0,   'c', 0,
    2,   'c', 'o', 'm', 'm', 'e', 'n', 't', 0,   40,  0,   0,   0,   'h', 'o', 'l', 'd', 'f',
    'a', 's', 't', ':', 32,  'u', 'n', 'i', 't', '=', 'u', 32,  'b', 'e', 'g', 'i', 'n', 32,
    'l', 'a', 's', 't', 32,  't', 'i', 'm', 'e', 'o', 'u', 't', 'M', 'S', '=', 55,  0,   0};
/* { beginUnit: "u", $db: "admin" } */
static const uint8_t command[] = {37,  0, 0, 0, 2,   'b', 'e', 'g', 'i', 'n', 'U', 'n', 'i',
                                  't', 0, 2, 0, 0,   0,   'u', 0,   2,   '$', 'd', 'b', 0,
                                  6,   0, 0, 0, 'a', 'd', 'm', 'i', 'n', 0,   0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {document, sizeof(document)},
    {text, sizeof(text)},
    {command, sizeof(command)},
    {NULL, 0},
};

bool fuzz_one(struct slice input)
{
    struct command_view view;
    struct comment comment;
    struct error error = {0};
    if (command_view_parse(input, &view, &error) != STATUS_OK) {
        return false;
    }
    enum status status = comment_parse(&view, &comment, &error);
    if (status == STATUS_OK) {
        FUZZ_REQUIRE(comment.unit[0] != '\0' && strlen(comment.unit) <= COMMENT_UNIT_BYTES_MAX);
        FUZZ_REQUIRE(comment.timeout_ms >= 0);
    } else {
        FUZZ_REQUIRE(status == STATUS_NOT_FOUND || error.message[0] != '\0');
    }
    return status == STATUS_OK;
}
