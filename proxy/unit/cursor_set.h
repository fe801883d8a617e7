#ifndef HOLDFAST_UNIT_CURSOR_SET_H
#define HOLDFAST_UNIT_CURSOR_SET_H

/*
 * Cursors of the server of which something is known: those of reads that asked for what is there,
 * whether it is committed or not, so that their getMores are not kept from it either.
 *
 * It never says yes of a cursor that was not noted: a read of the committed state must not be taken
 * for one. It may forget: of CURSOR_SET_COUNT cursors some of the oldest, whose getMores then wait
 * as all others do. Empty it when the server has started again, which may give an id once more.
 *
 * Zero-initialised, 32 KiB. Any thread, without locks.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CURSOR_SET_COUNT 4096u
#define CURSOR_SET_WAYS 4u

struct cursor_set {
    _Atomic uint32_t next;
    _Atomic int64_t ids[CURSOR_SET_COUNT / CURSOR_SET_WAYS][CURSOR_SET_WAYS];
};

/* Harmless with 0. */
void cursor_set_note(struct cursor_set *set, int64_t cursor_id);
bool cursor_set_has(const struct cursor_set *set, int64_t cursor_id);
void cursor_set_clear(struct cursor_set *set);

#endif
