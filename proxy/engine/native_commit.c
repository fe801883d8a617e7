/*
 * Commits of the native engine (native.h): the record before, the verdict after.
 *
 *   OPEN, wrote --> JOURNALING --durable--> COMMITTING --the server says--> ENDED
 *                       `--no room--> OPEN: the caller rolls it back
 *
 * A commit that comes again while COMMITTING passes without a further record: whoever gets an
 * answer first writes the outcome, and the journal takes one only. One that comes again when it has
 * ended passes, too; but a server that forgets at its restart is not believed against the journal.
 *
 * Except after CONFLICT, "outcome unknown": if the client asks once more, and the server says that
 * it has committed, that is certain, and ends the conflict as an operator would. Nothing else is
 * taken then: "no such transaction" may be what the server has forgotten, and what an operator has
 * decided meanwhile stays, for the journal takes no COMMIT after it. After a restart of this
 * process nobody knows any more which conflict the client asks about: it gets a unit of its own.
 *
 * Threads: the connection's worker; native_commit.durable on the journal's writer thread.
 */
#include <string.h>

#include "engine/native_private.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/log.h"
#include "wire/bson_walk.h"

#define PATIENCE_PART 10u

/* `commands` NULL: none. */
static void put_committing(const struct native_commit *commit, const bson_t *commands, int32_t left,
                           bson_t *payload)
{
    bson_t api = BSON_INITIALIZER;
    command_put_api(&api, commit->view->body);
    const struct record_committing committing = {
        .lsid = bson_document_find(commit->view->body, "lsid"),
        .transaction_number = commit->view->transaction_number,
        .recovery_token = bson_document_find(commit->view->body, "recoveryToken"),
        .api = slice_make(bson_get_data(&api), bson_empty(&api) ? 0 : api.len),
        .process = commit->has_first_process ? commit->first_process : NULL,
        .commands = commands == NULL ? (struct slice){0}
                                     : slice_make(bson_get_data(commands), commands->len),
        .left = left,
    };
    record_put_committing(payload, &committing);
    bson_destroy(&api);
}

/* ------------------------------------------------------------------ before it is sent */

static void on_appended(struct wal_append *first, void *context)
{
    struct native_commit *commit = context;
    enum status status = first->status;
    struct native_key key;
    bson_destroy(&commit->payloads[0]);
    bson_destroy(&commit->payloads[1]);
    if (status != STATUS_OK && status != STATUS_FULL) {
        native_end_process("a COMMITTING record could not be made durable", commit->unit, status);
    }
    native_key_make(commit->user, commit->view->session_id, &key);
    struct native_part *part = native_part_lock(commit->native, &key);
    struct native_entry *entry = native_entry_find(part, &key);
    if (entry != NULL && entry->unit == commit->unit) {
        if (status == STATUS_OK) {
            entry->state = NATIVE_COMMITTING;
        } else {
            native_entry_remove(part, entry);
        }
    }
    pthread_mutex_unlock(&part->lock);
    if (status == STATUS_OK) {
        histogram_observe(&commit->native->options.counters->commit,
                          clock_monotonic_us() - commit->started_us);
        CRASH_POINT(native_committing);
    }
    commit->durable(commit, status);
}

/*
 * `age_us`: of the transaction. Where several are committed at once they may wait for each other by
 * a small part of that: a batch of them costs the processor hardly more than one alone.
 */
