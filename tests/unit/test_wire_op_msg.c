/*
 * OP_MSG and the header: a fixture written byte by byte, every truncation, every lie about a
 * length, random changes. Each message under test lies in memory of exactly its size.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "holdfast/limits.h"
#include "wire/op_msg.h"
#include "wire_bytes.h"

/* { insert: "c" }, the sequence documents: [ {}, { x: null } ], and a checksum. */
static const uint8_t fixture[] = {
    0x48, 0x00, 0x00, 0x00,                                /*  0  length 72 */
    0x07, 0x00, 0x00, 0x00,                                /*  4  request id 7 */
    0x00, 0x00, 0x00, 0x00,                                /*  8  response to 0 */
    0xdd, 0x07, 0x00, 0x00,                                /* 12  opcode 2013 */
    0x01, 0x00, 0x00, 0x00,                                /* 16  flags: checksum present */
    0x00,                                                  /* 20  section kind 0 */
    0x13, 0x00, 0x00, 0x00,                                /* 21    a document of 19 bytes */
    0x02,                                                  /* 25    string */
    'i',  'n',  's',  'e',  'r',  't', 0x00,               /* 26 */
    0x02, 0x00, 0x00, 0x00,                                /* 33    2 bytes with NUL */
    'c',  0x00,                                            /* 37 */
    0x00,                                                  /* 39    end of the document */
    0x01,                                                  /* 40  section kind 1 */
    0x1b, 0x00, 0x00, 0x00,                                /* 41    27 bytes from here */
    'd',  'o',  'c',  'u',  'm',  'e', 'n',  't',  's', 0, /* 45 */
    0x05, 0x00, 0x00, 0x00, 0x00,                          /* 55    {} */
    0x08, 0x00, 0x00, 0x00, 0x0a, 'x', 0x00, 0x00,         /* 60    { x: null } */
    0xdf, 0x0b, 0x35, 0xd9,                                /* 68  CRC-32C of bytes 0 to 67 */
};

enum {
    FIXTURE_BODY = 21,
    FIXTURE_BODY_SIZE = 19,
    FIXTURE_SEQUENCE = 40,
    FIXTURE_SEQUENCE_SIZE = 28,
    FIXTURE_CHECKSUM = 68,
};

static struct slice fixture_body(void)
{
    return slice_make(fixture + FIXTURE_BODY, FIXTURE_BODY_SIZE);
}

static struct slice fixture_sequence(void)
{
    return slice_make(fixture + FIXTURE_SEQUENCE, FIXTURE_SEQUENCE_SIZE);
}

/* Parses the bytes as they are, in memory of exactly their size. */
static enum status parse_exact(const uint8_t *bytes, size_t size)
{
    struct op_msg message;
    struct slice copy = exact_copy(bytes, size);
    enum status status = op_msg_parse(copy, &message);
    exact_free(copy);
    return status;
}

/* The fixture without its checksum, for tests that change bytes. */
static size_t plain_fixture(uint8_t bytes[sizeof(fixture)])
{
    memcpy(bytes, fixture, FIXTURE_CHECKSUM);
    slice_store_u32le(bytes, FIXTURE_CHECKSUM);
    bytes[16] = 0;
    return FIXTURE_CHECKSUM;
}

