/*
 * TLS on a stream (stream_tls.h), by OpenSSL over a BIO that calls the transport below.
 *
 *            stream.c            here                    below
 *   owner <--receive-- SSL_read <--decrypts-- bio_read <--recv-- kernel
 *   owner ---send----> SSL_write --encrypts-> bio_write --send-> kernel
 *
 *   accepted --> SNIFFING --first byte is a ClientHello's--> HANDSHAKE --> READY --> (freed)
 *                    |  `--else, plain_allowed--> (freed: the stream is plain)          ^
 *   connecting ------|---connected--> HANDSHAKE                                         |
 *                    `--else, or timeout, or refused----------------------> FAILED -----'
 *
 * Invariants
 *  - A write that the kernel does not take is offered again with the same bytes first: they stay in
 *    the stream's `pending`, which is why no buffer for what is encrypted is needed here.
 *  - Edge-triggered: SSL_read is called until it wants more, or the caller's memory is full, so
 *    that nothing decrypted lies here while the stream believes that there is nothing.
 *  - After a failure of OpenSSL's nothing more is asked of the session (`dead`).
 *
 * Thread: the stream's.
 */
#include "net/stream_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/tls_private.h"

enum phase {
    PHASE_SNIFFING, /* not a byte of the client's was seen */
    PHASE_HANDSHAKE,
    PHASE_READY,
    PHASE_FAILED,
};

struct stream_tls {
    SSL *session;
    const struct stream_transport *below;
    enum phase phase;
    bool is_client;
    bool attached;  /* `timer` is made */
    bool connected; /* of a client: by TCP, and the timer runs */
    bool plain_allowed;
    bool drained;          /* the kernel had less than it was asked for: an edge will tell */
    bool at_end;           /* input has ended below */
    bool dead;             /* broken */
    bool read_waits_write; /* SSL_read has something to send first */
    bool write_waits_read;
    bool shutdown_waits; /* for room in the kernel */
    struct event timer;
    unsigned handshake_ms;
    char reason[STREAM_TLS_REASON_BYTES];
};

/* ------------------------------------------------------------------ between OpenSSL and below */

static int bio_write(BIO *bio, const char *data, int size)
{
    struct stream *stream = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t sent;
    do {
        sent = stream->tls->below->send(stream, data, (size_t)size);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        BIO_set_retry_write(bio);
    }
    return (int)sent;
}

static int bio_read(BIO *bio, char *memory, int size)
{
    struct stream *stream = BIO_get_data(bio);
    struct stream_tls *tls = stream->tls;
    BIO_clear_retry_flags(bio);
    if (tls->drained) {
        BIO_set_retry_read(bio);
        return -1;
    }
    ssize_t received;
    do {
        received = tls->below->receive(stream, memory, (size_t)size);
    } while (received < 0 && errno == EINTR);
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        BIO_set_retry_read(bio);
    }
    tls->at_end = received == 0;
    tls->drained = received < 0 ||
                   (received > 0 && received < size && !stream->peer_closed && !stream->half_open);
    return (int)received;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    const struct stream *stream = BIO_get_data(bio);
    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return stream != NULL && stream->tls->at_end;
    default:
        return 0;
    }
}

static pthread_once_t method_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "holdfast stream");
    if (method != NULL) {
        (void)BIO_meth_set_write(method, bio_write);
        (void)BIO_meth_set_read(method, bio_read);
        (void)BIO_meth_set_ctrl(method, bio_control);
    }
}

/* ------------------------------------------------------------------ the transport */

static void set_reason(struct stream_tls *tls, const char *text)
{
    (void)snprintf(tls->reason, sizeof tls->reason, "%s", text);
}

/* -1 with EAGAIN if OpenSSL only waits; else the session is dead. */
static ssize_t judge(struct stream_tls *tls, int error, int failure)
{
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    const char *alert = ERR_reason_error_string(ERR_peek_last_error());
    tls->dead = true;
    if (error == SSL_ERROR_SSL && alert != NULL) {
        set_reason(tls, alert); /* of TLS 1.3 the peer judges our certificate after the handshake */
    }
    ERR_clear_error();
    errno = error == SSL_ERROR_SYSCALL && failure != 0 && failure != EAGAIN ? failure : ECONNRESET;
    return -1;
}

