/*
 * The payloads of journal records: makes them and reads them (schema in record.h).
 *
 * Invariants: a reader never trusts a payload. The journal's checksum says that the bytes are those
 * that were written, not that a program of this version wrote them; each field is looked up, its
 * type compared, and the first one that is missing or of another type is named in the error.
 * Images are carried as opaque documents: their own fields are never interpreted or re-encoded, so
 * that a restored document equals the journaled one byte for byte.
 *
 * Threads: pure functions on the caller's memory.
 */

#include "recover/record.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* The rest of a short payload is for the field names around the reason. */
#define SHORT_REASON_BYTES (WAL_SHORT_PAYLOAD_BYTES - 64u)

static const char *const operation_names[] = {
    [RECORD_INSERT] = "insert",
    [RECORD_UPDATE] = "update",
    [RECORD_DELETE] = "delete",
};

const char *record_operation_name(enum record_operation operation)
{
    return operation_names[operation];
}

/* ------------------------------------------------------------------ making */

static void put_document(bson_t *payload, const char *name, struct slice document)
{
    bson_t view;
    bool whole = bson_init_static(&view, document.data, document.size);
    assert(whole); /* the caller's promise: a slice of a message that was checked when it came */
    whole = bson_append_document(payload, name, -1, &view);
    assert(whole); /* fails at 2 GiB only; a record holds a few documents of 16 MiB */
    (void)whole;
}

/* An UNKNOWN image is an absent field. */
static void put_image(bson_t *payload, const char *name, struct image image)
{
    if (image.presence == IMAGE_PRESENT) {
        put_document(payload, name, image.document);
    } else if (image.presence == IMAGE_ABSENT) {
        BSON_APPEND_NULL(payload, name);
    }
}

static void put_known(bson_t *payload, const struct record_known *known, size_t known_count)
{
    bson_t array;
    BSON_APPEND_ARRAY_BEGIN(payload, "known", &array);
    for (size_t i = 0; i < known_count; i++) {
        char buffer[16];
        const char *index;
        bson_t entry;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof(buffer));
        BSON_APPEND_DOCUMENT_BEGIN(&array, index, &entry);
        BSON_APPEND_INT32(&entry, "n", known[i].number);
        if (known[i].refused) {
            BSON_APPEND_BOOL(&entry, "refused", true);
        } else {
            put_image(&entry, "after", known[i].after);
        }
        bson_append_document_end(&array, &entry);
    }
    bson_append_array_end(payload, &array);
}

void record_put_begin(bson_t *payload, const struct record_begin *begin)
{
    BSON_APPEND_UTF8(payload, "boundary", begin->boundary);
    BSON_APPEND_UTF8(payload, "user", begin->user == NULL ? "" : begin->user);
    if (begin->name != NULL) {
        BSON_APPEND_UTF8(payload, "name", begin->name);
    }
    if (begin->session_id.size > 0) {
        BSON_APPEND_BINARY(payload, "lsid", BSON_SUBTYPE_UUID, begin->session_id.data,
                           (uint32_t)begin->session_id.size);
        BSON_APPEND_INT64(payload, "txnNumber", begin->transaction_number);
    }
    BSON_APPEND_UTF8(payload, "client", begin->client == NULL ? "" : begin->client);
    BSON_APPEND_UTF8(payload, "appName", begin->application == NULL ? "" : begin->application);
    if (begin->transaction_lsid.size > 0) {
        bson_t transaction;
        BSON_APPEND_DOCUMENT_BEGIN(payload, "transaction", &transaction);
        put_document(&transaction, "lsid", begin->transaction_lsid);
        BSON_APPEND_INT64(&transaction, "txnNumber", begin->transaction);
        bson_append_document_end(payload, &transaction);
    }
}

