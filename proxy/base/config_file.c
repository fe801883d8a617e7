/*
 * The configuration file: YAML as mongod's, groups with keys in them.
 *
 *     net:                        a group: a mapping of keys
 *       listen: 127.0.0.1:27018   the key net.listen
 *     log.level: debug            the same in one line, a key at the top
 *
 *     services:                   the one sequence, see config_services_file.c
 *
 * libyaml makes a tree of nodes that know their lines; the tree is walked as deep as groups are
 * named (net.tls: two levels, as mongod's), below services: three, deeper is an error, so neither
 * nesting nor aliases that refer to themselves can make the walk long.
 *
 * Threads: one at a time per struct config.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/config_keys.h"
#include "base/config_yaml.h"

enum { FILE_BYTES_MAX = 1024 * 1024, NAME_BYTES = 128 };

struct reader {
    struct config *config;
    struct config_yaml yaml;
    size_t services_line; /* where services: was set, 0 for not yet */
    size_t lines[128];    /* by key: the line where it was set, 0 for not yet */
};

static enum status mark_line(struct reader *reader, const char *name, const yaml_node_t *at,
                             size_t *line)
{
    if (*line != 0) {
        return error_set(reader->yaml.error, STATUS_INVALID,
                         "%s:%lu: %s is set a second time, first in line %zu", reader->yaml.name,
                         yaml_line(at), name, *line);
    }
    *line = yaml_line(at);
    return STATUS_OK;
}

