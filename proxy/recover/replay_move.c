/*
 * Moves documents to where a replay wants them, a batch at a time:
 *
 *   1. the images that they are to have are read from the journal
 *   2. the documents are found by their _ids, and each is compared with its chain, byte for byte
 *   3. those that have to move are changed in bulk, guarded by what was found
 *   4. they are found again: what is not as it should be now was refused, or changed by a stranger
 *
 * What cannot go in bulk, or was refused, is left to replay_blocked.c.
 *
 * Threads: the caller's.
 */

#include <stdlib.h>

#include "holdfast/crash_point.h"
#include "recover/replay_private.h"

#define BATCH_DOCUMENTS 1000
/* Of images that a batch holds in memory, each document's largest counted twice. */
#define BATCH_BYTES ((size_t)16 << 20)

struct batch {
    struct replay *replay;
    struct replay_document **documents;
    size_t count;
    uint32_t left[BATCH_DOCUMENTS];
    struct slice keys[BATCH_DOCUMENTS];
    /* those that have to move */
    struct replay_document *moving[BATCH_DOCUMENTS];
    struct upstream_change changes[BATCH_DOCUMENTS];
    size_t change_count;
    const char *namespace;
};

/* ------------------------------------------------------------------ finding */

static bool take_found(struct slice bytes, void *context)
{
    struct batch *batch = context;
    struct replay_document *document =
        replay_chains_find(batch->replay->chains, batch->namespace, bytes);
    if (document == NULL) {
        return true; /* nothing of what was asked for */
    }
    image_free(&document->found);
    return image_copy((struct image){.presence = IMAGE_PRESENT, .document = bytes},
                      &document->found);
}

/* Fills `found` of these documents. */
static enum status find(struct batch *batch, struct replay_document **documents, size_t count,
                        struct error *ret_error)
{
    struct upstream *upstream = batch->replay->upstream;
    enum status status = STATUS_OK;
    size_t key_count = 0;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        image_free(&documents[i]->found);
        if (upstream_bulk_finds(documents[i]->key)) {
            documents[i]->found.presence = IMAGE_ABSENT;
            batch->keys[key_count++] = documents[i]->key;
        } else {
            status = upstream_find_image(upstream, batch->namespace, documents[i]->key,
                                         &documents[i]->found, ret_error);
        }
    }
    if (status == STATUS_OK && key_count > 0) {
        status = upstream_bulk_find(upstream, batch->namespace, batch->keys, key_count, take_found,
                                    batch, ret_error);
    }
    return status;
}

/* ------------------------------------------------------------------ one batch */

static enum status block(struct replay *replay, struct replay_document *document,
                         struct error *ret_error)
{
    if (replay->blocked_count == replay->blocked_capacity) {
        size_t capacity = replay->blocked_capacity == 0 ? 64 : replay->blocked_capacity * 2;
        struct replay_document **more =
            reallocarray(replay->blocked, capacity, sizeof(struct replay_document *));
        if (more == NULL) {
            return error_set(ret_error, STATUS_MEMORY, "out of memory");
        }
        replay->blocked = more;
        replay->blocked_capacity = capacity;
    }
    replay->blocked[replay->blocked_count++] = document;
    return STATUS_OK;
}

static enum status plan_one(struct batch *batch, size_t index, struct error *ret_error)
{
    struct replay *replay = batch->replay;
    struct replay_document *document = batch->documents[index];
    enum replay_verdict verdict;
    enum status status = replay_judge(replay, document, batch->left[index], &verdict, ret_error);
    if (status != STATUS_OK || verdict == REPLAY_CONFLICT) {
        return status;
    }
    if (verdict == REPLAY_IN_PLACE) {
        replay->report->in_place++;
        return STATUS_OK;
    }
    if (replay->options->dry_run) {
        replay->report->moved++;
        return STATUS_OK;
    }
    struct upstream_change change = {
        .key = document->key, .expected = document->found, .wanted = document->wanted};
    if (!upstream_bulk_fits(&change)) {
        return block(replay, document, ret_error);
    }
    batch->moving[batch->change_count] = document;
    batch->changes[batch->change_count++] = change;
    return STATUS_OK;
}

