/*
 * Document locks. One mutex: a critical section is a hash look-up and a few pointers.
 *
 * An entry is in the table while it is held, shared (lock_share.c), waited for, or remembered:
 *
 *            acquire                    release, written
 *    (none) --------> held -------------------------------------> remembered (list by time)
 *                      ^  \ release, not written                        |
 *                      |   `----------> (none)                          | no owner began before it
 *                      `---- next waiter                              (none)
 *
 * First come first served: what the first of a queue waits for keeps those behind it waiting, too.
 * Only who shares a lock already goes to the front with the wish to hold it alone.
 *
 * Owners are kept in the order in which they began, so the oldest one is the head of their list;
 * remembered entries are kept in the order of their change: forgetting looks at heads only.
 */
#include "unit/lock_table_private.h"
#include "unit/namespace_lock.h"

#include <assert.h>
#include <stdlib.h>

struct lock_table *lock_table_new(size_t locks_max, size_t remembered_max)
{
    struct lock_table *table = calloc(1, sizeof *table);
    if (table != NULL) {
        (void)pthread_mutex_init(&table->mutex, NULL);
        table->locks_max = locks_max;
        table->remembered_max = remembered_max;
    }
    return table;
}

void lock_table_set_locks_max(struct lock_table *table, size_t locks_max)
{
    pthread_mutex_lock(&table->mutex);
    table->locks_max = locks_max;
    pthread_mutex_unlock(&table->mutex);
}

struct lock_table *lock_table_free(struct lock_table *table)
{
    if (table == NULL) {
        return NULL;
    }
    struct lock_entry *entry;
    struct lock_entry *next;
    HASH_ITER(hh, table->entries, entry, next)
    {
        HASH_DEL(table->entries, entry);
        free(entry);
    }
    (void)pthread_mutex_destroy(&table->mutex);
    free(table);
    return NULL;
}

/* ------------------------------------------------------------------ remembering */

static void forget(struct lock_table *table, struct lock_entry *entry)
{
    if (!entry->remembered) {
        return;
    }
    *(entry->older == NULL ? &table->oldest_remembered : &entry->older->younger) = entry->younger;
    *(entry->younger == NULL ? &table->youngest_remembered : &entry->younger->older) = entry->older;
    entry->older = entry->younger = NULL;
    entry->remembered = false;
    table->remembered_count--;
}

static void drop_if_unused(struct lock_table *table, struct lock_entry *entry)
{
    if (entry->holder == NULL && entry->shares == NULL && !entry->remembered) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in the table */
        HASH_DEL(table->entries, entry);
        free(entry);
    }
}

/* What the holder, who has written it, leaves behind. */
static void remember(struct lock_table *table, struct lock_entry *entry, bool restored)
{
    bool known = entry->remembered;
    forget(table, entry);
    if (!known) {
        entry->changed_at = entry->restored_at = 0;
    }
    if (restored && entry->undoable) {
        entry->dirty_from = entry->restored_at == 0 ? entry->written_at : entry->dirty_from;
        entry->restored_at = table->moment;
    } else {
        entry->changed_at = table->moment;
    }
    entry->older = table->youngest_remembered;
    *(entry->older == NULL ? &table->oldest_remembered : &entry->older->younger) = entry;
    table->youngest_remembered = entry;
    entry->remembered = true;
    table->remembered_count++;
}

static uint64_t newest_event(const struct lock_entry *entry)
{
    return entry->changed_at > entry->restored_at ? entry->changed_at : entry->restored_at;
}

/* Whether the owner's unit may have seen the document otherwise. */
static bool has_changed(const struct lock_entry *entry, const struct lock_owner *owner)
{
    bool may_have_seen = entry->restored_at > owner->began_at && owner->read_at > entry->dirty_from;
    return !owner->serializable && (may_have_seen || entry->changed_at > owner->began_at);
}

/* The same, or something that is not known any more. */
static bool is_news(const struct lock_table *table, const struct lock_entry *entry,
                    const struct lock_owner *owner)
{
    bool forgotten = table->forgotten_up_to > owner->began_at;
    return has_changed(entry, owner) || (forgotten && !owner->serializable);
}

/* Drops what no owner began before, and the oldest beyond the bound. */
static void forget_old(struct lock_table *table)
{
    while (table->oldest_remembered != NULL) {
        struct lock_entry *entry = table->oldest_remembered;
        bool needed =
            table->oldest_owner != NULL && table->oldest_owner->began_at < newest_event(entry);
        if (needed && table->remembered_count <= table->remembered_max) {
            return;
        }
        if (needed) {
            table->forgotten_up_to = newest_event(entry);
        }
        forget(table, entry);
        drop_if_unused(table, entry);
    }
}

