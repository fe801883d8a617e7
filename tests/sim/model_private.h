#ifndef HOLDFAST_TESTS_SIM_MODEL_PRIVATE_H
#define HOLDFAST_TESTS_SIM_MODEL_PRIVATE_H

/* What the model knows of a run, for its parts: model.c, model_own.c, model_check.c. */

#include "holdfast/slice.h"
#include "model.h"

#define MODEL_UNITS_MAX 512
#define MODEL_COMMANDS_MAX 2048
#define MODEL_EFFECTS_MAX 8192
#define MODEL_READS_MAX 4096

struct model_unit {
    enum model_kind kind;
    enum model_outcome outcome;
    uint8_t session[16];
    int64_t transaction_number;
    uint64_t commit_asked; /* of the journal, when: in the order of effects; UINT64_MAX: not */
    bool set_aside;        /* the journal says so */
    uint64_t journaled_as; /* its number in the journal; 0: none */
    unsigned life;         /* of the process, in which it began */
    uint64_t began_us;
};

struct model_command {
    struct model_unit *unit;
    struct bytes bytes;
    bool replied;
    uint64_t replied_at; /* in the order of effects */
    uint64_t breaks;     /* sim.breaks then */
    bool late;           /* a plain write, carried out when who had passed it on was gone */
    int64_t changed;
};

/* A change of a document on the server. */
struct model_effect {
    uint64_t order;
    uint64_t since;      /* when its unit had the document for sure */
    uint64_t taken_back; /* when; 0: not */
    bool lost;           /* by a crash of the server */
    bool gone;           /* lost, and others have written since: it will not come back */
    struct model_command *command;
    char namespace[32];
    struct bytes key;
    struct bytes before; /* size 0: there was none */
    struct bytes after;
};

/* A transaction has seen a document, which it had not written before. */
struct model_read {
    const struct model_unit *unit;
    char namespace[32];
    int32_t id;
    uint64_t at; /* in the order of effects */
};

extern struct model {
    struct model_unit units[MODEL_UNITS_MAX];
    size_t unit_count;
    struct model_command commands[MODEL_COMMANDS_MAX];
    size_t command_count;
    struct model_effect effects[MODEL_EFFECTS_MAX];
    size_t effect_count;
    struct model_read reads[MODEL_READS_MAX];
    size_t read_count;
    uint64_t order; /* of effects and what else happens */
} model;

/* ---- model_own.c */

/*
 * A write of a unit that was put off comes with a later command of it, the one with this tag: which
 * command it is of.
 */
struct model_command *model_command_of(uint64_t tag, const char *namespace, const bson_t *key,
                                       const bson_t *before, const bson_t *after);
/* Its client was told that the write has changed so many. */
void model_own_note(const struct model_command *command);

/* ---- model.c */

/* Of this collection, database and all. */
bool model_names_collection(const struct model_command *command, const char *namespace);
size_t model_number_of(const struct model_unit *unit);
/* False: there is none. */
bool model_view(const struct bytes *bytes, bson_t *ret_view);
bool model_same_bytes(const struct bytes *a, const struct bytes *b);
bool model_same_document(const struct model_effect *a, const struct model_effect *b);
bool model_has_key(const struct model_effect *effect, const char *namespace, const bson_t *key);
/* The proxy cannot know of it: written around it, or by a plain write that a former life of it had
   passed on and that arrived late. */
bool model_is_strangers(const struct model_command *command);
/* Whether the change is in the document, as far as it is for its unit. */
bool model_is_there(const struct model_effect *effect);
/* False: it does not select the document. *ret_after NULL: it removes it. */
bool model_command_result(const struct model_command *command, const bson_t *key,
                          const bson_t *before, bson_t **ret_after);

#endif
