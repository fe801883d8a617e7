/* The last answer of each session, beside its bounds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "unit/answers.h"

static struct slice session(uint16_t number)
{
    static uint8_t bytes[ANSWER_SESSION_BYTES];
    memcpy(bytes, &number, sizeof number);
    return slice_make(bytes, sizeof bytes);
}

static void test_the_last_of_each_session(void **state)
{
    (void)state;
    struct answers answers = {0};
    struct slice reply;
    assert_int_equal(answers_find(&answers, session(1), 7, &reply), ANSWER_NEW);
    assert_int_equal(answers_keep(&answers, session(1), 7, slice_text("seven")), STATUS_OK);
    assert_int_equal(answers_keep(&answers, session(2), 7, slice_text("other")), STATUS_OK);
    assert_int_equal(answers_find(&answers, session(1), 7, &reply), ANSWER_KEPT);
    assert_true(slice_equal(reply, slice_text("seven")));
    assert_int_equal(answers_find(&answers, session(1), 8, &reply), ANSWER_NEW);
    assert_int_equal(answers_keep(&answers, session(1), 8, slice_text("eight")), STATUS_OK);
    assert_int_equal(answers_find(&answers, session(1), 7, &reply), ANSWER_KNOWN);
    assert_int_equal(answers_find(&answers, session(2), 7, &reply), ANSWER_KEPT);
    answers_free(&answers);
    answers_free(&answers); /* harmless */
}

static void test_bounds(void **state)
{
    (void)state;
    struct answers answers = {0};
    struct slice reply;
    uint8_t *large = calloc(1, ANSWER_BYTES_MAX + 1);
    assert_int_equal(answers_keep(&answers, session(0), 1, slice_make(large, ANSWER_BYTES_MAX + 1)),
                     STATUS_OK);
    assert_int_equal(answers_find(&answers, session(0), 1, &reply), ANSWER_KNOWN);
    assert_int_equal(answers_keep(&answers, session(0), 2, slice_make(large, ANSWER_BYTES_MAX)),
                     STATUS_OK);
    assert_int_equal(answers_find(&answers, session(0), 2, &reply), ANSWER_KEPT);
    for (uint16_t number = 1; number < ANSWERS_MAX; number++) {
        assert_int_equal(answers_keep(&answers, session(number), 1, slice_text("x")), STATUS_OK);
    }
    assert_int_equal(answers_keep(&answers, session(ANSWERS_MAX), 1, slice_text("x")), STATUS_FULL);
    assert_int_equal(answers_keep(&answers, session(1), 2, slice_text("y")), STATUS_OK);
    answers_free(&answers);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_last_of_each_session),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
