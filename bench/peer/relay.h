#ifndef HOLDFAST_BENCH_RELAY_H
#define HOLDFAST_BENCH_RELAY_H

/*
 * A bare relay: moves the bytes of each connection to one of its own and back, and looks at none.
 * No proxy in user space can do with less than its system calls, so it is what others are measured
 * against.
 */

#include "bench/options.h"
#include "holdfast/error.h"

/*
 * Prints "listening on HOST:PORT" and serves until SIGTERM or SIGINT. Main thread. Errors: what
 * keeps it from serving.
 */
MUST_CHECK enum status relay_serve(const struct bench_serve *serve, struct error *ret_error);

#endif
