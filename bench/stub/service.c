/*
 * See service.h. Calls that work wait for the same time, so that they end in the order in which
 * they began: one queue, one timer for its head.
 *
 *   caller:  IDLE --request--> WORKING --time--> WRITING --last write's reply--> IDLE (answered)
 *
 * Invariant: a caller's memory goes when its connection has ended and it is IDLE.
 */
#include "bench/stub/service.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/buffer.h"
#include "bench/load/http_text.h"
#include "bench/load/link.h"
#include "bench/load/nanoseconds.h"
#include "bench/stub/store.h"
#include "bench/stub/watched.h"

#define EVENTS_AT_A_TIME 64
#define TRACEPARENT_BYTES_MAX 128u

enum caller_state {
    CALLER_IDLE,
    CALLER_WORKING,
    CALLER_WRITING,
};

struct caller {
    struct watched watched; /* first; its descriptor is -1 when the connection has ended */
    struct service *service;
    enum caller_state state;
    struct buffer incoming;
    uint8_t traceparent[TRACEPARENT_BYTES_MAX];
    uint32_t writes_left;
    uint64_t due_ns;         /* WORKING */
    struct caller *due_next; /* WORKING */
    struct store_write write;
    struct caller *next; /* of all */
    struct caller *previous;
};

struct service {
    const struct bench_serve *options;
    int epoll;
    struct watched listener;
    struct watched signals;
    struct watched timer;
    struct store *store; /* NULL: no call writes */
    struct caller *callers;
    struct caller *due_first; /* those that work, the first to end first */
    struct caller *due_last;
    uint64_t calls;
    uint64_t writes;
    uint64_t refused;
    enum status failed; /* what ends the service */
    struct error error;
    uint8_t receive_buffer[HTTP_MESSAGE_BYTES_MAX];
};

/* ------------------------------------------------------------------ callers */

static void caller_free(struct caller *caller)
{
    struct service *service = caller->service;
    *(caller->previous == NULL ? &service->callers : &caller->previous->next) = caller->next;
    if (caller->next != NULL) {
        caller->next->previous = caller->previous;
    }
    buffer_free(&caller->incoming);
    free(caller);
}

static void caller_lose(struct caller *caller)
{
    (void)close(caller->watched.descriptor);
    caller->watched.descriptor = -1;
    if (caller->state == CALLER_IDLE) {
        caller_free(caller);
    }
}

static void answer(struct caller *caller, const struct error *refused)
{
    char text[1024];
    const char *body = refused == NULL ? "{\"ok\": true}\n" : refused->message;
    caller->state = CALLER_IDLE;
    caller->service->calls++;
    if (caller->watched.descriptor < 0) {
        caller_free(caller);
        return;
    }
    int size = snprintf(text, sizeof text,
                        "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                        refused == NULL ? "200 OK" : "500 Internal Server Error",
                        refused == NULL ? "application/json" : "text/plain", strlen(body), body);
    struct error error = {0};
    if (size < 0 || (size_t)size >= sizeof text ||
        link_send(caller->watched.descriptor, slice_make(text, (size_t)size), &error) !=
            STATUS_OK) {
        caller_lose(caller);
    }
}

static void fail(struct service *service, enum status status)
{
    service->failed = status; /* its reason is in service->error */
}

static void write_next(struct caller *caller)
{
    struct service *service = caller->service;
    if (caller->writes_left == 0) {
        answer(caller, NULL);
        return;
    }
    caller->state = CALLER_WRITING;
    caller->writes_left--;
    enum status status = store_begin(service->store, &caller->write, &service->error);
    if (status != STATUS_OK) {
        fail(service, status);
    }
}

static void on_written(struct store_write *write, const struct error *error)
{
    struct caller *caller =
        (struct caller *)(void *)((char *)write - offsetof(struct caller, write));
    caller->service->writes++;
    if (error != NULL) {
        caller->service->refused++;
        answer(caller, error);
    } else {
        write_next(caller);
    }
}

/* ------------------------------------------------------------------ work */