static void append(struct native_commit *commit, const bson_t *commands, int32_t left,
                   uint64_t age_us)
{
    const struct record_begin begin = {
        .boundary = unit_boundary_name(UNIT_BOUNDARY_DRIVER),
        .user = commit->user,
        .session_id = commit->view->session_id,
        .transaction_number = commit->view->transaction_number,
        .client = commit->client,
        .application = commit->application,
    };
    bson_init(&commit->payloads[0]);
    bson_init(&commit->payloads[1]);
    record_put_begin(&commit->payloads[0], &begin);
    put_committing(commit, commands, left, &commit->payloads[1]);
    for (size_t i = 0; i < 2; i++) {
        commit->records[i] = (struct wal_append){
            .kind = i == 0 ? WAL_KIND_BEGIN : WAL_KIND_COMMITTING,
            .unit = commit->unit,
            .payload = slice_make(bson_get_data(&commit->payloads[i]), commit->payloads[i].len),
            .next = i == 0 ? &commit->records[1] : NULL,
            .completed = on_appended,
            .context = commit,
        };
    }
    uint64_t patience_us = age_us / PATIENCE_PART;
    commit->records[0].patience_us =
        patience_us < WAL_PATIENCE_US_MAX ? (uint32_t)patience_us : WAL_PATIENCE_US_MAX;
    wal_append(commit->native->options.wal, &commit->records[0]);
}

/* It may be on the server already: its process, too, counts then. */
static void take_again(struct native_commit *commit, const struct native_entry *entry)
{
    commit->again = true;
    commit->set_aside = entry->set_aside;
    commit->unit = entry->unit;
    const struct native_server *server = &commit->native->options.server;
    commit->has_first_process = entry->has_process;
    memcpy(commit->first_process, entry->process, sizeof entry->process);
    commit->conclusive = server->keeps_transactions ||
                         (server->tells_older && entry->has_process && commit->process != NULL &&
                          memcmp(entry->process, commit->process, sizeof entry->process) == 0);
}

enum native_step native_commit_begin(struct native_commit *commit)
{
    struct native_key key;
    bson_t *commands = NULL;
    int32_t left = -1; /* nothing is known of it */
    uint64_t age_us = 0;
    commit->unit = 0;
    commit->again = false;
    commit->was_committed = false;
    commit->set_aside = false;
    commit->conclusive = commit->native->options.server.keeps_transactions;
    commit->started_us = clock_monotonic_us();
    commit->has_first_process = commit->process != NULL;
    if (commit->process != NULL) {
        memcpy(commit->first_process, commit->process, sizeof commit->first_process);
    }
    native_key_make(commit->user, commit->view->session_id, &key);
    struct native_part *part = native_part_lock(commit->native, &key);
    struct native_entry *entry = native_entry_find(part, &key);
    bool known = entry != NULL && entry->number == commit->view->transaction_number;
    bool is_older = entry != NULL && entry->number > commit->view->transaction_number;
    if (is_older || (known && (entry->state == NATIVE_ENDED ||
                               (entry->state == NATIVE_OPEN && !entry->wrote)))) {
        commit->was_committed = known && entry->state == NATIVE_ENDED;
        pthread_mutex_unlock(&part->lock);
        return NATIVE_SEND;
    }
    if (known && entry->state == NATIVE_COMMITTING) {
        take_again(commit, entry);
        pthread_mutex_unlock(&part->lock);
        native_asker_defer(commit->native, commit->unit);
        return NATIVE_SEND;
    }
    commit->unit = wal_unit_next(commit->native->options.wal);
    if (known && entry->state == NATIVE_OPEN) {
        age_us = commit->started_us - entry->began_us;
        commands = entry->commands;
        left = entry->left;
        entry->commands = NULL;
        part->kept -= commands == NULL ? 0 : commands->len;
        entry->state = NATIVE_JOURNALING;
        entry->unit = commit->unit;
        entry->has_process = commit->has_first_process;
        memcpy(entry->process, commit->first_process, sizeof entry->process);
    } else {
        /* A driver sends a commit again with a write concern. */
        commit->again = commit->view->has_write_concern;
    }
    pthread_mutex_unlock(&part->lock);
    append(commit, commands, left, age_us);
    if (commands != NULL) {
        bson_destroy(commands);
    }
    return NATIVE_WAIT;
}

/* ------------------------------------------------------------------ after it was answered */

