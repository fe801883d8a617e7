/*
 * Reaches: shape_make, as a whole command in the body and as documents in a sequence;
 * sequence_append of what comes out; route_make and text_clean of the same bytes.
 */

#include "fuzz/fuzz.h"

#include <string.h>

#include "observe/route.h"
#include "observe/sequence.h"
#include "observe/shape.h"

/* the commands of fuzz_statement.c: an insert, operators, a pipeline, a removal, a bulkWrite */
static const uint8_t insert[] = {
    'c', 0,   0,   0,   2,   'i', 'n', 's', 'e', 'r', 't', 0, 2, 0, 0,   0, 'c', 0, 4,   'd',
    'o', 'c', 'u', 'm', 'e', 'n', 't', 's', 0,   '0', 0,   0, 0, 3, '0', 0, 23,  0, 0,   0,
    16,  'a', 0,   1,   0,   0,   0,   17,  't', 0,   0,   0, 0, 0, 0,   0, 0,   0, 0,   3,
    '1', 0,   14,  0,   0,   0,   16,  95,  'i', 'd', 0,   2, 0, 0, 0,   0, 0,   8, 'o', 'r',
    'd', 'e', 'r', 'e', 'd', 0,   0,   2,   36,  'd', 'b', 0, 2, 0, 0,   0, 'd', 0, 0};
static const uint8_t operators[] = {
    242, 0,   0,   0,   2,   'u', 'p', 'd', 'a', 't', 'e', 0,   2,   0,   0,   0,   'c', 0,   4,
    'u', 'p', 'd', 'a', 't', 'e', 's', 0,   203, 0,   0,   0,   3,   '0', 0,   195, 0,   0,   0,
    3,   'q', 0,   14,  0,   0,   0,   16,  95,  'i', 'd', 0,   1,   0,   0,   0,   0,   3,   'u',
    0,   127, 0,   0,   0,   3,   36,  's', 'e', 't', 0,   27,  0,   0,   0,   1,   'a', 46,  'b',
    0,   0,   0,   0,   0,   0,   0,   248, 63,  2,   's', 0,   2,   0,   0,   0,   'x', 0,   0,
    3,   36,  'i', 'n', 'c', 0,   12,  0,   0,   0,   16,  'n', 0,   1,   0,   0,   0,   0,   3,
    36,  'u', 'n', 's', 'e', 't', 0,   13,  0,   0,   0,   2,   'm', 0,   1,   0,   0,   0,   0,
    0,   3,   36,  'c', 'u', 'r', 'r', 'e', 'n', 't', 'D', 'a', 't', 'e', 0,   10,  0,   0,   0,
    8,   'a', 't', 0,   1,   0,   3,   36,  's', 'e', 't', 'O', 'n', 'I', 'n', 's', 'e', 'r', 't',
    0,   12,  0,   0,   0,   16,  'z', 0,   1,   0,   0,   0,   0,   0,   8,   'u', 'p', 's', 'e',
    'r', 't', 0,   1,   4,   'a', 'r', 'r', 'a', 'y', 'F', 'i', 'l', 't', 'e', 'r', 's', 0,   20,
    0,   0,   0,   3,   '0', 0,   12,  0,   0,   0,   16,  'e', 0,   1,   0,   0,   0,   0,   0,
    0,   0,   2,   36,  'd', 'b', 0,   2,   0,   0,   0,   'd', 0,   0};
