#ifndef HOLDFAST_FRONT_HTTP2_SERVICE_PRIVATE_H
#define HOLDFAST_FRONT_HTTP2_SERVICE_PRIVATE_H

/*
 * What http2_service.c (requests, each in a lane) and http2_connection.c (the connections that they
 * share) have in common; nobody else includes it. Thread: the worker's.
 */

#include "front/exchange.h"
#include "front/http2.h"
#include "front/http2_lane.h"

struct http2_connection {
    struct http2_peer peer; /* the first */
    struct http2_services *services;
    struct http2_connection *next;
    struct http2_connection *previous;
    const struct front_service *service;
    struct stream stream;
    struct event turn;
    struct event timer; /* for connecting, and for being idle */
    struct worker_task finish_task;
    size_t streams;
    uint64_t idle_since_ms; /* with no streams */
    bool draining;          /* no new requests */
    bool greeted;           /* its first bytes were of HTTP/2 */
    bool stranger;          /* they were not, or ALPN has not agreed on it */
    bool running;           /* run() is on the stack */
    bool gone;
};

struct service_lane {
    struct http2_lane lane; /* the first */
    struct http2_services *services;
    struct service_lane *next;
    struct service_lane *previous;
    const struct front_service *service;
    struct http2_connection *connection; /* NULL: none */
    struct buffer kept;                  /* the request as it came */
    bool keeps;
    bool retried;
    bool sent;  /* its first frame was */
    bool begun; /* something of the answer was passed on */
    bool to_head;
    bool old; /* its request is of HTTP/1.0 */
    bool is_grpc;
    bool closes;        /* without a stream: its pipe, once all of the answer is in there */
    bool to_stranger;   /* its service speaks something else */
    const char *reason; /* service_lane_over(): why its connection was lost; NULL or "": unknown */
    bool finishing;
    struct worker_task finish_task;
};

struct http2_services {
    struct front_worker *owner;
    struct http2_connection *connections;
    struct service_lane *lanes;
};

/* ---- http2_connection.c */

/* One on which a request may begin now. NULL: out of memory, or it cannot even be tried. */
struct http2_connection *http2_connection_find(struct http2_services *services,
                                               const struct front_service *service);
/* It has something to send; from inside anything. */
void http2_connection_again(struct http2_connection *connection);
/* `reached`: it was up. Its requests are told. */
void http2_connection_end(struct http2_connection *connection, bool reached);

/* ---- http2_service.c */

/* The lane's stream has closed, or never was. `unprocessed`: no handler has run. */
void service_lane_over(struct service_lane *lane, bool unprocessed, bool may_retry);
/* Of requests and answers, on a connection. */
extern const struct http2_handlers service_lane_handlers;

#endif
