#ifndef HOLDFAST_WAL_KEY_FILE_H
#define HOLDFAST_WAL_KEY_FILE_H

/* The file that holds the key of an encrypted journal. Private to wal/. Any thread. */

#include <stdint.h>

#include "holdfast/error.h"

#define KEY_FILE_KEY_BYTES 32u

/*
 * Reads the key: 32 random bytes in base64 (RFC 4648, 44 characters), white space around it is
 * ignored. Who may read the file: as secret_file_open() has it.
 *
 * STATUS_INVALID: the message names the file and says what to do.
 */
MUST_CHECK enum status key_file_read(const char *path, uint8_t ret_key[KEY_FILE_KEY_BYTES],
                                     struct error *ret_error);

#endif
