/*
 * The admin server's HTTP (http.h), on libevent's evhttp.
 *
 * evhttp bounds a request's size and how long a peer may be silent, but neither the number of
 * connections nor a peer that sends one byte now and then, and it tells nobody when a connection
 * ends. So each connection is also a visitor of ours, who holds a second reference to its socket.
 * The sweep, every SWEEP_MS while there are visitors, looks at each:
 *
 *   accept --> visitor --> evhttp has let go of the socket (its callbacks are gone) --> released
 *     ^            `-----> past the deadline: shut down; evhttp sees the end and lets go --^   |
 *     `------- the listener rests while ADMIN_HTTP_CONNECTIONS_MAX are here <------------------'
 *
 * An answer that comes later leaves the request with evhttp. If its connection ends meanwhile,
 * evhttp takes the request off it, and frees it when it is answered after all.
 *
 * Thread: everything but start, address and stop belongs to the server's own.
 */
#include "admin/http.h"

#include <assert.h>
#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "admin/access.h"
#include "holdfast/clock.h"
#include "net/worker.h"

#define SWEEP_MS 50
static const struct timeval sweep_period = {.tv_usec = SWEEP_MS * 1000};

struct visitor {
    struct bufferevent *socket; /* NULL: the place is free */
    uint64_t until_ms;          /* monotonic */
};

struct admin_http {
    struct admin_http_options options;
    struct worker_pool *pool; /* of one */
    int descriptor;           /* listens; evhttp's once `server` listens on it */
    struct evhttp *server;
    struct evconnlistener *listener;
    struct visitor visitors[ADMIN_HTTP_CONNECTIONS_MAX];
    size_t visitor_count;
    struct event *sweep; /* pending while there are visitors */
    struct worker_task task;
    sem_t done;
    atomic_size_t later_count; /* answers that are to come */
};

struct admin_http_later {
    struct admin_http *http;
    struct evhttp_request *request;
    const char *content_type;
    struct evbuffer *body;
    int code;
    struct worker_task task;
};

/* ------------------------------------------------------------------ visitors */

static void release(struct admin_http *http, struct visitor *visitor)
{
    (void)bufferevent_decref(visitor->socket); /* closes it, if evhttp has let go */
    visitor->socket = NULL;
    http->visitor_count--;
}

static void on_sweep(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct admin_http *http = context;
    uint64_t now_ms = clock_monotonic_ms();
    for (size_t i = 0; i < ADMIN_HTTP_CONNECTIONS_MAX; i++) {
        struct visitor *visitor = &http->visitors[i];
        bufferevent_event_cb evhttps = NULL;
        if (visitor->socket == NULL) {
            continue;
        }
        bufferevent_getcb(visitor->socket, NULL, NULL, &evhttps, NULL);
        if (evhttps == NULL) {
            release(http, visitor);
        } else if (now_ms > visitor->until_ms) {
            (void)shutdown((int)bufferevent_getfd(visitor->socket), SHUT_RDWR);
        }
    }
    if (http->visitor_count < ADMIN_HTTP_CONNECTIONS_MAX) {
        (void)evconnlistener_enable(http->listener);
    }
    if (http->visitor_count > 0) {
        (void)event_add(http->sweep, &sweep_period);
    }
}

/* There is a free place: the listener rests when there is none. */
static void welcome(struct admin_http *http, struct bufferevent *socket)
{
    struct visitor *visitor = http->visitors;
    while (visitor->socket != NULL) {
        visitor++;
        assert(visitor < http->visitors + ADMIN_HTTP_CONNECTIONS_MAX);
    }
    bufferevent_incref(socket);
    visitor->socket = socket;
    visitor->until_ms = clock_monotonic_ms() + ADMIN_HTTP_CONNECTION_MS;
    if (http->visitor_count++ == 0) {
        (void)event_add(http->sweep, &sweep_period);
    }
    if (http->visitor_count == ADMIN_HTTP_CONNECTIONS_MAX) {
        (void)evconnlistener_disable(http->listener);
    }
}

