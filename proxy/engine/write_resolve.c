/*
 * From a statement to the documents it writes: which, and how they look now.
 *
 *   inserts           the run's documents; which of their _ids exist
 *   one document      find, limit 1
 *   several (multi)   all matching _ids first, for a search that runs among one's own writes may
 *                     meet a document twice; then batch by batch: lock, and read those that still
 *                     match
 *
 * The client's own connection is asked, with its own rights, so that nobody learns or changes
 * through the proxy what the server would not let them. Worker of the channel only.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/deferred.h"
#include "engine/equality.h"
#include "engine/id_list.h"
#include "engine/insert_document.h"
#include "engine/new_id.h"
#include "engine/write_steps.h"
#include "holdfast/crash_point.h"
#include "wire/reply.h"

/* A run of inserts goes to the server as one command: bounded so that it fits with its replies. */
#define RUN_BYTES_MAX (8u * 1024u * 1024u)
#define RUN_COUNT_MAX 1000u
/* Documents of a multi write that are locked, journaled and sent together. */
#define BATCH_COUNT_MAX 500u
/* Each of them may grow by what the update says, and is journaled with it. */
#define BATCH_BYTES_MAX (16u * 1024u * 1024u)
#define COLLECT_COUNT 10000
/* All collected _ids, and one more reply of them: libbson's documents end at 2 GiB. */
#define IDS_BYTES_MAX (1024u * 1024u * 1024u)

static void names_clear(struct write_operation *operation)
{
    free(operation->names);
    operation->names = NULL;
    operation->name_count = operation->name_at = 0;
}

void write_statement_free(struct write_operation *operation)
{
    write_documents_clear(operation);
    names_clear(operation);
    write_unique_clear(operation);
    write_hidden_free(operation);
    bson_reinit(&operation->equalities);
    bson_reinit(&operation->ids);
    operation->id_count = 0;
    operation->cursor_id = operation->forecast_cursor_id = 0;
    operation->key_in_filter = operation->multi = operation->collects_again = false;
    operation->key_is_text = operation->has_unique_keys = false;
    operation->resolved = operation->waited = operation->projected = false;
}

static bool is_insert(const struct write_operation *operation)
{
    return write_statement(operation)->kind == STATEMENT_INSERT;
}

void write_refuse_statement(struct write_operation *operation, struct slice reply)
{
    if (write_refused(operation, operation->index, reply)) {
        operation->step = WRITE_SELECTING;
    }
}

/* ------------------------------------------------------------------ selecting */

static int compare_names(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct lock_name));
}

/* A run ends before an _id that it holds already: the second one meets the first as a document
   that exists. True: `count` names, the last of which is the second. */
static bool has_twice(const struct lock_name *names, size_t count)
{
    bool twice = false;
    struct lock_name *sorted = malloc(count * sizeof *sorted);
    if (sorted == NULL) {
        return true; /* a shorter run is as good */
    }
    memcpy(sorted, names, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (size_t i = 1; i < count && !twice; i++) {
        twice = compare_names(&sorted[i - 1], &sorted[i]) == 0;
    }
    free(sorted);
    return twice;
}

/* The longest run of inserts without an _id that is there twice. */
static size_t run_without_twins(const struct lock_name *names, size_t count)
{
    if (count < 2 || !has_twice(names, count)) {
        return count;
    }
    size_t fine = 1;
    size_t bad = count;
    while (bad - fine > 1) {
        size_t middle = fine + (bad - fine) / 2;
        *(has_twice(names, middle) ? &bad : &fine) = middle;
    }
    return fine;
}

static bool add_insert(struct write_operation *operation, size_t statement)
{
    bson_t key = BSON_INITIALIZER;
    bson_t *after = insert_document_make(operation->list.statements[statement].document, &key);
    struct write_document *document =
        write_document_add(operation, write_slice(&key), (struct image){.presence = IMAGE_ABSENT});
    bson_destroy(&key);
    if (document == NULL) {
        bson_destroy(after);
        return false;
    }
    document->after = after;
    operation->names[operation->name_count++] = document->name;
    return true;
}

/* A bulkWrite's inserts may have others between them. */
static bool belongs_to_run(const struct write_operation *operation,
                           const struct statement *statement)
{
    return statement->kind == STATEMENT_INSERT &&
           statement->namespace_number == operation->namespace_number;
}

static void select_inserts(struct write_operation *operation)
{
    const struct statement_list *list = &operation->list;
    size_t bytes = 0;
    size_t count = 0;
    while (operation->index + count < list->count && count < RUN_COUNT_MAX &&
           belongs_to_run(operation, &list->statements[operation->index + count])) {
        bytes += list->statements[operation->index + count].document.size;
        if (count > 0 && bytes > RUN_BYTES_MAX) {
            break;
        }
        count++;
    }
    assert(count > 0); /* a command without documents was refused */
    operation->names = calloc(count, sizeof *operation->names);
    if (operation->names == NULL) {
        write_fail_for_memory(operation);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!add_insert(operation, operation->index + i)) {
            return;
        }
    }
    operation->count = run_without_twins(operation->names, count);
    operation->name_count = operation->count;
    while (operation->document_count > operation->count) {
        write_document_drop(operation);
    }
}

