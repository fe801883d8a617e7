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

/* Whoever is in the place of `child` by now, of whom it tells. */
static pid_t find_successor(pid_t child)
{
    const struct timespec now = {0};
    siginfo_t from;
    sigset_t told;
    (void)sigemptyset(&told);
    (void)sigaddset(&told, SIGRTMIN);
    while (sigtimedwait(&told, &from, &now) == SIGRTMIN) {
        if (from.si_pid == child && from.si_value.sival_int > 1) {
            child = from.si_value.sival_int;
        }
    }
    return child;
}

/* Whether nobody is left: *child has ended, and whoever was to be in its place. */
static bool has_ended(pid_t *child, int *ret_status)
{
    if (!take_ended(*child, ret_status)) {
        return false;
    }
    pid_t successor = find_successor(*child);
    bool lives = successor != *child && kill(successor, 0) == 0;
    *child = successor;
    return !lives;
}

_Noreturn static void stay(pid_t child, const sigset_t *signals)
{
    int status = 0;
    while (!has_ended(&child, &status)) {
        int received = sigwaitinfo(signals, NULL);
        child = find_successor(child); /* a signal of a lower number comes before its word */
        if (received > 0 && received != SIGCHLD) {
            (void)kill(child, received);
        }
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

enum status first_process_leave(struct error *ret_error)
{
    sigset_t signals;
    sigset_t told;
    sigset_t former;
    if (getpid() != 1) {
        return STATUS_OK;
    }
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
        (void)sigaddset(&signals, passed_on[i]);
    }
    (void)signal(SIGCHLD, SIG_DFL); /* if it was ignored, nobody's end would be told */
    (void)sigprocmask(SIG_BLOCK, &signals, &former);
    (void)sigemptyset(&told);
    (void)sigaddset(&told, SIGRTMIN); /* first_process_follow() */
    (void)sigprocmask(SIG_BLOCK, &told, NULL);
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
