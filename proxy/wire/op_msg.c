/*
 * OP_MSG: taking messages apart and putting them together; op_msg.h draws the layout.
 *
 * Invariants of a parsed message: exactly one body; every section ends where the next begins and
 * the last one where the checksum or the message ends; no sequence is named like a field of the
 * body.
 *
 * Threads: pure functions.
 */

#include "wire/op_msg.h"

#include <assert.h>
#include <isa-l/crc.h>
#include <string.h>

#include "holdfast/limits.h"
#include "wire/bson_walk.h"

enum {
    FLAGS_BYTES = 4,
    CHECKSUM_BYTES = 4,
    SIZE_BYTES = 4, /* of a sequence's size field, which counts itself */
    KIND_BODY = 0,
    KIND_SEQUENCE = 1,
    DOCUMENT_BYTES_MIN = 5,
};

/* CRC-32C as RFC 3720 defines it; the library keeps the remainder without its final complement. */
static uint32_t crc32c(struct slice bytes)
{
    union {
        const uint8_t *ours;
        unsigned char *declared; /* the library only reads, but does not say so */
    } data = {.ours = bytes.data};
    assert(bytes.size <= LIMIT_MESSAGE_BYTES_MAX);
    return ~crc32_iscsi(data.declared, (int)bytes.size, 0xffffffffu);
}

bool bson_slice_next(struct slice *documents, struct slice *ret_document)
{
    if (documents->size < DOCUMENT_BYTES_MIN) {
        return false;
    }
    size_t length = slice_load_u32le(documents->data);
    if (length < DOCUMENT_BYTES_MIN || length > documents->size ||
        documents->data[length - 1] != 0) {
        return false;
    }
    return slice_take(documents, length, ret_document);
}

/* Cuts a sequence, whose kind byte is already cut. Measures its documents only if `whole`. */
static bool take_sequence(struct slice *sections, bool whole, struct op_msg_sequence *ret_sequence)
{
    struct slice section;
    struct slice document;
    struct op_msg_sequence sequence;
    if (sections->size < SIZE_BYTES) {
        return false;
    }
    size_t size = slice_load_u32le(sections->data);
    struct slice rest = *sections;
    if (size < SIZE_BYTES || !slice_take(&rest, size, &section)) {
        return false;
    }
    uint32_t counted = 0;
    if (!slice_take_u32le(&section, &counted) ||
        !slice_take_cstring(&section, &sequence.identifier)) {
        return false;
    }
    sequence.documents = section;
    while (whole && bson_slice_next(&section, &document)) {
    }
    if (whole && section.size != 0) {
        return false;
    }
    *sections = rest;
    *ret_sequence = sequence;
    return true;
}

bool op_msg_sequence_next(struct slice *sections, struct op_msg_sequence *ret_sequence)
{
    struct slice rest = *sections;
    struct slice body;
    uint8_t kind = 0;
    while (slice_take_u8(&rest, &kind)) {
        if (kind == KIND_SEQUENCE) {
            if (!take_sequence(&rest, false, ret_sequence)) {
                return false;
            }
            *sections = rest;
            return true;
        }
        if (kind != KIND_BODY || !bson_slice_next(&rest, &body)) {
            return false;
        }
    }
    return false;
}

/* Takes all sections; *message has its flags and its sections already. */
static bool parse_sections(struct op_msg *message)
{
    struct slice rest = message->sections;
    struct op_msg_sequence sequence;
    uint8_t kind = 0;
    int bodies = 0;
    int sequences = 0;
    while (slice_take_u8(&rest, &kind)) {
        size_t offset = WIRE_HEADER_BYTES + FLAGS_BYTES + (message->sections.size - rest.size);
        if (kind == KIND_BODY) {
            if (bodies++ > 0 || !bson_slice_next(&rest, &message->body)) {
                return false;
            }
            message->body_offset = offset;
        } else if (kind != KIND_SEQUENCE || sequences++ >= OP_MSG_SEQUENCES_MAX ||
                   !take_sequence(&rest, true, &sequence)) {
            return false;
        }
    }
    message->has_sequence = sequences > 0;
    return bodies == 1;
}

