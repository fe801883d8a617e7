/* Targets as they are written on the command line. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include <cmocka.h>

#include "bench/peer/target.h"

static struct target parse(const char *text)
{
    struct target target;
    struct error error = {0};
    assert_int_equal(target_parse(text, &target, &error), STATUS_OK);
    return target;
}

static void test_addresses(void **state)
{
    (void)state;
    struct target target = parse("localhost:27018");
    assert_int_equal(target.kind, TARGET_ADDRESS);
    assert_string_equal(target.name, "localhost:27018");
    assert_string_equal(target.where, "localhost:27018");
    assert_int_equal(target.given_pid, 0);
    target = parse("mine=[::1]:27018,pid=4711");
    assert_string_equal(target.name, "mine");
    assert_string_equal(target.where, "[::1]:27018");
    assert_int_equal(target.given_pid, 4711);
    target = parse("near=unix:/tmp/mongodb-27017.sock");
    assert_int_equal(target.kind, TARGET_ADDRESS);
    assert_string_equal(target.where, "unix:/tmp/mongodb-27017.sock");
    target = parse("localhost:1,pid=12");
    assert_string_equal(target.name, "localhost:1");
}

static void test_what_is_started(void **state)
{
    (void)state;
    struct target target = parse("holdfastd,wal.durability=process,net.tls.mode=disabled");
    assert_int_equal(target.kind, TARGET_HOLDFASTD);
    assert_int_equal(target.setting_count, 2);
    assert_string_equal(target.settings[1], "net.tls.mode=disabled");
    assert_true(target_is_started(&target));
    target_free(&target);
    target_free(&target); /* harmless */
    target = parse("synced=native,sync");
    assert_int_equal(target.kind, TARGET_NATIVE);
    assert_string_equal(target.name, "synced");
    assert_true(target_has_setting(&target, "sync"));
    target_free(&target);
    target = parse("near=holdfastd,local");
    assert_true(target_has_setting(&target, TARGET_LOCAL));
    target_free(&target);
    target = parse("near=haproxy,local,local-server");
    assert_true(target_has_setting(&target, TARGET_LOCAL));
    assert_true(target_has_setting(&target, TARGET_LOCAL_SERVER));
    target_free(&target);
    target = parse("direct");
    assert_int_equal(target.kind, TARGET_DIRECT);
    assert_false(target_is_started(&target));
}

static void test_nonsense(void **state)
{
    (void)state;
    static const char many[] = "holdfastd,a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1,l=1,m=1,n=1,"
                               "o=1,p=1,q=1";
    static const char *const wrong[] = {
        "",
        "=",
        "a=",
        "=localhost:1",
        "localhost:1,pid=",
        "localhost:1,pid=x",
        "localhost:1,pid=0",
        "localhost:1,pid=1x",
        "localhost:1,more",
        "relay,x=1",
        "native,async",
        "nginx,local",
        "direct,local",
        "native,local-server",
        "holdfastd,nonsense",
        many,
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct target target;
        struct error error = {0};
        assert_int_equal(target_parse(wrong[i], &target, &error), STATUS_INVALID);
        assert_non_null(strstr(error.message, "target"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_what_is_started),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
