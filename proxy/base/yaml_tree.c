/*
 * YAML as BSON (yaml_tree.h).
 *
 * libyaml makes a tree of nodes that know their lines; an alias is the same node once more. The
 * tree is walked once, and each node that is met costs of a budget, so that neither aliases of
 * aliases nor a node that contains itself makes the walk long.
 *
 * Threads: one at a time per struct yaml_tree.
 */

#include "base/yaml_tree.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/yaml_node.h"

#define NODES_MAX 200000

struct yaml_tree {
    yaml_document_t document;
    bool loaded;
    char *name;
    bson_t *bson;
};

struct walk {
    yaml_document_t *document;
    const char *name;
    size_t nodes;
    struct error *error;
};

static enum status refuse(const struct walk *walk, const yaml_node_t *node, const char *what)
{
    return error_set(walk->error, STATUS_INVALID, "%s:%lu: %s", walk->name, yaml_line(node), what);
}

/* ------------------------------------------------------------------ scalars */

/* Too many digits for 64 bits make it floating point; too large or small for that, a text. */
static bool append_number(bson_t *to, const char *key, const char *text, bool whole)
{
    errno = 0;
    if (whole) {
        long long number = strtoll(text, NULL, 10);
        if (errno == 0) {
            return number >= INT32_MIN && number <= INT32_MAX
                       ? BSON_APPEND_INT32(to, key, (int32_t)number)
                       : BSON_APPEND_INT64(to, key, (int64_t)number);
        }
        errno = 0;
    }
    double number = strtod(text, NULL);
    return errno == 0 ? BSON_APPEND_DOUBLE(to, key, number) : BSON_APPEND_UTF8(to, key, text);
}

static bool append_plain(bson_t *to, const char *key, const char *text)
{
    enum yaml_plain is = yaml_plain_judge(text);
    switch (is) {
    case YAML_PLAIN_NULL:
        return BSON_APPEND_NULL(to, key);
    case YAML_PLAIN_TRUE:
    case YAML_PLAIN_FALSE:
        return BSON_APPEND_BOOL(to, key, is == YAML_PLAIN_TRUE);
    case YAML_PLAIN_WHOLE:
    case YAML_PLAIN_NUMBER:
        return append_number(to, key, text, is == YAML_PLAIN_WHOLE);
    case YAML_PLAIN_INFINITE:
        return BSON_APPEND_DOUBLE(to, key, (double)INFINITY);
    case YAML_PLAIN_MINUS_INFINITE:
        return BSON_APPEND_DOUBLE(to, key, -(double)INFINITY);
    case YAML_PLAIN_NAN:
        return BSON_APPEND_DOUBLE(to, key, (double)NAN);
    default:
        return BSON_APPEND_UTF8(to, key, text);
    }
}

static enum status append_scalar(const struct walk *walk, bson_t *to, const char *key,
                                 const yaml_node_t *node)
{
    const char *text = yaml_text(node);
    if (text == NULL) {
        return refuse(walk, node, "a text must not contain NUL");
    }
    bool plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                 (node->tag == NULL || strcmp((const char *)node->tag, YAML_STR_TAG) == 0);
    bool done = plain ? append_plain(to, key, text) : BSON_APPEND_UTF8(to, key, text);
    return done ? STATUS_OK : refuse(walk, node, "the file is too long");
}

/* ------------------------------------------------------------------ mappings and sequences */

static enum status append_node(struct walk *walk, bson_t *to, const char *key,
                               const yaml_node_t *node, unsigned depth);

