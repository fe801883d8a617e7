/*
 * The other process of an upgrade, as long as it is our child: started with our listening sockets,
 * heard, ended (upgrade.h has what is said).
 *
 * Main thread.
 */
#include <errno.h>
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
#include "daemon/upgrade_private.h"
#include "holdfast/clock.h"
#include "net/listening.h"

/* For a process that was told to end. */
#define ENDING_MS_MAX 2000u
/* Where the new process has its end of the channel: right behind standard error. */
#define CHANNEL_PLACE 3

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

enum status upgrade_process_start(struct daemon *daemon, const char *program,
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

/* ------------------------------------------------------------------ hearing it */

bool upgrade_heard(struct upgrade *upgrade, enum upgrade_message kind, int wait_ms,
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

bool upgrade_await(struct upgrade *upgrade, enum upgrade_message kind, uint64_t wait_ms,
                   struct error *failure)
{
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    while (clock_monotonic_ms() < until_ms) {
        if (upgrade_heard(upgrade, kind, 20, failure)) {
            return true;
        }
        if (failure->status != STATUS_OK) {
            return false;
        }
    }
    (void)error_set(failure, STATUS_UNREACHABLE, "the new process took too long");
    return false;
}

/* ------------------------------------------------------------------ ending a process */

void upgrade_process_end(struct upgrade *upgrade)
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
            (void)nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
        }
    }
    if (upgrade->channel >= 0) {
        (void)close(upgrade->channel);
    }
    upgrade->channel = -1;
    upgrade->process = 0;
}
