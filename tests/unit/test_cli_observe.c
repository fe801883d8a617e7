/*
 * `holdfast observe`: what it makes of holdfastd's report. A thread of this test answers on the
 * control socket instead of a holdfastd.
 *
 * Called with arguments, this test is the program itself.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <bson/bson.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/local_socket.h"
#include "cli/cli.h"
#include "test_program.h"

static char self[4096];
static char output[256 * 1024]; /* of the last run, both streams */
static char directory[TEST_DIRECTORY_BYTES];

struct daemon {
    int descriptor;
    const char *answer;
};

/* One request, one answer. */
static void *answer_once(void *context)
{
    const struct daemon *daemon = context;
    char request[1024];
    struct pollfd wanted = {.fd = daemon->descriptor, .events = POLLIN};
    assert_int_equal(poll(&wanted, 1, 20000), 1);
    int peer = accept(daemon->descriptor, NULL, NULL);
    assert_true(peer >= 0);
    ssize_t size = recv(peer, request, sizeof request - 1, 0);
    assert_true(size > 0);
    request[size] = '\0';
    assert_non_null(strstr(request, "GET /observe HTTP/1.1\r\n"));
    assert_int_equal(send(peer, daemon->answer, strlen(daemon->answer), MSG_NOSIGNAL),
                     strlen(daemon->answer));
    close(peer);
    return NULL;
}

/* Runs `holdfast observe OPTION` while holdfastd answers so; its exit code. */
static int run(const char *option, const char *status_line, const char *body)
{
    char command[8192];
    char answer[8192];
    pthread_t thread;
    struct daemon daemon = {.answer = answer};
    snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nConnection: close\r\n\r\n%s", status_line,
             body);
    assert_int_equal(local_socket_listen(directory, LOCAL_SOCKET_CONTROL, &daemon.descriptor, NULL),
                     STATUS_OK);
    assert_int_equal(pthread_create(&thread, NULL, answer_once, &daemon), 0);
    snprintf(command, sizeof command, "'%s' observe --wal '%s' %s 2>&1", self, directory, option);
    int code = shell_run(command, output, sizeof output);
    pthread_join(thread, NULL);
    close(daemon.descriptor);
    local_socket_remove(directory, LOCAL_SOCKET_CONTROL);
    return code;
}

static void assert_says(const char *text)
{
    if (strstr(output, text) == NULL) {
        fail_msg("no `%s` in: %s", text, output);
    }
}

#define FAM "findAndModify emco.resources {app,compositeApp,project} $set{"

static const char report[] =
    "{\"calls\": 12, \"callsMissed\": 2, \"findings\": ["
    "{\"service\": \"orch\", \"route\": \"POST /v2/projects/{}/apps\", \"toldBy\": \"http\", "
    "\"applications\": [\"orchestrator\", \"clm\\u001b[2J\"], \"users\": [\"admin.orch\"], "
    "\"clients\": [\"10.0.0.1\"], \"sequence\": [\"(" FAM "data,keyId,references} upsert\", \"" FAM
    "appcontent,keyId,references,and,a,few,more,fields,than,fit,into,one,line} upsert +)+\"], "
    "\"writesPerCall\": {\"min\": 2, \"max\": 3, \"mean\": 2.1}, \"calls\": 10, \"callsError\": 3, "
    "\"torn\": 4, \"bytes\": 2150, \"suggestion\": \"Put these services into one domain.\"},"
    "{\"service\": \"\", \"route\": \"\", \"toldBy\": \"trace\", \"applications\": [], \"users\": "
    "[], \"clients\": [], \"sequence\": [\"insert a.b one +\"], \"writesPerCall\": {\"min\": 2, "
    "\"max\": 2, \"mean\": 2.0}, \"calls\": 1, \"callsError\": 0, \"torn\": 0, \"bytes\": 20, "
    "\"suggestion\": \"Front it.\"}], \"findingsLeftOut\": 7, \"outsideCalls\": [{\"application\": "
    "\"cron\", \"user\": \"\", \"client\": \"10.0.0.9\", \"shape\": \"delete a.b {} many\", "
    "\"writes\": 5, \"writesError\": 0, \"bytes\": 50, \"suggestion\": \"unit.multiWrites\"}], "
    "\"outsideLeftOut\": 30}\n";

