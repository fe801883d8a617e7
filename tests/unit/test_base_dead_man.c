/*
 * The dead man's switch: it kills a process that works and one that is stopped, and nobody who puts
 * it off in time. Also where a container begins, whose process 1 the kernel lets nobody kill.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/dead_man.h"
#include "base/first_process.h"
#include "test_program.h"

static int run_child(void (*work)(struct dead_man *dead_man))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct dead_man dead_man;
        if (dead_man_begin(&dead_man, NULL) != STATUS_OK) {
            _exit(1);
        }
        work(&dead_man);
        dead_man_end(&dead_man);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void stops(struct dead_man *dead_man)
{
    dead_man_set(dead_man, dead_man_now_ms() + 200);
    (void)raise(SIGSTOP); /* nobody wakes it up */
}

static void sleeps(struct dead_man *dead_man)
{
    dead_man_set(dead_man, dead_man_now_ms() + 50);
    pause_ms(10000);
}

static void puts_off(struct dead_man *dead_man)
{
    for (int i = 0; i < 5; i++) {
        dead_man_set(dead_man, dead_man_now_ms() + 2000);
        pause_ms(20);
    }
    dead_man_set(dead_man, dead_man_now_ms() + 200);
    dead_man_set(dead_man, 0);
    pause_ms(400);
}

static void comes_too_late(struct dead_man *dead_man)
{
    dead_man_set(dead_man, dead_man_now_ms() - 1);
    pause_ms(10000);
}

static bool killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void a_process_that_does_not_run_is_killed(void **state)
{
    (void)state;
    assert_true(killed(run_child(stops)));
    assert_true(killed(run_child(sleeps)));
    assert_true(killed(run_child(comes_too_late)));
}

static void who_puts_it_off_lives(void **state)
{
    (void)state;
    int status = run_child(puts_off);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* `work` as process 1 of a container; what waitpid() says of it. Sends it `signal_number` after a
   while, if that is not 0. Skips the test where no container can be made. */
static int run_contained(void (*work)(void), int signal_number)
{
    enum { CANNOT = 99 };
    int status = 0;
    pid_t maker = fork();
    if (maker == 0) {
        if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
            _exit(CANNOT);
        }
        pid_t first = fork();
        if (first == 0) {
            work();
            _exit(1);
        }
        if (signal_number != 0) {
            pause_ms(300);
            (void)kill(first, signal_number);
        }
        _exit(waitpid(first, &status, 0) == first && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                       : CANNOT - 1);
    }
    assert_int_equal(waitpid(maker, &status, 0), maker);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT) {
        skip();
    }
    return WEXITSTATUS(status);
}

static void begins_as_the_first(void)
{
    struct dead_man dead_man;
    _exit(dead_man_begin(&dead_man, NULL) == STATUS_UNSUPPORTED ? 7 : 1);
}

static void leaves_and_sleeps(void)
{
    struct dead_man dead_man;
    if (first_process_leave(NULL) == STATUS_OK && dead_man_begin(&dead_man, NULL) == STATUS_OK) {
        sleeps(&dead_man);
    }
    _exit(3);
}

static void leaves_and_is_told(void)
{
    sigset_t signals;
    int received = 0;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    if (first_process_leave(NULL) == STATUS_OK && sigwait(&signals, &received) == 0) {
        _exit(received == SIGTERM ? 5 : 4);
    }
    _exit(3);
}

static void the_first_process_of_a_container(void **state)
{
    (void)state;
    assert_int_equal(run_contained(begins_as_the_first, 0), 7);
    assert_int_equal(run_contained(leaves_and_sleeps, 0), 128 + SIGKILL);
    assert_int_equal(run_contained(leaves_and_is_told, SIGTERM), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_does_not_run_is_killed),
        cmocka_unit_test(who_puts_it_off_lives),
        cmocka_unit_test(the_first_process_of_a_container),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
