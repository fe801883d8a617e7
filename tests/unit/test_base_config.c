/*
 * Configuration: every key by file, option and --set; every mistake refused with the place named;
 * conf/holdfast.yaml true to the table.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/config_keys.h"

#define REQUIRED "--listen", "127.0.0.1:0", "--upstream", "mongodb://h:1", "--wal", "/tmp/j"
#define PARSE(config_, error_, ...)                                                                \
    parse((const char *const[]){"holdfastd", __VA_ARGS__, NULL}, (config_), (error_))

static enum config_action action;

static enum status parse(const char *const *words, struct config *ret_config,
                         struct error *ret_error)
{
    char *arguments[64];
    int count = 0;
    for (; words[count] != NULL; count++) {
        arguments[count] = strdup(words[count]);
        assert_non_null(arguments[count]);
    }
    arguments[count] = NULL;
    memset(ret_error, 0, sizeof(*ret_error));
    enum status status = config_from_arguments(count, arguments, ret_config, &action, ret_error);
    for (int i = 0; i < count; i++) {
        free(arguments[i]);
    }
    return status;
}

static enum status apply_yaml(struct config *config, const char *yaml, struct error *ret_error)
{
    struct error ignored;
    assert_int_equal(config_set_defaults(config, &ignored), STATUS_OK);
    memset(ret_error, 0, sizeof(*ret_error));
    return config_yaml_apply(config, slice_text(yaml), "f.yaml", ret_error);
}

static void write_file(char path[64], const char *text)
{
    strcpy(path, "/tmp/holdfast-config-XXXXXX");
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, text, strlen(text)), strlen(text));
    close(descriptor);
}

static void test_defaults_are_those_of_the_header(void **state)
{
    (void)state;
    struct config config;
    struct error error;
    assert_int_equal(PARSE(&config, &error, REQUIRED), STATUS_OK);
    assert_int_equal(action, CONFIG_RUN);
    assert_string_equal(config.net_listen, "127.0.0.1:0");
    assert_string_equal(config.upstream_uri, "mongodb://h:1");
    assert_string_equal(config.wal_directory, "/tmp/j");
    assert_int_equal(config.net_connections_max, 20000);
    assert_int_equal(config.net_threads, 0);
    assert_int_equal(config.upstream_connect_ms, 10000);
    assert_int_equal(config.upstream_fence_ms, 2000);
    assert_string_equal(config.upstream_takeover, "");
    assert_int_equal(config.wal_durability, WAL_DURABILITY_POWER);
    assert_int_equal(config.wal_quota_bytes, UINT64_C(64) << 30);
    assert_int_equal(config.wal_retention_ms, UINT64_C(24) * 3600 * 1000);
    assert_int_equal(config.unit_engine, CONFIG_ENGINE_AUTO);
    assert_int_equal(config.unit_lock_wait_ms, 5000);
    assert_int_equal(config.unit_lifetime_ms, 60000);
    assert_int_equal(config.unit_writes_max, 100000);
    assert_int_equal(config.unit_bytes_max, UINT64_C(256) << 20);
    assert_int_equal(config.unit_count_max, 10000);
    assert_int_equal(config.unit_locks_max, 1000000);
    assert_string_equal(config.admin_listen, "");
    assert_string_equal(config.http_listen, "");
    assert_string_equal(config.http_service, "");
    assert_string_equal(config.http_inside, "");
    assert_string_equal(config.http_peers, "");
    assert_int_equal(config.http_correlation, CONFIG_CORRELATION_EXCLUSIVE);
    assert_int_equal(config.http_reads, CONFIG_READS_OWN);
    assert_int_equal(config.http_call_timeout_ms, 30000);
    assert_int_equal(config.http_queue_wait_ms, 10000);
    assert_int_equal(config.http_queue_length, 1000);
    assert_int_equal(config.http_quiet_ms, 5000);
    assert_int_equal(config.http_answer_bytes_max, UINT64_C(16) << 20);
    assert_string_equal(config.http_routes, "");
    assert_int_equal(config.unit_boundary, CONFIG_BOUNDARY_ALL);
    assert_null(config.services);
    assert_int_equal(config.services_count, 0);
    assert_int_equal(config.log_level, LOG_INFO);
    assert_false(config.check_only);
    config_free(&config);
    config_free(&config); /* twice is harmless */
    config_free(NULL);
}

