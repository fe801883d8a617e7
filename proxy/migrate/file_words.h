#ifndef HOLDFAST_MIGRATE_FILE_WORDS_H
#define HOLDFAST_MIGRATE_FILE_WORDS_H

/*
 * The words of a migration file: which fields each has, and which steps it becomes; private to this
 * folder.
 *
 * Threads: any.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

#include "holdfast/error.h"
#include "migrate/step.h"
#include "migrate/yaml_value.h"

#define WORD_FIELDS_MAX 8

enum field_type {
    FIELD_NONE,
    FIELD_TEXT,
    FIELD_TEXTS, /* one or a list of them */
    FIELD_BOOL,
    FIELD_DOCUMENT,
    FIELD_DOCUMENTS, /* a list, not empty */
    FIELD_UPDATE,    /* operators, or a list of stages */
};

struct field {
    const char *name;
    enum field_type type;
    bool required;
};

struct reading;

struct word {
    const char *word;
    enum step_kind kind;
    struct field fields[WORD_FIELDS_MAX];
    enum status (*build)(struct reading *reading, struct step *step);
};

/* One step while it is read. */
struct reading {
    const struct yaml_file *file;
    const struct word *word;
    const yaml_node_t *at;
    const yaml_node_t *fields[WORD_FIELDS_MAX]; /* where each stands; NULL: it does not */
    bson_t *values[WORD_FIELDS_MAX];            /* {"v": value} */
    struct step_list *list;
    struct error *error;
};

/* NULL: there is none. */
const struct word *word_find(const char *text);

/* The index of the word's field; one that has no name, or WORD_FIELDS_MAX: there is none. */
size_t reading_field(const struct reading *reading, const char *name);

/* What is wrong with {"v": value} for a field of its type; NULL: nothing. */
const char *reading_judge(enum field_type type, const bson_t *value);

/* STATUS_INVALID at the field, or at the step if NULL. */
enum status reading_refuse(const struct reading *reading, const char *field, const char *says);

/* A copy of the field, which must be a collection's name. */
MUST_CHECK enum status reading_collection(struct reading *reading, const char *field,
                                          char **ret_name);

#endif
