#include "cli/stopped.h"

/* The daemon's default; what the journal holds already always fits. */
#define QUOTA_BYTES (UINT64_C(64) << 30)

enum status stopped_open(const struct cli_options *options, const char *owner, struct wal **ret_wal,
                         struct error *ret_error)
{
    struct wal *wal = NULL;
    struct wal_options wal_options = {
        .directory = options->wal,
        .read_only = true,
        .key_file = options->key_file,
    };
    enum status status = wal_open(&wal_options, &wal, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    wal_close(wal, false);
    wal_options.read_only = false;
    wal_options.quota_bytes = QUOTA_BYTES;
    wal_options.durability = WAL_DURABILITY_POWER;
    wal_options.owner = owner;
    status = wal_open(&wal_options, ret_wal, ret_error);
    if (status == STATUS_OWNED) {
        error_prefix(ret_error,
                     "the journal is in use: stop holdfastd first (it recovers by itself "
                     "at its start)");
    }
    return status;
}