static void test_later_wins_and_the_file_comes_first(void **state)
{
    (void)state;
    struct config config;
    struct error error;
    char path[64];
    write_file(path, "net:\n  listen: 127.0.0.1:1\n  threads: 3\nunit.lifetime: 7s\n");
    assert_int_equal(PARSE(&config, &error, "--listen", "127.0.0.1:2", "--config", path,
                           "--upstream=mongodb://h", "--wal=/j", "--set", "net.listen=127.0.0.1:3",
                           "--net.listen", "127.0.0.1:4", "--log.level=error", "--check-config"),
                     STATUS_OK);
    unlink(path);
    assert_string_equal(config.net_listen, "127.0.0.1:4");
    assert_int_equal(config.net_threads, 3);
    assert_int_equal(config.unit_lifetime_ms, 7000);
    assert_int_equal(config.log_level, LOG_ERROR);
    assert_true(config.check_only);
    config_free(&config);
}

static void test_every_required_key_is_asked_for(void **state)
{
    (void)state;
    struct config config;
    struct error error;
    assert_int_equal(PARSE(&config, &error, "--upstream", "mongodb://h", "--wal", "/j"),
                     STATUS_INVALID);
    assert_non_null(strstr(error.message, "net.listen is missing"));
    config_free(&config);
    assert_int_equal(PARSE(&config, &error, "--listen", "h:1", "--wal", "/j"), STATUS_INVALID);
    assert_non_null(strstr(error.message, "--upstream"));
    config_free(&config);
    assert_int_equal(PARSE(&config, &error, "--listen", "h:1", "--upstream", "mongodb://h"),
                     STATUS_INVALID);
    assert_non_null(strstr(error.message, "--wal"));
    config_free(&config);
    assert_int_equal(PARSE(&config, &error, REQUIRED, "--http-listen", "h:1"), STATUS_INVALID);
    assert_non_null(strstr(error.message, "http.service is missing"));
    config_free(&config);
}

