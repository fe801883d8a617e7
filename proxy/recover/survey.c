/*
 * What a recovery has to look at (survey.h).
 *
 *   probe on the server     its process and the server's    what may be lost
 *   of this journal         the same                        nothing: it has not restarted since
 *   of this journal         differ, or not told             what ended above the probe's LSN
 *   none, but there was     -                               nobody can tell: refused
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
    if (list->count == list->capacity) {
        size_t wanted = list->capacity == 0 ? 64 : list->capacity * 2;
        uint64_t *more = reallocarray(list->units, wanted, sizeof(*more));
        if (more == NULL) {
            return false;
        }
        list->units = more;
        list->capacity = wanted;
    }
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
        if (survey->open_count == capacity) {
            capacity = capacity == 0 ? 64 : capacity * 2;
            struct open_unit *more = reallocarray(*open, capacity, sizeof(*more));
            if (more == NULL) {
                return no_memory(ret_error);
            }
            *open = more;
        }
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
           memcmp(probe->process, server->process_id, PROBE_PROCESS_BYTES) == 0;
}

static enum status was_probed(struct wal *wal, bool *ret_was, struct error *ret_error)
{
    uint8_t value[1];
    size_t size = 0;
    enum status status =
        wal_property_get(wal, SURVEY_PROPERTY_PROBED, value, sizeof(value), &size, ret_error);
    if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
        *ret_was = status == STATUS_OK;
        return STATUS_OK;
    }
    return status;
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
    bool probed = false;
    enum status status = upstream_describe(upstream, &server, ret_error);
    if (status == STATUS_OK) {
        /* All that follows is about this process of the server. If it dies meanwhile, the recovery
           fails, and does not go on with another one that has lost something else. */
        upstream_pin(upstream);
        status = probe_read(upstream, &probe, ret_error);
    }
    if (status == STATUS_OK) {
        status = was_probed(wal, &probed, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool ours = probe.exists && strcmp(probe.journal, lease->journal) == 0;
    if (!probe.exists && probed && !lease->vouched) {
        return error_set(ret_error, STATUS_FOREIGN,
                         "the document `probe` of " UPSTREAM_OWN_DATABASE
                         ".state is gone: what the server may have lost in a crash cannot be told. "
                         "If it was deleted by hand and the server has not crashed, say so with "
                         "--set upstream.takeover=%s",
                         lease->journal);
    }
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
    memcpy(survey->next.process, server.process_id, PROBE_PROCESS_BYTES);
    return STATUS_OK;
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
