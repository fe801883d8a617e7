/* The documents of a CONFLICT record (conflict_list.h). Works on the caller's memory only. */

#include "recover/conflict_list.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

/* What a CONFLICT record may hold of images. */
#define CONFLICT_BYTES_MAX (48u * 1024u * 1024u)
#define REASON_BYTES 768u

static size_t image_bytes(struct image image)
{
    return image.presence == IMAGE_PRESENT ? image.document.size : 0;
}

void conflict_document_free(struct record_conflict_document *document)
{
    image_free(&document->before);
    image_free(&document->after);
    image_free(&document->found);
}

enum status conflict_list_add(struct conflict_list *list, struct record_conflict_document *document,
                              struct error *ret_error)
{
    size_t bytes = image_bytes(document->before) + image_bytes(document->after) +
                   image_bytes(document->found) + document->key.size;
    /* The first is always shown: an operator needs at least one document to look at. */
    if (list->shown_count > 0 && list->bytes + bytes > CONFLICT_BYTES_MAX) {
        list->left_out++;
        conflict_document_free(document);
        return STATUS_OK;
    }
    struct record_conflict_document *more =
        memory_reserve(list->shown, list->shown_count, &list->capacity, sizeof(*more));
    if (more == NULL) {
        conflict_document_free(document);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    list->shown = more;
    list->shown[list->shown_count++] = *document;
    list->bytes += bytes;
    return STATUS_OK;
}

void conflict_list_put(const struct conflict_list *list, const char *reason, bson_t *payload)
{
    char whole[REASON_BYTES];
    if (list->left_out > 0) {
        (void)snprintf(whole, sizeof(whole),
                       "%.600s (and %zu more documents that are not shown "
                       "here)",
                       reason, list->left_out);
        reason = whole;
    }
    record_put_conflict(payload, reason, list->shown, list->shown_count);
}

void conflict_list_free(struct conflict_list *list)
{
    for (size_t i = 0; i < list->shown_count; i++) {
        conflict_document_free(&list->shown[i]);
    }
    free(list->shown);
    *list = (struct conflict_list){0};
}
