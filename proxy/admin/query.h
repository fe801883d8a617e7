#ifndef HOLDFAST_ADMIN_QUERY_H
#define HOLDFAST_ADMIN_QUERY_H

/* What stands behind the question mark of a request: name=value&name=value, of letters and digits;
   nothing is decoded. Pure; any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies the value of `name`. False: it is not there, is longer, or holds anything but letters and
   digits; *ret_text is untouched. */
bool query_text(const char *query, const char *name, char *ret_text, size_t capacity);

/* The value as a number; `otherwise` if it is none or not there. */
uint64_t query_number(const char *query, const char *name, uint64_t otherwise);

#endif
