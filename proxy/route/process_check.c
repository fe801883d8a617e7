/*
 * The first thing on a new connection to the server: which process of it this is.
 *
 *   connected --> isMaster sent --> the process we know --> the client's commands
 *                                \-> another one: the server has restarted --> the connection waits
 *                                    until what that may have lost is repaired (server_process.h);
 *                                    then it goes on, or ends if the repair was of yet another
 *
 * So no command reaches a server that may have lost something which the journal still has. isMaster
 * and not hello, because that every server knows, and without a description of the client: that is
 * the client's to send.
 *
 * Where the server is followed the same question tells whether it is the primary (follow.h).
 *
 * The connection's worker.
 */

#include "holdfast/limits.h"
#include "route/connection.h"
#include "route/follow.h"
#include "wire/op_msg.h"

void process_check_start(struct connection *connection)
{
    bson_t body = BSON_INITIALIZER;
    struct buffer out;
    int32_t request_id = connection->next_request_id++;
    BSON_APPEND_INT32(&body, "isMaster", 1);
    BSON_APPEND_UTF8(&body, "$db", "admin");
    buffer_init(&out, LIMIT_MESSAGE_BYTES_MAX);
    if (op_msg_append(&out, request_id, 0, 0, slice_make(bson_get_data(&body), body.len)) ==
            STATUS_OK &&
        expected_push(connection,
                      (struct expected){.kind = EXPECT_PROCESS, .request_id = request_id})) {
        connection->checking = true;
        connection_send_server(connection, buffer_slice(&out));
    } else {
        connection_lose_server(connection);
    }
    buffer_free(&out);
    bson_destroy(&body);
}

static void decide(struct connection *connection)
{
    if (connection->shared->options.process == NULL) {
        connection->connected = true; /* the native engine: nothing depends on it */
        return;
    }
    const uint8_t *id = connection->has_process ? connection->process : NULL;
    connection->connected = server_process_check(connection->shared->options.process, id);
    connection->held = !connection->connected;
}

void process_check_take(struct connection *connection, struct slice document)
{
    connection->checking = false;
    if (follow_is_on(connection) && !follow_accept(connection, document)) {
        return;
    }
    connection->has_process = upstream_hello_process(document, connection->process);
    decide(connection);
}

/* What it was told may be long ago, so that it proves nothing of the server as it is now: another
   process than that which was repaired is no restart, but the end of this connection. */
void process_check_again(struct connection *connection)
{
    const uint8_t *id = connection->has_process ? connection->process : NULL;
    if (!connection->held || connection->server_gone) {
        return;
    }
    if (!server_process_is(connection->shared->options.process, id)) {
        connection_end_server(connection); /* freed from the loop, after this one */
        return;
    }
    decide(connection);
    connection_continue(connection);
}
