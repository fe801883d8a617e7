/* What listCollections tells of a namespace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/namespace_kind.h"

static enum namespace_kind kind_of(const char *json)
{
    bson_error_t error;
    bson_t *reply = bson_new_from_json((const uint8_t *)json, -1, &error);
    assert_non_null(reply);
    enum namespace_kind kind = namespace_kind_parse(reply);
    bson_destroy(reply);
    return kind;
}

static void kinds(void **state)
{
    (void)state;
#define ENTRY(fields)                                                                              \
    "{\"cursor\":{\"id\":0,\"firstBatch\":[{\"name\":\"c\"," fields "}]},\"ok\":1}"
    assert_int_equal(kind_of(ENTRY("\"type\":\"collection\",\"options\":{}")),
                     NAMESPACE_COLLECTION);
    assert_int_equal(kind_of(ENTRY("\"type\":\"collection\",\"options\":{\"capped\":true}")),
                     NAMESPACE_CAPPED);
    assert_int_equal(kind_of(ENTRY("\"type\":\"collection\",\"options\":{\"capped\":false}")),
                     NAMESPACE_COLLECTION);
    assert_int_equal(kind_of(ENTRY("\"type\":\"view\",\"options\":{\"viewOn\":\"b\"}")),
                     NAMESPACE_VIEW);
    assert_int_equal(kind_of(ENTRY("\"type\":\"timeseries\",\"options\":{\"timeseries\":{}}")),
                     NAMESPACE_TIME_SERIES);
#undef ENTRY
}

static bool is_collated(const char *json)
{
    bson_t *reply = bson_new_from_json((const uint8_t *)json, -1, NULL);
    assert_non_null(reply);
    bool collated = namespace_is_collated(reply);
    bson_destroy(reply);
    return collated;
}

static void collations(void **state)
{
    (void)state;
#define ENTRY(options)                                                                             \
    "{\"cursor\":{\"id\":0,\"firstBatch\":[{\"name\":\"c\",\"options\":" options "}]},\"ok\":1}"
    assert_false(is_collated(ENTRY("{}")));
    assert_false(is_collated(ENTRY("{\"collation\":{\"locale\":\"simple\"}}")));
    assert_true(is_collated(ENTRY("{\"collation\":{\"locale\":\"en\",\"strength\":2}}")));
    assert_true(is_collated(ENTRY("{\"collation\":{\"locale\":5}}")));
    assert_false(is_collated("{\"cursor\":{\"firstBatch\":[]}}"));
#undef ENTRY
}

static void nonsense(void **state)
{
    static const char *const replies[] = {
        "{}",
        "{\"cursor\":5}",
        "{\"cursor\":{\"firstBatch\":[]}}",
        "{\"cursor\":{\"firstBatch\":[5]}}",
        "{\"cursor\":{\"firstBatch\":[{\"type\":5,\"options\":5}]}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        assert_int_equal(kind_of(replies[i]), NAMESPACE_COLLECTION);
    }
}

static void internal(void **state)
{
    (void)state;
    assert_true(namespace_is_internal("admin", "c"));
    assert_true(namespace_is_internal("config", "c"));
    assert_true(namespace_is_internal("local", "c"));
    assert_true(namespace_is_internal("shop", "system.views"));
    assert_false(namespace_is_internal("shop", "systems"));
    assert_false(namespace_is_internal("administration", "c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(collations),
        cmocka_unit_test(nonsense),
        cmocka_unit_test(internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
