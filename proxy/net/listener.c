/*
 * Listening sockets. The socket belongs to the caller's thread until its event is added, and after
 * that to the worker, which accepts until a task of ours takes the event away again.
 *
 * Out of descriptors (EMFILE): accepting pauses for a moment instead of spinning on a
 * level-triggered event; clients wait in the kernel's queue.
 */
#include "net/listener.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "holdfast/log.h"
#include "net/listening.h"

#define BACKLOG 1024
static const struct timeval accept_pause = {.tv_sec = 0, .tv_usec = 100 * 1000};

struct listener {
    int descriptor;
    struct worker *worker;
    struct event *event;
    struct event *pause_event;
    bool short_of_descriptors; /* told, and nothing was accepted since */
    bool paused;               /* by listener_pause(); the worker's */
    void (*accepted)(void *context, int descriptor, const struct sockaddr *peer,
                     socklen_t peer_size);
    void *context;
    char address[NETWORK_ADDRESS_TEXT_BYTES];
    struct worker_task task;
    sem_t done;
};

static struct listener *listener_of(struct worker_task *task)
{
    return (struct listener *)(void *)((uint8_t *)task - offsetof(struct listener, task));
}

static enum status path_resolve(const char *path, struct network_address *ret_address,
                                struct error *ret_error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size >= sizeof address.sun_path) {
        return error_set(ret_error, STATUS_INVALID, "\"%s\" is too long for a socket's path", path);
    }
    memcpy(address.sun_path, path, size + 1);
    memcpy(&ret_address->storage, &address, sizeof address);
    ret_address->size = sizeof address;
    return STATUS_OK;
}

enum status network_address_resolve(const char *host_and_port, struct network_address *ret_address,
                                    struct error *ret_error)
{
    char host[256];
    size_t prefix = strncmp(host_and_port, NETWORK_LOCAL_PREFIX, strlen(NETWORK_LOCAL_PREFIX)) == 0
                        ? strlen(NETWORK_LOCAL_PREFIX)
                        : 0;
    if (host_and_port[prefix] == '/') {
        return path_resolve(host_and_port + prefix, ret_address, ret_error);
    }
    const char *colon = strrchr(host_and_port, ':');
    if (colon == NULL || colon[1] == '\0' || (size_t)(colon - host_and_port) >= sizeof host) {
        return error_set(ret_error, STATUS_INVALID, "\"%s\" is not HOST:PORT", host_and_port);
    }
    size_t size = (size_t)(colon - host_and_port);
    memcpy(host, host_and_port, size);
    host[size] = '\0';
    char *name = host;
    if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
        host[size - 1] = '\0';
        name = host + 1;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(name[0] == '\0' ? NULL : name, colon + 1, &hints, &found);
    if (failure != 0) {
        return error_set(ret_error, STATUS_UNREACHABLE, "cannot resolve \"%s\": %s", host_and_port,
                         gai_strerror(failure));
    }
    memcpy(&ret_address->storage, found->ai_addr, found->ai_addrlen);
    ret_address->size = found->ai_addrlen;
    freeaddrinfo(found);
    return STATUS_OK;
}

/* The path; only "unix" of a client's end, which has none. */
static void local_text(const struct sockaddr *address, socklen_t size, char *text)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    memcpy(&local, address, size < sizeof local ? size : sizeof local);
    local.sun_path[sizeof local.sun_path - 1] = '\0';
    (void)snprintf(text, NETWORK_ADDRESS_TEXT_BYTES, "unix%s%.58s",
                   local.sun_path[0] == '\0' ? "" : ":", local.sun_path);
}

void network_address_text(const struct sockaddr *address, socklen_t size, char *text)
{
    char host[48];
    char port[8];
    if (address->sa_family == AF_UNIX) {
        local_text(address, size, text);
        return;
    }
    if (getnameinfo(address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        (void)snprintf(text, NETWORK_ADDRESS_TEXT_BYTES, "unknown");
        return;
    }
    bool brackets = address->sa_family == AF_INET6;
    (void)snprintf(text, NETWORK_ADDRESS_TEXT_BYTES, brackets ? "[%s]:%s" : "%s:%s", host, port);
}

static void on_pause_over(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct listener *listener = context;
    if (!listener->paused) {
        (void)event_add(listener->event, NULL);
    }
}

static void on_acceptable(evutil_socket_t descriptor, short what, void *context)
{
    (void)what;
    struct listener *listener = context;
    for (int burst = 0; burst < 64; burst++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int accepted =
            accept4((int)descriptor, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                if (!listener->short_of_descriptors) {
                    LOG(LOG_ERROR, "net", "Cannot accept connections, pausing",
                        LOG_TEXT("reason", strerror(errno)));
                }
                listener->short_of_descriptors = true;
                (void)event_del(listener->event);
                (void)event_add(listener->pause_event, &accept_pause);
            }
            return;
        }
        listener->short_of_descriptors = false;
        listener->accepted(listener->context, accepted, (struct sockaddr *)&peer, size);
    }
}

