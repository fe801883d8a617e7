/*
 * The record that tells how a transaction of the native engine ended. A driver's commit does not
 * wait for it: without it recovery asks the server, which says the same. Who is told by the proxy
 * is told when it is there: a command that comes again is answered from the journal. Any thread.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "engine/native_private.h"
#include "holdfast/log.h"

void native_end_process(const char *message, uint64_t unit, enum status status)
{
    LOG(LOG_ERROR, "journal", message, LOG_NUMBER("unit", unit),
        LOG_TEXT("status", status_name(status)),
        LOG_TEXT("action", "ending the process; the next start recovers"));
    _exit(70);
}

struct outcome_append {
    struct wal_append append;
    bson_t payload;
    struct engine_counters *counters; /* NULL: it is counted elsewhere */
};

static void count(struct engine_counters *counters, enum wal_kind kind)
{
    enum engine_outcome outcome = kind == WAL_KIND_COMMIT  ? ENGINE_COMMITTED
                                  : kind == WAL_KIND_ABORT ? ENGINE_ROLLED_BACK
                                                           : ENGINE_CONFLICT;
    (void)atomic_fetch_add_explicit(&counters->ended[UNIT_BOUNDARY_DRIVER][outcome], 1,
                                    memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&counters->journaled, 1, memory_order_relaxed);
}

static void on_appended(struct wal_append *first, void *context)
{
    struct outcome_append *outcome = context;
    enum status status = first->status;
    if (status == STATUS_OK && outcome->counters != NULL) {
        count(outcome->counters, first->kind);
    } else if (status == STATUS_IO) {
        native_end_process("the outcome of a commit could not be journaled", first->unit, status);
    } /* INVALID: somebody else was first; FULL: it has a place of its own, or recovery asks */
    bson_destroy(&outcome->payload);
    free(outcome);
}

/* NULL: out of memory. */
static struct outcome_append *make(struct native *native, uint64_t unit, enum wal_kind kind,
                                   const char *reason, struct slice reply, bool counted)
{
    struct outcome_append *outcome =
        memory_new_aligned(1, sizeof *outcome, _Alignof(struct outcome_append));
    if (outcome == NULL) {
        LOG(LOG_WARNING, "journal", "Out of memory: the next start asks how a commit ended",
            LOG_NUMBER("unit", unit));
        return NULL;
    }
    bson_init(&outcome->payload);
    if (kind == WAL_KIND_COMMIT) {
        record_put_commit(&outcome->payload, NULL, 0, reply);
    } else if (kind == WAL_KIND_ABORT) {
        record_put_abort(&outcome->payload, reason);
    } else {
        record_put_conflict(&outcome->payload, reason, NULL, 0);
    }
    outcome->counters = counted ? NULL : native->options.counters;
    outcome->append = (struct wal_append){
        .kind = kind,
        .unit = unit,
        .payload = slice_make(bson_get_data(&outcome->payload), outcome->payload.len),
    };
    return outcome;
}

void native_outcome_append(struct native *native, uint64_t unit, enum wal_kind kind,
                           const char *reason, struct slice reply, bool counted)
{
    struct outcome_append *outcome = make(native, unit, kind, reason, reply, counted);
    if (outcome != NULL) {
        outcome->append.unhurried = true;
        outcome->append.completed = on_appended;
        outcome->append.context = outcome;
        wal_append(native->options.wal, &outcome->append);
    }
}

void native_outcome_append_wait(struct native *native, uint64_t unit, enum wal_kind kind,
                                const char *reason, struct slice reply, bool counted)
{
    struct outcome_append *outcome = make(native, unit, kind, reason, reply, counted);
    if (outcome != NULL) {
        enum status status = wal_append_wait(native->options.wal, &outcome->append, NULL);
        (void)status; /* it is the record's, too */
        on_appended(&outcome->append, outcome);
    }
}

void native_outcome_note(struct native *native, const struct native_key *key, uint64_t unit,
                         enum wal_kind kind)
{
    struct native_part *part = native_part_lock(native, key);
    struct native_entry *entry = native_entry_find(part, key);
    if (entry != NULL && entry->unit == unit) {
        if (kind == WAL_KIND_COMMIT) {
            native_entry_end(part, entry);
        } else if (kind == WAL_KIND_CONFLICT) {
            entry->set_aside = true; /* its client may ask once more, and hear more */
        } else {
            native_entry_remove(part, entry); /* a commit that comes again is journaled anew */
        }
    }
    pthread_mutex_unlock(&part->lock);
}
