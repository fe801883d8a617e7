/*
 * Looking at images, and asking the server what it makes of one (upstream.h).
 *
 * An evaluation happens in a scratch collection `holdfast.scratch.<unique>` that belongs to one
 * struct upstream: emptied, filled with the image, changed by the command, read, dropped. A process
 * that is killed in between leaves it behind; upstream_scratch_clear() removes such remains.
 *
 * Invariant: of the command only the fields that decide its effect are taken over, and the
 * collection's name never is; so no evaluation can touch a user's data.
 *
 * Threads: the struct upstream's.
 */

#include <string.h>

#include "upstream/private.h"

enum status upstream_find_image(struct upstream *upstream, const char *namespace, struct slice key,
                                struct image *ret_image, struct error *ret_error)
{
    char database[DATABASE_NAME_BYTES];
    const char *collection;
    bson_t command = BSON_INITIALIZER;
    bson_t filter;
    bson_t reply;
    enum status status = namespace_split(namespace, database, &collection, ret_error);
    if (status == STATUS_OK) {
        BSON_APPEND_UTF8(&command, "find", collection);
        BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
        status = key_append_filter(&filter, key, ret_error);
        bson_append_document_end(&command, &filter);
    }
    if (status == STATUS_OK) {
        BSON_APPEND_INT32(&command, "limit", 1);
        BSON_APPEND_BOOL(&command, "singleBatch", true);
        status = upstream_command(upstream, database, &command, &reply, NULL, ret_error);
    }
    if (status == STATUS_OK) {
        status = reply_image(&reply, "cursor.firstBatch.0", ret_image, ret_error);
        bson_destroy(&reply);
    }
    bson_destroy(&command);
    return status;
}

/* ------------------------------------------------------------------ the scratch collection */

static enum status collection_drop(struct upstream *upstream, const char *name,
                                   struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    int32_t code = 0;
    BSON_APPEND_UTF8(&command, "drop", name);
    enum status status =
        upstream_command(upstream, UPSTREAM_OWN_DATABASE, &command, &reply, &code, ret_error);
    bson_destroy(&command);
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    } else if (status == STATUS_REFUSED && code == CODE_NAMESPACE_NOT_FOUND) {
        status = STATUS_OK;
    }
    return status;
}

/* Overwrites the only document by a pipeline, which keeps bytes that an insert does not. */
static enum status scratch_overwrite(struct upstream *upstream, struct image image,
                                     struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t updates;
    bson_t update;
    bson_t query = BSON_INITIALIZER;
    bson_t pipeline;
    bson_t stage;
    bson_t literal;
    bson_t reply;
    BSON_APPEND_UTF8(&command, "update", upstream->scratch_collection);
    BSON_APPEND_ARRAY_BEGIN(&command, "updates", &updates);
    BSON_APPEND_DOCUMENT_BEGIN(&updates, "0", &update);
    BSON_APPEND_DOCUMENT(&update, "q", &query);
    BSON_APPEND_ARRAY_BEGIN(&update, "u", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$replaceWith", &literal);
    enum status status = document_append(&literal, "$literal", image.document, ret_error);
    bson_append_document_end(&stage, &literal);
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(&update, &pipeline);
    bson_append_document_end(&updates, &update);
    bson_append_array_end(&command, &updates);
    if (status == STATUS_OK) {
        status =
            upstream_command(upstream, UPSTREAM_OWN_DATABASE, &command, &reply, NULL, ret_error);
    }
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    }
    bson_destroy(&command);
    return status;
}

/*
 * The image goes in by an insert, if need be corrected by an overwrite, and must read back as it
 * is: what is evaluated on something else would be a guess.
 */
enum status scratch_begin(struct upstream *upstream, struct image before, struct error *ret_error)
{
    struct slice none = {0};
    struct image kept = {0};
    int32_t code = 0;
    enum status status = collection_drop(upstream, upstream->scratch_collection, ret_error);
    if (status != STATUS_OK || before.presence != IMAGE_PRESENT) {
        return status;
    }
    status = swap_insert(upstream, upstream->scratch_namespace, before, NULL, false, none, &code,
                         ret_error);
    if (status == STATUS_OK) {
        status = scratch_find(upstream, &kept, ret_error);
    }
    if (status == STATUS_OK && !image_equal(kept, before)) {
        image_free(&kept);
        status = scratch_overwrite(upstream, before, ret_error);
        if (status == STATUS_OK) {
            status = scratch_find(upstream, &kept, ret_error);
        }
        if (status == STATUS_OK && !image_equal(kept, before)) {
            status = error_set(ret_error, STATUS_CONFLICT,
                               "the server does not keep the document as it was");
        }
    }
    image_free(&kept);
    return status;
}

