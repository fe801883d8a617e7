#ifndef HOLDFAST_MIGRATE_FILE_STEPS_H
#define HOLDFAST_MIGRATE_FILE_STEPS_H

/* The steps of a migration file; private to this folder. Any thread. */

#include <yaml.h>

#include "holdfast/error.h"
#include "migrate/step.h"
#include "migrate/yaml_value.h"

/*
 * A sequence of steps, each a mapping of one word, into *list; also after an error the list is the
 * caller's to free. STATUS_INVALID with file and line, STATUS_MEMORY.
 */
MUST_CHECK enum status file_steps_read(const struct yaml_file *file, const yaml_node_t *sequence,
                                       struct step_list *list, struct error *ret_error);

#endif
