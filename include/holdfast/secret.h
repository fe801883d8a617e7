#ifndef HOLDFAST_SECRET_H
#define HOLDFAST_SECRET_H

/* Files that hold a secret: a password, a token, a key. Any thread. */

#include "holdfast/error.h"

/*
 * Opens a file that is for its owner alone or, if it belongs to root, for a group to read: so
 * orchestrators mount secrets, and packages install them. `what` names it in messages. The caller
 * closes *ret_descriptor. Errors: STATUS_INVALID (it is not there, no file, or others may read or
 * change it; the message says what to do).
 */
MUST_CHECK enum status secret_file_open(const char *what, const char *path, int *ret_descriptor,
                                        struct error *ret_error);

#endif