static void test_keys_that_need_each_other(void **state)
{
    (void)state;
    static const struct {
        const char *words[6]; /* KEY=VALUE, up to NULL */
        const char *message;  /* NULL: valid */
    } cases[] = {
        {{"http.listen=h:1", "http.service=h:2"}, NULL},
        {{"http.listen=h:1", "http.service=h:2", "http.inside=h:3", "http.peers=10.0.0.5"}, NULL},
        {{"http.service=h:1"}, "http.listen is missing"},
        {{"http.inside=h:1"}, "http.inside is of use only with http.listen"},
        {{"http.peers=10.0.0.5"}, "http.peers is of use only with http.listen"},
        {{"http.callTimeout=2m"}, NULL}, /* nothing uses it */
        {{"unit.lifetime=1s"}, NULL},
        {{"http.listen=h:1", "http.service=h:2", "unit.lifetime=29s"},
         "http.callTimeout is longer than unit.lifetime (30000 ms and 29000 ms)"},
        {{"http.listen=h:1", "http.service=h:2", "http.callTimeout=1m"}, NULL},
        {{"http.listen=h:1", "http.service=h:1"}, NULL}, /* one is not listened on */
        {{"admin.listen=H:1", "http.listen=h:1", "http.service=h:2"},
         "admin.listen and http.listen are the same address"},
        {{"net.listen=h:0", "admin.listen=[::1]:0"}, NULL},
        {{"admin.listen=localhost:9"}, NULL},
        {{"admin.listen=127.1.2.3:9"}, NULL},
        {{"admin.listen=0.0.0.0:9"}, "0.0.0.0:9 can be reached by others, which needs a token"},
        {{"admin.listen=127.example.org:9"}, "which needs a token"},
        {{"upstream.uriFile=/nonexistent"}, "upstream.uri and upstream.uriFile are both given"},
        {{"admin.tokenFile=/nonexistent"}, "admin.tokenFile: cannot read /nonexistent: No such"},
        {{"event.webhookSecretFile=/nonexistent"},
         "event.webhookSecretFile: cannot read /nonexistent: No such"},
        {{"http.listen=h:1", "http.service=h:2", "http.inside=h:1"},
         "http.listen and http.inside are the same address"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config config;
        struct error error;
        const char *words[32] = {"holdfastd", REQUIRED};
        size_t count = 7;
        for (size_t j = 0; j < 6 && cases[i].words[j] != NULL; j++) {
            words[count++] = "--set";
            words[count++] = cases[i].words[j];
        }
        enum status status = parse(words, &config, &error);
        if (cases[i].message == NULL
                ? status != STATUS_OK
                : status != STATUS_INVALID || strstr(error.message, cases[i].message) == NULL) {
            fail_msg("case %zu: %s %s", i, status_name(status), error.message);
        }
        config_free(&config);
    }
}

/* One wrong word each; what the message must say. */
static void test_wrong_words_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        const char *value; /* or NULL */
        const char *message;
    } cases[] = {
        {"--liste", "h:1", "unknown option --liste"}, /* no abbreviations */
        {"--net.lis=h:1", NULL, "unknown option --net.lis=h:1"},
        {"--nonsense", NULL, "unknown option --nonsense"},
        {"-x", NULL, "unknown option -x"},
        {"stray", NULL, "\"stray\" is not an option"},
        {"--", "stray", "\"stray\" is not an option"},
        {"--wal", NULL, "--wal wants a value"},
        {"--check-config=yes", NULL, "--check-config=yes"},
        {"--set", "wal.quota", "--set wants KEY=VALUE"},
        {"--set", "=5", "--set wants KEY=VALUE"},
        {"--set", "wal.quot=5", "--set: unknown key wal.quot"},
        {"--set", "wal.quota=5", "--set: wal.quota: 5 is outside 16MiB to 16TiB"},
        {"--wal.quota", "x", "--wal.quota: wal.quota: \"x\" is not a size"},
        {"--listen", "nowhere", "--listen: net.listen: \"nowhere\" is not HOST:PORT"},
        {"--config", "/nonexistent/holdfast.yaml", "/nonexistent/holdfast.yaml: No such file"},
        {"--config", "/tmp", "cannot read the configuration file /tmp"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config config;
        struct error error;
        assert_int_equal(PARSE(&config, &error, REQUIRED, cases[i].word, cases[i].value),
                         STATUS_INVALID);
        if (strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s: %s", cases[i].word, error.message);
        }
        config_free(&config);
    }
}

