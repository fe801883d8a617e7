/*
 * Sending a batch's journaled writes, and learning what they did.
 *
 *   document_at -> UNCHANGED    counted, nothing is sent
 *                  EXISTS       the duplicate key error that mongod would give
 *                  PENDING      a run of them in one command: inserts; replacements by computed
 *                               after-images; removals; or one document that the server computes
 *
 * Worker of the channel only.
 */
#include <stdlib.h>

#include "engine/insert_document.h"
#include "engine/write_steps.h"
#include "holdfast/crash_point.h"
#include "wire/reply.h"

static void mark_written(struct write_operation *operation, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        lock_mark_written(operation->engine->locks, &operation->unit->locks,
                          &operation->documents[operation->document_at + i].name,
                          !operation->unjournaled);
    }
}

static const struct write_document *at(const struct write_operation *operation)
{
    return &operation->documents[operation->document_at];
}

/* ------------------------------------------------------------------ results */

static size_t statement_of(const struct write_operation *operation, size_t document)
{
    bool insert = write_statement(operation)->kind == STATEMENT_INSERT;
    return operation->index + (insert ? document : 0);
}

/* The document at document_at is done. `after`: size 0 if it is absent now. */
static void count_written(struct write_operation *operation, struct slice after)
{
    const struct write_document *document = at(operation);
    struct write_result *result = &operation->result;
    bool inserted = document->before.presence == IMAGE_ABSENT;
    bool update = write_statement(operation)->kind == STATEMENT_UPDATE;
    write_result_count(result, statement_of(operation, operation->document_at),
                       update && !inserted && !slice_equal(document->before.document, after));
    if (update) {
        result->updated_existing = !inserted;
        if (inserted) {
            write_result_upserted(result, operation->index, document->key);
        }
    }
    if (operation->list.reply == STATEMENT_REPLY_FIND_AND_MODIFY && !operation->projected) {
        write_result_value(result, operation->list.return_new ? after : document->before.document);
    }
    operation->documents[operation->document_at].fate = WRITE_ENDED;
    operation->document_at++;
}

static struct slice computed_after(const struct write_document *document)
{
    return document->after == NULL ? (struct slice){0} : write_slice(document->after);
}

static void count_run(struct write_operation *operation, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        count_written(operation, computed_after(at(operation)));
    }
}

/* All of the run is done: nothing of it is on its way any more. */
static void count_sent(struct write_operation *operation)
{
    count_run(operation, operation->sent_count);
    operation->sent_count = 0;
}

void write_count_next(struct write_operation *operation)
{
    const struct write_document *document = at(operation);
    count_written(operation, document->fate == WRITE_UNCHANGED ? document->before.document
                                                               : computed_after(document));
}

/* ------------------------------------------------------------------ sending */

static void send_insert(struct write_operation *operation, size_t count, bool ordered)
{
    bson_t command = BSON_INITIALIZER;
    struct slice *documents = calloc(count, sizeof *documents);
    if (documents == NULL) {
        bson_destroy(&command);
        write_documents_refuse(operation, operation->document_at, count);
        write_fail_for_memory(operation);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        documents[i] = write_slice(operation->documents[operation->document_at + i].after);
    }
    command_build_insert(&command, &operation->target, documents, count, ordered);
    free(documents);
    write_send(operation, &command);
}

static void send_changes(struct write_operation *operation, size_t count)
{
    bson_t command = BSON_INITIALIZER;
    struct command_document *documents = calloc(count, sizeof *documents);
    if (documents == NULL) {
        bson_destroy(&command);
        write_documents_refuse(operation, operation->document_at, count);
        write_fail_for_memory(operation);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct write_document *document = &operation->documents[operation->document_at + i];
        documents[i] = (struct command_document){
            .key = document->key,
            .before = operation->unjournaled ? (struct slice){0} : document->before.document,
            .after = computed_after(document)};
    }
    if (write_statement(operation)->kind == STATEMENT_DELETE) {
        command_build_remove(&command, &operation->target, documents, count);
    } else {
        command_build_replace(&command, &operation->target, documents, count);
    }
    free(documents);
    write_send(operation, &command);
}

static void send_run(struct write_operation *operation)
{
    const struct write_document *document = at(operation);
    bool absent = document->before.presence == IMAGE_ABSENT;
    operation->sent_count = write_documents_run(operation);
    mark_written(operation, operation->sent_count);
    if (document->command != NULL) {
        bson_t command = BSON_INITIALIZER;
        if (operation->unjournaled) {
            command_build_unguarded(&command, &operation->target, write_slice(document->command));
        } else {
            command_build_guarded(&command, &operation->target, write_slice(document->command),
                                  document->before.document);
        }
        write_send(operation, &command);
    } else if (absent) {
        bool ordered = !write_errors_are_kept(operation->errors) || operation->list.ordered;
        send_insert(operation, operation->sent_count, ordered);
    } else {
        send_changes(operation, operation->sent_count);
    }
    CRASH_POINT(unit_sent);
}

