/*
 * What answers to commitTransaction say (recover/commit_verdict.h): each row of its table, and what
 * is no answer at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <bson/bson.h>
#include <cmocka.h>

#include "recover/commit_verdict.h"

static const struct commit_asked first = {.again = false};
static const struct commit_asked again = {.again = true, .conclusive = true};
static const struct commit_asked after_restart = {.again = true, .conclusive = false};

static const struct {
    const char *reply;
    const struct commit_asked *asked;
    enum commit_verdict verdict;
    int32_t code;
} cases[] = {
    {"{'ok': 1.0}", &first, COMMIT_COMMITTED, 0},
    {"{'ok': 1}", &again, COMMIT_COMMITTED, 0},
    {"{'ok': 1.0}", &after_restart, COMMIT_COMMITTED, 0},
    {"{'ok': 1.0, 'writeConcernError': {'code': 64}}", &first, COMMIT_OPEN, 0},
    {"{'ok': 0.0, 'code': 251}", &first, COMMIT_LOST, 251},
    {"{'ok': 0.0, 'code': 251}", &again, COMMIT_LOST, 251},
    {"{'ok': 0.0, 'code': 251, 'errorLabels': ['TransientTransactionError']}", &after_restart,
     COMMIT_UNKNOWN, 251},
    {"{'ok': 0.0, 'code': 251, 'writeConcernError': {}}", &again, COMMIT_OPEN, 251},
    {"{'ok': 0.0, 'code': 112, 'errorLabels': ['x', 'TransientTransactionError']}", &first,
     COMMIT_LOST, 112},
    {"{'ok': 0.0, 'code': 267, 'errorLabels': ['TransientTransactionError']}", &first, COMMIT_LOST,
     267},
    {"{'ok': 0.0, 'code': 267, 'errorLabels': ['TransientTransactionError']}", &again, COMMIT_OPEN,
     267},
    {"{'ok': 0.0, 'code': 91}", &first, COMMIT_OPEN, 91},
    {"{'ok': 0.0, 'code': 10107}", &again, COMMIT_OPEN, 10107},
    {"{'ok': 0.0, 'code': 50}", &first, COMMIT_OPEN, 50},
    {"{'ok': 0.0, 'code': 281}", &again, COMMIT_OPEN, 281},
    {"{'ok': 0.0, 'code': 13}", &first, COMMIT_LOST, 13},
    {"{'ok': 0.0, 'code': 13}", &again, COMMIT_FORBIDDEN, 13},
    {"{'ok': 0.0, 'code': 72}", &first, COMMIT_LOST, 72},
    {"{'ok': 0.0, 'code': 1}", &first, COMMIT_OPEN, 1},
    {"{'ok': 0.0, 'code': 8}", &first, COMMIT_OPEN, 8},
    {"{'ok': 0.0, 'code': 8}", &again, COMMIT_UNKNOWN, 8},
    {"{'ok': 0.0, 'code': 225}", &again, COMMIT_UNKNOWN, 225},
    {"{'ok': 0.0, 'code': 4711}", &again, COMMIT_UNKNOWN, 4711},
    {"{'ok': 0.0}", &first, COMMIT_OPEN, 0},
    {"{'ok': 0.0, 'code': 1, 'errorLabels': 'TransientTransactionError'}", &again, COMMIT_UNKNOWN,
     1},
    {"{}", &first, COMMIT_OPEN, 0},
};

static bson_t *reply_of(const char *text)
{
    bson_error_t error;
    char *json = bson_strdup(text);
    for (char *at = json; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    bson_t *reply = bson_new_from_json((const uint8_t *)json, -1, &error);
    bson_free(json);
    assert_non_null(reply);
    return reply;
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bson_t *reply = reply_of(cases[i].reply);
        int32_t code = -1;
        enum commit_verdict verdict =
            commit_verdict(slice_make(bson_get_data(reply), reply->len), cases[i].asked, &code);
        if (verdict != cases[i].verdict || code != cases[i].code) {
            fail_msg("%s: %s, code %d", cases[i].reply, commit_verdict_name(verdict), code);
        }
        bson_destroy(reply);
    }
}

/* What a driver takes for a failure must not become a commit behind its back. */
static void test_what_drivers_take_for_unknown(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "{'ok': 1, 'writeConcernError': {'code': 64}}",
        "{'ok': 0, 'code': 91, 'errorLabels': ['RetryableWriteError']}",
        "{'ok': 0, 'code': 50}",
        "{'ok': 0, 'code': 11601, 'errorLabels': ['UnknownTransactionCommitResult']}",
    };
    static const char *const failures[] = {
        "{'ok': 0, 'code': 11601}",
        "{'ok': 0, 'code': 189}",
        "{'ok': 0, 'code': 202, 'errorLabels': []}",
        "{'ok': 0}",
    };
    for (size_t i = 0; i < 4; i++) {
        bson_t *yes = reply_of(unknown[i]);
        bson_t *no = reply_of(failures[i]);
        assert_true(commit_is_told_unknown(slice_make(bson_get_data(yes), yes->len)));
        assert_false(commit_is_told_unknown(slice_make(bson_get_data(no), no->len)));
        bson_destroy(yes);
        bson_destroy(no);
    }
    assert_false(commit_is_told_unknown((struct slice){0}));
}

static void test_no_answer(void **state)
{
    static const uint8_t broken[] = {9, 0, 0, 0, 1};
    (void)state;
    assert_int_equal(commit_verdict((struct slice){0}, &first, NULL), COMMIT_OPEN);
    assert_int_equal(commit_verdict(slice_make(broken, sizeof broken), &again, NULL), COMMIT_OPEN);
}

static void test_age(void **state)
{
    (void)state;
    assert_false(commit_is_too_old(5000000, 5000000, 1000));
    assert_false(commit_is_too_old(5000000, 5001000, 1000));
    assert_true(commit_is_too_old(5000000, 5001001, 1000));
    /* A clock that was set back a little; one of another host that is wrong. */
    assert_false(commit_is_too_old(5000000, 5000000 - 60000, 1000));
    assert_true(commit_is_too_old(5000000, 5000000 - 60001, 1000));
}

static void test_names(void **state)
{
    (void)state;
    for (enum commit_verdict verdict = COMMIT_COMMITTED; verdict <= COMMIT_FORBIDDEN; verdict++) {
        assert_string_not_equal(commit_verdict_name(verdict), "?");
    }
    assert_non_null(commit_verdict_name((enum commit_verdict)99));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),     cmocka_unit_test(test_what_drivers_take_for_unknown),
        cmocka_unit_test(test_no_answer), cmocka_unit_test(test_age),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
