#ifndef HOLDFAST_BASE_LOCAL_SOCKET_H
#define HOLDFAST_BASE_LOCAL_SOCKET_H

/*
 * A socket in a directory, for processes of the same user on the same machine. The directory's path
 * may be longer than a socket's address can be. Any thread.
 */

#include "holdfast/error.h"

/* In the journal's directory: what `holdfast` asks of the living holdfastd (admin/admin.h). */
#define LOCAL_SOCKET_CONTROL "control"

/*
 * Listens on DIRECTORY/NAME, readable and writable by its owner only; a socket of that name that a
 * dead process left is replaced, so the caller must know that none lives. The caller closes
 * *ret_descriptor, which does not block, and removes the name. Errors: STATUS_IO.
 */
MUST_CHECK enum status local_socket_listen(const char *directory, const char *name,
                                           int *ret_descriptor, struct error *ret_error);

/* Connects, blocking. Errors: STATUS_NOT_FOUND (nobody listens there), STATUS_IO. */
MUST_CHECK enum status local_socket_connect(const char *directory, const char *name,
                                            int *ret_descriptor, struct error *ret_error);

/* Removes the name. Harmless if it is gone. */
void local_socket_remove(const char *directory, const char *name);

#endif
