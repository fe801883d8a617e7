/*
 * Journaling a write, sending it, and learning what it did.
 *
 * Promise: when the write leaves, its WRITE record is durable. Worker of the channel only; the
 * journal's writer thread only posts the operation's task.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "engine/known.h"
#include "engine/release.h"
#include "engine/write_steps.h"
#include "holdfast/crash_point.h"
#include "holdfast/limits.h"
#include "recover/record.h"
#include "wire/reply.h"

struct write_record {
    bson_t payload;
    struct wal_append append;
};

static const struct statement *statement_at(const struct write_operation *operation)
{
    return &operation->list.statements[operation->index];
}

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

/* ------------------------------------------------------------------ journaling */

static enum status add_inserts(struct write_operation *operation)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < operation->count && status == STATUS_OK; i++) {
        bson_t key = BSON_INITIALIZER;
        bson_iter_t id;
        if (bson_iter_init_find(&id, operation->documents[i], "_id")) {
            bson_append_iter(&key, "_id", -1, &id);
        }
        struct image after = {.presence = IMAGE_PRESENT,
                              .document = slice_of(operation->documents[i])};
        status = unit_write_add(operation->unit, RECORD_INSERT, operation->namespace,
                                slice_of(&key), operation->before, after, (struct slice){0});
        bson_destroy(&key);
    }
    return status;
}

static enum status add_write(struct write_operation *operation)
{
    const struct statement *statement = statement_at(operation);
    if (statement->kind == STATEMENT_INSERT) {
        return add_inserts(operation);
    }
    bool remove = statement->kind == STATEMENT_DELETE;
    struct slice key = slice_of(&operation->key);
    struct slice command = {0};
    if (!remove) {
        bool insert = operation->before.presence == IMAGE_ABSENT;
        bson_reinit(&operation->command);
        command_build_update(&operation->command, &operation->target, statement, key,
                             insert && operation->key_in_filter, insert);
        command = slice_of(&operation->command);
    }
    struct image after = {.presence = remove ? IMAGE_ABSENT : IMAGE_UNKNOWN};
    return unit_write_add(operation->unit, remove ? RECORD_DELETE : RECORD_UPDATE,
                          operation->namespace, key, operation->before, after, command);
}

static bool within_limits(struct write_operation *operation)
{
    const struct engine *engine = operation->engine;
    const struct unit *unit = operation->unit;
    if (unit->write_count + operation->count > engine->unit_writes_max ||
        unit->bytes > engine->unit_bytes_max) {
        write_fail(operation, REPLY_CODE_TransactionTooLarge,
                   "the transaction is larger than unit.maxWrites or unit.maxBytes allows");
        return false;
    }
    for (size_t i = 0; operation->documents != NULL && i < operation->count; i++) {
        if (operation->documents[i]->len > LIMIT_UNIT_DOCUMENT_BYTES_MAX) {
            write_fail(operation, REPLY_CODE_OperationNotSupportedInTransaction,
                       "documents above 7 MiB are not supported in a transaction yet");
            return false;
        }
    }
    return true;
}

static void put_begin(struct write_operation *operation, struct wal_append *next)
{
    const struct unit *unit = operation->unit;
    struct record_begin begin = {
        .boundary = unit->boundary,
        .user = unit->user,
        .session_id = slice_make(unit->session_id, unit->has_session ? UNIT_SESSION_ID_BYTES : 0),
        .transaction_number = unit->transaction_number,
        .client = unit->client,
        .application = unit->application,
    };
    bson_reinit(&operation->begin_payload);
    record_put_begin(&operation->begin_payload, &begin);
    operation->begin = (struct wal_append){
        .kind = WAL_KIND_BEGIN,
        .unit = unit->id,
        .payload = slice_of(&operation->begin_payload),
        .next = next,
        .session_key =
            slice_make(unit->session_key.bytes, unit->has_session ? sizeof unit->session_key : 0),
        .transaction_number = unit->transaction_number,
    };
}

