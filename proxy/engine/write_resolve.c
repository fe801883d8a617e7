/*
 * From a statement to the one document it writes: which, and how it looks now.
 *
 * The client's own connection is asked, with its own rights, so that nobody learns or changes
 * through the proxy what the server would not let them. Worker of the channel only.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/equality.h"
#include "engine/insert_document.h"
#include "engine/write_steps.h"
#include "holdfast/crash_point.h"
#include "holdfast/limits.h"
#include "wire/reply.h"

/* A run of inserts goes to the server as one command: bounded so that it fits with its replies. */
#define RUN_BYTES_MAX (8u * 1024u * 1024u)
#define RUN_COUNT_MAX 1000u

void write_statement_free(struct write_operation *operation)
{
    if (operation->documents != NULL) {
        for (size_t i = 0; i < operation->count; i++) {
            bson_destroy(operation->documents[i]);
        }
    }
    free(operation->documents);
    operation->documents = NULL;
    free(operation->names);
    operation->names = NULL;
    free(operation->before_bytes);
    operation->before_bytes = NULL;
    operation->before = (struct image){.presence = IMAGE_UNKNOWN};
    bson_reinit(&operation->key);
    bson_reinit(&operation->command);
    bson_reinit(&operation->equalities);
    operation->name_count = operation->name_at = 0;
    operation->key_in_filter = false;
    operation->resolved = operation->waited = operation->projected = false;
}

/* ------------------------------------------------------------------ selecting */

static bool select_inserts(struct write_operation *operation)
{
    const struct statement_list *list = &operation->list;
    size_t bytes = 0;
    size_t count = 0;
    while (operation->index + count < list->count && count < RUN_COUNT_MAX) {
        bytes += list->statements[operation->index + count].document.size;
        if (count > 0 && bytes > RUN_BYTES_MAX) {
            break;
        }
        count++;
    }
    operation->documents = calloc(count, sizeof *operation->documents);
    operation->names = calloc(count, sizeof *operation->names);
    if (operation->documents == NULL || operation->names == NULL) {
        return false;
    }
    operation->count = count;
    operation->name_count = count;
    for (size_t i = 0; i < count; i++) {
        bson_t key = BSON_INITIALIZER;
        operation->documents[i] =
            insert_document_make(list->statements[operation->index + i].document, &key);
        lock_name_of(operation->namespace, slice_make(bson_get_data(&key), key.len),
                     &operation->names[i]);
        bson_destroy(&key);
    }
    return true;
}

/* An upsert's lock on the values that its filter fixes: two upserts of one key meet there. */
static void name_upsert(struct write_operation *operation, struct lock_name *ret_name)
{
    char *name = bson_strdup_printf("upsert %s", operation->namespace);
    lock_name_of(name, slice_make(bson_get_data(&operation->equalities), operation->equalities.len),
                 ret_name);
    bson_free(name);
}

static bool select_one(struct write_operation *operation)
{
    const struct statement *statement = &operation->list.statements[operation->index];
    operation->count = 1;
    operation->names = calloc(1, sizeof *operation->names);
    if (operation->names == NULL) {
        return false;
    }
    equality_collect(statement->filter, &operation->equalities);
    bson_reinit(&operation->key);
    operation->key_in_filter = equality_key(&operation->equalities, &operation->key);
    if (operation->key_in_filter) {
        lock_name_of(operation->namespace,
                     slice_make(bson_get_data(&operation->key), operation->key.len),
                     &operation->names[0]);
        operation->name_count = 1;
    } else if (statement->upsert) {
        name_upsert(operation, &operation->names[0]);
        operation->name_count = 1;
    }
    return true;
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
    bool insert = operation->list.statements[operation->index].kind == STATEMENT_INSERT;
    bool selected = insert ? select_inserts(operation) : select_one(operation);
    operation->step = WRITE_LOCKING;
    if (!selected) {
        write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
    }
}

/* ------------------------------------------------------------------ resolving */

/* { find, filter: {_id: {$in: [ids of the run]}}, projection: {_id: 1} } */
static void build_find_ids(struct write_operation *operation, bson_t *command)
{
    bson_t filter;
    bson_t condition;
    bson_t ids;
    bson_t projection;
    BSON_APPEND_UTF8(command, "find", operation->target.collection);
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &ids);
    for (size_t i = 0; i < operation->count; i++) {
        char text[16];
        const char *name;
        bson_iter_t id;
        size_t size = bson_uint32_to_string((uint32_t)i, &name, text, sizeof text);
        if (bson_iter_init_find(&id, operation->documents[i], "_id")) {
            bson_append_iter(&ids, name, (int)size, &id);
        }
    }
    bson_append_array_end(&condition, &ids);
    bson_append_document_end(&filter, &condition);
    bson_append_document_end(command, &filter);
    BSON_APPEND_DOCUMENT_BEGIN(command, "projection", &projection);
    BSON_APPEND_INT32(&projection, "_id", 1);
    bson_append_document_end(command, &projection);
    BSON_APPEND_INT32(command, "batchSize", (int32_t)operation->count + 1);
    BSON_APPEND_BOOL(command, "singleBatch", true);
    BSON_APPEND_UTF8(command, "$db", operation->target.database);
}

bool write_resolve(struct write_operation *operation)
{
    const struct statement *statement = &operation->list.statements[operation->index];
    bson_t command = BSON_INITIALIZER;
    if (statement->kind == STATEMENT_INSERT) {
        build_find_ids(operation, &command);
    } else {
        command_build_resolve(&command, &operation->target, statement);
    }
    write_send(operation, &command);
    return false;
}

