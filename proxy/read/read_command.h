#ifndef HOLDFAST_READ_READ_COMMAND_H
#define HOLDFAST_READ_READ_COMMAND_H

/*
 * What has to be known of a command that reads, to show its client the committed state.
 *
 * Two steps, for most reads need the first only: read_command_parse() walks the top level once, and
 * the stages of a pipeline; its bytes may be anything. read_command_analyse() looks everywhere, at
 * bytes that bson_check() has accepted.
 *
 * Pure functions; all slices look into the command's body; nothing is allocated. Any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "unit/gate.h"
#include "wire/command.h"

enum read_kind {
    READ_FIND,
    READ_AGGREGATE,
    READ_COUNT,
    READ_DISTINCT,
    READ_GET_MORE,
};

enum read_form {
    READ_FORM_PASS,    /* it shows no documents of a collection, or asks for what is there */
    READ_FORM_POINT,   /* a find of the one document with this _id */
    READ_FORM_OVERLAY, /* the server can evaluate it over the committed state (rewrite.h) */
    READ_FORM_WAIT,    /* it can be answered only when nothing there is uncommitted */
};

/* Collections that a command reads, each with its gate; more of them count as any. */
#define READ_GATES_MAX 16
/* The same of names that its pipeline has beside its own; also those of the views behind it. */
#define READ_OTHERS_MAX 24

struct read_command {
    enum read_kind kind;
    const struct command_view *view;
    const char *database;
    const char *collection;
    /* What its pipeline names beside its own ($lookup and the like), itself among them if it does
       so twice. */
    const char *others[READ_OTHERS_MAX];
    size_t other_count;
    bool reads_anything; /* what it names is more than that, or not understood */
    /* Of the collection that it reads; then those of `others`. GATE_SERVER: anything. Of names
       only, as long as read_resolve() has not looked which of them are views. */
    uint32_t gates[READ_GATES_MAX];
    const char *names[READ_GATES_MAX]; /* of the collections; NULL with GATE_SERVER */
    size_t gate_count;
    bool is_special; /* it passes for what it is, not for its read concern */
    bool
        is_view; /* read_resolve(): what it names is one; gates[0] is of the collection behind it */
    bool is_unsure;      /* read_resolve(): nobody knows what it reads; a gate is GATE_SERVER */
    uint64_t generation; /* read_resolve(): engine/namespace_cache.h */
    bool passes;         /* PASS, as far as can be told without looking everywhere */
    bool tails;          /* a find whose cursor waits for new documents */
    bool awaits;         /* a getMore of such a cursor, which does wait */

    struct slice filter; /* of a count its query; size 0: none */
    struct slice sort;
    struct slice projection;
    struct slice pipeline; /* the array */
    const char *key;       /* distinct; NULL: none */
    bool has_collation;    /* other than {locale: "simple"} */
    int64_t cursor_id;     /* getMore; 0: none */
    int64_t skip;
    int64_t limit; /* never negative */
    int64_t batch_size;
    bool has_batch_size;
    bool single_batch;
    bool is_odd;     /* an option or a type that only the server itself understands */
    struct slice id; /* the element `_id` of a filter that is nothing else; size 0: none */
};

/* Whether a command of this name reads documents. */
bool read_command_is_known(const char *name);

/*
 * STATUS_NOT_FOUND: the view is of no command that reads documents; STATUS_INVALID: its bytes are
 * broken: the server will say so.
 */
MUST_CHECK enum status read_command_parse(const struct command_view *view,
                                          struct read_command *ret_command);

/* Adds what the pipeline, an array, names to `others`. Bytes as for read_command_parse(). */
void read_command_add_pipeline(struct read_command *command, struct slice pipeline);

/* Appends a gate, that of the collection `name` (NULL: of any), if it is not there yet behind the
   first; what is too much becomes GATE_SERVER. */
void read_command_add_gate(struct read_command *command, uint32_t gate, const char *name);

/* Whether one of the stages that must be a pipeline's first, and the like, is anywhere inside. */
bool read_command_is_first_only(struct slice pipeline);

/* *ret_why (a literal): for WAIT, what it is that cannot be rewritten. */
enum read_form read_command_analyse(const struct read_command *command, const char **ret_why);

/* Whether at most one document has this value as its _id. `collated`: text may be equal to another
   text there. */
bool read_command_names_one(const bson_iter_t *id, bool collated);

/*
 * Copies { _id: value } of a command whose `id` is set and whose value names at most one document,
 * whatever the collation of its collection's strings. False: it may match other documents, too.
 */
bool read_command_point_key(const struct read_command *command, bson_t *key);

#endif
