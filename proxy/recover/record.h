#ifndef HOLDFAST_RECOVER_RECORD_H
#define HOLDFAST_RECOVER_RECORD_H

/*
 * What the payloads of journal records say. Payloads are BSON documents; this is their schema, the
 * only place that makes them and the only place that reads them.
 *
 *   BEGIN    { boundary: "driver", user: "admin.alice" | "", lsid: Binary(uuid) (driver only),
 *              txnNumber: Int64 (driver only), client: "address:port", appName: "..." | "",
 *              name: "..." (http: method and path of the call; comment: the unit's id),
 *              transaction: { lsid: <document>, txnNumber: Int64 }    native engine only: the
 *                                          server's, in a session of the proxy's own making, which
 *                                          recovery aborts if it was open. Absent from journals of
 *                                          older programs, which pass over it }
 *
 *   WRITE    { n: Int32             position of the write in its unit, from 0
 *              op: "insert" | "update" | "delete"
 *              ns: "database.collection"
 *              key: { _id: <value> }
 *              before: <document> | null   null: the document was absent
 *              after: <document> | null    where it is known before the write
 *              command: <document>         only where `after` is not: what the server is sent,
 *                                          without its guard and $db, repeatable (no time or
 *                                          random operators)
 *              connection: "address:port"  the proxy's own end of the connection that carries it
 *              plainProbe: Int64           the probe (probe.h) after which a plain write, of which
 *                                          the journal knows nothing, may have made `before`: if
 *                                          none with a greater number survives a crash of the
 *                                          server, `before` itself may be lost; absent: 0
 *              known: [ { n: Int32, after: <document> | null } ... ]   after-images of earlier
 *                                          writes of the unit, learned since the record before;
 *                                          or { n: Int32, refused: true }: the server did not
 *                                          carry that write out }
 *
 *   COMMIT   { known: [ ... ]              as in WRITE: with those all after-images are known
 *              reply: <document> }         only for a retryable command: what it was answered; for
 *                                          a request with an Idempotency-Key
 *                                          { fingerprint: Binary(SHA-256), answer: Binary, closes:
 *                                          bool } (boundary/idempotency.h)
 *   ABORT    { reason: "...",
 *              known: [ ... ]            as in WRITE, of what was not carried out only: it has
 *                                        changed nothing, whatever is there; absent where there
 *                                        is none. A CONFLICT may have it, too
 *              kept: true }              only where an operator kept what a conflict had left: the
 *                                        unit did not happen, and is not to be run again either
 *   COMMITTING { lsid: <document>         as the client sent it; native engine only
 *              txnNumber: Int64
 *              recoveryToken: <document>   where the client sent one
 *              api: <document>             the parameters of the Stable API, where there are any
 *              process: ObjectId           the server's process that was asked first, where it
 * tells commands: [ <document> ... ] for the audit: the unit's commands, in order, without their
 * session and cluster time; those that there was room for left: Int32 }               how many
 * there was no room for, or that are not known
 *                                          (-1); absent: 0
 *   CONFLICT { reason: "...",
 *              documents: [ { n: Int32, ns: "...", key: {_id}, before: doc|null,
 *                             after: doc|null|(absent field: unknown), found: doc|null } ... ] }
 *
 * An image is stored byte for byte as the server gave it.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/slice.h"
#include "holdfast/wal.h"

enum record_operation {
    RECORD_INSERT,
    RECORD_UPDATE,
    RECORD_DELETE,
};

struct record_begin {
    const char *boundary;
    const char *user;
    struct slice session_id; /* 16 bytes, or size 0 */
    int64_t transaction_number;
    const char *client;
    const char *application;
    const char *name; /* NULL: none */
    /* The server's, in a session that the proxy has made; size 0: none. */
    struct slice transaction_lsid;
    int64_t transaction;
};

struct record_write {
    int32_t number;
    enum record_operation operation;
    const char *namespace; /* "database.collection", NUL-terminated */
    struct slice key;      /* the document {_id: value} */
    struct image before;   /* never UNKNOWN */
    struct image after;    /* UNKNOWN for updates whose reply was not journaled */
    struct slice command;  /* size 0 if `after` was known before the write */
    const char *connection;
    int64_t plain_probe;
};

