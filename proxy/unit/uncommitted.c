/*
 * What units have published and not ended; the protocol is in uncommitted.h, the invariants are in
 * uncommitted_private.h. Any thread.
 */
#include <assert.h>
#include <stdlib.h>

#include "unit/uncommitted_private.h"

struct uncommitted_table *uncommitted_table_new(size_t past_max)
{
    struct uncommitted_table *table = calloc(1, sizeof *table);
    if (table != NULL) {
        (void)pthread_mutex_init(&table->mutex, NULL);
        table->past_max = past_max;
    }
    return table;
}

struct uncommitted_table *uncommitted_table_free(struct uncommitted_table *table)
{
    if (table != NULL) {
        struct uncommitted_links *links;
        struct uncommitted_links *next;
        HASH_ITER(hh, table->names, links, next)
        {
            HASH_DEL(table->names, links);
            uncommitted_document_release(&links->document);
        }
        (void)pthread_mutex_destroy(&table->mutex);
        free(table);
    }
    return NULL;
}

/* ------------------------------------------------------------------ documents */

struct uncommitted_document *uncommitted_document_new(const char *namespace, struct slice key,
                                                      const struct lock_name *name)
{
    size_t text_size = strlen(namespace) + 1;
    struct uncommitted_links *links = calloc(1, sizeof *links + text_size + key.size);
    if (links == NULL) {
        return NULL;
    }
    memcpy(links->namespace_and_key, namespace, text_size);
    if (key.size > 0) {
        memcpy(links->namespace_and_key + text_size, key.data, key.size);
    }
    atomic_init(&links->references, 1);
    links->document = (struct uncommitted_document){
        .namespace = links->namespace_and_key,
        .key = slice_make(links->namespace_and_key + text_size, key.size),
        .name = *name,
        .links = links,
    };
    return &links->document;
}

void uncommitted_document_release(struct uncommitted_document *document)
{
    if (document != NULL && atomic_fetch_sub(&document->links->references, 1) == 1) {
        free(document->links);
    }
}

void uncommitted_documents_release(struct uncommitted_document *first)
{
    while (first != NULL) {
        struct uncommitted_document *document = first;
        first = document->links->next_of_owner;
        uncommitted_document_release(document);
    }
}

struct uncommitted_links *uncommitted_links_find(const struct uncommitted_table *table,
                                                 const struct lock_name *name)
{
    struct uncommitted_links *links;
    HASH_FIND(hh, table->names, name->digest, LOCK_DIGEST_BYTES, links);
    return links;
}

struct uncommitted_links *uncommitted_links_of_key(struct uncommitted_links *first,
                                                   struct slice key)
{
    while (first != NULL && !slice_equal(first->document.key, key)) {
        first = first->same_name;
    }
    return first;
}

void uncommitted_list_add(struct uncommitted_document **first,
                          struct uncommitted_document *document)
{
    document->links->previous = NULL;
    document->links->next = *first;
    if (*first != NULL) {
        (*first)->links->previous = document;
    }
    *first = document;
}

void uncommitted_list_remove(struct uncommitted_document **first,
                             struct uncommitted_document *document)
{
    struct uncommitted_links *links = document->links;
    if (links->previous == NULL) {
        *first = links->next;
    } else {
        links->previous->links->next = links->next;
    }
    if (links->next != NULL) {
        links->next->links->previous = links->previous;
    }
}

/* ------------------------------------------------------------------ publishing */

/* Into the owner's heap in its gate. */
static void heap_add(struct uncommitted_table *table, struct uncommitted_owner *owner,
                     struct uncommitted_links *links)
{
    struct uncommitted_links *head = owner->heads;
    while (head != NULL && head->gate != links->gate) {
        head = head->heap.next_of_owner;
    }
    if (head == NULL) {
        head = links;
        head->heap = (struct uncommitted_heap){.next_of_owner = owner->heads};
        owner->heads = head;
        DL_APPEND2(table->gates[head->gate].heads, head, heap.prev, heap.next);
        DL_APPEND2(table->gates[GATE_SERVER].heads, head, heap.prev_of_all, heap.next_of_all);
    }
    uncommitted_list_add(&head->heap.first, &links->document);
    head->heap.bytes += uncommitted_document_bytes(&links->document);
}

