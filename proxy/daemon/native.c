/*
 * The daemon with the native engine: which engine it is, and the steps of the start that are other
 * ones then (engine/native.h, recover/native.h). Main thread.
 */
#include <stdio.h>

#include "daemon/daemon.h"
#include "engine/resolver.h"
#include "holdfast/clock.h"
#include "holdfast/event.h"
#include "holdfast/log.h"

/* Sessions whose newest transaction is remembered: some 300 bytes each. */
#define SESSIONS_MAX 200000u

enum status daemon_check_native(const struct config *config, struct error *error)
{
    const char *what = NULL;
    if (config->unit_boundary == CONFIG_BOUNDARY_OBSERVE) {
        return STATUS_OK;
    }
    if (config->unit_isolation == CONFIG_ISOLATION_SERIALIZABLE) {
        what = "unit.isolation: serializable";
    }
    return what == NULL
               ? STATUS_OK
               : error_set(error, STATUS_UNSUPPORTED,
                           "the native engine, which a replica set or a cluster is served with, "
                           "does not have %s: leave it out, or set unit.engine=journaled if this "
                           "proxy is the server's only writer",
                           what);
}

/* Nor does the journaled one follow servers. */
static enum status check_journaled(const struct config *config, struct error *error)
{
    return !upstream_uri_follows(config->upstream_uri)
               ? STATUS_OK
               : error_set(error, STATUS_UNSUPPORTED,
                           "upstream.uri names a replica set or several servers, and unit.engine "
                           "is journaled, which works with one server and no other: name that "
                           "one, without replicaSet=");
}

enum status daemon_choose_engine(struct daemon *daemon, struct error *error)
{
    struct upstream_description server;
    enum status status = upstream_describe(daemon->upstream, &server, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (server.wire_version_max < 9) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "the server is older than MongoDB 4.4 (wire version %d)",
                         server.wire_version_max);
    }
    bool standalone = server.topology == UPSTREAM_STANDALONE;
    daemon->upstream_kind = server.topology;
    if (standalone && daemon->config.unit_engine == CONFIG_ENGINE_NATIVE) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "unit.engine: native needs a server that has transactions of its own, a "
                         "replica set or a sharded cluster: this one is a standalone, for which "
                         "unit.engine is journaled or auto");
    }
    daemon->native = !standalone && daemon->config.unit_engine != CONFIG_ENGINE_JOURNALED;
    LOG(LOG_INFO, "main", "Engine chosen",
        LOG_TEXT("engine", daemon->native ? "native" : "journaled"),
        LOG_TEXT("server", standalone                                ? "standalone"
                           : server.topology == UPSTREAM_REPLICA_SET ? "replica set"
                                                                     : "mongos"));
    return daemon->native ? daemon_check_native(&daemon->config, error)
                          : check_journaled(&daemon->config, error);
}

enum status daemon_claim_native(struct daemon *daemon, struct error *error)
{
    return native_claim(daemon->wal, daemon->upstream, daemon->config.upstream_takeover, false,
                        error);
}

static void on_recovered(const struct native_unit *unit, void *context)
{
    const struct unit_history *history = unit->history;
    bool conflict = unit->state == WAL_UNIT_CONFLICT;
    (void)context;
    if (unit->left != NULL) {
        LOG(LOG_WARNING, "recovery",
            "A transaction that was open holds its documents until the server's own timeout",
            LOG_NUMBER("unit", history->unit), LOG_TEXT("user", history->begin.user),
            LOG_TEXT("reason", unit->left));
    }
    LOG(conflict ? LOG_ERROR : LOG_INFO, "recovery",
        conflict ? "Unit set aside as a conflict; see holdfast show"
                 : "The server has said how a transaction ended",
        LOG_NUMBER("unit", history->unit), LOG_TEXT("outcome", wal_unit_state_name(unit->state)),
        LOG_TEXT("user", history->begin.user), LOG_TEXT("client", history->begin.client),
        LOG_TEXT("appName", history->begin.application),
        LOG_HEX("session", history->begin.session_id.data, history->begin.session_id.size));
    if (conflict) {
        char number[24];
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)history->unit);
        event_tell(EVENT_UNIT_CONFLICT, number, "Unit %s: %s: see holdfast show %s", number,
                   unit->reason, number);
    }
}

enum status daemon_recover_native(struct daemon *daemon, struct error *error)
{
    const struct native_recovery_options options = {.unit_done = on_recovered};
    struct native_report report = {0};
    uint64_t started_us = clock_monotonic_us();
    enum status status = native_recover(daemon->wal, daemon->upstream, &options, &report, error);
    if (status == STATUS_OK) {
        admin_recovered(daemon->admin, clock_monotonic_us() - started_us);
        LOG(LOG_INFO, "recovery", "Recovery finished", LOG_NUMBER("committed", report.committed),
            LOG_NUMBER("lost", report.lost), LOG_NUMBER("conflictsNew", report.conflicts_new),
            LOG_NUMBER("conflictsLeft", report.conflicts_left));
    }
    return status;
}

enum status daemon_start_native(struct daemon *daemon, struct error *error)
{
    struct native_options options = {
        .counters = &daemon->engine.counters,
        .wal = daemon->wal,
        .upstream_uri = daemon->config.upstream_uri,
        .connect_ms = daemon->config.upstream_connect_ms,
        .sessions_max = SESSIONS_MAX,
        .audit_bytes = daemon->config.unit_audit_bytes,
    };
    enum status status = native_server_learn(daemon->upstream, &options.server, error);
    if (status == STATUS_OK && !options.server.keeps_transactions) {
        LOG(LOG_WARNING, "main",
            "The server does not keep across its own restart how transactions ended: a commit that "
            "is in doubt then is for the operator");
    }
    if (status == STATUS_OK) {
        status = daemon_make_engine(daemon, error);
    }
    if (status == STATUS_OK) {
        status = native_start(&options, &daemon->engine.native, error);
    }
    struct resolver_options resolver = {
        .engine = &daemon->engine,
        .upstream_uri = daemon->config.upstream_uri,
        .connect_ms = daemon->config.upstream_connect_ms,
    };
    return status == STATUS_OK ? resolver_start(&resolver, &daemon->engine.resolver, error)
                               : status;
}
