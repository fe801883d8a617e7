/*
 * Readers' looks at what is published, and at what is kept for their snapshots; see uncommitted.h,
 * and uncommitted_private.h for the invariants. Any thread.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "unit/uncommitted_private.h"

uint64_t uncommitted_stamp(const struct uncommitted_table *table, uint32_t gate)
{
    return atomic_load(&table->gates[gate].stamp);
}

bool uncommitted_is_empty(const struct uncommitted_table *table, uint32_t gate)
{
    return atomic_load(&table->gates[gate].open) == 0;
}

uint32_t uncommitted_name_stamp(const struct uncommitted_table *table, const struct lock_name *name)
{
    return atomic_load(&table->stripes[uncommitted_stripe(name)].stamp);
}

bool uncommitted_name_is_free(const struct uncommitted_table *table, const struct lock_name *name)
{
    return atomic_load(&table->stripes[uncommitted_stripe(name)].open) == 0;
}

/* The newest of the name, if it was changed since the reader's snapshot. */
static struct uncommitted_links *newest_since(struct uncommitted_table *table,
                                              const struct lock_name *name,
                                              const struct uncommitted_reader *reader)
{
    struct uncommitted_links *oldest =
        reader->has_snapshot ? uncommitted_past_find(table, name) : NULL;
    return oldest == NULL || oldest->past.newest_of_name->past.ended_at <= reader->snapshot_at
               ? NULL
               : oldest->past.newest_of_name;
}

/* From this one of a name on, the newest change of the _id since the snapshot. */
static const struct uncommitted_links *newest_of_key(const struct uncommitted_links *links,
                                                     struct slice key,
                                                     const struct uncommitted_reader *reader)
{
    while (links != NULL && links->past.ended_at > reader->snapshot_at) {
        if (slice_equal(links->document.key, key)) {
            return links;
        }
        links = links->past.older_of_name;
    }
    return NULL;
}

/* Whether it has the image that the snapshot shows: the first change of its document since. */
static bool is_first_since(const struct uncommitted_links *links,
                           const struct uncommitted_reader *reader)
{
    return newest_of_key(links->past.older_of_name, links->document.key, reader) == NULL;
}

static struct uncommitted_links *find_since(struct uncommitted_table *table,
                                            const struct lock_name *name,
                                            const struct uncommitted_reader *reader)
{
    struct uncommitted_links *links = newest_since(table, name, reader);
    while (links != NULL && !is_first_since(links, reader)) {
        links = links->past.older_of_name;
    }
    return links;
}

enum status uncommitted_find(struct uncommitted_table *table, const struct lock_name *name,
                             const struct uncommitted_reader *reader,
                             struct uncommitted_document **ret_found)
{
    struct uncommitted_document *found = NULL;
    pthread_mutex_lock(&table->mutex);
    if (uncommitted_is_lost(table, reader)) {
        pthread_mutex_unlock(&table->mutex);
        return STATUS_LIMIT;
    }
    struct uncommitted_links *links = uncommitted_links_find(table, name);
    if (links == NULL || !uncommitted_sees(reader, &links->document)) {
        struct uncommitted_links *past = find_since(table, name, reader);
        links = past == NULL ? links : past;
        found = links == NULL ? NULL : uncommitted_document_share(&links->document);
    }
    pthread_mutex_unlock(&table->mutex);
    *ret_found = found;
    return STATUS_OK;
}

static bool is_others(const struct uncommitted_document *document, const char *namespace,
                      const struct uncommitted_reader *reader)
{
    return !uncommitted_sees(reader, document) &&
           (namespace == NULL || strcmp(document->namespace, namespace) == 0);
}

/* False: out of memory. */
static bool take(struct uncommitted_view *view, struct uncommitted_document *document,
                 size_t *capacity)
{
    void *more = memory_reserve(view->documents, view->count, capacity,
                                sizeof(struct uncommitted_document *));
    if (more == NULL) {
        return false;
    }
    view->documents = more;
    view->documents[view->count++] = uncommitted_document_share(document);
    return true;
}

struct collecting {
    struct uncommitted_table *table;
    const char *namespace;
    const struct uncommitted_reader *reader;
    uint64_t bytes;
    uint64_t bytes_max;
    size_t capacity;
    struct uncommitted_view view;
};

static enum status collect_one(struct collecting *collecting, struct uncommitted_document *document)
{
    if (!is_others(document, collecting->namespace, collecting->reader)) {
        return STATUS_OK;
    }
    collecting->bytes += uncommitted_document_bytes(document);
    if (collecting->bytes > collecting->bytes_max) {
        return STATUS_LIMIT;
    }
    return take(&collecting->view, document, &collecting->capacity) ? STATUS_OK : STATUS_MEMORY;
}