static void test_values_valid_and_invalid(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        const char *text;
        bool valid;
        uint64_t number; /* of a valid number */
    } cases[] = {
        {"upgrade.wait", "0", true, 0},
        {"upgrade.wait", "10m", true, 600000},
        {"upgrade.wait", "601s", false, 0},
        {"unit.lockWait", "0", true, 0},
        {"unit.lockWait", "250", true, 250},
        {"unit.lockWait", "250ms", true, 250},
        {"unit.lockWait", "10m", true, 600000},
        {"unit.lockWait", "10m1s", false, 0},
        {"unit.lockWait", "601s", false, 0},
        {"unit.lockWait", "-1", false, 0},
        {"unit.lockWait", "", false, 0},
        {"unit.lockWait", "ms", false, 0},
        {"unit.lockWait", "5 s", false, 0},
        {"unit.lockWait", "5S", false, 0},
        {"unit.lockWait", "1.5s", false, 0},
        {"unit.lockWait", "18446744073709551616", false, 0},
        {"unit.lockWait", "184467440737095516160", false, 0},
        {"unit.lockWait", "18446744073709551615y", false, 0},
        {"wal.retention", "10y", true, UINT64_C(315360000000)},
        {"wal.retention", "29m", false, 0},
        {"wal.retention", "2d", true, 172800000},
        {"wal.quota", "16MiB", true, 16777216},
        {"wal.quota", "16777216", true, 16777216},
        {"wal.quota", "16777215", false, 0},
        {"wal.quota", "16TiB", true, UINT64_C(17592186044416)},
        {"wal.quota", "17TiB", false, 0},
        {"wal.quota", "64GB", false, 0},
        {"wal.quota", "17179869184KiB", true, UINT64_C(17592186044416)},
        {"net.threads", "256", true, 256},
        {"net.threads", "257", false, 0},
        {"net.threads", "0x10", false, 0},
        {"net.threads", "1s", false, 0},
        {"wal.durability", "process", true, WAL_DURABILITY_PROCESS},
        {"wal.durability", "Power", false, 0},
        {"unit.engine", "native", true, CONFIG_ENGINE_NATIVE},
        {"log.level", "warning", true, LOG_WARNING},
        {"log.level", "warn", false, 0},
        {"net.listen", "0.0.0.0:65535", true, 0},
        {"net.listen", "[::1]:27018", true, 0},
        {"net.listen", "unix:/run/holdfast/mongo.sock", true, 0},
        {"net.listen", "unix:relative", false, 0},
        {"net.listen", "unix:/a\nb", false, 0},
        {"net.listen", "/run/holdfast/mongo.sock", false, 0},
        {"admin.listen", "unix:/run/holdfast/admin.sock", false, 0},
        {"http.listen", "unix:/run/holdfast/http.sock", false, 0},
        {"net.listen", "[fe80::1%eth0]:1", true, 0},
        {"net.listen", "db-1.example_x.org:0", true, 0},
        {"net.listen", "::1:27018", false, 0},
        {"net.listen", "[::1]", false, 0},
        {"net.listen", "[]:1", false, 0},
        {"net.listen", "[x:1", false, 0},
        {"net.listen", "h:65536", false, 0},
        {"net.listen", "h:", false, 0},
        {"net.listen", ":1", false, 0},
        {"net.listen", "h: 1", false, 0},
        {"net.listen", "a b:1", false, 0},
        {"net.listen", "h:000001", false, 0},
        {"http.service", "h:0", false, 0},
        {"http.service", "h:1", true, 0},
        {"upstream.uri", "mongodb://u:p@h:1/db?authSource=admin,x", true, 0},
        {"upstream.uri", "mongodb://[::1]:27017", true, 0},
        {"upstream.uri", "mongodb://h1,h2:5/?replicaSet=rs", true, 0},
        {"upstream.uri", "mongodb://u,v:p@h", true, 0},
        {"upstream.uri", "mongodb://", false, 0},
        {"upstream.uri", "mongodb://u@/", false, 0},
        {"upstream.uri", "mongodb+srv://u:p@h.example.net/", true, 0},
        {"upstream.uri", "mongodb+srv://", false, 0},
        {"upstream.uri", "mongodb+x://h", false, 0},
        {"upstream.uri", "h:27017", false, 0},
        {"http.inside", "h:0", true, 0},
        {"http.inside", "h", false, 0},
        {"http.peers", "", true, 0},
        {"http.peers", "10.0.0.5", true, 0},
        {"http.peers", " 10.0.0.5 ,fd00::6, ::1 ", true, 0},
        {"http.peers", "10.0.0.5,", false, 0},
        {"http.peers", ",10.0.0.5", false, 0},
        {"http.peers", "10.0.0.5 10.0.0.6", false, 0},
        {"http.peers", "10.0.0.256", false, 0},
        {"http.peers", "10.0.0.5:80", false, 0},
        {"http.peers", "10.0.0.0/8", false, 0},
        {"http.peers", "localhost", false, 0},
        {"http.peers", " ", false, 0},
        {"http.peers", "1111:1111:1111:1111:1111:1111:1111:1111:1111:1111", false, 0},
        {"http.correlation", "trace", true, CONFIG_CORRELATION_TRACE},
        {"http.correlation", "both", false, 0},
        {"http.reads", "wait", true, CONFIG_READS_WAIT},
        {"http.reads", "", false, 0},
        {"http.callTimeout", "100ms", true, 100},
        {"http.callTimeout", "99ms", false, 0},
        {"http.callTimeout", "24h", true, 86400000},
        {"http.callTimeout", "25h", false, 0},
        {"http.queueWait", "0", true, 0},
        {"http.queueWait", "24h", true, 86400000},
        {"http.queueWait", "2d", false, 0},
        {"http.queueLength", "0", true, 0},
        {"http.queueLength", "100000", true, 100000},
        {"http.queueLength", "100001", false, 0},
        {"http.quietPeriod", "0", true, 0},
        {"http.quietPeriod", "10m", true, 600000},
        {"http.quietPeriod", "11m", false, 0},
        {"http.maxAnswer", "1KiB", true, 1024},
        {"http.maxAnswer", "1023", false, 0},
        {"http.maxAnswer", "1GiB", true, 1073741824},
        {"http.maxAnswer", "2GiB", false, 0},
        {"http.routes", "GET /refresh, !POST /search", true, 0},
        {"http.routes", "GET /a\nPOST /b", false, 0},
        {"http.routes", "\x7f", false, 0},
        {"unit.boundary", "observe", true, CONFIG_BOUNDARY_OBSERVE},
        {"unit.boundary", "none", false, 0},
        {"upstream.takeover", "00ffAB", true, 0},
        {"upstream.takeover", "00f", false, 0},
        {"upstream.takeover", "zz", false, 0},
    };
    struct config config;
    struct error error;
    assert_int_equal(config_set_defaults(&config, &error), STATUS_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct config_key *key = config_key_find(cases[i].key);
        assert_non_null(key);
        uint64_t before = config_key_number(&config, key);
        enum status status = config_key_set(&config, key, cases[i].text, &error);
        if ((status == STATUS_OK) != cases[i].valid) {
            fail_msg("%s=%s: %s", cases[i].key, cases[i].text, status_name(status));
        }
        const char *text = config_key_text(&config, key);
        if (!cases[i].valid) {
            assert_int_equal(config_key_number(&config, key), before);
            assert_ptr_equal(strstr(error.message, cases[i].key), error.message);
        } else if (text != NULL) {
            assert_string_equal(text, cases[i].text);
        } else {
            assert_int_equal(config_key_number(&config, key), cases[i].number);
        }
    }
    config_free(&config);
}

