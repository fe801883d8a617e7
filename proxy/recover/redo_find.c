/*
 * Where each document is in its chain (redo.h). Nothing is written here, upstream or elsewhere, but
 * for the scratch collection in which the server computes an image that the journal does not have.
 *
 * Threads: the struct upstream's.
 */

#include <stdio.h>

#include "recover/park.h"
#include "recover/redo_private.h"
#include "recover/undo.h"

static const struct redo_entry *entry_at(const struct redo *redo,
                                         const struct redo_document *document, size_t index)
{
    return &redo->entries[document->first + index];
}

static bool is_parked(const struct redo *redo, struct redo_document *document, struct image found)
{
    for (size_t i = 0; i < document->count; i++) {
        const struct redo_entry *entry = entry_at(redo, document, i);
        uint64_t unit = redo->members[entry->member].history->unit;
        if (park_is_parked(unit, entry->write->key, found)) {
            document->place = REDO_AT_PARKED;
            document->parked = true;
            document->parked_unit = unit;
            return true;
        }
    }
    return false;
}

static enum status compare(struct wal_reader *reader, const struct history_image *image,
                           struct image found, struct redo_document *document, bool *ret_met,
                           struct error *ret_error)
{
    struct image view;
    enum status status = history_image_view(reader, image, &view, ret_error);
    if (status == STATUS_OK && image_equal(view, found)) {
        document->place = REDO_AT_IMAGE;
        document->at = *image;
        *ret_met = true;
    }
    return status;
}

/* Any of the images that the journal has: which one does not matter, for all lead to the same. */
static enum status find_known(const struct redo *redo, struct redo_document *document,
                              struct image found, bool *ret_met, struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    enum status status = wal_reader_begin(redo->wal, &reader, ret_error);
    for (size_t i = document->count; status == STATUS_OK && !*ret_met && i-- > 0;) {
        const struct history_write *write = entry_at(redo, document, i)->write;
        status = compare(reader, &write->after, found, document, ret_met, ret_error);
        if (status == STATUS_OK && !*ret_met) {
            status = compare(reader, &write->before, found, document, ret_met, ret_error);
        }
    }
    wal_reader_end(reader);
    return status;
}

/* Images that the server computed and nobody saw: of units that did not commit. */
static enum status find_computed(const struct redo *redo, struct redo_document *document,
                                 struct image found, bool *ret_met, struct error *ret_error)
{
    for (size_t i = document->count; !*ret_met && i-- > 0;) {
        const struct redo_entry *entry = entry_at(redo, document, i);
        struct image computed = {0};
        struct error error = {0};
        if (entry->write->after.presence != IMAGE_UNKNOWN) {
            continue;
        }
        enum status status = undo_evaluate(redo->upstream, redo->members[entry->member].history,
                                           entry->write, &computed, &error);
        if (status == STATUS_CONFLICT) {
            continue; /* nobody can tell: so it is not known to be this one */
        }
        if (status != STATUS_OK) {
            return error_set(ret_error, status, "%s", error.message);
        }
        if (image_equal(computed, found)) {
            document->place = REDO_AT_IMAGE;
            document->at = (struct history_image){.presence = IMAGE_UNKNOWN};
            document->owned = computed;
            computed = (struct image){.presence = IMAGE_UNKNOWN};
            *ret_met = true;
        }
        image_free(&computed);
    }
    return STATUS_OK;
}

/* A plain write may have made its first image, and no later probe says that it was kept. */
static bool may_be_older(const struct redo *redo, const struct redo_document *document)
{
    int64_t plain_probe = entry_at(redo, document, 0)->write->plain_probe;
    return plain_probe > 0 && plain_probe >= redo->options->probe;
}

/* Takes over *found. */
static void set_stranger(struct redo *redo, struct redo_document *document, struct image *found)
{
    const char *namespace = entry_at(redo, document, 0)->write->namespace;
    char reason[256];
    document->owned = *found;
    *found = (struct image){.presence = IMAGE_UNKNOWN};
    if (may_be_older(redo, document)) {
        document->place = REDO_AT_OLDER;
        return;
    }
    document->place = REDO_AT_OTHER;
    (void)snprintf(reason, sizeof(reason),
                   "after a crash of the server a document of %.120s is none of the images that "
                   "the journal has of it: somebody else changed it",
                   namespace);
    redo_set_conflict(redo, document, reason);
}

static enum status find_document(struct redo *redo, struct redo_document *document,
                                 struct error *ret_error)
{
    const struct history_write *last = entry_at(redo, document, document->count - 1)->write;
    struct image found = {0};
    bool met = false;
    enum status status =
        upstream_find_image(redo->upstream, last->namespace, last->key, &found, ret_error);
    if (status == STATUS_OK) {
        met = is_parked(redo, document, found);
        status = met ? STATUS_OK : find_known(redo, document, found, &met, ret_error);
    }
    if (status == STATUS_OK && !met) {
        status = find_computed(redo, document, found, &met, ret_error);
    }
    if (status == STATUS_OK && !met) {
        set_stranger(redo, document, &found);
    }
    image_free(&found);
    return status;
}

enum status redo_find(struct redo *redo, struct error *ret_error)
{
    for (size_t i = 0; i < redo->document_count; i++) {
        enum status status = find_document(redo, &redo->documents[i], ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}
