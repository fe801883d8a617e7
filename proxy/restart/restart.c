/*
 * Recovery of a living proxy (restart.h).
 *
 * Invariant: recovery runs only while no unit is being worked on but by rollbacks that are held,
 * and no command passes. Thread: the main thread.
 */
#include "restart/restart.h"

#include <stdatomic.h>
#include <time.h>

#include "engine/finish.h"
#include "holdfast/crash_point.h"
#include "holdfast/log.h"

#define POLL_MS 10
#define RETRY_MS 200

static void sleep_ms(long milliseconds)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000L}, NULL);
}

/* Until every unit that has written anything waits among the rollbacks that are held. */
static enum status hand_over_units(const struct restart_options *options, struct error *error)
{
    static const char reason[] = "the server has restarted";
    struct engine *engine = options->engine;
    for (;;) {
        struct unit *unit;
        while ((unit = unit_table_take_begun(engine->units, reason)) != NULL) {
            rollback_detached(engine, unit, reason);
        }
        /* In this order: the queue only grows meanwhile, so that equal means no other. */
        size_t queued = rollback_pool_queued(engine->rollbacks);
        if (unit_table_busy_count(engine->units) == queued) {
            return STATUS_OK;
        }
        if (options->give_up(options->context)) {
            return error_set(error, STATUS_UNREACHABLE, "ending while units are still at work");
        }
        sleep_ms(POLL_MS);
    }
}

/* The server may have lost our lease as well: it is taken again if nobody newer has it. */
static enum status try_once(const struct restart_options *options, bool fence_blindly,
                            struct recovery_report *report, struct error *error)
{
    struct recovery_options recovery = options->recovery;
    struct upstream_description server;
    *options->upstream = upstream_close(*options->upstream);
    enum status status =
        upstream_open(options->upstream_uri, options->connect_ms, options->upstream, error);
    if (status == STATUS_OK) {
        status = upstream_describe(*options->upstream, &server, error);
    }
    if (status == STATUS_OK) {
        upstream_pin(*options->upstream); /* lease and recovery in one process of the server */
        status = lease_regain(*options->upstream, options->engine->wal, options->lease, error);
    }
    if (status == STATUS_OK) {
        recovery.lease = options->lease;
        /* What the units sent died with the server's former process. But a step of our own, of an
           attempt before this one, may still be on its way. */
        recovery.fence_blindly = fence_blindly;
        recovery.fence_ms = fence_blindly ? recovery.fence_ms : 0;
        recovery.reason = "the server has restarted";
        status = recovery_run(options->engine->wal, *options->upstream, &recovery, report, error);
    }
    return status;
}

static bool is_passing(enum status status)
{
    return status == STATUS_UNREACHABLE || status == STATUS_REFUSED || status == STATUS_PROTOCOL;
}

static enum status recover(const struct restart_options *options, struct recovery_report *report,
                           struct error *error)
{
    bool told = false;
    bool fence_blindly = false;
    for (;;) {
        enum status status = try_once(options, fence_blindly, report, error);
        if (!is_passing(status)) {
            return status;
        }
        if (options->give_up(options->context)) {
            return error_prefix(error, "ending while the server is away");
        }
        if (!told) {
            LOG(LOG_WARNING, "recovery", "The recovery cannot be finished yet, trying again",
                LOG_TEXT("reason", error->message));
            told = true;
        }
        fence_blindly = true; /* a step of it may still be on its way */
        sleep_ms(RETRY_MS);
    }
}

enum status restart_recover(const struct restart_options *options,
                            struct recovery_report *ret_report, struct error *ret_error)
{
    LOG(LOG_WARNING, "recovery",
        "The server has restarted: clients wait until what it may have "
        "lost is there again");
    router_hold(options->router);
    rollback_pool_hold(options->engine->rollbacks);
    enum status status = hand_over_units(options, ret_error);
    CRASH_POINT(restart_handed_over);
    if (status == STATUS_OK) {
        status = recover(options, ret_report, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    (void)atomic_fetch_add(&options->engine->counters.restarts, 1);
    cursor_set_clear(&options->engine->loose_cursors); /* the server may give their ids again */
    (void)atomic_fetch_add(&options->engine->counters.redone, ret_report->units_redone);
    settler_restart(options->settler, &ret_report->probe);
    server_process_set(options->process,
                       ret_report->probe.has_process ? ret_report->probe.process : NULL);
    rollback_pool_resume(options->engine->rollbacks);
    router_resume(options->router);
    return STATUS_OK;
}
