/*
 * Reaches: command_view_parse, command_copy_without, bson_check, bson_fields_open,
 * bson_element_next and its helpers.
 */

#include "fuzz/fuzz.h"

#include "wire/bson_check.h"
#include "wire/bson_walk.h"
#include "wire/command.h"

/* { insert: "c", $db: "d", autocommit: false, writeConcern: { w: 0 } } */
static const uint8_t insert[] = {
    'E', 0,   0,   0,   2, 'i', 'n', 's', 'e', 'r', 't', 0,   2,   0,   0,   0,   'c', 0,
    2,   '$', 'd', 'b', 0, 2,   0,   0,   0,   'd', 0,   8,   'a', 'u', 't', 'o', 'c', 'o',
    'm', 'm', 'i', 't', 0, 0,   3,   'w', 'r', 'i', 't', 'e', 'C', 'o', 'n', 'c', 'e', 'r',
    'n', 0,   12,  0,   0, 0,   16,  'w', 0,   0,   0,   0,   0,   0,   0};
/* { ping: 1, lsid: { id: UUID }, txnNumber: 1, readConcern: { level: "x" } } */
static const uint8_t session[] = {
    'e', 0,   0,   0,   16,  'p', 'i', 'n', 'g', 0,   1,   0,   0,   0,  3,  'l', 's',
    'i', 'd', 0,   30,  0,   0,   0,   5,   'i', 'd', 0,   16,  0,   0,  0,  4,   0,
    1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14, 15, 0,   18,
    't', 'x', 'n', 'N', 'u', 'm', 'b', 'e', 'r', 0,   1,   0,   0,   0,  0,  0,   0,
    0,   3,   'r', 'e', 'a', 'd', 'C', 'o', 'n', 'c', 'e', 'r', 'n', 0,  18, 0,   0,
    0,   2,   'l', 'e', 'v', 'e', 'l', 0,   2,   0,   0,   0,   'x', 0,  0,  0};
/* { f: code with scope, r: /a/i, d: decimal, p: pointer, b: true } */
static const uint8_t types[] = {
    'R', 0,   0, 0, 15, 'f', 0, 23, 0, 0,  0,   2, 0,   0,  0,   'g', 0,  13,  0, 0, 0,
    3,   'a', 0, 5, 0,  0,   0, 0,  0, 11, 'r', 0, 'a', 0,  'i', 0,   19, 'd', 0, 1, 0,
    0,   0,   0, 0, 0,  0,   0, 0,  0, 0,  0,   0, 64,  48, 12,  'p', 0,  2,   0, 0, 0,
    'c', 0,   0, 1, 2,  3,   4, 5,  6, 7,  8,   9, 10,  11, 8,   'b', 0,  1,   0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {insert, sizeof(insert)},
    {session, sizeof(session)},
    {types, sizeof(types)},
    {NULL, 0},
};

static void check_text(struct slice body, const char *text)
{
    if (text != NULL) {
        FUZZ_REQUIRE(fuzz_inside(body, slice_make(text, strlen(text) + 1)));
    }
}

bool fuzz_one(struct slice input)
{
    static const char *const removed[] = {"$db", "lsid", "autocommit", NULL};
    struct command_view view;
    struct error error = {0};
    bson_t copy;
    bson_iter_t iter;
    bool sound = bson_check(input, &error) == STATUS_OK;
    FUZZ_REQUIRE(sound || error.message[0] != '\0');
    error = (struct error){0};
    if (command_view_parse(input, &view, &error) != STATUS_OK) {
        FUZZ_REQUIRE(error.status == STATUS_INVALID && error.message[0] != '\0');
    } else {
        check_text(input, view.name);
        check_text(input, view.collection);
        check_text(input, view.database);
        check_text(input, view.read_concern_level);
        FUZZ_REQUIRE(fuzz_inside(input, view.session_id));
        FUZZ_REQUIRE(view.session_id.size == 0 || view.session_id.size == 16);
        FUZZ_REQUIRE(view.max_time_ms >= 0 && view.transaction_number >= 0);
    }
    if (command_copy_without(&copy, input, removed) == STATUS_OK) {
        FUZZ_REQUIRE(bson_iter_init(&iter, &copy));
        FUZZ_REQUIRE(!sound || (!bson_has_field(&copy, "$db") && !bson_has_field(&copy, "lsid")));
        FUZZ_REQUIRE(!sound ||
                     bson_check(slice_make(bson_get_data(&copy), copy.len), NULL) == STATUS_OK);
        bson_destroy(&copy);
    } else {
        FUZZ_REQUIRE(!sound);
    }
    return sound;
}
