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
#include <pthread.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"

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
        LOG(LOG_INFO, texts[0], texts[1], LOG_TEXT(texts[2], texts[3]), LOG_TEXT("a", texts[0]),
            LOG_TEXT("b", texts[1]), LOG_NUMBER("n", INT64_MIN), LOG_TEXT("c", texts[2]));
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
        LOG(LOG_INFO, "test", "A line that must stay in one piece", LOG_NUMBER("i", i));
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
