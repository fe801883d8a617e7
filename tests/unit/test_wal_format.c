/*
 * The journal's bytes: the checksum is the standard one, what was written is read back, and nothing
 * else is: each single flipped bit and each missing byte of a record or row is noticed.
 */

#include "wal/format.h"

#include "wal/directory.h"
#include "wal_fixture.h"

static void test_crc32c_is_the_standard_one(void **state)
{
    (void)state;
    assert_int_equal(format_crc32c(0, slice_text("123456789")), 0xE3069283u);
    assert_int_equal(format_crc32c(0, slice_make(NULL, 0)), 0);
    /* RFC 3720, B.4: 32 bytes of zeros */
    uint8_t zeros[32] = {0};
    assert_int_equal(format_crc32c(0, slice_make(zeros, sizeof(zeros))), 0x8A9136AAu);
    uint32_t front = format_crc32c(0, slice_text("1234"));
    assert_int_equal(format_crc32c(front, slice_text("56789")), 0xE3069283u);
}

static const struct wal_record sample = {
    .lsn = 7,
    .unit = 3,
    .previous_lsn = 5,
    .time_ms = 1700000000123,
    .kind = WAL_KIND_WRITE,
    .payload = {(const uint8_t *)"payload", 7},
};

static void test_record_round_trip(void **state)
{
    uint8_t room[FORMAT_RECORD_HEADER_BYTES + 7];
    struct wal_record record;
    (void)state;
    format_record_put(room, &sample);
    assert_int_equal(format_record_get(7, slice_make(room, sizeof(room)), &record, NULL),
                     STATUS_OK);
    assert_int_equal(record.lsn, 7);
    assert_int_equal(record.unit, 3);
    assert_int_equal(record.previous_lsn, 5);
    assert_int_equal(record.time_ms, 1700000000123);
    assert_int_equal(record.kind, WAL_KIND_WRITE);
    assert_true(slice_equal(record.payload, sample.payload));
}

/* The layout that format.h promises, byte by byte: a change of it needs a new version. */
static void test_record_layout(void **state)
{
    static const uint8_t expected[] = {
        'H', 'F', 'W', 'R',                          /* magic */
        1,                                           /* version */
        2,                                           /* kind: WRITE */
        0,   0,                                      /* zero */
        0,   0,   0,   7,                            /* payload length */
        0,   0,   0,   0,                            /* CRC-32C, compared below */
        0,   0,   0,   0,    0,    0,    0,    3,    /* unit */
        0,   0,   0,   0,    0,    0,    0,    7,    /* LSN */
        0,   0,   0,   0,    0,    0,    0,    5,    /* previous LSN */
        0,   0,   1,   0x8B, 0xCF, 0xE5, 0x68, 0x7B, /* time */
        'p', 'a', 'y', 'l',  'o',  'a',  'd',
    };
    uint8_t room[FORMAT_RECORD_HEADER_BYTES + 7];
    (void)state;
    assert_int_equal(sizeof(room), sizeof(expected));
    format_record_put(room, &sample);
    uint32_t crc = format_crc32c(0, slice_make(expected, 12));
    crc = format_crc32c(crc, slice_make(expected + 16, sizeof(expected) - 16));
    assert_int_equal(slice_load_u32be(room + 12), crc);
    memset(room + 12, 0, 4);
    assert_memory_equal(room, expected, sizeof(expected));
}

