/*
 * The connections of libmongoc: nothing leaves on them without a permit (holdfast/write_permit.h).
 *
 * upstream.c asks before a command, but until its bytes leave, libmongoc may have to connect anew
 * and log in, for seconds. So it is asked where they leave: libmongoc gets a stream of its own over
 * a socket made here, whose function that sends is ours.
 *
 * Threads: the struct upstream's.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "holdfast/write_permit.h"
#include "upstream/private.h"

typedef ssize_t send_function(mongoc_stream_t *stream, mongoc_iovec_t *parts, size_t count,
                              int32_t timeout_ms);

static send_function *_Atomic libmongoc_send; /* the same for all streams over sockets */

static ssize_t permitted_send(mongoc_stream_t *stream, mongoc_iovec_t *parts, size_t count,
                              int32_t timeout_ms)
{
    ssize_t sent = -1;
    if (write_permit_enter()) {
        sent = atomic_load(&libmongoc_send)(stream, parts, count, timeout_ms);
        write_permit_leave();
    } else {
        write_permit_leave();
        errno = EPIPE;
    }
    return sent;
}

/* NULL: it cannot be reached. */
static mongoc_socket_t *connect_to(int family, const struct sockaddr *address, socklen_t size,
                                   int64_t until_us)
{
    mongoc_socket_t *made = mongoc_socket_new(family, SOCK_STREAM, 0);
    if (made != NULL && mongoc_socket_connect(made, address, size, until_us) != 0) {
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

static mongoc_socket_t *connect_by_path(const mongoc_host_list_t *host, int64_t until_us)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(host->host) >= sizeof address.sun_path) {
        return NULL;
    }
    memcpy(address.sun_path, host->host, strlen(host->host) + 1);
    return connect_to(AF_UNIX, (const struct sockaddr *)&address, sizeof address, until_us);
}

static mongoc_socket_t *connect_by_name(const mongoc_host_list_t *host, int64_t until_us)
{
    struct addrinfo hints = {.ai_family = host->family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    mongoc_socket_t *made = NULL;
    char port[8];
    (void)snprintf(port, sizeof port, "%u", (unsigned)host->port);
    if (getaddrinfo(host->host, port, &hints, &found) != 0) {
        return NULL;
    }
    for (const struct addrinfo *at = found; at != NULL && made == NULL; at = at->ai_next) {
        made = connect_to(at->ai_family, at->ai_addr, at->ai_addrlen, until_us);
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
    int64_t wait_ms = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, 10000);
    int64_t until_us = bson_get_monotonic_time() + wait_ms * 1000;
    mongoc_socket_t *connected =
        host->family == AF_UNIX ? connect_by_path(host, until_us) : connect_by_name(host, until_us);
    if (connected == NULL) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT,
                       "Failed to connect to: %s", host->host_and_port);
        return NULL;
    }
    return stream_over(connected, upstream->exempt, uri, host, (int32_t)wait_ms, error);
}
