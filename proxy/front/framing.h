#ifndef HOLDFAST_FRONT_FRAMING_H
#define HOLDFAST_FRONT_FRAMING_H

/*
 * Where the body of an HTTP/1 message ends (RFC 9112, sections 6 and 7), found while its bytes
 * pass.
 *
 *   chunked:  SIZE [;extension] CRLF  bytes CRLF  ...  0 CRLF  [trailer CRLF]...  CRLF
 *
 * Strict: CR LF only, sizes of hexadecimal digits only (an answer's may be padded with spaces, as
 * some old servers do), extensions and trailers bounded. Pure; any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/slice.h"

/* A chunk's extension, and all trailers together: nobody needs more. */
#define FRAMING_EXTENSION_BYTES_MAX 4096u
#define FRAMING_TRAILER_BYTES_MAX (64u * 1024u)

enum framing_kind {
    FRAMING_NONE,
    FRAMING_LENGTH,
    FRAMING_CHUNKED,
    FRAMING_CLOSE, /* until the connection ends */
};

enum framing_result {
    FRAMING_MORE,
    FRAMING_COMPLETE,
    FRAMING_MALFORMED,
};

enum framing_state {
    FRAMING_SIZE_FIRST,
    FRAMING_SIZE,
    FRAMING_SIZE_PADDING,
    FRAMING_EXTENSION,
    FRAMING_SIZE_LF,
    FRAMING_DATA,
    FRAMING_DATA_CR,
    FRAMING_DATA_LF,
    FRAMING_TRAILER_START,
    FRAMING_TRAILER,
    FRAMING_TRAILER_LF,
    FRAMING_END_LF,
    FRAMING_ENDED,
    FRAMING_BROKEN,
};

struct framing {
    enum framing_kind kind;
    enum framing_state state; /* private, as the rest */
    bool padding_allowed;
    uint64_t remaining;
    size_t counted;
    size_t trailer_bytes; /* to be read: of a complete chunked body, what follows the last chunk's
                             line, without the last byte */
};

void framing_start(struct framing *framing, enum framing_kind kind, uint64_t length,
                   bool padding_allowed);

/* Whether a body with no bytes (left) is complete without any more input. */
bool framing_is_complete(const struct framing *framing);

/* Takes what belongs to the body off the front of `data`: *ret_used bytes. */
enum framing_result framing_take(struct framing *framing, struct slice data, size_t *ret_used);

/* What was taken off the front; at most one of the two slices is not empty. */
struct framing_part {
    size_t used;
    struct slice body;     /* bytes of the body itself */
    struct slice trailers; /* of its trailer lines, each with its CR LF */
};

/* The same for who wants the body without its chunks: takes the next piece only, to be called until
   nothing is used. */
enum framing_result framing_take_part(struct framing *framing, struct slice data,
                                      struct framing_part *ret_part);

#endif
