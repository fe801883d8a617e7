/*
 * Frames of the tail: what is written is read back, and nothing that is damaged, out of order or
 * another journal's counts. What readers make of them is in test_wal_tail_readers.c.
 */

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "wal/internal.h"
#include "wal/tail.h"
#include "wal_fixture.h"

enum { FRAMES = 3, CRC_AT = 12 };

static const uint8_t journal_id[WAL_JOURNAL_ID_BYTES] = {1, 2, 3, 4};
static const uint8_t other_id[WAL_JOURNAL_ID_BYTES] = {1, 2, 3, 5};
static uint8_t image[FORMAT_TAIL_BYTES];

/* ------------------------------------------------------------------ making frames */

static void add(struct tail_builder *builder, const struct wal_record *record, const char *key,
                int64_t transaction_number)
{
    static uint8_t value[FORMAT_FRAME_BYTES_MAX];
    struct error error;
    format_record_put(value, record);
    assert_status(tail_builder_add(
                      builder, slice_make(value, FORMAT_RECORD_HEADER_BYTES + record->payload.size),
                      slice_text(key), transaction_number, &error),
                  STATUS_OK, &error);
}

static uint64_t salt = 7;

/* A unit of three records, whose number is the first LSN. */
static struct tail_frame *make_frame(uint64_t first_lsn)
{
    struct tail_builder builder = {0};
    struct tail_frame *frame = NULL;
    struct error error;
    struct wal_record record = {
        .lsn = first_lsn, .unit = first_lsn, .time_ms = 7000 + first_lsn, .kind = WAL_KIND_BEGIN};
    record.payload = slice_text("begun");
    add(&builder, &record, "session", 77);
    record.previous_lsn = record.lsn++;
    record.kind = WAL_KIND_WRITE;
    record.payload = slice_text("a longer image of a document");
    add(&builder, &record, "", 0);
    record.previous_lsn = record.lsn++;
    record.kind = WAL_KIND_COMMIT;
    record.payload = slice_text("");
    add(&builder, &record, "", 0);
    assert_status(tail_builder_finish(&builder, journal_id, salt, &frame, &error), STATUS_OK,
                  &error);
    tail_builder_free(&builder);
    return frame;
}

static uint64_t put_frame(uint64_t at, uint64_t first_lsn)
{
    struct tail_frame *frame = make_frame(first_lsn);
    uint64_t end = at + tail_frame_room(frame);
    memcpy(image + at, frame->bytes, frame->size);
    tail_frame_free(frame);
    return end;
}

/* FRAMES frames of three records each, the first with LSN 1. */
static void fill_image(void)
{
    uint64_t at = 0;
    memset(image, 0, sizeof(image));
    for (uint64_t i = 0; i < FRAMES; i++) {
        at = put_frame(at, 1 + 3 * i);
    }
}

/* Makes the checksum of the frame at `at` right again. */
static void mend(size_t at)
{
    size_t size = slice_load_u32be(image + at + 8);
    uint32_t crc = format_crc32c(0, slice_make(image + at, CRC_AT));
    crc = format_crc32c(crc, slice_make(image + at + CRC_AT + 4, size - CRC_AT - 4));
    slice_store_u32be(image + at + CRC_AT, crc);
}

/* How many frames of the first `size` bytes count. *ret_end: where they end. */
static size_t count_frames(size_t size, size_t *ret_end)
{
    struct error error;
    size_t end = 0;
    struct tail_view *view = tail_view_new();
    assert_non_null(view);
    assert_status(tail_parse(slice_make(image, size), journal_id, view, &end, &error), STATUS_OK,
                  &error);
    size_t count = tail_window_of(view, 0).frames;
    tail_view_release(view);
    if (ret_end != NULL) {
        *ret_end = end;
    }
    return count;
}

/* ------------------------------------------------------------------ frames */

