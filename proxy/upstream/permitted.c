/*
 * The connections of libmongoc: nothing leaves on them without a permit (holdfast/write_permit.h),
 * and nobody waits on them for longer than the end of the process may take (patience.h).
 *
 * upstream.c asks before a command, but until its bytes leave, libmongoc may have to connect anew
 * and log in, for seconds. So it is asked where they leave: libmongoc gets a stream of its own over
 * a socket made here, whose functions that send and that wait are ours. TLS stands above them.
 *
 * Threads: the struct upstream's.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "holdfast/clock.h"
#include "holdfast/write_permit.h"
#include "upstream/patience.h"
#include "upstream/private.h"

typedef ssize_t send_function(mongoc_stream_t *stream, mongoc_iovec_t *parts, size_t count,
                              int32_t timeout_ms);

typedef ssize_t receive_function(mongoc_stream_t *stream, mongoc_iovec_t *parts, size_t count,
                                 size_t at_least, int32_t timeout_ms);
typedef ssize_t poll_function(mongoc_stream_poll_t *streams, size_t count, int32_t timeout_ms);

/* The same for all streams over sockets. */
static send_function *_Atomic libmongoc_send;
static receive_function *_Atomic libmongoc_receive;
static poll_function *_Atomic libmongoc_poll;

static ssize_t permitted_send(mongoc_stream_t *stream, mongoc_iovec_t *parts, size_t count,
                              int32_t timeout_ms)
{
    ssize_t sent = -1;
    if (patience_is_over(clock_monotonic_ms())) {
        errno = EPIPE;
    } else if (write_permit_enter()) {
        sent = atomic_load(&libmongoc_send)(stream, parts, count, timeout_ms);
        write_permit_leave();
    } else {
        write_permit_leave();
        errno = EPIPE;
    }
    return sent;
}

/* ------------------------------------------------------------------ waiting */

static ssize_t patient_poll(mongoc_stream_poll_t *streams, size_t count, int32_t timeout_ms)
{
    uint64_t began_ms = clock_monotonic_ms();
    for (;;) {
        int32_t next_ms = patience_next_ms(began_ms, timeout_ms);
        ssize_t ready = atomic_load(&libmongoc_poll)(streams, count, next_ms);
        if (ready != 0) {
            return ready;
        }
        if (patience_is_over(began_ms)) {
            for (size_t i = 0; i < count; i++) {
                streams[i].revents = POLLERR;
            }
            return (ssize_t)count;
        }
        if (next_ms == 0) {
            return 0;
        }
    }
}

/* Takes `size` bytes off the front. */
static void parts_advance(mongoc_iovec_t **parts, size_t *count, size_t size)
{
    while (*count > 0 && size >= (*parts)->iov_len) {
        size -= (*parts)->iov_len;
        (*parts)++;
        (*count)--;
    }
    if (*count > 0) {
        (*parts)->iov_base = (char *)(*parts)->iov_base + size;
        (*parts)->iov_len -= size;
    }
}

/* Waits here, and has libmongoc take what is there: it keeps nothing of what it has taken when a
   wait of its own has been too long. */
static ssize_t patient_receive(mongoc_stream_t *stream, mongoc_iovec_t *parts, size_t count,
                               size_t at_least, int32_t timeout_ms)
{
    uint64_t began_ms = clock_monotonic_ms();
    size_t taken = 0;
    for (;;) {
        mongoc_stream_poll_t wait = {.stream = stream, .events = POLLIN};
        int32_t next_ms = patience_next_ms(began_ms, timeout_ms);
        if (atomic_load(&libmongoc_poll)(&wait, 1, next_ms) == 0 && next_ms > 0) {
            if (patience_is_over(began_ms)) {
                errno = ETIMEDOUT;
                return -1;
            }
            continue;
        }
        ssize_t size = atomic_load(&libmongoc_receive)(stream, parts, count, 1, 0);
        if (size <= 0) {
            return taken >= at_least ? (ssize_t)taken : -1;
        }
        patience_answered();
        taken += (size_t)size;
        parts_advance(&parts, &count, (size_t)size);
        if (count == 0 || taken >= at_least) {
            return (ssize_t)taken;
        }
    }
}

static bool is_connecting(int code)
{
    return code == EINPROGRESS || code == EAGAIN || code == EINTR || code == ETIMEDOUT;
}

