/*
 * The search for a step's documents (search.h).
 *
 *     at           at + part       at + 2 parts
 *     |-----------------|-----------------|----      one bracket: _ids of one type
 *       {_id: {$gt: at, $lte: until}} and filter, the first `limit`
 *
 * Threads: that of its struct maintain.
 */
#include "migrate/search.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "holdfast/clock.h"

enum { PART_FIRST = 2000, PART_MIN = 100, PART_MAX = 100000 };
#define QUICK_MS 100
#define SLOW_MS 1000

/* By the server's order of types; one bracket a line. */
static const char *const types[] = {
    "minKey",    "null",    "number",    "string",     "symbol",
    "object",    "binData", "objectId",  "bool",       "date",
    "timestamp", "regex",   "dbPointer", "javascript", "javascriptWithScope",
    "maxKey",
};

/* Where the types behind the value's begin in `types`. */
static size_t place_behind(const bson_iter_t *value)
{
    static const struct {
        bson_type_t type;
        size_t behind;
    } places[] = {
        {BSON_TYPE_MINKEY, 1},      {BSON_TYPE_NULL, 2},       {BSON_TYPE_UNDEFINED, 2},
        {BSON_TYPE_DOUBLE, 3},      {BSON_TYPE_INT32, 3},      {BSON_TYPE_INT64, 3},
        {BSON_TYPE_DECIMAL128, 3},  {BSON_TYPE_UTF8, 5},       {BSON_TYPE_SYMBOL, 5},
        {BSON_TYPE_DOCUMENT, 6},    {BSON_TYPE_BINARY, 7},     {BSON_TYPE_OID, 8},
        {BSON_TYPE_BOOL, 9},        {BSON_TYPE_DATE_TIME, 10}, {BSON_TYPE_TIMESTAMP, 11},
        {BSON_TYPE_REGEX, 12},      {BSON_TYPE_DBPOINTER, 13}, {BSON_TYPE_CODE, 14},
        {BSON_TYPE_CODEWSCOPE, 15},
    };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (places[i].type == bson_iter_type(value)) {
            return places[i].behind;
        }
    }
    return sizeof(types) / sizeof(types[0]);
}

size_t search_types_behind(const bson_iter_t *value, const char *const **ret_types)
{
    size_t behind = place_behind(value);
    *ret_types = types + behind;
    return sizeof(types) / sizeof(types[0]) - behind;
}

static bool is_nan(const bson_iter_t *value)
{
    if (BSON_ITER_HOLDS_DOUBLE(value)) {
        return isnan(bson_iter_double(value));
    }
    bson_decimal128_t decimal;
    char text[BSON_DECIMAL128_STRING];
    if (!BSON_ITER_HOLDS_DECIMAL128(value) || !bson_iter_decimal128(value, &decimal)) {
        return false;
    }
    bson_decimal128_to_string(&decimal, text);
    return strcmp(text, "NaN") == 0;
}

/* The only value of its bracket, or of what can be compared in it. */
static bool is_single(const bson_iter_t *value)
{
    switch (bson_iter_type(value)) {
    case BSON_TYPE_MINKEY:
    case BSON_TYPE_MAXKEY:
    case BSON_TYPE_NULL:
    case BSON_TYPE_UNDEFINED:
        return true;
    default:
        return is_nan(value);
    }
}

/* ------------------------------------------------------------------ asking */

static void put_filter(bson_t *query, const bson_t *filter)
{
    bson_t all;
    if (filter != NULL && !bson_empty(filter)) {
        BSON_APPEND_ARRAY_BEGIN(query, "$and", &all);
        BSON_APPEND_DOCUMENT(&all, "0", filter);
        bson_append_array_end(query, &all);
    }
}

/* Finds _ids that match; takes `query` apart from its caller. */
static enum status find(struct search *search, bson_t *query, uint32_t skip, uint32_t limit,
                        bson_t **ret_reply, uint32_t *ret_count, struct error *ret_error)
{
    bson_t reply;
    bson_t *command = BCON_NEW(
        "find", BCON_UTF8(search->collection), "filter", BCON_DOCUMENT(query), "sort", "{", "_id",
        BCON_INT32(1), "}", "projection", "{", "_id", BCON_INT32(1), "}", "skip", BCON_INT64(skip),
        "limit", BCON_INT64(limit), "batchSize", BCON_INT64(limit), "singleBatch", BCON_BOOL(true));
    enum status status = maintain_command(search->maintain, search->database, command,
                                          MAINTAIN_IDEMPOTENT, &reply, ret_error);
    bson_destroy(command);
    bson_destroy(query);
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t count = 0;
    struct slice document;
    while (maintain_next(&reply, &count, &document)) {
    }
    bson_destroy(*ret_reply);
    *ret_reply = bson_copy(&reply);
    bson_destroy(&reply);
    *ret_count = count;
    return STATUS_OK;
}

static bool reply_id(const bson_t *reply, uint32_t index, bson_iter_t *ret_id)
{
    bson_iter_t at;
    char path[48];
    (void)snprintf(path, sizeof(path), "cursor.firstBatch.%u._id", index);
    return reply != NULL && bson_iter_init(&at, reply) &&
           bson_iter_find_descendant(&at, path, ret_id);
}

static void take_at(struct search *search, const bson_iter_t *id, bool inclusive)
{
    bson_t *at = bson_new();
    bson_append_iter(at, "v", 1, id);
    bson_destroy(search->at);
    search->at = at;
    search->inclusive = inclusive;
}

