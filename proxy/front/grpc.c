/* What the front must know of gRPC; see grpc.h. */
#include "front/grpc.h"

#include <stdio.h>
#include <strings.h>

static const char type_name[] = "application/grpc";

bool grpc_is_type(struct slice content_type)
{
    size_t size = sizeof type_name - 1;
    if (content_type.size < size ||
        strncasecmp((const char *)content_type.data, type_name, size) != 0) {
        return false;
    }
    struct slice rest = slice_rest(content_type, size);
    return rest.size == 0 || rest.data[0] == '+' || rest.data[0] == ';' || rest.data[0] == ' ';
}

static bool is_zero(struct slice status)
{
    return slice_equal(status, slice_text("0"));
}

/* False as well if it is there twice: whoever reads it may take either. */
static bool trailers_say_ok(struct slice lines)
{
    struct slice name;
    struct slice value;
    size_t seen = 0;
    bool zero = false;
    while (head_take_field(&lines, &name, &value)) {
        if (head_is_word(name, "grpc-status")) {
            zero = is_zero(value);
            seen++;
        }
    }
    return seen == 1 && zero;
}

bool grpc_has_succeeded(struct slice answer, size_t trailer_bytes)
{
    struct head_scan scan = {0};
    struct http_head head;
    const char *reason = "";
    size_t size = 0;
    if (head_find_end(&scan, answer, &size) != HEAD_WHOLE ||
        head_parse_answer(slice_front(answer, size), false, &head, &reason) != STATUS_OK ||
        head.status != 200 || !grpc_is_type(head.content_type)) {
        return false;
    }
    struct slice body = slice_rest(answer, size);
    if (body.size == 0) {
        struct slice rest = slice_front(answer, size);
        struct slice line;
        return head_take_line(&rest, &line) && trailers_say_ok(rest);
    }
    return trailer_bytes <= body.size &&
           trailers_say_ok(slice_rest(body, body.size - trailer_bytes));
}

enum status grpc_append_message(const char *message, struct buffer *out)
{
    enum status status = STATUS_OK;
    for (const char *at = message; *at != '\0' && status == STATUS_OK; at++) {
        char text[4];
        if (*at >= ' ' && *at <= '~' && *at != '%') {
            status = buffer_append(out, at, 1);
        } else {
            (void)snprintf(text, sizeof text, "%%%02X", (unsigned char)*at);
            status = buffer_append(out, text, 3);
        }
    }
    return status;
}
