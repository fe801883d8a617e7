#ifndef HOLDFAST_FRONT_FRONT_H
#define HOLDFAST_FRONT_FRONT_H

/*
 * The HTTP proxy before services: it makes each request that changes something a call of its
 * domain (boundary/call.h) and passes everything through unchanged, byte for byte.
 *
 *   caller ==== one connection ====> front ==== one of its own ====> service
 *
 * A request that changes something (routes.h says which)
 *   - is read ahead until its body is whole, or FRONT_READ_AHEAD_BYTES of it are here, and becomes
 *     a call only then, so that a caller who sends it slowly holds no domain meanwhile. One with
 *     Expect: 100-continue becomes a call at once: its body comes after the service's 100;
 *   - is held, no more than that being read, until its call may begin;
 *   - is forwarded with a traceparent header, one being added where there is none;
 *   - gets its answer when the call has ended: a service's answer is held whole for that, up to
 *     `answer_bytes_max`. 2xx and 3xx commit, 4xx and 5xx roll back, both then go out as they came.
 * Everything else streams: other requests, and, once they have begun, calls that have joined
 * another one and calls of a domain that only observes.
 *
 * An answer of the front's own has the type application/json:
 *     {"error": "Service Unavailable", "reason": "queueFull", "message": "A sentence."}
 * error_answer.h has the reasons. With 503 the call was rolled back, or never began, and may be
 * sent again after Retry-After; where that is not so ("conflict") there is no such header.
 *
 * Bounds, beside those of front_options:
 *   FRONT_HEAD_MS      from the first byte of a request to the end of its head
 *   FRONT_BODY_MS      from there to where its call may begin (408)
 *   FRONT_IDLE_MS      between two requests of a connection
 *   FRONT_KEPT_MS      a connection to the service that was idle for longer is not used for a call:
 *                      the service may be closing it, and a call is never sent twice
 *   FRONT_CONNECT_MS   for connecting to the service, with the handshake of TLS
 *   FRONT_STALL_MS     without a byte taken by a caller who is being given a held answer
 *   FRONT_LINGER_MS    for a caller to close after our last byte
 *   HEAD_BYTES_MAX     of a head (431)
 *   FRONT_READ_AHEAD_BYTES   of a body before its call begins, and of what follows a request that
 *                      is under way; a read that brings a head may bring up to
 *                      LIMIT_RECEIVE_BUFFER_BYTES with it
 * The body of another request, or of a call beyond what is read ahead, and a streamed answer may
 * take as long as they like, in bounded memory; the time of a call whose answer is held runs from
 * its admission to its complete answer (call_timeout_ms). The caller of one that has joined is cut
 * off after that time. A service at work for a call whose time
 * is over is waited for without a bound.
 *
 * A caller that leaves in mid-call changes nothing if its request was whole: the call ends by its
 * answer, which nobody gets. Was it not whole, the call is rolled back and its service's connection
 * closed. Of other requests the service sees their caller's end as it would directly, be it of one
 * direction or of both.
 *
 * Of a service with instances each request has one: a call the one that it is admitted on, any
 * other the one with the least to do. One that cannot be connected to is not waited for: the
 * request goes to another, of which nothing was sent yet.
 *
 * Callers may speak TLS (front_options.tls), and services (front_service.tls).
 *
 * HTTP/2 (http2_caller.h): callers may speak it on every listener; a stream is as a caller's
 * connection, and counts as one. A service is spoken to by it as its `protocol` says. A request of
 * gRPC is judged by the grpc-status in its answer's trailers (grpc.h), and gets answers of the
 * front's own as such a status. An Upgrade to HTTP/2 is not passed on. What goes through a
 * connection after a 101 is no call's.
 *
 * Threads: front_start() to front_free() from one thread; what else is said at each function.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boundary/domain.h"
#include "boundary/idempotency.h"
#include "holdfast/error.h"
#include "holdfast/histogram.h"
#include "net/listener.h"
#include "net/worker.h"

#define FRONT_HEAD_MS 30000u
#define FRONT_BODY_MS 30000u
#define FRONT_IDLE_MS 75000u
/* Idle limits of servers in use begin at 2 s. */
#define FRONT_KEPT_MS 1000u
#define FRONT_CONNECT_MS 10000u
#define FRONT_STALL_MS 120000u
#define FRONT_LINGER_MS 2000u
/* Bodies of most calls, whole; no more than a slow head may take. Also how a caller's end is seen.
 */
#define FRONT_READ_AHEAD_BYTES (64u * 1024u)

/* What a service is spoken to by. */
enum front_protocol {
    /* gRPC: HTTP/2. All else: what the service chooses by ALPN, without TLS HTTP/1.1; an Upgrade
       always HTTP/1.1. */
    FRONT_AUTO,
    FRONT_HTTP1,
    FRONT_HTTP2, /* all of it; without TLS by prior knowledge */
};

