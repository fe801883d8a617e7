/*
 * The program holdfast: what it answers, and with which exit code, to operators and to mistakes.
 *
 * Called with arguments, this test is the program itself.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "server_fixture.h"

#include "test_journal.h"

#define NS "test.cli"

static char self[4096];
static char output[256 * 1024]; /* of the last run, both streams */

/* Runs `holdfast ARGUMENTS`, through a shell so that pipes may follow; its exit code. */
static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...)
{
    char arguments[2048];
    char command[8192];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof(arguments), format, list);
    va_end(list);
    snprintf(command, sizeof(command), "'%s' %s 2>&1", self, arguments);
    return shell_run(command, output, sizeof(output));
}

static void assert_says(const char *text)
{
    if (strstr(output, text) == NULL) {
        fail_msg("no `%s` in: %s", text, output);
    }
}

/* The last run's standard output is one JSON document. */
static bson_t *json_output(void)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)output, -1, &error);
    if (document == NULL) {
        fail_msg("%s: %s", error.message, output);
    }
    return document;
}

static bool json_has(const bson_t *document, const char *path)
{
    bson_iter_t at;
    bson_iter_t found;
    return bson_iter_init(&at, document) && bson_iter_find_descendant(&at, path, &found);
}

struct left {
    char directory[TEST_DIRECTORY_BYTES];
    uint64_t open;
    uint64_t foreign;
};

/* A committed unit, an open one, and one whose document a stranger has changed. */
static struct left leave(void)
{
    struct left left;
    directory_new(left.directory);
    struct wal *wal = journal_open(left.directory);
    uint64_t committed = journal_begin(wal);
    journal_write(wal, committed, 0, NS, "{\"_id\": 9}", "", "{\"_id\": 9}", NULL);
    journal_commit(wal, committed);
    left.open = journal_begin(wal);
    journal_write(wal, left.open, 0, NS, "{\"_id\": 1}", "{\"_id\": 1, \"a\": 1}",
                  "{\"_id\": 1, \"a\": 2}", "{\"findAndModify\": \"cli\"}");
    left.foreign = journal_begin(wal);
    journal_write(wal, left.foreign, 0, NS, "{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}",
                  "{\"_id\": 2, \"a\": 2}", "{\"findAndModify\": \"cli\"}");
    wal_close(wal, false);
    return left;
}

static void leave_on_server(void)
{
    stranger_writes(upstream, NS, key_of("{\"_id\": 1}"), "{\"_id\": 1, \"a\": 2}");
    stranger_writes(upstream, NS, key_of("{\"_id\": 2}"), "{\"_id\": 2, \"a\": 65}");
    run_json(upstream, "holdfast",
             "{\"delete\": \"state\", \"deletes\": [{\"q\": {}, \"limit\": 0}]}");
}

static void it_explains_itself(void **state)
{
    (void)state;
    assert_int_equal(run("--help"), CLI_CLEAN);
    assert_says("recover");
    assert_says("Exit codes");
    assert_int_equal(run("help recover"), CLI_CLEAN);
    assert_says("newest first");
    assert_int_equal(run("units --help"), CLI_CLEAN);
    assert_says("--state");
    assert_int_equal(run("--version"), CLI_CLEAN);
    assert_says(HOLDFAST_VERSION);
}

