/* What is known of namespaces, without a server: nothing is, and changes are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <semaphore.h>

#include "engine/namespace_cache.h"

static struct namespace_cache *cache;
static sem_t answered;

static int begin(void **state)
{
    struct error error = {0};
    (void)state;
    (void)sem_init(&answered, 0, 0);
    /* Nobody listens there. */
    return namespace_cache_start("mongodb://127.0.0.1:1", 200, &cache, &error) != STATUS_OK;
}

static void on_answered(struct namespace_lookup *lookup)
{
    (void)lookup;
    (void)sem_post(&answered);
}

static int end(void **state)
{
    (void)state;
    struct namespace_lookup late = {.database = "d", .collection = "c", .answered = on_answered};
    namespace_cache_stop(cache);
    namespace_cache_stop(NULL);
    namespace_cache_ask(cache, &late); /* is answered at once */
    bool told = sem_trywait(&answered) == 0 && late.known == NAMESPACE_KNOWN_NOTHING;
    cache = namespace_cache_free(cache);
    (void)sem_destroy(&answered);
    return namespace_cache_free(NULL) != NULL || !told;
}

static void test_a_server_that_is_away(void **state)
{
    (void)state;
    struct view_definition *view = NULL;
    struct namespace_lookup lookup = {.database = "d", .collection = "c", .answered = on_answered};
    namespace_cache_ask(cache, &lookup);
    (void)sem_wait(&answered);
    assert_int_equal(lookup.known, NAMESPACE_KNOWN_NOTHING);
    assert_null(lookup.view);
    assert_int_equal(namespace_cache_find(cache, "d", "c", &view), NAMESPACE_KNOWN_NOTHING);
    assert_null(view);
}

static void test_changes_are_told(void **state)
{
    (void)state;
    uint64_t before = namespace_cache_generation(cache);
    uint64_t name = namespace_cache_hash(cache, "d", "c");
    assert_true(name != 0);
    assert_int_equal(namespace_cache_hash(cache, "d", "c"), name);
    assert_true(namespace_cache_hash(cache, "d.c", "") != name);
    assert_true(namespace_cache_hash(cache, "dc", "c") != name);
    assert_false(namespace_cache_is_changing(cache));
    namespace_cache_changing(cache, name);
    uint64_t meanwhile = namespace_cache_generation(cache);
    assert_true(meanwhile != before);
    assert_true(namespace_cache_is_changing(cache));
    namespace_cache_changing(cache, 0);
    namespace_cache_changed(cache, name);
    assert_true(namespace_cache_is_changing(cache));
    namespace_cache_changed(cache, 0);
    assert_false(namespace_cache_is_changing(cache));
    assert_true(namespace_cache_generation(cache) != meanwhile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_server_that_is_away, begin, end),
        cmocka_unit_test_setup_teardown(test_changes_are_told, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