static void timer_set(struct service *service)
{
    uint64_t at = service->due_first == NULL ? 0 : service->due_first->due_ns;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(at / NS_PER_SECOND),
                                           .tv_nsec = (long)(at % NS_PER_SECOND)}};
    (void)timerfd_settime(service->timer.descriptor, TFD_TIMER_ABSTIME, &when, NULL);
}

static void work(struct caller *caller)
{
    struct service *service = caller->service;
    caller->state = CALLER_WORKING;
    caller->due_ns = nanoseconds_now() + service->options->work_ns;
    caller->due_next = NULL;
    if (service->due_first == NULL) {
        service->due_first = caller;
        timer_set(service);
    } else {
        service->due_last->due_next = caller;
    }
    service->due_last = caller;
}

static void work_done(struct service *service)
{
    uint64_t now = nanoseconds_now();
    uint64_t ignored;
    (void)!read(service->timer.descriptor, &ignored, sizeof ignored);
    while (service->due_first != NULL && service->due_first->due_ns <= now) {
        struct caller *caller = service->due_first;
        service->due_first = caller->due_next;
        write_next(caller);
    }
    timer_set(service);
}

/* ------------------------------------------------------------------ requests */

static bool only_reads(struct slice method)
{
    return slice_equal(method, slice_text("GET"));
}

/* /writes/N: so many; anything else: as the options say. */
static uint32_t writes_of(const struct service *service, struct slice path)
{
    const struct slice prefix = slice_text(SERVICE_WRITES_PATH);
    struct slice front;
    uint32_t number = 0;
    if (!slice_take(&path, prefix.size, &front) || !slice_equal(front, prefix)) {
        return service->options->writes;
    }
    for (size_t i = 0; i < path.size && path.data[i] >= '0' && path.data[i] <= '9'; i++) {
        number = number * 10 + (uint32_t)(path.data[i] - '0');
        if (number > LOAD_WRITES_MAX) {
            return service->options->writes;
        }
    }
    return number;
}

static void begin_call(struct caller *caller, const struct http_message *request)
{
    const struct service *service = caller->service;
    size_t size = request->traceparent.size;
    if (size > 0) {
        memcpy(caller->traceparent, request->traceparent.data, size);
    }
    caller->write =
        (struct store_write){.done = on_written, .traceparent = {caller->traceparent, size}};
    caller->writes_left = service->store == NULL || only_reads(request->method)
                              ? 0
                              : writes_of(service, request->path);
    if (service->options->work_ns > 0) {
        work(caller);
    } else {
        write_next(caller);
    }
}

/* A caller sends its next request when this one is answered: what comes is never more than one. */
static void take_request(struct caller *caller)
{
    struct http_message request;
    enum http_found found = http_message_parse(buffer_slice(&caller->incoming), &request);
    if (found == HTTP_PART) {
        return;
    }
    if (found == HTTP_BROKEN || request.status != 0 || request.size != caller->incoming.size ||
        request.traceparent.size > TRACEPARENT_BYTES_MAX) {
        caller_lose(caller);
        return;
    }
    struct buffer taken = caller->incoming;
    buffer_init(&caller->incoming, HTTP_MESSAGE_BYTES_MAX);
    begin_call(caller, &request); /* the caller may be gone behind this */
    buffer_free(&taken);
}

static void caller_readable(struct caller *caller)
{
    struct service *service = caller->service;
    ssize_t received = recv(caller->watched.descriptor, service->receive_buffer,
                            sizeof service->receive_buffer, MSG_DONTWAIT);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (received <= 0 || caller->state != CALLER_IDLE ||
        buffer_append(&caller->incoming, service->receive_buffer, (size_t)received) != STATUS_OK) {
        caller_lose(caller);
        return;
    }
    take_request(caller);
}

static bool watch(struct service *service, struct watched *watched)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watched};
    return epoll_ctl(service->epoll, EPOLL_CTL_ADD, watched->descriptor, &event) == 0;
}

