#ifndef HOLDFAST_FRONT_EXCHANGE_H
#define HOLDFAST_FRONT_EXCHANGE_H

/*
 * Private to the front: one caller's connection, its service connection, and the request that is
 * under way on them. The life of it is drawn in exchange.c.
 *
 *                 incoming, head            service's pending
 *   caller ---[ head | read ahead ]--> request.c ------------------> service
 *                                         |
 *                                       calls.c  (admission, end, timeout)
 *                                         |
 *   caller <------------------------- answer.c <---[ head ]--------- service
 *      caller's pending         held          answer_incoming
 *
 * Memory: a head each way (HEAD_BYTES_MAX and one receive buffer; it has gone on before a body is
 * read ahead, FRONT_READ_AHEAD_BYTES, into the same memory), what the other side does not take
 * (FRONT_BACK_PRESSURE_BYTES, then its source is not read), a held answer.
 *
 * The caller of an exchange may be a stream of an HTTP/2 connection (http2_caller.h), and its
 * service one that is spoken to by HTTP/2 (http2_service.h): then the stream to it is one end of a
 * pair in memory (net/stream_pair.h), and what goes through it is the text of HTTP/1.1 all the
 * same.
 *
 * Thread: the worker's.
 */

#include <event2/event_struct.h>
#include <stdatomic.h>

#include "base/buffer.h"
#include "boundary/call.h"
#include "front/error_answer.h"
#include "front/framing.h"
#include "front/front.h"
#include "front/head.h"
#include "front/http2_caller.h"
#include "front/http2_service.h"
#include "front/peers.h"
#include "front/repeats.h"
#include "front/route_figures.h"
#include "front/routes.h"
#include "holdfast/limits.h"
#include "net/stream.h"

/* The longest reason for which a call is rolled back, whole (boundary/call.c). */
#define EXCHANGE_DETAIL_BYTES 256u

#define FRONT_BACK_PRESSURE_BYTES (1024u * 1024u)
#define FRONT_INCOMING_BYTES_MAX (HEAD_BYTES_MAX + LIMIT_RECEIVE_BUFFER_BYTES)

#define EXCHANGE_STATE_LIST(X)                                                                     \
    X(IDLE)       /* nothing of a request is here */                                               \
    X(HTTP2)      /* a connection of HTTP/2: its streams have exchanges of their own */            \
    X(HEAD)       /* a part of its head is */                                                      \
    X(BODY)       /* of a call, whose body is read ahead; it has not begun */                      \
    X(WAITING)    /* for admission; nothing of it is forwarded */                                  \
    X(CONNECTING) /* to the service; likewise */                                                   \
    X(OPEN)       /* the service has it */                                                         \
    X(ENDING)     /* its call's end is on its way to the disk */                                   \
    X(ANSWERING)  /* a held answer, or one of the front's own, goes out */                         \
    X(TUNNEL)     /* another protocol */                                                           \
    X(CLOSING)    /* the last byte for the caller is out, or nearly */                             \
    X(GONE)       /* the caller is; the service or the call may not be */                          \
    X(OVER)       /* about to be freed */

enum exchange_state {
#define X(name) EXCHANGE_##name,
    EXCHANGE_STATE_LIST(X)
#undef X
};

enum exchange_call {
    EXCHANGE_CALL_NONE,   /* none, or it has ended */
    EXCHANGE_CALL_QUEUED, /* `admitted` will come */
    EXCHANGE_CALL_OPEN,
    EXCHANGE_CALL_ENDING, /* `ended` will come */
};

enum answer_phase {
    ANSWER_NONE, /* nothing was asked */
    ANSWER_HEAD,
    ANSWER_BODY,
    ANSWER_COMPLETE,
};

enum answer_mode {
    ANSWER_STREAM,
    ANSWER_HOLD,
    ANSWER_DROP,
};

struct front_counters {
    _Atomic uint64_t connections;
    _Atomic uint64_t requests;
    _Atomic uint64_t calls;
    _Atomic uint64_t refused;
    _Atomic uint64_t timeouts;
    _Atomic uint64_t services_lost;
    _Atomic uint64_t tunnels;
};

