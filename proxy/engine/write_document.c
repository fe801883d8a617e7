/*
 * The batch of documents that a write has at work: which, as they were, as they will be.
 *
 * Worker of the channel only.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/apply_update.h"
#include "engine/literals.h"
#include "engine/write_steps.h"
#include "holdfast/limits.h"
#include "wire/reply.h"

/* A command carries both images and the key of each document, and is itself bounded as a document.
 */
#define RUN_BYTES_MAX LIMIT_DOCUMENT_BYTES_MAX
/* What stands around them: a guarded pipeline has about 150 bytes of its own. */
#define RUN_OVERHEAD_BYTES 256u
/* The guard of a removal costs the square of this. */
#define REMOVE_COUNT_MAX 100u

bool write_key_of(struct slice document, bson_t *key)
{
    bson_iter_t id;
    return document.size > 0 && bson_iter_init_from_data(&id, document.data, document.size) &&
           bson_iter_find(&id, "_id") && bson_append_iter(key, "_id", 3, &id);
}

struct write_document *write_document_add(struct write_operation *operation, struct slice key,
                                          struct image before)
{
    if (operation->document_count == operation->document_capacity) {
        size_t capacity = operation->document_capacity == 0 ? 4 : operation->document_capacity * 2;
        struct write_document *grown = realloc(operation->documents, capacity * sizeof *grown);
        if (grown == NULL) {
            write_fail_for_memory(operation);
            return NULL;
        }
        operation->documents = grown;
        operation->document_capacity = capacity;
    }
    struct write_document *document = &operation->documents[operation->document_count];
    uint8_t *key_copy = malloc(key.size);
    *document = (struct write_document){.key = slice_make(key_copy, key.size)};
    if (key_copy == NULL || !image_copy(before, &document->before)) {
        free(key_copy);
        write_fail_for_memory(operation);
        return NULL;
    }
    memcpy(key_copy, key.data, key.size);
    lock_name_of(operation->namespace, key, &document->name);
    operation->document_count++;
    return document;
}

void write_document_drop(struct write_operation *operation)
{
    struct write_document *document = &operation->documents[--operation->document_count];
    free((void *)(uintptr_t)document->key.data);
    image_free(&document->before);
    bson_destroy(document->after);
    bson_destroy(document->command);
    bson_destroy(document->forecast);
}

void write_documents_clear(struct write_operation *operation)
{
    while (operation->document_count > 0) {
        write_document_drop(operation);
    }
    operation->document_at = operation->sent_count = 0;
    operation->journaled = false;
}

/* The server is to compute it: by a command that repeats exactly. */
static void make_command(struct write_operation *operation, struct write_document *document)
{
    bool absent = document->before.presence == IMAGE_ABSENT;
    struct statement statement = *write_statement(operation);
    bson_t *update = NULL;
    if (statement.update_is_random) {
        update = literals_replace(statement.update, LITERALS_RANDOM, 0);
        statement.update = write_slice(update);
    }
    document->command = bson_new();
    command_build_update(document->command, &operation->target, &statement, document->key,
                         absent && operation->key_in_filter, absent);
    bson_destroy(update);
}

void write_documents_compute(struct write_operation *operation)
{
    const struct statement *statement = write_statement(operation);
    if (statement->kind != STATEMENT_UPDATE) {
        return;
    }
    for (size_t i = 0; i < operation->document_count; i++) {
        struct write_document *document = &operation->documents[i];
        document->after = bson_new();
        if (!apply_update(statement, document->before.document, document->key,
                          &operation->engine->update_rules, document->after)) {
            bson_destroy(document->after);
            document->after = NULL;
            make_command(operation, document);
        } else if (slice_equal(document->before.document, write_slice(document->after))) {
            document->fate = WRITE_UNCHANGED;
        }
    }
}

bool write_document_fits(const struct write_document *document)
{
    size_t before = document->before.document.size + document->key.size;
    size_t after = document->after == NULL ? 0 : document->after->len;
    return document->command != NULL ? before <= LIMIT_UNIT_DOCUMENT_BYTES_MAX
                                     : before + after <= LIMIT_UNIT_IMAGES_BYTES_MAX;
}

void write_document_unjournaled(struct write_operation *operation)
{
    struct write_document *document = &operation->documents[0];
    operation->unjournaled = true;
    if (write_statement(operation)->kind == STATEMENT_UPDATE && document->after != NULL) {
        bson_destroy(document->after);
        document->after = NULL;
        make_command(operation, document);
    }
}

size_t write_documents_run(const struct write_operation *operation)
{
    enum statement_kind kind = write_statement(operation)->kind;
    size_t left = operation->document_count - operation->document_at;
    size_t most = kind == STATEMENT_DELETE && left > REMOVE_COUNT_MAX ? REMOVE_COUNT_MAX : left;
    size_t bytes = 0;
    size_t count = 0;
    while (count < most) {
        const struct write_document *document =
            &operation->documents[operation->document_at + count];
        bool alone = document->command != NULL || operation->one_at_a_time ||
                     (kind == STATEMENT_UPDATE && document->before.presence == IMAGE_ABSENT);
        if (document->fate != WRITE_PENDING || (alone && count > 0)) {
            break;
        }
        bytes += RUN_OVERHEAD_BYTES + document->key.size + document->before.document.size +
                 (document->after == NULL ? 0 : (size_t)document->after->len);
        if (count > 0 && bytes > RUN_BYTES_MAX) {
            break;
        }
        count++;
        if (alone) {
            break;
        }
    }
    return count;
}

void write_documents_refuse(struct write_operation *operation, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        struct write_document *document = &operation->documents[i];
        if (document->fate != WRITE_PENDING) {
            continue;
        }
        document->fate = WRITE_ENDED;
        if (!operation->unjournaled &&
            unit_learn_refused(operation->unit, document->number) != STATUS_OK) {
            operation->unit->doubt = "out of memory to keep which of its writes were refused";
            write_fail_for_memory(operation);
            return;
        }
    }
}

void write_skip_statement(struct write_operation *operation)
{
    write_documents_refuse(operation, operation->document_at,
                           operation->document_count - operation->document_at);
    if (operation->step != WRITE_ROLLING_BACK) {
        operation->step = WRITE_SELECTING;
    }
}