/* A password in the URI must not get into a log by way of an error message. */
static void test_uri_is_never_quoted(void **state)
{
    (void)state;
    struct config config;
    struct error error;
    assert_int_equal(PARSE(&config, &error, REQUIRED, "--upstream", "mongodb://u:secret@/"),
                     STATUS_INVALID);
    assert_null(strstr(error.message, "secret"));
    config_free(&config);
}

static void test_yaml_errors_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const char *message;
    } cases[] = {
        {"net:\n  threads: 1\n  thread: 2\n", "f.yaml:3: unknown key net.thread"},
        {"nets:\n  threads: 1\n", "f.yaml:1: unknown key nets"},
        {"net:\n  threads: many\n", "f.yaml:2: net.threads: \"many\" is not a whole number"},
        {"net:\n  threads: 1\n  threads: 2\n", "f.yaml:3: net.threads is set a second time, first "
                                               "in line 2"},
        {"net:\n  threads: 1\nnet.threads: 2\n", "f.yaml:3: net.threads is set a second time"},
        {"net:\n  threads: [1, 2]\n", "f.yaml:2: net.threads wants one plain value"},
        {"net:\n  threads: {a: 1}\n", "f.yaml:2: net.threads wants one plain value"},
        {"net:\n  threads:\n", "f.yaml:2: net.threads: \"\" is not a whole number"},
        {"net: 5\n", "f.yaml:1: unknown key net"},
        {"net: &n\n  threads: *n\n", "f.yaml:2: net.threads wants one plain value"},
        {"\n\n- a\n", "f.yaml:3: wants keys with values"},
        {"just text\n", "f.yaml:1: wants keys with values"},
        {"? [a]\n: b\n", "f.yaml:1: a key must be plain text"},
        {"a: 1\n b: 2\n", "f.yaml:2: not YAML"},
        {"net:\n\tthreads: 1\n", "f.yaml:2: not YAML"},
        {"net: *nothing\n", "f.yaml:1: not YAML"},
        {"log.level: info\n---\nlog.level: debug\n", "f.yaml:3: a second document"},
        {"log.level: \"in\\0fo\"\n", "f.yaml:1: log.level wants one plain value"},
        {"\xff\xfe\xff", "not YAML"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config config;
        struct error error;
        enum status status = apply_yaml(&config, cases[i].yaml, &error);
        if (status != STATUS_INVALID || strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s: %s %s", cases[i].yaml, status_name(status), error.message);
        }
        config_free(&config);
    }
}