/* An upsert's lock on the values that its filter fixes: two upserts of one key meet there. */
static void name_upsert(struct write_operation *operation, struct lock_name *ret_name)
{
    char *name = bson_strdup_printf("upsert %s", operation->namespace);
    lock_name_of(name, write_slice(&operation->equalities), ret_name);
    bson_free(name);
}

/* What is known to be touched before looking: the _id of the filter, or an upsert's key. */
static void select_one(struct write_operation *operation)
{
    const struct statement *statement = write_statement(operation);
    bson_t key = BSON_INITIALIZER;
    operation->names = calloc(1, sizeof *operation->names);
    if (operation->names == NULL) {
        write_fail_for_memory(operation);
        return;
    }
    bson_reinit(&operation->equalities);
    equality_collect(statement->filter, &operation->equalities);
    operation->key_in_filter = equality_key(&operation->equalities, &key);
    if (operation->key_in_filter) {
        operation->key_is_text = write_key_is_collated(operation, &key);
        lock_name_of(operation->namespace, write_slice(&key), &operation->names[0]);
        operation->name_count = 1;
    } else if (statement->upsert) {
        name_upsert(operation, &operation->names[0]);
        operation->name_count = 1;
    }
    bson_destroy(&key);
}

/* The statement is selected when its namespace has been entered. */
static void enter_next_namespace(struct write_operation *operation)
{
    uint32_t number = write_statement(operation)->namespace_number;
    const struct statement_namespace *next = &operation->list.namespaces[number];
    operation->namespace_number = number;
    if (write_take_namespace(operation, next->database, next->collection)) {
        operation->step = WRITE_ENTERING;
    } else {
        write_fail_for_memory(operation);
    }
}

static void refuse_multi_replacement(struct write_operation *operation)
{
    bson_t failure = BSON_INITIALIZER;
    reply_put_error(&failure, REPLY_CODE_FailedToParse, NULL,
                    "multi update is not supported for replacement-style update");
    write_refuse_statement(operation, write_slice(&failure));
    bson_destroy(&failure);
}

/*
 * Several documents may match. Where the filter fixes _id there is one at most, and the form for
 * one locks it before it looks: another unit may have hidden it. A collation compares _ids
 * otherwise.
 */
static bool is_multi(struct write_operation *operation)
{
    const struct statement *statement = write_statement(operation);
    bson_t equalities = BSON_INITIALIZER;
    bson_t key = BSON_INITIALIZER;
    equality_collect(statement->filter, &equalities);
    bool pinned = statement->collation.size == 0 && equality_key(&equalities, &key);
    bson_destroy(&equalities);
    bson_destroy(&key);
    return statement->multi && !pinned;
}

static void select_documents(struct write_operation *operation)
{
    if (is_insert(operation)) {
        select_inserts(operation);
        return;
    }
    operation->multi = is_multi(operation);
    if (write_statement(operation)->multi && write_statement(operation)->update_is_replacement) {
        refuse_multi_replacement(operation);
    } else if (operation->multi) {
        operation->step = WRITE_COLLECTING;
    } else {
        select_one(operation);
    }
}

