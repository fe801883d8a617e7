/*
 * Rolling units back, on threads that may block.
 *
 *   OPEN or COMMITTING -> ABORTING -> fence -> undo -> [ABORT durable]    -> ABORTED  \
 *                                                  \-> [CONFLICT durable] -> CONFLICT -> released
 *
 * Each thread has its own connection to the server, made when it is first needed and again after it
 * broke. While the server is away a rollback waits and tries again: the unit keeps its locks, for
 * nobody may change its documents before they are restored. A conflict is set aside once, never
 * tried again here. So it does while the pool is held because the server has restarted: recovery
 * then ends the unit in the journal, and nothing is left to do here but to let go of it.
 *
 * The queue and `running` belong to the mutex; a rollback belongs to its thread once taken.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "engine/finish.h"
#include "engine/known.h"
#include "engine/native_unit.h"
#include "engine/release.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/event.h"
#include "holdfast/log.h"
#include "recover/fence.h"
#include "recover/history.h"
#include "recover/undo.h"
#include "unit/unit_log.h"
#include "upstream/upstream.h"

#define RETRY_MS 200

struct rollback_pool {
    struct rollback_pool_options options;
    char *upstream_uri;
    pthread_mutex_t mutex;
    pthread_cond_t work; /* the queue grew, or `stopping`: only threads without work wait for it, so
                            that one signal is never lost on a thread that has its own */
    pthread_cond_t stop; /* `stopping` or `held`; on the monotonic clock */
    pthread_cond_t idle; /* `running` fell to zero */
    struct rollback *first;
    struct rollback **last;
    size_t running;
    bool held;
    bool stopping;
    size_t thread_count;
    pthread_t threads[];
};

/* ------------------------------------------------------------------ one unit */

/* What the unit knows and the journal does not yet. */
static void overlay_known(const struct unit *unit, struct unit_history *history)
{
    for (size_t i = 0; i < unit->known_count; i++) {
        const struct unit_known *known = &unit->known[i];
        assert(known->number >= 0 && (size_t)known->number < history->write_count);
        struct history_write *write = &history->writes[known->number];
        if (known->refused) {
            write->refused = true;
        } else {
            write->after = history_image_here(known->after);
        }
    }
}

static enum status load_history(struct wal *wal, const struct unit *unit,
                                struct unit_history **ret_history, struct error *error)
{
    enum status status = unit_history_load(wal, unit->id, ret_history, error);
    if (status == STATUS_OK) {
        overlay_known(unit, *ret_history);
    }
    return status;
}

/*
 * Nothing of the unit may be on its way any more: neither what its client's connection carried, nor
 * a step of an undo on ours, whose address is not known, that broke.
 */
static enum status fence(struct rollback_pool *pool, struct upstream *upstream,
                         const struct unit *unit, struct error *error)
{
    const char *connection = unit->connection;
    const char *nobody = FENCE_NOBODY;
    enum fence_certainty certainty = FENCE_NONE;
    enum status status = STATUS_OK;
    if (unit->fate_unknown) {
        status = fence_wait(upstream, &connection, 1, pool->options.fence_ms, NULL, NULL,
                            &certainty, error);
    }
    if (status == STATUS_OK && unit->undo_broken && certainty != FENCE_WAITED) {
        status =
            fence_wait(upstream, &nobody, 1, pool->options.fence_ms, NULL, NULL, &certainty, error);
    }
    return status;
}

