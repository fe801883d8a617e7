/*
 * Many documents at once (upstream.h): finding them, and changing each from one image to another.
 *
 *   expected   wanted    command, all unordered
 *   PRESENT    PRESENT   update { _id }, [ {$replaceWith: {$cond: [ $$ROOT == expected, wanted,
 *                        $$ROOT ]}} ]
 *   PRESENT    ABSENT    delete { _id: {$in: [...]}, $expr: $$ROOT in [ expected images ] }
 *   ABSENT     PRESENT   insert
 *
 * The filter of an update is `_id` alone and its guard inside the pipeline, because some servers
 * use the _id index for exactly that only. For the same reason many documents are removed by one
 * command: a server that scans then scans once.
 *
 * Threads: the struct upstream's.
 */

#include <string.h>

#include "upstream/private.h"

/* In one command. A removal compares each document with each image, so that one scan will do for
   all: servers that scan take far longer over that than over the comparisons. */
#define CHANGES_AT_ONCE 1000
#define REMOVED_AT_ONCE 500
/* Around a document in a command: names, filters, operators. */
#define CHANGE_ROOM_BYTES 256u

bool upstream_bulk_finds(struct slice key)
{
    return !key_is_ambiguous(key);
}

static size_t image_bytes(struct image image)
{
    return image.presence == IMAGE_PRESENT ? image.document.size : 0;
}

size_t upstream_bulk_bytes(const struct upstream_change *change)
{
    return change->key.size + image_bytes(change->expected) + image_bytes(change->wanted) +
           CHANGE_ROOM_BYTES;
}

bool upstream_bulk_fits(const struct upstream_change *change)
{
    return !key_is_ambiguous(change->key) && upstream_bulk_bytes(change) <= UPSTREAM_BULK_BYTES &&
           (change->wanted.presence != IMAGE_PRESENT || !image_is_unusual(change->wanted));
}

static const char *index_name(uint32_t index, char text[16])
{
    const char *name;
    bson_uint32_to_string(index, &name, text, 16);
    return name;
}

/* The value of _id under `name`. */
static void append_id(bson_t *into, const char *name, struct slice key)
{
    bson_iter_t id;
    if (bson_iter_init_from_data(&id, key.data, key.size) && bson_iter_find(&id, "_id")) {
        bson_append_iter(into, name, -1, &id);
    }
}

/* ------------------------------------------------------------------ finding */

struct finding {
    bool (*found)(struct slice document, void *context);
    void *context;
};

static enum status take_batch(const bson_t *reply, const char *path, const struct finding *finding,
                              int64_t *ret_cursor, struct error *ret_error)
{
    bson_iter_t at;
    bson_iter_t batch;
    bson_iter_t cursor;
    *ret_cursor = 0;
    if (!bson_iter_init(&at, reply) || !bson_iter_find_descendant(&at, path, &batch) ||
        !bson_iter_recurse(&batch, &at)) {
        return error_set(ret_error, STATUS_PROTOCOL, "the server's reply has no `%s`", path);
    }
    while (bson_iter_next(&at)) {
        uint32_t size = 0;
        const uint8_t *data = NULL;
        if (!BSON_ITER_HOLDS_DOCUMENT(&at)) {
            return error_set(ret_error, STATUS_PROTOCOL, "the server found what is no document");
        }
        bson_iter_document(&at, &size, &data);
        if (!finding->found(slice_make(data, size), finding->context)) {
            return error_set(ret_error, STATUS_MEMORY, "out of memory");
        }
    }
    if (bson_iter_init(&at, reply) && bson_iter_find_descendant(&at, "cursor.id", &cursor)) {
        *ret_cursor = bson_iter_as_int64(&cursor);
    }
    return STATUS_OK;
}

