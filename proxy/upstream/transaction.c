/*
 * Somebody's transaction, asked for with the proxy's own credential (transaction.h).
 *
 * The digest by which a server tells the owner of a session is SHA-256 of the user's name: of
 * "user@database" in older ones, of "database.user" in newer ones. A session that does not exist is
 * "no such transaction", so that of two digests the wrong one changes nothing.
 *
 * Threads: the struct upstream's.
 */
#include "upstream/transaction.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "upstream/private.h"

#define CODE_NO_SUCH_TRANSACTION 251
#define USER_NAME_BYTES 1024
#define TRIES_MAX 20u

static void append_concern(bson_t *command)
{
    bson_t concern;
    BSON_APPEND_DOCUMENT_BEGIN(command, "writeConcern", &concern);
    BSON_APPEND_UTF8(&concern, "w", "majority");
    BSON_APPEND_INT32(&concern, "wtimeout", UPSTREAM_COMMIT_WAIT_MS);
    bson_append_document_end(command, &concern);
}

/* The client's lsid, and whose it is: `owner` NULL: nobody's. */
static enum status make_session(bson_t *session, struct slice lsid, const char *owner,
                                struct error *ret_error)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    bson_t whole;
    bson_iter_t at;
    if (!bson_init_static(&whole, lsid.data, lsid.size) || !bson_iter_init(&at, &whole)) {
        return error_set(ret_error, STATUS_INVALID, "an lsid is no document");
    }
    while (bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), "id") == 0) { /* whose it is the client does not say */
            bson_append_iter(session, NULL, 0, &at);
        }
    }
    if (owner != NULL) {
        (void)SHA256((const unsigned char *)owner, strlen(owner), digest);
        BSON_APPEND_BINARY(session, "uid", BSON_SUBTYPE_BINARY, digest, sizeof digest);
    }
    return STATUS_OK;
}

static enum status put_fields(bson_t *command, struct slice fields, struct error *ret_error)
{
    bson_t view;
    if (!bson_init_static(&view, fields.data, fields.size)) {
        return error_set(ret_error, STATUS_INVALID, "the API parameters are no document");
    }
    bson_concat(command, &view);
    return STATUS_OK;
}

static enum status ask(struct upstream *upstream, const char *name,
                       const struct upstream_transaction *transaction, const char *owner,
                       bson_t *ret_reply, struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t session = BSON_INITIALIZER;
    BSON_APPEND_INT32(&command, name, 1);
    enum status status = make_session(&session, transaction->lsid, owner, ret_error);
    if (status == STATUS_OK) {
        BSON_APPEND_INT64(&command, "txnNumber", transaction->number);
        BSON_APPEND_BOOL(&command, "autocommit", false);
        if (strcmp(name, "commitTransaction") == 0) {
            append_concern(&command);
        }
    }
    if (status == STATUS_OK && transaction->api.size > 0) {
        status = put_fields(&command, transaction->api, ret_error);
    }
    if (status == STATUS_OK && transaction->recovery_token.size > 0) {
        status = document_append(&command, "recoveryToken", transaction->recovery_token, ret_error);
    }
    if (status == STATUS_OK) {
        status = command_in_session(upstream, "admin", &command, &session, ret_reply, ret_error);
    }
    bson_destroy(&session);
    bson_destroy(&command);
    return status;
}

static bool is_not_there(const bson_t *reply)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, reply, "code") &&
           bson_iter_as_int64(&at) == CODE_NO_SUCH_TRANSACTION;
}

