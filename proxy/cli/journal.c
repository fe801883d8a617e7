/* The journal of a command (journal.h). */
#include "cli/journal.h"

/* The daemon's default; what the journal holds already always fits. */
#define QUOTA_BYTES (UINT64_C(64) << 30)

enum status journal_open_to_read(const struct cli_options *options, struct wal **ret_wal,
                                 struct error *ret_error)
{
    struct wal_options wal_options = {
        .directory = options->wal, .read_only = true, .key_file = options->key_file};
    return wal_open(&wal_options, ret_wal, ret_error);
}

enum status journal_open_stopped(const struct cli_options *options, const char *owner,
                                 struct wal **ret_wal, struct error *ret_error)
{
    struct wal *wal = NULL;
    struct wal_options wal_options = {
        .directory = options->wal,
        .key_file = options->key_file,
        .quota_bytes = QUOTA_BYTES,
        .durability = WAL_DURABILITY_POWER,
        .owner = owner,
    };
    enum status status = journal_open_to_read(options, &wal, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    wal_close(wal, false);
    status = wal_open(&wal_options, ret_wal, ret_error);
    if (status == STATUS_OWNED) {
        error_prefix(ret_error,
                     "the journal is in use: stop holdfastd first (it recovers by itself "
                     "at its start)");
    }
    return status;
}
