/*
 * Namespaces that do not take a write: views never, and what mongod keeps transactions out of not
 * in a driver's transaction. Asked for each statement, so that each gets the error that it has in
 * mongod. Worker of the channel only.
 */
#include "engine/write_steps.h"
#include "wire/reply.h"

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
