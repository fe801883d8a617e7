#ifndef HOLDFAST_TESTS_SIM_STORE_H
#define HOLDFAST_TESTS_SIM_STORE_H

/* What a crash leaves of the journal's store (store.c), and looking into it. */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/slice.h"
#include "wal/store.h"

/* The process has died; with `power_cut` what was not synced may be lost. */
void sim_store_crash(bool power_cut);
void sim_store_set_full(bool full);
/* A commit has failed, and no other can follow in this life of the process. */
bool sim_store_has_failed(void);
void sim_store_reset(void);
/* The rows of a table of the journal, in order, as they are on the disk. */
void sim_store_each(enum store_table table,
                    void (*row)(struct slice key, struct slice value, void *context),
                    void *context);

#endif
