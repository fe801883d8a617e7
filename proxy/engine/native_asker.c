/*
 * The thread that asks the server how a commit ended whose answer was lost (native.h).
 *
 * The client's own question comes first where it can ask: a doubt that nobody waits for is left to
 * it for CLIENT_ASKS_MS, from each time that it is told to ask, or does.
 *
 *   in doubt --asked--> committed, lost         outcome appended, whoever waits is told
 *                   \-> unknown                 CONFLICT appended, told
 *                   \-> forbidden               told; the client may ask itself. Kept until it has,
 *                   |                           or the server has forgotten the session: CONFLICT
 *                   \-> no answer               again, ASK_AGAIN_MS later
 *
 * Whatever is in doubt when the process ends is COMMITTING in the journal, and recovery's.
 *
 * Its own thread; `native->lock` guards the list. `told` is called without it: that of a unit in a
 * comment takes the locks of units and of others that wait for them. By then the doubt is out of
 * the list, or has no `told` any more, so that native_doubt_leave() is never too early.
 */
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "base/memory.h"
#include "engine/native_private.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "upstream/transaction.h"

#define ASK_AGAIN_MS 200u
/* A client that was told to ask again does so at once. On one session the server carries out one
   command after the other: the driver's question would wait for ours. */
#define CLIENT_ASKS_MS 1000u
/* Only the client can settle it, but rights may change. */
#define FORBIDDEN_AGAIN_MS 10000u
/* Beyond these the server's own timeout ends what was left open. */
#define ABORTS_MAX 10000u

struct native_doubt *native_doubt_new(uint64_t unit, const char *user)
{
    struct native_doubt *doubt =
        memory_new_aligned(1, sizeof *doubt, _Alignof(struct native_doubt));
    char *copy = strdup(user);
    if (doubt == NULL || copy == NULL) {
        free(doubt);
        free(copy);
        return NULL;
    }
    doubt->unit = unit;
    doubt->user = copy;
    doubt->since_ms = clock_monotonic_ms();
    bson_init(&doubt->committing);
    return doubt;
}

static void doubt_free(struct native_doubt *doubt)
{
    bson_destroy(&doubt->committing);
    free(doubt->user);
    free(doubt);
}

/* With the lock. NULL: none. */
static struct native_doubt *find_doubt(struct native *native, uint64_t unit)
{
    struct native_doubt *at = native->doubts;
    while (at != NULL && at->unit != unit) {
        at = at->next;
    }
    return at;
}

/* With the lock. */
static void leave_to_client(struct native_doubt *doubt)
{
    uint64_t at_ms = clock_monotonic_ms() + CLIENT_ASKS_MS;
    if (doubt->told == NULL && doubt->ask_at_ms < at_ms) {
        doubt->ask_at_ms = at_ms;
    }
}

void native_asker_add(struct native *native, struct native_doubt *doubt)
{
    pthread_mutex_lock(&native->lock);
    struct native_doubt *known =
        doubt->told == NULL ? find_doubt(native, doubt->unit) : NULL; /* it is asked for already */
    if (known == NULL) {
        doubt->next = native->doubts;
        native->doubts = doubt;
        native->doubt_count++;
        pthread_cond_signal(&native->changed);
    }
    leave_to_client(known == NULL ? doubt : known);
    pthread_mutex_unlock(&native->lock);
    if (known != NULL) {
        doubt_free(doubt);
    }
}

void native_asker_defer(struct native *native, uint64_t unit)
{
    pthread_mutex_lock(&native->lock);
    struct native_doubt *known = find_doubt(native, unit);
    if (known != NULL) {
        leave_to_client(known);
    }
    pthread_mutex_unlock(&native->lock);
}

static void abort_free(struct native_abort *wanted)
{
    bson_destroy(&wanted->lsid);
    bson_destroy(&wanted->api);
    free(wanted->user);
    free(wanted);
}

