#ifndef HOLDFAST_UPSTREAM_TRANSACTION_H
#define HOLDFAST_UPSTREAM_TRANSACTION_H

/*
 * Asking the server, with the proxy's own credential, how somebody's transaction ended.
 *
 * A commit may be sent again as often as one likes (driver specification: Transactions): it is
 * carried out once, and answered the same each time, for as long as the server remembers the
 * session. A session belongs to one user, and the server tells its owner by a digest beside the id:
 * to name another user's session takes the privilege `impersonate` on the cluster.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "upstream/upstream.h"

struct upstream_transaction {
    struct slice lsid; /* the document, as the client sent it */
    int64_t number;
    struct slice recovery_token; /* the document; size 0: none */
    struct slice api;            /* of the Stable API: its commands' parameters; size 0: none */
    const char *user;            /* "database.name"; "": nobody has logged in */
};

/* How long the server may take to have a commit on the majority. */
#define UPSTREAM_COMMIT_WAIT_MS 10000

/*
 * Sends commitTransaction once more, with write concern majority. *ret_reply is what the server
 * answered, be it an error, to be destroyed by the caller, after STATUS_OK. Of a session that
 * somebody owns both digests that servers make of a name are tried: the answer is the one that is
 * not "no such transaction", if there is one.
 *
 * Errors: STATUS_UNREACHABLE, STATUS_PROTOCOL, STATUS_MEMORY, STATUS_REFUSED (the login).
 */
MUST_CHECK enum status upstream_commit_again(struct upstream *upstream,
                                             const struct upstream_transaction *transaction,
                                             bson_t *ret_reply, struct error *ret_error);

/* Tells the server that nobody will commit it. *ret_code: the error that it answers; 0 if it is
   aborted now or no such transaction is there. Errors: as upstream_commit_again(). */
MUST_CHECK enum status upstream_abort(struct upstream *upstream,
                                      const struct upstream_transaction *transaction,
                                      int32_t *ret_code, struct error *ret_error);

/* What "no such transaction" means, from this server. */
struct upstream_memory {
    bool keeps; /* how transactions ended is on its disk, as in mongod's config.transactions: it did
                   not happen, also after a restart of the server */
    bool tells_older; /* an older transaction of a session is another error (mongod:
                         TransactionTooOld), so it did not happen, unless the server has restarted.
                         SecantusDB says the same of all but the newest, committed or not */
};

/*
 * Makes two transactions in the proxy's own database, and looks for them. A mongos is taken at its
 * word. Errors: as upstream_command().
 */
MUST_CHECK enum status upstream_learn_memory(struct upstream *upstream,
                                             struct upstream_memory *ret_memory,
                                             struct error *ret_error);

#endif
