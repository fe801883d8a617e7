/*
 * One image for another, or nothing at all (upstream_replace_image() in upstream.h).
 *
 *   expected   wanted    command
 *   PRESENT    PRESENT   findAndModify {_id, $expr: $$ROOT == expected}, [{$replaceWith: wanted}]
 *   PRESENT    ABSENT    findAndModify {_id, $expr: $$ROOT == expected}, remove: true
 *   ABSENT     PRESENT   insert wanted (or an upsert, see below)
 *   ABSENT     ABSENT    a look
 *
 * Two things can go wrong although the command succeeds:
 *
 *  1. The guard was met by a document that equals `expected` in value but not in bytes. The reply
 *     carries what was replaced; if its bytes differ, they are put back, guarded by what we wrote.
 *  2. The server did not keep `wanted` as it was sent (it fills in Timestamp(0, 0) of an insert and
 *     moves _id to the front). So each write is read back. A difference is either the server's
 *     doing or a stranger's newer write, which must stay: the same swap in the scratch collection
 *     tells which, because only the server works there.
 *
 * An insert of such an unusual image is tried in the scratch collection first: as an insert, then
 * as an upsert by pipeline, which servers treat differently.
 *
 * Threads: the struct upstream's.
 */

#include <string.h>

#include "holdfast/limits.h"
#include "upstream/private.h"

/* What a command needs besides its images: names, _id, comment. Far more than they are. */
#define COMMAND_ROOM_BYTES 8192u
#define IMAGES_BYTES_MAX                                                                           \
    ((size_t)LIMIT_DOCUMENT_BYTES_MAX + LIMIT_COMMAND_OVERHEAD_BYTES - COMMAND_ROOM_BYTES)

struct swap {
    struct upstream *upstream;
    const char *namespace;
    struct slice key;
    const char *comment;
};

static enum status command_begin(const struct swap *swap, const char *name, bson_t *command,
                                 char database[DATABASE_NAME_BYTES], struct error *ret_error)
{
    const char *collection;
    enum status status = namespace_split(swap->namespace, database, &collection, ret_error);
    if (status == STATUS_OK) {
        BSON_APPEND_UTF8(command, name, collection);
        if (swap->comment != NULL) {
            BSON_APPEND_UTF8(command, "comment", swap->comment);
        }
    }
    return status;
}

/* query: { _id: ..., $expr: { $eq: ["$$ROOT", { $literal: guard }] } } */
static enum status append_guarded_query(bson_t *command, struct slice key, struct slice guard,
                                        struct error *ret_error)
{
    bson_t query;
    bson_t expression;
    bson_t operands;
    bson_t literal;
    BSON_APPEND_DOCUMENT_BEGIN(command, "query", &query);
    enum status status = key_append_filter(&query, key, ret_error);
    BSON_APPEND_DOCUMENT_BEGIN(&query, "$expr", &expression);
    BSON_APPEND_ARRAY_BEGIN(&expression, "$eq", &operands);
    BSON_APPEND_UTF8(&operands, "0", "$$ROOT");
    BSON_APPEND_DOCUMENT_BEGIN(&operands, "1", &literal);
    if (status == STATUS_OK) {
        status = document_append(&literal, "$literal", guard, ret_error);
    }
    bson_append_document_end(&operands, &literal);
    bson_append_array_end(&expression, &operands);
    bson_append_document_end(&query, &expression);
    bson_append_document_end(command, &query);
    return status;
}

