#ifndef HOLDFAST_BASE_YAML_NODE_H
#define HOLDFAST_BASE_YAML_NODE_H

/*
 * What all readers of YAML files ask of a node of libyaml's. What a file may say, and what is told
 * about one that is wrong, is theirs.
 *
 * Threads: any; nothing is kept.
 */

#include <stdbool.h>
#include <yaml.h>

/* From 1. */
unsigned long yaml_line(const yaml_node_t *node);

/* The text of a scalar; NULL for another node or none, and for one with NULs inside. */
const char *yaml_text(const yaml_node_t *node);

/* Whether an earlier key of the mapping has the same text as that of `pair`. */
bool yaml_key_is_repeated(yaml_document_t *document, const yaml_node_t *mapping,
                          const yaml_node_pair_t *pair);

/* What YAML 1.2's core schema makes of a scalar without quotes. */
enum yaml_plain {
    YAML_PLAIN_TEXT, /* also yes, no, on, off */
    YAML_PLAIN_NULL, /* also an empty one */
    YAML_PLAIN_TRUE,
    YAML_PLAIN_FALSE,
    YAML_PLAIN_WHOLE,  /* a sign or none, and digits: for strtoll(), which they may be too many for
                        */
    YAML_PLAIN_NUMBER, /* with a point or an exponent: for strtod(), likewise */
    YAML_PLAIN_INFINITE,
    YAML_PLAIN_MINUS_INFINITE,
    YAML_PLAIN_NAN,
};

enum yaml_plain yaml_plain_judge(const char *text);

#endif
