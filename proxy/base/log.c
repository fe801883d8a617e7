/*
 * Log lines: one JSON object each, put together in a bounded buffer and written with one write(2).
 *
 *   {"t":"2026-01-02T03:04:05.678Z","s":"I","c":"unit","msg":"...","attr":{"unit":7}}
 *
 * Invariants: every line is valid JSON in ASCII, whatever bytes the texts hold: control characters,
 * quotes and backslashes are escaped, well-formed UTF-8 becomes \uXXXX, any other byte becomes
 * \ufffd. So no peer can forge a line or send a terminal a control sequence. A line never exceeds
 * LINE_BYTES: a text is cut and marked with "..." before that, fields that find no room are
 * dropped.
 *
 * Threads: any. A line shares nothing with another; the kernel keeps one write(2) in one piece.
 */

#include "holdfast/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "holdfast/clock.h"

enum {
    LINE_BYTES = 4096, /* with its newline: what POSIX lets a pipe take without mixing writers */
    TAIL_BYTES = 16,   /* kept free for closing quotes, braces and the newline */
    TEXT_BYTES = 1024, /* of one escaped text */
};

struct line {
    char bytes[LINE_BYTES];
    size_t size;
};

static const char level_letters[] = {
    [LOG_DEBUG] = 'D',
    [LOG_INFO] = 'I',
    [LOG_WARNING] = 'W',
    [LOG_ERROR] = 'E',
};

static atomic_int level_lowest = LOG_INFO;
static int output_descriptor = STDERR_FILENO;

void log_set_level(enum log_level level)
{
    atomic_store(&level_lowest, (int)level);
}

void log_set_descriptor(int descriptor)
{
    output_descriptor = descriptor;
}

/* Takes the text whole or not at all. `reserve`: bytes that must stay free behind it. */
static bool line_put(struct line *line, const char *text, size_t size, size_t reserve)
{
    if (size + reserve > sizeof(line->bytes) - line->size) {
        return false;
    }
    memcpy(line->bytes + line->size, text, size);
    line->size += size;
    return true;
}

/* Decodes one well-formed UTF-8 sequence of 2 to 4 bytes; 0 if there is none at `at`. */
static size_t utf8_decode(const unsigned char *at, uint32_t *ret_code_point)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = at[0] >= 0xf0 && at[0] <= 0xf4 ? 4
                  : (at[0] & 0xf0) == 0xe0       ? 3
                  : (at[0] & 0xe0) == 0xc0       ? 2
                                                 : 0;
    if (size == 0) {
        return 0;
    }
    uint32_t code_point = at[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) { /* also the terminating NUL: never reads past it */
            return 0;
        }
        code_point = code_point << 6 | (at[i] & 0x3fu);
    }
    bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
    if (code_point < smallest[size] || code_point > 0x10ffff || surrogate) {
        return 0;
    }
    *ret_code_point = code_point;
    return size;
}

/* Escapes the character at `at` into `escaped`; returns how many bytes of the text it took. */
static size_t escape_character(const unsigned char *at, char escaped[13])
{
    uint32_t code_point = 0;
    if (*at == '"' || *at == '\\') {
        (void)snprintf(escaped, 13, "\\%c", *at);
        return 1;
    }
    if (*at >= 0x20 && *at < 0x7f) {
        escaped[0] = (char)*at;
        escaped[1] = '\0';
        return 1;
    }
    if (*at < 0x80) {
        (void)snprintf(escaped, 13, "\\u%04x", *at);
        return 1;
    }
    size_t taken = utf8_decode(at, &code_point);
    if (taken == 0) {
        (void)snprintf(escaped, 13, "\\ufffd");
        return 1;
    }
    if (code_point < 0x10000) {
        (void)snprintf(escaped, 13, "\\u%04x", (unsigned)code_point);
        return taken;
    }
    code_point -= 0x10000;
    (void)snprintf(escaped, 13, "\\u%04x\\u%04x", (unsigned)(0xd800 + (code_point >> 10)),
                   (unsigned)(0xdc00 + (code_point & 0x3ff)));
    return taken;
}

