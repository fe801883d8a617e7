/*
 * Giving way to a new process of this program: the old process's side.
 *
 *   SIGUSR2
 *     |
 *   STARTING   the program at our path was started, with our listening sockets; it checks whether
 *     |        it could serve. We serve as ever
 *   DRAINING   it could. What would begin a unit waits, in the kernel or in its connection; what is
 *     |        open goes on, until upgrade.wait is over: then it is rolled back
 *   RESTING    no unit is open. Nothing new is begun at all; what is on its way is answered
 *     |
 *   (hand_over) the journal is closed, its lock and then all clients go to the new process
 *
 *   any step --> failed: the new process ends, everything that waits goes on here
 *
 * Two processes never have a lock table at the same time: the new one makes its own only when the
 * journal's lock is in its hands, and that is given away when no unit is open. The lock itself is
 * held without a gap, for it is one open file that both processes have (wal_close_for()).
 *
 * From the closing of the journal on there is no way back: if the new process dies then, this
 * program, as it runs, is started in its place (/proc/self/exe is still the old file), with the
 * same sockets and the same clients. Clients go over last, when the new process serves.
 *
 * Main thread.
 */
#include "daemon/upgrade.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/channel.h"
#include "base/first_process.h"
#include "base/service_manager.h"
#include "daemon/daemon.h"
#include "engine/finish.h"
#include "engine/pause.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/event.h"
#include "holdfast/log.h"
#include "holdfast/write_permit.h"
#include "net/listening.h"

/* For the new process to be able to serve, and to serve. */
#define STARTING_MS_MAX 60000u
#define SERVING_MS_MAX 60000u
/* Beyond upgrade.wait: for what is rolled back then, and for what is on its way. */
#define ROLLBACK_MS_MAX 5000u
#define RESTING_MS_MIN 1000u
/* For a process that was told to end. */
#define ENDING_MS_MAX 2000u
/* For connections that cannot go over at once; shorter than the new process waits for a word. */
#define LATE_MS_MAX 5000u
/* Where the new process has its end of the channel: right behind standard error. */
#define CHANNEL_PLACE 3

enum upgrade_step { UPGRADE_STARTING, UPGRADE_DRAINING, UPGRADE_RESTING };

struct upgrade {
    enum upgrade_step step;
    pid_t process; /* the new one; 0: none */
    int channel;   /* to it; -1: none */
    uint64_t started_ms;
    uint64_t until_ms; /* of the step */
    bool cut;          /* RESTING: what was still on its way has been ended */
    char version[64];
    struct listening *listening;
    size_t listening_count;
};

extern char **environ;

/* ------------------------------------------------------------------ starting a process */

/* "HOLDFAST_UPGRADE=3", the service manager's variables, and all that is ours. NULL: no memory. */
static char **make_environment(char *own)
{
    char *manager[2];
    size_t manager_count = service_manager_environment(manager, 2);
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **made = calloc(count + manager_count + 2, sizeof *made);
    if (made != NULL) {
        memcpy(made, environ, count * sizeof *made);
        for (size_t i = 0; i < manager_count; i++) {
            made[count++] = manager[i];
        }
        made[count] = own;
    }
    return made;
}

/* With our signals as they were before we began. */
static int spawn(const char *program, char **arguments, int channel_end, pid_t *ret_process)
{
    char own[64];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t standard;
    (void)snprintf(own, sizeof own, UPGRADE_VARIABLE "=%d", CHANNEL_PLACE);
    char **environment = make_environment(own);
    if (environment == NULL) {
        return ENOMEM;
    }
    (void)sigemptyset(&none);
    (void)sigemptyset(&standard);
    (void)sigaddset(&standard, SIGPIPE);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attributes);
    /* Nothing else stays open in it: LMDB does not close its file on exec. */
    (void)posix_spawn_file_actions_adddup2(&actions, channel_end, CHANNEL_PLACE);
    (void)posix_spawn_file_actions_addclosefrom_np(&actions, CHANNEL_PLACE + 1);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setsigdefault(&attributes, &standard);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int failure = posix_spawn(ret_process, program, &actions, &attributes, arguments, environment);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    free(environment);
    return failure;
}

