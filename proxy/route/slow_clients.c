/*
 * Clients that stop: a new one that does not send its first message, and one that stops in the
 * middle of a message. Each would hold two connections, and perhaps the memory of a message, for as
 * long as it likes. Between messages a client may be silent for ever: a driver's pool is.
 *
 *   every SLOW_CLIENTS_MS each worker looks at its connections:
 *      waits for bytes of a message, and not for us?   --no--> its watch begins anew
 *      first message: not whole net.handshakeTimeout after the watch began         --> closed
 *      later one: less than SLOW_CLIENT_BYTES of it in net.stallTimeout            --> closed
 *
 * What is looked at is there anyway; the path of a message pays one addition.
 *
 * The connection's worker.
 */
#include "holdfast/log.h"
#include "route/connection.h"

/* Slower than a modem was. */
#define SLOW_CLIENT_BYTES 1024u

static void begin_watch(struct connection *connection, uint64_t now_ms)
{
    connection->watched_since_ms = now_ms;
    connection->watched_received = connection->received;
}

static void look(struct connection *connection, uint64_t now_ms)
{
    const struct route_shared *shared = connection->shared;
    bool first = connection->received == connection->incoming.size; /* nothing was taken yet */
    if (connection->client_gone || !requests_wait_for_client(connection)) {
        connection->watched_since_ms = 0;
        return;
    }
    if (connection->watched_since_ms == 0 ||
        (!first && connection->received - connection->watched_received >= SLOW_CLIENT_BYTES)) {
        begin_watch(connection, now_ms);
        return;
    }
    uint64_t limit_ms = first ? shared->options.handshake_ms : shared->options.stall_ms;
    if (limit_ms > 0 && now_ms - connection->watched_since_ms > limit_ms) {
        LOG(LOG_WARNING, "net",
            first ? "Connection closed: no first message in time"
                  : "Connection closed: it stopped in the middle of a message",
            LOG_TEXT("client", connection->client), LOG_NUMBER("received", connection->received));
        connection_end_client(connection); /* freed from the loop, after this one */
    }
}

void slow_clients_look(struct route_worker *worker, uint64_t now_ms)
{
    for (struct connection *at = worker->first; at != NULL; at = at->next) {
        look(at, now_ms);
    }
}
