/*
 * Connection, commands and self-description of the server (upstream.h).
 *
 * Invariants: libmongoc's own retries are off, so what is sent is sent once; the client is
 * single-threaded (no monitoring thread, no pool) and talks to one host: that of the URI, or the
 * primary or router that it finds there.
 *
 * Threads: one struct upstream belongs to one thread.
 */

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "holdfast/write_permit.h"
#include "upstream/patience.h"
#include "upstream/private.h"

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void library_init(void)
{
    mongoc_init();
    /* Its counters lie in a shared memory segment that a kill -9 would leave behind for ever. The
       mapping stays; nobody reads it by name. */
    char segment[32];
    (void)snprintf(segment, sizeof(segment), "/mongoc-%d", (int)getpid());
    (void)shm_unlink(segment);
    /* libmongoc would write to standard error, which belongs to the JSON log. */
    mongoc_log_set_handler(NULL, NULL);
}

void upstream_library_init(void)
{
    (void)pthread_once(&library_once, library_init);
}

/* answer_ms 0: as the URI says, or a minute. */
static void uri_adjust(mongoc_uri_t *uri, uint64_t connect_ms, uint64_t answer_ms)
{
    int32_t wait_ms = uri_wait_of(connect_ms);
    if (!uri_follows(uri)) {
        mongoc_uri_set_option_as_bool(uri, MONGOC_URI_DIRECTCONNECTION, true);
    }
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYWRITES, false);
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYREADS, false);
    /* Waiting for a server that is away is done here (upstream_command()). */
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_SERVERSELECTIONTRYONCE, true);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, wait_ms);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, wait_ms);
    if (answer_ms > 0) {
        mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, uri_wait_of(answer_ms));
    } else if (!mongoc_uri_has_option(uri, MONGOC_URI_SOCKETTIMEOUTMS)) {
        mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, 60000);
    }
}

/* In place of the one there was: libmongoc looks at a server that it could not reach only every
   five seconds, a new client at once. */
static bool client_make(struct upstream *upstream)
{
    mongoc_client_t *client = mongoc_client_new_from_uri(upstream->uri);
    if (client == NULL) {
        return false;
    }
    if (upstream->client != NULL) {
        mongoc_client_destroy(upstream->client);
    }
    upstream->client = client;
    mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    mongoc_client_set_appname(client, "holdfast");
    mongoc_client_set_stream_initiator(client, permitted_connect, upstream);
    return true;
}

enum status upstream_open(const char *uri_text, uint64_t connect_ms, struct upstream **ret_upstream,
                          struct error *ret_error)
{
    return upstream_open_answering(uri_text, connect_ms, 0, ret_upstream, ret_error);
}

void upstream_exempt(struct upstream *upstream)
{
    upstream->exempt = true;
}

