/*
 * Taking write commands apart. Everything comes from a client: every field's type is checked, an
 * unknown field is an error as mongod's strict parser makes it.
 */
#include "engine/statement.h"

#include <stdlib.h>
#include <string.h>

#include "engine/statement_parse.h"
#include "holdfast/clock.h"
#include "holdfast/limits.h"
#include "wire/bson_check.h"

/* mongod's own bound for statements in one command. */
#define STATEMENTS_MAX 100000u

static const uint8_t empty_document[5] = {5, 0, 0, 0, 0};

struct statement statement_new(enum statement_kind kind)
{
    return (struct statement){.kind = kind,
                              .filter = slice_make(empty_document, sizeof empty_document)};
}

bool parse_document(const bson_iter_t *at, struct slice *ret_document)
{
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (BSON_ITER_HOLDS_DOCUMENT(at)) {
        bson_iter_document(at, &size, &data);
    } else if (BSON_ITER_HOLDS_ARRAY(at)) {
        bson_iter_array(at, &size, &data);
    }
    if (data == NULL) {
        return false;
    }
    *ret_document = slice_make(data, size);
    return bson_check(*ret_document, NULL) == STATUS_OK;
}

enum status parse_fail_type(struct parse *parse, const char *field)
{
    return fail(parse, REPLY_CODE_TypeMismatch, "BSON field '%s' has a type that it cannot have",
                field);
}

enum status parse_fail_unknown(struct parse *parse, const char *field)
{
    return fail(parse, REPLY_CODE_IDLUnknownField, "BSON field '%s' is an unknown field.", field);
}

enum status parse_fail_missing(struct parse *parse, const char *field)
{
    return fail(parse, REPLY_CODE_IDLFailedToParse,
                "BSON field '%s' is missing but a required field", field);
}

bool parse_flag(const bson_iter_t *at, bool *ret_flag)
{
    bool valid = BSON_ITER_HOLDS_BOOL(at) || BSON_ITER_HOLDS_NUMBER(at);
    if (valid) {
        *ret_flag = bson_iter_as_bool(at);
    }
    return valid;
}

