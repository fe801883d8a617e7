/*
 * Batches and checkpoints (commit.h).
 *
 * Invariants
 *  - `batch.transaction`, where there is one, has everything that the view has, and nothing that
 *    was not made durable, but for the batch that is being written. One that is lost with a failure
 *    (LMDB takes nothing back) is made anew from the view.
 *  - The view is what readers lay over the tables; it gets a frame before anybody is told, and is
 *    replaced by an empty one after a checkpoint.
 *  - A frame is written only where everything in the tail that the tables do not have is kept:
 *    behind the last one, or at the beginning after a checkpoint.
 */

#include "wal/commit.h"

#include <stdlib.h>

#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "wal/batch.h"
#include "wal/internal.h"
#include "wal/room.h"
#include "wal/rows.h"
#include "wal/tail.h"

/* Removing rows takes pages, too, and so does what is put between two checkpoints: LMDB changes
   copies. */
#define COPIES_BYTES ((uint64_t)12 << 20)
/* A checkpoint comes before its commit could need more fresh pages than that: so much lies ready
   behind the end of the file when a transaction begins (room.h). */
#define COMMIT_BYTES_MAX (ROOM_BALLAST_BYTES / 2 - ((uint64_t)1 << 20))
/* Beyond its own bytes a record changes a leaf of the units and one of the sessions, and with them
   now and then the pages above. */
#define COMMIT_BYTES_RECORD ((uint64_t)10 << 10)

struct committer {
    struct wal *wal;
    bool with_sync;
    struct tail_file *tail; /* NULL: the disk had no room for one */
    struct tail_builder builder;
    struct batch batch;    /* its transaction is NULL: none is open */
    bool ballast;          /* there was one when that began */
    uint64_t salt;         /* of the frames since the last checkpoint */
    uint64_t commit_bytes; /* of pages that its commit needs, at most */
    uint64_t tail_end;     /* where the next frame goes */
    uint64_t last_us;      /* what the last batch took to be durable */
    uint64_t file_bytes;   /* at the last batch */
    uint64_t growth_ms;    /* when the file last grew into the reserve */
    bool growth_seen;
};

/* ------------------------------------------------------------------ room */

/*
 * True while the part of the map that is kept for ending units is whole. Near the end of the map it
 * counts how much of the file is free. A file that still grows there has free pages that an old
 * reader holds back: then new units wait a second, so that they cannot use up the reserve.
 */
static bool reserve_is_kept(struct committer *committer, const struct store_usage *usage)
{
    uint64_t kept = committer->wal->reserve_bytes / 2;
    uint64_t before = committer->file_bytes;
    uint64_t now_ms = clock_monotonic_ms();
    committer->file_bytes = usage->file_bytes;
    if (usage->file_bytes + kept <= usage->map_bytes) {
        return true;
    }
    if (before != 0 && usage->file_bytes > before) {
        committer->growth_seen = true;
        committer->growth_ms = now_ms;
    }
    bool grows = committer->growth_seen && now_ms - committer->growth_ms < 1000;
    return usage->file_bytes >= usage->used_bytes + kept && !grows;
}

/* ------------------------------------------------------------------ the open transaction */

static void abandon(struct committer *committer)
{
    committer->batch.transaction = store_abort(committer->batch.transaction);
}

static enum status put_again(struct batch *batch, const struct tail_view *view,
                             struct error *ret_error)
{
    struct tail_window window = tail_window_of(view, batch->last_lsn);
    enum status status = STATUS_OK;
    uint64_t last_lsn = tail_window_last_lsn(&window);
    while (batch->last_lsn < last_lsn && status == STATUS_OK) {
        const struct tail_entry *entry = tail_window_entry(&window, batch->last_lsn + 1);
        status = entry == NULL ? error_set(ret_error, STATUS_CORRUPT,
                                           "the journal's tail does not continue its tables")
                               : batch_put_again(batch, entry, ret_error);
    }
    return status;
}