enum status upstream_open_answering(const char *uri_text, uint64_t connect_ms, uint64_t answer_ms,
                                    struct upstream **ret_upstream, struct error *ret_error)
{
    mongoc_uri_t *uri = NULL;
    struct upstream *upstream = NULL;
    upstream_library_init();
    enum status status = uri_parse(uri_text, &uri, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    upstream = calloc(1, sizeof(*upstream));
    if (upstream == NULL) {
        status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        goto out;
    }
    upstream->connect_ms = connect_ms;
    upstream->answer_ms = answer_ms;
    if (uri_text_is_srv(uri_text)) {
        upstream->srv_text = strdup(uri_text);
    } else {
        uri_adjust(uri, connect_ms, answer_ms);
        upstream->uri = uri;
        uri = NULL;
    }
    if (upstream->srv_text == NULL && !client_make(upstream)) {
        status = error_set(ret_error, STATUS_INVALID,
                           "the upstream URI asks for something that this build cannot do "
                           "(a compressor or TLS option)");
        goto out;
    }
    bson_oid_t unique;
    char unique_text[25];
    bson_oid_init(&unique, NULL);
    bson_oid_to_string(&unique, unique_text);
    snprintf(upstream->scratch_collection, sizeof(upstream->scratch_collection), "scratch.%s",
             unique_text);
    snprintf(upstream->scratch_namespace, sizeof(upstream->scratch_namespace),
             UPSTREAM_OWN_DATABASE ".%s", upstream->scratch_collection);
    *ret_upstream = upstream;
    upstream = NULL;
out:
    mongoc_uri_destroy(uri);
    upstream_close(upstream);
    return status;
}

/* What mongodb+srv: stands for is asked when it is first needed, and once. */
static enum status client_need(struct upstream *upstream, struct error *ret_error)
{
    char *plain = NULL;
    mongoc_uri_t *uri = NULL;
    if (upstream->client != NULL) {
        return STATUS_OK;
    }
    if (upstream->srv_text == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status = srv_resolve(upstream->srv_text, &plain, ret_error);
    if (status == STATUS_OK) {
        status = uri_parse(plain, &uri, ret_error);
    }
    if (status == STATUS_OK) {
        uri_adjust(uri, upstream->connect_ms, upstream->answer_ms);
        mongoc_uri_destroy(upstream->uri);
        upstream->uri = uri;
        status = client_make(upstream) ? STATUS_OK
                                       : error_set(ret_error, STATUS_INVALID,
                                                   "the upstream URI asks for something that this "
                                                   "build cannot do (a compressor or TLS option)");
    }
    free(plain);
    return status;
}

/* libmongoc would make a new connection by itself where it finds the old one broken. */
static mongoc_stream_t *refuse_connection(const mongoc_uri_t *uri, const mongoc_host_list_t *host,
                                          void *context, bson_error_t *error)
{
    (void)uri;
    (void)host;
    (void)context;
    bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT,
                   "the connection to the server broke");
    return NULL;
}

void upstream_pin(struct upstream *upstream)
{
    upstream->pinned = true;
    if (upstream->client == NULL) {
        return; /* nothing was connected: client_make() is not called any more */
    }
    mongoc_client_set_stream_initiator(upstream->client, refuse_connection, NULL);
}

struct upstream *upstream_close(struct upstream *upstream)
{
    if (upstream != NULL) {
        if (upstream->client != NULL) {
            mongoc_client_destroy(upstream->client);
        }
        mongoc_uri_destroy(upstream->uri);
        free(upstream->srv_text);
        free(upstream);
    }
    return NULL;
}

/* ------------------------------------------------------------------ commands */

#define CODE_UNAUTHORIZED 13

static enum status error_translate(const bson_error_t *error, struct error *ret_error)
{
    switch (error->domain) {
    case MONGOC_ERROR_SERVER:
    case MONGOC_ERROR_WRITE_CONCERN:
        return error_set(ret_error, STATUS_REFUSED, "the server answered: %s (code %u)%s",
                         error->message, error->code,
                         error->code == CODE_UNAUTHORIZED
                             ? ": the upstream URI needs a user with the rights that "
                               "docs/OPERATIONS.md names"
                             : "");
    case MONGOC_ERROR_CLIENT:
        if (error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE) {
            return error_set(
                ret_error, STATUS_REFUSED,
                "the server refuses the login: %s (check user, password and authSource)",
                error->message);
        }
        return error_set(ret_error, STATUS_UNREACHABLE, "%s", error->message);
    case MONGOC_ERROR_SASL:
    case MONGOC_ERROR_SCRAM:
        return error_set(ret_error, STATUS_REFUSED, "the login failed: %s", error->message);
    case MONGOC_ERROR_PROTOCOL:
    case MONGOC_ERROR_BSON:
        return error_set(ret_error, STATUS_PROTOCOL,
                         "the upstream does not speak MongoDB's protocol: %s", error->message);
    default:
        return error_set(ret_error, STATUS_UNREACHABLE, "the upstream cannot be reached: %s",
                         error->message);
    }
}

/* An insert or update that failed says so in writeErrors, under ok: 1. */
static enum status write_errors_check(const bson_t *reply, int32_t *ret_code,
                                      struct error *ret_error)
{
    bson_iter_t at;
    bson_iter_t found;
    if (!bson_iter_init(&at, reply) ||
        !bson_iter_find_descendant(&at, "writeErrors.0.code", &found)) {
        return STATUS_OK;
    }
    *ret_code = (int32_t)bson_iter_as_int64(&found);
    const char *message = "a write error";
    if (bson_iter_init(&at, reply) &&
        bson_iter_find_descendant(&at, "writeErrors.0.errmsg", &found) &&
        BSON_ITER_HOLDS_UTF8(&found)) {
        message = bson_iter_utf8(&found, NULL);
    }
    return error_set(ret_error, STATUS_REFUSED, "the server answered: %s (code %d)", message,
                     *ret_code);
}

/* Nothing was sent, for no connection could be made: it may be tried again until connect_ms. */
static bool may_try_again(struct upstream *upstream, const bson_error_t *error, uint64_t since_ms)
{
    const struct timespec pause = {.tv_nsec = 50 * 1000000L};
    if (error->domain != MONGOC_ERROR_SERVER_SELECTION || upstream->pinned ||
        upstream_waits_are_stopped() || patience_is_over(since_ms) ||
        clock_monotonic_ms() - since_ms >= upstream->connect_ms) {
        return false;
    }
    (void)nanosleep(&pause, NULL);
    return client_make(upstream);
}

/*
 * Sends the command in the session `lsid`, which is somebody else's. libmongoc gives every command
 * a session of its own making, and the server takes one lsid only: so ours lends it the name, and
 * has its own back before it is returned to the pool, which ends its sessions when the client goes.
 */
static bool send_in_session(struct upstream *upstream, const char *database, const bson_t *command,
                            const bson_t *lsid, bson_t *reply, bson_error_t *error)
{
    bson_t options = BSON_INITIALIZER;
    bson_t own;
    mongoc_session_opt_t *wanted = mongoc_session_opts_new();
    mongoc_session_opts_set_causal_consistency(wanted, false);
    mongoc_client_session_t *session = mongoc_client_start_session(upstream->client, wanted, error);
    mongoc_session_opts_destroy(wanted);
    bool done = session != NULL && mongoc_client_session_append(session, &options, error);
    if (done) {
        union {
            const bson_t *shown;
            bson_t *name;
        } inside = {.shown = mongoc_client_session_get_lsid(session)};
        bson_copy_to(inside.name, &own);
        bson_reinit(inside.name);
        bson_concat(inside.name, lsid);
        done = mongoc_client_command_with_opts(upstream->client, database, command, NULL, &options,
                                               reply, error);
        bson_reinit(inside.name);
        bson_concat(inside.name, &own);
        bson_destroy(&own);
    } else {
        bson_init(reply);
    }
    if (session != NULL) {
        mongoc_client_session_destroy(session);
    }
    bson_destroy(&options);
    return done;
}

static bool send_command(struct upstream *upstream, const char *database, const bson_t *command,
                         const bson_t *lsid, bson_t *reply, bson_error_t *error)
{
    return lsid == NULL ? mongoc_client_command_simple(upstream->client, database, command, NULL,
                                                       reply, error)
                        : send_in_session(upstream, database, command, lsid, reply, error);
}

/* STATUS_REFUSED: *reply is the server's, if it is not empty. `lsid` NULL: a session of our own. */
static enum status run(struct upstream *upstream, const char *database, const bson_t *command,
                       const bson_t *lsid, bson_t *reply, int32_t *ret_code,
                       struct error *ret_error)
{
    bson_error_t error = {0};
    uint64_t since_ms = clock_monotonic_ms();
    bool done = false;
    *ret_code = 0;
    if (patience_is_over(since_ms)) {
        return error_set(ret_error, STATUS_UNREACHABLE,
                         "the process ends, and the server does not answer");
    }
    enum status needed = client_need(upstream, ret_error);
    if (needed != STATUS_OK) {
        return needed;
    }
    do {
        bson_destroy(reply); /* of the attempt before */
        bson_init(reply);
        if (!upstream->exempt && !write_permit_is_up()) {
            return error_set(ret_error, STATUS_UNREACHABLE,
                             "the lease on the server could not be renewed in time: nothing is "
                             "sent until it was");
        }
        bson_destroy(reply);
        done = send_command(upstream, database, command, lsid, reply, &error);
    } while (!done && may_try_again(upstream, &error, since_ms));
    if (!done && error.domain == MONGOC_ERROR_SERVER) {
        *ret_code = (int32_t)error.code;
    }
    return done ? STATUS_OK : error_translate(&error, ret_error);
}

enum status command_in_session(struct upstream *upstream, const char *database,
                               const bson_t *command, const bson_t *lsid, bson_t *ret_reply,
                               struct error *ret_error)
{
    bson_t reply = BSON_INITIALIZER;
    int32_t code = 0;
    enum status status = run(upstream, database, command, lsid, &reply, &code, ret_error);
    if (status != STATUS_OK && (code == 0 || bson_empty(&reply))) {
        bson_destroy(&reply);
        return status;
    }
    bool stolen = bson_steal(ret_reply, &reply);
    assert(stolen);
    (void)stolen;
    return STATUS_OK;
}

enum status command_run(struct upstream *upstream, const char *database, const bson_t *command,
                        bson_t *ret_reply, int32_t *ret_code, struct error *ret_error)
{
    bson_t reply = BSON_INITIALIZER;
    enum status status = run(upstream, database, command, NULL, &reply, ret_code, ret_error);
    if (status != STATUS_OK) {
        bson_destroy(&reply);
        return status;
    }
    /* Not by assignment: a bson_t may point into itself. */
    bool stolen = bson_steal(ret_reply, &reply);
    assert(stolen);
    (void)stolen;
    return STATUS_OK;
}

enum status upstream_command(struct upstream *upstream, const char *database, const bson_t *command,
                             bson_t *ret_reply, int32_t *ret_code, struct error *ret_error)
{
    int32_t code = 0;
    enum status status = command_run(upstream, database, command, ret_reply, &code, ret_error);
    if (status == STATUS_OK) {
        status = write_errors_check(ret_reply, &code, ret_error);
        if (status != STATUS_OK) {
            bson_destroy(ret_reply);
        }
    }
    if (ret_code != NULL) {
        *ret_code = code;
    }
    return status;
}

enum status upstream_command_durable(struct upstream *upstream, const char *database,
                                     const bson_t *command, bson_t *ret_reply, int32_t *ret_code,
                                     struct error *ret_error)
{
    bson_t concern;
    struct error error = {0};
    enum status status;
    if (!upstream->without_journal) {
        bson_t with_concern;
        bson_copy_to(command, &with_concern);
        BSON_APPEND_DOCUMENT_BEGIN(&with_concern, "writeConcern", &concern);
        BSON_APPEND_INT32(&concern, "w", 1);
        BSON_APPEND_BOOL(&concern, "j", true);
        bson_append_document_end(&with_concern, &concern);
        status = upstream_command(upstream, database, &with_concern, ret_reply, ret_code, &error);
        bson_destroy(&with_concern);
        if (status != STATUS_REFUSED || *ret_code != CODE_BAD_VALUE ||
            strstr(error.message, "journal") == NULL) {
            if (status != STATUS_OK && ret_error != NULL) {
                *ret_error = error;
            }
            return status;
        }
        /* A server without a journal of its own; it refused before it did anything. */
        upstream->without_journal = true;
    }
    return upstream_command(upstream, database, command, ret_reply, ret_code, ret_error);
}

bool code_is_final(int32_t code)
{
    /* Everything else is the server's or the operator's passing trouble: stepping down, shutting
       down, out of time, out of disk, interrupted, not allowed. */
    static const int32_t passing[] = {
        6,   7,   13,  18,  24,  46,  50,   89,   91,    112,   134,   175,   189,   202,   211,
        237, 246, 262, 279, 314, 317, 8000, 9001, 10107, 11600, 11601, 11602, 13435, 13436, 14031};
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
        if (passing[i] == code) {
            return false;
        }
    }
    return code != 0;
}

