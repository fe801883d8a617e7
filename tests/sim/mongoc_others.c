/*
 * What the product calls of libmongoc for servers that the simulator does not play: sessions and
 * transactions of a replica set. Its server is a standalone, so nobody comes by here.
 */
#include <mongoc/mongoc.h>
#include <stdlib.h>

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
                                     const bson_t *command, const mongoc_read_prefs_t *preferences,
                                     const bson_t *options, bson_t *reply, bson_error_t *error)
{
    (void)client;
    (void)database;
    (void)command;
    (void)preferences;
    (void)options;
    (void)reply;
    (void)error;
    abort();
}
