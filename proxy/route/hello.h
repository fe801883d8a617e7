#ifndef HOLDFAST_ROUTE_HELLO_H
#define HOLDFAST_ROUTE_HELLO_H

/*
 * The persona of a listener: what its hello claims to be.
 *
 * A mongos, for driver transactions: every official driver then offers transactions and retries
 * against this one address, by whatever name it was dialled (driver specification: Server Discovery
 * and Monitoring).
 *
 * A standalone, for services of a domain and for looking on only: what such a service had before.
 * Its driver then does not start to retry writes that it never retried, and knows of no address but
 * the proxy's, also if the server is a member of a set.
 */

#include <bson/bson.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

/* The highest wire version whose commands the proxy understands (MongoDB 8.0). */
#define HELLO_WIRE_VERSION_MAX 25
/* Below this one (MongoDB 4.2) a mongos has no transactions. */
#define HELLO_WIRE_VERSION_MIN 8

enum hello_persona {
    HELLO_MONGOS,
    HELLO_STANDALONE,
};

/*
 * Appends to the empty document *rewritten what the client is told for the server's reply to hello
 * or isMaster. A reply that is an error is copied. STATUS_PROTOCOL: it is no BSON document.
 */
MUST_CHECK enum status hello_rewrite(struct slice reply, enum hello_persona persona,
                                     bson_t *rewritten);

#endif