static enum status find_first(struct upstream *upstream, const char *database,
                              const char *collection, const struct slice *keys, size_t count,
                              bson_t *ret_reply, struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t filter;
    bson_t condition;
    bson_t array;
    BSON_APPEND_UTF8(&command, "find", collection);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &array);
    for (size_t i = 0; i < count; i++) {
        char text[16];
        append_id(&array, index_name((uint32_t)i, text), keys[i]);
    }
    bson_append_array_end(&condition, &array);
    bson_append_document_end(&filter, &condition);
    bson_append_document_end(&command, &filter);
    BSON_APPEND_INT32(&command, "batchSize", (int32_t)count + 1);
    enum status status = upstream_command(upstream, database, &command, ret_reply, NULL, ret_error);
    bson_destroy(&command);
    return status;
}

static enum status find_more(struct upstream *upstream, const char *database,
                             const char *collection, int64_t cursor, bson_t *ret_reply,
                             struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    BSON_APPEND_INT64(&command, "getMore", cursor);
    BSON_APPEND_UTF8(&command, "collection", collection);
    enum status status = upstream_command(upstream, database, &command, ret_reply, NULL, ret_error);
    bson_destroy(&command);
    return status;
}

enum status upstream_bulk_find(struct upstream *upstream, const char *namespace,
                               const struct slice *keys, size_t count,
                               bool (*found)(struct slice document, void *context), void *context,
                               struct error *ret_error)
{
    struct finding finding = {.found = found, .context = context};
    char database[DATABASE_NAME_BYTES];
    const char *collection;
    int64_t cursor = 0;
    bson_t reply;
    enum status status = namespace_split(namespace, database, &collection, ret_error);
    if (status == STATUS_OK) {
        status = find_first(upstream, database, collection, keys, count, &reply, ret_error);
    }
    if (status == STATUS_OK) {
        status = take_batch(&reply, "cursor.firstBatch", &finding, &cursor, ret_error);
        bson_destroy(&reply);
    }
    while (status == STATUS_OK && cursor != 0) {
        status = find_more(upstream, database, collection, cursor, &reply, ret_error);
        if (status == STATUS_OK) {
            status = take_batch(&reply, "cursor.nextBatch", &finding, &cursor, ret_error);
            bson_destroy(&reply);
        }
    }
    return status;
}

/* ------------------------------------------------------------------ changing */

enum form {
    FORM_REPLACE,
    FORM_INSERT,
    FORM_REMOVE,
};

static enum form form_of(const struct upstream_change *change)
{
    if (change->wanted.presence == IMAGE_ABSENT) {
        return FORM_REMOVE;
    }
    return change->expected.presence == IMAGE_ABSENT ? FORM_INSERT : FORM_REPLACE;
}

/* The document as a literal, under `name`. */
static enum status append_literal(bson_t *into, const char *name, struct image image,
                                  struct error *ret_error)
{
    bson_t literal;
    BSON_APPEND_DOCUMENT_BEGIN(into, name, &literal);
    enum status status = document_append(&literal, "$literal", image.document, ret_error);
    bson_append_document_end(into, &literal);
    return status;
}

/* { q: { _id }, u: [ {$replaceWith: {$cond: [ {$eq: ["$$ROOT", expected]}, wanted, "$$ROOT" ]}} ] }
 */
static enum status append_replacement(bson_t *entry, const struct upstream_change *change,
                                      struct error *ret_error)
{
    bson_t query;
    bson_t pipeline;
    bson_t stage;
    bson_t condition;
    bson_t branches;
    bson_t test;
    bson_t operands;
    BSON_APPEND_DOCUMENT_BEGIN(entry, "q", &query);
    append_id(&query, "_id", change->key);
    bson_append_document_end(entry, &query);
    BSON_APPEND_ARRAY_BEGIN(entry, "u", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$replaceWith", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$cond", &branches);
    BSON_APPEND_DOCUMENT_BEGIN(&branches, "0", &test);
    BSON_APPEND_ARRAY_BEGIN(&test, "$eq", &operands);
    BSON_APPEND_UTF8(&operands, "0", "$$ROOT");
    enum status status = append_literal(&operands, "1", change->expected, ret_error);
    bson_append_array_end(&test, &operands);
    bson_append_document_end(&branches, &test);
    if (status == STATUS_OK) {
        status = append_literal(&branches, "1", change->wanted, ret_error);
    }
    BSON_APPEND_UTF8(&branches, "2", "$$ROOT");
    bson_append_array_end(&condition, &branches);
    bson_append_document_end(&stage, &condition);
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(entry, &pipeline);
    return status;
}

