/*
 * Simulated sockets, and libevent's loop on top of them.
 *
 *   network_send() / send()  -->  piece on its way  -- later, in order -->  incoming, and an edge
 *
 * The loop of a worker is a fiber: it picks one of the events that are ready, at random, and calls
 * it. Edges are those of epoll: new bytes, the peer's end, and room for more to send.
 */
#include "network.h"
#include "net/send_ring.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENDS_MAX 512
#define DESCRIPTOR_FIRST 100000
#define LOCAL_PORT_FIRST 20000
#define PROXY_PORT 27018

int __real_close(int descriptor);
ssize_t __real_read(int descriptor, void *memory, size_t size);
ssize_t __real_write(int descriptor, const void *memory, size_t size);

int __wrap_socket(int family, int type, int protocol);
int __wrap_bind(int descriptor, const struct sockaddr *address, socklen_t size);
int __wrap_listen(int descriptor, int backlog);
int __wrap_accept4(int descriptor, struct sockaddr *ret_peer, socklen_t *ret_size, int flags);
int __wrap_connect(int descriptor, const struct sockaddr *address, socklen_t size);
ssize_t __wrap_recv(int descriptor, void *memory, size_t size, int flags);
ssize_t __wrap_send(int descriptor, const void *memory, size_t size, int flags);
int __wrap_close(int descriptor);
int __wrap_shutdown(int descriptor, int how);
int __wrap_socketpair(int domain, int type, int protocol, int ends_of_pair[2]);
ssize_t __wrap_sendmsg(int descriptor, const struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int descriptor, struct msghdr *message, int flags);
int __wrap_setsockopt(int descriptor, int level, int name, const void *value, socklen_t size);
int __wrap_getsockopt(int descriptor, int level, int name, void *value, socklen_t *size);
int __wrap_getsockname(int descriptor, struct sockaddr *ret_address, socklen_t *ret_size);
int __wrap_poll(struct pollfd *descriptors, nfds_t count, int timeout);
int __wrap_eventfd(unsigned value, int flags);
ssize_t __wrap_read(int descriptor, void *memory, size_t size);
ssize_t __wrap_write(int descriptor, const void *memory, size_t size);

static struct end ends[ENDS_MAX];
static uint16_t next_port;

enum piece_kind {
    PIECE_DATA,
    PIECE_END,
    PIECE_RESET,
    PIECE_CONNECTED,
    PIECE_REFUSED,
    PIECE_ROOM,
};

struct piece {
    struct piece *next; /* of all on their way */
    struct piece *previous;
    struct end *to;
    uint32_t generation;
    enum piece_kind kind;
    uint64_t tag;
    struct bytes bytes;
};

static struct piece on_their_way = {.next = &on_their_way, .previous = &on_their_way};

/* ------------------------------------------------------------------ ends */

static struct end *end_new(enum end_kind kind, enum end_owner owner)
{
    for (size_t i = 0; i < ENDS_MAX; i++) {
        if (!ends[i].used) {
            uint32_t generation = ends[i].generation + 1;
            ends[i] =
                (struct end){.used = true, .generation = generation, .kind = kind, .owner = owner};
            return &ends[i];
        }
    }
    assert(!"too many connections");
    return NULL;
}

static struct end *peer_of(const struct end *end)
{
    struct end *peer = end->peer;
    return peer != NULL && peer->used && peer->generation == end->peer_generation ? peer : NULL;
}

static void join(struct end *a, struct end *b, uint16_t port_of_a, uint16_t port_of_b)
{
    a->peer = b;
    a->peer_generation = b->generation;
    b->peer = a;
    b->peer_generation = a->generation;
    a->port = b->peer_port = port_of_a;
    b->port = a->peer_port = port_of_b;
}

static int descriptor_of(const struct end *end)
{
    return DESCRIPTOR_FIRST + (int)(end - ends);
}

static bool is_ours(int descriptor)
{
    return descriptor >= DESCRIPTOR_FIRST && descriptor < DESCRIPTOR_FIRST + ENDS_MAX;
}