/* A query for what is behind `at` in its bracket; NULL: there can be nothing. */
static bson_t *query_behind(const struct search *search, const bson_iter_t *until)
{
    bson_iter_t at;
    bson_t *query = bson_new();
    bson_t range;
    bool found = bson_iter_init_find(&at, search->at, "v");
    if (found && is_single(&at) && search->inclusive) {
        bson_append_iter(query, "_id", 3, &at);
        return query;
    }
    if (!found || (is_single(&at) && !is_nan(&at))) {
        bson_destroy(query);
        return NULL;
    }
    BSON_APPEND_DOCUMENT_BEGIN(query, "_id", &range);
    if (is_nan(&at)) {
        BSON_APPEND_DOUBLE(&range, "$gte", -INFINITY);
    } else {
        bson_append_iter(&range, search->inclusive ? "$gte" : "$gt", -1, &at);
    }
    if (until != NULL) {
        bson_append_iter(&range, "$lte", 4, until);
    }
    bson_append_document_end(query, &range);
    return query;
}

/* The first _id of the next bracket, or of all. *ret_any false: there is none. */
static enum status next_bracket(struct search *search, bool *ret_any, struct error *ret_error)
{
    bson_iter_t id;
    uint32_t count = 0;
    bson_t *reply = NULL;
    bson_t *query = bson_new();
    if (search->at != NULL && bson_iter_init_find(&id, search->at, "v")) {
        bson_t one;
        bson_t list;
        const char *const *behind = NULL;
        size_t behind_count = search_types_behind(&id, &behind);
        if (behind_count == 0) {
            bson_destroy(query);
            *ret_any = false;
            return STATUS_OK;
        }
        BSON_APPEND_DOCUMENT_BEGIN(query, "_id", &one);
        BSON_APPEND_ARRAY_BEGIN(&one, "$type", &list);
        for (uint32_t i = 0; i < behind_count; i++) {
            char index[16];
            const char *key = NULL;
            bson_uint32_to_string(i, &key, index, sizeof(index));
            BSON_APPEND_UTF8(&list, key, behind[i]);
        }
        bson_append_array_end(&one, &list);
        bson_append_document_end(query, &one);
    }
    enum status status = find(search, query, 0, 1, &reply, &count, ret_error);
    if (status == STATUS_OK) {
        *ret_any = count > 0 && reply_id(reply, 0, &id);
        if (*ret_any) {
            take_at(search, &id, true);
        }
    }
    bson_destroy(reply);
    return status;
}

/* ------------------------------------------------------------------ the search */

void search_open(struct search *search, const bson_t *at)
{
    search->at = at == NULL ? NULL : bson_copy(at);
    search->inclusive = false;
    search->found = NULL;
    search->found_count = 0;
    search->until = NULL;
    search->part = PART_FIRST;
}

void search_close(struct search *search)
{
    bson_destroy(search->at);
    bson_destroy(search->found);
    bson_destroy(search->until);
    search->at = search->found = search->until = NULL;
}

static void adapt(struct search *search, uint64_t began_ms)
{
    uint64_t took_ms = clock_monotonic_ms() - began_ms;
    if (took_ms < QUICK_MS && search->part < PART_MAX) {
        search->part *= 2;
    } else if (took_ms > SLOW_MS && search->part > PART_MIN) {
        search->part /= 2;
    }
}

/* Looks at one part behind `at`. *ret_more: there may be further ones in its bracket. */
static enum status look(struct search *search, uint32_t limit, bool *ret_more,
                        struct error *ret_error)
{
    bson_iter_t until;
    uint32_t count = 0;
    uint64_t began_ms = clock_monotonic_ms();
    bson_t *query = search->at == NULL ? NULL : query_behind(search, NULL);
    search->found_count = 0;
    *ret_more = false;
    bson_destroy(search->until);
    search->until = NULL;
    if (query == NULL) {
        return STATUS_OK;
    }
    enum status status =
        find(search, query, search->part - 1, 1, &search->until, &count, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    *ret_more = count > 0 && reply_id(search->until, 0, &until);
    query = query_behind(search, *ret_more ? &until : NULL);
    put_filter(query, search->filter);
    status = find(search, query, 0, limit, &search->found, &search->found_count, ret_error);
    if (!*ret_more || search->found_count == limit) {
        bson_destroy(search->until);
        search->until = NULL;
    }
    adapt(search, began_ms);
    return status;
}

enum status search_next(struct search *search, uint32_t limit, uint32_t *ret_count,
                        struct error *ret_error)
{
    enum status status = STATUS_OK;
    bool any = true;
    search->found_count = 0;
    while (status == STATUS_OK && any && search->found_count == 0) {
        bool more = false;
        status = look(search, limit, &more, ret_error);
        if (status != STATUS_OK || search->found_count > 0) {
            break;
        }
        if (more) {
            search_move(search, 0);
        } else {
            status = next_bracket(search, &any, ret_error);
        }
    }
    if (status == STATUS_OK) {
        *ret_count = search->found_count;
    }
    return status;
}

bool search_id(const struct search *search, uint32_t index, bson_iter_t *ret_id)
{
    return index < search->found_count && reply_id(search->found, index, ret_id);
}

void search_move(struct search *search, uint32_t count)
{
    bson_iter_t id;
    bool all = count == search->found_count && reply_id(search->until, 0, &id);
    if (all || (count > 0 && search_id(search, count - 1, &id))) {
        take_at(search, &id, false);
    }
}
