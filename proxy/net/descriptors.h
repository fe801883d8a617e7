#ifndef HOLDFAST_NET_DESCRIPTORS_H
#define HOLDFAST_NET_DESCRIPTORS_H

/* How many file descriptors, and so connections, this process may have. */

#include <stdint.h>

/*
 * Raises the soft limit of open files to the hard one, as far as the system lets us. Returns the
 * limit that holds now; UINT64_MAX: none. Once is enough, again is harmless.
 */
uint64_t descriptors_raise(void);

/*
 * How many client connections `descriptors` suffice for, of which each takes `each`, 1..16; some
 * are kept for the journal, recovery, rollbacks and the admin server. At least 1.
 */
uint64_t descriptors_connections(uint64_t descriptors, uint64_t each);

/* How many descriptors suffice for `connections`, 1..1000000. */
uint64_t descriptors_wanted(uint64_t connections, uint64_t each);

#endif