static const uint8_t pipeline[] = {
    250, 0,   0,   0,   2,   'u', 'p', 'd', 'a', 't', 'e', 0,   2,   0,   0,   0,   'c', 0,
    4,   'u', 'p', 'd', 'a', 't', 'e', 's', 0,   181, 0,   0,   0,   3,   '0', 0,   173, 0,
    0,   0,   3,   'q', 0,   'E', 0,   0,   0,   4,   36,  'a', 'n', 'd', 0,   58,  0,   0,
    0,   3,   '0', 0,   '2', 0,   0,   0,   3,   36,  'e', 'x', 'p', 'r', 0,   38,  0,   0,
    0,   4,   36,  'l', 't', 0,   28,  0,   0,   0,   2,   '0', 0,   3,   0,   0,   0,   36,
    'a', 0,   2,   '1', 0,   6,   0,   0,   0,   36,  36,  'N', 'O', 'W', 0,   0,   0,   0,
    0,   0,   4,   'u', 0,   'U', 0,   0,   0,   3,   '0', 0,   'M', 0,   0,   0,   3,   36,
    's', 'e', 't', 0,   'B', 0,   0,   0,   2,   'a', 0,   6,   0,   0,   0,   36,  36,  'N',
    'O', 'W', 0,   3,   'b', 0,   17,  0,   0,   0,   3,   36,  'r', 'a', 'n', 'd', 0,   5,
    0,   0,   0,   0,   0,   3,   'l', 0,   25,  0,   0,   0,   2,   36,  'l', 'i', 't', 'e',
    'r', 'a', 'l', 0,   6,   0,   0,   0,   36,  36,  'N', 'O', 'W', 0,   0,   0,   0,   0,
    8,   'm', 'u', 'l', 't', 'i', 0,   1,   0,   0,   3,   'l', 'e', 't', 0,   25,  0,   0,
    0,   3,   'r', 0,   17,  0,   0,   0,   3,   36,  'r', 'a', 'n', 'd', 0,   5,   0,   0,
    0,   0,   0,   0,   2,   36,  'd', 'b', 0,   2,   0,   0,   0,   'd', 0,   0};
static const uint8_t removal[] = {
    134, 0,   0,   0,   2,   'd', 'e', 'l', 'e', 't', 'e', 0,   2,   0,   0,   0,   'c',
    0,   4,   'd', 'e', 'l', 'e', 't', 'e', 's', 0,   95,  0,   0,   0,   3,   '0', 0,
    'W', 0,   0,   0,   3,   'q', 0,   37,  0,   0,   0,   3,   'a', 0,   29,  0,   0,
    0,   4,   36,  'i', 'n', 0,   19,  0,   0,   0,   16,  '0', 0,   1,   0,   0,   0,
    16,  '1', 0,   2,   0,   0,   0,   0,   0,   0,   16,  'l', 'i', 'm', 'i', 't', 0,
    0,   0,   0,   0,   3,   'c', 'o', 'l', 'l', 'a', 't', 'i', 'o', 'n', 0,   20,  0,
    0,   0,   2,   'l', 'o', 'c', 'a', 'l', 'e', 0,   3,   0,   0,   0,   'e', 'n', 0,
    0,   0,   0,   2,   36,  'd', 'b', 0,   2,   0,   0,   0,   'd', 0,   0};
static const uint8_t bulk[] = {
    2,   1,   0,   0,   16,  'b', 'u', 'l', 'k', 'W', 'r', 'i', 't', 'e', 0,   1,   0,   0,   0,
    4,   'o', 'p', 's', 0,   172, 0,   0,   0,   3,   '0', 0,   39,  0,   0,   0,   16,  'i', 'n',
    's', 'e', 'r', 't', 0,   0,   0,   0,   0,   3,   'd', 'o', 'c', 'u', 'm', 'e', 'n', 't', 0,
    12,  0,   0,   0,   16,  'a', 0,   1,   0,   0,   0,   0,   0,   3,   '1', 0,   'J', 0,   0,
    0,   16,  'u', 'p', 'd', 'a', 't', 'e', 0,   0,   0,   0,   0,   3,   'f', 'i', 'l', 't', 'e',
    'r', 0,   5,   0,   0,   0,   0,   3,   'u', 'p', 'd', 'a', 't', 'e', 'M', 'o', 'd', 's', 0,
    23,  0,   0,   0,   3,   36,  's', 'e', 't', 0,   12,  0,   0,   0,   16,  'a', 0,   1,   0,
    0,   0,   0,   0,   8,   'u', 'p', 's', 'e', 'r', 't', 0,   1,   0,   3,   '2', 0,   45,  0,
    0,   0,   16,  'd', 'e', 'l', 'e', 't', 'e', 0,   0,   0,   0,   0,   3,   'f', 'i', 'l', 't',
    'e', 'r', 0,   12,  0,   0,   0,   16,  'a', 0,   1,   0,   0,   0,   0,   8,   'm', 'u', 'l',
    't', 'i', 0,   1,   0,   0,   4,   'n', 's', 'I', 'n', 'f', 'o', 0,   25,  0,   0,   0,   3,
    '0', 0,   17,  0,   0,   0,   2,   'n', 's', 0,   4,   0,   0,   0,   'd', 46,  'c', 0,   0,
    0,   8,   'e', 'r', 'r', 'o', 'r', 's', 'O', 'n', 'l', 'y', 0,   0,   2,   36,  'd', 'b', 0,
    6,   0,   0,   0,   'a', 'd', 'm', 'i', 'n', 0,   0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {insert, sizeof(insert)},   {operators, sizeof(operators)}, {pipeline, sizeof(pipeline)},
    {removal, sizeof(removal)}, {bulk, sizeof(bulk)},           {NULL, 0},
};