static void test_yaml_that_changes_nothing_is_fine(void **state)
{
    (void)state;
    static const char *const harmless[] = {"", "# only a comment\n", "---\n", "net:\nlog:\n"};
    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
        struct config config;
        struct error error;
        assert_int_equal(apply_yaml(&config, harmless[i], &error), STATUS_OK);
        config_free(&config);
    }
}

static void test_file_of_many_megabytes_is_refused(void **state)
{
    (void)state;
    struct config config;
    struct error error;
    char path[64];
    write_file(path, "# sparse\n");
    assert_int_equal(truncate(path, 1024 * 1024 + 1), 0);
    assert_int_equal(PARSE(&config, &error, REQUIRED, "--config", path), STATUS_INVALID);
    assert_non_null(strstr(error.message, "larger than 1 MiB"));
    unlink(path);
    config_free(&config);
}

static void test_twice_config_is_refused(void **state)
{
    (void)state;
    struct config config;
    struct error error;
    assert_int_equal(PARSE(&config, &error, REQUIRED, "--config", "/a", "--config", "/b"),
                     STATUS_INVALID);
    assert_non_null(strstr(error.message, "--config is given twice"));
    config_free(&config);
}

/* conf/holdfast.yaml sets every key, and every key that has a default to that default. */
/* Whether the comment that ends at `end`, a newline, has the mark. */
static bool comment_says_live(const char *text, const char *end)
{
    static const char mark[] = "[live]";
    const char *start = end;
    for (;;) {
        const char *line = start;
        while (line > text && line[-1] != '\n') {
            line--;
        }
        if (line == text || line[strspn(line, " ")] != '#') {
            break;
        }
        start = line - 1;
    }
    return memmem(start, (size_t)(end - start), mark, sizeof(mark) - 1) != NULL;
}

static void test_shipped_file_is_true_to_the_table(void **state)
{
    (void)state;
    struct config shipped;
    struct config standard;
    struct error error = {0};
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s", __FILE__);
    char *tests = strstr(path, "tests/unit/");
    assert_non_null(tests);
    strcpy(tests, "conf/holdfast.yaml");
    assert_int_equal(config_set_defaults(&shipped, &error), STATUS_OK);
    assert_int_equal(config_set_defaults(&standard, &error), STATUS_OK);
    if (config_file_apply(&shipped, path, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(config_check(&shipped, &error), STATUS_OK);
    FILE *file = fopen(path, "r");
    static char text[65536];
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *key = &config_keys[i];
        char line[128];
        (void)snprintf(line, sizeof(line),
                       "\n%s%s:", strchr(key->name, '.') == strrchr(key->name, '.') ? "  " : "    ",
                       strrchr(key->name, '.') + 1);
        if (strstr(text, line) == NULL) {
            fail_msg("%s is not shown in conf/holdfast.yaml", key->name);
        }
        if (comment_says_live(text, strstr(text, line)) != key->live) {
            fail_msg("%s: [live] in conf/holdfast.yaml is not what the table says", key->name);
        }
        assert_int_equal(config_key_number(&shipped, key), config_key_number(&standard, key));
        const char *value = config_key_text(&shipped, key);
        if (value != NULL && !key->required) {
            assert_string_equal(value, key->standard);
        }
    }
    config_free(&shipped);
    config_free(&standard);
}

struct seen_changes {
    size_t live;
    size_t other;
    char last[64];
};

static void on_changed(void *context, const char *key, bool live)
{
    struct seen_changes *seen = context;
    ++*(live ? &seen->live : &seen->other);
    (void)snprintf(seen->last, sizeof(seen->last), "%s", key);
}

static void test_taking_over_changes_live_keys_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *key = &config_keys[i];
        const char *other = key->choices != NULL                 ? key->choices[1]
                            : key->largest != NULL               ? key->largest
                            : key->type == CONFIG_TYPE_URI       ? "mongodb://other:1"
                            : key->type == CONFIG_TYPE_HTTP      ? "http://other:1/x"
                            : key->type == CONFIG_TYPE_HEX       ? "ab12"
                            : key->type == CONFIG_TYPE_ADDRESSES ? "10.0.0.5"
                                                                 : "other:2";
        if (key->choices != NULL && strcmp(other, key->standard) == 0) {
            other = key->choices[0];
        } else if (key->largest != NULL && strcmp(other, key->standard) == 0) {
            other = key->smallest;
        }
        struct config running;
        struct config next;
        struct error error = {0};
        struct seen_changes seen = {0};
        assert_int_equal(config_set_defaults(&running, &error), STATUS_OK);
        assert_int_equal(config_set_defaults(&next, &error), STATUS_OK);
        config_take_over(&running, &next, on_changed, &seen);
        assert_int_equal(seen.live + seen.other, 0);
        assert_int_equal(config_key_set(&next, key, other, &error), STATUS_OK);
        uint64_t before = config_key_number(&running, key);
        config_take_over(&running, &next, on_changed, &seen);
        assert_int_equal(seen.live, key->live ? 1 : 0);
        assert_int_equal(seen.other, key->live ? 0 : 1);
        assert_string_equal(seen.last, key->name);
        assert_int_equal(config_key_number(&running, key),
                         key->live ? config_key_number(&next, key) : before);
        const char *text = config_key_text(&running, key);
        if (text != NULL) {
            assert_string_equal(text, key->standard);
        }
        /* What was taken over is no difference any more; what was not is named again. */
        config_take_over(&running, &next, on_changed, &seen);
        assert_int_equal(seen.live, key->live ? 1 : 0);
        assert_int_equal(seen.other, key->live ? 0 : 2);
        config_free(&running);
        config_free(&next);
    }
}

