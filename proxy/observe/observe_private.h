#ifndef HOLDFAST_OBSERVE_OBSERVE_PRIVATE_H
#define HOLDFAST_OBSERVE_OBSERVE_PRIVATE_H

/* What observe.c, report.c and metrics.c share. */

#include <stdatomic.h>

#include "observe/calls.h"
#include "observe/findings.h"
#include "observe/observe.h"
#include "observe/route.h"
#include "observe/text.h"

struct observe {
    uint64_t seed;
    struct text_table *texts;
    struct route_table *routes;
    struct findings *findings;
    struct calls *calls;
    atomic_uint_fast64_t outside_writes;
    atomic_uint_fast64_t outside_bytes;
};

#endif
