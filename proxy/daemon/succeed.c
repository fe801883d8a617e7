/*
 * Taking the place of a process of this program: the new process's side (upgrade.c has the other
 * one, upgrade.h what they say).
 *
 *   started --> met: its listening sockets are ours, too --> checked: we could serve --> READY
 *     --> JOURNAL: nobody has units open; we start as ever, with the lock that we were given
 *     --> SERVING: its clients come over
 *
 * Until it has the journal this process touches nothing: not the admin port, not the service
 * manager. If its predecessor dies before that, it starts as after any crash.
 *
 * Main thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/channel.h"
#include "base/first_process.h"
#include "daemon/daemon.h"
#include "daemon/upgrade.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/event.h"
#include "holdfast/log.h"
#include "net/listener.h"
#include "net/listening.h"

#define POLL_MS 50
#define DEATH_MS_MAX 5000u

/* ------------------------------------------------------------------ meeting */

static int64_t number_of(const bson_t *document, const char *key)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, key) ? bson_iter_as_int64(&at) : 0;
}

static const char *text_of(const bson_t *document, const char *key)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, key) && BSON_ITER_HOLDS_UTF8(&at)
               ? bson_iter_utf8(&at, NULL)
               : "";
}

/* What belongs to the running process, and cannot be another one with the same clients. */
static enum status compare(struct daemon *daemon, const bson_t *document, struct error *ret_error)
{
    char name[sizeof daemon->upstream_name];
    struct stat directory;
    enum status status = upstream_host(daemon->config.upstream_uri, name, sizeof name, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (strcmp(name, text_of(document, "server")) != 0) {
        return error_set(ret_error, STATUS_INVALID,
                         "upstream.uri names another server now: that needs a restart");
    }
    if (stat(daemon->config.wal_directory, &directory) != 0 ||
        (int64_t)directory.st_dev != number_of(document, "journalDevice") ||
        (int64_t)directory.st_ino != number_of(document, "journalInode")) {
        return error_set(ret_error, STATUS_INVALID,
                         "wal.directory is another one now: that needs a restart");
    }
    return STATUS_OK;
}

static enum status take_begin(struct daemon *daemon, const struct channel_message *message,
                              struct error *ret_error)
{
    bson_t document;
    if (!bson_init_static(&document, message->payload, message->size) ||
        !bson_validate(&document, BSON_VALIDATE_NONE, NULL) ||
        number_of(&document, "protocol") != UPGRADE_PROTOCOL) {
        return error_set(ret_error, STATUS_PROTOCOL,
                         "the running holdfastd upgrades in another way: restart it");
    }
    bson_iter_t at;
    if (bson_iter_init_find(&at, &document, "firstProcess") && bson_iter_as_bool(&at)) {
        first_process_inherit();
    }
    daemon->predecessor_pid = (pid_t)number_of(&document, "pid");
    daemon->history.generation = (uint64_t)number_of(&document, "generation") + 1;
    daemon->history.failed = (uint64_t)number_of(&document, "failed");
    (void)snprintf(daemon->history.failure, sizeof daemon->history.failure, "%s",
                   text_of(&document, "failure"));
    return compare(daemon, &document, ret_error);
}

/* *ret_begun: that was the last. */
static enum status take_first(struct daemon *daemon, struct channel_message *message,
                              bool *ret_begun, struct error *ret_error)
{
    char text[LISTENING_TEXT_BYTES];
    if (message->kind == UPGRADE_BEGIN) {
        *ret_begun = true;
        return take_begin(daemon, message, ret_error);
    }
    if (message->kind == UPGRADE_LISTENER && message->descriptors[0] >= 0 &&
        message->size < sizeof text) {
        (void)snprintf(text, sizeof text, "%.*s", (int)message->size,
                       message->payload == NULL ? "" : (const char *)message->payload);
        listening_hand_down(text, message->descriptors[0]);
        message->descriptors[0] = -1;
    }
    return STATUS_OK;
}

void daemon_note_predecessor(struct daemon *daemon)
{
    const char *text = getenv(UPGRADE_VARIABLE);
    daemon->history.generation = 1;
    if (text != NULL) {
        struct error ignored;
        daemon->predecessor = (int)strtol(text, NULL, 10);
        daemon->succeeding = channel_inherited(daemon->predecessor, &ignored) == STATUS_OK;
        (void)unsetenv(UPGRADE_VARIABLE);
    }
}

static enum status meet(struct daemon *daemon, struct error *ret_error)
{
    enum status status = STATUS_OK;
    bool begun = false;
    while (status == STATUS_OK && !begun) {
        struct channel_message message;
        status = channel_receive(daemon->predecessor, &message, ret_error);
        if (status == STATUS_OK) {
            status = take_first(daemon, &message, &begun, ret_error);
            channel_message_free(&message);
        }
    }
    return status;
}

/* ------------------------------------------------------------------ before the journal */

/* Whether this program understands the journal, which its owner goes on writing. */
static enum status check_journal(struct daemon *daemon, struct error *ret_error)
{
    struct wal *wal = NULL;
    const struct wal_options options = {
        .directory = daemon->config.wal_directory,
        .read_only = true,
        .key_file = daemon->config.wal_key_file[0] == '\0' ? NULL : daemon->config.wal_key_file,
    };
    enum status status = wal_open(&options, &wal, ret_error);
    (void)wal_close(wal, false);
    return status;
}

/* One that the old process does not have has to be free: it still has all of its own. A local
   socket's file is not tried, for that would make it. */
static enum status check_listener(const char *text, struct error *ret_error)
{
    int descriptor = -1;
    if (text == NULL || text[0] == '\0' || strncmp(text, "unix:", 5) == 0 || listening_has(text)) {
        return STATUS_OK;
    }
    enum status status = listener_bind(text, &descriptor, NULL, ret_error);
    if (status == STATUS_OK) {
        listening_forget(descriptor);
        (void)close(descriptor);
    }
    return status;
}

static enum status check_listeners(const struct config *config, struct error *ret_error)
{
    struct config_service *services = NULL;
    size_t count = 0;
    const char *const plain[] = {config->net_listen, config->admin_listen};
    enum status status = config_services_complete(config, &services, &count, ret_error);
    for (size_t i = 0; status == STATUS_OK && i < sizeof plain / sizeof plain[0]; i++) {
        status = check_listener(plain[i], ret_error);
    }
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        const char *const texts[] = {services[i].listen, services[i].inside, services[i].mongo};
        for (size_t at = 0; status == STATUS_OK && at < 3; at++) {
            status = check_listener(texts[at], ret_error);
        }
    }
    config_services_free(services, count);
    return status;
}

