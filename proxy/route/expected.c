/* The ring of replies that are expected; the connection's worker. */
#include "route/connection.h"

#include "engine/namespace_cache.h"

bool expected_push(struct connection *connection, struct expected expected)
{
    if (connection->expected_count == EXPECTED_MAX) {
        return false;
    }
    uint32_t at = (connection->expected_at + connection->expected_count) % EXPECTED_MAX;
    connection->expected[at] = expected;
    connection->expected_count++;
    return true;
}

struct expected *expected_first(struct connection *connection)
{
    return connection->expected_count == 0 ? NULL : &connection->expected[connection->expected_at];
}

void expected_pop(struct connection *connection)
{
    connection->expected_at = (connection->expected_at + 1) % EXPECTED_MAX;
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