/* What was learned of a write after its WRITE record was written. */
struct record_known {
    int32_t number;
    bool refused;       /* it did not happen; `after` is UNKNOWN */
    struct image after; /* else never UNKNOWN */
};

/* What a transaction of the server is asked for by. */
struct record_committing {
    struct slice lsid;
    int64_t transaction_number;
    struct slice recovery_token; /* size 0: none */
    struct slice api;            /* apiVersion and the like, as a document; size 0: none */
    const uint8_t *process;      /* 12 bytes; NULL: not known */
    struct slice commands;       /* the array, as a document; size 0: none */
    int32_t left;
    struct slice reply; /* what COMMIT is to keep; size 0: nothing */
};

/* Appends the payload to *payload, which must be an empty, initialised document. */
void record_put_begin(bson_t *payload, const struct record_begin *begin);
void record_put_write(bson_t *payload, const struct record_write *write,
                      const struct record_known *known, size_t known_count);
/* `reply`: size 0 if there is none to keep. */
void record_put_commit(bson_t *payload, const struct record_known *known, size_t known_count,
                       struct slice reply);
void record_put_committing(bson_t *payload, const struct record_committing *committing);
void record_put_abort(bson_t *payload, const char *reason);
/* Appends to the payload of an ABORT or CONFLICT which writes were not carried out: those have
   changed nothing, whatever is there. Nothing, if there are none. */
void record_put_refused(bson_t *payload, const struct record_known *refused, size_t count);
/* An ABORT that ends a conflict. */
void record_put_resolved(bson_t *payload, const char *reason, bool kept);

/* One document of a CONFLICT: what the journal knows of its last write, and what is there. */
struct record_conflict_document {
    int32_t number; /* of the unit's last write to the document */
    const char *namespace;
    struct slice key;
    struct image before; /* what undoing the unit would restore: never UNKNOWN */
    struct image after;  /* what the unit left there; may be UNKNOWN */
    struct image found;  /* never UNKNOWN */
};

void record_put_conflict(bson_t *payload, const char *reason,
                         const struct record_conflict_document *documents, size_t document_count);
/*
 * What `conflict`, the payload of a CONFLICT, says without its images, in no more than
 * WAL_SHORT_PAYLOAD_BYTES: that still fits into a full journal. STATUS_CORRUPT.
 */
MUST_CHECK enum status record_put_conflict_short(bson_t *payload, struct slice conflict,
                                                 struct error *ret_error);

/*
 * Read a payload. Everything returned points into `payload`, which must outlive it. STATUS_CORRUPT
 * (with the name of the field) if the payload is not a document of the schema above.
 */
MUST_CHECK enum status record_get_begin(struct slice payload, struct record_begin *ret_begin,
                                        struct error *ret_error);
MUST_CHECK enum status record_get_write(struct slice payload, struct record_write *ret_write,
                                        struct error *ret_error);
/* Whether an ABORT or CONFLICT says what was refused: most have nothing to say, and older programs
   never did. */
bool record_has_known(struct slice payload);
/* The entry `index` of `known`, of a WRITE or COMMIT payload, or of another one that has it.
   STATUS_NOT_FOUND past the last. */
MUST_CHECK enum status record_get_known(struct slice payload, size_t index,
                                        struct record_known *ret_known, struct error *ret_error);

/* The `reply` of a COMMIT payload. STATUS_NOT_FOUND if it keeps none. */
MUST_CHECK enum status record_get_reply(struct slice payload, struct slice *ret_reply,
                                        struct error *ret_error);

MUST_CHECK enum status record_get_committing(struct slice payload,
                                             struct record_committing *ret_committing,
                                             struct error *ret_error);

/* Whether an ABORT payload says `kept`. */
bool record_is_kept(struct slice payload);

/* The `reason` of an ABORT or CONFLICT payload. */
MUST_CHECK enum status record_get_reason(struct slice payload, const char **ret_reason,
                                         struct error *ret_error);
/* The entry `index` of a CONFLICT's `documents`. STATUS_NOT_FOUND past the last. */
MUST_CHECK enum status record_get_conflict(struct slice payload, size_t index,
                                           struct record_conflict_document *ret_document,
                                           struct error *ret_error);

/* "insert", "update", "delete". Never NULL. */
const char *record_operation_name(enum record_operation operation);

#endif