static void test_record_notices_each_flipped_bit_and_missing_byte(void **state)
{
    uint8_t room[FORMAT_RECORD_HEADER_BYTES + 7];
    struct wal_record record;
    (void)state;
    format_record_put(room, &sample);
    for (size_t bit = 0; bit < sizeof(room) * 8; bit++) {
        room[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(format_record_get(7, slice_make(room, sizeof(room)), &record, NULL),
                         STATUS_CORRUPT);
        room[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t size = 0; size < sizeof(room); size++) {
        assert_int_equal(format_record_get(7, slice_make(room, size), &record, NULL),
                         STATUS_CORRUPT);
    }
    assert_int_equal(format_record_get(8, slice_make(room, sizeof(room)), &record, NULL),
                     STATUS_CORRUPT);
}

static void assert_refused(struct wal_record bad, enum status expected)
{
    uint8_t room[FORMAT_RECORD_HEADER_BYTES + 7];
    struct wal_record record;
    format_record_put(room, &bad);
    assert_int_equal(format_record_get(bad.lsn, slice_make(room, sizeof(room)), &record, NULL),
                     expected);
}

static void test_record_refuses_contradictions(void **state)
{
    struct wal_record bad = sample;
    (void)state;
    bad.unit = 0;
    assert_refused(bad, STATUS_CORRUPT);
    bad = sample;
    bad.previous_lsn = 7;
    assert_refused(bad, STATUS_CORRUPT);
    bad = sample;
    bad.previous_lsn = 0;
    assert_refused(bad, STATUS_CORRUPT);
    bad = sample;
    bad.kind = WAL_KIND_BEGIN;
    assert_refused(bad, STATUS_CORRUPT);
    bad = sample;
    bad.kind = (enum wal_kind)99;
    assert_refused(bad, STATUS_CORRUPT);
    assert_refused(sample, STATUS_OK);
}

static void test_unit_row(void **state)
{
    struct format_unit unit = {
        .unit = {.unit = 9,
                 .first_lsn = 4,
                 .last_lsn = 6,
                 .begin_time_ms = 1,
                 .last_time_ms = 2,
                 .state = WAL_UNIT_CONFLICT},
        .session_key_size = 3,
        .session_key = "abc",
    };
    uint8_t row[FORMAT_UNIT_BYTES_MAX];
    struct format_unit read;
    (void)state;
    size_t size = format_unit_put(row, &unit);
    assert_int_equal(format_unit_get(9, slice_make(row, size), &read, NULL), STATUS_OK);
    /* Field by field: the bytes between them are anything. */
    assert_int_equal(read.unit.unit, unit.unit.unit);
    assert_int_equal(read.unit.first_lsn, unit.unit.first_lsn);
    assert_int_equal(read.unit.last_lsn, unit.unit.last_lsn);
    assert_int_equal(read.unit.begin_time_ms, unit.unit.begin_time_ms);
    assert_int_equal(read.unit.last_time_ms, unit.unit.last_time_ms);
    assert_int_equal(read.unit.state, unit.unit.state);
    assert_int_equal(read.session_key_size, 3);
    assert_memory_equal(read.session_key, "abc", 3);
    for (size_t bit = 0; bit < size * 8; bit++) {
        row[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(format_unit_get(9, slice_make(row, size), &read, NULL), STATUS_CORRUPT);
        row[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < size; cut++) {
        assert_int_equal(format_unit_get(9, slice_make(row, cut), &read, NULL), STATUS_CORRUPT);
    }
    assert_int_equal(format_unit_get(8, slice_make(row, size), &read, NULL), STATUS_CORRUPT);
}

static void test_other_rows(void **state)
{
    uint8_t open[FORMAT_OPEN_BYTES];
    uint8_t row[FORMAT_SESSION_BYTES];
    struct format_session session = {.transaction_number = -5, .unit = 2, .time_ms = 3};
    struct format_session read;
    (void)state;
    format_open_put(open, 5);
    assert_int_equal(format_open_get(5, slice_make(open, sizeof(open)), NULL), STATUS_OK);
    assert_int_equal(format_open_get(6, slice_make(open, sizeof(open)), NULL), STATUS_CORRUPT);
    assert_int_equal(format_open_get(5, slice_make(open, 3), NULL), STATUS_CORRUPT);

    format_session_put(row, slice_text("key"), &session);
    struct slice whole = slice_make(row, sizeof(row));
    assert_int_equal(format_session_get(slice_text("key"), whole, &read, NULL), STATUS_OK);
    assert_true(read.transaction_number == -5 && read.unit == 2 && read.time_ms == 3);
    assert_int_equal(format_session_get(slice_text("kez"), whole, &read, NULL), STATUS_CORRUPT);
    for (size_t cut = 0; cut < sizeof(row); cut++) {
        assert_int_equal(format_session_get(slice_text("key"), slice_make(row, cut), &read, NULL),
                         STATUS_CORRUPT);
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(wal_kind_name(WAL_KIND_COMMIT), "COMMIT");
    assert_null(wal_kind_name((enum wal_kind)0));
    assert_null(wal_kind_name((enum wal_kind)10));
    assert_string_equal(wal_unit_state_name(WAL_UNIT_CONFLICT), "conflict");
    assert_string_equal(wal_kind_name(WAL_KIND_COMMITTING), "COMMITTING");
    assert_string_equal(wal_unit_state_name(WAL_UNIT_COMMITTING), "committing");
    assert_non_null(wal_unit_state_name((enum wal_unit_state)77));
}

static void test_network_filesystems_are_refused(void **state)
{
    (void)state;
    assert_string_equal(directory_refused_filesystem(0x6969), "NFS");
    assert_string_equal(directory_refused_filesystem(0x65735546), "FUSE");
    assert_string_equal(directory_refused_filesystem(0xFF534D42), "CIFS");
    assert_null(directory_refused_filesystem(0xEF53));     /* ext4 */
    assert_null(directory_refused_filesystem(0x58465342)); /* XFS */
    assert_null(directory_refused_filesystem(0x01021994)); /* tmpfs */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_is_the_standard_one),
        cmocka_unit_test(test_record_round_trip),
        cmocka_unit_test(test_record_layout),
        cmocka_unit_test(test_record_notices_each_flipped_bit_and_missing_byte),
        cmocka_unit_test(test_record_refuses_contradictions),
        cmocka_unit_test(test_unit_row),
        cmocka_unit_test(test_other_rows),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_network_filesystems_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