static void accept_callers(struct service *service)
{
    const struct timeval silence = {.tv_sec = LINK_SILENCE_SECONDS};
    int on = 1;
    int descriptor;
    while ((descriptor = accept4(service->listener.descriptor, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct caller *caller = calloc(1, sizeof *caller);
        (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
        if (caller == NULL) {
            (void)close(descriptor);
            return;
        }
        caller->watched = (struct watched){.kind = WATCHED_CALLER, .descriptor = descriptor};
        caller->service = service;
        buffer_init(&caller->incoming, HTTP_MESSAGE_BYTES_MAX);
        caller->next = service->callers;
        if (caller->next != NULL) {
            caller->next->previous = caller;
        }
        service->callers = caller;
        if (!watch(service, &caller->watched)) {
            caller_lose(caller);
        }
    }
}

/* ------------------------------------------------------------------ the loop */

static enum status set_up(struct service *service, struct error *ret_error)
{
    const struct bench_serve *options = service->options;
    char address[NETWORK_ADDRESS_TEXT_BYTES];
    sigset_t ends;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ends, NULL);
    service->epoll = epoll_create1(EPOLL_CLOEXEC);
    service->signals.descriptor = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    service->timer.descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    enum status status =
        listener_bind(options->listen, &service->listener.descriptor, address, ret_error);
    if (status == STATUS_OK &&
        (!watch(service, &service->signals) || !watch(service, &service->timer) ||
         !watch(service, &service->listener))) {
        status = error_set(ret_error, STATUS_IO, "cannot set up: %s", strerror(errno));
    }
    if (status == STATUS_OK && options->mongo != NULL) {
        status = store_open(&options->address, options->connections, options->documents,
                            options->first_document, service->epoll, &service->store, ret_error);
    }
    if (status == STATUS_OK) {
        printf("listening on %s\n", address);
        (void)fflush(stdout);
    }
    return status;
}

static void tear_down(struct service *service)
{
    const int descriptors[] = {service->listener.descriptor, service->signals.descriptor,
                               service->timer.descriptor, service->epoll};
    for (struct caller *next, *caller = service->callers; caller != NULL; caller = next) {
        next = caller->next;
        caller->state = CALLER_IDLE;
        if (caller->watched.descriptor >= 0) {
            caller_lose(caller);
        } else {
            caller_free(caller);
        }
    }
    service->store = store_close(service->store);
    for (size_t i = 0; i < sizeof descriptors / sizeof descriptors[0]; i++) {
        if (descriptors[i] >= 0) {
            (void)close(descriptors[i]);
        }
    }
}

/* False: the service is to end. */
static bool take_event(struct service *service, struct watched *watched)
{
    enum status status = STATUS_OK;
    switch (watched->kind) {
    case WATCHED_LISTENER:
        accept_callers(service);
        break;
    case WATCHED_SIGNALS:
        return false;
    case WATCHED_TIMER:
        work_done(service);
        break;
    case WATCHED_CALLER:
        caller_readable((struct caller *)watched);
        break;
    case WATCHED_STORE:
        status = store_readable(service->store, watched, &service->error);
        if (status != STATUS_OK) {
            fail(service, status);
        }
        break;
    }
    return service->failed == STATUS_OK;
}

static void loop(struct service *service)
{
    struct epoll_event events[EVENTS_AT_A_TIME];
    for (;;) {
        int count = epoll_wait(service->epoll, events, EVENTS_AT_A_TIME, -1);
        for (int i = 0; i < count; i++) {
            if (!take_event(service, events[i].data.ptr)) {
                return;
            }
        }
    }
}

enum status service_serve(const struct bench_serve *options, struct error *ret_error)
{
    struct service *service = calloc(1, sizeof *service);
    if (service == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    service->options = options;
    service->epoll = -1;
    service->listener = (struct watched){WATCHED_LISTENER, -1};
    service->signals = (struct watched){WATCHED_SIGNALS, -1};
    service->timer = (struct watched){WATCHED_TIMER, -1};
    enum status status = set_up(service, ret_error);
    if (status == STATUS_OK) {
        loop(service);
        printf("calls %" PRIu64 ", writes %" PRIu64 ", refused %" PRIu64 "\n", service->calls,
               service->writes, service->refused);
        (void)fflush(stdout);
        status = service->failed;
        if (status != STATUS_OK) {
            (void)error_set(ret_error, status, "%s", service->error.message);
        }
    }
    tear_down(service);
    free(service);
    return status;
}