static void test_frames_are_read_back_byte_for_byte(void **state)
{
    (void)state;
    struct error error;
    size_t end = 0;
    struct tail_view *view = tail_view_new();
    fill_image();
    assert_status(tail_parse(slice_make(image, sizeof(image)), journal_id, view, &end, &error),
                  STATUS_OK, &error);
    assert_int_equal(end, FRAMES * FORMAT_FRAME_ALIGNMENT);
    struct tail_window window = tail_window_of(view, 0);
    assert_int_equal(window.frames, FRAMES);
    assert_int_equal(tail_window_first_lsn(&window), 1);
    assert_int_equal(tail_window_last_lsn(&window), 3 * FRAMES);
    assert_null(tail_window_entry(&window, 0));
    assert_null(tail_window_entry(&window, 3 * FRAMES + 1));
    for (uint64_t i = 0; i < FRAMES; i++) {
        struct tail_frame *made = make_frame(1 + 3 * i);
        assert_int_equal(made->count, 3);
        for (uint64_t j = 0; j < 3; j++) {
            const struct tail_entry *entry = tail_window_entry(&window, 1 + 3 * i + j);
            const struct tail_entry *wanted = &made->entries[j];
            assert_non_null(entry);
            assert_true(slice_equal(entry->value, wanted->value));
            assert_true(slice_equal(entry->session_key, slice_text(j == 0 ? "session" : "")));
            assert_int_equal(entry->transaction_number, j == 0 ? 77 : 0);
            assert_int_equal(entry->unit, 1 + 3 * i);
            assert_int_equal(entry->kind, wanted->kind);
        }
        tail_frame_free(made);
    }
    /* What the tables have is not seen in it. */
    window = tail_window_of(view, 4);
    assert_null(tail_window_entry(&window, 4));
    assert_non_null(tail_window_entry(&window, 5));
    assert_int_equal(tail_window_unit_next(&window, 0), 4);
    tail_view_release(view);
}

static void test_each_byte_of_a_frame_counts(void **state)
{
    (void)state;
    static const uint8_t flips[] = {0x01, 0x80, 0xFF};
    size_t at = FORMAT_FRAME_ALIGNMENT;
    fill_image();
    size_t size = slice_load_u32be(image + at + 8);
    assert_true(size > FORMAT_FRAME_HEADER_BYTES && size < FORMAT_FRAME_ALIGNMENT);
    for (size_t i = 0; i < size; i++) {
        for (size_t j = 0; j < sizeof(flips); j++) {
            size_t end = 0;
            image[at + i] ^= flips[j];
            assert_int_equal(count_frames(sizeof(image), &end), 1);
            assert_int_equal(end, at);
            image[at + i] ^= flips[j];
        }
    }
    for (size_t i = size; i < FORMAT_FRAME_ALIGNMENT; i++) { /* what is behind it does not */
        image[at + i] ^= 0xFF;
    }
    assert_int_equal(count_frames(sizeof(image), NULL), FRAMES);
}

/* Each changes the second frame, which then does not count. */
static void change_lsn(uint8_t *frame)
{
    slice_store_u64be(frame + 32, 5); /* its records say 4 */
}

static void change_id(uint8_t *frame)
{
    memcpy(frame + 16, other_id, sizeof(other_id));
}

static void change_version(uint8_t *frame)
{
    slice_store_u32be(frame + 4, 2);
}

static void change_count_to_none(uint8_t *frame)
{
    slice_store_u32be(frame + 40, 0);
}

static void change_count_to_fewer(uint8_t *frame)
{
    slice_store_u32be(frame + 40, 2);
}

static void change_count_to_more(uint8_t *frame)
{
    slice_store_u32be(frame + 40, 4);
}

static void change_count_to_most(uint8_t *frame)
{
    slice_store_u32be(frame + 40, UINT32_MAX);
}

static void change_size_to_less(uint8_t *frame)
{
    slice_store_u32be(frame + 8, slice_load_u32be(frame + 8) - 1);
}

static void change_size_to_more(uint8_t *frame)
{
    slice_store_u32be(frame + 8, slice_load_u32be(frame + 8) + 1);
}

static uint8_t *second_entry(uint8_t *frame)
{
    uint8_t *first = frame + FORMAT_FRAME_HEADER_BYTES;
    return first + FORMAT_FRAME_ENTRY_BYTES + first[4] + slice_load_u32be(first);
}

/* The WRITE's first byte would be its session key. */
static void change_key_of_a_write(uint8_t *frame)
{
    uint8_t *entry = second_entry(frame);
    entry[4] = 1;
    slice_store_u32be(entry, slice_load_u32be(entry) - 1);
    memmove(entry + FORMAT_FRAME_ENTRY_BYTES + 1, entry + FORMAT_FRAME_ENTRY_BYTES,
            slice_load_u32be(entry));
}

