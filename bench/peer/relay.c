/*
 * See relay.h. Each thread has an epoll set and accepts for itself; both ends of a connection
 * belong to the thread that accepted it.
 *
 *     client end <--peer--> server end     each holds what its socket did not take (`pending`),
 *                                          and then is not read from, until it has been taken
 *
 * Invariant: an end is read only while its peer has nothing pending, so pending is never more than
 * what one read brought.
 */
#include "bench/peer/relay.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "holdfast/limits.h"
#include "net/descriptors.h"

#define EVENTS_AT_A_TIME 64
#define THREADS_MAX 256u

struct end {
    int descriptor;
    bool connecting;
    bool readable; /* what was told of it has not been read */
    bool finished; /* the other side will send no more */
    bool closed;
    struct end *peer;
    struct end *next_closed;
    struct buffer pending; /* to be sent to it */
};

struct relay {
    pthread_t thread;
    int listener; /* -1: none, it is handed its connections */
    int epoll;
    const struct network_address *address;
    struct end *closed; /* freed when no event of this turn may name them */
    uint8_t *bytes;
};

static void close_both(struct relay *relay, struct end *end)
{
    struct end *both[] = {end, end->peer};
    for (int i = 0; i < 2 && !end->closed; i++) {
        (void)close(both[i]->descriptor);
    }
    for (int i = 0; i < 2; i++) {
        if (!both[i]->closed) {
            both[i]->closed = true;
            both[i]->next_closed = relay->closed;
            relay->closed = both[i];
        }
    }
}

static void free_closed(struct relay *relay)
{
    while (relay->closed != NULL) {
        struct end *end = relay->closed;
        relay->closed = end->next_closed;
        buffer_free(&end->pending);
        free(end);
    }
}

/* How many bytes it took; -1: it is broken. */
static ssize_t send_some(struct end *end, const uint8_t *bytes, size_t size)
{
    ssize_t sent = send(end->descriptor, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    return sent;
}

/* Moves what came to `end` on to its peer, as long as that takes it. */
static void pump(struct relay *relay, struct end *end)
{
    struct end *peer = end->peer;
    while (end->readable && peer->pending.size == 0 && !peer->connecting) {
        ssize_t received =
            recv(end->descriptor, relay->bytes, LIMIT_RECEIVE_BUFFER_BYTES, MSG_DONTWAIT);
        if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
            end->readable = false;
            return;
        }
        ssize_t sent = received <= 0 ? -1 : send_some(peer, relay->bytes, (size_t)received);
        if (sent < 0 || buffer_append(&peer->pending, relay->bytes + sent,
                                      (size_t)(received - sent)) != STATUS_OK) {
            close_both(relay, end);
            return;
        }
        /* Less than there was room for: the socket is empty, and a new byte is told again. Its end
           is told once. */
        end->readable = end->finished || received == (ssize_t)LIMIT_RECEIVE_BUFFER_BYTES;
    }
}

static void writable(struct relay *relay, struct end *end)
{
    int broken = 0;
    socklen_t size = sizeof broken;
    if (end->connecting) {
        (void)getsockopt(end->descriptor, SOL_SOCKET, SO_ERROR, &broken, &size);
        end->connecting = false;
    }
    ssize_t sent = 0;
    if (end->pending.size > 0) {
        sent = send_some(end, end->pending.data, end->pending.size);
    }
    if (broken != 0 || sent < 0) {
        close_both(relay, end);
        return;
    }
    buffer_consume(&end->pending, (size_t)sent);
    pump(relay, end->peer);
}

static void take_event(struct relay *relay, struct end *end, uint32_t events)
{
    if (!end->closed && (events & EPOLLOUT) != 0 && (end->connecting || end->pending.size > 0)) {
        writable(relay, end);
    }
    if (!end->closed && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        end->readable = true;
        end->finished = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        pump(relay, end);
    }
}