/* Of the session of its owner, by whichever digest the server knows it. */
static enum status ask_as_owner(struct upstream *upstream, const char *name,
                                const struct upstream_transaction *transaction, bson_t *ret_reply,
                                struct error *ret_error)
{
    char older[USER_NAME_BYTES];
    const char *point = strchr(transaction->user, '.'); /* no database's name has one */
    if (point == NULL) {
        return ask(upstream, name, transaction, NULL, ret_reply, ret_error);
    }
    bson_t reply;
    enum status status = ask(upstream, name, transaction, transaction->user, &reply, ret_error);
    if (status == STATUS_OK && is_not_there(&reply)) {
        (void)snprintf(older, sizeof older, "%s@%.*s", point + 1, (int)(point - transaction->user),
                       transaction->user);
        bson_destroy(&reply);
        status = ask(upstream, name, transaction, older, &reply, ret_error);
    }
    if (status == STATUS_OK && is_not_there(&reply)) { /* without logins a session is nobody's */
        bson_destroy(&reply);
        status = ask(upstream, name, transaction, NULL, &reply, ret_error);
    }
    if (status == STATUS_OK) {
        bool stolen = bson_steal(ret_reply, &reply);
        (void)stolen; /* it was initialised by a reply */
    }
    return status;
}

enum status upstream_commit_again(struct upstream *upstream,
                                  const struct upstream_transaction *transaction, bson_t *ret_reply,
                                  struct error *ret_error)
{
    return ask_as_owner(upstream, "commitTransaction", transaction, ret_reply, ret_error);
}

enum status upstream_abort(struct upstream *upstream,
                           const struct upstream_transaction *transaction, int32_t *ret_code,
                           struct error *ret_error)
{
    bson_t reply;
    bson_iter_t at;
    enum status status = ask_as_owner(upstream, "abortTransaction", transaction, &reply, ret_error);
    if (status == STATUS_OK) {
        bool refused = !is_not_there(&reply) && bson_iter_init_find(&at, &reply, "code");
        *ret_code = refused ? (int32_t)bson_iter_as_int64(&at) : 0;
        bson_destroy(&reply);
    }
    return status;
}

/* ------------------------------------------------------------------ what the server remembers */

static void put_transaction(bson_t *command, int64_t number, bool begins)
{
    BSON_APPEND_INT64(command, "txnNumber", number);
    BSON_APPEND_BOOL(command, "autocommit", false);
    if (begins) {
        BSON_APPEND_BOOL(command, "startTransaction", true);
    }
}

static enum status run_in(struct upstream *upstream, const char *database, const bson_t *command,
                          const bson_t *lsid, struct error *ret_error)
{
    bson_t reply;
    bson_iter_t at;
    enum status status = command_in_session(upstream, database, command, lsid, &reply, ret_error);
    if (status == STATUS_OK) {
        bool ok = bson_iter_init_find(&at, &reply, "ok") && bson_iter_as_bool(&at);
        bool failed = !ok || bson_iter_init_find(&at, &reply, "writeErrors");
        const char *message =
            bson_iter_init_find(&at, &reply, "errmsg") && BSON_ITER_HOLDS_UTF8(&at)
                ? bson_iter_utf8(&at, NULL)
                : "it gives no reason";
        if (failed) {
            status = error_set(ret_error, STATUS_REFUSED,
                               "the server does not make a transaction: %s", message);
        }
        bson_destroy(&reply);
    }
    return status;
}

/* One that writes: mongod keeps none that only read. */
static enum status make_transaction(struct upstream *upstream, const bson_t *lsid, int64_t number,
                                    struct error *ret_error)
{
    bson_t update = BSON_INITIALIZER;
    bson_t commit = BSON_INITIALIZER;
    bson_t updates;
    bson_t entry;
    bson_t query;
    bson_t change;
    bson_t set;
    BSON_APPEND_UTF8(&update, "update", "state");
    BSON_APPEND_ARRAY_BEGIN(&update, "updates", &updates);
    BSON_APPEND_DOCUMENT_BEGIN(&updates, "0", &entry);
    BSON_APPEND_DOCUMENT_BEGIN(&entry, "q", &query);
    BSON_APPEND_UTF8(&query, "_id", "native");
    bson_append_document_end(&entry, &query);
    BSON_APPEND_DOCUMENT_BEGIN(&entry, "u", &change);
    BSON_APPEND_DOCUMENT_BEGIN(&change, "$currentDate", &set);
    BSON_APPEND_BOOL(&set, "startedAt", true);
    bson_append_document_end(&change, &set);
    bson_append_document_end(&entry, &change);
    BSON_APPEND_BOOL(&entry, "upsert", true);
    bson_append_document_end(&updates, &entry);
    bson_append_array_end(&update, &updates);
    put_transaction(&update, number, true);
    enum status status = run_in(upstream, UPSTREAM_OWN_DATABASE, &update, lsid, ret_error);
    if (status == STATUS_OK) {
        BSON_APPEND_INT32(&commit, "commitTransaction", 1);
        put_transaction(&commit, number, false);
        append_concern(&commit);
        status = run_in(upstream, "admin", &commit, lsid, ret_error);
    }
    bson_destroy(&update);
    bson_destroy(&commit);
    return status;
}

