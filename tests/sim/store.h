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
bool sim_store_is_full(void);
/* A commit, or a write to the tail, has failed; no other can follow in this life of the process. */
bool sim_store_has_failed(void);
/* Draws whether the disk fails here, for good. */
bool sim_store_fails(const char *what);
/* Something is about to be written: a promise is broken if it follows a failure. */
void sim_store_expect_sound(const char *what);
void sim_store_reset(void);
typedef void sim_store_row(struct slice key, struct slice value, void *context);
/* The records of the journal, in order: those of the tables, and what the tail has beyond them.
   After the process has ended by itself: then the tail has none, unless the disk failed. */
void sim_store_each_record(const char *directory, sim_store_row *row, void *context);
/* Whether the tail continues the tables as they are on the disk. Fails the run if not. */
void sim_store_check_tail(const char *directory);

/* The tail's file (tail.c), on the same disk. */
void sim_tail_crash(bool power_cut);
void sim_tail_directory_synced(void);
void sim_tail_reset(void);

#endif
