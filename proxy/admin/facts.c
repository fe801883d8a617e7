/*
 * The judgement of /readyz. The first thing that is missing is the reason.
 *
 * Threads: the admin server's.
 */
#include "admin/facts.h"

#include <inttypes.h>
#include <stdio.h>

#include "holdfast/clock.h"
#include "holdfast/write_permit.h"

const char *admin_phase_name(enum admin_phase phase)
{
    static const char *const names[] = {
#define X(name, text) [ADMIN_##name] = text,
        ADMIN_PHASE_LIST(X)
#undef X
    };
    return names[phase];
}

bool admin_facts_upstream_up(const struct admin_facts *facts, uint64_t *ret_silent_ms)
{
    *ret_silent_ms = clock_monotonic_ms() - facts->upstream_seen_ms;
    return facts->upstream_failure[0] == '\0' && *ret_silent_ms <= ADMIN_UPSTREAM_SILENCE_MS;
}

static bool upstream_answers(const struct admin_facts *facts, char *ret_reason)
{
    uint64_t silent_ms = 0;
    bool up = admin_facts_upstream_up(facts, &silent_ms);
    if (!up && facts->upstream_failure[0] != '\0') {
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES, "the server does not answer: %s",
                       facts->upstream_failure);
    } else if (!up) {
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES,
                       "the server has not answered for %" PRIu64 " ms", silent_ms);
    }
    return up;
}

/* NULL: every domain takes calls. */
static const char *closed_domain(const struct services *services)
{
    for (size_t i = 0; i < services_domain_count(services); i++) {
        struct domain_figures figures;
        domain_figures_get(services_domain(services, i), &figures);
        if (figures.closed) {
            return figures.name;
        }
    }
    return NULL;
}

static const char *missing(const struct admin_facts *facts, char *ret_reason)
{
    struct error error = {0};
    const char *domain = closed_domain(facts->services);
    if (!write_permit_is_up()) {
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES,
                       "the lease could not be renewed: nothing is sent to the server");
        return "leaseLost";
    }
    if (!upstream_answers(facts, ret_reason)) {
        return "upstreamLost";
    }
    if (wal_check_writable(facts->wal, &error) != STATUS_OK) {
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES, "%s", error.message);
        return "journalFull";
    }
    if (domain != NULL) {
        (void)snprintf(ret_reason, ADMIN_REASON_BYTES,
                       "fenced: a handler may have outlived its call in the domain %s", domain);
        return "fenced";
    }
    return NULL;
}

/* A text of the server's need not be UTF-8; JSON must be. */
static void make_ascii(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text >= 0x80) {
            *text = '?';
        }
    }
}

void admin_facts_judge(const struct admin_facts *facts, struct admin_judgement *ret_judgement)
{
    *ret_judgement = (struct admin_judgement){.state = admin_phase_name(facts->phase)};
    if (facts->engine != NULL) {
        ret_judgement->units = unit_table_open_count(facts->engine->units);
        ret_judgement->calls = services_calls(facts->services);
    }
    if (facts->phase == ADMIN_SERVING) {
        const char *what = missing(facts, ret_judgement->reason);
        make_ascii(ret_judgement->reason);
        ret_judgement->ready = what == NULL;
        ret_judgement->state = what == NULL ? ret_judgement->state : what;
        return;
    }
    bool standby = facts->phase == ADMIN_STANDBY;
    (void)snprintf(ret_judgement->reason, ADMIN_REASON_BYTES, "%s%s%s",
                   admin_phase_name(facts->phase), standby ? ": " : "",
                   standby ? facts->standby : "");
    make_ascii(ret_judgement->reason);
    ret_judgement->safe_to_remove =
        facts->phase == ADMIN_DRAINING && ret_judgement->units == 0 && ret_judgement->calls == 0;
}