static void mistakes_are_named_and_exit_2(void **state)
{
    static const struct {
        const char *arguments;
        const char *says;
    } mistakes[] = {
        {"", "which command"},
        {"unit --wal $DIR", "no command unit"},
        {"units", "--wal DIR is missing"},
        {"units --wal", "needs a value"},
        {"units --nosuch --wal $DIR", "--nosuch"},
        {"units --wal $DIR --state lost", "lost"},
        {"units 7 --wal $DIR", "unexpected 7"},
        {"show --wal $DIR", "needs a UNIT"},
        {"show seven --wal $DIR", "seven"},
        {"show 18446744073709551616 --wal $DIR", "not a unit's number"},
        {"status --wal /nonexistent/journal", "journal"},
        {"units --wal $DIR", "no journal"},
        {"verify --wal /nonexistent/journal", "journal"},
        {"recover --wal $DIR", "--upstream"},
        {"recover --wal $DIR --upstream mongodb://127.0.0.1:1", "no journal"},
        {"recover --wal $DIR --set upstream.nosuch=1", "upstream.nosuch"},
        {"recover --wal $DIR --set upstream.fenceWait=soon", "time"},
        {"replay --wal $DIR", "which server"},
        {"replay --wal $DIR --onto mongodb://127.0.0.1:1", "no journal"},
        {"replay --wal $DIR --until soon", "expected an LSN"},
        {"check-restore --wal $DIR", "which server"},
        {"rollback --wal $DIR", "UNIT"},
        {"rollback 7 --wal $DIR", "no journal"},
        {"drain --wal $DIR", "no holdfastd"},
        {"resolve 7", "--wal"},
        {"resolve 7 --wal $DIR", "--upstream"},
        {"resolve 7 --wal $DIR --keep --apply", "only one"},
        {"resolve seven --wal $DIR", "not a unit"},
        {"export", "--wal"},
        {"export --wal $DIR", "no journal"},
        {"export --wal $DIR --unit 0", "not a unit's number"},
        {"export --wal $DIR --from 2026-13-01T00:00:00Z", "expected an LSN"},
        {"prune --wal $DIR", "no journal"},
        {"prune --wal $DIR --before 12", "expected a time"},
        {"prune --wal $DIR --before 1m", "30 minutes"},
    };
    char directory[TEST_DIRECTORY_BYTES]; /* one without a journal */
    (void)state;
    directory_new(directory);
    setenv("DIR", directory, 1); /* the shell that runs the program puts it in */
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        assert_int_equal(run("%s", mistakes[i].arguments), CLI_FAILED);
        assert_says(mistakes[i].says);
    }
    directory_remove(directory);
}

static void a_mistyped_directory_makes_no_journal(void **state)
{
    (void)state;
    char directory[TEST_DIRECTORY_BYTES];
    char path[TEST_DIRECTORY_BYTES + 16];
    directory_new(directory);
    snprintf(path, sizeof(path), "%s/typo", directory);
    assert_int_equal(run("recover --wal %s --upstream mongodb://127.0.0.1:1", path), CLI_FAILED);
    assert_int_not_equal(access(path, F_OK), 0);
    directory_remove(directory);
}

static void looking_works_while_the_owner_runs(void **state)
{
    (void)state;
    struct left left = leave();
    struct wal *wal = journal_open(left.directory);
    assert_int_equal(run("status --wal %s", left.directory), CLI_CLEAN);
    assert_says("open        2 units");
    assert_int_equal(run("units --wal %s", left.directory), CLI_CLEAN);
    assert_says("admin.alice");
    assert_says("committed");
    assert_int_equal(run("verify --wal %s", left.directory), CLI_CLEAN);
    assert_says("sound");
    assert_int_equal(run("show %d --wal %s", (int)left.open, left.directory), CLI_CLEAN);
    assert_says("test.cli");
    assert_int_equal(run("show 999 --wal %s", left.directory), CLI_FAILED);
    assert_int_equal(run("recover --wal %s --upstream mongodb://127.0.0.1:1", left.directory),
                     CLI_FAILED);
    assert_says("a unit test"); /* who owns it */
    wal_close(wal, false);
    directory_remove(left.directory);
}

