/*
 * Non-blocking TCP connections on a worker's event loop; see stream.h for the flow.
 *
 * Invariants: pending is not empty only while !writable, and nothing waits in the send queue then;
 * after `ended` nothing is sent but what was accepted before, unless the owner has set `half_open`
 * and the end was an orderly one.
 * Thread: the worker's.
 */
#include "net/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "holdfast/limits.h"
#include "holdfast/write_permit.h"
#include "net/send_queue.h"
#include "net/stream_pair.h"
#include "net/stream_tls.h"

static ssize_t plain_receive(struct stream *stream, void *memory, size_t size)
{
    return recv(stream->descriptor, memory, size, 0);
}

static ssize_t plain_send(struct stream *stream, const void *memory, size_t size)
{
    return send(stream->descriptor, memory, size, MSG_NOSIGNAL);
}

const struct stream_transport stream_transport_plain = {
    .receive = plain_receive,
    .send = plain_send,
};

static ssize_t permitted_send(struct stream *stream, const void *memory, size_t size)
{
    if (!write_permit_is_up()) {
        /* Makes the event by which the owner learns of a break. */
        (void)shutdown(stream->descriptor, SHUT_RDWR);
        errno = EPIPE;
        return -1;
    }
    return send(stream->descriptor, memory, size, MSG_NOSIGNAL);
}

const struct stream_transport stream_transport_permitted = {
    .receive = plain_receive,
    .send = permitted_send,
};

void stream_init(struct stream *stream)
{
    *stream = (struct stream){.descriptor = -1, .transport = &stream_transport_plain};
    /* One message may be waiting whole, and a rewritten one beside it. */
    stream->pending.limit = 2u * LIMIT_MESSAGE_BYTES_MAX;
}

static enum status flush_pending(struct stream *stream)
{
    while (stream->pending.size > 0) {
        ssize_t sent = stream->transport->send(stream, stream->pending.data, stream->pending.size);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            stream->writable = false;
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                return STATUS_OK;
            }
            stream->ended = true;
            stream->broken = true;
            return STATUS_UNREACHABLE;
        }
        buffer_consume(&stream->pending, (size_t)sent);
    }
    buffer_free(&stream->pending); /* idle connections keep no memory */
    return STATUS_OK;
}

/* Told by the loop, as the end of input. */
static void break_later(struct stream *stream)
{
    stream->ended = true;
    stream->broken = true;
    stream->writable = false;
    stream->readable = true;
    stream_kick(stream);
}

bool stream_may_send(const struct stream *stream)
{
    return stream->transport != &stream_transport_permitted || write_permit_is_up();
}

void stream_sent(struct stream *stream, struct slice bytes, ssize_t result)
{
    struct slice done;
    if (result == -EAGAIN || result == -EWOULDBLOCK || result == -EINTR) {
        result = 0;
    }
    if (result < 0 || !slice_take(&bytes, (size_t)result, &done)) {
        break_later(stream);
        return;
    }
    if (bytes.size > 0 && (buffer_append(&stream->pending, bytes.data, bytes.size) != STATUS_OK ||
                           flush_pending(stream) != STATUS_OK)) {
        break_later(stream);
    }
}

void stream_flush(struct stream *stream)
{
    struct slice bytes = send_queue_take(stream);
    if (bytes.size > 0) {
        ssize_t sent = stream->transport->send(stream, bytes.data, bytes.size);
        stream_sent(stream, bytes, sent < 0 ? -errno : sent);
    }
}

static void on_connected(struct stream *stream)
{
    int failure = 0;
    socklen_t size = sizeof failure;
    if (getsockopt(stream->descriptor, SOL_SOCKET, SO_ERROR, &failure, &size) != 0) {
        failure = errno;
    }
    stream->connecting = false;
    stream->writable = failure == 0;
    stream->callbacks->connected(stream->context, failure == 0 ? STATUS_OK : STATUS_UNREACHABLE);
}

