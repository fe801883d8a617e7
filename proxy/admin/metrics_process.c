/*
 * The process as its kernel sees it, under the names that every client library gives it. What /proc
 * does not tell is left out.
 *
 * Threads: the admin server's.
 */
#include "admin/metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The fields of /proc/self/stat behind the command, counted from 1 as in proc(5). */
enum { STAT_FIRST = 3, STAT_UTIME = 14, STAT_STIME = 15, STAT_THREADS = 20, STAT_START = 22 };
enum { STAT_VIRTUAL = 23, STAT_RESIDENT = 24, STAT_FIELDS = 25 };

static bool read_file(const char *path, char *text, size_t size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = descriptor < 0 ? -1 : read(descriptor, text, size - 1);
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    text[got < 0 ? 0 : got] = '\0';
    return got > 0;
}

static bool read_stat(uint64_t fields[STAT_FIELDS])
{
    char text[1024];
    if (!read_file("/proc/self/stat", text, sizeof text)) {
        return false;
    }
    char *at = strrchr(text, ')'); /* the command may hold anything */
    for (int field = STAT_FIRST; at != NULL && field < STAT_FIELDS; field++) {
        at = strchr(at + 1, ' ');
        fields[field] = at == NULL ? 0 : strtoull(at + 1, NULL, 10);
    }
    return at != NULL;
}

/* When the machine was started, in seconds since 1970. */
static uint64_t boot_seconds(void)
{
    static const char name[] = "\nbtime ";
    char text[65536];
    if (!read_file("/proc/stat", text, sizeof text)) {
        return 0;
    }
    const char *found = strstr(text, name);
    return found == NULL ? 0 : strtoull(found + sizeof name - 1, NULL, 10);
}

static uint64_t count_descriptors(void)
{
    uint64_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        return 0;
    }
    while (readdir(directory) != NULL) {
        count++;
    }
    (void)closedir(directory);
    return count < 3 ? 0 : count - 3; /* without ".", ".." and that of the directory itself */
}

void admin_metrics_process(struct exposition *page)
{
    uint64_t fields[STAT_FIELDS] = {0};
    struct rlimit limit;
    long ticks = sysconf(_SC_CLK_TCK);
    long page_bytes = sysconf(_SC_PAGESIZE);
    if (ticks > 0 && page_bytes > 0 && read_stat(fields)) {
        uint64_t tick_us = 1000000u / (uint64_t)ticks;
        exposition_family(page, "process_cpu_seconds", EXPOSITION_COUNTER,
                          "User and system CPU time.");
        exposition_microseconds(page, "", (fields[STAT_UTIME] + fields[STAT_STIME]) * tick_us);
        exposition_gauge(page, "process_resident_memory_bytes", "Resident memory.",
                         fields[STAT_RESIDENT] * (uint64_t)page_bytes);
        exposition_gauge(page, "process_virtual_memory_bytes",
                         "Virtual memory: mostly the journal's map, of which little is in use.",
                         fields[STAT_VIRTUAL]);
        exposition_gauge(page, "process_threads", "Threads.", fields[STAT_THREADS]);
        exposition_family(page, "process_start_time_seconds", EXPOSITION_GAUGE,
                          "When the process was started, in seconds since 1970.");
        exposition_microseconds(page, "", boot_seconds() * 1000000u + fields[STAT_START] * tick_us);
    }
    exposition_gauge(page, "process_open_fds", "Open file descriptors.", count_descriptors());
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        exposition_gauge(page, "process_max_fds", "How many there may be.",
                         (uint64_t)limit.rlim_cur);
    }
}
