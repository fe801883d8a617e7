/*
 * Race points: off by default; they hold the threads that meet them, or call the test; from the
 * environment, where nonsense ends the process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holdfast/race_point.h"

static int calls;

static void count(const char *name)
{
    calls += strcmp(name, "somewhere") == 0;
}

static void test_a_test_is_called(void **state)
{
    (void)state;
    RACE_POINT(somewhere);
    if (!race_points_call(count)) {
        skip(); /* none in this build */
    }
    RACE_POINT(somewhere);
    RACE_POINT(elsewhere);
    assert_int_equal(calls, 1);
    race_points_end();
    RACE_POINT(somewhere);
    assert_int_equal(calls, 1);
    race_points_begin(1, 1); /* nobody is called any more: this thread is held */
    RACE_POINT(somewhere);
    race_points_end();
    assert_int_equal(calls, 1);
}

/* What a process that is started with this value exits with. */
static int exit_code_with(const char *value)
{
    pid_t child = fork();
    if (child == 0) {
        (void)close(STDERR_FILENO);
        (void)setenv("HOLDFAST_RACE", value, 1);
        RACE_POINT(somewhere); /* reads it: the parent has met none yet */
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_the_environment(void **state)
{
    static const char *const good[] = {"", "7", "7:2", "7:1:somewhere"};
    static const char *const bad[] = {"x", "7x", "7:", "7:0", "7:x", "7:2x"};
    (void)state;
#ifndef HOLDFAST_CRASH_POINTS
    skip();
#endif
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(exit_code_with(good[i]), 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(exit_code_with(bad[i]), 127);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_environment),
        cmocka_unit_test(test_a_test_is_called),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
