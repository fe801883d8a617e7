/*
 * What the journal was asked to keep, and what it has promised: a second opinion on its records,
 * beside the model of the data (model.c). It listens to wal_append() and wal_append_wait(), reads
 * the journal after each opening for writing, and now and then in between.
 *
 *   asked --> kept, with its LSNs      its caller was told so, or it was found after an opening
 *         `-> gone                     refused, or not found after an opening
 *
 * What must hold of each reader
 *  - what was kept when it began is there, under its LSN, as it was;
 *  - each record that is there is part of a group that was kept, or of one that was asked for and
 *    not yet answered: whole, once, and none that is gone.
 */
#include "ledger.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "sim.h"
#include "store.h"
#include "wal/internal.h"

#define GROUPS_MAX 8192
#define RECORDS_MAX 32768
/* Of the groups that were kept, this part has the whole journal read. */
#define READ_ONE_IN 32

enum status __real_wal_open(const struct wal_options *options, struct wal **ret_wal,
                            struct error *ret_error);
void __real_wal_append(struct wal *wal, struct wal_append *first);
enum status __real_wal_append_wait(struct wal *wal, struct wal_append *first,
                                   struct error *ret_error);
enum status __wrap_wal_open(const struct wal_options *options, struct wal **ret_wal,
                            struct error *ret_error);
void __wrap_wal_append(struct wal *wal, struct wal_append *first);
enum status __wrap_wal_append_wait(struct wal *wal, struct wal_append *first,
                                   struct error *ret_error);

enum fate { ASKED, KEPT, GONE };

struct record {
    uint64_t lsn; /* if kept */
    uint64_t unit;
    enum wal_kind kind;
    size_t size;
    uint32_t crc;
};

struct group {
    enum fate fate;
    bool open;        /* whoever asked is alive, and was not told */
    uint64_t kept_at; /* in the order of these */
    size_t first;     /* record */
    size_t count;
    /* of whoever asked */
    void (*completed)(struct wal_append *first, void *context);
    void *context;
    struct wal *wal;
};

static struct group groups[GROUPS_MAX];
static size_t group_count;
static struct record records[RECORDS_MAX];
static size_t record_count;
static uint64_t kept_count;

void ledger_reset(void)
{
    group_count = 0;
    record_count = 0;
    kept_count = 0;
}

void ledger_forget_process(void)
{
    for (size_t i = 0; i < group_count; i++) {
        groups[i].open = false;
    }
}

static size_t note_asked(const struct wal_append *first)
{
    assert(group_count < GROUPS_MAX);
    struct group *group = &groups[group_count];
    *group = (struct group){.fate = ASKED, .open = true, .first = record_count};
    for (const struct wal_append *record = first; record != NULL; record = record->next) {
        assert(record_count < RECORDS_MAX);
        model_record_asked(record->unit, record->kind, record->payload);
        records[record_count++] = (struct record){
            .unit = record->unit,
            .kind = record->kind,
            .size = record->payload.size,
            .crc = format_crc32c(0, record->payload),
        };
        group->count++;
    }
    return group_count++;
}

static void note_answer(size_t index, const struct wal_append *first)
{
    struct group *group = &groups[index];
    enum fate before = group->fate;
    size_t i = group->first;
    group->open = false;
    if (first->status == STATUS_IO) {
        return; /* the next opening tells */
    }
    group->fate = first->status == STATUS_OK ? KEPT : GONE;
    group->kept_at = ++kept_count;
    for (const struct wal_append *record = first; record != NULL; record = record->next, i++) {
        records[i].lsn = record->lsn;
        if (group->fate == KEPT && record->lsn != first->lsn + (i - group->first)) {
            sim_fail("the records of a group of unit %llu have LSNs with a gap",
                     (unsigned long long)first->unit);
        }
    }
    assert(before == ASKED);
}

/* ------------------------------------------------------------------ reading */

static bool is_same(const struct record *record, const struct wal_record *stored)
{
    return record->unit == stored->unit && record->kind == stored->kind &&
           record->size == stored->payload.size && record->crc == format_crc32c(0, stored->payload);
}

static struct group *kept_group_of(uint64_t lsn)
{
    for (size_t i = 0; i < group_count; i++) {
        struct group *group = &groups[i];
        uint64_t first = records[group->first].lsn;
        if (group->fate == KEPT && lsn >= first && lsn < first + group->count) {
            return group;
        }
    }
    return NULL;
}

/* Whether the group is in the journal from this LSN on, whole. */
static bool is_at(struct wal_reader *reader, const struct group *group, uint64_t lsn)
{
    for (size_t i = 0; i < group->count; i++) {
        struct wal_record stored;
        if (wal_read(reader, lsn + i, &stored, NULL) != STATUS_OK ||
            !is_same(&records[group->first + i], &stored)) {
            return false;
        }
    }
    return true;
}

