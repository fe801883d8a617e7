/*
 * From the configured list of services to domains, listeners and the front.
 *
 * Services of one domain name share a domain; a service's number in it is its place in the whole
 * list, so that it is one of its own. The main thread.
 */
#include "service/services.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "holdfast/log.h"

/* "1": when the journal was closed no handler was left that could write. */
#define QUIET_PROPERTY "domains.quiet"

struct services {
    const struct config *config;
    struct engine *engine;
    struct observe *observe;
    struct config_service *list;
    size_t count;
    struct domain **domains; /* of each service; those of one name are the same */
    struct domain **distinct;
    size_t distinct_count;
    struct router_listener *listeners; /* the plain one, and those of services and instances */
    const char **listener_names;       /* of their services */
    size_t listener_count;
    struct router_rule *rules;
    size_t rule_count;
    struct front_service *front_services;
    struct front_service *front_instances; /* of all services, one after the other */
    struct front *front;
    struct tls *http_tls;
    struct idempotency *idempotency; /* NULL: keys of requests are not looked at */
};

/* ------------------------------------------------------------------ domains */

static struct domain *find_domain(const struct services *services, const char *name)
{
    for (size_t i = 0; i < services->distinct_count; i++) {
        if (strcmp(domain_name(services->distinct[i]), name) == 0) {
            return services->distinct[i];
        }
    }
    return NULL;
}

static enum status make_domains(struct services *services, struct observe *observe, bool fenced,
                                struct error *ret_error)
{
    const struct config *config = services->config;
    struct domain_options options = {
        .observe_only = config->unit_boundary == CONFIG_BOUNDARY_OBSERVE,
        .refuse_beside = config->http_background == CONFIG_BACKGROUND_REFUSE,
        .queue_wait_ms = config->http_queue_wait_ms,
        .queue_max = (size_t)config->http_queue_length,
        .quiet_ms = config->http_quiet_ms,
        .fenced_at_start = fenced,
        .engine = services->engine,
        .observe = observe,
    };
    for (size_t i = 0; i < services->count; i++) {
        const struct config_service *service = &services->list[i];
        options.name = service->domain;
        options.instance_count = service->instances_count;
        if (options.instance_count > 0) {
            options.correlation = DOMAIN_INSTANCES;
        } else if (config->http_correlation == CONFIG_CORRELATION_TRACE) {
            options.correlation = DOMAIN_TRACE;
        } else {
            options.correlation = DOMAIN_EXCLUSIVE;
        }
        struct domain *domain = find_domain(services, options.name);
        if (domain == NULL) {
            domain = domain_new(&options);
            if (domain == NULL) {
                return error_set(ret_error, STATUS_MEMORY, "out of memory");
            }
            services->distinct[services->distinct_count++] = domain;
        }
        services->domains[i] = domain;
    }
    return STATUS_OK;
}

/* How the last life ended; from now on it counts as one that has left handlers behind. */
static enum status read_quiet(struct wal *wal, bool *ret_quiet, struct error *ret_error)
{
    char value = '0';
    size_t size = 0;
    enum status status =
        wal_property_get(wal, QUIET_PROPERTY, &value, sizeof value, &size, ret_error);
    if (status == STATUS_NOT_FOUND) {
        *ret_quiet = wal_last_lsn(wal) == 0;
        status = STATUS_OK;
    } else {
        *ret_quiet = value == '1';
    }
    return status == STATUS_OK
               ? wal_property_set(wal, QUIET_PROPERTY, slice_make("0", 1), ret_error)
               : status;
}

/* ------------------------------------------------------------------ mongo listeners */

/* By what its connections are known: its own listener, or a rule. False: by neither. `number`: in
   its domain. */
static bool make_listener(struct services *services, const struct config_service *service,
                          struct domain *domain, size_t number)
{
    if (service->mongo[0] != '\0') {
        services->listener_names[services->listener_count] = service->name;
        services->listeners[services->listener_count++] =
            (struct router_listener){.listen = service->mongo, .domain = domain, .service = number};
        return true;
    }
    if (service->application[0] == '\0' && service->address[0] == '\0') {
        return false;
    }
    struct router_rule *rule = &services->rules[services->rule_count++];
    *rule = (struct router_rule){
        .domain = domain,
        .service = number,
        .application = service->application,
    };
    rule->by_address = ip_address_parse(slice_text(service->address), &rule->address);
    return true;
}

