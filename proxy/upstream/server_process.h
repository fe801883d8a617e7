#ifndef HOLDFAST_UPSTREAM_SERVER_PROCESS_H
#define HOLDFAST_UPSTREAM_SERVER_PROCESS_H

/*
 * Which process of the server this proxy works with. A server that has crashed and started again
 * may have lost what it had acknowledged, and nothing may be written to it before that is repaired.
 * So whoever has made a connection to the server looks first at what its hello says
 * (topologyVersion.processId, another one after each start) and asks here.
 *
 * From the first connection that leads to another process the answer to all is no, until the
 * repair is done and server_process_set() says with which process work goes on.
 *
 * A server that does not tell (before 4.4) always counts as the same.
 *
 * Threads: any.
 */

#include <stdbool.h>
#include <stdint.h>

#include "upstream/upstream.h"

struct server_process;

/*
 * `changed` is called once, on the thread that sees it first, when the server turns out to have
 * restarted: it must not block. NULL: out of memory.
 */
struct server_process *server_process_new(void (*changed)(void *context), void *context);
/* NULL is harmless; returns NULL. */
struct server_process *server_process_free(struct server_process *process);

/* Work goes on with this process. `id` NULL: the server does not tell. */
void server_process_set(struct server_process *process, const uint8_t *id);

/* Whether work may be done on a connection whose hello has just named `id` (NULL: none). */
bool server_process_check(struct server_process *process, const uint8_t *id);

/* Whether `id`, which a hello may have named long ago, is the process that work goes on with. */
bool server_process_is(struct server_process *process, const uint8_t *id);

/* The server has restarted, and the repair is not done. */
bool server_process_has_changed(struct server_process *process);

/*
 * The same for a struct upstream, to be asked before each work that writes: what follows goes over
 * the connection that was asked, or fails (upstream_pin()). Errors: those of upstream_describe(),
 * and STATUS_UNREACHABLE if no work may be done; after any, close it.
 */
MUST_CHECK enum status server_process_check_upstream(struct server_process *process,
                                                     struct upstream *upstream,
                                                     struct error *ret_error);

#endif
