/* See commands.h. */
#include "bench/load/commands.h"

#include <stdio.h>
#include <string.h>

#include "bench/load/documents.h"

void commands_find_one(bson_t *command, const char *collection)
{
    bson_t filter;
    BSON_APPEND_UTF8(command, "find", collection);
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    BSON_APPEND_INT32(&filter, "_id", 0);
    bson_append_document_end(command, &filter);
    BSON_APPEND_INT32(command, "limit", 1);
    BSON_APPEND_BOOL(command, "singleBatch", true);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

void commands_find_by_filter(bson_t *command, const char *collection)
{
    bson_t filter;
    bson_t any;
    bson_t one;
    BSON_APPEND_UTF8(command, "find", collection);
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    BSON_APPEND_ARRAY_BEGIN(&filter, "$or", &any);
    BSON_APPEND_DOCUMENT_BEGIN(&any, "0", &one);
    BSON_APPEND_INT32(&one, "_id", 0);
    bson_append_document_end(&any, &one);
    bson_append_array_end(&filter, &any);
    bson_append_document_end(command, &filter);
    BSON_APPEND_INT32(command, "limit", 1);
    BSON_APPEND_BOOL(command, "singleBatch", true);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

void commands_put_serializable(bson_t *command)
{
    bson_t comment;
    BSON_APPEND_DOCUMENT_BEGIN(command, "comment", &comment);
    BSON_APPEND_UTF8(&comment, "isolation", "serializable");
    bson_append_document_end(command, &comment);
}

void commands_find_all(bson_t *command, const char *collection, uint32_t count)
{
    bson_t filter;
    BSON_APPEND_UTF8(command, "find", collection);
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    bson_append_document_end(command, &filter);
    BSON_APPEND_INT32(command, "limit", (int32_t)count);
    BSON_APPEND_INT32(command, "batchSize", (int32_t)count);
    BSON_APPEND_BOOL(command, "singleBatch", true);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

void commands_scan(bson_t *command, const char *collection, int32_t limit)
{
    bson_t filter;
    bson_t part;
    BSON_APPEND_UTF8(command, "find", collection);
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &part);
    BSON_APPEND_INT32(&part, "$gte", 0);
    bson_append_document_end(&filter, &part);
    bson_append_document_end(command, &filter);
    BSON_APPEND_DOCUMENT_BEGIN(command, "sort", &part);
    BSON_APPEND_INT32(&part, "_id", 1);
    bson_append_document_end(command, &part);
    BSON_APPEND_INT32(command, "limit", limit);
    BSON_APPEND_BOOL(command, "singleBatch", true);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

void commands_get_more(bson_t *command, const char *collection)
{
    BSON_APPEND_INT64(command, "getMore", 0);
    BSON_APPEND_UTF8(command, "collection", collection);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

void commands_watch(bson_t *command, const char *collection, int32_t document)
{
    bson_t pipeline;
    bson_t stage;
    bson_t part;
    BSON_APPEND_UTF8(command, "aggregate", collection);
    BSON_APPEND_ARRAY_BEGIN(command, "pipeline", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$changeStream", &part);
    bson_append_document_end(&stage, &part);
    bson_append_document_end(&pipeline, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "1", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &part);
    BSON_APPEND_INT32(&part, "documentKey._id", document);
    bson_append_document_end(&stage, &part);
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(command, &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(command, "cursor", &part);
    bson_append_document_end(command, &part);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

static void put_inserts(bson_t *command, const char *collection, uint32_t first, uint32_t count,
                        bool wide_id, const char *text)
{
    bson_t array;
    BSON_APPEND_UTF8(command, "insert", collection);
    BSON_APPEND_ARRAY_BEGIN(command, "documents", &array);
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        bson_t document;
        snprintf(key, sizeof key, "%u", i);
        BSON_APPEND_DOCUMENT_BEGIN(&array, key, &document);
        if (wide_id) {
            BSON_APPEND_INT64(&document, "_id", first + i);
        } else {
            BSON_APPEND_INT32(&document, "_id", (int32_t)(first + i));
        }
        BSON_APPEND_INT64(&document, "value", 0);
        BSON_APPEND_UTF8(&document, "text", text);
        bson_append_document_end(&array, &document);
    }
    bson_append_array_end(command, &array);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

void commands_insert(bson_t *command, const char *collection, bool wide_id, const char *text)
{
    put_inserts(command, collection, 0, 1, wide_id, text);
}

void commands_insert_many(bson_t *command, const char *collection, uint32_t first, uint32_t count,
                          const char *text)
{
    put_inserts(command, collection, first, count, false, text);
}

/* One statement of an update command. */
static void put_update(bson_t *updates, const char *key, int32_t document, const char *operation,
                       int64_t value, bool upsert)
{
    bson_t update;
    bson_t part;
    bson_t fields;
    BSON_APPEND_DOCUMENT_BEGIN(updates, key, &update);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "q", &part);
    BSON_APPEND_INT32(&part, "_id", document);
    bson_append_document_end(&update, &part);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "u", &part);
    BSON_APPEND_DOCUMENT_BEGIN(&part, operation, &fields);
    if (strcmp(operation, "$inc") == 0) {
        BSON_APPEND_INT32(&fields, "value", (int32_t)value);
    } else {
        BSON_APPEND_INT64(&fields, "value", value);
    }
    bson_append_document_end(&part, &fields);
    bson_append_document_end(&update, &part);
    if (upsert) {
        BSON_APPEND_BOOL(&update, "upsert", true);
    }
    bson_append_document_end(updates, &update);
}

/* `count` updates by _id with this operator. */
static void put_updates(bson_t *command, const char *collection, uint32_t count, int32_t document,
                        const char *operation, int64_t value, bool upsert)
{
    bson_t updates;
    BSON_APPEND_UTF8(command, "update", collection);
    BSON_APPEND_ARRAY_BEGIN(command, "updates", &updates);
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        put_update(&updates, key, document, operation, value, upsert);
    }
    bson_append_array_end(command, &updates);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

void commands_increment(bson_t *command, const char *collection)
{
    put_updates(command, collection, 1, 0, "$inc", 1, false);
}

void commands_increment_many(bson_t *command, const char *collection, uint32_t count)
{
    put_updates(command, collection, count, 0, "$inc", 1, false);
}

void commands_put_unit(bson_t *command, const char *name, bool begin, bool last)
{
    bson_t comment;
    BSON_APPEND_DOCUMENT_BEGIN(command, "comment", &comment);
    BSON_APPEND_UTF8(&comment, "unit", name);
    if (begin) {
        BSON_APPEND_BOOL(&comment, "begin", true);
    }
    if (last) {
        BSON_APPEND_BOOL(&comment, "last", true);
    }
    bson_append_document_end(command, &comment);
}

void commands_set(bson_t *command, const char *collection)
{
    put_updates(command, collection, 1, 0, "$set", 0, false);
}

void commands_upsert(bson_t *command, const char *collection, int32_t document,
                     struct slice traceparent)
{
    bson_t comment;
    put_updates(command, collection, 1, document, "$inc", 1, true);
    if (traceparent.size > 0) {
        BSON_APPEND_DOCUMENT_BEGIN(command, "comment", &comment);
        bson_append_utf8(&comment, "traceparent", -1, (const char *)traceparent.data,
                         (int)traceparent.size);
        bson_append_document_end(command, &comment);
    }
}

void commands_put_transaction(bson_t *command, const uint8_t session[COMMANDS_SESSION_BYTES],
                              bool start)
{
    bson_t lsid;
    BSON_APPEND_DOCUMENT_BEGIN(command, "lsid", &lsid);
    BSON_APPEND_BINARY(&lsid, "id", BSON_SUBTYPE_UUID, session, COMMANDS_SESSION_BYTES);
    bson_append_document_end(command, &lsid);
    BSON_APPEND_INT64(command, "txnNumber", 0);
    if (start) {
        BSON_APPEND_BOOL(command, "startTransaction", true);
    }
    BSON_APPEND_BOOL(command, "autocommit", false);
}

void commands_end(bson_t *command, const char *name, const uint8_t session[COMMANDS_SESSION_BYTES])
{
    BSON_APPEND_INT32(command, name, 1);
    commands_put_transaction(command, session, false);
    BSON_APPEND_UTF8(command, "$db", "admin");
}
