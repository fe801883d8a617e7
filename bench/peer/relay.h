#ifndef HOLDFAST_BENCH_RELAY_H
#define HOLDFAST_BENCH_RELAY_H

/*
 * A bare relay: moves the bytes of each connection to one of its own and back, and looks at none.
 * No proxy in user space can do with less than its system calls, so it is what others are measured
 * against.
 */

#include "bench/options.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"

/* One thread of it. */
struct relay;

/*
 * Starts one that is handed its connections; it ends with the process. `address`, of the server,
 * stays. Errors: STATUS_MEMORY, STATUS_IO.
 */
MUST_CHECK enum status relay_start(const struct network_address *address, struct relay **ret_relay,
                                   struct error *ret_error);

/*
 * Connects to the server for this client, a descriptor that does not block and is the relay's from
 * now on; `first` goes before what is still to come of it. If that fails the client is closed. Any
 * thread.
 */
void relay_take(struct relay *relay, int descriptor, struct slice first);

/*
 * Prints "listening on HOST:PORT" and serves until SIGTERM or SIGINT. Main thread. Errors: what
 * keeps it from serving.
 */
MUST_CHECK enum status relay_serve(const struct bench_serve *serve, struct error *ret_error);

#endif