/* { q: { _id: {$in: [...]}, $expr: {$in: ["$$ROOT", {$literal: [...]}]} }, limit: 0 } */
static enum status append_removal(bson_t *entry, const struct upstream_change *const *changes,
                                  size_t count, struct error *ret_error)
{
    bson_t query;
    bson_t condition;
    bson_t array;
    bson_t operands;
    bson_t literal;
    char text[16];
    enum status status = STATUS_OK;
    BSON_APPEND_DOCUMENT_BEGIN(entry, "q", &query);
    BSON_APPEND_DOCUMENT_BEGIN(&query, "_id", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &array);
    for (size_t i = 0; i < count; i++) {
        append_id(&array, index_name((uint32_t)i, text), changes[i]->key);
    }
    bson_append_array_end(&condition, &array);
    bson_append_document_end(&query, &condition);
    BSON_APPEND_DOCUMENT_BEGIN(&query, "$expr", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &operands);
    BSON_APPEND_UTF8(&operands, "0", "$$ROOT");
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "1", &literal);
    BSON_APPEND_ARRAY_BEGIN(&literal, "$literal", &array);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = document_append(&array, index_name((uint32_t)i, text),
                                 changes[i]->expected.document, ret_error);
    }
    bson_append_array_end(&literal, &array);
    bson_append_document_end(&operands, &literal);
    bson_append_array_end(&condition, &operands);
    bson_append_document_end(&query, &condition);
    bson_append_document_end(entry, &query);
    BSON_APPEND_INT32(entry, "limit", 0);
    return status;
}

static enum status append_entries(bson_t *command, enum form form,
                                  const struct upstream_change *const *changes, size_t count,
                                  struct error *ret_error)
{
    static const char *const arrays[] = {
        [FORM_REPLACE] = "updates", [FORM_INSERT] = "documents", [FORM_REMOVE] = "deletes"};
    bson_t array;
    bson_t entry;
    enum status status = STATUS_OK;
    BSON_APPEND_ARRAY_BEGIN(command, arrays[form], &array);
    for (size_t i = 0; i < count && status == STATUS_OK && form != FORM_REMOVE; i++) {
        char text[16];
        const char *name = index_name((uint32_t)i, text);
        if (form == FORM_INSERT) {
            status = document_append(&array, name, changes[i]->wanted.document, ret_error);
        } else {
            BSON_APPEND_DOCUMENT_BEGIN(&array, name, &entry);
            status = append_replacement(&entry, changes[i], ret_error);
            bson_append_document_end(&array, &entry);
        }
    }
    if (form == FORM_REMOVE) {
        BSON_APPEND_DOCUMENT_BEGIN(&array, "0", &entry);
        status = append_removal(&entry, changes, count, ret_error);
        bson_append_document_end(&array, &entry);
    }
    bson_append_array_end(command, &array);
    return status;
}

/* How many documents the server says that it has inserted, updated or removed. */
static size_t reply_count(const bson_t *reply)
{
    bson_iter_t at;
    int64_t count = bson_iter_init_find(&at, reply, "n") ? bson_iter_as_int64(&at) : 0;
    return count > 0 ? (size_t)count : 0;
}

