#ifndef HOLDFAST_NET_LISTENER_H
#define HOLDFAST_NET_LISTENER_H

/* Listening sockets, and the addresses people write as HOST:PORT. */

#include <stdbool.h>
#include <sys/socket.h>

#include "holdfast/error.h"
#include "net/worker.h"

struct listener;

struct network_address {
    struct sockaddr_storage storage;
    socklen_t size;
};

/*
 * Resolves HOST:PORT (IPv6 in brackets) to its first address, or takes the path of a local socket,
 * which begins with / or unix:/; blocks on name service.
 * Errors: STATUS_INVALID (not of that form), STATUS_UNREACHABLE (the name does not resolve).
 */
MUST_CHECK enum status network_address_resolve(const char *host_and_port,
                                               struct network_address *ret_address,
                                               struct error *ret_error);

#define NETWORK_LOCAL_PREFIX "unix:"

/* "127.0.0.1:27017", "[::1]:27017", "unix:/run/a.sock"; "unix" for a local client. `text` holds at
 * least NETWORK_ADDRESS_TEXT_BYTES. */
#define NETWORK_ADDRESS_TEXT_BYTES 64
void network_address_text(const struct sockaddr *address, socklen_t size, char *text);

/*
 * Makes a non-blocking socket that listens on HOST:PORT, or unix:/PATH, whose file is made anew if
 * nobody listens there, with the rights that umask leaves, and stays; or takes the one that was
 * handed down for this text (listening.h). The caller owns it, and calls listening_forget() before
 * it closes it. *ret_address (may be NULL) gets the address with the real port,
 * NETWORK_ADDRESS_TEXT_BYTES. Errors: STATUS_INVALID, STATUS_UNREACHABLE (the name does not
 * resolve), STATUS_EXISTS (the port is taken), STATUS_IO.
 */
MUST_CHECK enum status listener_bind(const char *host_and_port, int *ret_descriptor,
                                     char *ret_address, struct error *ret_error);

/*
 * Binds and listens; connections are accepted by `worker` and given to `accepted` there, as
 * non-blocking descriptors that the callee owns. Errors: STATUS_INVALID, STATUS_EXISTS (the port is
 * taken), STATUS_IO. Call before the worker has other listeners' load, from any thread.
 */
MUST_CHECK enum status
listener_open(const char *host_and_port, struct worker *worker,
              void (*accepted)(void *context, int descriptor, const struct sockaddr *peer,
                               socklen_t peer_size),
              void *context, struct listener **ret_listener, struct error *ret_error);

/* The address it is bound to, with the real port. */
const char *listener_address(const struct listener *listener);

/* While it is paused nothing is accepted: who connects waits in the kernel's queue. Any thread;
   waits for the worker. */
void listener_pause(struct listener *listener, bool paused);

/* Stops accepting: from now on connections are refused. Any thread; waits for the worker. */
struct listener *listener_close(struct listener *listener);

#endif
