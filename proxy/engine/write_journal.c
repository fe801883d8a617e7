/*
 * Journaling the writes of a batch of documents.
 *
 * Promise: when a write leaves, its WRITE record is durable. Worker of the channel only; the
 * journal's writer thread only posts the operation's task.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "engine/begin.h"
#include "engine/deferred.h"
#include "engine/known.h"
#include "engine/release.h"
#include "engine/write_steps.h"
#include "holdfast/crash_point.h"
#include "recover/record.h"
#include "wire/reply.h"

struct write_record {
    bson_t payload;
    struct wal_append append;
};

static size_t count_pending(const struct write_operation *operation)
{
    size_t count = 0;
    for (size_t i = 0; i < operation->document_count; i++) {
        count += operation->documents[i].fate == WRITE_PENDING;
    }
    return count;
}

static bool within_limits(struct write_operation *operation, size_t pending)
{
    const struct engine *engine = operation->engine;
    const struct unit *unit = operation->unit;
    if (unit->write_count + deferred_count(unit) + pending > engine->unit_writes_max ||
        unit->bytes > engine->unit_bytes_max) {
        write_fail(operation, REPLY_CODE_TransactionTooLarge,
                   "the unit is larger than unit.maxWrites or unit.maxBytes allows");
        return false;
    }
    return true;
}

/*
 * Documents too big for a guarded write. A plain write of one document is then carried out without
 * a record, under its lock: as safe as without the proxy, and no less. Anything else is refused.
 */
static bool is_too_big(struct write_operation *operation)
{
    bool fits = true;
    for (size_t i = 0; i < operation->document_count && fits; i++) {
        fits = write_document_fits(&operation->documents[i]);
    }
    if (fits) {
        return false;
    }
    bool alone = operation->errors == WRITE_ERRORS_KEEP || operation->errors == WRITE_ERRORS_STRICT;
    if (alone && operation->list.count == 1 && !write_statement(operation)->multi) {
        write_document_unjournaled(operation);
        operation->step = WRITE_SENDING;
        return true;
    }
    write_fail(operation, REPLY_CODE_OperationNotSupportedInTransaction,
               "a unit cannot write documents this big (16 MiB before and after together, 7 MiB "
               "where the server computes the update): write it outside of one");
    return true;
}

static void put_begin(struct write_operation *operation, struct wal_append *next)
{
    begin_make(operation->unit, &operation->begin_payload, &operation->begin);
    operation->begin.next = next;
}

static enum record_operation operation_of(const struct write_operation *operation)
{
    switch (write_statement(operation)->kind) {
    case STATEMENT_INSERT:
        return RECORD_INSERT;
    case STATEMENT_DELETE:
        return RECORD_DELETE;
    case STATEMENT_UPDATE:
        break;
    }
    return RECORD_UPDATE;
}

/* What a WRITE says of one document. */
static void describe(const struct write_operation *operation, const struct write_document *document,
                     struct record_write *ret_write)
{
    *ret_write = (struct record_write){
        .number = document->number,
        .operation = operation_of(operation),
        .namespace = operation->namespace,
        .key = document->key,
        .before = document->before,
        .connection = operation->unit->connection,
        .plain_probe = operation->plain_probe,
    };
    if (document->after != NULL) {
        ret_write->after =
            (struct image){.presence = IMAGE_PRESENT, .document = write_slice(document->after)};
    } else if (document->command != NULL) {
        ret_write->command = write_slice(document->command);
    } else {
        ret_write->after = (struct image){.presence = IMAGE_ABSENT};
    }
}

static void free_records(struct write_operation *operation)
{
    for (size_t i = 0; i < operation->record_count; i++) {
        bson_destroy(&operation->records[i].payload);
    }
    free(operation->records);
    operation->records = NULL;
    operation->record_count = 0;
}

/* `first`: the number of the first of them in the unit; `with_known`: what was learned goes with
   it. */