/* ------------------------------------------------------------------ what the server is */

static enum status hello_run(struct upstream *upstream, bson_t *ret_reply, struct error *ret_error)
{
    static const char *const names[] = {"hello", "isMaster"}; /* 4.4.1 and older know the second */
    enum status status = STATUS_REFUSED;
    int32_t code = CODE_COMMAND_NOT_FOUND;
    for (size_t i = 0; i < 2 && status == STATUS_REFUSED && code == CODE_COMMAND_NOT_FOUND; i++) {
        bson_t command = BSON_INITIALIZER;
        BSON_APPEND_INT32(&command, names[i], 1);
        status = upstream_command(upstream, "admin", &command, ret_reply, &code, ret_error);
        bson_destroy(&command);
    }
    return status;
}

bool upstream_hello_process(struct slice hello, uint8_t ret_id[UPSTREAM_PROCESS_BYTES])
{
    bson_iter_t at;
    bson_iter_t found;
    if (!bson_iter_init_from_data(&at, hello.data, hello.size) ||
        !bson_iter_find_descendant(&at, "topologyVersion.processId", &found) ||
        !BSON_ITER_HOLDS_OID(&found)) {
        return false;
    }
    memcpy(ret_id, bson_iter_oid(&found)->bytes, UPSTREAM_PROCESS_BYTES);
    return true;
}