/* Texts outlive the front. */
struct front_service {
    const char *name;
    struct domain *domain;     /* outlives the front */
    size_t number;             /* of the service in its domain; of an instance, its own */
    const char *listen;        /* HOST:PORT, for callers from outside */
    const char *inside_listen; /* HOST:PORT, for the domain's services among each other; or "" */
    struct network_address service;
    const char *service_text; /* for the log */
    enum front_protocol protocol;
    struct tls *tls;   /* with the service, outlives the front; NULL: none */
    const char *peers; /* IP addresses, comma separated, that are inside also on `listen`; or "" */
    bool reads_wait;   /* GET and HEAD from outside wait until no call is open */
    bool trace_correlated; /* the domain tells calls apart by their traceparent */
    size_t place;          /* private: in the front, its own or its instance's */
    /* In a domain of instances (domain.h): as the service is, but for number and address, which the
       service then has none of. NULL: it has none. */
    const struct front_service *instances;
    size_t instance_count;
    bool is_instance;
};

/* Requests with an Idempotency-Key (repeats.h). */
struct front_idempotency {
    struct idempotency *keys;    /* outlives the front; NULL: the header line is as any other */
    size_t body_bytes_max;       /* of such a request; held while it is looked at */
    size_t answer_bytes_max;     /* of what is recorded */
    const char *identity_header; /* its value is a part of the request; outlives the front */
};

struct front_options {
    struct worker_pool *workers;          /* outlives the front */
    const struct front_service *services; /* copied */
    size_t service_count;
    uint64_t call_timeout_ms;
    size_t answer_bytes_max; /* of a held answer, head and body */
    struct tls *tls;         /* with callers, outlives the front; NULL: plain */
    bool plain_allowed;      /* with `tls`: callers without are served, too */
    size_t connections_max;  /* of callers, over all services */
    struct front_idempotency idempotency;
    const char *routes;      /* as routes.h; or "" */
    struct observe *observe; /* knows routes by which requests are counted; NULL: they are not */
    uint64_t head_ms;        /* 0: FRONT_HEAD_MS */
    uint64_t body_ms;        /* 0: FRONT_BODY_MS */
    uint64_t idle_ms;        /* 0: FRONT_IDLE_MS */
    uint64_t kept_ms;        /* 0: FRONT_KEPT_MS */
    uint64_t stall_ms;       /* 0: FRONT_STALL_MS */
    uint64_t connect_ms;     /* 0: FRONT_CONNECT_MS */
};

struct front;

/*
 * Listens and serves from now on. Errors: as listener_open(); STATUS_INVALID for routes or peers.
 * Ends with front_drain(), front_stop(), worker_pool_stop(), front_free().
 */
MUST_CHECK enum status front_start(const struct front_options *options, struct front **ret_front,
                                   struct error *ret_error);

/* HOST:PORT with the real port; "" if there is no such listener. Before front_drain(). */
const char *front_address(const struct front *front, size_t service, bool inside);

/* For calls that begin from now on. Any thread. */
void front_set_limits(struct front *front, uint64_t call_timeout_ms);

/* While it is held no request begins and no connection is accepted; what has begun goes on. What
   has come waits, here or in the kernel. Waits for the workers. */
void front_hold(struct front *front, bool held);

/* A caller on its way to another process (daemon/hand_over.c). */
struct front_parcel {
    int caller; /* its socket */
    const uint8_t *state;
    size_t state_size;
};

/*
 * Takes every caller of whose request nothing has reached its service out of the front, held:
 * `give` is called for each on its worker, one at a time, and the socket is closed here after it.
 * Callers with TLS stay. Returns how many went.
 */
size_t front_give(struct front *front,
                  void (*give)(void *context, const struct front_parcel *parcel), void *context);

/* Serves what another process has handed over; takes the socket. STATUS_INVALID: it is nothing of
   that kind, or its listener is not served any more: the socket is closed. */
MUST_CHECK enum status front_take(struct front *front, const struct front_parcel *parcel,
                                  struct error *ret_error);

/* No new connections; those that are idle end, the others after their request. */
void front_drain(struct front *front);

/*
 * Closes every connection and rolls back what is open; waits for that, at most five seconds (a
 * rollback may wait for the server). After front_drain().
 */
void front_stop(struct front *front);

/* After the workers have stopped. NULL is harmless; returns NULL. */
struct front *front_free(struct front *front);

struct front_figures {
    uint64_t connections; /* of callers, now; with those whose caller left a service at work */
    uint64_t requests;    /* since the start, as all that follow */
    uint64_t calls;       /* admitted; joined ones, too */
    uint64_t refused;     /* answers of the front's own */
    uint64_t timeouts;
    uint64_t services_lost; /* broken, or not to be reached, while a request was theirs */
    uint64_t tunnels;
};

/* Requests of one route of a service, since the start. */
#define FRONT_ROUTES_MAX 128u /* of a worker; further routes count as "other" */
#define FRONT_ANSWER_CLASSES 6u

struct front_route {
    size_t service;
    const char *service_name;
    char route[260];
    uint64_t answers[FRONT_ANSWER_CLASSES]; /* by the answer's first digit; [0]: none was given */
    struct histogram duration;              /* from its head to where its answer is out */
};

/* Fills up to `max` of them in, over all workers; returns how many. Any thread. */
size_t front_routes_get(const struct front *front, struct front_route *routes, size_t max);

/* Any thread. */
void front_figures_get(const struct front *front, struct front_figures *ret_figures);

#endif