/* evhttp asks for the buffers of a connection that it has accepted. */
static struct bufferevent *on_accept(struct event_base *base, void *context)
{
    struct bufferevent *socket = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (socket != NULL) { /* else evhttp has no memory either, and drops the connection */
        welcome(context, socket);
    }
    return socket;
}

/* ------------------------------------------------------------------ answers */

/*
 * What a browser may do with any of our answers: run and load nothing but what we serve ourselves,
 * show it in no frame, keep no copy, and take nothing for another type than it is.
 */
static void add_headers(struct evkeyvalq *headers, const char *content_type)
{
    static const char *const fixed[][2] = {
        {"Cache-Control", "no-store"},
        {"Connection", "close"},
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
         "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
    };
    (void)evhttp_add_header(headers, "Content-Type", content_type);
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        (void)evhttp_add_header(headers, fixed[i][0], fixed[i][1]);
    }
}

static void send_answer(struct evhttp_request *request, int code, const char *content_type,
                        struct evbuffer *body)
{
    add_headers(evhttp_request_get_output_headers(request), content_type);
    evhttp_send_reply(request, code, NULL, body);
    evbuffer_free(body);
}

/* It waits for us now, not we for it. */
static void extend(struct admin_http *http, struct evhttp_request *request)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    struct bufferevent *socket = evhttp_connection_get_bufferevent(connection);
    const struct timeval patience = {.tv_sec = ADMIN_HTTP_LATER_MS / 1000 + 5};
    (void)bufferevent_set_timeouts(socket, &patience, &patience);
    for (size_t i = 0; i < ADMIN_HTTP_CONNECTIONS_MAX; i++) {
        if (http->visitors[i].socket == socket) {
            http->visitors[i].until_ms = clock_monotonic_ms() + ADMIN_HTTP_LATER_MS;
        }
    }
}

static void on_later(struct worker_task *task)
{
    struct admin_http_later *later =
        (struct admin_http_later *)(void *)((uint8_t *)task -
                                            offsetof(struct admin_http_later, task));
    send_answer(later->request, later->code, later->content_type, later->body);
    (void)atomic_fetch_sub(&later->http->later_count, 1);
    free(later);
}

struct evbuffer *admin_http_later_body(struct admin_http_later *later)
{
    return later->body;
}

void admin_http_later_send(struct admin_http_later *later, int code)
{
    later->code = code;
    later->task.run = on_later;
    worker_post(worker_pool_get(later->http->pool, 0), &later->task);
}

static void begin_later(struct admin_http *http, const struct admin_http_page *page,
                        const char *query, struct evhttp_request *request, struct evbuffer *body)
{
    struct admin_http_later *later = calloc(1, sizeof *later);
    if (later == NULL) {
        (void)evbuffer_add_printf(body, "{\"error\":\"out of memory\"}\n");
        send_answer(request, HTTP_SERVUNAVAIL, page->content_type, body);
        return;
    }
    *later = (struct admin_http_later){
        .http = http, .request = request, .content_type = page->content_type, .body = body};
    (void)atomic_fetch_add(&http->later_count, 1);
    extend(http, request);
    page->begin(http->options.context, query, later);
}

/* ------------------------------------------------------------------ requests */

static const struct admin_http_page *find_page(const struct admin_http *http, const char *path)
{
    for (size_t i = 0; i < http->options.page_count; i++) {
        if (strcmp(http->options.pages[i].path, path) == 0) {
            return &http->options.pages[i];
        }
    }
    return NULL;
}

static const struct admin_asset *find_asset(const struct admin_http *http, const char *path)
{
    for (size_t i = 0; i < http->options.asset_count; i++) {
        if (strcmp(http->options.assets[i].path, path) == 0) {
            return &http->options.assets[i];
        }
    }
    return NULL;
}

static void answer_unknown(const struct admin_http *http, struct evbuffer *body)
{
    (void)evbuffer_add_printf(body, "no such page; there are");
    for (size_t i = 0; i < http->options.page_count; i++) {
        (void)evbuffer_add_printf(body, " %s", http->options.pages[i].path);
    }
    (void)evbuffer_add_printf(body, "\n");
}