void write_select(struct write_operation *operation)
{
    operation->index += operation->count;
    write_statement_free(operation);
    operation->count = 0;
    if (operation->index == operation->list.count) {
        operation->step = WRITE_DONE;
        return;
    }
    if (write_statement(operation)->namespace_number != operation->namespace_number) {
        enter_next_namespace(operation);
        return;
    }
    if (write_wants_more_of_namespace(operation)) {
        operation->step = WRITE_ENTERING;
        return;
    }
    operation->count = 1;
    operation->matched_before = operation->result.matched;
    operation->modified_before = operation->result.modified;
    if (write_refuse_namespace(operation)) {
        return;
    }
    operation->step = WRITE_LOCKING;
    select_documents(operation);
    bool selected = operation->step == WRITE_LOCKING || operation->step == WRITE_COLLECTING;
    if (selected && deferred_concerns(operation)) {
        operation->after_flush = operation->step;
        operation->step = WRITE_FLUSHING;
    }
}

/* ------------------------------------------------------------------ a multi write's documents */

static uint32_t batch_count_max(const struct statement *statement)
{
    size_t each = statement->update.size + statement->filter.size + statement->array_filters.size +
                  statement->variables.size;
    size_t count = BATCH_BYTES_MAX / (each + 1);
    return count == 0 ? 1 : count > BATCH_COUNT_MAX ? BATCH_COUNT_MAX : (uint32_t)count;
}

/* An upsert of several that found none: it makes one document, as that of one would. */
static void make_one(struct write_operation *operation)
{
    names_clear(operation);
    operation->multi = false;
    operation->step = WRITE_LOCKING;
    select_one(operation);
}

/* The next batch of _ids, to be locked; none left: the next statement, or the upsert. */
static void next_batch(struct write_operation *operation)
{
    uint32_t count = 0;
    uint32_t count_max = batch_count_max(write_statement(operation));
    names_clear(operation);
    write_documents_clear(operation);
    bson_reinit(&operation->batch_ids);
    operation->resolved = operation->waited = false;
    operation->names = calloc(count_max, sizeof *operation->names);
    if (operation->names == NULL) {
        write_fail_for_memory(operation);
        return;
    }
    while (count < count_max && bson_iter_next(&operation->ids_at)) {
        bson_t key = BSON_INITIALIZER;
        bson_append_iter(&key, "_id", 3, &operation->ids_at);
        lock_name_of(operation->namespace, write_slice(&key), &operation->names[count]);
        bson_destroy(&key);
        id_list_append(&operation->batch_ids, &count, &operation->ids_at);
    }
    operation->name_count = count;
    operation->step = count == 0 ? WRITE_SELECTING : WRITE_LOCKING;
    if (count == 0 && write_statement(operation)->upsert &&
        operation->result.matched == operation->matched_before) {
        make_one(operation); /* those that were collected do not match any more */
    }
}

void write_batch_done(struct write_operation *operation)
{
    operation->step = WRITE_SELECTING;
    if (operation->multi && operation->cursor_id != 0) {
        write_documents_clear(operation);
        operation->step = WRITE_RESOLVING;
    } else if (operation->multi) {
        next_batch(operation);
    }
}

bool write_collect(struct write_operation *operation)
{
    bson_t command = BSON_INITIALIZER;
    if (operation->cursor_id != 0) {
        command_build_get_more(&command, &operation->target, operation->cursor_id);
    } else {
        bson_reinit(&operation->ids);
        operation->id_count = 0;
        write_hidden_begin(operation);
        command_build_collect(&command, &operation->target, write_statement(operation),
                              COLLECT_COUNT);
    }
    write_send(operation, &command);
    return false;
}

static bool append_ids(struct write_operation *operation, struct slice batch)
{
    bson_iter_t at;
    bool appended = true;
    if (batch.size == 0 || !bson_iter_init_from_data(&at, batch.data, batch.size)) {
        return true;
    }
    while (appended && bson_iter_next(&at)) {
        appended = id_list_append_of(&operation->ids, &operation->id_count, write_slice_at(&at));
    }
    return appended;
}

bool write_within_limits(struct write_operation *operation)
{
    if (operation->unit->write_count + operation->id_count <= operation->engine->unit_writes_max &&
        operation->unit->bytes + operation->ids.len <= operation->engine->unit_bytes_max &&
        operation->ids.len <= IDS_BYTES_MAX) {
        return true;
    }
    write_fail(operation, REPLY_CODE_TransactionTooLarge,
               "the command matches more documents than unit.maxWrites or unit.maxBytes allows");
    return false;
}

