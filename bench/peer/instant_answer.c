/*
 * Which messages the fake answers, and how (instant.h). Any thread; what a client sends is read
 * through checked slices only.
 */
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "bench/peer/instant.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"

#define TEXT_BYTES 160

/* ------------------------------------------------------------------ documents */

/* Where its length will be. */
static size_t open_document(struct buffer *out, bool *fits)
{
    size_t at = out->size;
    *fits = *fits && buffer_append(out, "\0\0\0", 4) == STATUS_OK;
    return at;
}

static void close_document(struct buffer *out, size_t at, bool *fits)
{
    *fits = *fits && buffer_append(out, "", 1) == STATUS_OK;
    if (*fits) {
        slice_store_u32le(out->data + at, (uint32_t)(out->size - at));
    }
}

/* Bytes that are an element, or the head of one: a literal with its last NUL. */
#define PUT(out, bytes, fits)                                                                      \
    ((fits) = (fits) && buffer_append(out, bytes, sizeof(bytes)) == STATUS_OK)

static void put_text(struct buffer *out, const char *head, size_t head_size, struct slice text,
                     bool *fits)
{
    uint8_t size[4];
    slice_store_u32le(size, (uint32_t)text.size + 1);
    *fits = *fits && buffer_append(out, head, head_size) == STATUS_OK &&
            buffer_append(out, size, sizeof size) == STATUS_OK &&
            buffer_append(out, text.data, text.size) == STATUS_OK &&
            buffer_append(out, "", 1) == STATUS_OK;
}

static void put_ok(struct buffer *out, bool *fits)
{
    static const char one[] = "\x01ok\0\0\0\0\0\0\0\xf0\x3f"; /* the double 1 */
    *fits = *fits && buffer_append(out, one, sizeof one - 1) == STATUS_OK;
}

/* ------------------------------------------------------------------ commands */

static bool is_document(const struct bson_element *element)
{
    return element->type == BSON_TYPE_DOCUMENT;
}

/* {_id: a value that means itself}, and nothing else. */
static bool is_by_id(struct slice filter, struct bson_element *ret_id)
{
    struct slice fields;
    return bson_fields_open(filter, &fields) && bson_element_next(&fields, ret_id) &&
           bson_element_is(ret_id, "_id") && fields.size == 0 &&
           (ret_id->type == BSON_TYPE_INT32 || ret_id->type == BSON_TYPE_INT64 ||
            ret_id->type == BSON_TYPE_UTF8 || ret_id->type == BSON_TYPE_OID);
}

/* {cursor: {firstBatch: [{_id: …, value: 0, text: "hhh…"}], id: 0, ns: …}, ok: 1} */
static bool answer_find(struct slice command, const struct bson_element *first, struct buffer *out)
{
    char text[TEXT_BYTES];
    struct bson_element filter;
    struct bson_element id;
    struct bson_element database;
    if (first->type != BSON_TYPE_UTF8 || !bson_element_find(command, "filter", &filter) ||
        !is_document(&filter) || !is_by_id(filter.value, &id) ||
        !bson_element_find(command, "$db", &database) || bson_element_text(&database) == NULL ||
        bson_element_text(first) == NULL) {
        return false;
    }
    char name[256];
    memset(text, 'h', sizeof text);
    int size = snprintf(name, sizeof name, "%s.%s", bson_element_text(&database),
                        bson_element_text(first));
    bool fits = size > 0 && (size_t)size < sizeof name;
    size_t reply = open_document(out, &fits);
    PUT(out,
        "\x03"
        "cursor",
        fits);
    size_t cursor = open_document(out, &fits);
    PUT(out,
        "\x04"
        "firstBatch",
        fits);
    size_t batch = open_document(out, &fits);
    PUT(out,
        "\x03"
        "0",
        fits);
    size_t document = open_document(out, &fits);
    fits = fits && buffer_append(out, id.raw.data, id.raw.size) == STATUS_OK;
    PUT(out, "\x10value\0\0\0\0", fits);
    put_text(out, "\x02text", 6, slice_make(text, TEXT_BYTES), &fits);
    close_document(out, document, &fits);
    close_document(out, batch, &fits);
    PUT(out, "\x12id\0\0\0\0\0\0\0\0", fits);
    put_text(out, "\x02ns", 4, slice_text(name), &fits);
    close_document(out, cursor, &fits);
    put_ok(out, &fits);
    close_document(out, reply, &fits);
    return fits;
}