static void it_prints_a_table(void **state)
{
    (void)state;
    assert_int_equal(run("", "200 OK", report), CLI_CLEAN);
    assert_says("WRITES/CALL       CALLS     TORN       BYTES  SERVICE  ROUTE\n");
    assert_says("\n2.1 (2-3)          7-10        4     2.1 KiB  orch  POST /v2/projects/{}/apps\n"
                "        (" FAM "data,keyId,references} upsert\n"
                "        " FAM "appcontent,keyId,references,\n"
                "            and,a,few,more,fields,than,fit,into,one,line} upsert +)+\n"
                "        written by: orchestrator, clm?[2J\n"
                "        as user: admin.orch\n"
                "        from: 10.0.0.1\n"
                "        -> Put these services into one domain.\n");
    assert_says("\n2                     1        0        20 B  -  (a trace)\n"
                "        insert a.b one +\n"
                "        -> Front it.\n");
    assert_says("... and 7 rarer ones");
    assert_says("12 calls have ended since the start of holdfastd; 2 were not followed");
    assert_says("        5  cron  -  10.0.0.9\n        delete a.b {} many\n"
                "        -> unit.multiWrites\n");
    assert_says("... and 21 rarer ones; --json shows more");
    for (const char *line = output; *line != '\0'; line += strcspn(line, "\n") + 1) {
        assert_true(strcspn(line, "\n") <= 100);
    }
}

static void it_prints_json(void **state)
{
    (void)state;
    bson_error_t error;
    bson_iter_t start;
    bson_iter_t found;
    assert_int_equal(run("--json", "200 OK", report), CLI_CLEAN);
    bson_t *document = bson_new_from_json((const uint8_t *)output, -1, &error);
    assert_non_null(document);
    assert_true(bson_iter_init(&start, document) &&
                bson_iter_find_descendant(&start, "findings.0.torn", &found));
    assert_int_equal(bson_iter_as_int64(&found), 4);
    bson_destroy(document);
}

static void nothing_was_seen(void **state)
{
    (void)state;
    assert_int_equal(run("", "200 OK", "{\"calls\": 0, \"findings\": [], \"outsideCalls\": []}"),
                     CLI_CLEAN);
    assert_says("No call that writes more than once has been seen.");
    assert_int_equal(run("", "200 OK", "{}"), CLI_CLEAN);
    assert_int_equal(run("", "200 OK", "{\"findings\": 7, \"outsideCalls\": [3, {\"a\": 1}]}"),
                     CLI_CLEAN);
    assert_int_equal(run("", "200 OK", "{\"findings\": [5, {}, {\"sequence\": [1]}]}"), CLI_CLEAN);
}

static void it_cannot_be_asked(void **state)
{
    (void)state;
    char command[8192];
    assert_int_equal(run("", "404 Not Found", "{}"), CLI_FAILED);
    assert_says("nothing is observed");
    assert_int_equal(run("", "200 OK", "no json"), CLI_FAILED);
    assert_says("not JSON");
    snprintf(command, sizeof command, "'%s' observe --wal '%s' 2>&1", self, directory);
    assert_int_equal(shell_run(command, output, sizeof output), CLI_FAILED);
    assert_says("no holdfastd is alive");
    snprintf(command, sizeof command, "'%s' help observe 2>&1", self);
    assert_int_equal(shell_run(command, output, sizeof output), CLI_CLEAN);
    assert_says("torn");
}

static int start(void **state)
{
    (void)state;
    directory_new(directory);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    directory_remove(directory);
    return 0;
}

int main(int argument_count, char **arguments)
{
    if (argument_count > 1) {
        return cli_main(argument_count, arguments);
    }
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (size <= 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_prints_a_table),
        cmocka_unit_test(it_prints_json),
        cmocka_unit_test(nothing_was_seen),
        cmocka_unit_test(it_cannot_be_asked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