static enum status read_key(struct reader *reader, const char *name, const yaml_node_t *at,
                            const yaml_node_t *value)
{
    const struct config_key *key = config_key_find(name);
    const char *text = yaml_text(value);
    if (key == NULL) {
        return error_set(reader->yaml.error, STATUS_INVALID, "%s:%lu: unknown key %s",
                         reader->yaml.name, yaml_line(at), name);
    }
    size_t index = (size_t)(key - config_keys);
    if (index < sizeof(reader->lines) / sizeof(reader->lines[0])) {
        enum status status = mark_line(reader, name, at, &reader->lines[index]);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (text == NULL) {
        return error_set(reader->yaml.error, STATUS_INVALID, "%s:%lu: %s wants one plain value",
                         reader->yaml.name, yaml_line(at), name);
    }
    enum status status = config_key_set(reader->config, key, text, reader->yaml.error);
    if (status != STATUS_OK) {
        (void)error_prefix(reader->yaml.error, "%s:%lu", reader->yaml.name, yaml_line(value));
    }
    return status;
}

static enum status read_services(struct reader *reader, const yaml_node_t *at,
                                 const yaml_node_t *value)
{
    enum status status = mark_line(reader, "services", at, &reader->services_line);
    return status != STATUS_OK ? status
                               : config_services_read(reader->config, &reader->yaml, value);
}

/* The pairs of the group `group`, or of the top level if NULL. */
static enum status read_mapping(struct reader *reader, const char *group,
                                const yaml_node_t *mapping)
{
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(reader->yaml.document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(reader->yaml.document, pair->value);
        const char *text = yaml_text(key);
        char name[NAME_BYTES];
        if (key == NULL || value == NULL || text == NULL) {
            return error_set(reader->yaml.error, STATUS_INVALID, "%s:%lu: a key must be plain text",
                             reader->yaml.name, yaml_line(mapping));
        }
        if (strlen(text) >= NAME_BYTES / 2) {
            return error_set(reader->yaml.error, STATUS_INVALID, "%s:%lu: unknown key %.60s…",
                             reader->yaml.name, yaml_line(key), text);
        }
        (void)snprintf(name, sizeof(name), "%s%s%s", group == NULL ? "" : group,
                       group == NULL ? "" : ".", text);
        enum status status = STATUS_OK;
        if (config_group_exists(name) && value->type == YAML_MAPPING_NODE) {
            status = read_mapping(reader, name, value);
        } else if (config_group_exists(name) && value->type == YAML_SCALAR_NODE &&
                   value->data.scalar.length == 0) {
            continue; /* a group whose keys are all commented out */
        } else if (group == NULL && strcmp(text, "services") == 0) {
            status = read_services(reader, key, value);
        } else {
            status = read_key(reader, name, key, value);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status refuse_yaml(const yaml_parser_t *parser, const char *name,
                               struct error *ret_error)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        return error_set(ret_error, STATUS_MEMORY, "%s: out of memory", name);
    }
    return error_set(ret_error, STATUS_INVALID, "%s:%lu: not YAML: %s", name,
                     (unsigned long)parser->problem_mark.line + 1,
                     parser->problem == NULL ? "unreadable" : parser->problem);
}

static enum status read_document(struct reader *reader)
{
    const yaml_node_t *root = yaml_document_get_root_node(reader->yaml.document);
    if (root == NULL || (root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0)) {
        return STATUS_OK; /* an empty file changes nothing */
    }
    if (root->type != YAML_MAPPING_NODE) {
        return error_set(reader->yaml.error, STATUS_INVALID, "%s:%lu: wants keys with values",
                         reader->yaml.name, yaml_line(root));
    }
    return read_mapping(reader, NULL, root);
}

static enum status refuse_second_document(yaml_parser_t *parser, const char *name,
                                          struct error *ret_error)
{
    yaml_document_t document;
    if (yaml_parser_load(parser, &document) == 0) {
        return refuse_yaml(parser, name, ret_error);
    }
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    enum status status = STATUS_OK;
    if (root != NULL) {
        status = error_set(ret_error, STATUS_INVALID, "%s:%lu: a second document", name,
                           yaml_line(root));
    }
    yaml_document_delete(&document);
    return status;
}

enum status config_yaml_apply(struct config *config, struct slice yaml, const char *name,
                              struct error *ret_error)
{
    yaml_parser_t parser;
    yaml_document_t document;
    enum status status = STATUS_OK;
    if (yaml_parser_initialize(&parser) == 0) {
        return error_set(ret_error, STATUS_MEMORY, "%s: out of memory", name);
    }
    yaml_parser_set_input_string(&parser, yaml.data, yaml.size);
    if (yaml_parser_load(&parser, &document) == 0) {
        status = refuse_yaml(&parser, name, ret_error);
        goto out;
    }
    struct reader reader = {.config = config,
                            .yaml = {.name = name, .document = &document, .error = ret_error}};
    status = read_document(&reader);
    bool had_root = yaml_document_get_root_node(&document) != NULL;
    yaml_document_delete(&document);
    if (status == STATUS_OK && had_root) {
        status = refuse_second_document(&parser, name, ret_error);
    }
out:
    yaml_parser_delete(&parser);
    return status;
}

enum status config_file_apply(struct config *config, const char *path, struct error *ret_error)
{
    enum status status = STATUS_OK;
    uint8_t *bytes = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        return error_set(ret_error, STATUS_INVALID, "cannot read the configuration file %s: %s",
                         path, strerror(errno));
    }
    bytes = malloc(FILE_BYTES_MAX + 1);
    if (bytes == NULL) {
        status = error_set(ret_error, STATUS_MEMORY, "%s: out of memory", path);
        goto out;
    }
    errno = 0;
    size = fread(bytes, 1, FILE_BYTES_MAX + 1, file);
    if (ferror(file) != 0) {
        status = error_set(ret_error, STATUS_INVALID, "cannot read the configuration file %s: %s",
                           path, strerror(errno));
        goto out;
    }
    if (size > FILE_BYTES_MAX) {
        status = error_set(ret_error, STATUS_INVALID,
                           "%s is larger than 1 MiB; that is no configuration file", path);
        goto out;
    }
    status = config_yaml_apply(config, slice_make(bytes, size), path, ret_error);
out:
    free(bytes);
    (void)fclose(file);
    return status;
}