/* "GET, HEAD" or "POST" if the method is another one, else NULL. */
static const char *not_allowed(bool acts, enum evhttp_cmd_type method)
{
    if (acts) {
        return method == EVHTTP_REQ_POST ? NULL : "POST";
    }
    return method == EVHTTP_REQ_GET || method == EVHTTP_REQ_HEAD ? NULL : "GET, HEAD";
}

static int refuse_token(struct evhttp_request *request, enum admin_token_result result,
                        struct evbuffer *body)
{
    if (result == ADMIN_TOKEN_UNSET) {
        (void)evbuffer_add_printf(body, "nothing can be changed here: no admin.tokenFile is set\n");
        return 403;
    }
    (void)evhttp_add_header(evhttp_request_get_output_headers(request), "WWW-Authenticate",
                            "Bearer");
    (void)evbuffer_add_printf(body, "this needs the admin token: Authorization: Bearer TOKEN\n");
    return 401;
}

/* 0: the page may be served. */
static int refuse_stranger(const struct admin_http *http, const struct admin_http_page *page,
                           struct evhttp_request *request, struct evbuffer *body)
{
    if (http->options.permit == NULL || (!page->acts && !page->guarded && !page->secret)) {
        return 0;
    }
    struct evkeyvalq *headers = evhttp_request_get_input_headers(request);
    enum admin_token_result token =
        http->options.permit(http->options.context, evhttp_find_header(headers, "Authorization"));
    if ((page->acts || page->secret) && token != ADMIN_TOKEN_RIGHT) {
        return refuse_token(request, token, body);
    }
    switch (admin_access_check(evhttp_find_header(headers, "Host"),
                               evhttp_find_header(headers, "Origin"),
                               evhttp_find_header(headers, "Sec-Fetch-Site"))) {
    case ADMIN_ACCESS_FINE:
        return 0;
    case ADMIN_ACCESS_STRANGE_ORIGIN:
        (void)evbuffer_add_printf(body, "not for pages of other sites\n");
        return 403;
    case ADMIN_ACCESS_STRANGE_HOST:
        break;
    }
    if (token == ADMIN_TOKEN_RIGHT) {
        return 0;
    }
    (void)evbuffer_add_printf(body, "this name of the host is not known: use its address, or send "
                                    "the admin token\n");
    return 421;
}

static void serve(struct admin_http *http, const struct admin_http_page *page,
                  struct evhttp_request *request, struct evbuffer *body)
{
    const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
    query = query == NULL ? "" : query;
    int code = refuse_stranger(http, page, request, body);
    if (code != 0) {
        send_answer(request, code, "text/plain; charset=utf-8", body);
    } else if (page->begin != NULL) {
        begin_later(http, page, query, request, body);
    } else if (page->write_accepted != NULL) {
        const char *content_type = page->content_type;
        const char *accept =
            evhttp_find_header(evhttp_request_get_input_headers(request), "Accept");
        code = page->write_accepted(http->options.context, accept, body, &content_type);
        send_answer(request, code, content_type, body);
    } else {
        code = page->write(http->options.context, query, body);
        send_answer(request, code, page->content_type, body);
    }
}

static void on_request(struct evhttp_request *request, void *context)
{
    struct admin_http *http = context;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri == NULL ? NULL : evhttp_uri_get_path(uri);
    const struct admin_http_page *page = path == NULL ? NULL : find_page(http, path);
    const struct admin_asset *asset = path == NULL ? NULL : find_asset(http, path);
    const char *plain = "text/plain; charset=utf-8";
    struct evbuffer *body = evbuffer_new();
    if (body == NULL) {
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
        return;
    }
    if (page == NULL && asset == NULL) {
        answer_unknown(http, body);
        send_answer(request, HTTP_NOTFOUND, plain, body);
        return;
    }
    const char *allowed =
        not_allowed(page != NULL && page->acts, evhttp_request_get_command(request));
    if (allowed != NULL) {
        (void)evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", allowed);
        (void)evbuffer_add_printf(body, "allowed here: %s\n", allowed);
        send_answer(request, HTTP_BADMETHOD, plain, body);
    } else if (page != NULL) {
        serve(http, page, request, body);
    } else {
        (void)evbuffer_add_reference(body, asset->bytes, asset->size, NULL, NULL);
        send_answer(request, HTTP_OK, asset->content_type, body);
    }
}