static struct group *asked_group_at(struct wal_reader *reader, uint64_t lsn)
{
    for (size_t i = 0; i < group_count; i++) {
        if (groups[i].fate == ASKED && is_at(reader, &groups[i], lsn)) {
            return &groups[i];
        }
    }
    return NULL;
}

static void keep_at(struct group *group, uint64_t lsn)
{
    group->fate = KEPT;
    group->kept_at = ++kept_count;
    for (size_t i = 0; i < group->count; i++) {
        records[group->first + i].lsn = lsn + i;
    }
}

/* All that was kept until then is there. */
static void check_kept(struct wal_reader *reader, uint64_t kept_until, uint64_t pruned_lsn,
                       const char *when)
{
    for (size_t i = 0; i < group_count && !sim.failed; i++) {
        const struct group *group = &groups[i];
        uint64_t lsn = records[group->first].lsn;
        if (group->fate == KEPT && group->kept_at <= kept_until && lsn > pruned_lsn &&
            !is_at(reader, group, lsn)) {
            sim_fail("%s: the journal lacks record %llu of unit %llu, which it had kept", when,
                     (unsigned long long)lsn, (unsigned long long)records[group->first].unit);
        }
    }
}

/* All that is there was asked for. `opened`: what is there now is what is kept. */
static void check_asked(struct wal_reader *reader, uint64_t pruned_lsn, bool opened,
                        const char *when)
{
    struct wal_record stored;
    uint64_t lsn = pruned_lsn;
    uint64_t previous = pruned_lsn;
    while (!sim.failed && wal_read_next(reader, lsn, &stored, NULL) == STATUS_OK) {
        if (stored.lsn != lsn + 1) {
            sim_fail("%s: the journal has nothing between the records %llu and %llu", when,
                     (unsigned long long)lsn, (unsigned long long)stored.lsn);
        }
        lsn = stored.lsn;
        if (lsn <= previous || kept_group_of(lsn) != NULL) {
            continue; /* check_kept() has looked at it, or it is part of the group before */
        }
        struct group *group = asked_group_at(reader, lsn);
        if (group == NULL) {
            sim_fail("%s: record %llu of unit %llu is no whole group that was asked for", when,
                     (unsigned long long)lsn, (unsigned long long)stored.unit);
            return;
        }
        previous = lsn + group->count - 1;
        if (opened) {
            keep_at(group, lsn);
        }
    }
}

static void read_journal(struct wal *wal, bool opened, const char *when)
{
    struct wal_reader *reader = NULL;
    struct wal_statistics statistics;
    struct error error;
    uint64_t kept_until = kept_count;
    enum status status = wal_statistics_get(wal, &statistics, &error);
    if (status == STATUS_OK) {
        status = wal_reader_begin(wal, &reader, &error);
    }
    if (status != STATUS_OK) {
        if (!sim_store_has_failed()) {
            sim_fail("%s: the journal cannot be read: %s", when, error.message);
        }
        return;
    }
    check_kept(reader, kept_until, statistics.pruned_lsn, when);
    check_asked(reader, statistics.pruned_lsn, opened, when);
    wal_reader_end(reader);
}

/* ------------------------------------------------------------------ in the place of the journal's
 */

enum status __wrap_wal_open(const struct wal_options *options, struct wal **ret_wal,
                            struct error *ret_error)
{
    enum status status = __real_wal_open(options, ret_wal, ret_error);
    if (status == STATUS_OK && !options->read_only) {
        read_journal(*ret_wal, true, "after an opening");
        for (size_t i = 0; i < group_count; i++) {
            groups[i].fate = groups[i].fate == ASKED ? GONE : groups[i].fate;
        }
    }
    return status;
}

static void on_completed(struct wal_append *first, void *context)
{
    size_t index = (size_t)(uintptr_t)context;
    const struct group group = groups[index];
    note_answer(index, first);
    if (first->status == STATUS_OK && random_chance(1, READ_ONE_IN)) {
        read_journal(group.wal, false, "after an append");
    }
    first->completed = group.completed;
    first->context = group.context;
    if (group.completed != NULL) {
        group.completed(first, group.context);
    }
}

void __wrap_wal_append(struct wal *wal, struct wal_append *first)
{
    size_t index = note_asked(first);
    groups[index].completed = first->completed;
    groups[index].context = first->context;
    groups[index].wal = wal;
    first->completed = on_completed;
    first->context = (void *)(uintptr_t)index;
    __real_wal_append(wal, first);
}

enum status __wrap_wal_append_wait(struct wal *wal, struct wal_append *first,
                                   struct error *ret_error)
{
    size_t index = note_asked(first);
    enum status status = __real_wal_append_wait(wal, first, ret_error);
    note_answer(index, first);
    if (status == STATUS_OK && random_chance(1, READ_ONE_IN)) {
        read_journal(wal, false, "after an append");
    }
    return status;
}