enum status parse_add(struct parse *parse, const struct statement *statement)
{
    struct statement_list *list = &parse->list;
    if (list->count == STATEMENTS_MAX) {
        return fail(parse, REPLY_CODE_InvalidLength, "Write batch sizes must be between 1 and %u",
                    STATEMENTS_MAX);
    }
    if (list->count == parse->capacity) {
        size_t capacity = parse->capacity == 0 ? 4 : parse->capacity * 2;
        struct statement *grown = realloc(list->statements, capacity * sizeof *grown);
        if (grown == NULL) {
            return fail(parse, REPLY_CODE_InternalError, "out of memory");
        }
        list->statements = grown;
        parse->capacity = capacity;
    }
    list->statements[list->count++] = *statement;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ update documents */

static bool is_operator_update(struct slice update)
{
    bson_iter_t at;
    return bson_iter_init_from_data(&at, update.data, update.size) && bson_iter_next(&at) &&
           bson_iter_key(&at)[0] == '$';
}

/* Whether a path has the component "$". */
static bool is_positional_path(const char *path)
{
    for (const char *at = path; (at = strstr(at, ".$")) != NULL; at += 2) {
        if (at[2] == '\0' || at[2] == '.') {
            return true;
        }
    }
    return false;
}

static bool is_positional_update(struct slice update)
{
    bson_iter_t at;
    bson_iter_t field;
    bool valid = bson_iter_init_from_data(&at, update.data, update.size);
    while (valid && bson_iter_next(&at)) {
        if (!BSON_ITER_HOLDS_DOCUMENT(&at) || !bson_iter_recurse(&at, &field)) {
            continue;
        }
        while (bson_iter_next(&field)) {
            if (is_positional_path(bson_iter_key(&field))) {
                return true;
            }
        }
    }
    return false;
}

void parse_update_done(struct statement *statement, bool pipeline)
{
    statement->kind = STATEMENT_UPDATE;
    statement->update_is_pipeline = pipeline;
    statement->update_is_replacement = !pipeline && !is_operator_update(statement->update);
    statement->update_is_positional =
        !pipeline && !statement->update_is_replacement && is_positional_update(statement->update);
}

/* ------------------------------------------------------------------ fields of statements */

bool parse_common(const char *name, const bson_iter_t *at, struct statement *statement,
                  bool *ret_valid)
{
    *ret_valid = true;
    if (strcmp(name, "collation") == 0) {
        *ret_valid = BSON_ITER_HOLDS_DOCUMENT(at) && parse_document(at, &statement->collation);
    } else if (strcmp(name, "arrayFilters") == 0) {
        *ret_valid = BSON_ITER_HOLDS_ARRAY(at) && parse_document(at, &statement->array_filters);
    } else if (strcmp(name, "hint") == 0) {
        *ret_valid = BSON_ITER_HOLDS_DOCUMENT(at) || BSON_ITER_HOLDS_UTF8(at);
        statement->hint = *bson_iter_value((bson_iter_t *)(uintptr_t)at);
    } else if (strcmp(name, "upsert") == 0) {
        *ret_valid = parse_flag(at, &statement->upsert);
    } else if (strcmp(name, "sort") == 0) {
        *ret_valid = BSON_ITER_HOLDS_DOCUMENT(at) && parse_document(at, &statement->sort);
    } else {
        return false;
    }
    return true;
}

enum status parse_fail_update(struct parse *parse)
{
    return fail(parse, REPLY_CODE_FailedToParse,
                "Update argument must be either an object or an array");
}

static enum status parse_update(struct parse *parse, struct slice document)
{
    struct statement statement = {.kind = STATEMENT_UPDATE};
    bool pipeline = false;
    bson_iter_t at;
    if (bson_check(document, NULL) != STATUS_OK ||
        !bson_iter_init_from_data(&at, document.data, document.size)) {
        return fail(parse, REPLY_CODE_FailedToParse, "an element of 'updates' is not valid BSON");
    }
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        bool valid = true;
        if (parse_common(name, &at, &statement, &valid)) {
            /* taken */
        } else if (strcmp(name, "q") == 0) {
            valid = BSON_ITER_HOLDS_DOCUMENT(&at) && parse_document(&at, &statement.filter);
        } else if (strcmp(name, "u") == 0) {
            pipeline = BSON_ITER_HOLDS_ARRAY(&at);
            if (!parse_document(&at, &statement.update)) {
                return parse_fail_update(parse);
            }
        } else if (strcmp(name, "multi") == 0) {
            valid = parse_flag(&at, &statement.multi);
        } else {
            return parse_fail_unknown(parse, name);
        }
        if (!valid) {
            return parse_fail_type(parse, name);
        }
    }
    if (statement.filter.size == 0 || statement.update.size == 0) {
        return parse_fail_missing(parse, statement.filter.size == 0 ? "q" : "u");
    }
    parse_update_done(&statement, pipeline);
    return parse_add(parse, &statement);
}

static enum status parse_delete(struct parse *parse, struct slice document)
{
    struct statement statement = {.kind = STATEMENT_DELETE};
    int64_t limit = -1;
    bool has_limit = false;
    bson_iter_t at;
    if (bson_check(document, NULL) != STATUS_OK ||
        !bson_iter_init_from_data(&at, document.data, document.size)) {
        return fail(parse, REPLY_CODE_FailedToParse, "an element of 'deletes' is not valid BSON");
    }
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        bool valid = true;
        if (parse_common(name, &at, &statement, &valid)) {
            /* taken */
        } else if (strcmp(name, "q") == 0) {
            valid = BSON_ITER_HOLDS_DOCUMENT(&at) && parse_document(&at, &statement.filter);
        } else if (strcmp(name, "limit") == 0) {
            has_limit = valid = BSON_ITER_HOLDS_BOOL(&at) || BSON_ITER_HOLDS_NUMBER(&at);
            limit = bson_iter_as_int64(&at);
        } else {
            return parse_fail_unknown(parse, name);
        }
        if (!valid) {
            return parse_fail_type(parse, name);
        }
    }
    if (statement.filter.size == 0 || !has_limit) {
        return parse_fail_missing(parse, statement.filter.size == 0 ? "q" : "limit");
    }
    if (limit != 0 && limit != 1) {
        return fail(parse, REPLY_CODE_FailedToParse,
                    "The limit field in delete objects must be 0 or 1");
    }
    statement.multi = limit == 0;
    return parse_add(parse, &statement);
}

