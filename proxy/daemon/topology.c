/*
 * Following the servers of upstream.uri (upstream/topology.h): when it begins, what is told of it.
 *
 * Main thread, but for on_changed(), which is called by the topology's own; it reads `router`
 * through an atomic, for that is made later and freed only after the topology has stopped.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/daemon.h"
#include "holdfast/event.h"
#include "holdfast/log.h"

static void tell_members(const struct topology_view *view, const struct topology_view *before)
{
    for (size_t i = 0; i < view->member_count; i++) {
        const struct topology_member *member = &view->members[i];
        const struct topology_member *was = NULL;
        for (size_t j = 0; j < before->member_count && was == NULL; j++) {
            was = strcmp(before->members[j].name, member->name) == 0 ? &before->members[j] : NULL;
        }
        if (was == NULL || was->state != member->state) {
            LOG(LOG_INFO, "upstream", "A server has another state",
                LOG_TEXT("server", member->name),
                LOG_TEXT("state", topology_state_name(member->state)),
                LOG_TEXT_IF("before", was == NULL ? "" : topology_state_name(was->state)));
        }
    }
}

static void tell_current(const struct topology_view *view, const struct topology_view *before,
                         const char *uri_name)
{
    const char *what = view->kind == UPSTREAM_SHARDED ? "mongos" : "primary";
    if (strcmp(view->current, before->current) == 0) {
        return;
    }
    if (view->current[0] == '\0') {
        LOG(LOG_WARNING, "upstream", "No server to send commands to: they wait",
            LOG_TEXT("before", before->current), LOG_TEXT("wanted", what));
        event_tell(EVENT_PRIMARY_LOST, uri_name, "There is no %s; the last one was %s", what,
                   before->current);
        return;
    }
    LOG(LOG_INFO, "upstream", "Commands go to this server now", LOG_TEXT("server", view->current),
        LOG_TEXT("is", what), LOG_TEXT_IF("before", before->current),
        LOG_TEXT_IF("set", view->set_name), LOG_NUMBER("generation", view->generation));
    if (view->generation > 2) { /* the first one is no change */
        event_tell(EVENT_PRIMARY_CHANGED, uri_name, "The %s is %s now", what, view->current);
    }
}

static void on_changed(void *context, const struct topology_view *view)
{
    struct daemon *daemon = context;
    tell_members(view, &daemon->topology_before);
    tell_current(view, &daemon->topology_before, daemon->upstream_name);
    daemon->topology_before = *view;
    struct router *router = atomic_load(&daemon->follower);
    if (router != NULL) {
        router_follow(router);
    }
}

static void on_option(void *context, const char *option, const char *what)
{
    (void)context;
    LOG(LOG_WARNING, "config", "An option of upstream.uri has no effect",
        LOG_TEXT("option", option), LOG_TEXT("reason", what));
}

enum status daemon_start_topology(struct daemon *daemon, struct error *error)
{
    const struct config *config = &daemon->config;
    struct topology_options options = {
        .uri = config->upstream_uri,
        .connect_ms = config->upstream_connect_ms,
        .changed = on_changed,
        .context = daemon,
    };
    upstream_uri_notes(config->upstream_uri, on_option, NULL);
    enum status status = upstream_host(config->upstream_uri, daemon->upstream_name,
                                       sizeof daemon->upstream_name, error);
    if (status != STATUS_OK || !upstream_uri_follows(config->upstream_uri)) {
        return status;
    }
    status = topology_start(&options, &daemon->topology, error);
    if (status == STATUS_OK) {
        status = topology_wait(daemon->topology, config->upstream_connect_ms, error);
    }
    return status;
}

void daemon_follow_topology(struct daemon *daemon)
{
    if (daemon->topology != NULL) {
        atomic_store(&daemon->follower, daemon->router);
        router_follow(daemon->router); /* of what has changed before */
    }
}