/* The youngest: its view begins now. */
static void owner_register(struct lock_table *table, struct lock_owner *owner)
{
    owner->began_at = table->moment;
    owner->older = table->youngest_owner;
    owner->younger = NULL;
    *(owner->older == NULL ? &table->oldest_owner : &owner->older->younger) = owner;
    table->youngest_owner = owner;
    owner->registered = true;
    table->owner_count++;
}

static void owner_unregister(struct lock_table *table, struct lock_owner *owner)
{
    if (!owner->registered) {
        return;
    }
    *(owner->older == NULL ? &table->oldest_owner : &owner->older->younger) = owner->younger;
    *(owner->younger == NULL ? &table->youngest_owner : &owner->younger->older) = owner->older;
    owner->older = owner->younger = NULL;
    owner->registered = false;
    table->owner_count--;
}

void lock_owner_begin_locked(struct lock_table *table, struct lock_owner *owner)
{
    if (owner->registered) {
        return;
    }
    owner_register(table, owner);
    if (owner->place == 0) {
        owner->place = ++table->newest_place;
    }
}

void lock_owner_begin(struct lock_table *table, struct lock_owner *owner)
{
    pthread_mutex_lock(&table->mutex);
    lock_owner_begin_locked(table, owner);
    pthread_mutex_unlock(&table->mutex);
}

void lock_owner_renew(struct lock_table *table, struct lock_owner *owner)
{
    pthread_mutex_lock(&table->mutex);
    assert(owner->registered && !owner->view_used && owner->waiting == NULL);
    owner_unregister(table, owner);
    owner_register(table, owner);
    forget_old(table);
    pthread_mutex_unlock(&table->mutex);
}

/* ------------------------------------------------------------------ queues */

struct lock_waiter **lock_queue_end(struct lock_queue *queue)
{
    return queue->last == NULL ? &queue->first : queue->last;
}

void lock_queue_insert(struct lock_queue *queue, struct lock_waiter **at, struct lock_owner *owner,
                       struct lock_waiter *waiter)
{
    waiter->owner = owner;
    waiter->next = *at;
    *at = waiter;
    if (waiter->next == NULL) {
        queue->last = &waiter->next;
    }
    owner->waiting = waiter;
}

struct lock_waiter *lock_queue_remove_at(struct lock_queue *queue, struct lock_waiter **at)
{
    struct lock_waiter *waiter = *at;
    *at = waiter->next;
    if (queue->last == &waiter->next) {
        queue->last = at;
    }
    waiter->owner->waiting = NULL;
    waiter->entry = NULL;
    waiter->namespace = NULL;
    waiter->next = NULL;
    return waiter;
}

void lock_queue_remove(struct lock_queue *queue, const struct lock_waiter *waiter)
{
    struct lock_waiter **at = &queue->first;
    while (*at != waiter) {
        at = &(*at)->next;
    }
    (void)lock_queue_remove_at(queue, at);
}

/* ------------------------------------------------------------------ locking */

struct lock_entry *lock_entry_find(struct lock_table *table, const struct lock_name *name)
{
    struct lock_entry *entry;
    HASH_FIND(hh, table->entries, name->digest, LOCK_DIGEST_BYTES, entry);
    return entry;
}

struct lock_entry *lock_entry_add(struct lock_table *table, const struct lock_name *name)
{
    struct lock_entry *entry = calloc(1, sizeof *entry);
    if (entry != NULL) {
        entry->name = *name;
        HASH_ADD(hh, table->entries, name.digest, LOCK_DIGEST_BYTES, entry);
    }
    return entry;
}

static void give(struct lock_table *table, struct lock_entry *entry, struct lock_owner *owner)
{
    entry->holder = owner;
    entry->written_at = 0;
    entry->next_held = owner->held;
    owner->held = entry;
    owner->held_count++;
    table->held_count++;
}

/* `first`: before all that share nothing yet. */
void lock_entry_enqueue(struct lock_entry *entry, struct lock_owner *owner,
                        struct lock_waiter *waiter, bool first)
{
    struct lock_waiter **at = first ? &entry->queue.first : lock_queue_end(&entry->queue);
    while (first && *at != NULL && lock_has_share(entry, (*at)->owner)) {
        at = &(*at)->next;
    }
    waiter->entry = entry;
    lock_queue_insert(&entry->queue, at, owner, waiter);
}

