/*
 * Values of a migration file (yaml_value.h): the tree is written as JSON text, which libbson's own
 * reader of Extended JSON takes.
 *
 * Threads: any.
 */
#include "migrate/yaml_value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 60, FIELDS_MAX = 1000, TEXT_BYTES_MAX = 16 * 1024 * 1024 };

struct writer {
    const struct yaml_file *file;
    bson_string_t *json;
    struct error *error;
};

enum status yaml_refuse(const struct yaml_file *file, const yaml_node_t *at,
                        struct error *ret_error, const char *format, ...)
{
    char message[400];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    return error_set(ret_error, STATUS_INVALID, "%s:%lu: %s", file->name,
                     at == NULL ? 1 : yaml_line(at), message);
}

/* ------------------------------------------------------------------ scalars */

static void write_text(struct writer *writer, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    bson_string_append_c(writer->json, '"');
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\') {
            bson_string_append_c(writer->json, '\\');
            bson_string_append_c(writer->json, *at);
        } else if (byte < 0x20) {
            bson_string_append(writer->json, "\\u00");
            bson_string_append_c(writer->json, hex[byte >> 4]);
            bson_string_append_c(writer->json, hex[byte & 15]);
        } else {
            bson_string_append_c(writer->json, *at);
        }
    }
    bson_string_append_c(writer->json, '"');
}

static enum status write_whole(struct writer *writer, const yaml_node_t *node, const char *text)
{
    const char *first = text + (text[0] == '-' || text[0] == '+' ? 1 : 0);
    if (first[0] == '0' && first[1] != '\0') {
        return yaml_refuse(writer->file, node, writer->error,
                           "%.40s begins with a zero: quote it if it is a text, else leave the "
                           "zero out",
                           text);
    }
    errno = 0;
    long long number = strtoll(text, NULL, 10);
    if (errno != 0) {
        return yaml_refuse(writer->file, node, writer->error,
                           "%.40s is too large for a 64-bit number: {$numberDecimal: \"...\"}, or "
                           "quote it",
                           text);
    }
    bool small = number >= INT32_MIN && number <= INT32_MAX;
    bson_string_append_printf(
        writer->json, small ? "{\"$numberInt\":\"%lld\"}" : "{\"$numberLong\":\"%lld\"}", number);
    return STATUS_OK;
}

static enum status write_plain(struct writer *writer, const yaml_node_t *node, const char *text)
{
    switch (yaml_plain_judge(text)) {
    case YAML_PLAIN_NULL:
        bson_string_append(writer->json, "null");
        break;
    case YAML_PLAIN_TRUE:
        bson_string_append(writer->json, "true");
        break;
    case YAML_PLAIN_FALSE:
        bson_string_append(writer->json, "false");
        break;
    case YAML_PLAIN_WHOLE:
        return write_whole(writer, node, text);
    case YAML_PLAIN_NUMBER:
        bson_string_append_printf(writer->json, "{\"$numberDouble\":\"%.17g\"}",
                                  strtod(text, NULL));
        break;
    case YAML_PLAIN_INFINITE:
        bson_string_append(writer->json, "{\"$numberDouble\":\"Infinity\"}");
        break;
    case YAML_PLAIN_MINUS_INFINITE:
        bson_string_append(writer->json, "{\"$numberDouble\":\"-Infinity\"}");
        break;
    case YAML_PLAIN_NAN:
        bson_string_append(writer->json, "{\"$numberDouble\":\"NaN\"}");
        break;
    default:
        write_text(writer, text);
        break;
    }
    return STATUS_OK;
}

static enum status write_scalar(struct writer *writer, const yaml_node_t *node)
{
    const char *text = yaml_text(node);
    if (text == NULL) {
        return yaml_refuse(writer->file, node, writer->error, "a text has a NUL in it");
    }
    if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        return write_plain(writer, node, text);
    }
    write_text(writer, text);
    return STATUS_OK;
}

/* ------------------------------------------------------------------ the tree */

static bool is_known_tag(const yaml_node_t *node)
{
    const char *tag = (const char *)node->tag;
    return tag == NULL || strcmp(tag, YAML_STR_TAG) == 0 || strcmp(tag, YAML_MAP_TAG) == 0 ||
           strcmp(tag, YAML_SEQ_TAG) == 0;
}

