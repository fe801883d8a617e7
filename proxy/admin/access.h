#ifndef HOLDFAST_ADMIN_ACCESS_H
#define HOLDFAST_ADMIN_ACCESS_H

/*
 * Whether a request comes from where it says, as far as a browser's headers tell: against pages of
 * strangers that a browser shows beside ours. The token is another matter (token.h).
 *
 * DNS rebinding: a stranger's name is made to lead to our address, and its page then reads our
 * answers as its own. The browser still says which name it asked: only addresses and localhost are
 * known here; whoever uses another name shows that he is no stranger by the token.
 * CSRF: a stranger's page sends requests without reading the answers. The browser says from where
 * (Origin, Sec-Fetch-Site).
 *
 * Whoever sends no such headers is no browser, and is not judged here. Pure; any thread.
 */

#include <stdbool.h>

enum admin_access {
    ADMIN_ACCESS_FINE,
    ADMIN_ACCESS_STRANGE_HOST,   /* a name that need not be ours */
    ADMIN_ACCESS_STRANGE_ORIGIN, /* another site's page has sent it */
};

/* The values of the headers Host, Origin and Sec-Fetch-Site; NULL: not sent. */
enum admin_access admin_access_check(const char *host, const char *origin, const char *fetch_site);

#endif
