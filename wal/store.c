/*
 * The store: the only file that knows LMDB.
 *
 * Invariants
 *  - `power`: neither MDB_NOMETASYNC nor MDB_WRITEMAP, so that a commit that returned is on the
 *    disk: LMDB writes the new pages beside the old ones, syncs them, then writes the meta page
 * that points at them with O_DSYNC. A crash between any two steps leaves the former meta page
 * valid.
 *  - `process`: MDB_NOSYNC, the same order of writes into the page cache and no barrier between.
 *  - MDB_NOTLS: a read transaction is tied to its object, not to its thread.
 *  - The map is made once and never moves while transactions are alive. In a process that only
 *    reads, the owner may have made the file larger than the map: MDB_MAP_RESIZED, answered by
 *    taking over the new size as soon as no other transaction of this process is alive.
 *
 * Threads: see store.h. `lock` guards the count of living transactions, for the line above.
 */

#include "wal/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "wal/room.h"

/* The CLI, a metrics scrape and every worker may each have a reader; a slot is 64 bytes. */
#define READERS_MAX 1024u
#define FILE_MODE 0600

struct store {
    MDB_env *environment;
    MDB_dbi tables[STORE_TABLE_COUNT];
    char *directory;
    bool read_only;
    pthread_mutex_t lock;
    unsigned transactions; /* alive; guarded by lock */
    struct room room;      /* the writing thread only */
};

struct store_transaction {
    struct store *store;
    MDB_txn *txn;
    MDB_cursor *cursors[STORE_TABLE_COUNT]; /* made when first needed */
    bool write;
};

static const char *const table_names[STORE_TABLE_COUNT] = {
#define X(name, text) [STORE_##name] = text,
    STORE_TABLE_LIST(X)
#undef X
};

/* ------------------------------------------------------------------ errors */

static enum status status_of(int code)
{
    switch (code) {
    case MDB_NOTFOUND:
        return STATUS_NOT_FOUND;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return STATUS_FULL;
    case MDB_KEYEXIST: /* of an append: a key that should be the greatest is not */
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE:
        return STATUS_CORRUPT;
    case MDB_VERSION_MISMATCH:
        return STATUS_VERSION;
    case MDB_READERS_FULL:
        return STATUS_LIMIT;
    case ENOMEM:
        return STATUS_MEMORY;
    default:
        return STATUS_IO;
    }
}

static enum status fail(const struct store *store, int code, const char *what,
                        struct error *ret_error)
{
    return error_set(ret_error, status_of(code), "the journal in %s: cannot %s: %s",
                     store->directory, what, mdb_strerror(code));
}

/*
 * LMDB gives its environment up for good when a meta page could not be written. Then nobody knows
 * which one the disk has, and "full", which says that nothing happened, would be a guess.
 */
static bool has_given_up(const struct store *store)
{
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(store->environment, NULL, MDB_RDONLY, &txn);
    if (code == 0) {
        mdb_txn_abort(txn);
    }
    return code == MDB_PANIC;
}

/* LMDB reports a short write as EIO. On a disk without room that is what it is: full. */
static int code_of_commit(const struct store *store, int code)
{
    struct statvfs disk;
    if (code != 0 && has_given_up(store)) {
        return MDB_PANIC;
    }
    if (code == EIO && statvfs(store->directory, &disk) == 0 &&
        disk.f_bavail * disk.f_frsize < ROOM_BALLAST_BYTES / 16) {
        return ENOSPC;
    }
    return code;
}

/* ------------------------------------------------------------------ open and close */

static bool data_file_is_empty(const struct store *store)
{
    char path[PATH_MAX];
    struct stat file;
    if (snprintf(path, sizeof(path), "%s/data.mdb", store->directory) >= (int)sizeof(path)) {
        return false;
    }
    return stat(path, &file) != 0 ? errno == ENOENT : file.st_size == 0;
}

