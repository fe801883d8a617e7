/*
 * The flag behind write_permit.h. Any thread.
 */

#include "holdfast/write_permit.h"

_Atomic bool write_permit_flag = true;
_Atomic unsigned write_permit_inside = 0;

void write_permit_set(bool up)
{
    atomic_store(&write_permit_flag, up);
}

bool write_permit_is_left(void)
{
    return atomic_load(&write_permit_inside) == 0;
}
