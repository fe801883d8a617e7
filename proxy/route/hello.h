#ifndef HOLDFAST_ROUTE_HELLO_H
#define HOLDFAST_ROUTE_HELLO_H

/*
 * The persona of a listener for driver transactions: a mongos. Every official driver then offers
 * transactions and retries against this one address, by whatever name it was dialled (driver
 * specification: Server Discovery and Monitoring).
 */

#include <bson/bson.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

/* The highest wire version whose commands the proxy understands (MongoDB 8.0). */
#define HELLO_WIRE_VERSION_MAX 25
/* Below this one (MongoDB 4.2) a mongos has no transactions. */
#define HELLO_WIRE_VERSION_MIN 8

/*
 * Appends to the empty document *persona what the client is told for the server's reply to hello or
 * isMaster. A reply that is an error is copied. STATUS_PROTOCOL: it is no BSON document.
 */
MUST_CHECK enum status hello_rewrite(struct slice reply, bson_t *persona);

#endif
