#ifndef HOLDFAST_CLI_RECOVER_NATIVE_H
#define HOLDFAST_CLI_RECOVER_NATIVE_H

/* `holdfast recover` on a journal of the native engine. */

#include <stdint.h>

#include "cli/session.h"

/* Asks the server how each commit ended, and prints it. *ret_left: conflicts in the journal; with
   --dry-run also what would be asked. Errors: those of native_recover(). */
MUST_CHECK enum status recover_native(struct session *session, uint64_t *ret_left,
                                      struct error *ret_error);

#endif
