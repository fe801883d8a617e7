/*
 * The element walker for BSON of a peer.
 *
 * Invariant: a returned element lies wholly inside the document's elements, its name and its texts
 * end with a NUL inside the element, and its value has the size that its type wants. The document's
 * own last 0 is never taken for the end of anything else.
 *
 * Threads: pure functions.
 */

#include "wire/bson_walk.h"

#include <math.h>
#include <string.h>

enum { DOCUMENT_BYTES_MIN = 5 };

#define VALUE_BROKEN SIZE_MAX /* longer than any bytes that are there */

bool bson_fields_open(struct slice document, struct slice *ret_fields)
{
    struct slice fields = document;
    uint32_t length = 0;
    if (document.size < DOCUMENT_BYTES_MIN || !slice_take_u32le(&fields, &length) ||
        length != document.size || document.data[document.size - 1] != 0) {
        return false;
    }
    *ret_fields = slice_make(fields.data, fields.size - 1);
    return true;
}

/* Cuts a length and as many bytes, of which the last is NUL. */
static bool take_string(struct slice *rest)
{
    uint32_t length = 0;
    struct slice text;
    return slice_take_u32le(rest, &length) && length >= 1 && slice_take(rest, length, &text) &&
           text.data[length - 1] == 0;
}

static bool take_document(struct slice *rest)
{
    struct slice document;
    struct slice fields;
    return rest->size >= 4 && slice_take(rest, slice_load_u32le(rest->data), &document) &&
           bson_fields_open(document, &fields);
}

static bool take_binary(struct slice *rest)
{
    uint32_t length = 0;
    uint8_t subtype = 0;
    struct slice bytes;
    if (!slice_take_u32le(rest, &length) || !slice_take_u8(rest, &subtype) ||
        !slice_take(rest, length, &bytes)) {
        return false;
    }
    if (subtype != BSON_SUBTYPE_BINARY_DEPRECATED) {
        return true;
    }
    uint32_t inner = 0; /* the old subtype states its length a second time */
    return slice_take_u32le(&bytes, &inner) && inner == bytes.size;
}

static bool take_regex(struct slice *rest)
{
    struct slice pattern;
    struct slice options;
    return slice_take_cstring(rest, &pattern) && slice_take_cstring(rest, &options);
}

static bool take_code_with_scope(struct slice *rest)
{
    struct slice whole;
    uint32_t length = 0;
    return rest->size >= 4 && slice_take(rest, slice_load_u32le(rest->data), &whole) &&
           slice_take_u32le(&whole, &length) && take_string(&whole) && take_document(&whole) &&
           whole.size == 0;
}

static bool take_fixed(struct slice *rest, size_t size)
{
    struct slice bytes;
    return slice_take(rest, size, &bytes);
}

/* The types of which writes have few. */
static bool take_rare_value(struct slice *rest, uint8_t type)
{
    switch (type) {
    case BSON_TYPE_BINARY:
        return take_binary(rest);
    case BSON_TYPE_REGEX:
        return take_regex(rest);
    case BSON_TYPE_DBPOINTER:
        return take_string(rest) && take_fixed(rest, 12);
    case BSON_TYPE_CODEWSCOPE:
        return take_code_with_scope(rest);
    default:
        return false;
    }
}

static size_t rare_value_size(struct slice rest, uint8_t type)
{
    struct slice behind = rest;
    return take_rare_value(&behind, type) ? rest.size - behind.size : VALUE_BROKEN;
}

static inline size_t string_size(struct slice rest)
{
    uint32_t length = rest.size < 4 ? 0 : slice_load_u32le(rest.data);
    bool valid = length >= 1 && length <= rest.size - 4 && rest.data[length + 3] == 0;
    return valid ? (size_t)length + 4 : VALUE_BROKEN;
}

static inline size_t document_size(struct slice rest)
{
    uint32_t length = rest.size < 4 ? 0 : slice_load_u32le(rest.data);
    bool valid = length >= DOCUMENT_BYTES_MIN && length <= rest.size && rest.data[length - 1] == 0;
    return valid ? length : VALUE_BROKEN;
}

