#ifndef HOLDFAST_MIGRATE_STEP_H
#define HOLDFAST_MIGRATE_STEP_H

/*
 * One step of a migration, as a migration file says it and as it is carried out. Several words of
 * the file are one kind of step: setDefault, renameField and removeField are updates.
 *
 * Threads: plain data.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

enum step_kind {
    STEP_UPDATE,
    STEP_DELETE,
    STEP_INSERT,
    STEP_CREATE_INDEX,
    STEP_DROP_INDEX,
    STEP_CREATE_COLLECTION,
    STEP_RENAME_COLLECTION,
    STEP_DROP_COLLECTION,
    STEP_SET_VALIDATOR,
};

struct step {
    enum step_kind kind;
    const char *word;      /* as in the file: "setDefault"; static */
    unsigned long line;    /* in the file */
    char *collection;      /* of the migration's database */
    bson_t *filter;        /* UPDATE, DELETE: which documents; never NULL there */
    bson_t *update;        /* UPDATE: the operators, or a pipeline's stages as an array */
    bool pipeline;         /* UPDATE: `update` is an array */
    bson_t *array_filters; /* UPDATE: an array, or NULL */
    bson_t *left;          /* UPDATE: after it no document may match this; or NULL */
    const char *left_says; /* what is wrong with those that do; static */
    bson_t *documents;     /* INSERT: an array */
    bson_t *index;         /* CREATE_INDEX: {key, name, ...} */
    char *name; /* *_INDEX: the index's; RENAME_COLLECTION: the new one; or the field, for people */
    bson_t *options; /* CREATE_COLLECTION, SET_VALIDATOR: for the command, never NULL there */
    bool keep;       /* DROP_COLLECTION: under another name, so that it can be undone */
};

/* A list of steps; zeroed, it is empty. */
struct step_list {
    struct step *steps;
    size_t count;
};

/* Its journal records are what undoes it; else it needs an inverse command. */
static inline bool step_is_documents(const struct step *step)
{
    return step->kind == STEP_UPDATE || step->kind == STEP_DELETE || step->kind == STEP_INSERT;
}

/* Appends the step, whose texts and documents then belong to the list; false if memory is short,
   and they are freed. */
bool step_list_add(struct step_list *list, struct step *step);
void step_free(struct step *step);
/* Harmless twice. */
void step_list_free(struct step_list *list);

#endif
