#ifndef HOLDFAST_TESTS_FRONT_RIG_H
#define HOLDFAST_TESTS_FRONT_RIG_H

/*
 * A real front between sockets of the test's own: the test is caller and service in turn, and the
 * calls are those of fake_call.h. Nothing waits longer than a few seconds.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_call.h"
#include "front/front.h"
#include "holdfast/log.h"

struct rig {
    struct worker_pool *pool;
    struct front *front;
    int listener; /* the service's */
    char service_text[64];
    struct front_service service;
    struct front_options options;
};

static inline int rig_listen(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(descriptor, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(descriptor, 16), 0);
    assert_int_equal(getsockname(descriptor, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return descriptor;
}

/* Call rig_start() after changing what is to be changed in rig->service and rig->options. */
static inline void rig_init(struct rig *rig)
{
    uint16_t port;
    struct error error;
    memset(rig, 0, sizeof *rig);
    fake_reset();
    log_set_level(LOG_ERROR + 1);
    rig->listener = rig_listen(&port);
    (void)snprintf(rig->service_text, sizeof rig->service_text, "127.0.0.1:%u", port);
    rig->service = (struct front_service){.name = "shop",
                                          .listen = "127.0.0.1:0",
                                          .inside_listen = "127.0.0.1:0",
                                          .service_text = rig->service_text,
                                          .peers = ""};
    assert_int_equal(network_address_resolve(rig->service_text, &rig->service.service, &error),
                     STATUS_OK);
    rig->options = (struct front_options){.service_count = 1,
                                          .call_timeout_ms = 10000,
                                          .answer_bytes_max = 16u * 1024u * 1024u,
                                          .connections_max = 100,
                                          .routes = "",
                                          .kept_ms = 60000}; /* however slow the machine */
}

static inline void rig_start(struct rig *rig)
{
    struct error error;
    assert_int_equal(worker_pool_start(2, &rig->pool, &error), STATUS_OK);
    rig->options.workers = rig->pool;
    rig->options.services = &rig->service;
    if (front_start(&rig->options, &rig->front, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
}

static inline void rig_stop(struct rig *rig)
{
    struct front_figures figures;
    front_drain(rig->front);
    front_stop(rig->front);
    front_figures_get(rig->front, &figures);
    assert_int_equal(figures.connections, 0);
    worker_pool_stop(rig->pool);
    front_free(rig->front);
    if (rig->listener >= 0) {
        (void)close(rig->listener);
    }
}

static inline void set_patience(int descriptor, int milliseconds)
{
    struct timeval patience = {.tv_sec = milliseconds / 1000,
                               .tv_usec = milliseconds % 1000 * 1000};
    int on = 1;
    (void)setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline int connect_to(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_patience(descriptor, 5000);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&to, sizeof to), 0);
    return descriptor;
}

static inline int caller_connect(const struct rig *rig)
{
    return connect_to(front_address(rig->front, 0, false));
}

static inline int service_accept(const struct rig *rig)
{
    set_patience(rig->listener, 5000);
    int descriptor = accept(rig->listener, NULL, NULL);
    assert_true(descriptor >= 0);
    set_patience(descriptor, 5000);
    return descriptor;
}

static inline void send_bytes(int descriptor, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send(descriptor, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent <= 0) {
            fail_msg("cannot send: %s", strerror(errno));
        }
        at += sent;
        size -= (size_t)sent;
    }
}

static inline void send_text(int descriptor, const char *text)
{
    send_bytes(descriptor, text, strlen(text));
}

/* A packet a byte, more or less. */
static inline void send_slowly(int descriptor, const char *text)
{
    for (; *text != '\0'; text++) {
        send_bytes(descriptor, text, 1);
        (void)nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL);
    }
}

static inline size_t receive_bytes(int descriptor, void *memory, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t received = recv(descriptor, (char *)memory + got, size - got, 0);
        if (received <= 0) {
            break;
        }
        got += (size_t)received;
    }
    return got;
}

static inline void expect_text(int descriptor, const char *text)
{
    size_t size = strlen(text);
    char *got = calloc(1, size + 1);
    (void)receive_bytes(descriptor, got, size);
    assert_string_equal(got, text);
    free(got);
}

/* Up to its empty line. The caller frees it. */
static inline char *receive_head(int descriptor)
{
    char *head = calloc(1, 128 * 1024);
    size_t size = 0;
    while (strstr(head, "\r\n\r\n") == NULL && receive_bytes(descriptor, head + size, 1) == 1) {
        size++;
    }
    return head;
}

/* Nothing comes for a while. */
static inline void expect_silence(int descriptor)
{
    char byte;
    set_patience(descriptor, 60);
    assert_int_equal(recv(descriptor, &byte, 1, 0), -1);
    assert_true(errno == EAGAIN || errno == EWOULDBLOCK);
    set_patience(descriptor, 5000);
}

static inline void expect_end(int descriptor)
{
    char byte;
    assert_int_equal(recv(descriptor, &byte, 1, 0), 0);
    (void)close(descriptor);
}

/* An answer of the front's own. */
static inline void expect_refusal(int descriptor, const char *status, const char *reason)
{
    char *head = receive_head(descriptor);
    char body[1024] = "";
    char wanted[128];
    (void)snprintf(wanted, sizeof wanted, "HTTP/1.1 %s ", status);
    if (strstr(head, wanted) == NULL) {
        fail_msg("not %sbut: %s; %s", wanted, head, fake.log);
    }
    const char *length = strstr(head, "Content-Length: ");
    assert_non_null(length);
    size_t size = strtoul(length + 16, NULL, 10);
    assert_true(size < sizeof body);
    assert_int_equal(receive_bytes(descriptor, body, size), size);
    (void)snprintf(wanted, sizeof wanted, "\"reason\": \"%s\"", reason);
    assert_non_null(strstr(body, wanted));
    free(head);
}

#endif
