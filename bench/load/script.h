#ifndef HOLDFAST_BENCH_SCRIPT_H
#define HOLDFAST_BENCH_SCRIPT_H

/*
 * What one connection says: its requests as ready-made bytes, in which only numbers change, and
 * what their replies must say.
 *
 *     script_begin() --> request --> script_take(reply) --+--> DONE | RETRY | FAILED: begin again
 *                           ^                             |
 *                           '------ script_request() <----'  CONTINUE
 *
 * One thread at a time for all scripts of a run.
 */

#include "bench/load/documents.h"
#include "bench/load/keys.h"
#include "bench/load/load.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"

struct script;

enum script_verdict {
    SCRIPT_CONTINUE, /* the operation goes on with the next request */
    SCRIPT_DONE,
    SCRIPT_RETRY,  /* a unit that is to be tried again */
    SCRIPT_FAILED, /* *ret_error says what the target said */
};

/*
 * The script of connection `number` (from 0), whose descriptor may be used for what has to be said
 * first. `keys` outlives it. Errors: STATUS_MEMORY, STATUS_IO (no random bytes), those of
 * link_call(). Not for idle.
 */
MUST_CHECK enum status script_new(const struct load_options *options,
                                  const struct documents *documents, struct keys *keys,
                                  uint32_t number, int descriptor, struct script **ret_script,
                                  struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct script *script_free(struct script *script);

/* Begins the next operation, or (`again`) the same one as before. */
void script_begin(struct script *script, bool again);

/* The request to send now; valid until the next call. */
struct slice script_request(const struct script *script);

/* The status of the last HTTP answer that was taken; 0: none. */
int script_http_status(const struct script *script);

/* Looks at the whole reply message to it. */
MUST_CHECK enum script_verdict script_take(struct script *script, struct slice message,
                                           struct error *ret_error);

#endif