static void on_event(evutil_socket_t descriptor, short what, void *context)
{
    struct stream *stream = context;
    if (stream->connecting) {
        on_connected(stream);
        return;
    }
    if ((what & EV_WRITE) != 0) {
        stream->writable = true;
        if (stream->tls != NULL && stream_tls_shutdown_waits(stream)) {
            stream->callbacks->drained(stream->context);
        } else if (stream->pending.size > 0) {
            /* A break shows as the end of input, too: told there, in one place. */
            bool broken = flush_pending(stream) != STATUS_OK;
            if (!broken && stream->pending.size == 0) {
                stream->callbacks->drained(stream->context);
            }
            stream->readable = stream->readable || broken;
        }
    }
    if (stream->descriptor == (int)descriptor && (what & EV_CLOSED) != 0) {
        stream->peer_closed = true;
        stream->readable = true;
    }
    /* The callback may have closed it, even opened another one in its place. */
    if (stream->descriptor == (int)descriptor &&
        ((what & (EV_READ | EV_CLOSED)) != 0 || stream->ended)) {
        stream->readable = true;
        stream->callbacks->readable(stream->context);
    }
}

void stream_take_event(struct stream *stream, short what)
{
    if (stream->descriptor >= 0) {
        on_event(stream->descriptor, what, stream);
    }
}

/* Of a stream that was opened to speak TLS, whether it does by now or turned out to be plain. */
static void on_tls_event(evutil_socket_t descriptor, short what, void *context)
{
    struct stream *stream = context;
    if (stream->tls == NULL || !stream_tls_event(stream, &what)) {
        on_event(descriptor, what, context);
    }
}

static void on_kick(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct stream *stream = context;
    if (stream->descriptor >= 0 && stream->readable) {
        stream->callbacks->readable(stream->context);
    }
}

/* A peer that has vanished without a word is found by its silence, even while nothing is sent. */
static void keep_alive(int descriptor)
{
    int on = 1;
    int idle_s = STREAM_SILENCE_S;
    int interval_s = STREAM_PROBE_S;
    int probes = STREAM_PROBES;
    (void)setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static enum status attach(struct stream *stream, struct worker *worker, int descriptor,
                          const struct stream_callbacks *callbacks, void *context)
{
    stream->descriptor = descriptor;
    stream->callbacks = callbacks;
    stream->context = context;
    int on = 1;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    keep_alive(descriptor);
    const struct stream_transport *carrier =
        stream->tls == NULL ? stream->transport : stream_tls_below(stream);
    if (carrier == &stream_transport_permitted) {
        unsigned resend_ms = STREAM_RESEND_MS;
        (void)setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &resend_ms, sizeof resend_ms);
    }
    struct event_base *base = worker_base(worker);
    if (event_assign(&stream->event, base, descriptor,
                     EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
                     stream->tls == NULL ? on_event : on_tls_event, stream) != 0 ||
        event_assign(&stream->kick_event, base, -1, 0, on_kick, stream) != 0 ||
        event_add(&stream->event, NULL) != 0) {
        (void)close(descriptor);
        stream->descriptor = -1;
        return STATUS_MEMORY;
    }
    if (stream->tls != NULL) {
        stream_tls_attached(stream, base);
    } else if (stream->gathers) {
        stream->sends = worker_sends(worker);
    }
    return STATUS_OK;
}

enum status stream_open(struct stream *stream, struct worker *worker, int descriptor,
                        const struct stream_callbacks *callbacks, void *context)
{
    stream->writable = true;
    return attach(stream, worker, descriptor, callbacks, context);
}

enum status stream_connect(struct stream *stream, struct worker *worker,
                           const struct sockaddr *address, size_t address_size,
                           const struct stream_callbacks *callbacks, void *context)
{
    int descriptor = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return STATUS_UNREACHABLE;
    }
    if (connect(descriptor, address, (socklen_t)address_size) != 0 && errno != EINPROGRESS) {
        (void)close(descriptor);
        return STATUS_UNREACHABLE;
    }
    stream->connecting = true;
    return attach(stream, worker, descriptor, callbacks, context);
}

/* A send at the end of a turn failed, of which stream_send() could not tell. Whom it did tell reads
   what is left, and learns from its end whether that was all. */