static void change_key_to_longer(uint8_t *frame)
{
    frame[FORMAT_FRAME_HEADER_BYTES + 4] = LIMIT_SESSION_KEY_BYTES + 1;
}

static void change_value_size(uint8_t *frame)
{
    slice_store_u32be(second_entry(frame), UINT32_MAX);
}

static void change_record(uint8_t *frame)
{
    second_entry(frame)[FORMAT_FRAME_ENTRY_BYTES + FORMAT_RECORD_HEADER_BYTES] ^= 1;
}

static void test_frames_that_contradict_themselves(void **state)
{
    (void)state;
    static void (*const changes[])(uint8_t *) = {
        change_lsn,
        change_id,
        change_version,
        change_count_to_none,
        change_count_to_fewer,
        change_count_to_more,
        change_count_to_most,
        change_size_to_less,
        change_size_to_more,
        change_key_of_a_write,
        change_key_to_longer,
        change_value_size,
        change_record,
    };
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        fill_image();
        changes[i](image + FORMAT_FRAME_ALIGNMENT);
        mend(FORMAT_FRAME_ALIGNMENT); /* the checksum does not tell */
        if (count_frames(sizeof(image), NULL) != 1) {
            fail_msg("change %zu was not noticed", i);
        }
    }
}

static void test_sizes_that_no_frame_has(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 1, FORMAT_FRAME_HEADER_BYTES - 1,
                                     FORMAT_FRAME_BYTES_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fill_image();
        slice_store_u32be(image + FORMAT_FRAME_ALIGNMENT + 8, sizes[i]);
        assert_int_equal(count_frames(sizeof(image), NULL), 1);
    }
    /* A file that ends within a frame. */
    fill_image();
    size_t at = (FRAMES - 1) * FORMAT_FRAME_ALIGNMENT;
    size_t size = slice_load_u32be(image + at + 8);
    assert_int_equal(count_frames(at + size, NULL), FRAMES);
    for (size_t cut = 0; cut < size; cut++) {
        assert_int_equal(count_frames(at + cut, NULL), FRAMES - 1);
    }
}

static void test_a_gap_or_a_repetition_ends_the_chain(void **state)
{
    (void)state;
    static const uint64_t second[] = {1, 2, 3, 5, 7, 1000};
    for (size_t i = 0; i < sizeof(second) / sizeof(second[0]); i++) {
        fill_image();
        put_frame(FORMAT_FRAME_ALIGNMENT, second[i]);
        assert_int_equal(count_frames(sizeof(image), NULL), 1);
    }
    memset(image, 0, sizeof(image));
    assert_int_equal(count_frames(sizeof(image), NULL), 0);
    put_frame(FORMAT_FRAME_ALIGNMENT, 1); /* none at the beginning */
    assert_int_equal(count_frames(sizeof(image), NULL), 0);
}

static void test_a_frame_has_a_largest_size(void **state)
{
    (void)state;
    static uint8_t value[FORMAT_FRAME_BYTES_MAX];
    struct tail_builder builder = {0};
    struct tail_frame *frame = NULL;
    struct error error;
    size_t most = FORMAT_FRAME_BYTES_MAX - FORMAT_FRAME_HEADER_BYTES - FORMAT_FRAME_ENTRY_BYTES;
    struct wal_record record = {.lsn = 1, .unit = 1, .kind = WAL_KIND_BEGIN};
    for (int more = 0; more < 2; more++) {
        static uint8_t payload[FORMAT_FRAME_BYTES_MAX];
        size_t size = most + (size_t)more;
        record.payload = slice_make(payload, size - FORMAT_RECORD_HEADER_BYTES);
        format_record_put(value, &record);
        assert_status(
            tail_builder_add(&builder, slice_make(value, size), slice_text(""), 0, &error),
            STATUS_OK, &error);
        assert_int_equal(builder.too_large, more == 1);
        if (more == 0) {
            assert_status(tail_builder_finish(&builder, journal_id, salt, &frame, &error),
                          STATUS_OK, &error);
            assert_int_equal(frame->size, FORMAT_FRAME_BYTES_MAX);
            tail_frame_free(frame);
        }
        tail_builder_reset(&builder);
        assert_false(builder.too_large);
    }
    tail_builder_free(&builder);
}

/* ------------------------------------------------------------------ the file */

