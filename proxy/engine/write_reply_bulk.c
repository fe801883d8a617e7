/* The reply of bulkWrite (write_reply_bulk.h). */
#include "engine/write_reply_bulk.h"

#include <string.h>

#include "wire/reply.h"

struct bulk {
    const struct statement_list *list;
    const struct write_result *result;
    bson_t batch;
    uint32_t batch_count;
    bson_iter_t error; /* the next one of result->errors */
    bool has_error;
    bson_iter_t upserted; /* the next one of result->upserted */
    bool has_upserted;
    int32_t inserted;
    int32_t matched;
    int32_t modified;
    int32_t upserts;
    int32_t deleted;
};

/* Whether the array's entry at `at` is of statement `index`. */
static bool is_of(const bson_iter_t *at, size_t index)
{
    bson_iter_t field;
    return bson_iter_recurse(at, &field) && bson_iter_find(&field, "index") &&
           bson_iter_as_int64(&field) == (int64_t)index;
}

static void begin(struct bulk *bulk, bson_t *entry, size_t index, bool ok)
{
    char text[16];
    const char *name;
    size_t size = bson_uint32_to_string(bulk->batch_count++, &name, text, sizeof text);
    bson_append_document_begin(&bulk->batch, name, (int)size, entry);
    BSON_APPEND_DOUBLE(entry, "ok", ok ? 1.0 : 0.0);
    BSON_APPEND_INT32(entry, "idx", (int32_t)index);
}

static void put_counts(bson_t *entry, const struct statement *statement, struct write_count count)
{
    BSON_APPEND_INT32(entry, "n", count.matched);
    if (statement->kind == STATEMENT_UPDATE) {
        BSON_APPEND_INT32(entry, "nModified", count.modified);
    }
}

static void put_error(struct bulk *bulk, size_t index)
{
    bson_t entry;
    bson_iter_t field;
    begin(bulk, &entry, index, false);
    if (bson_iter_recurse(&bulk->error, &field)) {
        while (bson_iter_next(&field)) {
            if (strcmp(bson_iter_key(&field), "index") != 0) {
                bson_append_iter(&entry, NULL, 0, &field);
            }
        }
    }
    put_counts(&entry, &bulk->list->statements[index], (struct write_count){0});
    bson_append_document_end(&bulk->batch, &entry);
}

static void put_upserted(bson_t *entry, const bson_iter_t *upserted)
{
    bson_t document;
    bson_iter_t id;
    BSON_APPEND_DOCUMENT_BEGIN(entry, "upserted", &document);
    if (bson_iter_recurse(upserted, &id) && bson_iter_find(&id, "_id")) {
        bson_append_iter(&document, NULL, 0, &id);
    }
    bson_append_document_end(entry, &document);
}

static void count(struct bulk *bulk, const struct statement *statement, struct write_count each,
                  bool upserted)
{
    switch (statement->kind) {
    case STATEMENT_INSERT:
        bulk->inserted += each.matched;
        break;
    case STATEMENT_UPDATE:
        bulk->matched += each.matched - upserted;
        bulk->modified += each.modified;
        bulk->upserts += upserted;
        break;
    case STATEMENT_DELETE:
        bulk->deleted += each.matched;
        break;
    }
}

static void put_done(struct bulk *bulk, size_t index)
{
    const struct statement *statement = &bulk->list->statements[index];
    bool upserted = bulk->has_upserted && is_of(&bulk->upserted, index);
    bson_t entry;
    count(bulk, statement, bulk->result->each[index], upserted);
    if (!bulk->list->errors_only) {
        begin(bulk, &entry, index, true);
        put_counts(&entry, statement, bulk->result->each[index]);
        if (upserted) {
            put_upserted(&entry, &bulk->upserted);
        }
        bson_append_document_end(&bulk->batch, &entry);
    }
    if (upserted) {
        bulk->has_upserted = bson_iter_next(&bulk->upserted);
    }
}

/* Errors and upserts were noted in the order of their statements. */
static void put_all(struct bulk *bulk)
{
    bulk->has_error =
        bson_iter_init(&bulk->error, &bulk->result->errors) && bson_iter_next(&bulk->error);
    bulk->has_upserted =
        bson_iter_init(&bulk->upserted, &bulk->result->upserted) && bson_iter_next(&bulk->upserted);
    for (size_t i = 0; i < bulk->list->count; i++) {
        if (!bulk->has_error || !is_of(&bulk->error, i)) {
            put_done(bulk, i);
            continue;
        }
        put_error(bulk, i);
        bulk->has_error = bson_iter_next(&bulk->error);
        if (bulk->list->ordered || bulk->result->stopped) {
            return; /* what follows was not tried */
        }
    }
}

void write_reply_put_bulk(bson_t *reply, const struct statement_list *list,
                          const struct write_result *result)
{
    struct bulk bulk = {.list = list, .result = result};
    bson_t cursor;
    BSON_APPEND_DOCUMENT_BEGIN(reply, "cursor", &cursor);
    BSON_APPEND_INT64(&cursor, "id", 0);
    BSON_APPEND_ARRAY_BEGIN(&cursor, "firstBatch", &bulk.batch);
    put_all(&bulk);
    bson_append_array_end(&cursor, &bulk.batch);
    BSON_APPEND_UTF8(&cursor, "ns", "admin.$cmd.bulkWrite");
    bson_append_document_end(reply, &cursor);
    BSON_APPEND_INT32(reply, "nErrors", (int32_t)result->error_count);
    BSON_APPEND_INT32(reply, "nInserted", bulk.inserted);
    BSON_APPEND_INT32(reply, "nMatched", bulk.matched);
    BSON_APPEND_INT32(reply, "nModified", bulk.modified);
    BSON_APPEND_INT32(reply, "nUpserted", bulk.upserts);
    BSON_APPEND_INT32(reply, "nDeleted", bulk.deleted);
    reply_put_ok(reply);
}
