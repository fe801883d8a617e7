/*
 * libmongoc's client, as far as proxy/upstream uses it: one connection to the simulated server,
 * made when it is needed and again after it broke; the calling fiber waits for the reply. URIs are
 * those of the real library.
 */
#include <mongoc/mongoc.h>
#include <stdlib.h>
#include <string.h>

#include "server.h"

#define SELECTION_US 500000u
#define POLL_US 20000u

struct _mongoc_client_t {
    unsigned connection; /* 0: none */
    bool pinned;         /* makes no other one */
};

void mongoc_init(void)
{
}

mongoc_client_t *mongoc_client_new_from_uri(const mongoc_uri_t *uri)
{
    (void)uri;
    return calloc(1, sizeof(mongoc_client_t));
}

/*
 * What follows several servers, and what names another's session (the native engine), is not
 * simulated: there is one server, a standalone. Nobody comes here.
 */
mongoc_server_description_t *mongoc_client_select_server(mongoc_client_t *client, bool for_writes,
                                                         const mongoc_read_prefs_t *prefs,
                                                         bson_error_t *error)
{
    (void)client;
    (void)for_writes;
    (void)prefs;
    (void)error;
    abort();
}

mongoc_server_description_t **mongoc_client_get_server_descriptions(const mongoc_client_t *client,
                                                                    size_t *count)
{
    (void)client;
    (void)count;
    abort();
}

mongoc_client_session_t *mongoc_client_start_session(mongoc_client_t *client,
                                                     const mongoc_session_opt_t *options,
                                                     bson_error_t *error)
{
    (void)client;
    (void)options;
    (void)error;
    abort();
}

bool mongoc_client_session_append(const mongoc_client_session_t *session, bson_t *options,
                                  bson_error_t *error)
{
    (void)session;
    (void)options;
    (void)error;
    abort();
}

const bson_t *mongoc_client_session_get_lsid(const mongoc_client_session_t *session)
{
    (void)session;
    abort();
}

void mongoc_client_session_destroy(mongoc_client_session_t *session)
{
    (void)session;
    abort();
}

bool mongoc_client_command_with_opts(mongoc_client_t *client, const char *database,
                                     const bson_t *command, const mongoc_read_prefs_t *prefs,
                                     const bson_t *options, bson_t *reply, bson_error_t *error)
{
    (void)client;
    (void)database;
    (void)command;
    (void)prefs;
    (void)options;
    (void)reply;
    (void)error;
    abort();
}

mongoc_client_t *mongoc_client_new_from_uri_with_error(const mongoc_uri_t *uri, bson_error_t *error)
{
    (void)uri;
    (void)error;
    abort();
}

const mongoc_uri_t *mongoc_client_get_uri(const mongoc_client_t *client)
{
    (void)client;
    abort();
}

mongoc_client_pool_t *mongoc_client_pool_new_with_error(const mongoc_uri_t *uri,
                                                        bson_error_t *error)
{
    (void)uri;
    (void)error;
    abort();
}

mongoc_client_t *mongoc_client_pool_pop(mongoc_client_pool_t *pool)
{
    (void)pool;
    abort();
}

void mongoc_client_pool_push(mongoc_client_pool_t *pool, mongoc_client_t *client)
{
    (void)pool;
    (void)client;
    abort();
}

void mongoc_client_pool_destroy(mongoc_client_pool_t *pool)
{
    (void)pool;
    abort();
}

bool mongoc_client_pool_set_apm_callbacks(mongoc_client_pool_t *pool,
                                          mongoc_apm_callbacks_t *callbacks, void *context)
{
    (void)pool;
    (void)callbacks;
    (void)context;
    abort();
}

bool mongoc_client_pool_set_appname(mongoc_client_pool_t *pool, const char *name)
{
    (void)pool;
    (void)name;
    abort();
}

void mongoc_client_destroy(mongoc_client_t *client)
{
    if (server_own_is_open(client->connection)) {
        server_own_close(client->connection);
    }
    free(client);
}

bool mongoc_client_set_error_api(mongoc_client_t *client, int32_t version)
{
    (void)client;
    (void)version;
    return true;
}

bool mongoc_client_set_appname(mongoc_client_t *client, const char *name)
{
    (void)client;
    (void)name;
    return true;
}

/* The product's two: one that connects, with its struct upstream, and one that refuses, with
   nothing (upstream_pin()). */
void mongoc_client_set_stream_initiator(mongoc_client_t *client,
                                        mongoc_stream_initiator_t initiator, void *context)
{
    (void)initiator;
    client->pinned = context == NULL;
}

static bool connect_if_needed(mongoc_client_t *client)
{
    uint64_t until_us = sim.now_us + SELECTION_US;
    if (client->pinned) {
        return server_own_is_open(client->connection);
    }
    while (!server_own_is_open(client->connection)) {
        client->connection = server_own_connect();
        fiber_sleep(client->connection == 0 ? POLL_US : faults_latency());
        if (client->connection == 0 && sim.now_us >= until_us) {
            return false;
        }
    }
    return true;
}

static bool take_reply(const struct own_request *request, bson_t *reply, bson_error_t *error)
{
    bson_t view;
    bson_iter_t at;
    if (request->broken || request->reply.size == 0 ||
        !bson_init_static(&view, request->reply.data, request->reply.size)) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET,
                       "the connection broke");
        return false;
    }
    bson_concat(reply, &view);
    if (bson_iter_init_find(&at, &view, "ok") && bson_iter_as_bool(&at)) {
        return true;
    }
    uint32_t code = bson_iter_init_find(&at, &view, "code") ? (uint32_t)bson_iter_as_int64(&at) : 0;
    bson_set_error(error, MONGOC_ERROR_SERVER, code, "%s",
                   bson_iter_init_find(&at, &view, "errmsg") ? bson_iter_utf8(&at, NULL) : "?");
    return false;
}

bool mongoc_client_command_simple(mongoc_client_t *client, const char *database,
                                  const bson_t *command, const mongoc_read_prefs_t *read_prefs,
                                  bson_t *reply, bson_error_t *error)
{
    (void)read_prefs;
    bson_init(reply);
    if (!connect_if_needed(client)) {
        bson_set_error(error, MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_SERVER_SELECTION_FAILURE,
                       "no server");
        return false;
    }
    if (random_chance(1, 6)) {
        process_place("own command");
    }
    struct own_request *request = server_own_run(client->connection, database, command);
    bool taken = take_reply(request, reply, error);
    server_own_end(request);
    if (random_chance(1, 6)) {
        process_place("own reply");
    }
    return taken;
}
