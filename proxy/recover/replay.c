/*
 * Replay (replay.h): reads the journal, portion by portion, and has the documents moved.
 *
 *     for each portion:   read all units  ->  chains of images  ->  move each document
 *
 * It begins with one portion. If that outgrows its memory, what was read of the journal tells how
 * many are needed, and it begins again.
 *
 * Invariants: a portion's units were all read before its first document is touched, so a journal
 * that is damaged there changes nothing; no reader of the journal is open while the server is
 * worked on.
 *
 * Threads: the caller's.
 */

#include "recover/replay.h"

#include <inttypes.h>
#include <stdlib.h>

#include "recover/replay_private.h"

#define STEP_UNITS 256

enum status replay_step(struct replay *replay, const struct replay_report *so_far,
                        struct error *ret_error)
{
    return replay->options->step == NULL
               ? STATUS_OK
               : replay->options->step(so_far, replay->options->context, ret_error);
}

/* ------------------------------------------------------------------ reading the journal */

/* Units that are open are never old: nobody has made whole what they left half. */
static bool unit_matters(const struct replay_options *options, const struct wal_unit *unit)
{
    return unit->first_lsn <= options->until_lsn &&
           (unit->last_lsn >= options->from_lsn || unit->state == WAL_UNIT_OPEN);
}

static enum replay_outcome outcome_of(const struct replay_options *options,
                                      const struct unit_history *history)
{
    switch (history->state) {
    case WAL_UNIT_COMMITTED:
        return history->last_lsn <= options->until_lsn ? REPLAY_COMMITTED : REPLAY_NOT_COMMITTED;
    case WAL_UNIT_CONFLICT:
        return REPLAY_SET_ASIDE;
    case WAL_UNIT_ABORTED:
        return record_is_kept(history->last_payload) ? REPLAY_SET_ASIDE : REPLAY_NOT_COMMITTED;
    case WAL_UNIT_OPEN:
        break;
    }
    return REPLAY_NOT_COMMITTED;
}

/* Rows of units, copied out of one snapshot. */
struct rows {
    struct wal_unit units[STEP_UNITS];
    size_t count;
    size_t next;
    uint64_t last; /* the last unit that was copied */
};

static enum status next_unit(struct replay *replay, struct rows *rows, struct wal_unit *unit,
                             struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    enum status status = STATUS_OK;
    if (rows->next == rows->count) {
        rows->next = 0;
        rows->count = 0;
        status = wal_reader_begin(replay->wal, &reader, ret_error);
        while (status == STATUS_OK && rows->count < STEP_UNITS) {
            status = wal_read_unit_next(reader, rows->last, &rows->units[rows->count], ret_error);
            rows->last = status == STATUS_OK ? rows->units[rows->count++].unit : rows->last;
        }
        wal_reader_end(reader);
    }
    if (rows->next < rows->count) {
        *unit = rows->units[rows->next++];
        return STATUS_OK;
    }
    return status;
}

static enum status add_unit(struct replay *replay, const struct wal_unit *unit, bool count,
                            struct error *ret_error)
{
    struct unit_history *history = NULL;
    uint64_t added = 0;
    enum status status = unit_history_load(replay->wal, unit->unit, &history, ret_error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "unit %" PRIu64 " was removed by retention meanwhile", unit->unit);
    }
    if (status == STATUS_OK) {
        enum replay_outcome outcome = outcome_of(replay->options, history);
        status = replay_chains_add(replay->chains, history, replay->options->until_lsn, outcome,
                                   &added, ret_error);
        replay->report->units += count && outcome == REPLAY_COMMITTED ? 1 : 0;
        replay->report->writes += added;
    }
    unit_history_free(history);
    return status;
}

