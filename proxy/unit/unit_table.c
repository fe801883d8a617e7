/*
 * The table of sessions and open units: who may work on which unit now, and how a session's newest
 * transaction ended.
 *
 * Invariants, with the mutex held:
 *   - every unit is on the list of units, oldest first, from its making until its last check-in;
 *   - a session points to its unit while that is on the list, and to none after;
 *   - sessions without a unit are on the list of idle ones, least recently used first, and only
 *     those are forgotten when there are too many.
 */
#include <assert.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "holdfast/clock.h"
#include "holdfast/request_key.h"
#include "unit/lock_hints.h"
#include "unit/unit.h"
#include "unit/unit_private.h"

struct session {
    struct unit_session_key key;
    int64_t transaction_number;
    enum unit_state ended;    /* how, if there is no unit */
    uint64_t place;           /* of its last unit, if that was a deadlock's victim; else 0 */
    struct unit_gates missed; /* of its last unit */
    struct lock_hints *hints; /* of its last unit, if that failed over a lock; else NULL */
    struct unit *unit;
    struct session *older; /* idle list */
    struct session *younger;
    UT_hash_handle hh;
};

struct unit_table {
    pthread_mutex_t mutex;
    struct session *sessions; /* uthash head */
    struct session *oldest_idle;
    struct session *youngest_idle;
    size_t session_count;
    size_t sessions_max;
    struct unit *oldest;
    struct unit *youngest;
    size_t unit_count;
    size_t units_max;
};

static void session_free(struct session *session)
{
    session->hints = lock_hints_free(session->hints);
    free(session);
}

struct unit_table *unit_table_new(size_t units_max, size_t sessions_max)
{
    struct unit_table *table = calloc(1, sizeof *table);
    if (table != NULL) {
        (void)pthread_mutex_init(&table->mutex, NULL);
        table->units_max = units_max;
        table->sessions_max = sessions_max;
    }
    return table;
}

struct unit_table *unit_table_free(struct unit_table *table)
{
    if (table == NULL) {
        return NULL;
    }
    struct session *session;
    struct session *next;
    HASH_ITER(hh, table->sessions, session, next)
    {
        HASH_DEL(table->sessions, session);
        session_free(session);
    }
    while (table->oldest != NULL) {
        struct unit *younger = table->oldest->younger;
        unit_free(table->oldest);
        table->oldest = younger;
    }
    (void)pthread_mutex_destroy(&table->mutex);
    free(table);
    return NULL;
}

void unit_table_set_units_max(struct unit_table *table, size_t units_max)
{
    pthread_mutex_lock(&table->mutex);
    table->units_max = units_max;
    pthread_mutex_unlock(&table->mutex);
}

void unit_session_key_make(const char *user, struct slice session_id,
                           struct unit_session_key *ret_key)
{
    memset(ret_key, 0, sizeof *ret_key);
    if (session_id.size == UNIT_SESSION_ID_BYTES) {
        memcpy(ret_key->bytes, session_id.data, UNIT_SESSION_ID_BYTES);
    }
    (void)SHA256((const uint8_t *)user, strlen(user), ret_key->bytes + UNIT_SESSION_ID_BYTES);
}

void unit_session_key_of_call(uint64_t id, struct unit_session_key *ret_key)
{
    static const char tag[] = "holdfast http call";
    memset(ret_key, 0, sizeof *ret_key);
    memcpy(ret_key->bytes, &id, sizeof id);
    memcpy(ret_key->bytes + UNIT_SESSION_ID_BYTES, tag, sizeof tag);
}

void unit_session_key_of_name(const char *user, const char *name, struct unit_session_key *ret_key)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    (void)SHA256((const uint8_t *)name, strlen(name), digest);
    unit_session_key_make(user, slice_make(digest, UNIT_SESSION_ID_BYTES), ret_key);
    /* Not the session of the same bytes. */
    for (size_t i = 0; i < UNIT_SESSION_ID_BYTES; i++) {
        ret_key->bytes[UNIT_SESSION_ID_BYTES + i] ^= digest[UNIT_SESSION_ID_BYTES + i];
    }
}

void unit_session_key_of_request(const char *service, struct slice name,
                                 struct unit_session_key *ret_key)
{
    _Static_assert(REQUEST_KEY_PREFIX_BYTES == UNIT_SESSION_ID_BYTES, "prefix");
    uint8_t both[2][SHA256_DIGEST_LENGTH];
    memcpy(ret_key->bytes, REQUEST_KEY_PREFIX, UNIT_SESSION_ID_BYTES);
    (void)SHA256((const uint8_t *)service, strlen(service), both[0]);
    (void)SHA256(name.data, name.size, both[1]);
    /* No user's name has this digest: it is of 64 bytes that are two digests. */
    (void)SHA256(both[0], sizeof both, ret_key->bytes + UNIT_SESSION_ID_BYTES);
}

