#ifndef HOLDFAST_NET_TLS_H
#define HOLDFAST_NET_TLS_H

/*
 * What the TLS connections of one listener, or those to one server, have in common: certificate,
 * key, authorities, versions. TLS 1.2 with forward secrecy and AEAD ciphers, and TLS 1.3; no
 * renegotiation, no compression, no resumption (so that no connection outlives a change of who is
 * trusted), ALPN only as `http` says; of a client as stream_tls_offer() does.
 *
 * tls_reload() reads the files again while connections are made: those there are keep what they
 * began with, later ones get the new. Any thread.
 */

#include <stdbool.h>

#include "holdfast/error.h"

struct tls;

enum tls_version {
    TLS_VERSION_1_2,
    TLS_VERSION_1_3,
};

/* Texts are copied; NULL is "". */
struct tls_options {
    bool is_client; /* towards the server; else towards clients */
    /* PEM: certificate, what lies between it and its authority, private key, in one file. A client
       may have none. It has to be readable by nobody else (base/secret.h). */
    const char *certificate_key_file;
    const char *password; /* of the key; "": it has none */
    /*
     * PEM: who is trusted. For a client "" is the system's authorities; for a server "" means that
     * no client is asked for a certificate, else each has to have one.
     */
    const char *ca_file;
    bool http; /* server: ALPN is answered, with h2 before http/1.1; else it is not looked at */
    bool certificate_optional;       /* server: who has none is let in as well */
    bool allow_invalid_certificates; /* client: whatever certificate the server has */
    bool allow_invalid_hostnames;    /* client: whatever name it has */
    const char *host;                /* client: the server's name or address; also its SNI */
    enum tls_version version_min;
    unsigned handshake_ms; /* how long one may take; 0: TLS_HANDSHAKE_MS */
};

#define TLS_HANDSHAKE_MS 30000u

/*
 * Errors: STATUS_INVALID (a file that is not there, not PEM, readable by others, of a key that does
 * not fit, of a certificate that has expired), STATUS_MEMORY.
 */
MUST_CHECK enum status tls_new(const struct tls_options *options, struct tls **ret_tls,
                               struct error *ret_error);

/* Reads the files again. On failure what there was stays. Errors: as tls_new(). */
MUST_CHECK enum status tls_reload(struct tls *tls, struct error *ret_error);

/* In how many days the own certificate expires; -1: there is none. */
int tls_expires_days(struct tls *tls);

/* Streams that were made with it live on. NULL is harmless; returns NULL. */
struct tls *tls_free(struct tls *tls);

#endif
