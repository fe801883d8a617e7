/*
 * The list of HTTP services: what a service is made of, and what it may not share with another.
 *
 * Invariant: in a list that config_services_read() or config_services_complete() has made no text
 * is NULL, so that nobody has to ask.
 *
 * Threads: one at a time per list.
 */

#include "base/config_services.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct config_service, field)

const struct config_service_field config_service_fields[CONFIG_SERVICE_FIELDS] = {
    {"name", CONFIG_TYPE_NAME, AT(name), .required = true, .unique = true},
    {"listen", CONFIG_TYPE_LISTEN, AT(listen), .required = true},
    {"service", CONFIG_TYPE_CONNECT, AT(service), .required = true, .of_instance = true},
    {"inside", CONFIG_TYPE_LISTEN, AT(inside)},
    {"peers", CONFIG_TYPE_ADDRESSES, AT(peers)},
    {"mongo", CONFIG_TYPE_LISTEN, AT(mongo), .tells_apart = true, .of_instance = true},
    {"appName", CONFIG_TYPE_TEXT, AT(application), .tells_apart = true, .unique = true,
     .of_instance = true},
    {"address", CONFIG_TYPE_ADDRESS, AT(address), .tells_apart = true, .unique = true,
     .of_instance = true},
    {"domain", CONFIG_TYPE_NAME, AT(domain)},
    {"upstreamProtocol", CONFIG_TYPE_NAME, AT(protocol)},
    {"upstreamTls", CONFIG_TYPE_NAME, AT(tls_mode)},
    {"upstreamTlsCAFile", CONFIG_TYPE_FILE, AT(tls_ca_file)},
    {"upstreamTlsCertificateKeyFile", CONFIG_TYPE_FILE, AT(tls_certificate_key_file)},
    {"upstreamTlsServerName", CONFIG_TYPE_TEXT, AT(tls_server_name)},
};

const struct config_service_field *config_service_field_find(const char *name)
{
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS; i++) {
        if (strcmp(config_service_fields[i].name, name) == 0) {
            return &config_service_fields[i];
        }
    }
    return NULL;
}

static char *text_of(const struct config_service *service, const struct config_service_field *field)
{
    char *text = NULL;
    memcpy(&text, (const char *)service + field->offset, sizeof(text));
    return text;
}

const char *config_service_text(const struct config_service *service,
                                const struct config_service_field *field)
{
    const char *text = text_of(service, field);
    return text == NULL ? "" : text;
}

/* The one spelling of an address that inet_ntop() has, for comparisons; other texts as they are. */
static const char *one_spelling(const char *text, enum config_type type,
                                char space[INET6_ADDRSTRLEN])
{
    struct in6_addr address;
    const void *from = &address;
    int family = strchr(text, ':') == NULL ? AF_INET : AF_INET6;
    if (type != CONFIG_TYPE_ADDRESS || inet_pton(family, text, &address) != 1) {
        return text;
    }
    if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address)) {
        family = AF_INET; /* the same client, by another socket */
        from = &address.s6_addr[12];
    }
    const char *written = inet_ntop(family, from, space, INET6_ADDRSTRLEN);
    return written == NULL ? text : written;
}

enum status config_service_set(struct config_service *service,
                               const struct config_service_field *field, const char *text,
                               struct error *ret_error)
{
    char space[INET6_ADDRSTRLEN];
    char *copy = strdup(one_spelling(text, field->type, space));
    if (copy == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "services: out of memory");
    }
    free(text_of(service, field));
    memcpy((char *)service + field->offset, &copy, sizeof(copy));
    return STATUS_OK;
}

static enum status fill_instances(struct config_service *service, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < service->instances_count && status == STATUS_OK; i++) {
        status = config_service_set(&service->instances[i], &config_service_fields[0],
                                    service->name, ret_error);
        if (status == STATUS_OK) {
            status = config_service_fill(&service->instances[i], ret_error);
        }
    }
    return status;
}

