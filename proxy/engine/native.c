/*
 * The sessions of the native engine (native.h): what is known of each one's newest transaction.
 *
 * Invariants
 *  - An entry that is forgotten costs nothing but knowledge: its transaction counts as one that
 *    wrote, and its commit is journaled without commands.
 *  - A later number replaces an earlier one, never the other way round.
 *
 * Threads: any; each part has its lock, and nothing is called under it but the allocator.
 */
#include "engine/native.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/native_private.h"
#include "holdfast/clock.h"

/* Of commands of all open transactions, in each part: 256 MiB together. */
#define PART_KEPT_BYTES_MAX ((size_t)4 << 20)

/* ------------------------------------------------------------------ keys and entries */

void native_key_make(const char *user, struct slice session_id, struct native_key *ret_key)
{
    size_t size = strnlen(user, NATIVE_KEY_BYTES - UNIT_SESSION_ID_BYTES);
    memset(ret_key->bytes, 0, UNIT_SESSION_ID_BYTES);
    memcpy(ret_key->bytes, session_id.data,
           session_id.size < UNIT_SESSION_ID_BYTES ? session_id.size : UNIT_SESSION_ID_BYTES);
    memcpy(ret_key->bytes + UNIT_SESSION_ID_BYTES, user, size);
    ret_key->size = UNIT_SESSION_ID_BYTES + size;
}

struct native_part *native_part_lock(struct native *native, const struct native_key *key)
{
    /* A session's id is random. */
    struct native_part *part = &native->parts[key->bytes[0] % NATIVE_PARTS];
    pthread_mutex_lock(&part->lock);
    return part;
}

struct native_entry *native_entry_find(struct native_part *part, const struct native_key *key)
{
    struct native_entry *entry = NULL;
    HASH_FIND(hh, part->entries, key->bytes, key->size, entry);
    return entry;
}

static void drop_commands(struct native_part *part, struct native_entry *entry)
{
    if (entry->commands != NULL) {
        part->kept -= entry->commands->len;
        bson_destroy(entry->commands);
        entry->commands = NULL;
    }
    entry->command_count = 0;
    entry->left = 0;
}

void native_entry_end(struct native_part *part, struct native_entry *entry)
{
    drop_commands(part, entry);
    entry->state = NATIVE_ENDED;
    entry->unit = 0;
}

void native_entry_remove(struct native_part *part, struct native_entry *entry)
{
    HASH_DELETE(hh, part->entries, entry);
    drop_commands(part, entry);
    free(entry);
}

static void entry_to_end(struct native_part *part, struct native_entry *entry)
{
    HASH_DELETE(hh, part->entries, entry);
    HASH_ADD_KEYPTR(hh, part->entries, entry->key, entry->key_size, entry);
}

/* Makes room: the entries lie in the order of their making, and one that was used since goes to
   their end. What is being committed stays. */
static void make_room(struct native *native, struct native_part *part, uint64_t now_ms)
{
    size_t most = native->options.sessions_max / NATIVE_PARTS + 1;
    for (unsigned tries = 0; tries < 8 && HASH_COUNT(part->entries) >= most; tries++) {
        struct native_entry *oldest = part->entries;
        bool busy = oldest->state == NATIVE_JOURNALING ||
                    (oldest->state == NATIVE_COMMITTING && !oldest->set_aside);
        if (tries < 7 && (busy || now_ms - oldest->used_ms < 1000)) {
            entry_to_end(part, oldest);
        } else {
            native_entry_remove(part, oldest);
            return;
        }
    }
}

static struct native_entry *entry_make(struct native *native, struct native_part *part,
                                       const struct native_key *key, uint64_t now_ms)
{
    make_room(native, part, now_ms);
    struct native_entry *entry = calloc(1, sizeof *entry + key->size);
    if (entry != NULL) {
        entry->key_size = key->size;
        memcpy(entry->key, key->bytes, key->size);
        HASH_ADD_KEYPTR(hh, part->entries, entry->key, entry->key_size, entry);
    }
    return entry;
}

/* ------------------------------------------------------------------ statements */

/* The command as if its sequences had been in its body, without what is of its session only. */
bool native_copy_command(const struct command_view *view, const struct op_msg *message,
                         bson_t *ret_copy)
{
    static const char *const removed[] = {
        "lsid", "txnNumber", "autocommit", "startTransaction", "$clusterTime", NULL};
    struct op_msg_sequence sequence;
    struct slice sections = message->sections;
    if (command_copy_without(ret_copy, view->body, removed) != STATUS_OK) {
        return false;
    }
    while (op_msg_sequence_next(&sections, &sequence)) {
        bson_t array;
        struct slice document;
        uint32_t index = 0;
        const char *name = (const char *)sequence.identifier.data; /* its NUL follows */
        BSON_APPEND_ARRAY_BEGIN(ret_copy, name, &array);
        while (bson_slice_next(&sequence.documents, &document)) {
            char text[16];
            const char *number;
            bson_t part;
            bson_uint32_to_string(index++, &number, text, sizeof text);
            if (bson_init_static(&part, document.data, document.size)) {
                BSON_APPEND_DOCUMENT(&array, number, &part);
            }
        }
        bson_append_array_end(ret_copy, &array);
    }
    return true;
}

