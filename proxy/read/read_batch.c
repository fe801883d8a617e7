/*
 * Batches inside a unit. A find or aggregate is evaluated whole; its client gets as much as it has
 * asked for, and the rest stays with the unit (unit/unit_cursors.h). Where there is no room for
 * that the client gets all of it at once.
 *
 * The channel's worker, which has the unit checked out.
 */
#include <stdlib.h>
#include <string.h>

#include "holdfast/limits.h"
#include "read/read_private.h"
#include "wire/bson_copy.h"
#include "wire/bson_walk.h"

/* Appends up to `count` documents from the front of *documents. Returns how many. */
static int64_t put_batch(bson_t *cursor, const char *name, struct slice *documents, int64_t count)
{
    bson_t batch;
    uint32_t at = 0;
    bson_append_array_begin(cursor, name, -1, &batch);
    while (documents->size >= 4 && (int64_t)at < count) {
        struct overlay_index index = overlay_index_next(&at);
        bson_t view;
        size_t size = slice_load_u32le(documents->data);
        if (size > documents->size || !bson_init_static(&view, documents->data, size)) {
            break;
        }
        bson_append_document(&batch, overlay_index_text(&index), index.size, &view);
        *documents = slice_rest(*documents, size);
    }
    bson_append_array_end(cursor, &batch);
    return at;
}

/* Of the batch, an array, all documents one behind the other. NULL: out of memory. */
static uint8_t *flatten(struct slice batch, size_t *ret_size)
{
    struct slice fields;
    struct bson_element element;
    size_t size = 0;
    uint8_t *flat = malloc(batch.size + 1);
    if (flat == NULL || !bson_fields_open(batch, &fields)) {
        free(flat);
        return NULL;
    }
    while (bson_element_next(&fields, &element)) {
        memcpy(flat + size, element.value.data, element.value.size);
        size += element.value.size;
    }
    *ret_size = size;
    return flat;
}

/* Returns how many there were of them. */
static int64_t skip(struct slice *documents, int64_t count)
{
    int64_t skipped = 0;
    for (; skipped < count && documents->size >= 4; skipped++) {
        size_t size = slice_load_u32le(documents->data);
        *documents = slice_rest(*documents, size < documents->size ? size : documents->size);
    }
    return skipped;
}

/* What the server's cursor behind it reads. */
static void set_gates(struct unit_cursor *cursor, const struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    _Static_assert(READ_GATES_MAX <= UNIT_CURSOR_GATES_MAX, "a cursor reads what its command does");
    cursor->stamp = operation->stamp;
    if (operation->form != READ_FORM_PASS) {
        memcpy(cursor->gates, command->gates, command->gate_count * sizeof *cursor->gates);
        cursor->gate_count = command->gate_count;
    }
}

/* A copy of the reply, with this first batch and id. */
static void put_reply(bson_t *answer, struct slice reply, const struct unit_cursor *cursor,
                      struct slice first, int64_t count)
{
    bson_iter_t at;
    if (!bson_iter_init_from_data(&at, reply.data, reply.size)) {
        return;
    }
    while (bson_iter_next(&at)) {
        bson_t inside;
        if (strcmp(bson_iter_key(&at), "cursor") != 0) {
            (void)bson_copy_element(answer, &at);
            continue;
        }
        BSON_APPEND_DOCUMENT_BEGIN(answer, "cursor", &inside);
        (void)put_batch(&inside, "firstBatch", &first, count);
        BSON_APPEND_INT64(&inside, "id", cursor->id);
        BSON_APPEND_UTF8(&inside, "ns", cursor->namespace);
        bson_append_document_end(answer, &inside);
    }
}

static char *namespace_of(struct slice reply)
{
    bson_iter_t at;
    bson_iter_t namespace;
    return bson_iter_init_from_data(&at, reply.data, reply.size) &&
                   bson_iter_find_descendant(&at, "cursor.ns", &namespace) &&
                   BSON_ITER_HOLDS_UTF8(&namespace)
               ? bson_strdup(bson_iter_utf8(&namespace, NULL))
               : bson_strdup("");
}

/* Keeps what is behind the first `count` documents. NULL: there is no room. */
static struct unit_cursor *keep(struct read_operation *operation, struct slice reply,
                                struct slice rest, int64_t server_id)
{
    struct unit_cursor *cursor = NULL;
    char *namespace = namespace_of(reply);
    enum status status =
        unit_cursors_add(&operation->unit->kept_cursors, namespace, server_id, rest,
                         &operation->engine->cursor_bytes, LIMIT_CURSOR_BYTES_MAX, &cursor);
    bson_free(namespace);
    if (status != STATUS_OK) {
        return NULL;
    }
    set_gates(cursor, operation);
    return cursor;
}

/* The server has more than one reply of it. */
static bool keep_server_cursor(struct read_operation *operation, struct slice reply,
                               int64_t server_id)
{
    if (keep(operation, reply, (struct slice){0}, server_id) != NULL) {
        return false;
    }
    bson_reinit(&operation->reply);
    reply_put_error(&operation->reply, REPLY_CODE_ExceededMemoryLimit, NULL,
                    "too many cursors are open in this transaction");
    return true;
}

bool read_batch_cut(struct read_operation *operation, struct slice reply)
{
    const struct read_command *command = &operation->command;
    struct reply_view view;
    size_t size = 0;
    if (reply_view_parse(reply, &view) != STATUS_OK) {
        return false;
    }
    uint8_t *flat = command->has_batch_size && !command->single_batch && view.batch.size > 0
                        ? flatten(view.batch, &size)
                        : NULL;
    struct slice all = slice_make(flat, size);
    struct slice rest = all;
    /* As in mongod, a batch that is just full does not tell that nothing is behind it. */
    bool full = skip(&rest, command->batch_size) == command->batch_size &&
                (command->limit == 0 || command->batch_size < command->limit);
    struct unit_cursor *cursor =
        flat == NULL || !full ? NULL : keep(operation, reply, rest, view.cursor_id);
    if (cursor != NULL) {
        bson_reinit(&operation->reply);
        put_reply(&operation->reply, reply, cursor, all, command->batch_size);
    }
    free(flat);
    return cursor != NULL ||
           (view.cursor_id != 0 && keep_server_cursor(operation, reply, view.cursor_id));
}

bool read_batch_next(struct unit_cursors *cursors, struct unit_cursor *cursor,
                     const struct command_view *view, bson_t *reply)
{
    struct bson_element element;
    int64_t count = 0;
    bson_t inside;
    if (cursor->documents.size == 0 && cursor->server_id != 0) {
        return false;
    }
    if (!bson_element_find(view->body, "batchSize", &element) ||
        !bson_element_integer(&element, &count) || count <= 0) {
        count = INT64_MAX;
    }
    BSON_APPEND_DOCUMENT_BEGIN(reply, "cursor", &inside);
    bool full = put_batch(&inside, "nextBatch", &cursor->documents, count) == count;
    bool over = !full && cursor->documents.size == 0 && cursor->server_id == 0;
    BSON_APPEND_INT64(&inside, "id", over ? 0 : cursor->id);
    BSON_APPEND_UTF8(&inside, "ns", cursor->namespace);
    bson_append_document_end(reply, &inside);
    BSON_APPEND_DOUBLE(reply, "ok", 1);
    if (over) {
        unit_cursors_remove(cursors, cursor);
    }
    return true;
}
