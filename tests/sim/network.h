#ifndef HOLDFAST_TESTS_SIM_NETWORK_H
#define HOLDFAST_TESTS_SIM_NETWORK_H

/*
 * Simulated TCP. A connection is two ends; what one sends arrives at the other in order, later; an
 * end that closes is seen by the other behind what it had sent. The product reaches its ends by
 * descriptors, clients and server by the functions here.
 *
 * Each piece of what is sent carries a tag, the number of the command it belongs to, so that the
 * model knows on whose behalf the server changes something: what comes in on a client's connection
 * passes its tag on to the connection to the server that the proxy made for it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim.h"

enum end_owner {
    END_PRODUCT,
    END_CLIENT,
    END_SERVER,
};

enum end_kind {
    END_STREAM,
    END_LISTENER,
    END_BELL,
};

struct event;
struct event_base;

struct end {
    bool used;
    uint32_t generation; /* of this place in the table */
    enum end_kind kind;
    enum end_owner owner;
    struct end *peer;
    uint32_t peer_generation;
    uint16_t port;
    uint16_t peer_port;
    /* receiving */
    struct bytes incoming;
    bool ended;   /* the peer has closed, and all it sent is here */
    bool reset;   /* the connection broke */
    bool deaf;    /* broken: what is still on its way does not arrive */
    uint64_t tag; /* of what came last */
    /* sending */
    uint64_t arrives_us; /* of what was sent last */
    bool broken;         /* what is sent from now on is lost */
    uint64_t stuffed_until_us;
    /* the product's */
    bool connecting;
    bool abort_on_close;
    short edges;
    struct event_base *base;
    struct end *onward; /* to the server, for this client */
    uint32_t onward_generation;
    uint64_t sends_tag;
    uint16_t backlog[32];
    size_t backlog_count;
    uint64_t rings;
    /* the server's */
    void *session;
};

/* A client connects to the proxy; NULL: nobody listens. */
struct end *network_connect(void);
void network_send(struct end *end, const void *data, size_t size, uint64_t tag);
/* With `reset` the peer learns that it broke. The end is gone. */
void network_close(struct end *end, bool reset);
/* The connection breaks in the middle of whatever is on its way. */
void network_cut(struct end *end);
/* Any connection of clients or of the proxy's to the server; NULL: there is none. */
struct end *network_any(void);
/* All ends of an owner close: its process is gone. */
void network_close_all(enum end_owner owner);
bool network_has_listener(void);
/* Its peer is gone, even if it does not know yet. */
bool network_is_alone(const struct end *end);
void network_address(const struct end *end, char *text, size_t capacity); /* of its peer */
void network_reset(void);

/* server.c */
bool server_accepts(void);
void server_connected(struct end *end);
void server_arrived(struct end *end);

#endif