/*
 * More than `rest` holds if it does not begin with a value of this type. Every write's elements
 * pass through here several times: hence sizes, which stay in registers, in place of cuts.
 */
static inline size_t value_size(struct slice rest, uint8_t type)
{
    switch (type) {
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DATE_TIME:
    case BSON_TYPE_TIMESTAMP:
    case BSON_TYPE_INT64:
        return 8;
    case BSON_TYPE_UTF8:
    case BSON_TYPE_CODE:
    case BSON_TYPE_SYMBOL:
        return string_size(rest);
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        return document_size(rest);
    case BSON_TYPE_UNDEFINED:
    case BSON_TYPE_NULL:
    case BSON_TYPE_MAXKEY:
    case BSON_TYPE_MINKEY:
        return 0;
    case BSON_TYPE_OID:
        return 12;
    case BSON_TYPE_BOOL:
        return rest.size > 0 && rest.data[0] <= 1 ? 1 : VALUE_BROKEN;
    case BSON_TYPE_INT32:
        return 4;
    case BSON_TYPE_DECIMAL128:
        return 16;
    default:
        return rare_value_size(rest, type);
    }
}

bool bson_element_next(struct slice *fields, struct bson_element *ret_element)
{
    struct slice rest = *fields;
    struct slice name;
    struct slice raw;
    uint8_t type = 0;
    if (!slice_take_u8(&rest, &type) || !slice_take_cstring(&rest, &name)) {
        return false;
    }
    struct slice value;
    if (!slice_take(&rest, value_size(rest, type), &value) ||
        !slice_take(fields, fields->size - rest.size, &raw)) {
        return false;
    }
    *ret_element = (struct bson_element){
        .type = (bson_type_t)type,
        .name = (const char *)name.data,
        .value = value,
        .raw = raw,
    };
    return true;
}

bool bson_element_find(struct slice document, const char *name, struct bson_element *ret_element)
{
    struct slice fields;
    struct bson_element element;
    if (!bson_fields_open(document, &fields)) {
        return false;
    }
    while (bson_element_next(&fields, &element)) {
        if (bson_element_is(&element, name)) {
            *ret_element = element;
            return true;
        }
    }
    return false;
}

struct slice bson_document_find(struct slice document, const char *name)
{
    struct bson_element element;
    return bson_element_find(document, name, &element) && element.type == BSON_TYPE_DOCUMENT
               ? element.value
               : (struct slice){0};
}

const char *bson_element_text(const struct bson_element *element)
{
    struct slice rest = element->value;
    struct slice text;
    uint32_t length = 0;
    if (element->type != BSON_TYPE_UTF8 || !slice_take_u32le(&rest, &length) ||
        !slice_take_cstring(&rest, &text) || rest.size != 0) {
        return NULL;
    }
    return (const char *)text.data;
}

static uint64_t load_u64le(struct slice value)
{
    return (uint64_t)slice_load_u32le(value.data) | (uint64_t)slice_load_u32le(value.data + 4)
                                                        << 32;
}

bool bson_element_integer(const struct bson_element *element, int64_t *ret_number)
{
    if (element->type == BSON_TYPE_INT32) {
        *ret_number = (int32_t)slice_load_u32le(element->value.data);
        return true;
    }
    if (element->type == BSON_TYPE_INT64) {
        *ret_number = (int64_t)load_u64le(element->value);
        return true;
    }
    if (element->type != BSON_TYPE_DOUBLE) {
        return false;
    }
    uint64_t bits = load_u64le(element->value);
    double number = 0;
    memcpy(&number, &bits, sizeof(number));
    /* 2^63 itself does not fit; NaN fails both comparisons. */
    if (!(number >= -0x1p63 && number < 0x1p63) || trunc(number) != number) {
        return false;
    }
    *ret_number = (int64_t)number;
    return true;
}

bool bson_element_scope(const struct bson_element *element, struct slice *ret_scope)
{
    struct slice rest = element->value;
    uint32_t length = 0;
    if (element->type != BSON_TYPE_CODEWSCOPE || !slice_take_u32le(&rest, &length) ||
        !take_string(&rest)) {
        return false;
    }
    *ret_scope = rest;
    return true;
}
