#ifndef HOLDFAST_BASE_CONFIG_YAML_H
#define HOLDFAST_BASE_CONFIG_YAML_H

/*
 * What the readers of the configuration file share: a document of libyaml and where messages go.
 * For config_file.c and config_services_file.c.
 */

#include <yaml.h>

#include "base/config.h"
#include "base/yaml_node.h"
#include "holdfast/error.h"

struct config_yaml {
    const char *name; /* of the file, for messages: "NAME:LINE: …" */
    yaml_document_t *document;
    struct error *error;
};

/*
 * The value of `services:` into config->services, whole or not at all. What was there is released.
 * Errors: STATUS_INVALID with file and line, STATUS_MEMORY.
 */
MUST_CHECK enum status config_services_read(struct config *config, const struct config_yaml *yaml,
                                            const yaml_node_t *value);

#endif
