/*
 * All writes of one unit, read from the journal (history.h).
 *
 * The unit's records form a chain by their previous LSNs. It is followed from the last record back,
 * then everything is read oldest first, in one snapshot of the journal:
 *
 *     BEGIN <- WRITE 0 <- WRITE 1 <- ... <- WRITE n-1 <- COMMIT | ABORT | CONFLICT (or none)
 *                            |
 *                            known: the after-image of write 0, learned from its reply
 *
 * Invariants: a write's number is its place; an after-image that the journal names twice is the
 * same both times. What breaks them is STATUS_CORRUPT with the LSN: a unit is never half read.
 *
 * Threads: the caller's; the history owns its memory and keeps no reader.
 */

#include "recover/history.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ------------------------------------------------------------------ memory */

#define BLOCK_BYTES (64u * 1024u)
/* A unit's writes mostly share their namespaces and connections: so many are compared with. */
#define TEXTS_COMPARED 8

/* What the history copied, in blocks that are freed together. */
struct history_memory {
    struct history_memory *next;
    size_t used;
    size_t size;
    uint8_t bytes[];
};

/* The last few texts, so that one is copied once for many writes. */
struct texts {
    const char *texts[TEXTS_COMPARED];
    size_t next;
};

struct loading {
    struct wal_reader *reader;
    struct unit_history *history;
    uint64_t *lsns; /* of the unit's records, newest first */
    size_t lsn_count;
    size_t lsn_capacity;
    size_t write_capacity;
    struct texts namespaces;
    struct texts connections;
};

/* NULL: out of memory. */
static uint8_t *memory_take(struct unit_history *history, size_t size)
{
    struct history_memory *block = history->memory;
    if (block == NULL || block->size - block->used < size) {
        size_t wanted = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        block = malloc(sizeof(*block) + wanted);
        if (block == NULL) {
            return NULL;
        }
        *block = (struct history_memory){.next = history->memory, .size = wanted};
        history->memory = block;
    }
    uint8_t *taken = block->bytes + block->used;
    block->used += size;
    return taken;
}

static bool copy_bytes(struct unit_history *history, struct slice bytes, struct slice *ret_copy)
{
    uint8_t *copy = memory_take(history, bytes.size);
    if (copy == NULL) {
        return false;
    }
    if (bytes.size > 0) {
        memcpy(copy, bytes.data, bytes.size);
    }
    *ret_copy = slice_make(copy, bytes.size);
    return true;
}

static bool copy_text(struct unit_history *history, struct texts *texts, const char **text)
{
    for (size_t i = 0; i < TEXTS_COMPARED; i++) {
        if (texts->texts[i] != NULL && strcmp(texts->texts[i], *text) == 0) {
            *text = texts->texts[i];
            return true;
        }
    }
    size_t size = strlen(*text) + 1;
    char *copy = (char *)memory_take(history, size);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, *text, size);
    *text = copy;
    texts->texts[texts->next] = copy;
    texts->next = (texts->next + 1) % TEXTS_COMPARED;
    return true;
}

static enum status no_memory(struct error *ret_error)
{
    return error_set(ret_error, STATUS_MEMORY, "out of memory");
}

struct unit_history *unit_history_free(struct unit_history *history)
{
    if (history == NULL) {
        return NULL;
    }
    while (history->memory != NULL) {
        struct history_memory *next = history->memory->next;
        free(history->memory);
        history->memory = next;
    }
    free(history->writes);
    free(history);
    return NULL;
}

/* ------------------------------------------------------------------ images */

struct history_image history_image_here(struct image image)
{
    struct history_image here = {.presence = image.presence};
    if (image.presence == IMAGE_PRESENT) {
        here.size = (uint32_t)image.document.size;
        here.bytes = image.document.data;
    }
    return here;
}

/* Where an image is that was read from the payload of `record`. */
static struct history_image place_of(const struct wal_record *record, struct image image)
{
    struct history_image place = {.presence = image.presence};
    if (image.presence == IMAGE_PRESENT) {
        place.lsn = record->lsn;
        place.offset = (uint32_t)slice_offset(record->payload, image.document);
        place.size = (uint32_t)image.document.size;
    }
    return place;
}