/* ------------------------------------------------------------------ starting and stopping */

static struct admin_http *http_of(struct worker_task *task)
{
    return (struct admin_http *)(void *)((uint8_t *)task - offsetof(struct admin_http, task));
}

static void free_on_thread(struct admin_http *http, struct evhttp *server)
{
    if (server != NULL) {
        evhttp_free(server); /* lets go of every socket, and closes the one that listens */
    }
    for (size_t i = 0; i < ADMIN_HTTP_CONNECTIONS_MAX; i++) {
        if (http->visitors[i].socket != NULL) {
            release(http, &http->visitors[i]);
        }
    }
    if (http->sweep != NULL) {
        event_free(http->sweep);
    }
}

/* Leaves `server` NULL if it could not be made. */
static void on_start(struct worker_task *task)
{
    struct admin_http *http = http_of(task);
    struct event_base *base = worker_base(worker_pool_get(http->pool, 0));
    struct evhttp *server = evhttp_new(base);
    http->sweep = event_new(base, -1, 0, on_sweep, http);
    if (server != NULL && http->sweep != NULL) {
        evhttp_set_allowed_methods(server, UINT16_MAX); /* told apart in on_request() */
        evhttp_set_max_headers_size(server, ADMIN_HTTP_HEADER_BYTES);
        evhttp_set_max_body_size(server, 0);
        evhttp_set_timeout(server, ADMIN_HTTP_CONNECTION_MS / 1000);
        evhttp_set_bevcb(server, on_accept, http);
        evhttp_set_gencb(server, on_request, http);
        struct evhttp_bound_socket *bound =
            evhttp_accept_socket_with_handle(server, http->descriptor);
        if (bound != NULL) {
            http->listener = evhttp_bound_socket_get_listener(bound);
            http->server = server;
        }
    }
    if (http->server == NULL) {
        free_on_thread(http, server);
    }
    (void)sem_post(&http->done);
}

static void on_stop(struct worker_task *task)
{
    struct admin_http *http = http_of(task);
    free_on_thread(http, http->server);
    (void)sem_post(&http->done);
}

static void on_settle(struct worker_task *task)
{
    (void)sem_post(&http_of(task)->done);
}

static void run_on_thread(struct admin_http *http, void (*run)(struct worker_task *))
{
    http->task.run = run;
    worker_post(worker_pool_get(http->pool, 0), &http->task);
    while (sem_wait(&http->done) != 0) {
        assert(errno == EINTR);
    }
}

static void http_free(struct admin_http *http)
{
    worker_pool_stop(http->pool);
    (void)sem_destroy(&http->done);
    free(http);
}

enum status admin_http_start(int descriptor, const struct admin_http_options *options,
                             struct admin_http **ret_http, struct error *ret_error)
{
    struct admin_http *http = calloc(1, sizeof *http);
    if (http == NULL) {
        (void)close(descriptor);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    http->descriptor = descriptor;
    http->options = *options;
    (void)sem_init(&http->done, 0, 0);
    enum status status = worker_pool_start(1, &http->pool, ret_error);
    if (status == STATUS_OK) {
        run_on_thread(http, on_start);
        if (http->server == NULL) {
            status = error_set(ret_error, STATUS_MEMORY, "out of memory for the admin server");
        }
    }
    if (status != STATUS_OK) {
        (void)close(http->descriptor);
        http_free(http);
        return status;
    }
    *ret_http = http;
    return STATUS_OK;
}

void admin_http_settle(struct admin_http *http)
{
    if (http != NULL) {
        run_on_thread(http, on_settle);
    }
}

struct admin_http *admin_http_stop(struct admin_http *http)
{
    if (http != NULL) {
        while (atomic_load(&http->later_count) > 0) {
            (void)nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
        }
        run_on_thread(http, on_stop);
        http_free(http);
    }
    return NULL;
}