static bool watch(const struct relay *relay, struct end *end)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = end};
    return epoll_ctl(relay->epoll, EPOLL_CTL_ADD, end->descriptor, &event) == 0;
}

static struct end *end_new(int descriptor)
{
    struct end *end = calloc(1, sizeof *end);
    int on = 1;
    if (end != NULL) {
        end->descriptor = descriptor;
        buffer_init(&end->pending, LIMIT_RECEIVE_BUFFER_BYTES);
        (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return end;
}

/* The server's end is watched first: what fails before that is nobody else's yet. */
static bool begin(const struct relay *relay, struct end *client, struct end *server,
                  struct slice first)
{
    const struct network_address *address = relay->address;
    server->connecting = true;
    server->peer = client;
    client->peer = server;
    return buffer_append(&server->pending, first.data, first.size) == STATUS_OK &&
           (connect(server->descriptor, (const struct sockaddr *)&address->storage,
                    address->size) == 0 ||
            errno == EINPROGRESS) &&
           watch(relay, server);
}

void relay_take(struct relay *relay, int descriptor, struct slice first)
{
    int family = relay->address->storage.ss_family;
    int server = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct end *ends[2] = {end_new(descriptor), end_new(server)};
    if (server < 0 || ends[0] == NULL || ends[1] == NULL ||
        !begin(relay, ends[0], ends[1], first)) {
        if (ends[1] != NULL) {
            buffer_free(&ends[1]->pending);
        }
        free(ends[0]);
        free(ends[1]);
        (void)close(descriptor);
        if (server >= 0) {
            (void)close(server);
        }
    } else if (!watch(relay, ends[0])) {
        (void)shutdown(server, SHUT_RDWR); /* the relay's thread sees it, and closes both */
    }
}

static void *serve(void *context)
{
    struct relay *relay = context;
    struct epoll_event events[EVENTS_AT_A_TIME];
    for (;;) {
        int count = epoll_wait(relay->epoll, events, EVENTS_AT_A_TIME, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                int descriptor;
                while ((descriptor = accept4(relay->listener, NULL, NULL,
                                             SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
                    relay_take(relay, descriptor, slice_make(NULL, 0));
                }
            } else {
                take_event(relay, events[i].data.ptr, events[i].events);
            }
        }
        free_closed(relay);
    }
    return NULL;
}

static enum status start_thread(struct relay *relay, int listener,
                                const struct network_address *address, struct error *ret_error)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = NULL};
    relay->listener = listener;
    relay->address = address;
    relay->epoll = epoll_create1(EPOLL_CLOEXEC);
    relay->bytes = malloc(LIMIT_RECEIVE_BUFFER_BYTES);
    if (relay->epoll < 0 || relay->bytes == NULL ||
        (listener >= 0 && epoll_ctl(relay->epoll, EPOLL_CTL_ADD, listener, &event) != 0) ||
        pthread_create(&relay->thread, NULL, serve, relay) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
    }
    return STATUS_OK;
}

enum status relay_start(const struct network_address *address, struct relay **ret_relay,
                        struct error *ret_error)
{
    struct relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    *ret_relay = relay; /* its thread ends with the process */
    return start_thread(relay, -1, address, ret_error);
}

enum status relay_serve(const struct bench_serve *options, struct error *ret_error)
{
    static struct relay relays[THREADS_MAX]; /* they end with the process */
    char address[NETWORK_ADDRESS_TEXT_BYTES];
    sigset_t ends;
    int listener;
    int signal;
    (void)descriptors_raise();
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
    enum status status = listener_bind(options->listen, &listener, address, ret_error);
    for (uint32_t i = 0; i < options->threads && i < THREADS_MAX && status == STATUS_OK; i++) {
        status = start_thread(&relays[i], listener, &options->address, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    printf("listening on %s\n", address);
    (void)fflush(stdout);
    (void)sigwait(&ends, &signal);
    return STATUS_OK;
}