enum status history_image_view(struct wal_reader *reader, const struct history_image *image,
                               struct image *ret_view, struct error *ret_error)
{
    struct wal_record record;
    if (image->presence != IMAGE_PRESENT) {
        *ret_view = (struct image){.presence = image->presence};
        return STATUS_OK;
    }
    if (image->lsn == 0) {
        *ret_view = (struct image){.presence = IMAGE_PRESENT,
                                   .document = slice_make(image->bytes, image->size)};
        return STATUS_OK;
    }
    enum status status = wal_read(reader, image->lsn, &record, ret_error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(ret_error, STATUS_CORRUPT, "record %" PRIu64 " is missing", image->lsn);
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct slice rest = record.payload;
    struct slice before;
    struct slice document;
    if (!slice_take(&rest, image->offset, &before) || !slice_take(&rest, image->size, &document)) {
        return error_set(ret_error, STATUS_CORRUPT, "record %" PRIu64 " is shorter than it was",
                         image->lsn);
    }
    *ret_view = (struct image){.presence = IMAGE_PRESENT, .document = document};
    return STATUS_OK;
}

enum status history_reader_begin(const struct unit_history *history, struct wal_reader **ret_reader,
                                 struct error *ret_error)
{
    if (history->wal == NULL) {
        *ret_reader = NULL;
        return STATUS_OK;
    }
    return wal_reader_begin(history->wal, ret_reader, ret_error);
}

enum status history_image_read(const struct unit_history *history,
                               const struct history_image *image, struct image *ret_copy,
                               struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    struct image view = {0};
    enum status status = history_reader_begin(history, &reader, ret_error);
    if (status == STATUS_OK) {
        status = history_image_view(reader, image, &view, ret_error);
    }
    if (status == STATUS_OK && !image_copy(view, ret_copy)) {
        status = no_memory(ret_error);
    }
    wal_reader_end(reader);
    return status;
}

/* ------------------------------------------------------------------ loading */

static enum status read_record(const struct loading *loading, uint64_t lsn,
                               struct wal_record *ret_record, struct error *ret_error)
{
    enum status status = wal_read(loading->reader, lsn, ret_record, ret_error);
    /* The chain names it: that it is not there is damage, not an answer. */
    return status == STATUS_NOT_FOUND
               ? error_set(ret_error, STATUS_CORRUPT, "record %" PRIu64 " is missing", lsn)
               : status;
}

static enum status list_chain(struct loading *loading, uint64_t last_lsn, struct error *ret_error)
{
    uint64_t lsn = last_lsn;
    while (lsn != 0) {
        struct wal_record record;
        enum status status = read_record(loading, lsn, &record, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (record.unit != loading->history->unit || record.previous_lsn >= lsn) {
            return error_set(ret_error, STATUS_CORRUPT,
                             "record %" PRIu64 " does not continue the unit's chain", lsn);
        }
        uint64_t *more =
            memory_reserve(loading->lsns, loading->lsn_count, &loading->lsn_capacity, sizeof(lsn));
        if (more == NULL) {
            return no_memory(ret_error);
        }
        loading->lsns = more;
        loading->lsns[loading->lsn_count++] = lsn;
        lsn = record.previous_lsn;
        wal_reader_forget(loading->reader);
    }
    return STATUS_OK;
}

static enum status learn_after(struct loading *loading, const struct wal_record *record,
                               const struct record_known *known, struct error *ret_error)
{
    struct history_write *write = &loading->history->writes[known->number];
    if (known->refused) {
        write->refused = true;
        return STATUS_OK;
    }
    if (write->after.presence != IMAGE_UNKNOWN) {
        struct image after;
        enum status status = history_image_view(loading->reader, &write->after, &after, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (!image_equal(after, known->after)) {
            return error_set(ret_error, STATUS_CORRUPT,
                             "two different after-images of write %" PRId32, known->number);
        }
    }
    write->after = place_of(record, known->after);
    return STATUS_OK;
}

static enum status take_known(struct loading *loading, const struct wal_record *record,
                              struct error *ret_error)
{
    for (size_t i = 0;; i++) {
        struct record_known known;
        struct error error;
        enum status status = record_get_known(record->payload, i, &known, &error);
        if (status == STATUS_NOT_FOUND) {
            return STATUS_OK;
        }
        if (status != STATUS_OK) {
            return error_set(ret_error, status, "%s", error.message);
        }
        if ((size_t)known.number >= loading->history->write_count) {
            return error_set(ret_error, STATUS_CORRUPT,
                             "`known` names write %" PRId32 ", which is not before it",
                             known.number);
        }
        status = learn_after(loading, record, &known, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
}

static enum status take_write(struct loading *loading, const struct wal_record *record,
                              struct error *ret_error)
{
    struct unit_history *history = loading->history;
    struct record_write write;
    enum status status = record_get_write(record->payload, &write, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if ((size_t)write.number != history->write_count) {
        return error_set(ret_error, STATUS_CORRUPT, "write %" PRId32 " stands at place %zu",
                         write.number, history->write_count);
    }
    status = take_known(loading, record, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct image command = {.presence = write.command.size > 0 ? IMAGE_PRESENT : IMAGE_UNKNOWN,
                            .document = write.command};
    if (!copy_bytes(history, write.key, &write.key) ||
        !copy_text(history, &loading->namespaces, &write.namespace) ||
        !copy_text(history, &loading->connections, &write.connection)) {
        return no_memory(ret_error);
    }
    void *more = memory_reserve(history->writes, history->write_count, &loading->write_capacity,
                                sizeof(*history->writes));
    if (more == NULL) {
        return no_memory(ret_error);
    }
    history->writes = more;
    history->writes[history->write_count++] = (struct history_write){
        .lsn = record->lsn,
        .operation = write.operation,
        .namespace = write.namespace,
        .key = write.key,
        .connection = write.connection,
        .before = place_of(record, write.before),
        .after = place_of(record, write.after),
        .command = place_of(record, command),
        .plain_probe = write.plain_probe,
    };
    return STATUS_OK;
}

static enum status take_record(struct loading *loading, const struct wal_record *record,
                               struct error *ret_error)
{
    struct unit_history *history = loading->history;
    struct slice payload;
    if ((record->previous_lsn == 0) != (record->kind == WAL_KIND_BEGIN)) {
        return error_set(ret_error, STATUS_CORRUPT, "a unit begins with BEGIN and only there");
    }
    switch (record->kind) {
    case WAL_KIND_BEGIN:
        return copy_bytes(history, record->payload, &payload)
                   ? record_get_begin(payload, &history->begin, ret_error)
                   : no_memory(ret_error);
    case WAL_KIND_WRITE:
        return take_write(loading, record, ret_error);
    case WAL_KIND_COMMITTING:
        return copy_bytes(history, record->payload, &history->committing) ? STATUS_OK
                                                                          : no_memory(ret_error);
    case WAL_KIND_COMMIT:
    case WAL_KIND_ABORT:
    case WAL_KIND_CONFLICT:
        if (!copy_bytes(history, record->payload, &history->last_payload)) {
            return no_memory(ret_error);
        }
        return record->kind == WAL_KIND_COMMIT || record_has_known(record->payload)
                   ? take_known(loading, record, ret_error)
                   : STATUS_OK;
    default:
        return STATUS_OK; /* kinds that say nothing about images */
    }
}

static enum status load(struct loading *loading, struct error *ret_error)
{
    struct unit_history *history = loading->history;
    struct wal_unit head;
    enum status status = wal_read_unit(loading->reader, history->unit, &head, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    history->state = head.state;
    history->last_lsn = head.last_lsn;
    history->begin_time_ms = head.begin_time_ms;
    history->last_time_ms = head.last_time_ms;
    status = list_chain(loading, head.last_lsn, ret_error);
    for (size_t i = loading->lsn_count; status == STATUS_OK && i-- > 0;) {
        struct wal_record record;
        status = read_record(loading, loading->lsns[i], &record, ret_error);
        if (status == STATUS_OK) {
            status = take_record(loading, &record, ret_error);
            if (status != STATUS_OK) {
                error_prefix(ret_error, "record %" PRIu64, record.lsn);
            }
            wal_reader_forget(loading->reader); /* what is kept of it was copied */
        }
    }
    return status == STATUS_OK ? STATUS_OK
                               : error_prefix(ret_error, "unit %" PRIu64, history->unit);
}

enum status unit_history_load(struct wal *wal, uint64_t unit, struct unit_history **ret_history,
                              struct error *ret_error)
{
    struct loading loading = {.history = calloc(1, sizeof(*loading.history))};
    if (loading.history == NULL) {
        return no_memory(ret_error);
    }
    loading.history->wal = wal;
    loading.history->unit = unit;
    enum status status = wal_reader_begin(wal, &loading.reader, ret_error);
    if (status == STATUS_OK) {
        status = load(&loading, ret_error);
    }
    wal_reader_end(loading.reader);
    free(loading.lsns);
    if (status != STATUS_OK) {
        unit_history_free(loading.history);
        return status;
    }
    *ret_history = loading.history;
    return STATUS_OK;
}