static void make_listeners(struct services *services)
{
    services->listeners[services->listener_count++] =
        (struct router_listener){.listen = services->config->net_listen};
    for (size_t i = 0; i < services->count; i++) {
        const struct config_service *service = &services->list[i];
        for (size_t j = 0; j < service->instances_count; j++) {
            (void)make_listener(services, &service->instances[j], services->domains[i], j);
        }
        if (service->instances_count == 0 &&
            !make_listener(services, service, services->domains[i], i)) {
            /* http.listen's: all of the plain listener. Then there are no rules
               (config_services_check()): they would come after this, in vain. */
            services->listeners[0].domain = services->domains[i];
            services->listeners[0].service = i;
        }
    }
}

static enum front_protocol protocol_of(const struct config *config,
                                       const struct config_service *service)
{
    static const enum front_protocol protocols[] = {
        [CONFIG_UPSTREAM_AUTO] = FRONT_AUTO,
        [CONFIG_UPSTREAM_HTTP1] = FRONT_HTTP1,
        [CONFIG_UPSTREAM_H2C] = FRONT_HTTP2,
        [CONFIG_UPSTREAM_H2] = FRONT_HTTP2,
    };
    return protocols[config_service_protocol(config, service)];
}

/* Two names of one address would be one instance with two identities. */
static bool is_same_address(const struct network_address *one, const struct network_address *other)
{
    return one->size == other->size && memcmp(&one->storage, &other->storage, one->size) == 0;
}

