#ifndef HOLDFAST_NET_IP_ADDRESS_H
#define HOLDFAST_NET_IP_ADDRESS_H

/*
 * IP addresses to be compared: an IPv4 peer is the same by an IPv4 socket as by an IPv6 one, where
 * its address is ::ffff:10.0.0.7. Without ports and zones. Any thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "holdfast/slice.h"

struct ip_address {
    uint8_t bytes[16]; /* IPv6; IPv4 ones mapped */
};

/* "10.0.0.7", "fd00::1"; without brackets. False, and *ret_address untouched: it is none. */
bool ip_address_parse(struct slice text, struct ip_address *ret_address);

/* False, and *ret_address untouched: of a local socket. */
bool ip_address_of(const struct sockaddr *address, struct ip_address *ret_address);

bool ip_address_equal(const struct ip_address *one, const struct ip_address *other);

#endif
