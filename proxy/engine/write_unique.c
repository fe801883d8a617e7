/*
 * Locks on keys of unique indexes: what a write gives up or takes nobody else takes until its unit
 * ends (unique_keys.h).
 *
 *   the after-image is known     its keys and those of the before-image are locked before the write
 *   the server computes it       the keys that it may make are told beforehand (write_forecast.c)
 *                                and locked with those of the before-image. Where they cannot be
 *                                told, those that the reply shows to be new are locked after it: if
 *                                another unit holds one of them, this unit has taken what that one
 *                                may have to restore, and gives it back: it is rolled back at once
 *
 * A key's lock stands for no document: whoever gets it has read nothing that could be old. Worker
 * of the channel only.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/write_steps.h"
#include "wire/reply.h"

/* What a held lock takes of memory, roughly; counts against unit.maxBytes. */
#define LOCK_BYTES 200u

static void on_answered(struct unique_lookup *lookup)
{
    write_wake((struct write_operation *)(void *)((uint8_t *)lookup -
                                                  offsetof(struct write_operation, unique_lookup)));
}

static void take_answer(struct write_operation *operation)
{
    struct unique_lookup *lookup = &operation->unique_lookup;
    operation->asked_unique = false;
    if (lookup->status == STATUS_OK) {
        operation->unique = lookup->indexes;
        operation->kind = lookup->kind;
        operation->collated = lookup->collated;
        operation->refusable =
            !lookup->listed || lookup->validated || lookup->kind != NAMESPACE_COLLECTION;
        operation->step = WRITE_SELECTING;
        return;
    }
    char *message = bson_strdup_printf(
        "the unique indexes of %s cannot be learned, which writes in units need: the proxy's own "
        "user must be allowed to list them (%s)",
        operation->namespace, lookup->error.message);
    write_fail(operation,
               lookup->status == STATUS_UNREACHABLE ? REPLY_CODE_HostUnreachable
                                                    : REPLY_CODE_InternalError,
               message);
    bson_free(message);
}

bool write_learn_unique(struct write_operation *operation)
{
    if (operation->asked_unique) {
        take_answer(operation);
        return true;
    }
    operation->unique = unique_indexes_release(operation->unique);
    operation->unique_lookup = (struct unique_lookup){
        .database = operation->target.database,
        .collection = operation->target.collection,
        .answered = on_answered,
    };
    operation->asked_unique = true;
    operation->wait = WRITE_WAIT_INDEXES;
    if (unique_cache_get(operation->engine->unique, &operation->unique_lookup)) {
        operation->wait = WRITE_WAIT_NONE;
        return true;
    }
    return false;
}

void write_unique_clear(struct write_operation *operation)
{
    free(operation->unique_keys.names);
    operation->unique_keys = (struct unique_keys){0};
    operation->unique_at = 0;
    operation->unique_collected = false;
}

static int compare_names(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct lock_name));
}

static struct slice after_of(const struct write_document *document)
{
    return document->after == NULL ? (struct slice){0} : write_slice(document->after);
}

/* Adds the keys of one document. False: the operation has failed. */
static bool add_change(struct write_operation *operation, struct slice before, struct slice after,
                       struct unique_keys *keys)
{
    switch (unique_keys_of_change(operation->unique, before, after, keys)) {
    case STATUS_OK:
        return true;
    case STATUS_FULL:
        write_fail(operation, REPLY_CODE_TransactionTooLarge,
                   "the unit writes more keys of unique indexes than unit.maxBytes allows");
        return false;
    default:
        write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory for a lock");
        return false;
    }
}

/* How many locks the unit may still take. */
static size_t key_count_max(const struct write_operation *operation)
{
    uint64_t most = operation->engine->unit_bytes_max;
    uint64_t used = operation->unit->bytes;
    return used >= most ? 0 : (size_t)((most - used) / LOCK_BYTES);
}

/* In one order, so that two commands that meet do not cross; each of them once. */
static void sort_keys(struct unique_keys *keys)
{
    size_t kept = 0;
    if (keys->count < 2) {
        return;
    }
    qsort(keys->names, keys->count, sizeof *keys->names, compare_names);
    for (size_t i = 1; i < keys->count; i++) {
        if (compare_names(&keys->names[kept], &keys->names[i]) != 0) {
            keys->names[++kept] = keys->names[i];
        }
    }
    keys->count = kept + 1;
}

/* The keys of all documents that are to be written. False: the operation has failed. */
static bool collect(struct write_operation *operation)
{
    struct unique_keys *keys = &operation->unique_keys;
    bool touched = unique_indexes_touched(operation->unique, write_statement(operation));
    operation->unique_collected = true;
    keys->count_max = key_count_max(operation);
    for (size_t i = 0; i < operation->document_count; i++) {
        const struct write_document *document = &operation->documents[i];
        if (document->fate != WRITE_PENDING || (document->command != NULL && !touched)) {
            continue;
        }
        if (!add_change(operation, document->before.document, after_of(document), keys) ||
            (document->forecast != NULL &&
             !add_change(operation, (struct slice){0}, write_slice(document->forecast), keys))) {
            return false;
        }
    }
    sort_keys(keys);
    operation->unit->bytes += keys->count * LOCK_BYTES;
    operation->has_unique_keys = keys->count > 0;
    return true;
}

bool write_lock_unique(struct write_operation *operation)
{
    if (unique_indexes_count(operation->unique) > 0) {
        if (!operation->unique_collected && !collect(operation)) {
            return true;
        }
        while (operation->unique_at < operation->unique_keys.count) {
            if (!write_lock_key(operation, &operation->unique_keys.names[operation->unique_at])) {
                return operation->step == WRITE_ROLLING_BACK;
            }
            operation->unique_at++;
        }
        write_unique_clear(operation);
    }
    bool waited = operation->waited;
    operation->waited = false;
    if (waited && write_statement(operation)->upsert) {
        /* Who had the key may have left a document that this upsert is to change. */
        operation->resolved = false;
        operation->step = WRITE_RESOLVING;
        return true;
    }
    operation->step =
        write_wants_projection(operation, false) ? WRITE_PROJECTING_BEFORE : WRITE_JOURNALING;
    return true;
}

bool write_take_unique(struct write_operation *operation, struct slice before, struct slice after)
{
    struct unique_keys keys = {.count_max = key_count_max(operation)};
    enum lock_result result = LOCK_GRANTED;
    if (!add_change(operation, before, after, &keys)) {
        free(keys.names);
        return false;
    }
    operation->unit->bytes += keys.count * LOCK_BYTES;
    for (size_t i = 0; i < keys.count && (result == LOCK_GRANTED || result == LOCK_CONFLICT); i++) {
        result =
            lock_acquire(operation->engine->locks, &operation->unit->locks, &keys.names[i], NULL);
    }
    free(keys.names);
    if (result == LOCK_NO_MEMORY) {
        write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory for a lock");
        return false;
    }
    if (result == LOCK_WAITING || result == LOCK_DEADLOCK) {
        write_fail(operation, REPLY_CODE_WriteConflict,
                   "the update took a value of a unique index that another transaction has given "
                   "up and may yet restore: run it again");
        /* A plain write is not tried again at once: it would write and undo until the other ends.
         */
        operation->conflicted = false;
        return false;
    }
    return true;
}