static ssize_t tls_receive(struct stream *stream, void *memory, size_t size)
{
    struct stream_tls *tls = stream->tls;
    size_t total = 0;
    ssize_t ended = 0;
    if (tls->phase != PHASE_READY || tls->dead) {
        errno = tls->dead ? ECONNRESET : EAGAIN;
        return -1;
    }
    tls->drained = false;
    while (total < size) {
        size_t got = 0;
        ERR_clear_error();
        errno = 0;
        if (SSL_read_ex(tls->session, (uint8_t *)memory + total, size - total, &got) == 1) {
            total += got;
            continue;
        }
        int failure = errno;
        int error = SSL_get_error(tls->session, 0);
        tls->read_waits_write = error == SSL_ERROR_WANT_WRITE;
        if (error != SSL_ERROR_ZERO_RETURN) {
            ended = judge(tls, error, failure);
        }
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
            stream->peer_closed = true; /* behind what was read, the end is to be read */
        }
        break;
    }
    return total > 0 ? (ssize_t)total : ended;
}

static ssize_t tls_send(struct stream *stream, const void *memory, size_t size)
{
    struct stream_tls *tls = stream->tls;
    size_t total = 0;
    if (tls->phase != PHASE_READY || tls->dead) {
        errno = tls->dead ? EPIPE : EAGAIN;
        return -1;
    }
    while (total < size) {
        size_t sent = 0;
        ERR_clear_error();
        errno = 0;
        if (SSL_write_ex(tls->session, (const uint8_t *)memory + total, size - total, &sent) != 1) {
            int failure = errno;
            int error = SSL_get_error(tls->session, 0);
            tls->write_waits_read = error == SSL_ERROR_WANT_READ;
            ssize_t ended = judge(tls, error, failure);
            return total > 0 && !tls->dead ? (ssize_t)total : ended;
        }
        total += sent;
    }
    return (ssize_t)total;
}

static const struct stream_transport transport_tls = {
    .receive = tls_receive,
    .send = tls_send,
};

/* ------------------------------------------------------------------ the handshake */

static void finish(struct stream *stream, enum status status)
{
    int descriptor = stream->descriptor;
    if (stream->tls != NULL) {
        (void)event_del(&stream->tls->timer);
        stream->tls->phase = status == STATUS_OK ? PHASE_READY : PHASE_FAILED;
    }
    stream->connecting = false;
    stream->writable = status == STATUS_OK;
    stream->callbacks->connected(stream->context, status);
    /* The first bytes may have come with the handshake's last: no edge tells of them. */
    if (status == STATUS_OK && stream->descriptor == descriptor && stream->descriptor >= 0) {
        stream->readable = true;
        stream->callbacks->readable(stream->context);
    }
}

static void fail(struct stream *stream, const char *reason)
{
    set_reason(stream->tls, reason);
    stream->tls->dead = true;
    ERR_clear_error();
    finish(stream, STATUS_UNREACHABLE);
}

static void fail_by_error(struct stream *stream, int error)
{
    struct stream_tls *tls = stream->tls;
    long verified = SSL_get_verify_result(tls->session);
    unsigned long code = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(code);
    char reason[STREAM_TLS_REASON_BYTES];
    if (verified != X509_V_OK && SSL_get_verify_mode(tls->session) != SSL_VERIFY_NONE) {
        (void)snprintf(reason, sizeof reason, "the peer's certificate is refused: %s",
                       X509_verify_cert_error_string(verified));
    } else if (tls->is_client && code != 0 && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER) {
        (void)snprintf(reason, sizeof reason, "the peer does not speak TLS");
    } else if (tls->at_end || error == SSL_ERROR_SYSCALL) {
        (void)snprintf(reason, sizeof reason, "the peer left in the handshake");
    } else {
        (void)snprintf(reason, sizeof reason, "%s", text == NULL ? "TLS failed" : text);
    }
    fail(stream, reason);
}