void scratch_end(struct upstream *upstream)
{
    enum status ignored = collection_drop(upstream, upstream->scratch_collection, NULL);
    (void)ignored;
}

enum status scratch_find(struct upstream *upstream, struct image *ret_image,
                         struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    BSON_APPEND_UTF8(&command, "find", upstream->scratch_collection);
    BSON_APPEND_INT32(&command, "limit", 1);
    BSON_APPEND_BOOL(&command, "singleBatch", true);
    enum status status =
        upstream_command(upstream, UPSTREAM_OWN_DATABASE, &command, &reply, NULL, ret_error);
    if (status == STATUS_OK) {
        status = reply_image(&reply, "cursor.firstBatch.0", ret_image, ret_error);
        bson_destroy(&reply);
    }
    bson_destroy(&command);
    return status;
}

enum status upstream_scratch_clear(struct upstream *upstream, struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    bson_iter_t at;
    bson_iter_t batch;
    bson_iter_t entry;
    bson_iter_t name;
    BSON_APPEND_INT32(&command, "listCollections", 1);
    BSON_APPEND_BOOL(&command, "nameOnly", true);
    enum status status =
        upstream_command(upstream, UPSTREAM_OWN_DATABASE, &command, &reply, NULL, ret_error);
    bson_destroy(&command);
    if (status != STATUS_OK) {
        return status;
    }
    /* The first batch (about 100 names) is enough: what is left falls to the next start. */
    if (bson_iter_init(&at, &reply) &&
        bson_iter_find_descendant(&at, "cursor.firstBatch", &batch) &&
        BSON_ITER_HOLDS_ARRAY(&batch) && bson_iter_recurse(&batch, &entry)) {
        while (status == STATUS_OK && bson_iter_next(&entry)) {
            if (BSON_ITER_HOLDS_DOCUMENT(&entry) && bson_iter_recurse(&entry, &name) &&
                bson_iter_find(&name, "name") && BSON_ITER_HOLDS_UTF8(&name) &&
                strncmp(bson_iter_utf8(&name, NULL), "scratch.", 8) == 0) {
                status = collection_drop(upstream, bson_iter_utf8(&name, NULL), ret_error);
            }
        }
    }
    bson_destroy(&reply);
    return status;
}

/* ------------------------------------------------------------------ evaluation */

/* The fields of a findAndModify that decide what becomes of the document. */
static bool field_is_effective(const char *name)
{
    static const char *const names[] = {"query",        "update",    "upsert",
                                        "arrayFilters", "collation", "let"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static enum status scratch_command(struct upstream *upstream, struct slice command,
                                   bson_t *ret_command, struct error *ret_error)
{
    bson_t view;
    bson_iter_t at;
    bool has_query = false;
    bool has_update = false;
    if (!bson_init_static(&view, command.data, command.size) || !bson_iter_init(&at, &view) ||
        !bson_iter_next(&at) ||
        (strcmp(bson_iter_key(&at), "findAndModify") != 0 &&
         strcmp(bson_iter_key(&at), "findandmodify") != 0)) {
        return error_set(ret_error, STATUS_INVALID, "the journaled command is no findAndModify");
    }
    BSON_APPEND_UTF8(ret_command, "findAndModify", upstream->scratch_collection);
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        if (field_is_effective(name)) {
            has_query = has_query || strcmp(name, "query") == 0;
            has_update = has_update || strcmp(name, "update") == 0;
            bson_append_iter(ret_command, name, -1, &at);
        }
    }
    if (at.err_off != 0 || !has_query || !has_update) {
        return error_set(ret_error, STATUS_INVALID,
                         "the journaled command has no query and update");
    }
    BSON_APPEND_BOOL(ret_command, "bypassDocumentValidation", true);
    return STATUS_OK;
}

enum status upstream_evaluate(struct upstream *upstream, struct slice command, struct image before,
                              struct image *ret_after, struct error *ret_error)
{
    bson_t scratch = BSON_INITIALIZER;
    bson_t reply;
    int32_t code = 0;
    enum status status = scratch_command(upstream, command, &scratch, ret_error);
    if (status == STATUS_OK) {
        status = scratch_begin(upstream, before, ret_error);
    }
    if (status == STATUS_OK) {
        status =
            upstream_command(upstream, UPSTREAM_OWN_DATABASE, &scratch, &reply, &code, ret_error);
        if (status == STATUS_OK) {
            bson_destroy(&reply);
            status = scratch_find(upstream, ret_after, ret_error);
        } else if (status == STATUS_REFUSED && code_is_final(code)) {
            if (ret_error != NULL) {
                ret_error->status = STATUS_CONFLICT;
            }
            status = STATUS_CONFLICT;
        }
        scratch_end(upstream);
    }
    bson_destroy(&scratch);
    return status;
}