static void keep_command(struct native *native, struct native_part *part,
                         struct native_entry *entry, bson_t *command)
{
    char text[16];
    const char *number;
    size_t kept = entry->commands == NULL ? 0 : entry->commands->len;
    uint64_t most = native_audit_bytes(native);
    if (command == NULL || kept + command->len > most ||
        part->kept + command->len > PART_KEPT_BYTES_MAX + most) {
        entry->left++;
        return;
    }
    if (entry->commands == NULL) {
        entry->commands = bson_new();
    }
    bson_uint32_to_string(entry->command_count++, &number, text, sizeof text);
    BSON_APPEND_DOCUMENT(entry->commands, number, command);
    part->kept += entry->commands->len - kept;
}

static void begin(struct native_part *part, struct native_entry *entry, int64_t number)
{
    entry->began_us = clock_monotonic_us();
    drop_commands(part, entry);
    entry->number = number;
    entry->state = NATIVE_OPEN;
    entry->wrote = false;
    entry->set_aside = false;
    entry->has_process = false;
    entry->unit = 0;
}

void native_note(struct native *native, const char *user, const struct command_view *view,
                 const struct op_msg *message, bool writes)
{
    struct native_key key;
    bson_t command;
    bool begins = view->has_start_transaction && view->start_transaction;
    bool audited = writes && native_audit_bytes(native) > 0;
    bool copied = audited && message != NULL && native_copy_command(view, message, &command);
    uint64_t now_ms = clock_monotonic_ms();
    native_key_make(user, view->session_id, &key);
    struct native_part *part = native_part_lock(native, &key);
    struct native_entry *entry = native_entry_find(part, &key);
    if (entry == NULL && begins) {
        entry = entry_make(native, part, &key, now_ms);
        if (entry != NULL) {
            begin(part, entry, view->transaction_number);
        }
    } else if (entry != NULL && begins && view->transaction_number > entry->number) {
        begin(part, entry, view->transaction_number);
    }
    /* One that does not begin, and of which nothing is known, stays unknown: so it is journaled. */
    if (entry != NULL && entry->number == view->transaction_number && entry->state == NATIVE_OPEN) {
        entry->used_ms = now_ms;
        entry->wrote = entry->wrote || writes;
        if (audited) {
            keep_command(native, part, entry, copied ? &command : NULL);
        }
    }
    pthread_mutex_unlock(&part->lock);
    if (copied) {
        bson_destroy(&command);
    }
}

void native_forget(struct native *native, const char *user, struct slice session_id, int64_t number)
{
    struct native_key key;
    native_key_make(user, session_id, &key);
    struct native_part *part = native_part_lock(native, &key);
    struct native_entry *entry = native_entry_find(part, &key);
    if (entry != NULL && entry->number == number && entry->state == NATIVE_OPEN) {
        native_entry_remove(part, entry);
    }
    pthread_mutex_unlock(&part->lock);
}

/* ------------------------------------------------------------------ life */

void native_set_audit_bytes(struct native *native, uint64_t audit_bytes)
{
    atomic_store(&native->audit_bytes, audit_bytes);
}

uint64_t native_audit_bytes(const struct native *native)
{
    return atomic_load_explicit(&native->audit_bytes, memory_order_relaxed);
}

enum status native_start(const struct native_options *options, struct native **ret_native,
                         struct error *ret_error)
{
    struct native *native = memory_new_aligned(1, sizeof *native, _Alignof(struct native));
    if (native == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    native->options = *options;
    native_set_audit_bytes(native, options->audit_bytes);
    for (size_t i = 0; i < NATIVE_PARTS; i++) {
        pthread_mutex_init(&native->parts[i].lock, NULL);
    }
    enum status status = native_asker_start(native, ret_error);
    if (status != STATUS_OK) {
        native_end(native);
        native_free(native);
        return status;
    }
    *ret_native = native;
    return STATUS_OK;
}

void native_end(struct native *native)
{
    if (native != NULL) {
        native_asker_end(native);
    }
}

struct native *native_free(struct native *native)
{
    if (native == NULL) {
        return NULL;
    }
    native_asker_free(native);
    for (size_t i = 0; i < NATIVE_PARTS; i++) {
        while (native->parts[i].entries != NULL) {
            native_entry_remove(&native->parts[i], native->parts[i].entries);
        }
        pthread_mutex_destroy(&native->parts[i].lock);
    }
    free(native);
    return NULL;
}