static bool first_document(const struct reply_view *view, struct slice *ret_document)
{
    bson_iter_t at;
    if (view->batch.size == 0 ||
        !bson_iter_init_from_data(&at, view->batch.data, view->batch.size) ||
        !bson_iter_next(&at) || !BSON_ITER_HOLDS_DOCUMENT(&at)) {
        return false;
    }
    uint32_t size;
    const uint8_t *data;
    bson_iter_document(&at, &size, &data);
    *ret_document = slice_make(data, size);
    return true;
}

/* Some _id of the run exists already: which document is the first to fail, and with what. */
static void take_existing_ids(struct write_operation *operation, struct slice existing)
{
    struct lock_name name;
    lock_name_of(operation->namespace, existing, &name);
    size_t at = 0;
    while (at + 1 < operation->count && memcmp(&operation->names[at], &name, sizeof name) != 0) {
        at++;
    }
    bson_t failure = BSON_INITIALIZER;
    write_reply_put_duplicate_id(&failure, operation->namespace, existing);
    operation->result.matched += (int64_t)at; /* those before it would have been inserted */
    write_fail_statement(operation, operation->index + at,
                         slice_make(bson_get_data(&failure), failure.len));
    bson_destroy(&failure);
}

/* The _id of a document that an upsert will make. */
static void make_key(struct write_operation *operation)
{
    const struct statement *statement = &operation->list.statements[operation->index];
    bson_iter_t at;
    bson_iter_t id;
    if (operation->key_in_filter) {
        return; /* select_one() has it */
    }
    bson_reinit(&operation->key);
    bool found = !statement->update_is_pipeline &&
                 bson_iter_init_from_data(&at, statement->update.data, statement->update.size);
    if (found && statement->update_is_replacement) {
        found = bson_iter_find(&at, "_id");
        id = at;
    } else if (found) {
        found = bson_iter_find_descendant(&at, "$setOnInsert._id", &id);
    }
    if (found) {
        bson_append_iter(&operation->key, "_id", -1, &id);
        return;
    }
    bson_oid_t generated;
    bson_oid_init(&generated, NULL);
    BSON_APPEND_OID(&operation->key, "_id", &generated);
}

static void keep_before(struct write_operation *operation, struct slice document)
{
    free(operation->before_bytes);
    operation->before_bytes = malloc(document.size);
    if (operation->before_bytes == NULL) {
        write_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        return;
    }
    memcpy(operation->before_bytes, document.data, document.size);
    operation->before = (struct image){
        .presence = IMAGE_PRESENT, .document = slice_make(operation->before_bytes, document.size)};
    bson_iter_t id;
    bson_reinit(&operation->key);
    if (!bson_iter_init_from_data(&id, document.data, document.size) ||
        !bson_iter_find(&id, "_id")) {
        write_fail(operation, REPLY_CODE_OperationNotSupportedInTransaction,
                   "a document without _id cannot be written in a transaction (is it a view?)");
        return;
    }
    bson_append_iter(&operation->key, "_id", -1, &id);
}

/* Nothing matches: an upsert makes a document, anything else has done its work. */
static void take_none(struct write_operation *operation)
{
    if (!operation->list.statements[operation->index].upsert) {
        operation->result.updated_existing = false;
        write_result_value(&operation->result, (struct slice){0});
        operation->step = WRITE_SELECTING;
        return;
    }
    free(operation->before_bytes);
    operation->before_bytes = NULL;
    operation->before = (struct image){.presence = IMAGE_ABSENT};
    make_key(operation);
}

void write_take_resolved(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    struct slice found = {0};
    operation->step = WRITE_LOCKING;
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.ok || !view.has_cursor) {
        write_fail_statement(operation, operation->index, reply);
        return;
    }
    bool some = first_document(&view, &found);
    if (operation->list.statements[operation->index].kind == STATEMENT_INSERT) {
        operation->before = (struct image){.presence = IMAGE_ABSENT};
        operation->resolved = true;
        if (some) {
            take_existing_ids(operation, found);
        }
        return;
    }
    if (some) {
        keep_before(operation, found);
    } else {
        take_none(operation);
    }
    if (operation->step != WRITE_LOCKING) {
        return;
    }
    CRASH_POINT(unit_resolved);
    if (found.size > LIMIT_UNIT_DOCUMENT_BYTES_MAX) {
        write_fail(operation, REPLY_CODE_OperationNotSupportedInTransaction,
                   "documents above 7 MiB are not supported in a transaction yet");
        return;
    }
    lock_name_of(operation->namespace,
                 slice_make(bson_get_data(&operation->key), operation->key.len),
                 &operation->target_name);
    operation->resolved = true;
}

/* ------------------------------------------------------------------ findAndModify's projection */

bool write_wants_projection(const struct write_operation *operation, bool after)
{
    const struct statement_list *list = &operation->list;
    return list->reply == STATEMENT_REPLY_FIND_AND_MODIFY && list->fields.size > 0 &&
           list->return_new == after && !operation->projected &&
           (after || operation->before.presence == IMAGE_PRESENT);
}

bool write_project(struct write_operation *operation)
{
    bson_t command = BSON_INITIALIZER;
    command_build_find_key(&command, &operation->target,
                           slice_make(bson_get_data(&operation->key), operation->key.len),
                           operation->list.fields);
    write_send(operation, &command);
    return false;
}

void write_take_projection(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    struct slice found = {0};
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.ok) {
        write_fail_statement(operation, operation->index, reply);
        return;
    }
    (void)first_document(&view, &found);
    write_result_value(&operation->result, found);
    operation->projected = true;
    operation->step =
        operation->step == WRITE_PROJECTING_BEFORE ? WRITE_JOURNALING : WRITE_SELECTING;
}