static void test_header_round_trip_and_refusals(void **state)
{
    (void)state;
    uint8_t bytes[WIRE_HEADER_BYTES];
    struct wire_header header = {.length = 16, .request_id = -5, .response_to = INT32_MAX};
    static const int32_t known[] = {1, 2004, 2012, 2013};
    for (size_t i = 0; i < 4; i++) {
        struct wire_header parsed;
        header.opcode = known[i];
        wire_header_store(bytes, &header);
        assert_int_equal(wire_header_parse(slice_make(bytes, 16), &parsed), STATUS_OK);
        assert_memory_equal(&parsed, &header, sizeof(header));
    }
    for (size_t size = 0; size < WIRE_HEADER_BYTES; size++) {
        struct slice copy = exact_copy(bytes, size);
        struct wire_header untouched = {.length = 99};
        assert_int_equal(wire_header_parse(copy, &untouched), STATUS_PROTOCOL);
        assert_int_equal(untouched.length, 99);
        exact_free(copy);
    }
    static const struct {
        uint32_t length;
        int32_t opcode;
        enum status status;
    } cases[] = {
        {15, 2013, STATUS_PROTOCOL},
        {0, 2013, STATUS_PROTOCOL},
        {48000000, 2013, STATUS_OK},
        {48000001, 2013, STATUS_PROTOCOL},
        {0xffffffffu, 2013, STATUS_PROTOCOL},
        {16, 2002, STATUS_PROTOCOL},
        {16, 0, STATUS_PROTOCOL},
        {16, -1, STATUS_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct wire_header parsed;
        header.length = cases[i].length;
        header.opcode = cases[i].opcode;
        wire_header_store(bytes, &header);
        assert_int_equal(wire_header_parse(slice_make(bytes, 16), &parsed), cases[i].status);
    }
}

static void test_fixture_is_understood(void **state)
{
    (void)state;
    struct op_msg message;
    struct op_msg_sequence sequence;
    struct slice document;
    assert_int_equal(op_msg_parse(slice_make(fixture, sizeof(fixture)), &message), STATUS_OK);
    assert_int_equal(message.flags, OP_MSG_CHECKSUM_PRESENT);
    assert_int_equal(message.body_offset, FIXTURE_BODY);
    assert_true(slice_equal(message.body, fixture_body()));
    assert_true(message.has_sequence);
    struct slice sections = message.sections;
    assert_true(op_msg_sequence_next(&sections, &sequence));
    assert_true(slice_equal(sequence.identifier, slice_text("documents")));
    assert_true(bson_slice_next(&sequence.documents, &document));
    assert_int_equal(document.size, 5);
    assert_true(bson_slice_next(&sequence.documents, &document));
    assert_int_equal(document.size, 8);
    assert_false(bson_slice_next(&sequence.documents, &document));
    assert_int_equal(sequence.documents.size, 0);
    assert_false(op_msg_sequence_next(&sections, &sequence));
}

static void test_append_makes_what_parse_reads(void **state)
{
    (void)state;
    struct buffer out;
    struct op_msg message;
    struct wire_header header;
    buffer_init(&out, 1024);
    assert_int_equal(
        op_msg_append(&out, 3, 4, OP_MSG_EXHAUST_ALLOWED | OP_MSG_CHECKSUM_PRESENT, fixture_body()),
        STATUS_OK);
    size_t first = out.size;
    assert_int_equal(op_msg_append_with_sections(&out, 5, 6, OP_MSG_MORE_TO_COME, fixture_body(),
                                                 fixture_sequence()),
                     STATUS_OK);
    struct slice bytes = buffer_slice(&out);
    assert_int_equal(op_msg_parse(slice_make(bytes.data, first), &message), STATUS_OK);
    assert_int_equal(message.flags, OP_MSG_EXHAUST_ALLOWED);
    assert_false(message.has_sequence);
    assert_true(slice_equal(message.body, fixture_body()));
    struct slice second = slice_make(bytes.data + first, bytes.size - first);
    assert_int_equal(op_msg_parse(second, &message), STATUS_OK);
    assert_int_equal(wire_header_parse(second, &header), STATUS_OK);
    assert_int_equal(header.request_id, 5);
    assert_int_equal(header.response_to, 6);
    assert_int_equal(message.flags, OP_MSG_MORE_TO_COME);
    assert_true(message.has_sequence);
    buffer_free(&out);
}

static void test_append_refuses_and_changes_nothing(void **state)
{
    (void)state;
    struct buffer out;
    static const uint8_t not_a_document[] = {6, 0, 0, 0, 0};
    buffer_init(&out, 40);
    assert_int_equal(op_msg_append(&out, 1, 0, 0, fixture_body()), STATUS_OK);
    assert_int_equal(op_msg_append(&out, 1, 0, 0, fixture_body()), STATUS_LIMIT);
    assert_int_equal(op_msg_append(&out, 1, 0, 0, slice_make(not_a_document, 5)), STATUS_INVALID);
    assert_int_equal(op_msg_append(&out, 1, 0, 0, (struct slice){0}), STATUS_INVALID);
    struct slice huge = slice_make(fixture, LIMIT_MESSAGE_BYTES_MAX); /* never read */
    assert_int_equal(op_msg_append_with_sections(&out, 1, 0, 0, fixture_body(), huge),
                     STATUS_LIMIT);
    assert_int_equal(out.size, 40);
    buffer_free(&out);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[sizeof(fixture)];
    for (size_t size = 0; size < sizeof(fixture); size++) {
        assert_int_equal(parse_exact(fixture, size), STATUS_PROTOCOL);
        if (size >= WIRE_HEADER_BYTES) { /* once more, with a header that agrees */
            (void)plain_fixture(bytes);
            slice_store_u32le(bytes, (uint32_t)size);
            enum status status = parse_exact(bytes, size);
            bool whole = size == FIXTURE_CHECKSUM || size == FIXTURE_SEQUENCE;
            assert_int_equal(status, whole ? STATUS_OK : STATUS_PROTOCOL);
        }
    }
}

static void test_checksum_guards_every_byte(void **state)
{
    (void)state;
    uint8_t bytes[sizeof(fixture)];
    for (size_t at = 0; at < sizeof(fixture); at++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(bytes, fixture, sizeof(fixture));
            bytes[at] ^= (uint8_t)(1 << bit);
            bool is_the_flag_itself = at == 16 && bit == 0;
            if (!is_the_flag_itself) {
                assert_int_equal(parse_exact(bytes, sizeof(bytes)), STATUS_PROTOCOL);
            }
        }
    }
}

