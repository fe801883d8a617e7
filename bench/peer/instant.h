#ifndef HOLDFAST_BENCH_INSTANT_H
#define HOLDFAST_BENCH_INSTANT_H

/*
 * A fake: a server that answers a few commands at once, without looking at any data, before a real
 * server that gets everything else. What a proxy costs shows best where the server costs next to
 * nothing; and it holds any number of idle connections in some hundred bytes each, where a real
 * server has a thread for each and runs out of descriptors. It is good for nothing else: what it
 * answers is not true.
 *
 *     find by _id     a document with this _id, whether there is one or not
 *     update by _id   that one document was changed; none is
 *     hello           what the server said when the fake was started
 *     ping            ok
 *
 * All else, and what belongs to a transaction, a session's retry, an upsert or a login, goes to the
 * server: by a connection of its own, with all that follows on that connection.
 */

#include "base/buffer.h"
#include "bench/options.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"

/*
 * Prints "listening on ADDRESS" and serves until SIGTERM or SIGINT. Main thread. Errors: what
 * keeps it from serving.
 */
MUST_CHECK enum status instant_serve(const struct bench_serve *serve, struct error *ret_error);

/* ------------------------------------------------------------------ parts, for tests */

/*
 * Appends the answer to one whole message to `out`. False, with nothing appended: it is not one of
 * those above. `hello`: the document that answers one.
 */
MUST_CHECK bool instant_answer(struct slice message, struct slice hello, struct buffer *out);

#endif
