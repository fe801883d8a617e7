/*
 * What the product asks of the system beside threads, network and disk: the clock, random numbers,
 * names, limits, its own end. And its crash points, each a place where the process may die.
 */
#include <assert.h>
#include <bson/bson.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "holdfast/crash_point.h"
#include "holdfast/race_point.h"
#include "sim.h"

int __wrap_clock_gettime(clockid_t id, struct timespec *ret_time);
ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags);
void __wrap_arc4random_buf(void *buffer, size_t size);
void __wrap_bson_oid_init(bson_oid_t *oid, bson_context_t *context);
int __wrap_gethostname(char *name, size_t size);
pid_t __wrap_getpid(void);
pid_t __wrap_fork(void);
int __wrap_sigwaitinfo(const sigset_t *signals, siginfo_t *ret_info);
int __wrap_getrlimit(int resource, struct rlimit *ret_limit);
int __wrap_setrlimit(int resource, const struct rlimit *limit);
int __wrap_shm_unlink(const char *name);
int __wrap_fprintf(FILE *file, const char *format, ...);
int __wrap_timer_create(clockid_t clock, struct sigevent *event, timer_t *ret_timer);
int __wrap_timer_settime(timer_t timer, int flags, const struct itimerspec *when,
                         struct itimerspec *ret_before);
int __wrap_timer_delete(timer_t timer);
_Noreturn void __wrap__exit(int code);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret_list);
void __wrap_freeaddrinfo(struct addrinfo *list);

int __wrap_clock_gettime(clockid_t id, struct timespec *ret_time)
{
    uint64_t us = sim.now_us;
    if (id == CLOCK_REALTIME) {
        us = (uint64_t)((int64_t)us + sim.wall_offset_us);
    }
    *ret_time =
        (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    return 0;
}

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)buffer)[i] = (uint8_t)random_next();
    }
    return (ssize_t)size;
}

void __wrap_arc4random_buf(void *buffer, size_t size)
{
    (void)__wrap_getrandom(buffer, size, 0);
}

void __wrap_bson_oid_init(bson_oid_t *oid, bson_context_t *context)
{
    (void)context;
    (void)__wrap_getrandom(oid->bytes, sizeof oid->bytes, 0);
}

int __wrap_gethostname(char *name, size_t size)
{
    (void)snprintf(name, size, "sim");
    return 0;
}

pid_t __wrap_getpid(void)
{
    return 4711;
}

/* Only process 1 makes a child and waits for it (base/first_process.c). */
pid_t __wrap_fork(void)
{
    abort();
}

int __wrap_sigwaitinfo(const sigset_t *signals, siginfo_t *ret_info)
{
    (void)signals;
    (void)ret_info;
    abort();
}

int __wrap_getrlimit(int resource, struct rlimit *ret_limit)
{
    (void)resource;
    *ret_limit = (struct rlimit){.rlim_cur = 4096, .rlim_max = 4096};
    return 0;
}

int __wrap_setrlimit(int resource, const struct rlimit *limit)
{
    (void)resource;
    (void)limit;
    return 0;
}

int __wrap_shm_unlink(const char *name)
{
    (void)name;
    return 0;
}

/* What main() tells a person. */
int __wrap_fprintf(FILE *file, const char *format, ...)
{
    va_list arguments;
    int size = 0;
    if (sim.verbose || file != stderr) {
        va_start(arguments, format);
        size = vfprintf(file, format, arguments);
        va_end(arguments);
    }
    return size;
}

_Noreturn void __wrap__exit(int code)
{
    process_exit(code);
}

/* ------------------------------------------------------------------ the dead man's switch */

/* The one timer of the process, which kills it: base/dead_man.h. Another number for each setting.
 */
static uint64_t dead_man_setting;

void system_disarm(void)
{
    dead_man_setting++;
}

static void kill_if_not_set_again(void *object, uint64_t setting)
{
    (void)object;
    if (setting == dead_man_setting) {
        process_die("the dead man's switch");
    }
}