static void test_unknown_required_flags_are_refused(void **state)
{
    (void)state;
    uint8_t bytes[sizeof(fixture)];
    size_t size = plain_fixture(bytes);
    for (unsigned bit = 1; bit < 32; bit++) { /* bit 0 announces a checksum */
        slice_store_u32le(bytes + 16, 1u << bit);
        bool allowed = bit == 1 || bit >= 16;
        assert_int_equal(parse_exact(bytes, size), allowed ? STATUS_OK : STATUS_PROTOCOL);
    }
}

static void test_lying_lengths_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t honest;
    } lengths[] = {{0, 68}, {21, 19}, {41, 27}, {55, 5}, {60, 8}};
    uint8_t bytes[sizeof(fixture)];
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (uint32_t lie = 0; lie < 100; lie++) {
            size_t size = plain_fixture(bytes);
            slice_store_u32le(bytes + lengths[i].at, lie);
            /* Documents are only measured here: one may take in all that follows it exactly. */
            bool takes_the_rest = lengths[i].at + lie == size && lengths[i].at != 41;
            bool sound = lie == lengths[i].honest || takes_the_rest;
            assert_int_equal(parse_exact(bytes, size), sound ? STATUS_OK : STATUS_PROTOCOL);
            slice_store_u32le(bytes + lengths[i].at, lie | 0x80000000u);
            assert_int_equal(parse_exact(bytes, size), STATUS_PROTOCOL);
        }
    }
}

/* Appends a message of these sections, in this order; no checksum. */
static enum status parse_sections(const struct slice *sections, size_t count)
{
    struct buffer out;
    uint8_t front[20] = {0};
    buffer_init(&out, 4096);
    assert_int_equal(buffer_append(&out, front, sizeof(front)), STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(buffer_append(&out, sections[i].data, sections[i].size), STATUS_OK);
    }
    struct wire_header header = {.length = (uint32_t)out.size, .opcode = WIRE_OPCODE_MSG};
    wire_header_store(out.data, &header);
    enum status status = parse_exact(out.data, out.size);
    buffer_free(&out);
    return status;
}

