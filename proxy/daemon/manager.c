/*
 * What the service manager that started us is told, if there is one. Main thread.
 */
#include <stdio.h>

#include "base/service_manager.h"
#include "daemon/daemon.h"
#include "holdfast/log.h"

enum status daemon_meet_manager(struct daemon *daemon, struct error *error)
{
    struct error unreachable = {0};
    if (service_manager_begin(&unreachable) != STATUS_OK) {
        LOG(LOG_WARNING, "main", "The service manager will hear nothing",
            LOG_TEXT("reason", unreachable.message));
    }
    if (service_manager_watchdog_ms() == 0) {
        return STATUS_OK;
    }
    struct watchdog_options options = {
        .period_ms = service_manager_watchdog_ms(),
        .alive = service_manager_alive,
    };
    return watchdog_start(&options, &daemon->watchdog, error);
}

void daemon_tell_serving(const struct daemon *daemon)
{
    char text[SERVICE_MANAGER_STATUS_BYTES];
    (void)snprintf(text, sizeof text, "Serving clients on %s", router_address(daemon->router, 0));
    service_manager_ready(text);
}
