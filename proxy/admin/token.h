#ifndef HOLDFAST_ADMIN_TOKEN_H
#define HOLDFAST_ADMIN_TOKEN_H

/*
 * The token of the admin port (admin.tokenFile, or HOLDFAST_ADMIN_TOKEN): whoever sends it,
 *
 *     Authorization: Bearer TOKEN
 *
 * may do what changes something. Only its digest is kept, and compared in a time that does not
 * depend on what was sent. Any thread may ask; setting is the caller's to order.
 */

#include <stdbool.h>
#include <stdint.h>

#define ADMIN_TOKEN_DIGEST_BYTES 32

struct admin_token {
    bool set; /* else nothing matches */
    uint8_t digest[ADMIN_TOKEN_DIGEST_BYTES];
};

enum admin_token_result {
    ADMIN_TOKEN_RIGHT,
    ADMIN_TOKEN_WRONG, /* or none was sent: 401 */
    ADMIN_TOKEN_UNSET, /* none is configured, so nobody may: 403 */
};

/* `text` is the token; NULL or "": none. */
void admin_token_set(struct admin_token *token, const char *text);

/* `authorization` is the header's value, NULL if there was none. */
enum admin_token_result admin_token_check(const struct admin_token *token,
                                          const char *authorization);

#endif