/* In the first transaction: finds the tables, or learns that there are none. */
static enum status open_tables(struct store *store, enum store_content *ret_content,
                               struct error *ret_error)
{
    MDB_txn *txn = NULL;
    MDB_stat root;
    enum status status = STATUS_OK;
    int code = mdb_txn_begin(store->environment, NULL, MDB_RDONLY, &txn);
    if (code != 0) {
        return fail(store, code, "begin to read", ret_error);
    }
    for (int i = 0; i < STORE_TABLE_COUNT && code == 0; i++) {
        code = mdb_dbi_open(txn, table_names[i], 0, &store->tables[i]);
    }
    if (code == 0) {
        code = mdb_txn_commit(txn); /* keeps the handles */
        txn = NULL;
        if (code == 0) {
            *ret_content = STORE_TABLES;
            return STATUS_OK;
        }
        return fail(store, code, "open its tables", ret_error);
    }
    if (code != MDB_NOTFOUND) {
        status = fail(store, code, "open its tables", ret_error);
        goto out;
    }
    /* The main table always has the handle 1; it lists the named ones. */
    code = mdb_stat(txn, 1, &root);
    if (code != 0) {
        status = fail(store, code, "read its list of tables", ret_error);
    } else if (root.ms_entries != 0) {
        status = error_set(ret_error, STATUS_INVALID,
                           "%s holds an LMDB environment that is not a journal, or one whose first "
                           "pages are damaged: keep it, and see holdfast verify",
                           store->directory);
    } else {
        *ret_content = STORE_NOTHING;
    }
out:
    mdb_txn_abort(txn);
    return status;
}

static enum status explain_open(const struct store *store, int code, struct error *ret_error)
{
    if (code == MDB_INVALID || code == MDB_CORRUPTED) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "%s/data.mdb is not a journal, or its first pages are damaged",
                         store->directory);
    }
    if (store->read_only && (code == EACCES || code == EROFS)) {
        return error_set(ret_error, STATUS_IO,
                         "cannot read the journal in %s: %s (readers need write access to lock.mdb "
                         "and read access to data.mdb and tail.wal)",
                         store->directory, mdb_strerror(code));
    }
    return fail(store, code, "open it", ret_error);
}

/*
 * A file that was cut short would end the process with SIGBUS at the first read behind its end.
 * LMDB itself may leave the last pages unwritten while they are free, so being short is no proof of
 * damage; with the hole filled, reading there gives zeros, which LMDB refuses as a page.
 */
static enum status fill_cut_file(struct store *store, struct error *ret_error)
{
    MDB_envinfo info;
    MDB_stat root;
    int descriptor = -1;
    struct stat file;
    int code = mdb_env_info(store->environment, &info);
    code = code != 0 ? code : mdb_env_stat(store->environment, &root);
    code = code != 0 ? code : mdb_env_get_fd(store->environment, &descriptor);
    if (code != 0) {
        return fail(store, code, "ask for its size", ret_error);
    }
    if (fstat(descriptor, &file) != 0) {
        return fail(store, errno, "ask for its size", ret_error);
    }
    uint64_t wanted = ((uint64_t)info.me_last_pgno + 1) * root.ms_psize;
    if ((uint64_t)file.st_size < wanted && ftruncate(descriptor, (off_t)wanted) != 0) {
        return fail(store, errno, "fill the end of data.mdb", ret_error);
    }
    return STATUS_OK;
}

/*
 * Makes the two meta pages on the disk those that we see, before the first page is used again.
 *
 * They can differ when a former owner could not write a meta page for an error of the disk: LMDB
 * then put the old one back into the page cache, while the disk may have the new one, or get it
 * later. We go on from the old one and use pages again that the new one needs; a power cut before
 * our first meta page is on the disk would bring up the new one over them. Writing both pages back
 * as they are also covers a cache that dropped them as written after a sync that failed.
 */
