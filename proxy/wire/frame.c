/*
 * The 16 byte message header; frame.h draws it.
 *
 * Threads: pure functions.
 */

#include "wire/frame.h"

#include <stdbool.h>

#include "holdfast/limits.h"

static bool opcode_is_known(int32_t opcode)
{
    switch (opcode) {
    case WIRE_OPCODE_REPLY:
    case WIRE_OPCODE_QUERY:
    case WIRE_OPCODE_COMPRESSED:
    case WIRE_OPCODE_MSG:
        return true;
    default:
        return false;
    }
}

enum status wire_header_parse(struct slice bytes, struct wire_header *ret_header)
{
    uint32_t length = 0;
    uint32_t request_id = 0;
    uint32_t response_to = 0;
    uint32_t opcode = 0;
    if (!slice_take_u32le(&bytes, &length) || !slice_take_u32le(&bytes, &request_id) ||
        !slice_take_u32le(&bytes, &response_to) || !slice_take_u32le(&bytes, &opcode)) {
        return STATUS_PROTOCOL;
    }
    if (length < WIRE_HEADER_BYTES || length > LIMIT_MESSAGE_BYTES_MAX ||
        !opcode_is_known((int32_t)opcode)) {
        return STATUS_PROTOCOL;
    }
    *ret_header = (struct wire_header){
        .length = length,
        .request_id = (int32_t)request_id,
        .response_to = (int32_t)response_to,
        .opcode = (int32_t)opcode,
    };
    return STATUS_OK;
}

enum status wire_message_parse(struct slice message, enum wire_opcode opcode,
                               struct wire_header *ret_header, struct slice *ret_rest)
{
    struct wire_header header;
    struct slice front;
    enum status status = wire_header_parse(message, &header);
    if (status != STATUS_OK) {
        return status;
    }
    if (header.opcode != (int32_t)opcode || header.length != message.size ||
        !slice_take(&message, WIRE_HEADER_BYTES, &front)) {
        return STATUS_PROTOCOL;
    }
    *ret_header = header;
    *ret_rest = message;
    return STATUS_OK;
}

void wire_header_store(uint8_t *at, const struct wire_header *header)
{
    slice_store_u32le(at, header->length);
    slice_store_u32le(at + 4, (uint32_t)header->request_id);
    slice_store_u32le(at + 8, (uint32_t)header->response_to);
    slice_store_u32le(at + 12, (uint32_t)header->opcode);
}
