#ifndef HOLDFAST_BOUNDARY_IDEMPOTENCY_H
#define HOLDFAST_BOUNDARY_IDEMPOTENCY_H

/*
 * Requests that their caller may repeat until they are answered (the Idempotency-Key header field,
 * draft-ietf-httpapi-idempotency-key-header): the work is done once.
 *
 *   idempotency_begin()
 *     NEW        the key is the caller's until idempotency_end(): carry the request out in a unit
 *                that bears it (call.h, `request_key`), and commit with idempotency_put_answer()
 *     ANSWERED   its unit has committed: *ret_answer is what was answered
 *     else       an error; nothing is to be ended
 *
 * What is remembered is the COMMIT record, found by the key in the journal's index of sessions: so
 * an answer is durable with its unit or does not exist, survives what the journal survives, and
 * costs no memory. In memory are only the keys that are at work now, and how much is recorded.
 *
 * A unit that was rolled back leaves nothing behind: its request is carried out again. One in
 * conflict never is.
 *
 * Threads: any. idempotency_begin() reads a few pages of the journal's map.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "holdfast/wal.h"
#include "unit/unit.h"

/* SHA-256 of what makes a request the same as another. */
#define IDEMPOTENCY_FINGERPRINT_BYTES 32
/* Of a key: that of the draft's examples has 36. */
#define IDEMPOTENCY_KEY_BYTES_MAX 255u

struct idempotency;

struct idempotency_options {
    struct wal *wal;    /* outlives it */
    uint64_t keep_ms;   /* how long an answer is kept */
    uint64_t bytes_max; /* of recorded answers, together */
};

/* Counts what the journal has recorded already. Waits for the disk. Errors: STATUS_MEMORY, those of
   wal_read() and wal_property_set(). */
MUST_CHECK enum status idempotency_new(const struct idempotency_options *options,
                                       struct idempotency **ret_idempotency,
                                       struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct idempotency *idempotency_free(struct idempotency *idempotency);

void idempotency_set_quota(struct idempotency *idempotency, uint64_t bytes_max);

enum idempotency_found {
    IDEMPOTENCY_NEW,
    IDEMPOTENCY_ANSWERED,
    IDEMPOTENCY_RUNNING,  /* the first request of this key is at work */
    IDEMPOTENCY_MISUSED,  /* the key was used for another request */
    IDEMPOTENCY_CONFLICT, /* set aside for an operator: unit *ret_unit */
    IDEMPOTENCY_FULL,     /* bytes_max are recorded */
    IDEMPOTENCY_FAILED,   /* out of memory, or the journal cannot be read; it is logged */
};

/* What was answered: the bytes as they were held, and whether the connection was to end there. */
struct idempotency_answer {
    struct buffer bytes; /* owned by the caller, who has initialised it */
    bool closes;
};

/* The answer's bytes are appended to ret_answer->bytes. */
enum idempotency_found idempotency_begin(struct idempotency *idempotency,
                                         const struct unit_session_key *key,
                                         const uint8_t fingerprint[IDEMPOTENCY_FINGERPRINT_BYTES],
                                         struct idempotency_answer *ret_answer, uint64_t *ret_unit);

/* The request is at work no longer; `recorded`: bytes that its COMMIT record has kept, or 0. */
void idempotency_end(struct idempotency *idempotency, const struct unit_session_key *key,
                     size_t recorded);

/* What the COMMIT record is to keep (struct call, `answer`), into an empty, initialised document.
   False: it does not fit. */
MUST_CHECK bool idempotency_put_answer(bson_t *reply,
                                       const uint8_t fingerprint[IDEMPOTENCY_FINGERPRINT_BYTES],
                                       struct slice answer, bool closes);

struct idempotency_figures {
    uint64_t running;
    uint64_t recorded_bytes; /* about: in steps of a 64th of the time they are kept */
    uint64_t answered;       /* requests that were answered from the journal, since the start */
    uint64_t refused;        /* running, misused or full, since the start */
};

void idempotency_figures_get(struct idempotency *idempotency,
                             struct idempotency_figures *ret_figures);

#endif