/* What the search found, and what others hid from it. */
static void take_all_collected(struct write_operation *operation)
{
    if (operation->id_count == 0 && write_statement(operation)->upsert) {
        make_one(operation);
        return;
    }
    if (operation->id_count == 0) {
        operation->unit->locks.view_used = true;
        operation->step = write_wants_probe(operation) ? WRITE_PROBING : WRITE_SELECTING;
        return;
    }
    if (id_list_drop_repeated(&operation->ids, operation->id_count) != STATUS_OK) {
        write_fail_for_memory(operation);
        return;
    }
    (void)bson_iter_init(&operation->ids_at, &operation->ids);
    next_batch(operation);
}

void write_take_collected(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.ok || !view.has_cursor) {
        write_refuse_statement(operation, reply);
        return;
    }
    if (!append_ids(operation, view.batch)) {
        write_fail(operation, REPLY_CODE_OperationNotSupportedInTransaction,
                   "documents without _id cannot be written in a unit (is it a view?)");
        return;
    }
    operation->cursor_id = view.cursor_id;
    if (!write_within_limits(operation) || operation->cursor_id != 0) {
        return; /* it has failed, or is still collecting */
    }
    switch (write_hidden_look(operation)) {
    case WRITE_HIDDEN_NONE:
        take_all_collected(operation);
        break;
    case WRITE_HIDDEN_AGAIN: /* the step is that of collecting still */
    case WRITE_HIDDEN_SOME:
    case WRITE_HIDDEN_FAILED:
        break;
    }
}

/* ------------------------------------------------------------------ resolving */

static void put_run_ids(const struct write_operation *operation, bson_t *ids)
{
    uint32_t count = 0;
    for (size_t i = 0; i < operation->document_count; i++) {
        (void)id_list_append_of(ids, &count, operation->documents[i].key);
    }
}

/* The search is not only for the _id that is locked: a collation may compare it with others. */
static bool is_general(const struct write_operation *operation)
{
    return !is_insert(operation) && !operation->multi &&
           !(operation->key_in_filter && !operation->key_is_text &&
             write_statement(operation)->collation.size == 0);
}

bool write_resolve(struct write_operation *operation)
{
    bson_t command = BSON_INITIALIZER;
    if (is_insert(operation)) {
        bson_t ids = BSON_INITIALIZER;
        put_run_ids(operation, &ids);
        command_build_find_ids(&command, &operation->target, &ids, true);
        bson_destroy(&ids);
    } else if (operation->cursor_id != 0) {
        command_build_get_more(&command, &operation->target, operation->cursor_id);
    } else if (operation->multi) {
        command_build_images(&command, &operation->target, write_statement(operation),
                             &operation->batch_ids);
    } else {
        write_documents_clear(operation);
        if (is_general(operation)) {
            write_hidden_begin(operation);
        }
        command_build_resolve(&command, &operation->target, write_statement(operation));
    }
    write_send(operation, &command);
    return false;
}

static bool next_document(bson_iter_t *at, struct slice *ret_document)
{
    if (!bson_iter_next(at) || !BSON_ITER_HOLDS_DOCUMENT(at)) {
        return false;
    }
    *ret_document = write_slice_at(at);
    return true;
}

static void mark_existing(struct write_operation *operation, struct slice id_document)
{
    struct lock_name name;
    lock_name_of(operation->namespace, id_document, &name);
    for (size_t i = 0; i < operation->document_count; i++) {
        if (compare_names(&operation->documents[i].name, &name) == 0) {
            operation->documents[i].fate = WRITE_EXISTS;
        }
    }
}

/* A document that was found. False: the operation has failed. */
static bool add_found(struct write_operation *operation, struct slice found)
{
    bson_t key = BSON_INITIALIZER;
    if (!write_key_of(found, &key)) {
        bson_destroy(&key);
        write_fail(operation, REPLY_CODE_OperationNotSupportedInTransaction,
                   "a document without _id cannot be written in a transaction (is it a view?)");
        return false;
    }
    bool added =
        write_document_add(operation, write_slice(&key),
                           (struct image){.presence = IMAGE_PRESENT, .document = found}) != NULL;
    bson_destroy(&key);
    return added;
}

/* Nothing matches: an upsert makes a document, anything else has done its work. */
static void take_none(struct write_operation *operation)
{
    if (!write_statement(operation)->upsert) {
        operation->result.updated_existing = false;
        write_result_value(&operation->result, (struct slice){0});
        operation->step = write_wants_probe(operation) ? WRITE_PROBING : WRITE_SELECTING;
        return;
    }
    if (!operation->key_in_filter && new_id_is_computed(write_statement(operation))) {
        write_fail(operation, REPLY_CODE_BadValue,
                   "an upsert whose pipeline computes _id must have that _id in its filter");
        return;
    }
    bson_t key = BSON_INITIALIZER;
    if (operation->key_in_filter) {
        (void)equality_key(&operation->equalities, &key);
    } else {
        new_id_make(write_statement(operation), &key);
    }
    (void)write_document_add(operation, write_slice(&key),
                             (struct image){.presence = IMAGE_ABSENT});
    bson_destroy(&key);
}