static struct end *end_of(int descriptor)
{
    assert(is_ours(descriptor));
    struct end *end = &ends[descriptor - DESCRIPTOR_FIRST];
    assert(end->used && end->owner == END_PRODUCT);
    return end;
}

static void notify(struct end *end, short edges)
{
    end->edges = (short)(end->edges | edges);
    switch (end->owner) {
    case END_PRODUCT:
        if (end->base != NULL) {
            fiber_wake_all(end->base);
        }
        break;
    case END_CLIENT:
        fiber_wake_all(end);
        break;
    case END_SERVER:
        server_arrived(end);
        break;
    }
}

/* ------------------------------------------------------------------ pieces */

static void piece_free(struct piece *piece)
{
    piece->previous->next = piece->next;
    piece->next->previous = piece->previous;
    bytes_free(&piece->bytes);
    sim_free(piece);
}

static void arrive(void *object, uint64_t number)
{
    struct piece *piece = object;
    struct end *end = piece->to;
    (void)number;
    bool there = end->used && end->generation == piece->generation;
    if (!there || end->reset || (end->deaf && piece->kind != PIECE_RESET)) {
        piece_free(piece);
        return;
    }
    enum piece_kind kind = piece->kind;
    if (kind == PIECE_DATA) {
        bytes_append(&end->incoming, piece->bytes.data, piece->bytes.size);
        end->tag = piece->tag;
        if (end->onward != NULL && end->onward->generation == end->onward_generation) {
            end->onward->sends_tag = piece->tag; /* also when the client has gone meanwhile */
        }
    }
    piece_free(piece);
    switch (kind) {
    case PIECE_DATA:
        notify(end, EV_READ);
        break;
    case PIECE_END:
        end->ended = true;
        notify(end, EV_READ | EV_CLOSED);
        break;
    case PIECE_RESET:
        end->ended = true;
        end->reset = true;
        notify(end, EV_READ | EV_WRITE | EV_CLOSED);
        break;
    case PIECE_CONNECTED:
        end->connecting = false;
        notify(end, EV_WRITE);
        break;
    case PIECE_REFUSED:
        end->connecting = false;
        end->reset = true;
        notify(end, EV_WRITE | EV_CLOSED);
        break;
    case PIECE_ROOM:
        notify(end, EV_WRITE);
        break;
    }
}

/* In the order of the calls, whatever each takes. */
static void post(struct end *from, struct end *to, enum piece_kind kind, const void *data,
                 size_t size, uint64_t tag)
{
    struct piece *piece = sim_malloc(sizeof *piece);
    *piece = (struct piece){.to = to, .generation = to->generation, .kind = kind, .tag = tag};
    bytes_append(&piece->bytes, data, size);
    piece->next = &on_their_way;
    piece->previous = on_their_way.previous;
    on_their_way.previous->next = piece;
    on_their_way.previous = piece;
    uint64_t at_us = sim.now_us + faults_latency();
    if (from != NULL) {
        at_us = at_us <= from->arrives_us ? from->arrives_us + 1 : at_us;
        from->arrives_us = at_us;
    }
    schedule_at(at_us, arrive, piece, 0);
}

void network_send(struct end *end, const void *data, size_t size, uint64_t tag)
{
    struct end *peer = peer_of(end);
    if (end->broken || end->reset) {
        return;
    }
    if (peer != NULL) {
        post(end, peer, PIECE_DATA, data, size, tag);
    } else {
        end->broken = true; /* nobody is there any more, and the system there says so */
        post(NULL, end, PIECE_RESET, NULL, 0, 0);
    }
}

void network_close(struct end *end, bool reset)
{
    struct end *peer = peer_of(end);
    sim.breaks++;
    if (end->kind == END_LISTENER) {
        for (size_t i = 0; i < end->backlog_count; i++) {
            network_close(&ends[end->backlog[i]], true);
        }
    }
    if (peer != NULL && !end->broken) {
        post(end, peer, reset ? PIECE_RESET : PIECE_END, NULL, 0, 0);
    }
    bytes_free(&end->incoming);
    end->used = false;
}

