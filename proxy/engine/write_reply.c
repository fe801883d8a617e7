/*
 * Replies to write commands in mongod's forms:
 *
 *   insert, delete   { n, writeErrors?, ok }
 *   update           { n, nModified, upserted?, writeErrors?, ok }
 *   findAndModify    { lastErrorObject: {n, updatedExisting?, upserted?}, value, ok }; a removal
 * has no updatedExisting writeErrors      [ { index, code, keyPattern?, keyValue?, errmsg } ]
 *   bulkWrite        write_reply_bulk.c
 */
#include "engine/write_reply.h"

#include <stdlib.h>
#include <string.h>

#include "engine/write_reply_bulk.h"
#include "wire/reply.h"

/* As mongod: errors beyond this carry no text, so that the reply stays a document. */
#define ERROR_TEXT_BYTES_MAX (1024u * 1024u)

void write_result_init(struct write_result *result)
{
    *result = (struct write_result){0};
    bson_init(&result->upserted);
    bson_init(&result->value);
    bson_init(&result->errors);
}

void write_result_free(struct write_result *result)
{
    bson_destroy(&result->upserted);
    bson_destroy(&result->value);
    bson_destroy(&result->errors);
    free(result->each);
    result->each = NULL;
}

void write_result_clear(struct write_result *result, size_t count)
{
    struct write_count *each = result->each;
    result->each = NULL;
    write_result_free(result);
    write_result_init(result);
    result->each = each;
    if (each != NULL) {
        memset(each, 0, count * sizeof *each);
    }
}

bool write_result_count_each(struct write_result *result, size_t count)
{
    result->each = calloc(count, sizeof *result->each);
    return result->each != NULL;
}

void write_result_count(struct write_result *result, size_t index, bool modified)
{
    result->matched++;
    result->modified += modified;
    if (result->each != NULL) {
        result->each[index].matched++;
        result->each[index].modified += modified;
    }
}

static bool find_id(struct slice key, bson_iter_t *ret_at)
{
    return bson_iter_init_from_data(ret_at, key.data, key.size) && bson_iter_find(ret_at, "_id");
}

void write_result_upserted(struct write_result *result, size_t index, struct slice key)
{
    char text[16];
    const char *name;
    bson_iter_t id;
    bson_t entry;
    size_t size = bson_uint32_to_string(result->upserted_count++, &name, text, sizeof text);
    bson_append_document_begin(&result->upserted, name, (int)size, &entry);
    BSON_APPEND_INT32(&entry, "index", (int32_t)index);
    if (find_id(key, &id)) {
        bson_append_iter(&entry, "_id", -1, &id);
    }
    bson_append_document_end(&result->upserted, &entry);
}

void write_result_value(struct write_result *result, struct slice document)
{
    bson_t view;
    bson_reinit(&result->value);
    result->has_value = document.size > 0 && bson_init_static(&view, document.data, document.size);
    if (result->has_value) {
        bson_concat(&result->value, &view);
    }
}

static void put_find_and_modify(bson_t *reply, const struct statement_list *list,
                                const struct write_result *result)
{
    bson_t last;
    bson_iter_t entry;
    bson_iter_t id;
    BSON_APPEND_DOCUMENT_BEGIN(reply, "lastErrorObject", &last);
    BSON_APPEND_INT32(&last, "n", (int32_t)result->matched);
    if (list->statements[0].kind == STATEMENT_UPDATE) {
        BSON_APPEND_BOOL(&last, "updatedExisting", result->updated_existing);
    }
    if (bson_iter_init_find(&entry, &result->upserted, "0") && bson_iter_recurse(&entry, &id) &&
        bson_iter_find(&id, "_id")) {
        bson_append_iter(&last, "upserted", -1, &id);
    }
    bson_append_document_end(reply, &last);
    if (result->has_value) {
        BSON_APPEND_DOCUMENT(reply, "value", &result->value);
    } else {
        BSON_APPEND_NULL(reply, "value");
    }
}

