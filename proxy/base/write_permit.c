/*
 * The flag behind write_permit.h. Any thread.
 */

#include "holdfast/write_permit.h"

_Atomic bool write_permit_flag = true;

void write_permit_set(bool up)
{
    atomic_store(&write_permit_flag, up);
}