void network_cut(struct end *end)
{
    struct end *pair[2] = {end, peer_of(end)};
    sim.breaks++;
    for (size_t i = 0; i < 2; i++) {
        if (pair[i] != NULL && !pair[i]->broken) {
            pair[i]->broken = true;
            pair[i]->deaf = random_chance(1, 2);
            post(pair[i]->deaf ? NULL : pair[1 - i], pair[i], PIECE_RESET, NULL, 0, 0);
        }
    }
}

struct end *network_any(void)
{
    struct end *chosen = NULL;
    size_t count = 0;
    for (size_t i = 0; i < ENDS_MAX; i++) {
        if (ends[i].used && ends[i].kind == END_STREAM && ends[i].owner == END_PRODUCT &&
            ends[i].peer != NULL) {
            count++;
            chosen = count == 1 || random_below(count) == 0 ? &ends[i] : chosen;
        }
    }
    return chosen;
}

void network_close_all(enum end_owner owner)
{
    for (size_t i = 0; i < ENDS_MAX; i++) {
        if (ends[i].used && ends[i].owner == owner) {
            network_close(&ends[i], random_chance(1, 2));
        }
    }
}

static struct end *listener_find(void)
{
    for (size_t i = 0; i < ENDS_MAX; i++) {
        if (ends[i].used && ends[i].kind == END_LISTENER && ends[i].port != 0) {
            return &ends[i];
        }
    }
    return NULL;
}

bool network_is_alone(const struct end *end)
{
    return peer_of(end) == NULL;
}

bool network_has_listener(void)
{
    return listener_find() != NULL;
}

struct end *network_connect(void)
{
    struct end *listener = listener_find();
    if (listener == NULL || listener->backlog_count == 32) {
        return NULL;
    }
    struct end *client = end_new(END_STREAM, END_CLIENT);
    struct end *accepted = end_new(END_STREAM, END_PRODUCT);
    join(client, accepted, next_port++, PROXY_PORT);
    listener->backlog[listener->backlog_count++] = (uint16_t)(accepted - ends);
    notify(listener, EV_READ);
    return client;
}

void network_address(const struct end *end, char *text, size_t capacity)
{
    (void)snprintf(text, capacity, "127.0.0.1:%u", end->peer_port);
}

void network_reset(void)
{
    while (on_their_way.next != &on_their_way) {
        piece_free(on_their_way.next);
    }
    for (size_t i = 0; i < ENDS_MAX; i++) {
        bytes_free(&ends[i].incoming);
        ends[i] = (struct end){.generation = 0};
    }
    next_port = LOCAL_PORT_FIRST;
}

/* ------------------------------------------------------------------ sockets of the product */

int __wrap_socket(int family, int type, int protocol)
{
    (void)family;
    (void)type;
    (void)protocol;
    return descriptor_of(end_new(END_STREAM, END_PRODUCT));
}

int __wrap_bind(int descriptor, const struct sockaddr *address, socklen_t size)
{
    (void)address;
    (void)size;
    end_of(descriptor)->kind = END_LISTENER;
    return 0;
}

int __wrap_listen(int descriptor, int backlog)
{
    (void)backlog;
    end_of(descriptor)->port = PROXY_PORT;
    return 0;
}

static void put_address(uint16_t port, struct sockaddr *ret_address, socklen_t *ret_size)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    assert(*ret_size >= sizeof address);
    memcpy(ret_address, &address, sizeof address);
    *ret_size = sizeof address;
}

int __wrap_accept4(int descriptor, struct sockaddr *ret_peer, socklen_t *ret_size, int flags)
{
    struct end *listener = end_of(descriptor);
    (void)flags;
    if (listener->backlog_count == 0) {
        errno = EAGAIN;
        return -1;
    }
    struct end *accepted = &ends[listener->backlog[0]];
    memmove(listener->backlog, listener->backlog + 1,
            --listener->backlog_count * sizeof listener->backlog[0]);
    put_address(accepted->peer_port, ret_peer, ret_size);
    return descriptor_of(accepted);
}