/* update: [ { $replaceWith: { $literal: wanted } } ] */
static enum status append_replacement(bson_t *command, struct slice wanted, struct error *ret_error)
{
    bson_t pipeline;
    bson_t stage;
    bson_t literal;
    BSON_APPEND_ARRAY_BEGIN(command, "update", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$replaceWith", &literal);
    enum status status = document_append(&literal, "$literal", wanted, ret_error);
    bson_append_document_end(&stage, &literal);
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(command, &pipeline);
    return status;
}

/*
 * From `guard` to `wanted` (PRESENT: replace, ABSENT: remove). *ret_replaced: what was there,
 * ABSENT if the guard was not met; to be freed by the caller.
 */
static enum status swap_modify(const struct swap *swap, struct slice guard, struct image wanted,
                               struct image *ret_replaced, int32_t *ret_code,
                               struct error *ret_error)
{
    char database[DATABASE_NAME_BYTES];
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    enum status status = command_begin(swap, "findAndModify", &command, database, ret_error);
    if (status == STATUS_OK) {
        status = append_guarded_query(&command, swap->key, guard, ret_error);
    }
    if (status == STATUS_OK && wanted.presence == IMAGE_PRESENT) {
        BSON_APPEND_BOOL(&command, "new", false);
        BSON_APPEND_BOOL(&command, "bypassDocumentValidation", true);
        status = append_replacement(&command, wanted.document, ret_error);
    } else if (status == STATUS_OK) {
        BSON_APPEND_BOOL(&command, "remove", true);
    }
    if (status == STATUS_OK) {
        status = upstream_command_durable(swap->upstream, database, &command, &reply, ret_code,
                                          ret_error);
    }
    if (status == STATUS_OK) {
        status = reply_image(&reply, "value", ret_replaced, ret_error);
        bson_destroy(&reply);
    }
    bson_destroy(&command);
    return status;
}

static enum status append_insert(bson_t *command, struct slice wanted, struct error *ret_error)
{
    bson_t documents;
    BSON_APPEND_BOOL(command, "bypassDocumentValidation", true);
    BSON_APPEND_ARRAY_BEGIN(command, "documents", &documents);
    enum status status = document_append(&documents, "0", wanted, ret_error);
    bson_append_array_end(command, &documents);
    return status;
}

/* query: { _id: ..., $nor: [ {} ] } never matches, so the upsert inserts or meets a duplicate key.
 */
static enum status append_upsert(bson_t *command, struct slice key, struct slice wanted,
                                 struct error *ret_error)
{
    bson_t query;
    bson_t never;
    bson_t everything = BSON_INITIALIZER;
    BSON_APPEND_DOCUMENT_BEGIN(command, "query", &query);
    enum status status = key_append_filter(&query, key, ret_error);
    BSON_APPEND_ARRAY_BEGIN(&query, "$nor", &never);
    BSON_APPEND_DOCUMENT(&never, "0", &everything);
    bson_append_array_end(&query, &never);
    bson_append_document_end(command, &query);
    BSON_APPEND_BOOL(command, "upsert", true);
    BSON_APPEND_BOOL(command, "bypassDocumentValidation", true);
    if (status == STATUS_OK) {
        status = append_replacement(command, wanted, ret_error);
    }
    return status;
}

enum status swap_insert(struct upstream *upstream, const char *namespace, struct image wanted,
                        const char *comment, bool by_upsert, struct slice key, int32_t *ret_code,
                        struct error *ret_error)
{
    struct swap swap = {
        .upstream = upstream, .namespace = namespace, .key = key, .comment = comment};
    char database[DATABASE_NAME_BYTES];
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    const char *name = by_upsert ? "findAndModify" : "insert";
    enum status status = command_begin(&swap, name, &command, database, ret_error);
    if (status == STATUS_OK) {
        status = by_upsert ? append_upsert(&command, key, wanted.document, ret_error)
                           : append_insert(&command, wanted.document, ret_error);
    }
    if (status == STATUS_OK) {
        status =
            upstream_command_durable(upstream, database, &command, &reply, ret_code, ret_error);
    }
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    }
    bson_destroy(&command);
    return status;
}

/* ------------------------------------------------------------------ what the server makes of it */

