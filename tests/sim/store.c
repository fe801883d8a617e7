/*
 * The journal's store in memory, in LMDB's place, with what a crash leaves of it.
 *
 *   disk  --->  version (what readers see)  --->  five tables of rows, ordered by key
 *           `-> durable (what a power cut leaves at least)
 *
 * A transaction works on a version of its own; rows are shared and counted. A commit puts the new
 * version in place and, with `power` durability, on the disk: a process that dies in the middle
 * finds either. The disk outlives the process; everything else is of one run.
 *
 * The tail's file, which is on the same disk, is tail.c.
 *
 * A commit that fails (STATUS_IO) may or may not be on the disk, and no other follows: as LMDB, the
 * store has given up.
 *
 * Also here: the journal's directory, of which there is nothing but its lock.
 */
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sim.h"
#include "wal/directory.h"
#include "wal/format.h"
#include "wal/internal.h"
#include "wal/tail.h"

#define DISKS_MAX 4
#define VERSIONS_MAX 64
#define ROW_OVERHEAD 24u

int __real_stat(const char *path, struct stat *ret_file);
int __wrap_stat(const char *path, struct stat *ret_file);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_rmdir(const char *path);

struct row {
    uint32_t holders;
    size_t key_size;
    size_t value_size;
    uint8_t bytes[]; /* key, value */
};

struct table {
    struct row **rows;
    size_t count;
    size_t capacity;
};

struct version {
    uint32_t holders;
    bool made; /* the tables are there */
    uint64_t commits;
    uint64_t bytes;
    struct table tables[STORE_TABLE_COUNT];
};

struct disk {
    char directory[128];
    struct version *versions[VERSIONS_MAX]; /* durable, ..., newest */
    size_t count;
    struct version *in_commit; /* not yet, or just so */
};

struct store {
    struct disk *disk;
    enum wal_durability durability;
    uint64_t map_bytes;
    bool failed;
};

struct store_transaction {
    struct store *store;
    struct version *version;
    bool write;
};

#define OPEN_MAX 64

static struct disk disks[DISKS_MAX];
static struct version *opened[OPEN_MAX]; /* by transactions that are alive */
static bool full;
static bool failed;
static bool ended_in_failure; /* the last life of the process */
static bool writing;          /* a transaction that writes is open: there can be one only */

/* ------------------------------------------------------------------ rows and versions */

static struct row *row_new(struct slice key, size_t value_size)
{
    struct row *row = sim_malloc(sizeof *row + key.size + value_size);
    row->holders = 1;
    row->key_size = key.size;
    row->value_size = value_size;
    memcpy(row->bytes, key.data, key.size);
    return row;
}

static void row_release(struct row *row)
{
    if (--row->holders == 0) {
        sim_free(row);
    }
}

static struct slice key_of(const struct row *row)
{
    return slice_make(row->bytes, row->key_size);
}

static struct slice value_of(const struct row *row)
{
    return slice_make(row->bytes + row->key_size, row->value_size);
}

static void version_release(struct version *version)
{
    if (version == NULL || --version->holders > 0) {
        return;
    }
    for (int t = 0; t < STORE_TABLE_COUNT; t++) {
        for (size_t i = 0; i < version->tables[t].count; i++) {
            row_release(version->tables[t].rows[i]);
        }
        sim_free(version->tables[t].rows);
    }
    sim_free(version);
}

static struct version *version_copy(const struct version *from)
{
    struct version *version = sim_malloc(sizeof *version);
    *version = *from;
    version->holders = 1;
    for (int t = 0; t < STORE_TABLE_COUNT; t++) {
        struct table *table = &version->tables[t];
        table->capacity = table->count + 8;
        table->rows = sim_malloc(table->capacity * sizeof(struct row *));
        for (size_t i = 0; i < table->count; i++) {
            table->rows[i] = from->tables[t].rows[i];
            table->rows[i]->holders++;
        }
    }
    return version;
}