static enum status check_field(struct writer *writer, const yaml_node_t *mapping,
                               const yaml_node_pair_t *pair)
{
    yaml_document_t *document = writer->file->document;
    const yaml_node_t *key = yaml_document_get_node(document, pair->key);
    const char *text = yaml_text(key);
    if (text == NULL) {
        return yaml_refuse(writer->file, key == NULL ? mapping : key, writer->error,
                           "a field's name must be plain text");
    }
    if (pair - mapping->data.mapping.pairs.start >= FIELDS_MAX) {
        return yaml_refuse(writer->file, mapping, writer->error, "more than %d fields", FIELDS_MAX);
    }
    return yaml_key_is_repeated(document, mapping, pair)
               ? yaml_refuse(writer->file, key, writer->error, "%.60s stands here twice", text)
               : STATUS_OK;
}

static enum status write_node(struct writer *writer, const yaml_node_t *node, int depth);

static enum status write_mapping(struct writer *writer, const yaml_node_t *node, int depth)
{
    yaml_document_t *document = writer->file->document;
    enum status status = STATUS_OK;
    bson_string_append_c(writer->json, '{');
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         status == STATUS_OK && pair < node->data.mapping.pairs.top; pair++) {
        status = check_field(writer, node, pair);
        if (status != STATUS_OK) {
            return status;
        }
        if (pair > node->data.mapping.pairs.start) {
            bson_string_append_c(writer->json, ',');
        }
        write_text(writer, yaml_text(yaml_document_get_node(document, pair->key)));
        bson_string_append_c(writer->json, ':');
        status = write_node(writer, yaml_document_get_node(document, pair->value), depth + 1);
    }
    bson_string_append_c(writer->json, '}');
    return status;
}

static enum status write_sequence(struct writer *writer, const yaml_node_t *node, int depth)
{
    enum status status = STATUS_OK;
    bson_string_append_c(writer->json, '[');
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         status == STATUS_OK && item < node->data.sequence.items.top; item++) {
        if (item > node->data.sequence.items.start) {
            bson_string_append_c(writer->json, ',');
        }
        status =
            write_node(writer, yaml_document_get_node(writer->file->document, *item), depth + 1);
    }
    bson_string_append_c(writer->json, ']');
    return status;
}

static enum status write_node(struct writer *writer, const yaml_node_t *node, int depth)
{
    if (node == NULL || depth > DEPTH_MAX) {
        return yaml_refuse(writer->file, node, writer->error, "nested deeper than %d levels",
                           DEPTH_MAX);
    }
    if (writer->json->len > TEXT_BYTES_MAX) {
        return yaml_refuse(writer->file, node, writer->error, "a value of more than 16 MiB");
    }
    if (!is_known_tag(node)) {
        return yaml_refuse(writer->file, node, writer->error,
                           "the tag %.60s: types are said in Extended JSON, as {$oid: \"...\"}",
                           (const char *)node->tag);
    }
    switch (node->type) {
    case YAML_SCALAR_NODE:
        return write_scalar(writer, node);
    case YAML_MAPPING_NODE:
        return write_mapping(writer, node, depth);
    case YAML_SEQUENCE_NODE:
        return write_sequence(writer, node, depth);
    default:
        return yaml_refuse(writer->file, node, writer->error, "no value");
    }
}

enum status yaml_value(const struct yaml_file *file, const yaml_node_t *node, bson_t **ret_value,
                       struct error *ret_error)
{
    bson_error_t error = {0};
    struct writer writer = {.file = file, .json = bson_string_new("{\"v\":"), .error = ret_error};
    enum status status = write_node(&writer, node, 0);
    bson_string_append_c(writer.json, '}');
    bson_t *value = NULL;
    if (status == STATUS_OK) {
        value = bson_new_from_json((const uint8_t *)writer.json->str, (ssize_t)writer.json->len,
                                   &error);
        status = value != NULL
                     ? STATUS_OK
                     : yaml_refuse(file, node, ret_error, "no valid value: %s", error.message);
    }
    bson_string_free(writer.json, true);
    if (status == STATUS_OK) {
        *ret_value = value;
    }
    return status;
}
