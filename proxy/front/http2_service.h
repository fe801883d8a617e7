#ifndef HOLDFAST_FRONT_HTTP2_SERVICE_H
#define HOLDFAST_FRONT_HTTP2_SERVICE_H

/*
 * Private to the front: requests to services that speak HTTP/2, by prior knowledge (h2c) or agreed
 * on by ALPN. To an exchange it looks as a connection to a service of HTTP/1.1 does, which is kept
 * between two requests; behind that, the requests of one worker share connections.
 *
 * What becomes of a request whose service does not answer it:
 *   - it was never sent, or the service says that it has not begun with it (REFUSED_STREAM, a
 *     GOAWAY that leaves it out): it is sent once more if all of it is still here
 *     (HTTP2_KEPT_BYTES_MAX), else answered 503 `serviceLost`: no handler ran;
 *   - anything else: the pipe breaks, as a service's connection does. Its handler may be at work.
 * A GOAWAY that counts it in lets it end; no other begins on that connection.
 *
 * Thread: the worker's.
 */

#include "front/front.h"
#include "net/stream_pair.h"

struct front_worker;
struct http2_services;

/* Of a request that may have to be sent again. */
#define HTTP2_KEPT_BYTES_MAX (64u * 1024u)

/* `end` is the exchange's. Errors: STATUS_MEMORY, STATUS_UNREACHABLE (the worker stops). */
MUST_CHECK enum status http2_service_open(struct front_worker *owner,
                                          const struct front_service *service,
                                          const struct stream_pair_end *end);

/* Ends all connections of the worker, whose exchanges have been stopped. No others are made. */
void http2_services_stop(struct front_worker *owner);

#endif
