/*
 * The new journal of a salvage (salvage.h).
 *
 *   1. TARGET/journal.new/ gets an environment with the kept records, units and sessions, in
 *      transactions of bounded size
 *   2. then the properties, the format version among them: without it nobody takes it for a journal
 *   3. journal.new/data.mdb is renamed to data.mdb
 *
 * The rows are those of the damaged journal, byte for byte, but for the journal's own properties.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "wal/directory.h"
#include "wal/internal.h"
#include "wal/rows.h"
#include "wal/salvage.h"

#define BATCH_BYTES ((uint64_t)16 << 20)
#define MAP_ROOM_BYTES ((uint64_t)256 << 20)
/* Numbers that may have been on lost pages are not given out again, and the lease must not know a
   higher LSN. There are enough of them. */
#define LSN_STEP ((uint64_t)1 << 32)
#define UNIT_STEP ((uint64_t)1 << 32)

struct writing {
    const struct findings *findings;
    struct store *store;
    struct store_transaction *transaction;
    uint64_t batch_bytes;
};

/* Makes room in a transaction for `bytes` more. */
static enum status turn(struct writing *writing, uint64_t bytes, struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (writing->transaction != NULL && writing->batch_bytes + bytes > BATCH_BYTES) {
        struct store_transaction *full = writing->transaction;
        writing->transaction = NULL;
        status = store_commit(full, ret_error);
    }
    if (status == STATUS_OK && writing->transaction == NULL) {
        writing->batch_bytes = 0;
        status = store_begin(writing->store, true, &writing->transaction, ret_error);
    }
    writing->batch_bytes += bytes;
    return status;
}

static bool unit_is_kept(const struct findings *findings, uint64_t number)
{
    const struct found_unit *unit = findings_unit(findings, number);
    return unit != NULL && unit->kept;
}

static enum status write_record(struct writing *writing, const struct found_record *found,
                                struct error *ret_error)
{
    uint8_t key[FORMAT_KEY_BYTES];
    uint8_t *bytes = NULL;
    uint8_t *room = NULL;
    struct wal_record record;
    enum status status = turn(writing, found->size, ret_error);
    if (status == STATUS_OK) {
        status = findings_read(writing->findings, found, &bytes, &record, ret_error);
    }
    if (status == STATUS_OK) {
        format_key_put(key, found->lsn);
        status = store_append(writing->transaction, STORE_RECORDS, slice_make(key, sizeof(key)),
                              found->size, &room, ret_error);
    }
    if (status == STATUS_OK) {
        memcpy(room, bytes, found->size);
    }
    free(bytes);
    return status;
}

static enum status write_records(struct writing *writing, struct wal_salvage *salvage,
                                 struct error *ret_error)
{
    const struct findings *findings = writing->findings;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < findings->record_count && status == STATUS_OK; i++) {
        if (unit_is_kept(findings, findings->records[i].unit)) {
            status = write_record(writing, &findings->records[i], ret_error);
            salvage->records_kept++;
        }
    }
    return status;
}

static enum status write_units(struct writing *writing, struct error *ret_error)
{
    const struct findings *findings = writing->findings;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < findings->unit_count && status == STATUS_OK; i++) {
        if (findings->units[i].kept) {
            status = turn(writing, FORMAT_UNIT_BYTES_MAX, ret_error);
            if (status == STATUS_OK) {
                status =
                    rows_unit_put(writing->transaction, &findings->units[i].row, false, ret_error);
            }
        }
    }
    return status;
}

static enum status write_sessions(struct writing *writing, struct wal_salvage *salvage,
                                  struct error *ret_error)
{
    const struct findings *findings = writing->findings;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < findings->session_count && status == STATUS_OK; i++) {
        const struct found_row *row = &findings->sessions[i];
        struct slice key = slice_make(row->key, row->key_size);
        struct format_session session;
        if (format_session_get(key, slice_make(row->value, row->value_size), &session, NULL) !=
                STATUS_OK ||
            !unit_is_kept(findings, session.unit)) {
            salvage->sessions_lost++;
            continue;
        }
        status = turn(writing, row->value_size + row->key_size, ret_error);
        if (status == STATUS_OK) {
            status = rows_session_put(writing->transaction, key, &session, ret_error);
        }
    }
    return status;
}