static void test_sections_in_any_order_but_one_body(void **state)
{
    (void)state;
    struct slice body = slice_make(fixture + 20, 20);
    struct slice documents = fixture_sequence();
    static const uint8_t other_bytes[] = {1, 8, 0, 0, 0, 'o', 'p', 's', 0};
    static const uint8_t third_bytes[] = {1, 6, 0, 0, 0, 'z', 0};
    static const uint8_t insert_bytes[] = {1, 11, 0, 0, 0, 'i', 'n', 's', 'e', 'r', 't', 0};
    static const uint8_t kind_two[] = {2, 5, 0, 0, 0, 0};
    struct slice other = slice_make(other_bytes, sizeof(other_bytes));
    struct slice third = slice_make(third_bytes, sizeof(third_bytes));
    struct slice insert = slice_make(insert_bytes, sizeof(insert_bytes));
    struct slice unknown = slice_make(kind_two, sizeof(kind_two));
    const struct {
        struct slice sections[4];
        size_t count;
        enum status status;
    } cases[] = {
        {{body}, 1, STATUS_OK},
        {{body, documents}, 2, STATUS_OK},
        {{documents, body}, 2, STATUS_OK},
        {{documents, body, other}, 3, STATUS_OK},
        {{body, body}, 2, STATUS_PROTOCOL},
        {{documents}, 1, STATUS_PROTOCOL},
        {{body}, 0, STATUS_PROTOCOL},
        {{body, unknown}, 2, STATUS_PROTOCOL},
        {{body, documents, documents}, 3, STATUS_PROTOCOL}, /* one name twice */
        {{body, insert}, 2, STATUS_PROTOCOL},               /* a field of the body */
        {{body, documents, other, third}, 4, STATUS_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse_sections(cases[i].sections, cases[i].count), cases[i].status);
    }
}

/* A whole message that arrives byte by byte: never wrong, and the body as soon as it is here. */
static void test_body_is_seen_as_soon_as_it_is_here(void **state)
{
    (void)state;
    for (size_t size = 0; size <= sizeof(fixture); size++) {
        struct slice available = exact_copy(fixture, size);
        struct op_msg message = {.flags = 77};
        bool complete = false;
        assert_int_equal(op_msg_parse_available(available, sizeof(fixture), &complete, &message),
                         STATUS_OK);
        assert_int_equal(complete, size >= FIXTURE_BODY + FIXTURE_BODY_SIZE);
        if (complete) {
            assert_true(slice_equal(message.body, fixture_body()));
            assert_int_equal(message.body_offset, FIXTURE_BODY);
            assert_true(message.has_sequence);
            assert_int_equal(message.sections.size == 0, size < sizeof(fixture));
        } else {
            assert_int_equal(message.flags, 77);
        }
        exact_free(available);
    }
}

/* The checksum that is still to come is not taken for a sequence. */
static void test_announced_checksum_is_no_sequence(void **state)
{
    (void)state;
    uint8_t bytes[FIXTURE_SEQUENCE];
    struct op_msg message;
    bool complete = false;
    memcpy(bytes, fixture, sizeof(bytes));
    slice_store_u32le(bytes, FIXTURE_SEQUENCE + 4);
    assert_int_equal(op_msg_parse_available(slice_make(bytes, sizeof(bytes)), FIXTURE_SEQUENCE + 4,
                                            &complete, &message),
                     STATUS_OK);
    assert_true(complete);
    assert_false(message.has_sequence);
}

/* The sequence first: the body is found behind it. */
static void test_body_behind_a_sequence_is_found(void **state)
{
    (void)state;
    uint8_t bytes[FIXTURE_CHECKSUM];
    struct wire_header header = {.length = sizeof(bytes), .opcode = WIRE_OPCODE_MSG};
    memset(bytes, 0, sizeof(bytes));
    wire_header_store(bytes, &header);
    memcpy(bytes + 20, fixture + FIXTURE_SEQUENCE, FIXTURE_SEQUENCE_SIZE);
    memcpy(bytes + 48, fixture + 20, 20);
    for (size_t size = 0; size <= sizeof(bytes); size++) {
        struct slice available = exact_copy(bytes, size);
        struct op_msg message;
        bool complete = false;
        assert_int_equal(op_msg_parse_available(available, sizeof(bytes), &complete, &message),
                         STATUS_OK);
        assert_int_equal(complete, size == sizeof(bytes));
        if (complete) {
            assert_int_equal(message.body_offset, 49);
        }
        exact_free(available);
    }
}

/* A lie is found when its bytes are here, not when the message should have ended. */
static void test_lies_are_found_before_the_message_is_whole(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        size_t seen_with; /* bytes that must be here to see it */
    } lies[] = {
        {12, 0xd4, 20}, /* another opcode */
        {17, 0x80, 20}, /* an unknown flag */
        {20, 2, 21},    /* an unknown kind */
        {21, 4, 25},    /* a document shorter than one can be */
        {22, 1, 25},    /* a document longer than the message */
        {39, 1, 40},    /* no 0 at the document's end */
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        uint8_t bytes[sizeof(fixture)];
        memcpy(bytes, fixture, sizeof(fixture));
        bytes[lies[i].at] = lies[i].value;
        for (size_t size = 0; size < sizeof(fixture); size++) {
            struct slice available = exact_copy(bytes, size);
            struct op_msg message;
            bool complete = false;
            enum status status =
                op_msg_parse_available(available, sizeof(fixture), &complete, &message);
            bool seen = size >= lies[i].seen_with;
            assert_int_equal(status, seen ? STATUS_PROTOCOL : STATUS_OK);
            exact_free(available);
        }
    }
}