int __wrap_timer_create(clockid_t clock, struct sigevent *event, timer_t *ret_timer)
{
    static int the_timer;
    (void)clock;
    (void)event;
    *ret_timer = &the_timer;
    return 0;
}

int __wrap_timer_settime(timer_t timer, int flags, const struct itimerspec *when,
                         struct itimerspec *ret_before)
{
    (void)timer;
    (void)flags;
    (void)ret_before;
    uint64_t at_us =
        (uint64_t)when->it_value.tv_sec * 1000000u + (uint64_t)when->it_value.tv_nsec / 1000u;
    dead_man_setting++;
    if (at_us > 0) {
        schedule_at(at_us > sim.now_us ? at_us : sim.now_us, kill_if_not_set_again, NULL,
                    dead_man_setting);
    }
    return 0;
}

int __wrap_timer_delete(timer_t timer)
{
    (void)timer;
    system_disarm();
    return 0;
}

/* Numeric addresses only, all of one host. */
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret_list)
{
    (void)node;
    (void)hints;
    struct addrinfo *found = calloc(1, sizeof *found + sizeof(struct sockaddr_in));
    struct sockaddr_in *address = (struct sockaddr_in *)(void *)(found + 1);
    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                    .sin_port = htons((uint16_t)strtoul(service, NULL, 10))};
    found->ai_family = AF_INET;
    found->ai_addr = (struct sockaddr *)address;
    found->ai_addrlen = sizeof *address;
    *ret_list = found;
    return 0;
}

void __wrap_freeaddrinfo(struct addrinfo *list)
{
    free(list);
}

static const char *const crash_point_names[] = {
#define X(name) [CRASH_POINT_##name] = #name,
    CRASH_POINT_LIST(X)
#undef X
};

/* What a worker wants done before its process dies at a place; of former lives nothing counts. */
struct before {
    const struct fiber *fiber;
    unsigned life;
    void (*let_go)(void *context);
    void *context;
};

static struct before befores[16];

void crash_point_before(void (*let_go)(void *context), void *context)
{
    struct before *at = NULL;
    for (size_t i = 0; i < sizeof befores / sizeof befores[0]; i++) {
        bool used = befores[i].life == process_lives();
        bool own = used && befores[i].fiber == fiber_current();
        at = own || (at == NULL && !used) ? &befores[i] : at;
    }
    assert(at != NULL);
    *at = (struct before){fiber_current(), let_go == NULL ? 0 : process_lives(), let_go, context};
}

/* Half of the time: so a process dies both with and without what its turn would have sent. */
static void let_go(void)
{
    for (size_t i = 0; i < sizeof befores / sizeof befores[0]; i++) {
        if (befores[i].life == process_lives() && befores[i].fiber == fiber_current() &&
            random_chance(1, 2)) {
            befores[i].let_go(befores[i].context);
        }
    }
}

void crash_point_reach(enum crash_point point)
{
    let_go();
    process_place(crash_point_names[point]);
    fiber_preempt();
}

void race_point_reach(const char *name)
{
    (void)name;
    fiber_preempt();
}

/* Operators and the programs that they call are not simulated; one place is passed too seldom. */
static bool is_simulated(const char *name)
{
    static const char *const others[] = {
        "resolve_",     "compact_", "replay_",
        "redo_adopted", "native_", /* its server has no transactions */
        "upgrade_"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strncmp(name, others[i], strlen(others[i])) == 0) {
            return false;
        }
    }
    return true;
}

bool system_died_everywhere(void)
{
    bool everywhere = true;
    for (size_t i = 0; i < CRASH_POINT_COUNT; i++) {
        const char *name = crash_point_names[i];
        if (is_simulated(name) && !process_has_died_at(name)) {
            printf("the process never died at %s\n", name);
            everywhere = false;
        }
    }
    return everywhere;
}