/* An insert whose _id is there: what mongod says to it. False: the step is set. */
static bool refuse_existing(struct write_operation *operation)
{
    bson_t failure = BSON_INITIALIZER;
    write_reply_put_duplicate_id(&failure, operation->namespace, at(operation)->key);
    bool go_on = write_refused(operation, statement_of(operation, operation->document_at),
                               write_slice(&failure));
    bson_destroy(&failure);
    operation->document_at++;
    if (!go_on) {
        enum write_step step = operation->step;
        write_documents_refuse(operation, operation->document_at,
                               operation->document_count - operation->document_at);
        operation->step = step;
    }
    return go_on;
}

bool write_send_documents(struct write_operation *operation)
{
    while (operation->document_at < operation->document_count) {
        switch (at(operation)->fate) {
        case WRITE_UNCHANGED:
            count_written(operation, at(operation)->before.document);
            break;
        case WRITE_EXISTS:
            if (!refuse_existing(operation)) {
                return true;
            }
            break;
        case WRITE_PENDING:
            send_run(operation);
            return operation->wait == WRITE_WAIT_NONE;
        case WRITE_ENDED:
            operation->document_at++;
            break;
        }
    }
    if (write_wants_projection(operation, true)) {
        operation->step = WRITE_PROJECTING_AFTER;
    } else {
        write_batch_done(operation);
    }
    return true;
}

/* ------------------------------------------------------------------ learning */

/* The server's answer cannot be understood: whatever was sent may have been done. */
static void fail_for_nonsense(struct write_operation *operation)
{
    operation->unit->fate_unknown = true;
    write_fail(operation, REPLY_CODE_InternalError, "the server's answer makes no sense");
}

/* Document `count` of the run was refused; those before it are done, those behind it untouched. */
static void take_refusal(struct write_operation *operation, size_t count, struct slice reply)
{
    size_t refused = operation->sent_count - count;
    count_run(operation, count);
    operation->sent_count = 0;
    write_documents_refuse(operation, operation->document_at, refused);
    if (operation->step == WRITE_ROLLING_BACK) {
        return;
    }
    if (write_refused(operation, statement_of(operation, operation->document_at), reply)) {
        write_skip_statement(operation);
    } else {
        enum write_step step = operation->step;
        write_documents_refuse(operation, operation->document_at,
                               operation->document_count - operation->document_at);
        operation->step = step;
    }
}

/*
 * The command failed as a whole. A single write was then not done. Of several, which a server does
 * one by one, some may have been (killOp, maxTimeMS, its shutdown): none counts as refused. Rights
 * are looked at before the first.
 */
static void take_failure(struct write_operation *operation, const struct reply_view *view,
                         struct slice reply)
{
    size_t behind = operation->document_at + operation->sent_count;
    if (operation->sent_count == 1 || view->code == REPLY_CODE_Unauthorized) {
        take_refusal(operation, 0, reply);
        return;
    }
    write_documents_refuse(operation, behind, operation->document_count - behind);
    if (operation->step != WRITE_ROLLING_BACK) {
        write_broken_off(operation, statement_of(operation, operation->document_at), reply);
    }
}

/* The index in the run that a write error names; `count` if it names none of it. */
static size_t error_index(bson_iter_t *write_error, size_t count)
{
    bson_iter_t inside;
    if (BSON_ITER_HOLDS_DOCUMENT(write_error) && bson_iter_recurse(write_error, &inside) &&
        bson_iter_find(&inside, "index")) {
        int64_t index = bson_iter_as_int64(&inside);
        return index >= 0 && (uint64_t)index < count ? (size_t)index : count;
    }
    return count;
}

/* Unordered: each error names its document, all others were inserted. */
static void take_insert_errors(struct write_operation *operation, const struct reply_view *view)
{
    size_t first = operation->document_at;
    size_t count = operation->sent_count;
    size_t refused = 0;
    bson_iter_t error;
    (void)bson_iter_init_from_data(&error, view->write_errors.data, view->write_errors.size);
    while (bson_iter_next(&error)) {
        size_t index = error_index(&error, count);
        if (index == count || operation->documents[first + index].fate != WRITE_PENDING) {
            fail_for_nonsense(operation);
            return;
        }
        write_documents_refuse(operation, first + index, 1);
        write_result_write_error(&operation->result, operation->list.reply,
                                 operation->index + first + index, write_slice_at(&error));
        refused++;
    }
    if (!view->has_n || view->n != (int64_t)(count - refused)) {
        fail_for_nonsense(operation);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (at(operation)->fate == WRITE_PENDING) {
            count_written(operation, computed_after(at(operation)));
        } else {
            operation->document_at++;
        }
    }
    operation->sent_count = 0;
}