static void put_counts(bson_t *reply, const struct statement_list *list,
                       const struct write_result *result)
{
    enum statement_reply form = list->reply;
    if (form == STATEMENT_REPLY_FIND_AND_MODIFY) {
        put_find_and_modify(reply, list, result);
        return;
    }
    BSON_APPEND_INT32(reply, "n", (int32_t)result->matched);
    if (form == STATEMENT_REPLY_UPDATE) {
        if (result->upserted_count > 0) {
            BSON_APPEND_ARRAY(reply, "upserted", &result->upserted);
        }
        BSON_APPEND_INT32(reply, "nModified", (int32_t)result->modified);
    }
}

/* The document that holds code and errmsg: the first write error, or the reply itself. */
static bool find_failure(struct slice server_reply, bson_iter_t *ret_at)
{
    struct reply_view view;
    bson_iter_t first;
    if (reply_view_parse(server_reply, &view) != STATUS_OK) {
        return false;
    }
    if (view.write_errors.size > 0 &&
        bson_iter_init_from_data(&first, view.write_errors.data, view.write_errors.size) &&
        bson_iter_next(&first)) {
        return BSON_ITER_HOLDS_DOCUMENT(&first) && bson_iter_recurse(&first, ret_at);
    }
    return bson_iter_init_from_data(ret_at, server_reply.data, server_reply.size);
}

/* The engine runs updates as findAndModify: its name in the text would puzzle who sent an update.
 */
static void put_message(bson_t *entry, const char *message, enum statement_reply form)
{
    static const char prefix[] = "Plan executor error during findAndModify";
    if ((form == STATEMENT_REPLY_UPDATE || form == STATEMENT_REPLY_BULK) &&
        strncmp(message, prefix, sizeof prefix - 1) == 0) {
        char *text =
            bson_strdup_printf("Plan executor error during update%s", message + sizeof prefix - 1);
        BSON_APPEND_UTF8(entry, "errmsg", text);
        bson_free(text);
        return;
    }
    BSON_APPEND_UTF8(entry, "errmsg", message);
}

/* `failure`: at the fields of the document that holds code and errmsg, if `found`. */
static void put_failure(bson_t *entry, bool found, const bson_iter_t *failure,
                        enum statement_reply form, bool with_text)
{
    static const char *const copied[] = {"keyPattern", "keyValue", "errInfo"};
    int64_t code = REPLY_CODE_InternalError;
    const char *message = "the server gave no reason";
    bson_iter_t at = *failure;
    bson_iter_t all = *failure;
    while (found && bson_iter_next(&all)) {
        if (strcmp(bson_iter_key(&all), "code") == 0) {
            code = bson_iter_as_int64(&all);
        } else if (strcmp(bson_iter_key(&all), "errmsg") == 0 && BSON_ITER_HOLDS_UTF8(&all)) {
            message = bson_iter_utf8(&all, NULL);
        }
    }
    BSON_APPEND_INT32(entry, "code", (int32_t)code);
    if (form == STATEMENT_REPLY_FIND_AND_MODIFY) {
        char location[REPLY_CODE_NAME_BYTES];
        BSON_APPEND_UTF8(entry, "codeName", reply_code_name_or_location((int)code, location));
    }
    while (found && bson_iter_next(&at)) {
        for (size_t i = 0; i < sizeof copied / sizeof copied[0]; i++) {
            if (strcmp(bson_iter_key(&at), copied[i]) == 0) {
                bson_append_iter(entry, NULL, 0, &at);
            }
        }
    }
    put_message(entry, with_text ? message : "", form);
}

