/*
 * Reaches: tail_parse and the tail_window functions: what a damaged tail.wal may hold.
 *
 * A checksum would end nearly every mutation at once. So each input is tried as it is, and once
 * more with the checksums of its first frames and of their records made right.
 */

#include "fuzz/fuzz.h"

#include <string.h>

#include "wal/tail.h"

enum { SEED_FRAMES = 2, CRC_AT = 12 };

static const uint8_t journal_id[WAL_JOURNAL_ID_BYTES] = {'i', 'd'};
static uint8_t seed[FORMAT_FRAME_ALIGNMENT + 512];

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {seed, FORMAT_FRAME_ALIGNMENT}, /* ends with the first frame, and with the second */
    {seed, sizeof(seed)},
    {NULL, 0},
};

static void add(struct tail_builder *builder, uint64_t lsn, enum wal_kind kind)
{
    uint8_t value[FORMAT_RECORD_HEADER_BYTES + 4];
    bool begins = kind == WAL_KIND_BEGIN;
    struct wal_record record = {
        .lsn = lsn,
        .unit = lsn / 4 + 1,
        .previous_lsn = begins ? 0 : lsn - 1,
        .time_ms = 5,
        .kind = kind,
        .payload = slice_text("load"),
    };
    struct slice key = begins ? slice_text("key") : slice_make(NULL, 0);
    format_record_put(value, &record);
    FUZZ_REQUIRE(tail_builder_add(builder, slice_make(value, sizeof(value)), key, 3, NULL) ==
                 STATUS_OK);
}

/* Two frames of three records, as the journal makes them. */
__attribute__((constructor)) static void make_seed(void)
{
    struct tail_builder builder = {0};
    for (size_t i = 0; i < SEED_FRAMES; i++) {
        struct tail_frame *frame = NULL;
        tail_builder_reset(&builder);
        add(&builder, 1 + 3 * i, WAL_KIND_BEGIN);
        add(&builder, 2 + 3 * i, WAL_KIND_WRITE);
        add(&builder, 3 + 3 * i, WAL_KIND_COMMIT);
        FUZZ_REQUIRE(tail_builder_finish(&builder, journal_id, 7, &frame, NULL) == STATUS_OK);
        FUZZ_REQUIRE(i * FORMAT_FRAME_ALIGNMENT + frame->size <= sizeof(seed));
        memcpy(seed + i * FORMAT_FRAME_ALIGNMENT, frame->bytes, frame->size);
        tail_frame_free(frame);
    }
    tail_builder_free(&builder);
}

/* ------------------------------------------------------------------ checksums made right */

static void mend(uint8_t *bytes, size_t size)
{
    uint32_t crc = format_crc32c(0, slice_make(bytes, CRC_AT));
    crc = format_crc32c(crc, slice_make(bytes + CRC_AT + 4, size - CRC_AT - 4));
    slice_store_u32be(bytes + CRC_AT, crc);
}

static void mend_records(uint8_t *frame, size_t size)
{
    size_t at = FORMAT_FRAME_HEADER_BYTES;
    while (size - at >= FORMAT_FRAME_ENTRY_BYTES) {
        size_t value_size = slice_load_u32be(frame + at);
        at += FORMAT_FRAME_ENTRY_BYTES;
        size_t key_size = frame[at - FORMAT_FRAME_ENTRY_BYTES + 4];
        if (key_size > size - at || value_size > size - at - key_size) {
            return;
        }
        at += key_size;
        if (value_size >= FORMAT_RECORD_HEADER_BYTES) {
            mend(frame + at, value_size);
        }
        at += value_size;
    }
}

static void mend_frames(uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size; at += FORMAT_FRAME_ALIGNMENT) {
        size_t left = size - at;
        size_t frame_size =
            left >= FORMAT_FRAME_HEADER_BYTES ? slice_load_u32be(bytes + at + 8) : 0;
        if (frame_size >= FORMAT_FRAME_HEADER_BYTES && frame_size <= left) {
            mend_records(bytes + at, frame_size);
            mend(bytes + at, frame_size);
        }
    }
}

/* ------------------------------------------------------------------ what must hold */

/* Whatever a window was asked before, it gives the same answer as one that was asked nothing. */
static void check_next(struct tail_window *window, uint64_t unit)
{
    const uint64_t others[] = {unit + 1, unit - 1, 0, unit};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct tail_window fresh = tail_window_of(window->view, window->after_lsn);
        FUZZ_REQUIRE(tail_window_unit_next(window, others[i]) ==
                     tail_window_unit_next(&fresh, others[i]));
    }
}

