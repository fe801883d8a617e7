/*
 * The dead man's switch (dead_man.h): a POSIX timer on CLOCK_BOOTTIME, whose signal no process can
 * catch, block or sleep through. Timers are not inherited: a child that forks off is safe.
 *
 * It asks the kernel for the time and not holdfast/clock.h: the timer goes by the kernel's clock.
 */

#include "base/dead_man.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

uint64_t dead_man_now_ms(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

enum status dead_man_begin(struct dead_man *ret_switch, struct error *ret_error)
{
    struct sigevent kill = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    timer_t timer;
    if (getpid() == 1) {
        return error_set(ret_error, STATUS_UNSUPPORTED,
                         "the kernel does not let process 1 be killed from inside its container");
    }
    if (timer_create(CLOCK_BOOTTIME, &kill, &timer) != 0) {
        return error_set(ret_error, STATUS_LIMIT, "cannot make a timer: %s", strerror(errno));
    }
    ret_switch->timer = timer;
    return STATUS_OK;
}

void dead_man_set(struct dead_man *dead_man, uint64_t at_ms)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_ms / 1000u),
                     .tv_nsec = (long)(at_ms % 1000u) * 1000000L},
    };
    (void)timer_settime(dead_man->timer, TIMER_ABSTIME, &when,
                        NULL); /* fails for bad values only */
}

void dead_man_end(struct dead_man *dead_man)
{
    (void)timer_delete(dead_man->timer);
}