/* What a document that was `expected` (PRESENT) reads as after it was replaced by `wanted`. */
static enum status trial_replace(const struct swap *swap, struct image expected,
                                 struct image wanted, struct image *ret_kept,
                                 struct error *ret_error)
{
    struct swap trial = *swap;
    struct image replaced = {0};
    int32_t code = 0;
    trial.namespace = swap->upstream->scratch_namespace;
    enum status status = scratch_begin(swap->upstream, expected, ret_error);
    if (status == STATUS_OK) {
        status = swap_modify(&trial, expected.document, wanted, &replaced, &code, ret_error);
        image_free(&replaced);
    }
    if (status == STATUS_OK) {
        status = scratch_find(swap->upstream, ret_kept, ret_error);
    }
    scratch_end(swap->upstream);
    return status;
}

static enum status trial_insert(const struct swap *swap, struct image wanted, bool by_upsert,
                                struct image *ret_kept, struct error *ret_error)
{
    struct image absent = {.presence = IMAGE_ABSENT};
    int32_t code = 0;
    enum status status = scratch_begin(swap->upstream, absent, ret_error);
    if (status == STATUS_OK) {
        status = swap_insert(swap->upstream, swap->upstream->scratch_namespace, wanted, NULL,
                             by_upsert, swap->key, &code, ret_error);
    }
    if (status == STATUS_OK) {
        status = scratch_find(swap->upstream, ret_kept, ret_error);
    }
    scratch_end(swap->upstream);
    return status;
}

/* Images of which servers are known to change bytes when they are inserted. */
bool image_is_unusual(struct image image)
{
    bson_t view;
    bson_iter_t at;
    if (!bson_init_static(&view, image.document.data, image.document.size) ||
        !bson_iter_init(&at, &view)) {
        return true;
    }
    for (bool first = true; bson_iter_next(&at); first = false) {
        if (first && strcmp(bson_iter_key(&at), "_id") != 0) {
            return true;
        }
        if (BSON_ITER_HOLDS_TIMESTAMP(&at)) {
            uint32_t seconds;
            uint32_t increment;
            bson_iter_timestamp(&at, &seconds, &increment);
            if (seconds == 0 && increment == 0) {
                return true;
            }
        }
    }
    return false;
}

/* ------------------------------------------------------------------ the four swaps */

/* The server will give the same answer for ever: that is a conflict, not a failure. */
static enum status final_refusal(enum status status, int32_t code, struct error *ret_error)
{
    if (status == STATUS_REFUSED && code_is_final(code)) {
        if (ret_error != NULL) {
            ret_error->status = STATUS_CONFLICT;
        }
        return STATUS_CONFLICT;
    }
    return status;
}

/*
 * After a replacement: `replaced` was there, `now` is there. Puts `replaced` back where what is
 * there now is our own doing and not what it should be.
 */
static enum status replace_settle(const struct swap *swap, struct image expected,
                                  struct image wanted, struct image replaced, struct image now,
                                  enum upstream_swap *ret_swap, struct error *ret_error)
{
    struct image kept = {0};
    struct image again = {0};
    int32_t code = 0;
    bool exact = image_equal(replaced, expected);
    bool ours = image_equal(now, wanted);
    enum status status = STATUS_OK;
    if (exact && ours) {
        *ret_swap = UPSTREAM_SWAP_DONE;
        return STATUS_OK;
    }
    if (!ours) {
        status = trial_replace(swap, expected, wanted, &kept, ret_error);
        if (status != STATUS_OK) {
            goto out;
        }
        if (exact && image_equal(kept, wanted)) {
            /* The swap was exact; what is there now somebody wrote after it. */
            *ret_swap = UPSTREAM_SWAP_DONE;
            goto out;
        }
        ours = image_equal(now, kept);
    }
    if (ours && now.presence == IMAGE_PRESENT) {
        /* Not met: somebody has written in the meantime, and theirs is the newest. */
        status = swap_modify(swap, now.document, replaced, &again, &code, ret_error);
        if (status != STATUS_OK) {
            goto out;
        }
    }
    *ret_swap = UPSTREAM_SWAP_DIFFERS;
out:
    image_free(&kept);
    image_free(&again);
    return status;
}

