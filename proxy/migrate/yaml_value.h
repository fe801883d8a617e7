#ifndef HOLDFAST_MIGRATE_YAML_VALUE_H
#define HOLDFAST_MIGRATE_YAML_VALUE_H

/*
 * Values of a YAML or JSON file as BSON.
 *
 *   plain      null and ~, true and false, whole numbers (Int32, else Int64), other numbers
 *              (Double, with .inf and .nan); everything else is text, also yes, no, on, off
 *   quoted     text
 *   mappings   documents, with MongoDB Extended JSON for all other types: {$oid: ...}, {$date:
 * ...},
 *              {$numberDecimal: ...}
 *   sequences  arrays
 *
 * Bounded, whatever the file holds: 60 levels, 1,000 fields of one document, 16 MiB of a value,
 * also where aliases repeat or contain themselves.
 *
 * Threads: any; nothing is kept.
 */

#include <bson/bson.h>
#include <yaml.h>

#include "base/yaml_node.h"
#include "holdfast/error.h"

struct yaml_file {
    const char *name; /* for messages: "NAME:LINE: ..." */
    yaml_document_t *document;
};

/* STATUS_INVALID with file and line in front. */
enum status yaml_refuse(const struct yaml_file *file, const yaml_node_t *at,
                        struct error *ret_error, const char *format, ...) PRINTF_LIKE(4, 5);

/*
 * The value as {"v": value}, to be destroyed by the caller. STATUS_INVALID with file and line,
 * STATUS_MEMORY.
 */
MUST_CHECK enum status yaml_value(const struct yaml_file *file, const yaml_node_t *node,
                                  bson_t **ret_value, struct error *ret_error);

#endif
