/*
 * Moves documents to where a replay wants them, a batch at a time:
 *
 *   1. the images that they are to have are read from the journal
 *      (those that were new are inserted at once, without a look, as long as most of them are)
 *   2. the documents are found by their _ids, and each is compared with its chain, byte for byte
 *   3. those that have to move are changed in bulk, guarded by what was found
 *   4. they are found again: what is not as it should be now was refused, or changed by a stranger
 *
 * What cannot go in bulk, or was refused, is left to replay_blocked.c.
 *
 * Several threads do that at the same time, each with its own documents and its own connection, so
 * that the server, the journal and the comparisons need not wait for each other. The caller's
 * thread waits for them.
 */

#include <stdlib.h>

#include "base/memory.h"
#include "holdfast/crash_point.h"
#include "recover/replay_private.h"

#define BATCH_DOCUMENTS 1000
/* Of images that a batch holds in memory, each document's largest counted twice. */
#define BATCH_BYTES ((size_t)16 << 20)

struct batch {
    struct replay *replay;
    struct upstream *upstream; /* this thread's */
    struct replay_scratch scratch;
    struct replay_document **documents;
    size_t count;
    uint32_t left[BATCH_DOCUMENTS];
    struct slice keys[BATCH_DOCUMENTS];
    /* those that have to move */
    struct replay_document *moving[BATCH_DOCUMENTS];
    struct upstream_change changes[BATCH_DOCUMENTS];
    size_t change_count;
    const char *namespace;
    /* Inserts without a look: whether they are still worth it, and how many of this batch the
       server took that were not counted yet. */
    bool hopeful;
    size_t inserted;
};

/* ------------------------------------------------------------------ finding */

