#ifndef HOLDFAST_UNIT_UNIT_LOG_H
#define HOLDFAST_UNIT_UNIT_LOG_H

/* Fields of a log line that concerns a unit: which one, of which trace and session, and whose. */

#include "holdfast/log.h"
#include "unit/unit.h"

#define LOG_UNIT(unit_)                                                                            \
    LOG_NUMBER("unit", (unit_)->id), LOG_HEX("trace", (unit_)->trace.trace_id, SPAN_TRACE_BYTES),  \
        LOG_HEX("session", (unit_)->session_id, UNIT_SESSION_ID_BYTES),                            \
        LOG_TEXT("user", (unit_)->user), LOG_TEXT("client", (unit_)->client),                      \
        LOG_TEXT("appName", (unit_)->application)

#endif
