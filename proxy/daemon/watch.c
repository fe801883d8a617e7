/*
 * What the daemon tells the outside of itself: spans and events on their way, and what of its state
 * is an event when it changes. Main thread.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "holdfast/event.h"
#include "holdfast/log.h"

/* The journal is nearly full at this share of its quota, and has room again at the lower one. */
#define JOURNAL_FULL_PERCENT 90u
#define JOURNAL_ROOM_PERCENT 80u

enum status daemon_start_telemetry(struct daemon *daemon, struct error *error)
{
    const struct config *config = &daemon->config;
    char instance[512] = "";
    if (gethostname(instance, sizeof instance / 2) != 0) {
        instance[0] = '\0';
    }
    instance[sizeof instance / 2 - 1] = '\0';
    size_t used = strlen(instance);
    (void)snprintf(instance + used, sizeof instance - used, "/%s", config->net_listen);
    const struct telemetry_options options = {
        .trace_endpoint = config->trace_endpoint,
        .trace_percent = (unsigned)config->trace_percent,
        .webhook = config->event_webhook,
        .webhook_secret = config->event_webhook_secret,
        .instance = instance,
    };
    enum status status = telemetry_start(&options, &daemon->telemetry, error);
    if (status == STATUS_OK) {
        admin_telemetry(daemon->admin, daemon->telemetry);
    }
    return status;
}

void daemon_tell_upstream(struct daemon *daemon, const char *failure)
{
    bool lost = failure != NULL;
    admin_upstream_seen(daemon->admin, failure);
    if (lost == daemon->upstream_lost) {
        return;
    }
    daemon->upstream_lost = lost;
    if (lost) {
        event_tell(EVENT_UPSTREAM_LOST, daemon->upstream_name, "The server does not answer: %s",
                   failure);
    } else {
        event_tell(EVENT_UPSTREAM_BACK, daemon->upstream_name, "The server answers again");
    }
}

void daemon_tell_upgrade(struct daemon *daemon, const char *state)
{
    admin_upgrade(daemon->admin, &(struct admin_upgrade){
                                     .generation = daemon->history.generation,
                                     .failed = daemon->history.failed,
                                     .state = state,
                                     .failure = daemon->history.failure,
                                 });
}

static void watch_journal(struct daemon *daemon)
{
    struct wal_statistics figures;
    const char *directory = daemon->config.wal_directory;
    if (wal_statistics_get(daemon->wal, &figures, NULL) != STATUS_OK || figures.quota_bytes == 0) {
        return;
    }
    uint64_t percent = figures.used_bytes / (figures.quota_bytes / 100);
    if (!daemon->journal_nearly_full && percent >= JOURNAL_FULL_PERCENT) {
        daemon->journal_nearly_full = true;
        event_tell(EVENT_JOURNAL_NEARLY_FULL, directory,
                   "%llu %% of wal.quota are in use: at 100 %% new units are refused",
                   (unsigned long long)percent);
    } else if (daemon->journal_nearly_full && percent < JOURNAL_ROOM_PERCENT) {
        daemon->journal_nearly_full = false;
        event_tell(EVENT_JOURNAL_HAS_ROOM, directory, "%llu %% of wal.quota are in use",
                   (unsigned long long)percent);
    }
}

void daemon_watch(struct daemon *daemon)
{
    log_tell_repeats(false);
    watch_journal(daemon);
}

void daemon_reopen_log(void)
{
    struct error error = {0};
    if (log_reopen(&error) != STATUS_OK) {
        LOG(LOG_ERROR, "config", "The old log file is used on", LOG_TEXT("reason", error.message));
    }
}
