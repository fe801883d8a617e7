/*
 * Salvage of a damaged journal (wal_salvage_run() in holdfast/wal.h): which units are whole.
 *
 * A unit is whole if
 *  - its row is intact, on a page that belongs to it alone;
 *  - from the row's last LSN the chain of previous LSNs leads to the row's first one, over intact
 *    records of this unit, none of them doubtful;
 *  - the last record's kind and time are the row's state and time;
 *  - the first is a BEGIN of the row's time;
 *  - no intact record of the unit has a higher LSN: then the row would be a former version;
 *  - it had ended, if only the former meta page could be used, or a part of the tail is missing
 *    (end_lost).
 *
 * Row and records may be those of the tail (salvage_tail.c).
 *
 * The damaged journal is only read; but its owner's lock is taken, so that nobody works on it.
 *
 * The caller's thread.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "wal/directory.h"
#include "wal/salvage.h"

static bool state_fits(enum wal_unit_state state, enum wal_kind kind)
{
    static const enum wal_kind kinds[] = {
        [WAL_UNIT_OPEN] = WAL_KIND_WRITE, /* or BEGIN */
        [WAL_UNIT_COMMITTED] = WAL_KIND_COMMIT,  [WAL_UNIT_ABORTED] = WAL_KIND_ABORT,
        [WAL_UNIT_CONFLICT] = WAL_KIND_CONFLICT, [WAL_UNIT_COMMITTING] = WAL_KIND_COMMITTING,
    };
    return kind == kinds[state] || (state == WAL_UNIT_OPEN && kind == WAL_KIND_BEGIN);
}

/* NULL, or why it is not whole; `lsn` then says where. */
static const char *chain_fault(const struct findings *findings, const struct wal_unit *unit,
                               uint64_t *lsn)
{
    const struct found_record *record = NULL;
    *lsn = unit->last_lsn;
    for (uint64_t at = unit->last_lsn; at != 0; at = record->previous_lsn) {
        *lsn = at;
        record = findings_record(findings, at);
        if (record == NULL) {
            return "it is damaged or missing";
        }
        if (record->doubtful) {
            return "there are two of it that differ";
        }
        if (record->unit != unit->unit) {
            return "it is another unit's";
        }
        if (at == unit->last_lsn &&
            (!state_fits(unit->state, record->kind) || record->time_ms != unit->last_time_ms)) {
            return "it is not what the unit's row says of its last one";
        }
    }
    if (record == NULL || record->lsn != unit->first_lsn || record->kind != WAL_KIND_BEGIN ||
        record->time_ms != unit->begin_time_ms) {
        return "it is not the unit's first one";
    }
    return NULL;
}

static void judge_unit(const struct findings *findings, struct found_unit *found,
                       uint64_t newest_lsn, bool end_lost)
{
    const struct wal_unit *unit = &found->row.unit;
    uint64_t lsn = 0;
    const char *fault = chain_fault(findings, unit, &lsn);
    found->kept = false;
    if (fault != NULL) {
        (void)snprintf(found->why, sizeof(found->why), "record %" PRIu64 ": %s", lsn, fault);
    } else if (newest_lsn > unit->last_lsn) {
        (void)snprintf(found->why, sizeof(found->why),
                       "its row is a former one: record %" PRIu64 " came later", newest_lsn);
    } else if (end_lost && format_unit_is_open(unit->state)) {
        (void)snprintf(found->why, sizeof(found->why),
                       "it was open, and may have ended in the part that is lost");
    } else if (found->from_tail && !findings->end_is_known && format_unit_is_open(unit->state)) {
        (void)snprintf(found->why, sizeof(found->why),
                       "only the tail has it, as open, and it may have ended in a damaged part");
    } else {
        found->kept = true;
    }
}

/* A unit's newest intact record; 0: none. */
struct newest {
    uint64_t unit;
    uint64_t lsn;
    uint64_t first_lsn;
    uint64_t begin_time_ms;
};

static int compare_newest(const void *a_void, const void *b_void)
{
    const struct newest *a = a_void;
    const struct newest *b = b_void;
    if (a->unit != b->unit) {
        return a->unit < b->unit ? -1 : 1;
    }
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn ? 1 : 0;
}