static enum status fill_mapping(struct walk *walk, bson_t *to, const yaml_node_t *mapping,
                                unsigned depth)
{
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
        const char *text = yaml_text(key);
        if (key == NULL || value == NULL || text == NULL) {
            return refuse(walk, mapping, "a key must be plain text");
        }
        walk->nodes += (size_t)(pair - mapping->data.mapping.pairs.start) / 16; /* the search */
        if (yaml_key_is_repeated(walk->document, mapping, pair)) {
            return error_set(walk->error, STATUS_INVALID, "%s:%lu: %.60s is there a second time",
                             walk->name, yaml_line(key), text);
        }
        enum status status = append_node(walk, to, text, value, depth);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status fill_sequence(struct walk *walk, bson_t *to, const yaml_node_t *sequence,
                                 unsigned depth)
{
    uint32_t index = 0;
    for (yaml_node_item_t *item = sequence->data.sequence.items.start;
         item < sequence->data.sequence.items.top; item++, index++) {
        char buffer[16];
        const char *key = NULL;
        const yaml_node_t *value = yaml_document_get_node(walk->document, *item);
        (void)bson_uint32_to_string(index, &key, buffer, sizeof(buffer));
        enum status status = append_node(walk, to, key, value, depth);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

/* {$oid: "..."} is a value, not a document. *ret_done: it was one, and was appended. */
static enum status append_extended(struct walk *walk, bson_t *to, const char *key,
                                   const yaml_node_t *node, const bson_t *document, bool *ret_done)
{
    static const char *const names[] = {"$oid",           "$date",   "$numberLong", "$numberInt",
                                        "$numberDouble",  "$binary", "$uuid",       "$timestamp",
                                        "$numberDecimal", "$minKey", "$maxKey",     NULL};
    bson_iter_t at;
    *ret_done = false;
    if (!bson_iter_init(&at, document) || !bson_iter_next(&at) ||
        !is_one_of(bson_iter_key(&at), names)) {
        return STATUS_OK;
    }
    bson_t holder = BSON_INITIALIZER;
    bson_iter_t value;
    BSON_APPEND_DOCUMENT(&holder, "v", document);
    char *json = bson_as_relaxed_extended_json(&holder, NULL);
    bson_t *parsed = json == NULL ? NULL : bson_new_from_json((const uint8_t *)json, -1, NULL);
    bool done = parsed != NULL && bson_iter_init_find(&value, parsed, "v") &&
                !BSON_ITER_HOLDS_DOCUMENT(&value) && bson_append_iter(to, key, -1, &value);
    bson_destroy(parsed);
    bson_free(json);
    bson_destroy(&holder);
    *ret_done = done;
    return done ? STATUS_OK : refuse(walk, node, "this is no value of Extended JSON");
}

static enum status append_nested(struct walk *walk, bson_t *to, const char *key,
                                 const yaml_node_t *node, unsigned depth)
{
    bson_t nested = BSON_INITIALIZER;
    bool extended = false;
    bool mapping = node->type == YAML_MAPPING_NODE;
    enum status status = mapping ? fill_mapping(walk, &nested, node, depth + 1)
                                 : fill_sequence(walk, &nested, node, depth + 1);
    if (status == STATUS_OK && mapping) {
        status = append_extended(walk, to, key, node, &nested, &extended);
    }
    if (status == STATUS_OK && !extended) {
        bool done =
            mapping ? BSON_APPEND_DOCUMENT(to, key, &nested) : BSON_APPEND_ARRAY(to, key, &nested);
        status = done && to->len <= YAML_TREE_BYTES_MAX
                     ? STATUS_OK
                     : refuse(walk, node, "the file is too long");
    }
    bson_destroy(&nested);
    return status;
}

static enum status append_node(struct walk *walk, bson_t *to, const char *key,
                               const yaml_node_t *node, unsigned depth)
{
    if (++walk->nodes > NODES_MAX) {
        return refuse(walk, node, "the file is too long, or repeats itself by its aliases");
    }
    if (depth >= YAML_TREE_DEPTH_MAX) {
        return refuse(walk, node, "this is nested too deeply, or contains itself");
    }
    return node->type == YAML_SCALAR_NODE ? append_scalar(walk, to, key, node)
                                          : append_nested(walk, to, key, node, depth);
}

/* ------------------------------------------------------------------ reading */

static enum status refuse_yaml(const yaml_parser_t *parser, const char *name,
                               struct error *ret_error)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        return error_set(ret_error, STATUS_MEMORY, "%s: out of memory", name);
    }
    return error_set(ret_error, STATUS_INVALID, "%s:%zu: %s", name, parser->problem_mark.line + 1,
                     parser->problem == NULL ? "this is no YAML" : parser->problem);
}

static enum status load(struct yaml_tree *tree, struct slice text, struct error *ret_error)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        return error_set(ret_error, STATUS_MEMORY, "%s: out of memory", tree->name);
    }
    yaml_parser_set_input_string(&parser, text.data, text.size);
    enum status status = STATUS_OK;
    if (!yaml_parser_load(&parser, &tree->document)) {
        status = refuse_yaml(&parser, tree->name, ret_error);
    } else {
        tree->loaded = true;
    }
    if (status == STATUS_OK) {
        yaml_document_t second;
        bool more = false;
        if (!yaml_parser_load(&parser, &second)) {
            status = refuse_yaml(&parser, tree->name, ret_error);
        } else {
            more = yaml_document_get_root_node(&second) != NULL;
            yaml_document_delete(&second);
        }
        if (more) {
            status = error_set(ret_error, STATUS_INVALID,
                               "%s: there is a second document behind a line ---", tree->name);
        }
    }
    yaml_parser_delete(&parser);
    return status;
}

