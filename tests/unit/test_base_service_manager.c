/*
 * What a service manager is told: by a socket's path and by an abstract name; nothing where there
 * is none, or where the watchdog is meant for another process.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/service_manager.h"

static char place[64];
static int manager;

/* Binds the service manager's end; `abstract` as @NAME. */
static void listen_at(bool abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(place, sizeof place, "%sholdfast-notify-%d", abstract ? "@" : "/tmp/",
                   (int)getpid());
    size_t size = strlen(place);
    memcpy(address.sun_path, place, size);
    if (abstract) {
        address.sun_path[0] = '\0';
    } else {
        (void)unlink(place);
    }
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(manager >= 0);
    assert_int_equal(
        bind(manager, (struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (abstract ? 0 : 1))),
        0);
    assert_int_equal(setenv("NOTIFY_SOCKET", place, 1), 0);
}

static int begin(void)
{
    struct error error = {0};
    return (int)service_manager_begin(&error);
}

static int after(void **state)
{
    (void)state;
    service_manager_end();
    if (manager >= 0) {
        (void)close(manager);
    }
    if (place[0] == '/') {
        (void)unlink(place);
    }
    manager = -1;
    place[0] = '\0';
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    (void)unsetenv("NOTIFY_SOCKET");
    return 0;
}

static void expect(const char *wanted)
{
    char message[1024] = {0};
    ssize_t size = recv(manager, message, sizeof message - 1, MSG_DONTWAIT);
    assert_true(size >= 0);
    assert_string_equal(message, wanted);
}

static void expect_nothing(void)
{
    char message[16];
    assert_true(recv(manager, message, sizeof message, MSG_DONTWAIT) < 0);
}

static void tell_all(void)
{
    service_manager_status("Recovering");
    service_manager_ready("Serving");
    service_manager_alive();
    service_manager_stopping("Draining");
}

static void test_messages(void **state)
{
    (void)state;
    for (int abstract = 0; abstract < 2; abstract++) {
        listen_at(abstract == 1);
        assert_int_equal(begin(), STATUS_OK);
        assert_null(getenv("NOTIFY_SOCKET"));
        tell_all();
        expect("STATUS=Recovering");
        expect("READY=1\nSTATUS=Serving");
        expect("WATCHDOG=1");
        expect("STOPPING=1\nSTATUS=Draining");
        expect_nothing();
        (void)after(NULL);
    }
}

static void test_a_status_is_one_line(void **state)
{
    char text[SERVICE_MANAGER_STATUS_BYTES + 50];
    char wanted[SERVICE_MANAGER_STATUS_BYTES + 50];
    (void)state;
    listen_at(true);
    assert_int_equal(begin(), STATUS_OK);
    service_manager_ready("one\nMAINPID=1");
    expect("READY=1\nSTATUS=one MAINPID=1");
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    service_manager_status(text);
    (void)snprintf(wanted, sizeof wanted, "STATUS=%.*s", (int)SERVICE_MANAGER_STATUS_BYTES, text);
    expect(wanted);
}

static void test_nobody_listens(void **state)
{
    static const char *const names[] = {"relative", "/", "@", "/nonexistent/notify", "vsock:2:1"};
    (void)state;
    assert_int_equal(begin(), STATUS_OK); /* no NOTIFY_SOCKET */
    tell_all();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(setenv("NOTIFY_SOCKET", names[i], 1), 0);
        assert_int_equal(setenv("WATCHDOG_USEC", "3000000", 1), 0);
        assert_int_equal(begin(), STATUS_INVALID);
        assert_int_equal(service_manager_watchdog_ms(), 0);
        tell_all();
    }
}

/* A manager that does not read costs messages, never the proxy's time. */
static void test_a_full_socket(void **state)
{
    (void)state;
    listen_at(true);
    assert_int_equal(begin(), STATUS_OK);
    for (int i = 0; i < 100000; i++) {
        service_manager_alive();
    }
}

static void test_watchdog(void **state)
{
    char own[32];
    (void)state;
    (void)snprintf(own, sizeof own, "%d", (int)getpid());
    const struct {
        const char *time;
        const char *process;
        uint64_t wanted_ms;
    } cases[] = {
        {"30000000", own, 30000}, {"30000000", NULL, 30000}, {"30000000", "1", 0},
        {NULL, own, 0},           {"soon", own, 0},          {"", own, 0},
        {"30s", own, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        listen_at(true);
        if (cases[i].time != NULL) {
            assert_int_equal(setenv("WATCHDOG_USEC", cases[i].time, 1), 0);
        }
        if (cases[i].process != NULL) {
            assert_int_equal(setenv("WATCHDOG_PID", cases[i].process, 1), 0);
        }
        assert_int_equal(begin(), STATUS_OK);
        assert_int_equal(service_manager_watchdog_ms(), cases[i].wanted_ms);
        assert_null(getenv("WATCHDOG_USEC"));
        (void)after(NULL);
    }
}

int main(void)
{
    manager = -1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_messages, after),
        cmocka_unit_test_teardown(test_a_status_is_one_line, after),
        cmocka_unit_test_teardown(test_nobody_listens, after),
        cmocka_unit_test_teardown(test_a_full_socket, after),
        cmocka_unit_test_teardown(test_watchdog, after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
