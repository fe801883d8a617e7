/* IP addresses as they are compared: IPv4 is the same by both kinds of socket. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <sys/un.h>

#include "net/ip_address.h"

static struct ip_address parsed(const char *text)
{
    struct ip_address address;
    assert_true(ip_address_parse(slice_text(text), &address));
    return address;
}

static void test_texts(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "h", "10.0.0", "10.0.0.256", "[::1]", "fe80::1%eth0", "10.0.0.1:5", "::1, ::2"};
    struct ip_address four = parsed("10.0.0.7");
    struct ip_address mapped = parsed("::ffff:a00:7");
    struct ip_address one = parsed("::1");
    struct ip_address same = parsed("0:0::1");
    assert_true(ip_address_equal(&four, &mapped));
    assert_true(ip_address_equal(&one, &same));
    assert_false(ip_address_equal(&four, &one));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(ip_address_parse(slice_text(wrong[i]), &four));
    }
    assert_true(ip_address_equal(&four, &mapped)); /* untouched */
}

static void test_peers(void **state)
{
    (void)state;
    struct ip_address found;
    struct ip_address wanted = parsed("10.0.0.7");
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = 5};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = 6, .sin6_scope_id = 2};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    memcpy(&four.sin_addr, wanted.bytes + 12, 4);
    assert_true(ip_address_of((struct sockaddr *)&four, &found));
    assert_true(ip_address_equal(&found, &wanted));
    memcpy(&six.sin6_addr, wanted.bytes, 16);
    memset(&found, 0, sizeof found);
    assert_true(ip_address_of((struct sockaddr *)&six, &found));
    assert_true(ip_address_equal(&found, &wanted));
    six.sin6_addr.s6_addr[15]++;
    assert_true(ip_address_of((struct sockaddr *)&six, &found));
    assert_false(ip_address_equal(&found, &wanted));
    assert_false(ip_address_of((struct sockaddr *)&local, &found));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
