/*
 * Waiting for former connections to end (fence.h).
 *
 *     look --- gone ---------------------------------------> FENCE_GONE
 *      |  \--- time left: sleep, look again
 *      \------ time over: shown and in an operation -------> STATUS_OWNED
 *                         shown, in none ------------------> FENCE_IDLE
 *                         not shown -----------------------> FENCE_WAITED
 *
 * Threads: the struct upstream's; sleeps.
 */

#include "recover/fence.h"

#include <inttypes.h>
#include <time.h>

#include "holdfast/clock.h"

#define POLL_MS 50
#define ALONE_POLL_MS 10
#define PROGRESS_MS 500
/* Addresses in one question: the command must stay far below 16 MiB. */
#define ADDRESSES_MAX 50000u

const char *fence_certainty_name(enum fence_certainty certainty)
{
    static const char *const names[] = {
        [FENCE_NONE] = "none",
        [FENCE_GONE] = "gone",
        [FENCE_IDLE] = "idle",
        [FENCE_WAITED] = "waited",
    };
    return names[certainty];
}

static bool all_gone(const struct upstream_connections *connections)
{
    if (connections->shown) {
        return connections->present == 0;
    }
    return connections->counted && connections->count == 1;
}

static enum status time_over(const struct upstream_connections *connections,
                             enum fence_certainty *ret_certainty, struct error *ret_error)
{
    if (!connections->shown) {
        *ret_certainty = FENCE_WAITED;
        return STATUS_OK;
    }
    if (connections->active > 0) {
        return error_set(ret_error, STATUS_OWNED,
                         "%" PRIu64 " connections of the former owner are still in the middle of "
                         "an operation on the server: wait for them or end them (killOp), then "
                         "try again",
                         connections->active);
    }
    *ret_certainty = FENCE_IDLE;
    return STATUS_OK;
}

enum status fence_wait(struct upstream *upstream, const char *const *addresses,
                       size_t address_count, uint64_t wait_ms, fence_progress *progress,
                       void *context, enum fence_certainty *ret_certainty, struct error *ret_error)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    uint64_t started = clock_monotonic_ms();
    uint64_t told = started;
    if (address_count == 0) {
        *ret_certainty = FENCE_NONE;
        return STATUS_OK;
    }
    for (;;) {
        struct upstream_connections connections = {0};
        size_t count = address_count > ADDRESSES_MAX ? 0 : address_count;
        enum status status =
            upstream_connections(upstream, addresses, count, &connections, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (all_gone(&connections)) {
            *ret_certainty = FENCE_GONE;
            return STATUS_OK;
        }
        uint64_t now = clock_monotonic_ms();
        if (now - started >= wait_ms) {
            return time_over(&connections, ret_certainty, ret_error);
        }
        if (progress != NULL && now - told >= PROGRESS_MS) {
            progress(wait_ms - (now - started), connections.present, context);
            told = now;
        }
        nanosleep(&pause, NULL);
    }
}

enum status fence_alone(struct upstream *upstream, uint64_t wait_ms, bool *ret_alone,
                        struct error *ret_error)
{
    static const char *const nobody[] = {FENCE_NOBODY};
    const struct timespec pause = {.tv_nsec = ALONE_POLL_MS * 1000000L};
    uint64_t started = clock_monotonic_ms();
    for (;;) {
        struct upstream_connections connections = {0};
        enum status status = upstream_connections(upstream, nobody, 1, &connections, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        bool alone = connections.counted && connections.count == 1;
        if (alone || !connections.counted || clock_monotonic_ms() - started >= wait_ms) {
            *ret_alone = alone;
            return STATUS_OK;
        }
        nanosleep(&pause, NULL);
    }
}
