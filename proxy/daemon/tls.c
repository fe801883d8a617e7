/*
 * TLS as the settings want it: with clients, with HTTP callers, with the server, with services.
 * Main thread.
 */
#include <stdlib.h>

#include "daemon/daemon.h"
#include "holdfast/log.h"

static enum tls_version version_of(const struct config *config)
{
    return config->net_tls_version == CONFIG_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
}

static enum status make_net(const struct config *config, struct tls **ret_tls, struct error *error)
{
    const struct tls_options options = {
        .certificate_key_file = config->net_tls_certificate_key_file,
        .ca_file = config->net_tls_ca_file,
        .certificate_optional = config->net_tls_clients == CONFIG_TLS_CLIENTS_OPTIONAL,
        .version_min = version_of(config),
        .handshake_ms = (unsigned)config->net_handshake_ms,
    };
    return config->net_tls_mode == CONFIG_TLS_DISABLED      ? STATUS_OK
           : tls_new(&options, ret_tls, error) == STATUS_OK ? STATUS_OK
                                                            : error_prefix(error, "net.tls");
}

static enum status make_http(const struct config *config, struct tls **ret_tls, struct error *error)
{
    const char *own = config->http_tls_certificate_key_file;
    const struct tls_options options = {
        .certificate_key_file = own[0] == '\0' ? config->net_tls_certificate_key_file : own,
        .ca_file = config->http_tls_ca_file,
        .http = true,
        .version_min = version_of(config),
        .handshake_ms = (unsigned)config->net_handshake_ms,
    };
    return config->http_tls_mode == CONFIG_TLS_DISABLED     ? STATUS_OK
           : tls_new(&options, ret_tls, error) == STATUS_OK ? STATUS_OK
                                                            : error_prefix(error, "http.tls");
}

static enum status make_upstream(const struct config *config, struct tls **ret_tls,
                                 struct error *error)
{
    struct upstream_tls wanted;
    enum status status = upstream_tls(config->upstream_uri, &wanted, error);
    if (status != STATUS_OK || !wanted.on) {
        return status;
    }
    const struct tls_options options = {
        .is_client = true,
        .certificate_key_file = wanted.certificate_key_file,
        .password = wanted.certificate_key_password,
        .ca_file = wanted.ca_file,
        .allow_invalid_certificates = wanted.allow_invalid_certificates,
        .allow_invalid_hostnames = wanted.allow_invalid_hostnames,
        .host = wanted.host,
        .version_min = version_of(config),
        .handshake_ms = (unsigned)config->upstream_connect_ms,
    };
    status = tls_new(&options, ret_tls, error);
    return status == STATUS_OK ? STATUS_OK : error_prefix(error, "upstream.uri");
}

static enum status make_service(const struct config *config, const struct config_service *service,
                                struct tls **ret_tls, struct error *error)
{
    struct config_service_tls wanted;
    config_service_tls(config, service, &wanted);
    const struct tls_options options = {
        .is_client = true,
        .certificate_key_file = wanted.certificate_key_file,
        .ca_file = wanted.ca_file,
        .host = wanted.server_name,
        .version_min = version_of(config),
        .handshake_ms = FRONT_CONNECT_MS,
    };
    return !wanted.on ? STATUS_OK
           : tls_new(&options, ret_tls, error) == STATUS_OK
               ? STATUS_OK
               : error_prefix(error, "service %s: TLS", service->name);
}

static enum status make_services(const struct config *config, struct daemon_tls *tls,
                                 struct error *error)
{
    struct config_service *services = NULL;
    size_t count = 0;
    enum status status = config_services_complete(config, &services, &count, error);
    if (status == STATUS_OK && count > 0) {
        tls->services = calloc(count, sizeof(struct tls *));
        status = tls->services == NULL ? error_set(error, STATUS_MEMORY, "out of memory") : status;
    }
    while (status == STATUS_OK && tls->service_count < count) {
        size_t i = tls->service_count++;
        status = make_service(config, &services[i], &tls->services[i], error);
    }
    config_services_free(services, count);
    return status;
}

enum status daemon_make_tls(const struct config *config, struct daemon_tls *ret_tls,
                            struct error *error)
{
    struct daemon_tls tls = {0};
    enum status status = make_net(config, &tls.net, error);
    if (status == STATUS_OK) {
        status = make_http(config, &tls.http, error);
    }
    if (status == STATUS_OK) {
        status = make_upstream(config, &tls.upstream, error);
    }
    if (status == STATUS_OK) {
        status = make_services(config, &tls, error);
    }
    if (status != STATUS_OK) {
        daemon_free_tls(&tls);
        return status;
    }
    *ret_tls = tls;
    return STATUS_OK;
}

static void reload(struct tls *tls, const char *what)
{
    struct error error = {0};
    if (tls == NULL) {
        return;
    }
    if (tls_reload(tls, &error) != STATUS_OK) {
        LOG(LOG_ERROR, "tls", "The new certificate is refused; the running one stays",
            LOG_TEXT("setting", what), LOG_TEXT("reason", error.message));
        return;
    }
    int days = tls_expires_days(tls);
    LOG(LOG_INFO, "tls", "Certificates read again", LOG_TEXT("setting", what),
        LOG_NUMBER("expiresInDays", days < 0 ? 0 : (uint64_t)days));
}

void daemon_reload_tls(struct daemon *daemon)
{
    reload(daemon->tls.net, "net.tls");
    reload(daemon->tls.http, "http.tls");
    reload(daemon->tls.upstream, "upstream.uri");
    for (size_t i = 0; i < daemon->tls.service_count; i++) {
        reload(daemon->tls.services[i], "http.upstreamTls");
    }
}

void daemon_free_tls(struct daemon_tls *tls)
{
    tls->net = tls_free(tls->net);
    tls->http = tls_free(tls->http);
    tls->upstream = tls_free(tls->upstream);
    for (size_t i = 0; i < tls->service_count; i++) {
        tls_free(tls->services[i]);
    }
    free(tls->services);
    tls->services = NULL;
    tls->service_count = 0;
}