static enum status settle_meta_pages(struct store *store, struct error *ret_error)
{
    MDB_stat root;
    int descriptor = -1;
    int code = mdb_env_stat(store->environment, &root);
    code = code != 0 ? code : mdb_env_get_fd(store->environment, &descriptor);
    if (code != 0) {
        return fail(store, code, "ask for its meta pages", ret_error);
    }
    size_t size = 2 * (size_t)root.ms_psize;
    uint8_t *pages = malloc(size);
    if (pages == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    ssize_t done = pread(descriptor, pages, size, 0);
    if (done == (ssize_t)size) {
        done = pwrite(descriptor, pages, size, 0);
    }
    code = done == (ssize_t)size ? 0 : done < 0 ? errno : EIO;
    if (code == 0 && fdatasync(descriptor) != 0) {
        code = errno;
    }
    free(pages);
    return code == 0 ? STATUS_OK : fail(store, code, "write its meta pages back", ret_error);
}

static enum status configure(struct store *store, const struct store_options *options,
                             struct error *ret_error)
{
    unsigned flags = MDB_NOTLS;
    if (options->read_only) {
        flags |= MDB_RDONLY;
    } else if (options->durability == WAL_DURABILITY_PROCESS) {
        flags |= MDB_NOSYNC;
    }
    if (options->scattered) {
        flags |= MDB_NORDAHEAD;
    }
    int code = mdb_env_create(&store->environment);
    code = code != 0 ? code : mdb_env_set_maxdbs(store->environment, STORE_TABLE_COUNT);
    code = code != 0 ? code : mdb_env_set_maxreaders(store->environment, READERS_MAX);
    if (code == 0 && !options->read_only) {
        code = mdb_env_set_mapsize(store->environment, (size_t)options->map_bytes);
    }
    code = code != 0
               ? code
               : mdb_env_open(store->environment, options->directory, flags, (mdb_mode_t)FILE_MODE);
    return code == 0 ? STATUS_OK : explain_open(store, code, ret_error);
}

enum status store_open(const struct store_options *options, struct store **ret_store,
                       enum store_content *ret_content, struct error *ret_error)
{
    enum store_content content = STORE_NOTHING;
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    pthread_mutex_init(&store->lock, NULL);
    store->read_only = options->read_only;
    store->room.with_zeros = options->durability == WAL_DURABILITY_POWER;
    store->directory = strdup(options->directory);
    enum status status = STATUS_OK;
    if (store->directory == NULL) {
        status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        goto out;
    }
    if (options->read_only && data_file_is_empty(store)) {
        status =
            error_set(ret_error, STATUS_NOT_FOUND, "there is no journal in %s", store->directory);
        goto out;
    }
    status = configure(store, options, ret_error);
    if (status == STATUS_OK && !options->read_only) {
        status = fill_cut_file(store, ret_error);
    }
    if (status == STATUS_OK && !options->read_only && options->durability == WAL_DURABILITY_POWER) {
        status = settle_meta_pages(store, ret_error);
    }
    if (status == STATUS_OK) {
        store_clear_stale_readers(store);
        status = open_tables(store, &content, ret_error);
    }
out:
    if (status != STATUS_OK) {
        store_close(store);
        return status;
    }
    *ret_store = store;
    *ret_content = content;
    return STATUS_OK;
}

struct store *store_close(struct store *store)
{
    if (store == NULL) {
        return NULL;
    }
    assert(store->transactions == 0);
    if (store->environment != NULL) {
        mdb_env_close(store->environment);
    }
    pthread_mutex_destroy(&store->lock);
    free(store->directory);
    free(store);
    return NULL;
}

enum status store_sync(struct store *store, struct error *ret_error)
{
    int code = mdb_env_sync(store->environment, 1);
    return code == 0 ? STATUS_OK : fail(store, code, "sync it", ret_error);
}

enum status store_copy(struct store *store, const char *directory, struct error *ret_error)
{
    int code = mdb_env_copy2(store->environment, directory, MDB_CP_COMPACT);
    return code == 0 ? STATUS_OK : fail(store, code, "copy it", ret_error);
}

void store_clear_stale_readers(struct store *store)
{
    int cleared = 0;
    /* Nothing depends on it at once; it is tried again. */
    (void)mdb_reader_check(store->environment, &cleared);
}

/* ------------------------------------------------------------------ transactions */

/* Under the lock. */
static int begin_locked(struct store *store, unsigned flags, MDB_txn **ret_txn)
{
    int code = mdb_txn_begin(store->environment, NULL, flags, ret_txn);
    if (code == MDB_READERS_FULL) {
        store_clear_stale_readers(store);
        code = mdb_txn_begin(store->environment, NULL, flags, ret_txn);
    }
    if (code == MDB_MAP_RESIZED && store->transactions == 0) {
        code = mdb_env_set_mapsize(store->environment, 0);
        code = code != 0 ? code : mdb_txn_begin(store->environment, NULL, flags, ret_txn);
    }
    return code;
}

enum status store_begin(struct store *store, bool write, struct store_transaction **ret_transaction,
                        struct error *ret_error)
{
    struct store_transaction *transaction = calloc(1, sizeof(*transaction));
    if (transaction == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    transaction->store = store;
    transaction->write = write;
    pthread_mutex_lock(&store->lock);
    int code = begin_locked(store, write ? 0 : MDB_RDONLY, &transaction->txn);
    if (code == 0) {
        store->transactions++;
    }
    pthread_mutex_unlock(&store->lock);
    if (code != 0) {
        free(transaction);
        return fail(store, code, write ? "begin to write" : "begin to read", ret_error);
    }
    *ret_transaction = transaction;
    return STATUS_OK;
}

static void close_cursors(struct store_transaction *transaction)
{
    for (int i = 0; i < STORE_TABLE_COUNT; i++) {
        if (transaction->cursors[i] != NULL) {
            mdb_cursor_close(transaction->cursors[i]);
        }
    }
}

static void forget(struct store_transaction *transaction)
{
    struct store *store = transaction->store;
    pthread_mutex_lock(&store->lock);
    store->transactions--;
    pthread_mutex_unlock(&store->lock);
    free(transaction);
}

enum status store_commit(struct store_transaction *transaction, struct error *ret_error)
{
    struct store *store = transaction->store;
    close_cursors(transaction);
    int code = mdb_txn_commit(transaction->txn);
    forget(transaction);
    if (code != 0) {
        return fail(store, code_of_commit(store, code), "write to it", ret_error);
    }
    return STATUS_OK;
}

struct store_transaction *store_abort(struct store_transaction *transaction)
{
    if (transaction != NULL) {
        close_cursors(transaction);
        mdb_txn_abort(transaction->txn);
        forget(transaction);
    }
    return NULL;
}

enum status store_make_tables(struct store_transaction *transaction, struct error *ret_error)
{
    struct store *store = transaction->store;
    for (int i = 0; i < STORE_TABLE_COUNT; i++) {
        int code = mdb_dbi_open(transaction->txn, table_names[i], MDB_CREATE, &store->tables[i]);
        if (code != 0) {
            return fail(store, code, "make its tables", ret_error);
        }
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ rows */

static MDB_val value_of(struct slice slice)
{
    /* LMDB's values are not const although it only reads keys and values that are given to it. */
    union {
        const uint8_t *reads;
        void *declared;
    } data = {.reads = slice.data};
    return (MDB_val){.mv_size = slice.size, .mv_data = data.declared};
}

static int cursor_of(struct store_transaction *transaction, enum store_table table,
                     MDB_cursor **ret_cursor)
{
    int code = 0;
    if (transaction->cursors[table] == NULL) {
        code = mdb_cursor_open(transaction->txn, transaction->store->tables[table],
                               &transaction->cursors[table]);
    }
    *ret_cursor = transaction->cursors[table];
    return code;
}

static enum status explain_row(struct store_transaction *transaction, enum store_table table,
                               int code, const char *verb, struct error *ret_error)
{
    return error_set(ret_error, status_of(code), "the journal in %s: cannot %s %s: %s",
                     transaction->store->directory, verb, table_names[table], mdb_strerror(code));
}

enum status store_get(struct store_transaction *transaction, enum store_table table,
                      struct slice key, struct slice *ret_value, struct error *ret_error)
{
    MDB_val key_value = value_of(key);
    MDB_val found;
    int code = mdb_get(transaction->txn, transaction->store->tables[table], &key_value, &found);
    if (code == MDB_NOTFOUND) {
        return STATUS_NOT_FOUND; /* each unit that begins asks: no sentence about it */
    }
    if (code != 0) {
        return explain_row(transaction, table, code, "read from", ret_error);
    }
    *ret_value = slice_make(found.mv_data, found.mv_size);
    return STATUS_OK;
}

enum status store_next(struct store_transaction *transaction, enum store_table table,
                       struct slice after, struct slice *ret_key, struct slice *ret_value,
                       struct error *ret_error)
{
    MDB_cursor *cursor = NULL;
    MDB_val key = value_of(after);
    MDB_val found;
    int code = cursor_of(transaction, table, &cursor);
    if (code == 0) {
        code = mdb_cursor_get(cursor, &key, &found, after.size == 0 ? MDB_FIRST : MDB_SET_RANGE);
    }
    if (code == 0 && slice_equal(slice_make(key.mv_data, key.mv_size), after)) {
        code = mdb_cursor_get(cursor, &key, &found, MDB_NEXT);
    }
    if (code != 0) {
        return explain_row(transaction, table, code, "read on in", ret_error);
    }
    *ret_key = slice_make(key.mv_data, key.mv_size);
    *ret_value = slice_make(found.mv_data, found.mv_size);
    return STATUS_OK;
}

enum status store_last(struct store_transaction *transaction, enum store_table table,
                       struct slice *ret_key, struct slice *ret_value, struct error *ret_error)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val found;
    int code = cursor_of(transaction, table, &cursor);
    code = code != 0 ? code : mdb_cursor_get(cursor, &key, &found, MDB_LAST);
    if (code != 0) {
        return explain_row(transaction, table, code, "read the end of", ret_error);
    }
    *ret_key = slice_make(key.mv_data, key.mv_size);
    *ret_value = slice_make(found.mv_data, found.mv_size);
    return STATUS_OK;
}

enum status store_put(struct store_transaction *transaction, enum store_table table,
                      struct slice key, struct slice value, struct error *ret_error)
{
    MDB_val key_value = value_of(key);
    MDB_val stored = value_of(value);
    int code = mdb_put(transaction->txn, transaction->store->tables[table], &key_value, &stored, 0);
    return code == 0 ? STATUS_OK : explain_row(transaction, table, code, "write to", ret_error);
}

enum status store_append(struct store_transaction *transaction, enum store_table table,
                         struct slice key, size_t value_size, uint8_t **ret_room,
                         struct error *ret_error)
{
    MDB_val key_value = value_of(key);
    MDB_val room = {.mv_size = value_size, .mv_data = NULL};
    int code = mdb_put(transaction->txn, transaction->store->tables[table], &key_value, &room,
                       MDB_APPEND | MDB_RESERVE);
    if (code != 0) {
        return explain_row(transaction, table, code, "append to", ret_error);
    }
    *ret_room = room.mv_data;
    return STATUS_OK;
}

enum status store_delete(struct store_transaction *transaction, enum store_table table,
                         struct slice key, struct error *ret_error)
{
    MDB_val key_value = value_of(key);
    int code = mdb_del(transaction->txn, transaction->store->tables[table], &key_value, NULL);
    return code == 0 ? STATUS_OK : explain_row(transaction, table, code, "remove from", ret_error);
}

/* ------------------------------------------------------------------ figures */

static uint64_t pages_of(const MDB_stat *figures)
{
    return (uint64_t)figures->ms_branch_pages + figures->ms_leaf_pages + figures->ms_overflow_pages;
}

enum status store_usage_get(struct store_transaction *transaction, struct store_usage *ret_usage,
                            struct error *ret_error)
{
    MDB_stat figures = {0};
    MDB_envinfo info;
    uint64_t pages = 2; /* the meta pages */
    int code = mdb_env_info(transaction->store->environment, &info);
    for (MDB_dbi root = 0; root < 2 && code == 0; root++) { /* free list and list of tables */
        code = mdb_stat(transaction->txn, root, &figures);
        pages += pages_of(&figures);
    }
    for (int i = 0; i < STORE_TABLE_COUNT && code == 0; i++) {
        code = mdb_stat(transaction->txn, transaction->store->tables[i], &figures);
        pages += pages_of(&figures);
    }
    if (code != 0) {
        return fail(transaction->store, code, "read its figures", ret_error);
    }
    *ret_usage = (struct store_usage){
        .page_bytes = figures.ms_psize,
        .used_bytes = pages * figures.ms_psize,
        .file_bytes = ((uint64_t)info.me_last_pgno + 1) * figures.ms_psize,
        .map_bytes = info.me_mapsize,
        .commits = mdb_txn_id(transaction->txn),
    };
    return STATUS_OK;
}

enum status store_entries(struct store_transaction *transaction, enum store_table table,
                          uint64_t *ret_entries, struct error *ret_error)
{
    MDB_stat figures;
    int code = mdb_stat(transaction->txn, transaction->store->tables[table], &figures);
    if (code != 0) {
        return explain_row(transaction, table, code, "count", ret_error);
    }
    *ret_entries = figures.ms_entries;
    return STATUS_OK;
}

enum status store_check_free_pages(struct store_transaction *transaction, struct error *ret_error)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    assert(!transaction->write); /* LMDB opens a cursor on its free list only for reading */
    int code = mdb_cursor_open(transaction->txn, 0, &cursor);
    if (code != 0) {
        return fail(transaction->store, code, "read its list of free pages", ret_error);
    }
    size_t last = 0;
    code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (code == 0) {
        /* Key: a transaction number. Value: a count and as many page numbers. */
        size_t number = 0;
        size_t count = 0;
        bool whole = key.mv_size == sizeof(size_t) && value.mv_size >= sizeof(size_t);
        if (whole) {
            memcpy(&number, key.mv_data, sizeof(number));
            memcpy(&count, value.mv_data, sizeof(count));
        }
        if (!whole || number <= last || count > value.mv_size / sizeof(size_t) - 1) {
            code = MDB_CORRUPTED;
            break;
        }
        last = number;
        code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND
               ? STATUS_OK
               : fail(transaction->store, code, "read its list of free pages", ret_error);
}

enum status store_ballast_keep(struct store *store, bool *ret_kept, struct error *ret_error)
{
    MDB_envinfo info;
    MDB_stat root;
    int descriptor = -1;
    bool kept = true;
    int code = mdb_env_info(store->environment, &info);
    code = code != 0 ? code : mdb_env_stat(store->environment, &root);
    code = code != 0 ? code : mdb_env_get_fd(store->environment, &descriptor);
    if (code == 0) {
        uint64_t end = ((uint64_t)info.me_last_pgno + 1) * root.ms_psize;
        code = room_keep(&store->room, descriptor, end, &kept);
    }
    if (code != 0) {
        return fail(store, code_of_commit(store, code), "write to it", ret_error);
    }
    *ret_kept = kept;
    return STATUS_OK;
}

bool store_disk_has_room(const struct store *store)
{
    struct statvfs disk;
    return statvfs(store->directory, &disk) != 0 ||
           disk.f_bavail * disk.f_frsize >= ROOM_BALLAST_BYTES;
}