void native_asker_abort(struct native *native, const char *user, const bson_t *lsid,
                        const bson_t *api, int64_t number)
{
    struct native_abort *wanted =
        memory_new_aligned(1, sizeof *wanted, _Alignof(struct native_abort));
    if (wanted == NULL) {
        return;
    }
    bson_copy_to(lsid, &wanted->lsid);
    bson_copy_to(api, &wanted->api);
    wanted->user = strdup(user);
    wanted->number = number;
    pthread_mutex_lock(&native->lock);
    bool taken = wanted->user != NULL && native->abort_count < ABORTS_MAX;
    if (taken) {
        wanted->next = native->aborts;
        native->aborts = wanted;
        native->abort_count++;
        pthread_cond_signal(&native->changed);
    }
    pthread_mutex_unlock(&native->lock);
    if (!taken) {
        abort_free(wanted);
    }
}

/* With the lock, which it gives free meanwhile. */
static void run_abort(struct native *native, struct upstream **upstream)
{
    struct native_abort *wanted = native->aborts;
    struct error error = {0};
    int32_t code = 0;
    enum status status = STATUS_OK;
    native->aborts = wanted->next;
    native->abort_count--;
    pthread_mutex_unlock(&native->lock);
    const struct upstream_transaction transaction = {
        .lsid = slice_make(bson_get_data(&wanted->lsid), wanted->lsid.len),
        .number = wanted->number,
        .api = slice_make(bson_get_data(&wanted->api), wanted->api.len),
        .user = wanted->user,
    };
    if (*upstream == NULL) {
        status = upstream_open(native->options.upstream_uri, native->options.connect_ms, upstream,
                               &error);
    }
    if (status == STATUS_OK) {
        status = upstream_abort(*upstream, &transaction, &code, &error);
    }
    if (status != STATUS_OK) {
        LOG(LOG_WARNING, "unit", "The server could not be told to abort a transaction",
            LOG_TEXT("reason", error.message));
        *upstream = upstream_close(*upstream);
    }
    abort_free(wanted);
    pthread_mutex_lock(&native->lock);
}

/* With the lock. False: it is not there any more. */
static bool take_out(struct native *native, uint64_t unit, struct native_doubt **ret_doubt)
{
    for (struct native_doubt **at = &native->doubts; *at != NULL; at = &(*at)->next) {
        if ((*at)->unit == unit) {
            *ret_doubt = *at;
            *at = (*at)->next;
            native->doubt_count--;
            return true;
        }
    }
    return false;
}

void native_asker_settled(struct native *native, uint64_t unit)
{
    struct native_doubt *doubt = NULL;
    pthread_mutex_lock(&native->lock);
    /* One that is waited for has to be told: the thread does that. */
    for (struct native_doubt *at = native->doubts; at != NULL; at = at->next) {
        if (at->unit == unit && at->told != NULL) {
            pthread_mutex_unlock(&native->lock);
            return;
        }
    }
    while (take_out(native, unit, &doubt)) {
        doubt_free(doubt);
    }
    pthread_mutex_unlock(&native->lock);
}

bool native_doubt_leave(struct native *native, const struct native_doubt *doubt,
                        const void *context)
{
    bool left = false;
    pthread_mutex_lock(&native->lock);
    for (struct native_doubt *at = native->doubts; at != NULL; at = at->next) {
        /* It may be gone, and its memory another's by now. */
        if (at == doubt && at->context == context && at->told != NULL) {
            at->told = NULL;
            left = true;
        }
    }
    pthread_mutex_unlock(&native->lock);
    return left;
}

size_t native_doubts(struct native *native)
{
    pthread_mutex_lock(&native->lock);
    size_t count = native->doubt_count;
    pthread_mutex_unlock(&native->lock);
    return count;
}

/* ------------------------------------------------------------------ asking */

/* What is to be asked next, copied, for the lock is given free meanwhile. */
struct question {
    uint64_t unit;
    uint64_t since_ms;
    bool unsent;
    char *user;
    bson_t committing;
};

