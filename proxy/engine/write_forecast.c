/*
 * Which keys of unique indexes an update will make that the server computes: to be locked before it
 * does (write_unique.c).
 *
 *   operators   told from the operators and the document (unique_forecast.h)
 *   a pipeline  the server is asked what it makes of the documents, by an aggregation that changes
 *               nothing. They are locked, so that it is what the update will make of them: from
 *               here on the after-image is known, and is written as such. Of a document that an
 *               upsert makes only the keys are taken.
 *
 * What cannot be told is locked when the server has answered, as it always was (write_take_unique).
 *
 * Worker of the channel only.
 */
#include <string.h>

#include "engine/equality.h"
#include "engine/id_list.h"
#include "engine/insert_document.h"
#include "engine/unique_forecast.h"
#include "engine/write_steps.h"
#include "holdfast/limits.h"
#include "wire/bson_check.h"
#include "wire/reply.h"

static bool is_asked(const struct write_document *document)
{
    return document->fate == WRITE_PENDING && document->command != NULL;
}

static bool any_is_asked(const struct write_operation *operation)
{
    bool any = false;
    for (size_t i = 0; i < operation->document_count && !any; i++) {
        any = is_asked(&operation->documents[i]);
    }
    return any;
}

static void tell_by_operators(struct write_operation *operation)
{
    const struct statement *statement = write_statement(operation);
    for (size_t i = 0; i < operation->document_count; i++) {
        struct write_document *document = &operation->documents[i];
        if (!is_asked(document) || document->forecast != NULL) {
            continue;
        }
        document->forecast = bson_new();
        if (!unique_forecast(operation->unique, statement, document->before.document, document->key,
                             document->forecast)) {
            bson_destroy(document->forecast);
            document->forecast = NULL;
        }
    }
}

/* The stages that an update takes: an aggregation takes others, too. */
static bool is_update_pipeline(struct slice pipeline)
{
    static const char *const stages[] = {"$set",     "$addFields",   "$unset",
                                         "$project", "$replaceWith", "$replaceRoot"};
    bson_iter_t at;
    bson_iter_t stage;
    bool valid = bson_iter_init_from_data(&at, pipeline.data, pipeline.size);
    while (valid && bson_iter_next(&at)) {
        bool known = false;
        bool single = BSON_ITER_HOLDS_DOCUMENT(&at) && bson_iter_recurse(&at, &stage) &&
                      bson_iter_next(&stage);
        for (size_t i = 0; single && i < sizeof stages / sizeof stages[0]; i++) {
            known = known || strcmp(bson_iter_key(&stage), stages[i]) == 0;
        }
        valid = single && known && !bson_iter_next(&stage);
    }
    return valid;
}

static void put_asked_ids(const struct write_operation *operation, bson_t *ids)
{
    uint32_t count = 0;
    for (size_t i = 0; i < operation->document_count; i++) {
        if (is_asked(&operation->documents[i])) {
            (void)id_list_append_of(ids, &count, operation->documents[i].key);
        }
    }
}

/* What an upsert's document begins with: its _id, and what the filter says must be equal. */
static void put_base(const struct write_operation *operation, bson_t *base)
{
    bson_t equalities = BSON_INITIALIZER;
    bson_t key;
    bson_iter_t at;
    struct slice id = operation->documents[0].key;
    if (bson_init_static(&key, id.data, id.size)) {
        bson_concat(base, &key);
    }
    equality_collect(write_statement(operation)->filter, &equalities);
    (void)bson_iter_init(&at, &equalities);
    while (bson_iter_next(&at)) {
        if (strcmp(bson_iter_key(&at), "_id") != 0 && strchr(bson_iter_key(&at), '.') == NULL) {
            bson_append_iter(base, NULL, 0, &at);
        }
    }
    bson_destroy(&equalities);
}

static enum status build(const struct write_operation *operation, bson_t *command)
{
    if (operation->forecast_cursor_id != 0) {
        command_build_get_more(command, &operation->target, operation->forecast_cursor_id);
        return STATUS_OK;
    }
    if (operation->documents[0].before.presence == IMAGE_ABSENT) {
        bson_t base = BSON_INITIALIZER;
        put_base(operation, &base);
        enum status status = command_build_evaluate(
            command, &operation->target, write_statement(operation), NULL, write_slice(&base));
        bson_destroy(&base);
        return status;
    }
    bson_t ids = BSON_INITIALIZER;
    put_asked_ids(operation, &ids);
    enum status status = command_build_evaluate(
        command, &operation->target, write_statement(operation), &ids, (struct slice){0});
    bson_destroy(&ids);
    return status;
}

bool write_forecast(struct write_operation *operation)
{
    const struct statement *statement = write_statement(operation);
    bson_t command = BSON_INITIALIZER;
    operation->step = WRITE_LOCKING_UNIQUE;
    if (!any_is_asked(operation) || !unique_indexes_touched(operation->unique, statement)) {
        return true;
    }
    if (!statement->update_is_pipeline) {
        tell_by_operators(operation);
        return true;
    }
    if (!is_update_pipeline(statement->update) || build(operation, &command) != STATUS_OK) {
        bson_destroy(&command);
        return true;
    }
    operation->step = WRITE_FORECASTING;
    write_send(operation, &command);
    return false;
}

/* ------------------------------------------------------------------ the server's answer */

static struct write_document *find_asked(struct write_operation *operation, struct slice after)
{
    bson_t key = BSON_INITIALIZER;
    struct write_document *found = NULL;
    (void)write_key_of(after, &key);
    for (size_t i = 0; i < operation->document_count && found == NULL; i++) {
        struct write_document *document = &operation->documents[i];
        if (is_asked(document) && slice_equal(document->key, write_slice(&key))) {
            found = document;
        }
    }
    bson_destroy(&key);
    return found;
}

/* A document that the update makes of one that is there, as every server stores it. */
static bool can_be_written(const struct write_document *document, struct slice after)
{
    return document->before.presence == IMAGE_PRESENT && after.size <= LIMIT_DOCUMENT_BYTES_MAX &&
           bson_check(after, NULL) == STATUS_OK;
}

static void take_after(struct write_document *document, struct slice after)
{
    bson_t *copy = insert_document_id_first(after);
    if (copy == NULL) {
        return;
    }
    if (!can_be_written(document, after)) {
        bson_destroy(document->forecast);
        document->forecast = copy;
        return;
    }
    bson_destroy(document->command);
    document->command = NULL;
    document->after = copy;
    if (slice_equal(document->before.document, write_slice(copy))) {
        document->fate = WRITE_UNCHANGED;
    }
}

void write_take_forecast(struct write_operation *operation, struct slice reply)
{
    struct reply_view view;
    bson_iter_t at;
    operation->step = WRITE_LOCKING_UNIQUE;
    operation->forecast_cursor_id = 0;
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.ok || !view.has_cursor ||
        view.batch.size == 0 || !bson_iter_init_from_data(&at, view.batch.data, view.batch.size)) {
        return; /* the update itself gets the error, if it is one */
    }
    while (bson_iter_next(&at)) {
        struct slice after = write_slice_at(&at);
        struct write_document *document = find_asked(operation, after);
        if (document != NULL) {
            take_after(document, after);
        }
    }
    operation->forecast_cursor_id = view.cursor_id;
    if (view.cursor_id != 0) {
        operation->step = WRITE_FORECASTING; /* write_forecast() asks for the rest */
    }
}
