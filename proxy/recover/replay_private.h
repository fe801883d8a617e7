#ifndef HOLDFAST_RECOVER_REPLAY_PRIVATE_H
#define HOLDFAST_RECOVER_REPLAY_PRIVATE_H

/* Shared by replay.c, which reads the journal, and replay_move.c, which moves the documents. */

#include <pthread.h>
#include <stdatomic.h>

#include "recover/replay_chains.h"

#define REPLAY_COMMENT "holdfast replay"

struct replay {
    struct wal *wal;
    struct upstream *upstream;
    const struct replay_options *options;
    struct replay_report *report;
    struct replay_chains *chains; /* while documents are moved: read only */
    /* The next is for the report, the list of those that are blocked, and the callers' functions,
       while several threads move documents. A document belongs to the thread that moves it. */
    pthread_mutex_t lock;
    atomic_bool stopping; /* replay_team_run(): its threads are to end */
    /* documents that a bulk command left where they were, for another try one by one */
    struct replay_document **blocked;
    size_t blocked_count;
    size_t blocked_capacity;
};

MUST_CHECK enum status replay_step(struct replay *replay, const struct replay_report *so_far,
                                   struct error *ret_error);

/*
 * Has options->threads threads do `work`, each once; they share `context`, and look at
 * replay->stopping. Waits for them. Errors: those of the first that failed, of the caller's
 * function, STATUS_LIMIT.
 */
MUST_CHECK enum status replay_team_run(struct replay *replay,
                                       enum status (*work)(struct replay *replay, void *context,
                                                           struct error *ret_error),
                                       void *context, struct error *ret_error);

/* Reads where the document belongs into document->wanted. */
MUST_CHECK enum status replay_read_wanted(struct replay *replay, struct replay_document *document,
                                          uint32_t *ret_left, struct error *ret_error);

enum replay_verdict {
    REPLAY_IN_PLACE,
    REPLAY_TO_MOVE,
    REPLAY_CONFLICT, /* it was told of */
};

/* Of a document that has `found` and `wanted`. */
MUST_CHECK enum status replay_judge(struct replay *replay, struct replay_document *document,
                                    uint32_t left, enum replay_verdict *ret_verdict,
                                    struct error *ret_error);

/* Adds 1 to a figure of the report. */
void replay_count(struct replay *replay, uint64_t *figure);

void replay_tell_conflict(struct replay *replay, const struct replay_document *document,
                          const char *reason);

void replay_forget_images(struct replay_document *document);

/* Moves all documents of replay->chains. */
MUST_CHECK enum status replay_move_all(struct replay *replay, struct error *ret_error);

/* Moves those that are blocked, one by one. (replay_blocked.c) */
MUST_CHECK enum status replay_move_blocked(struct replay *replay, struct error *ret_error);

#endif
