#ifndef HOLDFAST_WIRE_OP_QUERY_H
#define HOLDFAST_WIRE_OP_QUERY_H

/*
 * OP_QUERY and OP_REPLY, which drivers still use for the first hello of a connection,
 * little-endian:
 *
 *     OP_QUERY                                     OP_REPLY
 *      0  16  header, opcode 2004                   0  16  header, opcode 1
 *     16   4  flags                                16   4  flags
 *     20   …  "database.collection", NUL           20   8  cursor id
 *      …   4  documents to skip                    28   4  starting from
 *      …   4  documents to return                  32   4  number of documents
 *      …   …  the query, one BSON document         36   …  the documents
 *      …   …  fields to return, one BSON document, may be absent
 *
 * Slices look into the caller's bytes; documents are measured, not validated (bson_check.h).
 * Parsers fail with STATUS_PROTOCOL only. Pure functions; any thread.
 */

#include <stdint.h>

#include "base/buffer.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "wire/frame.h"

struct op_query {
    int32_t flags;
    struct slice collection; /* its NUL is not counted, but follows */
    int32_t skip;
    int32_t count;
    struct slice query;
};

MUST_CHECK enum status op_query_parse(struct slice message, struct op_query *ret_query);

/* A reply with exactly one document; any other number is STATUS_PROTOCOL. */
MUST_CHECK enum status op_reply_parse(struct slice message, struct slice *ret_document);

/* Appends a whole message; all or nothing. Errors: as op_msg_append(). */
MUST_CHECK enum status op_query_append(struct buffer *out, int32_t request_id,
                                       const struct op_query *query);
MUST_CHECK enum status op_reply_append(struct buffer *out, int32_t request_id, int32_t response_to,
                                       struct slice document);

#endif