/* One entry for each unit that has an intact record, by number. */
static enum status list_units(const struct findings *findings, struct newest **ret_list,
                              size_t *ret_count, struct error *ret_error)
{
    size_t count = 0;
    struct newest *list = calloc(findings->record_count + 1, sizeof(*list));
    if (list == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < findings->record_count; i++) {
        const struct found_record *record = &findings->records[i];
        list[i] = (struct newest){.unit = record->unit,
                                  .lsn = record->lsn,
                                  .first_lsn = record->lsn,
                                  .begin_time_ms = record->time_ms};
    }
    qsort(list, findings->record_count, sizeof(*list), compare_newest);
    for (size_t i = 0; i < findings->record_count; i++) {
        if (count > 0 && list[count - 1].unit == list[i].unit) {
            list[count - 1].lsn = list[i].lsn;
        } else {
            list[count++] = list[i];
        }
    }
    *ret_list = list;
    *ret_count = count;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ telling what is lost */

/* If it can be decrypted. The result is to be freed. */
static uint8_t *open_payload(const struct findings *findings, struct wal_record *record)
{
    if (!record->encrypted || findings->cipher == NULL) {
        return NULL;
    }
    uint8_t *opened = malloc(record->payload.size);
    if (opened != NULL && cipher_decrypt(findings->cipher, record, opened, NULL) == STATUS_OK) {
        record->payload = slice_make(opened, record->payload.size - CIPHER_OVERHEAD_BYTES);
        record->encrypted = false;
    }
    return opened;
}

static void tell_records(const struct findings *findings, uint64_t unit,
                         const struct wal_salvage_options *options, struct wal_salvage *salvage)
{
    for (size_t i = 0; i < findings->record_count; i++) {
        const struct found_record *found = &findings->records[i];
        uint8_t *bytes = NULL;
        struct wal_record record;
        if (found->unit != unit || found->doubtful) {
            continue;
        }
        salvage->records_lost++;
        if (options->lost_record != NULL &&
            findings_read(findings, found, &bytes, &record, NULL) == STATUS_OK) {
            uint8_t *opened = open_payload(findings, &record);
            options->lost_record(options->context, &record);
            free(opened);
            free(bytes);
        }
    }
}

static void tell_unit(const struct findings *findings, const struct wal_unit *unit, const char *why,
                      const struct wal_salvage_options *options, struct wal_salvage *salvage)
{
    salvage->units_lost++;
    if (options->lost_unit != NULL) {
        options->lost_unit(options->context, unit, why);
    }
    tell_records(findings, unit->unit, options, salvage);
}

/* Retention may have begun to remove it: its row is gone, and that is no damage. */
static uint64_t pruned_unit(const struct findings *findings)
{
    const struct found_row *prune = findings_property(findings, FORMAT_PROPERTY_PRUNE);
    return prune != NULL && prune->value_size == 16 ? slice_load_u64be(prune->value) : 0;
}

/* Judges all, keeps what is whole, tells the rest. */
static enum status judge(struct findings *findings, const struct wal_salvage_options *options,
                         struct wal_salvage *salvage, struct error *ret_error)
{
    struct newest *list = NULL;
    size_t count = 0;
    enum status status = list_units(findings, &list, &count, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < findings->unit_count; i++) {
        struct found_unit *found = &findings->units[i];
        size_t at = 0;
        for (size_t low = 0, high = count; low < high;) {
            at = low + (high - low) / 2;
            if (list[at].unit < found->row.unit.unit) {
                low = at + 1;
            } else {
                high = at;
            }
            at = low;
        }
        bool known = at < count && list[at].unit == found->row.unit.unit;
        judge_unit(findings, found, known ? list[at].lsn : 0, salvage->end_lost);
        if (found->kept) {
            salvage->units_kept++;
        } else {
            tell_unit(findings, &found->row.unit, found->why, options, salvage);
        }
    }
    uint64_t pruned = pruned_unit(findings);
    for (size_t i = 0; i < count; i++) {
        if (list[i].unit != pruned && findings_unit(findings, list[i].unit) == NULL) {
            struct wal_unit unit = {.unit = list[i].unit,
                                    .first_lsn = list[i].first_lsn,
                                    .last_lsn = list[i].lsn,
                                    .begin_time_ms = list[i].begin_time_ms};
            tell_unit(findings, &unit, "its row is damaged: nobody knows how it ended", options,
                      salvage);
        }
    }
    free(list);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ the whole */

static enum status check_identity(const struct findings *findings, struct wal_salvage *salvage,
                                  struct error *ret_error)
{
    const struct found_row *version = findings_property(findings, FORMAT_PROPERTY_VERSION);
    const struct found_row *id = findings_property(findings, FORMAT_PROPERTY_ID);
    if (version == NULL || version->value_size != 4 || id == NULL ||
        id->value_size != WAL_JOURNAL_ID_BYTES) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "not even the journal's id and format version are intact: nothing of it "
                         "can be kept");
    }
    uint32_t number = 0;
    enum status status =
        format_version_get(slice_make(version->value, version->value_size), &number, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(salvage->journal_id, id->value, WAL_JOURNAL_ID_BYTES);
    return STATUS_OK;
}

/* Without its data keys nothing that is encrypted is worth keeping. */
static enum status open_cipher(struct findings *findings, const char *key_file,
                               struct error *ret_error)
{
    const struct found_row *version = findings_property(findings, FORMAT_PROPERTY_VERSION);
    const struct found_row *id = findings_property(findings, FORMAT_PROPERTY_ID);
    const struct found_row *keys = findings_property(findings, FORMAT_PROPERTY_KEYS);
    bool encrypted = format_version_is_encrypted(slice_load_u32be(version->value));
    if (encrypted && keys == NULL) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "the journal is encrypted and its data keys are damaged: nothing of it "
                         "can be read any more");
    }
    if (!encrypted || key_file == NULL) {
        return STATUS_OK;
    }
    enum status status = cipher_open(key_file, id->value, &findings->cipher, ret_error);
    return status == STATUS_OK ? cipher_learn(findings->cipher,
                                              slice_make(keys->value, keys->value_size), ret_error)
                               : status;
}

