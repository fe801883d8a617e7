/*
 * Figures of the journal, as one reader sees it.
 *
 * Any thread.
 */

#include "wal/internal.h"
#include "wal/rows.h"

static enum status count_open(struct wal_reader *reader, struct wal_statistics *statistics,
                              struct error *ret_error)
{
    struct wal_unit unit = {0};
    for (;;) {
        enum status status = wal_read_open_next(reader, unit.unit, &unit, ret_error);
        if (status != STATUS_OK) {
            return status == STATUS_NOT_FOUND ? STATUS_OK : status;
        }
        if (unit.state == WAL_UNIT_CONFLICT) {
            statistics->units_conflict++;
        } else {
            statistics->units_open++;
        }
    }
}

/* What the tail has beyond the tables. */
static void add_tail(struct tail_window *window, struct wal_statistics *statistics)
{
    uint64_t last_lsn = tail_window_last_lsn(window);
    if (last_lsn <= window->after_lsn) {
        return;
    }
    statistics->records += last_lsn - window->after_lsn;
    statistics->last_lsn = last_lsn;
    statistics->first_lsn =
        statistics->first_lsn == 0 ? window->after_lsn + 1 : statistics->first_lsn;
    uint64_t unit = statistics->last_unit;
    while ((unit = tail_window_unit_next(window, unit)) != 0) {
        statistics->last_unit = unit;
    }
}

static enum status read_statistics(struct wal_reader *reader, struct wal_statistics *statistics,
                                   struct error *ret_error)
{
    struct wal *wal = reader->wal;
    struct store_transaction *transaction = reader->transaction;
    struct store_usage usage;
    struct wal_record first;
    uint64_t unit = 0;
    enum status status = store_usage_get(transaction, &usage, ret_error);
    if (status == STATUS_OK) {
        status = store_entries(transaction, STORE_RECORDS, &statistics->records, ret_error);
    }
    if (status == STATUS_OK) {
        status =
            rows_highest(transaction, &statistics->last_lsn, &statistics->last_unit, ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_record_next(transaction, 0, &first, ret_error);
        statistics->first_lsn = status == STATUS_OK ? first.lsn : 0;
        status = status == STATUS_NOT_FOUND ? STATUS_OK : status;
    }
    if (status == STATUS_OK) {
        status = rows_pair(transaction, FORMAT_PROPERTY_FLOOR, &statistics->pruned_lsn, &unit,
                           ret_error);
    }
    if (status == STATUS_OK) {
        add_tail(&reader->window, statistics);
        status = count_open(reader, statistics, ret_error);
    }
    if (status == STATUS_OK) {
        statistics->quota_bytes = wal->quota_bytes;
        statistics->used_bytes = usage.used_bytes;
        statistics->commits = usage.commits;
        statistics->batches = atomic_load(&wal->batches);
        statistics->groups = atomic_load(&wal->groups);
    }
    return status;
}

const struct histogram *wal_commit_times(const struct wal *wal)
{
    return &wal->commits;
}

enum status wal_statistics_get(struct wal *wal, struct wal_statistics *ret_statistics,
                               struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    struct wal_statistics statistics = {0};
    enum status status = wal_reader_begin(wal, &reader, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = read_statistics(reader, &statistics, ret_error);
    wal_reader_end(reader);
    if (status == STATUS_OK) {
        *ret_statistics = statistics;
    }
    return status;
}