static enum status send_begin(struct daemon *daemon, int channel, struct error *ret_error)
{
    bson_t document = BSON_INITIALIZER;
    struct stat directory = {0};
    (void)stat(daemon->config.wal_directory, &directory);
    BSON_APPEND_INT32(&document, "protocol", UPGRADE_PROTOCOL);
    BSON_APPEND_INT64(&document, "pid", getpid());
    BSON_APPEND_INT64(&document, "generation", (int64_t)daemon->history.generation);
    BSON_APPEND_INT64(&document, "failed", (int64_t)daemon->history.failed);
    BSON_APPEND_UTF8(&document, "failure", daemon->history.failure);
    BSON_APPEND_BOOL(&document, "firstProcess", first_process_stays());
    BSON_APPEND_INT64(&document, "journalDevice", (int64_t)directory.st_dev);
    BSON_APPEND_INT64(&document, "journalInode", (int64_t)directory.st_ino);
    BSON_APPEND_UTF8(&document, "server", daemon->upstream_name);
    enum status status =
        channel_send(channel, UPGRADE_BEGIN, slice_make(bson_get_data(&document), document.len),
                     NULL, 0, ret_error);
    bson_destroy(&document);
    return status;
}

static enum status start_process(struct daemon *daemon, const char *program,
                                 struct error *ret_error)
{
    struct upgrade *upgrade = daemon->upgrade;
    int ends[2];
    enum status status = channel_pair(ends, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    int failure = spawn(program, daemon->arguments, ends[1], &upgrade->process);
    (void)close(ends[1]);
    upgrade->channel = ends[0];
    if (failure != 0) {
        upgrade->process = 0;
        return error_set(ret_error, STATUS_IO, "cannot start %.200s: %s", program,
                         strerror(failure));
    }
    for (size_t i = 0; i < upgrade->listening_count && status == STATUS_OK; i++) {
        status =
            channel_send(upgrade->channel, UPGRADE_LISTENER, slice_text(upgrade->listening[i].text),
                         &upgrade->listening[i].descriptor, 1, ret_error);
    }
    if (status == STATUS_OK) {
        status = send_begin(daemon, upgrade->channel, ret_error);
    }
    /* One that has ended has perhaps said why: that is heard later. */
    return status == STATUS_UNREACHABLE ? STATUS_OK : status;
}

/* ------------------------------------------------------------------ ending a process */

static void sleep_ms(long milliseconds)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000 * 1000}, NULL);
}

/* It gets the word, and some time, and is then killed: what is dead takes nothing over. */
static void end_process(struct upgrade *upgrade)
{
    struct error ignored;
    if (upgrade->channel >= 0) {
        (void)!channel_send(upgrade->channel, UPGRADE_CANCEL, (struct slice){0}, NULL, 0, &ignored);
    }
    if (upgrade->process > 0) {
        uint64_t until_ms = clock_monotonic_ms() + ENDING_MS_MAX;
        while (waitpid(upgrade->process, NULL, WNOHANG) == 0) {
            if (clock_monotonic_ms() >= until_ms) {
                (void)kill(upgrade->process, SIGKILL);
            }
            sleep_ms(5);
        }
    }
    if (upgrade->channel >= 0) {
        (void)close(upgrade->channel);
    }
    upgrade->channel = -1;
    upgrade->process = 0;
}

static void upgrade_free(struct daemon *daemon)
{
    struct upgrade *upgrade = daemon->upgrade;
    for (size_t i = 0; i < upgrade->listening_count; i++) {
        (void)close(upgrade->listening[i].descriptor);
    }
    free(upgrade->listening);
    free(upgrade);
    daemon->upgrade = NULL;
}

static void note_failure(struct daemon *daemon, const char *reason)
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
    end_process(upgrade);
    if (upgrade->step != UPGRADE_STARTING) {
        if (upgrade->step == UPGRADE_RESTING) {
            services_hold_callers(daemon->services, false);
        }
        services_hold(daemon->services, false);
        router_pause(daemon->router, ROUTER_GOES_ON);
    }
    note_failure(daemon, reason);
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
        .until_ms = clock_monotonic_ms() + STARTING_MS_MAX,
        .listening = listening,
        .listening_count = listening_copy(listening, LISTENING_MAX),
    };
    const char *program = daemon->program == NULL ? "" : daemon->program;
    daemon->history.failure[0] = '\0';
    if (daemon->draining) {
        daemon_upgrade_cancel(daemon, "this process is drained, for good");
    } else if (daemon->engine.pause != NULL && pause_is_on(daemon->engine.pause)) {
        daemon_upgrade_cancel(daemon, "a backup has writes wait: try again when it is done");
    } else if (start_process(daemon, program, &error) != STATUS_OK) {
        daemon_upgrade_cancel(daemon, error.message);
    } else {
        LOG(LOG_INFO, "upgrade", "Upgrade begins: the new process is started",
            LOG_TEXT("program", program), LOG_NUMBER("pid", (uint64_t)upgrade->process));
        daemon_tell_upgrade(daemon, "starting");
        CRASH_POINT(upgrade_started);
    }
}

