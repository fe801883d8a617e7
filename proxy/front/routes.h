#ifndef HOLDFAST_FRONT_ROUTES_H
#define HOLDFAST_FRONT_ROUTES_H

/*
 * Which requests are calls: those that change something.
 *
 * Without rules POST, PUT, PATCH and DELETE are. Rules are separated by commas or line ends; the
 * first one that matches decides:
 *
 *   GET /refresh        is a call (a GET that writes)
 *   !POST /search       is not one
 *   POST /v2/ *         (without that space) every path that begins with /v2/
 *   PUT /users/ * /tags (without those) one segment, whatever it is
 *   * /admin/ *         any method
 *
 * Paths are compared without their query, with percent-encoded letters, digits and -._~ decoded,
 * upper and lower case being different.
 *
 * routes_parse() makes it, routes_free() ends it; in between it is read only: any thread.
 */

#include <stdbool.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

struct routes;

/* Errors: STATUS_INVALID with the rule that is wrong, STATUS_MEMORY. `text` is copied. */
MUST_CHECK enum status routes_parse(const char *text, struct routes **ret_routes,
                                    struct error *ret_error);

/* NULL is harmless; returns NULL. */
struct routes *routes_free(struct routes *routes);

/* `target` as in the request line: a path with a query, or a URL. */
bool routes_is_call(const struct routes *routes, struct slice method, struct slice target);

#endif