int __wrap_connect(int descriptor, const struct sockaddr *address, socklen_t size)
{
    struct end *end = end_of(descriptor);
    struct end *for_client = *fiber_slot();
    (void)address;
    (void)size;
    /* The proxy registers a client's connection, and then at once makes that to the server. */
    if (for_client != NULL && for_client->used && for_client->onward == NULL) {
        for_client->onward = end;
        for_client->onward_generation = end->generation;
        end->sends_tag = for_client->tag;
    }
    end->connecting = true;
    if (server_accepts()) {
        struct end *server = end_new(END_STREAM, END_SERVER);
        join(end, server, next_port++, 27017);
        server_connected(server);
        post(server, end, PIECE_CONNECTED, NULL, 0, 0);
    } else {
        post(NULL, end, PIECE_REFUSED, NULL, 0, 0);
    }
    errno = EINPROGRESS;
    return -1;
}

ssize_t __wrap_recv(int descriptor, void *memory, size_t size, int flags)
{
    struct end *end = end_of(descriptor);
    (void)flags;
    if (end->reset) {
        errno = ECONNRESET;
        return -1;
    }
    if (end->incoming.size == 0) {
        errno = EAGAIN;
        return end->ended ? 0 : -1;
    }
    size_t taken = end->incoming.size < size ? end->incoming.size : size;
    memcpy(memory, end->incoming.data, taken);
    bytes_consume(&end->incoming, taken);
    return (ssize_t)taken;
}

ssize_t __wrap_send(int descriptor, const void *memory, size_t size, int flags)
{
    struct end *end = end_of(descriptor);
    (void)flags;
    if (end->reset) {
        errno = EPIPE;
        return -1;
    }
    if (end->stuffed_until_us > sim.now_us) {
        errno = EAGAIN;
        return -1;
    }
    if (size > 1 && random_chance(sim.profile.slow, 20000)) {
        /* The peer is slow to take it. */
        uint64_t us = 1 + random_below(50000);
        size = 1 + random_below(size - 1);
        end->stuffed_until_us = sim.now_us + us;
        struct piece *room = sim_malloc(sizeof *room);
        *room = (struct piece){.to = end, .generation = end->generation, .kind = PIECE_ROOM};
        room->next = &on_their_way;
        room->previous = on_their_way.previous;
        on_their_way.previous->next = room;
        on_their_way.previous = room;
        schedule_after(us, arrive, room, 0);
    }
    network_send(end, memory, size, end->sends_tag);
    return (ssize_t)size;
}

int __wrap_close(int descriptor)
{
    if (!is_ours(descriptor)) {
        return __real_close(descriptor);
    }
    struct end *end = end_of(descriptor);
    network_close(end, end->abort_on_close);
    return 0;
}

int __wrap_shutdown(int descriptor, int how)
{
    (void)descriptor;
    (void)how;
    assert(!"nothing of what is simulated half-closes");
    return -1;
}

/* Between the two processes of an upgrade, of which there is none here. */
int __wrap_socketpair(int domain, int type, int protocol, int ends_of_pair[2])
{
    (void)domain;
    (void)type;
    (void)protocol;
    (void)ends_of_pair;
    assert(!"nothing is upgraded in the simulation");
    return -1;
}

ssize_t __wrap_sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    (void)descriptor;
    (void)message;
    (void)flags;
    assert(!"nothing is upgraded in the simulation");
    return -1;
}

ssize_t __wrap_recvmsg(int descriptor, struct msghdr *message, int flags)
{
    (void)descriptor;
    (void)message;
    (void)flags;
    assert(!"nothing is upgraded in the simulation");
    return -1;
}

int __wrap_setsockopt(int descriptor, int level, int name, const void *value, socklen_t size)
{
    (void)value;
    (void)size;
    if (level == SOL_SOCKET && name == SO_LINGER) {
        end_of(descriptor)->abort_on_close = true;
    }
    return 0;
}

