/* Local sockets to listen on: what they are called, and what is made of a file that is there. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/listener.h"

static char folder[64];
static char address[128];

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/holdfast-listener-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(address, sizeof address, "unix:%s/s", folder);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    (void)unlink(address + strlen("unix:"));
    return rmdir(folder);
}

static enum status listen_there(int *ret_descriptor, char *ret_text)
{
    struct error error = {0};
    return listener_bind(address, ret_descriptor, ret_text, &error);
}

static void test_a_stale_file_is_replaced(void **state)
{
    (void)state;
    char text[NETWORK_ADDRESS_TEXT_BYTES];
    int first;
    int second;
    assert_int_equal(listen_there(&first, text), STATUS_OK);
    assert_string_equal(text, address);
    assert_int_equal(listen_there(&second, NULL), STATUS_EXISTS);
    (void)close(first); /* as a killed process leaves it */
    assert_int_equal(access(address + strlen("unix:"), F_OK), 0);
    assert_int_equal(listen_there(&second, text), STATUS_OK);
    (void)close(second);
}

static void test_another_file_stays(void **state)
{
    (void)state;
    int descriptor;
    FILE *file = fopen(address + strlen("unix:"), "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(listen_there(&descriptor, NULL), STATUS_EXISTS);
    assert_int_equal(access(address + strlen("unix:"), F_OK), 0);
}

static void test_texts(void **state)
{
    (void)state;
    struct network_address found;
    struct error error = {0};
    char text[NETWORK_ADDRESS_TEXT_BYTES];
    char long_path[200];
    const struct sockaddr nameless = {.sa_family = AF_UNIX};
    network_address_text(&nameless, sizeof nameless.sa_family, text);
    assert_string_equal(text, "unix");
    assert_int_equal(network_address_resolve("unix:/a/b", &found, &error), STATUS_OK);
    network_address_text((struct sockaddr *)&found.storage, found.size, text);
    assert_string_equal(text, "unix:/a/b");
    assert_int_equal(network_address_resolve("unix:a", &found, &error), STATUS_UNREACHABLE);
    memset(long_path, 'x', sizeof long_path);
    memcpy(long_path, "unix:/", 6);
    long_path[150] = '\0';
    assert_int_equal(network_address_resolve(long_path, &found, &error), STATUS_INVALID);
    long_path[100] = '\0'; /* it fits a socket, and is cut for people */
    assert_int_equal(network_address_resolve(long_path, &found, &error), STATUS_OK);
    network_address_text((struct sockaddr *)&found.storage, found.size, text);
    assert_int_equal(strlen(text), NETWORK_ADDRESS_TEXT_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_stale_file_is_replaced, make, clear),
        cmocka_unit_test_setup_teardown(test_another_file_stays, make, clear),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
