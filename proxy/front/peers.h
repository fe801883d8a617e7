#ifndef HOLDFAST_FRONT_PEERS_H
#define HOLDFAST_FRONT_PEERS_H

/* A short list of IP addresses. Read only once it is made: any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "net/listener.h"

/* The services of one domain: a handful. */
#define PEERS_MAX 64

struct peers {
    size_t count;
    uint8_t addresses[PEERS_MAX][16]; /* IPv6; IPv4 ones mapped */
};

/* Comma separated; "" for none. Errors: STATUS_INVALID names what is no IP address. */
MUST_CHECK enum status peers_parse(const char *text, struct peers *ret_peers,
                                   struct error *ret_error);

bool peers_have(const struct peers *peers, const struct sockaddr *address);

#endif
