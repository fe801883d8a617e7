/*
 * Instances of a service: what tells them apart for sure, and what a service that has them may not
 * be. Each is a process, or several, behind an HTTP address of its own, whose mongo connections are
 * known by a listener, an address or an appName of its own. Where two share one of these nobody can
 * tell to whose call a write belongs, and the file is refused.
 *
 * Threads: as config_services.c.
 */

#include <string.h>
#include <strings.h>

#include "base/config_services.h"
#include "holdfast/limits.h"

enum status config_application_check(const struct config_service *service, struct error *ret_error)
{
    return service->application == NULL || strlen(service->application) < LIMIT_APPLICATION_BYTES
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID, "an appName is longer than %u bytes",
                           LIMIT_APPLICATION_BYTES - 1u);
}

enum status config_instance_check(const struct config_service *instance, struct error *ret_error)
{
    size_t told_apart = 0;
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS; i++) {
        const struct config_service_field *field = &config_service_fields[i];
        bool given = config_service_text(instance, field)[0] != '\0';
        told_apart += field->tells_apart && given ? 1 : 0;
        if (field->of_instance && field->required && !given) {
            return error_set(ret_error, STATUS_INVALID, "%s of an instance is missing",
                             field->name);
        }
    }
    return told_apart == 1
               ? config_application_check(instance, ret_error)
               : error_set(ret_error, STATUS_INVALID,
                           "an instance wants exactly one of mongo, appName and address, by which "
                           "its mongo connections are told apart");
}

/* Of two lists of fields the texts that only one of them may have. */
static enum status check_pair(const struct config_service *one, const struct config_service *other,
                              const char *name, struct error *ret_error)
{
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS; i++) {
        const struct config_service_field *field = &config_service_fields[i];
        const char *text = config_service_text(one, field);
        if (!field->of_instance || text[0] == '\0') {
            continue;
        }
        if (strcmp(text, config_service_text(other, field)) == 0 &&
            (field->unique || field->required)) {
            return error_set(ret_error, STATUS_INVALID,
                             "instances of \"%s\": the %s \"%.200s\" is another's as well", name,
                             field->name, text);
        }
    }
    for (size_t i = 0; i < CONFIG_SERVICE_FIELDS; i++) {
        const struct config_service_field *field = &config_service_fields[i];
        if (field->type == CONFIG_TYPE_LISTEN &&
            config_listen_equal(one->mongo == NULL ? "" : one->mongo,
                                config_service_text(other, field))) {
            return error_set(ret_error, STATUS_INVALID,
                             "instances of \"%s\": the mongo \"%.200s\" is another listener's as "
                             "well",
                             name, one->mongo);
        }
    }
    return STATUS_OK;
}

/* Each instance of `service` against `other` itself and its instances. */
static enum status check_each(const struct config_service *service,
                              const struct config_service *other, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < service->instances_count && status == STATUS_OK; i++) {
        const struct config_service *one = &service->instances[i];
        status = check_pair(one, other, service->name, ret_error);
        for (size_t j = 0; j < other->instances_count && status == STATUS_OK; j++) {
            if (one != &other->instances[j]) {
                status = check_pair(one, &other->instances[j], service->name, ret_error);
            }
        }
    }
    return status;
}

static const char *domain_of(const struct config_service *service)
{
    return service->domain == NULL || service->domain[0] == '\0' ? service->name : service->domain;
}

enum status config_instances_check(const struct config_service *service,
                                   const struct config_service *other, struct error *ret_error)
{
    bool either = service->instances_count > 0 || other->instances_count > 0;
    if (service == other && service->instances_count > 0) {
        bool nested = (service->inside != NULL && service->inside[0] != '\0') ||
                      (service->peers != NULL && service->peers[0] != '\0');
        if (nested) {
            return error_set(ret_error, STATUS_INVALID,
                             "\"%s\" has instances: whose call one by inside or peers belongs to "
                             "cannot be told, so neither can be had",
                             service->name);
        }
    } else if (service != other && either && strcmp(domain_of(service), domain_of(other)) == 0) {
        return error_set(ret_error, STATUS_INVALID,
                         "the domain \"%s\" has a service with instances: no other can be in it, "
                         "for to which of the open calls its writes belong could not be told",
                         domain_of(service));
    }
    enum status status = check_each(service, other, ret_error);
    return status == STATUS_OK && service != other ? check_each(other, service, ret_error) : status;
}
