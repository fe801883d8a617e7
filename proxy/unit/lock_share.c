/*
 * Locks that several owners hold at the same time: of documents that serializable units have read.
 * The shares of an entry are a list, and so are those of an owner. Everything belongs to the lock
 * table's mutex.
 *
 * Invariant: an entry that somebody holds exclusively is shared by nobody else.
 */
#include <assert.h>
#include <stdlib.h>

#include "unit/lock_table_private.h"

bool lock_is_shared_by_others(const struct lock_entry *entry, const struct lock_owner *owner)
{
    const struct lock_share *first = entry->shares;
    return first != NULL && (first->owner != owner || first->next != NULL);
}

bool lock_has_share(const struct lock_entry *entry, const struct lock_owner *owner)
{
    const struct lock_share *share = entry->shares;
    while (share != NULL && share->owner != owner) {
        share = share->next;
    }
    return share != NULL;
}

void lock_share_add(struct lock_table *table, struct lock_entry *entry, struct lock_owner *owner,
                    struct lock_share *share)
{
    *share = (struct lock_share){
        .owner = owner, .entry = entry, .next = entry->shares, .next_held = owner->shares};
    if (entry->shares != NULL) {
        entry->shares->previous = share;
    }
    entry->shares = share;
    owner->shares = share;
    owner->share_count++;
    table->held_count++;
}

struct lock_entry *lock_share_drop(struct lock_table *table, struct lock_owner *owner)
{
    struct lock_share *share = owner->shares;
    struct lock_entry *entry = share->entry;
    owner->shares = share->next_held;
    owner->share_count--;
    table->held_count--;
    *(share->previous == NULL ? &entry->shares : &share->previous->next) = share->next;
    if (share->next != NULL) {
        share->next->previous = share->previous;
    }
    free(share);
    return entry;
}

static enum lock_result acquire(struct lock_table *table, struct lock_owner *owner,
                                const struct lock_name *name, struct lock_waiter *waiter)
{
    struct lock_entry *entry = lock_entry_find(table, name);
    if (entry != NULL && (entry->holder == owner || lock_has_share(entry, owner))) {
        return LOCK_GRANTED;
    }
    if (table->held_count >= table->locks_max) {
        return LOCK_LIMIT;
    }
    struct lock_share *share = calloc(1, sizeof *share);
    entry = share == NULL || entry != NULL ? entry : lock_entry_add(table, name);
    if (share == NULL || entry == NULL) {
        free(share);
        return LOCK_NO_MEMORY;
    }
    if (entry->holder == NULL && entry->queue.first == NULL) {
        lock_share_add(table, entry, owner, share);
        return LOCK_GRANTED;
    }
    waiter->share = share;
    lock_entry_enqueue(entry, owner, waiter, false);
    return LOCK_WAITING;
}

enum lock_result lock_acquire_shared(struct lock_table *table, struct lock_owner *owner,
                                     const struct lock_name *name, struct lock_waiter *waiter)
{
    pthread_mutex_lock(&table->mutex);
    assert(owner->registered && owner->serializable && owner->waiting == NULL);
    enum lock_result result = owner->victim ? LOCK_DEADLOCK : acquire(table, owner, name, waiter);
    if (result == LOCK_WAITING) {
        return lock_wait(table, owner, waiter);
    }
    pthread_mutex_unlock(&table->mutex);
    return result;
}
