#ifndef HOLDFAST_NET_TLS_PRIVATE_H
#define HOLDFAST_NET_TLS_PRIVATE_H

/* Between tls.c and stream_tls.c. */

#include <openssl/ssl.h>

#include "net/tls.h"

/* A new connection's state, by what was read last; towards `host`, NULL: as the options say. NULL:
   out of memory. */
SSL *tls_session_new(struct tls *tls, const char *host);
unsigned tls_handshake_ms(const struct tls *tls);

#endif