static enum status collect_heap(struct collecting *collecting, const struct uncommitted_links *head)
{
    const struct uncommitted_reader *reader = collecting->reader;
    enum status status = STATUS_OK;
    for (struct uncommitted_document *at = head->heap.first; at != NULL && status == STATUS_OK;
         at = at->links->next) {
        if (newest_of_key(newest_since(collecting->table, &at->name, reader), at->key, reader) ==
            NULL) {
            status = collect_one(collecting, at);
        }
    }
    return status;
}

/* Heaps first, without their documents: what is too much is known before it is walked. */
static bool is_too_much(const struct collecting *collecting, uint32_t gate)
{
    uint64_t bytes = 0;
    for (const struct uncommitted_links *head = collecting->table->gates[gate].heads; head != NULL;
         head = uncommitted_next_head(head, gate)) {
        bytes += is_others(&head->document, collecting->namespace, collecting->reader)
                     ? head->heap.bytes
                     : 0;
    }
    /* Of what has changed since its snapshot a reader sees another image. */
    return !collecting->reader->has_snapshot && bytes > collecting->bytes_max;
}

static enum status collect_published(struct collecting *collecting, uint32_t gate)
{
    enum status status = is_too_much(collecting, gate) ? STATUS_LIMIT : STATUS_OK;
    for (const struct uncommitted_links *head = collecting->table->gates[gate].heads;
         head != NULL && status == STATUS_OK; head = uncommitted_next_head(head, gate)) {
        if (!uncommitted_sees(collecting->reader, &head->document)) {
            status = collect_heap(collecting, head);
        }
    }
    return status;
}

/* What was changed since the reader's snapshot: the newest of the gate's come first. What the
   reader has written itself it sees as it is. */
static enum status collect_past(struct collecting *collecting, uint32_t gate)
{
    const struct uncommitted_reader *reader = collecting->reader;
    enum status status = STATUS_OK;
    for (struct uncommitted_document *at = collecting->table->gates[gate].first_past;
         at != NULL && status == STATUS_OK && at->links->past.ended_at > reader->snapshot_at;
         at = at->links->next) {
        struct uncommitted_links *open =
            uncommitted_links_of_key(uncommitted_links_find(collecting->table, &at->name), at->key);
        bool own = open != NULL && uncommitted_sees(reader, &open->document);
        if (!own && is_first_since(at->links, reader)) {
            status = collect_one(collecting, at);
        }
    }
    return status;
}

enum status uncommitted_collect(struct uncommitted_table *table, uint32_t gate,
                                const char *namespace, const struct uncommitted_reader *reader,
                                uint64_t bytes_max, struct uncommitted_view *ret_view)
{
    struct collecting collecting = {
        .table = table, .namespace = namespace, .reader = reader, .bytes_max = bytes_max};
    pthread_mutex_lock(&table->mutex);
    collecting.view.stamp = atomic_load(&table->gates[gate].stamp);
    enum status status =
        uncommitted_is_lost(table, reader) ? STATUS_LIMIT : collect_published(&collecting, gate);
    if (status == STATUS_OK && reader->has_snapshot) {
        status = collect_past(&collecting, gate);
    }
    pthread_mutex_unlock(&table->mutex);
    if (status != STATUS_OK) {
        uncommitted_view_free(&collecting.view);
        return status;
    }
    *ret_view = collecting.view;
    return STATUS_OK;
}

void uncommitted_view_free(struct uncommitted_view *view)
{
    for (size_t i = 0; i < view->count; i++) {
        uncommitted_document_release(view->documents[i]);
    }
    free(view->documents);
    *view = (struct uncommitted_view){0};
}

bool uncommitted_others_found(const struct uncommitted_table *table, uint32_t gate,
                              const struct uncommitted_reader *reader)
{
    const struct uncommitted_links *head = table->gates[gate].heads;
    while (head != NULL && uncommitted_sees(reader, &head->document)) {
        head = uncommitted_next_head(head, gate);
    }
    return head != NULL;
}

bool uncommitted_has_others(struct uncommitted_table *table, uint32_t gate,
                            const struct uncommitted_reader *reader)
{
    pthread_mutex_lock(&table->mutex);
    bool found = uncommitted_others_found(table, gate, reader);
    pthread_mutex_unlock(&table->mutex);
    return found;
}

bool uncommitted_has_changed(struct uncommitted_table *table, uint32_t gate,
                             const struct uncommitted_reader *reader)
{
    pthread_mutex_lock(&table->mutex);
    const struct uncommitted_document *newest = table->gates[gate].first_past;
    while (newest != NULL && newest->links->past.undone) {
        newest = newest->links->next;
    }
    const struct uncommitted_links *links = gate == GATE_SERVER ? table->youngest_past
                                            : newest == NULL    ? NULL
                                                                : newest->links;
    bool changed =
        uncommitted_is_lost(table, reader) ||
        (reader->has_snapshot && links != NULL && links->past.ended_at > reader->snapshot_at);
    pthread_mutex_unlock(&table->mutex);
    return changed;
}