/* Whether `kind` has come. False with *failure empty: nothing has; else why it will not come. */
static bool heard(struct upgrade *upgrade, enum upgrade_message kind, int wait_ms,
                  struct error *failure)
{
    struct channel_message message;
    bool came = false;
    *failure = (struct error){0};
    if (!channel_is_ready(upgrade->channel, wait_ms)) {
        return false;
    }
    if (channel_receive(upgrade->channel, &message, failure) != STATUS_OK) {
        (void)error_set(failure, STATUS_UNREACHABLE, "the new process has ended");
        return false;
    }
    if (message.kind == UPGRADE_FAILED) {
        (void)error_set(failure, STATUS_INVALID, "%.*s", (int)message.size,
                        message.payload == NULL ? "" : (const char *)message.payload);
    } else if (message.kind == (uint32_t)kind) {
        came = true;
        bson_t document;
        bson_iter_t at;
        if (kind == UPGRADE_READY && bson_init_static(&document, message.payload, message.size) &&
            bson_iter_init_find(&at, &document, "version") && BSON_ITER_HOLDS_UTF8(&at)) {
            (void)snprintf(upgrade->version, sizeof upgrade->version, "%s",
                           bson_iter_utf8(&at, NULL));
        }
    }
    channel_message_free(&message);
    return came;
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

static bool hand_over(struct daemon *daemon);

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
    bool ready = heard(upgrade, UPGRADE_READY, 0, &failure);
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
        return hand_over(daemon);
    }
    return false;
}

/* ------------------------------------------------------------------ handing over */

/* All that writes to the journal or to the server. Clients' connections rest. */
static int close_journal(struct daemon *daemon)
{
    int lock = -1;
    CRASH_POINT(upgrade_resting);
    admin_ending(daemon->admin);
    daemon_stop_engine(daemon);
    daemon->engine.native = native_stop(daemon->engine.native);
    if (daemon->keeper != NULL) {
        lease_keeper_settle(daemon->keeper, NULL, NULL);
    }
    daemon->keeper = lease_keeper_stop(daemon->keeper);
    /* Whatever was forgotten: it does not leave. */
    write_permit_set(false);
    daemon->upstream = upstream_close(daemon->upstream);
    services_note_end(daemon->services);
    /* The lease is not given back: nobody but who has this journal's lock may take it. */
    daemon->leased = false;
    daemon->wal = wal_close_for(daemon->wal, true, &lock);
    daemon->engine.wal = NULL;
    CRASH_POINT(upgrade_journal_closed);
    return lock;
}

/* Waits for a message; false: it will not come, and why. */
static bool await(struct upgrade *upgrade, enum upgrade_message kind, uint64_t wait_ms,
                  struct error *failure)
{
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    while (clock_monotonic_ms() < until_ms) {
        if (heard(upgrade, kind, 20, failure)) {
            return true;
        }
        if (failure->status != STATUS_OK) {
            return false;
        }
    }
    (void)error_set(failure, STATUS_UNREACHABLE, "the new process took too long");
    return false;
}

/* True: the process serves, with the journal. */
static bool give_journal(struct upgrade *upgrade, int lock, struct error *failure)
{
    if (channel_send(upgrade->channel, UPGRADE_JOURNAL, (struct slice){0}, &lock, 1, failure) !=
        STATUS_OK) {
        return false;
    }
    CRASH_POINT(upgrade_journal_given);
    return await(upgrade, UPGRADE_SERVING, SERVING_MS_MAX, failure);
}

/* The program as it runs, in place of the new one, which has failed. */
static bool start_again(struct daemon *daemon, struct error *failure)
{
    struct upgrade *upgrade = daemon->upgrade;
    /* At once: it may have the journal open. */
    if (upgrade->process > 0) {
        (void)kill(upgrade->process, SIGKILL);
    }
    end_process(upgrade);
    LOG(LOG_ERROR, "upgrade", "The new process has failed: the old program is started again",
        LOG_TEXT("reason", failure->message));
    note_failure(daemon, failure->message);
    daemon->history.generation--; /* what comes is no step forward */
    return start_process(daemon, "/proc/self/exe", failure) == STATUS_OK &&
           await(upgrade, UPGRADE_READY, STARTING_MS_MAX, failure);
}

