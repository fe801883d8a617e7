/*
 * Log lines: whatever a text holds, a line is one line of valid JSON. Read back through libbson's
 * JSON parser, which is strict about strings.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <bson/bson.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "test_program.h"

static int pipe_ends[2];

static uint64_t held_ms(void)
{
    return UINT64_C(1767323045678); /* 2026-01-02T03:04:05.678Z */
}

static const struct clock_source held_clock = {.monotonic_ms = held_ms, .wall_ms = held_ms};

static int open_log(void **state)
{
    (void)state;
    assert_int_equal(pipe(pipe_ends), 0);
    log_set_descriptor(pipe_ends[1]);
    log_set_level(LOG_INFO);
    clock_use(&held_clock);
    return 0;
}

static int close_log(void **state)
{
    (void)state;
    log_set_descriptor(STDERR_FILENO);
    clock_use(NULL);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return 0;
}

/* What one write(2) brought, NUL-terminated. */
static size_t read_line(char *line, size_t capacity)
{
    ssize_t size = read(pipe_ends[0], line, capacity - 1);
    assert_true(size > 0);
    line[size] = '\0';
    return (size_t)size;
}

static void test_line_has_the_documented_form(void **state)
{
    (void)state;
    char line[8192];
    LOG(LOG_WARNING, "unit", "Unit rolled back", LOG_NUMBER("unit", -7), LOG_TEXT("why", "late"));
    (void)read_line(line, sizeof(line));
    assert_string_equal(line,
                        "{\"t\":\"2026-01-02T03:04:05.678Z\",\"s\":\"W\",\"c\":\"unit\","
                        "\"msg\":\"Unit rolled back\",\"attr\":{\"unit\":-7,\"why\":\"late\"}}"
                        "\n");
    LOG(LOG_INFO, "net", "No fields");
    (void)read_line(line, sizeof(line));
    assert_string_equal(line, "{\"t\":\"2026-01-02T03:04:05.678Z\",\"s\":\"I\",\"c\":\"net\","
                              "\"msg\":\"No fields\"}\n");
}

static void test_hostile_text_cannot_forge_a_line(void **state)
{
    (void)state;
    char line[8192];
    LOG(LOG_ERROR, "net", "a\"b\\c\n\r\t\x1b[31m\x7f", LOG_TEXT("x\n\"}", "\"}}\n{\"t\":1}"));
    size_t size = read_line(line, sizeof(line));
    assert_ptr_equal(strchr(line, '\n'), line + size - 1);
    assert_non_null(strstr(line, "a\\\"b\\\\c\\u000a\\u000d\\u0009\\u001b[31m\\u007f"));
    for (size_t i = 0; i + 1 < size; i++) {
        assert_true(line[i] >= 0x20 && line[i] < 0x7f);
    }
}