static void step(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;
    tls->drained = false;
    ERR_clear_error();
    int result = SSL_do_handshake(tls->session);
    if (result == 1) {
        finish(stream, STATUS_OK);
        return;
    }
    int error = SSL_get_error(tls->session, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        fail_by_error(stream, error);
    }
}

static void become_plain(struct stream *stream)
{
    stream->transport = stream->tls->below;
    stream_tls_close(stream, false);
    finish(stream, STATUS_OK);
}

/* What a client that does not speak TLS speaks, by its first bytes. */
static const char *stranger(const uint8_t *bytes, size_t size)
{
    static const char *const methods[] = {"GET ", "POST", "PUT ", "HEAD", "PATC", "DELE", "OPTI"};
    for (size_t i = 0; size >= 4 && i < sizeof methods / sizeof methods[0]; i++) {
        if (memcmp(bytes, methods[i], 4) == 0) {
            return "the client speaks plain HTTP, and this listener only TLS";
        }
    }
    /* An OP_MSG or OP_QUERY: 2013, 2004, behind three other numbers. */
    if (size >= 14 && bytes[13] == 0x07 && (bytes[12] == 0xdd || bytes[12] == 0xd4)) {
        return "the client speaks MongoDB's protocol without TLS, which this listener requires: "
               "give its driver tls=true";
    }
    return "the first byte is none of TLS, which this listener requires";
}

#define TLS_RECORD_HANDSHAKE 0x16
#define TLS_VERSION_MAJOR 0x03

bool stream_tls_is_spoken(struct slice received)
{
    return received.size >= 2 && received.data[0] == TLS_RECORD_HANDSHAKE &&
           received.data[1] == TLS_VERSION_MAJOR;
}

/* True: go on with the handshake. */
static bool sniff(struct stream *stream)
{
    uint8_t bytes[16];
    ssize_t size = recv(stream->descriptor, bytes, sizeof bytes, MSG_PEEK);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return false;
    }
    if (size <= 0) {
        fail(stream, "the peer left before the handshake");
        return false;
    }
    if (bytes[0] != TLS_RECORD_HANDSHAKE) {
        if (stream->tls->plain_allowed) {
            become_plain(stream);
        } else {
            fail(stream, stranger(bytes, (size_t)size));
        }
        return false;
    }
    stream->tls->phase = PHASE_HANDSHAKE;
    return true;
}

static void on_timeout(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    fail(context, "the handshake took too long");
}

static void start_timer(struct stream *stream)
{
    worker_timer_start(&stream->tls->timer, stream->tls->handshake_ms);
}

/* ------------------------------------------------------------------ for stream.c */

void stream_tls_attached(struct stream *stream, struct event_base *base)
{
    struct stream_tls *tls = stream->tls;
    (void)event_assign(&tls->timer, base, -1, 0, on_timeout, stream);
    tls->attached = true;
    tls->is_client = stream->connecting;
    if (!tls->is_client) {
        stream->connecting = true; /* until the handshake is done */
        stream->writable = false;
        start_timer(stream);
    } else {
        tls->phase = PHASE_HANDSHAKE;
    }
}

bool stream_tls_event(struct stream *stream, short *what)
{
    struct stream_tls *tls = stream->tls;
    if (!stream->connecting) {
        if ((*what & EV_WRITE) != 0 && tls->read_waits_write) {
            *what |= EV_READ;
        }
        if ((*what & EV_READ) != 0 && tls->write_waits_read) {
            *what |= EV_WRITE;
        }
        return false;
    }
    if ((*what & EV_CLOSED) != 0) {
        stream->peer_closed = true;
    }
    if (tls->is_client && !tls->connected) {
        tls->connected = true;
        int failure = 0;
        socklen_t size = sizeof failure;
        if (getsockopt(stream->descriptor, SOL_SOCKET, SO_ERROR, &failure, &size) != 0) {
            failure = errno;
        }
        if (failure != 0) {
            fail(stream, strerror(failure));
            return true;
        }
        start_timer(stream);
    }
    if (tls->phase == PHASE_HANDSHAKE || (tls->phase == PHASE_SNIFFING && sniff(stream))) {
        step(stream);
    }
    return true;
}

