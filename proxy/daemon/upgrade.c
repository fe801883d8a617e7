/*
 * Giving way to a new process of this program: the old process's side, until all is at rest.
 *
 *   SIGUSR2
 *     |
 *   STARTING   the program at our path was started, with our listening sockets; it checks whether
 *     |        it could serve. We serve as ever
 *   DRAINING   it could. What would begin a unit waits, in the kernel or in its connection; what is
 *     |        open goes on, until upgrade.wait is over: then it is rolled back
 *   RESTING    no unit is open. Nothing new is begun at all; what is on its way is answered
 *     |
 *   (hand_over.c) the journal is closed, its lock and then all clients go to the new process
 *
 *   any step --> failed: the new process ends, everything that waits goes on here
 *
 * Two processes never have a lock table at the same time: the new one makes its own only when the
 * journal's lock is in its hands, and that is given away when no unit is open. The lock itself is
 * held without a gap, for it is one open file that both processes have (wal_close_for()).
 *
 * Main thread.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/upgrade_private.h"
#include "engine/finish.h"
#include "engine/pause.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/event.h"
#include "holdfast/log.h"

/* Beyond upgrade.wait: for what is rolled back then, and for what is on its way. */
#define ROLLBACK_MS_MAX 5000u
#define RESTING_MS_MIN 1000u

void upgrade_free(struct daemon *daemon)
{
    struct upgrade *upgrade = daemon->upgrade;
    for (size_t i = 0; i < upgrade->listening_count; i++) {
        (void)close(upgrade->listening[i].descriptor);
    }
    free(upgrade->listening);
    free(upgrade);
    daemon->upgrade = NULL;
}

void upgrade_note_failure(struct daemon *daemon, const char *reason)
{
    daemon->history.failed++;
    (void)snprintf(daemon->history.failure, sizeof daemon->history.failure, "%.*s",
                   (int)sizeof daemon->history.failure - 1, reason);
}

void daemon_upgrade_cancel(struct daemon *daemon, const char *reason)
{
    struct upgrade *upgrade = daemon->upgrade;
    if (upgrade == NULL) {
        return;
    }
    upgrade_process_end(upgrade);
    if (upgrade->step != UPGRADE_STARTING) {
        if (upgrade->step == UPGRADE_RESTING) {
            services_hold_callers(daemon->services, false);
        }
        services_hold(daemon->services, false);
        router_pause(daemon->router, ROUTER_GOES_ON);
    }
    upgrade_note_failure(daemon, reason);
    LOG(LOG_ERROR, "upgrade", "The upgrade has failed: this process goes on serving",
        LOG_TEXT("reason", reason));
    event_tell(EVENT_UPGRADE_FAILED, "holdfastd",
               "The upgrade has failed, the running process goes on serving: %s", reason);
    upgrade_free(daemon);
    daemon_tell_upgrade(daemon, "none");
}

/* ------------------------------------------------------------------ the steps */

void daemon_note_program(struct daemon *daemon)
{
    const char *name = daemon->arguments[0];
    char path[PATH_MAX];
    char *found = NULL;
    if (strchr(name, '/') != NULL) {
        /* Not resolved: where a link leads later is for the upgrade. */
        if (name[0] == '/') {
            found = strdup(name);
        } else if (getcwd(path, sizeof path) != NULL && asprintf(&found, "%s/%s", path, name) < 0) {
            found = NULL;
        }
    } else {
        ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
        if (size > 0) {
            path[size] = '\0';
            found = strdup(path);
        }
    }
    daemon->program = found;
}

void daemon_upgrade(struct daemon *daemon)
{
    struct error error = {0};
    struct upgrade *upgrade = NULL;
    if (daemon->upgrade != NULL) {
        LOG(LOG_WARNING, "upgrade", "An upgrade is under way: the signal is ignored");
        return;
    }
    upgrade = calloc(1, sizeof *upgrade);
    struct listening *listening = calloc(LISTENING_MAX, sizeof *listening);
    if (upgrade == NULL || listening == NULL) {
        free(upgrade);
        free(listening);
        LOG(LOG_ERROR, "upgrade", "No upgrade: out of memory");
        return;
    }
    daemon->upgrade = upgrade;
    *upgrade = (struct upgrade){
        .channel = -1,
        .started_ms = clock_monotonic_ms(),
        .until_ms = clock_monotonic_ms() + UPGRADE_STARTING_MS_MAX,
        .listening = listening,
        .listening_count = listening_copy(listening, LISTENING_MAX),
    };
    const char *program = daemon->program == NULL ? "" : daemon->program;
    daemon->history.failure[0] = '\0';
    if (daemon->draining) {
        daemon_upgrade_cancel(daemon, "this process is drained, for good");
    } else if (daemon->engine.pause != NULL && pause_is_on(daemon->engine.pause)) {
        daemon_upgrade_cancel(daemon, "a backup has writes wait: try again when it is done");
    } else if (upgrade_process_start(daemon, program, &error) != STATUS_OK) {
        daemon_upgrade_cancel(daemon, error.message);
    } else {
        LOG(LOG_INFO, "upgrade", "Upgrade begins: the new process is started",
            LOG_TEXT("program", program), LOG_NUMBER("pid", (uint64_t)upgrade->process));
        daemon_tell_upgrade(daemon, "starting");
        CRASH_POINT(upgrade_started);
    }
}