/* A listener of a service. */
struct front_endpoint {
    struct front *front;
    const struct front_service *service;
    const struct peers *peers;
    bool inside;
    struct listener *listener; /* NULL: none */
};

struct front_shared {
    size_t answer_bytes_max;
    size_t connections_max;
    struct tls *tls;
    bool plain_allowed;
    uint64_t head_ms;
    uint64_t body_ms;
    uint64_t idle_ms;
    uint64_t kept_ms;
    uint64_t stall_ms;
    uint64_t connect_ms;
    _Atomic bool
        *chose_http2; /* by place, each instance's own: it is FRONT_AUTO, and did when last asked */
    struct routes *routes;
    struct front_idempotency idempotency;
    struct observe *observe; /* NULL: requests are not counted by their route */
    _Atomic uint64_t call_timeout_ms;
    _Atomic bool draining;
    _Atomic bool held; /* front_hold() */
    struct front_counters counters;
};

/* A worker's exchanges. */
struct front_worker {
    struct front_shared *shared;
    struct worker *worker;
    struct exchange *first;
    struct route_figures *figures; /* NULL: none */
    struct http2_services *http2;  /* NULL: none was needed yet */
    bool stopping;
};

struct exchange {
    struct front_shared *shared;
    struct front_worker *owner;
    struct exchange *next;
    struct exchange *previous;
    const struct front_service *service;
    const struct front_service *target; /* where its requests go: `service`, or an instance of it */
    bool entered;                       /* its instance counts it: domain_instance_leave() */
    size_t moves;                       /* of the request, to other instances */
    const struct front_endpoint *endpoint; /* NULL: its caller is a stream of HTTP/2 */
    bool inside;
    char caller_text[NETWORK_ADDRESS_TEXT_BYTES];
    enum exchange_state state;
    bool running; /* exchange_run() is on the stack */
    bool again;   /* something changed since its pumps ran */
    struct worker_task finish_task;
    struct event timer;   /* what it bounds: the state says */
    size_t stall_pending; /* exchange_watch_stall(): what was pending then */
    struct event call_timer;
    struct event turn; /* goes on with exchange_run() after other connections */

    bool is_first;              /* nothing was read of the connection */
    struct http2_caller *http2; /* HTTP2 */
    bool is_idle;               /* HTTP2: without streams; that is what the timer bounds */
    struct stream caller;
    bool caller_gone;  /* closed */
    bool caller_ended; /* sends no more */
    bool caller_shut;  /* we send no more */

    struct stream backend;  /* to the service; closed between requests if the service wishes */
    bool backend_deaf;      /* takes no more, but may have said something */
    bool backend_ended;     /* TUNNEL: sends no more */
    bool backend_shut;      /* we send no more */
    bool backend_is_http2;  /* of its kind */
    bool backend_reused;    /* the request under way is not its first */
    uint64_t backend_count; /* requests sent on it */
    uint64_t backend_idle_since_ms; /* its last answer was complete then */

    struct buffer incoming; /* not yet worked through */
    struct head_scan scan;
    struct buffer head;  /* as it is forwarded */
    bool head_unsent;    /* waits a moment for a piece of its body to go out with */
    struct buffer texts; /* method and target for the call, each with a NUL */
    struct framing framing;
    struct framing ahead; /* BODY: a copy of `framing` that has gone over what is read ahead, */
    size_t ahead_bytes;   /* so much of it */
    bool request_complete;
    bool request_keep_alive;
    bool request_old; /* HTTP/1.0 */
    bool has_body;
    bool is_head;
    bool is_connect;
    bool is_upgrade;
    bool is_grpc;
    bool retried;
    bool request_broken; /* what it sent is no HTTP: nothing more of it is looked at */

    struct buffer answer_incoming;
    struct head_scan answer_scan;
    struct framing answer_framing;
    enum answer_phase phase;
    enum answer_mode mode;
    unsigned status;
    bool answer_seen;  /* any byte came */
    bool answer_begun; /* any byte of it, beside 1xx, was given to the caller */
    bool answer_keep_alive;
    bool answer_is_grpc;
    bool tunnel; /* what comes after this answer is another protocol */
    struct buffer held;
    size_t held_sent;

