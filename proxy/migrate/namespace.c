/* Commands on collections and indexes (namespace.h). */
#include "migrate/namespace.h"

#include <stdio.h>
#include <string.h>

#include "migrate/private.h"

#define CODE_INDEX_NOT_FOUND 27
#define CODE_NAMESPACE_EXISTS 48

/* `ignored`: a code that says that it is done already; 0: none. Takes the command. */
static enum status run(struct migrate *migrate, const char *database, bson_t *command,
                       int32_t ignored, struct error *ret_error)
{
    bson_t reply;
    struct error error = {0};
    enum status status =
        maintain_command(migrate->maintain, database, command, MAINTAIN_IDEMPOTENT, &reply, &error);
    bson_destroy(command);
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    } else if (status == STATUS_REFUSED && ignored != 0 &&
               maintain_refusal(migrate->maintain).code == ignored) {
        status = STATUS_OK;
    } else {
        status = error_set(ret_error, status, "%s", error.message);
    }
    return status;
}

enum status namespace_describe(struct migrate *migrate, const char *collection,
                               bson_t **ret_description, struct error *ret_error)
{
    bson_t reply;
    uint32_t position = 0;
    struct slice document;
    bson_t *command = BCON_NEW("listCollections", BCON_INT32(1), "filter", "{", "name",
                               BCON_UTF8(collection), "}");
    enum status status = maintain_command(migrate->maintain, migrate->database, command,
                                          MAINTAIN_IDEMPOTENT, &reply, ret_error);
    bson_destroy(command);
    if (status == STATUS_OK) {
        *ret_description = maintain_next(&reply, &position, &document)
                               ? bson_new_from_data(document.data, document.size)
                               : NULL;
        bson_destroy(&reply);
    }
    return status;
}

static bson_t *index_copy(struct slice document)
{
    bson_t view;
    bson_iter_t at;
    bson_t *index = bson_new();
    if (bson_init_static(&view, document.data, document.size) && bson_iter_init(&at, &view)) {
        while (bson_iter_next(&at)) {
            if (strcmp(bson_iter_key(&at), "v") != 0 && strcmp(bson_iter_key(&at), "ns") != 0) {
                bson_append_iter(index, NULL, -1, &at);
            }
        }
    }
    return index;
}

enum status namespace_index(struct migrate *migrate, const char *collection, const char *name,
                            bson_t **ret_index, struct error *ret_error)
{
    bson_t reply;
    struct error error = {0};
    bson_t *command = BCON_NEW("listIndexes", BCON_UTF8(collection), "cursor", "{", "batchSize",
                               BCON_INT32(1000), "}");
    enum status status = maintain_command(migrate->maintain, migrate->database, command,
                                          MAINTAIN_IDEMPOTENT, &reply, &error);
    bson_destroy(command);
    *ret_index = NULL;
    if (status == STATUS_REFUSED &&
        maintain_refusal(migrate->maintain).code == MAINTAIN_NAMESPACE_NOT_FOUND) {
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return error_set(ret_error, status, "%s", error.message);
    }
    uint32_t position = 0;
    struct slice document;
    while (*ret_index == NULL && maintain_next(&reply, &position, &document)) {
        bson_t view;
        bson_iter_t at;
        if (bson_init_static(&view, document.data, document.size) &&
            bson_iter_init_find(&at, &view, "name") && BSON_ITER_HOLDS_UTF8(&at) &&
            strcmp(bson_iter_utf8(&at, NULL), name) == 0) {
            *ret_index = index_copy(document);
        }
    }
    bson_destroy(&reply);
    return STATUS_OK;
}

enum status namespace_create_index(struct migrate *migrate, const char *collection,
                                   const bson_t *index, struct error *ret_error)
{
    return run(
        migrate, migrate->database,
        BCON_NEW("createIndexes", BCON_UTF8(collection), "indexes", "[", BCON_DOCUMENT(index), "]"),
        0, ret_error);
}

enum status namespace_drop_index(struct migrate *migrate, const char *collection, const char *name,
                                 struct error *ret_error)
{
    return run(migrate, migrate->database,
               BCON_NEW("dropIndexes", BCON_UTF8(collection), "index", BCON_UTF8(name)),
               CODE_INDEX_NOT_FOUND, ret_error);
}

