#ifndef HOLDFAST_MAINTAIN_PRIVATE_H
#define HOLDFAST_MAINTAIN_PRIVATE_H

/* What the files of this folder share; see maintain.h. */

#include <mongoc/mongoc.h>

#include "maintain/maintain.h"

struct maintain {
    mongoc_client_pool_t *pool; /* its server selection waits for a proxy that restarts */
    mongoc_client_t *client;
    uint64_t patience_ms;
    bool (*stop)(void *context);
    void *context;
    char database[64];
    struct maintain_refusal refusal; /* of the last call */
    bool transient;                  /* its error had the label: a unit may be run again */
    bool unknown;                    /* its error had the label: a commit may have happened */
};

/* Tries of one call: a pause between two that grows, until patience or `stop` end it. */
struct patience {
    struct maintain *maintain;
    uint64_t since_ms;
    unsigned tries;
};

struct patience patience_begin(struct maintain *maintain);

/* After a try that failed: pauses. False: no further one. */
bool patience_again(struct patience *patience);

/*
 * What libmongoc told of a command: `done` and the reply's writeErrors. Sets refusal, transient and
 * unknown. Errors: STATUS_REFUSED, STATUS_UNREACHABLE.
 */
MUST_CHECK enum status command_judge(struct maintain *maintain, bool done, const bson_t *reply,
                                     const bson_error_t *error, struct error *ret_error);

/* Gives the reply to the caller after STATUS_OK, else destroys it. */
void reply_hand_over(bson_t *reply, enum status status, bson_t *ret_reply);

#endif