static void begin_to_drain(struct daemon *daemon)
{
    struct upgrade *upgrade = daemon->upgrade;
    upgrade->step = UPGRADE_DRAINING;
    upgrade->until_ms = clock_monotonic_ms() + daemon->config.upgrade_wait_ms;
    services_hold(daemon->services, true);
    router_pause(daemon->router, ROUTER_PAUSES_WRITES);
    LOG(LOG_INFO, "upgrade", "The new process is ready: waiting for open units",
        LOG_TEXT("version", upgrade->version), LOG_NUMBER("pid", (uint64_t)upgrade->process),
        LOG_NUMBER("units", unit_table_open_count(daemon->engine.units)));
    daemon_tell_upgrade(daemon, "draining");
    CRASH_POINT(upgrade_paused);
}

static void begin_to_rest(struct daemon *daemon)
{
    struct upgrade *upgrade = daemon->upgrade;
    uint64_t least_ms = clock_monotonic_ms() + RESTING_MS_MIN;
    upgrade->step = UPGRADE_RESTING;
    upgrade->until_ms = upgrade->until_ms > least_ms ? upgrade->until_ms : least_ms;
    services_hold_callers(daemon->services, true);
    router_pause(daemon->router, ROUTER_PAUSES);
}

static void drain_step(struct daemon *daemon)
{
    static const char reason[] = "an upgrade waited for it longer than upgrade.wait";
    struct upgrade *upgrade = daemon->upgrade;
    struct engine *engine = &daemon->engine;
    bool late = clock_monotonic_ms() >= upgrade->until_ms;
    struct unit *unit;
    while (late && (unit = unit_table_take_any(engine->units, reason)) != NULL) {
        rollback_detached(engine, unit, reason);
    }
    /* A call whose unit was rolled back is answered here, whenever its service does. */
    if (unit_table_open_count(engine->units) == 0 &&
        (late || services_calls(daemon->services) == 0)) {
        begin_to_rest(daemon);
    } else if (clock_monotonic_ms() >= upgrade->until_ms + ROLLBACK_MS_MAX) {
        daemon_upgrade_cancel(daemon, "units that are open could not be rolled back in time");
    }
}

/* True: everything is at rest. */
static bool rest_step(struct daemon *daemon)
{
    struct upgrade *upgrade = daemon->upgrade;
    size_t busy = router_busy(daemon->router) + unit_table_open_count(daemon->engine.units);
    if (busy == 0) {
        return true;
    }
    if (clock_monotonic_ms() < upgrade->until_ms) {
        return false;
    }
    if (!upgrade->cut) {
        LOG(LOG_WARNING, "upgrade", "Connections are closed in the middle of a command",
            LOG_NUMBER("connections", busy));
        router_end_busy(daemon->router);
        upgrade->cut = true;
        upgrade->until_ms = clock_monotonic_ms() + ROLLBACK_MS_MAX;
    } else {
        daemon_upgrade_cancel(daemon, "what is on its way could not be ended in time");
    }
    return false;
}

/* After the journal is closed there is no way back: without the server nobody could start. */
static bool server_answers(struct daemon *daemon)
{
    struct upstream_description server;
    struct error error = {0};
    return daemon->upstream != NULL &&
           upstream_describe(daemon->upstream, &server, &error) == STATUS_OK &&
           (daemon->native || !server_process_has_changed(daemon->process));
}

bool daemon_upgrade_step(struct daemon *daemon)
{
    struct upgrade *upgrade = daemon->upgrade;
    struct error failure;
    if (upgrade == NULL) {
        return false;
    }
    bool ready = upgrade_heard(upgrade, UPGRADE_READY, 0, &failure);
    if (failure.status != STATUS_OK) {
        daemon_upgrade_cancel(daemon, failure.message);
        return false;
    }
    switch (upgrade->step) {
    case UPGRADE_STARTING:
        if (ready) {
            begin_to_drain(daemon);
        } else if (clock_monotonic_ms() >= upgrade->until_ms) {
            daemon_upgrade_cancel(daemon, "the new process did not become ready in time");
        }
        return false;
    case UPGRADE_DRAINING:
        drain_step(daemon);
        return false;
    case UPGRADE_RESTING:
        if (!rest_step(daemon)) {
            return false;
        }
        if (!server_answers(daemon)) {
            daemon_upgrade_cancel(daemon, "the server does not answer, or has restarted");
            return false;
        }
        return upgrade_hand_over(daemon);
    }
    return false;
}