static enum status look_for(struct upstream *upstream, const bson_t *lsid, bool *ret_found,
                            struct error *ret_error)
{
    bson_t find = BSON_INITIALIZER;
    bson_t filter;
    bson_t reply;
    bson_iter_t at;
    bson_iter_t first;
    bson_iter_t id;
    int32_t code = 0;
    BSON_APPEND_UTF8(&find, "find", "transactions");
    BSON_APPEND_DOCUMENT_BEGIN(&find, "filter", &filter);
    if (bson_iter_init_find(&id, lsid, "id")) {
        bson_append_iter(&filter, "_id.id", -1, &id);
    }
    bson_append_document_end(&find, &filter);
    enum status status = upstream_command(upstream, "config", &find, &reply, &code, ret_error);
    bson_destroy(&find);
    if (status == STATUS_REFUSED) {
        *ret_found =
            code == CODE_UNAUTHORIZED; /* not to be seen by this user: no reason to doubt */
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        *ret_found = bson_iter_init(&at, &reply) &&
                     bson_iter_find_descendant(&at, "cursor.firstBatch.0", &first);
        bson_destroy(&reply);
    }
    return status;
}

/* Of the first of two that have committed. */
static enum status ask_older(struct upstream *upstream, const bson_t *lsid, bool *ret_tells,
                             struct error *ret_error)
{
    bson_t commit = BSON_INITIALIZER;
    bson_t reply;
    BSON_APPEND_INT32(&commit, "commitTransaction", 1);
    put_transaction(&commit, 1, false);
    append_concern(&commit);
    enum status status = command_in_session(upstream, "admin", &commit, lsid, &reply, ret_error);
    bson_destroy(&commit);
    if (status == STATUS_OK) {
        *ret_tells = !is_not_there(&reply);
        bson_destroy(&reply);
    }
    return status;
}

static enum status try_transactions(struct upstream *upstream, struct upstream_memory *ret_memory,
                                    struct error *ret_error)
{
    uint8_t id[16] = {0};
    bson_oid_t unique;
    bson_t lsid = BSON_INITIALIZER;
    bson_oid_init(&unique, NULL);
    memcpy(id, unique.bytes, sizeof unique.bytes);
    BSON_APPEND_BINARY(&lsid, "id", BSON_SUBTYPE_UUID, id, sizeof id);
    enum status status = STATUS_OK;
    for (int64_t number = 1; status == STATUS_OK && number <= 2; number++) {
        status = make_transaction(upstream, &lsid, number, ret_error);
    }
    if (status == STATUS_OK) {
        status = look_for(upstream, &lsid, &ret_memory->keeps, ret_error);
    }
    if (status == STATUS_OK) {
        status = ask_older(upstream, &lsid, &ret_memory->tells_older, ret_error);
    }
    bson_destroy(&lsid);
    return status;
}

enum status upstream_learn_memory(struct upstream *upstream, struct upstream_memory *ret_memory,
                                  struct error *ret_error)
{
    struct upstream_description server;
    struct upstream_memory memory = {.keeps = true, .tells_older = true};
    enum status status = upstream_describe(upstream, &server, ret_error);
    bool asked = status != STATUS_OK || server.topology == UPSTREAM_SHARDED;
    for (unsigned tries = 0; !asked; tries++) {
        status = try_transactions(upstream, &memory, ret_error);
        asked = status != STATUS_REFUSED || tries == TRIES_MAX;
        if (!asked) {
            /* Another proxy that starts at the same time writes the same document. */
            (void)nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
        }
    }
    if (status == STATUS_OK) {
        *ret_memory = memory;
    }
    return status;
}
