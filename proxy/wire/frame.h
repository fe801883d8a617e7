#ifndef HOLDFAST_WIRE_FRAME_H
#define HOLDFAST_WIRE_FRAME_H

/*
 * The header that starts every message of the MongoDB wire protocol, little-endian:
 *
 *     offset  bytes  field
 *          0      4  length       of the whole message, header included
 *          4      4  request id   chosen by the sender
 *          8      4  response to  the request id that is answered, 0 in a request
 *         12      4  opcode
 *         16      …  the body, by opcode: op_msg.h, op_query.h
 *
 * OP_COMPRESSED: the proxy's hello offers no compressor, so no peer may send one and every parser
 * answers STATUS_PROTOCOL for it. A codec belongs between this file and op_msg.h: it takes a whole
 * message with that opcode and makes the message that was compressed, header included, in a buffer
 * of at most LIMIT_MESSAGE_BYTES_MAX; nothing else has to know.
 *
 * Pure functions on the caller's memory; any thread.
 */

#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

#define WIRE_HEADER_BYTES 16

enum wire_opcode {
    WIRE_OPCODE_REPLY = 1,
    WIRE_OPCODE_QUERY = 2004,
    WIRE_OPCODE_COMPRESSED = 2012,
    WIRE_OPCODE_MSG = 2013,
};

struct wire_header {
    uint32_t length;
    int32_t request_id;
    int32_t response_to;
    int32_t opcode; /* enum wire_opcode */
};

/*
 * Reads the first 16 of `bytes` (more may follow). STATUS_PROTOCOL unless they are there, 16 <=
 * length <= LIMIT_MESSAGE_BYTES_MAX and the opcode is one of enum wire_opcode: the stream cannot be
 * followed any further.
 */
MUST_CHECK enum status wire_header_parse(struct slice bytes, struct wire_header *ret_header);

/* As wire_header_parse() for a whole message: `message` is exactly as long as its header says. */
MUST_CHECK enum status wire_message_parse(struct slice message, enum wire_opcode opcode,
                                          struct wire_header *ret_header, struct slice *ret_rest);

/* Writes 16 bytes at `at`. */
void wire_header_store(uint8_t *at, const struct wire_header *header);

#endif