static void json_is_json(void **state)
{
    (void)state;
    struct left left = leave();
    bson_t *document;
    assert_int_equal(run("status --json --wal %s", left.directory), CLI_CLEAN);
    document = json_output();
    assert_true(json_has(document, "journal"));
    assert_true(json_has(document, "unitsOpen"));
    assert_true(json_has(document, "commits"));
    bson_destroy(document);
    assert_int_equal(run("units --json --wal %s", left.directory), CLI_CLEAN);
    document = json_output();
    assert_true(json_has(document, "units.2.state"));
    assert_false(json_has(document, "units.3"));
    bson_destroy(document);
    assert_int_equal(run("units --json --state conflict --wal %s", left.directory), CLI_CLEAN);
    document = json_output();
    assert_true(json_has(document, "units"));
    assert_false(json_has(document, "units.0"));
    bson_destroy(document);
    assert_int_equal(run("show %d --json --wal %s", (int)left.open, left.directory), CLI_CLEAN);
    document = json_output();
    assert_true(json_has(document, "writes.0.before.a"));
    bson_destroy(document);
    assert_int_equal(run("verify --json --wal %s", left.directory), CLI_CLEAN);
    document = json_output();
    assert_true(json_has(document, "damage"));
    bson_destroy(document);
    directory_remove(left.directory);
}

static void states_filter_the_list(void **state)
{
    (void)state;
    struct left left = leave();
    assert_int_equal(run("units --state open --wal %s", left.directory), CLI_CLEAN);
    assert_null(strstr(output, "committed"));
    assert_says("open");
    assert_int_equal(run("units --state committed --wal %s", left.directory), CLI_CLEAN);
    assert_null(strstr(output, "open"));
    directory_remove(left.directory);
}

/* What a client named itself must not move the operator's cursor. */
static void control_characters_are_not_obeyed(void **state)
{
    (void)state;
    char directory[TEST_DIRECTORY_BYTES];
    directory_new(directory);
    struct wal *wal = journal_open(directory);
    struct record_begin begin = {
        .boundary = "driver", .user = "a\033[2Jb\xc2\x9b", .client = "x\ny", .application = "\007"};
    bson_t payload = BSON_INITIALIZER;
    record_put_begin(&payload, &begin);
    journal_append(wal, wal_unit_next(wal), WAL_KIND_BEGIN, &payload);
    bson_destroy(&payload);
    wal_close(wal, false);
    assert_int_equal(run("units --wal %s", directory), CLI_CLEAN);
    assert_null(strchr(output, '\033'));
    assert_null(strstr(output, "\xc2\x9b"));
    assert_says("a?[2Jb?");
    assert_says("x?y");
    assert_int_equal(run("show 1 --wal %s", directory), CLI_CLEAN);
    assert_null(strpbrk(output, "\033\007"));
    directory_remove(directory);
}

static void a_reader_that_leaves_ends_the_output_only(void **state)
{
    (void)state;
    struct left left = leave();
    struct wal *wal = journal_open(left.directory);
    for (int i = 0; i < 3000; i++) {
        journal_begin(wal);
    }
    wal_close(wal, false);
    assert_int_equal(run("units --wal %s | head -n 1", left.directory), 0);
    assert_null(strstr(output, "cannot write"));
    directory_remove(left.directory);
}

static void a_full_disk_is_a_failure(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    assert_int_equal(run("--help >/dev/full"), CLI_FAILED);
}

static void damage_is_found_and_exits_1(void **state)
{
    (void)state;
    char directory[TEST_DIRECTORY_BYTES];
    directory_new(directory);
    struct wal *wal = journal_open(directory);
    uint64_t unit = journal_begin(wal);
    bson_t payload = BSON_INITIALIZER; /* sound for the journal, but no WRITE of our schema */
    journal_append(wal, unit, WAL_KIND_WRITE, &payload);
    wal_close(wal, false);
    assert_int_equal(run("verify --wal %s", directory), CLI_LEFT);
    assert_says("DAMAGED");
    assert_says("field `n`");
    assert_int_equal(run("units --wal %s", directory), CLI_LEFT);
    assert_int_equal(run("show %d --wal %s", (int)unit, directory), CLI_LEFT);
    assert_says("LSN 1");
    directory_remove(directory);
}