/*
 * A collation may find an _id that is not locked: only those of the batch count. Each of them once:
 * where their images take several replies, the writes of the first may move a document along the
 * index that the server walks, so that it comes again.
 */
static bool take_of_batch(struct write_operation *operation, struct slice found)
{
    bson_t key = BSON_INITIALIZER;
    struct lock_name name;
    bool of_batch = false;
    (void)write_key_of(found, &key);
    lock_name_of(operation->namespace, write_slice(&key), &name);
    bson_destroy(&key);
    for (size_t i = 0; i < operation->name_count && !of_batch; i++) {
        of_batch = compare_names(&operation->names[i], &name) == 0;
        if (of_batch) {
            operation->names[i] = operation->names[--operation->name_count];
            operation->name_at = operation->name_count; /* all of them are locked */
        }
    }
    return of_batch;
}

static void take_documents(struct write_operation *operation, bson_iter_t *at)
{
    struct slice found;
    while (next_document(at, &found)) {
        if (is_insert(operation)) {
            mark_existing(operation, found);
        } else if (!operation->multi || take_of_batch(operation, found)) {
            if (!add_found(operation, found)) {
                return;
            }
        }
    }
}

static void set_resolved(struct write_operation *operation)
{
    if (operation->step == WRITE_LOCKING) {
        CRASH_POINT(unit_resolved);
        operation->resolved = true;
    }
}

/* A write of one document: what the search found, or that it found nothing. */
static void take_one(struct write_operation *operation)
{
    operation->step = WRITE_LOCKING;
    if (operation->document_count == 0 || write_statement(operation)->sort.size > 0) {
        operation->unit->locks.view_used = true; /* it tells of more than the one document */
    }
    if (operation->document_count == 0) {
        take_none(operation);
    } else if (is_multi(operation)) {
        /* An upsert of several that found none before: there are some now. */
        names_clear(operation);
        write_documents_clear(operation);
        operation->multi = true;
        operation->step = WRITE_COLLECTING;
    }
    set_resolved(operation);
}

void write_hidden_done(struct write_operation *operation)
{
    if (operation->multi) {
        take_all_collected(operation);
    } else {
        take_one(operation);
    }
}

void write_lock_and_resolve(struct write_operation *operation, struct lock_name *names,
                            size_t count)
{
    names_clear(operation);
    write_documents_clear(operation);
    operation->names = names;
    operation->name_count = count;
    operation->resolved = false;
    operation->step = WRITE_LOCKING;
}

/*
 * Without a sort any document is as good as another one, so that the one that was found will do.
 */
static void seek_hidden(struct write_operation *operation)
{
    bool first = operation->document_count > 0 && write_statement(operation)->sort.size == 0;
    enum write_hidden_result result = first ? WRITE_HIDDEN_NONE : write_hidden_look(operation);
    switch (result) {
    case WRITE_HIDDEN_NONE:
        take_one(operation);
        break;
    case WRITE_HIDDEN_AGAIN:
        operation->step = WRITE_RESOLVING;
        break;
    case WRITE_HIDDEN_SOME:
    case WRITE_HIDDEN_FAILED:
        break;
    }
}

void write_take_resolved(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    bson_iter_t at;
    operation->step = WRITE_LOCKING;
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.ok || !view.has_cursor ||
        view.batch.size == 0 || !bson_iter_init_from_data(&at, view.batch.data, view.batch.size)) {
        write_refuse_statement(operation, reply);
        return;
    }
    operation->cursor_id = operation->multi ? view.cursor_id : 0;
    take_documents(operation, &at);
    if (operation->step != WRITE_LOCKING) {
        return;
    }
    if (is_general(operation)) {
        seek_hidden(operation);
        return;
    }
    if (operation->multi && operation->document_count == 0) {
        write_batch_done(operation);
        return; /* to the next batch, which is not resolved yet */
    }
    if (!is_insert(operation) && operation->document_count == 0) {
        take_none(operation);
    }
    set_resolved(operation);
}