/* *ret_fits false: memory was short, and *ret_unit is how far it came. */
static enum status read_units(struct replay *replay, bool count, size_t memory_max, bool *ret_fits,
                              uint64_t *ret_unit, struct error *ret_error)
{
    struct rows rows = {0};
    struct wal_unit unit = {0};
    enum status status = STATUS_OK;
    uint64_t seen = 0;
    *ret_fits = true;
    while (status == STATUS_OK && *ret_fits) {
        status = next_unit(replay, &rows, &unit, ret_error);
        if (status == STATUS_OK && unit_matters(replay->options, &unit)) {
            status = add_unit(replay, &unit, count, ret_error);
        }
        replay->report->last_unit = unit.unit;
        if (status == STATUS_OK && ++seen % STEP_UNITS == 0) {
            status = replay_step(replay, replay->report, ret_error);
        }
        *ret_fits = memory_max == 0 || replay_chains_bytes(replay->chains) <= memory_max;
    }
    *ret_unit = unit.unit;
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* ------------------------------------------------------------------ judging */

void replay_forget_images(struct replay_document *document)
{
    image_free(&document->found);
    image_free(&document->wanted);
}

void replay_count(struct replay *replay, uint64_t *figure)
{
    pthread_mutex_lock(&replay->lock);
    ++*figure;
    pthread_mutex_unlock(&replay->lock);
}

void replay_tell_conflict(struct replay *replay, const struct replay_document *document,
                          const char *reason)
{
    struct replay_conflict conflict = {
        .namespace = document->namespace,
        .key = document->key,
        .unit = replay_chains_link(replay->chains, document, document->link_count - 1)->unit,
        .found = document->found,
        .wanted = document->wanted,
        .reason = reason,
    };
    pthread_mutex_lock(&replay->lock);
    replay->report->conflicts++;
    if (replay->options->conflict != NULL) {
        replay->options->conflict(&conflict, replay->options->context);
    }
    pthread_mutex_unlock(&replay->lock);
}

enum status replay_read_wanted(struct replay *replay, struct replay_document *document,
                               uint32_t *ret_left, struct error *ret_error)
{
    struct unit_history anywhere = {.wal = replay->wal};
    struct history_image place = replay_chains_wanted(replay->chains, document, ret_left);
    image_free(&document->wanted);
    return history_image_read(&anywhere, &place, &document->wanted, ret_error);
}

enum status replay_judge(struct replay *replay, struct replay_document *document, uint32_t left,
                         enum replay_verdict *ret_verdict, struct error *ret_error)
{
    bool matches = false;
    if (image_equal(document->found, document->wanted)) {
        *ret_verdict = REPLAY_IN_PLACE;
        return STATUS_OK;
    }
    enum status status = replay_chains_match(replay->chains, replay->wal, document, document->found,
                                             &matches, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!matches) {
        replay_tell_conflict(replay, document,
                             "it is none of the images that the journal knows of it");
        *ret_verdict = REPLAY_CONFLICT;
    } else if (document->position >= left && !document->position_before) {
        *ret_verdict = REPLAY_IN_PLACE;
    } else if (document->wanted.presence == IMAGE_UNKNOWN) {
        replay_tell_conflict(replay, document, "the journal does not tell what it was to be");
        *ret_verdict = REPLAY_CONFLICT;
    } else {
        *ret_verdict = REPLAY_TO_MOVE;
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ portions */

static enum status read_portion(struct replay *replay, uint64_t portion, uint64_t portions,
                                size_t memory_max, bool *ret_fits, uint64_t *ret_unit,
                                struct error *ret_error)
{
    replay->chains = replay_chains_free(replay->chains);
    replay->chains = replay_chains_new(portion, portions);
    if (replay->chains == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status =
        read_units(replay, portion == 0, memory_max, ret_fits, ret_unit, ret_error);
    return status == STATUS_OK && *ret_fits ? replay_chains_finish(replay->chains, ret_error)
                                            : status;
}

static enum status move_portion(struct replay *replay, struct error *ret_error)
{
    size_t count = 0;
    (void)replay_chains_documents(replay->chains, &count);
    replay->report->documents += count;
    replay->blocked_count = 0;
    enum status status = replay_move_all(replay, ret_error);
    return status == STATUS_OK && replay->blocked_count > 0 ? replay_move_blocked(replay, ret_error)
                                                            : status;
}

static uint64_t portions_needed(const struct replay *replay, uint64_t unit, uint64_t last_unit)
{
    (void)replay;
    uint64_t parts = last_unit / (unit == 0 ? 1 : unit) + 1;
    return parts + parts / 2 + 1; /* units differ in size */
}

/* Reads the first portion; *ret_portions: of how many. */
static enum status read_first(struct replay *replay, size_t memory_max, uint64_t *ret_portions,
                              struct error *ret_error)
{
    struct wal_statistics figures;
    uint64_t portions = 1;
    uint64_t unit = 0;
    bool fits = false;
    enum status status = wal_statistics_get(replay->wal, &figures, ret_error);
    while (status == STATUS_OK && !fits) {
        replay->report->units = 0;
        replay->report->writes = 0;
        status = read_portion(replay, 0, portions, memory_max, &fits, &unit, ret_error);
        if (status == STATUS_OK && !fits) {
            portions *= portions_needed(replay, unit, figures.last_unit);
            /* So many that a portion is a few documents: then it is those that are large. */
            memory_max = portions > 100000 ? 0 : memory_max;
        }
    }
    *ret_portions = portions;
    return status;
}

enum status replay_run(struct wal *wal, struct upstream *upstream,
                       const struct replay_options *options, struct replay_report *ret_report,
                       struct error *ret_error)
{
    struct replay replay = {
        .wal = wal, .upstream = upstream, .options = options, .report = ret_report};
    size_t memory_max = options->memory_max == 0 ? REPLAY_MEMORY_BYTES : options->memory_max;
    uint64_t portions = 1;
    *ret_report = (struct replay_report){0};
    (void)pthread_mutex_init(&replay.lock, NULL);
    enum status status = read_first(&replay, memory_max, &portions, ret_error);
    if (status == STATUS_OK) {
        status = move_portion(&replay, ret_error);
    }
    for (uint64_t portion = 1; portion < portions && status == STATUS_OK; portion++) {
        bool fits = false;
        uint64_t unit = 0;
        status = read_portion(&replay, portion, portions, 0, &fits, &unit, ret_error);
        if (status == STATUS_OK) {
            status = move_portion(&replay, ret_error);
        }
    }
    ret_report->portions = portions;
    replay_chains_free(replay.chains);
    free(replay.blocked);
    (void)pthread_mutex_destroy(&replay.lock);
    return status;
}
