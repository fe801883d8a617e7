/*
 * File descriptors (descriptors.h). A process that runs out of them can neither accept nor roll
 * back: so the connections are bounded by what there is, below what was configured if need be.
 */
#include "net/descriptors.h"

#include <sys/resource.h>

/* The journal 3, log 3, workers 4 each, 4 rollback threads and the lease with libmongoc's sockets,
   the admin server's 64 connections; twice that. */
#define KEPT_DESCRIPTORS 256u

uint64_t descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return UINT64_MAX;
    }
    struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (limit.rlim_cur != limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0) {
        limit = raised;
    }
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur;
}

uint64_t descriptors_connections(uint64_t descriptors, uint64_t each)
{
    if (descriptors < KEPT_DESCRIPTORS + each) {
        return 1;
    }
    return (descriptors - KEPT_DESCRIPTORS) / each;
}

uint64_t descriptors_wanted(uint64_t connections, uint64_t each)
{
    return KEPT_DESCRIPTORS + connections * each;
}