static void take_inserted(struct write_operation *operation, const struct reply_view *view,
                          struct slice reply)
{
    size_t count = operation->sent_count;
    bool insert = write_statement(operation)->kind == STATEMENT_INSERT;
    bool unordered = insert && write_errors_are_kept(operation->errors) && !operation->list.ordered;
    if (!view->ok) {
        take_failure(operation, view, reply);
    } else if (view->has_write_errors && unordered) {
        take_insert_errors(operation, view);
    } else if (view->has_write_errors) {
        bson_iter_t error;
        size_t refused = count;
        if (bson_iter_init_from_data(&error, view->write_errors.data, view->write_errors.size) &&
            bson_iter_next(&error)) {
            refused = error_index(&error, count);
        }
        if (refused == count) {
            fail_for_nonsense(operation);
        } else {
            take_refusal(operation, refused, reply);
        }
    } else if (view->has_n && view->n == (int64_t)count) {
        count_sent(operation);
    } else {
        fail_for_nonsense(operation); /* it says that it inserted another number than it got */
    }
}

/* Updates by computed after-images, and removals: `done` of those sent, in their order. */
static void take_changed(struct write_operation *operation, const struct reply_view *view,
                         struct slice reply)
{
    bool remove = write_statement(operation)->kind == STATEMENT_DELETE;
    size_t count = operation->sent_count;
    bool counted = remove ? view->has_n : view->has_modified;
    int64_t done = remove ? view->n : view->modified;
    operation->done_count = done;
    if (!view->ok) {
        take_failure(operation, view, reply);
    } else if (!counted || done < 0 || done > (int64_t)count) {
        fail_for_nonsense(operation);
    } else if (view->has_write_errors && remove) {
        take_failure(operation, view, reply);
    } else if (view->has_write_errors) {
        bson_iter_t error;
        size_t refused = count;
        if (bson_iter_init_from_data(&error, view->write_errors.data, view->write_errors.size) &&
            bson_iter_next(&error)) {
            refused = error_index(&error, count);
        }
        if (refused == (size_t)done) {
            take_refusal(operation, refused, reply);
        } else {
            operation->step = WRITE_CHECKING;
        }
    } else if (done == (int64_t)count) {
        count_sent(operation);
    } else if (count == 1) {
        write_documents_refuse(operation, operation->document_at, 1);
        write_fail_behind(operation);
    } else {
        operation->step = WRITE_CHECKING;
    }
}

static bool has_key(struct slice image, struct slice key)
{
    bson_t found = BSON_INITIALIZER;
    (void)write_key_of(image, &found);
    bool same = slice_equal(write_slice(&found), key);
    bson_destroy(&found);
    return same;
}

/* The after-image stays in memory until the unit's next record. False: the operation has failed. */
static bool learn(struct write_operation *operation, struct slice after)
{
    struct unit *unit = operation->unit;
    struct image image = {.presence = IMAGE_PRESENT, .document = after};
    if (unit_learn(unit, at(operation)->number, image) != STATUS_OK) {
        write_fail_for_memory(operation);
        return false;
    }
    unit->bytes += after.size;
    if (unit->bytes > operation->engine->unit_bytes_max) {
        write_fail(operation, REPLY_CODE_TransactionTooLarge,
                   "the unit is larger than unit.maxBytes allows");
        return false;
    }
    return true;
}

/* What the server has made of the document. */
static void take_after(struct write_operation *operation, struct slice after)
{
    if (!operation->unjournaled && !has_key(after, at(operation)->key)) {
        operation->unit->doubt = "the server wrote a document of another _id than it was sent";
        fail_for_nonsense(operation);
        return;
    }
    if (!operation->unjournaled && !learn(operation, after)) {
        return;
    }
    if (write_take_unique(operation, at(operation)->before.document, after)) {
        count_written(operation, after);
        operation->sent_count = 0;
    }
}

static void take_computed(struct write_operation *operation, const struct reply_view *view,
                          struct slice reply)
{
    if (!view->ok) {
        take_refusal(operation, 0, reply);
        return;
    }
    if (view->value.size == 0) {
        write_documents_refuse(operation, operation->document_at, 1);
        write_fail_behind(operation);
        return;
    }
    bson_t *after = insert_document_id_first(view->value);
    if (after == NULL) {
        fail_for_nonsense(operation);
        return;
    }
    take_after(operation, write_slice(after));
    bson_destroy(after);
}

void write_take_answer(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    const struct write_document *document = at(operation);
    if (operation->unjournaled) {
        gate_plain_note(operation->engine->gates, operation->gate,
                        worker_index(operation->channel->worker));
    }
    if (reply_view_parse(reply, &view) != STATUS_OK) {
        fail_for_nonsense(operation);
    } else if (document->command != NULL) {
        take_computed(operation, &view, reply);
    } else if (document->before.presence == IMAGE_ABSENT) {
        take_inserted(operation, &view, reply);
    } else {
        take_changed(operation, &view, reply);
    }
}