static enum status try_undo(struct rollback_pool *pool, struct wal *wal, struct upstream **upstream,
                            struct unit *unit, enum undo_result *ret_result, bson_t *conflict,
                            struct error *error)
{
    if (*upstream == NULL) {
        enum status opened =
            upstream_open(pool->upstream_uri, pool->options.connect_ms, upstream, error);
        if (opened != STATUS_OK) {
            return opened;
        }
    }
    enum status status = server_process_check_upstream(pool->options.process, *upstream, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = fence(pool, *upstream, unit, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct unit_history *history = NULL;
    status = load_history(wal, unit, &history, error);
    if (status == STATUS_OK) {
        status = undo_unit(*upstream, history, ret_result, conflict, error);
    }
    if (status == STATUS_UNREACHABLE) {
        unit->undo_broken = true; /* a step of the undo may still be on its way */
    }
    unit_history_free(history);
    return status;
}

static void wait_before_retry(struct rollback_pool *pool)
{
    uint64_t until_ms = clock_monotonic_ms() + RETRY_MS;
    pthread_mutex_lock(&pool->mutex);
    if (!pool->stopping && !pool->held) {
        condition_wait_until(&pool->stop, &pool->mutex, until_ms);
    }
    pthread_mutex_unlock(&pool->mutex);
}

static bool must_leave(struct rollback_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    bool leave = pool->stopping || pool->held;
    pthread_mutex_unlock(&pool->mutex);
    return leave;
}

/* False: the process ends, or the pool is held, before it could be undone; recovery will do it. */
static bool undo(struct rollback_pool *pool, struct wal *wal, struct upstream **upstream,
                 struct unit *unit, enum undo_result *ret_result, bson_t *conflict)
{
    bool told = false;
    if (unit->doubt != NULL) {
        record_put_conflict(conflict, unit->doubt, NULL, 0);
        *ret_result = UNDO_CONFLICT;
        return true;
    }
    for (;;) {
        struct error error = {0};
        bson_reinit(conflict);
        enum status status = try_undo(pool, wal, upstream, unit, ret_result, conflict, &error);
        if (status == STATUS_OK) {
            return true;
        }
        if (status == STATUS_UNSUPPORTED || status == STATUS_CORRUPT) {
            /* Will not get better by trying again: an operator decides. */
            record_put_conflict(conflict, error.message, NULL, 0);
            *ret_result = UNDO_CONFLICT;
            return true;
        }
        *upstream = upstream_close(*upstream);
        if (!told) {
            LOG(LOG_WARNING, "unit", "A rollback cannot be finished yet, trying again",
                LOG_UNIT(unit), LOG_TEXT("reason", error.message));
            told = true;
        }
        if (must_leave(pool)) {
            return false;
        }
        wait_before_retry(pool);
    }
}

static enum status append_end(struct rollback *rollback, enum wal_kind kind, const bson_t *payload)
{
    struct wal_append append = {
        .kind = kind,
        .unit = rollback->unit->id,
        .payload = slice_make(bson_get_data(payload), payload->len),
    };
    return wal_append_wait(rollback->engine->wal, &append, NULL);
}

/* With what was not carried out: who redoes after a crash of the server, or decides about a
   conflict, must not take what is there for the unit's. Without it where there is no room. */
static enum status append_with_refused(struct rollback *rollback, enum wal_kind kind,
                                       const bson_t *payload)
{
    bson_t whole;
    struct record_known *refused = NULL;
    size_t count = 0;
    if (known_collect_refused(rollback->unit, &refused, &count) != STATUS_OK || count == 0) {
        free(refused);
        return append_end(rollback, kind, payload);
    }
    bson_copy_to(payload, &whole);
    record_put_refused(&whole, refused, count);
    free(refused);
    enum status status = append_end(rollback, kind, &whole);
    bson_destroy(&whole);
    return status == STATUS_FULL ? append_end(rollback, kind, payload) : status;
}

/* A short end always fits: if a conflict's images, or what was refused, do not, they are left out.
 */
static void journal_end(struct rollback *rollback, enum undo_result result, const bson_t *conflict)
{
    bson_t payload = BSON_INITIALIZER;
    enum status status = STATUS_OK;
    if (result == UNDO_DONE) {
        record_put_abort(&payload, rollback->reason);
        status = append_with_refused(rollback, WAL_KIND_ABORT, &payload);
    } else {
        status = append_with_refused(rollback, WAL_KIND_CONFLICT, conflict);
        if (status == STATUS_FULL) {
            status = record_put_conflict_short(
                &payload, slice_make(bson_get_data(conflict), conflict->len), NULL);
            status =
                status != STATUS_OK ? status : append_end(rollback, WAL_KIND_CONFLICT, &payload);
        }
    }
    bson_destroy(&payload);
    if (status != STATUS_OK) {
        release_end_process("the end of a rollback could not be made durable", rollback->unit,
                            status);
    }
    CRASH_POINT(abort_durable);
}

static void tell_conflict(const struct rollback *rollback)
{
    char number[24];
    (void)snprintf(number, sizeof number, "%llu", (unsigned long long)rollback->unit->id);
    LOG(LOG_ERROR, "unit",
        "Unit set aside: a document was changed around the proxy; see holdfast show",
        LOG_UNIT(rollback->unit), LOG_TEXT("reason", rollback->reason));
    event_tell(EVENT_UNIT_CONFLICT, number,
               "Unit %s could not be rolled back without overwriting newer data and was set aside: "
               "see holdfast show %s",
               number, number);
}

void rollback_finish(struct rollback *rollback, enum unit_state state)
{
    unit_state_set(rollback->unit, state);
    rollback->unit->end_reason = rollback->reason;
    if (state == UNIT_CONFLICT) {
        tell_conflict(rollback);
    } else {
        /* One that has written nothing, such as a call that was refused, is no news. */
        LOG(rollback->unit->begun ? LOG_INFO : LOG_DEBUG, "unit", "Unit rolled back",
            LOG_UNIT(rollback->unit), LOG_TEXT("reason", rollback->reason));
    }
    release_unit(rollback->engine, rollback->unit);
    rollback->completed(rollback);
}

enum wal_unit_state rollback_state_of(struct wal *wal, uint64_t id)
{
    struct wal_reader *reader = NULL;
    struct wal_unit unit;
    bool known = wal_reader_begin(wal, &reader, NULL) == STATUS_OK &&
                 wal_read_unit(reader, id, &unit, NULL) == STATUS_OK;
    wal_reader_end(reader);
    return known ? unit.state : WAL_UNIT_OPEN;
}

/* Recovery may have ended the unit while the pool was held. */
static bool has_ended(struct wal *wal, uint64_t id, enum unit_state *ret_state)
{
    enum wal_unit_state state = rollback_state_of(wal, id);
    bool ended = state == WAL_UNIT_ABORTED || state == WAL_UNIT_CONFLICT;
    if (ended) {
        *ret_state = state == WAL_UNIT_ABORTED ? UNIT_ABORTED : UNIT_CONFLICT;
    }
    return ended;
}

/* False: it is still to be done. */
static bool run(struct rollback_pool *pool, struct upstream **upstream, struct rollback *rollback)
{
    struct wal *wal = rollback->engine->wal;
    enum unit_state state;
    if (has_ended(wal, rollback->unit->id, &state)) {
        rollback_finish(rollback, state);
        return true;
    }
    bson_t conflict = BSON_INITIALIZER;
    enum undo_result result = UNDO_DONE;
    bool undone = undo(pool, wal, upstream, rollback->unit, &result, &conflict);
    if (undone) {
        CRASH_POINT(abort_undone);
        journal_end(rollback, result, &conflict);
        rollback_finish(rollback, result == UNDO_DONE ? UNIT_ABORTED : UNIT_CONFLICT);
    }
    bson_destroy(&conflict);
    return undone;
}

/* ------------------------------------------------------------------ the pool */

/* The mutex is held. */
static struct rollback *take_first(struct rollback_pool *pool)
{
    while ((pool->first == NULL || pool->held) && !pool->stopping) {
        (void)pthread_cond_wait(&pool->work, &pool->mutex);
    }
    struct rollback *rollback = pool->held ? NULL : pool->first;
    if (rollback != NULL) {
        pool->first = rollback->next;
        if (pool->first == NULL) {
            pool->last = &pool->first;
        }
    }
    return rollback;
}

/* The mutex is held. */
static void put_first(struct rollback_pool *pool, struct rollback *rollback)
{
    rollback->next = pool->first;
    if (pool->first == NULL) {
        pool->last = &rollback->next;
    }
    pool->first = rollback;
}

static void *rollback_main(void *context)
{
    struct rollback_pool *pool = context;
    struct upstream *upstream = NULL;
    struct rollback *rollback;
    pthread_mutex_lock(&pool->mutex);
    while ((rollback = take_first(pool)) != NULL) {
        pool->running++;
        pthread_mutex_unlock(&pool->mutex);
        bool done = run(pool, &upstream, rollback);
        pthread_mutex_lock(&pool->mutex);
        /* When the process ends, it is dropped: its unit stays open in the journal. */
        if (!done && !pool->stopping) {
            put_first(pool, rollback);
        }
        if (--pool->running == 0) {
            (void)pthread_cond_broadcast(&pool->idle);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    upstream_close(upstream);
    return NULL;
}

enum status rollback_pool_start(const struct rollback_pool_options *options,
                                struct rollback_pool **ret_pool, struct error *ret_error)
{
    struct rollback_pool *pool = calloc(1, sizeof *pool + options->threads * sizeof(pthread_t));
    if (pool == NULL || (pool->upstream_uri = strdup(options->upstream_uri)) == NULL) {
        free(pool);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    pool->options = *options;
    pool->last = &pool->first;
    (void)pthread_mutex_init(&pool->mutex, NULL);
    (void)pthread_cond_init(&pool->work, NULL);
    (void)pthread_cond_init(&pool->idle, NULL);
    condition_init(&pool->stop);
    for (size_t i = 0; i < options->threads; i++) {
        if (pthread_create(&pool->threads[i], NULL, rollback_main, pool) != 0) {
            rollback_pool_stop(pool);
            return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
        }
        pool->thread_count++;
    }
    *ret_pool = pool;
    return STATUS_OK;
}

struct rollback_pool *rollback_pool_stop(struct rollback_pool *pool)
{
    if (pool == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->work);
    (void)pthread_cond_broadcast(&pool->stop);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < pool->thread_count; i++) {
        (void)pthread_join(pool->threads[i], NULL);
    }
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_cond_destroy(&pool->idle);
    (void)pthread_cond_destroy(&pool->stop);
    (void)pthread_mutex_destroy(&pool->mutex);
    free(pool->upstream_uri);
    free(pool);
    return NULL;
}

void rollback_pool_hold(struct rollback_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->held = true;
    (void)pthread_cond_broadcast(&pool->stop);
    while (pool->running > 0) {
        (void)pthread_cond_wait(&pool->idle, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}

void rollback_pool_resume(struct rollback_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->held = false;
    (void)pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

size_t rollback_pool_queued(struct rollback_pool *pool)
{
    size_t queued = 0;
    if (pool == NULL) {
        return 0;
    }
    pthread_mutex_lock(&pool->mutex);
    for (const struct rollback *at = pool->first; at != NULL; at = at->next) {
        queued++;
    }
    pthread_mutex_unlock(&pool->mutex);
    return queued;
}

void rollback_start(struct rollback *rollback)
{
    struct unit *unit = rollback->unit;
    CRASH_POINT(abort_requested);
    if (unit->state != UNIT_ABORTING) {
        unit_state_set(unit, UNIT_ABORTING);
    }
    if (rollback->engine->native != NULL) {
        native_unit_roll_back(rollback);
        return;
    }
    if (!unit->begun) {
        rollback_finish(rollback, UNIT_ABORTED);
        return;
    }
    struct rollback_pool *pool = rollback->engine->rollbacks;
    rollback->next = NULL;
    pthread_mutex_lock(&pool->mutex);
    *pool->last = rollback;
    pool->last = &rollback->next;
    (void)pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

static void on_detached_completed(struct rollback *rollback)
{
    /* An ended unit is always taken back. */
    const char *reason = unit_table_checkin(rollback->engine->units, rollback->unit);
    assert(reason == NULL);
    free(rollback);
}

void rollback_detached(struct engine *engine, struct unit *unit, const char *reason)
{
    struct rollback *rollback = calloc(1, sizeof *rollback);
    if (rollback == NULL) {
        /* The unit stays checked out and locked; memory this short ends the process elsewhere. */
        release_end_process("out of memory for a rollback", unit, STATUS_MEMORY);
    }
    *rollback = (struct rollback){
        .engine = engine, .unit = unit, .reason = reason, .completed = on_detached_completed};
    rollback_start(rollback);
}
