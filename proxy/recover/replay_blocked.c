/*
 * Documents that could not be moved in bulk: too large, of a kind that servers change when it is
 * inserted, or refused, mostly because another document still has the value of a unique index.
 *
 *   1. one by one, again and again, as long as another one got to its place: whoever had the value
 *      may have moved since
 *   2. those that are left hold each other's values (two swapped theirs). They go the way that
 * their units went: write by write, in the order of the journal, which the server took once
 *   3. what is left now is a conflict
 *
 * Killed in between, each document is at an image of its chain: the next replay goes on.
 *
 * Threads: the caller's.
 */

#include <stdlib.h>

#include "recover/replay_private.h"

/* A write of a document that is led through its images. */
struct stride {
    uint64_t lsn;
    struct replay_document *document;
    uint32_t link;
};

/* *ret_done: nothing is left to be done for it, one way or the other. */
static enum status try_swap(struct replay *replay, struct replay_document *document,
                            struct image wanted, bool *ret_done, struct error *ret_error)
{
    enum upstream_swap swap = UPSTREAM_SWAP_DIFFERS;
    struct error error = {0};
    *ret_done = false;
    enum status status =
        upstream_replace_image(replay->upstream, document->namespace, document->key,
                               document->found, wanted, REPLAY_COMMENT, &swap, &error);
    if (status == STATUS_CONFLICT) {
        return STATUS_OK; /* the server does not take it now */
    }
    if (status == STATUS_UNSUPPORTED) {
        replay_tell_conflict(replay, document, error.message);
        *ret_done = true;
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return error_set(ret_error, status, "%s", error.message);
    }
    if (swap != UPSTREAM_SWAP_DONE) {
        replay_tell_conflict(replay, document,
                             "somebody else wrote it meanwhile, or the server does not keep it as "
                             "it is sent");
        *ret_done = true;
    }
    return STATUS_OK;
}

static enum status find_again(struct replay *replay, struct replay_document *document,
                              enum replay_verdict *ret_verdict, struct error *ret_error)
{
    uint32_t left = 0;
    image_free(&document->found);
    enum status status = replay_read_wanted(replay, document, &left, ret_error);
    if (status == STATUS_OK) {
        status = upstream_find_image(replay->upstream, document->namespace, document->key,
                                     &document->found, ret_error);
    }
    return status == STATUS_OK ? replay_judge(replay, document, left, ret_verdict, ret_error)
                               : status;
}

/* *ret_done: it is at its place, or a conflict. */
static enum status try_one(struct replay *replay, struct replay_document *document, bool *ret_done,
                           struct error *ret_error)
{
    enum replay_verdict verdict;
    *ret_done = true;
    enum status status = find_again(replay, document, &verdict, ret_error);
    if (status == STATUS_OK && verdict == REPLAY_TO_MOVE) {
        uint64_t conflicts = replay->report->conflicts;
        status = try_swap(replay, document, document->wanted, ret_done, ret_error);
        if (status == STATUS_OK && replay->report->conflicts == conflicts && !*ret_done) {
            /* Moved, or refused: it tells. */
            status = find_again(replay, document, &verdict, ret_error);
            *ret_done = verdict != REPLAY_TO_MOVE;
        }
    }
    if (status == STATUS_OK && *ret_done && verdict == REPLAY_IN_PLACE) {
        replay->report->moved++;
    }
    replay_forget_images(document);
    return status;
}

/* One round over all; those that are still blocked stay in the list. */
static enum status try_all(struct replay *replay, struct error *ret_error)
{
    size_t kept = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < replay->blocked_count; i++) {
        bool done = false;
        if (status == STATUS_OK) {
            status = try_one(replay, replay->blocked[i], &done, ret_error);
        }
        if (status == STATUS_OK) {
            status = replay_step(replay, replay->report, ret_error);
        }
        if (!done) {
            replay->blocked[kept++] = replay->blocked[i];
        }
    }
    replay->blocked_count = kept;
    return status;
}

/* ------------------------------------------------------------------ write by write */

static int compare_strides(const void *a_void, const void *b_void)
{
    const struct stride *a = a_void;
    const struct stride *b = b_void;
    return a->lsn == b->lsn ? 0 : a->lsn < b->lsn ? -1 : 1;
}

