/*
 * Telling readers what is about to be uncommitted (unit/uncommitted.h).
 *
 * Promise: when a write leaves, its document is published, with the place of its before-image in
 * the journal. Worker of the channel only; a reader that ends its turn posts the operation's task.
 */
#include <stdlib.h>

#include "engine/write_steps.h"
#include "wire/reply.h"

static void on_published(struct uncommitted_publication *publication)
{
    write_wake((struct write_operation *)(void *)((uint8_t *)publication -
                                                  offsetof(struct write_operation, publication)));
}

/* What is journaled already is not sent. */
static void fail(struct write_operation *operation, int code, const char *message)
{
    write_publish_free(operation);
    write_documents_refuse(operation, operation->document_at,
                           operation->document_count - operation->document_at);
    write_fail(operation, code, message);
}

bool write_publish_note(struct write_operation *operation, const struct write_document *document,
                        struct slice payload, uint64_t lsn)
{
    struct uncommitted_publication *publication = &operation->publication;
    bson_iter_t at;
    struct slice before = {0};
    if (publication->documents == NULL) {
        publication->documents =
            calloc(operation->document_count, sizeof(struct uncommitted_document *));
    }
    struct uncommitted_document *published =
        publication->documents == NULL
            ? NULL
            : uncommitted_document_new(operation->namespace, document->key, &document->name);
    if (published == NULL) {
        fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        return false;
    }
    if (bson_iter_init_from_data(&at, payload.data, payload.size) &&
        bson_iter_find(&at, "before")) {
        before = write_slice_at(&at);
    }
    published->was_present = before.size > 0;
    published->lsn = lsn;
    published->offset = before.size > 0 ? (uint32_t)slice_offset(payload, before) : 0;
    published->size = (uint32_t)before.size;
    publication->documents[publication->count++] = published;
    return true;
}

/* True: published. False: the operation's task comes when it is. */
static bool publish(struct write_operation *operation)
{
    struct uncommitted_publication *publication = &operation->publication;
    publication->published = on_published;
    publication->owner = &operation->unit->uncommitted;
    publication->gate = operation->gate;
    if (!uncommitted_publish(operation->engine->uncommitted, publication)) {
        write_wait(operation, WRITE_WAIT_READERS);
        return false;
    }
    return true;
}

/* Called again when it is admitted. */
bool write_admit(struct write_operation *operation)
{
    struct uncommitted_publication *publication = &operation->publication;
    if (publication->published == NULL && operation->unit->locks.held_count == 0 &&
        operation->unit->locks.share_count == 0 &&
        uncommitted_is_draining(operation->engine->uncommitted, operation->gate) &&
        !publish(operation)) {
        return false;
    }
    *publication = (struct uncommitted_publication){0};
    operation->step = WRITE_LEARNING_UNIQUE;
    return true;
}

/* Called again when the readers have had their turn: it is published then. */
bool write_publish(struct write_operation *operation)
{
    struct uncommitted_publication *publication = &operation->publication;
    if (publication->published == NULL && !publish(operation)) {
        return false;
    }
    if (publication->count > 0) {
        unit_cursors_published(&operation->unit->kept_cursors, publication->gate);
    }
    free(publication->documents); /* the documents are the table's */
    *publication = (struct uncommitted_publication){0};
    operation->step = WRITE_SENDING;
    return true;
}

bool write_publish_cancel(struct write_operation *operation)
{
    if (!uncommitted_publish_cancel(operation->engine->uncommitted, &operation->publication)) {
        return false;
    }
    fail(operation, REPLY_CODE_WriteConflict,
         "a read that cannot be done again had its turn for longer than unit.lockWait: run the "
         "transaction again");
    return true;
}

void write_publish_free(struct write_operation *operation)
{
    struct uncommitted_publication *publication = &operation->publication;
    for (size_t i = 0; i < publication->count; i++) {
        uncommitted_document_release(publication->documents[i]);
    }
    free(publication->documents);
    *publication = (struct uncommitted_publication){0};
}
