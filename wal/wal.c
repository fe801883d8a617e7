/*
 * The journal as a whole: opening and closing it, its properties and figures.
 *
 * Order of opening, for writing
 *   1. the directory: made if absent, refused on a network filesystem
 *   2. the owner's lock: from here on no other process can be in the middle of the same
 *   3. if there is none yet, the journal is made (make.c); else a child process reads what recovery
 *      is going to read (scan.c): if a damaged page kills a reader, it kills the child
 *   4. the environment; with `power` durability the directory is synced: the file's name, too, must
 *      survive a power cut
 *   5. the clean mark is read and taken away, and what a former owner left in the tail is put into
 *      the tables, durably and at once; then the tail is made anew
 *   6. the writer thread
 * To read only: the filesystem of 1, the readers' lock, the child of 3, and 4.
 *
 * Order of closing: everything submitted is completed and in the tables, the clean mark, the writer
 * thread's end, one last sync, the environment, the lock.
 *
 * Threads: wal_open() and wal_close() on one thread, all else as holdfast/wal.h says.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "wal/cipher.h"
#include "wal/commit.h"
#include "wal/directory.h"
#include "wal/internal.h"
#include "wal/rows.h"

#define QUOTA_BYTES_MIN ((uint64_t)1 << 20)
#define QUOTA_BYTES_MAX ((uint64_t)1 << 46)
/* A journal that was short of room counts as writable again from so much on, or a part of it. */
#define ROOM_BYTES ((uint64_t)1 << 20)
#define ROOM_PART_OF_QUOTA 16
/* Beyond the quota: room for the records that end units, and for the pages that LMDB copies. */
#define RESERVE_BYTES_MIN ((uint64_t)64 << 20)
#define RESERVE_BYTES_MAX ((uint64_t)1 << 30)

/* ------------------------------------------------------------------ opening */

static enum status check_options(const struct wal_options *options, struct error *ret_error)
{
    if (options->directory == NULL || options->directory[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID, "the journal needs a directory");
    }
    if (strlen(options->directory) > PATH_MAX - 16) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    if (!options->read_only &&
        (options->quota_bytes < QUOTA_BYTES_MIN || options->quota_bytes > QUOTA_BYTES_MAX)) {
        return error_set(ret_error, STATUS_INVALID,
                         "the journal's quota must be between 1 MiB and 64 TiB");
    }
    return STATUS_OK;
}

static uint64_t reserve_for(uint64_t quota_bytes)
{
    uint64_t reserve = quota_bytes / 8;
    reserve = reserve < RESERVE_BYTES_MIN ? RESERVE_BYTES_MIN : reserve;
    return reserve > RESERVE_BYTES_MAX ? RESERVE_BYTES_MAX : reserve;
}

/* Of data.mdb; 0 if there is none yet. */
static enum status data_file_bytes(const char *directory, uint64_t *ret_bytes,
                                   struct error *ret_error)
{
    char path[PATH_MAX];
    struct stat file;
    if (snprintf(path, sizeof(path), "%s/data.mdb", directory) >= (int)sizeof(path)) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    if (stat(path, &file) != 0) {
        if (errno == ENOENT) {
            *ret_bytes = 0;
            return STATUS_OK;
        }
        return error_set(ret_error, STATUS_IO, "cannot look at %s: %s", path, strerror(errno));
    }
    if (!S_ISREG(file.st_mode)) {
        return error_set(ret_error, STATUS_CORRUPT, "%s is not a file", path);
    }
    *ret_bytes = (uint64_t)file.st_size;
    return STATUS_OK;
}