/* Begins, waits, and asks how it went: connecting once more says so. */
static bool patient_connect(mongoc_socket_t *made, const struct sockaddr *address, socklen_t size,
                            int32_t wait_ms)
{
    uint64_t began_ms = clock_monotonic_ms();
    if (patience_is_over(began_ms)) {
        return false;
    }
    if (mongoc_socket_connect(made, address, size, 0) == 0) {
        return true;
    }
    if (!is_connecting(mongoc_socket_errno(made))) {
        return false;
    }
    for (;;) {
        mongoc_socket_poll_t wait = {.socket = made, .events = POLLOUT};
        int32_t next_ms = patience_next_ms(began_ms, wait_ms);
        if (mongoc_socket_poll(&wait, 1, next_ms) != 0) {
            return mongoc_socket_connect(made, address, size, 0) == 0;
        }
        if (next_ms == 0 || patience_is_over(began_ms)) {
            return false;
        }
    }
}

/* ------------------------------------------------------------------ connecting */

/* NULL: it cannot be reached. */
static mongoc_socket_t *connect_to(int family, const struct sockaddr *address, socklen_t size,
                                   int32_t wait_ms)
{
    mongoc_socket_t *made = mongoc_socket_new(family, SOCK_STREAM, 0);
    if (made != NULL && !patient_connect(made, address, size, wait_ms)) {
        mongoc_socket_destroy(made);
        made = NULL;
    }
    if (made != NULL && family != AF_UNIX) {
        unsigned resend_ms = WRITE_PERMIT_RESEND_MS;
        (void)mongoc_socket_setsockopt(made, IPPROTO_TCP, TCP_USER_TIMEOUT, &resend_ms,
                                       sizeof resend_ms);
    }
    return made;
}

static mongoc_socket_t *connect_by_path(const mongoc_host_list_t *host, int32_t wait_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(host->host) >= sizeof address.sun_path) {
        return NULL;
    }
    memcpy(address.sun_path, host->host, strlen(host->host) + 1);
    return connect_to(AF_UNIX, (const struct sockaddr *)&address, sizeof address, wait_ms);
}

/* All its addresses together have wait_ms. */
static mongoc_socket_t *connect_by_name(const mongoc_host_list_t *host, int32_t wait_ms)
{
    struct addrinfo hints = {.ai_family = host->family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    mongoc_socket_t *made = NULL;
    char port[8];
    uint64_t began_ms = clock_monotonic_ms();
    (void)snprintf(port, sizeof port, "%u", (unsigned)host->port);
    if (getaddrinfo(host->host, port, &hints, &found) != 0) {
        return NULL;
    }
    for (const struct addrinfo *at = found; at != NULL && made == NULL; at = at->ai_next) {
        uint64_t passed_ms = clock_monotonic_ms() - began_ms;
        int32_t left_ms = passed_ms < (uint64_t)wait_ms ? wait_ms - (int32_t)passed_ms : 0;
        made = connect_to(at->ai_family, at->ai_addr, at->ai_addrlen, left_ms);
    }
    freeaddrinfo(found);
    return made;
}

/* NULL: TLS failed, `error` says why. */
static mongoc_stream_t *stream_over(mongoc_socket_t *connected, bool exempt,
                                    const mongoc_uri_t *uri, const mongoc_host_list_t *host,
                                    int32_t wait_ms, bson_error_t *error)
{
    mongoc_stream_t *stream = mongoc_stream_socket_new(connected);
    atomic_store(&libmongoc_receive, stream->readv);
    atomic_store(&libmongoc_poll, stream->poll);
    stream->readv = patient_receive;
    stream->poll = patient_poll;
    if (!exempt) {
        atomic_store(&libmongoc_send, stream->writev);
        stream->writev = permitted_send;
    }
    if (mongoc_uri_get_tls(uri)) {
        stream = tls_stream_over(stream, uri, host->host, wait_ms, error);
    }
    return stream == NULL ? NULL : mongoc_stream_buffered_new(stream, 1024);
}

mongoc_stream_t *permitted_connect(const mongoc_uri_t *uri, const mongoc_host_list_t *host,
                                   void *context, bson_error_t *error)
{
    const struct upstream *upstream = context;
    int32_t wait_ms = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, 10000);
    mongoc_socket_t *connected =
        host->family == AF_UNIX ? connect_by_path(host, wait_ms) : connect_by_name(host, wait_ms);
    if (connected == NULL) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT,
                       "Failed to connect to: %s", host->host_and_port);
        return NULL;
    }
    return stream_over(connected, upstream->exempt, uri, host, wait_ms, error);
}
