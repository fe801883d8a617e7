/*
 * Where the open journal meets its encryption (cipher.h): the key file, the property .keys, a data
 * key for each opening.
 *
 * Invariant: the data key that records are encrypted with is on the disk before the first of them,
 * in the transaction that takes the clean mark away.
 *
 * The thread that opens the journal, and the writer thread.
 */

#include <stdlib.h>

#include "wal/cipher.h"
#include "wal/internal.h"
#include "wal/rows.h"

static enum status learn(struct wal *wal, struct store_transaction *transaction,
                         const char *key_file, bool *ret_encrypted, struct error *ret_error)
{
    struct slice keys;
    enum status status = rows_property(transaction, FORMAT_PROPERTY_KEYS, &keys, ret_error);
    *ret_encrypted = status == STATUS_OK;
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        return status;
    }
    if (key_file == NULL) {
        return STATUS_OK;
    }
    status = cipher_open(key_file, wal->id, &wal->cipher, ret_error);
    return status == STATUS_OK && *ret_encrypted ? cipher_learn(wal->cipher, keys, ret_error)
                                                 : status;
}

enum status encryption_learn(struct wal *wal, struct store_transaction *transaction,
                             const char *key_file, struct error *ret_error)
{
    bool encrypted = false;
    return learn(wal, transaction, key_file, &encrypted, ret_error);
}

static enum status find_record(void *context, uint64_t first, uint64_t end, bool *ret_used,
                               struct error *ret_error)
{
    struct wal_record record;
    enum status status = rows_record_next(context, first - 1, &record, ret_error);
    *ret_used = status == STATUS_OK && record.lsn < end;
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status put_keys(struct wal *wal, struct store_transaction *transaction,
                            struct error *ret_error)
{
    uint8_t *keys = NULL;
    size_t size = 0;
    enum status status = cipher_property(wal->cipher, &keys, &size, ret_error);
    if (status == STATUS_OK) {
        status =
            rows_property_put(transaction, FORMAT_PROPERTY_KEYS, slice_make(keys, size), ret_error);
    }
    if (status == STATUS_OK) {
        wal->version = format_version_encrypted(wal->version);
        status = rows_version_put(transaction, wal->version, ret_error);
    }
    free(keys);
    return status;
}

enum status encryption_begin(struct wal *wal, struct store_transaction *transaction,
                             const char *key_file, struct error *ret_error)
{
    bool encrypted = false;
    struct cipher_use use = {.find = find_record, .context = transaction};
    enum status status = learn(wal, transaction, key_file, &encrypted, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (wal->cipher == NULL) {
        return !encrypted ? STATUS_OK
                          : error_set(ret_error, STATUS_INVALID,
                                      "the journal is encrypted: name its key file "
                                      "(wal.encryptionKeyFile, --wal-key-file FILE)");
    }
    status = cipher_begin(wal->cipher, atomic_load(&wal->last_lsn) + 1, &use, ret_error);
    return status == STATUS_OK ? put_keys(wal, transaction, ret_error) : status;
}

static enum status change_key(struct wal *wal, struct store_transaction *transaction, void *context,
                              struct error *ret_error)
{
    enum status status = cipher_change_file(wal->cipher, context, ret_error);
    return status == STATUS_OK ? put_keys(wal, transaction, ret_error) : status;
}

enum status wal_change_key(struct wal *wal, const char *key_file, struct error *ret_error)
{
    union {
        const char *given;
        void *context;
    } file = {.given = key_file};
    struct writer_task task = {.run = change_key, .context = file.context};
    if (wal->writer == NULL || wal->cipher == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "the journal is not open for writing with its key file");
    }
    return writer_run(wal->writer, &task, ret_error);
}