static bool is_broken_unseen(const struct stream *stream)
{
    return stream->gathers && stream->broken;
}

enum status stream_receive(struct stream *stream, void *memory, size_t size, size_t *ret_size)
{
    if (stream->descriptor < 0 || !stream->readable) {
        return STATUS_NOT_FOUND;
    }
    for (;;) {
        ssize_t received = stream->transport->receive(stream, memory, size);
        if (received > 0) {
            /* Fewer than asked for: the socket was empty at that moment, the next byte is an edge.
             */
            stream->readable = (size_t)received == size || stream->peer_closed ||
                               stream->half_open || is_broken_unseen(stream);
            *ret_size = (size_t)received;
            return STATUS_OK;
        }
        if (received < 0 && errno == EINTR) {
            continue;
        }
        if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) &&
            !is_broken_unseen(stream)) {
            stream->readable = false;
            return STATUS_NOT_FOUND;
        }
        stream->ended = true;
        stream->broken = received < 0 || is_broken_unseen(stream);
        return STATUS_UNREACHABLE;
    }
}

static bool is_deaf(const struct stream *stream)
{
    return stream->ended && (stream->broken || !stream->half_open);
}

enum status stream_send(struct stream *stream, struct slice bytes)
{
    if (is_deaf(stream) || stream->descriptor < 0) {
        return STATUS_UNREACHABLE;
    }
    if (bytes.size == 0) {
        return STATUS_OK;
    }
    if (stream->sends != NULL && send_queue_put(stream->sends, stream, bytes)) {
        return STATUS_OK;
    }
    if (is_deaf(stream)) { /* found by sending what was before it */
        return STATUS_UNREACHABLE;
    }
    while (stream->writable && stream->pending.size == 0 && bytes.size > 0) {
        ssize_t sent = stream->transport->send(stream, bytes.data, bytes.size);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            stream->writable = false;
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                stream->ended = true;
                stream->broken = true;
                return STATUS_UNREACHABLE;
            }
            break;
        }
        struct slice done;
        if (!slice_take(&bytes, (size_t)sent, &done)) {
            return STATUS_IO;
        }
    }
    return bytes.size == 0 ? STATUS_OK : buffer_append(&stream->pending, bytes.data, bytes.size);
}

void stream_kick(struct stream *stream)
{
    if (stream->descriptor >= 0 && stream->readable) {
        event_active(&stream->kick_event, EV_TIMEOUT, 0);
    }
}

bool stream_shutdown(struct stream *stream)
{
    stream_flush(stream);
    if (stream->pair != NULL) {
        stream_pair_shutdown(stream);
    } else if (stream->descriptor >= 0) {
        if (stream->tls != NULL && !stream_tls_shutdown(stream)) {
            return false;
        }
        (void)shutdown(stream->descriptor, SHUT_WR);
    }
    return true;
}

static void close_stream(struct stream *stream, bool orderly)
{
    if (orderly) {
        stream_flush(stream);
    } else {
        (void)send_queue_take(stream);
    }
    stream->sends = NULL;
    if (stream->tls != NULL) {
        /* What is not sent must not look as if the rest had been all. */
        stream_tls_close(stream, orderly && stream->descriptor >= 0 && stream->pending.size == 0);
        stream->transport = &stream_transport_plain;
    }
    if (stream->descriptor >= 0) {
        (void)event_del(&stream->event);
        (void)event_del(&stream->kick_event);
        if (stream->pair != NULL) {
            stream_pair_close(stream, orderly);
            stream->transport = &stream_transport_plain;
        } else {
            (void)close(stream->descriptor);
        }
        stream->descriptor = -1;
    }
    stream->ended = true;
    stream->readable = false;
    buffer_free(&stream->pending);
}

void stream_close(struct stream *stream)
{
    close_stream(stream, true);
}

void stream_abort(struct stream *stream)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (stream->descriptor >= 0 && stream->pair == NULL) {
        (void)setsockopt(stream->descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    close_stream(stream, false);
}
