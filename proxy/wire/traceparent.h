#ifndef HOLDFAST_WIRE_TRACEPARENT_H
#define HOLDFAST_WIRE_TRACEPARENT_H

/*
 * The traceparent of W3C Trace Context: version "-" trace-id "-" parent-id "-" flags, all lower
 * case hexadecimal, 55 characters in version 00. Here it tells which API call a write belongs to,
 * and whose span a unit's is inside of. Source: https://www.w3.org/TR/trace-context/
 * (sections 3.2.1, 3.2.2).
 *
 * Any thread; nothing is allocated.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/slice.h"

#define TRACE_ID_BYTES 16
#define TRACEPARENT_TEXT_BYTES 56 /* with its NUL */

/* All zeros is no trace, by the specification as here. */
struct trace_id {
    uint8_t bytes[TRACE_ID_BYTES];
};

#define TRACEPARENT_PARENT_BYTES 8

/* The whole of it. */
struct traceparent {
    struct trace_id trace;
    uint8_t parent[TRACEPARENT_PARENT_BYTES]; /* the caller's span */
    bool sampled;
};

bool trace_id_is_none(const struct trace_id *id);
bool trace_id_equal(const struct trace_id *left, const struct trace_id *right);

/*
 * Parses the whole of `text`. False, *ret_traceparent untouched: not a traceparent (another length,
 * upper case, version ff, a trace-id or parent-id of zeros). A higher version may be longer, after
 * a "-".
 */
bool traceparent_parse(struct slice text, struct traceparent *ret_traceparent);

/* A new one, with random trace-id and parent-id, sampled flag not set. */
void traceparent_make(struct trace_id *ret_id, char ret_text[TRACEPARENT_TEXT_BYTES]);

/* As text, in version 00. */
void traceparent_write(const struct traceparent *traceparent,
                       char ret_text[TRACEPARENT_TEXT_BYTES]);

/*
 * Finds a traceparent in the value of a command's `comment`, in the forms in which tracing
 * libraries put it there: the text itself; a text with key='value' pairs among which is
 * traceparent='...' (sqlcommenter; the value may be percent-encoded, quotes may be single, double
 * or none); a document with a field traceparent of type string, at its top level. False: none
 * there, or not a valid one.
 */
bool traceparent_in_comment(const bson_iter_t *comment, struct traceparent *ret_traceparent);

#endif