struct giving {
    int channel;
    size_t given;
    bool failed;
};

static void give_connection(void *context, const struct router_parcel *parcel)
{
    struct giving *giving = context;
    const int sockets[2] = {parcel->client, parcel->server};
    size_t count = parcel->server < 0 ? 1 : 2;
    struct error error = {0};
    if (!giving->failed && channel_send(giving->channel, UPGRADE_CONNECTION,
                                        slice_make(parcel->state, parcel->state_size), sockets,
                                        count, &error) != STATUS_OK) {
        giving->failed = true; /* it has died: they end with it, as at any crash */
    }
    giving->given++;
    CRASH_POINT(upgrade_giving);
}

/* One that is in the middle of a reply goes when that has passed. */
static void give_connections(struct daemon *daemon, struct giving *giving)
{
    uint64_t until_ms = clock_monotonic_ms() + LATE_MS_MAX;
    size_t later = 0;
    (void)router_give(daemon->router, give_connection, giving, &later);
    while (later > 0 && !giving->failed && clock_monotonic_ms() < until_ms &&
           !daemon_is_told_to_end()) {
        sleep_ms(5);
        (void)router_give(daemon->router, give_connection, giving, &later);
    }
}

static void give_caller(void *context, const struct front_parcel *parcel)
{
    struct giving *giving = context;
    struct error error = {0};
    if (!giving->failed &&
        channel_send(giving->channel, UPGRADE_CALLER, slice_make(parcel->state, parcel->state_size),
                     &parcel->caller, 1, &error) != STATUS_OK) {
        giving->failed = true;
    }
}

/* Calls that are at their services, and requests that are no calls, are answered here. */
static void linger(struct daemon *daemon)
{
    const struct config *config = &daemon->config;
    uint64_t wait_ms = config->upgrade_wait_ms > config->http_call_timeout_ms
                           ? config->upgrade_wait_ms
                           : config->http_call_timeout_ms;
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    const struct front *front = services_front(daemon->services);
    while (front != NULL && clock_monotonic_ms() < until_ms && !daemon_is_told_to_end()) {
        struct front_figures figures;
        front_figures_get(front, &figures);
        if (figures.connections == 0) {
            break;
        }
        sleep_ms(10);
    }
    services_stop(daemon->services);
    router_stop(daemon->router);
}

static bool hand_over(struct daemon *daemon)
{
    struct upgrade *upgrade = daemon->upgrade;
    struct error failure = {0};
    int lock = close_journal(daemon);
    bool serves = give_journal(upgrade, lock, &failure);
    if (!serves && !daemon_is_told_to_end()) {
        serves = start_again(daemon, &failure) && give_journal(upgrade, lock, &failure);
    }
    daemon->handed_over = true;
    if (!serves) {
        end_process(upgrade); /* it may have the journal's lock, and nobody would know of it */
        LOG(LOG_ERROR, "upgrade", "Ending: the next start recovers",
            LOG_TEXT("reason", failure.message));
        log_tell_repeats(true);
        _exit(DAEMON_EXIT_CANNOT_RUN);
    }
    (void)close(lock);
    struct giving giving = {.channel = upgrade->channel};
    struct error error = {0};
    size_t callers = services_give(daemon->services, give_caller, &giving);
    give_connections(daemon, &giving);
    services_drain(daemon->services); /* of those that stay, who waits may come again */
    router_drain(daemon->router);
    service_manager_hand_over(upgrade->process);
    first_process_follow(upgrade->process);
    (void)!channel_send(upgrade->channel, UPGRADE_DONE, (struct slice){0}, NULL, 0, &error);
    CRASH_POINT(upgrade_given);
    if (daemon_is_told_to_end()) {
        (void)kill(upgrade->process, SIGTERM); /* it was meant for who serves */
    }
    LOG(LOG_INFO, "upgrade", "Handed over: the new process serves",
        LOG_NUMBER("pid", (uint64_t)upgrade->process), LOG_TEXT("version", upgrade->version),
        LOG_NUMBER("connections", giving.given), LOG_NUMBER("callers", callers),
        LOG_NUMBER("milliseconds", clock_monotonic_ms() - upgrade->started_ms));
    linger(daemon);
    (void)close(upgrade->channel);
    upgrade_free(daemon);
    return true;
}
