#ifndef HOLDFAST_TELEMETRY_BODIES_H
#define HOLDFAST_TELEMETRY_BODIES_H

/*
 * What is posted, as JSON. Texts that are not UTF-8 have "?" for what is not ASCII. Pure; any
 * thread. Results are for bson_free(); NULL: out of memory.
 */

#include <stddef.h>

#include "holdfast/event.h"
#include "holdfast/span.h"

/* An ExportTraceServiceRequest in the JSON of OTLP 1.x: identifiers in hexadecimal, times and
   64-bit numbers as texts. `instance`: service.instance.id. */
char *bodies_spans(const char *instance, const struct span *spans, size_t count);

/* { type, reason, message, time, involvedObject: { kind, name }, source: { component, instance } }
 */
char *bodies_event(const char *instance, const struct event_notice *notice);

#endif
