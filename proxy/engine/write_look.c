/*
 * Looking besides a write: which documents it wrote, where the server's counts leave that open;
 * whether an update that matches nothing is well formed; and findAndModify's projection of the
 * document that is locked anyway.
 *
 * Worker of the channel only.
 */
#include "engine/apply_update.h"
#include "engine/id_list.h"
#include "engine/write_steps.h"
#include "wire/reply.h"

/* ------------------------------------------------------------------ which were written */

/* A find of `count` documents from `first` on. */
static void put_find(const struct write_operation *operation, size_t first, size_t count,
                     bson_t *command)
{
    bson_t ids = BSON_INITIALIZER;
    uint32_t appended = 0;
    for (size_t i = 0; i < count; i++) {
        (void)id_list_append_of(&ids, &appended, operation->documents[first + i].key);
    }
    command_build_find_ids(command, &operation->target, &ids, false);
    bson_destroy(&ids);
}

bool write_check(struct write_operation *operation)
{
    bson_t command = BSON_INITIALIZER;
    put_find(operation, operation->document_at, operation->sent_count, &command);
    write_send(operation, &command);
    return false;
}

void write_put_look(const struct write_operation *operation, bson_t *command)
{
    put_find(operation, 0, operation->document_count, command);
}

static bool is_in_batch(struct slice batch, struct slice document)
{
    bson_iter_t iter;
    bool found = false;
    if (batch.size == 0 || !bson_iter_init_from_data(&iter, batch.data, batch.size)) {
        return false;
    }
    while (!found && bson_iter_next(&iter)) {
        found = BSON_ITER_HOLDS_DOCUMENT(&iter) && slice_equal(write_slice_at(&iter), document);
    }
    return found;
}

bool write_documents_are_unchanged(const struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    bson_iter_t at;
    size_t present = 0;
    size_t seen = 0;
    bool unchanged = reply_view_parse(reply, &view) == STATUS_OK && view.ok && view.has_cursor &&
                     view.cursor_id == 0 && view.batch.size > 0 &&
                     bson_iter_init_from_data(&at, view.batch.data, view.batch.size);
    for (size_t i = 0; i < operation->document_count && unchanged; i++) {
        const struct image *before = &operation->documents[i].before;
        if (before->presence == IMAGE_PRESENT) {
            present++;
            unchanged = is_in_batch(view.batch, before->document);
        }
    }
    while (unchanged && bson_iter_next(&at)) {
        seen++;
    }
    return unchanged && seen == present; /* none that should not be there */
}

static void doubt(struct write_operation *operation)
{
    operation->unit->doubt = "documents were changed around the proxy while the unit wrote "
                             "several of them; which of them it wrote is not known";
    write_fail_behind(operation);
}

/*
 * Fewer documents were written than sent: a stranger changed some in between. Replaced ones are
 * told by their after-images, if as many are seen as the server says it changed. Removed ones are
 * gone, and so are those that the stranger removed: then only an operator can tell.
 */
void write_take_check(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    int64_t seen = 0;
    bool remove = write_statement(operation)->kind == STATEMENT_DELETE;
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.ok || !view.has_cursor ||
        view.cursor_id != 0 || remove) {
        doubt(operation);
        return;
    }
    for (size_t i = 0; i < operation->sent_count; i++) {
        size_t index = operation->document_at + i;
        if (is_in_batch(view.batch, write_slice(operation->documents[index].after))) {
            seen++;
        } else {
            write_documents_refuse(operation, index, 1);
        }
    }
    if (seen != operation->done_count) {
        doubt(operation);
        return;
    }
    write_fail_behind(operation);
}

/* ------------------------------------------------------------------ is it well formed? */

/*
 * A server reads the whole statement before it looks for documents, so what is wrong in it is an
 * error also where nothing matches. What the proxy can compute itself is right.
 */
bool write_wants_probe(const struct write_operation *operation)
{
    static const uint8_t some[] = {14, 0, 0, 0, BSON_TYPE_INT32, '_', 'i', 'd', 0, 1, 0, 0, 0, 0};
    const struct slice document = {some, sizeof some};
    const struct statement *statement = write_statement(operation);
    if (operation->list.reply == STATEMENT_REPLY_FIND_AND_MODIFY &&
        operation->list.fields.size > 0) {
        return true;
    }
    if (statement->kind != STATEMENT_UPDATE) {
        return false;
    }
    bson_t after = BSON_INITIALIZER;
    bool computed =
        apply_update(statement, document, document, &operation->engine->update_rules, &after);
    bson_destroy(&after);
    return !computed;
}

bool write_probe(struct write_operation *operation)
{
    bson_t command = BSON_INITIALIZER;
    command_build_probe(&command, &operation->target, write_statement(operation),
                        operation->list.reply == STATEMENT_REPLY_FIND_AND_MODIFY,
                        operation->list.fields);
    write_send(operation, &command);
    return false;
}

void write_take_probe(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    bool well_formed =
        reply_view_parse(reply, &view) == STATUS_OK && view.ok && !view.has_write_errors;
    if (well_formed || write_refused(operation, operation->index, reply)) {
        operation->step = WRITE_SELECTING;
    }
}

/* ------------------------------------------------------------------ findAndModify's projection */

bool write_wants_projection(const struct write_operation *operation, bool after)
{
    const struct statement_list *list = &operation->list;
    return list->reply == STATEMENT_REPLY_FIND_AND_MODIFY && list->fields.size > 0 &&
           list->return_new == after && !operation->projected && operation->document_count > 0 &&
           (after || operation->documents[0].before.presence == IMAGE_PRESENT);
}

bool write_project(struct write_operation *operation)
{
    bson_t command = BSON_INITIALIZER;
    command_build_find_key(&command, &operation->target, operation->documents[0].key,
                           operation->list.fields);
    write_send(operation, &command);
    return false;
}

void write_take_projection(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    bson_iter_t iter;
    bool before = operation->step == WRITE_PROJECTING_BEFORE;
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.ok || view.batch.size == 0 ||
        !bson_iter_init_from_data(&iter, view.batch.data, view.batch.size)) {
        if (!before) {
            /* mongod would have said so before it wrote anything */
            write_broken_off(operation, operation->index, reply);
        } else if (write_refused(operation, operation->index, reply)) {
            write_skip_statement(operation);
        }
        return;
    }
    struct slice found = {0};
    if (bson_iter_next(&iter) && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        found = write_slice_at(&iter);
    }
    write_result_value(&operation->result, found);
    operation->projected = true;
    operation->step = before ? WRITE_JOURNALING : WRITE_SELECTING;
}
