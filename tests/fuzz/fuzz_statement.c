/*
 * Reaches: statement_list_parse and what is done with a statement before anything is sent:
 * literals_replace, apply_update, insert_document_make, equality_collect, new_id_make.
 */

#include "fuzz/fuzz.h"

#include <string.h>

#include "engine/apply_update.h"
#include "engine/equality.h"
#include "engine/insert_document.h"
#include "engine/literals.h"
#include "engine/new_id.h"
#include "engine/statement.h"
#include "wire/bson_check.h"

/* {insert: 'c', documents: [{a: 1, t: Timestamp(0, 0)}, {_id: 2}], ordered: false, $db: 'd'} */
static const uint8_t insert[] = {
    'c', 0,   0,   0,   2,   'i', 'n', 's', 'e', 'r', 't', 0, 2, 0, 0,   0, 'c', 0, 4,   'd',
    'o', 'c', 'u', 'm', 'e', 'n', 't', 's', 0,   '0', 0,   0, 0, 3, '0', 0, 23,  0, 0,   0,
    16,  'a', 0,   1,   0,   0,   0,   17,  't', 0,   0,   0, 0, 0, 0,   0, 0,   0, 0,   3,
    '1', 0,   14,  0,   0,   0,   16,  95,  'i', 'd', 0,   2, 0, 0, 0,   0, 0,   8, 'o', 'r',
    'd', 'e', 'r', 'e', 'd', 0,   0,   2,   36,  'd', 'b', 0, 2, 0, 0,   0, 'd', 0, 0};
/* operators on plain and deep paths, with $currentDate and an array filter */
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
/* a pipeline with time and random values, a filter with $expr, variables */
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
/* a replacement, a removal */
static const uint8_t replace[] = {
    131, 0,   0, 0, 2,   'f', 'i', 'n', 'd', 'A', 'n', 'd', 'M', 'o', 'd', 'i', 'f', 'y', 0,
    2,   0,   0, 0, 'c', 0,   3,   'q', 'u', 'e', 'r', 'y', 0,   12,  0,   0,   0,   16,  'a',
    0,   1,   0, 0, 0,   0,   3,   's', 'o', 'r', 't', 0,   12,  0,   0,   0,   16,  'a', 0,
    1,   0,   0, 0, 0,   3,   'u', 'p', 'd', 'a', 't', 'e', 0,   23,  0,   0,   0,   18,  'x',
    0,   5,   0, 0, 0,   0,   0,   0,   0,   11,  'r', 0,   'a', 0,   'i', 0,   0,   8,   'n',
    'e', 'w', 0, 1, 3,   'f', 'i', 'e', 'l', 'd', 's', 0,   12,  0,   0,   0,   16,  'x', 0,
    1,   0,   0, 0, 0,   2,   36,  'd', 'b', 0,   2,   0,   0,   0,   'd', 0,   0};
static const uint8_t removal[] = {
    134, 0,   0,   0,   2,   'd', 'e', 'l', 'e', 't', 'e', 0,   2,   0,   0,   0,   'c',
    0,   4,   'd', 'e', 'l', 'e', 't', 'e', 's', 0,   95,  0,   0,   0,   3,   '0', 0,
    'W', 0,   0,   0,   3,   'q', 0,   37,  0,   0,   0,   3,   'a', 0,   29,  0,   0,
    0,   4,   36,  'i', 'n', 0,   19,  0,   0,   0,   16,  '0', 0,   1,   0,   0,   0,
    16,  '1', 0,   2,   0,   0,   0,   0,   0,   0,   16,  'l', 'i', 'm', 'i', 't', 0,
    0,   0,   0,   0,   3,   'c', 'o', 'l', 'l', 'a', 't', 'i', 'o', 'n', 0,   20,  0,
    0,   0,   2,   'l', 'o', 'c', 'a', 'l', 'e', 0,   3,   0,   0,   0,   'e', 'n', 0,
    0,   0,   0,   2,   36,  'd', 'b', 0,   2,   0,   0,   0,   'd', 0,   0};