/* What would fail once the old process has given the journal away. */
static enum status prepare(struct daemon *daemon, struct error *ret_error)
{
    enum status status = check_journal(daemon, ret_error);
    if (status == STATUS_OK) {
        status = upstream_open(daemon->config.upstream_uri, daemon->config.upstream_connect_ms,
                               &daemon->upstream, ret_error);
    }
    if (status == STATUS_OK) {
        status = daemon_choose_engine(daemon, ret_error);
    }
    return status == STATUS_OK ? check_listeners(&daemon->config, ret_error) : status;
}

/* If nobody hears it: the next that is heard says why. */
static void tell_ready(struct daemon *daemon)
{
    struct error ignored;
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT32(&document, "protocol", UPGRADE_PROTOCOL);
    BSON_APPEND_UTF8(&document, "version", HOLDFAST_VERSION);
    CRASH_POINT(upgrade_prepared);
    (void)!channel_send(daemon->predecessor, UPGRADE_READY,
                        slice_make(bson_get_data(&document), document.len), NULL, 0, &ignored);
    bson_destroy(&document);
    CRASH_POINT(upgrade_waiting);
}

static void leave_predecessor(struct daemon *daemon)
{
    if (daemon->succeeding) {
        (void)close(daemon->predecessor);
    }
    daemon->succeeding = false;
}

/* Its end of the channel may be closed a moment before the rest. We may be somebody else's child
   before its last thread has closed the journal's lock, so daemon_open_journal() waits, too. */
static void wait_for_death(struct daemon *daemon)
{
    daemon->journal_free_at_ms = clock_monotonic_ms() + DEATH_MS_MAX;
    while (getppid() == daemon->predecessor_pid &&
           clock_monotonic_ms() < daemon->journal_free_at_ms) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 2 * 1000 * 1000}, NULL);
    }
}

