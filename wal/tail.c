/*
 * Frames of the tail: making one, telling whether one is whole, and which of a file count.
 *
 * Threads: all functions work on what they are given.
 */

#include "wal/tail.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CRC_OFFSET 12u
#define HEADER_CRC_OFFSET 44u
#define SALT_OFFSET 48u
/* Mostly there is little in the tail. */
#define FIRST_READ_BYTES (2 * FORMAT_FRAME_BYTES_MAX)
#define FRAME_VERSION 1u

static const uint8_t magic[4] = {'H', 'F', 'T', 'F'};

uint64_t tail_frame_room(const struct tail_frame *frame)
{
    return (frame->size + FORMAT_FRAME_ALIGNMENT - 1) & ~(uint64_t)(FORMAT_FRAME_ALIGNMENT - 1);
}

static uint32_t frame_crc(const uint8_t *bytes, size_t size)
{
    uint32_t crc = format_crc32c(0, slice_make(bytes, CRC_OFFSET));
    return format_crc32c(crc, slice_make(bytes + CRC_OFFSET + 4, size - CRC_OFFSET - 4));
}

static uint32_t header_crc(const uint8_t *bytes)
{
    uint32_t crc = format_crc32c(0, slice_make(bytes, CRC_OFFSET));
    crc = format_crc32c(crc, slice_make(bytes + 16, HEADER_CRC_OFFSET - 16));
    return format_crc32c(crc, slice_make(bytes + SALT_OFFSET, 8));
}

/* ------------------------------------------------------------------ one that is there */

/* The entry at `at`; its whole size, or 0 if it is none. */
static size_t read_entry(const uint8_t *at, size_t left, uint64_t lsn, struct tail_entry *ret_entry)
{
    struct wal_record record;
    if (left < FORMAT_FRAME_ENTRY_BYTES) {
        return 0;
    }
    size_t value_size = slice_load_u32be(at);
    size_t key_size = at[4];
    size_t size = FORMAT_FRAME_ENTRY_BYTES + key_size + value_size;
    if (key_size > LIMIT_SESSION_KEY_BYTES || left < size) {
        return 0;
    }
    *ret_entry = (struct tail_entry){
        .session_key = slice_make(at + FORMAT_FRAME_ENTRY_BYTES, key_size),
        .value = slice_make(at + FORMAT_FRAME_ENTRY_BYTES + key_size, value_size),
        .transaction_number = (int64_t)slice_load_u64be(at + 8),
    };
    if (format_record_get(lsn, ret_entry->value, &record, NULL) != STATUS_OK ||
        (key_size > 0 && record.kind != WAL_KIND_BEGIN)) {
        return 0;
    }
    ret_entry->unit = record.unit;
    ret_entry->kind = record.kind;
    return size;
}

static bool read_entries(struct tail_frame *frame)
{
    size_t at = FORMAT_FRAME_HEADER_BYTES;
    for (size_t i = 0; i < frame->count; i++) {
        size_t size = read_entry(frame->bytes + at, frame->size - at, frame->first_lsn + i,
                                 &frame->entries[i]);
        if (size == 0) {
            return false;
        }
        at += size;
    }
    return at == frame->size;
}

/* The size that a frame at `bytes` has, if it is whole and this journal's; else 0. */
static size_t whole_size(const uint8_t *bytes, size_t left,
                         const uint8_t journal_id[WAL_JOURNAL_ID_BYTES])
{
    if (left < FORMAT_FRAME_HEADER_BYTES || memcmp(bytes, magic, sizeof magic) != 0 ||
        slice_load_u32be(bytes + 4) != FRAME_VERSION) {
        return 0;
    }
    size_t size = slice_load_u32be(bytes + 8);
    bool fits = size >= FORMAT_FRAME_HEADER_BYTES && size <= FORMAT_FRAME_BYTES_MAX && size <= left;
    return fits && slice_load_u32be(bytes + CRC_OFFSET) == frame_crc(bytes, size) &&
                   memcmp(bytes + 16, journal_id, WAL_JOURNAL_ID_BYTES) == 0
               ? size
               : 0;
}

/* Takes a copy. *ret_frame NULL: its entries contradict themselves, although its checksum is right.
 */
