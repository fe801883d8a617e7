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
 * The descriptor of a file stays the same number for good: opening it again puts the new file in
 * its place (dup3), so that no thread can be caught between the two.
 *
 * Threads: any. A line shares nothing with another; the kernel keeps one write(2) in one piece. Of
 * the counts of a place, who moves its period on tells what the former one held back.
 */

#include "holdfast/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "holdfast/race_point.h"

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
static _Atomic int output_descriptor = STDERR_FILENO;
static char *output_path;                  /* of log_open(); the main thread's */
static _Atomic(struct log_place *) places; /* that have held something back */
static _Atomic uint64_t lines_written[LOG_LEVELS];
static _Atomic uint64_t lines_suppressed;
static _Atomic uint64_t lines_failed;

void log_set_level(enum log_level level)
{
    atomic_store(&level_lowest, (int)level);
}

bool log_is_on(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&level_lowest, memory_order_relaxed);
}

void log_set_descriptor(int descriptor)
{
    atomic_store(&output_descriptor, descriptor);
}

/* ------------------------------------------------------------------ the file */

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

enum status log_open(const char *path, struct error *ret_error)
{
    char *copy = strdup(path);
    int descriptor = copy == NULL ? -1 : open_file(path);
    if (descriptor < 0) {
        int reason = errno;
        free(copy);
        return error_set(ret_error, STATUS_IO, "cannot open the log file %s: %s", path,
                         strerror(reason));
    }
    free(output_path);
    output_path = copy;
    atomic_store(&output_descriptor, descriptor);
    return STATUS_OK;
}

enum status log_reopen(struct error *ret_error)
{
    if (output_path == NULL) {
        return STATUS_OK;
    }
    int descriptor = open_file(output_path);
    bool done =
        descriptor >= 0 && dup3(descriptor, atomic_load(&output_descriptor), O_CLOEXEC) >= 0;
    int reason = errno;
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    return done ? STATUS_OK
                : error_set(ret_error, STATUS_IO, "cannot open the log file %s: %s", output_path,
                            strerror(reason));
}

/* ------------------------------------------------------------------ a line's text */

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
    char text[CLOCK_TEXT_BYTES];
    clock_text(clock_wall_ms(), text);
    (void)line_put(line, "{\"t\":\"", 6, TAIL_BYTES);
    (void)line_put(line, text, strlen(text), TAIL_BYTES);
    (void)line_put(line, "\"", 1, TAIL_BYTES);
}

static bool line_put_hex(struct line *line, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    bool fits = line_put(line, "\"", 1, TAIL_BYTES);
    for (size_t i = 0; i < count && fits; i++) {
        const char pair[] = {digits[bytes[i] >> 4], digits[bytes[i] & 0xf]};
        fits = line_put(line, pair, sizeof pair, TAIL_BYTES);
    }
    return fits && line_put(line, "\"", 1, TAIL_BYTES);
}

static bool line_put_scalar(struct line *line, const struct log_field *field)
{
    char number[24];
    if (field->text != NULL) {
        return line_put_string(line, field->text);
    }
    if (field->hex) {
        return line_put_hex(line, field->bytes, field->count);
    }
    int size = snprintf(number, sizeof(number), "%" PRId64, field->number);
    return line_put(line, number, (size_t)size, TAIL_BYTES);
}

static bool line_put_object(struct line *line, const struct log_field *fields, size_t count)
{
    bool fits = line_put(line, "{", 1, TAIL_BYTES);
    for (size_t i = 0; i < count && fits; i++) {
        fits = (i == 0 || line_put(line, ",", 1, TAIL_BYTES)) &&
               line_put_string(line, fields[i].name) && line_put(line, ":", 1, TAIL_BYTES) &&
               line_put_scalar(line, &fields[i]);
    }
    return fits && line_put(line, "}", 1, TAIL_BYTES);
}

/* One field, whole or not at all: a line that is full is cut at a field's edge. */
static void line_put_field(struct line *line, const struct log_field *field, bool first)
{
    size_t start = line->size;
    bool fits = (first || line_put(line, ",", 1, TAIL_BYTES)) &&
                line_put_string(line, field->name) && line_put(line, ":", 1, TAIL_BYTES);
    if (fits && field->fields != NULL) {
        fits = line_put_object(line, field->fields, field->count);
    } else if (fits) {
        fits = line_put_scalar(line, field);
    }
    if (!fits) {
        line->size = start;
    }
}

