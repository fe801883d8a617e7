/*
 * Full structural check of one document, level by level.
 *
 *     levels:  [ fields left of the document ][ … of its sub-document ][ … ]   at most BSON_LEVELS
 *
 * Invariant: `depth` counts the levels that are open; each holds what is left of its elements. The
 * walker has measured a sub-document before its level is opened, so no level reads past its parent.
 *
 * Threads: pure function.
 */

#include "wire/bson_check.h"

#include "holdfast/limits.h"
#include "wire/bson_walk.h"

/* The document inside an element, if it has one. */
static bool inner_document(const struct bson_element *element, struct slice *ret_document)
{
    if (element->type == BSON_TYPE_DOCUMENT || element->type == BSON_TYPE_ARRAY) {
        *ret_document = element->value;
        return true;
    }
    return bson_element_scope(element, ret_document);
}

enum status bson_check(struct slice document, struct error *ret_error)
{
    struct slice levels[LIMIT_BSON_DEPTH];
    struct bson_element element;
    struct slice inner;
    int depth = 1;
    if (document.size > LIMIT_MESSAGE_BYTES_MAX || !bson_fields_open(document, &levels[0])) {
        return error_set(ret_error, STATUS_INVALID,
                         "%zu bytes are not one BSON document: length or last byte is wrong",
                         document.size);
    }
    while (depth > 0) {
        struct slice *fields = &levels[depth - 1];
        if (fields->size == 0) {
            depth--;
            continue;
        }
        if (!bson_element_next(fields, &element)) {
            return error_set(ret_error, STATUS_INVALID, "broken BSON element at byte %zu",
                             (size_t)(fields->data - document.data));
        }
        if (!inner_document(&element, &inner)) {
            continue;
        }
        if (depth == LIMIT_BSON_DEPTH) {
            return error_set(ret_error, STATUS_INVALID,
                             "BSON is nested more than %d levels deep at byte %zu",
                             LIMIT_BSON_DEPTH, (size_t)(element.raw.data - document.data));
        }
        if (!bson_fields_open(inner, &levels[depth])) {
            return error_set(ret_error, STATUS_INVALID, "broken BSON document at byte %zu",
                             (size_t)(inner.data - document.data));
        }
        depth++;
    }
    return STATUS_OK;
}
