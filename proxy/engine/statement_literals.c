/*
 * Time and random values of a command's statements become literals (literals.h), one time for the
 * whole command. Pure but for them.
 */
#include <stdlib.h>

#include "engine/literals.h"
#include "engine/statement_parse.h"

/* Takes over `copy` and points *part to it. */
static enum status take_rewritten(struct parse *parse, bson_t *copy, struct slice *part)
{
    struct statement_list *list = &parse->list;
    if (list->rewritten_count == parse->rewritten_capacity) {
        size_t capacity = parse->rewritten_capacity == 0 ? 4 : parse->rewritten_capacity * 2;
        /* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what it holds */
        bson_t **grown = realloc(list->rewritten, capacity * sizeof(*grown));
        if (grown == NULL) {
            bson_destroy(copy);
            return fail(parse, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        }
        list->rewritten = grown;
        parse->rewritten_capacity = capacity;
    }
    list->rewritten[list->rewritten_count++] = copy;
    *part = slice_make(bson_get_data(copy), copy->len);
    return STATUS_OK;
}

static enum status fail_unrepeatable(struct parse *parse)
{
    return fail(parse, REPLY_CODE_OperationNotSupportedInTransaction,
                "$$CLUSTER_TIME, $function and $accumulator cannot be repeated exactly, so a unit "
                "does not take them: send a literal value");
}

static bool has_current_date(struct slice update)
{
    bson_iter_t at;
    return bson_iter_init_from_data(&at, update.data, update.size) &&
           bson_iter_find(&at, "$currentDate");
}

static enum status fix_update(struct parse *parse, struct statement *statement)
{
    if (statement->kind != STATEMENT_UPDATE || statement->update_is_replacement) {
        return STATUS_OK;
    }
    if (!statement->update_is_pipeline) {
        if (!has_current_date(statement->update)) {
            return STATUS_OK;
        }
        bson_t *copy = literals_replace_current_date(statement->update, parse->now_ms);
        /* A form that it cannot have is the server's to refuse. */
        return copy != NULL ? take_rewritten(parse, copy, &statement->update) : STATUS_OK;
    }
    unsigned found = literals_find(statement->update);
    statement->update_is_random = (found & LITERALS_RANDOM) != 0;
    if ((found & LITERALS_UNREPEATABLE) != 0) {
        return fail_unrepeatable(parse);
    }
    return (found & LITERALS_NOW) == 0
               ? STATUS_OK
               : take_rewritten(parse,
                                literals_replace(statement->update, LITERALS_NOW, parse->now_ms),
                                &statement->update);
}

static enum status fix_filter(struct parse *parse, struct statement *statement)
{
    unsigned found = literals_find_in_filter(statement->filter);
    statement->filter_is_random = (found & (LITERALS_RANDOM | LITERALS_UNREPEATABLE)) != 0;
    return (found & LITERALS_NOW) == 0
               ? STATUS_OK
               : take_rewritten(
                     parse,
                     literals_replace_in_filter(statement->filter, LITERALS_NOW, parse->now_ms),
                     &statement->filter);
}

/* The variables of let are evaluated once for a whole command, $rand as well. */
static enum status fix_variables(struct parse *parse, struct slice *variables)
{
    unsigned found = literals_find(*variables);
    if ((found & LITERALS_UNREPEATABLE) != 0) {
        return fail_unrepeatable(parse);
    }
    return found == 0 ? STATUS_OK
                      : take_rewritten(parse, literals_replace(*variables, found, parse->now_ms),
                                       variables);
}

enum status parse_literals(struct parse *parse, struct slice variables)
{
    struct statement_list *list = &parse->list;
    enum status status = fix_variables(parse, &variables);
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        list->statements[i].variables = variables;
        status = fix_filter(parse, &list->statements[i]);
        if (status == STATUS_OK) {
            status = fix_update(parse, &list->statements[i]);
        }
    }
    return status;
}
