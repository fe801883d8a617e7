/*
 * The judgement of /readyz. The first thing that is missing is the reason.
 *
 * Threads: the admin server's.
 */
#include "admin/facts.h"

#include <inttypes.h>
#include <stdio.h>

#include "holdfast/clock.h"

const char *admin_phase_name(enum admin_phase phase)
{
    static const char *const names[] = {
#define X(name, text) [ADMIN_##name] = text,
        ADMIN_PHASE_LIST(X)
#undef X
    };
    return names[phase];
}

static bool upstream_answers(const struct admin_facts *facts, char *ret_reason)
{
    if (facts->upstream_failure[0] != '\0') {
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES, "the server does not answer: %s",
                       facts->upstream_failure);
        return false;
    }
    uint64_t silent_ms = clock_monotonic_ms() - facts->upstream_seen_ms;
    if (silent_ms > ADMIN_UPSTREAM_SILENCE_MS) {
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES,
                       "the server has not answered for %" PRIu64 " ms", silent_ms);
        return false;
    }
    return true;
}

bool admin_facts_ready(const struct admin_facts *facts, char ret_reason[ADMIN_REASON_BYTES])
{
    struct error error = {0};
    ret_reason[0] = '\0';
    if (facts->phase != ADMIN_SERVING) {
        bool standby = facts->phase == ADMIN_STANDBY;
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES, "%s%s%s", admin_phase_name(facts->phase),
                       standby ? ": " : "", standby ? facts->standby : "");
        return false;
    }
    if (!upstream_answers(facts, ret_reason)) {
        return false;
    }
    if (wal_check_writable(facts->wal, &error) != STATUS_OK) {
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES, "%s", error.message);
        return false;
    }
    return true;
}
