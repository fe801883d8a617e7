/* The legacy hello: OP_QUERY and OP_REPLY, byte by byte, truncated at every byte, changed at
 * random. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/op_query.h"
#include "wire_bytes.h"

/* db.adminCommand({ hello: 1 }) as an old driver sends it. */
static const uint8_t query_fixture[] = {
    0x37, 0x00, 0x00, 0x00,                                   /*  0  length 55 */
    0x01, 0x00, 0x00, 0x00,                                   /*  4  request id 1 */
    0x00, 0x00, 0x00, 0x00,                                   /*  8  response to 0 */
    0xd4, 0x07, 0x00, 0x00,                                   /* 12  opcode 2004 */
    0x04, 0x00, 0x00, 0x00,                                   /* 16  flags: secondaryOk */
    'a',  'd',  'm',  'i',  'n', '.',  '$', 'c', 'm', 'd', 0, /* 20 */
    0x00, 0x00, 0x00, 0x00,                                   /* 31  skip 0 */
    0xff, 0xff, 0xff, 0xff,                                   /* 35  return -1 */
    0x10, 0x00, 0x00, 0x00,                                   /* 39  document of 16 bytes */
    0x10,                                                     /* 43    int32 */
    'h',  'e',  'l',  'l',  'o', 0x00,                        /* 44 */
    0x01, 0x00, 0x00, 0x00,                                   /* 50    1 */
    0x00,                                                     /* 54    end */
};

/* A reply with the document {}. */
static const uint8_t reply_fixture[] = {
    0x29, 0x00, 0x00, 0x00,                         /*  0  length 41 */
    0x09, 0x00, 0x00, 0x00,                         /*  4  request id 9 */
    0x01, 0x00, 0x00, 0x00,                         /*  8  response to 1 */
    0x01, 0x00, 0x00, 0x00,                         /* 12  opcode 1 */
    0x08, 0x00, 0x00, 0x00,                         /* 16  flags: AwaitCapable */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* 20  cursor 0 */
    0x00, 0x00, 0x00, 0x00,                         /* 28  starting from 0 */
    0x01, 0x00, 0x00, 0x00,                         /* 32  one document */
    0x05, 0x00, 0x00, 0x00, 0x00,                   /* 36  {} */
};

static void test_query_is_understood_and_made_again(void **state)
{
    (void)state;
    struct op_query query;
    struct buffer out;
    buffer_init(&out, 1024);
    assert_int_equal(op_query_parse(slice_make(query_fixture, sizeof(query_fixture)), &query),
                     STATUS_OK);
    assert_int_equal(query.flags, 4);
    assert_true(slice_equal(query.collection, slice_text("admin.$cmd")));
    assert_int_equal(query.skip, 0);
    assert_int_equal(query.count, -1);
    assert_true(slice_equal(query.query, slice_make(query_fixture + 39, 16)));
    assert_int_equal(op_query_append(&out, 1, &query), STATUS_OK);
    assert_true(slice_equal(buffer_slice(&out), slice_make(query_fixture, sizeof(query_fixture))));
    buffer_free(&out);
}

static void test_reply_is_understood_and_made_again(void **state)
{
    (void)state;
    struct slice document;
    struct buffer out;
    buffer_init(&out, 60);
    assert_int_equal(op_reply_parse(slice_make(reply_fixture, sizeof(reply_fixture)), &document),
                     STATUS_OK);
    assert_true(slice_equal(document, slice_make(reply_fixture + 36, 5)));
    assert_int_equal(op_reply_append(&out, 9, 1, document), STATUS_OK);
    assert_true(slice_equal(buffer_slice(&out), slice_make(reply_fixture, sizeof(reply_fixture))));
    assert_int_equal(op_reply_append(&out, 9, 1, document), STATUS_LIMIT);
    assert_int_equal(op_reply_append(&out, 9, 1, slice_text("no document")), STATUS_INVALID);
    assert_int_equal(out.size, sizeof(reply_fixture));
    buffer_free(&out);
}

static void test_query_append_refuses_bad_names(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init(&out, 1024);
    struct op_query query = {.query = slice_make(query_fixture + 39, 16)};
    assert_int_equal(op_query_append(&out, 1, &query), STATUS_INVALID);
    query.collection = slice_make("a\0b", 3);
    assert_int_equal(op_query_append(&out, 1, &query), STATUS_INVALID);
    assert_int_equal(out.size, 0);
    buffer_free(&out);
}

/* Both parsers on both fixtures, with the true length and with one that agrees with the cut. */
static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    static const struct {
        const uint8_t *bytes;
        size_t size;
    } fixtures[] = {{query_fixture, sizeof(query_fixture)}, {reply_fixture, sizeof(reply_fixture)}};
    for (size_t f = 0; f < 2; f++) {
        for (size_t size = 0; size < fixtures[f].size; size++) {
            for (int agree = 0; agree < 2; agree++) {
                uint8_t bytes[64];
                struct op_query query;
                struct slice document;
                memcpy(bytes, fixtures[f].bytes, fixtures[f].size);
                if (agree == 1 && size >= 4) {
                    slice_store_u32le(bytes, (uint32_t)size);
                }
                struct slice copy = exact_copy(bytes, size);
                assert_int_equal(op_query_parse(copy, &query), STATUS_PROTOCOL);
                assert_int_equal(op_reply_parse(copy, &document), STATUS_PROTOCOL);
                exact_free(copy);
            }
        }
    }
}

static void test_reply_with_other_than_one_document(void **state)
{
    (void)state;
    uint8_t bytes[sizeof(reply_fixture)];
    struct slice document;
    for (uint8_t count = 0; count < 4; count++) {
        memcpy(bytes, reply_fixture, sizeof(bytes));
        bytes[32] = count;
        assert_int_equal(op_reply_parse(slice_make(bytes, sizeof(bytes)), &document),
                         count == 1 ? STATUS_OK : STATUS_PROTOCOL);
    }
}

static void test_random_changes(void **state)
{
    (void)state;
    uint32_t random = 42;
    for (int round = 0; round < 60000; round++) {
        uint8_t bytes[64];
        size_t size = round % 2 == 0 ? sizeof(query_fixture) : sizeof(reply_fixture);
        memcpy(bytes, round % 2 == 0 ? query_fixture : reply_fixture, size);
        bytes_mutate(bytes + 12, size - 12, &random);
        struct slice copy = exact_copy(bytes, size);
        struct op_query query;
        struct slice document;
        if (op_query_parse(copy, &query) == STATUS_OK) {
            assert_true(query.query.data + query.query.size <= copy.data + copy.size);
            assert_int_equal(query.collection.data[query.collection.size], 0);
        }
        if (op_reply_parse(copy, &document) == STATUS_OK) {
            assert_ptr_equal(document.data + document.size, copy.data + copy.size);
        }
        exact_free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query_is_understood_and_made_again),
        cmocka_unit_test(test_reply_is_understood_and_made_again),
        cmocka_unit_test(test_query_append_refuses_bad_names),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_reply_with_other_than_one_document),
        cmocka_unit_test(test_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