static void write_tail(const struct fixture *fixture)
{
    char path[300];
    fixture_path(fixture, FORMAT_TAIL_FILE, path, sizeof(path));
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, image, sizeof(image)), sizeof(image));
    assert_int_equal(close(descriptor), 0);
}

static void assert_check(const struct fixture *fixture, uint64_t last_lsn, const char *says)
{
    struct error error = {0};
    struct tail_contents contents = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    write_tail(fixture);
    assert_status(tail_file_read(fixture->directory, FORMAT_TAIL_BYTES, &bytes, &size, &error),
                  STATUS_OK, &error);
    assert_status(tail_look(slice_make(bytes, size), journal_id, last_lsn, &contents, &error),
                  STATUS_OK, &error);
    enum status status = tail_judge(&contents, last_lsn, &error);
    tail_contents_free(&contents);
    free(bytes);
    assert_status(status, says == NULL ? STATUS_OK : STATUS_CORRUPT, &error);
    if (says != NULL && strstr(error.message, says) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
    }
}

static void test_what_is_missing_from_the_tail_is_noticed(void **state)
{
    const size_t second = FORMAT_FRAME_ALIGNMENT;
    fill_image();
    assert_check(*state, 0, NULL);
    assert_check(*state, 3 * FRAMES, NULL);
    image[second + 100] ^= 1; /* the third is whole, and newer than the tables */
    assert_check(*state, 3, "damaged at offset 4096");
    assert_check(*state, 3 * FRAMES - 1, "damaged at offset 4096");
    assert_check(*state, 3 * FRAMES, NULL);
    fill_image();
    image[100] ^= 1;
    assert_check(*state, 0, "damaged at offset 0");
    assert_check(*state, 3 * FRAMES, NULL);
    fill_image();
    image[(FRAMES - 1) * second + 100] ^= 1; /* the last: one that was never completed */
    assert_check(*state, 0, NULL);
    /* What is left behind new frames is older than they are. */
    fill_image();
    put_frame(0, 1 + 3 * FRAMES);
    assert_check(*state, 3 * FRAMES, NULL);
}

/* A client may know everything of a frame but the salt, and have its bytes stored as his document.
 */
static void test_frame_of_another_salt_does_not_count(void **state)
{
    memset(image, 0, sizeof(image));
    uint64_t end = put_frame(0, 1);
    salt = 8;
    put_frame(end, 4);
    salt = 7;
    assert_check(*state, 3, NULL);
    assert_check(*state, 0, NULL);
    image[100] ^= 1; /* torn: its salt is known still */
    assert_check(*state, 0, NULL);
    assert_check(*state, 3, NULL);
}

static void test_a_tail_of_another_moment_is_noticed(void **state)
{
    memset(image, 0, sizeof(image));
    put_frame(0, 10);
    assert_check(*state, 8, "not of the same moment");
    assert_check(*state, 9, NULL);
    assert_check(*state, 50, NULL);
}

static void test_file_is_written_read_and_cleared(void **state)
{
    const struct fixture *fixture = *state;
    struct tail_file *file = NULL;
    struct error error;
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_status(tail_file_read(fixture->directory, FORMAT_TAIL_BYTES, &bytes, &size, &error),
                  STATUS_OK, &error);
    assert_null(bytes);
    for (int sync = 0; sync < 2; sync++) { /* the second finds it made */
        assert_status(tail_file_open(fixture->directory, sync == 1, &file, &error), STATUS_OK,
                      &error);
        assert_status(tail_file_write(file, FORMAT_TAIL_BYTES - 5, slice_text("bytes"), &error),
                      STATUS_OK, &error);
        assert_status(tail_file_read(fixture->directory, FORMAT_TAIL_BYTES, &bytes, &size, &error),
                      STATUS_OK, &error);
        assert_int_equal(size, FORMAT_TAIL_BYTES);
        assert_memory_equal(bytes + size - 5, "bytes", 5);
        free(bytes);
        assert_status(tail_file_clear(file, &error), STATUS_OK, &error);
        assert_status(tail_file_read(fixture->directory, FORMAT_TAIL_BYTES, &bytes, &size, &error),
                      STATUS_OK, &error);
        memset(image, 0, sizeof(image));
        assert_int_equal(size, sizeof(image));
        assert_memory_equal(bytes, image, size);
        free(bytes);
        file = tail_file_close(file);
    }
}

/* ------------------------------------------------------------------ under a journal */

