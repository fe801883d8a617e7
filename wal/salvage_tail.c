/*
 * What the tail has beyond a damaged data.mdb (salvage.h).
 *
 *  - The frames that count are proven: whole, this journal's, without a gap from the file's
 *    beginning. Each of their records counts as one that was found; so do those that the tables
 *    have as well, of units that the tables know.
 *  - A unit's row is carried on over its records behind the tables' end, as long as each follows
 *    the one before it: by its previous LSN, which the tables' row has as the last one, so that
 *    nothing can be missing between. Where it does not follow, the row stays, and the record that
 *    came later says that it is a former one. A unit that begins there gets a row.
 *  - Whole frames behind damage prove that there are later records, not which: theirs are found
 *    records that no row knows of, so that their units are lost.
 *  - The tables' end is known for sure if all keys of the newest snapshot were seen. Else the tail
 *    may be an old one, and what goes on in it may have ended in a page that is lost.
 *
 * A part of the tail is missing if there are frames behind damage, if the first one begins behind
 * the tables' end, if the tables do not have its data key, or if the version says that there is a
 * tail and there is none that can be read. Then whatever is open may have ended in it.
 */

#include <stdlib.h>
#include <string.h>

#include "wal/salvage.h"

/* The place of a session of the tail: behind all that data.mdb has, in the order of LSNs. */
#define TAIL_OFFSET ((uint64_t)1 << 62)

static void raise(uint64_t *highest, uint64_t number)
{
    *highest = number > *highest ? number : *highest;
}

/* The highest LSN that the tables are known to have, or to have had. */
static uint64_t tables_end(const struct findings *findings)
{
    const struct found_row *floor = findings_property(findings, FORMAT_PROPERTY_FLOOR);
    uint64_t lsn = findings->highest_lsn;
    if (floor != NULL && floor->value_size == 16) {
        raise(&lsn, slice_load_u64be(floor->value));
    }
    return lsn;
}

/* ------------------------------------------------------------------ records */

static void take_records(struct findings *findings, const struct tail_view *view, uint64_t end)
{
    struct tail_window window = tail_window_of(view, 0);
    struct tail_place place = {0};
    while (tail_window_next(&window, &place)) {
        struct wal_record record;
        /* Of a unit without a row retention may have removed the records. */
        bool wanted = place.lsn > end || findings_unit(findings, place.at->unit) != NULL;
        if (wanted && format_record_get(place.lsn, place.at->value, &record, NULL) == STATUS_OK) {
            findings_add_record(findings, &record, place.at->value, 0, true);
            raise(&findings->highest_lsn, record.lsn);
            raise(&findings->highest_unit, record.unit);
            findings->committing = findings->committing || record.kind == WAL_KIND_COMMITTING;
        }
    }
}

/* ------------------------------------------------------------------ rows */

static void take_session(struct findings *findings, const struct tail_record *begin,
                         uint64_t time_ms)
{
    uint8_t row[FORMAT_SESSION_BYTES];
    const struct format_session session = {
        .transaction_number = begin->entry->transaction_number,
        .unit = begin->unit,
        .time_ms = time_ms,
    };
    if (begin->entry->session_key.size > 0) {
        format_session_put(row, begin->entry->session_key, &session);
        findings_add_session(findings, begin->entry->session_key, slice_make(row, sizeof(row)),
                             TAIL_OFFSET + begin->lsn);
    }
}

/* Whoever put an older data.mdb beside the tail has left the key of its records behind. */
static bool is_readable(const struct findings *findings, const struct wal_record *record)
{
    const struct found_row *keys = findings_property(findings, FORMAT_PROPERTY_KEYS);
    return !record->encrypted ||
           (keys != NULL &&
            cipher_property_has(slice_make(keys->value, keys->value_size), record->payload));
}

/* Carries a unit's row on; `exists`: there is one already. False: its first record is no BEGIN. */
static bool carry_on(struct findings *findings, struct format_unit *row, bool exists,
                     const struct tail_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct wal_record record;
        if (format_record_get(records[i].lsn, records[i].entry->value, &record, NULL) !=
                STATUS_OK ||
            !format_kind_may_follow(exists, row->unit.state, record.kind) ||
            record.previous_lsn != (exists ? row->unit.last_lsn : 0)) {
            break;
        }
        if (!is_readable(findings, &record)) {
            findings->tail_damaged = true;
            break;
        }
        if (!exists) {
            format_unit_begin(row, record.unit, record.lsn, record.time_ms,
                              records[i].entry->session_key);
            take_session(findings, &records[i], record.time_ms);
            exists = true;
        }
        format_unit_follow(row, record.kind, record.lsn, record.time_ms);
    }
    return exists;
}

/* By unit, so that the rows that are added are not looked for. */
static enum status take_rows(struct findings *findings, uint64_t end, struct error *ret_error)
{
    struct tail_window window = tail_window_of(findings->tail.frames, end);
    size_t count = 0;
    struct tail_record *records = NULL;
    enum status status = tail_window_by_unit(&window, &records, &count, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct found_unit *begun = calloc(count + 1, sizeof *begun);
    if (begun == NULL) {
        free(records);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    size_t begun_count = 0;
    for (size_t from = 0, to = 0; from < count; from = to) {
        while (to < count && records[to].unit == records[from].unit) {
            to++;
        }
        struct found_unit *found = findings_unit_to_change(findings, records[from].unit);
        struct format_unit *row = found != NULL ? &found->row : &begun[begun_count].row;
        bool is_there = carry_on(findings, row, found != NULL, records + from, to - from);
        begun_count += found == NULL && is_there ? 1 : 0;
    }
    for (size_t i = 0; i < begun_count; i++) {
        findings_add_unit(findings, &begun[i].row, 0, true);
    }
    free(records);
    free(begun);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ the whole */

static void note_damage(struct findings *findings)
{
    findings->tail_damaged = true;
    findings->damage_count++;
}

static enum status take_tail(struct findings *findings, struct slice bytes, uint64_t end,
                             struct error *ret_error)
{
    const struct found_row *id = findings_property(findings, FORMAT_PROPERTY_ID);
    enum status status = tail_look(bytes, id->value, end, &findings->tail, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (tail_judge(&findings->tail, end, NULL) != STATUS_OK) {
        note_damage(findings);
    }
    take_records(findings, findings->tail.frames, end);
    take_records(findings, findings->tail.strays, end);
    bool was_damaged = findings->tail_damaged;
    status = take_rows(findings, end, ret_error);
    findings->damage_count += findings->tail_damaged && !was_damaged ? 1 : 0;
    findings_sort(findings);
    return status;
}

enum status salvage_tail(const char *directory, struct findings *findings, struct error *ret_error)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct error error;
    const struct found_row *version = findings_property(findings, FORMAT_PROPERTY_VERSION);
    uint64_t end = tables_end(findings);
    findings->end_is_known =
        !findings->result.former_snapshot && findings->record_rows == findings->result.records;
    enum status status = tail_file_read(directory, FORMAT_TAIL_BYTES, &bytes, &size, &error);
    if (status == STATUS_MEMORY) {
        return error_set(ret_error, status, "%s", error.message);
    }
    bool expected = slice_load_u32be(version->value) >= FORMAT_VERSION_TAIL;
    if (status != STATUS_OK || (bytes == NULL && expected)) {
        note_damage(findings);
        return STATUS_OK;
    }
    status =
        bytes == NULL ? STATUS_OK : take_tail(findings, slice_make(bytes, size), end, ret_error);
    free(bytes);
    return status == STATUS_OK && findings->out_of_memory
               ? error_set(ret_error, STATUS_MEMORY, "out of memory")
               : status;
}
