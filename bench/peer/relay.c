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

struct thread {
    pthread_t thread;
    int listener;
    int epoll;
    const struct network_address *address;
    struct end *closed; /* freed when no event of this turn may name them */
    uint8_t *bytes;
};

static void close_both(struct thread *thread, struct end *end)
{
    struct end *both[] = {end, end->peer};
    for (int i = 0; i < 2 && !end->closed; i++) {
        (void)close(both[i]->descriptor);
    }
    for (int i = 0; i < 2; i++) {
        if (!both[i]->closed) {
            both[i]->closed = true;
            both[i]->next_closed = thread->closed;
            thread->closed = both[i];
        }
    }
}

static void free_closed(struct thread *thread)
{
    while (thread->closed != NULL) {
        struct end *end = thread->closed;
        thread->closed = end->next_closed;
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
static void pump(struct thread *thread, struct end *end)
{
    struct end *peer = end->peer;
    while (end->readable && peer->pending.size == 0 && !peer->connecting) {
        ssize_t received =
            recv(end->descriptor, thread->bytes, LIMIT_RECEIVE_BUFFER_BYTES, MSG_DONTWAIT);
        if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
            end->readable = false;
            return;
        }
        ssize_t sent = received <= 0 ? -1 : send_some(peer, thread->bytes, (size_t)received);
        if (sent < 0 || buffer_append(&peer->pending, thread->bytes + sent,
                                      (size_t)(received - sent)) != STATUS_OK) {
            close_both(thread, end);
            return;
        }
        /* Less than there was room for: the socket is empty, and a new byte is told again. Its end
           is told once. */
        end->readable = end->finished || received == (ssize_t)LIMIT_RECEIVE_BUFFER_BYTES;
    }
}

static void writable(struct thread *thread, struct end *end)
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
        close_both(thread, end);
        return;
    }
    buffer_consume(&end->pending, (size_t)sent);
    pump(thread, end->peer);
}

static void take_event(struct thread *thread, struct end *end, uint32_t events)
{
    if (!end->closed && (events & EPOLLOUT) != 0 && (end->connecting || end->pending.size > 0)) {
        writable(thread, end);
    }
    if (!end->closed && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        end->readable = true;
        end->finished = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        pump(thread, end);
    }
}

static bool watch(const struct thread *thread, struct end *end)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = end};
    return epoll_ctl(thread->epoll, EPOLL_CTL_ADD, end->descriptor, &event) == 0;
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

static void take_client(struct thread *thread, int descriptor)
{
    const struct network_address *address = thread->address;
    int server = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct end *ends[2] = {end_new(descriptor), end_new(server)};
    bool begun = server >= 0 && ends[0] != NULL && ends[1] != NULL &&
                 (connect(server, (const struct sockaddr *)&address->storage, address->size) == 0 ||
                  errno == EINPROGRESS);
    if (!begun) {
        free(ends[0]);
        free(ends[1]);
        (void)close(descriptor);
        if (server >= 0) {
            (void)close(server);
        }
        return;
    }
    ends[1]->connecting = true;
    ends[0]->peer = ends[1];
    ends[1]->peer = ends[0];
    if (!watch(thread, ends[0]) || !watch(thread, ends[1])) {
        close_both(thread, ends[0]);
    }
}

static void *serve(void *context)
{
    struct thread *thread = context;
    struct epoll_event events[EVENTS_AT_A_TIME];
    for (;;) {
        int count = epoll_wait(thread->epoll, events, EVENTS_AT_A_TIME, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                int descriptor;
                while ((descriptor = accept4(thread->listener, NULL, NULL,
                                             SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
                    take_client(thread, descriptor);
                }
            } else {
                take_event(thread, events[i].data.ptr, events[i].events);
            }
        }
        free_closed(thread);
    }
    return NULL;
}

static enum status start_thread(struct thread *thread, int listener,
                                const struct network_address *address, struct error *ret_error)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = NULL};
    thread->listener = listener;
    thread->address = address;
    thread->epoll = epoll_create1(EPOLL_CLOEXEC);
    thread->bytes = malloc(LIMIT_RECEIVE_BUFFER_BYTES);
    if (thread->epoll < 0 || thread->bytes == NULL ||
        epoll_ctl(thread->epoll, EPOLL_CTL_ADD, listener, &event) != 0 ||
        pthread_create(&thread->thread, NULL, serve, thread) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
    }
    return STATUS_OK;
}

enum status relay_serve(const struct bench_serve *options, struct error *ret_error)
{
    static struct thread threads[THREADS_MAX]; /* they end with the process */
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
        status = start_thread(&threads[i], listener, &options->address, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    printf("listening on %s\n", address);
    (void)fflush(stdout);
    (void)sigwait(&ends, &signal);
    return STATUS_OK;
}
