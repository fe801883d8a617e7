/*
 * Taking bulkWrite apart: writes of any kind, in any namespaces.
 *
 *   { bulkWrite: 1, nsInfo: [ {ns: "db.collection"} ... ], ops: [
 *       { insert: N, document },
 *       { update: N, filter, updateMods, multi?, upsert?, arrayFilters?, collation?, hint?, sort?
 * }, { delete: N, filter, multi?, collation?, hint? } ... ], ordered?, errorsOnly?, let?,
 * bypassDocumentValidation?, $db: "admin" }
 *
 * N is the place in nsInfo. The form is that of MongoDB 8.0's server.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/statement_parse.h"
#include "wire/bson_check.h"

static enum status add_namespace(struct parse *parse, struct slice document)
{
    struct statement_list *list = &parse->list;
    bson_iter_t at;
    const char *text = NULL;
    if (bson_check(document, NULL) == STATUS_OK &&
        bson_iter_init_from_data(&at, document.data, document.size) && bson_iter_find(&at, "ns") &&
        BSON_ITER_HOLDS_UTF8(&at)) {
        text = bson_iter_utf8(&at, NULL);
    }
    const char *dot = text == NULL ? NULL : strchr(text, '.');
    if (dot == NULL || dot == text || dot[1] == '\0') {
        return fail(parse, REPLY_CODE_InvalidNamespace,
                    "each element of 'nsInfo' names a collection: {ns: \"database.collection\"}");
    }
    struct statement_namespace *grown =
        realloc(list->namespaces, (list->namespace_count + 1) * sizeof *grown);
    if (grown == NULL) {
        return fail(parse, REPLY_CODE_ExceededMemoryLimit, "out of memory");
    }
    list->namespaces = grown;
    grown[list->namespace_count++] = (struct statement_namespace){
        .database = bson_strndup(text, (size_t)(dot - text)), .collection = bson_strdup(dot + 1)};
    return STATUS_OK;
}

static enum status take_namespace(struct parse *parse, const bson_iter_t *at,
                                  struct statement *statement)
{
    int64_t number = BSON_ITER_HOLDS_NUMBER(at) ? bson_iter_as_int64(at) : -1;
    if (number < 0 || (uint64_t)number >= parse->list.namespace_count) {
        return fail(parse, REPLY_CODE_BadValue, "an element of 'ops' has an invalid nsInfo index");
    }
    statement->namespace_number = (uint32_t)number;
    return STATUS_OK;
}

static enum status parse_fields(struct parse *parse, bson_iter_t *at, struct statement *statement)
{
    bool pipeline = false;
    bool has_filter = false;
    while (bson_iter_next(at)) {
        const char *name = bson_iter_key(at);
        bool valid = true;
        if (parse_common(name, at, statement, &valid)) {
            /* taken */
        } else if (strcmp(name, "filter") == 0) {
            has_filter = BSON_ITER_HOLDS_DOCUMENT(at) && parse_document(at, &statement->filter);
            valid = has_filter;
        } else if (strcmp(name, "updateMods") == 0 && statement->kind == STATEMENT_UPDATE) {
            pipeline = BSON_ITER_HOLDS_ARRAY(at);
            if (!parse_document(at, &statement->update)) {
                return parse_fail_update(parse);
            }
        } else if (strcmp(name, "multi") == 0) {
            valid = parse_flag(at, &statement->multi);
        } else {
            return parse_fail_unknown(parse, name);
        }
        if (!valid) {
            return parse_fail_type(parse, name);
        }
    }
    if (!has_filter) {
        return parse_fail_missing(parse, "filter");
    }
    if (statement->kind == STATEMENT_UPDATE && statement->update.size == 0) {
        return parse_fail_missing(parse, "updateMods");
    }
    if (statement->kind == STATEMENT_UPDATE) {
        parse_update_done(statement, pipeline);
    }
    return STATUS_OK;
}

static enum status parse_inserted(struct parse *parse, bson_iter_t *at, struct statement *statement)
{
    struct slice document = {0};
    if (!bson_iter_find(at, "document")) {
        return parse_fail_missing(parse, "document");
    }
    if (!BSON_ITER_HOLDS_DOCUMENT(at) || !parse_document(at, &document)) {
        return parse_fail_type(parse, "document");
    }
    return parse_insert_document(parse, statement, document);
}

/* The first field says what it is. */
static enum status parse_operation(struct parse *parse, struct slice document)
{
    static const struct {
        const char *name;
        enum statement_kind kind;
    } kinds[] = {
        {"insert", STATEMENT_INSERT}, {"update", STATEMENT_UPDATE}, {"delete", STATEMENT_DELETE}};
    bson_iter_t at;
    size_t kind = 0;
    if (bson_check(document, NULL) != STATUS_OK ||
        !bson_iter_init_from_data(&at, document.data, document.size) || !bson_iter_next(&at)) {
        return fail(parse, REPLY_CODE_FailedToParse, "an element of 'ops' is not valid");
    }
    while (kind < sizeof kinds / sizeof kinds[0] &&
           strcmp(kinds[kind].name, bson_iter_key(&at)) != 0) {
        kind++;
    }
    if (kind == sizeof kinds / sizeof kinds[0]) {
        return fail(parse, REPLY_CODE_FailedToParse,
                    "an element of 'ops' begins with insert, update or delete, not '%.100s'",
                    bson_iter_key(&at));
    }
    struct statement statement = statement_new(kinds[kind].kind);
    enum status status = take_namespace(parse, &at, &statement);
    if (status == STATUS_OK) {
        status = statement.kind == STATEMENT_INSERT ? parse_inserted(parse, &at, &statement)
                                                    : parse_fields(parse, &at, &statement);
    }
    return status == STATUS_OK ? parse_add(parse, &statement) : status;
}

enum status parse_bulk(struct parse *parse, const struct command_view *view,
                       const struct op_msg *message)
{
    bson_iter_t at;
    enum status status = parse_elements(parse, view, message, "nsInfo", "ops", add_namespace);
    if (status == STATUS_OK) {
        status = parse_elements(parse, view, message, "ops", "nsInfo", parse_operation);
    }
    if (status == STATUS_OK && bson_iter_init_from_data(&at, view->body.data, view->body.size) &&
        bson_iter_find(&at, "errorsOnly")) {
        parse->list.errors_only = bson_iter_as_bool(&at);
    }
    return status;
}
