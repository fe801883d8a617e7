/*
 * See instant.h. One thread answers; another one, a relay, has the connections that ask for more.
 *
 *     client --message--> known? --> answered at once, from one buffer that all share
 *                             `no--> relay: a connection to the server, this message first
 *
 * A client costs its struct, and a buffer only while half a message of it is here.
 */
#include "bench/peer/instant.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "bench/load/link.h"
#include "bench/peer/relay.h"
#include "holdfast/limits.h"
#include "net/descriptors.h"
#include "wire/op_msg.h"

#define EVENTS_AT_A_TIME 64
#define LISTENERS_MAX 2
/* A longer message is none of those that are answered. */
#define MESSAGE_BYTES_MAX 65536u

struct client {
    int descriptor;
    bool is_listener;
    struct buffer partial; /* the begin of a message */
};

struct instant {
    int epoll;
    struct buffer hello; /* the reply to it, a message */
    struct slice hello_document;
    struct relay *relay;
    struct buffer out; /* empty between two turns */
    uint8_t *bytes;
};

static void drop(struct client *client)
{
    (void)close(client->descriptor);
    buffer_free(&client->partial);
    free(client);
}

/* It asks for more: the rest is the relay's. */
static void hand_over(struct instant *instant, struct client *client, struct slice rest)
{
    (void)epoll_ctl(instant->epoll, EPOLL_CTL_DEL, client->descriptor, NULL);
    relay_take(instant->relay, client->descriptor, rest);
    buffer_free(&client->partial);
    free(client);
}

/* Answers what is whole. True: what is left is the begin of a message that may be answered. */
static bool answer_all(struct instant *instant, struct slice *bytes)
{
    struct wire_header header;
    while (bytes->size >= WIRE_HEADER_BYTES) {
        if (wire_header_parse(*bytes, &header) != STATUS_OK || header.length > MESSAGE_BYTES_MAX) {
            return false;
        }
        if (header.length > bytes->size) {
            return true;
        }
        if (!instant_answer(slice_front(*bytes, header.length), instant->hello_document,
                            &instant->out)) {
            return false;
        }
        *bytes = slice_rest(*bytes, header.length);
    }
    return true;
}

/* Nobody has so many requests on their way that the answers do not fit its socket. */
static bool send_out(struct instant *instant, const struct client *client)
{
    size_t size = instant->out.size;
    ssize_t sent =
        size == 0 ? 0
                  : send(client->descriptor, instant->out.data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    buffer_clear(&instant->out);
    return sent == (ssize_t)size;
}

static void readable(struct instant *instant, struct client *client)
{
    ssize_t received =
        recv(client->descriptor, instant->bytes, LIMIT_RECEIVE_BUFFER_BYTES, MSG_DONTWAIT);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (received <= 0) {
        drop(client);
        return;
    }
    struct slice bytes = slice_make(instant->bytes, (size_t)received);
    bool was_partial = client->partial.size > 0;
    if (was_partial) {
        if (buffer_append(&client->partial, bytes.data, bytes.size) != STATUS_OK) {
            drop(client);
            return;
        }
        bytes = buffer_slice(&client->partial);
    }
    bool goes_on = answer_all(instant, &bytes);
    if (!send_out(instant, client)) {
        drop(client);
    } else if (!goes_on) {
        hand_over(instant, client, bytes);
    } else if (was_partial) {
        buffer_consume(&client->partial, client->partial.size - bytes.size);
        if (client->partial.size == 0) {
            buffer_free(&client->partial);
        }
    } else if (buffer_append(&client->partial, bytes.data, bytes.size) != STATUS_OK) {
        drop(client);
    }
}

static bool watch(const struct instant *instant, int descriptor, bool is_listener)
{
    struct client *client = calloc(1, sizeof *client);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (client != NULL) {
        client->descriptor = descriptor;
        client->is_listener = is_listener;
        buffer_init(&client->partial, LIMIT_RECEIVE_BUFFER_BYTES + MESSAGE_BYTES_MAX);
    }
    if (client == NULL || epoll_ctl(instant->epoll, EPOLL_CTL_ADD, descriptor, &event) != 0) {
        free(client);
        (void)close(descriptor);
        return false;
    }
    return true;
}

static void accept_all(const struct instant *instant, int listener)
{
    int descriptor;
    int on = 1;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)watch(instant, descriptor, false);
    }
}

static void serve(struct instant *instant)
{
    struct epoll_event events[EVENTS_AT_A_TIME];
    for (;;) {
        int count = epoll_wait(instant->epoll, events, EVENTS_AT_A_TIME, -1);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client == NULL) {
                return; /* a signal ends it */
            }
            if (client->is_listener) {
                accept_all(instant, client->descriptor);
            } else {
                readable(instant, client);
            }
        }
    }
}

/* ------------------------------------------------------------------ setting up */

static enum status ask_hello(struct instant *instant, const struct network_address *server,
                             struct error *ret_error)
{
    struct reply_view view;
    struct op_msg message;
    int descriptor;
    enum status status = link_connect(server, &descriptor, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    bson_t *hello = BCON_NEW("hello", BCON_INT32(1), "$db", BCON_UTF8("admin"));
    status = link_ask(descriptor, hello, "hello", &instant->hello, &view, ret_error);
    bson_destroy(hello);
    (void)close(descriptor);
    if (status == STATUS_OK) {
        status = op_msg_parse(buffer_slice(&instant->hello), &message);
        instant->hello_document = message.body;
    }
    return status;
}

static enum status listen_at(const struct instant *instant, const char *text, char *address,
                             struct error *ret_error)
{
    int listener;
    enum status status = listener_bind(text, &listener, address, ret_error);
    return status != STATUS_OK || watch(instant, listener, true)
               ? status
               : error_set(ret_error, STATUS_IO, "cannot watch %s: %s", address, strerror(errno));
}

static enum status set_up(struct instant *instant, const struct bench_serve *options, char *address,
                          struct error *ret_error)
{
    char local[NETWORK_ADDRESS_TEXT_BYTES];
    struct epoll_event ends = {.events = EPOLLIN, .data.ptr = NULL};
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    int descriptor = signalfd(-1, &signals, SFD_CLOEXEC);
    instant->epoll = epoll_create1(EPOLL_CLOEXEC);
    instant->bytes = malloc(LIMIT_RECEIVE_BUFFER_BYTES);
    if (descriptor < 0 || instant->epoll < 0 || instant->bytes == NULL ||
        epoll_ctl(instant->epoll, EPOLL_CTL_ADD, descriptor, &ends) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot set up: %s", strerror(errno));
    }
    buffer_init(&instant->hello, LIMIT_MESSAGE_BYTES_MAX);
    buffer_init(&instant->out, LIMIT_MESSAGE_BYTES_MAX);
    enum status status = ask_hello(instant, &options->address, ret_error);
    if (status == STATUS_OK) {
        status = relay_start(&options->address, &instant->relay, ret_error);
    }
    if (status == STATUS_OK && options->local != NULL) {
        status = listen_at(instant, options->local, local, ret_error);
    }
    return status == STATUS_OK ? listen_at(instant, options->listen, address, ret_error) : status;
}

enum status instant_serve(const struct bench_serve *options, struct error *ret_error)
{
    static struct instant instant; /* it ends with the process */
    char address[NETWORK_ADDRESS_TEXT_BYTES];
    (void)descriptors_raise();
    enum status status = set_up(&instant, options, address, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    printf("listening on %s\n", address);
    (void)fflush(stdout);
    serve(&instant);
    return STATUS_OK;
}
