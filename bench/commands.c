/* See commands.h. */
#include "bench/commands.h"

#include <string.h>

#include "bench/documents.h"

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

/* One update by _id with this operator. */
static void put_update(bson_t *command, const char *collection, int32_t document,
                       const char *operation, int64_t value, bool upsert)
{
    bson_t updates;
    bson_t update;
    bson_t part;
    bson_t fields;
    BSON_APPEND_UTF8(command, "update", collection);
    BSON_APPEND_ARRAY_BEGIN(command, "updates", &updates);
    BSON_APPEND_DOCUMENT_BEGIN(&updates, "0", &update);
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
    bson_append_document_end(&updates, &update);
    bson_append_array_end(command, &updates);
    BSON_APPEND_UTF8(command, "$db", DOCUMENTS_DATABASE);
}

void commands_increment(bson_t *command, const char *collection)
{
    put_update(command, collection, 0, "$inc", 1, false);
}

void commands_set(bson_t *command, const char *collection)
{
    put_update(command, collection, 0, "$set", 0, false);
}

void commands_upsert(bson_t *command, const char *collection, int32_t document,
                     struct slice traceparent)
{
    bson_t comment;
    put_update(command, collection, document, "$inc", 1, true);
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
