#ifndef HOLDFAST_EVENT_H
#define HOLDFAST_EVENT_H

/*
 * Events: what an operator is to be told of, in the manner of a Kubernetes Event. Each is a line in
 * the log (component "event", with type, reason, message and involvedObject) and goes to the sink,
 * if there is one (telemetry/telemetry.h).
 *
 * Never documents' contents. Nothing here waits. Threads: any; the sink is set before others run
 * and taken away after they have ended.
 */

#include <stdint.h>

/* reason, its type, the kind of object that it is about */
#define EVENT_LIST(X)                                                                              \
    X(UNIT_CONFLICT, "UnitConflict", "Warning", "Unit")                                            \
    X(UNITS_ROLLED_BACK, "UnitsRolledBack", "Warning", "Proxy")                                    \
    X(UNITS_REDONE, "UnitsRedone", "Warning", "Proxy")                                             \
    X(JOURNAL_NEARLY_FULL, "JournalNearlyFull", "Warning", "Journal")                              \
    X(JOURNAL_HAS_ROOM, "JournalHasRoom", "Normal", "Journal")                                     \
    X(UPSTREAM_LOST, "UpstreamLost", "Warning", "Upstream")                                        \
    X(UPSTREAM_BACK, "UpstreamBack", "Normal", "Upstream")                                         \
    X(UPSTREAM_RESTARTED, "UpstreamRestarted", "Warning", "Upstream")                              \
    X(PRIMARY_LOST, "PrimaryLost", "Warning", "Upstream")                                          \
    X(PRIMARY_CHANGED, "PrimaryChanged", "Normal", "Upstream")                                     \
    X(LEASE_LOST, "LeaseLost", "Warning", "Proxy")                                                 \
    X(LEASE_BACK, "LeaseBack", "Normal", "Proxy")                                                  \
    X(STANDBY_TOOK_OVER, "StandbyTookOver", "Normal", "Proxy")                                     \
    X(UPGRADE_FINISHED, "UpgradeFinished", "Normal", "Proxy")                                      \
    X(UPGRADE_FAILED, "UpgradeFailed", "Warning", "Proxy")

enum event_kind {
#define X(name, reason, type, object) EVENT_##name,
    EVENT_LIST(X)
#undef X
        EVENT_KINDS
};

const char *event_reason(enum event_kind kind);
const char *event_type(enum event_kind kind);   /* "Normal", "Warning" */
const char *event_object(enum event_kind kind); /* "Unit", "Journal", "Upstream", "Proxy" */

struct event_notice {
    enum event_kind kind;
    uint64_t time_ms; /* wall clock */
    char object_name[128];
    char message[384];
};

struct event_sink {
    /* Copies it, or drops and counts it. Must not block. */
    void (*take)(void *context, const struct event_notice *notice);
    void *context;
};

/* NULL: none. `sink` is copied. */
void event_set_sink(const struct event_sink *sink);

/* `object_name`: which unit ("17"), journal directory, upstream (host and port). */
void event_tell(enum event_kind kind, const char *object_name, const char *message_format, ...)
    __attribute__((format(printf, 3, 4)));

/* How often each was told since the start. */
uint64_t event_count(enum event_kind kind);

#endif
