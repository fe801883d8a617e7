#ifndef HOLDFAST_UPSTREAM_PRIVATE_H
#define HOLDFAST_UPSTREAM_PRIVATE_H

/* Shared by the files of this folder only. */

#include <mongoc/mongoc.h>

#include "upstream/upstream.h"

#define DATABASE_NAME_BYTES 64

struct upstream {
    mongoc_client_t *client; /* NULL: `srv_text` is to be resolved first */
    mongoc_uri_t *uri;
    char *srv_text; /* NULL: the URI names its hosts */
    uint64_t answer_ms;
    uint64_t connect_ms;
    bool pinned;          /* to the connection there is */
    bool without_journal; /* the server was started without one and refuses j: true */
    bool exempt;          /* needs no permit: see upstream_exempt() */
    /* The evaluations of this struct; another one for each, so that threads do not meet. */
    char scratch_collection[64];
    char scratch_namespace[96];
};

/* What libmongoc makes its connections with; `context` is the struct upstream. (permitted.c) */
mongoc_stream_t *permitted_connect(const mongoc_uri_t *uri, const mongoc_host_list_t *host,
                                   void *context, bson_error_t *error);

/* A URI that can be worked with. The caller destroys *ret_uri. STATUS_INVALID. (uri.c) */
MUST_CHECK enum status uri_parse(const char *text, mongoc_uri_t **ret_uri, struct error *ret_error);
/* Whether it names more than one server, now or as they come and go. (uri.c) */
bool uri_follows(const mongoc_uri_t *uri);
/* Whether it says that option itself. (uri.c) */
bool uri_text_has(const char *uri, const char *name);
bool uri_text_is_srv(const char *uri);
/* As libmongoc takes it: 0 would mean its default. (uri.c) */
int32_t uri_wait_of(uint64_t milliseconds);
/* The plain URI that mongodb+srv: stands for now; free() it. STATUS_INVALID, UNREACHABLE. (srv.c)
 */
/* Why libmongoc made no client or pool of `uri`. (srv.c) */
MUST_CHECK enum status srv_failed(const mongoc_uri_t *uri, const bson_error_t *error,
                                  struct error *ret_error);
/* The plain URI that mongodb+srv: stands for now; free() it. STATUS_INVALID, UNREACHABLE. (srv.c)
 */
MUST_CHECK enum status srv_resolve(const char *given, char **ret_plain, struct error *ret_error);

struct topology_target;
/* Name and addresses of a member; without addresses if its name does not resolve now. May wait for
   the name service. (topology.c) */
void topology_resolve(const mongoc_host_list_t *host, struct topology_target *target);

/* Whether the files of its TLS options can be read. (tls.c) */
MUST_CHECK enum status tls_files_check(const mongoc_uri_t *uri, struct error *ret_error);
/* `plain` with TLS over it, after its handshake; NULL if that failed, and `plain` is gone. (tls.c)
 */
mongoc_stream_t *tls_stream_over(mongoc_stream_t *plain, const mongoc_uri_t *uri, const char *host,
                                 int32_t wait_ms, bson_error_t *error);

/* Error codes of the server (src/mongo/base/error_codes.yml) that decide something here. */
#define CODE_BAD_VALUE 2
#define CODE_UNAUTHORIZED 13
#define CODE_NAMESPACE_NOT_FOUND 26
#define CODE_COMMAND_NOT_FOUND 59
#define CODE_DUPLICATE_KEY 11000

/* "database.collection" into its parts; *ret_collection points into `namespace`. */
MUST_CHECK enum status namespace_split(const char *namespace,
                                       char ret_database[DATABASE_NAME_BYTES],
                                       const char **ret_collection, struct error *ret_error);

/* Appends `_id` as a filter that can only mean equality, whatever the value is. */
MUST_CHECK enum status key_append_filter(bson_t *filter, struct slice key, struct error *ret_error);

/* Appends `document` under `name`; STATUS_INVALID if it is not a whole document. */
MUST_CHECK enum status document_append(bson_t *target, const char *name, struct slice document,
                                       struct error *ret_error);

/* A copy of the document or null at `path` of the reply; absent counts as null. */
MUST_CHECK enum status reply_image(const bson_t *reply, const char *path, struct image *ret_image,
                                   struct error *ret_error);

/* A command in the session `lsid`, which `command` must not name. What the server answers is no
   error, whatever it is. */
MUST_CHECK enum status command_in_session(struct upstream *upstream, const char *database,
                                          const bson_t *command, const bson_t *lsid,
                                          bson_t *ret_reply, struct error *ret_error);

/* upstream_command() without a look at writeErrors; *ret_code must be given. */
MUST_CHECK enum status command_run(struct upstream *upstream, const char *database,
                                   const bson_t *command, bson_t *ret_reply, int32_t *ret_code,
                                   struct error *ret_error);

/* True for an error that will come again however often the same write is sent. */
bool code_is_final(int32_t code);

/* True for images of which servers are known to change bytes when they are inserted. (swap.c) */
bool image_is_unusual(struct image image);

/* True if the server could read the key's value as anything but itself. */
bool key_is_ambiguous(struct slice key);

/* One collection's part of a swap (swap.c), also used on the scratch collection. */
MUST_CHECK enum status swap_insert(struct upstream *upstream, const char *namespace,
                                   struct image wanted, const char *comment, bool by_upsert,
                                   struct slice key, int32_t *ret_code, struct error *ret_error);

/* Empties the scratch collection, puts `before` into it if PRESENT. (evaluate.c) */
MUST_CHECK enum status scratch_begin(struct upstream *upstream, struct image before,
                                     struct error *ret_error);
/* Drops the scratch collection; what fails here is left to upstream_scratch_clear(). */
void scratch_end(struct upstream *upstream);
/* The only document of the scratch collection, or ABSENT. */
MUST_CHECK enum status scratch_find(struct upstream *upstream, struct image *ret_image,
                                    struct error *ret_error);

#endif
