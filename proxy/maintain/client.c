/*
 * The connection to the running proxy, and commands outside units (maintain.h).
 *
 * libmongoc's pool is used although one client is taken of it: a lone client looks at a server that
 * it could not reach only every five seconds, and a pool waits for it.
 *
 * Invariant: what is not idempotent is sent a second time only if the proxy or the server has said
 * that it was not carried out. libmongoc repeats no such command by itself.
 *
 * Threads: one struct maintain belongs to one thread.
 */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "holdfast/clock.h"
#include "maintain/private.h"
#include "upstream/upstream.h"

#define PAUSE_MS_FIRST 5
#define PAUSE_MS_MAX 500
#define TRIES_MIN 3
#define SELECTION_MS 2000 /* one look for a proxy; `stop` is asked between two */

/* ------------------------------------------------------------------ trying again */

struct patience patience_begin(struct maintain *maintain)
{
    return (struct patience){.maintain = maintain, .since_ms = clock_monotonic_ms()};
}

bool patience_again(struct patience *patience)
{
    const struct maintain *maintain = patience->maintain;
    uint64_t passed_ms = clock_monotonic_ms() - patience->since_ms;
    /* A process that was stopped for long has not tried yet. */
    bool tried = patience->tries >= TRIES_MIN && passed_ms >= maintain->patience_ms;
    if (tried || (maintain->stop != NULL && maintain->stop(maintain->context))) {
        return false;
    }
    uint64_t pause_ms = PAUSE_MS_FIRST;
    for (unsigned i = 0; i < patience->tries && pause_ms < PAUSE_MS_MAX; i++) {
        pause_ms *= 2;
    }
    pause_ms = pause_ms > PAUSE_MS_MAX ? PAUSE_MS_MAX : pause_ms;
    patience->tries++;
    /* Not all at the same moment again: the clock's last digits are chance enough for that. */
    pause_ms = pause_ms / 2 + clock_monotonic_us() % (pause_ms / 2 + 1);
    struct timespec pause = {.tv_sec = (time_t)(pause_ms / 1000),
                             .tv_nsec = (long)(pause_ms % 1000) * 1000000L};
    (void)nanosleep(&pause, NULL);
    return true;
}

/* ------------------------------------------------------------------ replies */

int64_t maintain_number(const bson_t *reply, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, reply, name) && BSON_ITER_HOLDS_NUMBER(&at)
               ? bson_iter_as_int64(&at)
               : 0;
}

bool maintain_next(const bson_t *reply, uint32_t *position, struct slice *ret_document)
{
    bson_iter_t at;
    bson_iter_t found;
    char path[48];
    (void)snprintf(path, sizeof(path), "cursor.firstBatch.%u", *position);
    if (!bson_iter_init(&at, reply) || !bson_iter_find_descendant(&at, path, &found) ||
        !BSON_ITER_HOLDS_DOCUMENT(&found)) {
        return false;
    }
    const uint8_t *data = NULL;
    uint32_t size = 0;
    bson_iter_document(&found, &size, &data);
    *ret_document = slice_make(data, size);
    (*position)++;
    return true;
}

static bool find_in(const bson_t *reply, const char *path, bson_iter_t *ret_found)
{
    bson_iter_t at;
    return bson_iter_init(&at, reply) && bson_iter_find_descendant(&at, path, ret_found);
}

static enum status write_errors_judge(struct maintain *maintain, const bson_t *reply,
                                      struct error *ret_error)
{
    bson_iter_t found;
    if (!find_in(reply, "writeErrors.0.code", &found)) {
        return STATUS_OK;
    }
    maintain->refusal.code = (int32_t)bson_iter_as_int64(&found);
    if (find_in(reply, "writeErrors.0.index", &found)) {
        maintain->refusal.statement = (int32_t)bson_iter_as_int64(&found);
    }
    const char *message = "a write error";
    if (find_in(reply, "writeErrors.0.errmsg", &found) && BSON_ITER_HOLDS_UTF8(&found)) {
        message = bson_iter_utf8(&found, NULL);
    }
    return error_set(ret_error, STATUS_REFUSED, "%s (code %d)", message, maintain->refusal.code);
}

void reply_hand_over(bson_t *reply, enum status status, bson_t *ret_reply)
{
    if (status == STATUS_OK) {
        /* Not by assignment: a bson_t may point into itself. */
        bool stolen = bson_steal(ret_reply, reply);
        assert(stolen);
        (void)stolen;
    } else {
        bson_destroy(reply);
    }
}