static enum status hello_read(const bson_t *reply, struct upstream_description *ret_description,
                              struct error *ret_error)
{
    struct upstream_description description = {.topology = UPSTREAM_STANDALONE};
    bson_iter_t at;
    if (!bson_iter_init_find(&at, reply, "maxWireVersion") || !BSON_ITER_HOLDS_INT32(&at)) {
        return error_set(ret_error, STATUS_PROTOCOL,
                         "the upstream answers hello without a wire version: it is not a MongoDB "
                         "server");
    }
    description.wire_version_max = bson_iter_int32(&at);
    if (bson_iter_init_find(&at, reply, "minWireVersion") && BSON_ITER_HOLDS_INT32(&at)) {
        description.wire_version_min = bson_iter_int32(&at);
    }
    if (bson_iter_init_find(&at, reply, "isreplicaset") && bson_iter_as_bool(&at)) {
        description.topology = UPSTREAM_REPLICA_SET;
    }
    if (bson_iter_init_find(&at, reply, "setName") && BSON_ITER_HOLDS_UTF8(&at)) {
        description.topology = UPSTREAM_REPLICA_SET;
        snprintf(description.set_name, sizeof(description.set_name), "%s",
                 bson_iter_utf8(&at, NULL));
    }
    if (bson_iter_init_find(&at, reply, "msg") && BSON_ITER_HOLDS_UTF8(&at) &&
        strcmp(bson_iter_utf8(&at, NULL), "isdbgrid") == 0) {
        description.topology = UPSTREAM_SHARDED;
    }
    description.has_process_id = upstream_hello_process(
        slice_make(bson_get_data(reply), reply->len), description.process_id);
    if (bson_iter_init_find(&at, reply, "localTime") && BSON_ITER_HOLDS_DATE_TIME(&at)) {
        description.local_time_ms = bson_iter_date_time(&at);
    }
    if (bson_iter_init_find(&at, reply, "logicalSessionTimeoutMinutes") &&
        (BSON_ITER_HOLDS_INT(&at) || BSON_ITER_HOLDS_DOUBLE(&at))) {
        description.session_minutes = bson_iter_as_int64(&at);
    }
    *ret_description = description;
    return STATUS_OK;
}

enum status upstream_describe(struct upstream *upstream,
                              struct upstream_description *ret_description, struct error *ret_error)
{
    bson_t reply;
    enum status status = hello_run(upstream, &reply, ret_error);
    if (status == STATUS_OK) {
        status = hello_read(&reply, ret_description, ret_error);
        bson_destroy(&reply);
    }
    return status;
}

enum status upstream_host(const char *text, char *host, size_t capacity, struct error *ret_error)
{
    mongoc_uri_t *uri = NULL;
    upstream_library_init();
    enum status status = uri_parse(text, &uri, ret_error);
    if (status == STATUS_OK) {
        const mongoc_host_list_t *first = mongoc_uri_get_hosts(uri);
        (void)snprintf(host, capacity, "%s",
                       first == NULL ? mongoc_uri_get_srv_hostname(uri) : first->host_and_port);
        mongoc_uri_destroy(uri);
    }
    return status;
}
