/* See recovery.h. */
#include "bench/scenario/recovery.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "bench/load/nanoseconds.h"
#include "bench/peer/journal.h"
#include "bench/peer/peer_private.h"

#define FILL_NS_MAX 3600000000000u

struct killer {
    struct target *target;
    uint64_t operations; /* how many are enough */
};

static void kill_when_full(void *context, uint64_t operations, uint64_t operations_a_second)
{
    struct killer *killer = context;
    (void)operations_a_second;
    if (operations >= killer->operations) {
        (void)kill(killer->target->child.pid, SIGKILL);
    }
}

static void drop_from_page_cache(const struct target *target, const char *name)
{
    char path[TARGET_PATH_BYTES];
    if (!peer_path(path, target->directory, name)) {
        return;
    }
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor >= 0) {
        (void)fdatasync(descriptor);
        (void)posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
        (void)close(descriptor);
    }
}

enum status recovery_measure(struct suite *suite, const struct cell *cell, struct target *target,
                             struct series *series, struct outcome *ret_outcome,
                             struct error *ret_error)
{
    struct killer killer = {target, cell->units};
    const struct run_watcher watcher = {.tell = kill_when_full, .context = &killer};
    struct load_options load = cell->load;
    struct journal_state state;
    (void)series;
    if (target->kind != TARGET_HOLDFASTD) {
        return error_set(ret_error, STATUS_INVALID,
                         "only a holdfastd that is started has a journal");
    }
    load.kind = LOAD_UNIT;
    load.boundary = LOAD_BOUNDARY_DRIVER;
    load.target = target->where;
    load.address = target->address;
    load.seconds_ns = FILL_NS_MAX;
    load.warmup_ns = 0;
    load.pid_count = 0;
    enum status status = run(&load, &watcher, suite->scratch, ret_error);
    if (status != STATUS_OK || run_interrupted) {
        return status;
    }
    child_end(&target->child, SIGKILL, 0);
    if (journal_look(suite->targets, target, &state)) {
        ret_outcome->values[METRIC_RECOVERY_BYTES] = state.bytes;
    }
    /* So that they are read from the disk, as after a power cut. */
    drop_from_page_cache(target, "wal/data.mdb");
    drop_from_page_cache(target, "wal/tail.wal");
    uint64_t began = nanoseconds_now();
    status = target_start(suite->targets, target, ret_error);
    if (status == STATUS_OK) {
        ret_outcome->values[METRIC_RECOVERY] = (double)(nanoseconds_now() - began) / 1e9;
    }
    return status;
}
