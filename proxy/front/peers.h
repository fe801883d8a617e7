#ifndef HOLDFAST_FRONT_PEERS_H
#define HOLDFAST_FRONT_PEERS_H

/* A short list of IP addresses. Read only once it is made: any thread. */

#include <stdbool.h>
#include <stddef.h>

#include "holdfast/error.h"
#include "net/ip_address.h"

/* The services of one domain: a handful. */
#define PEERS_MAX 64

struct peers {
    size_t count;
    struct ip_address addresses[PEERS_MAX];
};

/* Comma separated; "" for none. Errors: STATUS_INVALID names what is no IP address. */
MUST_CHECK enum status peers_parse(const char *text, struct peers *ret_peers,
                                   struct error *ret_error);

bool peers_have(const struct peers *peers, const struct sockaddr *address);

#endif