bool stream_tls_shutdown(struct stream *stream)
{
    struct stream_tls *tls = stream->tls;
    tls->shutdown_waits = false;
    if (tls->phase == PHASE_READY && !tls->dead) {
        ERR_clear_error();
        int result = SSL_shutdown(tls->session);
        tls->shutdown_waits =
            result < 0 && SSL_get_error(tls->session, result) == SSL_ERROR_WANT_WRITE;
        ERR_clear_error();
    }
    return !tls->shutdown_waits;
}

bool stream_tls_shutdown_waits(const struct stream *stream)
{
    return stream->tls->shutdown_waits;
}

void stream_tls_close(struct stream *stream, bool orderly)
{
    struct stream_tls *tls = stream->tls;
    bool told = (SSL_get_shutdown(tls->session) & SSL_SENT_SHUTDOWN) != 0;
    if (orderly && (!told || tls->shutdown_waits)) {
        (void)stream_tls_shutdown(stream);
    }
    if (tls->attached) {
        (void)event_del(&tls->timer);
    }
    SSL_free(tls->session);
    free(tls);
    stream->tls = NULL;
}

const struct stream_transport *stream_tls_below(const struct stream *stream)
{
    return stream->tls->below;
}

static enum status use_tls(struct stream *stream, struct tls *shared, const char *host,
                           bool plain_allowed)
{
    (void)pthread_once(&method_once, make_method);
    struct stream_tls *tls = calloc(1, sizeof *tls);
    SSL *session = tls == NULL ? NULL : tls_session_new(shared, host);
    BIO *bio = session == NULL || method == NULL ? NULL : BIO_new(method);
    if (bio == NULL) {
        SSL_free(session);
        free(tls);
        ERR_clear_error();
        return STATUS_MEMORY;
    }
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    SSL_set_bio(session, bio, bio);
    *tls = (struct stream_tls){
        .session = session,
        .below = stream->transport,
        .plain_allowed = plain_allowed,
        .handshake_ms = tls_handshake_ms(shared),
    };
    stream->tls = tls;
    stream->transport = &transport_tls;
    return STATUS_OK;
}

enum status stream_use_tls(struct stream *stream, struct tls *shared, bool plain_allowed)
{
    return use_tls(stream, shared, NULL, plain_allowed);
}

enum status stream_use_tls_towards(struct stream *stream, struct tls *shared, const char *host)
{
    return use_tls(stream, shared, host, false);
}

enum status stream_tls_offer(struct stream *stream, const char *protocols)
{
    /* 0 is success here. */
    return SSL_set_alpn_protos(stream->tls->session, (const unsigned char *)protocols,
                               (unsigned)strlen(protocols)) == 0
               ? STATUS_OK
               : STATUS_MEMORY;
}

struct slice stream_tls_protocol(const struct stream *stream)
{
    const unsigned char *protocol = NULL;
    unsigned size = 0;
    if (stream->tls != NULL) {
        SSL_get0_alpn_selected(stream->tls->session, &protocol, &size);
    }
    return slice_make(protocol, size);
}

const char *stream_tls_reason(const struct stream *stream)
{
    return stream->tls == NULL ? "" : stream->tls->reason;
}

const char *stream_tls_failure(const struct stream *stream)
{
    const char *reason = stream_tls_reason(stream);
    return reason[0] == '\0' ? "the connection failed" : reason;
}

bool stream_is_tls(const struct stream *stream)
{
    return stream->tls != NULL && stream->tls->phase == PHASE_READY;
}
