/* Requests that are calls: what is held, what ends how, what the caller gets. */

#include "front_rig.h"

#define REQUEST                                                                                    \
    "POST /orders?x=1 HTTP/1.1\r\nHost: shop\r\ntraceparent: "                                     \
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nContent-Length: 5\r\n\r\nhello"
#define ANSWER "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-A:  b\r\n\r\nok"

static void test_answer_is_held_until_ended(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_start(&rig);
    fake.hold_end = true;
    int caller = caller_connect(&rig);
    send_text(caller, REQUEST);
    int service = service_accept(&rig);
    expect_text(service, REQUEST);
    send_slowly(service, ANSWER);
    assert_true(fake_log_gets("begin POST /orders?x=1; answered; commit; "));
    expect_silence(caller);
    fake_release();
    expect_text(caller, ANSWER);
    assert_int_equal(fake.trace.bytes[0], 0x0a);
    /* the same connections go on */
    fake.hold_end = false;
    send_text(caller, REQUEST);
    expect_text(service, REQUEST);
    send_text(service, ANSWER);
    expect_text(caller, ANSWER);
    (void)close(caller);
    expect_end(service);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_is_held_until_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
