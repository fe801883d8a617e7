/*
 * One POST on libevent's HTTP client (http_post.h), on a loop of its own that runs while it waits.
 *
 * Names are resolved by libevent too, so that a resolver that is away is bounded by the same wait.
 *
 * Thread: the owner's; `deadline_ms` is written by others.
 */
#include "telemetry/http_post.h"

#include <event2/buffer.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "holdfast/clock.h"

#define LOOK_MS 100
/* Of an answer nothing but its status is wanted. */
#define ANSWER_BYTES_MAX 65536

struct http_post {
    char host[256];
    char authority[300]; /* for the Host header */
    char path[1024];
    uint16_t port;
    char *authorization;          /* NULL: none */
    _Atomic uint64_t deadline_ms; /* monotonic; UINT64_MAX: none but that of the call */
};

/* While it runs. */
struct exchange {
    struct http_post *post;
    struct event_base *base;
    uint64_t until_ms;
    bool answered;
    int status; /* 0: none came */
    bool timed_out;
};

static enum status refuse(const char *url, const char *why, struct error *ret_error)
{
    return error_set(ret_error, STATUS_INVALID, "\"%.200s\" %s", url, why);
}

static enum status take_url(struct http_post *post, const char *url, struct error *ret_error)
{
    struct evhttp_uri *uri = evhttp_uri_parse(url);
    const char *scheme = uri == NULL ? NULL : evhttp_uri_get_scheme(uri);
    const char *host = uri == NULL ? NULL : evhttp_uri_get_host(uri);
    enum status status = STATUS_OK;
    if (strchr(url, '@') != NULL) { /* not even in the message */
        status = error_set(ret_error, STATUS_INVALID, "a password does not belong into a URL");
    } else if (scheme == NULL || strcmp(scheme, "http") != 0 || host == NULL || host[0] == '\0' ||
               strlen(host) >= sizeof post->host) {
        status = refuse(url, "is not http://HOST:PORT/PATH (TLS is not built here)", ret_error);
    } else {
        const char *path = evhttp_uri_get_path(uri);
        const char *query = evhttp_uri_get_query(uri);
        int port = evhttp_uri_get_port(uri);
        size_t size = strlen(host);
        bool bracketed = host[0] == '[' && size > 2;
        post->port = (uint16_t)(port <= 0 ? 80 : port);
        (void)snprintf(post->host, sizeof post->host, "%.*s", (int)(bracketed ? size - 2 : size),
                       bracketed ? host + 1 : host);
        (void)snprintf(post->authority, sizeof post->authority, "%s:%u", host, post->port);
        int used = snprintf(post->path, sizeof post->path, "%s%s%s",
                            path == NULL || path[0] == '\0' ? "/" : path, query == NULL ? "" : "?",
                            query == NULL ? "" : query);
        if (used < 0 || (size_t)used >= sizeof post->path) {
            status = refuse(url, "has too long a path", ret_error);
        }
    }
    if (uri != NULL) {
        evhttp_uri_free(uri);
    }
    return status;
}

enum status http_post_new(const char *url, const char *secret, struct http_post **ret_post,
                          struct error *ret_error)
{
    static const char scheme[] = "Bearer ";
    struct http_post *post = calloc(1, sizeof *post);
    if (post == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    atomic_store(&post->deadline_ms, UINT64_MAX);
    enum status status = take_url(post, url, ret_error);
    if (status == STATUS_OK && secret != NULL && secret[0] != '\0') {
        size_t size = strlen(secret) + sizeof scheme;
        post->authorization = malloc(size);
        if (post->authorization == NULL) {
            status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        } else {
            (void)snprintf(post->authorization, size, "%s%s", scheme, secret);
        }
    }
    if (status != STATUS_OK) {
        http_post_free(post);
        return status;
    }
    *ret_post = post;
    return STATUS_OK;
}

struct http_post *http_post_free(struct http_post *post)
{
    if (post != NULL) {
        secret_free(post->authorization);
        free(post);
    }
    return NULL;
}

void http_post_hurry(struct http_post *post, uint64_t wait_ms)
{
    atomic_store(&post->deadline_ms, clock_monotonic_ms() + wait_ms);
}

static void on_answer(struct evhttp_request *request, void *context)
{
    struct exchange *exchange = context;
    exchange->answered = true;
    exchange->status = request == NULL ? 0 : evhttp_request_get_response_code(request);
    (void)event_base_loopbreak(exchange->base);
}

static void on_look(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct exchange *exchange = context;
    uint64_t now_ms = clock_monotonic_ms();
    if (now_ms >= exchange->until_ms || now_ms >= atomic_load(&exchange->post->deadline_ms)) {
        exchange->timed_out = true;
        (void)event_base_loopbreak(exchange->base);
    }
}

/* The request belongs to the connection once it is made, also if that fails. */
static bool make_request(struct exchange *exchange, struct evhttp_connection *connection,
                         const char *body)
{
    const struct http_post *post = exchange->post;
    struct evhttp_request *request = evhttp_request_new(on_answer, exchange);
    if (request == NULL) {
        return false;
    }
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    (void)evhttp_add_header(headers, "Host", post->authority);
    (void)evhttp_add_header(headers, "Content-Type", "application/json");
    (void)evhttp_add_header(headers, "User-Agent", "holdfast/" HOLDFAST_VERSION);
    (void)evhttp_add_header(headers, "Connection", "close");
    if (post->authorization != NULL) {
        (void)evhttp_add_header(headers, "Authorization", post->authorization);
    }
    (void)evbuffer_add(evhttp_request_get_output_buffer(request), body, strlen(body));
    return evhttp_make_request(connection, request, EVHTTP_REQ_POST, post->path) == 0;
}

static void run(struct exchange *exchange, struct evdns_base *dns, const char *body)
{
    static const struct timeval period = {.tv_usec = LOOK_MS * 1000};
    struct event *look = event_new(exchange->base, -1, EV_PERSIST, on_look, exchange);
    struct evhttp_connection *connection =
        evhttp_connection_base_new(exchange->base, dns, exchange->post->host, exchange->post->port);
    if (look != NULL && connection != NULL && event_add(look, &period) == 0) {
        evhttp_connection_set_max_headers_size(connection, ANSWER_BYTES_MAX);
        evhttp_connection_set_max_body_size(connection, ANSWER_BYTES_MAX);
        if (make_request(exchange, connection, body) && !exchange->answered) {
            (void)event_base_dispatch(exchange->base);
        }
    }
    if (connection != NULL) {
        evhttp_connection_free(connection); /* with a request that is under way */
    }
    if (look != NULL) {
        event_free(look);
    }
}

enum status http_post_send(struct http_post *post, const char *body, uint64_t wait_ms,
                           int *ret_status, struct error *ret_error)
{
    struct exchange exchange = {.post = post, .until_ms = clock_monotonic_ms() + wait_ms};
    exchange.base = event_base_new();
    if (exchange.base == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for an event loop");
    }
    /* NULL, without /etc/resolv.conf: then the C library resolves, and blocks this thread. */
    struct evdns_base *dns = evdns_base_new(exchange.base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                                               EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    run(&exchange, dns, body);
    if (dns != NULL) {
        evdns_base_free(dns, 0);
    }
    event_base_free(exchange.base);
    if (exchange.status == 0) {
        return error_set(ret_error, STATUS_UNREACHABLE, "%s does not answer%s", post->authority,
                         exchange.timed_out ? " in time" : "");
    }
    *ret_status = exchange.status;
    return STATUS_OK;
}
