#ifndef HOLDFAST_BENCH_STEPS_H
#define HOLDFAST_BENCH_STEPS_H

/*
 * The requests of one connection's operations, as ready-made bytes in which only numbers change. An
 * operation is some steps, one after the other; a load has one operation, or several of which each
 * has its share. One thread at a time.
 */

#include <bson/bson.h>

#include "base/buffer.h"
#include "bench/load/documents.h"
#include "bench/load/load.h"
#include "holdfast/error.h"

/* What must be said to it. */
enum step_answer {
    STEP_FOUND,   /* a document at least; the first one's value is kept */
    STEP_CHANGED, /* `expected` documents were */
    STEP_OK,
    STEP_EVENTS,  /* of a change stream; as long as there are none it is asked again */
    STEP_ABORTED, /* anything: of what has ended already it is mostly an error */
    STEP_CALLED,  /* HTTP */
};

/* Whose _id goes into it. */
enum step_document {
    STEP_NO_DOCUMENT,
    STEP_OWN,   /* the connection's next */
    STEP_FIRST, /* the connection's first */
    STEP_HOT,
    STEP_KEY, /* that which the operation is about */
    STEP_FROM,
    STEP_TO,
    STEP_NEW, /* none that has been before */
};

enum patch_kind {
    PATCH_DOCUMENT,
    PATCH_VALUE,       /* to be set: what was read, changed by the step's `change` */
    PATCH_TRANSACTION, /* its number */
    PATCH_UNIT,        /* the unit's name */
    PATCH_LIMIT,       /* 1 to STEPS_SCAN_MAX */
    PATCH_CURSOR,
};

/* A number in the request. */
struct patch {
    enum patch_kind kind;
    uint32_t offset; /* in the message */
    uint32_t bytes;  /* 4 or 8, little-endian; PATCH_UNIT: hexadecimal digits */
};

struct step {
    enum step_answer answer;
    enum step_document document;
    uint32_t expected;
    uint32_t account; /* 0 or 1: where the value read is kept, and which one is set */
    int32_t change;
    struct buffer request;
    struct patch *patches;
    uint32_t patch_count;
};

/* What the operation is about. */
enum operation_key {
    OPERATION_OWN,     /* its steps say it */
    OPERATION_POPULAR, /* keys.h */
    OPERATION_LATEST,
    OPERATION_INSERT,
};

#define STEPS_OPERATIONS_MAX 2u
#define STEPS_SCAN_MAX 100u /* documents of a scan; YCSB's */
#define STEPS_NONE UINT32_MAX

struct operation {
    uint32_t first;
    uint32_t last;  /* done when this one is answered */
    uint32_t abort; /* for one that is to be tried again; STEPS_NONE: there is none */
    uint32_t percent;
    enum operation_key key;
};

struct steps {
    struct step *steps;
    uint32_t count;
    struct operation operations[STEPS_OPERATIONS_MAX];
    uint32_t operation_count;
    bool is_unit; /* to be tried again where the target says so */
};

/*
 * What connection `number` says. Errors: STATUS_MEMORY, STATUS_IO (no random bytes). *steps, zeroed
 * before, is to be freed either way.
 */
MUST_CHECK enum status steps_make(const struct load_options *options,
                                  const struct documents *documents, uint32_t number,
                                  struct steps *steps);
void steps_free(struct steps *steps);

/* Puts a number into the request of a step; PATCH_UNIT: as text. */
void steps_patch(struct step *step, const struct patch *patch, uint64_t number);

#endif
