#ifndef HOLDFAST_UNIT_CURSOR_GATES_H
#define HOLDFAST_UNIT_CURSOR_GATES_H

/*
 * Which cursors of the server read other collections than the one that they are named after: those
 * of pipelines with $lookup and the like. A getMore says nothing of that, and a server that
 * evaluates as it goes looks there then.
 *
 * Two sets of bits by hash, so that it is bounded whatever clients open: 16 KiB. It may say yes of
 * a cursor that reads none (the getMore looks at more gates than it has to); it says no only of
 * those that were not noted, or not used for CURSOR_GATES_KEPT_MS: the server closes a cursor that
 * is idle for 10 minutes, and one in a session after 30.
 *
 * Zero-initialised. Any thread, without locks.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CURSOR_GATES_KEPT_MS (35u * 60u * 1000u)
#define CURSOR_GATES_BITS 65536u

struct cursor_gates {
    _Atomic uint64_t turned_ms; /* when `current` last changed */
    _Atomic uint32_t current;   /* what is noted goes there; the other one is emptied next */
    _Atomic uint64_t bits[2][CURSOR_GATES_BITS / 64];
};

/* `now_ms`: of the monotonic clock. */
void cursor_gates_note(struct cursor_gates *cursors, int64_t cursor_id, uint64_t now_ms);
/* True: it was noted, and is again. */
/* Nothing is known of cursors that another process has opened: any may be one. */
void cursor_gates_note_all(struct cursor_gates *cursors, uint64_t now_ms);
bool cursor_gates_has(struct cursor_gates *cursors, int64_t cursor_id, uint64_t now_ms);

#endif