static enum status send_changes(struct batch *batch, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < batch->change_count && status == STATUS_OK;) {
        size_t first = i;
        size_t bytes = 0;
        while (i < batch->change_count &&
               (i == first ||
                bytes + upstream_bulk_bytes(&batch->changes[i]) <= UPSTREAM_BULK_BYTES)) {
            bytes += upstream_bulk_bytes(&batch->changes[i++]);
        }
        status = upstream_bulk_change(batch->replay->upstream, batch->namespace,
                                      &batch->changes[first], i - first, REPLAY_COMMENT, ret_error);
    }
    return status;
}

/* After the changes: `expected` of each change is a view of what was found before. */
static enum status check_changes(struct batch *batch, struct error *ret_error)
{
    struct replay *replay = batch->replay;
    enum status status = STATUS_OK;
    struct image before[BATCH_DOCUMENTS];
    for (size_t i = 0; i < batch->change_count; i++) {
        before[i] = batch->moving[i]->found;
        batch->moving[i]->found = (struct image){.presence = IMAGE_UNKNOWN};
    }
    status = find(batch, batch->moving, batch->change_count, ret_error);
    for (size_t i = 0; i < batch->change_count; i++) {
        struct replay_document *document = batch->moving[i];
        if (status != STATUS_OK) {
            continue;
        }
        if (image_equal(document->found, document->wanted)) {
            replay->report->moved++;
        } else if (image_equal(document->found, before[i])) {
            status = block(replay, document, ret_error);
        } else {
            replay_tell_conflict(replay, document,
                                 "somebody else wrote it meanwhile, or the server does not keep it "
                                 "as it is sent");
        }
    }
    for (size_t i = 0; i < batch->change_count; i++) {
        image_free(&before[i]);
    }
    return status;
}

static enum status move_batch(struct batch *batch, struct error *ret_error)
{
    enum status status = find(batch, batch->documents, batch->count, ret_error);
    batch->change_count = 0;
    for (size_t i = 0; i < batch->count && status == STATUS_OK; i++) {
        status = plan_one(batch, i, ret_error);
    }
    if (status == STATUS_OK && batch->change_count > 0) {
        status = send_changes(batch, ret_error);
        if (status == STATUS_OK) {
            CRASH_POINT(replay_sent);
            status = check_changes(batch, ret_error);
        }
    }
    for (size_t i = 0; i < batch->count; i++) {
        replay_forget_images(batch->documents[i]);
    }
    return status == STATUS_OK ? replay_step(batch->replay, ret_error) : status;
}

/* ------------------------------------------------------------------ all */

static size_t largest_image(const struct replay_chains *chains,
                            const struct replay_document *document)
{
    size_t largest = 0;
    for (uint32_t i = 0; i < document->link_count; i++) {
        const struct replay_link *link = replay_chains_link(chains, document, i);
        largest = link->before.size > largest ? link->before.size : largest;
        largest = link->after.size > largest ? link->after.size : largest;
    }
    return largest;
}

/* Takes documents off the front, with the images that they are to have. */
static enum status fill_batch(struct batch *batch, struct replay_document **documents, size_t count,
                              struct error *ret_error)
{
    enum status status = STATUS_OK;
    size_t bytes = 0;
    batch->documents = documents;
    batch->count = 0;
    batch->namespace = documents[0]->namespace;
    while (batch->count < count && batch->count < BATCH_DOCUMENTS && status == STATUS_OK) {
        struct replay_document *document = documents[batch->count];
        bytes += 2 * largest_image(batch->replay->chains, document);
        if (document->namespace != batch->namespace || (batch->count > 0 && bytes > BATCH_BYTES)) {
            break;
        }
        status = replay_read_wanted(batch->replay, document, &batch->left[batch->count], ret_error);
        batch->count++;
    }
    return status;
}

enum status replay_move_all(struct replay *replay, struct error *ret_error)
{
    size_t count = 0;
    struct replay_document **documents = replay_chains_documents(replay->chains, &count);
    struct batch *batch = calloc(1, sizeof(*batch));
    enum status status = STATUS_OK;
    if (batch == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    batch->replay = replay;
    for (size_t done = 0; done < count && status == STATUS_OK; done += batch->count) {
        status = fill_batch(batch, documents + done, count - done, ret_error);
        if (status == STATUS_OK) {
            status = move_batch(batch, ret_error);
        } else {
            for (size_t i = 0; i < batch->count; i++) {
                replay_forget_images(batch->documents[i]);
            }
        }
    }
    free(batch);
    return status;
}
