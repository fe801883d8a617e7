/* See http_text.h. */
#include "bench/load/http_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define VERSION_BYTES 9u /* "HTTP/1.1 " */
#define STATUS_BYTES 3u

/* Cuts off everything up to `end`, which is dropped. */
static bool take_until(struct slice *rest, char end, struct slice *ret_front)
{
    struct slice dropped;
    const uint8_t *at = rest->size == 0 ? NULL : memchr(rest->data, end, rest->size);
    return at != NULL && slice_take(rest, (size_t)(at - rest->data), ret_front) &&
           slice_take(rest, 1, &dropped);
}

static bool take_line(struct slice *rest, struct slice *ret_line)
{
    struct slice line;
    if (!take_until(rest, '\n', &line)) {
        return false;
    }
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    *ret_line = line;
    return true;
}

static struct slice without_blanks(struct slice text)
{
    struct slice blank;
    while (text.size > 0 && text.data[0] == ' ' && slice_take(&text, 1, &blank)) {
    }
    while (text.size > 0 && text.data[text.size - 1] == ' ') {
        text.size--;
    }
    return text;
}

static bool is_called(struct slice name, const char *wanted)
{
    return name.size == strlen(wanted) &&
           strncasecmp((const char *)name.data, wanted, name.size) == 0;
}

static bool read_number(struct slice digits, size_t most, size_t *ret_number)
{
    size_t number = 0;
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9' || number > most) {
            return false;
        }
        number = number * 10 + (size_t)(digits.data[i] - '0');
    }
    *ret_number = number;
    return digits.size > 0 && number <= most;
}

static bool read_first_line(struct slice line, struct http_message *message)
{
    struct slice front;
    size_t status;
    if (line.size < VERSION_BYTES || memcmp(line.data, "HTTP/1.", 7) != 0) {
        return take_until(&line, ' ', &message->method) && message->method.size > 0 &&
               (take_until(&line, ' ', &message->path) || true);
    }
    if (!slice_take(&line, VERSION_BYTES, &front) || !slice_take(&line, STATUS_BYTES, &front) ||
        !read_number(front, 599, &status) || status < 200) {
        return false;
    }
    message->status = (int)status;
    message->reason = without_blanks(line);
    return true;
}

static bool read_field(struct slice line, struct http_message *message, size_t *body_size)
{
    struct slice name;
    if (!take_until(&line, ':', &name)) {
        return false;
    }
    if (is_called(name, "content-length")) {
        return read_number(without_blanks(line), HTTP_MESSAGE_BYTES_MAX, body_size);
    }
    if (is_called(name, "traceparent")) {
        message->traceparent = without_blanks(line);
    }
    return !is_called(name, "transfer-encoding");
}

enum http_found http_message_parse(struct slice bytes, struct http_message *ret_message)
{
    struct http_message message = {0};
    struct slice rest = bytes;
    struct slice line;
    size_t body_size = 0;
    enum http_found part = bytes.size > HTTP_MESSAGE_BYTES_MAX ? HTTP_BROKEN : HTTP_PART;
    if (!take_line(&rest, &line)) {
        return part;
    }
    if (!read_first_line(line, &message)) {
        return HTTP_BROKEN;
    }
    for (;;) {
        if (!take_line(&rest, &line)) {
            return part;
        }
        if (line.size == 0) {
            break;
        }
        if (!read_field(line, &message, &body_size)) {
            return HTTP_BROKEN;
        }
    }
    if (!slice_take(&rest, body_size, &message.body)) {
        return part;
    }
    message.size = slice_offset(bytes, rest);
    *ret_message = message;
    return HTTP_WHOLE;
}
