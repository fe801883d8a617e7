#ifndef HOLDFAST_TESTS_SIM_VARIABLES_H
#define HOLDFAST_TESTS_SIM_VARIABLES_H

/* The product's variables lie between these: see memory.c and CMakeLists.txt. */

#include <stdint.h>

extern uint8_t variables_data_begin[64];
extern uint8_t variables_data_end[64];
extern uint8_t variables_bss_begin[64];
extern uint8_t variables_bss_end[64];

#endif
