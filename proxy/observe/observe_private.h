#ifndef HOLDFAST_OBSERVE_OBSERVE_PRIVATE_H
#define HOLDFAST_OBSERVE_OBSERVE_PRIVATE_H

/* What observe.c, report.c and metrics.c share. */

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
};

#endif
