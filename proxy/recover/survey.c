/*
 * What a recovery has to look at (survey.h).
 *
 *   probe on the server     its process and the server's    what may be lost
 *   of this journal         the same                        nothing: it has not restarted since
 *   of this journal         differ, or not told             what ended above the probe's LSN
 *   none, but there was     that of the first probe         nothing: it has not restarted since
 *                           another; the first is young     everything: the first is lost, too
 *                           another                         nobody can tell: refused
 *   none, and never was     -                               nothing that was promised
 *   of another journal      -                               nothing of this one: it has ended
 *
 * Without a probe, or with one far older than a crash explains, a document that was changed after
 * its unit cannot be told from one that was lost: then only an operator may say that nothing is.
 *
 * Threads: the struct upstream's.
 */

#include "recover/survey.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "holdfast/clock.h"
#include "upstream/upstream.h"

/* Probes follow each other within a second while the server answers at all. Units that end for so
   long after the one that survived are no crash's loss: the database was restored. */
#define LOSS_MS_MAX (10u * 60u * 1000u)

struct unit_list {
    uint64_t *units;
    size_t count;
    size_t capacity;
};

static bool list_add(struct unit_list *list, uint64_t unit)
{
    uint64_t *more =
        memory_reserve(list->units, list->count, &list->capacity, sizeof(*list->units));
    if (more == NULL) {
        return false;
    }
    list->units = more;
    list->units[list->count++] = unit;
    return true;
}

static enum status no_memory(struct error *ret_error)
{
    return error_set(ret_error, STATUS_MEMORY, "out of memory for a list of units");
}

/* ------------------------------------------------------------------ units */

struct open_unit {
    uint64_t unit;
    uint64_t last_lsn;
};

static int compare_newest_first(const void *a_void, const void *b_void)
{
    const struct open_unit *a = a_void;
    const struct open_unit *b = b_void;
    return a->last_lsn == b->last_lsn ? 0 : a->last_lsn > b->last_lsn ? -1 : 1;
}