/* ------------------------------------------------------------------ sessions */

static void idle_remove(struct unit_table *table, struct session *session)
{
    *(session->older == NULL ? &table->oldest_idle : &session->older->younger) = session->younger;
    *(session->younger == NULL ? &table->youngest_idle : &session->younger->older) = session->older;
    session->older = session->younger = NULL;
}

static void idle_add(struct unit_table *table, struct session *session)
{
    session->younger = NULL;
    session->older = table->youngest_idle;
    *(session->older == NULL ? &table->oldest_idle : &session->older->younger) = session;
    table->youngest_idle = session;
    while (table->session_count > table->sessions_max && table->oldest_idle != NULL) {
        struct session *oldest = table->oldest_idle;
        idle_remove(table, oldest);
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in the table */
        HASH_DEL(table->sessions, oldest);
        table->session_count--;
        session_free(oldest);
    }
}

static struct session *session_find(struct unit_table *table, const struct unit_session_key *key)
{
    struct session *session;
    HASH_FIND(hh, table->sessions, key->bytes, sizeof key->bytes, session);
    return session;
}

static struct session *session_add(struct unit_table *table, const struct unit_session_key *key)
{
    struct session *session = calloc(1, sizeof *session);
    if (session != NULL) {
        session->key = *key;
        HASH_ADD(hh, table->sessions, key.bytes, sizeof key->bytes, session);
        table->session_count++;
    }
    return session;
}

/* ------------------------------------------------------------------ units */

static void unit_link(struct unit_table *table, struct unit *unit)
{
    unit->began_ms = clock_monotonic_ms();
    unit->began_wall_us = clock_wall_us();
    unit->checked_out = true;
    unit->older = table->youngest;
    *(unit->older == NULL ? &table->oldest : &unit->older->younger) = unit;
    table->youngest = unit;
    table->unit_count++;
}

static void unit_unlink(struct unit_table *table, struct unit *unit)
{
    *(unit->older == NULL ? &table->oldest : &unit->older->younger) = unit->younger;
    *(unit->younger == NULL ? &table->youngest : &unit->younger->older) = unit->older;
    table->unit_count--;
}

static void wait_for(struct unit *unit, struct unit_waiter *waiter)
{
    waiter->next = NULL;
    waiter->unit = unit;
    struct unit_waiter **at = &unit->first_waiter;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = waiter;
}

/* Only a driver's transaction is run again as a whole, by who had the session before. */
static bool is_run_again(const struct unit *unit)
{
    return unit->boundary == UNIT_BOUNDARY_DRIVER;
}

static void take_hints(struct session *session, struct unit *unit)
{
    if (session->hints != NULL && is_run_again(unit)) {
        unit->locks.hints = session->hints;
        unit->locks.hints->failed = false;
    } else {
        session->hints = lock_hints_free(session->hints);
    }
    session->hints = NULL;
}

/*
 * Those of namespaces as long as its transactions write: each that reads one as a whole and then
 * writes it would fail beside another that does, and run again.
 */
static void keep_hints(struct session *session, struct unit *unit)
{
    struct lock_hints *hints = unit->locks.hints;
    if (hints == NULL || !is_run_again(unit)) {
        return;
    }
    bool again = hints->failed && unit->state == UNIT_ABORTED;
    bool wrote = hints->namespace_count > 0 && unit->state == UNIT_COMMITTED && unit->begun;
    if (wrote) {
        hints->count = 0;
    }
    if (again || wrote) {
        session->hints = hints;
        unit->locks.hints = NULL;
    }
}

static enum unit_checkout begin(struct unit_table *table, struct session *session,
                                const struct unit_session_key *key,
                                const struct unit_request *request, struct unit **ret_unit)
{
    if (table->unit_count >= table->units_max) {
        return UNIT_CHECKOUT_LIMIT;
    }
    enum unit_boundary boundary = request->key != NULL ? request->boundary
                                  : request->retryable ? UNIT_BOUNDARY_RETRYABLE
                                                       : UNIT_BOUNDARY_DRIVER;
    struct unit *unit = unit_new(request, boundary);
    if (unit == NULL) {
        return UNIT_CHECKOUT_NO_MEMORY;
    }
    unit->maybe_repeated =
        session == NULL || session->transaction_number == request->transaction_number;
    if (session == NULL) {
        session = session_add(table, key);
    } else {
        idle_remove(table, session);
    }
    if (session == NULL) {
        unit_free(unit);
        return UNIT_CHECKOUT_NO_MEMORY;
    }
    session->transaction_number = request->transaction_number;
    session->unit = unit;
    unit->locks.place = session->place;
    unit->early = session->missed;
    unit_link(table, unit);
    take_hints(session, unit);
    *ret_unit = unit;
    return UNIT_CHECKOUT_READY;
}