int __wrap_getsockopt(int descriptor, int level, int name, void *value, socklen_t *size)
{
    int failure = end_of(descriptor)->reset ? ECONNREFUSED : 0;
    assert(level == SOL_SOCKET && name == SO_ERROR && *size == sizeof failure);
    memcpy(value, &failure, sizeof failure);
    return 0;
}

int __wrap_getsockname(int descriptor, struct sockaddr *ret_address, socklen_t *ret_size)
{
    put_address(end_of(descriptor)->port, ret_address, ret_size);
    return 0;
}

int __wrap_poll(struct pollfd *descriptors, nfds_t count, int timeout)
{
    assert(timeout == 0);
    for (nfds_t i = 0; i < count; i++) {
        descriptors[i].revents = 0;
    }
    return 0;
}

int __wrap_eventfd(unsigned value, int flags)
{
    struct end *end = end_new(END_BELL, END_PRODUCT);
    (void)flags;
    end->rings = value;
    return descriptor_of(end);
}

ssize_t __wrap_read(int descriptor, void *memory, size_t size)
{
    if (!is_ours(descriptor)) {
        return __real_read(descriptor, memory, size);
    }
    struct end *end = end_of(descriptor);
    if (end->rings == 0) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(memory, &end->rings, sizeof end->rings);
    end->rings = 0;
    return sizeof end->rings;
}

ssize_t __wrap_write(int descriptor, const void *memory, size_t size)
{
    if (descriptor == STDERR_FILENO && fiber_is_product()) {
        if (sim.verbose) {
            (void)fflush(stdout);
            return __real_write(STDOUT_FILENO, memory, size);
        }
        return (ssize_t)size;
    }
    if (!is_ours(descriptor)) {
        return __real_write(descriptor, memory, size);
    }
    end_of(descriptor)->rings++;
    notify(end_of(descriptor), EV_READ);
    return (ssize_t)size;
}

/* ------------------------------------------------------------------ libevent */

#define EVENTS_MAX 256

struct registered {
    struct event *event;
    uint64_t at_us; /* UINT64_MAX: no time */
    uint64_t period_us;
    bool active;
};

struct event_base {
    struct registered events[EVENTS_MAX];
    size_t count;
    bool breaking;
};

struct event_config *event_config_new(void)
{
    return malloc(1);
}

void event_config_free(struct event_config *config)
{
    free(config);
}

int event_config_set_flag(struct event_config *config, int flag)
{
    (void)config;
    (void)flag;
    return 0;
}

int event_config_require_features(struct event_config *config, int features)
{
    (void)config;
    (void)features;
    return 0;
}

struct event_base *event_base_new_with_config(const struct event_config *config)
{
    (void)config;
    return calloc(1, sizeof(struct event_base));
}

void event_base_free(struct event_base *base)
{
    free(base);
}

int event_base_loopbreak(struct event_base *base)
{
    base->breaking = true;
    return 0;
}

int event_assign(struct event *event, struct event_base *base, evutil_socket_t descriptor,
                 short what, event_callback_fn callback, void *argument)
{
    memset(event, 0, sizeof *event);
    event->ev_base = base;
    event->ev_fd = descriptor;
    event->ev_events = what;
    event->ev_evcallback.evcb_cb_union.evcb_callback = callback;
    event->ev_evcallback.evcb_arg = argument;
    return 0;
}

struct event *event_new(struct event_base *base, evutil_socket_t descriptor, short what,
                        event_callback_fn callback, void *argument)
{
    struct event *event = malloc(sizeof *event);
    (void)event_assign(event, base, descriptor, what, callback, argument);
    return event;
}

static struct registered *find(const struct event *event)
{
    struct event_base *base = event->ev_base;
    for (size_t i = 0; base != NULL && i < base->count; i++) {
        if (base->events[i].event == event) {
            return &base->events[i];
        }
    }
    return NULL;
}

static struct registered *find_or_add(struct event *event)
{
    struct registered *registered = find(event);
    if (registered == NULL) {
        struct event_base *base = event->ev_base;
        assert(base->count < EVENTS_MAX);
        registered = &base->events[base->count++];
        *registered = (struct registered){.event = event, .at_us = UINT64_MAX};
    }
    return registered;
}