static enum status read_open(struct wal_reader *reader, struct survey *survey,
                             struct open_unit **open, struct error *ret_error)
{
    struct wal_unit unit = {0};
    size_t capacity = 0;
    enum status status;
    while ((status = wal_read_open_next(reader, unit.unit, &unit, ret_error)) == STATUS_OK) {
        if (unit.state == WAL_UNIT_CONFLICT) {
            survey->conflicts++;
            continue;
        }
        struct open_unit *more =
            memory_reserve(*open, survey->open_count, &capacity, sizeof(*more));
        if (more == NULL) {
            return no_memory(ret_error);
        }
        *open = more;
        (*open)[survey->open_count++] =
            (struct open_unit){.unit = unit.unit, .last_lsn = unit.last_lsn};
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status list_open(struct wal_reader *reader, struct survey *survey,
                             struct error *ret_error)
{
    struct open_unit *open = NULL;
    enum status status = read_open(reader, survey, &open, ret_error);
    if (status == STATUS_OK && survey->open_count > 0) {
        qsort(open, survey->open_count, sizeof(*open), compare_newest_first);
    }
    if (status == STATUS_OK) {
        survey->open = calloc(survey->open_count + 1, sizeof(*survey->open));
        status = survey->open == NULL ? no_memory(ret_error) : STATUS_OK;
    }
    for (size_t i = 0; status == STATUS_OK && i < survey->open_count; i++) {
        survey->open[i] = open[i].unit;
    }
    free(open);
    return status;
}

/* Every unit whose last record ends it and is above the LSN that survived. */
static enum status list_ended(struct wal_reader *reader, bool vouched, struct survey *survey,
                              struct unit_list *list, struct error *ret_error)
{
    struct wal_record record = {.lsn = survey->survived_lsn};
    uint64_t first_ms = 0;
    enum status status;
    while ((status = wal_read_next(reader, record.lsn, &record, ret_error)) == STATUS_OK) {
        struct wal_unit unit;
        bool ends = record.kind == WAL_KIND_COMMIT || record.kind == WAL_KIND_ABORT ||
                    record.kind == WAL_KIND_CONFLICT;
        status = ends ? wal_read_unit(reader, record.unit, &unit, ret_error) : STATUS_OK;
        if (status != STATUS_OK) {
            return status == STATUS_NOT_FOUND
                       ? error_set(ret_error, STATUS_CORRUPT,
                                   "record %" PRIu64 " is of a unit that is missing", record.lsn)
                       : status;
        }
        first_ms = first_ms == 0 ? record.time_ms : first_ms;
        if (record.time_ms > first_ms + LOSS_MS_MAX && vouched) {
            survey->may_have_lost = false; /* the operator says that it is as it should be */
            list->count = 0;
            return STATUS_OK;
        }
        if (record.time_ms > first_ms + LOSS_MS_MAX) {
            return error_set(ret_error, STATUS_FOREIGN,
                             "the database is older than a crash of its server explains: it has "
                             "seen LSN %" PRIu64 ", and units ended for longer than ten minutes "
                             "after that. It was restored from a backup: see \"Restoring a "
                             "backup\" in docs/OPERATIONS.md",
                             survey->survived_lsn);
        }
        if (ends && unit.last_lsn == record.lsn && !list_add(list, record.unit)) {
            return no_memory(ret_error);
        }
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status list_units(struct wal *wal, bool vouched, struct survey *survey,
                              struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    struct unit_list list = {0};
    enum status status = wal_reader_begin(wal, &reader, ret_error);
    if (status == STATUS_OK) {
        status = list_open(reader, survey, ret_error);
    }
    if (status == STATUS_OK && survey->may_have_lost) {
        status = list_ended(reader, vouched, survey, &list, ret_error);
    }
    wal_reader_end(reader);
    for (size_t i = 0; status == STATUS_OK && survey->may_have_lost && i < survey->open_count;
         i++) {
        status = list_add(&list, survey->open[i]) ? STATUS_OK : no_memory(ret_error);
    }
    survey->units = list.units;
    survey->unit_count = list.count;
    return status;
}

/* ------------------------------------------------------------------ the probe */

static bool is_same_process(const struct probe *probe, const struct upstream_description *server)
{
    return probe->has_process && server->has_process_id &&
           memcmp(probe->process, server->process_id, UPSTREAM_PROCESS_BYTES) == 0;
}

/* The first probe that the journal's proxy made: when, and in which process of the server. */
#define FIRST_PROBE_BYTES (8u + UPSTREAM_PROCESS_BYTES)

struct first_probe {
    bool exists;
    uint64_t time_ms;
    uint8_t process[UPSTREAM_PROCESS_BYTES]; /* zeros: the server does not tell */
};

static enum status first_probe_read(struct wal *wal, struct first_probe *ret_first,
                                    struct error *ret_error)
{
    struct first_probe first = {0};
    uint8_t value[FIRST_PROBE_BYTES] = {0};
    size_t size = 0;
    enum status status =
        wal_property_get(wal, SURVEY_PROPERTY_PROBED, value, sizeof(value), &size, ret_error);
    if (status == STATUS_NOT_FOUND) {
        status = STATUS_OK;
    } else if (status == STATUS_OK) {
        first.exists = true;
        first.time_ms = slice_load_u64be(value);
        memcpy(first.process, value + 8, sizeof(first.process));
    }
    if (status == STATUS_OK) {
        *ret_first = first;
    }
    return status;
}

enum status survey_note_probe(struct wal *wal, const struct probe *probe, struct error *ret_error)
{
    struct first_probe first;
    uint8_t value[FIRST_PROBE_BYTES] = {0};
    enum status status = first_probe_read(wal, &first, ret_error);
    if (status != STATUS_OK || first.exists) {
        return status;
    }
    slice_store_u64be(value, clock_wall_ms());
    if (probe->has_process) {
        memcpy(value + 8, probe->process, UPSTREAM_PROCESS_BYTES);
    }
    return wal_property_set(wal, SURVEY_PROPERTY_PROBED, slice_make(value, sizeof(value)),
                            ret_error);
}

/* A server that forgets its last moments may forget the first probe, and all that was with it. */
static enum status look_without_probe(struct wal *wal, const struct first_probe *first,
                                      const struct upstream_description *server,
                                      const struct lease *lease, struct survey *survey,
                                      struct error *ret_error)
{
    bool same = server->has_process_id &&
                memcmp(first->process, server->process_id, UPSTREAM_PROCESS_BYTES) == 0;
    uint64_t now = clock_wall_ms();
    bool young = first->time_ms <= now && now - first->time_ms <= LOSS_MS_MAX;
    /* An empty journal has promised nothing: its proxy died before it made the first probe. */
    if (!first->exists || same || lease->vouched || wal_last_lsn(wal) == 0) {
        return STATUS_OK;
    }
    if (young) {
        survey->may_have_lost = true;
        return STATUS_OK;
    }
    return error_set(ret_error, STATUS_FOREIGN,
                     "the document `probe` of " UPSTREAM_OWN_DATABASE
                     ".state is gone: what the server may have lost in a crash cannot be told. "
                     "If it was deleted by hand and the server has not crashed, say so with "
                     "--set upstream.takeover=%s",
                     lease->journal);
}

/* Numbers go on from the probe's; where that is lost, from one that was not used before. */
static int64_t next_number(const struct probe *probe)
{
    int64_t now = (int64_t)clock_wall_ms();
    return probe->number >= now ? probe->number + 1 : now;
}

static enum status look(struct wal *wal, struct upstream *upstream, const struct lease *lease,
                        struct survey *survey, struct error *ret_error)
{
    struct probe probe;
    struct upstream_description server;
    struct first_probe first;
    enum status status = upstream_describe(upstream, &server, ret_error);
    if (status == STATUS_OK) {
        /* Everything from here to the new probe is for this process of the server: were it another
           one that takes the probe, what the first was given back would be taken for kept. */
        upstream_pin(upstream);
        status = probe_read(upstream, &probe, ret_error);
    }
    if (status == STATUS_OK) {
        status = first_probe_read(wal, &first, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool ours = probe.exists && strcmp(probe.journal, lease->journal) == 0;
    if (ours && probe.lsn > wal_last_lsn(wal)) {
        return error_set(ret_error, STATUS_FOREIGN,
                         "stale copy of the journal: it ends at LSN %" PRIu64
                         ", the database has seen LSN %" PRIu64 ". Use the newest journal",
                         wal_last_lsn(wal), probe.lsn);
    }
    survey->may_have_lost = ours && !is_same_process(&probe, &server);
    survey->survived_lsn = ours ? probe.lsn : 0;
    survey->survived_probe = ours ? probe.number : 0;
    survey->next = (struct probe){
        .epoch = lease->epoch,
        .number = next_number(&probe),
        .has_process = server.has_process_id,
    };
    memcpy(survey->next.journal, lease->journal, sizeof(survey->next.journal));
    memcpy(survey->next.process, server.process_id, UPSTREAM_PROCESS_BYTES);
    return probe.exists ? STATUS_OK
                        : look_without_probe(wal, &first, &server, lease, survey, ret_error);
}

enum status survey_make(struct wal *wal, struct upstream *upstream, const struct lease *lease,
                        struct survey *ret_survey, struct error *ret_error)
{
    struct survey survey = {0};
    enum status status = STATUS_OK;
    if (lease != NULL) {
        status = look(wal, upstream, lease, &survey, ret_error);
    }
    if (status == STATUS_OK) {
        status = list_units(wal, lease != NULL && lease->vouched, &survey, ret_error);
    }
    if (status != STATUS_OK) {
        survey_free(&survey);
        return status;
    }
    *ret_survey = survey;
    return STATUS_OK;
}

void survey_free(struct survey *survey)
{
    free(survey->open);
    free(survey->units);
    survey->open = NULL;
    survey->units = NULL;
}
