/*
 * `services:` of the configuration file: a sequence of mappings, one for each service.
 *
 *     services:
 *       - name: orders               a service: its fields, each one plain value
 *         listen: 127.0.0.1:8080
 *         instances:                 but this one: its instances, fields of each likewise
 *           - service: 127.0.0.1:9015
 *
 * Invariant: the list of the configuration changes only when the whole sequence was understood.
 * A service is checked against those before it, so that a message names its line.
 *
 * Threads: one at a time per struct config.
 */

#include <stdlib.h>
#include <string.h>

#include "base/config_services.h"
#include "base/config_yaml.h"

static enum status refuse(const struct config_yaml *yaml, const yaml_node_t *at, const char *what)
{
    return error_set(yaml->error, STATUS_INVALID, "%s:%lu: services: %s", yaml->name, yaml_line(at),
                     what);
}

/* An error of config_service_*(): where it is comes to the front. */
static enum status placed(const struct config_yaml *yaml, const yaml_node_t *at, enum status status)
{
    if (status != STATUS_OK) {
        (void)error_prefix(yaml->error, "%s:%lu: services", yaml->name, yaml_line(at));
    }
    return status;
}

/* One more than the fields: `instances`. */
#define LINES (CONFIG_SERVICE_FIELDS + 1u)

static enum status read_instances(struct config_service *service, const struct config_yaml *yaml,
                                  const yaml_node_t *value);

static enum status read_field(struct config_service *service, const struct config_yaml *yaml,
                              const yaml_node_t *key, const yaml_node_t *value, bool of_instance,
                              unsigned long lines[LINES])
{
    const char *name = yaml_text(key);
    if (name == NULL) {
        return refuse(yaml, key, "a key must be plain text");
    }
    bool is_instances = !of_instance && strcmp(name, "instances") == 0;
    const struct config_service_field *field = config_service_field_find(name);
    if (!is_instances && (field == NULL || (of_instance && !field->of_instance))) {
        return error_set(yaml->error, STATUS_INVALID, "%s:%lu: services: unknown key %.60s%s",
                         yaml->name, yaml_line(key), name, of_instance ? " of an instance" : "");
    }
    size_t index = is_instances ? CONFIG_SERVICE_FIELDS : (size_t)(field - config_service_fields);
    if (lines[index] != 0) {
        return error_set(yaml->error, STATUS_INVALID,
                         "%s:%lu: services: %s is set a second time, first in line %lu", yaml->name,
                         yaml_line(key), name, lines[index]);
    }
    lines[index] = yaml_line(key);
    if (is_instances) {
        return read_instances(service, yaml, value);
    }
    const char *text = yaml_text(value);
    if (text == NULL) {
        return error_set(yaml->error, STATUS_INVALID, "%s:%lu: services: %s wants one plain value",
                         yaml->name, yaml_line(key), name);
    }
    enum status status = config_text_check(name, field->type, text, yaml->error);
    return status == STATUS_OK ? config_service_set(service, field, text, yaml->error)
                               : placed(yaml, value, status);
}

static enum status read_fields(struct config_service *service, const struct config_yaml *yaml,
                               const yaml_node_t *mapping, bool of_instance)
{
    unsigned long lines[LINES] = {0};
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(yaml->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(yaml->document, pair->value);
        if (key == NULL || value == NULL) {
            return refuse(yaml, mapping, "a key must be plain text");
        }
        enum status status = read_field(service, yaml, key, value, of_instance, lines);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status read_instances(struct config_service *service, const struct config_yaml *yaml,
                                  const yaml_node_t *value)
{
    size_t count = 0;
    if (value->type == YAML_SEQUENCE_NODE) {
        count = (size_t)(value->data.sequence.items.top - value->data.sequence.items.start);
    }
    if (count == 0 || count > CONFIG_INSTANCES_MAX) {
        return error_set(yaml->error, STATUS_INVALID,
                         "%s:%lu: services: instances wants a sequence of 1 to %u, each after a "
                         "hyphen",
                         yaml->name, yaml_line(value), CONFIG_INSTANCES_MAX);
    }
    service->instances = calloc(count, sizeof(*service->instances));
    if (service->instances == NULL) {
        return error_set(yaml->error, STATUS_MEMORY, "services: out of memory");
    }
    service->instances_count = count;
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *node =
            yaml_document_get_node(yaml->document, value->data.sequence.items.start[i]);
        if (node == NULL || node->type != YAML_MAPPING_NODE) {
            return refuse(yaml, node == NULL ? value : node,
                          "an instance is keys with values, service: and so on");
        }
        enum status status = read_fields(&service->instances[i], yaml, node, true);
        if (status == STATUS_OK) {
            status = placed(yaml, node, config_instance_check(&service->instances[i], yaml->error));
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status read_service(struct config_service *services, size_t index,
                                const struct config_yaml *yaml, const yaml_node_t *mapping)
{
    enum status status = read_fields(&services[index], yaml, mapping, false);
    if (status != STATUS_OK) {
        return status;
    }
    status = config_service_check(services, index, yaml->error);
    return status == STATUS_OK ? config_service_fill(&services[index], yaml->error)
                               : placed(yaml, mapping, status);
}

static enum status read_items(struct config_service *services, const struct config_yaml *yaml,
                              const yaml_node_t *sequence)
{
    size_t index = 0;
    for (yaml_node_item_t *item = sequence->data.sequence.items.start;
         item < sequence->data.sequence.items.top; item++) {
        const yaml_node_t *node = yaml_document_get_node(yaml->document, *item);
        if (node == NULL || node->type != YAML_MAPPING_NODE) {
            return refuse(yaml, node == NULL ? sequence : node,
                          "a service is keys with values, name: and so on");
        }
        enum status status = read_service(services, index++, yaml, node);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status config_services_read(struct config *config, const struct config_yaml *yaml,
                                 const yaml_node_t *value)
{
    size_t count = 0;
    struct config_service *services = NULL;
    if (value->type == YAML_SEQUENCE_NODE) {
        count = (size_t)(value->data.sequence.items.top - value->data.sequence.items.start);
    } else if (value->type != YAML_SCALAR_NODE || value->data.scalar.length != 0) {
        return refuse(yaml, value, "wants a sequence, each service after a hyphen");
    }
    if (count > CONFIG_SERVICES_MAX) {
        return error_set(yaml->error, STATUS_INVALID, "%s:%lu: services: more than %u", yaml->name,
                         yaml_line(value), CONFIG_SERVICES_MAX);
    }
    if (count > 0) {
        services = calloc(count, sizeof(*services));
        if (services == NULL) {
            return error_set(yaml->error, STATUS_MEMORY, "services: out of memory");
        }
        enum status status = read_items(services, yaml, value);
        if (status != STATUS_OK) {
            config_services_free(services, count);
            return status;
        }
    }
    config_services_free(config->services, config->services_count);
    config->services = services;
    config->services_count = count;
    return STATUS_OK;
}