/* A JSON string, cut where the text or the line is full; false if not even the quotes fit. */
static bool line_put_string(struct line *line, const char *text)
{
    static const size_t ending = sizeof("...\"") - 1;
    size_t start = line->size;
    if (!line_put(line, "\"", 1, TAIL_BYTES + ending)) {
        return false;
    }
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        char escaped[13];
        size_t taken = escape_character(at, escaped);
        size_t size = strlen(escaped);
        if (line->size - start + size > TEXT_BYTES ||
            !line_put(line, escaped, size, TAIL_BYTES + ending)) {
            (void)line_put(line, "...", 3, TAIL_BYTES);
            break;
        }
        at += taken;
    }
    return line_put(line, "\"", 1, TAIL_BYTES);
}

static void line_put_time(struct line *line)
{
    uint64_t now_ms = clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000u);
    struct tm parts;
    char text[64];
    if (gmtime_r(&seconds, &parts) == NULL) {
        memset(&parts, 0, sizeof(parts));
    }
    size_t size = strftime(text, sizeof(text), "{\"t\":\"%Y-%m-%dT%H:%M:%S", &parts);
    (void)line_put(line, text, size, TAIL_BYTES);
    int more = snprintf(text, sizeof(text), ".%03uZ\"", (unsigned)(now_ms % 1000u));
    (void)line_put(line, text, (size_t)more, TAIL_BYTES);
}

/* One field, whole or not at all: a line that is full is cut at a field's edge. */
static void line_put_field(struct line *line, const struct log_field *field, bool first)
{
    size_t start = line->size;
    bool fits = (first || line_put(line, ",", 1, TAIL_BYTES)) &&
                line_put_string(line, field->name) && line_put(line, ":", 1, TAIL_BYTES);
    if (fits && field->text != NULL) {
        fits = line_put_string(line, field->text);
    } else if (fits) {
        char number[24];
        int size = snprintf(number, sizeof(number), "%" PRId64, field->number);
        fits = line_put(line, number, (size_t)size, TAIL_BYTES);
    }
    if (!fits) {
        line->size = start;
    }
}

static void line_put_fields(struct line *line, const struct log_field *fields, size_t field_count)
{
    bool open = false;
    size_t start = line->size;
    for (size_t i = 0; i < field_count; i++) {
        if (fields[i].name == NULL) {
            continue;
        }
        if (!open) {
            open = line_put(line, ",\"attr\":{", 9, TAIL_BYTES);
            start = line->size;
        }
        if (open) {
            line_put_field(line, &fields[i], line->size == start);
        }
    }
    if (open) {
        (void)line_put(line, "}", 1, 0);
    }
}

void log_write(enum log_level level, const char *component, const char *message,
               const struct log_field *fields, size_t field_count)
{
    if ((int)level < atomic_load(&level_lowest)) {
        return;
    }
    int errno_before = errno; /* logging must not disturb the caller's errno */
    size_t index = (size_t)level < sizeof(level_letters) ? (size_t)level : LOG_ERROR;
    char severity[] = {',', '"', 's', '"', ':', '"', level_letters[index], '"', ','};
    struct line line;
    line.size = 0;
    line_put_time(&line);
    (void)line_put(&line, severity, sizeof(severity), TAIL_BYTES);
    (void)line_put(&line, "\"c\":", 4, TAIL_BYTES);
    (void)line_put_string(&line, component == NULL ? "" : component);
    (void)line_put(&line, ",\"msg\":", 7, TAIL_BYTES);
    (void)line_put_string(&line, message == NULL ? "" : message);
    line_put_fields(&line, fields, field_count);
    (void)line_put(&line, "}\n", 2, 0);
    /* A log that cannot be written must not stop the proxy: nobody could be told anyway. */
    ssize_t written = 0;
    do {
        written = write(output_descriptor, line.bytes, line.size);
    } while (written < 0 && errno == EINTR);
    errno = errno_before;
}