static void add_error(struct write_result *result, enum statement_reply form, size_t index,
                      bool found, const bson_iter_t *failure)
{
    if (form == STATEMENT_REPLY_FIND_AND_MODIFY) {
        bson_reinit(&result->errors);
        BSON_APPEND_DOUBLE(&result->errors, "ok", 0.0);
        put_failure(&result->errors, found, failure, form, true);
        result->error_count = 1;
        return;
    }
    char text[16];
    const char *name;
    bson_t entry;
    uint32_t before = result->errors.len;
    size_t size = bson_uint32_to_string(result->error_count++, &name, text, sizeof text);
    bson_append_document_begin(&result->errors, name, (int)size, &entry);
    BSON_APPEND_INT32(&entry, "index", (int32_t)index);
    put_failure(&entry, found, failure, form, result->error_bytes < ERROR_TEXT_BYTES_MAX);
    bson_append_document_end(&result->errors, &entry);
    result->error_bytes += result->errors.len - before;
}

void write_result_error(struct write_result *result, enum statement_reply form, size_t index,
                        struct slice server_reply)
{
    bson_iter_t failure = {0};
    bool found = find_failure(server_reply, &failure);
    add_error(result, form, index, found, &failure);
}

void write_result_write_error(struct write_result *result, enum statement_reply form, size_t index,
                              struct slice write_error)
{
    bson_iter_t failure = {0};
    bool found = bson_iter_init_from_data(&failure, write_error.data, write_error.size);
    add_error(result, form, index, found, &failure);
}

bool write_result_is_empty(const struct write_result *result)
{
    return result->matched == 0 && result->upserted_count == 0 && result->error_count == 0;
}

void write_reply_put(bson_t *reply, const struct statement_list *list,
                     const struct write_result *result)
{
    enum statement_reply form = list->reply;
    if (form == STATEMENT_REPLY_BULK) {
        write_reply_put_bulk(reply, list, result);
        return;
    }
    if (form == STATEMENT_REPLY_FIND_AND_MODIFY && result->error_count > 0) {
        bson_concat(reply, &result->errors);
        return;
    }
    put_counts(reply, list, result);
    if (result->error_count > 0) {
        BSON_APPEND_ARRAY(reply, "writeErrors", &result->errors);
    }
    reply_put_ok(reply);
}

/* As the shell writes it. */
static char *value_text(const bson_iter_t *at)
{
    char id[25];
    switch (bson_iter_type(at)) {
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        return bson_strdup_printf("%lld", (long long)bson_iter_as_int64(at));
    case BSON_TYPE_DOUBLE:
        return bson_strdup_printf("%.17g", bson_iter_double(at));
    case BSON_TYPE_UTF8:
        return bson_strdup_printf("\"%.200s\"", bson_iter_utf8(at, NULL));
    case BSON_TYPE_OID:
        bson_oid_to_string(bson_iter_oid(at), id);
        return bson_strdup_printf("ObjectId('%s')", id);
    default: {
        bson_t document = BSON_INITIALIZER;
        bson_append_iter(&document, "v", 1, at);
        char *json = bson_as_relaxed_extended_json(&document, NULL);
        bson_destroy(&document);
        char *text = bson_strdup_printf("%.200s", json == NULL ? "" : json);
        bson_free(json);
        return text;
    }
    }
}

void write_reply_put_duplicate_id(bson_t *server_reply, const char *namespace, struct slice key)
{
    bson_iter_t id;
    bson_t pattern;
    bson_t value;
    char *text = find_id(key, &id) ? value_text(&id) : bson_strdup("?");
    char *message =
        bson_strdup_printf("E11000 duplicate key error collection: %s index: _id_ dup key: "
                           "{ _id: %s }",
                           namespace, text);
    BSON_APPEND_DOUBLE(server_reply, "ok", 0.0);
    BSON_APPEND_INT32(server_reply, "code", REPLY_CODE_DuplicateKey);
    BSON_APPEND_DOCUMENT_BEGIN(server_reply, "keyPattern", &pattern);
    BSON_APPEND_INT32(&pattern, "_id", 1);
    bson_append_document_end(server_reply, &pattern);
    bson_init_static(&value, key.data, key.size);
    BSON_APPEND_DOCUMENT(server_reply, "keyValue", &value);
    BSON_APPEND_UTF8(server_reply, "errmsg", message);
    bson_free(message);
    bson_free(text);
}