static void test_messages_too_short_for_a_body(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0};
    for (uint32_t length = 16; length < 26; length++) {
        struct wire_header header = {.length = length, .opcode = WIRE_OPCODE_MSG};
        struct op_msg message;
        bool complete = false;
        wire_header_store(bytes, &header);
        assert_int_equal(parse_exact(bytes, length), STATUS_PROTOCOL);
        enum status status =
            op_msg_parse_available(slice_make(bytes, length), length, &complete, &message);
        assert_int_equal(status, STATUS_PROTOCOL);
    }
}

static void test_document_cutting(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {5, 0, 0, 0, 0, 5, 0, 0, 0, 1};
    struct slice documents = slice_make(bytes, sizeof(bytes));
    struct slice document;
    assert_true(bson_slice_next(&documents, &document));
    assert_false(bson_slice_next(&documents, &document)); /* its last byte is 1 */
    assert_int_equal(documents.size, 5);
    for (size_t size = 0; size < 5; size++) {
        struct slice copy = exact_copy(bytes, size);
        struct slice rest = copy;
        assert_false(bson_slice_next(&rest, &document));
        exact_free(copy);
    }
}

/* What random bytes parse to must lie inside them; the prefix parser never contradicts the other.
 */
static void test_random_changes(void **state)
{
    (void)state;
    uint32_t random = 4711;
    int accepted = 0;
    for (int round = 0; round < 60000; round++) {
        uint8_t bytes[sizeof(fixture)];
        size_t size = plain_fixture(bytes);
        bytes_mutate(bytes + 16, size - 16, &random);
        struct slice copy = exact_copy(bytes, size);
        struct op_msg message;
        struct op_msg partial;
        bool complete = false;
        enum status whole = op_msg_parse(copy, &message);
        size_t part = random_next(&random) % size;
        struct slice prefix = exact_copy(bytes, part);
        enum status available = op_msg_parse_available(prefix, (uint32_t)size, &complete, &partial);
        if (whole == STATUS_OK) {
            accepted++;
            assert_int_equal(available, STATUS_OK);
            assert_true(message.body.data >= copy.data &&
                        message.body.data + message.body.size <= copy.data + copy.size);
            assert_ptr_equal(message.body.data, copy.data + message.body_offset);
            struct slice sections = message.sections;
            struct op_msg_sequence sequence;
            int sequences = 0;
            while (op_msg_sequence_next(&sections, &sequence)) {
                sequences++;
            }
            assert_int_equal(sequences > 0, message.has_sequence);
            if (complete) {
                assert_true(slice_equal(partial.body, message.body));
                assert_int_equal(partial.has_sequence, message.has_sequence);
            }
        }
        exact_free(prefix);
        exact_free(copy);
    }
    assert_true(accepted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_round_trip_and_refusals),
        cmocka_unit_test(test_fixture_is_understood),
        cmocka_unit_test(test_append_makes_what_parse_reads),
        cmocka_unit_test(test_append_refuses_and_changes_nothing),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_checksum_guards_every_byte),
        cmocka_unit_test(test_unknown_required_flags_are_refused),
        cmocka_unit_test(test_lying_lengths_are_refused),
        cmocka_unit_test(test_sections_in_any_order_but_one_body),
        cmocka_unit_test(test_body_is_seen_as_soon_as_it_is_here),
        cmocka_unit_test(test_announced_checksum_is_no_sequence),
        cmocka_unit_test(test_body_behind_a_sequence_is_found),
        cmocka_unit_test(test_lies_are_found_before_the_message_is_whole),
        cmocka_unit_test(test_messages_too_short_for_a_body),
        cmocka_unit_test(test_document_cutting),
        cmocka_unit_test(test_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