static bool is_skipped(const struct log_field *field)
{
    uint8_t any = 0;
    for (size_t i = 0; field->hex && i < field->count; i++) {
        any |= field->bytes[i];
    }
    return field->name == NULL || (field->hex && any == 0);
}

static void line_put_fields(struct line *line, const struct log_field *fields, size_t field_count)
{
    bool open = false;
    size_t start = line->size;
    for (size_t i = 0; i < field_count; i++) {
        if (is_skipped(&fields[i])) {
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
    if (!log_is_on(level)) {
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
        written = write(atomic_load(&output_descriptor), line.bytes, line.size);
    } while (written < 0 && errno == EINTR);
    _Atomic uint64_t *counter =
        written == (ssize_t)line.size ? &lines_written[index] : &lines_failed;
    (void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
    errno = errno_before;
}

/* ------------------------------------------------------------------ repeats */

/* What a place says is set once: others may read it as soon as it is in the list. */
static void list_place(struct log_place *place, const char *component, const char *message)
{
    if (!atomic_exchange(&place->listed, true)) {
        place->component = component;
        place->message = message;
        place->next = atomic_load(&places);
        while (!atomic_compare_exchange_weak(&places, &place->next, place)) {
        }
    }
}

/* Another thread may have begun one since `now_ms` was read. */
static bool is_over(uint64_t since_ms, uint64_t now_ms)
{
    return since_ms == 0 || now_ms >= since_ms + LOG_REPEATS_MS;
}

/* Begins a new period. Who wins tells what the last one held back. */
static void next_period(struct log_place *place, const char *component, const char *message,
                        uint64_t since_ms, uint64_t now_ms)
{
    if (!atomic_compare_exchange_strong(&place->since_ms, &since_ms, now_ms)) {
        return;
    }
    RACE_POINT(log_period_begun);
    uint32_t lines = atomic_exchange(&place->lines, 0);
    if (lines > LOG_REPEATS_MAX) {
        const struct log_field fields[] = {
            LOG_TEXT("message", message), LOG_NUMBER("suppressed", lines - LOG_REPEATS_MAX),
            LOG_NUMBER("milliseconds", since_ms == 0 ? LOG_REPEATS_MS : now_ms - since_ms)};
        (void)atomic_fetch_add_explicit(&lines_suppressed, lines - LOG_REPEATS_MAX,
                                        memory_order_relaxed);
        log_write(LOG_WARNING, component, "Repeated lines were suppressed", fields,
                  sizeof fields / sizeof fields[0]);
    }
}

void log_write_at(struct log_place *place, enum log_level level, const char *component,
                  const char *message, const struct log_field *fields, size_t field_count)
{
    if (level > LOG_DEBUG) {
        uint64_t now_ms = clock_monotonic_ms();
        RACE_POINT(log_time_read);
        uint64_t since_ms = atomic_load(&place->since_ms);
        if (is_over(since_ms, now_ms)) {
            next_period(place, component, message, since_ms, now_ms);
        }
        uint32_t lines = atomic_fetch_add(&place->lines, 1);
        if (lines == LOG_REPEATS_MAX) {
            list_place(place, component, message);
        }
        if (lines >= LOG_REPEATS_MAX) {
            return;
        }
    }
    log_write(level, component, message, fields, field_count);
}

void log_tell_repeats(bool all)
{
    uint64_t now_ms = clock_monotonic_ms();
    for (struct log_place *at = atomic_load(&places); at != NULL; at = at->next) {
        RACE_POINT(log_time_read);
        uint64_t since_ms = atomic_load(&at->since_ms);
        RACE_POINT(log_period_read);
        if (all || is_over(since_ms, now_ms)) {
            next_period(at, at->component, at->message, since_ms, now_ms);
        }
    }
}

void log_figures_get(struct log_figures *ret_figures)
{
    for (size_t i = 0; i < LOG_LEVELS; i++) {
        ret_figures->lines[i] = atomic_load(&lines_written[i]);
    }
    ret_figures->suppressed = atomic_load(&lines_suppressed);
    ret_figures->failed = atomic_load(&lines_failed);
}
