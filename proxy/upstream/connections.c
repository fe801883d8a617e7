/*
 * Which connections the server still has (upstream_connections() in upstream.h).
 *
 * mongod shows the client's address of every connection in $currentOp; the filtering is done there,
 * so that the answer is one small document whatever the number of connections. Other servers may
 * show nothing, which is an answer as well.
 *
 * Threads: the struct upstream's.
 */

#include <string.h>

#include "upstream/private.h"

/* { $sum: { $cond: [ { $and: [ { $in: ["$client", addresses] }, condition ] }, 1, 0 ] } } */
static void append_count(bson_t *group, const char *name, const char *const *addresses,
                         size_t address_count, const char *condition)
{
    bson_t sum;
    bson_t cond;
    bson_t branches;
    bson_t both;
    bson_t operands;
    bson_t in;
    bson_t values;
    bson_t list;
    BSON_APPEND_DOCUMENT_BEGIN(group, name, &sum);
    BSON_APPEND_DOCUMENT_BEGIN(&sum, "$sum", &cond);
    BSON_APPEND_ARRAY_BEGIN(&cond, "$cond", &branches);
    BSON_APPEND_DOCUMENT_BEGIN(&branches, "0", &both);
    BSON_APPEND_ARRAY_BEGIN(&both, "$and", &operands);
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "0", &in);
    BSON_APPEND_ARRAY_BEGIN(&in, "$in", &values);
    BSON_APPEND_UTF8(&values, "0", "$client");
    BSON_APPEND_ARRAY_BEGIN(&values, "1", &list);
    for (size_t i = 0; i < address_count; i++) {
        char buffer[16];
        const char *index;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof(buffer));
        BSON_APPEND_UTF8(&list, index, addresses[i]);
    }
    bson_append_array_end(&values, &list);
    bson_append_array_end(&in, &values);
    bson_append_document_end(&operands, &in);
    BSON_APPEND_UTF8(&operands, "1", condition);
    bson_append_array_end(&both, &operands);
    bson_append_document_end(&branches, &both);
    BSON_APPEND_INT32(&branches, "1", 1);
    BSON_APPEND_INT32(&branches, "2", 0);
    bson_append_array_end(&cond, &branches);
    bson_append_document_end(&sum, &cond);
    bson_append_document_end(group, &sum);
}

/*
 * [ { $currentOp: { allUsers: true, idleConnections: true } },
 *   { $match: { client: { $exists: true } } },
 *   { $group: { _id: null, all: ..., present: ..., active: ... } } ]
 */
static void append_pipeline(bson_t *command, const char *const *addresses, size_t address_count)
{
    bson_t pipeline;
    bson_t stage;
    bson_t body;
    bson_t inner;
    BSON_APPEND_ARRAY_BEGIN(command, "pipeline", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$currentOp", &body);
    BSON_APPEND_BOOL(&body, "allUsers", true);
    BSON_APPEND_BOOL(&body, "idleConnections", true);
    bson_append_document_end(&stage, &body);
    bson_append_document_end(&pipeline, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "1", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &body);
    BSON_APPEND_DOCUMENT_BEGIN(&body, "client", &inner);
    BSON_APPEND_BOOL(&inner, "$exists", true);
    bson_append_document_end(&body, &inner);
    bson_append_document_end(&stage, &body);
    bson_append_document_end(&pipeline, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "2", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$group", &body);
    BSON_APPEND_NULL(&body, "_id");
    BSON_APPEND_DOCUMENT_BEGIN(&body, "all", &inner);
    BSON_APPEND_INT32(&inner, "$sum", 1);
    bson_append_document_end(&body, &inner);
    append_count(&body, "present", addresses, address_count, "$client");
    append_count(&body, "active", addresses, address_count, "$active");
    bson_append_document_end(&stage, &body);
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(command, &pipeline);
}

static uint64_t reply_number(const bson_t *reply, const char *path)
{
    bson_iter_t at;
    bson_iter_t found;
    if (bson_iter_init(&at, reply) && bson_iter_find_descendant(&at, path, &found) &&
        bson_iter_as_int64(&found) > 0) {
        return (uint64_t)bson_iter_as_int64(&found);
    }
    return 0;
}

/* A server that refuses or does not know a question has simply not answered it. */
static enum status ask(struct upstream *upstream, const bson_t *command, bson_t *ret_reply,
                       bool *ret_answered, struct error *ret_error)
{
    enum status status = upstream_command(upstream, "admin", command, ret_reply, NULL, ret_error);
    *ret_answered = status == STATUS_OK;
    return status == STATUS_REFUSED ? STATUS_OK : status;
}

static size_t host_size(const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon == NULL ? strlen(address) : (size_t)(colon - address);
}

/* True if the server sees us at a host that one of the addresses has (whatsmyuri: "host:port"). */
static enum status addresses_are_ours(struct upstream *upstream, const char *const *addresses,
                                      size_t address_count, bool *ret_ours, struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    bson_iter_t at;
    bool answered = false;
    BSON_APPEND_INT32(&command, "whatsmyuri", 1);
    enum status status = ask(upstream, &command, &reply, &answered, ret_error);
    bson_destroy(&command);
    *ret_ours = false;
    if (!answered) {
        return status;
    }
    if (bson_iter_init_find(&at, &reply, "you") && BSON_ITER_HOLDS_UTF8(&at)) {
        const char *you = bson_iter_utf8(&at, NULL);
        size_t size = host_size(you);
        for (size_t i = 0; i < address_count && !*ret_ours; i++) {
            *ret_ours = host_size(addresses[i]) == size && strncmp(addresses[i], you, size) == 0;
        }
    }
    bson_destroy(&reply);
    return STATUS_OK;
}

static enum status ask_shown(struct upstream *upstream, const char *const *addresses,
                             size_t address_count, struct upstream_connections *connections,
                             struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    bson_t cursor;
    bool answered = false;
    bool ours = false;
    BSON_APPEND_INT32(&command, "aggregate", 1);
    append_pipeline(&command, addresses, address_count);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "cursor", &cursor);
    bson_append_document_end(&command, &cursor);
    enum status status = ask(upstream, &command, &reply, &answered, ret_error);
    bson_destroy(&command);
    if (!answered) {
        return status;
    }
    /* We are connected ourselves: a server that shows addresses shows at least one. */
    bool shown = reply_number(&reply, "cursor.firstBatch.0.all") > 0;
    connections->present = reply_number(&reply, "cursor.firstBatch.0.present");
    connections->active = reply_number(&reply, "cursor.firstBatch.0.active");
    bson_destroy(&reply);
    if (shown) {
        status = addresses_are_ours(upstream, addresses, address_count, &ours, ret_error);
    }
    connections->shown = shown && ours;
    return status;
}

enum status upstream_connections(struct upstream *upstream, const char *const *addresses,
                                 size_t address_count, struct upstream_connections *ret_connections,
                                 struct error *ret_error)
{
    struct upstream_connections connections = {0};
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    enum status status = ask_shown(upstream, addresses, address_count, &connections, ret_error);
    if (status == STATUS_OK) {
        BSON_APPEND_INT32(&command, "serverStatus", 1);
        status = ask(upstream, &command, &reply, &connections.counted, ret_error);
        if (connections.counted) {
            connections.count = reply_number(&reply, "connections.current");
            connections.counted = connections.count > 0;
            bson_destroy(&reply);
        }
    }
    bson_destroy(&command);
    if (status == STATUS_OK) {
        *ret_connections = connections;
    }
    return status;
}
