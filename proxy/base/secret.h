#ifndef HOLDFAST_BASE_SECRET_H
#define HOLDFAST_BASE_SECRET_H

/*
 * Secrets (passwords, tokens, private keys): from files that nobody else can read, or from the
 * environment, and out of what `ps` shows. Any thread; secret_hide_arguments() before others run.
 */

#include "holdfast/error.h"
#include "holdfast/secret.h"

#define SECRET_FILE_BYTES_MAX 65536u

/* Whether secret_file_open() opens it, for what another library then reads. STATUS_INVALID. */
MUST_CHECK enum status secret_file_check(const char *what, const char *path,
                                         struct error *ret_error);

/*
 * The text of such a file without the blanks and line ends behind it, for the caller to give to
 * secret_free(). Errors: STATUS_INVALID (also: empty, longer than SECRET_FILE_BYTES_MAX, with a NUL
 * or a second line), STATUS_MEMORY.
 */
MUST_CHECK enum status secret_file_read(const char *what, const char *path, char **ret_text,
                                        struct error *ret_error);

/* Overwrites and frees it. NULL is harmless. */
void secret_free(char *text);

/*
 * A copy of the arguments, ended by NULL, for the life of the process; in the originals, which `ps`
 * shows, each password of a mongodb:// URI then is asterisks. NULL: out of memory.
 */
char **secret_hide_arguments(int argument_count, char **arguments);

#endif
