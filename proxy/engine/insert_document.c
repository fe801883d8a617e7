/*
 * Documents to insert. Fields are copied as bytes: libbson's appending would write some of them
 * anew (it sorts a regex's options, and ends code at a NUL). Any thread.
 */
#include "engine/insert_document.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "holdfast/clock.h"
#include "wire/bson_walk.h"

#define OBJECT_ID_BYTES 12u

static atomic_uint timestamp_increment;

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *put_generated_id(uint8_t *at)
{
    static const uint8_t head[] = {BSON_TYPE_OID, '_', 'i', 'd', 0};
    bson_oid_t generated;
    bson_oid_init(&generated, NULL);
    at = put_bytes(at, head, sizeof head);
    return put_bytes(at, generated.bytes, OBJECT_ID_BYTES);
}

static uint8_t *put_field(uint8_t *at, const struct bson_element *field)
{
    static const uint8_t zero[8];
    at = put_bytes(at, field->raw.data, field->raw.size);
    if (field->type == BSON_TYPE_TIMESTAMP && memcmp(field->value.data, zero, sizeof zero) == 0) {
        /* increment (4) | seconds (4) */
        slice_store_u32le(at - 8, 1 + atomic_fetch_add(&timestamp_increment, 1));
        slice_store_u32le(at - 4, (uint32_t)(clock_wall_ms() / 1000));
    }
    return at;
}

bson_t *insert_document_make(struct slice document, bson_t *key)
{
    bson_t *made = bson_new();
    struct bson_element id = {0};
    struct bson_element field;
    struct slice fields;
    bson_iter_t made_id;
    bool has_id = bson_element_find(document, "_id", &id);
    size_t size = document.size + (has_id ? 0 : 5 + OBJECT_ID_BYTES);
    uint8_t *start = bson_reserve_buffer(made, (uint32_t)size);
    bool opened = bson_fields_open(document, &fields);
    assert(start != NULL && opened); /* checked BSON of at most 16 MiB */
    slice_store_u32le(start, (uint32_t)size);
    uint8_t *at = start + 4;
    at = has_id ? put_bytes(at, id.raw.data, id.raw.size) : put_generated_id(at);
    while (bson_element_next(&fields, &field)) {
        /* A second _id is the server's to refuse. */
        if (field.raw.data != id.raw.data) {
            at = put_field(at, &field);
        }
    }
    *at = 0;
    if (bson_iter_init_find(&made_id, made, "_id")) {
        bson_append_iter(key, NULL, 0, &made_id);
    }
    return made;
}

bson_t *insert_document_id_first(struct slice document)
{
    struct bson_element id;
    bson_t *made = bson_new_from_data(document.data, document.size);
    if (made == NULL || !bson_element_find(document, "_id", &id)) {
        return made;
    }
    /* size (4) | what stood before _id | _id | the rest, which stays where it is */
    uint8_t *fields = (uint8_t *)(uintptr_t)bson_get_data(made) + 4;
    size_t before = (size_t)(id.raw.data - document.data) - 4;
    fields = put_bytes(fields, id.raw.data, id.raw.size);
    (void)put_bytes(fields, document.data + 4, before);
    return made;
}
