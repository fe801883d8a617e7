/*
 * All writes of one unit, read from the journal (record.h, "a whole unit").
 *
 * The unit's records form a chain by their previous LSNs; it is followed from the last record back,
 * each payload is copied, and then everything is read oldest first:
 *
 *     BEGIN <- WRITE 0 <- WRITE 1 <- ... <- WRITE n-1 <- COMMIT | ABORT | CONFLICT (or none)
 *                            |
 *                            known: the after-image of write 0, learned from its reply
 *
 * Invariants: writes[i].number == i; an after-image that the journal names twice is the same both
 * times. What breaks them is STATUS_CORRUPT with the LSN: a unit is never half read.
 *
 * Threads: the caller's; the history owns its memory and does not keep the reader.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "recover/record.h"

struct link {
    struct link *older;
    struct link *newer;
    uint64_t lsn;
    uint64_t previous_lsn;
    enum wal_kind kind;
    size_t size;
    uint8_t payload[];
};

static struct link *link_copy(const struct wal_record *record, struct link *newer)
{
    struct link *copy = malloc(sizeof(*copy) + record->payload.size);
    if (copy == NULL) {
        return NULL;
    }
    copy->older = NULL;
    copy->newer = newer;
    copy->lsn = record->lsn;
    copy->previous_lsn = record->previous_lsn;
    copy->kind = record->kind;
    copy->size = record->payload.size;
    if (copy->size > 0) {
        memcpy(copy->payload, record->payload.data, copy->size);
    }
    return copy;
}

struct unit_history *unit_history_free(struct unit_history *history)
{
    if (history == NULL) {
        return NULL;
    }
    struct link *link = history->memory;
    while (link != NULL) {
        struct link *newer = link->newer;
        free(link);
        link = newer;
    }
    free(history->writes);
    free(history);
    return NULL;
}

/* Copies the chain. On failure what was copied so far hangs on history->memory as well. */
static enum status chain_copy(struct wal_reader *reader, uint64_t last_lsn,
                              struct unit_history *history, struct error *ret_error)
{
    uint64_t lsn = last_lsn;
    struct link *newer = NULL;
    while (lsn != 0) {
        struct wal_record record;
        enum status status = wal_read(reader, lsn, &record, ret_error);
        if (status != STATUS_OK) {
            /* The chain names it: that it is not there is damage, not an answer. */
            if (status == STATUS_NOT_FOUND) {
                return error_set(ret_error, STATUS_CORRUPT, "record %" PRIu64 " is missing", lsn);
            }
            return status;
        }
        if (record.unit != history->unit || record.previous_lsn >= lsn) {
            return error_set(ret_error, STATUS_CORRUPT,
                             "record %" PRIu64 " does not continue the unit's chain", lsn);
        }
        struct link *link = link_copy(&record, newer);
        if (link == NULL) {
            return error_set(ret_error, STATUS_MEMORY, "out of memory for record %" PRIu64, lsn);
        }
        if (newer != NULL) {
            newer->older = link;
        }
        history->memory = link;
        newer = link;
        if (record.kind == WAL_KIND_WRITE) {
            history->write_count++;
        }
        lsn = record.previous_lsn;
    }
    return STATUS_OK;
}

static enum status take_known(struct unit_history *history, struct slice payload,
                              size_t writes_before, struct error *ret_error)
{
    for (size_t i = 0;; i++) {
        struct record_known known;
        struct error error;
        enum status status = record_get_known(payload, i, &known, &error);
        if (status == STATUS_NOT_FOUND) {
            return STATUS_OK;
        }
        if (status != STATUS_OK) {
            return error_set(ret_error, status, "%s", error.message);
        }
        if ((size_t)known.number >= writes_before) {
            return error_set(ret_error, STATUS_CORRUPT,
                             "`known` names write %" PRId32 ", which is not before it",
                             known.number);
        }
        if (known.refused) {
            history->writes[known.number].refused = true;
            continue;
        }
        struct image *after = &history->writes[known.number].after;
        if (after->presence != IMAGE_UNKNOWN && !image_equal(*after, known.after)) {
            return error_set(ret_error, STATUS_CORRUPT,
                             "two different after-images of write %" PRId32, known.number);
        }
        *after = known.after;
    }
}

static enum status take_record(struct unit_history *history, const struct link *link,
                               size_t *write_count, struct error *ret_error)
{
    struct slice payload = slice_make(link->payload, link->size);
    struct record_write write;
    enum status status;
    if ((link->older == NULL) != (link->kind == WAL_KIND_BEGIN)) {
        return error_set(ret_error, STATUS_CORRUPT, "a unit begins with BEGIN and only there");
    }
    switch (link->kind) {
    case WAL_KIND_BEGIN:
        return record_get_begin(payload, &history->begin, ret_error);
    case WAL_KIND_WRITE:
        status = record_get_write(payload, &write, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if ((size_t)write.number != *write_count) {
            return error_set(ret_error, STATUS_CORRUPT, "write %" PRId32 " stands at place %zu",
                             write.number, *write_count);
        }
        status = take_known(history, payload, *write_count, ret_error);
        history->writes[*write_count] = write;
        *write_count += 1;
        return status;
    case WAL_KIND_COMMIT:
        history->last_payload = payload;
        return take_known(history, payload, *write_count, ret_error);
    case WAL_KIND_ABORT:
    case WAL_KIND_CONFLICT:
        history->last_payload = payload;
        return STATUS_OK;
    default:
        return STATUS_OK; /* kinds that say nothing about images */
    }
}

enum status unit_history_load(struct wal_reader *reader, uint64_t unit,
                              struct unit_history **ret_history, struct error *ret_error)
{
    struct wal_unit head;
    size_t write_count = 0;
    struct unit_history *history = NULL;
    enum status status = wal_read_unit(reader, unit, &head, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    history = calloc(1, sizeof(*history));
    if (history == NULL) {
        status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        goto out;
    }
    history->unit = unit;
    history->state = head.state;
    history->begin_time_ms = head.begin_time_ms;
    history->last_time_ms = head.last_time_ms;
    status = chain_copy(reader, head.last_lsn, history, ret_error);
    if (status != STATUS_OK) {
        goto out;
    }
    history->writes = calloc(history->write_count + 1, sizeof(*history->writes));
    if (history->writes == NULL) {
        status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        goto out;
    }
    for (const struct link *link = history->memory; link != NULL; link = link->newer) {
        status = take_record(history, link, &write_count, ret_error);
        if (status != STATUS_OK) {
            error_prefix(ret_error, "record %" PRIu64, link->lsn);
            goto out;
        }
    }
    *ret_history = history;
    history = NULL;
out:
    if (status != STATUS_OK) {
        error_prefix(ret_error, "unit %" PRIu64, unit);
    }
    unit_history_free(history);
    return status;
}