static enum status await_word(struct daemon *daemon, struct error *ret_error)
{
    struct channel_message message;
    while (!channel_is_ready(daemon->predecessor, POLL_MS)) {
        if (daemon_is_told_to_end()) {
            daemon->told_to_end = true;
            return error_set(ret_error, STATUS_OWNED, "told to end before it had the journal");
        }
    }
    if (channel_receive(daemon->predecessor, &message, ret_error) != STATUS_OK) {
        LOG(LOG_WARNING, "upgrade", "The old process has died: starting as after a crash");
        leave_predecessor(daemon);
        wait_for_death(daemon);
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    if (message.kind == UPGRADE_JOURNAL && message.descriptors[0] > 0) {
        daemon->journal_lock = message.descriptors[0];
        message.descriptors[0] = -1;
        CRASH_POINT(upgrade_journal_taken);
    } else {
        daemon->told_to_end = true;
        status = error_set(ret_error, STATUS_OWNED, "the old process goes on serving");
    }
    channel_message_free(&message);
    return status;
}

enum status daemon_await_journal(struct daemon *daemon, struct error *ret_error)
{
    if (!daemon->succeeding) {
        return STATUS_OK;
    }
    enum status status = meet(daemon, ret_error);
    if (status == STATUS_OK) {
        status = prepare(daemon, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    tell_ready(daemon);
    return await_word(daemon, ret_error);
}

void daemon_fail_predecessor(struct daemon *daemon, const char *reason)
{
    struct error ignored;
    if (daemon->succeeding) {
        (void)!channel_send(daemon->predecessor, UPGRADE_FAILED, slice_text(reason), NULL, 0,
                            &ignored);
        leave_predecessor(daemon);
    }
}

/* ------------------------------------------------------------------ clients come over */

static void take_connection(struct daemon *daemon, struct channel_message *message, size_t *taken)
{
    struct error error = {0};
    const struct router_parcel parcel = {
        .client = message->descriptors[0],
        .server = message->descriptors[1],
        .state = message->payload,
        .state_size = message->size,
    };
    if (parcel.client < 0) {
        return;
    }
    message->descriptors[0] = message->descriptors[1] = -1;
    if (router_take(daemon->router, &parcel, &error) != STATUS_OK) {
        LOG(LOG_WARNING, "upgrade", "A connection could not be taken over",
            LOG_TEXT("reason", error.message));
        return;
    }
    ++*taken;
    CRASH_POINT(upgrade_taking);
}

static void take_caller(struct daemon *daemon, struct channel_message *message)
{
    struct error error = {0};
    const struct front_parcel parcel = {
        .caller = message->descriptors[0],
        .state = message->payload,
        .state_size = message->size,
    };
    message->descriptors[0] = -1;
    if (parcel.caller >= 0 && services_take(daemon->services, &parcel, &error) != STATUS_OK) {
        LOG(LOG_WARNING, "upgrade", "A caller could not be taken over",
            LOG_TEXT("reason", error.message));
    }
}

void daemon_succeed(struct daemon *daemon)
{
    struct error error = {0};
    struct channel_message message;
    bool more = daemon->succeeding;
    size_t taken = 0;
    (void)listening_close_rest();
    if (!more) {
        return;
    }
    CRASH_POINT(upgrade_serving);
    more = channel_send(daemon->predecessor, UPGRADE_SERVING, (struct slice){0}, NULL, 0, &error) ==
           STATUS_OK;
    while (more && channel_receive(daemon->predecessor, &message, &error) == STATUS_OK) {
        if (message.kind == UPGRADE_CONNECTION) {
            take_connection(daemon, &message, &taken);
        } else if (message.kind == UPGRADE_CALLER) {
            take_caller(daemon, &message);
        }
        more = message.kind != UPGRADE_DONE;
        channel_message_free(&message);
    }
    leave_predecessor(daemon);
    LOG(LOG_INFO, "upgrade", "Upgrade finished",
        LOG_NUMBER("generation", daemon->history.generation), LOG_NUMBER("connections", taken));
    event_tell(EVENT_UPGRADE_FINISHED, "holdfastd",
               "holdfastd " HOLDFAST_VERSION " serves in place of the process before it, with %zu "
               "of its connections",
               taken);
}