static void recover_rolls_back_and_parks(void **state)
{
    (void)state;
    need_server();
    struct left left = leave();
    leave_on_server();
    const char *where = "--set upstream.fenceWait=0";
    assert_int_equal(
        run("recover --dry-run --wal %s --upstream %s %s", left.directory, server.uri, where),
        CLI_LEFT);
    assert_says("would be rolled back");
    assert_says("would be set aside");
    assert_int_equal(run("recover --wal %s --upstream %s %s", left.directory, server.uri, where),
                     CLI_LEFT);
    assert_says("rolled back: 1; set aside as conflicts: 1; conflicts left: 1");
    struct image now = current(upstream, NS, key_of("{\"_id\": 1}"));
    assert_true(image_equal(now, image_of("{\"_id\": 1, \"a\": 1}")));
    image_free(&now);

    assert_int_equal(run("recover --json --wal %s --upstream %s", left.directory, server.uri),
                     CLI_LEFT);
    bson_t *document = json_output();
    assert_true(json_has(document, "conflictsLeft"));
    bson_destroy(document);

    assert_int_equal(run("show %d --wal %s", (int)left.foreign, left.directory), CLI_LEFT);
    assert_says("found");
    assert_says("! a");
    assert_says("\"65\"");
    assert_int_equal(run("units --state conflict --wal %s", left.directory), CLI_LEFT);
    assert_int_equal(run("status --wal %s --upstream %s", left.directory, server.uri), CLI_LEFT);
    assert_says("this journal's");
    assert_says("given back");
    directory_remove(left.directory);
}

/* Nobody reads the output: the recovery goes on all the same. */
static void a_closed_pipe_does_not_stop_a_recovery(void **state)
{
    (void)state;
    need_server();
    struct left left = leave();
    leave_on_server();
    run("recover --wal %s --upstream %s --set upstream.fenceWait=0 | true", left.directory,
        server.uri);
    struct image now = {0};
    for (int tries = 0; tries < 100; tries++) { /* `true` ends before holdfast does */
        now = current(upstream, NS, key_of("{\"_id\": 1}"));
        if (image_equal(now, image_of("{\"_id\": 1, \"a\": 1}"))) {
            break;
        }
        image_free(&now);
        pause_ms(50);
    }
    assert_int_equal(now.presence, IMAGE_PRESENT);
    image_free(&now);
    directory_remove(left.directory);
}

static void no_server_exits_2_and_changes_nothing(void **state)
{
    (void)state;
    struct left left = leave();
    assert_int_equal(run("recover --wal %s --upstream mongodb://127.0.0.1:1 "
                         "--set upstream.connectTimeout=200ms",
                         left.directory),
                     CLI_FAILED);
    assert_int_equal(run("status --wal %s", left.directory), CLI_CLEAN);
    assert_says("open        2 units");
    directory_remove(left.directory);
}

int main(int argument_count, char **arguments)
{
    if (argument_count > 1 || getenv("HOLDFAST_TEST_IS_PROGRAM") != NULL) {
        return cli_main(argument_count, arguments);
    }
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (size <= 0 || setenv("HOLDFAST_TEST_IS_PROGRAM", "1", 1) != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_explains_itself),
        cmocka_unit_test(mistakes_are_named_and_exit_2),
        cmocka_unit_test(a_mistyped_directory_makes_no_journal),
        cmocka_unit_test(looking_works_while_the_owner_runs),
        cmocka_unit_test(json_is_json),
        cmocka_unit_test(states_filter_the_list),
        cmocka_unit_test(control_characters_are_not_obeyed),
        cmocka_unit_test(a_reader_that_leaves_ends_the_output_only),
        cmocka_unit_test(a_full_disk_is_a_failure),
        cmocka_unit_test(damage_is_found_and_exits_1),
        cmocka_unit_test(recover_rolls_back_and_parks),
        cmocka_unit_test(a_closed_pipe_does_not_stop_a_recovery),
        cmocka_unit_test(no_server_exits_2_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, server_fixture_start, server_fixture_stop);
}