static bool put_writes(struct write_operation *operation)
{
    struct unit *unit = operation->unit;
    struct record_known *known = NULL;
    size_t known_count = 0;
    size_t first = unit->write_count - operation->count;
    operation->records = memory_new_aligned(operation->count, sizeof *operation->records,
                                            _Alignof(struct write_record));
    if (operation->records == NULL || known_collect(unit, &known, &known_count) != STATUS_OK) {
        return false;
    }
    operation->record_count = operation->count;
    for (size_t i = 0; i < operation->count; i++) {
        const struct unit_write *write = &unit->writes[first + i];
        struct write_record *record = &operation->records[i];
        struct record_write content = {
            .number = (int32_t)(first + i),
            .operation = (enum record_operation)write->operation,
            .namespace = write->namespace,
            .key = slice_make(write->key, write->key_size),
            .before = write->before,
            .after = write->after,
            .command = slice_make(write->command, write->command_size),
            .connection = unit->connection,
        };
        bson_init(&record->payload);
        record_put_write(&record->payload, &content, known, i == 0 ? known_count : 0);
        record->append = (struct wal_append){
            .kind = WAL_KIND_WRITE,
            .unit = unit->id,
            .payload = slice_of(&record->payload),
            .next = i + 1 < operation->count ? &operation->records[i + 1].append : NULL,
        };
    }
    free(known);
    return true;
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

static void drop_writes(struct write_operation *operation, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unit_write_drop(operation->unit);
    }
}

static bool start_journaling(struct write_operation *operation)
{
    struct unit *unit = operation->unit;
    if (!within_limits(operation)) {
        return true;
    }
    (void)snprintf(unit->connection, sizeof unit->connection, "%s",
                   operation->channel->local_address);
    size_t count_before = unit->write_count;
    if (add_write(operation) != STATUS_OK || !put_writes(operation)) {
        drop_writes(operation, unit->write_count - count_before);
        free_records(operation);
        write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        return true;
    }
    struct wal_append *first = &operation->records[0].append;
    if (!unit->begun) {
        put_begin(operation, first);
        first = &operation->begin;
    }
    first->completed = write_on_journaled;
    first->context = operation;
    operation->wait = WRITE_WAIT_JOURNAL;
    wal_append(operation->engine->wal, first);
    return false;
}

static bool finish_journaling(struct write_operation *operation)
{
    struct unit *unit = operation->unit;
    enum status status =
        unit->begun ? operation->records[0].append.status : operation->begin.status;
    free_records(operation);
    if (status == STATUS_OK) {
        CRASH_POINT(unit_journaled);
        unit->begun = true;
        operation->step = WRITE_SENDING;
        return true;
    }
    drop_writes(operation, operation->count);
    if (status == STATUS_IO) {
        release_end_process("a record could not be made durable", unit, status);
    }
    write_fail(operation, REPLY_CODE_OutOfDiskSpace,
               "the journal is full: no new writes in transactions until old records are pruned or "
               "wal.quota is raised");
    return true;
}

bool write_journal(struct write_operation *operation)
{
    return operation->records == NULL ? start_journaling(operation) : finish_journaling(operation);
}

/* ------------------------------------------------------------------ sending */

bool write_send_statement(struct write_operation *operation)
{
    const struct statement *statement = statement_at(operation);
    struct unit *unit = operation->unit;
    bson_t command = BSON_INITIALIZER;
    for (size_t i = 0; i < operation->name_count; i++) {
        if (statement->kind == STATEMENT_INSERT) {
            lock_mark_written(operation->engine->locks, &unit->locks, &operation->names[i]);
        }
    }
    if (statement->kind == STATEMENT_INSERT) {
        struct slice *documents = calloc(operation->count, sizeof *documents);
        if (documents == NULL) {
            bson_destroy(&command);
            drop_writes(operation, operation->count);
            write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
            return true;
        }
        for (size_t i = 0; i < operation->count; i++) {
            documents[i] = slice_of(operation->documents[i]);
        }
        command_build_insert(&command, &operation->target, documents, operation->count);
        free(documents);
    } else {
        lock_mark_written(operation->engine->locks, &unit->locks, &operation->target_name);
        if (statement->kind == STATEMENT_DELETE) {
            command_build_remove(&command, &operation->target, slice_of(&operation->key),
                                 operation->before.document);
        } else {
            command_build_guarded(&command, &operation->target, slice_of(&operation->command),
                                  operation->before.document);
        }
    }
    write_send(operation, &command);
    CRASH_POINT(unit_sent);
    return false;
}