static bool is_same_directory(const char *a, const char *b)
{
    struct stat left;
    struct stat right;
    return stat(a, &left) == 0 && stat(b, &right) == 0 && left.st_dev == right.st_dev &&
           left.st_ino == right.st_ino;
}

static enum status run(const struct wal_salvage_options *options, struct wal_salvage *salvage,
                       struct error *ret_error)
{
    struct findings findings = {0};
    enum status status = salvage_find(options->directory, &findings, ret_error);
    if (status == STATUS_OK) {
        status = check_identity(&findings, salvage, ret_error);
    }
    if (status == STATUS_OK) {
        status = open_cipher(&findings, options->key_file, ret_error);
    }
    if (status == STATUS_OK) {
        status = salvage_tail(options->directory, &findings, ret_error);
    }
    if (status == STATUS_OK) {
        salvage->damage_count = findings.damage_count;
        salvage->end_lost = findings.result.former_snapshot || findings.tail_damaged;
        salvage->sessions_lost = findings.sessions_lost;
        salvage->properties_lost = findings.properties_lost;
        status = judge(&findings, options, salvage, ret_error);
    }
    if (status == STATUS_OK) {
        status = salvage_write(&findings, options->target, salvage, ret_error);
    }
    findings_free(&findings);
    return status;
}

enum status wal_salvage_run(const struct wal_salvage_options *options,
                            struct wal_salvage *ret_salvage, struct error *ret_error)
{
    struct wal_salvage salvage = {0};
    int damaged_lock = -1;
    int target_lock = -1;
    enum status status = directory_check_filesystem(options->directory, ret_error);
    if (status == STATUS_OK) {
        status = directory_make(options->target, ret_error);
    }
    if (status == STATUS_OK && is_same_directory(options->directory, options->target)) {
        status = error_set(ret_error, STATUS_INVALID,
                           "the new journal must not lie where the damaged one is");
    }
    if (status == STATUS_OK) {
        status = directory_check_filesystem(options->target, ret_error);
    }
    if (status == STATUS_OK) {
        status = directory_lock(options->directory, "holdfast salvage", &damaged_lock, ret_error);
    }
    if (status == STATUS_OK) {
        status = directory_lock(options->target, "holdfast salvage", &target_lock, ret_error);
    }
    if (status == STATUS_OK) {
        status = run(options, &salvage, ret_error);
    }
    (void)directory_unlock(target_lock);
    (void)directory_unlock(damaged_lock);
    if (status == STATUS_OK) {
        *ret_salvage = salvage;
    }
    return status;
}
