/*
 * /proc/PID/stat is one line: "PID (NAME) STATE FIELD FIELD …". NAME may hold spaces and
 * parentheses, so fields count from the last ')'.
 */
#include "bench/load/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* As proc(5) numbers them; the state is field 3. */
#define FIELD_STATE 3
#define FIELD_USER_TIME 14
#define FIELD_SYSTEM_TIME 15
#define FIELD_RSS_PAGES 24

static uint64_t field(const char *after_name, int wanted)
{
    const char *at = after_name;
    for (int number = FIELD_STATE - 1; number < wanted && at != NULL; number++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? 0 : strtoull(at, NULL, 10);
}

/* The process's clock counts nanoseconds; what /proc tells ticks every 10 ms. */
static uint64_t cpu_ns(pid_t pid, const char *after_name)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &used) == 0) {
        return (uint64_t)used.tv_sec * UINT64_C(1000000000) + (uint64_t)used.tv_nsec;
    }
    uint64_t ticks = field(after_name, FIELD_USER_TIME) + field(after_name, FIELD_SYSTEM_TIME);
    return ticks * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
}

enum status process_usage_read(pid_t pid, struct process_usage *ret_usage, struct error *ret_error)
{
    char path[32];
    char line[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    char *read = file == NULL ? NULL : fgets(line, sizeof line, file);
    if (file != NULL) {
        fclose(file);
    }
    const char *after_name = read == NULL ? NULL : strrchr(line, ')');
    if (after_name == NULL) {
        return error_set(ret_error, STATUS_NOT_FOUND, "there is no process %ld", (long)pid);
    }
    ret_usage->cpu_ns = cpu_ns(pid, after_name);
    ret_usage->rss_bytes = field(after_name, FIELD_RSS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return STATUS_OK;
}
