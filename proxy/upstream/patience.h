#ifndef HOLDFAST_UPSTREAM_PATIENCE_H
#define HOLDFAST_UPSTREAM_PATIENCE_H

/*
 * How long this process goes on waiting for the server when it is to end. Until then it is what the
 * caller of upstream_open() has said, or a minute; a server that is there and does not answer must
 * not keep the end for so long.
 *
 *   upstream_stop_waiting()   from then on until the server has said nothing for
 *                             UPSTREAM_END_ANSWER_MS to any of those who wait, and for
 *                             UPSTREAM_END_MS in all
 *   told to end               before that: whoever has waited for UPSTREAM_END_ANSWER_MS waits no
 *                             longer, for it may be the thread that is to begin the end
 *
 * Threads: any.
 */

#include <stdbool.h>
#include <stdint.h>

/* Waits look as often as that whether they are over. */
#define PATIENCE_LOOK_MS 50

/* Whether a wait that began at `began_ms` (monotonic), without any answer yet, is to end. */
bool patience_is_over(uint64_t began_ms);
/* The server has said something. */
void patience_answered(void);

/* The next look of a wait of `wait_ms`, which so began: 0 if its time is up. */
int32_t patience_next_ms(uint64_t began_ms, int32_t wait_ms);

#endif
