/* See metric.h. */
#include "bench/report/metric.h"

const struct metric_about metric_about[METRIC_COUNT] = {
#define X(name, key, title, unit, better, digits) {key, title, unit, better, digits},
    METRIC_LIST(X)
#undef X
};
