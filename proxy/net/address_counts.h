#ifndef HOLDFAST_NET_ADDRESS_COUNTS_H
#define HOLDFAST_NET_ADDRESS_COUNTS_H

/*
 * How many connections each peer's IP address has, so that one of them cannot take all places. An
 * IPv6 host commonly has a /64 to itself: its addresses count as one. Memory: one entry for each
 * address that is connected. Any thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct address_counts;

/* What is counted as one. */
struct address_key {
    uint8_t bytes[16];
    bool counted; /* else there is nothing to leave */
};

/* NULL: out of memory. */
struct address_counts *address_counts_new(void);
struct address_counts *address_counts_free(struct address_counts *counts);

/*
 * One more of that address, if it has fewer than `max` (0: no bound, and it is not counted). False:
 * it has too many, or there is no memory. *ret_key is for address_counts_leave().
 */
bool address_counts_enter(struct address_counts *counts, const struct sockaddr *peer, uint64_t max,
                          struct address_key *ret_key);

/* One fewer. Harmless for a key that is not counted. */
void address_counts_leave(struct address_counts *counts, const struct address_key *key);

#endif