static void test_utf8_survives_and_broken_utf8_is_marked(void **state)
{
    (void)state;
    char line[8192];
    LOG(LOG_INFO, "net", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    (void)read_line(line, sizeof(line));
    assert_non_null(strstr(line, "\\u00e4\\u20ac\\ud83d\\ude00\""));
    /* overlong, surrogate, beyond the last code point, a lone tail, cut short by the end */
    LOG(LOG_INFO, "net", "\xc0\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\x80|\xe2\x82");
    (void)read_line(line, sizeof(line));
    assert_non_null(strstr(line, "\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd|"
                                 "\\ufffd\\ufffd\\ufffd\\ufffd|\\ufffd|\\ufffd\\ufffd\""));
}

static void assert_json(const char *line, size_t size)
{
    bson_error_t error;
    bson_t document;
    if (!bson_init_from_json(&document, line, (ssize_t)size - 1, &error)) {
        fail_msg("not JSON: %s: %s", error.message, line);
    }
    bson_destroy(&document);
}

/* Any bytes in any text, of any length: one line of valid JSON that fits one atomic write. */
static void test_random_bytes_make_valid_json(void **state)
{
    (void)state;
    uint32_t random = 99;
    for (int round = 0; round < 3000; round++) {
        char texts[4][2200];
        char line[8192];
        for (size_t t = 0; t < 4; t++) {
            random = random * 1664525u + 1013904223u;
            size_t size = (random >> 8) % (round % 10 == 0 ? 2199 : 60);
            for (size_t i = 0; i < size; i++) {
                random = random * 1664525u + 1013904223u;
                texts[t][i] = (char)((random >> 16) % 255 + 1);
            }
            texts[t][size] = '\0';
        }
        const struct log_field fields[] = {LOG_TEXT(texts[2], texts[3]), LOG_TEXT("a", texts[0]),
                                           LOG_TEXT("b", texts[1]), LOG_NUMBER("n", INT64_MIN),
                                           LOG_TEXT("c", texts[2])};
        log_write(LOG_INFO, texts[0], texts[1], fields, 5);
        size_t size = read_line(line, sizeof(line));
        assert_true(size <= 4096);
        assert_ptr_equal(strchr(line, '\n'), line + size - 1);
        assert_json(line, size);
    }
}

static void test_level_drops_lines_and_null_is_harmless(void **state)
{
    (void)state;
    char line[8192];
    LOG(LOG_DEBUG, "net", "dropped");
    log_write(LOG_INFO, NULL, NULL, NULL, 0);
    (void)read_line(line, sizeof(line));
    assert_non_null(strstr(line, "\"c\":\"\",\"msg\":\"\"}"));
    log_set_level(LOG_DEBUG);
    LOG(LOG_DEBUG, "net", "written");
    (void)read_line(line, sizeof(line));
    assert_non_null(strstr(line, "\"s\":\"D\""));
}

enum { THREADS = 4, LINES = 100 };

static void *write_lines(void *argument)
{
    (void)argument;
    for (int i = 0; i < LINES; i++) {
        const struct log_field field = LOG_NUMBER("i", i);
        log_write(LOG_INFO, "test", "A line that must stay in one piece", &field, 1);
    }
    return NULL;
}

static void test_lines_of_several_threads_do_not_mix(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, NULL), 0);
    }
    char text[65536];
    size_t size = 0;
    int lines = 0;
    while (lines < THREADS * LINES) {
        ssize_t got = read(pipe_ends[0], text + size, sizeof(text) - size);
        assert_true(got > 0);
        size += (size_t)got;
        size_t start = 0;
        const char *end = NULL;
        while ((end = memchr(text + start, '\n', size - start)) != NULL) {
            size_t next = (size_t)(end - text) + 1;
            assert_json(text + start, next - start);
            start = next;
            lines++;
        }
        memmove(text, text + start, size - start);
        size -= start;
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

/* How many lines are in the pipe now. */
static int drain_lines(char *last, size_t capacity)
{
    int lines = 0;
    ssize_t size;
    char text[65536];
    (void)fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
    while ((size = read(pipe_ends[0], text, sizeof text - 1)) > 0) {
        text[size] = '\0';
        for (const char *at = text; *at != '\0'; at = strchr(at, '\n') + 1) {
            (void)snprintf(last, capacity, "%.*s", (int)(strchr(at, '\n') - at), at);
            lines++;
        }
    }
    return lines;
}

static uint64_t moving_ms;

static uint64_t get_moving_ms(void)
{
    return moving_ms;
}

static const struct clock_source moving_clock = {.monotonic_ms = get_moving_ms, .wall_ms = held_ms};

static void say(int times, bool other)
{
    for (int i = 0; i < times; i++) {
        if (other) {
            LOG(LOG_INFO, "test", "another place");
        } else {
            LOG(LOG_INFO, "test", "one place", LOG_NUMBER("i", i));
        }
    }
}

static void test_repeats_are_counted_not_written(void **state)
{
    (void)state;
    char last[4200] = "";
    struct log_figures before;
    struct log_figures after;
    clock_use(&moving_clock);
    moving_ms = 1000;
    log_figures_get(&before);
    say((int)LOG_REPEATS_MAX + 7, false);
    assert_int_equal(drain_lines(last, sizeof last), LOG_REPEATS_MAX);
    say(1, true); /* has a count of its own */
    assert_int_equal(drain_lines(last, sizeof last), 1);
    moving_ms += LOG_REPEATS_MS - 1;
    log_tell_repeats(false);
    assert_int_equal(drain_lines(last, sizeof last), 0);
    moving_ms++;
    log_tell_repeats(false);
    assert_int_equal(drain_lines(last, sizeof last), 1);
    assert_non_null(strstr(last, "\"message\":\"one place\",\"suppressed\":7"));
    log_tell_repeats(true); /* nothing is left to tell */
    assert_int_equal(drain_lines(last, sizeof last), 0);
    say((int)LOG_REPEATS_MAX + 1, false);
    moving_ms += 2 * LOG_REPEATS_MS; /* the next line tells of those before it */
    (void)drain_lines(last, sizeof last);
    say(1, false);
    assert_int_equal(drain_lines(last, sizeof last), 2);
    say((int)LOG_REPEATS_MAX, false);
    log_tell_repeats(true);
    (void)drain_lines(last, sizeof last);
    assert_non_null(strstr(last, "\"suppressed\":1"));
    log_figures_get(&after);
    assert_int_equal(after.suppressed - before.suppressed, 9);
}

static void test_debug_lines_are_all_written(void **state)
{
    (void)state;
    char last[4200] = "";
    log_set_level(LOG_DEBUG);
    for (unsigned i = 0; i < LOG_REPEATS_MAX + 5; i++) {
        LOG(LOG_DEBUG, "test", "again");
    }
    assert_int_equal(drain_lines(last, sizeof last), LOG_REPEATS_MAX + 5);
}

static void test_objects_and_hexadecimal(void **state)
{
    (void)state;
    char line[8192];
    static const uint8_t bytes[] = {0x00, 0xab, 0x0f};
    static const uint8_t zeros[3];
    const struct log_field inside[] = {LOG_TEXT("kind", "Unit\""), LOG_NUMBER("name", 7)};
    LOG(LOG_INFO, "test", "m", LOG_HEX("trace", bytes, 3), LOG_HEX("none", zeros, 3),
        LOG_HEX("null", NULL, 0), LOG_TEXT_IF("empty", ""), LOG_OBJECT("object", inside, 2));
    size_t size = read_line(line, sizeof line);
    assert_json(line, size);
    assert_non_null(strstr(
        line, "\"attr\":{\"trace\":\"00ab0f\",\"object\":{\"kind\":\"Unit\\\"\",\"name\":7}}"));
}

static void test_a_file_that_is_renamed_and_one_that_takes_nothing(void **state)
{
    (void)state;
    char directory[TEST_DIRECTORY_BYTES];
    char path[TEST_DIRECTORY_BYTES + 8];
    char renamed[TEST_DIRECTORY_BYTES + 8];
    struct stat found;
    struct error error = {0};
    struct log_figures before;
    struct log_figures after;
    directory_new(directory);
    (void)snprintf(path, sizeof path, "%s/log", directory);
    (void)snprintf(renamed, sizeof renamed, "%s/log.1", directory);
    assert_int_equal(log_reopen(&error), STATUS_OK); /* no file yet */
    assert_int_equal(log_open("/nowhere/log", &error), STATUS_IO);
    assert_non_null(strstr(error.message, "/nowhere/log"));
    assert_int_equal(log_open(path, &error), STATUS_OK);
    LOG(LOG_INFO, "test", "first");
    assert_int_equal(rename(path, renamed), 0);
    LOG(LOG_INFO, "test", "into the renamed one");
    assert_int_equal(log_reopen(&error), STATUS_OK);
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_size, 0);
    LOG(LOG_INFO, "test", "second");
    assert_int_equal(stat(path, &found), 0);
    assert_true(found.st_size > 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(renamed), 0);
    assert_int_equal(rmdir(directory), 0);
    assert_int_equal(log_reopen(&error), STATUS_IO); /* the old one is used on */
    LOG(LOG_INFO, "test", "still");
    assert_int_equal(log_open("/dev/full", &error), STATUS_OK);
    log_figures_get(&before);
    LOG(LOG_INFO, "test", "lost");
    log_figures_get(&after);
    assert_int_equal(after.failed, before.failed + 1);
}

#define LOG_TEST(function) cmocka_unit_test_setup_teardown(function, open_log, close_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_line_has_the_documented_form),
        LOG_TEST(test_hostile_text_cannot_forge_a_line),
        LOG_TEST(test_utf8_survives_and_broken_utf8_is_marked),
        LOG_TEST(test_random_bytes_make_valid_json),
        LOG_TEST(test_level_drops_lines_and_null_is_harmless),
        LOG_TEST(test_lines_of_several_threads_do_not_mix),
        LOG_TEST(test_repeats_are_counted_not_written),
        LOG_TEST(test_debug_lines_are_all_written),
        LOG_TEST(test_objects_and_hexadecimal),
        LOG_TEST(test_a_file_that_is_renamed_and_one_that_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
