/* Linked in front of the product's libraries: see memory.c. */
#include "variables.h"

uint8_t variables_data_begin[64] = {1};
uint8_t variables_bss_begin[64];