static void add(struct uncommitted_table *table, struct uncommitted_publication *publication,
                struct uncommitted_document *document)
{
    struct uncommitted_links *links = document->links;
    struct uncommitted_owner *owner = publication->owner;
    struct uncommitted_links *known = uncommitted_links_find(table, &document->name);
    assert(known == NULL || known->owner == owner); /* who holds its lock */
    if (uncommitted_links_of_key(known, document->key) != NULL) {
        uncommitted_document_release(document);
        return;
    }
    struct gate_state *gate = &table->gates[publication->gate];
    struct stripe *stripe = &table->stripes[uncommitted_stripe(&document->name)];
    document->unit = owner->unit;
    document->group = owner->group;
    links->owner = owner;
    links->gate = publication->gate;
    links->next_of_owner = owner->first;
    owner->first = document;
    heap_add(table, owner, links);
    if (known == NULL) {
        HASH_ADD(hh, table->names, document.name.digest, LOCK_DIGEST_BYTES, links);
    } else {
        links->same_name = known->same_name;
        known->same_name = links;
    }
    (void)atomic_fetch_add(&gate->open, 1);
    (void)atomic_fetch_add(&table->gates[GATE_SERVER].open, 1);
    (void)atomic_fetch_add(&stripe->open, 1);
    (void)atomic_fetch_add(&stripe->stamp, 1);
}

void uncommitted_carry_out(struct uncommitted_table *table,
                           struct uncommitted_publication *publication)
{
    if (uncommitted_is_admission(publication)) {
        return;
    }
    for (size_t i = 0; i < publication->count; i++) {
        add(table, publication, publication->documents[i]);
    }
    (void)atomic_fetch_add(&table->gates[publication->gate].stamp, 1);
    (void)atomic_fetch_add(&table->gates[GATE_SERVER].stamp, 1);
}

/* ------------------------------------------------------------------ ending */

/* All heaps of an owner, which ends. */
static void remove_heaps(struct uncommitted_table *table, struct uncommitted_owner *owner)
{
    for (struct uncommitted_links *head = owner->heads; head != NULL;
         head = head->heap.next_of_owner) {
        DL_DELETE2(table->gates[head->gate].heads, head, heap.prev, heap.next);
        DL_DELETE2(table->gates[GATE_SERVER].heads, head, heap.prev_of_all, heap.next_of_all);
    }
    owner->heads = NULL;
}

static void remove_document(struct uncommitted_table *table, struct uncommitted_document *document)
{
    struct uncommitted_links *links = document->links;
    struct gate_state *gate = &table->gates[links->gate];
    struct uncommitted_links *first = uncommitted_links_find(table, &document->name);
    if (first == links) {
        HASH_DEL(table->names, links);
        if (links->same_name != NULL) {
            HASH_ADD(hh, table->names, document.name.digest, LOCK_DIGEST_BYTES, links->same_name);
        }
    } else {
        while (first->same_name != links) {
            first = first->same_name;
        }
        first->same_name = links->same_name;
    }
    (void)atomic_fetch_sub(&gate->open, 1);
    (void)atomic_fetch_sub(&table->gates[GATE_SERVER].open, 1);
    (void)atomic_fetch_sub(&table->stripes[uncommitted_stripe(&document->name)].open, 1);
}

void uncommitted_end(struct uncommitted_table *table, struct uncommitted_owner *owner, bool changed)
{
    struct outbox outbox = {0};
    struct uncommitted_document *released = NULL;
    if (owner->first == NULL && !owner->has_snapshot) {
        return;
    }
    pthread_mutex_lock(&table->mutex);
    uncommitted_snapshot_end(table, owner);
    /* What was undone shows a snapshot the same image as the document itself does. */
    bool keep = table->look_count > 0 || (changed && table->oldest_snapshot != NULL);
    table->moment += owner->first != NULL;
    if (owner->first != NULL) {
        uncommitted_take_watches(table, GATE_SERVER, &outbox);
    }
    remove_heaps(table, owner);
    while (owner->first != NULL) {
        struct uncommitted_document *document = owner->first;
        owner->first = document->links->next_of_owner;
        remove_document(table, document);
        uncommitted_take_watches(table, document->links->gate, &outbox);
        if (keep) {
            uncommitted_past_add(table, document, !changed);
        } else {
            document->links->next_of_owner = released;
            released = document;
        }
    }
    uncommitted_past_forget(table, &released);
    pthread_mutex_unlock(&table->mutex);
    uncommitted_documents_release(released);
    uncommitted_deliver(&outbox);
}

size_t uncommitted_count(struct uncommitted_table *table)
{
    pthread_mutex_lock(&table->mutex);
    size_t count = atomic_load(&table->gates[GATE_SERVER].open);
    pthread_mutex_unlock(&table->mutex);
    return count;
}
