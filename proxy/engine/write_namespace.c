/*
 * How a write's namespace is locked, and namespaces that do not take one: views never, and what
 * mongod keeps transactions out of not in a driver's transaction. Asked for each statement, so that
 * each gets the error that it has in mongod. Worker of the channel only.
 */
#include "engine/equality.h"
#include "engine/write_steps.h"
#include "unit/namespace_lock.h"
#include "wire/reply.h"

bool write_key_is_collated(const struct write_operation *operation, const bson_t *key)
{
    bson_iter_t id;
    return operation->collated && bson_iter_init_find(&id, key, "_id") &&
           (BSON_ITER_HOLDS_UTF8(&id) || BSON_ITER_HOLDS_DOCUMENT(&id));
}

/* Whether which document a statement writes depends on no other: it has one _id, which is locked.
 */
static bool is_pinned(const struct write_operation *operation, const struct statement *statement)
{
    bson_t key = BSON_INITIALIZER;
    bool pinned = statement->collation.size == 0 && equality_names_one(statement->filter, &key) &&
                  !write_key_is_collated(operation, &key);
    bson_destroy(&key);
    return pinned;
}

unsigned write_namespace_modes(const struct write_operation *operation)
{
    unsigned modes = NAMESPACE_WRITE;
    const struct statement_list *list = &operation->list;
    if (!operation->unit->locks.serializable) {
        return modes;
    }
    for (size_t i = operation->index; i < list->count && modes == NAMESPACE_WRITE; i++) {
        const struct statement *statement = &list->statements[i];
        if (statement->namespace_number == operation->namespace_number &&
            statement->kind != STATEMENT_INSERT && !is_pinned(operation, statement)) {
            modes |= NAMESPACE_READ;
        }
    }
    return modes;
}

bool write_wants_more_of_namespace(const struct write_operation *operation)
{
    const struct lock_owner *owner = &operation->unit->locks;
    return owner->serializable &&
           !namespace_is_locked(owner, operation->gate, write_namespace_modes(operation));
}

static void refuse_statement(struct write_operation *operation, int code, const char *what)
{
    bson_t failure = BSON_INITIALIZER;
    reply_put_error(&failure, code, NULL, "Namespace %s is %s", operation->namespace, what);
    if (write_refused(operation, operation->index, write_slice(&failure))) {
        operation->step = WRITE_SELECTING;
    }
    bson_destroy(&failure);
}

bool write_refuse_namespace(struct write_operation *operation)
{
    const struct command_target *target = &operation->target;
    bool transaction = operation->errors == WRITE_ERRORS_ABORT;
    if (operation->kind == NAMESPACE_VIEW) {
        refuse_statement(operation, REPLY_CODE_CommandNotSupportedOnView,
                         "a view, not a collection");
    } else if (transaction && operation->kind == NAMESPACE_CAPPED) {
        refuse_statement(operation, REPLY_CODE_OperationNotSupportedInTransaction,
                         "a capped collection, which transactions do not write");
    } else if (transaction && operation->kind == NAMESPACE_TIME_SERIES) {
        write_fail(operation, REPLY_CODE_OperationNotSupportedInTransaction,
                   "transactions do not write time-series collections");
    } else if (transaction && namespace_is_internal(target->database, target->collection)) {
        write_fail(operation, REPLY_CODE_OperationNotSupportedInTransaction,
                   "transactions do not write system collections, nor the databases admin, config "
                   "and local");
    } else {
        return false;
    }
    return true;
}
