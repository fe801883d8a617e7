/*
 * Listening sockets that are handed down: taken by the text that they were bound for, the first
 * first; what nobody takes is closed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "net/listener.h"
#include "net/listening.h"

static int bound(const char *text, char *address)
{
    struct error error = {0};
    int descriptor = -1;
    if (listener_bind(text, &descriptor, address, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return descriptor;
}

static void test_two_of_one_text_come_in_their_order(void **state)
{
    struct listening list[4];
    char first[NETWORK_ADDRESS_TEXT_BYTES];
    char second[NETWORK_ADDRESS_TEXT_BYTES];
    char address[NETWORK_ADDRESS_TEXT_BYTES];
    (void)state;
    int one = bound("127.0.0.1:0", first);
    int two = bound("127.0.0.1:0", second);
    assert_int_equal(listening_copy(list, 1), 1);
    (void)close(list[0].descriptor);
    assert_int_equal(listening_copy(list, 4), 2);
    listening_forget(one);
    listening_forget(one);
    listening_forget(two);
    (void)close(one);
    (void)close(two);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(list[i].text, "127.0.0.1:0");
        listening_hand_down(list[i].text, list[i].descriptor);
    }
    one = bound("127.0.0.1:0", address);
    assert_string_equal(address, first);
    two = bound("127.0.0.1:0", address);
    assert_string_equal(address, second);
    int three = bound("127.0.0.1:0", address);
    assert_string_not_equal(address, first);
    assert_int_equal(listening_close_rest(), 0);
    const int all[] = {one, two, three};
    for (int i = 0; i < 3; i++) {
        listening_forget(all[i]);
        (void)close(all[i]);
    }
    assert_int_equal(listening_copy(list, 4), 0);
}

static void test_what_nobody_takes_is_closed(void **state)
{
    char text[LISTENING_TEXT_BYTES + 1];
    int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int long_one = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    listening_hand_down("127.0.0.1:1", other);
    listening_hand_down(text, long_one);
    assert_int_equal(fcntl(long_one, F_GETFD), -1);
    assert_int_equal(listening_take("127.0.0.1:2"), -1);
    assert_int_equal(listening_close_rest(), 1);
    assert_int_equal(fcntl(other, F_GETFD), -1);
    assert_int_equal(listening_take("127.0.0.1:1"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_of_one_text_come_in_their_order),
        cmocka_unit_test(test_what_nobody_takes_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