void record_put_write(bson_t *payload, const struct record_write *write,
                      const struct record_known *known, size_t known_count)
{
    BSON_APPEND_INT32(payload, "n", write->number);
    BSON_APPEND_UTF8(payload, "op", operation_names[write->operation]);
    BSON_APPEND_UTF8(payload, "ns", write->namespace);
    put_document(payload, "key", write->key);
    put_image(payload, "before", write->before);
    put_image(payload, "after", write->after);
    if (write->command.size > 0) {
        put_document(payload, "command", write->command);
    }
    BSON_APPEND_UTF8(payload, "connection", write->connection == NULL ? "" : write->connection);
    if (write->plain_probe != 0) {
        BSON_APPEND_INT64(payload, "plainProbe", write->plain_probe);
    }
    put_known(payload, known, known_count);
}

void record_put_commit(bson_t *payload, const struct record_known *known, size_t known_count,
                       struct slice reply)
{
    put_known(payload, known, known_count);
    if (reply.size > 0) {
        put_document(payload, "reply", reply);
    }
}

void record_put_committing(bson_t *payload, const struct record_committing *committing)
{
    bson_t commands;
    put_document(payload, "lsid", committing->lsid);
    BSON_APPEND_INT64(payload, "txnNumber", committing->transaction_number);
    if (committing->recovery_token.size > 0) {
        put_document(payload, "recoveryToken", committing->recovery_token);
    }
    if (committing->api.size > 0) {
        put_document(payload, "api", committing->api);
    }
    if (committing->process != NULL) {
        bson_oid_t process;
        bson_oid_init_from_data(&process, committing->process);
        BSON_APPEND_OID(payload, "process", &process);
    }
    if (committing->commands.size > 0 &&
        bson_init_static(&commands, committing->commands.data, committing->commands.size)) {
        BSON_APPEND_ARRAY(payload, "commands", &commands);
    }
    if (committing->left != 0) {
        BSON_APPEND_INT32(payload, "left", committing->left);
    }
    if (committing->reply.size > 0) {
        put_document(payload, "reply", committing->reply);
    }
}

void record_put_abort(bson_t *payload, const char *reason)
{
    BSON_APPEND_UTF8(payload, "reason", reason);
}

void record_put_refused(bson_t *payload, const struct record_known *refused, size_t count)
{
    if (count > 0) {
        put_known(payload, refused, count);
    }
}

void record_put_resolved(bson_t *payload, const char *reason, bool kept)
{
    record_put_abort(payload, reason);
    if (kept) {
        BSON_APPEND_BOOL(payload, "kept", true);
    }
}

void record_put_conflict(bson_t *payload, const char *reason,
                         const struct record_conflict_document *documents, size_t document_count)
{
    bson_t array;
    BSON_APPEND_UTF8(payload, "reason", reason);
    BSON_APPEND_ARRAY_BEGIN(payload, "documents", &array);
    for (size_t i = 0; i < document_count; i++) {
        char buffer[16];
        const char *index;
        bson_t entry;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof(buffer));
        BSON_APPEND_DOCUMENT_BEGIN(&array, index, &entry);
        BSON_APPEND_INT32(&entry, "n", documents[i].number);
        BSON_APPEND_UTF8(&entry, "ns", documents[i].namespace);
        put_document(&entry, "key", documents[i].key);
        put_image(&entry, "before", documents[i].before);
        put_image(&entry, "after", documents[i].after);
        put_image(&entry, "found", documents[i].found);
        bson_append_document_end(&array, &entry);
    }
    bson_append_array_end(payload, &array);
}

/* ------------------------------------------------------------------ reading */

static enum status field_error(struct error *ret_error, const char *name, const char *expected)
{
    return error_set(ret_error, STATUS_CORRUPT, "field `%s` of the record is not %s", name,
                     expected);
}

static enum status view_open(struct slice payload, bson_t *ret_view, struct error *ret_error)
{
    /* libbson takes sizes up to INT32_MAX; the store never gives more, but nothing here knows that
     */
    if (payload.size < 5 || payload.size > INT32_MAX ||
        !bson_init_static(ret_view, payload.data, payload.size)) {
        return error_set(ret_error, STATUS_CORRUPT, "the record's payload is not a BSON document");
    }
    return STATUS_OK;
}

