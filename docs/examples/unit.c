/*
 * Places an order: three writes of three collections, all or nothing.
 *
 *   cc unit.c -o unit $(pkg-config --cflags --libs libmongoc-1.0)     version 1.22 or newer
 *   ./unit URI ORDER ITEM
 */
#include <mongoc/mongoc.h>
#include <stdio.h>
#include <stdlib.h>

enum { NO_SUCH_UNIT = 251, COMMITTED = 256 };

static bool insert(mongoc_client_t *client, const char *name, const bson_t *document,
                   const bson_t *options, bson_error_t *error)
{
    mongoc_collection_t *collection = mongoc_client_get_collection(client, "shop", name);
    bool done = mongoc_collection_insert_one(collection, document, options, NULL, error);
    mongoc_collection_destroy(collection);
    return done;
}

static bool begin_with_order(mongoc_client_t *client, const char *unit, const char *order,
                             const char *item, bson_error_t *error)
{
    bson_t *options = BCON_NEW("comment", "{", "unit", BCON_UTF8(unit), "begin", BCON_BOOL(true),
                               "timeoutMS", BCON_INT32(10000), "}");
    bson_t *document = BCON_NEW("_id", BCON_UTF8(order), "item", BCON_UTF8(item));
    bool done = insert(client, "orders", document, options, error);
    bson_destroy(document);
    bson_destroy(options);
    return done;
}

static bool take_from_stock(mongoc_client_t *client, const char *unit, const char *item,
                            bson_error_t *error)
{
    mongoc_collection_t *stock = mongoc_client_get_collection(client, "shop", "stock");
    bson_t *options = BCON_NEW("comment", "{", "unit", BCON_UTF8(unit), "}");
    bson_t *in_stock = BCON_NEW("_id", BCON_UTF8(item), "left", "{", "$gt", BCON_INT32(0), "}");
    bson_t *take_one = BCON_NEW("$inc", "{", "left", BCON_INT32(-1), "}");
    bson_t reply;
    bson_iter_t at;
    bool done = mongoc_collection_update_one(stock, in_stock, take_one, options, &reply, error);
    if (done && bson_iter_init_find(&at, &reply, "matchedCount") && bson_iter_as_int64(&at) == 0) {
        bson_set_error(error, MONGOC_ERROR_COLLECTION, 0, "sold out");
        done = false; /* to the proxy this write was no error */
    }
    bson_destroy(&reply);
    bson_destroy(take_one);
    bson_destroy(in_stock);
    bson_destroy(options);
    mongoc_collection_destroy(stock);
    return done;
}

static bool end_with_ledger(mongoc_client_t *client, const char *unit, const char *order,
                            bson_error_t *error)
{
    bson_t *options =
        BCON_NEW("comment", "{", "unit", BCON_UTF8(unit), "last", BCON_BOOL(true), "}");
    bson_t *document = BCON_NEW("order", BCON_UTF8(order));
    bool done = insert(client, "ledger", document, options, error);
    bson_destroy(document);
    bson_destroy(options);
    return done;
}

/* True: the unit is committed after all; only the answer of its last write was lost. */
static bool is_committed_else_roll_back(mongoc_client_t *client, const char *unit)
{
    bson_t *command = BCON_NEW("abortUnit", BCON_UTF8(unit));
    bson_error_t error;
    bool done = mongoc_client_command_simple(client, "admin", command, NULL, NULL, &error);
    bson_destroy(command);
    if (done || error.code == NO_SUCH_UNIT) { /* the latter: an error has rolled it back already */
        return false;
    }
    if (error.code != COMMITTED) {
        fprintf(stderr, "%s: its timeout rolls it back: %s\n", unit, error.message);
    }
    return error.code == COMMITTED;
}

static bool place_order(mongoc_client_t *client, const char *order, const char *item,
                        bson_error_t *error)
{
    bson_oid_t id; /* a name is used once: each try has a new one */
    char unit[25];
    bson_oid_init(&id, NULL);
    bson_oid_to_string(&id, unit);
    return (begin_with_order(client, unit, order, item, error) &&
            take_from_stock(client, unit, item, error) &&
            end_with_ledger(client, unit, order, error)) ||
           is_committed_else_roll_back(client, unit);
}

int main(int argument_count, char **arguments)
{
    bson_error_t error = {0};
    if (argument_count != 4) {
        fprintf(stderr, "usage: %s URI ORDER ITEM\n", arguments[0]);
        return 2;
    }
    mongoc_init();
    mongoc_uri_t *uri = mongoc_uri_new_with_error(arguments[1], &error);
    bool placed = false;
    if (uri != NULL) {
        mongoc_client_t *client = mongoc_client_new_from_uri(uri);
        placed = place_order(client, arguments[2], arguments[3], &error);
        mongoc_client_destroy(client);
        mongoc_uri_destroy(uri);
    }
    mongoc_cleanup();
    if (!placed) {
        fprintf(stderr, "%s: not placed: %s\n", arguments[2], error.message);
        return 1;
    }
    printf("%s: placed\n", arguments[2]);
    return 0;
}
