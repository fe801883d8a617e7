/*
 * A client of the retry test: the C driver's ordinary transactions or plain writes.
 *
 *   driver_libmongoc URI COLLECTION COUNT transactions|plain
 *
 * Runs COUNT rounds, each of two inserts and an update, and prints "ack N" after each: with the
 * driver's own retry loop (mongoc_client_session_with_transaction), or as plain writes that the
 * driver retries once. Exit code 0: the application never saw an error. One thread.
 */

#include <errno.h>
#include <mongoc/mongoc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct transfer {
    mongoc_collection_t *collection;
    bool plain;
    int64_t number;
};

static bool insert_half(struct transfer *transfer, mongoc_client_session_t *session,
                        const char *half, bson_t **reply, bson_error_t *error)
{
    bson_t options = BSON_INITIALIZER;
    bool done = session == NULL || mongoc_client_session_append(session, &options, error);
    if (done) {
        bson_t *document = BCON_NEW("n", BCON_INT64(transfer->number), "half", BCON_UTF8(half));
        bson_t answer;
        done =
            mongoc_collection_insert_one(transfer->collection, document, &options, &answer, error);
        bson_destroy(*reply);
        *reply = bson_copy(&answer);
        bson_destroy(&answer);
        bson_destroy(document);
    }
    bson_destroy(&options);
    return done;
}

static bool count_up(struct transfer *transfer, mongoc_client_session_t *session, bson_t **reply,
                     bson_error_t *error)
{
    bson_t options = BSON_INITIALIZER;
    bool done = (session == NULL || mongoc_client_session_append(session, &options, error)) &&
                BSON_APPEND_BOOL(&options, "upsert", true);
    if (done) {
        bson_t *selector = BCON_NEW("_id", BCON_UTF8("counter"));
        bson_t *update = BCON_NEW("$inc", "{", "n", BCON_INT64(1), "}");
        bson_t answer;
        done = mongoc_collection_update_one(transfer->collection, selector, update, &options,
                                            &answer, error);
        bson_destroy(*reply);
        *reply = bson_copy(&answer);
        bson_destroy(&answer);
        bson_destroy(selector);
        bson_destroy(update);
    }
    bson_destroy(&options);
    return done;
}

/* The body of the transaction; the driver may call it again. */
static bool run_transfer(mongoc_client_session_t *session, void *context, bson_t **reply,
                         bson_error_t *error)
{
    struct transfer *transfer = context;
    *reply = bson_new();
    return insert_half(transfer, session, "first", reply, error) &&
           insert_half(transfer, session, "second", reply, error) &&
           count_up(transfer, session, reply, error);
}

static bool run_one(mongoc_client_t *client, struct transfer *transfer, bson_error_t *error)
{
    if (transfer->plain) {
        bson_t *reply = NULL;
        bool done = run_transfer(NULL, transfer, &reply, error);
        bson_destroy(reply);
        return done;
    }
    mongoc_client_session_t *session = mongoc_client_start_session(client, NULL, error);
    if (session == NULL) {
        return false;
    }
    bool done =
        mongoc_client_session_with_transaction(session, run_transfer, NULL, transfer, NULL, error);
    mongoc_client_session_destroy(session);
    return done;
}

static bool run_all(mongoc_client_t *client, char **arguments, int64_t count, bson_error_t *error)
{
    struct transfer transfer = {
        .collection = mongoc_client_get_collection(client, "test", arguments[2]),
        .plain = strcmp(arguments[4], "plain") == 0,
    };
    bool done = true;
    for (; done && transfer.number < count; transfer.number++) {
        done = run_one(client, &transfer, error);
        if (done) {
            printf("ack %lld\n", (long long)transfer.number);
            fflush(stdout);
        }
    }
    mongoc_collection_destroy(transfer.collection);
    return done;
}

/* A pool, as services have it: its server selection waits where a lone client's tries once. */
static bool run_pool(char **arguments, int64_t count, bson_error_t *error)
{
    mongoc_uri_t *uri = mongoc_uri_new_with_error(arguments[1], error);
    if (uri == NULL) {
        return false;
    }
    mongoc_client_pool_t *pool = mongoc_client_pool_new(uri);
    mongoc_client_t *client = mongoc_client_pool_pop(pool);
    bool done = run_all(client, arguments, count, error);
    mongoc_client_pool_push(pool, client);
    mongoc_client_pool_destroy(pool);
    mongoc_uri_destroy(uri);
    return done;
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 5) {
        fprintf(stderr, "usage: %s URI COLLECTION COUNT transactions|plain\n", arguments[0]);
        return 2;
    }
    errno = 0;
    int64_t count = strtoll(arguments[3], NULL, 10);
    if (errno != 0 || count <= 0) {
        fprintf(stderr, "%s: bad count\n", arguments[0]);
        return 2;
    }
    mongoc_init();
    bson_error_t error = {0};
    bool done = run_pool(arguments, count, &error);
    if (!done) {
        printf("failed: %s\n", error.message);
    }
    mongoc_cleanup();
    return done ? 0 : 1;
}