/* With the lock. False: there is none to be asked before *ret_until_ms. */
static bool next_question(struct native *native, uint64_t *ret_until_ms,
                          struct question *ret_question)
{
    struct native_doubt *found = native->doubts;
    for (struct native_doubt *at = native->doubts; at != NULL; at = at->next) {
        found = at->ask_at_ms < found->ask_at_ms ? at : found;
    }
    *ret_until_ms = found->ask_at_ms;
    if (found->ask_at_ms > clock_monotonic_ms()) {
        return false;
    }
    found->ask_at_ms = clock_monotonic_ms() + ASK_AGAIN_MS;
    ret_question->unit = found->unit;
    ret_question->since_ms = found->since_ms;
    ret_question->unsent = found->unsent;
    found->unsent = false;
    ret_question->user = strdup(found->user);
    bson_copy_to(&found->committing, &ret_question->committing);
    return true;
}

static void question_free(struct question *question)
{
    free(question->user);
    bson_destroy(&question->committing);
}

/* What its COMMIT is to keep. */
static struct slice reply_of(const struct native_doubt *doubt)
{
    struct record_committing committing = {0};
    struct slice payload = slice_make(bson_get_data(&doubt->committing), doubt->committing.len);
    return record_get_committing(payload, &committing, NULL) == STATUS_OK ? committing.reply
                                                                          : (struct slice){0};
}

/* Who waits is told afterwards, and may look it up in the journal at once. */
static void end_doubt(struct native *native, struct native_doubt *doubt,
                      enum commit_verdict verdict, bool too_old)
{
    enum wal_kind kind = WAL_KIND_CONFLICT;
    if (doubt->set_aside && verdict != COMMIT_COMMITTED) {
        return; /* as native_commit.c has it */
    }
    switch (verdict) {
    case COMMIT_COMMITTED:
        kind = WAL_KIND_COMMIT;
        native_outcome_append_wait(native, doubt->unit, WAL_KIND_COMMIT, NULL, reply_of(doubt),
                                   doubt->counted || doubt->set_aside);
        break;
    case COMMIT_LOST:
        kind = WAL_KIND_ABORT;
        native_outcome_append_wait(native, doubt->unit, WAL_KIND_ABORT,
                                   "the server has no such transaction: it was never acknowledged",
                                   (struct slice){0}, doubt->counted);
        break;
    default:
        native_outcome_append_wait(native, doubt->unit, WAL_KIND_CONFLICT,
                                   native_conflict_reason(verdict, too_old), (struct slice){0},
                                   doubt->counted);
        break;
    }
    native_outcome_note(native, &doubt->key, doubt->unit, kind);
    LOG(verdict == COMMIT_COMMITTED || verdict == COMMIT_LOST ? LOG_INFO : LOG_ERROR, "recovery",
        "A commit whose answer was lost is settled", LOG_NUMBER("unit", doubt->unit),
        LOG_TEXT("outcome", commit_verdict_name(verdict)), LOG_TEXT("user", doubt->user));
}

/* With the lock, which it gives free meanwhile. Who waits is told that nobody but they may ask. */
static void tell_forbidden(struct native *native, uint64_t unit)
{
    struct native_doubt *at = native->doubts;
    while (at != NULL) {
        void (*told)(void *, enum commit_verdict) = at->told;
        void *waiting = at->context;
        if (at->unit != unit) {
            at = at->next;
            continue;
        }
        at->ask_at_ms = clock_monotonic_ms() + FORBIDDEN_AGAIN_MS;
        at->told = NULL; /* from here on native_doubt_leave() says that it is called */
        at = at->next;
        if (told != NULL) {
            pthread_mutex_unlock(&native->lock);
            told(waiting, COMMIT_FORBIDDEN);
            pthread_mutex_lock(&native->lock);
            at = native->doubts; /* it may be another list by now */
        }
    }
}

