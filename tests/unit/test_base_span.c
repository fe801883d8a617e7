/* Which spans are recorded, and whose they are. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "holdfast/span.h"

static const uint8_t trace[SPAN_TRACE_BYTES] = {1, 2, 3};
static const uint8_t parent[SPAN_ID_BYTES] = {4, 5, 6};
static const uint8_t none[SPAN_TRACE_BYTES];
static unsigned taken;

static void take(void *context, const struct span *span)
{
    (void)context;
    (void)span;
    taken++;
}

static void use(uint32_t parts)
{
    const struct span_sink sink = {.take = take, .root_parts = parts};
    span_set_sink(&sink);
}

static int off(void **state)
{
    (void)state;
    span_set_sink(NULL);
    taken = 0;
    return 0;
}

static void test_off(void **state)
{
    (void)state;
    struct span_context context;
    struct span span = {.unit = 1};
    assert_false(span_is_on());
    span_continue(trace, parent, true, &context);
    assert_memory_equal(context.trace_id, trace, sizeof trace); /* for the log */
    assert_false(span_is_wanted(&context));
    span_root(&context);
    assert_memory_equal(context.trace_id, none, sizeof none);
    assert_false(span_is_wanted(&context));
    span_end(&span);
    assert_int_equal(taken, 0);
}

static void test_the_caller_decides(void **state)
{
    (void)state;
    struct span_context context;
    use(1000000);
    span_continue(trace, parent, true, &context);
    assert_true(span_is_wanted(&context));
    assert_memory_equal(context.trace_id, trace, sizeof trace);
    assert_memory_equal(context.parent_id, parent, sizeof parent);
    assert_memory_not_equal(context.span_id, none, SPAN_ID_BYTES);
    span_continue(trace, parent, false, &context);
    assert_false(span_is_wanted(&context));
}

static void test_a_child(void **state)
{
    (void)state;
    struct span_context context;
    struct span_context child;
    struct span span = {.unit = 1};
    use(0);
    span_continue(trace, parent, true, &context);
    span_child(&context, &child);
    assert_memory_equal(child.trace_id, trace, sizeof trace);
    assert_memory_equal(child.parent_id, context.span_id, SPAN_ID_BYTES);
    assert_memory_not_equal(child.span_id, context.span_id, SPAN_ID_BYTES);
    span_end(&span);
    assert_int_equal(taken, 1);
    span_continue(trace, parent, false, &context);
    span_child(&context, &child);
    assert_memory_equal(child.trace_id, none, sizeof none);
}

static void test_the_share_of_roots(void **state)
{
    (void)state;
    static const uint32_t parts[] = {0, 250000, 1000000};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        unsigned wanted = 0;
        use(parts[i]);
        for (int round = 0; round < 4000; round++) {
            struct span_context context;
            span_root(&context);
            assert_memory_not_equal(context.trace_id, none, sizeof none);
            assert_memory_equal(context.parent_id, none, SPAN_ID_BYTES);
            wanted += span_is_wanted(&context);
        }
        /* Twelve standard deviations: fails once in more runs than there will be. */
        unsigned expected = (unsigned)((uint64_t)4000 * parts[i] / 1000000);
        unsigned slack = parts[i] == 250000 ? 330 : 0;
        assert_in_range(wanted, expected - slack, expected + slack);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_off, off),
        cmocka_unit_test_setup(test_the_caller_decides, off),
        cmocka_unit_test_setup(test_a_child, off),
        cmocka_unit_test_setup(test_the_share_of_roots, off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
