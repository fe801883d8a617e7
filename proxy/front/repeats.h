#ifndef HOLDFAST_FRONT_REPEATS_H
#define HOLDFAST_FRONT_REPEATS_H

/*
 * Requests with an Idempotency-Key, as exchange.c, request.c and calls.c see them. Without a key
 * exchange->repeat is NULL and every function says so at once. The exchange's worker.
 */

#include <stdbool.h>

#include "base/buffer.h"
#include "front/head.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"

struct exchange;
struct front_shared;
struct repeat;

/* A call's head, `bytes`, is here. False: it was refused. */
bool repeats_begin(struct exchange *exchange, const struct http_head *head, struct slice bytes);

/*
 * All of the body is here, as it came, or more than may be; exchange->repeat is not NULL. True: the
 * call may begin. False: the request is answered, or refused, once exchange_run() comes to it.
 */
bool repeats_admit(struct exchange *exchange, struct slice body);

/* Before call_commit(): what is held is to be recorded. False: it is too large for that. */
bool repeats_record(struct exchange *exchange);

/* Its call has ended, or will not begin: repetitions look at the journal from now on. */
void repeats_end(struct exchange *exchange, bool committed);

/* Whether what goes out is a recorded answer; and that, with its mark, for exchange->held. */
bool repeats_is_answered(const struct exchange *exchange);
MUST_CHECK enum status repeats_append_answer(struct exchange *exchange, struct buffer *out);

/* NULL is harmless; returns NULL. */
struct repeat *repeats_free(const struct front_shared *shared, struct repeat *repeat);

#endif