static enum status fill_instances(const struct config_service *service, struct front_service *front,
                                  struct front_service *instances, struct error *ret_error)
{
    for (size_t i = 0; i < service->instances_count; i++) {
        instances[i] = *front;
        instances[i].number = i;
        instances[i].is_instance = true;
        instances[i].service_text = service->instances[i].service;
        enum status status = network_address_resolve(service->instances[i].service,
                                                     &instances[i].service, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        for (size_t j = 0; j < i; j++) {
            if (is_same_address(&instances[i].service, &instances[j].service)) {
                return error_set(ret_error, STATUS_INVALID,
                                 "two of its instances are one address: %s and %s",
                                 instances[j].service_text, instances[i].service_text);
            }
        }
    }
    front->instances = instances;
    front->instance_count = service->instances_count;
    return STATUS_OK;
}

static enum status fill_front(struct services *services, struct error *ret_error)
{
    size_t filled = 0;
    for (size_t i = 0; i < services->count; i++) {
        const struct config_service *service = &services->list[i];
        struct front_service *front = &services->front_services[i];
        *front = (struct front_service){
            .name = service->name,
            .domain = services->domains[i],
            .number = i,
            .listen = service->listen,
            .inside_listen = service->inside,
            .service_text = service->service,
            .protocol = protocol_of(services->config, service),
            .peers = service->peers,
            .reads_wait = services->config->http_reads == CONFIG_READS_WAIT,
            .trace_correlated = services->config->http_correlation == CONFIG_CORRELATION_TRACE,
        };
        enum status status =
            service->instances_count > 0
                ? fill_instances(service, front, &services->front_instances[filled], ret_error)
                : network_address_resolve(service->service, &front->service, ret_error);
        if (status != STATUS_OK) {
            return error_prefix(ret_error, "service %s", service->name);
        }
        filled += service->instances_count;
    }
    return STATUS_OK;
}

static size_t count_instances(const struct services *services)
{
    size_t count = 0;
    for (size_t i = 0; i < services->count; i++) {
        count += services->list[i].instances_count;
    }
    return count;
}

/* Where no unit is made there is nothing to be done once. */
static enum status make_idempotency(struct services *services, struct error *ret_error)
{
    const struct config *config = services->config;
    if (services->count == 0 || config->http_idempotency_keep_ms == 0 ||
        config->unit_boundary == CONFIG_BOUNDARY_OBSERVE) {
        return STATUS_OK;
    }
    struct idempotency_options options = {
        .wal = services->engine->wal,
        .keep_ms = config->http_idempotency_keep_ms,
        .bytes_max = config->http_idempotency_bytes_max,
    };
    return idempotency_new(&options, &services->idempotency, ret_error);
}

/* Of a domain only one process knows which call is open, and a native proxy need not be alone. */
static void warn_of_other_doors(const struct services *services)
{
    const struct config *config = services->config;
    if (services->count > 0 && services->engine->native != NULL &&
        config->http_background != CONFIG_BACKGROUND_REFUSE &&
        config->unit_boundary != CONFIG_BOUNDARY_OBSERVE) {
        LOG(LOG_WARNING, "http",
            "If another holdfastd fronts these services as well, or is in their MongoDB URIs, what "
            "they write through it is in no call, and nothing tells: only http.backgroundWrites: "
            "refuse makes it an error");
    }
}

enum status services_new(const struct config *config, struct engine *engine,
                         struct observe *observe, struct services **ret_services,
                         struct error *ret_error)
{
    bool quiet = true;
    struct services *services = calloc(1, sizeof *services);
    if (services == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    services->config = config;
    services->engine = engine;
    services->observe = observe;
    enum status status =
        config_services_complete(config, &services->list, &services->count, ret_error);
    if (status == STATUS_OK) {
        size_t room = services->count + count_instances(services) + 1;
        services->domains = calloc(room, sizeof(struct domain *));
        services->distinct = calloc(room, sizeof(struct domain *));
        services->listeners = calloc(room, sizeof *services->listeners);
        services->listener_names = calloc(room, sizeof *services->listener_names);
        services->rules = calloc(room, sizeof *services->rules);
        services->front_services = calloc(room, sizeof *services->front_services);
        services->front_instances = calloc(room, sizeof *services->front_instances);
        if (services->domains == NULL || services->distinct == NULL ||
            services->listeners == NULL || services->listener_names == NULL ||
            services->rules == NULL || services->front_services == NULL ||
            services->front_instances == NULL) {
            status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        }
    }
    if (status == STATUS_OK && services->count > 0) {
        status = read_quiet(engine->wal, &quiet, ret_error);
    }
    if (status == STATUS_OK) {
        status = make_domains(services, observe, !quiet, ret_error);
    }
    if (status == STATUS_OK) {
        status = fill_front(services, ret_error);
    }
    if (status == STATUS_OK) {
        status = make_idempotency(services, ret_error);
    }
    if (status != STATUS_OK) {
        services_free(services);
        return status;
    }
    make_listeners(services);
    warn_of_other_doors(services);
    *ret_services = services;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ serving */

static void tick(void *context, uint64_t now_ms)
{
    struct services *services = context;
    for (size_t i = 0; i < services->distinct_count; i++) {
        domain_tick(services->distinct[i], now_ms);
    }
}

void services_use_tls(struct services *services, struct tls *net, struct tls *http,
                      struct tls *const *with_services)
{
    size_t filled = 0;
    for (size_t i = 0; i < services->count; i++) {
        services->front_services[i].tls = with_services[i];
        for (size_t j = 0; j < services->list[i].instances_count; j++) {
            services->front_instances[filled++].tls = with_services[i];
        }
    }
    for (size_t i = 0; i < services->listener_count; i++) {
        services->listeners[i].tls = net;
        services->listeners[i].plain_allowed = services->config->net_tls_mode != CONFIG_TLS_REQUIRE;
    }
    services->http_tls = http;
}

void services_router(struct services *services, struct router_options *options)
{
    options->listeners = services->listeners;
    options->listener_count = services->listener_count;
    options->rules = services->rules;
    options->rule_count = services->rule_count;
    options->tick = tick;
    options->tick_context = services;
}

static void log_listener(const char *listener, const char *service, const char *address)
{
    LOG(LOG_INFO, "net", "Listening", LOG_TEXT("listener", listener), LOG_TEXT("address", address),
        LOG_TEXT("service", service));
}

static void log_addresses(const struct services *services, const struct router *router)
{
    for (size_t i = 1; i < services->listener_count; i++) {
        log_listener("serviceMongo", services->listener_names[i], router_address(router, i));
    }
    for (size_t i = 0; i < services->count; i++) {
        const char *inside = front_address(services->front, i, true);
        log_listener("http", services->list[i].name, front_address(services->front, i, false));
        if (inside[0] != '\0') {
            log_listener("httpInside", services->list[i].name, inside);
        }
    }
}

enum status services_serve(struct services *services, struct worker_pool *workers,
                           const struct router *router, uint64_t connections_max,
                           struct error *ret_error)
{
    const struct config *config = services->config;
    if (services->count == 0) {
        return STATUS_OK;
    }
    struct front_options options = {
        .workers = workers,
        .services = services->front_services,
        .service_count = services->count,
        .call_timeout_ms = config->http_call_timeout_ms,
        .answer_bytes_max = (size_t)config->http_answer_bytes_max,
        .connections_max = (size_t)connections_max,
        .routes = config->http_routes,
        .observe = services->observe,
        .tls = services->http_tls,
        .plain_allowed = config->http_tls_mode != CONFIG_TLS_REQUIRE,
        .idempotency = {.keys = services->idempotency,
                        .body_bytes_max = (size_t)config->http_idempotency_body_max,
                        .answer_bytes_max = (size_t)config->http_idempotency_answer_max,
                        .identity_header = config->http_idempotency_identity},
    };
    enum status status = front_start(&options, &services->front, ret_error);
    if (status == STATUS_OK) {
        log_addresses(services, router);
    }
    return status;
}

bool services_are_fronted(const struct services *services)
{
    return services->count > 0;
}

void services_set_limits(struct services *services, const struct config *config)
{
    for (size_t i = 0; i < services->distinct_count; i++) {
        domain_set_waits(services->distinct[i], config->http_queue_wait_ms,
                         (size_t)config->http_queue_length, config->http_quiet_ms);
    }
    if (services->idempotency != NULL) {
        idempotency_set_quota(services->idempotency, config->http_idempotency_bytes_max);
    }
    if (services->front != NULL) {
        front_set_limits(services->front, config->http_call_timeout_ms);
    }
}

/* ------------------------------------------------------------------ ending */

void services_hold(struct services *services, bool held)
{
    for (size_t i = 0; i < services->distinct_count; i++) {
        domain_hold(services->distinct[i], held);
    }
}

void services_hold_callers(struct services *services, bool held)
{
    if (services->front != NULL) {
        front_hold(services->front, held);
    }
}

size_t services_give(struct services *services,
                     void (*give)(void *context, const struct front_parcel *parcel), void *context)
{
    return services->front == NULL ? 0 : front_give(services->front, give, context);
}

enum status services_take(struct services *services, const struct front_parcel *parcel,
                          struct error *ret_error)
{
    if (services->front == NULL) {
        (void)close(parcel->caller);
        return error_set(ret_error, STATUS_INVALID, "no service is fronted any more");
    }
    return front_take(services->front, parcel, ret_error);
}

void services_drain(struct services *services)
{
    for (size_t i = 0; i < services->distinct_count; i++) {
        domain_drain(services->distinct[i]);
    }
    if (services->front != NULL) {
        front_drain(services->front);
    }
}

size_t services_calls(struct services *services)
{
    size_t calls = 0;
    for (size_t i = 0; i < services->distinct_count; i++) {
        calls += domain_calls(services->distinct[i]);
    }
    return calls;
}

void services_stop(struct services *services)
{
    if (services->front != NULL) {
        front_stop(services->front);
    }
}

void services_note_end(struct services *services)
{
    struct error error = {0};
    for (size_t i = 0; i < services->distinct_count; i++) {
        struct domain_figures figures;
        domain_figures_get(services->distinct[i], &figures);
        if (figures.open > 0 || figures.fenced > 0) {
            return;
        }
    }
    if (services->count > 0 && wal_property_set(services->engine->wal, QUIET_PROPERTY,
                                                slice_make("1", 1), &error) != STATUS_OK) {
        LOG(LOG_WARNING, "http", "The next start will wait for http.quietPeriod",
            LOG_TEXT("reason", error.message));
    }
}

struct services *services_free(struct services *services)
{
    if (services == NULL) {
        return NULL;
    }
    services->front = front_free(services->front);
    services->idempotency = idempotency_free(services->idempotency);
    for (size_t i = 0; i < services->distinct_count; i++) {
        domain_free(services->distinct[i]);
    }
    config_services_free(services->list, services->count);
    free(services->domains);
    free(services->distinct);
    free(services->listeners);
    free(services->listener_names);
    free(services->rules);
    free(services->front_services);
    free(services->front_instances);
    free(services);
    return NULL;
}

/* ------------------------------------------------------------------ looking on */

size_t services_domain_count(const struct services *services)
{
    return services->distinct_count;
}

struct domain *services_domain(const struct services *services, size_t index)
{
    return services->distinct[index];
}

const struct front *services_front(const struct services *services)
{
    return services->front;
}

struct idempotency *services_idempotency(const struct services *services)
{
    return services->idempotency;
}
