#ifndef HOLDFAST_TESTS_SIM_CLIENTS_H
#define HOLDFAST_TESTS_SIM_CLIENTS_H

/* The simulated services: each a small driver on a connection of its own, and what it does. */

#include <stdbool.h>
#include <stdint.h>

void clients_prepare(void); /* the documents that are there at the start */
void clients_start(void);
/* Somebody writes at the server. */
void clients_stranger(void *object, uint64_t number);
bool clients_are_done(void);
/* One more, which writes to every document once: no lock may be left. */
void clients_start_last(void);
void clients_reset(void);

#endif
