/*
 * Process 1 of a container (first_process.h). It holds nothing and does nothing but wait; when it
 * dies the kernel ends the others with it.
 *
 * Thread: the only one there is.
 */
#include "base/first_process.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool stays; /* a process 1 of ours, behind this one */

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

/* Whether `child` has ended, among all that have. */
static bool take_ended(pid_t child, int *ret_status)
{
    bool ended = false;
    int status = 0;
    pid_t taken;
    while ((taken = waitpid(-1, &status, WNOHANG)) > 0) {
        if (taken == child) {
            *ret_status = status;
            ended = true;
        }
    }
    return ended;
}

_Noreturn static void stay(pid_t child, const sigset_t *signals)
{
    int status = 0;
    while (!take_ended(child, &status)) {
        siginfo_t from;
        int received = sigwaitinfo(signals, &from);
        if (received == SIGRTMIN && from.si_pid == child && from.si_value.sival_int > 1) {
            child = from.si_value.sival_int;
        } else if (received > 0 && received != SIGCHLD && received != SIGRTMIN) {
            (void)kill(child, received);
        }
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

enum status first_process_leave(struct error *ret_error)
{
    sigset_t signals;
    sigset_t former;
    if (getpid() != 1) {
        return STATUS_OK;
    }
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigaddset(&signals, SIGRTMIN); /* first_process_follow() */
    for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
        (void)sigaddset(&signals, passed_on[i]);
    }
    (void)signal(SIGCHLD, SIG_DFL); /* if it was ignored, nobody's end would be told */
    (void)sigprocmask(SIG_BLOCK, &signals, &former);
    pid_t child = fork();
    stays = child == 0;
    if (child > 0) {
        stay(child, &signals);
    }
    (void)sigprocmask(SIG_SETMASK, &former, NULL);
    return child == 0
               ? STATUS_OK
               : error_set(ret_error, STATUS_LIMIT, "cannot make a process: %s", strerror(errno));
}

bool first_process_stays(void)
{
    return stays;
}

void first_process_inherit(void)
{
    stays = true;
}

void first_process_follow(pid_t successor)
{
    if (stays) {
        (void)sigqueue(1, SIGRTMIN, (union sigval){.sival_int = (int)successor});
    }
}