/* By unit and by session there is what goes through the entries one by one finds. */
static void check_units(struct tail_window *window, uint64_t first, uint64_t last)
{
    uint64_t unit = 0;
    for (size_t steps = 0; (unit = tail_window_unit_next(window, unit)) != 0; steps++) {
        struct format_unit row = {0};
        bool found = false;
        bool is_there = false;
        FUZZ_REQUIRE(steps <= last - first);
        tail_window_unit(window, unit, &found, &row);
        FUZZ_REQUIRE(row.unit.last_lsn > window->after_lsn && row.unit.last_lsn <= last);
        FUZZ_REQUIRE(tail_window_entry(window, row.unit.last_lsn)->unit == unit);
        for (uint64_t lsn = first; lsn - first <= last - first; lsn++) {
            const struct tail_entry *entry = tail_window_entry(window, lsn);
            is_there =
                is_there || (entry != NULL && entry->unit == unit && entry->kind == WAL_KIND_BEGIN);
        }
        FUZZ_REQUIRE(found == is_there);
        check_next(window, unit);
    }
}

static void check_sessions(const struct tail_window *window)
{
    struct slice key = {0};
    struct slice before = {0};
    while ((key = tail_window_session_next(window, before)).size > 0) {
        struct format_session session = {0};
        bool found = false;
        FUZZ_REQUIRE(before.size == 0 || slice_compare(key, before) > 0);
        tail_window_session(window, key, &found, &session);
        FUZZ_REQUIRE(found && session.unit != 0);
        before = key;
    }
}

static void check_window(const struct tail_view *view, uint64_t after_lsn)
{
    struct tail_window window = tail_window_of(view, after_lsn);
    uint64_t first = tail_window_first_lsn(&window);
    uint64_t last = tail_window_last_lsn(&window);
    FUZZ_REQUIRE(first > 0 && last >= first);
    for (uint64_t lsn = first; lsn - first <= last - first; lsn++) {
        const struct tail_entry *entry = tail_window_entry(&window, lsn);
        FUZZ_REQUIRE((entry != NULL) == (lsn > after_lsn));
        FUZZ_REQUIRE(entry == NULL || format_record_lsn(entry->value.data) == lsn);
        FUZZ_REQUIRE(entry == NULL || entry->session_key.size == 0 ||
                     entry->kind == WAL_KIND_BEGIN);
        FUZZ_REQUIRE(entry == NULL || entry->session_key.size <= LIMIT_SESSION_KEY_BYTES);
    }
    FUZZ_REQUIRE(tail_window_entry(&window, first - 1) == NULL);
    FUZZ_REQUIRE(tail_window_entry(&window, last + 1) == NULL);
    check_units(&window, first, last);
    check_sessions(&window);
}

static bool try_parse(struct slice input)
{
    size_t end = 0;
    struct tail_view *view = tail_view_new();
    FUZZ_REQUIRE(view != NULL);
    FUZZ_REQUIRE(tail_parse(input, journal_id, view, &end, NULL) == STATUS_OK);
    struct tail_window window = tail_window_of(view, 0);
    FUZZ_REQUIRE(end % FORMAT_FRAME_ALIGNMENT == 0 && end < input.size + FORMAT_FRAME_ALIGNMENT);
    FUZZ_REQUIRE(window.frames <= end / FORMAT_FRAME_ALIGNMENT);
    FUZZ_REQUIRE((window.frames > 0) == (end > 0));
    if (window.frames > 0) {
        uint64_t first = tail_window_first_lsn(&window);
        uint64_t last = tail_window_last_lsn(&window);
        check_window(view, 0);
        check_window(view, first);
        check_window(view, first + (last - first) / 2);
        check_window(view, last);
    }
    tail_view_release(view);
    return end > 0;
}

bool fuzz_one(struct slice input)
{
    bool accepted = try_parse(input);
    uint8_t *bytes = malloc(input.size == 0 ? 1 : input.size);
    FUZZ_REQUIRE(bytes != NULL);
    if (input.size > 0) {
        memcpy(bytes, input.data, input.size);
    }
    mend_frames(bytes, input.size);
    accepted = try_parse(slice_make(bytes, input.size)) || accepted;
    free(bytes);
    return accepted;
}
