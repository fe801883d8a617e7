/* See floor.h. One thread: grouped, it is that of a writer for all. */
#include "bench/scenario/floor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/load/nanoseconds.h"
#include "bench/peer/peer_private.h"

/* Behind so many bytes the file is begun again. */
#define FILE_BYTES_MAX 1000000000u

static bool append_and_sync(int descriptor, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(descriptor, bytes, size);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        bytes += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return fdatasync(descriptor) == 0;
}

/* Appends until the time is over. */
static bool append_for(int descriptor, const uint8_t *bytes, size_t size, uint32_t records,
                       const struct load_options *load, struct histogram *latency,
                       struct outcome *outcome)
{
    uint64_t start = nanoseconds_now() + load->warmup_ns;
    uint64_t done = 0;
    uint64_t now = start - load->warmup_ns;
    uint64_t in_file = 0;
    while (now < start + load->seconds_ns && !run_interrupted) {
        uint64_t began = now;
        if (!append_and_sync(descriptor, bytes, size)) {
            return false;
        }
        in_file += size;
        if (in_file > FILE_BYTES_MAX && ftruncate(descriptor, 0) == 0) {
            in_file = 0;
        }
        now = nanoseconds_now();
        if (now >= start) {
            histogram_add(latency, now - began);
            done += records;
        }
    }
    if (now > start) {
        outcome->values[METRIC_THROUGHPUT] = (double)done * 1e9 / (double)(now - start);
    }
    return true;
}

enum status floor_measure(const struct suite *suite, const struct cell *cell, bool grouped,
                          struct series *series, struct outcome *ret_outcome,
                          struct error *ret_error)
{
    static struct histogram latency; /* too large for a stack */
    const char *folder = suite->options->directory;
    const char *temporary = getenv("TMPDIR");
    char path[TARGET_PATH_BYTES];
    uint32_t records = grouped ? cell->load.connections : 1;
    size_t size = (size_t)cell->load.bytes * records;
    if (folder == NULL) {
        folder = temporary == NULL || temporary[0] == '\0' ? "/tmp" : temporary;
    }
    if (!peer_path(path, folder, "holdfast-bench-floor-XXXXXX")) {
        return error_set(ret_error, STATUS_INVALID, "--directory: the path is too long");
    }
    uint8_t *bytes = calloc(1, size);
    int descriptor = bytes == NULL ? -1 : mkostemp(path, O_CLOEXEC | O_APPEND);
    memset(&latency, 0, sizeof latency);
    bool done = descriptor >= 0 &&
                append_for(descriptor, bytes, size, records, &cell->load, &latency, ret_outcome);
    int failed = errno;
    if (descriptor >= 0) {
        (void)unlink(path);
        (void)close(descriptor);
    }
    free(bytes);
    if (!done) {
        return error_set(ret_error, STATUS_IO, "%s: %s", path, strerror(failed));
    }
    ret_outcome->values[METRIC_P50] = (double)histogram_percentile(&latency, 50) / 1e3;
    ret_outcome->values[METRIC_P99] = (double)histogram_percentile(&latency, 99) / 1e3;
    ret_outcome->values[METRIC_MAX] = (double)latency.max / 1e3;
    histogram_merge(series->latency, &latency);
    return STATUS_OK;
}