static enum unit_checkout checkout(struct unit_table *table, const struct unit_request *request,
                                   const struct unit_session_key *key, struct unit_waiter *waiter,
                                   struct unit **ret_unit)
{
    struct session *session = session_find(table, key);
    if (session == NULL) {
        return request->begin ? begin(table, NULL, key, request, ret_unit) : UNIT_CHECKOUT_UNKNOWN;
    }
    if (session->transaction_number > request->transaction_number) {
        return UNIT_CHECKOUT_TOO_OLD;
    }
    bool same = session->transaction_number == request->transaction_number;
    struct unit *unit = session->unit;
    if (unit != NULL && (same || request->begin)) {
        /* A retryable write's unit is always checked out: what is not is a transaction's. */
        if (same && request->begin && !(request->retryable && unit->checked_out)) {
            return UNIT_CHECKOUT_EXISTS;
        }
        if (unit->checked_out) {
            wait_for(unit, waiter);
            return UNIT_CHECKOUT_WAITING;
        }
        unit->checked_out = true;
        *ret_unit = unit;
        if (!same) {
            return UNIT_CHECKOUT_SUPERSEDED;
        }
        unit->holder = request->connection;
        unit->orphaned_at_ms = 0;
        return UNIT_CHECKOUT_READY;
    }
    if (!same) {
        return request->begin ? begin(table, session, key, request, ret_unit)
                              : UNIT_CHECKOUT_UNKNOWN;
    }
    if (request->begin && request->key == NULL) {
        return request->retryable ? begin(table, session, key, request, ret_unit)
                                  : UNIT_CHECKOUT_EXISTS;
    }
    return session->ended == UNIT_COMMITTED  ? UNIT_CHECKOUT_COMMITTED
           : session->ended == UNIT_CONFLICT ? UNIT_CHECKOUT_CONFLICT
                                             : UNIT_CHECKOUT_ABORTED;
}

enum unit_checkout unit_table_checkout(struct unit_table *table, const struct unit_request *request,
                                       struct unit_waiter *waiter, struct unit **ret_unit)
{
    struct unit_session_key key;
    if (request->key != NULL) {
        key = *request->key;
    } else {
        unit_session_key_make(request->user, request->session_id, &key);
    }
    pthread_mutex_lock(&table->mutex);
    enum unit_checkout result = checkout(table, request, &key, waiter, ret_unit);
    pthread_mutex_unlock(&table->mutex);
    return result;
}