/* Whether others hold the entry so that `owner` cannot have it now. */
static bool is_blocked(const struct lock_entry *entry, const struct lock_owner *owner,
                       bool exclusive)
{
    return (entry->holder != NULL && entry->holder != owner) ||
           (exclusive && lock_is_shared_by_others(entry, owner));
}

/* Gives the entry to those of its queue that can have it now. */
static void pass_on(struct lock_table *table, struct lock_entry *entry, struct lock_ended *ended)
{
    struct lock_waiter *waiter = entry->queue.first;
    while (waiter != NULL && !is_blocked(entry, waiter->owner, waiter->share == NULL)) {
        lock_queue_remove(&entry->queue, waiter);
        if (waiter->share != NULL) {
            lock_share_add(table, entry, waiter->owner, waiter->share);
            waiter->share = NULL;
        } else {
            give(table, entry, waiter->owner);
        }
        lock_ended_add(ended, waiter);
        waiter = entry->queue.first;
    }
}

void lock_ended_call(struct lock_ended *ended)
{
    struct lock_waiter *waiter = ended->first;
    while (waiter != NULL) {
        struct lock_waiter *next = waiter->next;
        waiter->ended(waiter);
        waiter = next;
    }
}

/* Ends a wait that has got nothing; those behind it may not have to wait any more. */
static void stop_waiting(struct lock_table *table, struct lock_waiter *waiter,
                         struct lock_ended *ended)
{
    struct lock_entry *entry = waiter->entry;
    if (entry == NULL) {
        namespace_dequeue(table, waiter, ended);
        return;
    }
    lock_queue_remove(&entry->queue, waiter);
    free(waiter->share);
    waiter->share = NULL;
    pass_on(table, entry, ended);
}

static enum lock_result acquire(struct lock_table *table, struct lock_owner *owner,
                                const struct lock_name *name, struct lock_waiter *waiter)
{
    struct lock_entry *entry = lock_entry_find(table, name);
    if ((entry == NULL || entry->holder == NULL) && table->held_count >= table->locks_max) {
        return LOCK_LIMIT;
    }
    if (entry == NULL) {
        entry = lock_entry_add(table, name);
        if (entry == NULL) {
            return LOCK_NO_MEMORY;
        }
    }
    if (entry->holder != owner) {
        bool has_share = lock_has_share(entry, owner);
        if (is_blocked(entry, owner, true) || (entry->queue.first != NULL && !has_share)) {
            if (waiter != NULL && waiter->unless_changed && has_changed(entry, owner)) {
                return LOCK_CONFLICT;
            }
            if (waiter != NULL) {
                waiter->share = NULL;
                lock_entry_enqueue(entry, owner, waiter, has_share);
            }
            return LOCK_WAITING;
        }
        give(table, entry, owner);
    }
    return is_news(table, entry, owner) ? LOCK_CONFLICT : LOCK_GRANTED;
}

enum lock_result lock_wait(struct lock_table *table, struct lock_owner *owner,
                           struct lock_waiter *waiter)
{
    for (;;) {
        struct lock_deadlock deadlock;
        struct lock_ended ended = {.tail = &ended.first};
        struct lock_owner *victim =
            owner->waiting == waiter ? deadlock_find(table, owner, &deadlock) : NULL;
        if (victim == NULL) {
            pthread_mutex_unlock(&table->mutex);
            return LOCK_WAITING;
        }
        struct lock_waiter *stopped = victim->waiting;
        victim->victim = true;
        stop_waiting(table, stopped, &ended);
        if (victim != owner) {
            lock_ended_add(&ended, stopped);
        }
        pthread_mutex_unlock(&table->mutex);
        if (table->on_deadlock != NULL) {
            table->on_deadlock(&deadlock);
        }
        lock_ended_call(&ended);
        if (victim == owner) {
            return LOCK_DEADLOCK;
        }
        pthread_mutex_lock(&table->mutex);
    }
}

enum lock_result lock_acquire(struct lock_table *table, struct lock_owner *owner,
                              const struct lock_name *name, struct lock_waiter *waiter)
{
    pthread_mutex_lock(&table->mutex);
    assert(owner->registered && owner->waiting == NULL);
    enum lock_result result = owner->victim ? LOCK_DEADLOCK : acquire(table, owner, name, waiter);
    if (result == LOCK_WAITING && waiter != NULL) {
        return lock_wait(table, owner, waiter);
    }
    pthread_mutex_unlock(&table->mutex);
    return result;
}

