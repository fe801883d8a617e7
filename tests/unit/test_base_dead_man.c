/*
 * The dead man's switch: it kills a process that works and one that is stopped, and nobody who puts
 * it off in time.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/dead_man.h"

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

static void pause_ms(long milliseconds)
{
    struct timespec pause = {.tv_sec = milliseconds / 1000,
                             .tv_nsec = milliseconds % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_does_not_run_is_killed),
        cmocka_unit_test(who_puts_it_off_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