static enum status copy_frame(const uint8_t *bytes, size_t size, struct tail_frame **ret_frame,
                              struct error *ret_error)
{
    size_t count = slice_load_u32be(bytes + 40);
    *ret_frame = NULL;
    if (count == 0 || count > size / FORMAT_FRAME_ENTRY_BYTES) {
        return STATUS_OK;
    }
    struct tail_frame *frame = calloc(1, sizeof *frame + count * sizeof frame->entries[0]);
    uint8_t *copy = malloc(size);
    if (frame == NULL || copy == NULL) {
        free(frame);
        free(copy);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    memcpy(copy, bytes, size);
    frame->bytes = copy;
    frame->size = size;
    frame->count = count;
    frame->salt = slice_load_u64be(bytes + SALT_OFFSET);
    frame->first_lsn = slice_load_u64be(bytes + 32);
    frame->last_lsn = frame->first_lsn + count - 1;
    if (read_entries(frame)) {
        *ret_frame = frame;
    } else {
        tail_frame_free(frame);
    }
    return STATUS_OK;
}

void tail_frame_free(struct tail_frame *frame)
{
    if (frame != NULL) {
        free(frame->bytes);
        free(frame);
    }
}

/* ------------------------------------------------------------------ one that is being made */

void tail_builder_free(struct tail_builder *builder)
{
    free(builder->bytes);
    *builder = (struct tail_builder){0};
}

void tail_builder_reset(struct tail_builder *builder)
{
    builder->size = 0;
    builder->count = 0;
    builder->too_large = false;
}

enum status tail_builder_add(struct tail_builder *builder, struct slice value,
                             struct slice session_key, int64_t transaction_number,
                             struct error *ret_error)
{
    size_t at = builder->size == 0 ? FORMAT_FRAME_HEADER_BYTES : builder->size;
    size_t size = FORMAT_FRAME_ENTRY_BYTES + session_key.size + value.size;
    if (builder->too_large || size > FORMAT_FRAME_BYTES_MAX - at) {
        builder->too_large = true;
        return STATUS_OK;
    }
    if (builder->bytes == NULL) {
        builder->bytes = malloc(FORMAT_FRAME_BYTES_MAX);
        if (builder->bytes == NULL) {
            return error_set(ret_error, STATUS_MEMORY, "out of memory");
        }
    }
    uint8_t *entry = builder->bytes + at;
    memset(entry, 0, FORMAT_FRAME_ENTRY_BYTES);
    slice_store_u32be(entry, (uint32_t)value.size);
    entry[4] = (uint8_t)session_key.size;
    if (session_key.size > 0) {
        slice_store_u64be(entry + 8, (uint64_t)transaction_number);
        memcpy(entry + FORMAT_FRAME_ENTRY_BYTES, session_key.data, session_key.size);
    }
    memcpy(entry + FORMAT_FRAME_ENTRY_BYTES + session_key.size, value.data, value.size);
    builder->size = at + size;
    builder->count++;
    return STATUS_OK;
}

enum status tail_builder_finish(struct tail_builder *builder,
                                const uint8_t journal_id[WAL_JOURNAL_ID_BYTES], uint64_t salt,
                                struct tail_frame **ret_frame, struct error *ret_error)
{
    uint8_t *bytes = builder->bytes;
    size_t first =
        FORMAT_FRAME_HEADER_BYTES + FORMAT_FRAME_ENTRY_BYTES + bytes[FORMAT_FRAME_HEADER_BYTES + 4];
    memset(bytes, 0, FORMAT_FRAME_HEADER_BYTES);
    memcpy(bytes, magic, sizeof magic);
    slice_store_u32be(bytes + 4, FRAME_VERSION);
    slice_store_u32be(bytes + 8, (uint32_t)builder->size);
    memcpy(bytes + 16, journal_id, WAL_JOURNAL_ID_BYTES);
    slice_store_u64be(bytes + 32, format_record_lsn(bytes + first));
    slice_store_u32be(bytes + 40, (uint32_t)builder->count);
    slice_store_u64be(bytes + SALT_OFFSET, salt);
    slice_store_u32be(bytes + HEADER_CRC_OFFSET, header_crc(bytes));
    slice_store_u32be(bytes + CRC_OFFSET, frame_crc(bytes, builder->size));
    enum status status = copy_frame(bytes, builder->size, ret_frame, ret_error);
    return status == STATUS_OK && *ret_frame == NULL
               ? error_set(ret_error, STATUS_CORRUPT, "a frame of the tail contradicts itself")
               : status;
}

/* ------------------------------------------------------------------ those of a file */

/* Takes a copy of the frame at `at`. *ret_frame NULL: there is none that is whole. */
static enum status read_frame(struct slice bytes, size_t at,
                              const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                              struct tail_frame **ret_frame, struct error *ret_error)
{
    size_t size = whole_size(bytes.data + at, bytes.size - at, journal_id);
    *ret_frame = NULL;
    return size == 0 ? STATUS_OK : copy_frame(bytes.data + at, size, ret_frame, ret_error);
}

enum status tail_parse(struct slice bytes, const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                       struct tail_view *view, size_t *ret_end, struct error *ret_error)
{
    size_t at = 0;
    uint64_t last_lsn = 0;
    uint64_t salt = 0;
    while (at < bytes.size && !tail_view_is_full(view)) {
        struct tail_frame *frame = NULL;
        enum status status = read_frame(bytes, at, journal_id, &frame, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (frame == NULL ||
            (at > 0 && (frame->first_lsn != last_lsn + 1 || frame->salt != salt))) {
            tail_frame_free(frame);
            break;
        }
        salt = frame->salt;
        last_lsn = frame->last_lsn;
        tail_view_add(view, frame);
        at += tail_frame_room(frame);
    }
    *ret_end = at;
    return STATUS_OK;
}

/* *ret_is_whole false: more frames may follow behind `limit`. */
static enum status read_up_to(const char *directory, const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                              size_t limit, struct tail_view **ret_view, bool *ret_is_whole,
                              struct error *ret_error)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    size_t end = 0;
    enum status status = tail_file_read(directory, limit, &bytes, &size, ret_error);
    *ret_view = NULL;
    *ret_is_whole = true;
    if (status != STATUS_OK || bytes == NULL) {
        return status;
    }
    struct tail_view *view = tail_view_new();
    status = view == NULL ? error_set(ret_error, STATUS_MEMORY, "out of memory")
                          : tail_parse(slice_make(bytes, size), journal_id, view, &end, ret_error);
    free(bytes);
    if (status != STATUS_OK) {
        tail_view_release(view);
        return status;
    }
    *ret_view = view;
    *ret_is_whole = end + FORMAT_FRAME_BYTES_MAX <= limit || limit == FORMAT_TAIL_BYTES;
    return STATUS_OK;
}

enum status tail_read(const char *directory, const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                      struct tail_view **ret_view, struct error *ret_error)
{
    struct tail_view *view = NULL;
    bool is_whole = true;
    enum status status =
        read_up_to(directory, journal_id, FIRST_READ_BYTES, &view, &is_whole, ret_error);
    if (status == STATUS_OK && !is_whole) {
        tail_view_release(view);
        status = read_up_to(directory, journal_id, FORMAT_TAIL_BYTES, &view, &is_whole, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_view = view;
    }
    return status;
}

enum status tail_is_missing(const char *directory, struct error *ret_error)
{
    return error_set(ret_error, STATUS_CORRUPT,
                     "the journal in %s was not closed cleanly, and " FORMAT_TAIL_FILE
                     ", which has its newest records, is not beside data.mdb, or was cut short: "
                     "put it there; if it "
                     "is lost, see \"A damaged journal\" in docs/OPERATIONS.md",
                     directory);
}

/* Whole frames from contents->end on that have LSNs above `last_lsn`. */
static enum status find_strays(struct slice bytes, const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                               uint64_t last_lsn, struct tail_contents *contents,
                               struct error *ret_error)
{
    size_t at = contents->end;
    /* Also of a first frame that is torn: its header is there, or that of one before it. Where it
       is damaged, whatever is whole counts as missing something. */
    bool has_salt = bytes.size >= FORMAT_FRAME_HEADER_BYTES &&
                    memcmp(bytes.data, magic, sizeof magic) == 0 &&
                    slice_load_u32be(bytes.data + HEADER_CRC_OFFSET) == header_crc(bytes.data);
    uint64_t salt = has_salt ? slice_load_u64be(bytes.data + SALT_OFFSET) : 0;
    while (at < bytes.size && !tail_view_is_full(contents->strays)) {
        struct tail_frame *frame = NULL;
        enum status status = read_frame(bytes, at, journal_id, &frame, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (frame == NULL || frame->last_lsn <= last_lsn || (has_salt && frame->salt != salt)) {
            tail_frame_free(frame);
            at += FORMAT_FRAME_ALIGNMENT;
            continue;
        }
        contents->stray = contents->stray < at ? contents->stray : at;
        tail_view_add(contents->strays, frame);
        at += tail_frame_room(frame);
    }
    return STATUS_OK;
}

enum status tail_look(struct slice bytes, const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                      uint64_t last_lsn, struct tail_contents *ret_contents,
                      struct error *ret_error)
{
    struct tail_contents contents = {
        .frames = tail_view_new(), .strays = tail_view_new(), .stray = FORMAT_TAIL_BYTES};
    enum status status = contents.frames == NULL || contents.strays == NULL
                             ? error_set(ret_error, STATUS_MEMORY, "out of memory")
                             : STATUS_OK;
    if (status == STATUS_OK) {
        status = tail_parse(bytes, journal_id, contents.frames, &contents.end, ret_error);
    }
    if (status == STATUS_OK) {
        struct tail_window window = tail_window_of(contents.frames, last_lsn);
        uint64_t highest = tail_window_last_lsn(&window);
        status = find_strays(bytes, journal_id, highest > last_lsn ? highest : last_lsn, &contents,
                             ret_error);
    }
    if (status != STATUS_OK) {
        tail_contents_free(&contents);
        return status;
    }
    *ret_contents = contents;
    return STATUS_OK;
}

void tail_contents_free(struct tail_contents *contents)
{
    contents->frames = tail_view_release(contents->frames);
    contents->strays = tail_view_release(contents->strays);
}

enum status tail_judge(const struct tail_contents *contents, uint64_t last_lsn,
                       struct error *ret_error)
{
    struct tail_window window = tail_window_of(contents->frames, last_lsn);
    if (!tail_window_continues(&window)) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "%s begins with record %" PRIu64 ", but data.mdb ends with %" PRIu64
                         ": they are not of the same moment",
                         FORMAT_TAIL_FILE, tail_window_first_lsn(&window), last_lsn);
    }
    if (contents->stray < FORMAT_TAIL_BYTES) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "%s is damaged at offset %zu: at %zu there are newer records",
                         FORMAT_TAIL_FILE, contents->end, contents->stray);
    }
    return STATUS_OK;
}
