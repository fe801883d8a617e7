#ifndef HOLDFAST_ENGINE_UNIQUE_INDEX_H
#define HOLDFAST_ENGINE_UNIQUE_INDEX_H

/* What unique_index.c and unique_keys.c share; others use unique_keys.h. */

#include <stdatomic.h>

#include "engine/unique_keys.h"

/* mongod's own limit for the fields of an index. */
#define UNIQUE_FIELDS_MAX 32u

struct unique_index {
    char *scope;   /* of its lock names: namespace and name of the index */
    bson_t fields; /* its key pattern, which `paths` point into */
    const char *paths[UNIQUE_FIELDS_MAX];
    size_t path_count;
    bson_t filter; /* of a partial index; else empty */
    bool sparse;
    bool folds_strings; /* it has a collation */
    bool is_of_id;      /* that on _id, with a collation: only _ids with text have a lock */
    bool whole;         /* its keys are not told apart */
};

struct unique_indexes {
    atomic_size_t holders;
    struct unique_index *items;
    size_t count;
    bool are_special;  /* one of any kind is no plain one: a geometry, a text, a hash */
    bool are_compound; /* one of any kind has several fields */
};

/* The size of the path's first name. */
size_t unique_component_size(const char *path);

/* Whether a change at `path` may change keys of any of them. */
bool unique_indexes_depend_on(const struct unique_indexes *indexes, const char *path);

/* Whether a write cannot have changed the document's keys. Size 0: it is absent. */
bool unique_index_is_unchanged(const struct unique_index *index, struct slice before,
                               struct slice after);

/* Whether the document has no key in a sparse or partial index, for certain. */
bool unique_index_leaves_out(const struct unique_index *index, struct slice document);

#endif
