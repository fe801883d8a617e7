#ifndef HOLDFAST_SCRUB_RULES_H
#define HOLDFAST_SCRUB_RULES_H

/*
 * What has to hold between documents, as a YAML file says it (docs/SCRUB.md).
 *
 * Whatever its kind, a rule is this: *sources*, each of which makes a row of some documents, with a
 * key; the rows of all sources with one key are a *group*, of which each source's number of rows,
 * smallest and largest value, and sum are known; and an expression that is true of a sound group.
 * So one aggregation finds what breaks a rule: a scan of each source and a sort or hash by key.
 *
 *     reference   rows of `from` need one of `to`
 *     partners    all of them are there, or none; with a value, the same one
 *     twin        those that are there have the same value
 *     counter     the value of `of` is the number of rows, or the sum, of the other
 *     unique      one row a key
 *     stuck       no row older than that
 *     expect      an expression is true of each document
 *     group       anything else: sources and an expression by name
 *
 * Threads: constant once made; any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

#define SCRUB_RULES_MAX 1000
#define SCRUB_SOURCES_MAX 7 /* as many other collections as a serializable unit can lock */
#define SCRUB_FIXES_MAX 8

/* One list makes the enum and its names in the file. */
#define SCRUB_KIND_LIST(X)                                                                         \
    X(REFERENCE, "reference")                                                                      \
    X(PARTNERS, "partners")                                                                        \
    X(TWIN, "twin")                                                                                \
    X(COUNTER, "counter")                                                                          \
    X(UNIQUE, "unique")                                                                            \
    X(STUCK, "stuck")                                                                              \
    X(EXPECT, "expect")                                                                            \
    X(GROUP, "group")

enum scrub_kind {
#define X(name, text) SCRUB_##name,
    SCRUB_KIND_LIST(X)
#undef X
};

const char *scrub_kind_name(enum scrub_kind kind);

/* Expressions are held as documents of one field, "e"; NULL where there is none. */
struct scrub_source {
    char *name;
    char *collection;
    bson_t *where;  /* a query; may be empty */
    bson_t *unwind; /* an array of paths with $; may be empty */
    bson_t *key;
    bson_t *value;
    bson_t *sum;
    bson_t *sound;     /* rows of which this is true are left out */
    int64_t longer_ms; /* STUCK: sound are those younger than that */
    bool key_is_plain; /* a path, or a list of paths: an index may find it */
};

#define SCRUB_ACTION_LIST(X)                                                                       \
    X(DELETE, "delete") /* the documents of a source */                                            \
    X(SET, "set")       /* fields of them to what expressions make of each */                      \
    X(UPDATE, "update") /* them by update operators */                                             \
    X(INSERT, "insert") /* what is missing, from a template */                                     \
    X(MARK, "mark")     /* them as found */

enum scrub_action {
#define X(name, text) SCRUB_##name,
    SCRUB_ACTION_LIST(X)
#undef X
};

enum scrub_keep { SCRUB_KEEP_NONE, SCRUB_KEEP_OLDEST, SCRUB_KEEP_NEWEST };

struct scrub_fix {
    enum scrub_action action;
    size_t source;        /* whose documents; of INSERT: made from */
    bool from_document;   /* INSERT: one for each document of `source`, else one for the group */
    size_t into;          /* INSERT: the source that lacks it */
    enum scrub_keep keep; /* DELETE: but for one, by _id */
    bool conditional;     /* done only where the group has nothing of `without` */
    size_t without;
    bson_t *body; /* SET, UPDATE, INSERT */
};

struct scrub_rule {
    char *name;
    char *why; /* "" if the file does not say */
    char *database;
    enum scrub_kind kind;
    struct scrub_source sources[SCRUB_SOURCES_MAX];
    size_t source_count;
    bool by_document; /* each row is a finding of its own, with the document's _id as key */
    bson_t *expect;   /* true of a sound group; NULL if by_document */
    struct scrub_fix fixes[SCRUB_FIXES_MAX];
    size_t fix_count;
};

struct scrub_rules {
    struct scrub_rule *list;
    size_t count;
};

/* The field that marked documents have. */
#define SCRUB_MARK_FIELD "holdfastScrub"

/*
 * Reads a file of rules. Errors: STATUS_INVALID ("FILE:LINE: what is wrong"), STATUS_NOT_FOUND,
 * STATUS_IO, STATUS_MEMORY. The caller gives *ret_rules to scrub_rules_free().
 */
MUST_CHECK enum status scrub_rules_read(const char *path, struct scrub_rules *ret_rules,
                                        struct error *ret_error);
/* The same of a text; `name` stands for the file in messages. */
MUST_CHECK enum status scrub_rules_parse(struct slice text, const char *name,
                                         struct scrub_rules *ret_rules, struct error *ret_error);
void scrub_rules_free(struct scrub_rules *rules);

#endif
