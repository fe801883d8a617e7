#ifndef HOLDFAST_REQUEST_KEY_H
#define HOLDFAST_REQUEST_KEY_H

/*
 * By what the journal finds the unit of a request that its caller may repeat (Idempotency-Key): a
 * session key (wal.h) that begins with this. Retention keeps such units for as long as the answer
 * may be asked for, which the property says, in milliseconds as text; without it, not longer than
 * others.
 */
#define REQUEST_KEY_PREFIX "Idempotency-Key\0"
#define REQUEST_KEY_PREFIX_BYTES 16u
#define REQUEST_KEEP_PROPERTY "requests.keep"

#endif