/* An error of single documents is left to who looks at them, unless it may pass. */
static enum status check_refusals(const bson_t *reply, struct error *ret_error)
{
    bson_iter_t at;
    bson_iter_t list;
    if (!bson_iter_init_find(&at, reply, "writeErrors") || !bson_iter_recurse(&at, &list)) {
        return STATUS_OK;
    }
    while (bson_iter_next(&list)) {
        int32_t number = bson_iter_recurse(&list, &at) && bson_iter_find(&at, "code")
                             ? (int32_t)bson_iter_as_int64(&at)
                             : 0;
        if (!code_is_final(number)) {
            return error_set(ret_error, STATUS_REFUSED, "the server answered a write with code %d",
                             number);
        }
    }
    return STATUS_OK;
}

static enum status send_form(struct upstream *upstream, const char *namespace, enum form form,
                             const struct upstream_change *const *changes, size_t count,
                             const char *comment, size_t *ret_count, struct error *ret_error)
{
    static const char *const names[] = {
        [FORM_REPLACE] = "update", [FORM_INSERT] = "insert", [FORM_REMOVE] = "delete"};
    char database[DATABASE_NAME_BYTES];
    const char *collection;
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    int32_t code = 0;
    enum status status = namespace_split(namespace, database, &collection, ret_error);
    *ret_count = 0;
    if (status == STATUS_OK) {
        BSON_APPEND_UTF8(&command, names[form], collection);
        status = append_entries(&command, form, changes, count, ret_error);
    }
    if (status == STATUS_OK) {
        BSON_APPEND_BOOL(&command, "ordered", false);
        if (form != FORM_REMOVE) {
            BSON_APPEND_BOOL(&command, "bypassDocumentValidation", true);
        }
        BSON_APPEND_UTF8(&command, "comment", comment);
        status = command_run(upstream, database, &command, &reply, &code, ret_error);
        if (status == STATUS_OK) {
            *ret_count = reply_count(&reply);
            status = check_refusals(&reply, ret_error);
            bson_destroy(&reply);
        }
    }
    bson_destroy(&command);
    return status;
}

/* Those of one form, `at_once` in a command. */
static enum status send_all(struct upstream *upstream, const char *namespace, enum form form,
                            const struct upstream_change *changes, size_t count,
                            const char *comment, size_t *ret_count, struct error *ret_error)
{
    const struct upstream_change *chosen[CHANGES_AT_ONCE];
    size_t at_once = form == FORM_REMOVE ? REMOVED_AT_ONCE : CHANGES_AT_ONCE;
    size_t chosen_count = 0;
    size_t done = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        if (form_of(&changes[i]) == form) {
            chosen[chosen_count++] = &changes[i];
        }
        if (chosen_count == at_once || (i + 1 == count && chosen_count > 0)) {
            size_t sent = 0;
            status = send_form(upstream, namespace, form, chosen, chosen_count, comment, &sent,
                               ret_error);
            done += sent;
            chosen_count = 0;
        }
    }
    *ret_count = done;
    return status;
}

enum status upstream_bulk_change(struct upstream *upstream, const char *namespace,
                                 const struct upstream_change *changes, size_t count,
                                 const char *comment, struct error *ret_error)
{
    /* Removals first: they may free what an insert needs. */
    static const enum form order[] = {FORM_REMOVE, FORM_REPLACE, FORM_INSERT};
    enum status status = STATUS_OK;
    size_t done = 0;
    for (size_t f = 0; f < sizeof(order) / sizeof(order[0]) && status == STATUS_OK; f++) {
        status = send_all(upstream, namespace, order[f], changes, count, comment, &done, ret_error);
    }
    return status;
}

enum status upstream_bulk_insert(struct upstream *upstream, const char *namespace,
                                 const struct upstream_change *changes, size_t count,
                                 const char *comment, size_t *ret_inserted, struct error *ret_error)
{
    return send_all(upstream, namespace, FORM_INSERT, changes, count, comment, ret_inserted,
                    ret_error);
}
