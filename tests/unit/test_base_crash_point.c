/* Crash points: the process dies by SIGKILL at the place and at the time that were asked for. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holdfast/crash_point.h"

#ifdef HOLDFAST_CRASH_POINTS

static void *reach_often(void *argument)
{
    (void)argument;
    for (int i = 0; i < 50; i++) {
        CRASH_POINT(undo_restored);
    }
    return NULL;
}

static void reach_three_times(void)
{
    for (int i = 0; i < 3; i++) {
        CRASH_POINT(unit_sent);
        CRASH_POINT(commit_durable);
    }
}

static void reach_in_two_threads(void)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        (void)pthread_create(&threads[i], NULL, reach_often, NULL);
    }
    for (int i = 0; i < 2; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

/* Runs `reach` in a child with HOLDFAST_CRASH_AT=value and returns how the child ended. */
static int child_status(const char *value, void (*reach)(void))
{
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (value == NULL) {
            unsetenv("HOLDFAST_CRASH_AT");
        } else {
            setenv("HOLDFAST_CRASH_AT", value, 1);
        }
        reach();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static bool killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool survived(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_nothing_asked_nothing_happens(void **state)
{
    (void)state;
    assert_true(survived(child_status(NULL, reach_three_times)));
    assert_true(survived(child_status("", reach_three_times)));
    assert_true(survived(child_status("wal_batch_put", reach_three_times)));
}

static void test_killed_at_the_nth_time(void **state)
{
    (void)state;
    assert_true(killed(child_status("unit_sent", reach_three_times)));
    assert_true(killed(child_status("commit_durable:3", reach_three_times)));
    assert_true(survived(child_status("commit_durable:4", reach_three_times)));
}

static void test_stopped_and_woken_up(void **state)
{
    (void)state;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        setenv("HOLDFAST_CRASH_AT", "unit_sent:2:stop", 1);
        reach_three_times();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(survived(status));
}

static void test_count_is_exact_across_threads(void **state)
{
    (void)state;
    assert_true(killed(child_status("undo_restored:100", reach_in_two_threads)));
    assert_true(survived(child_status("undo_restored:101", reach_in_two_threads)));
}

static void test_misspelled_name_is_not_silently_nothing(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "unit_sen",     "unit_sentx",     "unit_sent:", "unit_sent:0",
        "unit_sent:1x", "unit_sent:1:go", ":1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int status = child_status(wrong[i], reach_three_times);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 127);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_asked_nothing_happens),
        cmocka_unit_test(test_killed_at_the_nth_time),
        cmocka_unit_test(test_stopped_and_woken_up),
        cmocka_unit_test(test_count_is_exact_across_threads),
        cmocka_unit_test(test_misspelled_name_is_not_silently_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_crash_points_are_nothing_in_a_release(void **state)
{
    (void)state;
    setenv("HOLDFAST_CRASH_AT", "unit_sent", 1);
    CRASH_POINT(unit_sent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_points_are_nothing_in_a_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
