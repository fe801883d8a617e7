#ifndef HOLDFAST_WIRE_OP_MSG_H
#define HOLDFAST_WIRE_OP_MSG_H

/*
 * OP_MSG: the message that carries commands and their replies, little-endian:
 *
 *     offset  bytes  field
 *          0     16  header (frame.h), opcode 2013
 *         16      4  flags
 *         20      …  sections, one after another, in any order
 *    end - 4      4  CRC-32C of all bytes before it, only if OP_MSG_CHECKSUM_PRESENT
 *
 *     section kind 0, the body, exactly once          section kind 1, a document sequence
 *     0  1  the byte 0                                0  1  the byte 1
 *     1  …  one BSON document                         1  4  size, from this field to the end
 *                                                     5  …  identifier, NUL-terminated
 *                                                     …  …  BSON documents, one after another
 *
 * What mongod refuses is refused here too, because two readers that disagree about a message would
 * let a client journal one write and execute another: more than two sequences, two of one name, a
 * sequence named like a field of the body.
 *
 * All slices of a parsed message look into the caller's bytes. Documents are measured (length and
 * last byte), not validated: bson_check.h does that. STATUS_PROTOCOL is the only error of parsers.
 * Pure functions on the caller's memory; any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "wire/frame.h"

#define OP_MSG_CHECKSUM_PRESENT 1u
#define OP_MSG_MORE_TO_COME 2u        /* the receiver sends no reply, or another reply follows */
#define OP_MSG_EXHAUST_ALLOWED 65536u /* the client takes several replies to one request */
#define OP_MSG_FLAGS_REQUIRED 0xffffu /* an unknown bit among these must be refused */
#define OP_MSG_SEQUENCES_MAX 2        /* mongod's own bound */

struct op_msg {
    uint32_t flags;        /* as received, unknown optional bits included */
    struct slice body;     /* the document of the kind 0 section */
    struct slice sections; /* all bytes of all sections; see op_msg_parse_available() */
    size_t body_offset;    /* of the body document, from the start of the message */
    bool has_sequence;     /* there is at least one kind 1 section */
};

struct op_msg_sequence {
    struct slice identifier; /* its NUL is not counted, but follows */
    struct slice documents;  /* for bson_slice_next() */
};

/* Takes a whole message apart and verifies its checksum if it has one. */
MUST_CHECK enum status op_msg_parse(struct slice message, struct op_msg *ret_message);

/*
 * The same for a message of `message_length` bytes (from its header) of which the first bytes are
 * here, so that it can be forwarded while it arrives. STATUS_OK with *ret_complete_body false:
 * nothing wrong so far, the body is not wholly here, *ret_message is untouched. True: flags, body,
 * body_offset and has_sequence are set; `sections` is empty and no checksum is verified, unless the
 * whole message is here, which is then parsed by op_msg_parse().
 */
MUST_CHECK enum status op_msg_parse_available(struct slice available, uint32_t message_length,
                                              bool *ret_complete_body, struct op_msg *ret_message);

/*
 * The next kind 1 section of *sections (a copy of op_msg.sections), bodies skipped. False at the
 * end, and for bytes that op_msg_parse() would have refused.
 */
MUST_CHECK bool op_msg_sequence_next(struct slice *sections, struct op_msg_sequence *ret_sequence);

/*
 * Cuts one BSON document off the front: 5 <= length <= bytes left, last byte 0. False, with nothing
 * changed, at the end and for anything else; they differ by documents->size.
 */
MUST_CHECK bool bson_slice_next(struct slice *documents, struct slice *ret_document);

/*
 * Appends a whole message with one kind 0 section. OP_MSG_CHECKSUM_PRESENT is dropped from `flags`.
 * All or nothing. Errors: STATUS_LIMIT (the buffer's, or more than a message may hold),
 * STATUS_MEMORY, STATUS_INVALID (`body` is not one document).
 */
MUST_CHECK enum status op_msg_append(struct buffer *out, int32_t request_id, int32_t response_to,
                                     uint32_t flags, struct slice body);

/* The same with ready-made kind 1 sections behind the body; their bytes are copied as they are. */
MUST_CHECK enum status op_msg_append_with_sections(struct buffer *out, int32_t request_id,
                                                   int32_t response_to, uint32_t flags,
                                                   struct slice body,
                                                   struct slice sequence_sections);

#endif
