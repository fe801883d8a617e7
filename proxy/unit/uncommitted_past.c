/*
 * What was committed while snapshots are open, with its before-images; see uncommitted.h, and
 * uncommitted_private.h for the invariants. Any thread.
 */
#include "unit/uncommitted_private.h"

struct uncommitted_links *uncommitted_past_find(struct uncommitted_table *table,
                                                const struct lock_name *name)
{
    struct uncommitted_links *links;
    HASH_FIND(hh, table->past, name->digest, LOCK_DIGEST_BYTES, links);
    return links;
}

void uncommitted_past_add(struct uncommitted_table *table, struct uncommitted_document *document,
                          bool undone)
{
    struct uncommitted_links *links = document->links;
    struct uncommitted_links *oldest = uncommitted_past_find(table, &document->name);
    links->past = (struct uncommitted_past){.ended_at = table->moment, .undone = undone};
    if (oldest == NULL) {
        HASH_ADD(hh, table->past, document.name.digest, LOCK_DIGEST_BYTES, links);
        oldest = links;
    } else {
        links->past.older_of_name = oldest->past.newest_of_name;
        oldest->past.newest_of_name->past.newer_of_name = links;
    }
    oldest->past.newest_of_name = links;
    *(table->youngest_past == NULL ? &table->oldest_past : &table->youngest_past->past.newer) =
        links;
    table->youngest_past = links;
    uncommitted_list_add(&table->gates[links->gate].first_past, document);
    table->past_count++;
}

/* The oldest of all, so it is that of its name, too. */
static struct uncommitted_links *past_take_oldest(struct uncommitted_table *table)
{
    struct uncommitted_links *oldest = table->oldest_past;
    struct uncommitted_links *next_of_name = oldest->past.newer_of_name;
    HASH_DEL(table->past, oldest);
    if (next_of_name != NULL) {
        next_of_name->past.older_of_name = NULL;
        next_of_name->past.newest_of_name = oldest->past.newest_of_name;
        HASH_ADD(hh, table->past, document.name.digest, LOCK_DIGEST_BYTES, next_of_name);
    }
    table->oldest_past = oldest->past.newer;
    if (table->oldest_past == NULL) {
        table->youngest_past = NULL;
    }
    uncommitted_list_remove(&table->gates[oldest->gate].first_past, &oldest->document);
    table->past_count--;
    return oldest;
}

void uncommitted_past_forget(struct uncommitted_table *table,
                             struct uncommitted_document **released)
{
    while (table->oldest_past != NULL) {
        bool needed = table->oldest_snapshot != NULL &&
                      table->oldest_snapshot->snapshot_at < table->oldest_past->past.ended_at;
        if (needed && table->past_count <= table->past_max) {
            return;
        }
        struct uncommitted_links *oldest = past_take_oldest(table);
        if (needed) {
            table->forgotten_at = oldest->past.ended_at;
        }
        oldest->next_of_owner = *released;
        *released = &oldest->document;
    }
}

/* Behind `older`, which is as old or older than it. */
static void insert(struct uncommitted_table *table, struct uncommitted_owner *owner,
                   struct uncommitted_owner *older)
{
    owner->has_snapshot = true;
    owner->older = older;
    owner->younger = older == NULL ? table->oldest_snapshot : older->younger;
    *(owner->older == NULL ? &table->oldest_snapshot : &owner->older->younger) = owner;
    *(owner->younger == NULL ? &table->youngest_snapshot : &owner->younger->older) = owner;
}

void uncommitted_snapshot_begin(struct uncommitted_table *table, struct uncommitted_owner *owner,
                                uint64_t plain_epoch)
{
    if (owner->has_snapshot) {
        return;
    }
    pthread_mutex_lock(&table->mutex);
    owner->snapshot_at = table->moment;
    owner->plain_epoch = plain_epoch;
    insert(table, owner, table->youngest_snapshot);
    pthread_mutex_unlock(&table->mutex);
}

void uncommitted_look_begin(struct uncommitted_table *table, struct uncommitted_owner *look)
{
    pthread_mutex_lock(&table->mutex);
    look->snapshot_at = table->moment;
    look->is_look = true;
    table->look_count++;
    insert(table, look, table->youngest_snapshot);
    pthread_mutex_unlock(&table->mutex);
}

bool uncommitted_snapshot_share(struct uncommitted_table *table, struct uncommitted_owner *from,
                                struct uncommitted_owner *into)
{
    pthread_mutex_lock(&table->mutex);
    bool shared = from->has_snapshot;
    if (shared) {
        into->snapshot_at = from->snapshot_at;
        into->plain_epoch = from->plain_epoch;
        insert(table, into, from);
    }
    pthread_mutex_unlock(&table->mutex);
    return shared;
}

void uncommitted_snapshot_end(struct uncommitted_table *table, struct uncommitted_owner *owner)
{
    if (!owner->has_snapshot) {
        return;
    }
    *(owner->older == NULL ? &table->oldest_snapshot : &owner->older->younger) = owner->younger;
    *(owner->younger == NULL ? &table->youngest_snapshot : &owner->younger->older) = owner->older;
    owner->has_snapshot = false;
    table->look_count -= owner->is_look;
    owner->is_look = false;
}

void uncommitted_snapshot_renew(struct uncommitted_table *table, struct uncommitted_owner *owner,
                                uint64_t plain_epoch)
{
    struct uncommitted_document *released = NULL;
    pthread_mutex_lock(&table->mutex);
    if (owner->has_snapshot) {
        uncommitted_snapshot_end(table, owner);
        owner->snapshot_at = table->moment;
        owner->plain_epoch = plain_epoch;
        insert(table, owner, table->youngest_snapshot);
        uncommitted_past_forget(table, &released);
    }
    pthread_mutex_unlock(&table->mutex);
    uncommitted_documents_release(released);
}

bool uncommitted_snapshot_is_lost(struct uncommitted_table *table,
                                  const struct uncommitted_reader *reader)
{
    pthread_mutex_lock(&table->mutex);
    bool lost = uncommitted_is_lost(table, reader);
    pthread_mutex_unlock(&table->mutex);
    return lost;
}