/* Two sequences of one name, or one named like a field of the body: readers could disagree. */
static bool names_collide(const struct op_msg *message)
{
    struct slice sections = message->sections;
    struct op_msg_sequence sequence;
    struct bson_element element;
    struct slice before = {0};
    while (op_msg_sequence_next(&sections, &sequence)) {
        if (before.data != NULL && slice_equal(before, sequence.identifier)) {
            return true;
        }
        if (bson_element_find(message->body, (const char *)sequence.identifier.data, &element)) {
            return true;
        }
        before = sequence.identifier;
    }
    return false;
}

static bool flags_are_known(uint32_t flags)
{
    return (flags & OP_MSG_FLAGS_REQUIRED & ~(OP_MSG_CHECKSUM_PRESENT | OP_MSG_MORE_TO_COME)) == 0;
}

enum status op_msg_parse(struct slice message, struct op_msg *ret_message)
{
    struct wire_header header;
    struct op_msg parsed = {0};
    struct slice rest;
    enum status status = wire_message_parse(message, WIRE_OPCODE_MSG, &header, &rest);
    if (status != STATUS_OK) {
        return status;
    }
    if (!slice_take_u32le(&rest, &parsed.flags) || !flags_are_known(parsed.flags)) {
        return STATUS_PROTOCOL;
    }
    if ((parsed.flags & OP_MSG_CHECKSUM_PRESENT) != 0) {
        if (rest.size < CHECKSUM_BYTES) {
            return STATUS_PROTOCOL;
        }
        rest.size -= CHECKSUM_BYTES;
        struct slice covered = slice_make(message.data, message.size - CHECKSUM_BYTES);
        if (slice_load_u32le(message.data + covered.size) != crc32c(covered)) {
            return STATUS_PROTOCOL;
        }
    }
    parsed.sections = rest;
    if (!parse_sections(&parsed) || (parsed.has_sequence && names_collide(&parsed))) {
        return STATUS_PROTOCOL;
    }
    *ret_message = parsed;
    return STATUS_OK;
}

/* What the first bytes of the sections say about the body. */
enum body_state {
    BODY_MISSING, /* not wholly here, nothing wrong so far */
    BODY_HERE,
    BODY_BROKEN,
};

/*
 * Looks for the body in `here`, the first bytes of sections that are `total` bytes long. Lengths
 * are judged against the whole message as soon as they are here, so that a lie is found at once and
 * nobody waits for bytes that cannot come.
 */
static enum body_state find_body(struct slice here, size_t total, struct op_msg *message)
{
    size_t at = 0; /* of the section at hand; may lie behind what is here */
    for (int sequences = 0; at < total; sequences++) {
        if (here.size < at + 1) {
            return BODY_MISSING;
        }
        uint8_t kind = here.data[at];
        if (kind > KIND_SEQUENCE || (kind == KIND_SEQUENCE && sequences >= OP_MSG_SEQUENCES_MAX)) {
            return BODY_BROKEN;
        }
        size_t left = total - at - 1;
        if (left < SIZE_BYTES) {
            return BODY_BROKEN;
        }
        if (here.size < at + 1 + SIZE_BYTES) {
            return BODY_MISSING;
        }
        size_t size = slice_load_u32le(here.data + at + 1);
        size_t smallest = kind == KIND_BODY ? DOCUMENT_BYTES_MIN : SIZE_BYTES + 1;
        if (size < smallest || size > left) {
            return BODY_BROKEN;
        }
        if (kind == KIND_BODY) {
            if (here.size < at + 1 + size) {
                return BODY_MISSING;
            }
            message->body = slice_make(here.data + at + 1, size);
            message->body_offset = WIRE_HEADER_BYTES + FLAGS_BYTES + at + 1;
            message->has_sequence = sequences > 0 || left > size;
            return message->body.data[size - 1] == 0 ? BODY_HERE : BODY_BROKEN;
        }
        at += 1 + size;
    }
    return BODY_BROKEN;
}