enum status namespace_create(struct migrate *migrate, const char *collection, const bson_t *options,
                             struct error *ret_error)
{
    bson_t *command = BCON_NEW("create", BCON_UTF8(collection));
    bson_concat(command, options);
    return run(migrate, migrate->database, command, CODE_NAMESPACE_EXISTS, ret_error);
}

enum status namespace_drop(struct migrate *migrate, const char *collection, struct error *ret_error)
{
    return run(migrate, migrate->database, BCON_NEW("drop", BCON_UTF8(collection)),
               MAINTAIN_NAMESPACE_NOT_FOUND, ret_error);
}

enum status namespace_modify(struct migrate *migrate, const char *collection, const bson_t *options,
                             struct error *ret_error)
{
    bson_t *command = BCON_NEW("collMod", BCON_UTF8(collection));
    bson_concat(command, options);
    return run(migrate, migrate->database, command, 0, ret_error);
}

enum status namespace_is_empty(struct migrate *migrate, const char *collection, bool *ret_empty,
                               struct error *ret_error)
{
    bson_t reply;
    uint32_t position = 0;
    struct slice document;
    bson_t *command =
        BCON_NEW("find", BCON_UTF8(collection), "projection", "{", "_id", BCON_INT32(1), "}",
                 "limit", BCON_INT32(1), "singleBatch", BCON_BOOL(true));
    enum status status = maintain_command(migrate->maintain, migrate->database, command,
                                          MAINTAIN_IDEMPOTENT, &reply, ret_error);
    bson_destroy(command);
    if (status == STATUS_OK) {
        *ret_empty = !maintain_next(&reply, &position, &document);
        bson_destroy(&reply);
    }
    return status;
}

/* ------------------------------------------------------------------ renaming */

/* Whether the collection is the one of the note; true where nothing tells. */
static bool is_noted(const bson_t *description, const bson_t *note)
{
    bson_iter_t at;
    bson_iter_t found;
    bson_iter_t noted;
    if (!bson_iter_init_find(&noted, note, "uuid") || !BSON_ITER_HOLDS_BINARY(&noted) ||
        !bson_iter_init(&at, description) || !bson_iter_find_descendant(&at, "info.uuid", &found) ||
        !BSON_ITER_HOLDS_BINARY(&found)) {
        return true;
    }
    const uint8_t *a = NULL;
    const uint8_t *b = NULL;
    uint32_t a_size = 0;
    uint32_t b_size = 0;
    bson_iter_binary(&noted, NULL, &a_size, &a);
    bson_iter_binary(&found, NULL, &b_size, &b);
    return slice_equal(slice_make(a, a_size), slice_make(b, b_size));
}

/* Before a rename: whether it is done already, or cannot be. */
static enum status look(struct migrate *migrate, const char *from, const char *to,
                        const bson_t *note, bool *ret_done, struct error *ret_error)
{
    bson_t *source = NULL;
    bson_t *target = NULL;
    enum status status = namespace_describe(migrate, from, &source, ret_error);
    if (status == STATUS_OK) {
        status = namespace_describe(migrate, to, &target, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_done =
            target != NULL && is_noted(target, note) && (source == NULL || !is_noted(source, note));
        if (!*ret_done && target != NULL) {
            status = error_set(ret_error, STATUS_REFUSED, "there is a collection %s already", to);
        } else if (!*ret_done && (source == NULL || !is_noted(source, note))) {
            status = error_set(ret_error, STATUS_REFUSED,
                               "the collection %s is gone, or another one of that name", from);
        }
    }
    bson_destroy(source);
    bson_destroy(target);
    return status;
}

enum status namespace_rename(struct migrate *migrate, const char *from, const char *to,
                             const bson_t *note, struct error *ret_error)
{
    char source[256];
    char target[320];
    bool done = false;
    (void)snprintf(source, sizeof(source), "%s.%s", migrate->database, from);
    (void)snprintf(target, sizeof(target), "%s.%s", migrate->database, to);
    enum status status = look(migrate, from, to, note, &done, ret_error);
    if (status != STATUS_OK || done) {
        return status;
    }
    bson_t reply;
    bson_t *command = BCON_NEW("renameCollection", BCON_UTF8(source), "to", BCON_UTF8(target));
    status =
        maintain_command(migrate->maintain, "admin", command, MAINTAIN_ONCE, &reply, ret_error);
    bson_destroy(command);
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    }
    return status;
}
