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
    case WAL_UNIT_COMMITTING: /* has no images */
        break;
    }
    return REPLAY_NOT_COMMITTED;
}

/* The units, shared out among the threads. */
struct reading {
    bool count; /* the report's figures: in the first portion only */
    size_t memory_max;
    pthread_mutex_t lock; /* for all that follows */
    uint64_t last;        /* units up to here are somebody's */
    bool at_end;
    bool too_large; /* memory is short */
};

/* Copies the next rows out of one snapshot; *ret_count 0: there are none, or all is to end. */
static enum status take_rows(struct replay *replay, struct reading *reading, struct wal_unit *units,
                             size_t *ret_count, struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    size_t count = 0;
    pthread_mutex_lock(&reading->lock);
    bool go_on = !reading->at_end && !reading->too_large && !atomic_load(&replay->stopping);
    enum status status =
        go_on ? wal_reader_begin(replay->wal, &reader, ret_error) : STATUS_NOT_FOUND;
    while (status == STATUS_OK && count < STEP_UNITS) {
        status = wal_read_unit_next(reader, reading->last, &units[count], ret_error);
        reading->last = status == STATUS_OK ? units[count++].unit : reading->last;
    }
    wal_reader_end(reader);
    reading->at_end = reading->at_end || status == STATUS_NOT_FOUND;
    pthread_mutex_unlock(&reading->lock);
    *ret_count = count;
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status add_unit(struct replay *replay, const struct wal_unit *unit, bool count,
                            struct replay_scratch *scratch, struct error *ret_error)
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
                                   scratch, &added, ret_error);
        pthread_mutex_lock(&replay->lock);
        replay->report->units += count && outcome == REPLAY_COMMITTED ? 1 : 0;
        replay->report->writes += added;
        pthread_mutex_unlock(&replay->lock);
    }
    unit_history_free(history);
    return status;
}

/* One thread's share. */
static enum status read_some(struct replay *replay, void *context, struct error *ret_error)
{
    struct reading *reading = context;
    struct wal_unit *units = calloc(STEP_UNITS, sizeof(*units));
    struct replay_scratch scratch = {0};
    size_t count = units == NULL ? 0 : 1;
    enum status status =
        units == NULL ? error_set(ret_error, STATUS_MEMORY, "out of memory") : STATUS_OK;
    while (status == STATUS_OK && count > 0) {
        status = take_rows(replay, reading, units, &count, ret_error);
        for (size_t i = 0; i < count && status == STATUS_OK; i++) {
            if (unit_matters(replay->options, &units[i])) {
                status = add_unit(replay, &units[i], reading->count, &scratch, ret_error);
            }
        }
        bool too_large =
            reading->memory_max > 0 && replay_chains_bytes(replay->chains) > reading->memory_max;
        pthread_mutex_lock(&reading->lock);
        reading->too_large = reading->too_large || too_large;
        uint64_t last = reading->last;
        pthread_mutex_unlock(&reading->lock);
        pthread_mutex_lock(&replay->lock);
        replay->report->last_unit = last;
        pthread_mutex_unlock(&replay->lock);
    }
    free(scratch.bytes);
    free(units);
    return status;
}

/* *ret_fits false: memory was short, and *ret_unit is how far it came. */
static enum status read_units(struct replay *replay, bool count, size_t memory_max, bool *ret_fits,
                              uint64_t *ret_unit, struct error *ret_error)
{
    struct reading reading = {
        .count = count, .memory_max = memory_max, .lock = PTHREAD_MUTEX_INITIALIZER};
    enum status status = replay_team_run(replay, read_some, &reading, ret_error);
    *ret_fits = !reading.too_large;
    *ret_unit = reading.last;
    return status;
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

/* So much fitted up to `unit`; units differ in size. */
static uint64_t portions_needed(uint64_t unit, uint64_t last_unit)
{
    double parts = 1.25 * (double)last_unit / (double)(unit == 0 ? 1 : unit);
    return parts <= 1.0 ? 2 : (uint64_t)parts + 1;
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
            portions *= portions_needed(unit, figures.last_unit);
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