static void on_start(struct worker_task *task)
{
    struct listener *listener = listener_of(task);
    struct event_base *base = worker_base(listener->worker);
    listener->event =
        event_new(base, listener->descriptor, EV_READ | EV_PERSIST, on_acceptable, listener);
    listener->pause_event = event_new(base, -1, 0, on_pause_over, listener);
    if (listener->event != NULL) {
        (void)event_add(listener->event, NULL);
    }
    (void)sem_post(&listener->done);
}

static void on_pause(struct worker_task *task)
{
    struct listener *listener = listener_of(task);
    listener->paused = true;
    (void)event_del(listener->event);
    (void)sem_post(&listener->done);
}

static void on_resume(struct worker_task *task)
{
    struct listener *listener = listener_of(task);
    listener->paused = false;
    (void)event_add(listener->event, NULL);
    (void)sem_post(&listener->done);
}

static void on_stop(struct worker_task *task)
{
    struct listener *listener = listener_of(task);
    event_free(listener->event);
    event_free(listener->pause_event);
    (void)sem_post(&listener->done);
}

static void run_on_worker(struct listener *listener, void (*run)(struct worker_task *))
{
    listener->task.run = run;
    worker_post(listener->worker, &listener->task);
    while (sem_wait(&listener->done) != 0) {
        assert(errno == EINTR);
    }
}

static void tell_address(int descriptor, char *ret_address)
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound;
    if (ret_address != NULL && getsockname(descriptor, (struct sockaddr *)&bound, &size) == 0) {
        network_address_text((struct sockaddr *)&bound, size, ret_address);
    }
}

/* What a process left that was killed: a socket's file at which nobody listens. */
static void remove_stale(const struct network_address *address)
{
    const struct sockaddr_un *local = (const struct sockaddr_un *)(const void *)&address->storage;
    struct stat about;
    if (address->storage.ss_family != AF_UNIX || lstat(local->sun_path, &about) != 0 ||
        !S_ISSOCK(about.st_mode)) {
        return;
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe >= 0 && connect(probe, (const struct sockaddr *)local, address->size) != 0 &&
        errno == ECONNREFUSED) {
        (void)unlink(local->sun_path);
    }
    if (probe >= 0) {
        (void)close(probe);
    }
}

enum status listener_bind(const char *host_and_port, int *ret_descriptor, char *ret_address,
                          struct error *ret_error)
{
    struct network_address address;
    int inherited = listening_take(host_and_port);
    if (inherited >= 0) {
        tell_address(inherited, ret_address);
        listening_note(host_and_port, inherited);
        *ret_descriptor = inherited;
        return STATUS_OK;
    }
    enum status status = network_address_resolve(host_and_port, &address, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    int descriptor =
        socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return error_set(ret_error, STATUS_IO, "cannot make a socket: %s", strerror(errno));
    }
    int on = 1;
    (void)setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    remove_stale(&address);
    if (bind(descriptor, (struct sockaddr *)&address.storage, address.size) != 0 ||
        listen(descriptor, BACKLOG) != 0) {
        int failure = errno;
        (void)close(descriptor);
        return error_set(
            ret_error, failure == EADDRINUSE ? STATUS_EXISTS : STATUS_IO,
            "cannot listen on %s: %s%s", host_and_port, strerror(failure),
            failure == EADDRINUSE ? " (another program has this port: choose another one)" : "");
    }
    tell_address(descriptor, ret_address);
    listening_note(host_and_port, descriptor);
    *ret_descriptor = descriptor;
    return STATUS_OK;
}

enum status listener_open(const char *host_and_port, struct worker *worker,
                          void (*accepted)(void *, int, const struct sockaddr *, socklen_t),
                          void *context, struct listener **ret_listener, struct error *ret_error)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status =
        listener_bind(host_and_port, &listener->descriptor, listener->address, ret_error);
    if (status != STATUS_OK) {
        free(listener);
        return status;
    }
    listener->worker = worker;
    listener->accepted = accepted;
    listener->context = context;
    (void)sem_init(&listener->done, 0, 0);
    run_on_worker(listener, on_start);
    if (listener->event == NULL || listener->pause_event == NULL) {
        listening_forget(listener->descriptor);
        (void)close(listener->descriptor);
        free(listener);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    *ret_listener = listener;
    return STATUS_OK;
}

const char *listener_address(const struct listener *listener)
{
    return listener->address;
}

void listener_pause(struct listener *listener, bool paused)
{
    run_on_worker(listener, paused ? on_pause : on_resume);
}

struct listener *listener_close(struct listener *listener)
{
    if (listener == NULL) {
        return NULL;
    }
    run_on_worker(listener, on_stop);
    listening_forget(listener->descriptor);
    (void)close(listener->descriptor);
    (void)sem_destroy(&listener->done);
    free(listener);
    return NULL;
}
