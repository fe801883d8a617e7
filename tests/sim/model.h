#ifndef HOLDFAST_TESTS_SIM_MODEL_H
#define HOLDFAST_TESTS_SIM_MODEL_H

/*
 * What must hold, whatever has happened.
 *
 * The model sees what clients asked for and were told, and each change of a document on the server:
 * a client's (by the tag of its command) or the proxy's own. From the latter it knows which of the
 * former were taken back. The promises are checked where they could break, and at the end:
 *
 *   - each change is what its command makes of the document that was there
 *   - the proxy itself only ever puts back what a unit of its own has changed: nobody else's change
 *     is taken back with it, no stranger's ever
 *   - a committed unit has all its changes, one that was rolled back none; a command without an
 *     answer all or none; a command sent again is done once
 *   - nobody changes a document between another unit's change and that unit's commit; nor between
 *     what it was told of a change that is put off (unit.writes: deferred) and the change itself
 *   - a transaction sees its own writes, whether they are on the server yet or not; and writes no
 *     document that others have changed since it had read it
 *   - a unit is set aside only where a stranger wrote
 *   - at the end no unit is open in the journal, and no lock is held
 */

#include <bson/bson.h>
#include <stdbool.h>

#include "holdfast/slice.h"
#include "holdfast/wal.h"
#include "sim.h"

enum model_kind {
    MODEL_TRANSACTION,
    MODEL_PLAIN,     /* sent once */
    MODEL_RETRYABLE, /* sent again until it is answered */
    MODEL_STRANGER,
};

enum model_outcome {
    MODEL_UNKNOWN, /* no answer */
    MODEL_COMMITTED,
    MODEL_ROLLED_BACK,
    MODEL_AWRY, /* an error that says neither: the unit must be set aside in the journal */
};

/* Of the documents in each collection: 0 to this. */
#define MODEL_IDS 8

struct model_unit;

void model_begin_run(void);
struct model_unit *model_unit_new(enum model_kind kind, const uint8_t session[16],
                                  int64_t transaction_number);
/* The command, without session fields; returns its tag. */
uint64_t model_command_new(struct model_unit *unit, const bson_t *command);
/* For a command of a transaction that writes nothing itself: what was put off may come with it. */
uint64_t model_tag_new(struct model_unit *unit, const bson_t *command);
/* The server carries it out when the process that passed it on is gone. */
void model_is_late(uint64_t tag);
/* A write that a transaction has been told of and that may be put off still; false: there is none.
 */
bool model_put_off(bson_t *command);
/* The server, through the proxy, says how many documents the command has changed. */
void model_replied(uint64_t tag, int64_t changed);
void model_ended(struct model_unit *unit, enum model_outcome outcome);
/* The unit is shown these documents, an array, by a find with this filter. */
void model_read(const struct model_unit *unit, const char *namespace, const bson_t *filter,
                const bson_t *documents);
bool model_strangers_wrote(void);
bool model_server_lost(void);

/* The journal is asked to keep a record. */
void model_record_asked(uint64_t unit, enum wal_kind kind, struct slice payload);

/* After the process has ended cleanly. */
void model_check(void);
void model_reset(void);

#endif
