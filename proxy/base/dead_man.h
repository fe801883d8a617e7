#ifndef HOLDFAST_BASE_DEAD_MAN_H
#define HOLDFAST_BASE_DEAD_MAN_H

/*
 * A dead man's switch: the kernel kills this process at a given moment unless it is put off before.
 *
 * It is a timer of the kernel that sends SIGKILL. So it also ends a process that does not run:
 * stopped by SIGSTOP, held by a debugger, frozen with its container, or on a machine that was
 * asleep; and not one instruction of it is carried out after the moment has passed.
 *
 * What it cannot see: a virtual machine whose clock stood still while it was paused.
 *
 * One thread at a time per switch.
 */

#include <stdint.h>
#include <time.h>

#include "holdfast/error.h"

struct dead_man {
    timer_t timer;
};

/* The clock of the moments: milliseconds since the boot, also those that the machine slept. */
uint64_t dead_man_now_ms(void);

/* Made, not set. Give it to dead_man_end(). Errors: STATUS_LIMIT; STATUS_UNSUPPORTED as process 1,
   which the kernel would not kill (first_process.h). */
MUST_CHECK enum status dead_man_begin(struct dead_man *ret_switch, struct error *ret_error);

/* The process dies at `at_ms` unless this is called again before; 0: it does not. */
void dead_man_set(struct dead_man *dead_man, uint64_t at_ms);

void dead_man_end(struct dead_man *dead_man);

#endif
