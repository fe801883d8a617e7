/* Linked behind the product's libraries: see memory.c. */
#include "variables.h"

uint8_t variables_data_end[64] = {1};
uint8_t variables_bss_end[64];
