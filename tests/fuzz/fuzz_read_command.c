/*
 * Reaches: read_command_parse, read_command_analyse, read_command_point_key, rewrite_read and
 * overlay_append with an image, rewrite_original; rewrite_reply with the input as the reply.
 */

#include "fuzz/fuzz.h"

#include "read/rewrite.h"
#include "wire/bson_check.h"

/* {find: 'c', filter: {_id: 1}, sort: {a: 1}, limit: 2, $db: 'd'} */
static const uint8_t point[] = {
    'O', 0,   0,   0, 2,  'f', 'i', 'n', 'd', 0,   2,   0,   0, 0, 'c', 0, 3,   'f', 'i', 'l',
    't', 'e', 'r', 0, 14, 0,   0,   0,   16,  '_', 'i', 'd', 0, 1, 0,   0, 0,   0,   3,   's',
    'o', 'r', 't', 0, 12, 0,   0,   0,   16,  'a', 0,   1,   0, 0, 0,   0, 16,  'l', 'i', 'm',
    'i', 't', 0,   2, 0,  0,   0,   2,   36,  'd', 'b', 0,   2, 0, 0,   0, 'd', 0,   0};
/* {aggregate: 'c', pipeline: [{$match: {a: 1}}, {$facet: {f: [{$unionWith: 'e'}]}}], $db: 'd'} */
static const uint8_t pipeline[] = {
    131, 0, 0,  0,   2,   'a', 'g', 'g', 'r', 'e', 'g', 'a', 't', 'e', 0,   2,   0,   0,   0,
    'c', 0, 4,  'p', 'i', 'p', 'e', 'l', 'i', 'n', 'e', 0,   'X', 0,   0,   0,   3,   48,  0,
    25,  0, 0,  0,   3,   36,  'm', 'a', 't', 'c', 'h', 0,   12,  0,   0,   0,   16,  'a', 0,
    1,   0, 0,  0,   0,   0,   3,   49,  0,   52,  0,   0,   0,   3,   36,  'f', 'a', 'c', 'e',
    't', 0, 39, 0,   0,   0,   4,   'f', 0,   31,  0,   0,   0,   3,   48,  0,   23,  0,   0,
    0,   2, 36, 'u', 'n', 'i', 'o', 'n', 'W', 'i', 't', 'h', 0,   2,   0,   0,   0,   'e', 0,
    0,   0, 0,  0,   0,   2,   36,  'd', 'b', 0,   2,   0,   0,   0,   'd', 0,   0};
/* {distinct: 'c', key: 'a.b', $db: 'd'} */
static const uint8_t distinct[] = {
    45,  0, 0, 0, 2, 'd', 'i', 's', 't', 'i', 'n', 'c', 't', 0,   2, 0, 0, 0, 'c', 0,   2, 'k', 'e',
    'y', 0, 4, 0, 0, 0,   'a', 46,  'b', 0,   2,   36,  'd', 'b', 0, 2, 0, 0, 0,   'd', 0, 0};
/* {count: 'c', query: {a: 1}, limit: -2, $db: 'd'} */
static const uint8_t count[] = {
    59,  0,   0,   0,   2,   'c', 'o', 'u', 'n', 't', 0,   2, 0, 0, 0, 'c', 0,   3,   'q', 'u',
    'e', 'r', 'y', 0,   12,  0,   0,   0,   16,  'a', 0,   1, 0, 0, 0, 0,   16,  'l', 'i', 'm',
    'i', 't', 0,   254, 255, 255, 255, 2,   36,  'd', 'b', 0, 2, 0, 0, 0,   'd', 0,   0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {point, sizeof(point)},
    {pipeline, sizeof(pipeline)},
    {distinct, sizeof(distinct)},
    {count, sizeof(count)},
    {NULL, 0},
};

/* { _id: 1, a: 2 } and its key */
static const uint8_t image[] = {21, 0, 0,  0,   16, '_', 'i', 'd', 0, 1, 0,
                                0,  0, 16, 'a', 0,  2,   0,   0,   0, 0};
static const uint8_t key[] = {14, 0, 0, 0, 16, '_', 'i', 'd', 0, 1, 0, 0, 0, 0};

static void require_sound(bson_t *made)
{
    FUZZ_REQUIRE(bson_check(slice_make(bson_get_data(made), made->len), NULL) == STATUS_OK);
    bson_destroy(made);
}

static void check_rewrite(const struct read_command *command, enum read_form form)
{
    const struct overlay_image images[] = {
        {.key = slice_make(key, sizeof key), .document = slice_make(image, sizeof image)}};
    const struct rewrite_options options = {.max_time_ms = 5,
                                            .only_images = form == READ_FORM_POINT};
    bson_t made;
    if ((form == READ_FORM_OVERLAY || form == READ_FORM_POINT) &&
        rewrite_read(command, images, 1, &options, &made) == STATUS_OK) {
        require_sound(&made);
    }
    FUZZ_REQUIRE(rewrite_original(command, &options, &made) == STATUS_OK);
    require_sound(&made);
}

static void check_reply(const struct read_command *command, struct slice input)
{
    bson_t answer = BSON_INITIALIZER;
    (void)!rewrite_reply(command, input, &answer);
    bson_destroy(&answer);
}

bool fuzz_one(struct slice input)
{
    struct command_view view;
    struct read_command command;
    const char *why = NULL;
    if (command_view_parse(input, &view, NULL) != STATUS_OK ||
        read_command_parse(&view, &command) != STATUS_OK) {
        return false;
    }
    FUZZ_REQUIRE(command.gate_count >= 1 && command.gate_count <= READ_GATES_MAX);
    FUZZ_REQUIRE(fuzz_inside(input, command.filter) && fuzz_inside(input, command.pipeline));
    FUZZ_REQUIRE(command.limit >= 0 && command.skip >= 0 && command.batch_size >= 0);
    if (bson_check(input, NULL) != STATUS_OK) {
        return true;
    }
    enum read_form form = read_command_analyse(&command, &why);
    FUZZ_REQUIRE((form == READ_FORM_WAIT) == (why != NULL));
    check_rewrite(&command, form);
    check_reply(&command, input);
    return true;
}
