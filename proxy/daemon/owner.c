/*
 * How the daemon becomes the one owner of its journal and of its server, and stays it: the
 * journal's lock, the lease and its keeper, and standing by while somebody else has them. Main
 * thread, but for what the keeper calls.
 */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/service_manager.h"
#include "daemon/daemon.h"
#include "holdfast/clock.h"
#include "holdfast/event.h"
#include "holdfast/log.h"
#include "recover/fence.h"

/* A server needs some milliseconds to close the connections of a process that was killed. */
#define LOOK_ALONE_MS 300u
/* Between two questions of a standby. */
#define STANDBY_PAUSE_SECONDS 1u

enum status daemon_open_journal(struct daemon *daemon, struct error *error)
{
    struct wal_options options = {
        .directory = daemon->config.wal_directory,
        .quota_bytes = daemon->config.wal_quota_bytes,
        .durability = daemon->config.wal_durability,
        .owner = "holdfastd",
        .key_file = daemon->config.wal_key_file[0] == '\0' ? NULL : daemon->config.wal_key_file,
        .owner_lock = daemon->journal_lock,
    };
    daemon->journal_lock = 0; /* the journal's, whatever becomes of it */
    bool narrowed = false;
    enum status status = wal_directory_protect(options.directory, &narrowed, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (narrowed) {
        LOG(LOG_WARNING, "journal",
            "The journal's directory could be entered by others: it is for its owner alone now",
            LOG_TEXT("directory", options.directory));
    }
    status = wal_open(&options, &daemon->wal, error);
    while (status == STATUS_OWNED && clock_monotonic_ms() < daemon->journal_free_at_ms) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 2 * 1000 * 1000}, NULL);
        status = wal_open(&options, &daemon->wal, error);
    }
    return status;
}

enum status daemon_acquire_lease(struct daemon *daemon, struct error *error)
{
    struct lease_options options = {
        .takeover = daemon->config.upstream_takeover,
        .wait_ms = LEASE_VALID_MS + LEASE_RENEW_MS,
        .owner = "holdfastd",
    };
    enum status status =
        lease_acquire(daemon->upstream, daemon->wal, &options, &daemon->lease, error);
    daemon->leased = status == STATUS_OK;
    if (daemon->leased) {
        upstream_pin(daemon->upstream); /* the recovery in the same process of the server */
    }
    return status;
}

/* The former owner is dead, and a connection of its that could carry a write was answered on
   before: the server counts it until it has read it to its end. */
enum status daemon_look_alone(struct daemon *daemon, struct error *error)
{
    if (wal_was_clean(daemon->wal) && !daemon->lease.former_unclean) {
        return STATUS_OK; /* there will be no fence */
    }
    return fence_alone(daemon->upstream, LOOK_ALONE_MS, &daemon->alone, error);
}

/* Another proxy recovers our units now: the process ends at once, so that none of its writes
   follows. A keeper's thread. */
static void on_lease_lost(void *context, const struct error *error)
{
    (void)context;
    log_tell_repeats(true);
    LOG(LOG_ERROR, "main", "Another proxy has taken over this server: ending",
        LOG_TEXT("reason", error->message));
    _exit(DAEMON_EXIT_CANNOT_RUN);
}

static void on_permit(void *context, bool up, const char *failure)
{
    (void)context;
    if (up) {
        LOG(LOG_INFO, "main", "The lease is renewed again: commands are sent to the server");
        event_tell(EVENT_LEASE_BACK, "holdfastd", "The lease is renewed again");
    } else {
        LOG(LOG_WARNING, "main",
            "The lease could not be renewed in time: nothing is sent to the server until it was",
            LOG_TEXT("reason", failure));
        event_tell(EVENT_LEASE_LOST, "holdfastd",
                   "The lease could not be renewed in time, nothing is sent to the server: %s",
                   failure);
    }
}

enum status daemon_start_keeper(struct daemon *daemon, struct error *error)
{
    struct lease_keeper_options options = {
        .upstream_uri = daemon->config.upstream_uri,
        .connect_ms = daemon->config.upstream_connect_ms,
        .lease = &daemon->lease,
        .directory = daemon->config.wal_directory,
        .wal = daemon->wal,
        .lost = on_lease_lost,
        .permit = on_permit,
    };
    return lease_keeper_start(&options, &daemon->keeper, error);
}

/* True: a signal asks for the end. Waits so long for it. */
static bool told_to_end(unsigned seconds)
{
    const struct timespec pause = {.tv_sec = seconds};
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    return sigtimedwait(&signals, NULL, &pause) > 0;
}

/* A server that was away has aged the lease of an owner who lives, too: he renews it as soon as the
   server is there, and is not overtaken meanwhile. */
static bool server_is_back(struct daemon *daemon, struct error *error)
{
    struct upstream_description description;
    enum status status = upstream_describe(daemon->upstream, &description, error);
    if (status == STATUS_OK) {
        daemon->told_to_end = told_to_end(2 * LEASE_RENEW_MS / 1000);
    }
    return status != STATUS_UNREACHABLE;
}

enum status daemon_in_turn(struct daemon *daemon,
                           enum status (*step)(struct daemon *, struct error *),
                           struct error *error)
{
    enum status status = step(daemon, error);
    if (status != STATUS_OWNED || daemon->config.upstream_standby != CONFIG_STANDBY_ON) {
        return status;
    }
    LOG(LOG_INFO, "main", "Standing by", LOG_TEXT("reason", error->message));
    daemon->stood_by = true;
    while (status == STATUS_OWNED || status == STATUS_UNREACHABLE) {
        admin_standby(daemon->admin, error->message);
        service_manager_ready("Standing by for another holdfastd");
        daemon->told_to_end = told_to_end(STANDBY_PAUSE_SECONDS);
        bool there =
            daemon->told_to_end || status != STATUS_UNREACHABLE || server_is_back(daemon, error);
        if (daemon->told_to_end) {
            return status;
        }
        if (there) {
            status = step(daemon, error);
        }
    }
    return status;
}
