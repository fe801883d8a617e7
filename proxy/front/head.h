#ifndef HOLDFAST_FRONT_HEAD_H
#define HOLDFAST_FRONT_HEAD_H

/*
 * The head of an HTTP/1 message: finding its end, reading what the front must know of it, and
 * rewriting one header line. All other bytes of it are none of our business and pass as they came.
 *
 * Strict by RFC 9112, so that no two programs behind one another can read a message differently
 * (request smuggling): lines end in CR LF and nothing else, no line is folded, no space stands
 * before a colon, a length is stated once or not at all. (The library http_parser, as Debian builds
 * it, is not: it takes a bare LF, a folded line, "5\rX" for the end of a chunk size.)
 *
 * Pure; any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "front/framing.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"

/* Of a request or an answer. What servers allow is between 8 KiB and this. */
#define HEAD_BYTES_MAX (64u * 1024u)

/* How far the end was looked for, so that a head which comes byte by byte is looked at once. */
struct head_scan {
    size_t scanned;
    size_t line_start;
};

enum head_found {
    HEAD_MORE, /* more bytes are needed */
    HEAD_WHOLE,
    HEAD_MALFORMED, /* a line does not end in CR LF */
    HEAD_TOO_LARGE,
};

/* Looks for the empty line. `data` begins with the head and only grows between two calls. */
enum head_found head_find_end(struct head_scan *scan, struct slice data, size_t *ret_size);

struct http_head {
    struct slice method; /* of a request */
    struct slice target;
    unsigned status;        /* of an answer */
    unsigned minor_version; /* HTTP/1.minor */
    enum framing_kind framing;
    uint64_t length;       /* FRAMING_LENGTH */
    bool coded;            /* another transfer coding than chunked was applied */
    bool keep_alive;       /* the connection may be used again */
    bool upgrade;          /* asks for another protocol */
    bool upgrade_http2;    /* for HTTP/2, in which calls could not be told apart */
    bool expects_continue; /* its body comes after a 100 only */
    struct slice content_type;
    size_t traceparents;      /* header lines of that name */
    struct slice traceparent; /* the first one's value */
    size_t idempotency_keys;  /* likewise */
    struct slice idempotency_key;
};

/*
 * `head` is what head_find_end() found. Errors: STATUS_INVALID, or STATUS_UNSUPPORTED for another
 * major version; *ret_reason is a literal, fit to end the sentence "it is not valid HTTP: ...".
 * Slices point into `head`.
 */
MUST_CHECK enum status head_parse_request(struct slice head, struct http_head *ret_head,
                                          const char **ret_reason);

/* `to_head`: it answers a HEAD request and has no body whatever its lines say. */
MUST_CHECK enum status head_parse_answer(struct slice head, bool to_head,
                                         struct http_head *ret_head, const char **ret_reason);

/*
 * The parts of a request's target that begins with / or is a URL of http or https: its host and
 * port, empty for the former, and its path with the query, where "" and "?..." stand for "/" and
 * "/?...". False: it is neither ("*", that of a CONNECT).
 */
MUST_CHECK bool head_split_target(struct slice target, struct slice *ret_authority,
                                  struct slice *ret_path);

/* The first line of a head, without its end, and then field by field, trimmed. False: no more. A
   line that is no field is passed over: a parsed head has none. */
MUST_CHECK bool head_take_line(struct slice *rest, struct slice *ret_line);
MUST_CHECK bool head_take_field(struct slice *rest, struct slice *ret_name,
                                struct slice *ret_value);

/* Cuts the next item of a comma separated value off, trimmed. False: no more. */
MUST_CHECK bool head_take_item(struct slice *rest, struct slice *ret_item);

/* Whether the text is this word, in whatever case. */
bool head_is_word(struct slice text, const char *word);

/* The value of the first header line of that name, in a head that was parsed. False: none is. */
bool head_find(struct slice head, const char *name, struct slice *ret_value);

/* What head_copy() changes; every other byte stays. */
struct head_changes {
    bool drop_traceparent;   /* lines of that name */
    bool drop_upgrade;       /* likewise: hop by hop, a proxy may do so */
    const char *traceparent; /* the value of a new last line, or NULL */
};

/* Appends `head`, found whole, to `out`. Errors: those of buffer_append(). */
MUST_CHECK enum status head_copy(struct slice head, const struct head_changes *changes,
                                 struct buffer *out);

#endif