int event_add(struct event *event, const struct timeval *timeout)
{
    struct registered *registered = find_or_add(event);
    if (timeout != NULL) {
        uint64_t us = (uint64_t)timeout->tv_sec * 1000000u + (uint64_t)timeout->tv_usec;
        registered->at_us = sim.now_us + us;
        registered->period_us = (event->ev_events & EV_PERSIST) != 0 ? us : 0;
    }
    if (event->ev_fd >= 0) {
        struct end *end = end_of(event->ev_fd);
        end->base = event->ev_base;
        if (end->kind == END_STREAM && !end->connecting) {
            end->edges = (short)(EV_WRITE | (end->incoming.size > 0 ? EV_READ : 0) |
                                 (end->ended ? EV_READ | EV_CLOSED : 0));
            *fiber_slot() = end;
        }
    }
    fiber_wake_all(event->ev_base);
    return 0;
}

int event_del(struct event *event)
{
    struct registered *registered = find(event);
    if (registered != NULL) {
        struct event_base *base = event->ev_base;
        *registered = base->events[--base->count];
    }
    return 0;
}

void event_free(struct event *event)
{
    (void)event_del(event);
    free(event);
}

void event_active(struct event *event, int what, short calls)
{
    (void)what;
    (void)calls;
    find_or_add(event)->active = true;
    fiber_wake_all(event->ev_base);
}

/* What is ready of it; 0: nothing. */
static short ready(const struct registered *registered)
{
    const struct event *event = registered->event;
    if (registered->active || registered->at_us <= sim.now_us) {
        return EV_TIMEOUT;
    }
    if (event->ev_fd < 0) {
        return 0;
    }
    const struct end *end = end_of(event->ev_fd);
    switch (end->kind) {
    case END_LISTENER:
        return end->backlog_count > 0 ? EV_READ : 0;
    case END_BELL:
        return end->rings > 0 ? EV_READ : 0;
    case END_STREAM:
        return (short)(end->edges & event->ev_events);
    }
    return 0;
}

static void call(struct event_base *base, size_t at, short what)
{
    struct registered *registered = &base->events[at];
    struct event *event = registered->event;
    if (what == EV_TIMEOUT) {
        registered->active = false;
        if (registered->at_us <= sim.now_us) {
            registered->at_us =
                registered->period_us > 0 ? sim.now_us + registered->period_us : UINT64_MAX;
        }
        if (registered->at_us == UINT64_MAX && event->ev_fd < 0) {
            *registered = base->events[--base->count];
        }
    } else if (end_of(event->ev_fd)->kind == END_STREAM) {
        end_of(event->ev_fd)->edges = 0;
    }
    event->ev_evcallback.evcb_cb_union.evcb_callback(event->ev_fd, what,
                                                     event->ev_evcallback.evcb_arg);
}

int event_base_dispatch(struct event_base *base)
{
    while (!base->breaking) {
        size_t count = 0;
        size_t chosen = 0;
        uint64_t next_us = UINT64_MAX;
        for (size_t i = 0; i < base->count; i++) {
            next_us = base->events[i].at_us < next_us ? base->events[i].at_us : next_us;
            if (ready(&base->events[i]) != 0) {
                count++;
                chosen = count == 1 || random_below(count) == 0 ? i : chosen;
            }
        }
        if (count == 0) {
            (void)fiber_wait(base, next_us);
            continue;
        }
        call(base, chosen, ready(&base->events[chosen]));
        fiber_preempt();
    }
    return 0;
}

/* ------------------------------------------------------------------ io_uring */

/* As on a kernel that has none for us: what waits for the end of a turn is sent one by one. */
struct send_ring *send_ring_new(unsigned count)
{
    (void)count;
    errno = EPERM;
    return NULL;
}

struct send_ring *send_ring_free(struct send_ring *ring)
{
    (void)ring;
    return NULL;
}

bool send_ring_run(struct send_ring *ring, struct send_ring_operation *operations, size_t count)
{
    (void)ring;
    (void)operations;
    (void)count;
    abort();
}