struct unit *unit_table_new_plain(struct unit_table *table, const struct unit_request *request)
{
    struct unit *unit = NULL;
    pthread_mutex_lock(&table->mutex);
    if (table->unit_count < table->units_max) {
        unit = unit_new(request, UNIT_BOUNDARY_PLAIN);
        if (unit != NULL) {
            unit->has_session = false;
            unit_link(table, unit);
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return unit;
}

bool unit_table_cancel(struct unit_table *table, struct unit_waiter *waiter)
{
    pthread_mutex_lock(&table->mutex);
    bool waiting = waiter->unit != NULL;
    if (waiting) {
        struct unit_waiter **at = &waiter->unit->first_waiter;
        while (*at != waiter) {
            at = &(*at)->next;
        }
        *at = waiter->next;
        waiter->unit = NULL;
    }
    pthread_mutex_unlock(&table->mutex);
    return waiting;
}

static bool has_ended(const struct unit *unit)
{
    return unit->state == UNIT_COMMITTED || unit->state == UNIT_ABORTED ||
           unit->state == UNIT_CONFLICT;
}

static void retire(struct unit_table *table, struct unit *unit)
{
    unit_unlink(table, unit);
    if (!unit->has_session) {
        return;
    }
    struct session *session = session_find(table, &unit->session_key);
    assert(session != NULL && session->unit == unit);
    session->unit = NULL;
    session->ended = unit->state;
    session->place = lock_owner_place_kept(&unit->locks);
    session->missed = unit->missed;
    keep_hints(session, unit);
    idle_add(table, session);
}

const char *unit_table_checkin(struct unit_table *table, struct unit *unit)
{
    pthread_mutex_lock(&table->mutex);
    assert(unit->checked_out);
    bool ended = has_ended(unit);
    if (!ended && unit->abort_reason != NULL) {
        const char *reason = unit->abort_reason;
        pthread_mutex_unlock(&table->mutex);
        return reason;
    }
    struct unit_waiter *waiters = unit->first_waiter;
    unit->first_waiter = NULL;
    for (struct unit_waiter *at = waiters; at != NULL; at = at->next) {
        at->unit = NULL;
    }
    unit->checked_out = false;
    if (ended) {
        retire(table, unit);
    }
    pthread_mutex_unlock(&table->mutex);
    if (ended) {
        unit_free(unit);
    }
    while (waiters != NULL) {
        struct unit_waiter *next = waiters->next;
        waiters->ready(waiters);
        waiters = next;
    }
    return NULL;
}

/* ------------------------------------------------------------------ taking units to end them */

/* The mutex is held. */
static struct unit *take(struct unit *unit, const char *reason)
{
    if (unit == NULL || has_ended(unit)) {
        return NULL;
    }
    if (unit->abort_reason == NULL) {
        unit->abort_reason = reason;
    }
    if (unit->checked_out) {
        return NULL;
    }
    unit->checked_out = true;
    return unit;
}

static struct unit *find_unit(struct unit_table *table, uint64_t id)
{
    struct unit *unit = table->oldest;
    while (unit != NULL && unit->id != id) {
        unit = unit->younger;
    }
    return unit;
}

struct unit *unit_table_take(struct unit_table *table, uint64_t id, const char *reason,
                             bool *ret_found)
{
    pthread_mutex_lock(&table->mutex);
    struct unit *found = find_unit(table, id);
    if (ret_found != NULL) {
        *ret_found = found != NULL && !has_ended(found);
    }
    struct unit *unit = take(found, reason);
    pthread_mutex_unlock(&table->mutex);
    return unit;
}

struct unit *unit_table_take_key(struct unit_table *table, const struct unit_session_key *key,
                                 const char *reason)
{
    pthread_mutex_lock(&table->mutex);
    struct session *session = session_find(table, key);
    struct unit *unit = take(session == NULL ? NULL : session->unit, reason);
    pthread_mutex_unlock(&table->mutex);
    return unit;
}

struct unit *unit_table_take_session(struct unit_table *table, const char *user,
                                     struct slice session_id, const char *reason)
{
    struct unit_session_key key;
    unit_session_key_make(user, session_id, &key);
    return unit_table_take_key(table, &key, reason);
}

bool unit_table_share_snapshot(struct unit_table *table, const struct unit_session_key *key,
                               struct uncommitted_table *uncommitted,
                               struct uncommitted_owner *into, uint64_t *ret_id)
{
    pthread_mutex_lock(&table->mutex);
    struct session *session = session_find(table, key);
    struct unit *unit = session == NULL ? NULL : session->unit;
    bool shared = unit != NULL && !has_ended(unit) &&
                  uncommitted_snapshot_share(uncommitted, &unit->uncommitted, into);
    if (shared) {
        *ret_id = unit->id;
    }
    pthread_mutex_unlock(&table->mutex);
    return shared;
}

static bool is_expired(const struct unit *unit, uint64_t now_ms, uint64_t lifetime_ms)
{
    uint64_t own_ms = unit->lifetime_ms;
    return now_ms - unit->began_ms > (own_ms != 0 && own_ms < lifetime_ms ? own_ms : lifetime_ms);
}

static struct unit *take_first(struct unit_table *table, bool expired_only, uint64_t lifetime_ms,
                               const char *reason)
{
    struct unit *taken = NULL;
    pthread_mutex_lock(&table->mutex);
    uint64_t now_ms = clock_monotonic_ms();
    for (struct unit *unit = table->oldest; unit != NULL && taken == NULL; unit = unit->younger) {
        if (!expired_only || is_expired(unit, now_ms, lifetime_ms)) {
            taken = take(unit, reason);
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return taken;
}

struct unit *unit_table_take_expired(struct unit_table *table, uint64_t lifetime_ms,
                                     const char *reason)
{
    return take_first(table, true, lifetime_ms, reason);
}

struct unit *unit_table_take_any(struct unit_table *table, const char *reason)
{
    return take_first(table, false, 0, reason);
}

struct unit *unit_table_take_begun(struct unit_table *table, const char *reason)
{
    struct unit *taken = NULL;
    pthread_mutex_lock(&table->mutex);
    for (struct unit *unit = table->oldest; unit != NULL && taken == NULL; unit = unit->younger) {
        /* `begun` is its holder's while it has one; so is what it has put off, and read. */
        if (unit->checked_out || unit->begun || unit->deferred != NULL ||
            unit->locks.serializable) {
            taken = take(unit, reason);
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return taken;
}

size_t unit_table_busy_count(struct unit_table *table)
{
    size_t count = 0;
    pthread_mutex_lock(&table->mutex);
    for (const struct unit *unit = table->oldest; unit != NULL; unit = unit->younger) {
        count += unit->checked_out;
    }
    pthread_mutex_unlock(&table->mutex);
    return count;
}

size_t unit_table_open_count(struct unit_table *table)
{
    pthread_mutex_lock(&table->mutex);
    size_t count = table->unit_count;
    pthread_mutex_unlock(&table->mutex);
    return count;
}

bool unit_table_set_user(struct unit_table *table, struct unit *unit, const char *user)
{
    char *copy = strdup(user);
    if (copy == NULL) {
        return false;
    }
    pthread_mutex_lock(&table->mutex); /* unit_table_view() */
    free(unit->user);
    unit->user = copy;
    pthread_mutex_unlock(&table->mutex);
    return true;
}

bool unit_table_is_serializable(struct unit_table *table, const struct unit_session_key *key)
{
    pthread_mutex_lock(&table->mutex);
    const struct session *session = session_find(table, key);
    bool serializable =
        session != NULL && session->unit != NULL && session->unit->locks.serializable;
    pthread_mutex_unlock(&table->mutex);
    return serializable;
}

size_t unit_table_view(struct unit_table *table, struct unit_view *views, size_t max)
{
    uint64_t now_ms = clock_monotonic_ms();
    size_t count = 0;
    pthread_mutex_lock(&table->mutex);
    for (const struct unit *unit = table->oldest; unit != NULL && count < max;
         unit = unit->younger) {
        struct unit_view *view = &views[count++];
        *view = (struct unit_view){
            .serializable = unit->locks.serializable,
            .id = unit->id,
            .state = unit->state,
            .busy = unit->checked_out,
            .boundary = unit_boundary_name(unit->boundary),
            .ends_with = unit->abort_reason,
            .age_ms = now_ms > unit->began_ms ? now_ms - unit->began_ms : 0,
        };
        (void)snprintf(view->user, sizeof view->user, "%s", unit->user);
        (void)snprintf(view->client, sizeof view->client, "%s", unit->client);
        (void)snprintf(view->application, sizeof view->application, "%s", unit->application);
    }
    pthread_mutex_unlock(&table->mutex);
    return count;
}

/* ------------------------------------------------------------------ orphans */

void unit_table_orphan(struct unit_table *table, uint64_t connection,
                       const uint64_t recent[UNIT_RECENT_SESSIONS], uint64_t now_ms)
{
    pthread_mutex_lock(&table->mutex);
    for (struct unit *unit = table->oldest; unit != NULL; unit = unit->younger) {
        if (unit->holder == connection && unit->is_of_connection) {
            unit->orphaned_at_ms = now_ms;
            unit->search_running = false;
            memcpy(unit->recent_sessions, recent, sizeof unit->recent_sessions);
        }
    }
    pthread_mutex_unlock(&table->mutex);
}

bool unit_table_next_orphan(struct unit_table *table, uint64_t orphaned_before_ms,
                            struct unit_orphan *ret_orphan)
{
    bool found = false;
    pthread_mutex_lock(&table->mutex);
    for (struct unit *unit = table->oldest; unit != NULL && !found; unit = unit->younger) {
        if (unit->orphaned_at_ms != 0 && unit->orphaned_at_ms < orphaned_before_ms &&
            !unit->search_running && !has_ended(unit)) {
            unit->search_running = true;
            ret_orphan->unit = unit->id;
            memcpy(ret_orphan->recent_sessions, unit->recent_sessions,
                   sizeof ret_orphan->recent_sessions);
            found = true;
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return found;
}

bool unit_table_adopt(struct unit_table *table, uint64_t id, uint64_t connection)
{
    pthread_mutex_lock(&table->mutex);
    struct unit *unit = find_unit(table, id);
    bool orphan = unit != NULL && unit->orphaned_at_ms != 0;
    if (orphan && connection != 0) {
        unit->holder = connection;
        unit->orphaned_at_ms = 0;
        unit->search_running = false;
        orphan = false;
    }
    pthread_mutex_unlock(&table->mutex);
    return orphan;
}
