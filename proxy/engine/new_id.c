/* The _id of a document that an upsert will make. Pure. */
#include "engine/new_id.h"

#include <string.h>

/* The _id that the update itself gives to a new document. */
static bool find(const struct statement *statement, bson_iter_t *ret_id)
{
    static const char *const paths[] = {"$setOnInsert._id", "$set._id"};
    struct slice update = statement->update;
    bson_iter_t at;
    if (statement->update_is_pipeline) {
        return false;
    }
    if (statement->update_is_replacement) {
        return bson_iter_init_from_data(ret_id, update.data, update.size) &&
               bson_iter_find(ret_id, "_id");
    }
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (bson_iter_init_from_data(&at, update.data, update.size) &&
            bson_iter_find_descendant(&at, paths[i], ret_id)) {
            return true;
        }
    }
    return false;
}

void new_id_make(const struct statement *statement, bson_t *ret_key)
{
    bson_iter_t id;
    if (find(statement, &id)) {
        bson_append_iter(ret_key, "_id", -1, &id);
        return;
    }
    bson_oid_t generated;
    bson_oid_init(&generated, NULL);
    BSON_APPEND_OID(ret_key, "_id", &generated);
}

bool new_id_is_computed(const struct statement *statement)
{
    bson_iter_t stage;
    bson_iter_t at;
    bson_iter_t field;
    if (!statement->update_is_pipeline ||
        !bson_iter_init_from_data(&stage, statement->update.data, statement->update.size)) {
        return false;
    }
    while (bson_iter_next(&stage)) {
        if (BSON_ITER_HOLDS_DOCUMENT(&stage) && bson_iter_recurse(&stage, &at) &&
            bson_iter_next(&at) && BSON_ITER_HOLDS_DOCUMENT(&at) &&
            (strcmp(bson_iter_key(&at), "$set") == 0 ||
             strcmp(bson_iter_key(&at), "$addFields") == 0) &&
            bson_iter_recurse(&at, &field) && bson_iter_find(&field, "_id")) {
            return true;
        }
    }
    return false;
}