enum status config_service_fill(struct config_service *service, struct error *ret_error)
{
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS; i++) {
        const struct config_service_field *field = &config_service_fields[i];
        bool is_domain = field->offset == AT(domain);
        if (text_of(service, field) != NULL && (!is_domain || service->domain[0] != '\0')) {
            continue;
        }
        enum status status =
            config_service_set(service, field, is_domain ? service->name : "", ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return fill_instances(service, ret_error);
}

void config_services_free(struct config_service *services, size_t count)
{
    for (size_t i = 0; services != NULL && i < count; i++) {
        config_services_free(services[i].instances, services[i].instances_count);
        for (size_t j = 0; j < CONFIG_SERVICE_FIELDS; j++) {
            free(text_of(&services[i], &config_service_fields[j]));
        }
    }
    free(services);
}

static bool lists_are_equal(const struct config_service *one, size_t one_count,
                            const struct config_service *other, size_t other_count)
{
    if (one_count != other_count) {
        return false;
    }
    for (size_t i = 0; i < one_count; i++) {
        for (size_t j = 0; j < CONFIG_SERVICE_FIELDS; j++) {
            const struct config_service_field *field = &config_service_fields[j];
            if (strcmp(config_service_text(&one[i], field),
                       config_service_text(&other[i], field)) != 0) {
                return false;
            }
        }
        if (!lists_are_equal(one[i].instances, one[i].instances_count, other[i].instances,
                             other[i].instances_count)) {
            return false;
        }
    }
    return true;
}

bool config_services_equal(const struct config *one, const struct config *other)
{
    return lists_are_equal(one->services, one->services_count, other->services,
                           other->services_count);
}

static enum status copy_service(const struct config_service *from, struct config_service *to,
                                struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS && status == STATUS_OK; i++) {
        const struct config_service_field *field = &config_service_fields[i];
        status = config_service_set(to, field, config_service_text(from, field), ret_error);
    }
    if (status == STATUS_OK && from->instances_count > 0) {
        to->instances = calloc(from->instances_count, sizeof(*to->instances));
        if (to->instances == NULL) {
            return error_set(ret_error, STATUS_MEMORY, "services: out of memory");
        }
        to->instances_count = from->instances_count;
    }
    for (size_t i = 0; i < from->instances_count && status == STATUS_OK; i++) {
        status = copy_service(&from->instances[i], &to->instances[i], ret_error);
    }
    return status;
}

/* What http.* and net.listen are: a service that has all of net.listen to itself. */
static enum status copy_keys(const struct config *config, struct config_service *to,
                             struct error *ret_error)
{
    char name[] = "service";
    char domain[] = "default";
    const struct config_service keys = {
        .name = name,
        .listen = config->http_listen,
        .service = config->http_service,
        .inside = config->http_inside,
        .peers = config->http_peers,
        .domain = domain,
    };
    return copy_service(&keys, to, ret_error);
}

enum status config_services_complete(const struct config *config,
                                     struct config_service **ret_services, size_t *ret_count,
                                     struct error *ret_error)
{
    size_t first = config->http_listen[0] == '\0' ? 0 : 1;
    size_t count = first + config->services_count;
    if (count == 0) {
        *ret_services = NULL;
        *ret_count = 0;
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    struct config_service *services = calloc(count, sizeof(*services));
    if (services == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "services: out of memory");
    }
    if (first > 0) {
        status = copy_keys(config, &services[0], ret_error);
    }
    for (size_t i = 0; i < config->services_count && status == STATUS_OK; i++) {
        status = copy_service(&config->services[i], &services[first + i], ret_error);
    }
    if (status != STATUS_OK) {
        config_services_free(services, count);
        return status;
    }
    *ret_services = services;
    *ret_count = count;
    return STATUS_OK;
}

/* ---- what may not be the same */