/* {n: 1, nModified: 1, ok: 1} to one statement that changes one document by _id. */
static bool answer_update(struct slice command, struct buffer *out)
{
    struct bson_element updates;
    struct bson_element statement;
    struct bson_element filter;
    struct bson_element change;
    struct bson_element id;
    struct slice fields;
    static const char one[] = "\x10n\0\x01\0\0\0\x10nModified\0\x01\0\0";
    bool plain = bson_element_find(command, "updates", &updates) &&
                 updates.type == BSON_TYPE_ARRAY && bson_fields_open(updates.value, &fields) &&
                 bson_element_next(&fields, &statement) && fields.size == 0 &&
                 is_document(&statement) && bson_element_find(statement.value, "q", &filter) &&
                 is_document(&filter) && is_by_id(filter.value, &id) &&
                 bson_element_find(statement.value, "u", &change) && is_document(&change) &&
                 !bson_element_find(statement.value, "upsert", &id);
    if (!plain) {
        return false;
    }
    bool fits = true;
    size_t reply = open_document(out, &fits);
    PUT(out, one, fits);
    put_ok(out, &fits);
    close_document(out, reply, &fits);
    return fits;
}

static bool answer_ping(struct buffer *out)
{
    bool fits = true;
    size_t reply = open_document(out, &fits);
    put_ok(out, &fits);
    close_document(out, reply, &fits);
    return fits;
}

/* What makes a command one that has to be done, or an answer one that waits. */
static bool is_more(struct slice command)
{
    static const char *const fields[] = {"txnNumber", "autocommit", "topologyVersion",
                                         "speculativeAuthenticate", NULL};
    struct slice rest;
    struct bson_element element;
    if (!bson_fields_open(command, &rest)) {
        return true;
    }
    while (bson_element_next(&rest, &element)) {
        if (bson_name_is_one_of(element.name, fields)) {
            return true;
        }
    }
    return rest.size != 0;
}

static bool answer(struct slice command, struct slice hello, struct buffer *out)
{
    static const char *const hellos[] = {"hello", "isMaster", "ismaster", NULL};
    struct slice fields;
    struct bson_element first;
    if (is_more(command) || !bson_fields_open(command, &fields) ||
        !bson_element_next(&fields, &first)) {
        return false;
    }
    if (bson_element_is(&first, "find")) {
        return answer_find(command, &first, out);
    }
    if (bson_element_is(&first, "update")) {
        return answer_update(command, out);
    }
    if (bson_element_is(&first, "ping")) {
        return answer_ping(out);
    }
    return bson_name_is_one_of(first.name, hellos) &&
           buffer_append(out, hello.data, hello.size) == STATUS_OK;
}

bool instant_answer(struct slice message, struct slice hello, struct buffer *out)
{
    static const uint8_t head[WIRE_HEADER_BYTES + 5] = {0}; /* no flags, a section of kind 0 */
    struct wire_header request;
    struct op_msg parsed;
    size_t at = out->size;
    bool done =
        wire_header_parse(message, &request) == STATUS_OK && request.opcode == WIRE_OPCODE_MSG &&
        op_msg_parse(message, &parsed) == STATUS_OK && parsed.flags == 0 && !parsed.has_sequence &&
        buffer_append(out, head, sizeof head) == STATUS_OK && answer(parsed.body, hello, out);
    if (!done) {
        out->size = at;
        return false;
    }
    wire_header_store(out->data + at, &(struct wire_header){.length = (uint32_t)(out->size - at),
                                                            .request_id = request.request_id,
                                                            .response_to = request.request_id,
                                                            .opcode = WIRE_OPCODE_MSG});
    return true;
}