/* a bulkWrite of all kinds */
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
    {insert, sizeof(insert)},
    {operators, sizeof(operators)},
    {pipeline, sizeof(pipeline)},
    {replace, sizeof(replace)},
    {removal, sizeof(removal)},
    {bulk, sizeof(bulk)},
    {NULL, 0},
};

/* { _id: 1, a: { b: 2 }, n: 3, m: "x" } */
static const uint8_t before[] = {45, 0,  0, 0, 16, '_', 'i', 'd', 0, 1, 0, 0, 0,   3,  'a',
                                 0,  12, 0, 0, 0,  16,  'b', 0,   2, 0, 0, 0, 0,   16, 'n',
                                 0,  3,  0, 0, 0,  2,   'm', 0,   2, 0, 0, 0, 'x', 0,  0};
static const uint8_t key[] = {14, 0, 0, 0, 16, '_', 'i', 'd', 0, 1, 0, 0, 0, 0};

static void require_sound(const bson_t *made)
{
    FUZZ_REQUIRE(bson_check(slice_make(bson_get_data(made), made->len), NULL) == STATUS_OK);
}

static void require_sound_or_empty(struct slice part)
{
    FUZZ_REQUIRE(part.size == 0 || bson_check(part, NULL) == STATUS_OK);
}

static void check_insert(const struct statement *statement)
{
    bson_t id = BSON_INITIALIZER;
    bson_t *made = insert_document_make(statement->document, &id);
    require_sound(made);
    FUZZ_REQUIRE(bson_has_field(&id, "_id"));
    bson_destroy(made);
    bson_destroy(&id);
}

static void check_update(const struct statement *statement, struct slice image)
{
    const struct update_rules rules = {.update_fields = FIELD_ORDER_SORTED,
                                       .upsert_fields = FIELD_ORDER_AS_GIVEN};
    bson_t after = BSON_INITIALIZER;
    if (apply_update(statement, image, slice_make(key, sizeof(key)), &rules, &after)) {
        require_sound(&after);
    } else {
        FUZZ_REQUIRE(after.len == 5);
    }
    bson_destroy(&after);
}

static void check_statement(const struct statement *statement)
{
    bson_t equalities = BSON_INITIALIZER;
    bson_t id = BSON_INITIALIZER;
    require_sound_or_empty(statement->filter);
    require_sound_or_empty(statement->update);
    require_sound_or_empty(statement->variables);
    if (statement->kind == STATEMENT_INSERT) {
        check_insert(statement);
    } else {
        equality_collect(statement->filter, &equalities);
        require_sound(&equalities);
    }
    if (statement->kind == STATEMENT_UPDATE) {
        bson_t *fixed = literals_replace(statement->update, LITERALS_RANDOM, 0);
        require_sound(fixed);
        bson_destroy(fixed);
        check_update(statement, slice_make(before, sizeof(before)));
        check_update(statement, (struct slice){0});
        if (!new_id_is_computed(statement)) {
            new_id_make(statement, &id);
            require_sound(&id);
        }
    }
    bson_destroy(&id);
    bson_destroy(&equalities);
}

bool fuzz_one(struct slice input)
{
    struct command_view view;
    struct statement_list list;
    struct op_msg message = {.body = input};
    struct error error = {0};
    int code = 0;
    if (command_view_parse(input, &view, NULL) != STATUS_OK) {
        return false;
    }
    if (statement_list_parse(&view, &message, &list, &code, &error) != STATUS_OK) {
        FUZZ_REQUIRE(code != 0 && error.message[0] != '\0');
        return false;
    }
    FUZZ_REQUIRE(list.count > 0);
    for (size_t i = 0; i < list.count; i++) {
        check_statement(&list.statements[i]);
    }
    statement_list_free(&list);
    return true;
}