bool config_listen_equal(const char *one, const char *other)
{
    size_t size = strlen(one);
    return size > 2 && strcmp(one + size - 2, ":0") != 0 && strcasecmp(one, other) == 0;
}

/* The first address to listen on that both have, as the fields that name it; false: none. */
static bool share_listen(const struct config_service *one, const struct config_service *other,
                         const struct config_service_field **ret_one,
                         const struct config_service_field **ret_other)
{
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS; i++) {
        const struct config_service_field *field = &config_service_fields[i];
        for (size_t j = 0; field->type == CONFIG_TYPE_LISTEN && j < CONFIG_SERVICE_FIELDS; j++) {
            const struct config_service_field *second = &config_service_fields[j];
            if (second->type == CONFIG_TYPE_LISTEN && (one != other || i != j) &&
                config_listen_equal(config_service_text(one, field),
                                    config_service_text(other, second))) {
                *ret_one = field;
                *ret_other = second;
                return true;
            }
        }
    }
    return false;
}

/* In the order of the enums, as http.upstreamProtocol and http.upstreamTls.mode have them. */
static const char *const protocols[] = {"auto", "http1", "h2c", "h2"};
static const char *const tls_modes[] = {"disabled", "requireTLS"};
#define PROTOCOLS (sizeof protocols / sizeof protocols[0])
#define TLS_MODES (sizeof tls_modes / sizeof tls_modes[0])

/* `count` if it is none of them. */
static size_t find_word(const char *text, const char *const *words, size_t count)
{
    size_t at = 0;
    while (at < count && strcmp(text, words[at]) != 0) {
        at++;
    }
    return at;
}

enum config_upstream_protocol config_service_protocol(const struct config *config,
                                                      const struct config_service *service)
{
    size_t found = find_word(service->protocol, protocols, PROTOCOLS);
    return found < PROTOCOLS ? (enum config_upstream_protocol)found
                             : config->http_upstream_protocol;
}

static const char *own_or(const char *own, const char *common)
{
    return own[0] == '\0' ? common : own;
}

/* Of HOST:PORT, IPv6 without its brackets. */
static void host_of(const char *address, char host[CONFIG_HOST_BYTES])
{
    bool bracketed = address[0] == '[';
    const char *from = bracketed ? address + 1 : address;
    const char *end = bracketed ? strchr(from, ']') : strrchr(from, ':');
    size_t size = end == NULL ? strlen(from) : (size_t)(end - from);
    size = size < CONFIG_HOST_BYTES ? size : CONFIG_HOST_BYTES - 1u;
    memcpy(host, from, size);
    host[size] = '\0';
}

void config_service_tls(const struct config *config, const struct config_service *service,
                        struct config_service_tls *ret_tls)
{
    size_t mode = find_word(service->tls_mode, tls_modes, TLS_MODES);
    const char *name = own_or(service->tls_server_name, config->http_upstream_tls_server_name);
    *ret_tls = (struct config_service_tls){
        .on = (mode < TLS_MODES ? mode : (size_t)config->http_upstream_tls_mode) ==
              CONFIG_UPSTREAM_TLS_REQUIRE,
        .ca_file = own_or(service->tls_ca_file, config->http_upstream_tls_ca_file),
        .certificate_key_file = own_or(service->tls_certificate_key_file,
                                       config->http_upstream_tls_certificate_key_file),
    };
    if (name[0] == '\0') {
        host_of(service->service, ret_tls->server_name);
    } else {
        (void)snprintf(ret_tls->server_name, sizeof ret_tls->server_name, "%s", name);
    }
}

static enum status check_word(const char *name, const char *text, const char *const *words,
                              size_t count, const char *all, struct error *ret_error)
{
    return text == NULL || text[0] == '\0' || find_word(text, words, count) < count
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID, "%s: \"%.60s\" is not one of %s", name, text,
                           all);
}