/* ------------------------------------------------------------------ learning */

static void fail_behind(struct write_operation *operation)
{
    drop_writes(operation, operation->count);
    write_fail(operation, REPLY_CODE_WriteConflict,
               "a document was changed around the proxy while it was being written: run the "
               "transaction again");
}

/* The index in the run of the first document that the server refused. */
static size_t refused_at(const struct reply_view *view, size_t count)
{
    bson_iter_t at;
    bson_iter_t error;
    if (bson_iter_init_from_data(&at, view->write_errors.data, view->write_errors.size) &&
        bson_iter_next(&at) && bson_iter_recurse(&at, &error) && bson_iter_find(&error, "index")) {
        int64_t index = bson_iter_as_int64(&error);
        if (index >= 0 && (uint64_t)index < count) {
            return (size_t)index;
        }
    }
    return 0;
}

static void take_inserted(struct write_operation *operation, const struct reply_view *view,
                          struct slice reply)
{
    if (view->ok && !view->has_write_errors && view->has_n &&
        view->n == (int64_t)operation->count) {
        operation->result.matched += view->n;
        operation->step = WRITE_SELECTING;
        return;
    }
    size_t refused = view->has_write_errors ? refused_at(view, operation->count) : 0;
    if (view->ok && !view->has_write_errors) {
        /* It says that it inserted another number than it was given. */
        operation->unit->fate_unknown = true;
        write_fail(operation, REPLY_CODE_InternalError, "the server's answer makes no sense");
        return;
    }
    drop_writes(operation, operation->count - refused);
    operation->result.matched += (int64_t)refused;
    write_fail_statement(operation, operation->index + refused, reply);
}

static void take_removed(struct write_operation *operation)
{
    operation->result.matched++;
    if (!operation->projected) {
        write_result_value(&operation->result, operation->before.document);
    }
    operation->step = WRITE_SELECTING;
}

static void take_updated(struct write_operation *operation, struct slice after)
{
    struct unit *unit = operation->unit;
    struct image image = {.presence = IMAGE_PRESENT, .document = after};
    bool inserted = operation->before.presence == IMAGE_ABSENT;
    bool changed = inserted || !slice_equal(operation->before.document, after);
    if (unit_write_learn(unit, unit->write_count - 1, image) != STATUS_OK) {
        write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        return;
    }
    operation->result.matched++;
    operation->result.modified += changed && !inserted;
    operation->result.updated_existing = !inserted;
    if (inserted) {
        write_result_upserted(&operation->result, operation->index, slice_of(&operation->key));
    }
    if (!operation->projected) {
        write_result_value(&operation->result,
                           operation->list.return_new ? after : operation->before.document);
    }
    operation->step =
        write_wants_projection(operation, true) ? WRITE_PROJECTING_AFTER : WRITE_SELECTING;
}

void write_take_answer(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    if (reply_view_parse(reply, &view) != STATUS_OK) {
        operation->unit->fate_unknown = true;
        write_fail(operation, REPLY_CODE_InternalError, "the server's answer makes no sense");
        return;
    }
    enum statement_kind kind = statement_at(operation)->kind;
    if (kind == STATEMENT_INSERT) {
        take_inserted(operation, &view, reply);
        return;
    }
    if (!view.ok) {
        drop_writes(operation, 1);
        write_fail_statement(operation, operation->index, reply);
    } else if (view.value.size == 0) {
        fail_behind(operation);
    } else if (kind == STATEMENT_DELETE) {
        take_removed(operation);
    } else {
        take_updated(operation, view.value);
    }
}
