/* Metrics of the server, and of the servers that are followed. The admin server's threads. */
#include <stdlib.h>

#include "admin/metrics.h"
#include "holdfast/write_permit.h"

static void write_servers(const struct topology_view *view, struct exposition *page)
{
    uint64_t count[TOPOLOGY_STATES] = {0};
    for (size_t i = 0; i < view->member_count; i++) {
        count[view->members[i].state]++;
    }
    exposition_family(page, "holdfast_upstream_servers", EXPOSITION_GAUGE,
                      "Servers of the set or cluster, by what they are.");
    for (enum topology_state state = 0; state < TOPOLOGY_STATES; state++) {
        char labels[64] = "";
        exposition_label(labels, sizeof labels, "state", topology_state_name(state));
        exposition_number(page, labels, count[state]);
    }
}

static void write_topology(struct topology *topology, struct exposition *page)
{
    struct topology_view *view = topology == NULL ? NULL : malloc(sizeof *view);
    if (view == NULL) {
        return;
    }
    topology_view_get(topology, view);
    exposition_gauge(page, "holdfast_upstream_has_primary",
                     "1 if there is a server that commands go to: the primary, or a mongos.",
                     view->current[0] != '\0');
    exposition_counter(page, "holdfast_upstream_primary_changes",
                       "How often another server became the one that commands go to.",
                       view->changes);
    write_servers(view, page);
    free(view);
}

void admin_metrics_upstream(const struct admin_facts *facts, struct exposition *page)
{
    uint64_t silent_ms = 0;
    bool up = admin_facts_upstream_up(facts, &silent_ms);
    exposition_gauge(page, "holdfast_upstream_up", "1 if the server answers.", up);
    exposition_family(page, "holdfast_upstream_silence_seconds", EXPOSITION_GAUGE,
                      "Since the server's last answer to the proxy itself.");
    exposition_microseconds(page, "", silent_ms * 1000u);
    exposition_gauge(page, "holdfast_lease_held",
                     "1 if the lease is fresh, so that commands are sent to the server.",
                     write_permit_is_up());
    write_topology(router_topology(facts->router), page);
}
