/*
 * mongodb+srv: the URI that it stands for (driver specification: Initial DNS Seedlist Discovery).
 *
 * libmongoc asks the system's resolver for SRV and TXT and holds the answers against the rules:
 * hosts of the same domain, of TXT only authSource, replicaSet and loadBalanced. What it made of
 * them is written as a plain URI here, for it is resolved once by each who connects, not with each
 * attempt.
 *
 * Threads: any; waits for the name service.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "upstream/private.h"

static void append_hosts(bson_string_t *text, const mongoc_uri_t *found)
{
    const mongoc_host_list_t *first = mongoc_uri_get_hosts(found);
    for (const mongoc_host_list_t *at = first; at != NULL; at = at->next) {
        bson_string_append_printf(text, "%s%s", at == first ? "" : ",", at->host_and_port);
    }
}

/* The options as they were given, but for those that only mean SRV. */
static void append_options(bson_string_t *text, const char *query)
{
    while (*query != '\0') {
        size_t size = strcspn(query, "&;");
        if (size > 0 && strncasecmp(query, "srv", 3) != 0) {
            bson_string_append_printf(text, "%.*s&", (int)size, query);
        }
        query += size + (query[size] != '\0');
    }
}

static void append_found(bson_string_t *text, const char *given, const mongoc_uri_t *found)
{
    const char *set_name = mongoc_uri_get_replica_set(found);
    const char *source = mongoc_uri_get_auth_source(found);
    if (set_name != NULL && !uri_text_has(given, "replicaSet")) {
        bson_string_append_printf(text, "replicaSet=%s&", set_name);
    }
    if (source != NULL && mongoc_uri_get_username(found) != NULL &&
        !uri_text_has(given, "authSource")) {
        bson_string_append_printf(text, "authSource=%s&", source);
    }
    if (!uri_text_has(given, "tls") && !uri_text_has(given, "ssl")) {
        bson_string_append(text, "tls=true");
    }
}

/* mongodb+srv://[user@]host[/database][?options] */
static char *plain_text(const char *given, const mongoc_uri_t *found)
{
    const char *rest = given + strlen("mongodb+srv://");
    size_t authority = strcspn(rest, "/?");
    const char *host = rest;
    for (size_t i = 0; i < authority; i++) {
        host = rest[i] == '@' ? rest + i + 1 : host;
    }
    const char *behind = rest + authority;
    size_t path = strcspn(behind, "?");
    bson_string_t *text = bson_string_new("mongodb://");
    bson_string_append_printf(text, "%.*s", (int)(host - rest), rest);
    append_hosts(text, found);
    if (path == 0) {
        bson_string_append(text, "/?");
    } else {
        bson_string_append_printf(text, "%.*s?", (int)path, behind);
    }
    append_options(text, behind[path] == '\0' ? "" : behind + path + 1);
    append_found(text, given, found);
    return bson_string_free(text, false);
}

enum status srv_failed(const mongoc_uri_t *uri, const bson_error_t *error, struct error *ret_error)
{
    const char *name = mongoc_uri_get_srv_hostname(uri);
    return name == NULL
               ? error_set(ret_error, STATUS_UNREACHABLE, "%s", error->message)
               : error_set(ret_error, STATUS_UNREACHABLE,
                           "the upstream URI's mongodb+srv://%s cannot be resolved: %s. Check it "
                           "with a name service tool, or name the servers: mongodb://host:port,...",
                           name, error->message);
}

enum status srv_resolve(const char *given, char **ret_plain, struct error *ret_error)
{
    bson_error_t error = {0};
    mongoc_uri_t *uri = NULL;
    enum status status = uri_parse(given, &uri, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    mongoc_client_t *client = mongoc_client_new_from_uri_with_error(uri, &error);
    if (client == NULL) {
        status = srv_failed(uri, &error, ret_error);
    } else {
        *ret_plain = plain_text(given, mongoc_client_get_uri(client));
        mongoc_client_destroy(client);
    }
    mongoc_uri_destroy(uri);
    return status;
}
