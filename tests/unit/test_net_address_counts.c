/* Connections by address: a bound for each, places come back, an IPv6 /64 is one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "net/address_counts.h"

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *four = (struct sockaddr_in *)&storage;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&storage;
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &six->sin6_addr), 1);
        six->sin6_family = AF_INET6;
    }
    return storage;
}

static bool enter(struct address_counts *counts, const char *text, uint64_t max,
                  struct address_key *ret_key)
{
    struct sockaddr_storage storage = address_of(text);
    return address_counts_enter(counts, (struct sockaddr *)&storage, max, ret_key);
}

static void test_bound_and_places(void **state)
{
    (void)state;
    struct address_counts *counts = address_counts_new();
    struct address_key keys[3];
    struct address_key other;
    assert_true(enter(counts, "10.0.0.1", 2, &keys[0]));
    assert_true(enter(counts, "::ffff:10.0.0.1", 2, &keys[1]));
    assert_false(enter(counts, "10.0.0.1", 2, &keys[2]));
    assert_false(keys[2].counted);
    address_counts_leave(counts, &keys[2]);
    assert_false(enter(counts, "10.0.0.1", 2, &keys[2]));
    assert_true(enter(counts, "10.0.0.2", 2, &other));
    address_counts_leave(counts, &keys[0]);
    assert_true(enter(counts, "10.0.0.1", 2, &keys[0]));
    assert_true(enter(counts, "10.0.0.1", 3, &keys[2]));
    for (size_t i = 0; i < 3; i++) {
        address_counts_leave(counts, &keys[i]);
    }
    assert_true(enter(counts, "10.0.0.1", 1, &keys[0]));
    assert_null(address_counts_free(counts));
}

static void test_networks_of_ipv6(void **state)
{
    (void)state;
    struct address_counts *counts = address_counts_new();
    struct address_key key;
    assert_true(enter(counts, "2001:db8:1:2::1", 1, &key));
    assert_false(enter(counts, "2001:db8:1:2:ffff::9", 1, &key));
    assert_true(enter(counts, "2001:db8:1:3::1", 1, &key));
    assert_null(address_counts_free(counts));
    assert_null(address_counts_free(NULL));
}

static void test_no_bound(void **state)
{
    (void)state;
    struct address_counts *counts = address_counts_new();
    struct address_key key;
    for (int i = 0; i < 100; i++) {
        assert_true(enter(counts, "10.0.0.1", 0, &key));
        assert_false(key.counted);
    }
    assert_true(enter(counts, "10.0.0.1", 1, &key));
    address_counts_free(counts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bound_and_places),
        cmocka_unit_test(test_networks_of_ipv6),
        cmocka_unit_test(test_no_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
