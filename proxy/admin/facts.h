#ifndef HOLDFAST_ADMIN_FACTS_H
#define HOLDFAST_ADMIN_FACTS_H

/* What the pages are made of, and the judgement whether clients should be sent here. */

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "holdfast/wal.h"
#include "observe/observe.h"
#include "recover/pruner.h"
#include "route/router.h"
#include "service/services.h"
#include "telemetry/telemetry.h"

#define ADMIN_REASON_BYTES 640
/* The main thread talks to the server every LEASE_RENEW_MS; silence for longer than this counts. */
#define ADMIN_UPSTREAM_SILENCE_MS 5000u

#define ADMIN_PHASE_LIST(X)                                                                        \
    X(STARTING, "starting")                                                                        \
    X(STANDBY, "standby")                                                                          \
    X(RECOVERING, "recovering")                                                                    \
    X(SERVING, "serving")                                                                          \
    X(DRAINING, "draining")

enum admin_phase {
#define X(name, text) ADMIN_##name,
    ADMIN_PHASE_LIST(X)
#undef X
        ADMIN_PHASES
};

const char *admin_phase_name(enum admin_phase phase);

/* A copy for one answer. What it points to outlives the admin server. */
struct admin_facts {
    enum admin_phase phase;
    struct wal *wal;                  /* NULL: not open yet */
    struct engine *engine;            /* NULL: not serving yet */
    struct router *router;            /* NULL: not serving yet */
    struct services *services;        /* NULL: not serving yet */
    struct observe *observe;          /* NULL: not serving yet, or nothing is observed */
    struct pruner *pruner;            /* NULL: not serving yet */
    uint64_t started_ms;              /* monotonic */
    uint64_t upstream_seen_ms;        /* monotonic: the server's last answer; 0: none yet */
    char upstream_failure[512];       /* "" if the last talk went well */
    char standby[512];                /* STANDBY: for whom it waits */
    const char *directory;            /* of the journal; NULL: not open yet */
    const struct histogram *recovery; /* of this life */
    struct telemetry *telemetry;      /* NULL: nothing is sent anywhere */
    uint64_t generation;              /* as in struct admin_upgrade, and what follows */
    uint64_t upgrades_failed;
    const char *upgrade_state;
    char upgrade_failure[384];
};

/* What /readyz tells. */
struct admin_judgement {
    bool ready;
    /* A phase, or of a proxy that serves what is missing: "fenced", "leaseLost", "upstreamLost",
       "journalFull"; a literal. */
    const char *state;
    char reason[ADMIN_REASON_BYTES]; /* ASCII */
    size_t units;                    /* open */
    size_t calls;
    bool safe_to_remove; /* draining, and nothing is left to end */
};

void admin_facts_judge(const struct admin_facts *facts, struct admin_judgement *ret_judgement);

/* Whether the server answers; how long ago it has, in any case. Of a proxy that serves. */
bool admin_facts_upstream_up(const struct admin_facts *facts, uint64_t *ret_silent_ms);

#endif
