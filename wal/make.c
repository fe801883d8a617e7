/*
 * Making a journal: data.mdb appears whole or not at all.
 *
 *   1. DIRECTORY/journal.new/ is made; what an attempt that was cut short left there is removed
 *   2. an environment in it gets tables, format version and id, in one durable transaction
 *   3. journal.new/data.mdb is renamed to data.mdb
 *   4. journal.new/ is removed
 *
 * That its name survives a power cut, too, is for wal_open() to see to, which has to in any case:
 * whoever made the journal may have died after 3.
 *
 * LMDB writes the first pages of a new file without a barrier. Made in place, a power cut could
 * leave a file that nobody can tell from a damaged journal, and nobody may write over that.
 *
 * The thread that opens the journal, holding the owner's lock.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/directory.h"
#include "wal/internal.h"
#include "wal/rows.h"

/* The first transaction needs a few pages; the map of the journal proper is made when it is opened.
 */
#define MAP_BYTES ((uint64_t)1 << 20)

static enum status put_identity(struct store_transaction *transaction, struct error *ret_error)
{
    uint8_t id[WAL_JOURNAL_ID_BYTES];
    uint8_t clean = 1;
    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id)) {
        return error_set(ret_error, STATUS_IO, "cannot get random bytes: %s", strerror(errno));
    }
    enum status status = store_make_tables(transaction, ret_error);
    if (status == STATUS_OK) {
        status = rows_version_put(transaction, FORMAT_VERSION, ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_property_put(transaction, FORMAT_PROPERTY_ID, slice_make(id, sizeof(id)),
                                   ret_error);
    }
    if (status == STATUS_OK) {
        status =
            rows_property_put(transaction, FORMAT_PROPERTY_CLEAN, slice_make(&clean, 1), ret_error);
    }
    return status;
}

static enum status make_environment(const char *directory, struct error *ret_error)
{
    struct store *store = NULL;
    struct store_transaction *transaction = NULL;
    enum store_content content = STORE_NOTHING;
    struct store_options options = {
        .directory = directory,
        .map_bytes = MAP_BYTES,
        .durability = WAL_DURABILITY_POWER,
    };
    enum status status = store_open(&options, &store, &content, ret_error);
    if (status == STATUS_OK) {
        status = store_begin(store, true, &transaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = put_identity(transaction, ret_error);
        if (status == STATUS_OK) {
            status = store_commit(transaction, ret_error);
        } else {
            store_abort(transaction);
        }
    }
    store_close(store);
    return status;
}

/* Removes what may be in journal.new/; ret_error may be NULL. */
static enum status remove_files(const char *directory, struct error *ret_error)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (snprintf(path, sizeof(path), "%s/%s", directory, names[i]) >= (int)sizeof(path)) {
            return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
        }
        if (unlink(path) != 0 && errno != ENOENT) {
            return error_set(ret_error, STATUS_IO, "cannot remove %s: %s", path, strerror(errno));
        }
    }
    return STATUS_OK;
}

enum status make_files_name(const char *directory, struct make_files *ret_files,
                            struct error *ret_error)
{
    int size = PATH_MAX;
    if (snprintf(ret_files->place, PATH_MAX, "%s/journal.new", directory) >= size ||
        snprintf(ret_files->made, PATH_MAX, "%s/journal.new/data.mdb", directory) >= size ||
        snprintf(ret_files->data, PATH_MAX, "%s/data.mdb", directory) >= size) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    return STATUS_OK;
}

enum status make_place(const struct make_files *files, struct error *ret_error)
{
    enum status status = directory_make(files->place, ret_error);
    return status == STATUS_OK ? remove_files(files->place, ret_error) : status;
}

enum status make_put_in_place(const struct make_files *files, struct error *ret_error)
{
    if (rename(files->made, files->data) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot make %s: %s", files->data, strerror(errno));
    }
    return STATUS_OK;
}

void make_place_remove(const struct make_files *files)
{
    (void)remove_files(files->place, NULL);
    (void)rmdir(files->place);
}

enum status make_journal(const char *directory, struct error *ret_error)
{
    struct make_files files;
    enum status status = make_files_name(directory, &files, ret_error);
    if (status == STATUS_OK) {
        status = make_place(&files, ret_error);
    }
    if (status == STATUS_OK) {
        status = make_environment(files.place, ret_error);
    }
    if (status == STATUS_OK) {
        status = make_put_in_place(&files, ret_error);
    }
    if (status == STATUS_OK) {
        make_place_remove(&files);
    }
    return status;
}