static struct wal *open_read_only(const struct fixture *fixture)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(fixture);
    options.read_only = true;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    return wal;
}

/* More frames than the file has places for: it begins anew when it is full. */
static void test_a_full_tail_begins_anew(void **state)
{
    enum { UNITS = FORMAT_TAIL_BYTES / FORMAT_FRAME_ALIGNMENT * 2 + 3 };
    struct wal *wal = fixture_open(*state);
    for (uint64_t unit = 1; unit <= UNITS; unit++) {
        assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, unit, "x", NULL), STATUS_OK);
        assert_int_equal(wal_last_lsn(wal), unit);
    }
    assert_int_equal(fixture_statistics(wal).records, UNITS);
    assert_int_equal(fixture_statistics(wal).batches, UNITS);
    struct wal *reader = open_read_only(*state);
    assert_int_equal(wal_last_lsn(reader), UNITS);
    assert_int_equal(fixture_statistics(reader).units_open, UNITS);
    wal_close(reader, false);
    wal_close(wal, true);
    wal = fixture_open(*state);
    assert_int_equal(fixture_statistics(wal).records, UNITS);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

static void copy_file(const struct fixture *fixture, const char *from, const char *to)
{
    static uint8_t bytes[4 << 20];
    size_t size = fixture_read(fixture, from, bytes, sizeof(bytes));
    assert_true(size > 0 && size < sizeof(bytes));
    fixture_write(fixture, to, bytes, size);
}

/* An older data.mdb beside a newer tail: nobody opens it, and nothing is changed. */
static void test_an_older_file_beside_the_tail_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    int wait_status = 0;
    wal_close(fixture_open(fixture), true);
    copy_file(fixture, "data.mdb", "older");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct wal *wal = fixture_open(fixture);
        bool fine = fixture_append(wal, WAL_KIND_BEGIN, 1, "", NULL) == STATUS_OK &&
                    wal_property_set(wal, "name", slice_text("value"), NULL) == STATUS_OK &&
                    fixture_append(wal, WAL_KIND_BEGIN, 2, "", NULL) == STATUS_OK;
        (void)fine;
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    copy_file(fixture, "data.mdb", "newer");
    copy_file(fixture, "older", "data.mdb");
    for (int read_only = 0; read_only < 2; read_only++) {
        struct wal *wal = NULL;
        struct error error;
        struct wal_options options = fixture_options(fixture);
        options.read_only = read_only == 1;
        assert_int_equal(wal_open(&options, &wal, &error), STATUS_CORRUPT);
        assert_non_null(strstr(error.message, "tail"));
    }
    copy_file(fixture, "newer", "data.mdb");
    struct wal *wal = fixture_open(fixture);
    assert_int_equal(fixture_statistics(wal).records, 2);
    wal_close(wal, true);
    fixture_assert_undamaged(fixture);
}

/* Another journal's tail is none, as long as the journal was closed cleanly. */
static void test_another_journals_tail_does_not_count(void **state)
{
    struct wal *wal = fixture_open(*state);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 1, "", NULL), STATUS_OK);
    wal_close(wal, true);
    fill_image();
    put_frame(0, 2); /* but for its id it would continue the tables */
    write_tail(*state);
    wal = open_read_only(*state);
    assert_int_equal(wal_last_lsn(wal), 1);
    wal_close(wal, false);
    wal = fixture_open(*state);
    assert_int_equal(wal_last_lsn(wal), 1);
    wal_close(wal, true);
    fixture_assert_undamaged(*state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_are_read_back_byte_for_byte),
        cmocka_unit_test(test_each_byte_of_a_frame_counts),
        cmocka_unit_test(test_frames_that_contradict_themselves),
        cmocka_unit_test(test_sizes_that_no_frame_has),
        cmocka_unit_test(test_a_gap_or_a_repetition_ends_the_chain),
        cmocka_unit_test(test_a_frame_has_a_largest_size),
        TEST(test_what_is_missing_from_the_tail_is_noticed),
        TEST(test_frame_of_another_salt_does_not_count),
        TEST(test_a_tail_of_another_moment_is_noticed),
        TEST(test_file_is_written_read_and_cleared),
        TEST(test_a_full_tail_begins_anew),
        TEST(test_an_older_file_beside_the_tail_is_refused),
        TEST(test_another_journals_tail_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