/* Tells who waits, and ends the doubts of the unit. */
static void settle(struct native *native, const struct question *question,
                   enum commit_verdict verdict)
{
    struct native_doubt *doubt = NULL;
    bool first = true;
    bool too_old = clock_monotonic_ms() - question->since_ms > native->options.server.session_ms;
    bool ends = verdict != COMMIT_FORBIDDEN || too_old;
    if (verdict == COMMIT_LOST && too_old) {
        verdict = COMMIT_UNKNOWN;
    } else if (verdict == COMMIT_FORBIDDEN && question->unsent) {
        LOG(LOG_ERROR, "unit",
            "A unit was rolled back: its service has no connection left that could commit it, and "
            "the proxy's own user may not (privilege impersonate on the cluster)",
            LOG_NUMBER("unit", question->unit), LOG_TEXT("user", question->user));
        verdict = COMMIT_LOST;
        ends = true;
    }
    pthread_mutex_lock(&native->lock);
    if (!ends) {
        tell_forbidden(native, question->unit);
    }
    while (ends && take_out(native, question->unit, &doubt)) {
        pthread_mutex_unlock(&native->lock);
        if (first) {
            end_doubt(native, doubt, verdict, too_old);
        }
        first = false;
        if (doubt->told != NULL) {
            bool forgotten = verdict == COMMIT_LOST && doubt->set_aside;
            doubt->told(doubt->context, forgotten ? COMMIT_UNKNOWN : verdict);
        }
        doubt_free(doubt);
        pthread_mutex_lock(&native->lock);
    }
    pthread_mutex_unlock(&native->lock);
}

static void ask(struct native *native, struct upstream **upstream, const struct question *question)
{
    struct error error = {0};
    enum commit_verdict verdict = COMMIT_OPEN;
    int32_t code = 0;
    enum status status = question->user == NULL ? STATUS_MEMORY : STATUS_OK;
    if (status == STATUS_OK && *upstream == NULL) {
        status = upstream_open(native->options.upstream_uri, native->options.connect_ms, upstream,
                               &error);
    }
    if (status == STATUS_OK) {
        status =
            native_ask(*upstream, &native->options.server, question->user,
                       slice_make(bson_get_data(&question->committing), question->committing.len),
                       &verdict, &code, &error);
    }
    if (status != STATUS_OK || verdict == COMMIT_OPEN) {
        LOG(LOG_WARNING, "recovery", "A commit whose answer was lost cannot be asked for now",
            LOG_NUMBER("unit", question->unit), LOG_NUMBER("code", code),
            LOG_TEXT("reason", status == STATUS_OK ? "the server cannot say" : error.message));
        *upstream = upstream_close(*upstream);
        return;
    }
    settle(native, question, verdict);
}

static void *asker_main(void *context)
{
    struct native *native = context;
    struct upstream *upstream = NULL;
    uint64_t until_ms = 0;
    pthread_mutex_lock(&native->lock);
    while (!native->stopping) {
        struct question question = {0};
        if (native->aborts != NULL) {
            run_abort(native, &upstream);
            continue;
        }
        if (native->doubts == NULL) {
            pthread_cond_wait(&native->changed, &native->lock);
            continue;
        }
        if (!next_question(native, &until_ms, &question)) {
            condition_wait_until(&native->changed, &native->lock, until_ms);
            continue;
        }
        pthread_mutex_unlock(&native->lock);
        ask(native, &upstream, &question);
        question_free(&question);
        pthread_mutex_lock(&native->lock);
    }
    pthread_mutex_unlock(&native->lock);
    upstream_close(upstream);
    return NULL;
}

enum status native_asker_start(struct native *native, struct error *ret_error)
{
    pthread_mutex_init(&native->lock, NULL);
    condition_init(&native->changed);
    int code = pthread_create(&native->thread, NULL, asker_main, native);
    if (code != 0) {
        return error_set(ret_error, STATUS_LIMIT, "cannot start a thread: %s", strerror(code));
    }
    native->started = true;
    return STATUS_OK;
}

void native_asker_end(struct native *native)
{
    if (native->started) {
        pthread_mutex_lock(&native->lock);
        native->stopping = true;
        pthread_cond_signal(&native->changed);
        pthread_mutex_unlock(&native->lock);
        pthread_join(native->thread, NULL);
        native->started = false;
    }
}

void native_asker_free(struct native *native)
{
    while (native->aborts != NULL) {
        struct native_abort *wanted = native->aborts;
        native->aborts = wanted->next;
        abort_free(wanted);
    }
    while (native->doubts != NULL) {
        struct native_doubt *doubt = native->doubts;
        native->doubts = doubt->next;
        doubt_free(doubt);
    }
    pthread_cond_destroy(&native->changed);
    pthread_mutex_destroy(&native->lock);
}
