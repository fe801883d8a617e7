/*
 * Each document to its last committed image (redo.h).
 *
 *     older than its chain --> kept in the journal as a unit of its own --.
 *                                                                         v
 *     wanted, committed ones first --> one guarded step --> there
 *                  ^                        | a unique index refuses it
 *                  `------ next round ------'     a round without any progress: one document makes
 *                                                 way, by being the small document for a while
 *
 * One at a time, for two such documents may be each other's duplicates: that both have no value. It
 * takes one of each ring of documents that wait for each other.
 *
 * Threads: the struct upstream's.
 */

#include <stdio.h>
#include <stdlib.h>

#include "holdfast/crash_point.h"
#include "recover/park.h"
#include "recover/redo_private.h"

#define COMMENT "holdfast: redo after a crash of the server"

/* ------------------------------------------------------------------ older documents */

/* From here on what was found is an image of the chain, and the journal keeps it. */
static enum status adopt(struct redo *redo, struct redo_document *document, struct error *ret_error)
{
    struct image target = {0};
    const struct history_write *write = redo->entries[document->target_entry].write;
    enum status status = redo_read(redo, &document->target, &target, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct record_begin begin = {.boundary = "recovery", .client = "", .application = ""};
    struct record_write content = {
        .operation = document->owned.presence == IMAGE_ABSENT ? RECORD_INSERT
                     : target.presence == IMAGE_ABSENT        ? RECORD_DELETE
                                                              : RECORD_UPDATE,
        .namespace = write->namespace,
        .key = write->key,
        .before = document->owned,
        .after = target,
        .connection = "",
    };
    bson_t begin_payload = BSON_INITIALIZER;
    bson_t write_payload = BSON_INITIALIZER;
    bson_t commit_payload = BSON_INITIALIZER;
    record_put_begin(&begin_payload, &begin);
    record_put_write(&write_payload, &content, NULL, 0);
    record_put_commit(&commit_payload, NULL, 0, (struct slice){0});
    uint64_t unit = wal_unit_next(redo->wal);
    struct wal_append records[] = {
        {.kind = WAL_KIND_BEGIN,
         .unit = unit,
         .payload = slice_make(bson_get_data(&begin_payload), begin_payload.len),
         .next = &records[1]},
        {.kind = WAL_KIND_WRITE,
         .unit = unit,
         .payload = slice_make(bson_get_data(&write_payload), write_payload.len),
         .next = &records[2]},
        {.kind = WAL_KIND_COMMIT,
         .unit = unit,
         .payload = slice_make(bson_get_data(&commit_payload), commit_payload.len)},
    };
    status = wal_append_wait(redo->wal, &records[0], ret_error);
    bson_destroy(&begin_payload);
    bson_destroy(&write_payload);
    bson_destroy(&commit_payload);
    image_free(&target);
    if (status == STATUS_OK) {
        redo->report->adopted++;
        CRASH_POINT(redo_adopted);
    }
    return status;
}

/* ------------------------------------------------------------------ steps */

/* Takes over *found. */
static void set_conflict(struct redo *redo, struct redo_document *document, struct image *found,
                         const char *why)
{
    char reason[256];
    image_free(&document->owned);
    document->owned = *found;
    document->place = REDO_AT_OTHER;
    document->wanted = false;
    (void)snprintf(reason, sizeof(reason),
                   "after a crash of the server a document of %.80s could not be brought back: "
                   "%.90s",
                   redo->entries[document->first].write->namespace, why);
    redo_set_conflict(redo, document, reason);
}

static enum status read_at(const struct redo *redo, const struct redo_document *document,
                           struct image *ret_at, struct error *ret_error)
{
    if (document->owned.presence != IMAGE_UNKNOWN) {
        return image_copy(document->owned, ret_at)
                   ? STATUS_OK
                   : error_set(ret_error, STATUS_MEMORY, "out of memory for a redo");
    }
    return redo_read(redo, &document->at, ret_at, ret_error);
}

static enum status note_changed(struct redo *redo, struct redo_document *document, const char *why,
                                struct error *ret_error)
{
    const struct history_write *write = redo->entries[document->first].write;
    struct image found = {0};
    enum status status =
        upstream_find_image(redo->upstream, write->namespace, write->key, &found, ret_error);
    if (status == STATUS_OK) {
        set_conflict(redo, document, &found, why);
    }
    return status;
}

/* *ret_progress: the document came nearer to where it belongs, or is given up. */
static enum status step(struct redo *redo, struct redo_document *document, bool two_steps,
                        bool *ret_progress, struct error *ret_error)
{
    const struct redo_entry *entry = &redo->entries[document->target_entry];
    bool was_parked = document->parked;
    struct image at = {0};
    struct image target = {0};
    struct error error = {0};
    enum upstream_swap swap = UPSTREAM_SWAP_DIFFERS;
    enum status status = read_at(redo, document, &at, &error);
    if (status == STATUS_OK) {
        status = redo_read(redo, &document->target, &target, &error);
    }
    if (status == STATUS_OK) {
        struct park_step move = {
            .unit = was_parked ? document->parked_unit : redo->members[entry->member].history->unit,
            .namespace = entry->write->namespace,
            .key = entry->write->key,
            .expected = at,
            .wanted = target,
            .two_steps = two_steps,
            .parked = was_parked,
            .comment = COMMENT,
        };
        status = park_replace_image(redo->upstream, &move, &swap, &error);
        document->parked = move.parked;
        document->parked_unit = move.unit;
    }
    image_free(&at);
    image_free(&target);
    *ret_progress = status == STATUS_OK || document->parked != was_parked;
    if (status == STATUS_UNSUPPORTED || (status == STATUS_OK && swap == UPSTREAM_SWAP_DIFFERS)) {
        *ret_progress = true;
        return note_changed(redo, document,
                            status == STATUS_OK ? "it was changed meanwhile" : error.message,
                            ret_error);
    }
    if (status != STATUS_OK && status != STATUS_CONFLICT) {
        return error_set(ret_error, status, "%s", error.message);
    }
    if (status == STATUS_OK) {
        document->wanted = false;
        CRASH_POINT(redo_moved);
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ rounds */

struct turn {
    bool committed;
    uint64_t lsn;
    struct redo_document *document;
};

/* What committed units wrote in the order of the writes; then what others did, backwards. */
static int compare_turns(const void *a_void, const void *b_void)
{
    const struct turn *a = a_void;
    const struct turn *b = b_void;
    if (a->committed != b->committed) {
        return a->committed ? -1 : 1;
    }
    int order = a->lsn == b->lsn ? 0 : a->lsn < b->lsn ? -1 : 1;
    return a->committed ? order : -order;
}

/* `make_way`: the first that is refused does. */
static enum status round_of(struct redo *redo, const struct turn *turns, size_t count,
                            bool make_way, size_t *ret_left, bool *ret_progress,
                            struct error *ret_error)
{
    *ret_left = 0;
    *ret_progress = false;
    for (size_t i = 0; i < count; i++) {
        bool progress = false;
        if (!turns[i].document->wanted) {
            continue;
        }
        bool two_steps = make_way && !*ret_progress && !turns[i].document->parked;
        enum status status = step(redo, turns[i].document, two_steps, &progress, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        *ret_left += turns[i].document->wanted;
        *ret_progress = *ret_progress || progress;
    }
    return STATUS_OK;
}

/* The server will not take it, in whatever order: back to where it was found, and set aside. */
static enum status give_up(struct redo *redo, struct redo_document *document,
                           struct error *ret_error)
{
    if (document->parked && document->place != REDO_AT_PARKED) {
        struct history_image target = document->target;
        bool progress = false;
        document->target = document->at;
        if (document->at.presence != IMAGE_UNKNOWN) {
            enum status status = step(redo, document, false, &progress, ret_error);
            if (status != STATUS_OK) {
                return status;
            }
        }
        document->target = target;
    }
    return note_changed(redo, document, "the server refuses its image", ret_error);
}

static enum status move_all(struct redo *redo, const struct turn *turns, size_t count,
                            struct error *ret_error)
{
    size_t left = count;
    bool progress = true;
    bool made_way = false;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && left > 0 && (progress || !made_way)) {
        made_way = !progress;
        status = round_of(redo, turns, count, made_way, &left, &progress, ret_error);
    }
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        if (turns[i].document->wanted) {
            status = give_up(redo, turns[i].document, ret_error);
        }
    }
    return status;
}

enum status redo_move(struct redo *redo, struct error *ret_error)
{
    struct turn *turns = calloc(redo->document_count + 1, sizeof(*turns));
    size_t count = 0;
    enum status status = STATUS_OK;
    if (turns == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for a redo");
    }
    for (size_t i = 0; i < redo->document_count && status == STATUS_OK; i++) {
        struct redo_document *document = &redo->documents[i];
        if (!document->wanted) {
            continue;
        }
        if (document->place == REDO_AT_OLDER) {
            status = adopt(redo, document, ret_error);
        }
        const struct redo_entry *entry = &redo->entries[document->target_entry];
        turns[count++] =
            (struct turn){.committed = redo->members[entry->member].role == REDO_WINNER,
                          .lsn = entry->write->lsn,
                          .document = document};
    }
    if (status == STATUS_OK) {
        qsort(turns, count, sizeof(*turns), compare_turns);
        status = move_all(redo, turns, count, ret_error);
    }
    free(turns);
    return status;
}
