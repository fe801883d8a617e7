/*
 * What the settings mean for the running daemon: their check, and SIGHUP. Main thread.
 */
#include "daemon/daemon.h"
#include "front/routes.h"
#include "holdfast/log.h"

enum status daemon_check_settings(const struct config *config, struct error *error)
{
    struct routes *routes = NULL;
    enum status status = routes_parse(config->http_routes, &routes, error);
    routes_free(routes);
    if (status != STATUS_OK) {
        return error_prefix(error, "http.routes");
    }
    if (config->unit_engine == CONFIG_ENGINE_NATIVE) {
        status = daemon_check_native(config, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (config->trace_endpoint[0] != '\0' &&
        telemetry_check_url(config->trace_endpoint, error) != STATUS_OK) {
        return error_prefix(error, "trace.endpoint");
    }
    if (config->event_webhook[0] != '\0' &&
        telemetry_check_url(config->event_webhook, error) != STATUS_OK) {
        return error_prefix(error, "event.webhook");
    }
    struct upstream *upstream = NULL;
    status = upstream_open(config->upstream_uri, config->upstream_connect_ms, &upstream, error);
    upstream_close(upstream);
    if (status != STATUS_OK) {
        return error_prefix(error, "upstream.uri");
    }
    struct daemon_tls tls;
    status = daemon_make_tls(config, &tls, error);
    if (status == STATUS_OK) {
        daemon_free_tls(&tls);
    }
    return status;
}

void daemon_set_engine_limits(struct engine *engine, const struct config *config)
{
    atomic_store(&engine->lock_wait_ms, config->unit_lock_wait_ms);
    atomic_store(&engine->plain_wait_ms, config->unit_lifetime_ms);
    atomic_store(&engine->unit_writes_max, config->unit_writes_max);
    atomic_store(&engine->unit_bytes_max, config->unit_bytes_max);
    if (engine->native != NULL) {
        native_set_audit_bytes(engine->native, config->unit_audit_bytes);
    }
}

static void on_changed(void *context, const char *key, bool live)
{
    size_t *changes = context;
    ++*changes;
    if (live) {
        LOG(LOG_INFO, "config", "Setting changed", LOG_TEXT("key", key));
    } else {
        LOG(LOG_WARNING, "config", "This setting needs a restart to change", LOG_TEXT("key", key));
    }
}

void daemon_reload(struct daemon *daemon)
{
    struct config next;
    struct error error = {0};
    enum config_action action = CONFIG_RUN;
    enum status status =
        config_from_arguments(daemon->argument_count, daemon->arguments, &next, &action, &error);
    if (status == STATUS_OK) {
        status = daemon_check_settings(&next, &error);
    }
    if (status == STATUS_OK) {
        size_t changes = 0;
        config_take_over(&daemon->config, &next, on_changed, &changes);
        const struct config *config = &daemon->config;
        log_set_level(config->log_level);
        daemon_reopen_log();
        admin_set_token(daemon->admin, next.admin_token);
        daemon_reload_tls(daemon);
        daemon_set_engine_limits(&daemon->engine, config);
        unit_table_set_units_max(daemon->engine.units, (size_t)config->unit_count_max);
        lock_table_set_locks_max(daemon->engine.locks, (size_t)config->unit_locks_max);
        pruner_set_retention(daemon->pruner, config->wal_retention_ms);
        services_set_limits(daemon->services, config);
        router_set_limits(daemon->router, daemon_connections_max(daemon), config->net_address_max,
                          config->unit_lifetime_ms);
        LOG(LOG_INFO, "config", "Configuration read again", LOG_NUMBER("changes", changes));
    } else {
        LOG(LOG_ERROR, "config", "The new configuration is refused; the running one stays",
            LOG_TEXT("reason", error.message));
    }
    config_free(&next);
}
