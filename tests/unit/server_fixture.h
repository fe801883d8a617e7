#ifndef HOLDFAST_TESTS_UNIT_SERVER_FIXTURE_H
#define HOLDFAST_TESTS_UNIT_SERVER_FIXTURE_H

/*
 * One server for all tests of a program, and a connection to it. Include after <cmocka.h>, and give
 * server_fixture_start() and _stop() to cmocka_run_group_tests(). Without a server `have_server` is
 * false, `upstream` is NULL, and a test that needs them says so.
 */

#include "test_server.h"

static struct test_server server;
static struct upstream *upstream;
static bool have_server;

static inline void need_server(void)
{
    if (!have_server) {
        skip();
    }
}

static inline int server_fixture_start(void **state)
{
    struct error error = {0};
    (void)state;
    have_server = server_start(&server);
    if (have_server && upstream_open(server.uri, 10000, &upstream, &error) != STATUS_OK) {
        fprintf(stderr, "%s: %s\n", server.uri, error.message);
        return -1;
    }
    return 0;
}

static inline int server_fixture_stop(void **state)
{
    (void)state;
    upstream = upstream_close(upstream);
    server_stop(&server);
    return 0;
}

#endif