static enum status check_given(const struct config_service *service, struct error *ret_error)
{
    size_t told_apart = 0;
    bool has_instances = service->instances_count > 0;
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS; i++) {
        const struct config_service_field *field = &config_service_fields[i];
        bool given = config_service_text(service, field)[0] != '\0';
        if (has_instances && field->of_instance) {
            if (given) {
                return error_set(ret_error, STATUS_INVALID,
                                 "\"%s\" has instances: %s is each one's own", service->name,
                                 field->name);
            }
            continue;
        }
        told_apart += field->tells_apart && given ? 1 : 0;
        if (field->required && !given) {
            return error_set(ret_error, STATUS_INVALID, "%s is missing", field->name);
        }
    }
    enum status status = config_application_check(service, ret_error);
    if (status == STATUS_OK) {
        status = check_word("upstreamProtocol", service->protocol, protocols, PROTOCOLS,
                            "auto, http1, h2c and h2", ret_error);
    }
    if (status == STATUS_OK) {
        status = check_word("upstreamTls", service->tls_mode, tls_modes, TLS_MODES,
                            "disabled and requireTLS", ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (told_apart != 1 && !has_instances) {
        return error_set(ret_error, STATUS_INVALID,
                         "\"%s\" wants exactly one of mongo, appName and address, by which its "
                         "mongo connections are told apart",
                         service->name);
    }
    return STATUS_OK;
}

enum status config_service_check(const struct config_service *services, size_t index,
                                 struct error *ret_error)
{
    const struct config_service *service = &services[index];
    enum status status = check_given(service, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i <= index; i++) {
        const struct config_service_field *field = NULL;
        const struct config_service_field *other = NULL;
        status = config_instances_check(service, &services[i], ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        for (size_t j = 0; i < index && j < CONFIG_SERVICE_FIELDS; j++) {
            field = &config_service_fields[j];
            const char *text = config_service_text(service, field);
            if (field->unique && text[0] != '\0' &&
                strcmp(text, config_service_text(&services[i], field)) == 0) {
                return error_set(ret_error, STATUS_INVALID,
                                 "the %s \"%.200s\" is given to two services", field->name, text);
            }
        }
        if (share_listen(service, &services[i], &field, &other)) {
            return error_set(ret_error, STATUS_INVALID,
                             "%s of \"%s\" is the same address as %s of \"%s\"", field->name,
                             service->name, other->name, services[i].name);
        }
    }
    return STATUS_OK;
}

/*
 * With http.listen every connection to net.listen is linked to http.service as it is accepted, so
 * what a rule told of it later would come too late: its writes would be of that service's calls.
 */
static enum status check_beside_http_listen(const struct config_service *services, size_t count,
                                            struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const struct config_service *service = &services[i];
        if (service->application[0] != '\0' || service->address[0] != '\0') {
            return error_set(ret_error, STATUS_INVALID,
                             "services: \"%s\": with http.listen all of net.listen is "
                             "http.service's: appName and address cannot be told apart there, "
                             "give it mongo",
                             service->name);
        }
        status = check_beside_http_listen(service->instances, service->instances_count, ret_error);
    }
    return status;
}

/* What cannot be had with instances. */
static enum status check_instances(const struct config *config,
                                   const struct config_service *service, struct error *ret_error)
{
    if (service->instances_count > 0 && config->http_correlation == CONFIG_CORRELATION_TRACE) {
        return error_set(ret_error, STATUS_INVALID,
                         "services: \"%s\" has instances, which tell calls apart by themselves: "
                         "http.correlation: trace cannot be had with them",
                         service->name);
    }
    if (service->instances_count > 0 && config->http_reads == CONFIG_READS_WAIT) {
        return error_set(ret_error, STATUS_INVALID,
                         "services: \"%s\" has instances, and some call may always be open: "
                         "http.reads: wait cannot be had with them",
                         service->name);
    }
    return STATUS_OK;
}

static enum status check_against_key(const struct config_service *service,
                                     const struct config_key *key, const char *text,
                                     struct error *ret_error)
{
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS; i++) {
        const struct config_service_field *field = &config_service_fields[i];
        if (field->type == CONFIG_TYPE_LISTEN &&
            config_listen_equal(config_service_text(service, field), text)) {
            return error_set(ret_error, STATUS_INVALID,
                             "services: %s of \"%s\" is the same address as %s", field->name,
                             service->name, key->name);
        }
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < service->instances_count && status == STATUS_OK; i++) {
        status = check_against_key(&service->instances[i], key, text, ret_error);
    }
    return status;
}

