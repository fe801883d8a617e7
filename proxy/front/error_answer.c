/* Answers of the front's own; the list of them is in error_answer.h. */
#include "front/error_answer.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "holdfast/slice.h"

struct known {
    const char *reason;
    unsigned status;
    enum grpc_status grpc;
    bool again;
    const char *sentence;
};

static const struct known known_answers[] = {
#define X(name, reason_, status_, grpc_, again_, sentence_)                                        \
    [ERROR_ANSWER_##name] = {.reason = (reason_),                                                  \
                             .status = (status_),                                                  \
                             .grpc = (grpc_),                                                      \
                             .again = (again_),                                                    \
                             .sentence = (sentence_)},
    ERROR_ANSWER_LIST(X)
#undef X
};

static const char *status_text(unsigned status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 413:
        return "Content Too Large";
    case 422:
        return "Unprocessable Content";
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 502:
        return "Bad Gateway";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Service Unavailable";
    }
}

unsigned error_answer_status(enum error_answer answer)
{
    return known_answers[answer].status;
}

/* The sentence, with `detail` for each %s. Neither has characters that JSON would escape. */
static void write_sentence(const char *sentence, const char *detail, char *text, size_t size)
{
    size_t used = 0;
    while (*sentence != '\0' && used + 1 < size) {
        if (sentence[0] != '%' || sentence[1] != 's') {
            text[used++] = *sentence++;
            continue;
        }
        sentence += 2;
        for (const char *at = detail == NULL ? "" : detail; *at != '\0' && used + 1 < size; at++) {
            bool plain = *at >= ' ' && *at != '"' && *at != '\\';
            text[used++] = (char)(plain ? *at : '\'');
        }
    }
    text[used] = '\0';
}

/* Its status is a field of the head: there is no body that trailers could follow. */
static enum status append_grpc(const struct known *known, const char *sentence, bool close,
                               struct buffer *out)
{
    char head[256];
    char message[640];
    (void)snprintf(head, sizeof head,
                   "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n"
                   "%sgrpc-status: %d\r\ngrpc-message: ",
                   close ? "Connection: close\r\n" : "", (int)known->grpc);
    (void)snprintf(message, sizeof message, "%s: %s", known->reason, sentence);
    enum status status = buffer_append(out, head, strlen(head));
    status = status == STATUS_OK ? grpc_append_message(message, out) : status;
    return status == STATUS_OK ? buffer_append(out, "\r\n\r\n", 4) : status;
}

enum status error_answer_append(enum error_answer answer, const char *detail,
                                const struct error_answer_form *form, struct buffer *out)
{
    const struct known *known = &known_answers[answer];
    char sentence[512];
    char body[768];
    char head[512];
    write_sentence(known->sentence, detail, sentence, sizeof sentence);
    if (form->is_grpc) {
        return append_grpc(known, sentence, form->close, out);
    }
    int body_size = snprintf(body, sizeof body,
                             "{\"error\": \"%s\", \"reason\": \"%s\", \"message\": \"%s\"}\n",
                             status_text(known->status), known->reason, sentence);
    int head_size = snprintf(head, sizeof head,
                             "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\n"
                             "Content-Length: %d\r\nCache-Control: no-store\r\n%s%s\r\n",
                             known->status, status_text(known->status), body_size,
                             known->again ? "Retry-After: 1\r\n" : "",
                             form->close ? "Connection: close\r\n" : "");
    assert(body_size > 0 && (size_t)body_size < sizeof body);
    assert(head_size > 0 && (size_t)head_size < sizeof head);
    enum status status = buffer_append(out, head, (size_t)head_size);
    return status == STATUS_OK && !form->to_head ? buffer_append(out, body, (size_t)body_size)
                                                 : status;
}
