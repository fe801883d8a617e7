#ifndef HOLDFAST_ROUTE_COMMAND_TABLE_H
#define HOLDFAST_ROUTE_COMMAND_TABLE_H

/* What the proxy does with each command it knows; all others pass through untouched. */

#include "wire/command.h"

enum command_class {
    COMMAND_PASS,            /* reads and everything the proxy has no business with */
    COMMAND_HELLO,           /* its reply is rewritten */
    COMMAND_LOGIN,           /* tells which user the connection belongs to */
    COMMAND_WRITE,           /* writes documents: of one namespace, but for bulkWrite */
    COMMAND_NAMESPACE_WRITE, /* changes a namespace as a whole */
    COMMAND_SERVER_WRITE,    /* may change several namespaces */
    COMMAND_END_SESSIONS,    /* ends sessions and with them their transactions */
    COMMAND_TRANSACTION,     /* commitTransaction, abortTransaction */
    COMMAND_UNIT,            /* beginUnit, commitUnit, abortUnit; on admin */
};

enum command_class command_classify(const struct command_view *view);

#endif