/* A printable text of its size, within its bound. */
static void require_text(const char *text, size_t size, size_t size_max)
{
    FUZZ_REQUIRE(size <= size_max);
    FUZZ_REQUIRE(bson_utf8_validate(text, size, false));
    for (size_t i = 0; i < size; i++) {
        FUZZ_REQUIRE((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
    }
}

static void check_shape(const struct command_view *view, const struct op_msg *message,
                        struct text_table *texts, struct sequence *sequence)
{
    struct shape shape;
    shape_make(view, message, &shape);
    FUZZ_REQUIRE(strlen(shape.text) == shape.size && shape.size > 0);
    require_text(shape.text, shape.size, SHAPE_BYTES_MAX);
    sequence_append(sequence, texts, &shape, text_hash(0, shape.text, shape.size));
}

/* The whole input as a document of a sequence that the command names. */
static void check_in_sequence(const struct command_view *view, struct slice input,
                              struct text_table *texts, struct sequence *sequence)
{
    static const char *const names[] = {"documents", "updates", "deletes", "ops", "nsInfo"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t head = 5 + strlen(names[i]) + 1;
        uint8_t *bytes = malloc(head + 2 * input.size);
        FUZZ_REQUIRE(bytes != NULL);
        bytes[0] = 1;
        slice_store_u32le(bytes + 1, (uint32_t)(head - 1 + 2 * input.size));
        memcpy(bytes + 5, names[i], strlen(names[i]) + 1);
        memcpy(bytes + head, input.data, input.size);
        memcpy(bytes + head + input.size, input.data, input.size);
        struct op_msg message = {.body = view->body,
                                 .sections = slice_make(bytes, head + 2 * input.size),
                                 .has_sequence = true};
        check_shape(view, &message, texts, sequence);
        free(bytes);
    }
}

static void check_route(struct slice input)
{
    char target[512];
    char route[ROUTE_BYTES_MAX + 1];
    size_t size = input.size < sizeof target - 1 ? input.size : sizeof target - 1;
    memcpy(target, input.data, size);
    target[size] = '\0';
    for (size_t i = 0; i < size; i++) { /* NULs end it: let most inputs be long */
        if (target[i] == '\0') {
            target[i] = '/';
        }
    }
    struct route_table *table = route_table_new();
    FUZZ_REQUIRE(table != NULL);
    require_text(route, route_make(table, "s", "GET", target, route), ROUTE_BYTES_MAX);
    route_table_free(table);
    require_text(route, text_clean(TEXT_PLAIN, input, route, 40), 40);
    require_text(route, text_clean(TEXT_NAME, input, route, 40), 40);
}

bool fuzz_one(struct slice input)
{
    struct command_view view;
    struct op_msg message = {.body = input};
    if (input.size < 600) {
        check_route(input);
    }
    if (command_view_parse(input, &view, NULL) != STATUS_OK) {
        return false;
    }
    struct sequence sequence = {.count = 0};
    struct text_table *texts = text_table_new(0);
    FUZZ_REQUIRE(texts != NULL);
    check_shape(&view, &message, texts, &sequence);
    check_in_sequence(&view, input, texts, &sequence);
    FUZZ_REQUIRE(sequence.count > 0 && sequence.count <= OBSERVE_SEQUENCE_MAX);
    sequence_release(&sequence, texts);
    text_table_free(texts);
    return true;
}