enum status command_judge(struct maintain *maintain, bool done, const bson_t *reply,
                          const bson_error_t *error, struct error *ret_error)
{
    maintain->refusal = (struct maintain_refusal){.statement = -1};
    maintain->transient = mongoc_error_has_label(reply, "TransientTransactionError");
    maintain->unknown = mongoc_error_has_label(reply, "UnknownTransactionCommitResult");
    if (done) {
        return write_errors_judge(maintain, reply, ret_error);
    }
    bool answered =
        error->domain == MONGOC_ERROR_SERVER || error->domain == MONGOC_ERROR_WRITE_CONCERN ||
        error->domain == MONGOC_ERROR_SASL || error->domain == MONGOC_ERROR_SCRAM ||
        error->domain == MONGOC_ERROR_COMMAND ||
        (error->domain == MONGOC_ERROR_CLIENT && error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE);
    if (!answered) {
        return error_set(ret_error, STATUS_UNREACHABLE, "the proxy does not answer: %s",
                         error->message);
    }
    maintain->refusal.code = (int32_t)error->code;
    return error_set(ret_error, STATUS_REFUSED, "%s (code %d)", error->message,
                     maintain->refusal.code);
}

struct maintain_refusal maintain_refusal(const struct maintain *maintain)
{
    return maintain->refusal;
}

/* ------------------------------------------------------------------ commands */

static bool is_one_of(int32_t code, const int32_t *codes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (codes[i] == code) {
            return true;
        }
    }
    return false;
}

/* Whether to try again after what was said last. */
static bool is_passing(const struct maintain *maintain, enum status status,
                       const bson_error_t *error, enum maintain_repeat repeat)
{
    /* It had to wait for units too long, or met one: nothing was done. */
    static const int32_t met[] = {24, 112, 246};
    /* The server is ending, or not there yet: it may have been done. */
    static const int32_t ending[] = {6, 7, 89, 91, 189, 9001, 10107, 11600, 11602, 13435, 13436};
    if (status == STATUS_UNREACHABLE) {
        return repeat == MAINTAIN_IDEMPOTENT || error->domain == MONGOC_ERROR_SERVER_SELECTION;
    }
    int32_t code = maintain->refusal.code;
    return status == STATUS_REFUSED &&
           (is_one_of(code, met, sizeof(met) / sizeof(met[0])) ||
            (repeat == MAINTAIN_IDEMPOTENT &&
             is_one_of(code, ending, sizeof(ending) / sizeof(ending[0]))));
}

enum status maintain_command(struct maintain *maintain, const char *database, const bson_t *command,
                             enum maintain_repeat repeat, bson_t *ret_reply,
                             struct error *ret_error)
{
    struct patience patience = patience_begin(maintain);
    for (;;) {
        bson_t reply;
        bson_error_t error = {0};
        bool done = mongoc_client_command_with_opts(maintain->client, database, command, NULL, NULL,
                                                    &reply, &error);
        enum status status = command_judge(maintain, done, &reply, &error, ret_error);
        reply_hand_over(&reply, status, ret_reply);
        if (!is_passing(maintain, status, &error, repeat) || !patience_again(&patience)) {
            return status;
        }
    }
}

/* ------------------------------------------------------------------ opening */

/* libmongoc follows a null pointer if it is to log in by a password that nobody gave. */
static enum status uri_check(const mongoc_uri_t *uri, struct error *ret_error)
{
    const char *mechanism = mongoc_uri_get_auth_mechanism(uri);
    bool by_password = mechanism == NULL || strncasecmp(mechanism, "SCRAM-", 6) == 0 ||
                       strcasecmp(mechanism, "PLAIN") == 0;
    if (mongoc_uri_get_username(uri) != NULL && mongoc_uri_get_password(uri) == NULL &&
        by_password) {
        return error_set(ret_error, STATUS_INVALID,
                         "the proxy's URI names a user but no password: "
                         "mongodb://user:password@host:port/database");
    }
    const char *database = mongoc_uri_get_database(uri);
    if (database != NULL && strlen(database) >= 64) {
        return error_set(ret_error, STATUS_INVALID, "the proxy's URI has too long a database name");
    }
    return STATUS_OK;
}

static void uri_adjust(mongoc_uri_t *uri)
{
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SELECTION_MS);
    if (!mongoc_uri_has_option(uri, MONGOC_URI_CONNECTTIMEOUTMS)) {
        mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, SELECTION_MS);
    }
}