static enum status swap_replace(const struct swap *swap, struct image expected, struct image wanted,
                                enum upstream_swap *ret_swap, struct error *ret_error)
{
    struct image replaced = {0};
    struct image now = {0};
    int32_t code = 0;
    enum status status = swap_modify(swap, expected.document, wanted, &replaced, &code, ret_error);
    if (status != STATUS_OK) {
        return final_refusal(status, code, ret_error);
    }
    if (replaced.presence == IMAGE_ABSENT) {
        *ret_swap = UPSTREAM_SWAP_DIFFERS;
        goto out;
    }
    status = upstream_find_image(swap->upstream, swap->namespace, swap->key, &now, ret_error);
    if (status == STATUS_OK) {
        status = replace_settle(swap, expected, wanted, replaced, now, ret_swap, ret_error);
    }
out:
    image_free(&replaced);
    image_free(&now);
    return status;
}

static enum status swap_remove(const struct swap *swap, struct image expected, struct image wanted,
                               enum upstream_swap *ret_swap, struct error *ret_error)
{
    struct image removed = {0};
    int32_t code = 0;
    enum status status = swap_modify(swap, expected.document, wanted, &removed, &code, ret_error);
    if (status != STATUS_OK) {
        return final_refusal(status, code, ret_error);
    }
    if (image_equal(removed, expected)) {
        *ret_swap = UPSTREAM_SWAP_DONE;
    } else {
        *ret_swap = UPSTREAM_SWAP_DIFFERS;
        if (removed.presence == IMAGE_PRESENT) {
            status = swap_insert(swap->upstream, swap->namespace, removed, swap->comment,
                                 image_is_unusual(removed), swap->key, &code, ret_error);
            if (status == STATUS_REFUSED && code == CODE_DUPLICATE_KEY) {
                status = STATUS_OK; /* somebody has written the document anew */
            }
        }
    }
    image_free(&removed);
    return status;
}

/* Which form of an insert keeps `wanted` as it is. STATUS_CONFLICT: none does. */
static enum status choose_insert(const struct swap *swap, struct image wanted, bool *ret_by_upsert,
                                 struct error *ret_error)
{
    if (!image_is_unusual(wanted)) {
        *ret_by_upsert = false;
        return STATUS_OK;
    }
    for (int form = 0; form < 2; form++) {
        struct image kept = {0};
        struct error error;
        enum status status = trial_insert(swap, wanted, form == 1, &kept, &error);
        bool same = status == STATUS_OK && image_equal(kept, wanted);
        image_free(&kept);
        if (same) {
            *ret_by_upsert = form == 1;
            return STATUS_OK;
        }
        if (status != STATUS_OK && status != STATUS_REFUSED) {
            return error_set(ret_error, status, "%s", error.message);
        }
    }
    return error_set(ret_error, STATUS_CONFLICT,
                     "the server does not keep this document as it is when it is inserted");
}

