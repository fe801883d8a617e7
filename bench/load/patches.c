/*
 * Where the numbers of a request stand. Each is found once, by its path, when the request is made:
 * so an operation costs the load driver no walk through its commands.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/patches.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"

#define BODY_OFFSET (WIRE_HEADER_BYTES + 5u) /* flags and the section's kind */
#define STRING_LENGTH_BYTES 4u

/* The field at a path of names with points between them. */
static bool find(struct slice document, const char *path, struct bson_element *ret_element)
{
    char name[32];
    for (;;) {
        size_t size = strcspn(path, ".");
        assert(size < sizeof name);
        memcpy(name, path, size);
        name[size] = '\0';
        if (!bson_element_find(document, name, ret_element)) {
            return false;
        }
        if (path[size] == '\0') {
            return true;
        }
        path += size + 1;
        document = ret_element->value;
    }
}

static enum status put(struct step *step, enum patch_kind kind, const char *path, bool *ret_found)
{
    struct slice message = buffer_slice(&step->request);
    struct slice body = slice_make(message.data + BODY_OFFSET, message.size - BODY_OFFSET);
    struct bson_element element;
    *ret_found = find(body, path, &element);
    if (!*ret_found) {
        return STATUS_OK;
    }
    struct patch *more = realloc(step->patches, (step->patch_count + 1) * sizeof *step->patches);
    if (more == NULL) {
        return STATUS_MEMORY;
    }
    step->patches = more;
    struct patch *patch = &more[step->patch_count++];
    *patch = (struct patch){kind, (uint32_t)slice_offset(message, element.value),
                            (uint32_t)element.value.size};
    if (kind == PATCH_UNIT) {
        uint32_t text_bytes = patch->bytes - STRING_LENGTH_BYTES - 1;
        patch->offset += STRING_LENGTH_BYTES + text_bytes - PATCHES_UNIT_DIGITS;
        patch->bytes = PATCHES_UNIT_DIGITS;
    }
    return STATUS_OK;
}

static enum status put_documents(struct step *step)
{
    /* A condition stands before what may be one. */
    static const char *const paths[] = {"filter._id.$gte", "filter._id", "filter.$or.0._id",
                                        "documents.0._id"};
    enum status status = STATUS_OK;
    bool found = false;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0] && status == STATUS_OK && !found; i++) {
        status = put(step, PATCH_DOCUMENT, paths[i], &found);
    }
    found = status == STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && found; i++) {
        char path[32];
        snprintf(path, sizeof path, "updates.%u.q._id", i);
        status = put(step, PATCH_DOCUMENT, path, &found);
    }
    return status;
}

enum status patches_find(struct step *step)
{
    bool found;
    enum status status = STATUS_OK;
    if (step->document != STEP_NO_DOCUMENT) {
        status = put_documents(step);
    }
    if (status == STATUS_OK) {
        status = put(step, PATCH_VALUE, "updates.0.u.$set.value", &found);
    }
    if (status == STATUS_OK) {
        status = put(step, PATCH_TRANSACTION, "txnNumber", &found);
    }
    if (status == STATUS_OK) {
        status = put(step, PATCH_UNIT, "comment.unit", &found);
    }
    return status == STATUS_OK ? put(step, PATCH_CURSOR, "getMore", &found) : status;
}

enum status patches_find_limit(struct step *step)
{
    bool found;
    return put(step, PATCH_LIMIT, "limit", &found);
}

void steps_patch(struct step *step, const struct patch *patch, uint64_t number)
{
    uint8_t *at = step->request.data + patch->offset;
    if (patch->kind == PATCH_UNIT) {
        for (uint32_t i = patch->bytes; i > 0; i--) {
            at[i - 1] = (uint8_t) "0123456789abcdef"[number & 15];
            number >>= 4;
        }
        return;
    }
    for (uint32_t i = 0; i < patch->bytes; i++) {
        at[i] = (uint8_t)(number >> (8 * i));
    }
}