static size_t capture_output(const char *word, char *text, size_t capacity)
{
    struct config config;
    struct error error;
    char path[64];
    write_file(path, "");
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    int descriptor = open(path, O_RDWR);
    assert_true(kept >= 0 && descriptor >= 0);
    assert_true(dup2(descriptor, STDOUT_FILENO) >= 0);
    enum status status = PARSE(&config, &error, word);
    fflush(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    close(kept);
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(action, CONFIG_EXIT);
    ssize_t size = pread(descriptor, text, capacity - 1, 0);
    assert_true(size > 0);
    text[size] = '\0';
    close(descriptor);
    unlink(path);
    config_free(&config);
    return (size_t)size;
}

static void test_help_and_version_need_nothing_else(void **state)
{
    (void)state;
    static char text[65536];
    (void)capture_output("--version", text, sizeof(text));
    assert_string_equal(text, "holdfastd " HOLDFAST_VERSION "\n");
    (void)capture_output("-h", text, sizeof(text));
    (void)capture_output("--help", text, sizeof(text));
    for (size_t i = 0; i < config_keys_count; i++) {
        assert_non_null(strstr(text, config_keys[i].name));
        assert_non_null(strstr(text, config_keys[i].help));
    }
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_true(strchr(line, '\n') - line <= 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_those_of_the_header),
        cmocka_unit_test(test_later_wins_and_the_file_comes_first),
        cmocka_unit_test(test_every_required_key_is_asked_for),
        cmocka_unit_test(test_keys_that_need_each_other),
        cmocka_unit_test(test_wrong_words_are_named),
        cmocka_unit_test(test_values_valid_and_invalid),
        cmocka_unit_test(test_uri_is_never_quoted),
        cmocka_unit_test(test_yaml_errors_name_the_line),
        cmocka_unit_test(test_yaml_that_changes_nothing_is_fine),
        cmocka_unit_test(test_file_of_many_megabytes_is_refused),
        cmocka_unit_test(test_twice_config_is_refused),
        cmocka_unit_test(test_shipped_file_is_true_to_the_table),
        cmocka_unit_test(test_taking_over_changes_live_keys_only),
        cmocka_unit_test(test_help_and_version_need_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
