/* The ring of replies that are expected; the connection's worker. */
#include "route/connection.h"

#include <stdlib.h>

#include "engine/namespace_cache.h"

void expected_init(struct connection *connection)
{
    connection->expected = connection->expected_first;
    connection->expected_capacity = EXPECTED_FIRST;
}

void expected_free(struct connection *connection)
{
    if (connection->expected != connection->expected_first) {
        free(connection->expected);
    }
    expected_init(connection);
}

static struct expected *place(const struct connection *connection, uint32_t index)
{
    uint32_t mask = connection->expected_capacity - 1;
    return &connection->expected[(connection->expected_at + index) & mask];
}

/* Twice the room, for a client that sends without waiting. */
static bool grow(struct connection *connection)
{
    uint32_t capacity = connection->expected_capacity * 2;
    struct expected *ring = capacity > EXPECTED_MAX ? NULL : calloc(capacity, sizeof *ring);
    if (ring == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < connection->expected_count; i++) {
        ring[i] = *place(connection, i);
    }
    expected_free(connection);
    connection->expected = ring;
    connection->expected_capacity = capacity;
    connection->expected_at = 0;
    return true;
}

bool expected_reserve(struct connection *connection)
{
    return connection->expected_count < connection->expected_capacity || grow(connection);
}

bool expected_push(struct connection *connection, struct expected expected)
{
    if (!expected_reserve(connection)) {
        return false;
    }
    *place(connection, connection->expected_count) = expected;
    connection->expected_count++;
    return true;
}

const struct expected *expected_get(const struct connection *connection, uint32_t index)
{
    return place(connection, index);
}

struct expected *expected_first(struct connection *connection)
{
    return connection->expected_count == 0 ? NULL : place(connection, 0);
}

void expected_pop(struct connection *connection)
{
    connection->expected_at = (connection->expected_at + 1) & (connection->expected_capacity - 1);
    connection->expected_count--;
}

void expected_leave(struct connection *connection, const struct expected *expected)
{
    const struct engine *engine = connection->shared->options.engine;
    if (expected->changes_namespace) {
        namespace_cache_changed(engine->namespaces, expected->namespace_hash);
    }
    gate_plain_leave(engine->gates, expected->gate, worker_index(connection->owner->worker));
}