static enum status convert(struct yaml_tree *tree, struct error *ret_error)
{
    const yaml_node_t *root = yaml_document_get_root_node(&tree->document);
    struct walk walk = {.document = &tree->document, .name = tree->name, .error = ret_error};
    if (root == NULL || root->type != YAML_MAPPING_NODE) {
        return error_set(ret_error, STATUS_INVALID, "%s: the file must be a mapping (key: value)",
                         tree->name);
    }
    return fill_mapping(&walk, tree->bson, root, 0);
}

enum status yaml_tree_parse(struct slice text, const char *name, struct yaml_tree **ret_tree,
                            struct error *ret_error)
{
    struct yaml_tree *tree = calloc(1, sizeof(*tree));
    if (tree == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    tree->name = bson_strdup(name);
    tree->bson = bson_new();
    enum status status = load(tree, text, ret_error);
    if (status == STATUS_OK) {
        status = convert(tree, ret_error);
    }
    if (status != STATUS_OK) {
        yaml_tree_free(tree);
        return status;
    }
    *ret_tree = tree;
    return STATUS_OK;
}

enum status yaml_tree_read(const char *path, struct yaml_tree **ret_tree, struct error *ret_error)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return error_set(ret_error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                         "cannot read %s: %s", path, strerror(errno));
    }
    char *text = malloc(YAML_TREE_BYTES_MAX + 1);
    size_t size = text == NULL ? 0 : fread(text, 1, YAML_TREE_BYTES_MAX + 1, file);
    enum status status = STATUS_OK;
    if (text == NULL) {
        status = error_set(ret_error, STATUS_MEMORY, "out of memory");
    } else if (ferror(file)) {
        status = error_set(ret_error, STATUS_IO, "cannot read %s", path);
    } else if (size > YAML_TREE_BYTES_MAX) {
        status = error_set(ret_error, STATUS_INVALID, "%s is longer than %zu MiB", path,
                           YAML_TREE_BYTES_MAX >> 20);
    } else {
        status = yaml_tree_parse(slice_make(text, size), path, ret_tree, ret_error);
    }
    free(text);
    (void)fclose(file);
    return status;
}

struct yaml_tree *yaml_tree_free(struct yaml_tree *tree)
{
    if (tree != NULL) {
        if (tree->loaded) {
            yaml_document_delete(&tree->document);
        }
        bson_destroy(tree->bson);
        bson_free(tree->name);
        free(tree);
    }
    return NULL;
}

const bson_t *yaml_tree_document(const struct yaml_tree *tree)
{
    return tree->bson;
}

const char *yaml_tree_name(const struct yaml_tree *tree)
{
    return tree->name;
}

/* ------------------------------------------------------------------ lines */

/* The child of `node` that `name` (`size` bytes) leads to, and where that begins. */
static yaml_node_t *child_find(yaml_document_t *document, const yaml_node_t *node, const char *name,
                               size_t size, unsigned long *ret_line)
{
    if (node->type == YAML_MAPPING_NODE) {
        for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
             pair < node->data.mapping.pairs.top; pair++) {
            const yaml_node_t *key = yaml_document_get_node(document, pair->key);
            const char *text = yaml_text(key);
            if (text != NULL && strlen(text) == size && memcmp(text, name, size) == 0) {
                *ret_line = yaml_line(key);
                return yaml_document_get_node(document, pair->value);
            }
        }
    } else if (node->type == YAML_SEQUENCE_NODE && size > 0 && size < 10) {
        size_t count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
        size_t index = (size_t)strtoul(name, NULL, 10);
        if (index < count) {
            yaml_node_t *item =
                yaml_document_get_node(document, node->data.sequence.items.start[index]);
            *ret_line = yaml_line(item);
            return item;
        }
    }
    return NULL;
}

unsigned long yaml_tree_line(const struct yaml_tree *tree, const char *path)
{
    /* libyaml's look-ups take no const, and change nothing. */
    yaml_document_t *document = (yaml_document_t *)(uintptr_t)&tree->document;
    const yaml_node_t *node = yaml_document_get_root_node(document);
    unsigned long line = yaml_line(node);
    while (node != NULL && path[0] != '\0') {
        size_t size = strcspn(path, ".");
        node = child_find(document, node, path, size, &line);
        path += size + (path[size] == '.' ? 1 : 0);
    }
    return line;
}