enum status op_msg_parse_available(struct slice available, uint32_t message_length,
                                   bool *ret_complete_body, struct op_msg *ret_message)
{
    if (available.size >= message_length) {
        struct slice message = slice_make(available.data, message_length);
        enum status status = op_msg_parse(message, ret_message);
        if (status == STATUS_OK) {
            *ret_complete_body = true;
        }
        return status;
    }
    struct wire_header header;
    struct slice front;
    if (available.size < WIRE_HEADER_BYTES + FLAGS_BYTES) {
        *ret_complete_body = false;
        return message_length > WIRE_HEADER_BYTES + FLAGS_BYTES ? STATUS_OK : STATUS_PROTOCOL;
    }
    struct op_msg parsed = {0};
    if (wire_header_parse(available, &header) != STATUS_OK || header.opcode != WIRE_OPCODE_MSG ||
        header.length != message_length || !slice_take(&available, WIRE_HEADER_BYTES, &front) ||
        !slice_take_u32le(&available, &parsed.flags) || !flags_are_known(parsed.flags)) {
        return STATUS_PROTOCOL;
    }
    size_t around = WIRE_HEADER_BYTES + FLAGS_BYTES;
    around += (parsed.flags & OP_MSG_CHECKSUM_PRESENT) != 0 ? CHECKSUM_BYTES : 0;
    if (message_length <= around) {
        return STATUS_PROTOCOL;
    }
    size_t total = message_length - around;
    available.size = available.size < total ? available.size : total;
    enum body_state state = find_body(available, total, &parsed);
    if (state == BODY_BROKEN) {
        return STATUS_PROTOCOL;
    }
    *ret_complete_body = state == BODY_HERE;
    if (state == BODY_HERE) {
        *ret_message = parsed;
    }
    return STATUS_OK;
}

enum status op_msg_append_with_sections(struct buffer *out, int32_t request_id, int32_t response_to,
                                        uint32_t flags, struct slice body,
                                        struct slice sequence_sections)
{
    struct slice measured = body;
    struct slice document;
    if (!bson_slice_next(&measured, &document) || measured.size != 0) {
        return STATUS_INVALID;
    }
    size_t front_size = WIRE_HEADER_BYTES + FLAGS_BYTES + 1;
    if (body.size > LIMIT_MESSAGE_BYTES_MAX - front_size ||
        sequence_sections.size > LIMIT_MESSAGE_BYTES_MAX - front_size - body.size) {
        return STATUS_LIMIT;
    }
    size_t length = front_size + body.size + sequence_sections.size;
    enum status status = buffer_reserve(out, length);
    if (status != STATUS_OK) {
        return status;
    }
    const struct wire_header header = {
        .length = (uint32_t)length,
        .request_id = request_id,
        .response_to = response_to,
        .opcode = WIRE_OPCODE_MSG,
    };
    uint8_t *at = out->data + out->size;
    wire_header_store(at, &header);
    slice_store_u32le(at + WIRE_HEADER_BYTES, flags & ~OP_MSG_CHECKSUM_PRESENT);
    at[WIRE_HEADER_BYTES + FLAGS_BYTES] = KIND_BODY;
    memcpy(at + front_size, body.data, body.size);
    if (sequence_sections.size > 0) {
        memcpy(at + front_size + body.size, sequence_sections.data, sequence_sections.size);
    }
    buffer_grew(out, length);
    return STATUS_OK;
}

enum status op_msg_append(struct buffer *out, int32_t request_id, int32_t response_to,
                          uint32_t flags, struct slice body)
{
    return op_msg_append_with_sections(out, request_id, response_to, flags, body,
                                       (struct slice){0});
}
