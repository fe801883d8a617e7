/* What an operator's words mean (engine/resolver.h); the rest is tested with real parts
   (tests/system/test_resolve_living.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/resolver.h"

#define COUNT 4

static void expect(const char *choices, const char *wanted)
{
    static const char letters[] = "kra";
    struct resolve_document documents[COUNT] = {0};
    struct resolve_plan plan = {.documents = documents, .document_count = COUNT};
    struct error error = {0};
    enum status status = resolver_choose(&plan, choices, &error);
    if (wanted == NULL) {
        assert_int_equal(status, STATUS_INVALID);
        assert_non_null(strstr(error.message, "each of the 4 documents"));
        return;
    }
    assert_int_equal(status, STATUS_OK);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(letters[documents[i].choice], wanted[i]);
    }
}

static void test_choices(void **state)
{
    (void)state;
    expect("k", "kkkk");
    expect("r", "rrrr");
    expect("a", "aaaa");
    expect("kraa", "kraa");
    expect("k4", "kkkk");
    expect("k2a2", "kkaa");
    expect("r1k1r02", "rkrr");
    expect("k0rrrr", "rrrr");
}

static void test_bad_choices(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "x",
        "kkk",
        "kkkkk",
        "k3",
        "k5",
        "k3x",
        "4k",
        "k2 a2",
        "k2a3",
        "k2a2k",
        "kkkk1x",
        "K",
        "k18446744073709551617",
        "k18446744073709551615k4",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect(bad[i], NULL);
    }
}

static void test_no_documents(void **state)
{
    (void)state;
    struct resolve_plan plan = {0};
    assert_int_equal(resolver_choose(&plan, "r", NULL), STATUS_OK);
    assert_int_equal(plan.choice, RESOLVE_RESTORE);
    assert_int_equal(resolver_choose(&plan, "k1", NULL), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_bad_choices),
        cmocka_unit_test(test_no_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
