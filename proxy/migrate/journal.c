/* The batches of migrations in the journal (journal.h). */
#include "migrate/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/migrate.h"
#include "migrate/row.h"
#include "recover/history.h"
#include "recover/record.h"
#include "recover/unit_walk.h"

/* More batches than a migration has whose units the journal could keep: 128 MiB of numbers. */
#define BATCHES_MAX (INT64_C(1) << 24)

enum status journal_run_open(struct journal_run *run, const bson_oid_t *id, int64_t count,
                             struct error *ret_error)
{
    *run = (struct journal_run){.run = *id, .count = count};
    if (count < 0 || count > BATCHES_MAX) {
        return error_set(ret_error, STATUS_CORRUPT, "a migration's number of units is not true");
    }
    run->units = calloc((size_t)count + 1, sizeof(*run->units));
    return run->units != NULL ? STATUS_OK : error_set(ret_error, STATUS_MEMORY, "out of memory");
}

void journal_run_close(struct journal_run *run)
{
    free(run->units);
    *run = (struct journal_run){0};
}

/* Whether the unit is one of `holdfast migrate`, by its first record. */
static enum status is_ours(struct wal_reader *reader, const struct wal_unit *unit, bool *ret_ours,
                           struct error *ret_error)
{
    struct wal_record record;
    struct record_begin begin;
    enum status status = wal_read(reader, unit->first_lsn, &record, ret_error);
    if (status == STATUS_OK) {
        *ret_ours = record.kind == WAL_KIND_BEGIN &&
                    record_get_begin(record.payload, &begin, NULL) == STATUS_OK &&
                    strcmp(begin.application, MIGRATE_APPLICATION) == 0;
    }
    return status;
}

/* The after-image of the write, which may have been learned only when the unit ended. */
static bool after_of(const struct record_write *write, const struct wal_record *last,
                     struct image *ret_after)
{
    struct record_known known;
    *ret_after = write->after;
    for (size_t i = 0; write->after.presence == IMAGE_UNKNOWN &&
                       record_get_known(last->payload, i, &known, NULL) == STATUS_OK;
         i++) {
        if (known.number == write->number) {
            *ret_after = known.after;
            break;
        }
    }
    return ret_after->presence == IMAGE_PRESENT;
}

/* The runs that are looked for. */
struct sought {
    struct journal_run *runs;
    size_t count;
    char namespace[128]; /* of the rows */
};

static void note(const struct sought *sought, struct image row, const struct wal_unit *unit)
{
    struct journal_run *runs = sought->runs;
    bson_t document;
    bson_iter_t at;
    if (!bson_init_static(&document, row.document.data, row.document.size) ||
        !bson_iter_init_find(&at, &document, "run") || !BSON_ITER_HOLDS_OID(&at)) {
        return;
    }
    const bson_oid_t *run = bson_iter_oid(&at);
    int64_t number = maintain_number(&document, "batch");
    for (size_t i = 0; i < sought->count; i++) {
        if (bson_oid_equal(&runs[i].run, run) && number >= 1 && number <= runs[i].count &&
            runs[i].units[number - 1] == 0) {
            runs[i].units[number - 1] = unit->unit;
            bool first = runs[i].found++ == 0;
            runs[i].oldest_ms = first || unit->last_time_ms < runs[i].oldest_ms ? unit->last_time_ms
                                                                                : runs[i].oldest_ms;
        }
    }
}

/* Of a unit of ours whose last write is a row's: which batch of which run it was. */
static enum status look(struct wal_reader *reader, const struct wal_unit *unit, void *context,
                        struct error *ret_error)
{
    const struct sought *sought = context;
    struct wal_record last;
    struct wal_record record;
    struct record_write write;
    struct image after;
    bool ours = false;
    enum status status =
        unit->state == WAL_UNIT_COMMITTED ? is_ours(reader, unit, &ours, ret_error) : STATUS_OK;
    if (status == STATUS_OK && ours) {
        status = wal_read(reader, unit->last_lsn, &last, ret_error);
    }
    if (status == STATUS_OK && ours) {
        status = wal_read(reader, last.previous_lsn, &record, ret_error);
    }
    if (status != STATUS_OK || !ours || record.kind != WAL_KIND_WRITE ||
        record_get_write(record.payload, &write, NULL) != STATUS_OK ||
        strcmp(write.namespace, sought->namespace) != 0) {
        return status;
    }
    if (after_of(&write, &last, &after)) {
        note(sought, after, unit);
    }
    return STATUS_OK;
}

enum status journal_search(struct wal *wal, const char *database, struct journal_run *runs,
                           size_t run_count, struct error *ret_error)
{
    struct sought sought = {.runs = runs, .count = run_count};
    (void)snprintf(sought.namespace, sizeof(sought.namespace), "%s." ROW_COLLECTION, database);
    return unit_walk(wal, look, &sought, ret_error);
}
