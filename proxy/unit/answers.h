#ifndef HOLDFAST_UNIT_ANSWERS_H
#define HOLDFAST_UNIT_ANSWERS_H

/*
 * What the writes of one unit were answered that their driver may send a second time, after a lost
 * answer, under the same session and number (driver specification: Retryable Writes): so that such
 * a write is carried out once.
 *
 * A driver uses the numbers of a session in rising order and one at a time, so that the last one of
 * each session is enough. Bounded: ANSWERS_MAX sessions, ANSWER_BYTES_MAX of each answer; a larger
 * one is known to have been given, not what it said.
 *
 * Owned by whoever has the unit checked out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

#define ANSWERS_MAX 256u
#define ANSWER_BYTES_MAX (16u * 1024u)
#define ANSWER_SESSION_BYTES 16

struct answers {
    struct answer *list;
    size_t count;
};

enum answer_found {
    ANSWER_NEW,  /* not carried out yet */
    ANSWER_KEPT, /* it was; *ret_reply is what it was answered, valid until the next keep or free */
    ANSWER_KNOWN, /* it was, or is older than the session's last one; what it was answered is lost
                   */
};

/* `session_id`: ANSWER_SESSION_BYTES. */
enum answer_found answers_find(const struct answers *answers, struct slice session_id,
                               int64_t number, struct slice *ret_reply);

/* STATUS_FULL: more sessions than are remembered. STATUS_MEMORY. */
MUST_CHECK enum status answers_keep(struct answers *answers, struct slice session_id,
                                    int64_t number, struct slice reply);

/* Back to zeros. */
void answers_free(struct answers *answers);

#endif