static enum status get_text(const bson_t *view, const char *name, const char **ret_text,
                            struct error *ret_error)
{
    bson_iter_t at;
    uint32_t size;
    if (!bson_iter_init_find(&at, view, name) || !BSON_ITER_HOLDS_UTF8(&at)) {
        return field_error(ret_error, name, "a text");
    }
    const char *text = bson_iter_utf8(&at, &size);
    if (strnlen(text, size) != size) {
        return field_error(ret_error, name, "a text without NUL");
    }
    *ret_text = text;
    return STATUS_OK;
}

static enum status get_number(const bson_t *view, int32_t *ret_number, struct error *ret_error)
{
    bson_iter_t at;
    if (!bson_iter_init_find(&at, view, "n") || !BSON_ITER_HOLDS_INT32(&at) ||
        bson_iter_int32(&at) < 0) {
        return field_error(ret_error, "n", "a number from 0");
    }
    *ret_number = bson_iter_int32(&at);
    return STATUS_OK;
}

static enum status get_plain_probe(const bson_t *view, int64_t *ret_probe, struct error *ret_error)
{
    bson_iter_t at;
    if (!bson_iter_init_find(&at, view, "plainProbe")) {
        return STATUS_OK;
    }
    if (!BSON_ITER_HOLDS_INT64(&at) || bson_iter_int64(&at) < 0) {
        return field_error(ret_error, "plainProbe", "a 64-bit number from 0");
    }
    *ret_probe = bson_iter_int64(&at);
    return STATUS_OK;
}

/* The document under the iterator; false if its own length field disagrees with its place. */
static bool iterator_document(const bson_iter_t *at, struct slice *ret_document)
{
    uint32_t size = 0;
    const uint8_t *data = NULL;
    bson_t view;
    bson_iter_document(at, &size, &data);
    if (data == NULL || !bson_init_static(&view, data, size)) {
        return false;
    }
    *ret_document = slice_make(data, size);
    return true;
}

static enum status get_document(const bson_t *view, const char *name, struct slice *ret_document,
                                struct error *ret_error)
{
    bson_iter_t at;
    if (!bson_iter_init_find(&at, view, name) || !BSON_ITER_HOLDS_DOCUMENT(&at) ||
        !iterator_document(&at, ret_document)) {
        return field_error(ret_error, name, "a document");
    }
    return STATUS_OK;
}

