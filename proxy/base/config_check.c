/*
 * What the keys of a configuration need of each other, after all of them were read.
 *
 * Threads: one at a time per struct config.
 */

#include <arpa/inet.h>
#include <string.h>

#include "base/config_keys.h"
#include "base/config_services.h"

static enum status check_required(const struct config *config, struct error *ret_error)
{
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *key = &config_keys[i];
        const char *text = config_key_text(config, key);
        if (key->required && (text == NULL || text[0] == '\0')) {
            return error_set(ret_error, STATUS_INVALID,
                             "%s is missing: give --%s, or the key %s in the file of --config%s",
                             key->name, key->option, key->name,
                             key->type == CONFIG_TYPE_URI
                                 ? " (or upstream.uriFile, or HOLDFAST_UPSTREAM_URI)"
                                 : "");
        }
    }
    return STATUS_OK;
}

/* A listener of http.* on the address of any other: only one of the two could have it. */
static enum status check_listeners(const struct config *config, struct error *ret_error)
{
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *http = &config_keys[i];
        if (http->type != CONFIG_TYPE_LISTEN || strncmp(http->name, "http.", 5) != 0) {
            continue;
        }
        for (size_t j = 0; j < i; j++) {
            if (config_keys[j].type == CONFIG_TYPE_LISTEN &&
                config_listen_equal(config_key_text(config, http),
                                    config_key_text(config, &config_keys[j]))) {
                return error_set(ret_error, STATUS_INVALID, "%s and %s are the same address",
                                 config_keys[j].name, http->name);
            }
        }
    }
    return STATUS_OK;
}

/* By what is written: what a name stands for may change. */
static bool is_loopback(const char *listen)
{
    struct in_addr address;
    char host[16] = "";
    const char *colon = strrchr(listen, ':');
    size_t size = colon == NULL ? 0 : (size_t)(colon - listen);
    if (size < sizeof host) {
        memcpy(host, listen, size);
    }
    bool is_ipv4 = inet_pton(AF_INET, host, &address) == 1;
    return is_ipv4 ? ntohl(address.s_addr) >> 24 == 127
                   : strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static enum status check_admin(const struct config *config, struct error *ret_error)
{
    if (config->admin_listen[0] == '\0' || is_loopback(config->admin_listen) ||
        config->admin_token != NULL) {
        return STATUS_OK;
    }
    return error_set(ret_error, STATUS_INVALID,
                     "admin.listen: %s can be reached by others, which needs a token: give "
                     "admin.tokenFile, or HOLDFAST_ADMIN_TOKEN in the environment",
                     config->admin_listen);
}

static enum status check_tls(const struct config *config, struct error *ret_error)
{
    const char *net_key = config->net_tls_certificate_key_file;
    const char *http_key = config->http_tls_certificate_key_file;
    if (config->net_tls_mode != CONFIG_TLS_DISABLED && net_key[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "net.tls.mode needs net.tls.certificateKeyFile: a PEM file with "
                         "certificate and key");
    }
    if (config->net_tls_mode == CONFIG_TLS_DISABLED && config->net_tls_ca_file[0] != '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "net.tls.CAFile is of use only with net.tls.mode: no client is asked for "
                         "a certificate without TLS");
    }
    if (config->http_tls_mode != CONFIG_TLS_DISABLED && http_key[0] == '\0' && net_key[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "http.tls.mode needs http.tls.certificateKeyFile, or that of net.tls");
    }
    if (config->http_tls_mode == CONFIG_TLS_DISABLED && config->http_tls_ca_file[0] != '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "http.tls.CAFile is of use only with http.tls.mode");
    }
    return STATUS_OK;
}

static enum status check_http(const struct config *config, struct error *ret_error)
{
    bool listens = config->http_listen[0] != '\0';
    if (listens != (config->http_service[0] != '\0')) {
        return error_set(ret_error, STATUS_INVALID,
                         "http.listen and http.service need each other: %s is missing",
                         listens ? "http.service" : "http.listen");
    }
    if (!listens && (config->http_inside[0] != '\0' || config->http_peers[0] != '\0')) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s is of use only with http.listen and http.service",
                         config->http_inside[0] != '\0' ? "http.inside" : "http.peers");
    }
    if ((listens || config->services_count > 0) &&
        config->http_call_timeout_ms > config->unit_lifetime_ms) {
        return error_set(ret_error, STATUS_INVALID,
                         "http.callTimeout is longer than unit.lifetime (%llu ms and %llu ms): the "
                         "unit would be rolled back under a call that still runs; lower "
                         "http.callTimeout or raise unit.lifetime",
                         (unsigned long long)config->http_call_timeout_ms,
                         (unsigned long long)config->unit_lifetime_ms);
    }
    return STATUS_OK;
}

enum status config_check(const struct config *config, struct error *ret_error)
{
    enum status status = check_required(config, ret_error);
    if (status == STATUS_OK) {
        status = check_http(config, ret_error);
    }
    if (status == STATUS_OK) {
        status = check_listeners(config, ret_error);
    }
    if (status == STATUS_OK) {
        status = config_services_check(config, ret_error);
    }
    if (status == STATUS_OK) {
        status = check_tls(config, ret_error);
    }
    return status == STATUS_OK ? check_admin(config, ret_error) : status;
}