/* A duplicate key: of _id, then somebody's document is there; or of another unique index. */
static enum status insert_refused(const struct swap *swap, struct error *cause,
                                  enum upstream_swap *ret_swap, struct error *ret_error)
{
    struct image now = {0};
    enum status status =
        upstream_find_image(swap->upstream, swap->namespace, swap->key, &now, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (now.presence == IMAGE_PRESENT) {
        *ret_swap = UPSTREAM_SWAP_DIFFERS;
    } else {
        status = error_set(ret_error, STATUS_CONFLICT, "%s", cause->message);
    }
    image_free(&now);
    return status;
}

/* After an insert: takes away again what the server did not keep as it was sent. */
static enum status insert_settle(const struct swap *swap, struct image wanted, bool by_upsert,
                                 struct image now, enum upstream_swap *ret_swap,
                                 struct error *ret_error)
{
    struct image absent = {.presence = IMAGE_ABSENT};
    struct image kept = {0};
    struct image removed = {0};
    int32_t code = 0;
    if (image_equal(now, wanted)) {
        *ret_swap = UPSTREAM_SWAP_DONE;
        return STATUS_OK;
    }
    enum status status = trial_insert(swap, wanted, by_upsert, &kept, ret_error);
    if (status == STATUS_OK && image_equal(kept, wanted)) {
        *ret_swap = UPSTREAM_SWAP_DONE; /* and then somebody changed it */
    } else if (status == STATUS_OK) {
        if (image_equal(kept, now)) {
            status = swap_modify(swap, now.document, absent, &removed, &code, ret_error);
        }
        *ret_swap = UPSTREAM_SWAP_DIFFERS;
    }
    image_free(&kept);
    image_free(&removed);
    return status;
}

static enum status swap_create(const struct swap *swap, struct image wanted,
                               enum upstream_swap *ret_swap, struct error *ret_error)
{
    bool by_upsert = false;
    struct image now = {0};
    struct error error = {0};
    int32_t code = 0;
    enum status status = choose_insert(swap, wanted, &by_upsert, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = swap_insert(swap->upstream, swap->namespace, wanted, swap->comment, by_upsert,
                         swap->key, &code, &error);
    if (status == STATUS_REFUSED && code == CODE_DUPLICATE_KEY) {
        return insert_refused(swap, &error, ret_swap, ret_error);
    }
    if (status != STATUS_OK) {
        error_set(ret_error, status, "%s", error.message);
        return final_refusal(status, code, ret_error);
    }
    status = upstream_find_image(swap->upstream, swap->namespace, swap->key, &now, ret_error);
    if (status == STATUS_OK) {
        status = insert_settle(swap, wanted, by_upsert, now, ret_swap, ret_error);
    }
    image_free(&now);
    return status;
}

static enum status swap_nothing(const struct swap *swap, enum upstream_swap *ret_swap,
                                struct error *ret_error)
{
    struct image now = {0};
    enum status status =
        upstream_find_image(swap->upstream, swap->namespace, swap->key, &now, ret_error);
    if (status == STATUS_OK) {
        *ret_swap = now.presence == IMAGE_ABSENT ? UPSTREAM_SWAP_DONE : UPSTREAM_SWAP_DIFFERS;
        image_free(&now);
    }
    return status;
}

static size_t images_bytes(struct slice key, struct image expected, struct image wanted)
{
    return key.size + (expected.presence == IMAGE_PRESENT ? expected.document.size : 0) +
           (wanted.presence == IMAGE_PRESENT ? wanted.document.size : 0);
}

bool upstream_images_fit(struct slice key, struct image expected, struct image wanted)
{
    return images_bytes(key, expected, wanted) <= IMAGES_BYTES_MAX;
}

enum status upstream_replace_image(struct upstream *upstream, const char *namespace,
                                   struct slice key, struct image expected, struct image wanted,
                                   const char *comment, enum upstream_swap *ret_swap,
                                   struct error *ret_error)
{
    struct swap swap = {
        .upstream = upstream, .namespace = namespace, .key = key, .comment = comment};
    if (expected.presence == IMAGE_UNKNOWN || wanted.presence == IMAGE_UNKNOWN) {
        return error_set(ret_error, STATUS_INVALID, "an image is unknown");
    }
    bool both = expected.presence == IMAGE_PRESENT && wanted.presence == IMAGE_PRESENT;
    if (!upstream_images_fit(key, expected, wanted)) {
        return error_set(ret_error, STATUS_UNSUPPORTED,
                         "the document's images have %zu bytes; together they must fit one "
                         "command (%zu)",
                         images_bytes(key, expected, wanted), IMAGES_BYTES_MAX);
    }
    if (both) {
        return swap_replace(&swap, expected, wanted, ret_swap, ret_error);
    }
    if (expected.presence == IMAGE_PRESENT) {
        return swap_remove(&swap, expected, wanted, ret_swap, ret_error);
    }
    if (wanted.presence == IMAGE_PRESENT) {
        return swap_create(&swap, wanted, ret_swap, ret_error);
    }
    return swap_nothing(&swap, ret_swap, ret_error);
}