static int compare(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = memcmp(a.data, b.data, size);
    return order != 0 ? order : a.size < b.size ? -1 : a.size > b.size ? 1 : 0;
}

/* Where the key is or would be. */
static size_t position(const struct table *table, struct slice key, bool *ret_found)
{
    size_t low = 0;
    size_t high = table->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare(key_of(table->rows[middle]), key);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void table_insert(struct version *version, struct table *table, size_t at, struct row *row)
{
    if (table->count == table->capacity) {
        table->capacity = table->capacity * 2 + 8;
        table->rows = sim_realloc(table->rows, table->capacity * sizeof(struct row *));
    }
    memmove(table->rows + at + 1, table->rows + at, (table->count - at) * sizeof(struct row *));
    table->rows[at] = row;
    table->count++;
    version->bytes += row->key_size + row->value_size + ROW_OVERHEAD;
}

static void table_remove(struct version *version, struct table *table, size_t at)
{
    struct row *row = table->rows[at];
    version->bytes -= row->key_size + row->value_size + ROW_OVERHEAD;
    table->count--;
    memmove(table->rows + at, table->rows + at + 1, (table->count - at) * sizeof(struct row *));
    row_release(row);
}

static void note_opened(struct version *version)
{
    for (size_t i = 0; i < OPEN_MAX; i++) {
        if (opened[i] == NULL) {
            opened[i] = version;
            return;
        }
    }
    assert(!"too many transactions");
}

static void note_ended(const struct version *version)
{
    for (size_t i = 0; i < OPEN_MAX; i++) {
        if (opened[i] == version) {
            opened[i] = NULL;
            return;
        }
    }
}

/* The transactions have died with their process. */
static void release_opened(void)
{
    for (size_t i = 0; i < OPEN_MAX; i++) {
        version_release(opened[i]);
        opened[i] = NULL;
    }
}

/* ------------------------------------------------------------------ disks */

static struct disk *disk_find(const char *directory)
{
    for (size_t i = 0; i < DISKS_MAX; i++) {
        if (strcmp(disks[i].directory, directory) == 0) {
            return &disks[i];
        }
    }
    return NULL;
}

static struct disk *disk_make(const char *directory)
{
    struct disk *disk = disk_find("");
    assert(disk != NULL);
    *disk = (struct disk){.count = 1};
    (void)snprintf(disk->directory, sizeof disk->directory, "%s", directory);
    disk->versions[0] = sim_malloc(sizeof(struct version));
    disk->versions[0]->holders = 1;
    return disk;
}

static void disk_free(struct disk *disk)
{
    for (size_t i = 0; i < disk->count; i++) {
        version_release(disk->versions[i]);
    }
    version_release(disk->in_commit);
    *disk = (struct disk){.count = 0};
}

static struct version *newest(const struct disk *disk)
{
    return disk->versions[disk->count - 1];
}

static void make_durable(struct disk *disk)
{
    struct version *kept = newest(disk);
    for (size_t i = 0; i + 1 < disk->count; i++) {
        version_release(disk->versions[i]);
    }
    disk->versions[0] = kept;
    disk->count = 1;
}

static void put_in_place(struct disk *disk, struct version *version)
{
    if (disk->count == VERSIONS_MAX) {
        make_durable(disk);
    }
    disk->versions[disk->count++] = version;
}

void sim_store_crash(bool power_cut)
{
    release_opened();
    ended_in_failure = failed;
    failed = false;
    writing = false;
    sim_tail_crash(power_cut);
    for (size_t i = 0; i < DISKS_MAX; i++) {
        struct disk *disk = &disks[i];
        if (disk->in_commit != NULL) {
            if (random_chance(1, 2)) {
                put_in_place(disk, disk->in_commit);
            } else {
                version_release(disk->in_commit);
            }
            disk->in_commit = NULL;
        }
        if (power_cut && disk->count > 1) {
            size_t kept = 1 + random_below(disk->count);
            while (disk->count > kept) {
                version_release(disk->versions[--disk->count]);
            }
            make_durable(disk);
        }
    }
}

void sim_store_set_full(bool now_full)
{
    full = now_full;
}

bool sim_store_is_full(void)
{
    return full;
}

bool sim_store_has_failed(void)
{
    return failed;
}

bool sim_store_fails(const char *what)
{
    if (!sim.faults_over && random_chance(sim.profile.store_failure, 10000)) {
        sim_note("%s", what);
        failed = true;
        return true;
    }
    return false;
}

void sim_store_expect_sound(const char *what)
{
    if (failed) {
        sim_fail("%s, after the disk has failed: nobody knows what it has", what);
    }
}

void sim_store_reset(void)
{
    failed = false;
    writing = false;
    sim_tail_reset();
    release_opened();
    for (size_t i = 0; i < DISKS_MAX; i++) {
        if (disks[i].directory[0] != '\0') {
            disk_free(&disks[i]);
        }
    }
    full = false;
}

/* The value of one of the journal's own properties, without its CRC; size 0: there is none. */
static struct slice property_of(const struct version *version, const char *name)
{
    const struct table *rows = &version->tables[STORE_PROPERTIES];
    bool found = false;
    size_t at = position(rows, slice_make((const uint8_t *)name, strlen(name)), &found);
    struct slice value = found ? value_of(rows->rows[at]) : slice_make(NULL, 0);
    return value.size < 4 ? slice_make(NULL, 0) : slice_make(value.data, value.size - 4);
}

/* What the tables end with, or retention has removed. */
static uint64_t last_lsn_of(const struct version *version)
{
    const struct table *records = &version->tables[STORE_RECORDS];
    struct slice floor = property_of(version, FORMAT_PROPERTY_FLOOR);
    uint64_t removed = floor.size == 16 ? slice_load_u64be(floor.data) : 0;
    uint64_t last =
        records->count == 0 ? 0 : slice_load_u64be(key_of(records->rows[records->count - 1]).data);
    return last > removed ? last : removed;
}

void sim_store_check_tail(const char *directory)
{
    struct error error;
    const struct disk *disk = disk_find(directory);
    if (disk == NULL || !newest(disk)->made) {
        return;
    }
    struct slice id = property_of(newest(disk), FORMAT_PROPERTY_ID);
    assert(id.size == WAL_JOURNAL_ID_BYTES);
    uint64_t last_lsn = last_lsn_of(newest(disk));
    struct tail_contents contents = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = tail_file_read(directory, FORMAT_TAIL_BYTES, &bytes, &size, &error);
    if (status == STATUS_OK) {
        status = tail_look(slice_make(bytes, size), id.data, last_lsn, &contents, &error);
    }
    if (status == STATUS_OK) {
        status = tail_judge(&contents, last_lsn, &error);
    }
    tail_contents_free(&contents);
    free(bytes);
    if (status != STATUS_OK) {
        sim_fail("the tail does not continue the tables: %s", error.message);
    }
}

void sim_store_each_record(const char *directory, sim_store_row *row, void *context)
{
    struct error error;
    struct tail_view *view = NULL;
    const struct disk *disk = disk_find(directory);
    sim_store_check_tail(directory);
    const struct table *records = &newest(disk)->tables[STORE_RECORDS];
    for (size_t i = 0; i < records->count; i++) {
        row(key_of(records->rows[i]), value_of(records->rows[i]), context);
    }
    struct slice id = property_of(newest(disk), FORMAT_PROPERTY_ID);
    if (tail_read(directory, id.data, &view, &error) != STATUS_OK) {
        sim_fail("the tail cannot be read: %s", error.message);
        return;
    }
    uint64_t last_lsn = last_lsn_of(newest(disk));
    struct tail_window window = tail_window_of(view, last_lsn);
    if (tail_window_last_lsn(&window) > last_lsn && !ended_in_failure) {
        sim_fail("the journal was closed, and the tail has records that the tables have not");
    }
    for (uint64_t lsn = last_lsn + 1; lsn <= tail_window_last_lsn(&window); lsn++) {
        uint8_t key[FORMAT_KEY_BYTES];
        format_key_put(key, lsn);
        row(slice_make(key, sizeof key), tail_window_entry(&window, lsn)->value, context);
    }
    tail_view_release(view);
}

/* ------------------------------------------------------------------ store.h */

enum status store_open(const struct store_options *options, struct store **ret_store,
                       enum store_content *ret_content, struct error *ret_error)
{
    struct disk *disk = disk_find(options->directory);
    (void)ret_error;
    if (disk == NULL) {
        disk = disk_make(options->directory);
    }
    struct store *store = calloc(1, sizeof *store);
    store->disk = disk;
    store->durability = options->durability;
    store->map_bytes = options->map_bytes;
    if (options->durability == WAL_DURABILITY_POWER) {
        make_durable(disk);
    }
    *ret_store = store;
    *ret_content = newest(disk)->made ? STORE_TABLES : STORE_NOTHING;
    return STATUS_OK;
}

struct store *store_close(struct store *store)
{
    free(store);
    return NULL;
}

enum status store_make_tables(struct store_transaction *transaction, struct error *ret_error)
{
    (void)ret_error;
    transaction->version->made = true;
    return STATUS_OK;
}

enum status store_sync(struct store *store, struct error *ret_error)
{
    (void)ret_error;
    sim_store_expect_sound("the store is synced");
    process_place("store sync");
    make_durable(store->disk);
    return STATUS_OK;
}

void store_clear_stale_readers(struct store *store)
{
    (void)store;
}

enum status store_begin(struct store *store, bool write, struct store_transaction **ret_transaction,
                        struct error *ret_error)
{
    if (store->failed) {
        return error_set(ret_error, STATUS_IO, "the simulated store has failed");
    }
    struct store_transaction *transaction = calloc(1, sizeof *transaction);
    transaction->store = store;
    transaction->write = write;
    if (write) {
        assert(!writing); /* in LMDB the second one would wait for ever */
        writing = true;
        transaction->version = version_copy(newest(store->disk));
    } else {
        transaction->version = newest(store->disk);
        transaction->version->holders++;
    }
    note_opened(transaction->version);
    *ret_transaction = transaction;
    return STATUS_OK;
}

struct store_transaction *store_abort(struct store_transaction *transaction)
{
    if (transaction != NULL) {
        note_ended(transaction->version);
        writing = writing && !transaction->write;
        version_release(transaction->version);
        free(transaction);
    }
    return NULL;
}

enum status store_commit(struct store_transaction *transaction, struct error *ret_error)
{
    struct store *store = transaction->store;
    struct version *version = transaction->version;
    note_ended(version);
    free(transaction);
    sim_store_expect_sound("a transaction is committed");
    if (full && random_chance(1, 2)) {
        version_release(version);
        writing = false;
        return error_set(ret_error, STATUS_FULL, "the simulated disk is full");
    }
    version->commits++;
    store->disk->in_commit = version;
    fiber_sleep(random_chance(1, 50) ? random_below(200000) : 10 + random_below(1000));
    process_place("store commit");
    writing = false;
    if (sim_store_fails("the store fails")) {
        store->failed = true;
        return error_set(ret_error, STATUS_IO, "the simulated disk has failed");
    }
    store->disk->in_commit = NULL;
    put_in_place(store->disk, version);
    if (store->durability == WAL_DURABILITY_POWER) {
        make_durable(store->disk);
    }
    return STATUS_OK;
}

enum status store_get(struct store_transaction *transaction, enum store_table table,
                      struct slice key, struct slice *ret_value, struct error *ret_error)
{
    bool found = false;
    const struct table *rows = &transaction->version->tables[table];
    size_t at = position(rows, key, &found);
    (void)ret_error;
    if (!found) {
        return STATUS_NOT_FOUND;
    }
    *ret_value = value_of(rows->rows[at]);
    return STATUS_OK;
}

enum status store_next(struct store_transaction *transaction, enum store_table table,
                       struct slice after, struct slice *ret_key, struct slice *ret_value,
                       struct error *ret_error)
{
    bool found = false;
    const struct table *rows = &transaction->version->tables[table];
    size_t at = after.size == 0 ? 0 : position(rows, after, &found);
    at += found ? 1 : 0;
    if (at >= rows->count) {
        return error_set(ret_error, STATUS_NOT_FOUND, "no further row");
    }
    *ret_key = key_of(rows->rows[at]);
    *ret_value = value_of(rows->rows[at]);
    return STATUS_OK;
}

enum status store_last(struct store_transaction *transaction, enum store_table table,
                       struct slice *ret_key, struct slice *ret_value, struct error *ret_error)
{
    const struct table *rows = &transaction->version->tables[table];
    if (rows->count == 0) {
        return error_set(ret_error, STATUS_NOT_FOUND, "no row");
    }
    *ret_key = key_of(rows->rows[rows->count - 1]);
    *ret_value = value_of(rows->rows[rows->count - 1]);
    return STATUS_OK;
}

static enum status refuse_if_full(struct error *ret_error)
{
    return full && random_chance(1, 3)
               ? error_set(ret_error, STATUS_FULL, "the simulated disk is full")
               : STATUS_OK;
}

enum status store_put(struct store_transaction *transaction, enum store_table table,
                      struct slice key, struct slice value, struct error *ret_error)
{
    struct version *version = transaction->version;
    bool found = false;
    size_t at = position(&version->tables[table], key, &found);
    enum status status = refuse_if_full(ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct row *row = row_new(key, value.size);
    memcpy(row->bytes + key.size, value.data, value.size);
    if (found) {
        table_remove(version, &version->tables[table], at);
    }
    table_insert(version, &version->tables[table], at, row);
    return STATUS_OK;
}

enum status store_append(struct store_transaction *transaction, enum store_table table,
                         struct slice key, size_t value_size, uint8_t **ret_room,
                         struct error *ret_error)
{
    struct version *version = transaction->version;
    bool found = false;
    size_t at = position(&version->tables[table], key, &found);
    if (found || at != version->tables[table].count) {
        return error_set(ret_error, STATUS_CORRUPT, "the key is not the greatest");
    }
    enum status status = refuse_if_full(ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct row *row = row_new(key, value_size);
    table_insert(version, &version->tables[table], at, row);
    *ret_room = row->bytes + row->key_size;
    return STATUS_OK;
}

enum status store_delete(struct store_transaction *transaction, enum store_table table,
                         struct slice key, struct error *ret_error)
{
    struct version *version = transaction->version;
    bool found = false;
    size_t at = position(&version->tables[table], key, &found);
    if (!found) {
        return error_set(ret_error, STATUS_NOT_FOUND, "no such row");
    }
    table_remove(version, &version->tables[table], at);
    return STATUS_OK;
}

enum status store_usage_get(struct store_transaction *transaction, struct store_usage *ret_usage,
                            struct error *ret_error)
{
    (void)ret_error;
    *ret_usage = (struct store_usage){
        .page_bytes = 4096,
        .used_bytes = transaction->version->bytes,
        .file_bytes = transaction->version->bytes,
        .map_bytes = transaction->store->map_bytes,
        .commits = transaction->version->commits,
    };
    return STATUS_OK;
}

enum status store_entries(struct store_transaction *transaction, enum store_table table,
                          uint64_t *ret_entries, struct error *ret_error)
{
    (void)ret_error;
    *ret_entries = transaction->version->tables[table].count;
    return STATUS_OK;
}

enum status store_check_free_pages(struct store_transaction *transaction, struct error *ret_error)
{
    (void)transaction;
    (void)ret_error;
    return STATUS_OK;
}

enum status store_ballast_keep(struct store *store, bool *ret_kept, struct error *ret_error)
{
    (void)store;
    (void)ret_error;
    *ret_kept = !full;
    return STATUS_OK;
}

bool store_disk_has_room(const struct store *store)
{
    (void)store;
    return !full;
}

/* ------------------------------------------------------------------ the directory */

enum status wal_directory_protect(const char *path, bool *ret_narrowed, struct error *ret_error)
{
    (void)path;
    (void)ret_error;
    *ret_narrowed = false;
    return STATUS_OK;
}

enum status directory_make(const char *path, struct error *ret_error)
{
    (void)path;
    (void)ret_error;
    return STATUS_OK;
}

enum status directory_sync(const char *path, struct error *ret_error)
{
    (void)path;
    (void)ret_error;
    sim_tail_directory_synced();
    return STATUS_OK;
}

enum status directory_check_filesystem(const char *path, struct error *ret_error)
{
    (void)path;
    (void)ret_error;
    return STATUS_OK;
}

/* The kernel releases it when the process dies, and there is never a second one. */
enum status directory_lock(const char *path, const char *owner, int *ret_descriptor,
                           struct error *ret_error)
{
    (void)path;
    (void)owner;
    (void)ret_error;
    *ret_descriptor = -1;
    return STATUS_OK;
}

int directory_unlock(int descriptor)
{
    return descriptor;
}

/* The one place there is. */
enum status wal_place_get(const char *directory, struct wal_place *ret_place,
                          struct error *ret_error)
{
    struct wal_place place = {0};
    (void)directory;
    (void)ret_error;
    (void)snprintf(place.file, sizeof place.file, "1");
    (void)snprintf(place.host, sizeof place.host, "simulated");
    *ret_place = place;
    return STATUS_OK;
}

/* A child process of the real one; what it finds is tested with real files. No crash may leave a
   tail that a check would refuse. */
enum status scan_check_before_open(const char *directory, bool read_only, struct error *ret_error)
{
    sim_store_check_tail(directory);
    (void)read_only;
    (void)ret_error;
    return STATUS_OK;
}

/* DIRECTORY of "DIRECTORY/data.mdb"; false: another file. */
static bool split(const char *path, char directory[128])
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL || strcmp(slash, "/data.mdb") != 0) {
        return false;
    }
    (void)snprintf(directory, 128, "%.*s", (int)(slash - path), path);
    return true;
}

int __wrap_stat(const char *path, struct stat *ret_file)
{
    char directory[128];
    if (!split(path, directory)) {
        return __real_stat(path, ret_file);
    }
    const struct disk *disk = disk_find(directory);
    if (disk == NULL) {
        errno = ENOENT;
        return -1;
    }
    memset(ret_file, 0, sizeof *ret_file);
    ret_file->st_mode = S_IFREG | 0600;
    ret_file->st_size = newest(disk)->made ? 4096 + (off_t)newest(disk)->bytes : 0;
    return 0;
}

int __wrap_rename(const char *from, const char *to)
{
    char source[128];
    char target[128];
    bool known = split(from, source) && split(to, target);
    assert(known && disk_find(target) == NULL);
    (void)known;
    process_place("journal made");
    (void)snprintf(disk_find(source)->directory, sizeof target, "%s", target);
    process_place("journal renamed");
    return 0;
}

int __wrap_unlink(const char *path)
{
    char directory[128];
    if (split(path, directory) && disk_find(directory) != NULL) {
        disk_free(disk_find(directory));
        return 0;
    }
    errno = ENOENT;
    return -1;
}

int __wrap_rmdir(const char *path)
{
    (void)path;
    return 0;
}
