/*
 * OP_QUERY and OP_REPLY, as far as a driver's first hello needs them; op_query.h draws them.
 *
 * Threads: pure functions.
 */

#include "wire/op_query.h"

#include <string.h>

#include "holdfast/limits.h"
#include "wire/op_msg.h"

enum { REPLY_FIELDS_BYTES = 20, QUERY_NUMBERS_BYTES = 12 };

enum status op_query_parse(struct slice message, struct op_query *ret_query)
{
    struct wire_header header;
    struct slice rest;
    struct slice fields;
    struct op_query query = {0};
    uint32_t flags = 0;
    uint32_t skip = 0;
    uint32_t count = 0;
    enum status status = wire_message_parse(message, WIRE_OPCODE_QUERY, &header, &rest);
    if (status != STATUS_OK) {
        return status;
    }
    if (!slice_take_u32le(&rest, &flags) || !slice_take_cstring(&rest, &query.collection) ||
        !slice_take_u32le(&rest, &skip) || !slice_take_u32le(&rest, &count) ||
        !bson_slice_next(&rest, &query.query)) {
        return STATUS_PROTOCOL;
    }
    if (rest.size != 0 && (!bson_slice_next(&rest, &fields) || rest.size != 0)) {
        return STATUS_PROTOCOL;
    }
    query.flags = (int32_t)flags;
    query.skip = (int32_t)skip;
    query.count = (int32_t)count;
    *ret_query = query;
    return STATUS_OK;
}

enum status op_reply_parse(struct slice message, struct slice *ret_document)
{
    struct wire_header header;
    struct slice rest;
    struct slice front;
    struct slice document;
    uint32_t count = 0;
    enum status status = wire_message_parse(message, WIRE_OPCODE_REPLY, &header, &rest);
    if (status != STATUS_OK) {
        return status;
    }
    if (!slice_take(&rest, REPLY_FIELDS_BYTES - 4, &front) || !slice_take_u32le(&rest, &count) ||
        count != 1 || !bson_slice_next(&rest, &document) || rest.size != 0) {
        return STATUS_PROTOCOL;
    }
    *ret_document = document;
    return STATUS_OK;
}

/* Room for a message around `document`, its header stored; *ret_at: where its fields go. */
static enum status message_begin(struct buffer *out, struct wire_header *header, size_t fields_size,
                                 struct slice document, uint8_t **ret_at)
{
    struct slice measured = document;
    struct slice whole;
    if (!bson_slice_next(&measured, &whole) || measured.size != 0) {
        return STATUS_INVALID;
    }
    size_t front_size = WIRE_HEADER_BYTES + fields_size;
    if (fields_size > LIMIT_DOCUMENT_BYTES_MAX ||
        document.size > LIMIT_MESSAGE_BYTES_MAX - front_size) {
        return STATUS_LIMIT;
    }
    enum status status = buffer_reserve(out, front_size + document.size);
    if (status != STATUS_OK) {
        return status;
    }
    header->length = (uint32_t)(front_size + document.size);
    uint8_t *at = out->data + out->size;
    wire_header_store(at, header);
    memcpy(at + front_size, document.data, document.size);
    *ret_at = at + WIRE_HEADER_BYTES;
    return STATUS_OK;
}

enum status op_query_append(struct buffer *out, int32_t request_id, const struct op_query *query)
{
    struct wire_header header = {.request_id = request_id, .opcode = WIRE_OPCODE_QUERY};
    size_t name_size = query->collection.size;
    uint8_t *at = NULL;
    if (name_size == 0 || memchr(query->collection.data, 0, name_size) != NULL) {
        return STATUS_INVALID;
    }
    if (name_size > LIMIT_DOCUMENT_BYTES_MAX - QUERY_NUMBERS_BYTES - 1) {
        return STATUS_LIMIT;
    }
    enum status status =
        message_begin(out, &header, QUERY_NUMBERS_BYTES + 1 + name_size, query->query, &at);
    if (status != STATUS_OK) {
        return status;
    }
    slice_store_u32le(at, (uint32_t)query->flags);
    memcpy(at + 4, query->collection.data, name_size);
    at[4 + name_size] = 0;
    slice_store_u32le(at + 5 + name_size, (uint32_t)query->skip);
    slice_store_u32le(at + 9 + name_size, (uint32_t)query->count);
    buffer_grew(out, header.length);
    return STATUS_OK;
}

enum status op_reply_append(struct buffer *out, int32_t request_id, int32_t response_to,
                            struct slice document)
{
    struct wire_header header = {
        .request_id = request_id,
        .response_to = response_to,
        .opcode = WIRE_OPCODE_REPLY,
    };
    uint8_t *at = NULL;
    enum status status = message_begin(out, &header, REPLY_FIELDS_BYTES, document, &at);
    if (status != STATUS_OK) {
        return status;
    }
    memset(at, 0, REPLY_FIELDS_BYTES); /* flags, cursor id and starting from are all 0 */
    slice_store_u32le(at, 8u);         /* AwaitCapable, which mongod always sets */
    slice_store_u32le(at + REPLY_FIELDS_BYTES - 4, 1u);
    buffer_grew(out, header.length);
    return STATUS_OK;
}
