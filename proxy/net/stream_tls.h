#ifndef HOLDFAST_NET_STREAM_TLS_H
#define HOLDFAST_NET_STREAM_TLS_H

/*
 * TLS on a stream: between stream_init() and stream_open() or stream_connect() the owner says that
 * it speaks TLS; `connected` then tells that the handshake is done, or has failed, and until that
 * nothing can be sent or received. After it the stream is used as any other.
 *
 * Handshakes do not block the worker, and end by themselves (tls_options.handshake_ms). An end of
 * input without TLS's own word of it counts as a break, for it may have been cut off by somebody
 * between.
 *
 * Thread: the stream's.
 */

#include <stdbool.h>

#include "net/stream.h"
#include "net/tls.h"

#define STREAM_TLS_REASON_BYTES 160

/*
 * `plain_allowed`: a client that does not begin with TLS is served without. The stream's transport
 * stays what carries the bytes below. Errors: STATUS_MEMORY; the stream is as it was.
 */
MUST_CHECK enum status stream_use_tls(struct stream *stream, struct tls *tls, bool plain_allowed);

/* The same towards a server of another name than tls_options.host. */
MUST_CHECK enum status stream_use_tls_towards(struct stream *stream, struct tls *tls,
                                              const char *host);

/*
 * Before it is connected, of a client: what ALPN offers, as on the wire ("\x02h2\x08http/1.1"), the
 * best first. Errors: STATUS_MEMORY.
 */
MUST_CHECK enum status stream_tls_offer(struct stream *stream, const char *protocols);

/* What ALPN has agreed on; empty: nothing. Lives as long as the stream. */
struct slice stream_tls_protocol(const struct stream *stream);

/* After a failed handshake, or a break: why, in words. */
const char *stream_tls_failure(const struct stream *stream);
/* The same; "": TLS has not failed. */
const char *stream_tls_reason(const struct stream *stream);

/* Whether what came on a stream without TLS begins as TLS does: for the words of a refusal. */
bool stream_tls_is_spoken(struct slice received);

/* Whether its bytes are encrypted: false before the handshake, and of a plain client. */
bool stream_is_tls(const struct stream *stream);

/* ------------------------------------------------------------------ for stream.c only */

/* The stream has a descriptor and an event. */
void stream_tls_attached(struct stream *stream, struct event_base *base);
/* `connecting` is set. True: taken; false: the event is for on_event() as it may now stand. */
bool stream_tls_event(struct stream *stream, short *what);
/* False: the kernel had no room for the word of it. */
bool stream_tls_shutdown(struct stream *stream);
/* Whether that was its last answer. */
bool stream_tls_shutdown_waits(const struct stream *stream);
/* `orderly`: the peer is told that this is the end. */
void stream_tls_close(struct stream *stream, bool orderly);
/* What carries the bytes. */
const struct stream_transport *stream_tls_below(const struct stream *stream);

#endif
