#ifndef HOLDFAST_BOUNDARY_DOMAIN_RETRIES_H
#define HOLDFAST_BOUNDARY_DOMAIN_RETRIES_H

/*
 * Which way the newest retryable write of each session of a domain went (driver specification:
 * Retryable Writes): into the unit of a call, or outside. What is sent a second time goes the way
 * of its first time, where it is known again: in a call by its unit (unit/answers.h), outside by
 * the server. The other way it would be carried out once more.
 *
 * Bounded: RETRIES_MAX sessions, some 150 bytes each, and as many again of who has not logged in,
 * so that such a one cannot make the others forgotten; beyond it the longest unused is forgotten,
 * and a retry of its is taken for a first time. A restart forgets all; the domain is fenced then.
 *
 * The domain's mutex is held.
 */

#include <stddef.h>
#include <stdint.h>

#include "holdfast/slice.h"

#define RETRIES_MAX 65536u

/* A write that its driver may send again. */
struct domain_retry {
    const char *user; /* "": nobody has logged in */
    struct slice session_id;
    int64_t number;
};

struct retry_list {
    struct retry_entry *entries; /* uthash head; the longest unused first */
};

struct domain_retries {
    struct retry_list known;
    struct retry_list strangers; /* of who has not logged in */
};

enum retry_way {
    RETRY_AS_ASKED, /* it is new, or came this way before */
    RETRY_OUTSIDE,  /* it was outside, when no call was open */
    RETRY_ENDED,    /* it was in another call, which has ended */
    RETRY_TOO_OLD,  /* its session has used a higher number already */
    RETRY_NO_MEMORY,
};

/* Also notes it. `call`: number of the unit of the call that is open; 0: none is. */
enum retry_way domain_retries_note(struct domain_retries *retries, const struct domain_retry *retry,
                                   uint64_t call);

/* Back to zeros. */
void domain_retries_free(struct domain_retries *retries);

#endif
