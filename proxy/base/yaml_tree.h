#ifndef HOLDFAST_BASE_YAML_TREE_H
#define HOLDFAST_BASE_YAML_TREE_H

/*
 * A YAML file (or JSON, which YAML reads as well) whose contents are meant for the server: a BSON
 * document, and the lines that its parts stand in.
 *
 *  - Scalars without quotes are what YAML 1.2's core schema makes of them: null, true, false, whole
 *    numbers (32 or 64 bits), floating point; all others, and those in quotes, are texts.
 *  - Extended JSON is read where a mapping is such a value: {$oid: ...}, {$date: ...},
 *    {$numberLong: ...} and so on.
 *  - Anchors and aliases are followed, `<<` is a key like others. A file that would grow beyond
 *    what is bounded here is refused, as is one that contains itself.
 *
 * Threads: one at a time per struct yaml_tree.
 */

#include <bson/bson.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

struct yaml_tree;

#define YAML_TREE_BYTES_MAX ((size_t)4 << 20) /* of a file, and of what it is in BSON */
#define YAML_TREE_DEPTH_MAX 64                /* the server takes 100 levels */

/*
 * Reads a file. Errors: STATUS_NOT_FOUND, STATUS_IO, STATUS_INVALID ("FILE:LINE: what is wrong"),
 * STATUS_MEMORY. The caller gives *ret_tree to yaml_tree_free().
 */
MUST_CHECK enum status yaml_tree_read(const char *path, struct yaml_tree **ret_tree,
                                      struct error *ret_error);

/* The same of a text; `name` stands for the file in messages. */
MUST_CHECK enum status yaml_tree_parse(struct slice text, const char *name,
                                       struct yaml_tree **ret_tree, struct error *ret_error);

/* NULL is harmless; returns NULL. */
struct yaml_tree *yaml_tree_free(struct yaml_tree *tree);

/* What the file says; its top is a mapping. Valid as long as the tree. */
const bson_t *yaml_tree_document(const struct yaml_tree *tree);

/* The file's name. */
const char *yaml_tree_name(const struct yaml_tree *tree);

/*
 * The line (from 1) of the key or item that `path` leads to, with points: "rules.2.fix". Of a path
 * that does not exist the line of its last part that does.
 */
unsigned long yaml_tree_line(const struct yaml_tree *tree, const char *path);

#endif