static enum status get_key(const bson_t *view, struct slice *ret_key, struct error *ret_error)
{
    struct slice key;
    enum status status = get_document(view, "key", &key, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    bson_t key_view;
    bson_iter_t at;
    if (!bson_init_static(&key_view, key.data, key.size) || !bson_iter_init(&at, &key_view) ||
        !bson_iter_next(&at) || strcmp(bson_iter_key(&at), "_id") != 0 || bson_iter_next(&at) ||
        at.err_off != 0) {
        return field_error(ret_error, "key", "a document of `_id` only");
    }
    *ret_key = key;
    return STATUS_OK;
}

/* An absent field is UNKNOWN, which `required` forbids. */
static enum status get_image(const bson_t *view, const char *name, bool required,
                             struct image *ret_image, struct error *ret_error)
{
    bson_iter_t at;
    struct image image = {.presence = IMAGE_UNKNOWN};
    if (!bson_iter_init_find(&at, view, name)) {
        /* A damaged document must not pass for one without the field. */
        if (required || at.err_off != 0) {
            return field_error(ret_error, name, "an image");
        }
        *ret_image = image;
        return STATUS_OK;
    }
    if (BSON_ITER_HOLDS_NULL(&at)) {
        image.presence = IMAGE_ABSENT;
    } else if (BSON_ITER_HOLDS_DOCUMENT(&at) && iterator_document(&at, &image.document)) {
        image.presence = IMAGE_PRESENT;
    } else {
        return field_error(ret_error, name, "an image (a document or null)");
    }
    *ret_image = image;
    return STATUS_OK;
}

static enum status get_namespace(const bson_t *view, const char **ret_namespace,
                                 struct error *ret_error)
{
    const char *text;
    enum status status = get_text(view, "ns", &text, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    const char *dot = strchr(text, '.');
    if (dot == NULL || dot == text || dot[1] == '\0') {
        return field_error(ret_error, "ns", "database.collection");
    }
    *ret_namespace = text;
    return STATUS_OK;
}

static enum status get_transaction(const bson_t *view, struct record_begin *begin,
                                   struct error *ret_error)
{
    struct slice found;
    bson_t transaction;
    bson_iter_t at;
    enum status status = get_document(view, "transaction", &found, ret_error);
    if (status == STATUS_OK) {
        status = view_open(found, &transaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_document(&transaction, "lsid", &begin->transaction_lsid, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (!bson_iter_init_find(&at, &transaction, "txnNumber") || !BSON_ITER_HOLDS_INT64(&at)) {
        return field_error(ret_error, "txnNumber", "a 64-bit number");
    }
    begin->transaction = bson_iter_int64(&at);
    return STATUS_OK;
}

enum status record_get_begin(struct slice payload, struct record_begin *ret_begin,
                             struct error *ret_error)
{
    struct record_begin begin = {0};
    bson_t view;
    bson_iter_t at;
    enum status status = view_open(payload, &view, ret_error);
    if (status == STATUS_OK) {
        status = get_text(&view, "boundary", &begin.boundary, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_text(&view, "user", &begin.user, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_text(&view, "client", &begin.client, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_text(&view, "appName", &begin.application, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (bson_iter_init_find(&at, &view, "name")) {
        status = get_text(&view, "name", &begin.name, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (bson_iter_init_find(&at, &view, "lsid")) {
        bson_subtype_t subtype;
        uint32_t size = 0;
        const uint8_t *data = NULL;
        if (!BSON_ITER_HOLDS_BINARY(&at)) {
            return field_error(ret_error, "lsid", "a UUID");
        }
        bson_iter_binary(&at, &subtype, &size, &data);
        if (subtype != BSON_SUBTYPE_UUID || size != 16 || data == NULL) {
            return field_error(ret_error, "lsid", "a UUID");
        }
        begin.session_id = slice_make(data, size);
        if (!bson_iter_init_find(&at, &view, "txnNumber") || !BSON_ITER_HOLDS_INT64(&at)) {
            return field_error(ret_error, "txnNumber", "a 64-bit number");
        }
        begin.transaction_number = bson_iter_int64(&at);
    }
    if (bson_iter_init_find(&at, &view, "transaction")) {
        status = get_transaction(&view, &begin, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    *ret_begin = begin;
    return STATUS_OK;
}

static enum status get_operation(const bson_t *view, enum record_operation *ret_operation,
                                 struct error *ret_error)
{
    const char *text;
    enum status status = get_text(view, "op", &text, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < sizeof(operation_names) / sizeof(operation_names[0]); i++) {
        if (strcmp(text, operation_names[i]) == 0) {
            *ret_operation = (enum record_operation)i;
            return STATUS_OK;
        }
    }
    return field_error(ret_error, "op", "insert, update or delete");
}

/* What the operation says about its images: an insert finds nothing and leaves something, ... */
static enum status check_images(const struct record_write *write, struct error *ret_error)
{
    bool inserts = write->operation == RECORD_INSERT;
    if (inserts != (write->before.presence == IMAGE_ABSENT) && write->operation != RECORD_UPDATE) {
        return field_error(ret_error, "before", "possible for this `op`");
    }
    if (inserts && write->after.presence == IMAGE_ABSENT) {
        return field_error(ret_error, "after", "possible for this `op`");
    }
    return STATUS_OK;
}

enum status record_get_write(struct slice payload, struct record_write *ret_write,
                             struct error *ret_error)
{
    struct record_write write = {0};
    bson_t view;
    enum status status = view_open(payload, &view, ret_error);
    if (status == STATUS_OK) {
        status = get_number(&view, &write.number, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_operation(&view, &write.operation, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_namespace(&view, &write.namespace, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_key(&view, &write.key, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_image(&view, "before", true, &write.before, ret_error);
    }
    if (status == STATUS_OK) {
        status =
            get_image(&view, "after", write.operation != RECORD_UPDATE, &write.after, ret_error);
    }
    if (status == STATUS_OK && write.after.presence == IMAGE_UNKNOWN) {
        status = get_document(&view, "command", &write.command, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_text(&view, "connection", &write.connection, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_plain_probe(&view, &write.plain_probe, ret_error);
    }
    if (status == STATUS_OK) {
        status = check_images(&write, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_write = write;
    }
    return status;
}

/*
 * The document `index` of the array `name`. Entries are counted, not found by their keys: an
 * array's keys are only its writer's habit.
 */
static enum status get_entry(struct slice payload, const char *name, size_t index,
                             bson_t *ret_entry, struct error *ret_error)
{
    bson_t view;
    bson_iter_t at;
    bson_iter_t child;
    enum status status = view_open(payload, &view, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!bson_iter_init_find(&at, &view, name) || !BSON_ITER_HOLDS_ARRAY(&at) ||
        !bson_iter_recurse(&at, &child)) {
        return field_error(ret_error, name, "an array");
    }
    for (size_t i = 0; bson_iter_next(&child); i++) {
        struct slice document;
        if (i < index) {
            continue;
        }
        if (!BSON_ITER_HOLDS_DOCUMENT(&child) || !iterator_document(&child, &document) ||
            !bson_init_static(ret_entry, document.data, document.size)) {
            return field_error(ret_error, name, "an array of documents");
        }
        return STATUS_OK;
    }
    if (child.err_off != 0) {
        return field_error(ret_error, name, "an array of whole entries");
    }
    return error_set(ret_error, STATUS_NOT_FOUND, "no entry %zu in `%s`", index, name);
}

bool record_has_known(struct slice payload)
{
    bson_iter_t at;
    return bson_iter_init_from_data(&at, payload.data, payload.size) &&
           bson_iter_find(&at, "known");
}

enum status record_get_known(struct slice payload, size_t index, struct record_known *ret_known,
                             struct error *ret_error)
{
    struct record_known known = {0};
    bson_t entry;
    enum status status = get_entry(payload, "known", index, &entry, ret_error);
    if (status == STATUS_OK) {
        status = get_number(&entry, &known.number, ret_error);
    }
    bson_iter_t at;
    if (status == STATUS_OK && bson_iter_init_find(&at, &entry, "refused")) {
        known.refused = bson_iter_as_bool(&at);
    }
    if (status == STATUS_OK && !known.refused) {
        status = get_image(&entry, "after", true, &known.after, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_known = known;
    }
    return status;
}

enum status record_get_reply(struct slice payload, struct slice *ret_reply, struct error *ret_error)
{
    bson_t view;
    bson_iter_t at;
    enum status status = view_open(payload, &view, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!bson_iter_init_find(&at, &view, "reply")) {
        return error_set(ret_error, STATUS_NOT_FOUND, "the record keeps no reply");
    }
    return get_document(&view, "reply", ret_reply, ret_error);
}

static void get_committing_rest(const bson_t *view, struct record_committing *committing)
{
    bson_iter_t at;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (bson_iter_init_find(&at, view, "recoveryToken") && BSON_ITER_HOLDS_DOCUMENT(&at)) {
        (void)iterator_document(&at, &committing->recovery_token);
    }
    if (bson_iter_init_find(&at, view, "api") && BSON_ITER_HOLDS_DOCUMENT(&at)) {
        (void)iterator_document(&at, &committing->api);
    }
    if (bson_iter_init_find(&at, view, "process") && BSON_ITER_HOLDS_OID(&at)) {
        committing->process = bson_iter_oid(&at)->bytes;
    }
    if (bson_iter_init_find(&at, view, "commands") && BSON_ITER_HOLDS_ARRAY(&at)) {
        bson_iter_array(&at, &size, &data);
        committing->commands = slice_make(data, data == NULL ? 0 : size);
    }
    if (bson_iter_init_find(&at, view, "left") && BSON_ITER_HOLDS_INT32(&at)) {
        committing->left = bson_iter_int32(&at);
    }
    if (bson_iter_init_find(&at, view, "reply") && BSON_ITER_HOLDS_DOCUMENT(&at)) {
        (void)iterator_document(&at, &committing->reply);
    }
}

enum status record_get_committing(struct slice payload, struct record_committing *ret_committing,
                                  struct error *ret_error)
{
    bson_t view;
    bson_iter_t at;
    struct record_committing committing = {0};
    enum status status = view_open(payload, &view, ret_error);
    if (status == STATUS_OK) {
        status = get_document(&view, "lsid", &committing.lsid, ret_error);
    }
    if (status == STATUS_OK &&
        (!bson_iter_init_find(&at, &view, "txnNumber") || !BSON_ITER_HOLDS_INT64(&at))) {
        status = field_error(ret_error, "txnNumber", "a 64-bit number");
    }
    if (status != STATUS_OK) {
        return status;
    }
    committing.transaction_number = bson_iter_int64(&at);
    get_committing_rest(&view, &committing);
    *ret_committing = committing;
    return STATUS_OK;
}

bool record_is_kept(struct slice payload)
{
    bson_t view;
    bson_iter_t at;
    return payload.size > 0 && bson_init_static(&view, payload.data, payload.size) &&
           bson_iter_init_find(&at, &view, "kept") && bson_iter_as_bool(&at);
}

enum status record_get_reason(struct slice payload, const char **ret_reason,
                              struct error *ret_error)
{
    bson_t view;
    enum status status = view_open(payload, &view, ret_error);
    if (status == STATUS_OK) {
        status = get_text(&view, "reason", ret_reason, ret_error);
    }
    return status;
}

enum status record_get_conflict(struct slice payload, size_t index,
                                struct record_conflict_document *ret_document,
                                struct error *ret_error)
{
    struct record_conflict_document document = {0};
    bson_t entry;
    enum status status = get_entry(payload, "documents", index, &entry, ret_error);
    if (status == STATUS_OK) {
        status = get_number(&entry, &document.number, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_namespace(&entry, &document.namespace, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_key(&entry, &document.key, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_image(&entry, "before", true, &document.before, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_image(&entry, "after", false, &document.after, ret_error);
    }
    if (status == STATUS_OK) {
        status = get_image(&entry, "found", true, &document.found, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_document = document;
    }
    return status;
}

enum status record_put_conflict_short(bson_t *payload, struct slice conflict,
                                      struct error *ret_error)
{
    const char *reason = "";
    char shortened[SHORT_REASON_BYTES];
    enum status status = record_get_reason(conflict, &reason, ret_error);
    if (status == STATUS_OK) {
        /* A character that is cut in two would not be UTF-8: the end of the reason is left out. */
        size_t size = strlen(reason);
        size = size < SHORT_REASON_BYTES - 100 ? size : SHORT_REASON_BYTES - 100;
        while (size > 0 && ((unsigned char)reason[size] & 0xC0) == 0x80) {
            size--;
        }
        snprintf(shortened, sizeof(shortened),
                 "%.*s (the journal is full: the images are not in this record)", (int)size,
                 reason);
        record_put_conflict(payload, shortened, NULL, 0);
    }
    return status;
}
