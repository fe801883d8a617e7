#ifndef HOLDFAST_BASE_CONFIG_SERVICES_H
#define HOLDFAST_BASE_CONFIG_SERVICES_H

/*
 * The list of HTTP services: its fields as a table, as config_keys.h has one for the keys. For
 * config*.c; the rest of the program sees config.h only.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/config.h"
#include "base/config_keys.h"
#include "holdfast/error.h"

struct config_service_field {
    const char *name; /* as the file has it */
    enum config_type type;
    size_t offset; /* of the text in struct config_service */
    bool required;
    bool tells_apart; /* one of those of which a service has exactly one */
    bool unique;      /* no two services have the same */
    bool of_instance; /* it is each instance's own, where a service has instances */
};

#define CONFIG_SERVICE_FIELDS 14u

extern const struct config_service_field config_service_fields[CONFIG_SERVICE_FIELDS];

/* NULL if there is none of that name. */
const struct config_service_field *config_service_field_find(const char *name);

/* "" for one that is not set, never NULL. */
const char *config_service_text(const struct config_service *service,
                                const struct config_service_field *field);

/* A copy of `text`, which is of the field's type. Errors: STATUS_MEMORY. */
MUST_CHECK enum status config_service_set(struct config_service *service,
                                          const struct config_service_field *field,
                                          const char *text, struct error *ret_error);

/* "" or the default for every field that is not set. Errors: STATUS_MEMORY. */
MUST_CHECK enum status config_service_fill(struct config_service *service, struct error *ret_error);

bool config_services_equal(const struct config *one, const struct config *other);

/* Whether two addresses to listen on are the same; port 0 is never the same. */
bool config_listen_equal(const char *one, const char *other);

/* What is longer than is kept of a client's appName would never match one. Errors: STATUS_INVALID.
 */
MUST_CHECK enum status config_application_check(const struct config_service *service,
                                                struct error *ret_error);

/* One instance by itself. Errors: STATUS_INVALID. */
MUST_CHECK enum status config_instance_check(const struct config_service *instance,
                                             struct error *ret_error);

/*
 * `service`, with all of its instances, against the instances of another, or its own; and what it
 * may not be beside them. Errors: STATUS_INVALID.
 */
MUST_CHECK enum status config_instances_check(const struct config_service *service,
                                              const struct config_service *other,
                                              struct error *ret_error);

/* One service against those that stand before it in the file. Errors: STATUS_INVALID. */
MUST_CHECK enum status config_service_check(const struct config_service *services, size_t index,
                                            struct error *ret_error);

/* The services against the keys. Errors: STATUS_INVALID. */
MUST_CHECK enum status config_services_check(const struct config *config, struct error *ret_error);

#endif
