#ifndef HOLDFAST_RECOVER_SURVEY_H
#define HOLDFAST_RECOVER_SURVEY_H

/*
 * What a recovery has to look at: the units that are open, and those of which the server may have
 * lost something because it has crashed; private to this folder.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "recover/probe.h"

/* A durable property of the journal: when, and in which process of the server, the first probe of
   it was made, or was about to be. */
#define SURVEY_PROPERTY_PROBED "upstream.probed"

struct survey {
    bool may_have_lost;     /* the server is not the process that took the last probe */
    uint64_t survived_lsn;  /* up to here nothing is lost */
    int64_t survived_probe; /* number of the probe that says so */
    struct probe next;      /* what to put in its place when all is recovered */
    uint64_t conflicts;     /* units in conflict */
    uint64_t *open;         /* units that are open; newest last record first */
    size_t open_count;
    uint64_t *units; /* may_have_lost only: open ones too, and all others that ended above
                        survived_lsn */
    size_t unit_count;
};

/*
 * Looks, and pins `upstream` to its connection. `lease`: the journal's; NULL or of epoch 0
 * (look_only): `next` is not to be put anywhere. The caller gives *ret_survey to survey_free().
 *
 * Errors: STATUS_FOREIGN (the probe has seen a newer LSN than the journal has: it is a stale copy),
 * those of upstream.h and of reading the journal.
 */
MUST_CHECK enum status survey_make(struct wal *wal, struct upstream *upstream,
                                   const struct lease *lease, struct survey *ret_survey,
                                   struct error *ret_error);
/* To be called before the probe is made: remembers it if it is the first. Errors: those of wal.h.
 */
MUST_CHECK enum status survey_note_probe(struct wal *wal, const struct probe *probe,
                                         struct error *ret_error);
/* Zeros are harmless. */
void survey_free(struct survey *survey);

#endif
