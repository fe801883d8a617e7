/* The admin port's token (token.h). */
#include "admin/token.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <strings.h>

void admin_token_set(struct admin_token *token, const char *text)
{
    *token = (struct admin_token){0};
    if (text != NULL && text[0] != '\0') {
        token->set = true;
        (void)SHA256((const unsigned char *)text, strlen(text), token->digest);
    }
}

enum admin_token_result admin_token_check(const struct admin_token *token,
                                          const char *authorization)
{
    static const char scheme[] = "Bearer ";
    uint8_t digest[ADMIN_TOKEN_DIGEST_BYTES];
    if (!token->set) {
        return ADMIN_TOKEN_UNSET;
    }
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0) {
        return ADMIN_TOKEN_WRONG;
    }
    const char *sent = authorization + sizeof scheme - 1;
    sent += strspn(sent, " ");
    (void)SHA256((const unsigned char *)sent, strlen(sent), digest);
    return CRYPTO_memcmp(digest, token->digest, sizeof digest) == 0 ? ADMIN_TOKEN_RIGHT
                                                                    : ADMIN_TOKEN_WRONG;
}
