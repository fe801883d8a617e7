#ifndef HOLDFAST_ADMIN_METRICS_H
#define HOLDFAST_ADMIN_METRICS_H

/*
 * The page /metrics, in the form that the visitor asks for: OpenMetrics, else the Prometheus text
 * format. docs/OBSERVABILITY.md lists the metrics.
 */

#include <event2/buffer.h>

#include "admin/facts.h"
#include "base/exposition.h"

/*
 * Appends what is known by now: build, process and readiness always, the journal once it is open,
 * clients and units while serving, and what is observed. `accept`: the header, or NULL. Returns the
 * HTTP status: 200, or 503 (out of memory). *content_type gets the type of what was appended.
 */
int admin_metrics_write(const struct admin_facts *facts, const char *accept, struct evbuffer *body,
                        const char **content_type);

/* Parts of it. */
void admin_metrics_upstream(const struct admin_facts *facts,
                            struct exposition *page); /* metrics_upstream.c */
void admin_metrics_process(struct exposition *page);  /* metrics_process.c */
void admin_metrics_calls(const struct services *services,
                         struct exposition *page); /* metrics_calls.c */

#endif