static bool put_writes(struct write_operation *operation, size_t pending, size_t first,
                       bool with_known)
{
    struct unit *unit = operation->unit;
    struct record_known *known = NULL;
    operation->known_count = 0;
    operation->plain_probe = gate_plain_probe(operation->engine->gates, operation->gate);
    operation->records =
        memory_new_aligned(pending, sizeof *operation->records, _Alignof(struct write_record));
    if (operation->records == NULL ||
        (with_known && known_collect(unit, &known, &operation->known_count) != STATUS_OK)) {
        free_records(operation);
        return false;
    }
    for (size_t i = 0; i < operation->document_count; i++) {
        struct write_document *document = &operation->documents[i];
        struct write_record *record = &operation->records[operation->record_count];
        struct record_write content;
        if (document->fate != WRITE_PENDING) {
            continue;
        }
        document->number = (int32_t)(first + operation->record_count);
        describe(operation, document, &content);
        bson_init(&record->payload);
        record_put_write(&record->payload, &content, known,
                         operation->record_count == 0 ? operation->known_count : 0);
        record->append = (struct wal_append){
            .kind = WAL_KIND_WRITE,
            .unit = unit->id,
            .payload = write_slice(&record->payload),
            .next = operation->record_count + 1 < pending ? &(record + 1)->append : NULL,
        };
        operation->record_count++;
    }
    free(known);
    return true;
}

/* Where recovery looks whether a write is still on its way. */
static void note_connection(struct write_operation *operation)
{
    struct unit *unit = operation->unit;
    (void)snprintf(unit->connection, sizeof unit->connection, "%s",
                   operation->channel->local_address);
}

bool write_journal_together(struct write_operation *first,
                            void (*completed)(struct wal_append *first, void *context),
                            void *context)
{
    size_t number = first->unit->write_count;
    struct wal_append *behind = NULL;
    note_connection(first);
    for (struct write_operation *at = first; at != NULL; at = at->next_deferred) {
        size_t count = count_pending(at);
        if (!put_writes(at, count, number, at == first)) {
            for (struct write_operation *made = first; made != at; made = made->next_deferred) {
                free_records(made);
            }
            write_fail_for_memory(first);
            return false;
        }
        if (behind != NULL) {
            behind->next = &at->records[0].append;
        }
        behind = &at->records[count - 1].append;
        number += count;
    }
    struct wal_append *append = &first->records[0].append;
    if (!first->unit->begun) {
        put_begin(first, append);
        append = &first->begin;
    }
    append->completed = completed;
    append->context = context;
    wal_append(first->engine->wal, append);
    return true;
}

static bool start(struct write_operation *operation)
{
    size_t pending = count_pending(operation);
    if (pending == 0) {
        operation->step = WRITE_SENDING;
        return true;
    }
    if (is_too_big(operation) || !within_limits(operation, pending)) {
        return true;
    }
    if (deferred_take(operation)) {
        write_batch_done(operation);
        return true;
    }
    if (!write_journal_together(operation, write_on_journaled, operation)) {
        return true;
    }
    operation->wait = WRITE_WAIT_JOURNAL;
    return false;
}

/* The records are those of the pending documents, in their order. */
static void note_images(struct write_operation *operation)
{
    size_t record = 0;
    for (size_t i = 0; i < operation->document_count; i++) {
        const struct write_document *document = &operation->documents[i];
        if (document->fate != WRITE_PENDING) {
            continue;
        }
        const struct write_record *journaled = &operation->records[record++];
        if (!write_publish_note(operation, document, write_slice(&journaled->payload),
                                journaled->append.lsn)) {
            return;
        }
    }
}

static bool finish(struct write_operation *operation)
{
    struct unit *unit = operation->unit;
    enum status status =
        unit->begun ? operation->records[0].append.status : operation->begin.status;
    if (status == STATUS_OK) {
        CRASH_POINT(unit_journaled);
        unit->begun = true;
        unit->write_count += operation->record_count;
        for (size_t i = 0; i < operation->record_count; i++) {
            unit->bytes += operation->records[i].payload.len;
        }
        unit_known_drop(unit, operation->known_count);
        operation->journaled = true;
        operation->step = WRITE_PUBLISHING;
        note_images(operation);
    } else if (status == STATUS_IO) {
        release_end_process("a record could not be made durable", unit, status);
    } else {
        write_fail(operation, REPLY_CODE_OutOfDiskSpace,
                   "the journal is full: transactions and writes that are journaled are refused "
                   "until units older than wal.retention make room, or wal.quota or the disk is "
                   "made larger");
    }
    free_records(operation);
    return true;
}

bool write_journal(struct write_operation *operation)
{
    return operation->records == NULL ? start(operation) : finish(operation);
}

enum status write_journal_together_done(struct write_operation *first)
{
    enum status status = first->unit->begun ? first->records[0].append.status : first->begin.status;
    for (struct write_operation *at = first; at != NULL; at = at->next_deferred) {
        at->begin.status = at->records[0].append.status = status;
        (void)finish(at);
    }
    return status;
}