/* Who answers: with transactions, or a bare standalone? */
static enum status check_transactions(struct maintain *maintain, struct error *ret_error)
{
    bson_t reply;
    bson_t *command = BCON_NEW("hello", BCON_INT32(1));
    enum status status =
        maintain_command(maintain, "admin", command, MAINTAIN_IDEMPOTENT, &reply, ret_error);
    bson_destroy(command);
    if (status != STATUS_OK) {
        return status;
    }
    bson_iter_t at;
    bool mongos = bson_iter_init_find(&at, &reply, "msg") && BSON_ITER_HOLDS_UTF8(&at) &&
                  strcmp(bson_iter_utf8(&at, NULL), "isdbgrid") == 0;
    bool able = mongos || bson_iter_init_find(&at, &reply, "setName");
    bson_destroy(&reply);
    return able ? STATUS_OK
                : error_set(ret_error, STATUS_UNSUPPORTED,
                            "this is a standalone server, or a listener of API calls, and not "
                            "holdfastd's own address: start holdfastd before the server, and name "
                            "what --listen says (services may go on meanwhile only through it)");
}

enum status maintain_open(const struct maintain_options *options, struct maintain **ret_maintain,
                          struct error *ret_error)
{
    upstream_library_init();
    struct maintain *maintain = NULL;
    bson_error_t error;
    /* Its message may repeat the URI with its password: not told. */
    mongoc_uri_t *uri = mongoc_uri_new_with_error(options->uri, &error);
    if (uri == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "the proxy's URI is not of the form mongodb://host:port/database");
    }
    enum status status = uri_check(uri, ret_error);
    if (status != STATUS_OK) {
        goto out;
    }
    uri_adjust(uri);
    maintain = calloc(1, sizeof(*maintain));
    if (maintain == NULL) {
        status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        goto out;
    }
    maintain->patience_ms = options->open_ms > 0 ? options->open_ms : options->patience_ms;
    maintain->stop = options->stop;
    maintain->context = options->context;
    const char *database = mongoc_uri_get_database(uri);
    (void)snprintf(maintain->database, sizeof(maintain->database), "%s",
                   database == NULL ? "" : database);
    maintain->pool = mongoc_client_pool_new(uri);
    if (maintain->pool == NULL) {
        status = error_set(ret_error, STATUS_INVALID,
                           "the proxy's URI asks for something that this build cannot do (a "
                           "compressor or TLS option)");
        goto out;
    }
    mongoc_client_pool_set_error_api(maintain->pool, MONGOC_ERROR_API_VERSION_2);
    mongoc_client_pool_set_appname(maintain->pool, options->application);
    maintain->client = mongoc_client_pool_pop(maintain->pool);
    status = check_transactions(maintain, ret_error);
    if (status == STATUS_OK) {
        maintain->patience_ms = options->patience_ms;
        *ret_maintain = maintain;
        maintain = NULL;
    }
out:
    maintain_close(maintain);
    mongoc_uri_destroy(uri);
    return status;
}

struct maintain *maintain_close(struct maintain *maintain)
{
    if (maintain != NULL) {
        if (maintain->client != NULL) {
            mongoc_client_pool_push(maintain->pool, maintain->client);
        }
        if (maintain->pool != NULL) {
            mongoc_client_pool_destroy(maintain->pool);
        }
        free(maintain);
    }
    return NULL;
}

const char *maintain_database(const struct maintain *maintain)
{
    return maintain->database;
}

enum status maintain_time(struct maintain *maintain, int64_t *ret_ms, struct error *ret_error)
{
    bson_t reply;
    bson_t *command = BCON_NEW("hello", BCON_INT32(1));
    enum status status =
        maintain_command(maintain, "admin", command, MAINTAIN_IDEMPOTENT, &reply, ret_error);
    bson_destroy(command);
    if (status != STATUS_OK) {
        return status;
    }
    bson_iter_t at;
    bool told = bson_iter_init_find(&at, &reply, "localTime") && BSON_ITER_HOLDS_DATE_TIME(&at);
    int64_t ms = told ? bson_iter_date_time(&at) : 0;
    bson_destroy(&reply);
    if (!told) {
        return error_set(ret_error, STATUS_REFUSED, "the server does not tell its time");
    }
    *ret_ms = ms;
    return STATUS_OK;
}