/* What the tail had is in the new tables: they have none. */
static uint32_t version_of(const struct findings *findings)
{
    const struct found_row *row = findings_property(findings, FORMAT_PROPERTY_VERSION);
    uint32_t version = format_version_no_tail(slice_load_u32be(row->value));
    return findings->committing ? format_version_committing(version) : version;
}

/* All but those that are made anew. */
static enum status write_properties(struct writing *writing, struct error *ret_error)
{
    static const char *const own[] = {FORMAT_PROPERTY_CLEAN, FORMAT_PROPERTY_FLOOR,
                                      FORMAT_PROPERTY_PRUNE, FORMAT_PROPERTY_VERSION};
    const struct findings *findings = writing->findings;
    uint8_t clean = 0;
    enum status status = turn(writing, BATCH_BYTES, ret_error); /* one transaction for all */
    for (size_t i = 0; i < findings->property_count && status == STATUS_OK; i++) {
        const struct found_row *row = &findings->properties[i];
        const char *name = (const char *)row->key;
        bool skip = false;
        for (size_t k = 0; k < sizeof(own) / sizeof(own[0]); k++) {
            skip = skip || strcmp(name, own[k]) == 0;
        }
        if (!skip) {
            status = rows_property_put(writing->transaction, name,
                                       slice_make(row->value, row->value_size), ret_error);
        }
    }
    if (status == STATUS_OK) {
        status = rows_version_put(writing->transaction, version_of(findings), ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_property_put(writing->transaction, FORMAT_PROPERTY_CLEAN,
                                   slice_make(&clean, 1), ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_pair_put(writing->transaction, FORMAT_PROPERTY_FLOOR,
                               findings->highest_lsn + LSN_STEP, findings->highest_unit + UNIT_STEP,
                               ret_error);
    }
    if (status == STATUS_OK) {
        struct store_transaction *last = writing->transaction;
        writing->transaction = NULL;
        status = store_commit(last, ret_error);
    }
    return status;
}

static enum status write_environment(const struct findings *findings, const char *place,
                                     struct wal_salvage *salvage, struct error *ret_error)
{
    struct writing writing = {.findings = findings};
    enum store_content content = STORE_NOTHING;
    struct store_options options = {
        .directory = place,
        .map_bytes =
            (pages_file_bytes(findings->pages) * 2 + MAP_ROOM_BYTES + 0xFFFF) & ~(uint64_t)0xFFFF,
        .durability = WAL_DURABILITY_POWER,
    };
    enum status status = store_open(&options, &writing.store, &content, ret_error);
    if (status == STATUS_OK) {
        status = turn(&writing, 0, ret_error);
    }
    if (status == STATUS_OK) {
        status = store_make_tables(writing.transaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = write_records(&writing, salvage, ret_error);
    }
    if (status == STATUS_OK) {
        status = write_units(&writing, ret_error);
    }
    if (status == STATUS_OK) {
        status = write_sessions(&writing, salvage, ret_error);
    }
    if (status == STATUS_OK) {
        status = write_properties(&writing, ret_error);
    }
    store_abort(writing.transaction);
    store_close(writing.store);
    return status;
}

enum status salvage_write(const struct findings *findings, const char *target,
                          struct wal_salvage *salvage, struct error *ret_error)
{
    struct make_files files;
    enum status status = make_files_name(target, &files, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (access(files.data, F_OK) == 0) {
        return error_set(ret_error, STATUS_INVALID,
                         "there is a journal in %s: name a directory without one", target);
    }
    /* It may be there from an attempt that was cut short. */
    status = make_place(&files, ret_error);
    if (status == STATUS_OK) {
        status = write_environment(findings, files.place, salvage, ret_error);
    }
    if (status == STATUS_OK) {
        status = make_put_in_place(&files, ret_error);
    }
    make_place_remove(&files);
    return status == STATUS_OK ? directory_sync(target, ret_error) : status;
}