bool lock_cancel(struct lock_table *table, struct lock_waiter *waiter)
{
    struct lock_ended ended = {.tail = &ended.first};
    pthread_mutex_lock(&table->mutex);
    bool waiting = waiter->entry != NULL || waiter->namespace != NULL;
    if (waiting) {
        stop_waiting(table, waiter, &ended);
    }
    pthread_mutex_unlock(&table->mutex);
    lock_ended_call(&ended);
    return waiting;
}

void lock_owner_read(struct lock_table *table, struct lock_owner *owner)
{
    pthread_mutex_lock(&table->mutex);
    owner->read_at = ++table->moment;
    owner->view_used = true;
    pthread_mutex_unlock(&table->mutex);
}

void lock_mark_written(struct lock_table *table, struct lock_owner *owner,
                       const struct lock_name *name, bool undoable)
{
    pthread_mutex_lock(&table->mutex);
    struct lock_entry *entry = lock_entry_find(table, name);
    assert(entry != NULL && entry->holder == owner);
    entry->undoable = undoable && (entry->undoable || entry->written_at == 0);
    if (entry->written_at == 0) {
        entry->written_at = ++table->moment;
    }
    pthread_mutex_unlock(&table->mutex);
}

/* Ends the waits that are in vain now. */
static void turn_away(struct lock_entry *entry, struct lock_ended *ended)
{
    struct lock_waiter **at = &entry->queue.first;
    while (*at != NULL) {
        if ((*at)->unless_changed && has_changed(entry, (*at)->owner)) {
            lock_ended_add(ended, lock_queue_remove_at(&entry->queue, at));
        } else {
            at = &(*at)->next;
        }
    }
}

void lock_release_all(struct lock_table *table, struct lock_owner *owner, bool restored)
{
    struct lock_ended ended = {.tail = &ended.first};
    pthread_mutex_lock(&table->mutex);
    assert(owner->waiting == NULL);
    table->moment++;
    owner_unregister(table, owner);
    while (owner->held != NULL) {
        struct lock_entry *entry = owner->held;
        owner->held = entry->next_held;
        entry->next_held = NULL;
        entry->holder = NULL;
        table->held_count--;
        if (entry->written_at != 0) {
            remember(table, entry, restored);
            turn_away(entry, &ended);
        }
        pass_on(table, entry, &ended);
        drop_if_unused(table, entry);
    }
    owner->held_count = 0;
    while (owner->shares != NULL) {
        struct lock_entry *entry = lock_share_drop(table, owner);
        pass_on(table, entry, &ended);
        drop_if_unused(table, entry);
    }
    namespace_release_all(table, owner, &ended);
    forget_old(table);
    pthread_mutex_unlock(&table->mutex);
    lock_ended_call(&ended);
}

uint64_t lock_owner_place_kept(const struct lock_owner *owner)
{
    return owner->victim ? owner->place : 0;
}

void lock_table_on_deadlock(struct lock_table *table,
                            void (*found)(const struct lock_deadlock *deadlock))
{
    table->on_deadlock = found;
}

uint64_t lock_table_deadlocks(struct lock_table *table)
{
    pthread_mutex_lock(&table->mutex);
    uint64_t count = table->deadlock_count;
    pthread_mutex_unlock(&table->mutex);
    return count;
}

size_t lock_table_held(struct lock_table *table)
{
    pthread_mutex_lock(&table->mutex);
    size_t count = table->held_count;
    pthread_mutex_unlock(&table->mutex);
    return count;
}

size_t lock_table_remembered(struct lock_table *table)
{
    pthread_mutex_lock(&table->mutex);
    size_t count = table->remembered_count;
    pthread_mutex_unlock(&table->mutex);
    return count;
}

/* One of those that keep it waiting. 0: it does not wait. */
static uint64_t waits_for(struct lock_table *table, struct lock_owner *owner)
{
    const struct lock_owner *blocker = deadlock_blocker(table, owner);
    return blocker == NULL ? 0 : blocker->unit;
}

size_t lock_table_view(struct lock_table *table, struct lock_view *views, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&table->mutex);
    for (struct lock_owner *owner = table->oldest_owner; owner != NULL && count < max;
         owner = owner->younger) {
        struct lock_view *view = &views[count++];
        *view = (struct lock_view){
            .unit = owner->unit,
            .waits_for = waits_for(table, owner),
            .held_count = owner->held_count,
            .share_count = owner->share_count,
        };
        for (size_t i = 0; i < owner->gate_count; i++) {
            view->namespace_count += (owner->gates[i].modes & NAMESPACE_READ) != 0;
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return count;
}
