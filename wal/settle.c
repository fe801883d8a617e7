/*
 * What an owner that was killed has left in the tail is put into the tables, without opening the
 * journal: for the compacting copy, which is of data.mdb alone, and which needs no key file.
 *
 * It is what opening for writing does (wal.c), but for the clean mark, which a tail that has
 * something proves wrong in any case: one transaction, durable, and only then the tail begins anew.
 * Killed before its end the tail still has everything; after it both have.
 *
 * The caller's thread; he has the owner's lock, and the journal was found sound.
 */

#include <stdlib.h>
#include <sys/stat.h>

#include "wal/commit.h"
#include "wal/internal.h"
#include "wal/rows.h"

/* The tail is put in once more at most, with the pages that it touches. */
#define MAP_ROOM_BYTES ((uint64_t)64 << 20)

static enum status put_tail(struct wal *wal, struct committer **ret_committer,
                            struct error *ret_error)
{
    struct store_transaction *transaction = NULL;
    enum status status = store_begin(wal->store, true, &transaction, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = wal_identity_read(wal, transaction, ret_error);
    if (status == STATUS_OK) {
        status = committer_new(wal, transaction, true, ret_committer, ret_error);
    }
    if (status == STATUS_OK) {
        status = wal_mark(transaction, 0, wal->version, ret_error);
    }
    if (status != STATUS_OK) {
        store_abort(transaction);
        return status;
    }
    return store_commit(transaction, ret_error);
}

static enum status settle(struct wal *wal, uint64_t file_bytes, struct error *ret_error)
{
    struct committer *committer = NULL;
    enum store_content content = STORE_NOTHING;
    const struct store_options options = {
        .directory = wal->directory,
        .map_bytes = (file_bytes + MAP_ROOM_BYTES + 0xFFFF) & ~(uint64_t)0xFFFF,
        .durability = WAL_DURABILITY_POWER,
    };
    enum status status = store_open(&options, &wal->store, &content, ret_error);
    if (status == STATUS_OK) {
        status = put_tail(wal, &committer, ret_error);
    }
    if (status == STATUS_OK) {
        status = committer_start(committer, ret_error);
    }
    committer_free(committer);
    store_close(wal->store);
    return status;
}

/* *ret_behind: the tail has what the tables do not have. */
static enum status look(const char *directory, bool *ret_behind, struct error *ret_error)
{
    struct wal wal = {0};
    struct tail_view *view = NULL;
    struct store_transaction *transaction = NULL;
    enum store_content content = STORE_NOTHING;
    const struct store_options options = {.directory = directory, .read_only = true};
    enum status status = store_open(&options, &wal.store, &content, ret_error);
    if (status == STATUS_OK) {
        status = store_begin(wal.store, false, &transaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = wal_identity_read(&wal, transaction, ret_error);
        store_abort(transaction);
    }
    if (status == STATUS_OK) {
        status = tail_read(directory, wal.id, &view, ret_error);
    }
    if (status == STATUS_OK) {
        struct tail_window window = tail_window_of(view, 0);
        *ret_behind = tail_window_last_lsn(&window) > atomic_load(&wal.last_lsn);
    }
    tail_view_release(view);
    store_close(wal.store);
    return status;
}

enum status settle_tail(const char *directory, uint64_t file_bytes, struct error *ret_error)
{
    bool behind = false;
    struct wal wal = {.lock_descriptor = -1};
    enum status status = look(directory, &behind, ret_error);
    if (status != STATUS_OK || !behind) {
        return status;
    }
    wal.directory = strdup(directory);
    if (wal.directory == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    pthread_mutex_init(&wal.view_lock, NULL);
    status = settle(&wal, file_bytes, ret_error);
    tail_view_release(wal.view);
    pthread_mutex_destroy(&wal.view_lock);
    free(wal.directory);
    return status;
}
