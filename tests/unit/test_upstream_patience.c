/*
 * The end of the process while the server is there and says nothing (upstream/patience.h). A socket
 * that is listened on, and nothing more, is such a server. No server needed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "upstream/upstream.h"

static _Atomic bool told;

static bool is_told(void)
{
    return atomic_load(&told);
}

/* How long it took that it did not answer. */
static uint64_t wait_in_vain(const char *uri)
{
    struct upstream *upstream = NULL;
    struct upstream_description description;
    struct error error = {0};
    uint64_t began_ms = clock_monotonic_ms();
    assert_int_equal(upstream_open(uri, 600000, &upstream, &error), STATUS_OK);
    assert_int_equal(upstream_describe(upstream, &description, &error), STATUS_UNREACHABLE);
    upstream_close(upstream);
    return clock_monotonic_ms() - began_ms;
}

static void nobody_waits_for_long_at_the_end(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    char uri[64];
    (void)state;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(listening >= 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listening, 16), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(uri, sizeof uri, "mongodb://127.0.0.1:%d", ntohs(address.sin_port));

    /* Told to end: who has waited for so long may be the thread that is to begin with it. */
    upstream_watch_end(is_told);
    atomic_store(&told, true);
    uint64_t took_ms = wait_in_vain(uri);
    assert_in_range(took_ms, UPSTREAM_END_ANSWER_MS, UPSTREAM_END_MS);
    atomic_store(&told, false);

    upstream_stop_waiting();
    took_ms = wait_in_vain(uri);
    assert_in_range(took_ms, UPSTREAM_END_ANSWER_MS, UPSTREAM_END_MS);
    /* It has not answered for that long: nobody tries again. */
    took_ms = wait_in_vain(uri);
    assert_in_range(took_ms, 0, UPSTREAM_END_ANSWER_MS - 1);
    (void)close(listening);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_waits_for_long_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