enum status wal_identity_read(struct wal *wal, struct store_transaction *transaction,
                              struct error *ret_error)
{
    struct slice id;
    struct slice clean;
    uint64_t lsn = 0;
    uint64_t unit = 0;
    enum status status = rows_version(transaction, &wal->version, ret_error);
    if (status == STATUS_OK) {
        status = rows_property(transaction, FORMAT_PROPERTY_ID, &id, ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_property(transaction, FORMAT_PROPERTY_CLEAN, &clean, ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_highest(transaction, &lsn, &unit, ret_error);
    }
    if (status == STATUS_NOT_FOUND ||
        (status == STATUS_OK && (id.size != WAL_JOURNAL_ID_BYTES || clean.size != 1))) {
        return error_set(ret_error, STATUS_CORRUPT, "the journal's own properties are damaged");
    }
    if (status == STATUS_OK) {
        memcpy(wal->id, id.data, sizeof(wal->id));
        wal->was_clean = clean.data[0] == 1;
        atomic_store(&wal->last_lsn, lsn);
        atomic_store(&wal->unit_next, unit + 1);
    }
    return status;
}

enum status wal_mark(struct store_transaction *transaction, uint8_t clean, uint32_t version,
                     struct error *ret_error)
{
    enum status status =
        rows_property_put(transaction, FORMAT_PROPERTY_CLEAN, slice_make(&clean, 1), ret_error);
    return status == STATUS_OK ? rows_version_put(transaction, version, ret_error) : status;
}

static enum status open_to_write(struct wal *wal, enum store_content content,
                                 const struct wal_options *options, struct error *ret_error)
{
    if (content == STORE_NOTHING) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s holds an LMDB environment that is not a journal, or one whose first "
                         "pages are damaged: keep it, and see holdfast verify",
                         options->directory);
    }
    struct committer *committer = NULL;
    struct store_transaction *transaction = NULL;
    enum status status = store_begin(wal->store, true, &transaction, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = wal_identity_read(wal, transaction, ret_error);
    uint64_t tables_lsn = atomic_load(&wal->last_lsn);
    if (status == STATUS_OK) {
        status = committer_new(wal, transaction, options->durability == WAL_DURABILITY_POWER,
                               &committer, ret_error);
    }
    if (status == STATUS_OK) {
        /* A data.mdb that was put back may be older than its tail, and marked. */
        wal->was_clean = wal->was_clean && atomic_load(&wal->last_lsn) == tables_lsn;
        status = encryption_begin(wal, transaction, options->key_file, ret_error);
    }
    if (status == STATUS_OK) {
        status = wal_mark(transaction, 0, wal->version, ret_error);
    }
    if (status == STATUS_OK) {
        status = store_commit(transaction, ret_error);
    } else {
        store_abort(transaction);
    }
    if (status == STATUS_OK) {
        status = committer_start(committer, ret_error);
    }
    if (status != STATUS_OK) {
        committer_free(committer);
        return status;
    }
    return writer_start(wal, committer, &wal->writer, ret_error);
}

/* What a living owner, or one that was killed, has in the tail is there as well; and it may have
   gone on since the identity was read. */
static enum status count_tail(struct wal *wal, struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    uint64_t lsn = 0;
    uint64_t unit = 0;
    enum status status = wal_reader_begin(wal, &reader, ret_error);
    if (status == STATUS_OK && reader->view == NULL && wal->version >= FORMAT_VERSION_TAIL) {
        status = tail_is_missing(wal->directory, ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_highest(reader->transaction, &lsn, &unit, ret_error);
    }
    if (status == STATUS_OK) {
        uint64_t tail_lsn = tail_window_last_lsn(&reader->window);
        atomic_store(&wal->last_lsn, tail_lsn > lsn ? tail_lsn : lsn);
        wal->was_clean = wal->was_clean && tail_lsn <= lsn;
    }
    wal_reader_end(reader);
    return status;
}

static enum status open_to_read(struct wal *wal, enum store_content content,
                                const struct wal_options *options, struct error *ret_error)
{
    struct store_transaction *transaction = NULL;
    if (content == STORE_NOTHING) {
        return error_set(ret_error, STATUS_NOT_FOUND, "there is no journal in %s",
                         options->directory);
    }
    enum status status = store_begin(wal->store, false, &transaction, ret_error);
    if (status == STATUS_OK) {
        status = wal_identity_read(wal, transaction, ret_error);
        if (status == STATUS_OK) {
            status = encryption_learn(wal, transaction, options->key_file, ret_error);
        }
        store_abort(transaction);
    }
    return status == STATUS_OK ? count_tail(wal, ret_error) : status;
}

/* A tail without tables is what is left of a journal, not a place for a new one. */
static enum status refuse_lone_tail(const char *directory, struct error *ret_error)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status =
        tail_file_read(directory, FORMAT_FRAME_BYTES_MAX, &bytes, &size, ret_error);
    bool is_there = bytes != NULL;
    free(bytes);
    if (status == STATUS_OK && is_there) {
        status =
            error_set(ret_error, STATUS_CORRUPT,
                      "%s has " FORMAT_TAIL_FILE " of a journal whose data.mdb is missing: put "
                      "it back; if a new journal is wanted, use another directory",
                      directory);
    }
    return status;
}

static enum status open_store(struct wal *wal, const struct wal_options *options,
                              enum store_content *ret_content, struct error *ret_error)
{
    uint64_t bytes = 0;
    enum status status = data_file_bytes(options->directory, &bytes, ret_error);
    if (status == STATUS_OK && bytes > 0) {
        status = scan_check_before_open(options->directory, options->read_only, ret_error);
    } else if (status == STATUS_OK && !options->read_only) {
        status = refuse_lone_tail(options->directory, ret_error);
        if (status == STATUS_OK) {
            status = make_journal(options->directory, ret_error);
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    /* A quota made smaller than what is there must still leave room to end units. */
    uint64_t base = bytes > options->quota_bytes ? bytes : options->quota_bytes;
    struct store_options store = {
        .directory = options->directory,
        .map_bytes = (base + wal->reserve_bytes + 0xFFFF) & ~(uint64_t)0xFFFF,
        .durability = options->durability,
        .read_only = options->read_only,
    };
    status = store_open(&store, &wal->store, ret_content, ret_error);
    if (status == STATUS_OK && !options->read_only && options->durability == WAL_DURABILITY_POWER) {
        status = directory_sync(options->directory, ret_error);
    }
    return status;
}

static enum status prepare_directory(struct wal *wal, const struct wal_options *options,
                                     struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (!options->read_only) {
        status = directory_make(options->directory, ret_error);
    }
    if (status == STATUS_OK) {
        status = directory_check_filesystem(options->directory, ret_error);
    }
    if (status == STATUS_OK) {
        status = options->read_only ? directory_lock_readers(options->directory, false,
                                                             &wal->lock_descriptor, ret_error)
                 : options->owner_lock > 0
                     ? directory_adopt_lock(options->directory, options->owner, options->owner_lock,
                                            &wal->lock_descriptor, ret_error)
                     : directory_lock(options->directory, options->owner, &wal->lock_descriptor,
                                      ret_error);
    }
    return status;
}

/* Frees what there is of a journal whose writer does not run. */
static struct wal *release(struct wal *wal)
{
    assert(wal->writer == NULL);
    wal->store = store_close(wal->store);
    wal->cipher = cipher_close(wal->cipher);
    wal->view = tail_view_release(wal->view);
    wal->lock_descriptor = directory_unlock(wal->lock_descriptor);
    pthread_mutex_destroy(&wal->view_lock);
    free(wal->directory);
    free(wal);
    return NULL;
}

enum status wal_open(const struct wal_options *options, struct wal **ret_wal,
                     struct error *ret_error)
{
    enum store_content content = STORE_NOTHING;
    enum status status = check_options(options, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct wal *wal = calloc(1, sizeof(*wal));
    if (wal == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    wal->lock_descriptor = -1;
    pthread_mutex_init(&wal->view_lock, NULL);
    wal->directory = strdup(options->directory);
    if (wal->directory == NULL) {
        release(wal);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    wal->read_only = options->read_only;
    wal->quota_bytes = options->quota_bytes;
    wal->reserve_bytes = reserve_for(options->quota_bytes);
    status = prepare_directory(wal, options, ret_error);
    if (status == STATUS_OK) {
        status = open_store(wal, options, &content, ret_error);
    }
    if (status == STATUS_OK) {
        status = options->read_only ? open_to_read(wal, content, options, ret_error)
                                    : open_to_write(wal, content, options, ret_error);
    }
    if (status == STATUS_OK) {
        status = wal_place_get(options->directory, &wal->place, ret_error);
    }
    if (status != STATUS_OK) {
        wal->writer = writer_stop(wal->writer);
        release(wal);
        return status;
    }
    *ret_wal = wal;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ closing */

static enum status mark_clean(struct wal *wal, struct store_transaction *transaction, void *context,
                              struct error *ret_error)
{
    (void)context;
    return wal_mark(transaction, 1, format_version_no_tail(wal->version), ret_error);
}

/* A task runs when the tables have everything: so it is a checkpoint. */
static enum status do_nothing(struct wal *wal, struct store_transaction *transaction, void *context,
                              struct error *ret_error)
{
    (void)wal;
    (void)transaction;
    (void)context;
    (void)ret_error;
    return STATUS_OK;
}

/* A sync after one that failed may succeed without having written anything: it would prove nothing.
 */
static enum status sync_if_sound(struct wal *wal)
{
    return atomic_load(&wal->failed) ? STATUS_IO : store_sync(wal->store, NULL);
}

static void end_writing(struct wal *wal, bool clean)
{
    if (wal->writer != NULL) {
        if (clean) {
            /* Without `process` durability the mark must not reach the disk before the records. */
            struct writer_task checkpoint = {.run = do_nothing};
            struct writer_task task = {.run = mark_clean};
            enum status status = writer_run(wal->writer, &checkpoint, NULL);
            if (status == STATUS_OK) {
                status = sync_if_sound(wal);
            }
            if (status == STATUS_OK) {
                status = writer_run(wal->writer, &task, NULL);
            }
            (void)status; /* without the mark the next open takes the longer way: no harm */
        }
        wal->writer = writer_stop(wal->writer);
        enum status status = sync_if_sound(wal);
        (void)status; /* with `power` there is nothing left to sync, with `process` no promise */
    }
}

struct wal *wal_close(struct wal *wal, bool clean)
{
    if (wal == NULL) {
        return NULL;
    }
    end_writing(wal, clean);
    return release(wal);
}

struct wal *wal_close_for(struct wal *wal, bool clean, int *ret_lock)
{
    end_writing(wal, clean);
    *ret_lock = wal->lock_descriptor;
    wal->lock_descriptor = -1;
    return release(wal);
}

/* ------------------------------------------------------------------ properties and figures */

const uint8_t *wal_journal_id(const struct wal *wal)
{
    return wal->id;
}

const struct wal_place *wal_place(const struct wal *wal)
{
    return &wal->place;
}

bool wal_was_clean(const struct wal *wal)
{
    return wal->was_clean;
}

uint64_t wal_last_lsn(const struct wal *wal)
{
    return atomic_load(&wal->last_lsn);
}

uint64_t wal_unit_next(struct wal *wal)
{
    return atomic_fetch_add(&wal->unit_next, 1);
}

struct property {
    const char *name;
    struct slice value;
};

static enum status set_property(struct wal *wal, struct store_transaction *transaction,
                                void *context, struct error *ret_error)
{
    const struct property *property = context;
    (void)wal;
    return rows_property_put(transaction, property->name, property->value, ret_error);
}

static enum status check_property_name(const char *name, struct error *ret_error)
{
    if (name[0] == '\0' || name[0] == '.' || strlen(name) > FORMAT_PROPERTY_NAME_BYTES_MAX) {
        return error_set(ret_error, STATUS_INVALID,
                         "a property's name has 1 to 64 characters and begins with no dot");
    }
    return STATUS_OK;
}

enum status wal_property_set(struct wal *wal, const char *name, struct slice value,
                             struct error *ret_error)
{
    struct property property = {.name = name, .value = value};
    struct writer_task task = {.run = set_property, .context = &property};
    enum status status = check_property_name(name, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (wal->writer == NULL) {
        return error_set(ret_error, STATUS_INVALID, "the journal was opened to read only");
    }
    if (value.size > WAL_PROPERTY_BYTES_MAX) {
        return error_set(ret_error, STATUS_INVALID, "the value of property \"%s\" is too large",
                         name);
    }
    return writer_run(wal->writer, &task, ret_error);
}

enum status wal_property_get(struct wal *wal, const char *name, void *buffer, size_t capacity,
                             size_t *ret_size, struct error *ret_error)
{
    struct store_transaction *transaction = NULL;
    struct slice value;
    enum status status = check_property_name(name, ret_error);
    if (status == STATUS_OK) {
        status = store_begin(wal->store, false, &transaction, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = rows_property(transaction, name, &value, ret_error);
    if (status == STATUS_OK) {
        size_t copied = value.size < capacity ? value.size : capacity;
        if (copied > 0) {
            memcpy(buffer, value.data, copied);
        }
        *ret_size = value.size;
    }
    store_abort(transaction);
    return status;
}

enum status wal_check_writable(struct wal *wal, struct error *ret_error)
{
    struct store_transaction *transaction = NULL;
    struct store_usage usage;
    if (wal->read_only) {
        return error_set(ret_error, STATUS_INVALID, "the journal was opened to read only");
    }
    if (writer_has_failed(wal->writer)) {
        return error_set(ret_error, STATUS_IO, "the journal's disk has failed");
    }
    if (!atomic_load(&wal->short_of_room)) {
        return STATUS_OK;
    }
    enum status status = store_begin(wal->store, false, &transaction, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = store_usage_get(transaction, &usage, ret_error);
    store_abort(transaction);
    if (status != STATUS_OK) {
        return status;
    }
    uint64_t room = wal->quota_bytes / ROOM_PART_OF_QUOTA;
    if (usage.used_bytes + (room < ROOM_BYTES ? room : ROOM_BYTES) > wal->quota_bytes) {
        return error_set(ret_error, STATUS_FULL,
                         "the journal is at its quota: %" PRIu64 " of %" PRIu64 " bytes are used",
                         usage.used_bytes, wal->quota_bytes);
    }
    if (!store_disk_has_room(wal->store)) {
        return error_set(ret_error, STATUS_FULL, "the journal's disk is full");
    }
    return STATUS_OK;
}