static bool take_found(struct slice bytes, void *context)
{
    struct batch *batch = context;
    struct replay_document *document =
        replay_chains_find(batch->replay->chains, batch->namespace, bytes, &batch->scratch);
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
    struct upstream *upstream = batch->upstream;
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

static enum status block_locked(struct replay *replay, struct replay_document *document,
                                struct error *ret_error)
{
    void *more = memory_reserve(replay->blocked, replay->blocked_count, &replay->blocked_capacity,
                                sizeof(struct replay_document *));
    if (more == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    replay->blocked = more;
    replay->blocked[replay->blocked_count++] = document;
    return STATUS_OK;
}

static enum status block(struct replay *replay, struct replay_document *document,
                         struct error *ret_error)
{
    pthread_mutex_lock(&replay->lock);
    enum status status = block_locked(replay, document, ret_error);
    pthread_mutex_unlock(&replay->lock);
    return status;
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
    if (verdict == REPLAY_IN_PLACE && batch->inserted > 0) {
        /* Which of them it is does not matter, only how many there are. */
        batch->inserted--;
        replay_count(replay, &replay->report->moved);
        return STATUS_OK;
    }
    if (verdict == REPLAY_IN_PLACE) {
        replay_count(replay, &replay->report->in_place);
        return STATUS_OK;
    }
    if (replay->options->dry_run) {
        replay_count(replay, &replay->report->moved);
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

/* How many of the changes from `first` on one command takes. */
static size_t changes_that_fit(const struct batch *batch, size_t first)
{
    size_t bytes = 0;
    size_t i = first;
    while (i < batch->change_count &&
           (i == first || bytes + upstream_bulk_bytes(&batch->changes[i]) <= UPSTREAM_BULK_BYTES)) {
        bytes += upstream_bulk_bytes(&batch->changes[i++]);
    }
    return i - first;
}

static enum status send_changes(struct batch *batch, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < batch->change_count && status == STATUS_OK;) {
        size_t count = changes_that_fit(batch, i);
        status = upstream_bulk_change(batch->upstream, batch->namespace, &batch->changes[i], count,
                                      REPLAY_COMMENT, ret_error);
        i += count;
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
            replay_count(replay, &replay->report->moved);
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

/* The document's first unit made it, so that it may be absent in the backup. */
static bool begins_absent(const struct batch *batch, const struct replay_document *document)
{
    const struct replay_link *first = replay_chains_link(batch->replay->chains, document, 0);
    return first->before_presence == IMAGE_ABSENT && document->wanted.presence == IMAGE_PRESENT;
}

/* To be absent is one of the images of such a document, and an insert touches nothing else. */
static enum status insert_new(struct batch *batch, struct error *ret_error)
{
    static const struct image absent = {.presence = IMAGE_ABSENT};
    enum status status = STATUS_OK;
    batch->change_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct upstream_change change = {.key = batch->documents[i]->key,
                                         .expected = absent,
                                         .wanted = batch->documents[i]->wanted};
        if (begins_absent(batch, batch->documents[i]) && upstream_bulk_fits(&change)) {
            batch->changes[batch->change_count++] = change;
        }
    }
    for (size_t i = 0; i < batch->change_count && status == STATUS_OK;) {
        size_t inserted = 0;
        size_t count = changes_that_fit(batch, i);
        CRASH_POINT(replay_inserting);
        status = upstream_bulk_insert(batch->upstream, batch->namespace, &batch->changes[i], count,
                                      REPLAY_COMMENT, &inserted, ret_error);
        batch->inserted += inserted;
        i += count;
    }
    batch->hopeful = 2 * batch->inserted >= batch->change_count;
    return status;
}

static enum status move_batch(struct batch *batch, struct error *ret_error)
{
    enum status status = STATUS_OK;
    batch->inserted = 0;
    if (batch->hopeful && !batch->replay->options->dry_run) {
        status = insert_new(batch, ret_error);
    }
    if (status == STATUS_OK) {
        status = find(batch, batch->documents, batch->count, ret_error);
    }
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
    return status;
}

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

/* ------------------------------------------------------------------ threads */

/* The documents that are shared out among the threads. */
struct sharing {
    pthread_mutex_t lock;
    struct replay_document **documents;
    size_t count;
    size_t next; /* those before it are somebody's */
};

/* Takes the next documents of one namespace; false if there are none, or all is to end. */
static bool take_batch(struct replay *replay, struct sharing *sharing, struct batch *batch)
{
    size_t bytes = 0;
    pthread_mutex_lock(&sharing->lock);
    batch->count = 0;
    if (!atomic_load(&replay->stopping) && sharing->next < sharing->count) {
        batch->documents = sharing->documents + sharing->next;
        batch->namespace = batch->documents[0]->namespace;
        while (batch->count < BATCH_DOCUMENTS && sharing->next + batch->count < sharing->count) {
            const struct replay_document *document = batch->documents[batch->count];
            bytes += 2 * largest_image(replay->chains, document);
            if (document->namespace != batch->namespace ||
                (batch->count > 0 && bytes > BATCH_BYTES)) {
                break;
            }
            batch->count++;
        }
        sharing->next += batch->count;
    }
    pthread_mutex_unlock(&sharing->lock);
    return batch->count > 0;
}

static enum status read_wanted(struct batch *batch, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < batch->count && status == STATUS_OK; i++) {
        status = replay_read_wanted(batch->replay, batch->documents[i], &batch->left[i], ret_error);
    }
    return status;
}

static enum status move_batches(struct replay *replay, void *context, struct error *ret_error)
{
    struct sharing *sharing = context;
    const struct replay_options *options = replay->options;
    struct batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    batch->replay = replay;
    batch->hopeful = true;
    enum status status =
        upstream_open(options->uri, options->connect_ms, &batch->upstream, ret_error);
    while (status == STATUS_OK && take_batch(replay, sharing, batch)) {
        status = read_wanted(batch, ret_error);
        if (status == STATUS_OK) {
            status = move_batch(batch, ret_error);
        }
        for (size_t i = 0; i < batch->count; i++) {
            replay_forget_images(batch->documents[i]);
        }
    }
    upstream_close(batch->upstream);
    free(batch->scratch.bytes);
    free(batch);
    return status;
}

enum status replay_move_all(struct replay *replay, struct error *ret_error)
{
    struct sharing sharing = {.lock = PTHREAD_MUTEX_INITIALIZER};
    sharing.documents = replay_chains_documents(replay->chains, &sharing.count);
    return replay_team_run(replay, move_batches, &sharing, ret_error);
}