/* The tables' own last LSN: what the view has beyond it is put again. */
static enum status begin(struct committer *committer, struct error *ret_error)
{
    struct wal *wal = committer->wal;
    struct batch batch = {.cipher = wal->cipher, .quota_bytes = wal->quota_bytes};
    enum status status = store_ballast_keep(wal->store, &committer->ballast, ret_error);
    if (status == STATUS_OK) {
        status = store_begin(wal->store, true, &batch.transaction, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = rows_version(batch.transaction, &batch.version, ret_error);
    if (status == STATUS_OK) {
        status = rows_highest(batch.transaction, &batch.last_lsn, &batch.last_unit, ret_error);
    }
    if (status == STATUS_OK) {
        status = put_again(&batch, wal->view, ret_error);
    }
    if (status != STATUS_OK) {
        store_abort(batch.transaction);
        return status;
    }
    batch.builder = &committer->builder;
    committer->batch = batch;
    return STATUS_OK;
}

/* After what became durable: what others may see, before anybody is told. */
static void publish(struct committer *committer)
{
    struct wal *wal = committer->wal;
    const struct batch *batch = &committer->batch;
    wal->version = batch->version;
    atomic_store(&wal->last_lsn, batch->last_lsn);
    uint64_t next = atomic_load(&wal->unit_next);
    while (next <= batch->last_unit &&
           !atomic_compare_exchange_weak(&wal->unit_next, &next, batch->last_unit + 1)) {
    }
}

/* ------------------------------------------------------------------ becoming durable */

static void replace_view(struct wal *wal, struct tail_view *view)
{
    pthread_mutex_lock(&wal->view_lock);
    struct tail_view *before = wal->view;
    wal->view = view;
    pthread_mutex_unlock(&wal->view_lock);
    tail_view_release(before);
}

/* The transaction is over in any case. */
static enum status commit(struct committer *committer, struct error *ret_error)
{
    struct tail_view *view = tail_view_new();
    struct store_transaction *transaction = committer->batch.transaction;
    if (view == NULL) {
        abandon(committer);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    committer->batch.transaction = NULL;
    enum status status = store_commit(transaction, ret_error);
    if (status != STATUS_OK) {
        tail_view_release(view);
        return status;
    }
    CRASH_POINT(wal_checkpointed);
    committer->tail_end = 0;
    committer->commit_bytes = 0;
    publish(committer);
    replace_view(committer->wal, view);
    return STATUS_OK;
}

/* Of the batch that is in the builder. *ret_written false: it has to go to the tables. */
static enum status write_frame(struct committer *committer, bool *ret_written,
                               struct error *ret_error)
{
    struct wal *wal = committer->wal;
    struct tail_frame *frame = NULL;
    *ret_written = false;
    if (committer->tail_end == 0) {
        arc4random_buf(&committer->salt, sizeof committer->salt);
    }
    if (committer->tail == NULL || committer->builder.too_large || tail_view_is_full(wal->view)) {
        return STATUS_OK;
    }
    enum status status =
        tail_builder_finish(&committer->builder, wal->id, committer->salt, &frame, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    uint64_t room = tail_frame_room(frame);
    if (committer->tail_end + room > FORMAT_TAIL_BYTES) {
        tail_frame_free(frame);
        return STATUS_OK;
    }
    status = tail_file_write(committer->tail, committer->tail_end,
                             slice_make(frame->bytes, frame->size), ret_error);
    if (status != STATUS_OK) {
        tail_frame_free(frame);
        return status == STATUS_FULL ? STATUS_OK : status;
    }
    committer->tail_end += room;
    tail_view_add(wal->view, frame);
    publish(committer);
    *ret_written = true;
    return STATUS_OK;
}

static enum status make_durable(struct committer *committer, struct error *ret_error)
{
    bool written = false;
    uint64_t started_us = clock_monotonic_us();
    enum status status = write_frame(committer, &written, ret_error);
    if (status != STATUS_OK) {
        abandon(committer);
        return status;
    }
    if (!written) {
        status = commit(committer, ret_error);
    }
    if (status == STATUS_OK) {
        committer->last_us = clock_monotonic_us() - started_us;
        histogram_observe_alone(&committer->wal->commits, committer->last_us);
    }
    return status;
}

/* ------------------------------------------------------------------ the writer's calls */

enum status committer_checkpoint(struct committer *committer, struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (committer->tail_end == 0) {
        abandon(committer); /* nothing was made durable in it */
        return STATUS_OK;
    }
    if (committer->batch.transaction == NULL) {
        status = begin(committer, ret_error);
    }
    return status == STATUS_OK ? commit(committer, ret_error) : status;
}

/* Where it has no room everything stays in the tail, and the next batch may get in all the same. */
static enum status checkpoint_if_room(struct committer *committer, struct error *ret_error)
{
    enum status status = committer_checkpoint(committer, ret_error);
    return status_is_lack_of_room(status) ? STATUS_OK : status;
}

/* For the next batch. */
static enum status prepare(struct committer *committer, struct error *ret_error)
{
    struct store_usage usage;
    enum status status = STATUS_OK;
    if (committer->batch.transaction != NULL && !committer->ballast) {
        /* Whether there is room again is seen between two transactions. */
        status = checkpoint_if_room(committer, ret_error);
    }
    if (status == STATUS_OK && committer->batch.transaction == NULL) {
        status = begin(committer, ret_error);
    }
    if (status == STATUS_OK) {
        status = store_usage_get(committer->batch.transaction, &usage, ret_error);
    }
    if (status == STATUS_OK) {
        committer->batch.time_ms = clock_wall_ms();
        committer->batch.only_ends = !reserve_is_kept(committer, &usage) || !committer->ballast;
        committer->batch.ends_bytes = usage.map_bytes - COPIES_BYTES;
        tail_builder_reset(&committer->builder);
    }
    return status;
}

static uint64_t commit_bytes_of(const struct wal_append *group, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += batch_group_bytes(group);
        for (const struct wal_append *record = group; record != NULL; record = record->next) {
            bytes += COMMIT_BYTES_RECORD;
        }
        group = group->queue_next;
    }
    return bytes;
}

enum status committer_write(struct committer *committer, struct wal_append *first, size_t count,
                            struct error *ret_error)
{
    size_t groups = 0;
    enum status status = STATUS_OK;
    uint64_t bytes = commit_bytes_of(first, count);
    if (committer->tail_end > 0 && committer->commit_bytes + bytes > COMMIT_BYTES_MAX) {
        /* So that what does not get in takes nothing with it that is durable already. */
        status = checkpoint_if_room(committer, ret_error);
    }
    if (status == STATUS_OK) {
        status = prepare(committer, ret_error);
    }
    if (status != STATUS_OK) {
        abandon(committer);
        return status;
    }
    committer->builder.too_large = bytes > COMMIT_BYTES_MAX;
    struct wal_append *group = first;
    for (size_t i = 0; i < count; i++) {
        status = batch_put(&committer->batch, group, &group->status, ret_error);
        if (status != STATUS_OK) {
            abandon(committer);
            return status;
        }
        groups += group->status == STATUS_OK ? 1 : 0;
        group = group->queue_next;
    }
    if (groups == 0) {
        return STATUS_OK;
    }
    CRASH_POINT(wal_batch_put);
    status = make_durable(committer, ret_error);
    if (status == STATUS_OK) {
        CRASH_POINT(wal_batch_durable);
        committer->commit_bytes += committer->tail_end > 0 ? bytes : 0;
        atomic_fetch_add(&committer->wal->batches, 1);
        atomic_fetch_add(&committer->wal->groups, groups);
    }
    return status;
}

bool committer_is_behind(const struct committer *committer)
{
    return committer->batch.transaction != NULL || committer->tail_end != 0;
}

uint64_t committer_last_us(const struct committer *committer)
{
    return committer->last_us;
}

/* ------------------------------------------------------------------ life */

static enum status recover(struct wal *wal, struct store_transaction *transaction,
                           struct error *ret_error)
{
    struct tail_view *view = NULL;
    struct batch batch = {
        .transaction = transaction,
        .version = wal->version,
        .last_lsn = atomic_load(&wal->last_lsn),
        .last_unit = atomic_load(&wal->unit_next) - 1,
    };
    enum status status = tail_read(wal->directory, wal->id, &view, ret_error);
    if (status == STATUS_OK && view == NULL && wal->version >= FORMAT_VERSION_TAIL) {
        status = tail_is_missing(wal->directory, ret_error);
    }
    if (status == STATUS_OK) {
        status = put_again(&batch, view, ret_error);
    }
    tail_view_release(view);
    if (status == STATUS_OK) {
        wal->version = batch.version;
        atomic_store(&wal->last_lsn, batch.last_lsn);
        atomic_store(&wal->unit_next, batch.last_unit + 1);
    }
    return status;
}

/* A disk without room for the file does without: each batch goes to the tables. */
static enum status open_tail(struct committer *committer, bool with_sync, struct error *ret_error)
{
    struct wal *wal = committer->wal;
    enum status status = tail_file_open(wal->directory, with_sync, &committer->tail, ret_error);
    wal->version = status == STATUS_OK ? format_version_tail(wal->version)
                                       : format_version_no_tail(wal->version);
    return status == STATUS_FULL ? STATUS_OK : status;
}

enum status committer_new(struct wal *wal, struct store_transaction *transaction, bool with_sync,
                          struct committer **ret_committer, struct error *ret_error)
{
    struct tail_view *view = NULL;
    struct committer *committer = calloc(1, sizeof *committer);
    if (committer == NULL || (view = tail_view_new()) == NULL) {
        free(committer);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    committer->wal = wal;
    committer->with_sync = with_sync;
    replace_view(wal, view);
    enum status status = recover(wal, transaction, ret_error);
    if (status == STATUS_OK) {
        status = open_tail(committer, with_sync, ret_error);
    }
    if (status != STATUS_OK) {
        committer_free(committer);
        return status;
    }
    *ret_committer = committer;
    return STATUS_OK;
}

enum status committer_start(struct committer *committer, struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (committer->tail == NULL) {
        return STATUS_OK;
    }
    if (!committer->with_sync) {
        /* What the tail had may have been promised to survive a power cut. */
        status = store_sync(committer->wal->store, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = tail_file_clear(committer->tail, ret_error);
    if (status == STATUS_FULL) {
        committer->tail = tail_file_close(committer->tail);
        return STATUS_OK;
    }
    return status;
}

struct committer *committer_free(struct committer *committer)
{
    if (committer != NULL) {
        abandon(committer);
        tail_builder_free(&committer->builder);
        tail_file_close(committer->tail);
        free(committer);
    }
    return NULL;
}
