#ifndef HOLDFAST_BENCH_STEPS_H
#define HOLDFAST_BENCH_STEPS_H

/* The requests of one operation, one after the other, as ready-made bytes. One thread at a time. */

#include <bson/bson.h>

#include "base/buffer.h"
#include "bench/documents.h"
#include "bench/options.h"
#include "holdfast/error.h"

#define STEPS_MAX 5u

enum step_kind {
    STEP_READ,
    STEP_READ_ALL,
    STEP_WRITE,
    STEP_READ_HOT,
    STEP_FILTER_HOT,
    STEP_WRITE_HOT,
    STEP_COMMIT,
    STEP_ABORT,
    STEP_CALL, /* an HTTP request */
};

struct step {
    enum step_kind kind;
    struct buffer request;
};

struct steps {
    struct step steps[STEPS_MAX];
    uint32_t count;
    /* The operation is done when this one is answered. What stands behind it is STEP_ABORT, for a
       transaction that is to be tried again. */
    uint32_t last;
    bool is_transaction;
    bool serializable; /* its first command says so */
};

/*
 * What connection `number` says. Errors: STATUS_MEMORY, STATUS_IO (no random bytes). *steps, zeroed
 * before, is to be freed either way.
 */
MUST_CHECK enum status steps_make(const struct bench_options *options,
                                  const struct documents *documents, uint32_t number,
                                  struct steps *steps);
void steps_free(struct steps *steps);

/* Where such a step's command has the _id of its document; NULL: nowhere. */
const char *step_kind_document(enum step_kind kind);

/* Which documents: those that all connections share. */
static inline bool step_kind_is_hot(enum step_kind kind)
{
    return kind == STEP_READ_HOT || kind == STEP_FILTER_HOT || kind == STEP_WRITE_HOT;
}

/* The body of a step's message. */
bool steps_body(const struct step *step, bson_t *ret_body);

#endif