/* What is said of TLS with a service fits together. */
static enum status check_tls(const struct config *config, const struct config_service *service,
                             struct error *ret_error)
{
    struct config_service_tls tls;
    enum config_upstream_protocol protocol = config_service_protocol(config, service);
    config_service_tls(config, service, &tls);
    bool named = service->tls_ca_file[0] != '\0' || service->tls_certificate_key_file[0] != '\0' ||
                 service->tls_server_name[0] != '\0';
    if (!tls.on && named) {
        return error_set(
            ret_error, STATUS_INVALID,
            "services: \"%s\" is spoken to without TLS: the other upstreamTls keys are "
            "of use only with upstreamTls: requireTLS",
            service->name);
    }
    if (tls.on && service->instances_count > 0 && service->tls_server_name[0] == '\0' &&
        config->http_upstream_tls_server_name[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "services: \"%s\" has instances, which are spoken to with TLS: "
                         "upstreamTlsServerName has to name what is in the certificate of each",
                         service->name);
    }
    if (protocol == (tls.on ? CONFIG_UPSTREAM_H2C : CONFIG_UPSTREAM_H2)) {
        return error_set(
            ret_error, STATUS_INVALID,
            "the service \"%s\": upstreamProtocol h2c is HTTP/2 without TLS, and h2 is "
            "HTTP/2 with it (upstreamTls): say %s",
            service->name, tls.on ? "h2" : "h2c");
    }
    return STATUS_OK;
}

/* Of every service, that of http.listen, too. */
static enum status check_all_tls(const struct config *config, struct error *ret_error)
{
    struct config_service *services = NULL;
    struct config_service_tls tls;
    size_t count = 0;
    bool any = config->http_upstream_tls_mode == CONFIG_UPSTREAM_TLS_REQUIRE;
    bool named = config->http_upstream_tls_ca_file[0] != '\0' ||
                 config->http_upstream_tls_certificate_key_file[0] != '\0' ||
                 config->http_upstream_tls_server_name[0] != '\0';
    enum status status = config_services_complete(config, &services, &count, ret_error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = check_tls(config, &services[i], ret_error);
        config_service_tls(config, &services[i], &tls);
        any = any || tls.on;
    }
    config_services_free(services, count);
    if (status == STATUS_OK && named && !any) {
        return error_set(ret_error, STATUS_INVALID,
                         "http.upstreamTls: its other keys are of use only with mode: requireTLS, "
                         "here or as a service's upstreamTls");
    }
    return status;
}

enum status config_services_check(const struct config *config, struct error *ret_error)
{
    if (config->http_listen[0] != '\0') {
        enum status status =
            check_beside_http_listen(config->services, config->services_count, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    for (size_t i = 0; i < config->services_count; i++) {
        const struct config_service *service = &config->services[i];
        if (config->http_listen[0] != '\0' && strcmp(service->name, "service") == 0) {
            return error_set(ret_error, STATUS_INVALID,
                             "services: the name \"service\" is that of http.service; choose "
                             "another");
        }
        enum status status = check_instances(config, service, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        for (size_t j = 0; j < config_keys_count; j++) {
            if (config_keys[j].type != CONFIG_TYPE_LISTEN) {
                continue;
            }
            status = check_against_key(service, &config_keys[j],
                                       config_key_text(config, &config_keys[j]), ret_error);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return check_all_tls(config, ret_error);
}