static void settle(struct native_commit *commit, enum wal_kind kind, const char *reason)
{
    struct native_key key;
    native_key_make(commit->user, commit->view->session_id, &key);
    native_outcome_append(commit->native, commit->unit, kind, reason, (struct slice){0},
                          commit->set_aside);
    native_outcome_note(commit->native, &key, commit->unit, kind);
    if (commit->again) {
        native_asker_settled(commit->native, commit->unit);
    }
}

/* To a commit that comes again: a driver would take "no such transaction" for "run it once more".
 */
static bool is_forgotten(const struct native_commit *commit, struct slice reply)
{
    static const struct commit_asked believing = {.again = true, .conclusive = true};
    return commit->was_committed && !commit->native->options.server.keeps_transactions &&
           commit_verdict(reply, &believing, NULL) == COMMIT_LOST;
}

/* The unit is a conflict already. */
static enum native_answer answered_late(struct native_commit *commit, struct slice reply,
                                        enum commit_verdict verdict)
{
    if (verdict == COMMIT_COMMITTED) {
        LOG(LOG_INFO, "recovery", "A conflict is settled: the server has committed this after all",
            LOG_NUMBER("unit", commit->unit), LOG_TEXT("user", commit->user),
            LOG_TEXT("client", commit->client));
        settle(commit, WAL_KIND_COMMIT, NULL);
        return NATIVE_PASS;
    }
    return verdict == COMMIT_OPEN && commit_is_told_unknown(reply) ? NATIVE_PASS : NATIVE_UNKNOWN;
}

enum native_answer native_commit_answered(struct native_commit *commit, struct slice reply)
{
    int32_t code = 0;
    const struct commit_asked asked = {.again = commit->again, .conclusive = commit->conclusive};
    if (commit->unit == 0) {
        return is_forgotten(commit, reply) ? NATIVE_FORGOTTEN : NATIVE_PASS;
    }
    enum commit_verdict verdict = commit_verdict(reply, &asked, &code);
    if (commit->set_aside) {
        return answered_late(commit, reply, verdict);
    }
    switch (verdict) {
    case COMMIT_COMMITTED:
        settle(commit, WAL_KIND_COMMIT, NULL);
        return NATIVE_PASS;
    case COMMIT_LOST:
        settle(commit, WAL_KIND_ABORT,
               asked.again ? "the server has no such transaction: it was never acknowledged"
                           : "the server has refused the commit");
        return NATIVE_PASS;
    case COMMIT_UNKNOWN:
        LOG(LOG_ERROR, "recovery", "The outcome of a commit is unknown; see holdfast show",
            LOG_NUMBER("unit", commit->unit), LOG_TEXT("user", commit->user),
            LOG_TEXT("client", commit->client), LOG_NUMBER("code", code));
        settle(commit, WAL_KIND_CONFLICT, native_conflict_reason(verdict, false));
        return NATIVE_UNKNOWN;
    case COMMIT_OPEN:
    case COMMIT_FORBIDDEN:
        if (verdict == COMMIT_FORBIDDEN || !commit_is_told_unknown(reply)) {
            return NATIVE_ASK;
        }
        break;
    }
    /* The client may ask again; if it does not, somebody has to. */
    if (native_commit_lost(commit, NULL, NULL) == NULL) {
        LOG(LOG_WARNING, "recovery", "Out of memory: the next start asks how a commit ended",
            LOG_NUMBER("unit", commit->unit));
    }
    return NATIVE_PASS;
}

/* ------------------------------------------------------------------ or was not */

struct native_doubt *native_commit_lost(struct native_commit *commit,
                                        void (*told)(void *context, enum commit_verdict verdict),
                                        void *context)
{
    struct native *native = commit->native;
    struct native_doubt *doubt = native_doubt_new(commit->unit, commit->user);
    if (doubt == NULL) {
        return NULL;
    }
    doubt->set_aside = commit->set_aside;
    doubt->number = commit->view->transaction_number;
    native_key_make(commit->user, commit->view->session_id, &doubt->key);
    put_committing(commit, NULL, 0, &doubt->committing);
    doubt->told = told;
    doubt->context = context;
    native_asker_add(native, doubt);
    return doubt;
}
