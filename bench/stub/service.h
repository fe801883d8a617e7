#ifndef HOLDFAST_BENCH_SERVICE_H
#define HOLDFAST_BENCH_SERVICE_H

/*
 * An asynchronous stub of a service: HTTP/1.1 on one event loop, any number of calls at work.
 *
 *   request whole --> works (--work, only waits) --> its writes, one after the other --> answer
 *
 * A GET writes nothing. A write carries the request's traceparent in its comment. The answer
 * is 200, or 500 with the reason if a write was refused. A caller that leaves changes nothing for
 * its handler, which goes on to its end as people's handlers do.
 */

#include "bench/options.h"
#include "holdfast/error.h"

/* A call to this path with a number behind it makes so many writes. */
#define SERVICE_WRITES_PATH "/writes/"

/*
 * Prints "listening on HOST:PORT" and serves until SIGTERM or SIGINT, then prints what it did.
 * Main thread. Errors: what kept it from serving, and a connection to --mongo that was lost.
 */
MUST_CHECK enum status service_serve(const struct bench_serve *options, struct error *ret_error);

#endif