enum status parse_insert_document(struct parse *parse, struct statement *statement,
                                  struct slice document)
{
    if (bson_check(document, NULL) != STATUS_OK) {
        return fail(parse, REPLY_CODE_FailedToParse, "a document to insert is not valid BSON");
    }
    if (document.size > LIMIT_DOCUMENT_BYTES_MAX) {
        return fail(parse, REPLY_CODE_BSONObjectTooLarge,
                    "object to insert too large. size in bytes: %zu, max size: %u", document.size,
                    LIMIT_DOCUMENT_BYTES_MAX);
    }
    statement->kind = STATEMENT_INSERT;
    statement->document = document;
    return STATUS_OK;
}

static enum status parse_insert(struct parse *parse, struct slice document)
{
    struct statement statement = {0};
    enum status status = parse_insert_document(parse, &statement, document);
    return status == STATUS_OK ? parse_add(parse, &statement) : status;
}

/* ------------------------------------------------------------------ elements and options */

enum status parse_elements(struct parse *parse, const struct command_view *view,
                           const struct op_msg *message, const char *name, const char *other,
                           element_parser *parse_one)
{
    struct slice sections = message->sections;
    struct op_msg_sequence sequence;
    bool found = false;
    while (op_msg_sequence_next(&sections, &sequence)) {
        if (other != NULL && slice_equal(sequence.identifier, slice_text(other))) {
            continue;
        }
        if (!slice_equal(sequence.identifier, slice_text(name))) {
            return fail(parse, REPLY_CODE_FailedToParse, "a document sequence has an unknown name");
        }
        found = true;
        struct slice document;
        while (bson_slice_next(&sequence.documents, &document)) {
            enum status status = parse_one(parse, document);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    bson_iter_t at;
    bson_iter_t element;
    if (!bson_iter_init_from_data(&at, view->body.data, view->body.size) ||
        !bson_iter_find(&at, name)) {
        return found ? STATUS_OK : parse_fail_missing(parse, name);
    }
    if (!BSON_ITER_HOLDS_ARRAY(&at) || !bson_iter_recurse(&at, &element)) {
        return fail(parse, REPLY_CODE_TypeMismatch, "'%s' must be an array", name);
    }
    while (bson_iter_next(&element)) {
        struct slice document;
        if (!BSON_ITER_HOLDS_DOCUMENT(&element) || !parse_document(&element, &document)) {
            return fail(parse, REPLY_CODE_TypeMismatch, "an element of '%s' is not a document",
                        name);
        }
        enum status status = parse_one(parse, document);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* Top-level fields of insert, update and delete that say something about all statements. */
static enum status parse_options(struct parse *parse, const struct command_view *view,
                                 struct slice *ret_variables)
{
    bson_iter_t at;
    parse->list.max_time_ms = view->max_time_ms;
    if (!bson_iter_init_from_data(&at, view->body.data, view->body.size)) {
        return fail(parse, REPLY_CODE_FailedToParse, "the command is not valid BSON");
    }
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        bool valid = true;
        if (strcmp(name, "ordered") == 0) {
            valid = parse_flag(&at, &parse->list.ordered);
        } else if (strcmp(name, "bypassDocumentValidation") == 0) {
            valid = parse_flag(&at, &parse->list.bypass_validation);
        } else if (strcmp(name, "let") == 0) {
            valid = BSON_ITER_HOLDS_DOCUMENT(&at) && parse_document(&at, ret_variables);
        }
        if (!valid) {
            return parse_fail_type(parse, name);
        }
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ commands */

static enum status parse_find_and_modify(struct parse *parse, const struct command_view *view)
{
    struct statement statement = statement_new(STATEMENT_UPDATE);
    bool remove = false;
    bool pipeline = false;
    bson_iter_t at;
    if (bson_check(view->body, NULL) != STATUS_OK ||
        !bson_iter_init_from_data(&at, view->body.data, view->body.size)) {
        return fail(parse, REPLY_CODE_FailedToParse, "the command is not valid BSON");
    }
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        bool valid = true;
        if (parse_common(name, &at, &statement, &valid)) {
            /* taken */
        } else if (strcmp(name, "query") == 0) {
            valid = BSON_ITER_HOLDS_DOCUMENT(&at) && parse_document(&at, &statement.filter);
        } else if (strcmp(name, "update") == 0) {
            pipeline = BSON_ITER_HOLDS_ARRAY(&at);
            if (!parse_document(&at, &statement.update)) {
                return parse_fail_update(parse);
            }
        } else if (strcmp(name, "remove") == 0) {
            valid = parse_flag(&at, &remove);
        } else if (strcmp(name, "new") == 0) {
            valid = parse_flag(&at, &parse->list.return_new);
        } else if (strcmp(name, "fields") == 0) {
            valid = BSON_ITER_HOLDS_DOCUMENT(&at) && parse_document(&at, &parse->list.fields);
        }
        if (!valid) {
            return parse_fail_type(parse, name);
        }
    }
    if (remove == (statement.update.size > 0)) {
        return fail(parse, REPLY_CODE_FailedToParse,
                    "findAndModify needs either a valid update or remove: true");
    }
    if (remove && (statement.upsert || parse->list.return_new)) {
        return fail(parse, REPLY_CODE_FailedToParse,
                    "findAndModify with remove: true takes neither upsert nor new");
    }
    if (remove) {
        statement.kind = STATEMENT_DELETE;
    } else {
        parse_update_done(&statement, pipeline);
    }
    return parse_add(parse, &statement);
}

static enum status parse_command(struct parse *parse, const struct command_view *view,
                                 const struct op_msg *message, struct slice *ret_variables)
{
    enum status status;
    if (strcmp(view->name, "bulkWrite") == 0) {
        parse->list.reply = STATEMENT_REPLY_BULK;
        status = parse_bulk(parse, view, message);
    } else if (view->collection == NULL) {
        return fail(parse, REPLY_CODE_InvalidNamespace, "'%s' needs the name of a collection",
                    view->name);
    } else if (strcmp(view->name, "insert") == 0) {
        parse->list.reply = STATEMENT_REPLY_INSERT;
        status = parse_elements(parse, view, message, "documents", NULL, parse_insert);
    } else if (strcmp(view->name, "update") == 0) {
        parse->list.reply = STATEMENT_REPLY_UPDATE;
        status = parse_elements(parse, view, message, "updates", NULL, parse_update);
    } else if (strcmp(view->name, "delete") == 0) {
        parse->list.reply = STATEMENT_REPLY_DELETE;
        status = parse_elements(parse, view, message, "deletes", NULL, parse_delete);
    } else {
        parse->list.reply = STATEMENT_REPLY_FIND_AND_MODIFY;
        status = parse_find_and_modify(parse, view);
    }
    if (status == STATUS_OK && parse->list.count == 0) {
        status = fail(parse, REPLY_CODE_InvalidLength, "Write batch sizes must be between 1 and %u",
                      STATEMENTS_MAX);
    }
    return status == STATUS_OK ? parse_options(parse, view, ret_variables) : status;
}

static struct parse parse_new(struct error *ret_error)
{
    return (struct parse){.list.ordered = true,
                          .error = ret_error,
                          .code = REPLY_CODE_FailedToParse,
                          .now_ms = clock_wall_ms()};
}

enum status statement_list_parse(const struct command_view *view, const struct op_msg *message,
                                 struct statement_list *ret_list, int *ret_code,
                                 struct error *ret_error)
{
    struct parse parse = parse_new(ret_error);
    struct slice variables = {0};
    enum status status = parse_command(&parse, view, message, &variables);
    if (status == STATUS_OK) {
        status = parse_literals(&parse, variables);
    }
    if (status != STATUS_OK) {
        *ret_code = parse.code;
        statement_list_free(&parse.list);
        return status;
    }
    *ret_list = parse.list;
    return STATUS_OK;
}

void statement_list_free(struct statement_list *list)
{
    for (size_t i = 0; i < list->rewritten_count; i++) {
        bson_destroy(list->rewritten[i]);
    }
    free(list->rewritten);
    free(list->statements);
    for (size_t i = 0; i < list->namespace_count; i++) {
        bson_free(list->namespaces[i].database);
        bson_free(list->namespaces[i].collection);
    }
    free(list->namespaces);
    *list = (struct statement_list){0};
}

bool statement_is_several(const struct command_view *view, const struct op_msg *message)
{
    struct parse parse = parse_new(NULL);
    struct slice variables = {0};
    /* Most write one document: for those nothing is rewritten here. */
    bool several = parse_command(&parse, view, message, &variables) == STATUS_OK &&
                   (parse.list.count > 1 || parse.list.statements[0].multi) &&
                   parse_literals(&parse, variables) == STATUS_OK;
    statement_list_free(&parse.list);
    return several;
}
