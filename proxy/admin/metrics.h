#ifndef HOLDFAST_ADMIN_METRICS_H
#define HOLDFAST_ADMIN_METRICS_H

/* The page /metrics: counters in the Prometheus text format, version 0.0.4. */

#include <event2/buffer.h>

#include "admin/facts.h"

#define ADMIN_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/*
 * Appends what is known by now: build and readiness always, the journal once it is open, clients
 * and units while serving, and what is observed. Returns the HTTP status, 200.
 */
int admin_metrics_write(const struct admin_facts *facts, struct evbuffer *body);

#endif
