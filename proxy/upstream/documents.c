/*
 * Small pieces of commands and replies that several files of this folder need.
 *
 * Invariant: a key from the journal is put into filters so that it can only ever mean equality; a
 * value that looks like an operator ({$gt: 1}) or a pattern must not select other documents.
 *
 * Threads: pure functions on the caller's memory.
 */

#include <string.h>

#include "upstream/private.h"

enum status namespace_split(const char *namespace, char ret_database[DATABASE_NAME_BYTES],
                            const char **ret_collection, struct error *ret_error)
{
    const char *dot = strchr(namespace, '.');
    if (dot == NULL || dot == namespace || dot[1] == '\0' ||
        (size_t)(dot - namespace) >= DATABASE_NAME_BYTES) {
        return error_set(ret_error, STATUS_INVALID, "`%s` is not database.collection", namespace);
    }
    memcpy(ret_database, namespace, (size_t)(dot - namespace));
    ret_database[dot - namespace] = '\0';
    *ret_collection = dot + 1;
    return STATUS_OK;
}

/* True if the server could read the value as anything but itself. */
static bool value_is_ambiguous(const bson_iter_t *value)
{
    bson_iter_t child;
    switch (bson_iter_type(value)) {
    case BSON_TYPE_REGEX:
    case BSON_TYPE_UNDEFINED:
        return true;
    case BSON_TYPE_DOCUMENT:
        return bson_iter_recurse(value, &child) && bson_iter_next(&child) &&
               bson_iter_key(&child)[0] == '$';
    default:
        return false;
    }
}

bool key_is_ambiguous(struct slice key)
{
    bson_t view;
    bson_iter_t at;
    return !bson_init_static(&view, key.data, key.size) ||
           !bson_iter_init_find(&at, &view, "_id") || value_is_ambiguous(&at);
}

enum status key_append_filter(bson_t *filter, struct slice key, struct error *ret_error)
{
    bson_t view;
    bson_iter_t at;
    bson_t equality;
    if (!bson_init_static(&view, key.data, key.size) || !bson_iter_init_find(&at, &view, "_id")) {
        return error_set(ret_error, STATUS_INVALID, "a document's key without `_id`");
    }
    if (!value_is_ambiguous(&at)) {
        /* The plain form: every server has its fast path for it. */
        bson_append_iter(filter, "_id", -1, &at);
        return STATUS_OK;
    }
    BSON_APPEND_DOCUMENT_BEGIN(filter, "_id", &equality);
    bson_append_iter(&equality, "$eq", -1, &at);
    bson_append_document_end(filter, &equality);
    return STATUS_OK;
}

enum status document_append(bson_t *target, const char *name, struct slice document,
                            struct error *ret_error)
{
    bson_t view;
    if (!bson_init_static(&view, document.data, document.size) ||
        !bson_append_document(target, name, -1, &view)) {
        return error_set(ret_error, STATUS_INVALID, "not a BSON document: `%s`", name);
    }
    return STATUS_OK;
}

enum status reply_image(const bson_t *reply, const char *path, struct image *ret_image,
                        struct error *ret_error)
{
    bson_iter_t at;
    bson_iter_t found;
    struct image view = {.presence = IMAGE_ABSENT};
    if (bson_iter_init(&at, reply) && bson_iter_find_descendant(&at, path, &found) &&
        !BSON_ITER_HOLDS_NULL(&found)) {
        uint32_t size = 0;
        const uint8_t *data = NULL;
        bson_t whole;
        if (BSON_ITER_HOLDS_DOCUMENT(&found)) {
            bson_iter_document(&found, &size, &data);
        }
        if (data == NULL || !bson_init_static(&whole, data, size)) {
            return error_set(ret_error, STATUS_PROTOCOL,
                             "the server's reply has no document at `%s`", path);
        }
        view.presence = IMAGE_PRESENT;
        view.document = slice_make(data, size);
    }
    if (!image_copy(view, ret_image)) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for a document");
    }
    return STATUS_OK;
}