/* The committed writes of the document behind the image that it is at. */
static size_t add_strides(const struct replay *replay, struct replay_document *document,
                          struct stride *strides)
{
    size_t count = 0;
    uint32_t first = document->position + (document->position_before ? 0 : 1);
    for (uint32_t i = first; i < document->link_count; i++) {
        const struct replay_link *link = replay_chains_link(replay->chains, document, i);
        if (link->outcome == REPLAY_COMMITTED) {
            strides[count++] = (struct stride){.lsn = link->lsn, .document = document, .link = i};
        }
    }
    return count;
}

/* Leads the document over one of its writes. What the server refuses may be taken a round later. */
static enum status take_stride(struct replay *replay, const struct stride *stride,
                               struct error *ret_error)
{
    struct unit_history anywhere = {.wal = replay->wal};
    struct replay_document *document = stride->document;
    const struct replay_link *link = replay_chains_link(replay->chains, document, stride->link);
    struct history_image place = replay_image_place(&link->after, link->after_presence);
    struct image next = {0};
    enum upstream_swap swap;
    enum status status = upstream_find_image(replay->upstream, document->namespace, document->key,
                                             &document->found, ret_error);
    if (status == STATUS_OK) {
        status = history_image_read(&anywhere, &place, &next, ret_error);
    }
    if (status == STATUS_OK && next.presence != IMAGE_UNKNOWN &&
        !image_equal(document->found, next)) {
        struct error error = {0};
        status = upstream_replace_image(replay->upstream, document->namespace, document->key,
                                        document->found, next, REPLAY_COMMENT, &swap, &error);
        if (status == STATUS_CONFLICT || status == STATUS_UNSUPPORTED) {
            status = STATUS_OK;
        } else if (status != STATUS_OK) {
            error_set(ret_error, status, "%s", error.message);
        }
    }
    image_free(&next);
    replay_forget_images(document);
    return status;
}

static enum status walk(struct replay *replay, struct error *ret_error)
{
    enum status status = STATUS_OK;
    size_t count = 0;
    for (size_t i = 0; i < replay->blocked_count; i++) {
        count += replay->blocked[i]->link_count;
    }
    struct stride *strides = calloc(count + 1, sizeof(*strides));
    if (strides == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    count = 0;
    size_t kept = 0;
    for (size_t i = 0; i < replay->blocked_count && status == STATUS_OK; i++) {
        struct replay_document *document = replay->blocked[i];
        enum replay_verdict verdict = REPLAY_TO_MOVE;
        status = find_again(replay, document, &verdict, ret_error); /* its place, as of now */
        if (status == STATUS_OK && verdict == REPLAY_TO_MOVE) {
            count += add_strides(replay, document, strides + count);
        }
        if (verdict != REPLAY_CONFLICT) { /* that was told */
            replay->blocked[kept++] = document;
        }
        replay_forget_images(document);
    }
    replay->blocked_count = kept;
    qsort(strides, count, sizeof(*strides), compare_strides);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = take_stride(replay, &strides[i], ret_error);
        if (status == STATUS_OK) {
            status = replay_step(replay, replay->report, ret_error);
        }
    }
    free(strides);
    return status;
}

static enum status give_up(struct replay *replay, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < replay->blocked_count && status == STATUS_OK; i++) {
        struct replay_document *document = replay->blocked[i];
        enum replay_verdict verdict;
        status = find_again(replay, document, &verdict, ret_error);
        if (status == STATUS_OK && verdict == REPLAY_TO_MOVE) {
            replay_tell_conflict(replay, document,
                                 "the server refuses it, as it may for a unique index");
        } else if (status == STATUS_OK && verdict == REPLAY_IN_PLACE) {
            replay->report->moved++;
        }
        replay_forget_images(document);
    }
    return status;
}

static enum status try_until_none_moves(struct replay *replay, struct error *ret_error)
{
    enum status status = STATUS_OK;
    size_t before = replay->blocked_count + 1;
    while (status == STATUS_OK && replay->blocked_count > 0 && replay->blocked_count < before) {
        before = replay->blocked_count;
        status = try_all(replay, ret_error);
    }
    return status;
}

enum status replay_move_blocked(struct replay *replay, struct error *ret_error)
{
    enum status status = try_until_none_moves(replay, ret_error);
    if (status == STATUS_OK && replay->blocked_count > 0) {
        status = walk(replay, ret_error);
    }
    if (status == STATUS_OK && replay->blocked_count > 0) {
        status = try_until_none_moves(replay, ret_error);
    }
    return status == STATUS_OK ? give_up(replay, ret_error) : status;
}