    struct route_figure *figure; /* what the request is counted as; NULL: it is, or none is here */
    uint64_t started_us;

    bool is_call;
    enum exchange_call call_state;
    bool handler_open; /* call_handler_ended() is to come */
    struct call call;
    struct repeat *repeat; /* it bears an Idempotency-Key; else NULL */
    bool succeeded;        /* the service's answer says so */
    bool failed;           /* the answer is to be `failure`, whatever the service says */
    enum error_answer failure;
    bool own_answer;  /* what goes out is one of the front's own */
    bool close_after; /* the answer that goes out is the connection's last */
    bool refusing;    /* exchange_refuse() is to be carried out */
    enum error_answer refusal;
    char detail[EXCHANGE_DETAIL_BYTES];
};

/* exchange.c: the life. */
/* `bytes` are what it has sent another process. */
void exchange_accept(struct front_worker *owner, const struct front_endpoint *endpoint,
                     int descriptor, const struct sockaddr *peer, socklen_t peer_size,
                     struct slice bytes);
/* A stream of `connection`, an exchange in HTTP2, is the caller. False: there may not be one more.
 */
bool exchange_accept_stream(struct exchange *connection, const struct stream_pair_end *end);
void exchange_set_state(struct exchange *exchange, enum exchange_state state);
/* Does all that can be done now. Everything that happens ends with it; harmless from inside. */
void exchange_run(struct exchange *exchange);
void exchange_set_timer(struct exchange *exchange, uint64_t milliseconds);
/* From now on the caller has FRONT_STALL_MS to take something of what is pending for it. */
void exchange_watch_stall(struct exchange *exchange);
/* The caller has gone, or is to go. */
void exchange_caller_gone(struct exchange *exchange);
/* For the end of the process: both sides are closed, and the call rolled back. */
void exchange_stop(struct exchange *exchange);
/* What it sent is no HTTP. */
void exchange_malformed(struct exchange *exchange, enum error_answer answer, const char *reason);
/* Answers with one of the front's own as soon as exchange_run() comes to it. */
void exchange_refuse(struct exchange *exchange, enum error_answer answer, const char *detail);
/* The answer that went to the caller was the whole one. */
void exchange_next(struct exchange *exchange);

/* http2_exchange.c: an exchange that is the connection of an HTTP/2 caller. */
void http2_exchange_begin(struct exchange *exchange);
void http2_exchange_take(struct exchange *exchange, struct slice bytes);
void http2_exchange_settle(struct exchange *exchange);
void http2_exchange_timeout(struct exchange *exchange);

/* request.c: from the caller to the service. */
void request_pump(struct exchange *exchange);
/* Takes what is here of a body that nobody wants. */
void request_discard(struct exchange *exchange);

/* backend.c: the connection to the service. */
void backend_forward(struct exchange *exchange); /* connects if need be */
/* The instance has done with the request that is no call. Harmless if there is none. */
void backend_leave_instance(struct exchange *exchange);
void backend_send(struct exchange *exchange, struct slice bytes);
void backend_flush_head(struct exchange *exchange);
void backend_close(struct exchange *exchange);
/* It broke, cannot be made, or talks nonsense. */
void backend_lost(struct exchange *exchange);
static inline bool backend_is_open(const struct exchange *exchange)
{
    return exchange->backend.descriptor >= 0 && !exchange->backend.connecting;
}

/* answer.c: from the service to the caller. */
void answer_pump(struct exchange *exchange);
/* Gives the caller more of what is held. */
void answer_flush(struct exchange *exchange);

/* calls.c: the call of a request. */
void calls_prepare(struct exchange *exchange,
                   const struct span_context *span); /* once its head is */
void calls_open(struct exchange *exchange);          /* it may begin */
void calls_wait_read(struct exchange *exchange);
void calls_answered(struct exchange *exchange);       /* the answer is complete */
void calls_lost(struct exchange *exchange, bool ran); /* the service is */
void calls_caller_left(struct exchange *exchange);    /* the caller is */
void calls_stop(struct exchange *exchange);           /* the proxy is to end */
void calls_fail(struct exchange *exchange, enum error_answer failure, const char *reason);
void calls_init(struct exchange *exchange);

#endif
