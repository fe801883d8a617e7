/*
 * Handing over (upgrade.c): the journal, then all clients go to the new process.
 *
 * From the closing of the journal on there is no way back: if the new process dies then, this
 * program, as it runs, is started in its place (/proc/self/exe is still the old file), with the
 * same sockets and the same clients. Clients go over last, when the new process serves.
 *
 * Main thread; connections and callers are given on their workers, one at a time.
 */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/channel.h"
#include "base/first_process.h"
#include "base/service_manager.h"
#include "daemon/upgrade_private.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/log.h"
#include "holdfast/write_permit.h"

/* For the new process to serve. */
#define SERVING_MS_MAX 60000u
/* For connections that cannot go over at once; shorter than the new process waits for a word. */
#define LATE_MS_MAX 5000u

/* All that writes to the journal or to the server. Clients' connections rest. */
static int close_journal(struct daemon *daemon)
{
    int lock = -1;
    CRASH_POINT(upgrade_resting);
    admin_ending(daemon->admin);
    daemon_stop_engine(daemon);
    native_end(daemon->engine.native);
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
    daemon->engine.native = native_free(daemon->engine.native); /* nobody posts to it any more */
    daemon->engine.wal = NULL;
    CRASH_POINT(upgrade_journal_closed);
    return lock;
}

/* True: the process serves, with the journal. */
static bool give_journal(struct upgrade *upgrade, int lock, struct error *failure)
{
    if (channel_send(upgrade->channel, UPGRADE_JOURNAL, (struct slice){0}, &lock, 1, failure) !=
        STATUS_OK) {
        return false;
    }
    CRASH_POINT(upgrade_journal_given);
    return upgrade_await(upgrade, UPGRADE_SERVING, SERVING_MS_MAX, failure);
}

/* The program as it runs, in place of the new one, which has failed. */
static bool start_again(struct daemon *daemon, struct error *failure)
{
    struct upgrade *upgrade = daemon->upgrade;
    /* At once: it may have the journal open. */
    if (upgrade->process > 0) {
        (void)kill(upgrade->process, SIGKILL);
    }
    upgrade_process_end(upgrade);
    LOG(LOG_ERROR, "upgrade", "The new process has failed: the old program is started again",
        LOG_TEXT("reason", failure->message));
    upgrade_note_failure(daemon, failure->message);
    daemon->history.generation--; /* what comes is no step forward */
    return upgrade_process_start(daemon, "/proc/self/exe", failure) == STATUS_OK &&
           upgrade_await(upgrade, UPGRADE_READY, UPGRADE_STARTING_MS_MAX, failure);
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
        (void)nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
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
        (void)nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    services_stop(daemon->services);
    router_stop(daemon->router);
}

bool upgrade_hand_over(struct daemon *daemon)
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
        /* It may have the journal's lock, and nobody would know of it. */
        upgrade_process_end(upgrade);
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
