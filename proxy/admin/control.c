/* Acting on the living proxy (control.h). */
#include "admin/control.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/query.h"
#include "engine/finish.h"
#include "engine/pause.h"
#include "holdfast/clock.h"

/* "unit=17", for the name "unit=". */
static bool parse_number(const char *query, const char *name, uint64_t *ret_number)
{
    char *end = NULL;
    size_t size = strlen(name);
    if (strncmp(query, name, size) != 0 || query[size] < '0' || query[size] > '9') {
        return false;
    }
    errno = 0;
    *ret_number = strtoull(query + size, &end, 10);
    return errno == 0 && *end == '\0';
}

int admin_control_rollback(const struct admin_facts *facts, const char *query,
                           struct evbuffer *body)
{
    static const char reason[] = "an operator rolled it back";
    uint64_t id = 0;
    bool found = false;
    if (!parse_number(query, "unit=", &id)) {
        (void)evbuffer_add_printf(body, "which unit? /rollback?unit=NUMBER\n");
        return 400;
    }
    if (facts->phase != ADMIN_SERVING) {
        (void)evbuffer_add_printf(body, "the proxy is %s\n", admin_phase_name(facts->phase));
        return 503;
    }
    struct unit *unit = unit_table_take(facts->engine->units, id, reason, &found);
    if (unit != NULL) {
        rollback_detached(facts->engine, unit, reason);
    }
    if (!found) {
        (void)evbuffer_add_printf(body, "unit %" PRIu64 " is not open\n", id);
        return 404;
    }
    if (unit == NULL) {
        (void)evbuffer_add_printf(body,
                                  "unit %" PRIu64
                                  " is at work: it is rolled back behind its command, unless that "
                                  "commits it, as a plain write does\n",
                                  id);
        return 202;
    }
    (void)evbuffer_add_printf(body, "unit %" PRIu64 " is being rolled back\n", id);
    return 200;
}

int admin_control_prune(const struct admin_facts *facts, const char *query, struct evbuffer *body)
{
    struct wal_prune_options options;
    uint64_t before_ms = 0;
    if (!parse_number(query, "before=", &before_ms)) {
        (void)evbuffer_add_printf(body, "before when? /prune?before=MILLISECONDS\n");
        return 400;
    }
    if (facts->phase != ADMIN_SERVING) {
        (void)evbuffer_add_printf(body, "the proxy is %s\n", admin_phase_name(facts->phase));
        return 503;
    }
    pruner_ask(facts->pruner, before_ms, &options);
    (void)evbuffer_add_printf(
        body,
        "{\"endedBefore\": %" PRIu64 ", \"requestsEndedBefore\": %" PRIu64
        ", \"settledLsn\": %" PRId64 "}\n",
        options.ended_before_ms,
        options.kept_prefix.size == 0 ? options.ended_before_ms : options.kept_ended_before_ms,
        options.settled_lsn > INT64_MAX ? INT64_C(-1) : (int64_t)options.settled_lsn);
    return 200;
}

int admin_control_drain(const struct admin_facts *facts, struct evbuffer *body)
{
    if (facts->phase != ADMIN_SERVING && facts->phase != ADMIN_DRAINING) {
        (void)evbuffer_add_printf(body, "the proxy is %s\n", admin_phase_name(facts->phase));
        return 503;
    }
    (void)kill(getpid(), SIGRTMIN); /* the main thread's, as all that changes the daemon */
    (void)evbuffer_add_printf(body, "{\"draining\":true}\n");
    return 202;
}

int admin_control_upgrade(const struct admin_facts *facts, struct evbuffer *body)
{
    if (facts->phase != ADMIN_SERVING) {
        (void)evbuffer_add_printf(body, "the proxy is %s\n", admin_phase_name(facts->phase));
        return 503;
    }
    if (strcmp(facts->upgrade_state, "none") != 0) {
        (void)evbuffer_add_printf(body, "an upgrade is under way\n");
        return 409;
    }
    (void)kill(getpid(), SIGUSR2);
    (void)evbuffer_add_printf(body, "{\"generation\": %" PRIu64 ", \"failed\": %" PRIu64 "}\n",
                              facts->generation, facts->upgrades_failed);
    return 202;
}

int admin_control_backup(const struct admin_facts *facts, const char *query, struct evbuffer *body)
{
    uint64_t for_ms = query_number(query, "for", UINT64_MAX);
    uint64_t keep_lsn = query_number(query, "keep", UINT64_MAX);
    enum pause_state state = PAUSE_NONE;
    struct error error = {0};
    enum status status = STATUS_OK;
    if (for_ms > ADMIN_BACKUP_MS_MAX) {
        (void)evbuffer_add_printf(body, "for how long? /backup?for=MILLISECONDS, up to %u\n",
                                  ADMIN_BACKUP_MS_MAX);
        return 400;
    }
    if (facts->phase != ADMIN_SERVING) {
        (void)evbuffer_add_printf(body, "the proxy is %s\n", admin_phase_name(facts->phase));
        return 503;
    }
    if (strcmp(facts->upgrade_state, "none") != 0) {
        (void)evbuffer_add_printf(body, "an upgrade is under way: try again\n");
        return 503;
    }
    if (facts->engine->pause == NULL) {
        (void)evbuffer_add_printf(body, "the server has transactions of its own: back it up as "
                                        "one does a replica set (mongodump --oplog)\n");
        return 409;
    }
    pruner_keep(facts->pruner, keep_lsn, for_ms == 0 ? 0 : clock_monotonic_ms() + for_ms);
    if (for_ms > 0 && query_number(query, "pause", 0) == 1) {
        status = pause_renew(facts->engine->pause, for_ms, &state, &error);
    } else {
        pause_end(facts->engine->pause);
    }
    if (status != STATUS_OK) {
        (void)evbuffer_add_printf(body, "%s\n", error.message);
        return 503;
    }
    (void)evbuffer_add_printf(body, "{\"pause\":\"%s\",\"unitsOpen\":%zu}\n",
                              pause_state_name(state), unit_table_open_count(facts->engine->units));
    return 200;
}
